#include "meta/btree.h"
#include "meta/kv.h"

static struct btree *tree_of(struct kv *kv)
{
    return container_of(kv, struct kv_tree, kv)->tree;
}

static bool tree_get(struct kv *kv, struct slice key, struct slice *out_value)
{
    return btree_get(tree_of(kv), key, out_value);
}

static bool tree_seek(struct kv *kv, struct slice key, struct slice *out_key,
                      struct slice *out_value)
{
    return btree_seek(tree_of(kv), key, out_key, out_value);
}

static bool tree_seek_before(struct kv *kv, struct slice key, struct slice *out_key,
                             struct slice *out_value)
{
    return btree_seek_before(tree_of(kv), key, out_key, out_value);
}

static void tree_put(struct kv *kv, struct slice key, struct slice value)
{
    btree_put(tree_of(kv), key, value);
}

static bool tree_del(struct kv *kv, struct slice key)
{
    return btree_del(tree_of(kv), key);
}

static const struct kv_ops tree_ops = {.get = tree_get,
                                       .seek = tree_seek,
                                       .seek_before = tree_seek_before,
                                       .put = tree_put,
                                       .del = tree_del};

void kv_tree_init(struct kv_tree *view, struct btree *tree)
{
    *view = (struct kv_tree){.kv = {.ops = &tree_ops}, .tree = tree};
}
