#include "meta/btree_checkpoint.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

enum { CHECKPOINT_PAGES, CHECKPOINT_SYNC, CHECKPOINT_SUPER, CHECKPOINT_SYNC_SUPER };

static const uint8_t zeros[BTREE_BLOCK];

static void add_write(struct btree_checkpoint *checkpoint, struct btree_write write)
{
    checkpoint->writes[checkpoint->count++] = write;
}

/* Checksums of all dirty pages, children first, each into its parent; lists them for writing. */
static void freeze_pages(struct btree_checkpoint *checkpoint)
{
    struct btree *tree = checkpoint->tree;
    struct btree_node **nodes = mem_alloc((tree->dirty_count + 1) * sizeof(*nodes));
    size_t count = 0;

    if (tree->root->dirty) {
        nodes[count++] = tree->root;
    }
    for (size_t at = 0; at < count; at++) { /* parents before children */
        struct btree_node *node = nodes[at];

        for (unsigned i = 0; node->loaded > 0 && i < page_count(node->data); i++) {
            if (node->children[i] != NULL && node->children[i]->dirty) {
                ASSERT(count < tree->dirty_count);
                nodes[count++] = node->children[i];
            }
        }
    }
    ASSERT(count == tree->dirty_count);
    checkpoint->super.root_crc = tree->durable.root_crc;
    for (size_t at = count; at > 0; at--) {
        struct btree_node *node = nodes[at - 1];
        uint32_t crc = crc32c(0, slice_make(node->data, BTREE_PAGE));

        if (node->parent != NULL) {
            node_set_ref(node->parent, node_slot(node), (struct btree_ref){node->block, crc});
        } else {
            checkpoint->super.root_crc = crc;
        }
        node->dirty = false;
        add_write(checkpoint,
                  (struct btree_write){
                      .block = node->block, .size = BTREE_PAGE, .data = node->data, .node = node});
    }
    checkpoint->super.root = tree->root->block;
    tree->dirty_count = 0;
    mem_free(nodes);
}

static void freeze_overflows(struct btree_checkpoint *checkpoint)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&checkpoint->tree->overflows, &at)) != NULL) {
        struct btree_overflow *overflow = slot->value;

        ASSERT(!overflow->writing);
        overflow->writing = true;
        add_write(checkpoint, (struct btree_write){.block = overflow->block,
                                                   .size = overflow->bytes.size,
                                                   .data = overflow->bytes.data,
                                                   .overflow = overflow});
    }
}

/* What will be in use when this superblock is the durable one. */
static void freeze_bitmap(struct btree_checkpoint *checkpoint)
{
    struct btree_space *space = &checkpoint->tree->space;
    /* The allocation itself may grow the space by an eighth and a little: room for twice as many.
     */
    uint64_t count = (2 * space->blocks / 8 + BTREE_BLOCK) / BTREE_BLOCK + 1;
    uint64_t block = space_allocate(space, count);
    uint64_t need = (space->blocks / 8 + BTREE_BLOCK - 1) / BTREE_BLOCK;
    uint64_t *bits = mem_zalloc(need * BTREE_BLOCK);

    ASSERT(need <= count);
    space_release(space, (struct btree_run){block + need, count - need});
    for (uint64_t i = 0; i < space->blocks / 64; i++) {
        bits[i] = space->bits[i] & ~space->leaving[i];
    }
    checkpoint->bitmap = (uint8_t *)bits;
    checkpoint->super.bitmap = block;
    checkpoint->super.blocks = space->blocks;
    checkpoint->super.bitmap_crc = crc32c(0, slice_make(bits, space->blocks / 8));
    add_write(checkpoint, (struct btree_write){
                              .block = block, .size = need * BTREE_BLOCK, .data = (uint8_t *)bits});
}

static int by_block(const void *a, const void *b)
{
    uint64_t x = ((const struct btree_write *)a)->block;
    uint64_t y = ((const struct btree_write *)b)->block;

    return (x > y) - (x < y);
}

static void freeze(struct btree_checkpoint *checkpoint)
{
    struct btree *tree = checkpoint->tree;
    size_t most = tree->dirty_count + tree->overflows.count + 1;

    ASSERT(tree->freed_last.count == 0);
    checkpoint->writes = mem_alloc(most * sizeof(*checkpoint->writes));
    checkpoint->super = tree->durable;
    checkpoint->super.generation++;
    checkpoint->super.applied_index = tree->applied_index;
    checkpoint->super.applied_term = tree->applied_term;
    checkpoint->super.hash = tree->hash;
    checkpoint->super.pairs = tree->pairs;
    freeze_pages(checkpoint);
    freeze_overflows(checkpoint);
    freeze_bitmap(checkpoint);
    qsort(checkpoint->writes, checkpoint->count, sizeof(*checkpoint->writes), by_block);
    for (size_t i = 0; i < checkpoint->count; i++) {
        if (checkpoint->writes[i].node != NULL) {
            checkpoint->writes[i].node->writing = &checkpoint->writes[i];
        }
    }
    tree->freed_last = tree->freed;
    tree->freed = (struct btree_runs){0};
    tree->epoch++;
}

/* ---- the writes ---- */

static void io_ended(struct btree_checkpoint *checkpoint)
{
    if (checkpoint->io.result < 0) {
        env_disk_failed(checkpoint->tree->env, (int)checkpoint->io.result, "btree",
                        "checkpoint failed path=%s error=%s", checkpoint->tree->path,
                        err_text((int)checkpoint->io.result));
    }
}

static void on_io(struct env_io *io)
{
    op_complete(&((struct btree_checkpoint *)io->data)->op);
}

static void submit(struct btree_checkpoint *checkpoint, struct env_io io)
{
    struct btree *tree = checkpoint->tree;

    io.file = tree->file;
    io.done = on_io;
    io.data = checkpoint;
    checkpoint->io = io;
    if (checkpoint->blocking) {
        env_io_now(tree->env, &checkpoint->io);
    } else {
        checkpoint->op.inflight++;
        env_io(tree->env, &checkpoint->io);
    }
}

/* The next writes whose blocks are neighbours, as one. */
static void submit_batch(struct btree_checkpoint *checkpoint)
{
    const struct btree_write *first = &checkpoint->writes[checkpoint->at];
    uint64_t next = first->block;
    unsigned iovecs = 0;

    checkpoint->batch = 0;
    while (checkpoint->at + checkpoint->batch < checkpoint->count &&
           checkpoint->batch < BTREE_WRITE_IOVECS) {
        const struct btree_write *write = &first[checkpoint->batch];
        size_t padding = (size_t)(round_up(write->size, BTREE_BLOCK) - write->size);

        if (write->block != next) {
            break;
        }
        checkpoint->iov[iovecs++] = (struct iovec){write->data, write->size};
        if (padding > 0) {
            checkpoint->iov[iovecs++] = (struct iovec){(void *)(uintptr_t)zeros, padding};
        }
        next = write->block + (write->size + padding) / BTREE_BLOCK;
        checkpoint->batch++;
    }
    submit(checkpoint, (struct env_io){.type = ENV_IO_WRITE,
                                       .iov = checkpoint->iov,
                                       .iov_count = iovecs,
                                       .offset = first->block * BTREE_BLOCK});
}

/* Gives back what a written batch held. */
static void release_batch(struct btree_checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->batch; i++) {
        struct btree_write *write = &checkpoint->writes[checkpoint->at + i];

        if (write->overflow != NULL) {
            overflow_delete(checkpoint->tree, write->overflow);
        } else if (write->node != NULL) {
            write->node->writing = NULL;
        } else {
            mem_free(write->data);
        }
    }
    checkpoint->at += checkpoint->batch;
    checkpoint->batch = 0;
}

static void submit_super(struct btree_checkpoint *checkpoint)
{
    checkpoint->super_bytes = mem_alloc(BTREE_SUPER_COPIES * BTREE_BLOCK);
    for (unsigned i = 0; i < BTREE_SUPER_COPIES; i++) {
        super_encode(&checkpoint->super, checkpoint->super_bytes + i * BTREE_BLOCK);
    }
    checkpoint->iov[0] = (struct iovec){checkpoint->super_bytes, BTREE_SUPER_COPIES * BTREE_BLOCK};
    submit(checkpoint, (struct env_io){.type = ENV_IO_WRITE,
                                       .iov = checkpoint->iov,
                                       .iov_count = 1,
                                       .offset = checkpoint->super.generation % 2 *
                                                 BTREE_SUPER_COPIES * BTREE_BLOCK});
}

/* The new superblock is durable: what only the old one used is free. */
static void checkpoint_finish(struct btree_checkpoint *checkpoint)
{
    struct btree *tree = checkpoint->tree;

    tree->durable = checkpoint->super;
    tree->checkpoints++;
    if (tree->views > 0) {
        for (size_t i = 0; i < tree->freed_last.count; i++) {
            runs_add(&tree->held, tree->freed_last.at[i]);
        }
        tree->freed_last.count = 0;
    } else {
        runs_release(&tree->freed_last, &tree->space);
    }
    runs_deinit(&tree->freed_last);
    tree->checkpoint = NULL;
}

static void checkpoint_step(struct op *op)
{
    struct btree_checkpoint *checkpoint = container_of(op, struct btree_checkpoint, op);

    for (;;) {
        if (op->inflight > 0) {
            return;
        }
        io_ended(checkpoint);
        switch (op->state) {
        case CHECKPOINT_PAGES:
            release_batch(checkpoint);
            if (checkpoint->at < checkpoint->count) {
                submit_batch(checkpoint);
                continue;
            }
            op->state = CHECKPOINT_SYNC;
            submit(checkpoint, (struct env_io){.type = ENV_IO_SYNC});
            continue;
        case CHECKPOINT_SYNC:
            op->state = CHECKPOINT_SUPER;
            submit_super(checkpoint);
            continue;
        case CHECKPOINT_SUPER:
            op->state = CHECKPOINT_SYNC_SUPER;
            submit(checkpoint, (struct env_io){.type = ENV_IO_SYNC});
            continue;
        default:
            checkpoint_finish(checkpoint);
            op_finish(op, 0);
            return;
        }
    }
}

static void checkpoint_drained(struct op *op)
{
    struct btree_checkpoint *checkpoint = container_of(op, struct btree_checkpoint, op);
    struct btree *tree = checkpoint->tree;
    void (*done)(struct btree *) = checkpoint->done;

    mem_free(checkpoint->writes);
    mem_free(checkpoint->super_bytes);
    mem_free(checkpoint);
    if (done != NULL) {
        done(tree);
    }
}

static const char *const checkpoint_states[] = {"PAGES", "SYNC", "SUPER", "SYNC_SUPER"};

static const struct op_kind checkpoint_kind = {
    .name = "btree_checkpoint",
    .states = checkpoint_states,
    .state_count = ARRAY_SIZE(checkpoint_states),
    .step = checkpoint_step,
    .drained = checkpoint_drained,
};

static void free_old_bitmap(struct btree *tree)
{
    uint64_t count = (tree->durable.blocks / 8 + BTREE_BLOCK - 1) / BTREE_BLOCK;

    if (tree->durable.bitmap != 0) {
        btree_free_blocks(tree, (struct btree_run){tree->durable.bitmap, count}, /* epoch= */ 0);
    }
}

static void start(struct btree *tree, void (*done)(struct btree *tree), bool blocking)
{
    struct btree_checkpoint *checkpoint;

    ASSERT(tree->checkpoint == NULL && !tree->read_only);
    free_old_bitmap(tree); /* before anything of the checkpoint is there: it may end the process */
    checkpoint = mem_zalloc(sizeof(*checkpoint));
    checkpoint->tree = tree;
    checkpoint->done = done;
    checkpoint->blocking = blocking;
    tree->checkpoint = checkpoint;
    op_init(&checkpoint->op, &checkpoint_kind);
    freeze(checkpoint);
    op_wake(&checkpoint->op);
}

void btree_checkpoint_start(struct btree *tree, void (*done)(struct btree *tree))
{
    start(tree, done, false);
}

void btree_checkpoint_now(struct btree *tree)
{
    start(tree, NULL, true);
    ASSERT(tree->checkpoint == NULL);
}
