#include "base/map.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

static size_t home(const struct map *map, struct map_key key)
{
    return hash_mix64(key.lo ^ hash_mix64(key.hi + UINT64_C(0x9e3779b97f4a7c15))) &
           (map->capacity - 1);
}

static bool same(struct map_key a, struct map_key b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

/* The slot that holds the key, or the empty one where it would go. */
static struct map_slot *find(const struct map *map, struct map_key key)
{
    size_t i = home(map, key);

    while (map->slots[i].value != NULL && !same(map->slots[i].key, key)) {
        i = (i + 1) & (map->capacity - 1);
    }
    return &map->slots[i];
}

static void grow(struct map *map)
{
    struct map old = *map;

    map->capacity = old.capacity ? old.capacity * 2 : 16;
    map->slots = mem_zalloc(map->capacity * sizeof(*map->slots));
    for (size_t i = 0; i < old.capacity; i++) {
        if (old.slots[i].value != NULL) {
            *find(map, old.slots[i].key) = old.slots[i];
        }
    }
    mem_free(old.slots);
}

void map_deinit(struct map *map)
{
    mem_free(map->slots);
    *map = (struct map){0};
}

void *map_get(const struct map *map, struct map_key key)
{
    return map->count ? find(map, key)->value : NULL;
}

void *map_put(struct map *map, struct map_key key, void *value)
{
    struct map_slot *slot;
    void *before;

    ASSERT(value != NULL);
    if (map->count + 1 > map->capacity / 10 * 7) {
        grow(map);
    }
    slot = find(map, key);
    before = slot->value;
    map->count += before == NULL;
    *slot = (struct map_slot){key, value};
    return before;
}

/* Linear probing without tombstones: what follows the hole moves up if its home allows (Knuth,
 * 6.4, algorithm R). */
static void close_hole(struct map *map, size_t hole)
{
    size_t mask = map->capacity - 1;

    for (size_t i = (hole + 1) & mask; map->slots[i].value != NULL; i = (i + 1) & mask) {
        size_t distance = (i - home(map, map->slots[i].key)) & mask;

        if (distance >= ((i - hole) & mask)) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole].value = NULL;
}

void *map_remove(struct map *map, struct map_key key)
{
    struct map_slot *slot;
    void *before;

    if (map->count == 0) {
        return NULL;
    }
    slot = find(map, key);
    before = slot->value;
    if (before != NULL) {
        map->count--;
        close_hole(map, (size_t)(slot - map->slots));
    }
    return before;
}

struct map_slot *map_next(const struct map *map, size_t *position)
{
    while (*position < map->capacity) {
        struct map_slot *slot = &map->slots[(*position)++];

        if (slot->value != NULL) {
            return slot;
        }
    }
    return NULL;
}
