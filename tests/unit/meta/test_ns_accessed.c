/* Access times that a mount tells late: what they may overwrite. */
#include "tests/unit/meta/ns_fixture.h"

#include "base/bytes.h"

#define TOO_MANY (META_ACCESSED_MAX + 1)

static void entry(uint8_t *bytes, uint64_t ino, uint64_t atime)
{
    bytes_put_le64(bytes, ino);
    bytes_put_le64(bytes + 8, atime);
}

static int accessed(struct fixture *f, uint64_t ino, uint64_t atime)
{
    uint8_t bytes[META_ACCESSED_BYTES];

    entry(bytes, ino, atime);
    return apply(
        f, (struct meta_request){.op = META_ACCESSED, .data = slice_make(bytes, sizeof(bytes))});
}

static uint64_t make_file(struct fixture *f)
{
    uint64_t ino;

    assert_int_equal(make(f, META_CREATE, "f", 0644, &ino), 0);
    f->index += 1000; /* time goes by */
    return ino;
}

static void test_a_read_is_no_change(void **state)
{
    struct fixture f;
    struct meta_attr before, after;
    uint64_t ino, atime;

    (void)state;
    setup(&f);
    ino = make_file(&f);
    before = attr_of(&f, ino);
    atime = before.ctime + 500;
    assert_int_equal(accessed(&f, ino, atime), 0);
    after = attr_of(&f, ino);
    assert_int_equal(after.atime, atime);
    assert_int_equal(after.change, before.change);
    assert_int_equal(after.ctime, before.ctime);
    assert_int_equal(after.mtime, before.mtime);
    teardown(&f);
}

static void test_what_changed_since_keeps_its_time(void **state)
{
    struct fixture f;
    struct meta_request set = {.op = META_SETATTR, .valid = META_SET_ATIME, .atime = 7};
    uint64_t atime;

    (void)state;
    setup(&f);
    set.ino = make_file(&f);
    atime = attr_of(&f, set.ino).ctime + 500;
    assert_int_equal(apply(&f, set), 0);
    assert_int_equal(accessed(&f, set.ino, atime), 0);
    assert_int_equal(attr_of(&f, set.ino).atime, 7);
    teardown(&f);
}

static void test_times_do_not_run_back_nor_ahead(void **state)
{
    struct fixture f;
    uint64_t ino, first;

    (void)state;
    setup(&f);
    ino = make_file(&f);
    first = attr_of(&f, ino).ctime + 500;
    assert_int_equal(accessed(&f, ino, first), 0);
    assert_int_equal(accessed(&f, ino, first - 1), 0);
    assert_int_equal(attr_of(&f, ino).atime, first);
    assert_int_equal(accessed(&f, ino, UINT64_MAX), 0); /* 1 ns before 1970 */
    assert_int_equal(attr_of(&f, ino).atime, first);
    assert_int_equal(accessed(&f, ino, INT64_MAX), 0);
    assert_int_equal(attr_of(&f, ino).atime, 100 + f.index);
    teardown(&f);
}

static void test_not_where_nobody_wants_it(void **state)
{
    struct fixture f;
    uint64_t ino, before;

    (void)state;
    setup(&f);
    ino = make_file(&f);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETATTR,
                                                     .ino = ino,
                                                     .valid = META_SET_FLAGS,
                                                     .mode = META_ATTR_NOATIME,
                                                     .count = META_ATTR_NOATIME}),
                     0);
    before = attr_of(&f, ino).atime;
    f.index += 1000;
    assert_int_equal(accessed(&f, ino, before + 500), 0);
    assert_int_equal(attr_of(&f, ino).atime, before);
    assert_int_equal(accessed(&f, 12345, before), 0); /* it is gone */
    teardown(&f);
}

static void test_many_at_once_and_no_more(void **state)
{
    struct fixture f;
    uint8_t bytes[TOO_MANY * META_ACCESSED_BYTES];
    struct meta_request request = {.op = META_ACCESSED};
    uint64_t ino, atime;

    (void)state;
    setup(&f);
    ino = make_file(&f);
    atime = attr_of(&f, ino).ctime;
    for (uint64_t i = 0; i < TOO_MANY; i++) {
        entry(bytes + i * META_ACCESSED_BYTES, ino, atime + i);
    }
    for (size_t size = 0; size <= sizeof(bytes); size += sizeof(bytes)) {
        request.data = slice_make(bytes, size);
        assert_int_equal(apply(&f, request), -EINVAL);
    }
    request.data = slice_make(bytes, META_ACCESSED_BYTES + 1);
    assert_int_equal(apply(&f, request), -EINVAL);
    assert_int_equal(attr_of(&f, ino).atime, atime);
    request.data = slice_make(bytes, META_ACCESSED_MAX * META_ACCESSED_BYTES);
    assert_int_equal(apply(&f, request), 0);
    assert_int_equal(attr_of(&f, ino).atime, atime + META_ACCESSED_MAX - 1);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_read_is_no_change),
        cmocka_unit_test(test_what_changed_since_keeps_its_time),
        cmocka_unit_test(test_times_do_not_run_back_nor_ahead),
        cmocka_unit_test(test_not_where_nobody_wants_it),
        cmocka_unit_test(test_many_at_once_and_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
