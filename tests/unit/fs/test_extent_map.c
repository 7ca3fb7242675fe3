#include "tests/lib/test.h"

#include "fs/extent_map.h"

static void append(struct buf *records, uint64_t offset, uint32_t length)
{
    struct meta_extent extent = {.offset = offset, .length = length, .chunk_session = 1};
    cleanup(buf_deinit) struct buf record = {0};

    meta_extent_encode(&extent, &record);
    schema_write_bytes(records, buf_slice(&record));
}

static void test_replies_extend_the_covered_range(void **state)
{
    cleanup(buf_deinit) struct buf first = {0}, second = {0};
    struct extent_map map = {0};

    (void)state;
    append(&first, 0, 100);
    append(&first, 150, 100); /* reaches over the border at 200 */
    append(&second, 150, 100);
    append(&second, 300, 50);
    assert_int_equal(extent_map_add(&map, 0, 200, buf_slice(&first)), 0);
    assert_int_equal(extent_map_add(&map, 200, 400, buf_slice(&second)), 0);
    assert_int_equal(map.from, 0);
    assert_int_equal(map.to, 400);
    assert_int_equal(map.count, 3);
    assert_int_equal(extent_map_find(&map, 120), 1);
    assert_int_equal(extent_map_find(&map, 250), 2);
    assert_int_equal(extent_map_find(&map, 350), 3);
    assert_int_equal(extent_map_add(&map, 1000, 1100, (struct slice){0}), 0);
    assert_int_equal(map.from, 1000);
    assert_int_equal(map.count, 0);
    extent_map_deinit(&map);
}

/* What follows the border was joined to what is before it, after the first reply. */
static void test_extents_joined_between_two_replies(void **state)
{
    cleanup(buf_deinit) struct buf first = {0}, second = {0};
    struct extent_map map = {0};

    (void)state;
    append(&first, 0, 200);
    append(&second, 0, 300);
    append(&second, 300, 50);
    assert_int_equal(extent_map_add(&map, 0, 200, buf_slice(&first)), 0);
    assert_int_equal(extent_map_add(&map, 200, 400, buf_slice(&second)), 0);
    assert_int_equal(map.count, 2);
    assert_int_equal(extent_map_find(&map, 250), 0);
    assert_int_equal(map.extents[0].length, 300);
    assert_int_equal(map.extents[1].offset, 300);
    extent_map_deinit(&map);
}

/* Another mount wrote between the two replies: behind the border the second one counts, whatever
 * the first one's last extent was. */
static void test_written_between_two_replies(void **state)
{
    cleanup(buf_deinit) struct buf first = {0}, second = {0};
    struct extent_map map = {0};

    (void)state;
    append(&first, 0, 1000);
    append(&second, 0, 300);
    append(&second, 300, 50);
    append(&second, 350, 650);
    assert_int_equal(extent_map_add(&map, 0, 200, buf_slice(&first)), 0);
    assert_int_equal(extent_map_add(&map, 200, 1000, buf_slice(&second)), 0);
    assert_int_equal(map.count, 3);
    assert_int_equal(map.extents[0].length, 300);
    assert_int_equal(map.extents[extent_map_find(&map, 320)].offset, 300);
    assert_int_equal(map.extents[extent_map_find(&map, 999)].offset, 350);
    extent_map_deinit(&map);
}

static void test_bad_replies_are_refused(void **state)
{
    cleanup(buf_deinit) struct buf overlap = {0}, empty = {0}, wrap = {0};
    struct extent_map map = {0};

    (void)state;
    append(&overlap, 0, 100);
    append(&overlap, 50, 100);
    append(&empty, 0, 0);
    append(&wrap, UINT64_MAX - 5, 100);
    assert_int_equal(extent_map_add(&map, 0, 200, buf_slice(&overlap)), -ERR_BAD_MESSAGE);
    assert_int_equal(extent_map_add(&map, 0, 200, buf_slice(&empty)), -ERR_BAD_MESSAGE);
    assert_int_equal(extent_map_add(&map, 0, 200, buf_slice(&wrap)), -ERR_BAD_MESSAGE);
    assert_int_equal(extent_map_add(&map, 0, 200, slice_text("nonsense")), -ERR_BAD_MESSAGE);
    assert_int_equal(map.count, 0);
    extent_map_deinit(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies_extend_the_covered_range),
        cmocka_unit_test(test_extents_joined_between_two_replies),
        cmocka_unit_test(test_written_between_two_replies),
        cmocka_unit_test(test_bad_replies_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
