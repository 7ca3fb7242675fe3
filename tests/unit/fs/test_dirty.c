#include "tests/lib/test.h"

#include "base/rng.h"
#include "fs/dirty.h"

#define FILE_MAX 20000

/* A naive file beside it: which bytes are dirty, and what they are. */
struct model {
    uint8_t bytes[FILE_MAX];
    bool dirty[FILE_MAX];
};

static void check_same(const struct dirty *dirty, const struct model *model)
{
    static uint8_t out[FILE_MAX];
    uint64_t end = 0, allocated = 0;

    memset(out, 0, sizeof(out));
    dirty_overlay(dirty, 0, out, FILE_MAX);
    for (size_t i = 0; i < FILE_MAX; i++) {
        assert_int_equal(out[i], model->dirty[i] ? model->bytes[i] : 0);
        end = model->dirty[i] ? i + 1 : end;
    }
    assert_int_equal(dirty_end(dirty), end);
    for (size_t i = 0; i < dirty->count; i++) {
        allocated += dirty->pieces[i]->capacity;
        assert_true(dirty->pieces[i]->length > 0);
        assert_true(i == 0 || dirty->pieces[i - 1]->offset + dirty->pieces[i - 1]->length <=
                                  dirty->pieces[i]->offset);
    }
    assert_int_equal(dirty->bytes, allocated);
}

static void write_both(struct dirty *dirty, struct model *model, struct rng *rng)
{
    uint8_t data[3000];
    size_t size = 1 + rng_below(rng, rng_percent(rng, 20) ? 3000 : 60);
    size_t offset = rng_below(rng, FILE_MAX - size);

    if (rng_percent(rng, 40) && dirty_end(dirty) + size < FILE_MAX) {
        offset = dirty_end(dirty); /* appends grow a piece */
    }
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(1 + rng_below(rng, 255));
        model->bytes[offset + i] = data[i];
        model->dirty[offset + i] = true;
    }
    dirty_write(dirty, offset, slice_make(data, size));
}

static void test_equals_a_naive_file(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, test_seed(7));
    for (unsigned round = 0; round < 40; round++) {
        static struct model model;
        struct dirty dirty = {0};

        memset(&model, 0, sizeof(model));
        for (unsigned i = 0; i < 60; i++) {
            if (rng_percent(&rng, 10)) {
                uint64_t size = rng_below(&rng, FILE_MAX);

                dirty_truncate(&dirty, size);
                memset(model.dirty + size, 0, FILE_MAX - size);
            } else {
                write_both(&dirty, &model, &rng);
            }
            check_same(&dirty, &model);
        }
        dirty_deinit(&dirty);
    }
}

static void test_take_leaves_the_rest(void **state)
{
    struct dirty dirty = {0}, taken = {0};

    (void)state;
    for (uint64_t i = 0; i < 10; i++) {
        dirty_write(&dirty, i * 100, slice_text("0123456789"));
    }
    dirty_take(&dirty, 4, UINT64_MAX, &taken);
    assert_int_equal(taken.count, 4);
    assert_int_equal(dirty.count, 6);
    assert_int_equal(dirty.pieces[0]->offset, 400);
    assert_int_equal(dirty_end(&taken), 310);
    dirty_deinit(&taken);
    dirty_take(&dirty, 100, 25, &taken);
    assert_int_equal(taken.count, 2); /* 10 + 10 bytes fit 25, 30 do not */
    dirty_deinit(&taken);
    dirty_deinit(&dirty);
    assert_int_equal(dirty.bytes, 0);
}

static void test_covers(void **state)
{
    struct dirty dirty = {0};

    (void)state;
    dirty_write(&dirty, 100, slice_text("0123456789"));
    dirty_write(&dirty, 200, slice_text("0123456789"));
    assert_true(dirty_covers(&dirty, 100, 10));
    assert_true(dirty_covers(&dirty, 103, 4));
    assert_false(dirty_covers(&dirty, 103, 8));
    assert_false(dirty_covers(&dirty, 100, 110));
    dirty_write(&dirty, 110,
                slice_make("0123456789012345678901234567890123456789"
                           "01234567890123456789012345678901234567890123456789",
                           90));
    assert_true(dirty_covers(&dirty, 100, 110));
    dirty_deinit(&dirty);
}

static void test_oldest_stamp(void **state)
{
    struct dirty dirty = {0}, taken = {0};

    (void)state;
    assert_true(dirty_oldest(&dirty) == UINT64_MAX);
    dirty.stamp = 1;
    dirty_write(&dirty, 100, slice_text("0123456789"));
    dirty.stamp = 2;
    dirty_write(&dirty, 110, slice_text("0123456789")); /* one piece, as old as its first byte */
    dirty.stamp = 3;
    dirty_write(&dirty, 300, slice_text("0123456789"));
    assert_int_equal(dirty_oldest(&dirty), 1);
    dirty_take(&dirty, 1, UINT64_MAX, &taken);
    assert_int_equal(dirty_oldest(&dirty), 3);
    assert_int_equal(dirty_oldest(&taken), 1);
    dirty_deinit(&taken);
    dirty_deinit(&dirty);
}

/* Who waits for bytes that are written over waits for what took their place. */
static void test_stamp_of_what_is_written_over(void **state)
{
    struct dirty dirty = {0};

    (void)state;
    dirty.stamp = 1;
    dirty_write(&dirty, 100, slice_text("0123456789"));
    dirty.stamp = 2;
    dirty_write(&dirty, 90, slice_text("012345678901234567890123456789")); /* all of it */
    assert_int_equal(dirty_oldest(&dirty), 1);
    dirty_deinit(&dirty);

    dirty.stamp = 3;
    dirty_write(&dirty, 210, slice_text("0123456789"));
    dirty.stamp = 4;
    dirty_write(&dirty, 200, slice_text("0123456789"));
    dirty_write(&dirty, 205, slice_text("0123456789")); /* half of it, growing the one before */
    assert_int_equal(dirty_oldest(&dirty), 3);
    dirty_truncate(&dirty, 210);
    assert_int_equal(dirty_oldest(&dirty), 3);
    dirty_deinit(&dirty);
}

/* What was appended goes behind all else, in its order; what is written over it goes with it. */
static void test_appends_float(void **state)
{
    struct dirty dirty = {0}, taken = {0};
    uint8_t out[16];

    (void)state;
    assert_true(dirty_float_offset(&dirty) == UINT64_MAX);
    dirty_append(&dirty, 100, slice_text("aaaa"));
    dirty_write(&dirty, 200, slice_text("pp"));
    dirty_append(&dirty, 202, slice_text("bb"));
    dirty_append(&dirty, 204, slice_text("cc")); /* grows the one before */
    dirty_write(&dirty, 101, slice_text("A"));
    assert_int_equal(dirty.count, 3);
    assert_int_equal(dirty.floating, 2);
    assert_int_equal(dirty_float_offset(&dirty), 100);

    assert_false(dirty_place(&dirty, 100)); /* that is where the file ends */
    assert_true(dirty_place(&dirty, 150));
    assert_false(dirty_place(&dirty, 150));
    assert_int_equal(dirty_float_offset(&dirty), 202);
    assert_int_equal(dirty_end(&dirty), 210);
    dirty_overlay(&dirty, 200, out, 10);
    assert_memory_equal(out, "ppaAaabbcc", 10);

    dirty_take(&dirty, 2, UINT64_MAX, &taken);
    assert_int_equal(taken.floating, 1);
    assert_int_equal(dirty.floating, 1);
    assert_true(dirty_place(&dirty, 300));
    assert_int_equal(dirty_end(&dirty), 304);
    dirty_truncate(&dirty, 300);
    assert_int_equal(dirty.floating, 0);
    dirty_deinit(&dirty);
    dirty_deinit(&taken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_a_naive_file),
        cmocka_unit_test(test_take_leaves_the_rest),
        cmocka_unit_test(test_covers),
        cmocka_unit_test(test_oldest_stamp),
        cmocka_unit_test(test_stamp_of_what_is_written_over),
        cmocka_unit_test(test_appends_float),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
