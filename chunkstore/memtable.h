#pragma once
/*
 * memtable: the newest index entries, sorted: a skip list in an arena. Pure. Entries are replaced
 * in place and nodes are never removed, so an iterator stays valid while others insert.
 */
#include "base/buf.h"
#include "base/rng.h"
#include "chunkstore/index_entry.h"

struct memtable_node {
    struct index_entry entry;
    unsigned height;
    struct memtable_node *next[];
};

struct memtable {
    struct memtable_node *head; /* no entry: only its pointers */
    struct buf *blocks;         /* the arena */
    size_t block_count;
    size_t bytes; /* of nodes */
    size_t count;
    unsigned refs;
    struct rng rng;
};

struct memtable *memtable_new(uint64_t seed);
struct memtable *memtable_ref(struct memtable *memtable);
/* Frees at the last one; NULL is harmless. */
void memtable_unref(struct memtable *memtable);
void memtable_put(struct memtable *memtable, const struct index_entry *entry);
const struct index_entry *memtable_get(const struct memtable *memtable,
                                       const struct index_key *key);
/* The first node at or after `key`; NULL at the end. Then node->next[0]. */
struct memtable_node *memtable_seek(const struct memtable *memtable, const struct index_key *key);
