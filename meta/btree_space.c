#include "base/assert.h"
#include "base/mem.h"
#include "meta/btree_internal.h"

#define WORD 64

static bool test(const uint64_t *bits, uint64_t block)
{
    return (bits[block / WORD] >> (block % WORD) & 1) != 0;
}

static void mark(struct btree_space *space, uint64_t block, bool used)
{
    uint64_t bit = UINT64_C(1) << (block % WORD);

    ASSERT(test(space->bits, block) != used);
    space->leaving[block / WORD] &= ~bit;
    if (used) {
        space->bits[block / WORD] |= bit;
        space->used++;
    } else {
        space->bits[block / WORD] &= ~bit;
        space->used--;
    }
}

static void grow(struct btree_space *space, uint64_t blocks)
{
    uint64_t old = (space->blocks + WORD - 1) / WORD;
    uint64_t words = (blocks + WORD - 1) / WORD;

    space->bits = mem_realloc(space->bits, words * sizeof(*space->bits));
    space->leaving = mem_realloc(space->leaving, words * sizeof(*space->leaving));
    memset(space->bits + old, 0, (words - old) * sizeof(*space->bits));
    memset(space->leaving + old, 0, (words - old) * sizeof(*space->leaving));
    space->blocks = blocks;
}

void space_init(struct btree_space *space, uint64_t blocks)
{
    *space = (struct btree_space){.next = BTREE_SUPER_BLOCKS, .lowest = BTREE_SUPER_BLOCKS};
    grow(space, round_up(max_u64(blocks, BTREE_SUPER_BLOCKS), WORD));
    for (uint64_t i = 0; i < BTREE_SUPER_BLOCKS; i++) {
        mark(space, i, true);
    }
}

void space_deinit(struct btree_space *space)
{
    mem_free(space->bits);
    mem_free(space->leaving);
    *space = (struct btree_space){0};
}

bool space_is_used(const struct btree_space *space, struct btree_run run)
{
    if (run.block >= space->blocks || run.count > space->blocks - run.block) {
        return false;
    }
    for (uint64_t i = 0; i < run.count; i++) {
        if (!test(space->bits, run.block + i) || test(space->leaving, run.block + i)) {
            return false;
        }
    }
    return true;
}

/* The first run of `count` free blocks in [from, to), or `to`. */
static uint64_t find_run(const struct btree_space *space, uint64_t from, uint64_t to,
                         uint64_t count)
{
    uint64_t length = 0;

    for (uint64_t block = from; block < to; block++) {
        if (length == 0 && block % WORD == 0 && space->bits[block / WORD] == UINT64_MAX) {
            block += WORD - 1;
            continue;
        }
        length = test(space->bits, block) ? 0 : length + 1;
        if (length == count) {
            return block + 1 - count;
        }
    }
    return to;
}

uint64_t space_allocate(struct btree_space *space, uint64_t count)
{
    uint64_t block = find_run(space, space->next, space->blocks, count);

    ASSERT(count > 0);
    if (block == space->blocks && space->lowest < space->next) {
        block = find_run(space, space->lowest, space->blocks, count);
    }
    if (block == space->blocks) {
        grow(space, space->blocks + round_up(max_u64(count, space->blocks / 8 + WORD), WORD));
    }
    for (uint64_t i = 0; i < count; i++) {
        mark(space, block + i, true);
    }
    space->next = block + count;
    if (count <= BTREE_PAGE_BLOCKS && block == space->lowest) {
        space->lowest = block + count;
    }
    return block;
}

void space_release(struct btree_space *space, struct btree_run run)
{
    for (uint64_t i = 0; i < run.count; i++) {
        mark(space, run.block + i, false);
    }
    space->lowest = min_u64(space->lowest, run.block);
    if (space->used < space->blocks / 2) {
        space->next = space->lowest; /* much is free: fill the front again */
    }
}

void runs_add(struct btree_runs *runs, struct btree_run run)
{
    if (runs->count == runs->capacity) {
        runs->capacity = runs->capacity ? runs->capacity * 2 : 64;
        runs->at = mem_realloc(runs->at, runs->capacity * sizeof(*runs->at));
    }
    runs->at[runs->count++] = run;
}

void runs_release(struct btree_runs *runs, struct btree_space *space)
{
    for (size_t i = 0; i < runs->count; i++) {
        space_release(space, runs->at[i]);
    }
    runs->count = 0;
}

void runs_deinit(struct btree_runs *runs)
{
    mem_free(runs->at);
    *runs = (struct btree_runs){0};
}

void btree_free_blocks(struct btree *tree, struct btree_run run, uint64_t epoch)
{
    if (!space_is_used(&tree->space, run)) { /* two references, or one to nowhere */
        btree_damaged(tree, run.block, "blocks are freed that are not in use");
    }
    if (epoch == tree->epoch) {
        space_release(&tree->space, run); /* no superblock has ever named them */
        return;
    }
    for (uint64_t i = 0; i < run.count; i++) {
        tree->space.leaving[(run.block + i) / WORD] |= UINT64_C(1) << ((run.block + i) % WORD);
    }
    runs_add(&tree->freed, run);
}
