#pragma once
/* btree_internal: what the files of the tree share. */
#include "meta/btree.h"
#include "meta/btree_page.h"

struct btree_write;

struct btree_node {
    uint8_t *data;
    uint64_t block;
    uint64_t epoch; /* in which the block was allocated */
    bool dirty;
    bool used;                   /* since the clock's hand passed */
    struct btree_write *writing; /* a checkpoint is writing `data` */
    struct btree_node *parent;
    struct btree_node **children; /* inner: by slot, NULL = not in memory */
    unsigned loaded;              /* children in memory */
    struct list_node clock;
};

/* A large value that no checkpoint has written yet. */
struct btree_overflow {
    uint64_t block;
    uint64_t epoch;
    bool writing; /* by the checkpoint under way */
    bool dead;    /* removed meanwhile */
    struct buf bytes;
};

struct btree_ref {
    uint64_t block;
    uint32_t crc;
};

/* ---- btree_space.c ---- */
void space_init(struct btree_space *space, uint64_t blocks);
void space_deinit(struct btree_space *space);
/* The first of `count` contiguous blocks, now used. Grows the file when it must. */
uint64_t space_allocate(struct btree_space *space, uint64_t count);
void space_release(struct btree_space *space, struct btree_run run);
/* All of them, and none is to be freed already. */
bool space_is_used(const struct btree_space *space, struct btree_run run);
void runs_add(struct btree_runs *runs, struct btree_run run);
void runs_release(struct btree_runs *runs, struct btree_space *space);
void runs_deinit(struct btree_runs *runs);
/* Blocks that `epoch` allocated are not needed any more. Ends the process when they are not in use:
 * then the file is damaged. */
void btree_free_blocks(struct btree *tree, struct btree_run run, uint64_t epoch);

/* ---- btree_node.c ---- */
struct btree_node *node_new(struct btree *tree, unsigned level);
/* The node leaves the memory; its blocks are not touched. */
void node_drop(struct btree *tree, struct btree_node *node);
/* The child in `slot`, read when it is not in memory. */
struct btree_node *node_child(struct btree *tree, struct btree_node *node, unsigned slot);
unsigned node_slot(const struct btree_node *node);
/* The node may change in place from now on; its parent (if any) is writable already. */
void node_make_writable(struct btree *tree, struct btree_node *node);
/* The same for the whole path from the root. */
void node_make_path_writable(struct btree *tree, struct btree_node *node);
void node_children_insert(struct btree_node *node, unsigned slot, struct btree_node *child);
void node_children_remove(struct btree_node *node, unsigned slot);
struct btree_ref node_ref(const struct btree_node *node, unsigned slot);
void node_set_ref(struct btree_node *node, unsigned slot, struct btree_ref ref);
void ref_encode(struct btree_ref ref, uint8_t out[CHILD_REF]);
/* The root of a tree just opened. */
void btree_load_root(struct btree *tree);

/* ---- btree_overflow.c ---- */
void overflow_put(struct btree *tree, struct slice value, uint8_t out_ref[OVERFLOW_REF]);
struct slice overflow_get(struct btree *tree, struct slice ref);
void overflow_free(struct btree *tree, struct slice ref);
void overflow_delete(struct btree *tree, struct btree_overflow *overflow);

/* ---- btree_super.c ---- */
void super_encode(const struct btree_super *super, uint8_t out[BTREE_BLOCK]);
int must_check super_decode(struct btree_super *out_super, const uint8_t *block);
/* What was read at `block` is not what was written there: tells the owner, ends the process. */
_Noreturn void btree_damaged(struct btree *tree, uint64_t block, const char *what);
/* Reads exactly `size` bytes at a block, or ends the process. */
void btree_read(struct btree *tree, uint64_t block, void *data, size_t size);
