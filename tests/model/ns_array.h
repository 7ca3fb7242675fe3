#pragma once
/* ns_array: a kv view on a sorted array, for tests of the namespace without a tree. */
#include "base/buf.h"
#include "base/mem.h"
#include "meta/kv.h"

struct array_pair {
    struct buf key;
    struct buf value;
};

struct kv_array {
    struct kv kv;
    struct array_pair *pairs;
    size_t count, capacity;
};

static inline size_t array_find(const struct kv_array *array, struct slice key, bool *out_exact)
{
    size_t low = 0;
    size_t high = array->count;

    *out_exact = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int r = slice_compare(buf_slice(&array->pairs[middle].key), key);

        if (r == 0) {
            *out_exact = true;
            return middle;
        }
        if (r < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static inline struct kv_array *array_of(struct kv *kv)
{
    return container_of(kv, struct kv_array, kv);
}

static inline bool array_get(struct kv *kv, struct slice key, struct slice *out_value)
{
    bool exact;
    size_t i = array_find(array_of(kv), key, &exact);

    if (exact) {
        *out_value = buf_slice(&array_of(kv)->pairs[i].value);
    }
    return exact;
}

static inline bool array_at(struct kv_array *array, size_t i, struct slice *out_key,
                            struct slice *out_value)
{
    if (i >= array->count) {
        return false;
    }
    *out_key = buf_slice(&array->pairs[i].key);
    *out_value = buf_slice(&array->pairs[i].value);
    return true;
}

static inline bool array_seek(struct kv *kv, struct slice key, struct slice *out_key,
                              struct slice *out_value)
{
    bool exact;

    return array_at(array_of(kv), array_find(array_of(kv), key, &exact), out_key, out_value);
}

static inline bool array_seek_before(struct kv *kv, struct slice key, struct slice *out_key,
                                     struct slice *out_value)
{
    bool exact;
    size_t i = array_find(array_of(kv), key, &exact);

    return i > 0 && array_at(array_of(kv), i - 1, out_key, out_value);
}

static inline void array_put(struct kv *kv, struct slice key, struct slice value)
{
    struct kv_array *array = array_of(kv);
    bool exact;
    size_t i = array_find(array, key, &exact);

    if (!exact) {
        if (array->count == array->capacity) {
            array->capacity = array->capacity ? array->capacity * 2 : 64;
            array->pairs = mem_realloc(array->pairs, array->capacity * sizeof(*array->pairs));
        }
        memmove(&array->pairs[i + 1], &array->pairs[i], (array->count - i) * sizeof(*array->pairs));
        array->pairs[i] = (struct array_pair){0};
        buf_append_slice(&array->pairs[i].key, key);
        array->count++;
    }
    buf_clear(&array->pairs[i].value);
    buf_append_slice(&array->pairs[i].value, value);
}

static inline bool array_del(struct kv *kv, struct slice key)
{
    struct kv_array *array = array_of(kv);
    bool exact;
    size_t i = array_find(array, key, &exact);

    if (exact) {
        buf_deinit(&array->pairs[i].key);
        buf_deinit(&array->pairs[i].value);
        memmove(&array->pairs[i], &array->pairs[i + 1],
                (array->count - i - 1) * sizeof(*array->pairs));
        array->count--;
    }
    return exact;
}

static const struct kv_ops array_ops = {.get = array_get,
                                        .seek = array_seek,
                                        .seek_before = array_seek_before,
                                        .put = array_put,
                                        .del = array_del};

static inline void kv_array_init(struct kv_array *array)
{
    *array = (struct kv_array){.kv = {.ops = &array_ops}};
}

static inline void kv_array_deinit(struct kv_array *array)
{
    for (size_t i = 0; i < array->count; i++) {
        buf_deinit(&array->pairs[i].key);
        buf_deinit(&array->pairs[i].value);
    }
    mem_free(array->pairs);
}
