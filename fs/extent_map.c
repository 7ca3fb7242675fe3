#include "fs/extent_map.h"

#include "base/mem.h"
#include "fs/limits.h"

/* The bytes of journalled extents are ours. */
static void free_data(struct extent_map *map)
{
    for (size_t i = 0; i < map->count; i++) {
        mem_free((void *)(uintptr_t)map->extents[i].data.data);
    }
    map->data_bytes = 0;
}

void extent_map_clear(struct extent_map *map)
{
    free_data(map);
    map->from = map->to = 0;
    map->count = 0;
}

void extent_map_deinit(struct extent_map *map)
{
    free_data(map);
    mem_free(map->extents);
    *map = (struct extent_map){0};
}

static struct slice copy_data(struct extent_map *map, struct slice data)
{
    uint8_t *copy;

    if (data.size == 0) {
        return (struct slice){0};
    }
    copy = mem_alloc(data.size);
    memcpy(copy, data.data, data.size);
    map->data_bytes += data.size;
    return slice_make(copy, data.size);
}

static int append(struct extent_map *map, struct slice record)
{
    struct meta_extent extent;
    uint64_t end;

    if (meta_extent_decode(&extent, record) < 0 || extent.length == 0 ||
        __builtin_add_overflow(extent.offset, extent.length, &end) ||
        (extent.data.size != 0 && extent.data.size != extent.length)) {
        return -ERR_BAD_MESSAGE;
    }
    if (map->count > 0) {
        const struct meta_extent *last = &map->extents[map->count - 1];

        if (extent.offset == last->offset) {
            return 0; /* it reached over the border of two replies */
        }
        if (extent.offset < last->offset + last->length) {
            return -ERR_BAD_MESSAGE;
        }
    }
    if (map->count == map->capacity) {
        map->capacity = map->capacity ? map->capacity * 2 : 8;
        map->extents = mem_realloc(map->extents, map->capacity * sizeof(*map->extents));
    }
    extent.data = copy_data(map, extent.data);
    map->extents[map->count++] = extent;
    return 0;
}

int extent_map_add(struct extent_map *map, uint64_t from, uint64_t to, struct slice records)
{
    struct schema_reader reader = {records.data, records.data + records.size, false};

    if (from != map->to || map->from == map->to || map->count > FS_EXTENTS_CACHED_MAX) {
        extent_map_clear(map);
        map->from = from;
    }
    while (reader.at != reader.end) {
        struct slice record = schema_read_bytes(&reader, META_BODY_MAX);
        int r = reader.failed ? -ERR_BAD_MESSAGE : append(map, record);

        if (r < 0) {
            extent_map_clear(map);
            return r;
        }
    }
    map->to = to;
    return 0;
}

size_t extent_map_find(const struct extent_map *map, uint64_t offset)
{
    size_t low = 0, high = map->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (map->extents[middle].offset + map->extents[middle].length > offset) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}
