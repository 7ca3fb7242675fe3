#pragma once
/*
 * raft_log_format: bytes on disk. Little endian.
 *
 *     segment: header (4 KiB), records back to back, 8-byte aligned, then zeros
 *     record:  head (56 bytes), data, zeros up to the next multiple of 8
 *
 * Files: log-<seq> is a segment, spare-<no> is zeroed space to come. A segment gets its name only
 * after its header and first record (the hard state) are durable; the previous one is complete by
 * then, which prev_end and prev_crc witness.
 */
#include "base/compiler.h"

#include <assert.h>

#define RAFT_LOG_MAGIC        UINT64_C(0x31474f4c4c45454b) /* "KEELLOG1" */
#define RAFT_LOG_VERSION      1
#define RAFT_LOG_HEADER_BYTES KiB(4)
#define RAFT_LOG_RECORD_MAGIC 0x44524f43u /* "CORD" */

struct raft_log_header {
    uint64_t magic;
    uint32_t version;
    uint32_t crc; /* crc32c of the 4 KiB with this field zero */
    uint8_t cluster_uuid[16];
    uint32_t node_id;
    uint32_t group;
    uint64_t seq;         /* of the segment; grows by one */
    uint64_t first_index; /* of the entry expected next when it was begun */
    uint64_t prev_end;    /* where the records of segment seq - 1 end */
    uint32_t prev_crc;    /* head_crc of its last record */
    uint32_t zero;
};

static_assert(sizeof(struct raft_log_header) == 72, "format");
static_assert(offsetof(struct raft_log_header, cluster_uuid) == 16, "format");

/* In a record's type: `term` and `vote` are the hard state when it was made, and the log ended then
 * at first_index + count - 1. What a record before it has promised is known from it, though that
 * one may be unreadable. RESET has no room for it. */
#define RAFT_LOG_PROMISES   0x100u
#define RAFT_LOG_TYPE(type) ((type)&0xffu)

enum raft_log_record_type {
    RAFT_LOG_ENTRIES = 1, /* replaces what the log holds from first_index on */
    RAFT_LOG_STATE = 2,   /* term, vote */
    RAFT_LOG_RESET = 3,   /* the log begins anew behind entry (first_index, term) */
};

struct raft_log_record {
    uint32_t magic;
    uint32_t
        head_crc;  /* crc32c of the head with this field zero, seeded with the low bits of seq */
    uint32_t size; /* of the data */
    uint32_t data_crc;
    uint64_t term;
    uint64_t first_index;
    uint32_t count;
    uint32_t type;
    uint64_t synced_upto; /* every byte of the segment before it was durable before this write */
    uint32_t prev_crc;    /* head_crc of the record before; of the first in a segment: 0 */
    uint32_t vote;
};

/* File `repair`: the log was damaged and cut; until it is whole again, what it had promised. */
#define RAFT_LOG_REPAIR_MAGIC UINT64_C(0x315045524c45454b) /* "KEELREP1" */

struct raft_log_repair_file {
    uint64_t magic;
    uint64_t term;
    uint64_t index; /* of the last entry that may have been acknowledged */
    uint32_t vote;
    uint32_t crc; /* crc32c of what is before */
};

static_assert(sizeof(struct raft_log_repair_file) == 32, "format");
static_assert(sizeof(struct raft_log_record) == 56, "format");
static_assert(offsetof(struct raft_log_record, synced_upto) == 40, "format");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs are written as they are");
