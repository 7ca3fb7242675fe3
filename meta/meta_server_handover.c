/*
 * meta_server_handover: leadership goes to another member, because an operator says so or because
 * this server is about to stop.
 *
 *     serving --stop--> leaving --another one leads--> left --all are told--> stopping
 *                          |                                                     ^
 *                          +---- none can, or the time is over ------------------+
 *
 * Meanwhile it serves on: Raft needs its messages. Clients whose requests were refused as busy come
 * back within META_CLIENT_RETRY_NS and are told who leads, which saves them the search that a lost
 * connection means; those with nothing under way are asked to say something.
 */
#include "base/err.h"
#include "base/log.h"
#include "meta/meta_server_internal.h"
#include "meta/meta_server_proto.h"

#include <errno.h>

SCHEMA_IMPLEMENT(meta_transfer, META_TRANSFER)

void server_transfer(struct meta_server *server, struct rpc_request *request)
{
    uint32_t uid = request->conn->peer_uid;
    struct meta_transfer message;
    struct buf none = {0};
    int r;

    if (uid != 0 && uid != server->config.owner_uid) {
        server_refuse(server, request, -EPERM);
        return;
    }
    if (meta_transfer_decode(&message, request->body) < 0) {
        server_refuse(server, request, -ERR_BAD_MESSAGE);
        return;
    }
    r = raft_node_transfer(&server->raft, message.to);
    if (r < 0) {
        server_refuse(server, request, r);
        return;
    }
    LOG_INFO(server->env, "meta", "hands over leadership, as told to=%u", message.to);
    rpc_request_reply(request, 0, (struct slice){0}, &none);
}

/* A majority without us can be reached, so the group goes on when we are gone. */
static bool others_suffice(const struct meta_server *server)
{
    struct raft_node_status raft;
    unsigned voters = 0, connected = 0;

    raft_node_status(&server->raft, &raft);
    for (unsigned i = 0; i < raft.peer_count; i++) {
        voters += raft.peers[i].voter;
        connected += raft.peers[i].voter && raft.peers[i].connected;
    }
    return connected >= voters / 2 + 1;
}

static bool another_leads(const struct meta_server *server)
{
    return !server->leader && server->leader_id != 0 &&
           server->leader_id != server->identity.node_id;
}

static void notify_clients(struct meta_server *server)
{
    list_for_each (node, &server->rpc.conns) {
        struct rpc_server_conn *conn = container_of(node, struct rpc_server_conn, node);

        if (conn->peer_role == RPC_ROLE_CLIENT) {
            rpc_conn_oneway(conn, META_RPC_NOTIFY, (struct slice){0}, (struct slice){0});
        }
    }
}

static void on_left(struct env_timer *timer)
{
    server_stop_now(container_of(timer, struct meta_server, leaving_timer));
}

static void on_leaving(struct env_timer *timer)
{
    struct meta_server *server = container_of(timer, struct meta_server, leaving_timer);
    uint64_t now = env_now(server->env);

    if (another_leads(server)) {
        LOG_INFO(server->env, "meta", "handed over leadership to=%u ms=%" PRIu64, server->leader_id,
                 (now - server->leaving_since_ns) / NS_PER_MS);
        notify_clients(server);
        timer->fire = on_left;
        env_timer_start(server->env, timer, now + META_LEAVE_TELL_NS);
        return;
    }
    if (!others_suffice(server) ||
        now - server->leaving_since_ns >= server->settings.handover_ms * NS_PER_MS) {
        LOG_WARN(server->env, "meta", "stops without having handed over leadership");
        server_stop_now(server);
        return;
    }
    if (server->leader) {
        (void)!raft_node_transfer(&server->raft, 0); /* refused while one is on its way */
    }
    env_timer_start(server->env, timer, now + META_STOP_POLL_NS);
}

bool server_leave(struct meta_server *server)
{
    if (server->stopping || !server->leader || server->settings.handover_ms == 0 ||
        !others_suffice(server)) {
        return false;
    }
    server->leaving = true;
    server->leaving_since_ns = env_now(server->env);
    server->leaving_timer.fire = on_leaving;
    env_timer_start(server->env, &server->leaving_timer, server->leaving_since_ns);
    return true;
}
