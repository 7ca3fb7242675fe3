#include "tests/lib/test.h"

#include "base/err.h"
#include "base/rng.h"
#include "net/frame.h"
#include "net/rpc.h"

/* Feeds `bytes` in steps of at most `step`; counts frames, or returns the error. */
static int feed(struct slice bytes, size_t step, struct buf *out_payloads)
{
    struct frame_reader reader;
    struct frame frame;
    struct slice body;
    struct buf *payload;
    int count = 0, r = 0;

    frame_reader_init(&reader);
    while (bytes.size != 0 && r >= 0) {
        struct iovec want = frame_reader_want(&reader);
        size_t size = want.iov_len < step ? want.iov_len : step;

        size = size < bytes.size ? size : bytes.size;
        memcpy(want.iov_base, bytes.data, size);
        bytes = slice_make(bytes.data + size, bytes.size - size);
        frame_reader_received(&reader, size);
        while ((r = frame_reader_next(&reader, &frame, &body, &payload)) > 0) {
            count++;
            buf_append_slice(out_payloads, buf_slice(payload));
        }
    }
    frame_reader_deinit(&reader);
    return r < 0 ? r : count;
}

static void append_frame(struct buf *wire, struct slice body, struct slice payload)
{
    frame_encode((struct frame){.type = FRAME_REQUEST, .opcode = 7, .id = 9}, body, payload, wire);
    buf_append_slice(wire, payload);
}

static void test_frames_survive_any_cut(void **state)
{
    static uint8_t large[300000];
    cleanup(buf_deinit) struct buf wire = {0};

    (void)state;
    memset(large, 'x', sizeof(large));
    append_frame(&wire, slice_text("a"), (struct slice){0});
    append_frame(&wire, slice_text("bb"), slice_make(large, sizeof(large)));
    append_frame(&wire, (struct slice){0}, slice_text("tail"));
    for (size_t step = 1; step < 200000; step = step * 3 + 1) {
        cleanup(buf_deinit) struct buf payloads = {0};

        assert_int_equal(feed(buf_slice(&wire), step, &payloads), 3);
        assert_int_equal(payloads.size, sizeof(large) + 4);
    }
}

static void test_every_flipped_bit_is_found(void **state)
{
    cleanup(buf_deinit) struct buf wire = {0};

    (void)state;
    append_frame(&wire, slice_text("body"), slice_text("payload"));
    for (size_t bit = 0; bit < wire.size * 8; bit++) {
        cleanup(buf_deinit) struct buf payloads = {0};
        int r;

        wire.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        r = feed(buf_slice(&wire), SIZE_MAX, &payloads);
        assert_true(r <= 0); /* an error, or a larger size that never completes */
        wire.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void test_oversized_frame_is_refused(void **state)
{
    cleanup(buf_deinit) struct buf wire = {0};
    struct frame frame;

    (void)state;
    append_frame(&wire, slice_text("body"), (struct slice){0});
    memset(wire.data + 12, 0xff, 4);
    assert_int_equal(frame_decode_header(&frame, wire.data), -ERR_BAD_MESSAGE);
}

static void test_random_bytes(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, test_seed(1));
    for (unsigned i = 0; i < 20000; i++) {
        cleanup(buf_deinit) struct buf wire = {0}, payloads = {0};
        size_t size = rng_below(&rng, 200);

        append_frame(&wire, slice_text("ok"), slice_text("p"));
        for (size_t k = 0; k < size; k++) {
            buf_append(&wire, &(uint8_t){(uint8_t)rng_next(&rng)}, 1);
        }
        assert_true(feed(buf_slice(&wire), 1 + rng_below(&rng, 100), &payloads) <= 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_survive_any_cut),
        cmocka_unit_test(test_every_flipped_bit_is_found),
        cmocka_unit_test(test_oversized_frame_is_refused),
        cmocka_unit_test(test_random_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
