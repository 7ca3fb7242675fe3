#pragma once
/*
 * frame: the one shape of everything on a connection: a 40-byte header with a checksum over header
 * and body, encoded fields (body), raw bytes (payload) with a checksum of their own. Pure.
 */
#include "base/buf.h"

#include <sys/uio.h>

#define FRAME_HEADER_SIZE 40
#define FRAME_MAGIC       0x4b46 /* "FK" on the wire */
#define FRAME_VERSION     1

enum frame_type { FRAME_HELLO = 1, FRAME_REQUEST, FRAME_REPLY, FRAME_ONEWAY, FRAME_TYPE_END };

struct frame {
    uint8_t type;
    uint16_t opcode;
    uint16_t flags;
    uint32_t body_size;
    uint32_t payload_size;
    uint64_t id;
    uint32_t deadline_ms; /* remaining, relative; 0 in replies */
    uint32_t status;      /* replies: 0 or a positive code */
    uint32_t payload_crc;
};

/* Appends header and body to `out`; the payload follows on the wire. Sizes and the payload's
 * checksum are filled in. */
void frame_encode(struct frame frame, struct slice body, struct slice payload, struct buf *out);
/* Checks magic, version, type and limits, not the checksum. 0 or -ERR_BAD_MESSAGE. */
int must_check frame_decode_header(struct frame *out_frame,
                                   const uint8_t header[FRAME_HEADER_SIZE]);

/* Cuts a stream into frames: small ones from a staging buffer, large payloads read in place. */
struct frame_reader {
    uint8_t *staging;
    size_t start, end; /* unparsed bytes in staging */
    struct frame frame;
    bool in_payload;
    struct buf head;    /* header and body of the frame whose payload is coming in */
    struct buf payload; /* of the frame in the making */
    size_t payload_need;
};

void frame_reader_init(struct frame_reader *reader);
void frame_reader_deinit(struct frame_reader *reader);
/* Where the next bytes go. */
struct iovec frame_reader_want(struct frame_reader *reader);
void frame_reader_received(struct frame_reader *reader, size_t size);
/* 1: a whole frame; body is borrowed until the next call, the payload may be taken. 0: more bytes
 * are needed. -ERR_BAD_MESSAGE, -ERR_CORRUPT: the connection is of no use any more. */
int must_check frame_reader_next(struct frame_reader *reader, struct frame *out_frame,
                                 struct slice *out_body, struct buf **out_payload);
