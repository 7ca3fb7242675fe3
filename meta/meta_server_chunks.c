/*
 * meta_server_chunks: chunk servers make themselves known, the leader makes the cluster map, says
 * which chunks are alive, and deletes those that are dead for longer than the grace.
 */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/chunk_proto.h"
#include "meta/meta_server_internal.h"

#include <errno.h>

#define GC_TIMEOUT_NS (20 * NS_PER_S)
#define GC_RETRY_NS   (5 * NS_PER_S) /* after a failure: a server is down */
#define MAP_PAUSE_NS  (5 * NS_PER_S) /* before a map that only says what has settled */

static struct meta_chunk_server *find_server(struct meta_server *server, uint32_t id)
{
    for (unsigned i = 0; i < server->server_count; i++) {
        if (server->servers[i].info.id == id) {
            return &server->servers[i];
        }
    }
    return NULL;
}

static struct meta_chunk_server *add_server(struct meta_server *server, uint32_t id)
{
    struct meta_chunk_server *chunk = find_server(server, id);

    if (chunk == NULL && server->server_count < CHUNK_SERVERS_MAX) {
        chunk = &server->servers[server->server_count++];
        *chunk = (struct meta_chunk_server){.info = {.id = id}};
    }
    return chunk;
}

/* ---- the map ---- */

/* Takes over the map that the state holds. */
void server_map_applied(struct meta_server *server)
{
    struct cluster_map map = {0};
    struct slice bytes;

    if (!ns_get_map(&server->ns, &bytes)) {
        return;
    }
    if (cluster_map_decode(&map, bytes) < 0) {
        LOG_ERROR(server->env, "meta", "the cluster map cannot be decoded epoch=%" PRIu64,
                  server->ns.volume.map_epoch);
        return;
    }
    cluster_map_deinit(&server->map);
    server->map = map;
    for (uint32_t i = 0; i < map.server_count; i++) {
        struct meta_chunk_server *chunk = add_server(server, map.servers[i].id);

        if (chunk != NULL && chunk->heard_ns == 0) {
            chunk->info = map.servers[i];
        }
    }
    chunk_client_set_map(&server->chunks, &server->map);
}

void server_chunks_start(struct meta_server *server)
{
    chunk_client_init(&server->chunks, server->env, &server->identity, server->config.write_quorum);
    server->chunks_open = true;
    server->gc_ids = mem_zalloc(META_GC_BATCH * sizeof(*server->gc_ids));
    server_map_applied(server);
}

void server_map_reply(struct meta_server *server, struct rpc_request *request)
{
    struct buf none = {0};
    struct slice bytes;

    if (!server->leader) {
        server_refuse(server, request, -ERR_NOT_LEADER);
        return;
    }
    if (!ns_get_map(&server->ns, &bytes)) {
        server_refuse(server, request, -ERR_NOT_FOUND);
        return;
    }
    rpc_request_reply(request, 0, bytes, &none);
}

static bool same_info(const struct chunk_server_info *a, const struct chunk_server_info *b)
{
    return strcmp(a->address, b->address) == 0 && strcmp(a->zone, b->zone) == 0;
}

/* Has a server come, or moved, since the map was made? */
static bool map_is_old(const struct meta_server *server)
{
    for (unsigned i = 0; i < server->server_count; i++) {
        const struct meta_chunk_server *chunk = &server->servers[i];
        const struct chunk_server_info *known = cluster_map_server(&server->map, chunk->info.id);

        if (known == NULL || !same_info(known, &chunk->info)) {
            return true;
        }
    }
    return false;
}

/* Has whoever takes another's place in this partition said that it has everything? */
static bool has_settled(struct meta_server *server, uint32_t partition)
{
    for (unsigned k = 0; k < CHUNK_REPLICAS; k++) {
        const struct meta_chunk_server *owner;

        if (server->map.from[partition][k] == 0) {
            continue;
        }
        owner = find_server(server, server->map.owners[partition][k]);
        if (owner == NULL || owner->settled_epoch != server->map.epoch ||
            !partition_set_has(&owner->settled, partition)) {
            return false;
        }
    }
    return true;
}

/* Those whose servers that were replaced are needed no more. Returns whether a map should say so.
 */
static bool find_settled(struct meta_server *server, struct partition_set *out_settled)
{
    bool pause_over = env_now(server->env) >= server->map_made_ns + MAP_PAUSE_NS;
    unsigned moving = 0, settled = 0;

    *out_settled = (struct partition_set){0};
    for (uint32_t p = 0; p < server->map.partition_count && p < CHUNK_PARTITIONS; p++) {
        bool is_in = has_settled(server, p);
        bool moves = cluster_map_moves(&server->map, p);

        partition_set_put(out_settled, p, is_in);
        moving += moves;
        settled += moves && is_in;
    }
    return settled > 0 && (pause_over || settled == moving);
}

static void propose_map(struct meta_server *server)
{
    struct chunk_server_info infos[CHUNK_SERVERS_MAX];
    cleanup(buf_deinit) struct buf bytes = {0};
    struct meta_request command = {.op = META_CLUSTER_MAP};
    struct cluster_map map = {0};
    struct partition_set settled;

    if (server->map_proposed || server->server_count < server->config.chunk_servers_min ||
        !(find_settled(server, &settled) || map_is_old(server))) {
        return;
    }
    for (unsigned i = 0; i < server->server_count; i++) {
        infos[i] = server->servers[i].info;
    }
    cluster_map_grow(&map, &server->map, infos, server->server_count, &settled);
    cluster_map_encode(&map, &bytes);
    command.size = map.epoch;
    command.data = buf_slice(&bytes);
    server->map_proposed = server_propose(server, &command, NULL) == 0;
    server->map_made_ns = env_now(server->env);
    LOG_INFO(server->env, "meta", "makes a cluster map epoch=%" PRIu64 " servers=%u", map.epoch,
             server->server_count);
    cluster_map_deinit(&map);
}

/* ---- heartbeats ---- */

static void copy_text(char *out, size_t size, struct slice text)
{
    size_t length = text.size < size - 1 ? text.size : size - 1;

    memset(out, 0, size);
    slice_copy(out, slice_make(text.data, length));
}

static void take_settled(struct meta_chunk_server *chunk, const struct chunk_heartbeat *message)
{
    chunk->settled = (struct partition_set){0};
    chunk->settled_epoch = message->epoch;
    if (message->settled.size == sizeof(chunk->settled.bits)) {
        memcpy(chunk->settled.bits, message->settled.data, sizeof(chunk->settled.bits));
    }
}

/* Also who does not lead says who belongs to the group: one of those does. */
static void answer_heartbeat(struct meta_server *server, struct rpc_request *request, int status,
                             struct chunk_heartbeat_reply *reply)
{
    cleanup(buf_deinit) struct buf body = {0}, members = {0};
    struct buf none = {0};

    server_member_addresses(server, &members);
    reply->members = buf_slice(&members);
    chunk_heartbeat_reply_encode(reply, &body);
    rpc_request_reply(request, status, buf_slice(&body), &none);
}

void server_chunk_heartbeat(struct meta_server *server, struct rpc_request *request)
{
    struct chunk_heartbeat_reply reply = {0};
    struct chunk_heartbeat message;
    struct meta_chunk_server *chunk;
    struct slice map;

    if (!server->leader || !server->ns.formatted) {
        server->metrics.refused++;
        answer_heartbeat(server, request, server->leader_id == 0 ? -ERR_NO_LEADER : -ERR_NOT_LEADER,
                         &reply);
        return;
    }
    if (chunk_heartbeat_decode(&message, request->body) < 0 || message.server_id == 0 ||
        message.address.size == 0 || request->conn->peer_role != RPC_ROLE_CHUNK) {
        server_refuse(server, request, -ERR_BAD_MESSAGE);
        return;
    }
    chunk = add_server(server, message.server_id);
    if (chunk == NULL) {
        server_refuse(server, request, -ENOSPC);
        return;
    }
    copy_text(chunk->info.address, sizeof(chunk->info.address), message.address);
    copy_text(chunk->info.zone, sizeof(chunk->info.zone), message.zone);
    chunk->total_bytes = message.total_bytes;
    chunk->free_bytes = message.free_bytes;
    chunk->health = message.health;
    chunk->heard_ns = env_now(server->env);
    take_settled(chunk, &message);
    propose_map(server);
    reply.epoch = server->ns.volume.map_epoch;
    if (message.epoch < reply.epoch && ns_get_map(&server->ns, &map)) {
        reply.map = map;
    }
    answer_heartbeat(server, request, 0, &reply);
}

/* ---- alive or dead ---- */

static enum chunk_liveness liveness(struct meta_server *server, uint64_t session, uint64_t seq,
                                    uint64_t now)
{
    struct meta_session *live = server_session(server, session);
    struct record_session record;
    struct record_chunk chunk;

    if (ns_get_chunk(&server->ns, session, seq, &chunk)) {
        if (chunk.dead_since == 0) {
            return CHUNK_LIVE_LIVE;
        }
        /* Readers may hold an older map of the file until the grace is over. */
        return chunk.dead_since + server->settings.gc_grace_ms * NS_PER_MS < now
                   ? CHUNK_LIVE_DEAD
                   : CHUNK_LIVE_UNKNOWN;
    }
    if (!ns_get_session(&server->ns, session, &record)) {
        return session != 0 && session < server->ns.volume.next_session ? CHUNK_LIVE_DEAD
                                                                        : CHUNK_LIVE_UNKNOWN;
    }
    if (live != NULL) {
        record.chunk_low = max_u64(record.chunk_low, live->chunk_low);
    }
    return seq < record.chunk_low ? CHUNK_LIVE_DEAD : CHUNK_LIVE_UNKNOWN;
}

void server_chunk_live(struct meta_server *server, struct rpc_request *request)
{
    cleanup(buf_deinit) struct buf answers = {0};
    cleanup(buf_deinit) struct buf body = {0};
    struct chunk_live_request message;
    struct chunk_live_reply reply;
    uint64_t now = server_stamp(server);
    struct buf none = {0};
    size_t count;

    if (chunk_live_request_decode(&message, request->body) < 0) {
        server_refuse(server, request, -ERR_BAD_MESSAGE);
        return;
    }
    count = chunk_ids_count(message.ids);
    for (size_t i = 0; i < count; i++) {
        uint64_t session, seq;

        chunk_ids_get(message.ids, i, &session, &seq);
        buf_append(&answers, &(uint8_t){(uint8_t)liveness(server, session, seq, now)}, 1);
    }
    reply.liveness = buf_slice(&answers);
    chunk_live_reply_encode(&reply, &body);
    rpc_request_reply(request, 0, buf_slice(&body), &none);
}

/* ---- deleting ---- */

static void on_gc_done(struct op *op)
{
    struct meta_server *server = op->owner;
    struct meta_request command = {.op = META_CHUNKS_DELETED, .data = buf_slice(&server->gc_bytes)};

    if (op->result == 0 && server->leader) {
        server->gc_proposed = server_propose(server, &command, NULL) == 0;
    } else {
        server->gc_retry_ns = env_now(server->env) + GC_RETRY_NS;
    }
}

static void on_gc_released(struct chunk_delete *gc)
{
    container_of(gc, struct meta_server, gc)->gc_busy = false;
}

void server_chunks_tick(struct meta_server *server)
{
    uint64_t now = server_stamp(server);
    uint64_t grace = server->settings.gc_grace_ms * NS_PER_MS;
    unsigned count;

    propose_map(server);
    if (server->gc_busy || server->gc_proposed || server->ns.volume.delete_queue == 0 ||
        server->map.epoch == 0 || now < grace || env_now(server->env) < server->gc_retry_ns) {
        return;
    }
    buf_clear(&server->gc_bytes);
    count = ns_dead_chunks(&server->ns, now - grace, META_GC_BATCH, &server->gc_bytes);
    if (count == 0) {
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        chunk_ids_get(buf_slice(&server->gc_bytes), i, &server->gc_ids[i].session,
                      &server->gc_ids[i].seq);
    }
    server->gc = (struct chunk_delete){.ids = server->gc_ids,
                                       .count = count,
                                       .timeout_ns = GC_TIMEOUT_NS,
                                       .released = on_gc_released};
    server->gc.op.done = on_gc_done;
    server->gc.op.owner = server;
    server->gc_busy = true;
    chunk_delete_start(&server->gc, &server->chunks);
}
