#pragma once
/*
 * kv: the view that the namespace code has of its state: ordered pairs. The B+tree is one
 * (kv_tree), a sorted array in the tests another. Slices that a call gives are good until the next
 * call.
 */
#include "base/slice.h"

struct btree;
struct kv;

struct kv_ops {
    bool (*get)(struct kv *kv, struct slice key, struct slice *out_value);
    /* The first pair at or behind `key`. */
    bool (*seek)(struct kv *kv, struct slice key, struct slice *out_key, struct slice *out_value);
    /* The last pair before `key`. */
    bool (*seek_before)(struct kv *kv, struct slice key, struct slice *out_key,
                        struct slice *out_value);
    void (*put)(struct kv *kv, struct slice key, struct slice value);
    bool (*del)(struct kv *kv, struct slice key);
};

struct kv {
    const struct kv_ops *ops;
};

struct kv_tree {
    struct kv kv;
    struct btree *tree;
};

void kv_tree_init(struct kv_tree *view, struct btree *tree);

static inline bool kv_get(struct kv *kv, struct slice key, struct slice *out_value)
{
    return kv->ops->get(kv, key, out_value);
}

static inline bool kv_seek(struct kv *kv, struct slice key, struct slice *out_key,
                           struct slice *out_value)
{
    return kv->ops->seek(kv, key, out_key, out_value);
}

static inline bool kv_seek_before(struct kv *kv, struct slice key, struct slice *out_key,
                                  struct slice *out_value)
{
    return kv->ops->seek_before(kv, key, out_key, out_value);
}

static inline void kv_put(struct kv *kv, struct slice key, struct slice value)
{
    kv->ops->put(kv, key, value);
}

static inline bool kv_del(struct kv *kv, struct slice key)
{
    return kv->ops->del(kv, key);
}
