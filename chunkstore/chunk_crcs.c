#include "chunkstore/chunk_crcs.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "chunkstore/vlog_format.h"

#include <errno.h>

static void append_crc(struct buf *out, uint32_t crc)
{
    bytes_put_le32(buf_reserve(out, 4), crc);
    out->size += 4;
}

void chunk_crcs_make(const struct iovec *iov, unsigned iov_count, struct buf *out)
{
    uint32_t crc = 0;
    size_t in_block = 0;

    for (unsigned i = 0; i < iov_count; i++) {
        const uint8_t *at = iov[i].iov_base;
        size_t left = iov[i].iov_len;

        while (left > 0) {
            size_t part = (size_t)min_u64(left, CHUNK_BLOCK_BYTES - in_block);

            crc = crc32c(crc, slice_make(at, part));
            at += part;
            left -= part;
            in_block += part;
            if (in_block == CHUNK_BLOCK_BYTES) {
                append_crc(out, crc);
                crc = 0;
                in_block = 0;
            }
        }
    }
    if (in_block > 0) {
        append_crc(out, crc);
    }
}

uint32_t chunk_crcs_bytes(uint32_t length, uint32_t flags)
{
    return record_crcs_bytes(length, flags);
}

static int check_plain(uint32_t length, uint32_t first, struct slice crcs, struct slice stored)
{
    uint64_t start = (uint64_t)first * CHUNK_BLOCK_BYTES;
    size_t count = crcs.size / 4;

    if (start >= length || stored.size == 0 || stored.size > length - start ||
        round_up(stored.size, CHUNK_BLOCK_BYTES) / CHUNK_BLOCK_BYTES != count ||
        (stored.size % CHUNK_BLOCK_BYTES != 0 && start + stored.size != length)) {
        return -ERR_CORRUPT;
    }
    for (size_t i = 0; i < count; i++) {
        size_t offset = i * CHUNK_BLOCK_BYTES;
        size_t size = (size_t)min_u64(CHUNK_BLOCK_BYTES, stored.size - offset);

        if (bytes_get_le32(crcs.data + i * 4) !=
            crc32c(0, slice_make(stored.data + offset, size))) {
            return -ERR_CORRUPT;
        }
    }
    return 0;
}

static int check_frames(struct slice crcs, struct slice stored)
{
    size_t offset = 0;

    for (size_t i = 0; i < crcs.size / 8; i++) {
        uint32_t size = bytes_get_le32(crcs.data + i * 8);

        if (size == 0 || size > stored.size - offset ||
            bytes_get_le32(crcs.data + i * 8 + 4) !=
                crc32c(0, slice_make(stored.data + offset, size))) {
            return -ERR_CORRUPT;
        }
        offset += size;
    }
    return offset == stored.size ? 0 : -ERR_CORRUPT;
}

int chunk_crcs_check(uint32_t length, uint32_t flags, uint32_t first, struct slice crcs,
                     struct slice stored)
{
    bool compressed = (flags & CHUNK_COMPRESSED) != 0;
    uint32_t whole = chunk_crcs_bytes(length, flags);
    uint64_t unit = compressed ? 8 : 4;

    if (crcs.size == 0 || crcs.size % unit != 0 || first * unit + crcs.size > whole) {
        return -ERR_CORRUPT;
    }
    return compressed ? check_frames(crcs, stored) : check_plain(length, first, crcs, stored);
}

static int find_frames(struct chunk_span *span, struct slice crcs, uint32_t stored)
{
    uint64_t at = 0;
    uint64_t end = 0;

    for (uint32_t i = 0; i < crcs.size / 8; i++) {
        if (i == span->first) {
            span->stored_offset = (uint32_t)at;
        }
        at += bytes_get_le32(crcs.data + (size_t)i * 8);
        if (at > stored) {
            return -ERR_CORRUPT;
        }
        if (i + 1 == span->first + span->count) {
            end = at;
        }
    }
    if (at != stored || end < span->stored_offset) {
        return -ERR_CORRUPT;
    }
    span->stored_length = (uint32_t)end - span->stored_offset;
    return 0;
}

int chunk_span_find(struct chunk_span *out_span, uint32_t length, uint32_t flags, struct slice crcs,
                    uint32_t stored, struct chunk_span want)
{
    uint32_t unit = (flags & CHUNK_COMPRESSED) != 0 ? CHUNK_FRAME_BYTES : CHUNK_BLOCK_BYTES;
    uint64_t end = (uint64_t)want.stored_offset + want.stored_length;
    struct chunk_span span = {0};

    if (want.stored_length == 0 || end > length) {
        return -EINVAL;
    }
    span.first = want.stored_offset / unit;
    span.count = (uint32_t)((end + unit - 1) / unit) - span.first;
    if ((flags & CHUNK_COMPRESSED) != 0) {
        int r = find_frames(&span, crcs, stored);

        if (r < 0) {
            return r;
        }
    } else {
        span.stored_offset = span.first * unit;
        span.stored_length =
            (uint32_t)min_u64((uint64_t)span.count * unit, length - span.stored_offset);
    }
    *out_span = span;
    return 0;
}
