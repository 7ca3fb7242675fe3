#include "tests/lib/test.h"

#include "base/buf.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/schema.h"

#include <errno.h>

#define POINT(F)                                                                                   \
    F(u32, x, 0, 1)                                                                                \
    F(bool, set, 0, 1)                                                                             \
    F(bytes, label, 8, 1)
#define POINT_LATER(F)                                                                             \
    POINT(F)                                                                                       \
    F(u64, y, 0, 2)                                                                                \
    F(bytes, note, 100, 2)

SCHEMA_DEFINE(point, POINT);
SCHEMA_IMPLEMENT(point, POINT)
SCHEMA_DEFINE(point_later, POINT_LATER);
SCHEMA_IMPLEMENT(point_later, POINT_LATER)

static void test_crc32c_known_answers(void **state)
{
    uint8_t zeros[32] = {0};
    uint8_t ones[32];

    (void)state;
    memset(ones, 0xff, sizeof(ones));
    /* RFC 3720, B.4 */
    assert_int_equal(crc32c(0, slice_make(zeros, 32)), 0x8a9136aa);
    assert_int_equal(crc32c(0, slice_make(ones, 32)), 0x62a8ab43);
    assert_int_equal(crc32c(0, slice_text("123456789")), 0xe3069283);
    assert_int_equal(crc32c(crc32c(0, slice_text("1234")), slice_text("56789")), 0xe3069283);
    assert_int_equal(crc32c(0, (struct slice){0}), 0);
}

static void test_hash(void **state)
{
    struct hash_key key = {1, 2};
    uint64_t seen = 0;

    (void)state;
    for (unsigned size = 0; size < 40; size++) {
        uint8_t bytes[40] = {0};
        uint64_t hash = hash_bytes(key, slice_make(bytes, size));

        assert_true(hash != seen); /* the length counts */
        seen = hash;
        if (size > 0) {
            bytes[size - 1] ^= 1;
            assert_true(hash_bytes(key, slice_make(bytes, size)) != hash);
        }
    }
    assert_true(hash_bytes(key, slice_text("a")) !=
                hash_bytes((struct hash_key){1, 3}, slice_text("a")));
    assert_true(hash_mix64(1) != hash_mix64(2));
}

static void test_schema_round_trip(void **state)
{
    struct point in = {.x = 4000000000u, .set = true, .label = slice_text("12345678")};
    cleanup(buf_deinit) struct buf bytes = {0};
    struct point out;

    (void)state;
    point_encode(&in, &bytes);
    assert_int_equal(point_decode(&out, buf_slice(&bytes)), 0);
    assert_int_equal(out.x, in.x);
    assert_true(out.set);
    assert_true(slice_equal(out.label, in.label));
    for (size_t cut = 0; cut < bytes.size; cut++) {
        assert_int_equal(point_decode(&out, slice_make(bytes.data, cut)), -ERR_BAD_MESSAGE);
    }
    bytes.data[bytes.size - 9] = 9; /* longer than max */
    buf_append(&bytes, "9", 1);
    assert_int_equal(point_decode(&out, buf_slice(&bytes)), -ERR_BAD_MESSAGE);
}

static void test_schema_versions(void **state)
{
    struct point_later later = {.x = 1, .y = 77, .note = slice_text("new")};
    struct point older = {.x = 5, .label = slice_text("abc")};
    cleanup(buf_deinit) struct buf bytes = {0};
    struct point_later back_later;
    struct point back;

    (void)state;
    point_later_encode(&later, &bytes); /* a newer sender: the tail is skipped */
    assert_int_equal(point_decode(&back, buf_slice(&bytes)), 0);
    assert_int_equal(back.x, 1);
    buf_clear(&bytes);
    point_encode(&older, &bytes); /* an older sender: what it did not know is zero */
    assert_int_equal(point_later_decode(&back_later, buf_slice(&bytes)), 0);
    assert_int_equal(back_later.x, 5);
    assert_int_equal(back_later.y, 0);
    assert_int_equal(back_later.note.size, 0);
}

static void test_schema_numbers(void **state)
{
    static const uint64_t values[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX};
    static const uint8_t overlong[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    struct schema_reader reader = {overlong, overlong + sizeof(overlong), false};

    (void)state;
    (void)schema_read_uint(&reader, UINT64_MAX);
    assert_true(reader.failed);
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
        cleanup(buf_deinit) struct buf bytes = {0};

        schema_write_uint(&bytes, values[i]);
        reader = schema_reader_make(buf_slice(&bytes));
        assert_true(schema_read_uint(&reader, UINT64_MAX) == values[i]);
        assert_false(reader.failed);
        assert_ptr_equal(reader.at, reader.end);
        if (values[i] > 0) {
            reader = schema_reader_make(buf_slice(&bytes));
            (void)schema_read_uint(&reader, values[i] - 1);
            assert_true(reader.failed);
        }
    }
}

static void test_buf(void **state)
{
    struct buf buf = {0};
    struct buf taken;

    (void)state;
    buf_append(&buf, "abc", 3);
    buf_append_zero(&buf, 2);
    buf_printf(&buf, "%d-%s", 12, "x");
    assert_int_equal(buf.size, 9);
    assert_memory_equal(buf.data,
                        "abc\0\0"
                        "12-x",
                        9);
    taken = buf_take(&buf);
    assert_int_equal(buf.size, 0);
    assert_int_equal(taken.size, 9);
    buf_deinit(&buf);
    buf_deinit(&taken);
}

static void test_slices_order_as_bytes(void **state)
{
    (void)state;
    assert_true(slice_compare(slice_text("a"), slice_text("ab")) < 0);
    assert_true(slice_compare(slice_text("b"), slice_text("ab")) > 0);
    assert_true(slice_compare(slice_text("\xff"), slice_text("a")) > 0);
    assert_int_equal(slice_compare((struct slice){0}, slice_text("")), 0);
    assert_true(slice_equal((struct slice){0}, slice_text("")));
}

static void test_errors(void **state)
{
    (void)state;
    assert_int_equal(err_to_errno(-ENOSPC), ENOSPC);
    assert_int_equal(err_to_errno(-ERR_CORRUPT), EIO);
    assert_int_equal(err_to_errno(-ERR_SESSION_EXPIRED), ESTALE);
    assert_string_equal(err_name(-ERR_BUSY), "ERR_BUSY");
    assert_string_equal(err_name(-ENOENT), "ENOENT");
    assert_non_null(err_text(-99999));
    assert_non_null(err_name(-99999));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_known_answers),  cmocka_unit_test(test_hash),
        cmocka_unit_test(test_schema_round_trip),     cmocka_unit_test(test_schema_versions),
        cmocka_unit_test(test_schema_numbers),        cmocka_unit_test(test_buf),
        cmocka_unit_test(test_slices_order_as_bytes), cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
