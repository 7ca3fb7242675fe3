#pragma once
/*
 * chunk_proto: what clients, chunk servers and the metadata service say to each other about chunks.
 *
 * Checksums ("crcs"), made by the writing client, little endian:
 *   plain chunk:       one u32 crc32c per 4 KiB block of the plain bytes (the last may be short);
 *   compressed chunk:  per 64 KiB frame of plain bytes: u32 stored size, u32 crc32c of the stored
 *                      frame (a zstd frame, whose own checksum covers the plain bytes).
 */
#include "base/schema.h"
#include "chunkstore/placement.h"

#define CHUNK_BLOCK_BYTES  KiB(4)
#define CHUNK_FRAME_BYTES  KiB(64)
#define CHUNK_CRCS_MAX     (CHUNK_BYTES_MAX / CHUNK_BLOCK_BYTES * 4)
#define CHUNK_ID_BYTES     16   /* session, seq: u64 LE each */
#define CHUNK_LIST_MAX     4096 /* ids in one CHUNK_LIST reply */
#define CHUNK_LIVE_MAX     4096 /* ids in one CHUNK_META_LIVE */
#define CHUNK_VERIFY_MAX   256  /* chunks read by one CHUNK_VERIFY */
#define CHUNK_MAP_BODY_MAX KiB(120)
#define CHUNK_MEMBERS_MAX  KiB(2) /* addresses of metadata servers */
#define CHUNK_ADDRESS_MAX  255

enum chunk_opcode {
    CHUNK_PUT = 0x0200,    /* chunk_put_request, payload: stored bytes. Reply 0 = durable */
    CHUNK_GET = 0x0201,    /* chunk_get_request -> chunk_get_reply, payload: stored bytes */
    CHUNK_DELETE = 0x0202, /* chunk_delete_request. Reply 0 = gone for good */
    CHUNK_HINT = 0x0203,   /* chunk_hint_request: the receiver has a copy, `target` has none */
    CHUNK_REPAIR = 0x0204, /* chunk_repair_request: check your copy, pull another if it is bad */
    CHUNK_DIGEST = 0x0205, /* chunk_digest_request -> chunk_digest_reply */
    CHUNK_LIST = 0x0206,   /* chunk_list_request -> chunk_list_reply */
    CHUNK_STATUS = 0x0207, /* -> chunk_status */
    CHUNK_VERIFY = 0x0208, /* chunk_verify_request -> chunk_verify_reply */
    /* Served by metad. A server that does not lead answers -ERR_NOT_LEADER. */
    CHUNK_META_HEARTBEAT = 0x0280, /* chunk_heartbeat -> chunk_heartbeat_reply */
    CHUNK_META_LIVE = 0x0281,      /* chunk_live_request -> chunk_live_reply */
};

enum chunk_flag { CHUNK_COMPRESSED = 1 };

enum chunk_health {
    CHUNK_HEALTH_OK,
    CHUNK_HEALTH_FULL,     /* refuses puts, serves reads and deletes */
    CHUNK_HEALTH_DEGRADED, /* found damage that is not repaired yet */
    CHUNK_HEALTH_FAILED,   /* its disk failed, it serves nothing (cli/standin.h) */
};

enum chunk_liveness { CHUNK_LIVE_UNKNOWN, CHUNK_LIVE_LIVE, CHUNK_LIVE_DEAD };

/* clang-format off */
/*    kind   field        max                      since */
#define CHUNK_PUT_REQUEST(F)                                \
    F(u64,   session,     0,                       1)       \
    F(u64,   seq,         0,                       1)       \
    F(u32,   length,      0,                       1)       \
    F(u32,   flags,       0,                       1)       \
    F(u64,   epoch,       0,                       1)       \
    F(u32,   partition,   0,                       1)       \
    F(bytes, crcs,        CHUNK_CRCS_MAX,          1)
/* length: plain bytes. epoch: of the sender's map; 0 = a copy made by a peer. */

#define CHUNK_PUT_REPLY(F)                                  \
    F(u64,   room,        0,                       1)
/* Bytes that the server still takes, about, plus 1; 0 = it does not know. */

#define CHUNK_GET_REQUEST(F)                                \
    F(u64,   session,     0,                       1)       \
    F(u64,   seq,         0,                       1)       \
    F(u32,   offset,      0,                       1)       \
    F(u32,   length,      0,                       1)       \
    F(u64,   epoch,       0,                       1)
/* length 0: the whole chunk from offset 0. */

#define CHUNK_GET_REPLY(F)                                  \
    F(u32,   length,      0,                       1)       \
    F(u32,   flags,       0,                       1)       \
    F(u32,   first,       0,                       1)       \
    F(bytes, crcs,        CHUNK_CRCS_MAX,          1)
/* length: plain bytes of the whole chunk. first: number of the first block (or frame) in the
 * payload; crcs: of the blocks (frames) in the payload. */

#define CHUNK_DELETE_REQUEST(F)                             \
    F(u64,   epoch,       0,                       1)       \
    F(bytes, ids,         CHUNK_DELETE_MAX * CHUNK_ID_BYTES, 1)

#define CHUNK_HINT_REQUEST(F)                               \
    F(u64,   session,     0,                       1)       \
    F(u64,   seq,         0,                       1)       \
    F(u32,   target,      0,                       1)

#define CHUNK_REPAIR_REQUEST(F)                             \
    F(u64,   session,     0,                       1)       \
    F(u64,   seq,         0,                       1)

#define CHUNK_DIGEST_REQUEST(F)                             \
    F(u32,   first,       0,                       1)       \
    F(u32,   count,       0,                       1)
/* Partitions [first, first + count). */

#define CHUNK_DIGEST_REPLY(F)                               \
    F(bytes, digests,     KiB(64),                 1)       \
    F(u64,   epoch,       0,                       2)
/* Per partition: u64 LE XOR of chunk_id_hash, u64 LE count. epoch: of the map by which puts are
 * refused; none that was accepted by an older one is still on its way. 0 = not known. */

#define CHUNK_LIST_REQUEST(F)                               \
    F(u32,   partition,   0,                       1)       \
    F(u64,   session,     0,                       1)       \
    F(u64,   seq,         0,                       1)       \
    F(u32,   max,         0,                       1)
/* The ids of the partition at or behind {session, seq}, in order; at most `max`. */

#define CHUNK_LIST_REPLY(F)                                 \
    F(bool,  last,        0,                       1)       \
    F(bytes, ids,         CHUNK_LIST_MAX * CHUNK_ID_BYTES, 1)

#define CHUNK_VERIFY_REQUEST(F)                             \
    F(u32,   partition,   0,                       1)       \
    F(u64,   session,     0,                       1)       \
    F(u64,   seq,         0,                       1)       \
    F(u32,   max,         0,                       1)       \
    F(bool,  repair,      0,                       1)
/* Reads the chunks of the partition at or behind {session, seq} and holds them against their
 * checksums: at most `max` of them (0 = CHUNK_VERIFY_MAX), and about 8 MiB. repair: a damaged one
 * is pulled from another owner, as when a reader finds it; else nothing is changed. */

#define CHUNK_VERIFY_REPLY(F)                               \
    F(bool,  last,        0,                       1)       \
    F(u64,   session,     0,                       1)       \
    F(u64,   seq,         0,                       1)       \
    F(u32,   chunks,      0,                       1)       \
    F(u64,   bytes,       0,                       1)       \
    F(bytes, damaged,     CHUNK_VERIFY_MAX * CHUNK_ID_BYTES, 1)
/* last: the partition ends here; else it goes on at {session, seq}. chunks, bytes: read. damaged:
 * ids of the copies that cannot be read or do not match. */

#define CHUNK_STATUS_RECORD(F)                              \
    F(u32,   server_id,   0,                       1)       \
    F(u64,   epoch,       0,                       1)       \
    F(u32,   health,      0,                       1)       \
    F(u64,   chunks,      0,                       1)       \
    F(u64,   stored_bytes, 0,                      1)       \
    F(u64,   dead_bytes,  0,                       1)       \
    F(u64,   disk_total,  0,                       1)       \
    F(u64,   disk_free,   0,                       1)       \
    F(u64,   put_count,   0,                       1)       \
    F(u64,   get_count,   0,                       1)       \
    F(u64,   delete_count, 0,                      1)       \
    F(u64,   groups,      0,                       1)       \
    F(u64,   corrupt_found, 0,                     1)       \
    F(u64,   torn_tails,  0,                       1)       \
    F(u64,   repairs,     0,                       1)       \
    F(u64,   hints_waiting, 0,                     1)       \
    F(u64,   hints_delivered, 0,                   1)       \
    F(u64,   scrubbed_bytes, 0,                    1)       \
    F(u64,   cleaned_bytes, 0,                     1)
/* chunks, stored_bytes: live. dead_bytes: in segments, not given back yet. groups: commits. */

#define CHUNK_HEARTBEAT(F)                                  \
    F(u32,   server_id,   0,                       1)       \
    F(bytes, address,     255,                     1)       \
    F(bytes, zone,        31,                      1)       \
    F(u64,   total_bytes, 0,                       1)       \
    F(u64,   free_bytes,  0,                       1)       \
    F(u32,   health,      0,                       1)       \
    F(u64,   epoch,       0,                       1)       \
    F(bytes, settled,     CHUNK_PARTITIONS / 8,    2)
/* epoch: of the map that the server has; 0 = none. settled: by that map, where it has all that
 * those had whose place it takes; a bit for each partition. */

#define CHUNK_HEARTBEAT_REPLY(F)                            \
    F(u64,   epoch,       0,                       1)       \
    F(bytes, map,         CHUNK_MAP_BODY_MAX,      1)       \
    F(bytes, members,     CHUNK_MEMBERS_MAX,       2)
/* map: cluster_map_encode, only when newer than the sender's. Also the body of a reply with status
 * -ERR_STALE_EPOCH from a chunk server, without members. members: the addresses of the metadata
 * servers, each written as bytes; also with -ERR_NOT_LEADER and
 * -ERR_NO_LEADER. */

#define CHUNK_LIVE_REQUEST(F)                               \
    F(u32,   server_id,   0,                       1)       \
    F(bytes, ids,         CHUNK_LIVE_MAX * CHUNK_ID_BYTES, 1)

#define CHUNK_LIVE_REPLY(F)                                 \
    F(bytes, liveness,    CHUNK_LIVE_MAX,          1)
/* One chunk_liveness byte per id, in order. */
/* clang-format on */

SCHEMA_DEFINE(chunk_put_request, CHUNK_PUT_REQUEST);
SCHEMA_DEFINE(chunk_put_reply, CHUNK_PUT_REPLY);
SCHEMA_DEFINE(chunk_get_request, CHUNK_GET_REQUEST);
SCHEMA_DEFINE(chunk_get_reply, CHUNK_GET_REPLY);
SCHEMA_DEFINE(chunk_delete_request, CHUNK_DELETE_REQUEST);
SCHEMA_DEFINE(chunk_hint_request, CHUNK_HINT_REQUEST);
SCHEMA_DEFINE(chunk_repair_request, CHUNK_REPAIR_REQUEST);
SCHEMA_DEFINE(chunk_digest_request, CHUNK_DIGEST_REQUEST);
SCHEMA_DEFINE(chunk_digest_reply, CHUNK_DIGEST_REPLY);
SCHEMA_DEFINE(chunk_list_request, CHUNK_LIST_REQUEST);
SCHEMA_DEFINE(chunk_list_reply, CHUNK_LIST_REPLY);
SCHEMA_DEFINE(chunk_verify_request, CHUNK_VERIFY_REQUEST);
SCHEMA_DEFINE(chunk_verify_reply, CHUNK_VERIFY_REPLY);
SCHEMA_DEFINE(chunk_status, CHUNK_STATUS_RECORD);
SCHEMA_DEFINE(chunk_heartbeat, CHUNK_HEARTBEAT);
SCHEMA_DEFINE(chunk_heartbeat_reply, CHUNK_HEARTBEAT_REPLY);
SCHEMA_DEFINE(chunk_live_request, CHUNK_LIVE_REQUEST);
SCHEMA_DEFINE(chunk_live_reply, CHUNK_LIVE_REPLY);

const char *chunk_health_name(unsigned health);
/* Appends, or reads the `index`th of, a packed list of ids. */
void chunk_ids_append(struct buf *ids, uint64_t session, uint64_t seq);
void chunk_ids_get(struct slice ids, size_t index, uint64_t *out_session, uint64_t *out_seq);
size_t chunk_ids_count(struct slice ids); /* 0 when the size is no multiple */
uint64_t chunk_id_hash(uint64_t session, uint64_t seq);
