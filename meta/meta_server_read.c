/*
 * meta_server_read: what is answered without the log: reads of clients and tools, liveness for
 * chunk servers, status.
 */
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/chunk_proto.h"
#include "meta/meta_server_internal.h"

#include <errno.h>

#define SCAN_REPLY_BYTES KiB(48)  /* one pair more (an inline file, 8 KiB) fits easily */
#define SCAN_PAIR_MAX    KiB(110) /* a longer one goes out as its key with an empty value */

static void reply_error(struct meta_server *server, struct rpc_request *request, int code)
{
    struct meta_reply reply = {.error = (uint32_t)-code};

    server_reply(server, request, &reply);
}

/* Raw pairs, for tools that check the volume. */
static void serve_scan(struct meta_server *server, struct rpc_request *request,
                       const struct meta_request *message)
{
    cleanup(buf_deinit) struct buf pairs = {0};
    cleanup(buf_deinit) struct buf from = {0};
    struct meta_reply reply = {.index = server->tree->applied_index};
    uint32_t uid = request->conn->peer_uid;
    struct slice key, value;

    if (uid != 0 && uid != server->config.owner_uid) {
        reply_error(server, request, -EPERM);
        return;
    }
    buf_append_slice(&from, message->data);
    for (uint32_t i = 0; i < message->count && pairs.size < SCAN_REPLY_BYTES; i++) {
        if (!kv_seek(server->ns.kv, buf_slice(&from), &key, &value)) {
            reply.value = 1;
            break;
        }
        if (pairs.size + key.size + value.size > SCAN_PAIR_MAX) {
            if (pairs.size > 0) {
                break;
            }
            value.size = 0;
        }
        schema_write_bytes(&pairs, key);
        schema_write_bytes(&pairs, value);
        buf_clear(&from);
        buf_append_slice(&from, key);
        buf_append_zero(&from, 1);
    }
    reply.data = buf_slice(&pairs);
    server_reply(server, request, &reply);
}

static unsigned copies_of(const struct meta_server *server)
{
    return server->server_count < CHUNK_REPLICAS ? server->server_count : CHUNK_REPLICAS;
}

/* A chunk server may be heard before it has looked at its disk: then total_bytes is 0. */
bool server_space(const struct meta_server *server, struct meta_space *out_space)
{
    bool patient = env_now(server->env) < server->leader_since_ns + META_SERVER_DOWN_NS;
    uint64_t total_bytes = 0, free_bytes = 0;
    unsigned heard = 0;

    for (unsigned i = 0; i < server->server_count; i++) {
        total_bytes += server->servers[i].total_bytes;
        free_bytes += server->servers[i].free_bytes;
        heard += server->servers[i].total_bytes != 0 ? 1 : 0;
    }
    if (heard == 0) {
        *out_space = (struct meta_space){0};
        return server->server_count == 0 || !patient;
    }
    total_bytes = total_bytes / heard * server->server_count / copies_of(server);
    free_bytes = free_bytes / heard * server->server_count / copies_of(server);
    *out_space = (struct meta_space){total_bytes, free_bytes};
    return true;
}

/* The state says what is used; the chunk servers say what is there. */
static void serve_statfs(struct meta_server *server, struct rpc_request *request,
                         const struct meta_request *message)
{
    struct meta_reply reply = *ns_read(&server->ns, message, server->tree->applied_index);
    cleanup(buf_deinit) struct buf data = {0};
    struct meta_statfs record;
    uint64_t reserved = server->ns.volume.reserved_bytes;
    struct meta_space space;

    if (!server_space(server, &space)) {
        server_refuse(server, request, -ERR_BUSY); /* they will tell us, or be down */
        return;
    }
    if (reply.error == 0 && meta_statfs_decode(&record, reply.data) == 0) {
        record.total_bytes = space.total_bytes;
        record.free_bytes = space.free_bytes - min_u64(space.free_bytes, reserved);
        meta_statfs_encode(&record, &data);
        reply.data = buf_slice(&data);
    }
    server_reply(server, request, &reply);
}

/* The state is the newest there is: answer from it. */
static void serve(struct meta_server *server, struct rpc_request *request)
{
    struct meta_request message;

    if (request->opcode == CHUNK_META_LIVE) {
        server_chunk_live(server, request);
        return;
    }
    if (meta_request_decode(&message, request->body) < 0) {
        server_refuse(server, request, -ERR_BAD_MESSAGE);
        return;
    }
    server->metrics.reads[message.op < META_OP_END ? message.op : META_OP_NONE]++;
    switch (message.op) {
    case META_KEEPALIVE:
        server_keepalive(server, request, &message);
        return;
    case META_SCAN:
        serve_scan(server, request, &message);
        return;
    case META_STATFS:
        serve_statfs(server, request, &message);
        return;
    default:
        server_reply(server, request, ns_read(&server->ns, &message, server->tree->applied_index));
        return;
    }
}

static void on_read(struct raft_read *raft_read, int status)
{
    struct meta_read *read = container_of(raft_read, struct meta_read, read);
    struct meta_server *server = read->server;
    struct rpc_request *request = read->request;

    list_remove(&read->node);
    server->read_count--;
    mem_free(read);
    if (status == 0 && server->leader) {
        serve(server, request);
    } else {
        server_refuse(server, request, status < 0 ? status : -ERR_NOT_LEADER);
    }
}

void server_read(struct meta_server *server, struct rpc_request *request)
{
    struct meta_read *read;
    int r;

    if (server->read_count >= META_READS_MAX) {
        server_refuse(server, request, -ERR_BUSY);
        return;
    }
    read = mem_zalloc(sizeof(*read));
    read->read.done = on_read;
    read->server = server;
    read->request = request;
    r = raft_node_read(&server->raft, &read->read);
    if (r == 0) {
        list_push_back(&server->reads, &read->node);
        server->read_count++;
        return;
    }
    mem_free(read);
    if (r < 0) {
        server_refuse(server, request, r);
        return;
    }
    serve(server, request);
    btree_trim(server->tree);
}

void server_reads_end(struct meta_server *server)
{
    struct list_node *node;

    while ((node = list_pop_front(&server->reads)) != NULL) {
        struct meta_read *read = list_entry(node, struct meta_read, node);

        raft_node_read_cancel(&server->raft, &read->read);
        server_refuse(server, read->request, -ERR_NOT_LEADER);
        mem_free(read);
    }
    server->read_count = 0;
}

/* ---- status ---- */

static const char *const role_names[] = {[RAFT_FOLLOWER] = "follower",
                                         [RAFT_PRE_CANDIDATE] = "pre-candidate",
                                         [RAFT_CANDIDATE] = "candidate",
                                         [RAFT_LEADER] = "leader"};

static uint64_t age_ms(const struct meta_server *server, uint64_t heard_ns)
{
    return heard_ns == 0 ? UINT64_MAX : (env_now(server->env) - heard_ns) / NS_PER_MS;
}

static void add_record(struct buf *out, struct buf *record)
{
    schema_write_bytes(out, buf_slice(record));
    buf_clear(record);
}

static void status_members(const struct meta_server *server, const struct raft_node_status *raft,
                           struct buf *out)
{
    cleanup(buf_deinit) struct buf record = {0};

    for (unsigned i = 0; i < raft->peer_count; i++) {
        const struct raft_peer_status *peer = &raft->peers[i];
        bool ours = peer->id == server->identity.node_id;
        struct meta_status_member member = {.id = peer->id,
                                            .address = slice_text(peer->address),
                                            .match = peer->match,
                                            .heard_ms = ours ? 0 : age_ms(server, peer->heard_ns),
                                            .learner = !peer->voter};

        meta_status_member_encode(&member, &record);
        add_record(out, &record);
    }
}

static void status_servers(const struct meta_server *server, struct buf *out)
{
    cleanup(buf_deinit) struct buf record = {0};

    for (unsigned i = 0; i < server->server_count; i++) {
        const struct meta_chunk_server *chunk = &server->servers[i];
        struct meta_status_server entry = {.id = chunk->info.id,
                                           .address = slice_text(chunk->info.address),
                                           .zone = slice_text(chunk->info.zone),
                                           .total_bytes = chunk->total_bytes,
                                           .free_bytes = chunk->free_bytes,
                                           .heard_ms = age_ms(server, chunk->heard_ns)};

        meta_status_server_encode(&entry, &record);
        add_record(out, &record);
    }
}

static void add_code(struct buf *out, bool wrong, const char *code)
{
    if (wrong) {
        buf_append(out, code, strlen(code) + 1);
    }
}

/* Elected, but its first entry is not committed, or what is before it not applied: after a restart
 * that may be much, and until then everything is refused. */
static bool serves_not_yet(const struct meta_server *server, const struct raft_node_status *raft)
{
    return raft->role == RAFT_LEADER && !server->leader;
}

static void status_health(const struct meta_server *server, const struct raft_node_status *raft,
                          struct buf *out)
{
    uint64_t settled = server->leader_since_ns + META_SERVER_DOWN_NS;
    bool member_down = false, chunk_down = false, space_low = false, repairing = raft->repair;
    bool rebuilding = raft->rebuild;
    bool judge = server->leader && env_now(server->env) > settled;

    for (unsigned i = 0; i < raft->peer_count; i++) {
        member_down |= raft->peers[i].id != server->identity.node_id &&
                       age_ms(server, raft->peers[i].heard_ns) > META_SERVER_DOWN_NS / NS_PER_MS;
        repairing |= raft->peers[i].repairing && raft->peers[i].voter;
        rebuilding |= raft->peers[i].rebuilding;
    }
    for (unsigned i = 0; i < server->server_count; i++) {
        const struct meta_chunk_server *chunk = &server->servers[i];

        chunk_down |= age_ms(server, chunk->heard_ns) > META_SERVER_DOWN_NS / NS_PER_MS;
        space_low |= chunk->heard_ns != 0 && chunk->free_bytes < chunk->total_bytes / 20;
    }
    add_code(out, raft->leader_id == 0 || serves_not_yet(server, raft), "NO_LEADER");
    add_code(out, judge && member_down, "META_SERVER_DOWN");
    add_code(out, repairing, "META_LOG_REPAIR");
    add_code(out, rebuilding, "META_TREE_REBUILD");
    add_code(out, judge && chunk_down, "CHUNK_SERVER_DOWN");
    add_code(out, judge && server->server_count < CHUNK_REPLICAS, "CHUNK_SERVERS_FEW");
    add_code(out, server->ns.volume.map_epoch == 0, "NO_CLUSTER_MAP");
    add_code(out, server->leader && space_low, "SPACE_LOW");
    add_code(out, server->ns.volume.delete_queue > server->settings.delete_queue_long,
             "DELETE_QUEUE_LONG");
}

void server_status(struct meta_server *server, struct rpc_request *request)
{
    cleanup(buf_deinit) struct buf members = {0};
    cleanup(buf_deinit) struct buf servers = {0};
    cleanup(buf_deinit) struct buf health = {0};
    struct raft_node_status raft;
    struct meta_status status;
    struct buf none = {0};

    raft_node_status(&server->raft, &raft);
    status_members(server, &raft, &members);
    status_health(server, &raft, &health);
    if (server->leader) {
        status_servers(server, &servers);
    }
    status = (struct meta_status){.id = server->identity.node_id,
                                  .role = slice_text(role_names[raft.role]),
                                  .term = raft.term,
                                  .leader = raft.leader_id,
                                  .commit = raft.commit,
                                  .applied = raft.applied,
                                  .last = raft.last,
                                  .members = buf_slice(&members),
                                  .sessions = (uint32_t)server->ns.volume.sessions,
                                  .servers = buf_slice(&servers),
                                  .inodes = server->ns.volume.inodes,
                                  .used_bytes = server->ns.volume.used_bytes,
                                  .orphans = server->ns.volume.orphans,
                                  .delete_queue = server->ns.volume.delete_queue,
                                  .journal_bytes = server->ns.volume.journal_bytes,
                                  .map_epoch = server->ns.volume.map_epoch,
                                  .health = buf_slice(&health),
                                  .cluster_uuid = slice_make(server->identity.cluster_uuid, 16),
                                  .checkpoints = server->tree->checkpoints,
                                  .state_hash = server->tree->hash};
    buf_clear(&server->body);
    meta_status_encode(&status, &server->body);
    rpc_request_reply(request, 0, buf_slice(&server->body), &none);
}
