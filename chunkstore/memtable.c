/* memtable: a skip list (Pugh 1990), a quarter of the nodes of each level rise to the next. */
#include "chunkstore/memtable.h"

#include "base/assert.h"
#include "base/mem.h"
#include "chunkstore/limits.h"

#define ARENA_BLOCK_BYTES KiB(64)

static struct memtable_node *node_new(struct memtable *memtable, unsigned height)
{
    size_t size = round_up(sizeof(struct memtable_node) + height * sizeof(void *), 16);
    struct buf *block = memtable->block_count ? &memtable->blocks[memtable->block_count - 1] : NULL;
    struct memtable_node *node;

    if (block == NULL || block->size + size > ARENA_BLOCK_BYTES) {
        memtable->blocks =
            mem_realloc(memtable->blocks, (memtable->block_count + 1) * sizeof(*memtable->blocks));
        block = &memtable->blocks[memtable->block_count++];
        *block = (struct buf){.data = mem_zalloc(ARENA_BLOCK_BYTES), .capacity = ARENA_BLOCK_BYTES};
    }
    node = (struct memtable_node *)(void *)(block->data + block->size);
    block->size += size;
    memtable->bytes += size;
    node->height = height;
    return node;
}

struct memtable *memtable_new(uint64_t seed)
{
    struct memtable *memtable = mem_zalloc(sizeof(*memtable));

    memtable->refs = 1;
    rng_init(&memtable->rng, seed);
    memtable->head = node_new(memtable, MEMTABLE_HEIGHT_MAX);
    return memtable;
}

struct memtable *memtable_ref(struct memtable *memtable)
{
    memtable->refs++;
    return memtable;
}

void memtable_unref(struct memtable *memtable)
{
    if (memtable == NULL || --memtable->refs > 0) {
        return;
    }
    for (size_t i = 0; i < memtable->block_count; i++) {
        buf_deinit(&memtable->blocks[i]);
    }
    mem_free(memtable->blocks);
    mem_free(memtable);
}

/* The last node before `key` on each level goes to `before`, which may be NULL. */
static struct memtable_node *seek(const struct memtable *memtable, const struct index_key *key,
                                  struct memtable_node **before)
{
    struct memtable_node *node = memtable->head;

    for (unsigned level = MEMTABLE_HEIGHT_MAX; level-- > 0;) {
        while (node->next[level] != NULL &&
               index_key_compare(&node->next[level]->entry.key, key) < 0) {
            node = node->next[level];
        }
        if (before != NULL) {
            before[level] = node;
        }
    }
    return node->next[0];
}

void memtable_put(struct memtable *memtable, const struct index_entry *entry)
{
    struct memtable_node *before[MEMTABLE_HEIGHT_MAX];
    struct memtable_node *node = seek(memtable, &entry->key, before);
    unsigned height = 1;

    if (node != NULL && index_key_compare(&node->entry.key, &entry->key) == 0) {
        node->entry = *entry;
        return;
    }
    while (height < MEMTABLE_HEIGHT_MAX && rng_below(&memtable->rng, 4) == 0) {
        height++;
    }
    node = node_new(memtable, height);
    node->entry = *entry;
    for (unsigned level = 0; level < height; level++) {
        node->next[level] = before[level]->next[level];
        before[level]->next[level] = node;
    }
    memtable->count++;
}

const struct index_entry *memtable_get(const struct memtable *memtable, const struct index_key *key)
{
    struct memtable_node *node = seek(memtable, key, NULL);

    return node != NULL && index_key_compare(&node->entry.key, key) == 0 ? &node->entry : NULL;
}

struct memtable_node *memtable_seek(const struct memtable *memtable, const struct index_key *key)
{
    return seek(memtable, key, NULL);
}
