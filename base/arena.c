#include "base/arena.h"

#include "base/mem.h"

/* With the address sanitizer nothing is kept, so that it sees who looks at what was dropped. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEPS_A_BLOCK false
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define KEEPS_A_BLOCK false
#endif
#ifndef KEEPS_A_BLOCK
#define KEEPS_A_BLOCK true
#endif

struct arena_block {
    struct arena_block *older;
    size_t size; /* of bytes */
    _Alignas(max_align_t) uint8_t bytes[];
};

static void add_block(struct arena *arena, size_t size)
{
    struct arena_block *block = mem_alloc(sizeof(*block) + size);

    block->older = arena->newest;
    block->size = size;
    arena->newest = block;
    arena->at = block->bytes;
    arena->end = block->bytes + size;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    void *at;

    size = round_up(size, _Alignof(max_align_t));
    if (arena->newest == NULL || size > (size_t)(arena->end - arena->at)) {
        add_block(arena, max_u64(size, ARENA_BLOCK_BYTES));
    }
    at = arena->at;
    arena->at += size;
    return at;
}

struct slice arena_copy(struct arena *arena, struct slice bytes)
{
    void *at = arena_alloc(arena, bytes.size);

    if (bytes.size > 0) {
        memcpy(at, bytes.data, bytes.size);
    }
    return slice_make(at, bytes.size);
}

/* Frees all blocks, but for the oldest if it is an ordinary one and `keep`. */
static void drop_blocks(struct arena *arena, bool keep)
{
    struct arena_block *block = arena->newest;

    *arena = (struct arena){0};
    while (block != NULL) {
        struct arena_block *older = block->older;

        if (keep && older == NULL && block->size == ARENA_BLOCK_BYTES) {
            arena->newest = block;
            arena->at = block->bytes;
            arena->end = block->bytes + block->size;
            return;
        }
        mem_free(block);
        block = older;
    }
}

void arena_reset(struct arena *arena)
{
    drop_blocks(arena, KEEPS_A_BLOCK);
}

void arena_deinit(struct arena *arena)
{
    drop_blocks(arena, /* keep= */ false);
}
