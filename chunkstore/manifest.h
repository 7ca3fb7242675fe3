#pragma once
/*
 * manifest: the list of tables and segments that make up the store, in the file MANIFEST, replaced
 * whole by rename. Pure: encode and decode.
 *
 * Everything in the log up to each segment's `indexed` is in the tables; recovery replays the rest.
 * A segment file with an id at or above next_segment is newer than the manifest; one below that is
 * not listed was cleaned away. The counters are as of the same instant as `indexed`.
 */
#include "base/buf.h"
#include "base/schema.h"

/* clang-format off */
#define MANIFEST_HEAD(F)                                    \
    F(u32,   version,       0,                     1)       \
    F(u64,   next_table,    0,                     1)       \
    F(u32,   next_segment,  0,                     1)       \
    F(u64,   lsn,           0,                     1)       \
    F(u64,   chunks,        0,                     1)       \
    F(u64,   stored_bytes,  0,                     1)       \
    F(u32,   table_count,   0,                     1)       \
    F(u32,   segment_count, 0,                     1)       \
    F(bytes, digests,       MiB(1),                1)
/* lsn: highest in the tables. digests: per partition XOR and count (chunk_digest_reply). */

#define MANIFEST_TABLE(F)                                   \
    F(u64,   id,            0,                     1)       \
    F(u32,   level,         0,                     1)       \
    F(u64,   size,          0,                     1)

#define MANIFEST_SEGMENT(F)                                 \
    F(u32,   id,            0,                     1)       \
    F(u32,   class,         0,                     1)       \
    F(u64,   salt,          0,                     1)       \
    F(u64,   indexed,       0,                     1)       \
    F(u64,   dead,          0,                     1)       \
    F(bool,  sealed,        0,                     1)
/* clang-format on */

SCHEMA_DEFINE(manifest_head, MANIFEST_HEAD);
SCHEMA_DEFINE(manifest_table, MANIFEST_TABLE);
SCHEMA_DEFINE(manifest_segment, MANIFEST_SEGMENT);

#define MANIFEST_VERSION 1

struct manifest {
    struct manifest_head head;         /* digests: borrowed from the caller or from `digests` */
    struct manifest_table *tables;     /* owned; L0 oldest first */
    struct manifest_segment *segments; /* owned */
    struct buf digests;                /* owned */
};

void manifest_deinit(struct manifest *manifest);
void manifest_add_table(struct manifest *manifest, const struct manifest_table *table);
void manifest_add_segment(struct manifest *manifest, const struct manifest_segment *segment);
void manifest_encode(const struct manifest *manifest, struct buf *out);
/* -ERR_CORRUPT, or -ERR_BAD_FORMAT for a newer version. */
int must_check manifest_decode(struct manifest *out_manifest, struct slice bytes);
