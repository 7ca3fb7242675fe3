#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "meta/btree_internal.h"

#include <inttypes.h>

static uint64_t block_count(size_t size)
{
    return (size + BTREE_BLOCK - 1) / BTREE_BLOCK;
}

void overflow_put(struct btree *tree, struct slice value, uint8_t out_ref[OVERFLOW_REF])
{
    struct btree_overflow *overflow = mem_zalloc(sizeof(*overflow));

    ASSERT(value.size > BTREE_VALUE_INLINE && value.size <= BTREE_VALUE_MAX);
    overflow->block = space_allocate(&tree->space, block_count(value.size));
    overflow->epoch = tree->epoch;
    buf_append_slice(&overflow->bytes, value);
    map_put(&tree->overflows, map_u64(overflow->block), overflow);
    tree->overflow_bytes += value.size;
    bytes_put_le64(out_ref, overflow->block);
    bytes_put_le32(out_ref + 8, (uint32_t)value.size);
    bytes_put_le32(out_ref + 12, crc32c(0, value));
}

struct slice overflow_get(struct btree *tree, struct slice ref)
{
    uint64_t block = bytes_get_le64(ref.data);
    uint32_t size = bytes_get_le32(ref.data + 8);
    struct btree_overflow *overflow = map_get(&tree->overflows, map_u64(block));

    if (overflow != NULL) {
        return buf_slice(&overflow->bytes);
    }
    if (size > BTREE_VALUE_MAX) {
        btree_damaged(tree, block, "overflow reference is damaged");
    }
    buf_clear(&tree->value);
    btree_read(tree, block, buf_reserve(&tree->value, size), size);
    tree->value.size = size;
    if (crc32c(0, buf_slice(&tree->value)) != bytes_get_le32(ref.data + 12)) {
        btree_damaged(tree, block, "large value is damaged");
    }
    tree->faults++;
    return buf_slice(&tree->value);
}

void overflow_delete(struct btree *tree, struct btree_overflow *overflow)
{
    struct btree_overflow *there = map_get(&tree->overflows, map_u64(overflow->block));

    if (there == overflow) {
        map_remove(&tree->overflows, map_u64(overflow->block));
        tree->overflow_bytes -= overflow->bytes.size;
    }
    buf_deinit(&overflow->bytes);
    mem_free(overflow);
}

void overflow_free(struct btree *tree, struct slice ref)
{
    uint64_t block = bytes_get_le64(ref.data);
    struct btree_run run = {block, block_count(bytes_get_le32(ref.data + 8))};
    struct btree_overflow *overflow = map_get(&tree->overflows, map_u64(block));
    uint64_t epoch = 0;

    if (overflow != NULL) {
        epoch = overflow->epoch;
        if (overflow->writing) {
            overflow->dead = true; /* the checkpoint drops it */
        } else {
            overflow_delete(tree, overflow);
        }
    }
    btree_free_blocks(tree, run, epoch);
}
