#pragma once
/*
 * raft_tail: the newest part of the log in memory, contiguous. Owns the commands.
 *
 * Entries first..last are here; what lies before `first` is compacted, and of it only the index
 * and term of the last entry (the base) are known. Pointers from raft_tail_at hold until the next
 * change of the tail.
 */
#include "base/slice.h"

struct raft_entry {
    uint64_t term;
    struct slice command; /* empty = no-op */
};

struct raft_tail {
    struct raft_entry *entries; /* entries[start] has index base_index + 1 */
    size_t start;
    size_t count;
    size_t capacity;
    uint64_t base_index;
    uint64_t base_term;
    uint64_t bytes; /* of all commands, plus RAFT_ENTRY_OVERHEAD each */
};

#define RAFT_ENTRY_OVERHEAD 32

void raft_tail_init(struct raft_tail *tail, uint64_t base_index, uint64_t base_term);
void raft_tail_deinit(struct raft_tail *tail);
/* Drops everything and begins anew behind (index, term). */
void raft_tail_reset(struct raft_tail *tail, uint64_t base_index, uint64_t base_term);
/* Copies the command. */
void raft_tail_append(struct raft_tail *tail, uint64_t term, struct slice command);
/* Drops `index` and everything after it; index > base_index. */
void raft_tail_truncate(struct raft_tail *tail, uint64_t index);
/* Drops everything up to `index`; index <= last. */
void raft_tail_compact(struct raft_tail *tail, uint64_t index);
uint64_t raft_tail_last(const struct raft_tail *tail);
/* NULL when it is not in memory. */
const struct raft_entry *raft_tail_at(const struct raft_tail *tail, uint64_t index);
/* False when the term of `index` is not known (compacted, or not yet written). */
bool raft_tail_term(const struct raft_tail *tail, uint64_t index, uint64_t *out_term);
uint64_t raft_tail_entry_bytes(const struct raft_entry *entry);
/* The largest index up to `index` whose term is at most `term`: where two logs may still agree.
 * Below the base nothing is known: then the answer is min(index, base_index). */
uint64_t raft_tail_agree(const struct raft_tail *tail, uint64_t index, uint64_t term);
