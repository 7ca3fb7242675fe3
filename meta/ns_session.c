#include "meta/ns_internal.h"

#include "chunkstore/chunk_proto.h"

bool ns_get_session(struct ns *ns, uint64_t session, struct record_session *out_record)
{
    struct record_key key = record_key_session(session);
    struct slice value;

    return kv_get(ns->kv, record_slice(&key), &value) &&
           record_session_decode(out_record, value) == 0;
}

bool ns_next_session(struct ns *ns, uint64_t after, uint64_t *out_session)
{
    struct record_key from = record_key_session(after + 1);
    struct slice key, value;

    if (after == UINT64_MAX || !kv_seek(ns->kv, record_slice(&from), &key, &value) ||
        !record_key_is(key, 'S')) {
        return false;
    }
    *out_session = record_key_number(key, 0);
    return true;
}

bool ns_next_orphan(struct ns *ns, uint64_t after, uint64_t *out_ino, bool *out_detached)
{
    struct record_key from = record_key_orphan(after + 1);
    struct record_orphan record;
    struct slice key, value;

    if (after == UINT64_MAX || !kv_seek(ns->kv, record_slice(&from), &key, &value) ||
        !record_key_is(key, 'O') || record_orphan_decode(&record, value) < 0) {
        return false;
    }
    *out_ino = record_key_number(key, 0);
    *out_detached = record.detached;
    return true;
}

unsigned ns_dead_chunks(struct ns *ns, uint64_t before, unsigned max, struct buf *out_ids)
{
    struct record_key from = record_key_gone(0, 0, 0);
    unsigned count = 0;

    while (count < max) {
        uint64_t session, seq, time;
        struct slice key, value;

        if (!kv_seek(ns->kv, record_slice(&from), &key, &value) || !record_key_is(key, 'G')) {
            break;
        }
        time = record_key_number(key, 0);
        session = record_key_number(key, 1);
        seq = record_key_number(key, 2);
        if (time >= before) {
            break;
        }
        chunk_ids_append(out_ids, session, seq);
        if (seq < UINT64_MAX) {
            from = record_key_gone(time, session, seq + 1);
        } else { /* clients choose seq: any number is possible */
            from = session < UINT64_MAX ? record_key_gone(time, session + 1, 0)
                                        : record_key_gone(time + 1, 0, 0);
        }
        count++;
    }
    return count;
}

bool ns_get_chunk(struct ns *ns, uint64_t session, uint64_t seq, struct record_chunk *out_record)
{
    struct record_key key = record_key_chunk(session, seq);
    struct slice value;

    return kv_get(ns->kv, record_slice(&key), &value) &&
           record_chunk_decode(out_record, value) == 0;
}

bool ns_get_map(struct ns *ns, struct slice *out_map)
{
    struct record_key key = record_key_map();

    return kv_get(ns->kv, record_slice(&key), out_map);
}

/* The same nonce again is the same client whose reply was lost. */
static bool find_nonce(struct ns *ns, uint64_t nonce, uint64_t *out_session)
{
    struct record_session record;
    uint64_t session = 0;

    while (ns_next_session(ns, session, &session)) {
        if (ns_get_session(ns, session, &record) && record.nonce == nonce) {
            *out_session = session;
            return true;
        }
    }
    return false;
}

int ns_session_open(struct ns *ns)
{
    struct record_session record = {.nonce = ns->request->offset, .opened = ns->stamp};
    struct record_key key;
    uint64_t session;

    ns->reply.value2 = META_LEASE_NS;
    if (find_nonce(ns, record.nonce, &session)) {
        ns->reply.value = session;
        return 0;
    }
    if (ns->volume.sessions >= META_SESSIONS_MAX) {
        return -EMFILE;
    }
    session = ns->volume.next_session++;
    key = record_key_session(session);
    buf_clear(&ns->scratch);
    record_session_encode(&record, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
    ns->volume.sessions++;
    ns->reply.value = session;
    return 0;
}

int ns_session_close(struct ns *ns, uint64_t session)
{
    struct record_key key = record_key_session(session);
    struct record_key from = record_key_reply(session, 0);
    struct record_session record = {0};
    struct slice at, value;

    if (!ns_get_session(ns, session, &record)) {
        return 0; /* closed or expired before */
    }
    kv_del(ns->kv, record_slice(&key));
    ns->volume.sessions--;
    locks_end(ns, session, &record);
    while (kv_seek(ns->kv, record_slice(&from), &at, &value) &&
           record_key_same_group(at, 'R', session)) {
        key = record_key_reply(session, record_key_number(at, 1));
        kv_del(ns->kv, record_slice(&key));
    }
    return 0;
}

/* count: how many. value: the first; they replace what the session had reserved before. */
int ns_reserve_inos(struct ns *ns)
{
    uint32_t count = ns->request->count;

    if (count == 0 || count > META_RESERVE_MAX) {
        return -EINVAL;
    }
    ns->session->inos_from = ns->volume.next_ino;
    ns->session->inos_to = ns->session->inos_from + count;
    ns->volume.next_ino = ns->session->inos_to;
    ns->reply.value = ns->session->inos_from;
    return 0;
}

bool ino_is_reserved(struct ns *ns, uint64_t ino)
{
    struct record_key key = record_key_inode(ino);
    struct slice value;

    return ino >= ns->session->inos_from && ino < ns->session->inos_to &&
           !kv_get(ns->kv, record_slice(&key), &value);
}
