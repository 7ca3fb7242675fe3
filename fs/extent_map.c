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

/* Only its bytes behind `from` are news. */
static void trim_front(struct meta_extent *extent, uint64_t from)
{
    uint32_t skip = (uint32_t)(from - extent->offset);

    extent->offset = from;
    extent->length -= skip;
    if (extent->data.size != 0) {
        extent->data = slice_make(extent->data.data + skip, extent->length);
    } else {
        extent->chunk_offset += skip;
    }
}

/* An earlier reply's last extent may reach over its border, where it is what the file was then. */
static void trim_back(struct extent_map *map, uint64_t to)
{
    struct meta_extent *last;

    if (map->count == 0) {
        return;
    }
    last = &map->extents[map->count - 1];
    if (last->offset + last->length > to) {
        last->length = (uint32_t)(to - last->offset);
        last->data.size = min_u64(last->data.size, last->length);
    }
}

/* Does `next` go on where `last` ends, in the file and in the chunk? */
static bool goes_on(const struct meta_extent *last, const struct meta_extent *next)
{
    return last->offset + last->length == next->offset &&
           last->chunk_session == next->chunk_session && last->chunk_seq == next->chunk_seq &&
           (uint64_t)last->chunk_offset + last->length == next->chunk_offset &&
           last->flags == next->flags && last->data.size == 0 && next->data.size == 0;
}

/* The first extent of a reply may reach back over the border `from` of two replies, and further
 * than before when extents were joined in between (SETTLE): the contents are the same. */
static int append(struct extent_map *map, struct slice record, uint64_t from)
{
    struct meta_extent *last = map->count > 0 ? &map->extents[map->count - 1] : NULL;
    struct meta_extent extent;
    uint64_t end;

    if (meta_extent_decode(&extent, record) < 0 || extent.length == 0 ||
        __builtin_add_overflow(extent.offset, extent.length, &end) ||
        (extent.data.size != 0 && extent.data.size != extent.length) || end <= from) {
        return -ERR_BAD_MESSAGE;
    }
    if (extent.offset < from) {
        trim_front(&extent, from);
    }
    if (last != NULL && extent.offset < last->offset + last->length) {
        return -ERR_BAD_MESSAGE;
    }
    if (last != NULL && goes_on(last, &extent)) {
        last->length += extent.length;
        return 0;
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
    struct schema_reader reader = schema_reader_make(records);

    if (from != map->to || map->from == map->to || map->count > FS_EXTENTS_CACHED_MAX) {
        extent_map_clear(map);
        map->from = from;
    }
    trim_back(map, from);
    while (reader.at != reader.end) {
        struct slice record = schema_read_bytes(&reader, META_BODY_MAX);
        int r = reader.failed ? -ERR_BAD_MESSAGE : append(map, record, from);

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
