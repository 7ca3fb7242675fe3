#pragma once
/*
 * btree_checkpoint: makes one state of the tree durable while it goes on changing.
 *
 *     PAGES --> SYNC --> SUPER --> SYNC_SUPER --> finish
 *     (one write at a time, neighbours together)
 *
 * btree_checkpoint_start freezes the state: checksums go into the parents, the list of writes is
 * made, the epoch rises. A page that changes before it is written leaves its old bytes here.
 */
#include "base/op.h"
#include "meta/btree_internal.h"

#define BTREE_WRITE_IOVECS 64 /* 64 pages = 1 MiB in one write */

struct btree_write {
    uint64_t block;
    size_t size; /* bytes; the rest of the last block is zero */
    uint8_t *data;
    struct btree_node *node;         /* owns data; NULL: we do, or the overflow does */
    struct btree_overflow *overflow; /* owns data */
};

struct btree_checkpoint {
    struct op op;
    struct btree *tree;
    void (*done)(struct btree *tree);
    struct btree_super super;
    struct btree_write *writes; /* by block */
    size_t count, at, batch;
    uint8_t *bitmap;
    uint8_t *super_bytes; /* BTREE_SUPER_COPIES blocks */
    struct iovec iov[2 * BTREE_WRITE_IOVECS];
    struct env_io io;
    bool blocking;
};
