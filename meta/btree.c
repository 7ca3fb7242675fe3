#include "meta/btree.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "meta/btree_internal.h"

/* Fixed, so that replicas agree; the sum need not resist an attacker, only differ. */
#define STATE_KEY_0 UINT64_C(0x6b65656c66732d73)
#define STATE_KEY_1 UINT64_C(0x746174652d686173)
#define PAGE_SMALL  (PAGE_CAPACITY / 4) /* below: look for a neighbour to join */

uint64_t btree_pair_hash(struct slice key, struct slice value)
{
    struct hash_key by_key = {hash_bytes((struct hash_key){STATE_KEY_0, STATE_KEY_1}, key),
                              STATE_KEY_1};

    return hash_bytes(by_key, value);
}

/* The finger's leaf if the key lies between its first and last key, so must be there. */
static struct btree_node *try_finger(struct btree *tree, struct slice key)
{
    struct btree_node *leaf = tree->finger;
    unsigned count = leaf != NULL ? page_count(leaf->data) : 0;

    if (count == 0 || slice_compare(key, page_key(leaf->data, 0)) < 0 ||
        slice_compare(key, page_key(leaf->data, count - 1)) > 0) {
        return NULL;
    }
    leaf->used = true;
    return leaf;
}

static struct btree_node *find_leaf(struct btree *tree, struct slice key)
{
    struct btree_node *node = try_finger(tree, key);

    if (node != NULL) {
        return node;
    }
    node = tree->root;
    while (page_level(node->data) > 0) {
        node = node_child(tree, node, page_find_child(node->data, key));
    }
    tree->finger = node;
    return node;
}

static struct slice read_value(struct btree *tree, const struct btree_node *leaf, unsigned i)
{
    struct slice value = page_value(leaf->data, i);

    return page_overflows(leaf->data, i) ? overflow_get(tree, value) : value;
}

bool btree_get(struct btree *tree, struct slice key, struct slice *out_value)
{
    struct btree_node *leaf = find_leaf(tree, key);
    bool exact;
    unsigned i = page_find(leaf->data, key, &exact);

    if (exact) {
        *out_value = read_value(tree, leaf, i);
    }
    return exact;
}

/* The leaf behind this one, or NULL. */
static struct btree_node *next_leaf(struct btree *tree, struct btree_node *node)
{
    while (node->parent != NULL) {
        unsigned slot = node_slot(node) + 1;

        if (slot < page_count(node->parent->data)) {
            node = node_child(tree, node->parent, slot);
            while (page_level(node->data) > 0) {
                node = node_child(tree, node, 0);
            }
            return node;
        }
        node = node->parent;
    }
    return NULL;
}

bool btree_seek(struct btree *tree, struct slice key, struct slice *out_key,
                struct slice *out_value)
{
    struct btree_node *leaf = find_leaf(tree, key);
    bool exact;
    unsigned i = page_find(leaf->data, key, &exact);

    while (i == page_count(leaf->data)) {
        leaf = next_leaf(tree, leaf);
        if (leaf == NULL) {
            return false;
        }
        tree->finger = leaf;
        i = 0;
    }
    *out_key = page_key(leaf->data, i);
    *out_value = read_value(tree, leaf, i);
    return true;
}

/* The leaf before this one, or NULL. */
static struct btree_node *previous_leaf(struct btree *tree, struct btree_node *node)
{
    while (node->parent != NULL) {
        unsigned slot = node_slot(node);

        if (slot > 0) {
            node = node_child(tree, node->parent, slot - 1);
            while (page_level(node->data) > 0) {
                node = node_child(tree, node, page_count(node->data) - 1);
            }
            return node;
        }
        node = node->parent;
    }
    return NULL;
}

bool btree_seek_before(struct btree *tree, struct slice key, struct slice *out_key,
                       struct slice *out_value)
{
    struct btree_node *leaf = find_leaf(tree, key);
    bool exact;
    unsigned i = page_find(leaf->data, key, &exact);

    while (i == 0) {
        leaf = previous_leaf(tree, leaf);
        if (leaf == NULL) {
            return false;
        }
        i = page_count(leaf->data);
    }
    *out_key = page_key(leaf->data, i - 1);
    *out_value = read_value(tree, leaf, i - 1);
    return true;
}

/* The root gets a parent of its own. */
static struct btree_node *grow_root(struct btree *tree)
{
    struct btree_node *old = tree->root;
    struct btree_node *root = node_new(tree, page_level(old->data) + 1);
    uint8_t ref[CHILD_REF];
    bool done;

    ASSERT(page_level(root->data) < BTREE_DEPTH_MAX);
    root->block = space_allocate(&tree->space, BTREE_PAGE_BLOCKS);
    root->epoch = tree->epoch;
    root->dirty = true;
    tree->dirty_count++;
    ref_encode((struct btree_ref){old->block, 0}, ref);
    done = page_insert(root->data, 0, slice_make(NULL, 0), slice_make(ref, sizeof(ref)), false);
    ASSERT(done);
    node_children_insert(root, 0, old);
    tree->root = root;
    return root;
}

/* Moves the cells from `first` on to a new node to the right, which is in no parent yet. */
static struct btree_node *split(struct btree *tree, struct btree_node *node, unsigned first)
{
    struct btree_node *right = node_new(tree, page_level(node->data));
    unsigned count = page_count(node->data);

    right->block = space_allocate(&tree->space, BTREE_PAGE_BLOCKS);
    right->epoch = tree->epoch;
    right->dirty = true;
    tree->dirty_count++;
    page_move_tail(node->data, first, right->data);
    for (unsigned i = first; node->children != NULL && i < count; i++) {
        struct btree_node *child = node->children[i];

        right->children[i - first] = child;
        node->children[i] = NULL;
        if (child != NULL) {
            child->parent = right;
            node->loaded--;
            right->loaded++;
        }
    }
    return right;
}

struct insertion {
    struct slice key;
    struct slice value;
    bool overflow;
    struct btree_node *child;
};

static bool insert_here(struct btree_node *node, unsigned i, const struct insertion *what)
{
    if (!page_insert(node->data, i, what->key, what->value, what->overflow)) {
        return false;
    }
    if (node->children != NULL) {
        node_children_insert(node, i, what->child);
    }
    return true;
}

/* Inserts at slot i of a writable node, splitting upwards as far as needed. */
static void insert(struct btree *tree, struct btree_node *node, unsigned i, struct insertion what)
{
    uint8_t key[BTREE_KEY_MAX];
    uint8_t ref[CHILD_REF];

    while (!insert_here(node, i, &what)) {
        struct btree_node *parent = node->parent != NULL ? node->parent : grow_root(tree);
        unsigned count = page_count(node->data);
        unsigned first = i == count ? count : page_split_point(node->data);
        struct btree_node *right = split(tree, node, first);
        bool done = i < first ? insert_here(node, i, &what) : insert_here(right, i - first, &what);
        struct slice low;

        ASSERT(done);
        i = node_slot(node) + 1;
        low = page_key(right->data, 0);
        memcpy(key, low.data, low.size);
        ref_encode((struct btree_ref){right->block, 0}, ref);
        what = (struct insertion){.key = slice_make(key, low.size),
                                  .value = slice_make(ref, sizeof(ref)),
                                  .child = right};
        node = parent;
    }
}

void btree_put(struct btree *tree, struct slice key, struct slice value)
{
    struct btree_node *leaf = find_leaf(tree, key);
    struct insertion what = {.key = key, .value = value};
    uint8_t ref[OVERFLOW_REF];
    bool exact;
    unsigned i = page_find(leaf->data, key, &exact);

    ASSERT(!tree->read_only && key.size <= BTREE_KEY_MAX && value.size <= BTREE_VALUE_MAX);
    node_make_path_writable(tree, leaf);
    tree->hash += btree_pair_hash(key, value);
    tree->pairs++;
    if (value.size > BTREE_VALUE_INLINE) {
        overflow_put(tree, value, ref);
        what.value = slice_make(ref, sizeof(ref));
        what.overflow = true;
    }
    if (exact) {
        tree->hash -= btree_pair_hash(key, read_value(tree, leaf, i));
        tree->pairs--;
        if (page_overflows(leaf->data, i)) {
            overflow_free(tree, page_value(leaf->data, i));
        } else if (!what.overflow && page_value(leaf->data, i).size == what.value.size) {
            page_set_value(leaf->data, i, what.value);
            return;
        }
        page_remove(leaf->data, i);
    }
    insert(tree, leaf, i, what);
}

/* Joins `right`, in slot `slot` of their parent, to its left neighbour, if both fit one page. */
static bool join(struct btree *tree, struct btree_node *left, struct btree_node *right,
                 unsigned slot)
{
    struct btree_node *parent = right->parent;
    unsigned at = page_count(left->data);
    size_t extra = 0;

    if (right->children != NULL) {
        extra = page_key(parent->data, slot).size; /* replaces the key of its slot 0 */
    }
    if (page_used(left->data) + page_used(right->data) + extra > PAGE_CAPACITY) {
        return false;
    }
    node_make_writable(tree, left);
    node_make_writable(tree, right); /* its bytes move */
    if (right->children == NULL) {
        page_move_tail(right->data, 0, left->data);
    } else {
        bool done = page_insert(left->data, at, page_key(parent->data, slot),
                                page_value(right->data, 0), false);

        ASSERT(done);
        page_remove(right->data, 0);
        page_move_tail(right->data, 0, left->data);
        for (unsigned i = 0; at + i < page_count(left->data); i++) {
            struct btree_node *child = right->children[i];

            left->children[at + i] = child;
            if (child != NULL) {
                child->parent = left;
                left->loaded++;
                right->loaded--;
            }
        }
    }
    btree_free_blocks(tree, (struct btree_run){right->block, BTREE_PAGE_BLOCKS}, right->epoch);
    node_children_remove(parent, slot);
    page_remove(parent->data, slot);
    node_drop(tree, right);
    return true;
}

/* After a removal: joins small nodes to neighbours, upwards; drops a root with one child. */
static void shrink(struct btree *tree, struct btree_node *node)
{
    while (node->parent != NULL && page_used(node->data) < PAGE_SMALL) {
        struct btree_node *parent = node->parent;
        unsigned slot = node_slot(node);
        struct btree_node *right;

        if (slot > 0 && join(tree, node_child(tree, parent, slot - 1), node, slot)) {
            node = parent;
            continue;
        }
        if (slot + 1 == page_count(parent->data)) {
            break;
        }
        right = node_child(tree, parent, slot + 1);
        if (!join(tree, node, right, slot + 1)) {
            break;
        }
        node = parent;
    }
    while (page_level(tree->root->data) > 0 && page_count(tree->root->data) == 1) {
        struct btree_node *old = tree->root;
        struct btree_node *child = node_child(tree, old, 0);

        node_make_writable(tree, child); /* so that the superblock gets a fresh checksum */
        child->parent = NULL;
        tree->root = child;
        old->loaded--;
        btree_free_blocks(tree, (struct btree_run){old->block, BTREE_PAGE_BLOCKS}, old->epoch);
        node_drop(tree, old);
    }
}

bool btree_del(struct btree *tree, struct slice key)
{
    struct btree_node *leaf = find_leaf(tree, key);
    bool exact;
    unsigned i = page_find(leaf->data, key, &exact);

    if (!exact) {
        return false;
    }
    tree->hash -= btree_pair_hash(key, read_value(tree, leaf, i));
    tree->pairs--;
    node_make_path_writable(tree, leaf);
    if (page_overflows(leaf->data, i)) {
        overflow_free(tree, page_value(leaf->data, i));
    }
    page_remove(leaf->data, i);
    shrink(tree, leaf);
    return true;
}

void btree_set_applied(struct btree *tree, uint64_t index, uint64_t term)
{
    tree->applied_index = index;
    tree->applied_term = term;
}

size_t btree_dirty_bytes(const struct btree *tree)
{
    return tree->dirty_count * BTREE_PAGE + tree->overflow_bytes;
}

/* Checks one node, and the keys of it against the bounds that its parent gives. */
static uint64_t check_node(struct btree *tree, struct btree_node *node)
{
    unsigned count = page_count(node->data);
    unsigned slot = node->parent != NULL ? node_slot(node) : 0;
    unsigned loaded = 0;

    ASSERT(page_check(node->data) == 0);
    ASSERT(tree->read_only ||
           space_is_used(&tree->space, (struct btree_run){node->block, BTREE_PAGE_BLOCKS}));
    ASSERT(!node->dirty ||
           (node->epoch == tree->epoch && (node->parent == NULL || node->parent->dirty)));
    if (node->parent != NULL) {
        ASSERT(node_ref(node->parent, slot).block == node->block);
        ASSERT(page_level(node->parent->data) == page_level(node->data) + 1);
    }
    if (node->children == NULL && node->parent != NULL && count > 0) {
        ASSERT(slot == 0 ||
               slice_compare(page_key(node->parent->data, slot), page_key(node->data, 0)) <= 0);
        ASSERT(slot + 1 == page_count(node->parent->data) ||
               slice_compare(page_key(node->data, count - 1),
                             page_key(node->parent->data, slot + 1)) < 0);
    }
    for (unsigned i = 0; node->children != NULL && i < count; i++) {
        loaded += node->children[i] != NULL;
    }
    ASSERT(loaded == node->loaded);
    return node->children == NULL ? count : 0;
}

void btree_check(struct btree *tree)
{
    struct btree_node *node = tree->root;
    uint64_t pairs = 0;

    while (node != NULL) {
        pairs += check_node(tree, node);
        if (page_level(node->data) > 0) {
            node = node_child(tree, node, 0);
            continue;
        }
        while (node->parent != NULL && node_slot(node) + 1 == page_count(node->parent->data)) {
            node = node->parent;
        }
        node = node->parent != NULL ? node_child(tree, node->parent, node_slot(node) + 1) : NULL;
    }
    ASSERT(pairs == tree->pairs);
}
