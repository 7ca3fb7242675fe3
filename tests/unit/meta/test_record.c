/* Codecs of the protocol and of the records: round trips, truncation, random bytes; keys. */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "base/rng.h"
#include "meta/record.h"

static uint8_t *mem_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = mem_alloc(size + 1);

    memcpy(copy, data, size);
    return mem_realloc(copy, size > 0 ? size : 1); /* exact: the sanitizer sees one byte more */
}

/* Every prefix and random damage decode to an error or to something, never out of bounds. */
#define CHECK_CODEC(name, value)                                                                   \
    do {                                                                                           \
        cleanup(buf_deinit) struct buf bytes = {0};                                                \
        cleanup(buf_deinit) struct buf again = {0};                                                \
        struct name in = value, out;                                                               \
                                                                                                   \
        name##_encode(&in, &bytes);                                                                \
        assert_int_equal(name##_decode(&out, buf_slice(&bytes)), 0);                               \
        name##_encode(&out, &again);                                                               \
        assert_true(slice_equal(buf_slice(&bytes), buf_slice(&again)));                            \
        for (size_t size = 0; size < bytes.size; size++) {                                         \
            uint8_t *cut = mem_copy(bytes.data, size);                                             \
                                                                                                   \
            assert_int_not_equal(name##_decode(&out, slice_make(cut, size)), 0);                   \
            mem_free(cut);                                                                         \
        }                                                                                          \
        for (int i = 0; i < 2000; i++) {                                                           \
            uint8_t *bad = mem_copy(bytes.data, bytes.size);                                       \
            int ignored;                                                                           \
                                                                                                   \
            bad[rng_below(&rng, bytes.size)] = (uint8_t)rng_next(&rng);                            \
            bad[rng_below(&rng, bytes.size)] = (uint8_t)rng_next(&rng);                            \
            ignored = name##_decode(&out, slice_make(bad, bytes.size));                            \
            (void)ignored;                                                                         \
            mem_free(bad);                                                                         \
        }                                                                                          \
    } while (0)

static void test_codecs(void **state)
{
    struct slice text = slice_text("some bytes");
    struct rng rng;

    (void)state;
    rng_init(&rng, test_seed(1));
    CHECK_CODEC(meta_request, ((struct meta_request){.op = META_RENAME,
                                                     .session = UINT64_MAX,
                                                     .groups = slice_text("0123"),
                                                     .name = text,
                                                     .name2 = text,
                                                     .data = text,
                                                     .stamp_time = 5}));
    CHECK_CODEC(meta_reply, ((struct meta_reply){.attr = text, .data = text, .extents = text}));
    CHECK_CODEC(meta_attr, ((struct meta_attr){.ino = 1, .size = UINT64_MAX, .parent = 9}));
    CHECK_CODEC(meta_extent, ((struct meta_extent){.offset = 1, .length = UINT32_MAX}));
    CHECK_CODEC(meta_dirent, ((struct meta_dirent){.name = text, .attr = text}));
    CHECK_CODEC(meta_commit, ((struct meta_commit){.is_inline = true, .inline_data = text}));
    CHECK_CODEC(meta_file, ((struct meta_file){.attr = text, .inline_data = text}));
    CHECK_CODEC(meta_commit_result, ((struct meta_commit_result){.attr = text}));
    CHECK_CODEC(meta_status, ((struct meta_status){.role = text, .members = text}));
    CHECK_CODEC(record_volume, ((struct record_volume){.uuid = text, .next_ino = 7}));
    CHECK_CODEC(record_inode, ((struct record_inode){.mode = 0644, .content = text}));
    CHECK_CODEC(record_dentry, ((struct record_dentry){.ino = 3, .name = text}));
    CHECK_CODEC(record_extent, ((struct record_extent){.length = 3, .seq = UINT64_MAX}));
    CHECK_CODEC(record_xattr, ((struct record_xattr){.name = text, .value = text}));
    CHECK_CODEC(record_session, ((struct record_session){.nonce = UINT64_MAX, .last_seq = 1}));
    CHECK_CODEC(record_chunk, ((struct record_chunk){.live = 5}));
    CHECK_CODEC(record_orphan, ((struct record_orphan){.detached = true}));
}

/* A name longer than allowed is refused before anything is computed with its length. */
static void test_limits(void **state)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    static uint8_t name[META_NAME_MAX + 1];
    struct meta_request in = {.op = META_LOOKUP, .name = slice_make(name, sizeof(name))}, out;

    (void)state;
    meta_request_encode(&in, &bytes);
    assert_int_equal(meta_request_decode(&out, buf_slice(&bytes)), -ERR_BAD_MESSAGE);
}

/* Keys order as their numbers do. */
static void test_keys(void **state)
{
    struct record_key a = record_key_extent(5, 255);
    struct record_key b = record_key_extent(5, 256);
    struct record_key c = record_key_extent(6, 0);
    struct record_key d = record_key_dentry(5, 9, 3);

    (void)state;
    assert_true(slice_compare(record_slice(&a), record_slice(&b)) < 0);
    assert_true(slice_compare(record_slice(&b), record_slice(&c)) < 0);
    assert_int_equal(record_key_number(record_slice(&b), 0), 5);
    assert_int_equal(record_key_number(record_slice(&b), 1), 256);
    assert_int_equal(record_key_number(record_slice(&b), 2), 0);
    assert_true(record_key_same_group(record_slice(&a), 'E', 5));
    assert_false(record_key_same_group(record_slice(&c), 'E', 5));
    assert_false(record_key_same_group(slice_make("E", 1), 'E', 0));
    assert_int_equal(d.bytes[d.size - 1], 3);
}

/* What is shorter or longer is no key of its letter: it would be taken for another one. */
static void test_key_sizes(void **state)
{
    struct record_key session = record_key_session(7);
    struct slice key = record_slice(&session);
    uint8_t longer[10] = "S";

    (void)state;
    assert_true(record_key_is(key, 'S'));
    assert_false(record_key_is(key, 'O'));
    assert_false(record_key_is(slice_make(key.data, key.size - 1), 'S'));
    assert_false(record_key_is(slice_make(longer, sizeof(longer)), 'S'));
    assert_false(record_key_is((struct slice){0}, 'S'));
    assert_false(record_key_is(slice_make("?", 1), '?'));
}

static void test_names(void **state)
{
    (void)state;
    for (unsigned op = 1; op < META_OP_END; op++) {
        assert_string_not_equal(meta_op_name(op), "?");
    }
    assert_string_equal(meta_op_name(META_OP_END), "?");
    assert_true(meta_op_mutates(META_CREATE));
    assert_false(meta_op_mutates(META_LOOKUP));
    assert_false(meta_op_mutates(255));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codecs), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_keys),   cmocka_unit_test(test_key_sizes),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
