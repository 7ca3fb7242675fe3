/*
 * fuzz_frame: the bytes of a connection, in pieces as they come from a socket. The first byte says
 * how large the pieces are.
 */
#include "base/assert.h"
#include "net/frame.h"
#include "net/rpc.h"
#include "tests/fuzz/fuzz.h"

/* What was decoded is what its header says, and encodes to a header that decodes to the same. */
static void check_frame(struct frame frame, struct slice body, const struct buf *payload)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    struct frame again;
    int r;

    ASSERT(body.size == frame.body_size && body.size <= RPC_BODY_MAX);
    ASSERT(payload->size == frame.payload_size && payload->size <= RPC_PAYLOAD_MAX);
    frame_encode(frame, body, buf_slice(payload), &bytes);
    ASSERT(bytes.size == FRAME_HEADER_SIZE + body.size);
    r = frame_decode_header(&again, bytes.data);
    ASSERT(r == 0 && again.type == frame.type && again.opcode == frame.opcode);
    ASSERT(again.flags == frame.flags && again.id == frame.id && again.status == frame.status);
    ASSERT(again.deadline_ms == frame.deadline_ms && again.payload_size == frame.payload_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = fuzz_input_make(data, size);
    size_t piece = (size_t)fuzz_number(&input, 1) * 37 + 1;
    struct frame_reader reader;
    struct frame frame;
    struct slice body;
    struct buf *payload;
    bool take = (piece & 1) != 0;
    int r = 0;

    frame_reader_init(&reader);
    while (input.left > 0 && r >= 0) {
        struct iovec want = frame_reader_want(&reader);
        struct slice bytes;

        ASSERT(want.iov_len > 0);
        bytes = fuzz_bytes(&input, (size_t)min_u64(want.iov_len, piece));
        memcpy(want.iov_base, bytes.data, bytes.size);
        frame_reader_received(&reader, bytes.size);
        while ((r = frame_reader_next(&reader, &frame, &body, &payload)) > 0) {
            check_frame(frame, body, payload);
            if (take) {
                struct buf taken = buf_take(payload);

                buf_deinit(&taken);
            }
        }
    }
    frame_reader_deinit(&reader);
    return 0;
}

static void add(struct buf *out, unsigned type, size_t body, size_t payload)
{
    uint8_t bytes[3000];
    struct frame frame = {.type = (uint8_t)type, .opcode = 0x0200, .id = 7, .deadline_ms = 1000};

    memset(bytes, (int)('a' + type), sizeof(bytes));
    frame_encode(frame, slice_make(bytes, body), slice_make(bytes, payload), out);
    buf_append(out, bytes, payload);
}

void fuzz_seeds(void)
{
    static const uint8_t pieces[] = {0, 1, 60, 255};

    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
        cleanup(buf_deinit) struct buf bytes = {0};
        char name[16];

        buf_append(&bytes, &pieces[i], 1);
        add(&bytes, FRAME_HELLO, 30, 0);
        add(&bytes, FRAME_REQUEST, 0, 0);
        add(&bytes, FRAME_REPLY, 5, i * 900);
        add(&bytes, FRAME_ONEWAY, 0, 100);
        snprintf(name, sizeof(name), "%zu", i);
        fuzz_seed(name, buf_slice(&bytes));
    }
}
