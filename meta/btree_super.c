#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "meta/btree_internal.h"

#include <errno.h>

#define BTREE_BLOCKS_MAX (UINT64_C(1) << 32) /* 16 TiB: bounds what a superblock may claim */

void super_encode(const struct btree_super *super, uint8_t out[BTREE_BLOCK])
{
    memset(out, 0, BTREE_BLOCK);
    bytes_put_le64(out + SUPER_MAGIC_AT, BTREE_MAGIC);
    bytes_put_le32(out + SUPER_VERSION_AT, BTREE_VERSION);
    bytes_put_le32(out + SUPER_NODE_AT, super->node_id);
    memcpy(out + SUPER_UUID_AT, super->cluster_uuid, 16);
    bytes_put_le64(out + SUPER_GENERATION_AT, super->generation);
    bytes_put_le64(out + SUPER_ROOT_AT, super->root);
    bytes_put_le32(out + SUPER_ROOT_CRC_AT, super->root_crc);
    bytes_put_le32(out + SUPER_BITMAP_CRC_AT, super->bitmap_crc);
    bytes_put_le64(out + SUPER_BITMAP_AT, super->bitmap);
    bytes_put_le64(out + SUPER_BLOCKS_AT, super->blocks);
    bytes_put_le64(out + SUPER_INDEX_AT, super->applied_index);
    bytes_put_le64(out + SUPER_TERM_AT, super->applied_term);
    bytes_put_le64(out + SUPER_HASH_AT, super->hash);
    bytes_put_le64(out + SUPER_PAIRS_AT, super->pairs);
    bytes_put_le32(out + SUPER_CRC_AT, crc32c(0, slice_make(out, SUPER_CRC_AT)));
}

int super_decode(struct btree_super *out_super, const uint8_t *block)
{
    struct btree_super super = {
        .node_id = bytes_get_le32(block + SUPER_NODE_AT),
        .generation = bytes_get_le64(block + SUPER_GENERATION_AT),
        .root = bytes_get_le64(block + SUPER_ROOT_AT),
        .root_crc = bytes_get_le32(block + SUPER_ROOT_CRC_AT),
        .bitmap_crc = bytes_get_le32(block + SUPER_BITMAP_CRC_AT),
        .bitmap = bytes_get_le64(block + SUPER_BITMAP_AT),
        .blocks = bytes_get_le64(block + SUPER_BLOCKS_AT),
        .applied_index = bytes_get_le64(block + SUPER_INDEX_AT),
        .applied_term = bytes_get_le64(block + SUPER_TERM_AT),
        .hash = bytes_get_le64(block + SUPER_HASH_AT),
        .pairs = bytes_get_le64(block + SUPER_PAIRS_AT),
    };

    memcpy(super.cluster_uuid, block + SUPER_UUID_AT, 16);
    if (bytes_get_le64(block + SUPER_MAGIC_AT) != BTREE_MAGIC ||
        crc32c(0, slice_make(block, SUPER_CRC_AT)) != bytes_get_le32(block + SUPER_CRC_AT)) {
        return -ERR_CORRUPT;
    }
    if (bytes_get_le32(block + SUPER_VERSION_AT) != BTREE_VERSION) {
        return -ERR_BAD_FORMAT;
    }
    if (super.blocks % 64 != 0 || super.blocks > BTREE_BLOCKS_MAX) {
        return -ERR_CORRUPT;
    }
    *out_super = super;
    return 0;
}

void btree_damaged(struct btree *tree, uint64_t block, const char *what)
{
    struct btree *whole = tree->live != NULL ? tree->live : tree;

    LOG_ERROR(tree->env, "btree", "%s path=%s block=%" PRIu64, what, tree->path, block);
    if (whole->damaged != NULL) {
        whole->damaged(whole);
    }
    env_fatal(tree->env, "btree", "the tree is damaged path=%s", tree->path);
}

void btree_read(struct btree *tree, uint64_t block, void *data, size_t size)
{
    int64_t r = -EINVAL;

    if (block >= BTREE_SUPER_BLOCKS && block < BTREE_BLOCKS_MAX) {
        r = env_read_at(tree->env, tree->file, data, size, block * BTREE_BLOCK);
    }
    if (r != (int64_t)size) {
        btree_damaged(tree, block, "a page cannot be read");
    }
}

/* The newest generation that enough copies agree on. */
static int choose(struct btree *tree, const uint8_t *blocks)
{
    int best = -ERR_CORRUPT;

    for (unsigned group = 0; group < 2; group++) {
        struct btree_super first;
        unsigned good = 0;

        for (unsigned i = 0; i < BTREE_SUPER_COPIES; i++) {
            struct btree_super super;
            int r = super_decode(&super, blocks + (group * BTREE_SUPER_COPIES + i) * BTREE_BLOCK);

            if (r == -ERR_BAD_FORMAT) {
                return r;
            }
            if (r < 0 || (good > 0 && super.generation < first.generation)) {
                continue;
            }
            good = good > 0 && super.generation == first.generation ? good + 1 : 1;
            first = super;
        }
        if (good >= BTREE_SUPER_GOOD && (best < 0 || first.generation > tree->durable.generation)) {
            tree->durable = first;
            best = 0;
        }
    }
    return best;
}

/* A superblock may claim any number of blocks: memory for them is taken only when the file is long
 * enough to hold a bit for each. */
static int check_bitmap(struct btree *tree)
{
    const struct btree_super *super = &tree->durable;
    uint64_t size = super->blocks / 8;
    uint8_t last;
    int64_t r;

    if (super->bitmap == 0 || size == 0) { /* of an empty tree that was just made */
        return super->bitmap == 0 && size == 0 && super->root == 0 ? 0 : -ERR_CORRUPT;
    }
    if (super->bitmap < BTREE_SUPER_BLOCKS || super->bitmap >= super->blocks) {
        return -ERR_CORRUPT;
    }
    r = env_read_at(tree->env, tree->file, &last, 1, super->bitmap * BTREE_BLOCK + size - 1);
    return r < 0 ? (int)r : r == 1 ? 0 : -ERR_CORRUPT;
}

/* The superblocks and the bitmap itself are in use. */
static int check_used(const struct btree *tree, uint64_t bitmap_bytes)
{
    uint64_t count = (bitmap_bytes + BTREE_BLOCK - 1) / BTREE_BLOCK;

    return space_is_used(&tree->space, (struct btree_run){0, BTREE_SUPER_BLOCKS}) &&
                   space_is_used(&tree->space, (struct btree_run){tree->durable.bitmap, count})
               ? 0
               : -ERR_CORRUPT;
}

static int load_space(struct btree *tree)
{
    const struct btree_super *super = &tree->durable;
    size_t size = (size_t)(super->blocks / 8);
    uint64_t kept = 0;
    int64_t r = check_bitmap(tree);

    if (r < 0) {
        return (int)r;
    }
    space_init(&tree->space, super->blocks);
    if (super->bitmap == 0) {
        return 0;
    }
    r = env_read_at(tree->env, tree->file, tree->space.bits, size, super->bitmap * BTREE_BLOCK);
    if (r != (int64_t)size) {
        return r < 0 ? (int)r : -ERR_CORRUPT;
    }
    if (crc32c(0, slice_make(tree->space.bits, size)) != super->bitmap_crc) {
        return -ERR_CORRUPT;
    }
    for (uint64_t i = 0; i < size / 8; i++) {
        kept += (uint64_t)__builtin_popcountll(tree->space.bits[i]);
    }
    tree->space.used = kept;
    return check_used(tree, size);
}

/* A new file holds the superblock of an empty tree; it appears whole or not at all. */
static int create(struct btree *tree, const struct btree_config *config)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    struct btree_super super = {.node_id = config->node_id, .generation = 1};

    memcpy(super.cluster_uuid, config->cluster_uuid, 16);
    buf_append_zero(&bytes, BTREE_SUPER_BLOCKS * BTREE_BLOCK);
    for (unsigned i = 0; i < BTREE_SUPER_COPIES; i++) {
        super_encode(&super, bytes.data + (BTREE_SUPER_COPIES + i) * BTREE_BLOCK);
    }
    return env_replace_file(tree->env, config->dir, config->path, buf_slice(&bytes));
}

static int open_file(struct btree *tree, const struct btree_config *config)
{
    int r = env_open_now(tree->env, config->path, ENV_OPEN_BULK | ENV_OPEN_LOCK, &tree->file);

    if (r == -ENOENT) {
        r = create(tree, config);
        if (r == 0) {
            r = env_open_now(tree->env, config->path, ENV_OPEN_BULK | ENV_OPEN_LOCK, &tree->file);
        }
    }
    return r;
}

static int load_super(struct btree *tree, const struct btree_config *config)
{
    cleanup(buf_deinit) struct buf blocks = {0};
    int64_t size;
    int r;

    buf_append_zero(&blocks, BTREE_SUPER_BLOCKS * BTREE_BLOCK);
    size = env_read_at(tree->env, tree->file, blocks.data, blocks.size, 0);
    if (size < 0) {
        return (int)size;
    }
    r = choose(tree, blocks.data);
    if (r < 0) {
        return r;
    }
    if (memcmp(tree->durable.cluster_uuid, config->cluster_uuid, 16) != 0) {
        return -ERR_WRONG_CLUSTER;
    }
    if (tree->durable.node_id != config->node_id) {
        return -ERR_WRONG_NODE;
    }
    /* It may be in the page cache only, after a sync that failed; pages that only the checkpoint
     * before it needs are about to be used again. */
    r = env_write_at(tree->env, tree->file, blocks.data, blocks.size, 0);
    r = r < 0 ? r : env_sync_now(tree->env, tree->file);
    if (r < 0) {
        return r;
    }
    return load_space(tree);
}

static void start_from_durable(struct btree *tree)
{
    tree->applied_index = tree->durable.applied_index;
    tree->applied_term = tree->durable.applied_term;
    tree->hash = tree->durable.hash;
    tree->pairs = tree->durable.pairs;
    tree->epoch = 1;
    list_init(&tree->nodes);
    btree_load_root(tree);
}

int btree_open(struct btree *tree, struct env *env, const struct btree_config *config)
{
    int r;

    *tree = (struct btree){.env = env,
                           .owner = config->owner,
                           .damaged = config->damaged,
                           .cache_bytes = config->cache_bytes};
    list_init(&tree->nodes);
    tree->dir = mem_strdup(config->dir);
    tree->path = mem_strdup(config->path);
    r = open_file(tree, config);
    if (r == 0) {
        r = load_super(tree, config);
    }
    if (r < 0) {
        LOG_ERROR(env, "btree", "cannot open path=%s error=%s", config->path, err_text(r));
        btree_close(tree);
        return r;
    }
    start_from_durable(tree);
    return 0;
}

int btree_open_view(struct btree *view, struct btree *live, size_t cache_bytes)
{
    ASSERT(!live->read_only);
    *view = (struct btree){.env = live->env,
                           .file = live->file,
                           .cache_bytes = cache_bytes,
                           .read_only = true,
                           .live = live,
                           .durable = live->durable};
    view->path = mem_strdup(live->path);
    space_init(&view->space, 0);
    live->views++;
    start_from_durable(view);
    return 0;
}

void btree_close(struct btree *tree)
{
    struct map_slot *slot;
    struct list_node *first;
    size_t at = 0;

    ASSERT(tree->checkpoint == NULL && tree->views == 0);
    while ((first = list_first(&tree->nodes)) != NULL) {
        struct btree_node *node = list_entry(first, struct btree_node, clock);

        node->loaded = 0;
        node_drop(tree, node);
    }
    while ((slot = map_next(&tree->overflows, &at)) != NULL) {
        struct btree_overflow *overflow = slot->value;

        buf_deinit(&overflow->bytes);
        mem_free(overflow);
    }
    map_deinit(&tree->overflows);
    buf_deinit(&tree->value);
    space_deinit(&tree->space);
    runs_deinit(&tree->freed);
    runs_deinit(&tree->freed_last);
    if (tree->live != NULL) {
        tree->live->views--;
        if (tree->live->views == 0) {
            runs_release(&tree->live->held, &tree->live->space);
        }
    } else {
        env_close_now(tree->env, tree->file);
    }
    runs_deinit(&tree->held);
    mem_free(tree->dir);
    mem_free(tree->path);
    *tree = (struct btree){0};
}
