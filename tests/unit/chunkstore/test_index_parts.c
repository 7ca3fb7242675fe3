/* Bloom filter, tables, manifest, choice of merges. */
#include "tests/lib/test.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "chunkstore/bloom.h"
#include "chunkstore/chunk_proto.h"
#include "chunkstore/compaction_pick.h"
#include "chunkstore/limits.h"
#include "chunkstore/manifest.h"
#include "chunkstore/memtable.h"
#include "chunkstore/sstable_format.h"

static void test_bloom(void **state)
{
    static uint8_t bits[2000];
    size_t size = bloom_bytes(1000);
    unsigned wrong = 0;

    (void)state;
    assert_true(size <= sizeof(bits));
    for (uint64_t i = 0; i < 1000; i++) {
        bloom_add(bits, size, chunk_id_hash(1, i));
    }
    for (uint64_t i = 0; i < 1000; i++) {
        assert_true(bloom_may_have(slice_make(bits, size), chunk_id_hash(1, i)));
        for (uint64_t k = 2; k < 12; k++) {
            wrong += bloom_may_have(slice_make(bits, size), chunk_id_hash(k, i));
        }
    }
    assert_true(wrong < 10000 / 50); /* expected 0.8 % */
}

static struct index_entry entry_of(uint64_t i)
{
    return (struct index_entry){.key = {(uint32_t)(i / 1000), i / 10, i},
                                .segment = 1,
                                .offset8 = (uint32_t)i,
                                .length = 5,
                                .stored_length = 5};
}

static void test_memtable_sorts(void **state)
{
    struct memtable *memtable = memtable_new(test_seed(1));
    struct index_key first = {0};
    struct memtable_node *node;
    uint64_t count = 0;

    (void)state;
    for (uint64_t i = 0; i < 5000; i++) {
        struct index_entry entry = entry_of(i * 7919 % 5000);

        memtable_put(memtable, &entry);
        memtable_put(memtable, &entry);
    }
    for (node = memtable_seek(memtable, &first); node != NULL; node = node->next[0]) {
        assert_int_equal(node->entry.offset8, count);
        count++;
    }
    assert_int_equal(count, 5000);
    memtable_unref(memtable);
}

static void build_table(struct sstable_builder *builder, uint64_t count)
{
    sstable_builder_init(builder, 42);
    for (uint64_t i = 0; i < count; i++) {
        struct index_entry entry = entry_of(i * 2);

        sstable_builder_add(builder, &entry);
    }
    sstable_builder_finish(builder);
}

static struct slice tail_of(const struct sstable_builder *builder)
{
    size_t tail = (size_t)builder->block_count * SSTABLE_BLOCK_BYTES;

    return slice_make(builder->bytes.data + tail, builder->bytes.size - tail);
}

static void test_table_finds_keys(void **state)
{
    struct sstable_builder builder;
    struct sstable table;

    (void)state;
    build_table(&builder, 3000);
    assert_int_equal(sstable_load(&table, 42, tail_of(&builder), builder.bytes.size), 0);
    for (uint64_t i = 0; i < 6000; i++) {
        struct index_entry want = entry_of(i);
        uint32_t number = sstable_block_of(&table, &want.key);
        struct slice block =
            slice_make(builder.bytes.data + number * SSTABLE_BLOCK_BYTES, SSTABLE_BLOCK_BYTES);
        int count = sstable_block_check(block);
        uint32_t at = sstable_block_seek(block, &want.key);
        bool found = false;

        assert_true(count > 0);
        if (at < (uint32_t)count) {
            struct index_entry got = sstable_block_entry(block, at);

            found = index_key_compare(&got.key, &want.key) == 0;
            assert_true(!found || got.offset8 == i);
        }
        assert_int_equal(found, i % 2 == 0);
        assert_true(!found || sstable_may_have(&table, &want.key));
    }
    sstable_deinit(&table);
    sstable_builder_deinit(&builder);
}

static void test_table_finds_every_flipped_bit(void **state)
{
    struct sstable_builder builder;
    struct sstable table;
    struct slice tail, block;

    (void)state;
    build_table(&builder, 500);
    tail = tail_of(&builder);
    block = slice_make(builder.bytes.data, SSTABLE_BLOCK_BYTES);
    for (size_t bit = 0; bit < builder.bytes.size * 8; bit += 13) {
        uint8_t *at = builder.bytes.data + bit / 8;

        *at ^= (uint8_t)(1U << bit % 8);
        if (bit / 8 < SSTABLE_BLOCK_BYTES) {
            assert_int_equal(sstable_block_check(block), -ERR_CORRUPT);
        } else if (bit / 8 >= (size_t)builder.block_count * SSTABLE_BLOCK_BYTES) {
            assert_int_equal(sstable_load(&table, 42, tail, builder.bytes.size), -ERR_CORRUPT);
        }
        *at ^= (uint8_t)(1U << bit % 8);
    }
    for (size_t size = 0; size < tail.size; size++) {
        assert_int_equal(sstable_load(&table, 42, slice_make(tail.data + tail.size - size, size),
                                      builder.bytes.size),
                         -ERR_CORRUPT);
    }
    assert_int_equal(sstable_load(&table, 43, tail, builder.bytes.size), -ERR_CORRUPT);
    sstable_builder_deinit(&builder);
}

static void test_manifest(void **state)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    struct manifest manifest = {.head = {.version = MANIFEST_VERSION,
                                         .next_table = 9,
                                         .next_segment = 5,
                                         .digests = slice_text("0123456789abcdef")}};
    struct manifest copy;

    (void)state;
    manifest_add_table(&manifest, &(struct manifest_table){3, 1, 1000});
    manifest_add_segment(&manifest, &(struct manifest_segment){4, 1, 77, 4096, 10, true});
    manifest_encode(&manifest, &bytes);
    assert_int_equal(manifest_decode(&copy, buf_slice(&bytes)), 0);
    assert_int_equal(copy.head.table_count, 1);
    assert_int_equal(copy.tables[0].id, 3);
    assert_int_equal(copy.segments[0].salt, 77);
    assert_true(slice_equal(copy.head.digests, manifest.head.digests));
    manifest_deinit(&copy);
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(manifest_decode(&copy, buf_slice(&bytes)), -ERR_CORRUPT);
        bytes.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    for (size_t size = 0; size < bytes.size; size++) {
        assert_int_equal(manifest_decode(&copy, slice_make(bytes.data, size)), -ERR_CORRUPT);
    }
    manifest_deinit(&manifest);
}

static struct sstable table_of(uint64_t id, unsigned level, uint64_t min, uint64_t max)
{
    return (struct sstable){
        .id = id, .level = level, .size = MiB(4), .min = {0, 0, min}, .max = {0, 0, max}};
}

static void test_compaction_takes_all_that_overlaps(void **state)
{
    struct sstable zero[4], one[3];
    struct sstable *zero_list[4], *one_list[3];
    struct level levels[LSM_LEVELS] = {0};
    struct compaction compaction;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        zero[i] = table_of(10 + i, 0, 100, 200 + i);
        zero_list[i] = &zero[i];
    }
    for (unsigned i = 0; i < 3; i++) {
        one[i] = table_of(1 + i, 1, i * 150, i * 150 + 149);
        one_list[i] = &one[i];
    }
    levels[0] = (struct level){zero_list, 3, MiB(12)};
    levels[1] = (struct level){one_list, 3, MiB(12)};
    assert_false(compaction_pick(&compaction, levels));
    levels[0].count = 4;
    assert_true(compaction_pick(&compaction, levels));
    assert_int_equal(compaction.from_level, 0);
    assert_int_equal(compaction.input_count, 6); /* newest first, then what overlaps below */
    assert_ptr_equal(compaction.inputs[0], &zero[3]);
    assert_ptr_equal(compaction.inputs[4], &one[0]);
    assert_ptr_equal(compaction.inputs[5], &one[1]);
    assert_true(compaction.drop_deleted);
    compaction_deinit(&compaction);
    levels[0].count = 0;
    levels[1].bytes = LSM_L1_BYTES * 2;
    levels[2] = (struct level){one_list, 1, MiB(4)};
    levels[3] = (struct level){one_list, 1, MiB(4)};
    assert_true(compaction_pick(&compaction, levels));
    assert_int_equal(compaction.from_level, 1);
    assert_false(compaction.drop_deleted); /* level 3 may hold what a tombstone hides */
    compaction_deinit(&compaction);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bloom),
        cmocka_unit_test(test_memtable_sorts),
        cmocka_unit_test(test_table_finds_keys),
        cmocka_unit_test(test_table_finds_every_flipped_bit),
        cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_compaction_takes_all_that_overlaps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
