#include "chunkstore/vlog_format.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/limits.h"

#include <errno.h>

uint32_t record_crcs_bytes(uint32_t length, uint32_t flags)
{
    return (flags & CHUNK_COMPRESSED) != 0
               ? (uint32_t)(round_up(length, CHUNK_FRAME_BYTES) / CHUNK_FRAME_BYTES * 8)
               : (uint32_t)(round_up(length, CHUNK_BLOCK_BYTES) / CHUNK_BLOCK_BYTES * 4);
}

enum segment_class record_class(uint32_t stored_length)
{
    return stored_length < STORE_SMALL_MAX ? SEGMENT_SMALL : SEGMENT_LARGE;
}

uint64_t record_bytes(unsigned class, uint32_t crcs_bytes, uint32_t stored_length)
{
    return round_up((uint64_t)RECORD_HEAD_BYTES + crcs_bytes + stored_length,
                    class == SEGMENT_SMALL ? RECORD_ALIGN_SMALL : RECORD_ALIGN_LARGE);
}

static uint32_t head_crc(uint64_t salt, uint64_t offset, const uint8_t *at, size_t size)
{
    uint8_t place[16];

    bytes_put_le64(place, salt);
    bytes_put_le64(place + 8, offset);
    return crc32c(crc32c(0, slice_make(place, sizeof(place))), slice_make(at + 8, size - 8));
}

void record_head_encode(const struct record_head *head, uint64_t salt, uint64_t offset, uint8_t *at)
{
    ASSERT(head->synced % 8 == 0);
    memset(at, 0, RECORD_HEAD_BYTES);
    bytes_put_le32(at, RECORD_MAGIC);
    bytes_put_le64(at + 8, head->lsn);
    bytes_put_le64(at + 16, head->key.session);
    bytes_put_le64(at + 24, head->key.seq);
    bytes_put_le32(at + 32, head->length);
    bytes_put_le32(at + 36, head->stored_length);
    bytes_put_le32(at + 40, head->crcs_bytes);
    bytes_put_le32(at + 44, head->key.partition);
    bytes_put_le16(at + 48, (uint16_t)head->flags);
    at[50] = (uint8_t)head->type;
    bytes_put_le32(at + 52, (uint32_t)(head->synced / 8));
    bytes_put_le32(at + 56, head->server);
    bytes_put_le32(at + 4, head_crc(salt, offset, at, RECORD_HEAD_BYTES + head->crcs_bytes));
}

static bool head_plausible(const struct record_head *head)
{
    if (head->type == RECORD_DELETE) {
        return head->length == 0 && head->stored_length == 0 && head->crcs_bytes == 0;
    }
    return (head->type == RECORD_PUT || head->type == RECORD_MOVED) && head->length > 0 &&
           head->length <= CHUNK_BYTES_MAX && head->stored_length > 0 &&
           head->stored_length <= CHUNK_BYTES_MAX &&
           head->crcs_bytes == record_crcs_bytes(head->length, head->flags);
}

int record_head_decode(struct record_head *out_head, uint64_t salt, uint64_t offset,
                       struct slice bytes)
{
    const uint8_t *at = bytes.data;
    struct record_head head;

    if (bytes.size < RECORD_HEAD_BYTES || bytes_get_le32(at) != RECORD_MAGIC) {
        return -ERR_CORRUPT;
    }
    head = (struct record_head){
        .lsn = bytes_get_le64(at + 8),
        .key = {bytes_get_le32(at + 44), bytes_get_le64(at + 16), bytes_get_le64(at + 24)},
        .length = bytes_get_le32(at + 32),
        .stored_length = bytes_get_le32(at + 36),
        .crcs_bytes = bytes_get_le32(at + 40),
        .flags = bytes_get_le16(at + 48),
        .type = at[50],
        .synced = (uint64_t)bytes_get_le32(at + 52) * 8,
        .server = bytes_get_le32(at + 56),
    };
    if (!head_plausible(&head)) {
        return -ERR_CORRUPT;
    }
    if (bytes.size < RECORD_HEAD_BYTES + head.crcs_bytes) {
        return -EAGAIN;
    }
    if (bytes_get_le32(at + 4) != head_crc(salt, offset, at, RECORD_HEAD_BYTES + head.crcs_bytes)) {
        return -ERR_CORRUPT;
    }
    *out_head = head;
    return 0;
}

int record_verify(uint32_t length, uint32_t flags, struct slice crcs, struct slice stored)
{
    return chunk_crcs_check(length, flags, 0, crcs, stored);
}

void segment_head_encode(const struct segment_head *head, uint8_t *at)
{
    memset(at, 0, SEGMENT_HEAD_BYTES);
    bytes_put_le64(at, SEGMENT_MAGIC);
    bytes_put_le32(at + 8, SEGMENT_VERSION);
    bytes_put_le32(at + 12, head->id);
    bytes_put_le32(at + 16, head->class);
    bytes_put_le64(at + 24, head->salt);
    bytes_put_le32(at + 32, crc32c(0, slice_make(at, 32)));
}

int segment_head_decode(struct segment_head *out_head, struct slice bytes)
{
    if (bytes.size < 36 || bytes_get_le64(bytes.data) != SEGMENT_MAGIC ||
        bytes_get_le32(bytes.data + 32) != crc32c(0, slice_make(bytes.data, 32)) ||
        bytes_get_le32(bytes.data + 16) >= SEGMENT_CLASSES) {
        return -ERR_CORRUPT;
    }
    if (bytes_get_le32(bytes.data + 8) != SEGMENT_VERSION) {
        return -ERR_BAD_FORMAT;
    }
    *out_head =
        (struct segment_head){bytes_get_le32(bytes.data + 12), bytes_get_le32(bytes.data + 16),
                              bytes_get_le64(bytes.data + 24)};
    return 0;
}
