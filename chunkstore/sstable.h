#pragma once
/*
 * sstable: build and read sorted tables of index entries (sstable_format.h). Pure: bytes in, bytes
 * out; lsm.c moves them.
 */
#include "base/buf.h"
#include "base/env.h"
#include "chunkstore/index_entry.h"

/* ---- building: entries in key order, then finish; `bytes` is the file ---- */

struct sstable_builder {
    uint64_t id;
    struct buf bytes;
    struct buf first_keys;
    struct buf hashes; /* u64 each, for the bloom filter */
    struct index_key last;
    uint32_t block_count;
    uint32_t in_block; /* entries in the open block */
    uint64_t entry_count;
};

void sstable_builder_init(struct sstable_builder *builder, uint64_t id);
void sstable_builder_deinit(struct sstable_builder *builder);
void sstable_builder_add(struct sstable_builder *builder, const struct index_entry *entry);
void sstable_builder_finish(struct sstable_builder *builder);

/* ---- reading: what stays in memory of one table ---- */

struct sstable {
    uint64_t id;
    unsigned level;
    uint64_t size; /* of the file */
    uint64_t entry_count;
    uint32_t block_count;
    struct index_key min, max;
    struct buf first_keys;
    struct buf bloom;
    struct env_file *file;
    unsigned refs;
    bool doomed; /* compacted away: unlinked when the last user is gone */
};

/* `tail`: the end of the file, `file_size` its whole size. Fills in all but level, file, refs.
 * -ERR_CORRUPT when damaged. */
int must_check sstable_load(struct sstable *table, uint64_t id, struct slice tail,
                            uint64_t file_size);
/* Where the part of the file that sstable_load wants begins, from the footer (the last
 * SSTABLE_FOOTER_BYTES). */
int must_check sstable_tail_offset(struct slice footer, uint64_t file_size, uint64_t *out_offset);
void sstable_deinit(struct sstable *table);
/* The block that would hold the key. */
uint32_t sstable_block_of(const struct sstable *table, const struct index_key *key);
bool sstable_may_have(const struct sstable *table, const struct index_key *key);

/* ---- one block ---- */

/* Count of entries, or -ERR_CORRUPT. */
int must_check sstable_block_check(struct slice block);
struct index_entry sstable_block_entry(struct slice block, uint32_t index);
/* The first entry at or after the key; count of entries when there is none. */
uint32_t sstable_block_seek(struct slice block, const struct index_key *key);
