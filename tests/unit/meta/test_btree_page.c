/* One page against a sorted array; damaged pages are refused. */
#include "tests/lib/test.h"

#include "base/err.h"
#include "base/rng.h"
#include "meta/btree_page.h"

static void test_random(void **state)
{
    static uint8_t page[BTREE_PAGE];
    static uint8_t values[256][600];
    bool there[256] = {false};
    size_t sizes[256] = {0};
    struct rng rng;

    (void)state;
    rng_init(&rng, test_seed(1));
    page_init(page, 0);
    for (int i = 0; i < 20000; i++) {
        uint8_t n = (uint8_t)rng_next(&rng);
        struct slice key = slice_make(&n, 1);
        bool exact;
        unsigned at = page_find(page, key, &exact);

        assert_int_equal(exact, there[n]);
        if (exact) {
            assert_true(slice_equal(page_value(page, at), slice_make(values[n], sizes[n])));
            page_remove(page, at);
            there[n] = false;
        } else {
            sizes[n] = rng_below(&rng, sizeof(values[n]));
            memset(values[n], i, sizes[n]);
            there[n] = page_insert(page, at, key, slice_make(values[n], sizes[n]), false);
            assert_true(there[n] ||
                        page_used(page) + page_cell_size(key, slice_make(NULL, sizes[n])) >
                            PAGE_CAPACITY);
        }
        assert_int_equal(page_check(page), 0);
    }
}

static void test_split(void **state)
{
    static uint8_t left[BTREE_PAGE], right[BTREE_PAGE], bytes[200];
    unsigned count, first;

    (void)state;
    page_init(left, 0);
    page_init(right, 0);
    for (uint8_t n = 0; page_insert(left, n, slice_make(&n, 1), slice_make(bytes, 200), false);
         n++) {
    }
    count = page_count(left);
    first = page_split_point(left);
    assert_in_range(first, count / 2 - 2, count / 2 + 2);
    page_move_tail(left, first, right);
    assert_int_equal(page_count(left) + page_count(right), count);
    assert_int_equal(page_key(right, 0).data[0], first);
    assert_int_equal(page_check(left), 0);
    assert_int_equal(page_check(right), 0);
}

/* Random bytes in the header, the slots or the cells: refused, or harmless. */
static void test_damage(void **state)
{
    static uint8_t page[BTREE_PAGE], bad[BTREE_PAGE];
    struct rng rng;
    unsigned refused = 0;

    (void)state;
    rng_init(&rng, test_seed(2));
    page_init(page, 0);
    for (uint8_t n = 0; n < 40; n++) {
        assert_true(page_insert(page, n, slice_make(&n, 1), slice_make(&n, 1), false));
    }
    for (int i = 0; i < 20000; i++) {
        memcpy(bad, page, BTREE_PAGE);
        bad[rng_below(&rng, 100)] = (uint8_t)rng_next(&rng);
        bad[BTREE_PAGE - 1 - rng_below(&rng, 240)] = (uint8_t)rng_next(&rng);
        if (page_check(bad) < 0) {
            refused++;
            continue;
        }
        for (unsigned j = 0; j < page_count(bad); j++) {
            assert_true(page_key(bad, j).data + page_key(bad, j).size <= bad + BTREE_PAGE);
            assert_true(page_value(bad, j).data + page_value(bad, j).size <= bad + BTREE_PAGE);
        }
    }
    assert_true(refused > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
