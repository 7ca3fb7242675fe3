#include "tests/lib/test.h"

#include "fs/streams.h"

static bool note(struct streams *streams, uint64_t ino, bool hit, struct stream_range *range)
{
    *range = (struct stream_range){0};
    return streams_note(streams, ino, hit, range);
}

/* One open alone fetches nothing; the second nearby does, and hits go on with twice as much. */
static void test_window_doubles_while_it_hits(void **state)
{
    struct streams streams = {0};
    struct stream_range range;
    uint64_t fetched = 101, window = FS_AHEAD_WINDOW_MIN;

    (void)state;
    assert_false(note(&streams, 100, false, &range));
    assert_true(note(&streams, 101, false, &range));
    assert_int_equal(range.from, 102);
    assert_int_equal(range.to, 102 + window);
    fetched = range.to;
    streams_done(&streams, range.stream);
    for (uint64_t ino = 102; ino < 5000; ino++) {
        if (!note(&streams, ino, true, &range)) {
            continue;
        }
        window = min_u64(2 * window, FS_AHEAD_WINDOW_MAX);
        assert_int_equal(range.from, fetched);
        assert_int_equal(range.to - range.from, window);
        assert_true(ino < fetched);
        fetched = range.to;
        streams_done(&streams, range.stream);
    }
    assert_int_equal(window, FS_AHEAD_WINDOW_MAX);
}

static void test_nothing_more_while_busy(void **state)
{
    struct streams streams = {0};
    struct stream_range range, other;

    (void)state;
    assert_false(note(&streams, 100, false, &range));
    assert_true(note(&streams, 101, false, &range));
    assert_false(note(&streams, 102, false, &other));
    assert_false(note(&streams, 110, true, &other));
    streams_done(&streams, range.stream);
    assert_true(note(&streams, 110, true, &other));
}

/* Opens far from each other never fetch, however many. */
static void test_scattered_opens_fetch_nothing(void **state)
{
    struct streams streams = {0};
    struct stream_range range;

    (void)state;
    for (uint64_t i = 1; i < 1000; i++) {
        assert_false(note(&streams, i * 7919 % 1000003 * 100, false, &range));
    }
}

/* Backwards, and down to the first number. */
static void test_backwards(void **state)
{
    struct streams streams = {0};
    struct stream_range range;

    (void)state;
    assert_false(note(&streams, 50, false, &range));
    assert_true(note(&streams, 49, false, &range));
    assert_int_equal(range.from, 49 - FS_AHEAD_WINDOW_MIN);
    assert_int_equal(range.to, 49);
    streams_done(&streams, range.stream);
    assert_true(note(&streams, 10, false, &range));
    assert_int_equal(range.from, 1);
    assert_int_equal(range.to, 10);
}

/* A miss inside of what was fetched: it had to go, and is fetched again only if it goes on. */
static void test_evicted(void **state)
{
    struct streams streams = {0};
    struct stream_range range;

    (void)state;
    assert_false(note(&streams, 100, false, &range));
    assert_true(note(&streams, 101, false, &range));
    streams_done(&streams, range.stream);
    assert_false(note(&streams, 105, false, &range));
    assert_true(note(&streams, 106, false, &range));
    assert_int_equal(range.from, 107);
}

/* Several readers at once, each in files of its own; a new one takes the oldest place. */
static void test_streams_side_by_side(void **state)
{
    struct streams streams = {0};
    struct stream_range range;

    (void)state;
    for (uint64_t i = 0; i < FS_AHEAD_STREAMS; i++) {
        assert_false(note(&streams, 10000 * (i + 1), false, &range));
    }
    for (uint64_t i = 0; i < FS_AHEAD_STREAMS; i++) {
        assert_true(note(&streams, 10000 * (i + 1) + 1, false, &range));
        streams_done(&streams, range.stream);
    }
    assert_false(note(&streams, 500000, false, &range));
    assert_true(note(&streams, 500001, false, &range));
    streams_done(&streams, range.stream);
    assert_false(note(&streams, 10002, true, &range));
    assert_false(note(&streams, 10003, false, &range));
}

/* All on their way: a new one must wait, not push one out. */
static void test_busy_ones_stay(void **state)
{
    struct streams streams = {0};
    struct stream_range range;

    (void)state;
    for (uint64_t i = 0; i < FS_AHEAD_STREAMS; i++) {
        assert_false(note(&streams, 10000 * (i + 1), false, &range));
        assert_true(note(&streams, 10000 * (i + 1) + 1, false, &range));
    }
    assert_false(note(&streams, 500000, false, &range));
    assert_false(note(&streams, 500001, false, &range));
    streams_done(&streams, 0);
    assert_false(note(&streams, 500000, false, &range));
    assert_true(note(&streams, 500001, false, &range));
    assert_int_equal(range.stream, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_doubles_while_it_hits),
        cmocka_unit_test(test_nothing_more_while_busy),
        cmocka_unit_test(test_scattered_opens_fetch_nothing),
        cmocka_unit_test(test_backwards),
        cmocka_unit_test(test_evicted),
        cmocka_unit_test(test_streams_side_by_side),
        cmocka_unit_test(test_busy_ones_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
