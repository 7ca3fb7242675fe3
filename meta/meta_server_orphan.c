/*
 * meta_server_orphan: unlinked inodes are freed when every session has said that it does not hold
 * them open. The questions ride on KEEPALIVE replies; a new leader simply asks again.
 */
#include "base/bytes.h"
#include "base/mem.h"
#include "meta/meta_server_internal.h"

#define SCAN_MAX 4096 /* orphans looked at in one go: 4 ms at most */

static struct meta_orphan *orphan_of(struct meta_server *server, uint64_t ino)
{
    struct meta_orphan *orphan = map_get(&server->orphans, map_u64(ino));

    if (orphan == NULL) {
        orphan = mem_zalloc(sizeof(*orphan));
        orphan->ino = ino;
        map_put(&server->orphans, map_u64(ino), orphan);
    }
    return orphan;
}

static void orphan_free(struct meta_orphan *orphan)
{
    if (orphan != NULL) {
        mem_free(orphan->answered);
        mem_free(orphan);
    }
}

void server_orphan_adopted(struct meta_server *server, uint64_t ino)
{
    orphan_free(map_remove(&server->orphans, map_u64(ino)));
}

static bool has_answered(const struct meta_orphan *orphan, uint64_t session)
{
    for (unsigned i = 0; orphan != NULL && i < orphan->count; i++) {
        if (orphan->answered[i] == session) {
            return true;
        }
    }
    return false;
}

void server_orphans_answered(struct meta_server *server, uint64_t session, struct slice inos)
{
    for (size_t i = 0; i + 8 <= inos.size && i / 8 < META_ORPHAN_ANSWER_MAX; i += 8) {
        uint64_t ino = bytes_get_le64(inos.data + i);
        struct record_key key = record_key_orphan(ino);
        struct meta_orphan *orphan;
        struct slice value;

        if (!kv_get(server->ns.kv, record_slice(&key), &value)) {
            continue; /* freed, or made up */
        }
        orphan = orphan_of(server, ino);
        if (has_answered(orphan, session)) {
            continue;
        }
        if (orphan->count == orphan->capacity) {
            orphan->capacity = orphan->capacity ? orphan->capacity * 2 : 4;
            orphan->answered =
                mem_realloc(orphan->answered, orphan->capacity * sizeof(*orphan->answered));
        }
        orphan->answered[orphan->count++] = session;
    }
}

void server_orphans_ask(struct meta_server *server, struct meta_session *session,
                        struct buf *out_inos)
{
    uint64_t ino = session->orphan_cursor;
    bool detached;

    for (unsigned i = 0; i < SCAN_MAX && out_inos->size < META_ORPHAN_ANSWER_MAX * 8; i++) {
        if (!ns_next_orphan(&server->ns, ino, &ino, &detached)) {
            session->orphan_cursor = 0;
            return;
        }
        if (!detached && !has_answered(map_get(&server->orphans, map_u64(ino)), session->id)) {
            bytes_put_le64(buf_reserve(out_inos, 8), ino);
            out_inos->size += 8;
        }
    }
    session->orphan_cursor = ino;
}

static bool all_answered(struct meta_server *server, uint64_t ino)
{
    const struct meta_orphan *orphan = map_get(&server->orphans, map_u64(ino));
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&server->sessions, &at)) != NULL) {
        const struct meta_session *session = slot->value;

        if (!has_answered(orphan, session->id)) {
            return false;
        }
    }
    return true;
}

void server_orphans_tick(struct meta_server *server)
{
    cleanup(buf_deinit) struct buf inos = {0};
    struct meta_request command = {.op = META_ORPHAN_FREE};
    uint64_t ino = server->orphan_cursor;
    bool detached;

    if (server->freeing || server->ns.volume.orphans == 0) {
        return;
    }
    for (unsigned i = 0; i < SCAN_MAX && inos.size < META_FREE_STEP_INODES * 8; i++) {
        if (!ns_next_orphan(&server->ns, ino, &ino, &detached)) {
            ino = 0;
            break;
        }
        if (detached || all_answered(server, ino)) {
            bytes_put_le64(buf_reserve(&inos, 8), ino);
            inos.size += 8;
        }
    }
    server->orphan_cursor = ino;
    if (inos.size == 0) {
        return;
    }
    command.data = buf_slice(&inos);
    server->freeing = server_propose(server, &command, NULL) == 0;
    for (size_t i = 0; server->freeing && i < inos.size; i += 8) {
        /* What is not freed in one step is detached from then on: nobody is asked again. */
        orphan_free(map_remove(&server->orphans, map_u64(bytes_get_le64(inos.data + i))));
    }
}

void server_orphans_clear(struct meta_server *server)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&server->orphans, &at)) != NULL) {
        orphan_free(slot->value);
    }
    map_deinit(&server->orphans);
}
