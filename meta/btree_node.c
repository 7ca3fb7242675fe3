#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "meta/btree_checkpoint.h"
#include "meta/btree_internal.h"

#include <inttypes.h>

#define TRIM_STEPS 256 /* pages looked at in one go: 10 us */

struct btree_node *node_new(struct btree *tree, unsigned level)
{
    struct btree_node *node = mem_zalloc(sizeof(*node));

    node->data = mem_alloc(BTREE_PAGE);
    page_init(node->data, level);
    if (level > 0) {
        node->children = mem_zalloc((BTREE_FANOUT_MAX + 1) * sizeof(struct btree_node *));
    }
    node->used = true;
    list_push_back(&tree->nodes, &node->clock);
    tree->node_count++;
    return node;
}

void node_drop(struct btree *tree, struct btree_node *node)
{
    ASSERT(node->loaded == 0);
    if (node->writing != NULL) {
        node->writing->node = NULL; /* the bytes are the checkpoint's now */
    } else {
        mem_free(node->data);
    }
    if (node->dirty) {
        tree->dirty_count--;
    }
    if (tree->finger == node) {
        tree->finger = NULL;
    }
    list_remove(&node->clock);
    tree->node_count--;
    mem_free(node->children);
    mem_free(node);
}

struct btree_ref node_ref(const struct btree_node *node, unsigned slot)
{
    struct slice value = page_value(node->data, slot);

    return (struct btree_ref){bytes_get_le64(value.data), bytes_get_le32(value.data + 8)};
}

void ref_encode(struct btree_ref ref, uint8_t out[CHILD_REF])
{
    bytes_put_le64(out, ref.block);
    bytes_put_le32(out + 8, ref.crc);
}

void node_set_ref(struct btree_node *node, unsigned slot, struct btree_ref ref)
{
    uint8_t bytes[CHILD_REF];

    ref_encode(ref, bytes);
    page_set_value(node->data, slot, slice_make(bytes, sizeof(bytes)));
}

unsigned node_slot(const struct btree_node *node)
{
    const struct btree_node *parent = node->parent;
    unsigned count = page_count(parent->data);

    for (unsigned i = 0; i < count; i++) {
        if (parent->children[i] == node) {
            return i;
        }
    }
    UNREACHABLE();
}

/* Its blocks must be in use: what is freed may be written over. (A view does not know.) */
static bool is_damaged(const struct btree *tree, struct btree_ref ref, const uint8_t *page,
                       unsigned level)
{
    struct btree_run run = {ref.block, BTREE_PAGE_BLOCKS};

    return crc32c(0, slice_make(page, BTREE_PAGE)) != ref.crc || page_check(page) < 0 ||
           page_level(page) != level || (!tree->read_only && !space_is_used(&tree->space, run));
}

static struct btree_node *load(struct btree *tree, struct btree_ref ref, unsigned level)
{
    struct btree_node *node = node_new(tree, level);

    btree_read(tree, ref.block, node->data, BTREE_PAGE);
    if (is_damaged(tree, ref, node->data, level)) {
        btree_damaged(tree, ref.block, "page is damaged");
    }
    node->block = ref.block;
    tree->faults++;
    return node;
}

struct btree_node *node_child(struct btree *tree, struct btree_node *node, unsigned slot)
{
    struct btree_node *child = node->children[slot];

    if (child == NULL) {
        child = load(tree, node_ref(node, slot), page_level(node->data) - 1);
        child->parent = node;
        node->children[slot] = child;
        node->loaded++;
    }
    child->used = true;
    return child;
}

/* The level of the root is in the page itself. */
static unsigned root_level(struct btree *tree, uint64_t block)
{
    uint8_t header[PAGE_HEADER];

    btree_read(tree, block, header, sizeof(header));
    return bytes_get_le16(header + PAGE_LEVEL_AT);
}

void btree_load_root(struct btree *tree)
{
    struct btree_ref ref = {tree->durable.root, tree->durable.root_crc};

    if (ref.block == 0) {
        tree->root = node_new(tree, 0);
        tree->root->block = space_allocate(&tree->space, BTREE_PAGE_BLOCKS);
        tree->root->epoch = tree->epoch;
        tree->root->dirty = true;
        tree->dirty_count++;
    } else {
        unsigned level = root_level(tree, ref.block);

        if (level >= BTREE_DEPTH_MAX) {
            btree_damaged(tree, ref.block, "root page is damaged");
        }
        tree->root = load(tree, ref, level);
    }
}

void node_make_writable(struct btree *tree, struct btree_node *node)
{
    if (node->dirty) {
        ASSERT(node->epoch == tree->epoch);
        return;
    }
    if (node->writing != NULL) {
        struct btree_write *writing = node->writing;

        writing->node = NULL; /* keeps the old bytes */
        node->writing = NULL;
        node->data = mem_alloc(BTREE_PAGE);
        memcpy(node->data, writing->data, BTREE_PAGE);
    }
    btree_free_blocks(tree, (struct btree_run){node->block, BTREE_PAGE_BLOCKS}, node->epoch);
    node->block = space_allocate(&tree->space, BTREE_PAGE_BLOCKS);
    node->epoch = tree->epoch;
    node->dirty = true;
    tree->dirty_count++;
    if (node->parent != NULL) {
        ASSERT(node->parent->dirty);
        node_set_ref(node->parent, node_slot(node), (struct btree_ref){node->block, 0});
    }
}

void node_make_path_writable(struct btree *tree, struct btree_node *node)
{
    struct btree_node *path[BTREE_DEPTH_MAX];
    unsigned depth = 0;

    ASSERT(!tree->read_only);
    for (; node != NULL && !node->dirty; node = node->parent) {
        ASSERT(depth < BTREE_DEPTH_MAX);
        path[depth++] = node;
    }
    while (depth > 0) {
        node_make_writable(tree, path[--depth]);
    }
}

void node_children_insert(struct btree_node *node, unsigned slot, struct btree_node *child)
{
    unsigned count = page_count(node->data); /* the new cell is there already */

    ASSERT(slot < count && count <= BTREE_FANOUT_MAX + 1);
    memmove(&node->children[slot + 1], &node->children[slot],
            (count - 1 - slot) * sizeof(struct btree_node *));
    node->children[slot] = child;
    if (child != NULL) {
        child->parent = node;
        node->loaded++;
    }
}

void node_children_remove(struct btree_node *node, unsigned slot)
{
    unsigned count = page_count(node->data); /* the cell is there still */

    if (node->children[slot] != NULL) {
        node->loaded--;
    }
    memmove(&node->children[slot], &node->children[slot + 1],
            (count - slot - 1) * sizeof(struct btree_node *));
    node->children[count - 1] = NULL;
}

void btree_trim(struct btree *tree)
{
    size_t steps = TRIM_STEPS; /* the hand goes on from here next time */

    while (tree->node_count * BTREE_PAGE > tree->cache_bytes && steps-- > 0) {
        struct btree_node *node = list_entry(list_first(&tree->nodes), struct btree_node, clock);

        if (node->used || node->dirty || node->writing != NULL || node->loaded > 0 ||
            node == tree->root) {
            node->used = false;
            list_remove(&node->clock);
            list_push_back(&tree->nodes, &node->clock);
            continue;
        }
        node->parent->children[node_slot(node)] = NULL;
        node->parent->loaded--;
        node_drop(tree, node);
        tree->evictions++;
    }
}
