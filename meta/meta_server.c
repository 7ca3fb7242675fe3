#include "meta/meta_server.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/chunk_proto.h"
#include "meta/meta_server_internal.h"
#include "meta/meta_server_proto.h"

#include <errno.h>

/* ---- answers ---- */

void server_reply(struct meta_server *server, struct rpc_request *request,
                  const struct meta_reply *reply)
{
    struct buf none = {0};

    buf_clear(&server->body);
    meta_reply_encode(reply, &server->body);
    if (server->body.size > RPC_BODY_MAX) {
        rpc_request_reply(request, -EMSGSIZE, (struct slice){0}, &none);
        return;
    }
    rpc_request_reply(request, 0, buf_slice(&server->body), &none);
}

static const char *leader_address(const struct meta_server *server)
{
    const struct raft_members *members = &server->raft.raft.members;
    int slot = server->raft_open ? raft_members_find(members, server->leader_id) : -1;

    return slot >= 0 ? raft_node_address(&server->raft, &members->list[slot]) : "";
}

void server_refuse(struct meta_server *server, struct rpc_request *request, int status)
{
    struct meta_reply hint = {.error = (uint32_t)-status, .value = server->leader_id};
    struct buf none = {0};

    hint.data = slice_text(leader_address(server));
    if (status == -ERR_NOT_LEADER && server->leader_id == 0) {
        status = -ERR_NO_LEADER;
    }
    server->metrics.refused++;
    buf_clear(&server->body);
    meta_reply_encode(&hint, &server->body);
    rpc_request_reply(request, status, buf_slice(&server->body), &none);
}

uint64_t server_stamp(struct meta_server *server)
{
    server->last_stamp =
        max_u64(max_u64(env_wall(server->env), server->last_stamp + 1), server->ns.volume.time + 1);
    return server->last_stamp;
}

/* ---- requests ---- */

static void handle_request(struct meta_server *server, struct rpc_request *request)
{
    struct meta_request message;

    if (meta_request_decode(&message, request->body) < 0) {
        server_refuse(server, request, -ERR_BAD_MESSAGE);
        return;
    }
    if (!server->leader || !server->ns.formatted) {
        server_refuse(server, request, server->leader ? -ERR_NO_LEADER : -ERR_NOT_LEADER);
        return;
    }
    server_session_heard(server, request, &message);
    if (meta_op_mutates(message.op)) {
        server_mutate(server, request, &message);
    } else {
        server_read(server, request);
    }
}

static void handle(struct rpc_server *rpc, struct rpc_request *request)
{
    struct meta_server *server = rpc->data;

    if (server->stopping) {
        if (!request->oneway) {
            server_refuse(server, request, -ERR_NO_LEADER);
        }
        return;
    }
    if (raft_node_is_raft_opcode(request->opcode)) {
        raft_node_receive(&server->raft, request);
        return;
    }
    if (request->oneway) {
        if (request->opcode == META_RPC_STATE_REPORT) {
            server_check_report(server, request);
        }
        return;
    }
    server->metrics.requests++;
    switch (request->opcode) {
    case META_RPC_REQUEST:
        handle_request(server, request);
        return;
    case META_RPC_STATUS:
        server_status(server, request);
        return;
    case META_RPC_MEMBER:
        server_member_request(server, request);
        return;
    case META_RPC_TRANSFER:
        server_transfer(server, request);
        return;
    case META_RPC_MAP:
        server_map_reply(server, request);
        return;
    case CHUNK_META_HEARTBEAT:
        server_chunk_heartbeat(server, request);
        return;
    case CHUNK_META_LIVE:
        if (server->leader && server->ns.formatted) {
            server_read(server, request);
        } else {
            server_refuse(server, request, -ERR_NOT_LEADER);
        }
        return;
    default:
        server_refuse(server, request, -EOPNOTSUPP);
        return;
    }
}

static void on_tick(struct env_timer *timer)
{
    struct meta_server *server = container_of(timer, struct meta_server, tick);

    server_close_retired(server);
    server_members_note(server);
    server_checkpoint_if_due(server);
    if (server->leader) {
        server_members_record(server);
        server_sessions_tick(server);
        server_orphans_tick(server);
        server_chunks_tick(server);
        server_check_tick(server);
    }
    env_timer_start(server->env, &server->tick, env_now(server->env) + META_TICK_NS);
}

/* ---- start ---- */

static void copy_config(struct meta_server *server, const struct meta_server_config *config)
{
    struct raft_peer_config *peers = mem_zalloc(config->peer_count * sizeof(*peers));
    struct meta_server_config *own = &server->config;

    *own = *config;
    for (unsigned i = 0; i < config->peer_count; i++) {
        peers[i].id = config->peers[i].id;
        peers[i].address = mem_strdup(config->peers[i].address);
    }
    own->peers = peers;
    own->dir = mem_strdup(config->dir);
    own->address = mem_strdup(config->address);
    own->write_quorum = own->write_quorum ? own->write_quorum : 2;
    own->chunk_servers_min = own->chunk_servers_min ? own->chunk_servers_min : CHUNK_REPLICAS;
    server->settings = config->settings != NULL ? *config->settings : meta_settings_defaults();
    own->settings = &server->settings;
    server->identity = *config->identity;
    own->identity = &server->identity;
}

static int open_tree(struct meta_server *server)
{
    int r;

    r = env_path_now(server->env, ENV_IO_MKDIR, server->config.dir, NULL);
    if (r < 0) {
        LOG_ERROR(server->env, "meta", "cannot make directory path=%s error=%s", server->config.dir,
                  err_text(r));
        return r;
    }
    r = server_members_start(server);
    if (r < 0) {
        return r;
    }
    server->tree_path = mem_printf("%s/tree", server->config.dir);
    server->new_path = mem_printf("%s/tree.new", server->config.dir);
    server->log_dir = mem_printf("%s/log", server->config.dir);
    r = server_open_state(server);
    if (r < 0) {
        return r;
    }
    server_load_state(server);
    return 0;
}

static int open_raft(struct meta_server *server)
{
    struct raft_node_config config = {.identity = server->config.identity,
                                      .dir = server->log_dir,
                                      .peers = server->config.peers,
                                      .peer_count = server->config.peer_count,
                                      .applied_index = server->tree->applied_index,
                                      .applied_term = server->tree->applied_term,
                                      .state_lost = server->rebuild,
                                      .log_segment_bytes = server->settings.log_segment_bytes};
    int r;

    server->machine = meta_server_machine;
    server_members_config(server, &config);
    r = raft_node_open(&server->raft, server->env, &config, &server->machine);
    server->raft_open = r == 0;
    if (r == 0 && server->rebuild && !server->raft.raft.rebuild) {
        server_rebuild_ended(server); /* the log goes back to the first entry */
    }
    return r;
}

/* Everything that the constructor made; accepts a half-built server. */
static void server_free(struct meta_server *server)
{
    struct meta_server_config *config = &server->config;

    ns_deinit(&server->ns);
    cluster_map_deinit(&server->map);
    server_restore_drop(server);
    if (server->tree != NULL) {
        btree_close(server->tree);
        mem_free(server->tree);
    }
    for (unsigned i = 0; i < config->peer_count; i++) {
        mem_free((void *)(uintptr_t)config->peers[i].address);
    }
    mem_free((void *)(uintptr_t)config->peers);
    mem_free((void *)(uintptr_t)config->dir);
    mem_free((void *)(uintptr_t)config->address);
    mem_free(server->tree_path);
    mem_free(server->new_path);
    mem_free(server->log_dir);
    mem_free(server->gc_ids);
    buf_deinit(&server->gc_bytes);
    buf_deinit(&server->body);
    map_deinit(&server->sessions);
    map_deinit(&server->orphans);
}

static void on_stop_tick(struct env_timer *timer)
{
    struct meta_server *server = container_of(timer, struct meta_server, tick);

    server_close_retired(server);
    if ((server->raft_open && !raft_node_closed(&server->raft)) || server->gc_busy ||
        server->retired != NULL || (server->tree != NULL && server->tree->checkpoint != NULL)) {
        env_timer_start(server->env, &server->tick, env_now(server->env) + META_STOP_POLL_NS);
        return;
    }
    server_free(server);
    if (server->stopped != NULL) {
        server->stopped(server);
    }
}

void server_stop_now(struct meta_server *server)
{
    if (server->stopping) {
        return;
    }
    server->stopping = true;
    env_timer_stop(server->env, &server->leaving_timer);
    server_leader_ends(server);
    env_timer_stop(server->env, &server->openers_timer);
    if (server->chunks_open) {
        chunk_client_deinit(&server->chunks);
    }
    if (server->raft_open) {
        raft_node_close(&server->raft);
    }
    if (server->rpc_open) {
        rpc_server_stop(&server->rpc);
    }
    server->tick.fire = on_stop_tick;
    env_timer_start(server->env, &server->tick, env_now(server->env));
}

void meta_server_stop(struct meta_server *server)
{
    if (server->leaving || !server_leave(server)) {
        server_stop_now(server);
    }
}

int meta_server_start(struct meta_server *server, struct env *env,
                      const struct meta_server_config *config)
{
    void (*stopped)(struct meta_server *) = server->stopped;
    void *data = server->data;
    int r;

    *server = (struct meta_server){.env = env, .stopped = stopped, .data = data};
    list_init(&server->proposals);
    list_init(&server->reads);
    list_init(&server->openers);
    server->tick.fire = on_tick;
    server->openers_timer.fire = server_openers_due;
    copy_config(server, config);
    r = open_tree(server);
    if (r < 0) {
        server_free(server);
        return r;
    }
    server_chunks_start(server);
    r = open_raft(server);
    if (r == 0) {
        server->rpc = (struct rpc_server){.handle = handle,
                                          .conn_lost = server_conn_lost,
                                          .data = server,
                                          .insecure_test_network = config->insecure_test_network};
        r = rpc_server_start(&server->rpc, env, &server->identity, server->config.address);
        server->rpc_open = r == 0;
    }
    if (r < 0) {
        LOG_ERROR(env, "meta", "cannot start address=%s error=%s", config->address, err_text(r));
        server->stopped = NULL;
        meta_server_stop(server); /* what was opened ends from the loop */
        return r;
    }
    env_timer_start(env, &server->tick, env_now(env) + META_TICK_NS);
    LOG_INFO(env, "meta", "started node=%u applied=%" PRIu64 " pairs=%" PRIu64,
             server->identity.node_id, server->tree->applied_index, server->tree->pairs);
    return 0;
}
