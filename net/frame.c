/*
 * Header, little endian: magic 2, version 1, type 1, opcode 2, flags 2, body size 4, payload size
 * 4, id 8, deadline 4, status 4, payload crc32c 4, crc32c of header and body 4.
 */
#include "net/frame.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/mem.h"
#include "net/rpc.h"

#define STAGING_SIZE (RPC_BODY_MAX + FRAME_HEADER_SIZE)
#define CRC_OFFSET   36

static void put(uint8_t *at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static uint32_t head_crc(const uint8_t *header, struct slice body)
{
    return crc32c(crc32c(0, slice_make(header, CRC_OFFSET)), body);
}

void frame_encode(struct frame frame, struct slice body, struct slice payload, struct buf *out)
{
    uint8_t *header;

    ASSERT(body.size <= RPC_BODY_MAX && payload.size <= RPC_PAYLOAD_MAX);
    header = buf_reserve(out, FRAME_HEADER_SIZE + body.size);
    put(header, FRAME_MAGIC, 2);
    put(header + 2, FRAME_VERSION, 1);
    put(header + 3, frame.type, 1);
    put(header + 4, frame.opcode, 2);
    put(header + 6, frame.flags, 2);
    put(header + 8, body.size, 4);
    put(header + 12, payload.size, 4);
    put(header + 16, frame.id, 8);
    put(header + 24, frame.deadline_ms, 4);
    put(header + 28, frame.status, 4);
    put(header + 32, payload.size ? crc32c(0, payload) : 0, 4);
    put(header + CRC_OFFSET, head_crc(header, body), 4);
    out->size += FRAME_HEADER_SIZE;
    buf_append_slice(out, body);
}

int frame_decode_header(struct frame *out_frame, const uint8_t header[FRAME_HEADER_SIZE])
{
    struct frame frame = {
        .type = header[3],
        .opcode = (uint16_t)get(header + 4, 2),
        .flags = (uint16_t)get(header + 6, 2),
        .body_size = (uint32_t)get(header + 8, 4),
        .payload_size = (uint32_t)get(header + 12, 4),
        .id = get(header + 16, 8),
        .deadline_ms = (uint32_t)get(header + 24, 4),
        .status = (uint32_t)get(header + 28, 4),
        .payload_crc = (uint32_t)get(header + 32, 4),
    };

    if (get(header, 2) != FRAME_MAGIC || header[2] != FRAME_VERSION || frame.type == 0 ||
        frame.type >= FRAME_TYPE_END || frame.body_size > RPC_BODY_MAX ||
        frame.payload_size > RPC_PAYLOAD_MAX) {
        return -ERR_BAD_MESSAGE;
    }
    *out_frame = frame;
    return 0;
}

void frame_reader_init(struct frame_reader *reader)
{
    *reader = (struct frame_reader){0};
}

void frame_reader_deinit(struct frame_reader *reader)
{
    mem_free(reader->staging);
    buf_deinit(&reader->head);
    buf_deinit(&reader->payload);
}

struct iovec frame_reader_want(struct frame_reader *reader)
{
    if (reader->in_payload) {
        size_t left = reader->payload_need - reader->payload.size;

        return (struct iovec){reader->payload.data + reader->payload.size, left};
    }
    if (reader->staging == NULL) {
        reader->staging = mem_alloc(STAGING_SIZE);
    }
    if (reader->start == reader->end) {
        reader->start = reader->end = 0;
    } else if (reader->start > 0) {
        memmove(reader->staging, reader->staging + reader->start, reader->end - reader->start);
        reader->end -= reader->start;
        reader->start = 0;
    }
    return (struct iovec){reader->staging + reader->end, STAGING_SIZE - reader->end};
}

void frame_reader_received(struct frame_reader *reader, size_t size)
{
    if (reader->in_payload) {
        reader->payload.size += size;
    } else {
        reader->end += size;
    }
}

static int deliver(struct frame_reader *reader, struct slice body, struct frame *out_frame,
                   struct slice *out_body, struct buf **out_payload)
{
    if (reader->payload.size != 0 &&
        crc32c(0, buf_slice(&reader->payload)) != reader->frame.payload_crc) {
        return -ERR_CORRUPT;
    }
    *out_frame = reader->frame;
    *out_body = body;
    *out_payload = &reader->payload;
    return 1;
}

/* Header and body are here; moves what is here of the payload into its own memory. */
static bool begin_payload(struct frame_reader *reader, struct slice head)
{
    size_t need = reader->frame.payload_size;
    size_t have = reader->end - reader->start - head.size;
    size_t taken = have < need ? have : need;

    reader->payload = (struct buf){0};
    reader->payload.data = mem_alloc(need);
    reader->payload.capacity = need;
    buf_append(&reader->payload, head.data + head.size, taken);
    reader->start += head.size + taken;
    if (taken == need) {
        return true;
    }
    buf_clear(&reader->head);
    buf_append_slice(&reader->head, head);
    reader->payload_need = need;
    reader->in_payload = true;
    return false;
}

int frame_reader_next(struct frame_reader *reader, struct frame *out_frame, struct slice *out_body,
                      struct buf **out_payload)
{
    const uint8_t *at;
    struct slice body;
    size_t have;
    int r;

    if (reader->in_payload) {
        if (reader->payload.size < reader->payload_need) {
            return 0;
        }
        reader->in_payload = false;
        body = slice_make(reader->head.data + FRAME_HEADER_SIZE, reader->frame.body_size);
        return deliver(reader, body, out_frame, out_body, out_payload);
    }
    buf_deinit(&reader->payload);
    have = reader->end - reader->start;
    if (have < FRAME_HEADER_SIZE) {
        return 0;
    }
    at = reader->staging + reader->start;
    r = frame_decode_header(&reader->frame, at);
    if (r < 0) {
        return r;
    }
    if (have < FRAME_HEADER_SIZE + reader->frame.body_size) {
        return 0;
    }
    body = slice_make(at + FRAME_HEADER_SIZE, reader->frame.body_size);
    if (head_crc(at, body) != (uint32_t)get(at + CRC_OFFSET, 4)) {
        return -ERR_CORRUPT;
    }
    if (reader->frame.payload_size == 0) {
        reader->start += FRAME_HEADER_SIZE + body.size;
    } else if (!begin_payload(reader, slice_make(at, FRAME_HEADER_SIZE + body.size))) {
        return 0;
    }
    return deliver(reader, body, out_frame, out_body, out_payload);
}
