#pragma once
/*
 * chunk_seq: the numbers that a mount gives to its chunks. Numbers that are handed out and may
 * still be committed hold back chunk_seq_low(), below which the servers may collect what no file
 * names.
 */
#include "base/list.h"

#include <stdint.h>

struct mount;

struct chunk_seq {
    struct list_node node; /* in mount.chunk_seqs, oldest first */
    uint64_t seq;
    bool settled;
    uint64_t until; /* settled: mutations below this one may still commit it */
};

/* The next number; give it back with chunk_seq_settle(). */
struct chunk_seq *chunk_seq_take(struct mount *mount);
/* The chunk is committed, or its owner will not try again; but an owner that was told EIO after a
 * timeout, or interrupted, may have a commit on its way: the number is held until every mutation
 * sent so far has its answer. Sets *io_seq to NULL; harmless when it is. */
void chunk_seq_settle(struct mount *mount, struct chunk_seq **io_seq);
/* No chunk below this number will be committed any more, other than those that are. */
uint64_t chunk_seq_low(struct mount *mount);
/* The session has ended, and no mutation of it will be executed any more. */
void chunk_seq_session_lost(struct mount *mount);
void chunk_seq_deinit(struct mount *mount);
