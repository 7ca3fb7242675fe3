#pragma once
/*
 * extent_map: the part of an inode's extents that the mount knows: one covered range of the file
 * and the extents in it, sorted, with the bytes of journalled ones. What is covered and in no
 * extent is a hole. Pure.
 */
#include "meta/meta_proto.h"

struct extent_map {
    uint64_t from, to; /* covered; empty when equal */
    struct meta_extent *extents;
    size_t count;
    size_t capacity;
    size_t data_bytes; /* of journalled extents */
};

void extent_map_deinit(struct extent_map *map);
void extent_map_clear(struct extent_map *map);
/* Adds a reply's records that cover [from, to): extends the covered range, or replaces it where
 * they do not touch. 0 or -ERR_BAD_MESSAGE. */
int must_check extent_map_add(struct extent_map *map, uint64_t from, uint64_t to,
                              struct slice records);
/* Index of the first extent that ends behind `offset`. */
size_t extent_map_find(const struct extent_map *map, uint64_t offset);
