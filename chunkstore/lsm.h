#pragma once
/*
 * lsm: the index of a chunk server: a memtable, tables on disk, a small cache of their blocks.
 *
 * Not durable by itself: the log of records is its write-ahead log. lsm_freeze begins a new
 * memtable, lsm_build.h writes the frozen one out and merges tables.
 */
#include "base/map.h"
#include "base/op.h"
#include "chunkstore/compaction_pick.h"
#include "chunkstore/limits.h"
#include "chunkstore/manifest.h"
#include "chunkstore/memtable.h"

struct lsm_block {
    struct list_node node; /* least recently used first */
    struct map_key key;
    struct buf bytes;
};

struct lsm {
    struct env *env;
    const char *dir;
    uint64_t next_table;
    struct memtable *active;
    struct memtable *frozen;   /* being written out; NULL = none */
    struct memtable *previous; /* written out; kept so that "what changed lately" needs no I/O */
    struct level levels[LSM_LEVELS];
    size_t blocks_max; /* cached */
    struct map blocks;
    struct list block_lru;
    /* +1: a file is being closed and unlinked in the background; -1: that has ended. */
    void (*hold)(struct lsm *lsm, int change);
};

void lsm_init(struct lsm *lsm, struct env *env, const char *dir);
void lsm_deinit(struct lsm *lsm);
/* Blocking, at start: opens and verifies what the manifest lists. -ERR_CORRUPT: a table is damaged
 * or missing; the lsm is empty then. */
int must_check lsm_load(struct lsm *lsm, const struct manifest *manifest);
void lsm_describe(const struct lsm *lsm, struct manifest *manifest);
char *lsm_table_path(const struct lsm *lsm, uint64_t id);

void lsm_put(struct lsm *lsm, const struct index_entry *entry);
/* What the memtables say: NULL = nothing about this key. */
const struct index_entry *lsm_recent(const struct lsm *lsm, const struct index_key *key);
/* Blocking, at start. 1 = found (may be a tombstone), 0 = absent, or an error. */
int must_check lsm_get_now(struct lsm *lsm, const struct index_key *key,
                           struct index_entry *out_entry);

void lsm_freeze(struct lsm *lsm, uint64_t seed);
/* Adds (takes over) a table, keeping the level in order. */
void lsm_add_table(struct lsm *lsm, struct sstable *table);
/* Takes it out of its level; closed and unlinked when its last user is gone. */
void lsm_drop_table(struct lsm *lsm, struct sstable *table);
struct sstable *sstable_ref(struct sstable *table);
void lsm_table_unref(struct lsm *lsm, struct sstable *table);

/* A read of one block on behalf of an op. */
struct lsm_block_read {
    struct env_io io;
    struct iovec iov;
    struct buf bytes;
    struct sstable *table;
    uint32_t block;
    struct op *op;
    bool active;
};

/* op: look up one key. op.result: 1 = found (may be a tombstone), 0 = absent, or an error. */
struct lsm_find {
    struct op op;
    struct lsm *lsm;
    struct index_key key;
    struct index_entry entry;
    struct lsm_block_read read;
    struct op *parent; /* op_complete when drained */
};
void lsm_find_start(struct lsm_find *find, struct lsm *lsm, const struct index_key *key,
                    struct op *parent);

/*
 * Entries of several sources in key order, the newest of each key, tombstones included. Reads
 * blocks only when it gets to them.
 */
struct lsm_source {
    struct memtable *memtable;
    struct memtable_node *at;
    struct sstable *table;
    struct buf bytes; /* the current block */
    uint32_t block, index, count;
    bool loaded, ended;
    struct index_key bound; /* nothing before it is left */
};

struct lsm_merge {
    struct lsm *lsm;
    struct lsm_source *sources; /* newest first */
    size_t count;
    struct index_key start;
    struct index_key last;
    bool has_last;
    struct lsm_block_read read;
    size_t reading; /* source */
};

void lsm_merge_init(struct lsm_merge *merge, struct lsm *lsm, const struct index_key *start);
void lsm_merge_deinit(struct lsm_merge *merge);
void lsm_merge_add_memtable(struct lsm_merge *merge, struct memtable *memtable);
void lsm_merge_add_table(struct lsm_merge *merge, struct sstable *table);
/* All of the index, from start, up to the end of partition `last_partition`. */
void lsm_merge_add_all(struct lsm_merge *merge, uint32_t last_partition);
/* 1 = *out_entry is next, 0 = end, -EAGAIN = lsm_merge_read first, or an error. */
int must_check lsm_merge_next(struct lsm_merge *merge, struct index_entry *out_entry);
/* Starts the read (op->inflight++); lsm_merge_next goes on after it. */
void lsm_merge_read(struct lsm_merge *merge, struct op *op);
