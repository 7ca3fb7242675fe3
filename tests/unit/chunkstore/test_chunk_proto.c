/* Messages, checksums and compression: round trips, truncation, random bytes. */
#include "tests/lib/test.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/compress.h"

#include <errno.h>

static void test_put_round_trip(void **state)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    struct chunk_put_request copy;
    struct chunk_put_request put = {.session = UINT64_MAX,
                                    .seq = 1,
                                    .length = 4097,
                                    .flags = 1,
                                    .epoch = 3,
                                    .partition = 255,
                                    .crcs = slice_text("12345678")};

    (void)state;
    chunk_put_request_encode(&put, &bytes);
    assert_int_equal(chunk_put_request_decode(&copy, buf_slice(&bytes)), 0);
    assert_true(copy.session == put.session && copy.seq == 1 && copy.length == 4097);
    assert_true(slice_equal(copy.crcs, put.crcs));
    for (size_t size = 0; size < bytes.size; size++) {
        assert_int_equal(chunk_put_request_decode(&copy, slice_make(bytes.data, size)),
                         -ERR_BAD_MESSAGE);
    }
}

static void test_random_bytes(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, test_seed(1));
    for (unsigned i = 0; i < 50000; i++) {
        uint8_t bytes[64];
        struct slice slice = slice_make(bytes, rng_below(&rng, sizeof(bytes)));
        union {
            struct chunk_put_request put;
            struct chunk_get_reply get;
            struct chunk_list_reply list;
            struct chunk_status status;
            struct chunk_heartbeat_reply beat;
        } any;

        for (size_t k = 0; k < slice.size; k++) {
            bytes[k] = (uint8_t)rng_below(&rng, k == 0 ? 12 : 256);
        }
        if (chunk_put_request_decode(&any.put, slice) == 0) {
            assert_true(any.put.crcs.size <= slice.size);
        }
        if (chunk_get_reply_decode(&any.get, slice) == 0) {
            assert_true(any.get.crcs.size <= slice.size);
        }
        if (chunk_list_reply_decode(&any.list, slice) == 0) {
            assert_true(any.list.ids.size <= slice.size);
        }
        if (chunk_heartbeat_reply_decode(&any.beat, slice) == 0) {
            assert_true(any.beat.map.size <= slice.size);
        }
        assert_true(chunk_status_decode(&any.status, slice) <= 0);
    }
}

static void fill(struct buf *bytes, uint32_t size, bool compressible)
{
    struct rng rng;

    rng_init(&rng, size);
    for (uint32_t i = 0; i < size; i++) {
        buf_append(bytes, &(uint8_t){compressible ? (uint8_t)(i / 50) : (uint8_t)rng_next(&rng)},
                   1);
    }
}

static void test_crcs_find_every_damage(void **state)
{
    static const uint32_t sizes[] = {1, 4095, 4096, 4097, 20000};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        cleanup(buf_deinit) struct buf bytes = {0};
        cleanup(buf_deinit) struct buf crcs = {0};
        uint32_t size = sizes[i];

        fill(&bytes, size, false);
        chunk_crcs_make(
            (struct iovec[]){{bytes.data, size / 3}, {bytes.data + size / 3, size - size / 3}}, 2,
            &crcs);
        assert_int_equal(crcs.size, chunk_crcs_bytes(size, 0));
        assert_int_equal(chunk_crcs_check(size, 0, 0, buf_slice(&crcs), buf_slice(&bytes)), 0);
        for (uint32_t at = 0; at < size; at += 61) {
            bytes.data[at] ^= 1;
            assert_int_equal(chunk_crcs_check(size, 0, 0, buf_slice(&crcs), buf_slice(&bytes)),
                             -ERR_CORRUPT);
            bytes.data[at] ^= 1;
        }
        assert_int_equal(
            chunk_crcs_check(size, 0, 0, buf_slice(&crcs), slice_make(bytes.data, size - 1)),
            -ERR_CORRUPT);
    }
}

static void test_compression(void **state)
{
    static const uint32_t sizes[] = {4096, 65536, 65537, 1 << 20};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        cleanup(buf_deinit) struct buf plain = {0};
        cleanup(buf_deinit) struct buf stored = {0};
        cleanup(buf_deinit) struct buf crcs = {0};
        cleanup(buf_deinit) struct buf back = {0};
        struct iovec iov[2];
        uint32_t size = sizes[i];

        fill(&plain, size, true);
        iov[0] = (struct iovec){plain.data, 1000};
        iov[1] = (struct iovec){plain.data + 1000, size - 1000};
        assert_true(compress_worth_it(iov, 2, size));
        assert_true(compress_chunk(iov, 2, size, &stored, &crcs));
        assert_int_equal(crcs.size, chunk_crcs_bytes(size, CHUNK_COMPRESSED));
        assert_int_equal(
            chunk_crcs_check(size, CHUNK_COMPRESSED, 0, buf_slice(&crcs), buf_slice(&stored)), 0);
        assert_int_equal(compress_restore(size, 0, buf_slice(&crcs), buf_slice(&stored), &back), 0);
        assert_true(slice_equal(buf_slice(&back), buf_slice(&plain)));
    }
}

static void test_random_is_not_compressed(void **state)
{
    cleanup(buf_deinit) struct buf plain = {0};
    cleanup(buf_deinit) struct buf stored = {0};
    cleanup(buf_deinit) struct buf crcs = {0};
    struct iovec iov;

    (void)state;
    fill(&plain, 200000, false);
    iov = (struct iovec){plain.data, plain.size};
    assert_false(compress_worth_it(&iov, 1, 200000));
    assert_false(compress_worth_it(&iov, 1, 4095));
    assert_false(compress_chunk(&iov, 1, 200000, &stored, &crcs));
    assert_int_equal(stored.size + crcs.size, 0);
}

static void test_span_of_a_range(void **state)
{
    struct chunk_span span;
    struct chunk_span want = {.stored_offset = 5000, .stored_length = 4000};

    (void)state;
    assert_int_equal(chunk_span_find(&span, 10000, 0, (struct slice){0}, 10000, want), 0);
    assert_true(span.first == 1 && span.count == 2);
    assert_true(span.stored_offset == 4096 && span.stored_length == 10000 - 4096);
    want.stored_length = 5001;
    assert_int_equal(chunk_span_find(&span, 10000, 0, (struct slice){0}, 10000, want), -EINVAL);
    want.stored_length = 0;
    assert_int_equal(chunk_span_find(&span, 10000, 0, (struct slice){0}, 10000, want), -EINVAL);
}

/* Frames of no bytes match the checksum of nothing; a record of them could not be read back. */
static void test_empty_frames(void **state)
{
    uint8_t crcs[16] = {0};

    (void)state;
    assert_int_equal(
        chunk_crcs_check(KiB(128), CHUNK_COMPRESSED, 0, slice_make(crcs, 16), (struct slice){0}),
        -ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_round_trip),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_crcs_find_every_damage),
        cmocka_unit_test(test_compression),
        cmocka_unit_test(test_random_is_not_compressed),
        cmocka_unit_test(test_span_of_a_range),
        cmocka_unit_test(test_empty_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
