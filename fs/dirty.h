#pragma once
/*
 * dirty: written bytes of one inode that are not committed yet: pieces sorted by offset that never
 * overlap. Pure. Sequential writes grow the last piece; a write inside a piece is made in place.
 */
#include "base/slice.h"

struct dirty_piece {
    uint64_t offset; /* in the file */
    uint32_t length;
    uint32_t start;    /* trimmed bytes at the front of data */
    uint32_t capacity; /* of data */
    uint64_t stamp;    /* of the oldest write in it */
    bool floats;       /* appended: it lies where the file is thought to end */
    uint8_t *data;
};

struct dirty {
    struct dirty_piece **pieces;
    size_t count;
    size_t floating; /* of them */
    size_t capacity;
    uint64_t bytes; /* allocated by pieces */
    uint64_t stamp; /* of writes from now on: the owner lets it rise */
};

void dirty_deinit(struct dirty *dirty);
void dirty_write(struct dirty *dirty, uint64_t offset, struct slice bytes);
/* The same, floating; nothing dirty lies behind `offset`. What is written over it later floats with
 * it. */
void dirty_append(struct dirty *dirty, uint64_t offset, struct slice bytes);
/* Drops everything at and behind `size`. */
void dirty_truncate(struct dirty *dirty, uint64_t size);
/* Copies what is dirty in [offset, offset + size) over `out`. */
void dirty_overlay(const struct dirty *dirty, uint64_t offset, uint8_t *out, size_t size);
bool dirty_covers(const struct dirty *dirty, uint64_t offset, uint64_t size);
/* The oldest stamp of what is dirty; UINT64_MAX when empty. */
uint64_t dirty_oldest(const struct dirty *dirty);
/* The end of the last piece; 0 when empty. */
uint64_t dirty_end(const struct dirty *dirty);
/* Where the first begins that floats; UINT64_MAX when none does. */
uint64_t dirty_float_offset(const struct dirty *dirty);
/* Where the pieces in front of those that float end; 0: there are none. */
uint64_t dirty_plain_end(const struct dirty *dirty);
/* The file ends at `end`: what floats goes behind that and all else, in its order, unless it begins
 * there: then all lies as it was thought to. Returns whether anything has moved. */
bool dirty_place(struct dirty *dirty, uint64_t end);
/* Moves the first pieces, at most so many and (but for the first) so many bytes, to `taken`, empty.
 */
void dirty_take(struct dirty *dirty, size_t pieces_max, uint64_t bytes_max, struct dirty *taken);

static inline uint8_t *dirty_piece_data(const struct dirty_piece *piece)
{
    return piece->data + piece->start;
}
