#pragma once
/*
 * map: a hash table from a 128-bit key to a pointer. Open addressing, linear probing, grows at 70
 * %.
 *
 * Iteration order depends on keys and history only, never on addresses, so simulations repeat.
 * Zero-initialised is empty and valid. The map does not own what it points to.
 */
#include "base/compiler.h"

struct map_key {
    uint64_t hi;
    uint64_t lo;
};

struct map_slot {
    struct map_key key;
    void *value; /* NULL = empty */
};

struct map {
    struct map_slot *slots;
    size_t count;
    size_t capacity; /* 0 or a power of two */
};

void map_deinit(struct map *map);
/* NULL when absent. */
void *map_get(const struct map *map, struct map_key key);
/* `value` is not NULL. Returns what was there before, or NULL. */
void *map_put(struct map *map, struct map_key key, void *value);
/* Returns what was there, or NULL. */
void *map_remove(struct map *map, struct map_key key);
/* The first used slot at or after *position, which moves behind it; NULL at the end. Nothing may be
 * put or removed between two calls. */
struct map_slot *map_next(const struct map *map, size_t *position);

static inline struct map_key map_u64(uint64_t key)
{
    return (struct map_key){0, key};
}
