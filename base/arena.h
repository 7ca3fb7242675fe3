#pragma once
/*
 * arena: memory that is taken piece by piece and dropped whole: what a request needs until it is
 * answered. Zero-initialised is empty and valid.
 *
 *     bytes = arena_copy(&arena, value);      lives until
 *     arena_reset(&arena);                    the next request
 */
#include "base/slice.h"

#define ARENA_BLOCK_BYTES KiB(16) /* kept over a reset; larger pieces get a block of their own */

struct arena_block;

struct arena {
    struct arena_block *newest;
    uint8_t *at, *end; /* what is free of it */
};

/* Aligned for any type, contents undefined. */
void *arena_alloc(struct arena *arena, size_t size) __attribute__((returns_nonnull));
struct slice arena_copy(struct arena *arena, struct slice bytes);
/* Everything taken from it is gone; a block of ARENA_BLOCK_BYTES is kept. */
void arena_reset(struct arena *arena);
void arena_deinit(struct arena *arena);
