#include "chunkstore/chunk_proto.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"

SCHEMA_IMPLEMENT(chunk_put_request, CHUNK_PUT_REQUEST)
SCHEMA_IMPLEMENT(chunk_put_reply, CHUNK_PUT_REPLY)
SCHEMA_IMPLEMENT(chunk_get_request, CHUNK_GET_REQUEST)
SCHEMA_IMPLEMENT(chunk_get_reply, CHUNK_GET_REPLY)
SCHEMA_IMPLEMENT(chunk_delete_request, CHUNK_DELETE_REQUEST)
SCHEMA_IMPLEMENT(chunk_hint_request, CHUNK_HINT_REQUEST)
SCHEMA_IMPLEMENT(chunk_repair_request, CHUNK_REPAIR_REQUEST)
SCHEMA_IMPLEMENT(chunk_digest_request, CHUNK_DIGEST_REQUEST)
SCHEMA_IMPLEMENT(chunk_digest_reply, CHUNK_DIGEST_REPLY)
SCHEMA_IMPLEMENT(chunk_list_request, CHUNK_LIST_REQUEST)
SCHEMA_IMPLEMENT(chunk_list_reply, CHUNK_LIST_REPLY)
SCHEMA_IMPLEMENT(chunk_verify_request, CHUNK_VERIFY_REQUEST)
SCHEMA_IMPLEMENT(chunk_verify_reply, CHUNK_VERIFY_REPLY)
SCHEMA_IMPLEMENT(chunk_status, CHUNK_STATUS_RECORD)
SCHEMA_IMPLEMENT(chunk_heartbeat, CHUNK_HEARTBEAT)
SCHEMA_IMPLEMENT(chunk_heartbeat_reply, CHUNK_HEARTBEAT_REPLY)
SCHEMA_IMPLEMENT(chunk_live_request, CHUNK_LIVE_REQUEST)
SCHEMA_IMPLEMENT(chunk_live_reply, CHUNK_LIVE_REPLY)

const char *chunk_health_name(unsigned health)
{
    static const char *const names[] = {"ok", "full", "degraded", "failed"};

    return health < ARRAY_SIZE(names) ? names[health] : "?";
}

void chunk_ids_append(struct buf *ids, uint64_t session, uint64_t seq)
{
    uint8_t *at = buf_reserve(ids, CHUNK_ID_BYTES);

    bytes_put_le64(at, session);
    bytes_put_le64(at + 8, seq);
    ids->size += CHUNK_ID_BYTES;
}

void chunk_ids_get(struct slice ids, size_t index, uint64_t *out_session, uint64_t *out_seq)
{
    ASSERT(index < ids.size / CHUNK_ID_BYTES);
    *out_session = bytes_get_le64(ids.data + index * CHUNK_ID_BYTES);
    *out_seq = bytes_get_le64(ids.data + index * CHUNK_ID_BYTES + 8);
}

size_t chunk_ids_count(struct slice ids)
{
    return ids.size % CHUNK_ID_BYTES == 0 ? ids.size / CHUNK_ID_BYTES : 0;
}

uint64_t chunk_id_hash(uint64_t session, uint64_t seq)
{
    return hash_mix64(seq ^ hash_mix64(session + UINT64_C(0x9e3779b97f4a7c15)));
}
