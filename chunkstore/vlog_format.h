#pragma once
/*
 * vlog_format: the log of records (the value log), little endian.
 *
 * Segment: a header block of 4096 bytes (magic u64, version u32, id u32, class u32, zero u32,
 * salt u64, crc32c u32 of these), then records, each at a multiple of 8 (class S) or 4096 (L).
 *
 * Record: header of 64 bytes | checksums | stored bytes | zeros to the alignment.
 *   0 magic u32        4 crc u32 of salt, offset, the header behind it and the checksums
 *   8 lsn u64         16 session u64       24 seq u64
 *  32 length u32      36 stored_length u32 40 crcs_bytes u32   44 partition u32
 *  48 flags u16       50 type u8           51 zero u8
 *  52 synced8 u32: so many bytes / 8 of this segment were durable when this record was written:
 *     what is damaged before that is corruption, behind it it may be a torn write
 *  56 server u32      60 zero u32
 *
 * The salt and the offset in the crc keep bytes that look like a record (a copy of a segment stored
 * in a chunk) from being taken for one.
 */
#include "base/slice.h"
#include "chunkstore/index_entry.h"

#define SEGMENT_MAGIC      UINT64_C(0x313047534b454b4b)
#define SEGMENT_VERSION    1
#define SEGMENT_HEAD_BYTES 4096
#define RECORD_MAGIC       UINT32_C(0x4b524543)
#define RECORD_HEAD_BYTES  64
#define RECORD_ALIGN_SMALL 8
#define RECORD_ALIGN_LARGE 4096

enum segment_class { SEGMENT_SMALL, SEGMENT_LARGE, SEGMENT_CLASSES };
enum record_type { RECORD_PUT = 1, RECORD_DELETE = 2, RECORD_MOVED = 3 };

struct record_head {
    uint64_t lsn;
    struct index_key key;
    uint32_t length;
    uint32_t stored_length;
    uint32_t crcs_bytes;
    uint32_t flags;
    uint32_t type;
    uint64_t synced; /* bytes */
    uint32_t server;
};

struct segment_head {
    uint32_t id;
    uint32_t class;
    uint64_t salt;
};

/* The checksums that a chunk of this length has, in bytes. */
uint32_t record_crcs_bytes(uint32_t length, uint32_t flags);
/* Header, checksums, data, padding. */
uint64_t record_bytes(unsigned class, uint32_t crcs_bytes, uint32_t stored_length);
enum segment_class record_class(uint32_t stored_length);
/* `at` has room for RECORD_HEAD_BYTES; the checksums follow it there already. */
void record_head_encode(const struct record_head *head, uint64_t salt, uint64_t offset,
                        uint8_t *at);
/* `bytes`: at least header and checksums. -ERR_CORRUPT when it is no valid record; -EAGAIN when
 * bytes.size is too small to hold the checksums that it says (then read more). */
int must_check record_head_decode(struct record_head *out_head, uint64_t salt, uint64_t offset,
                                  struct slice bytes);
/* Checks stored bytes [first block or frame ...) against checksums. 0 or -ERR_CORRUPT. */
int must_check record_verify(uint32_t length, uint32_t flags, struct slice crcs,
                             struct slice stored);

void segment_head_encode(const struct segment_head *head, uint8_t *at);
int must_check segment_head_decode(struct segment_head *out_head, struct slice bytes);
