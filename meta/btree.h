#pragma once
/*
 * btree: ordered key/value pairs in one file: a copy-on-write B+tree, changed in memory, made
 * durable by checkpoints (the Raft log is the only other log).
 *
 *     btree_open(&tree, env, &config);             blocks; creates an empty tree when there is none
 *     btree_put(&tree, key, value);
 *     if (btree_get(&tree, key, &value)) ...       value: until the next call on the tree
 *     btree_set_applied(&tree, index, term);
 *     btree_checkpoint_start(&tree, done);         this very state becomes durable; done() follows
 *
 * A page changes in place while it is younger than the last checkpoint's start; else it moves to
 * new blocks, and its old ones are free again when the next superblock is durable. So a crash at
 * any moment leaves the last checkpoint whole. Page faults read the file synchronously; a page that
 * does not match the checksum in its parent ends the process, after the owner was told: what has
 * been read of the tree is in use all the way up the stack (the group has other copies).
 */
#include "base/env.h"
#include "base/map.h"
#include "meta/btree_format.h"

struct btree;
struct btree_node;

struct btree_config {
    const char *dir;  /* exists */
    const char *path; /* in dir */
    uint8_t cluster_uuid[16];
    uint32_t node_id;
    size_t cache_bytes; /* pages kept by btree_trim */
    void *owner;        /* tree->owner */
    /* A page of `tree` (or of one of its views) is damaged. Ends the process, or returns: then it
     * is ended as by a bug. May be NULL. */
    void (*damaged)(struct btree *tree);
};

/* What a superblock says. */
struct btree_super {
    uint8_t cluster_uuid[16];
    uint32_t node_id;
    uint64_t generation;
    uint64_t root;
    uint32_t root_crc;
    uint64_t bitmap;
    uint32_t bitmap_crc;
    uint64_t blocks;
    uint64_t applied_index;
    uint64_t applied_term;
    uint64_t hash;
    uint64_t pairs;
};

/* Which blocks of the file are in use, one bit each. */
struct btree_space {
    uint64_t *bits;    /* set = used, or free only after the next checkpoint */
    uint64_t *leaving; /* of those: the latter */
    uint64_t blocks;
    uint64_t used;
    uint64_t next;   /* where the search goes on */
    uint64_t lowest; /* no free block below */
};

struct btree_run {
    uint64_t block;
    uint64_t count;
};

struct btree_runs {
    struct btree_run *at;
    size_t count;
    size_t capacity;
};

struct btree {
    struct env *env;
    void *owner; /* the caller's */
    void (*damaged)(struct btree *tree);
    struct env_file *file;
    char *dir, *path;
    size_t cache_bytes;
    bool read_only;     /* a view made by btree_open_view */
    struct btree *live; /* of a view */

    struct btree_super durable; /* the newest superblock on disk */
    uint64_t epoch;             /* pages of this epoch change in place */
    struct btree_node *root;
    struct btree_node *finger; /* the leaf used last, or NULL */
    struct list nodes;         /* all in memory, in clock order */
    size_t node_count, dirty_count;
    struct map overflows; /* block -> struct btree_overflow, not written yet */
    size_t overflow_bytes;
    struct buf value; /* an overflow value read from the file */

    struct btree_space space;
    struct btree_runs freed;      /* in this epoch; used by the durable tree */
    struct btree_runs freed_last; /* in the epoch that is being written */
    struct btree_runs held;       /* kept for views */
    unsigned views;

    uint64_t applied_index, applied_term;
    uint64_t hash; /* sum over live pairs */
    uint64_t pairs;

    struct btree_checkpoint *checkpoint;     /* under way, or NULL */
    uint64_t checkpoints, faults, evictions; /* counters */
};

/* -ERR_CORRUPT, -ERR_WRONG_CLUSTER, -ERR_WRONG_NODE, -ERR_BAD_FORMAT or an errno; logged. */
int must_check btree_open(struct btree *tree, struct env *env, const struct btree_config *config);
/* No checkpoint may be under way, no view be open. Changes since the last checkpoint are lost. */
void btree_close(struct btree *tree);
/* A read-only tree: the last checkpoint of `live`, which stays as it is until the view is closed.
 */
int must_check btree_open_view(struct btree *view, struct btree *live, size_t cache_bytes);

bool btree_get(struct btree *tree, struct slice key, struct slice *out_value);
/* The first pair at or behind `key`. */
bool btree_seek(struct btree *tree, struct slice key, struct slice *out_key,
                struct slice *out_value);
/* The last pair before `key`. */
bool btree_seek_before(struct btree *tree, struct slice key, struct slice *out_key,
                       struct slice *out_value);
/* key and value must not point into the tree. */
void btree_put(struct btree *tree, struct slice key, struct slice value);
/* False when there was no such key. */
bool btree_del(struct btree *tree, struct slice key);
void btree_set_applied(struct btree *tree, uint64_t index, uint64_t term);
/* Drops clean pages above the cache limit. Borrowed slices end. */
void btree_trim(struct btree *tree);
/* Bytes that the next checkpoint has to write. */
size_t btree_dirty_bytes(const struct btree *tree);

/* None may be under way. done() runs from the loop when the state of this moment is durable. */
void btree_checkpoint_start(struct btree *tree, void (*done)(struct btree *tree));
/* The same, blocking; for offline use and for the rebuild from a snapshot. */
void btree_checkpoint_now(struct btree *tree);
/* Walks the whole tree and asserts its invariants; for tests. */
void btree_check(struct btree *tree);

/* What the rolling hash adds for a pair. */
uint64_t btree_pair_hash(struct slice key, struct slice value);
