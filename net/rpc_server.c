/* The serving side of rpc: connections, requests handed to the handler, replies sent back. */
#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/address.h"
#include "net/rpc_link.h"
#include "net/test_network.h"

#include <errno.h>

#define GREETING_MAX (10 * NS_PER_S)

/* A peer that asks faster than it takes our answers is not listened to meanwhile. */
static void set_pause(struct rpc_server_conn *conn)
{
    struct rpc_link *link = conn->link;

    if (!link->failing) {
        env_conn_pause(conn->server->env, &link->conn,
                       conn->unanswered >= RPC_INFLIGHT_MAX ||
                           link->reply_queued >= RPC_REPLIES_MAX);
    }
}

static void on_sent(struct rpc_link *link)
{
    set_pause(link->owner);
}

static void on_no_greeting(struct env_timer *timer)
{
    struct rpc_server_conn *conn = container_of(timer, struct rpc_server_conn, greeting);

    rpc_link_fail(conn->link, -ETIMEDOUT);
}

/* The connection's memory outlives it while requests are unanswered. */
static void release(struct rpc_server_conn *conn)
{
    if (conn->lost && conn->unanswered == 0) {
        mem_free(conn);
    }
}

static void request_free(struct rpc_request *request)
{
    buf_deinit(&request->body_store);
    buf_deinit(&request->payload);
    mem_free(request);
}

static int on_hello(struct rpc_link *link)
{
    struct rpc_server_conn *conn = link->owner;

    env_timer_stop(conn->server->env, &conn->greeting);
    conn->peer_role = link->peer.role;
    conn->peer_node = link->peer.node_id;
    conn->peer_uid = link->conn.peer_uid;
    return 0;
}

static void on_frame(struct rpc_link *link, const struct frame *frame, struct slice body,
                     struct buf *payload)
{
    struct rpc_server_conn *conn = link->owner;
    struct rpc_server *server = conn->server;
    struct rpc_request *request;

    if (frame->type != FRAME_REQUEST && frame->type != FRAME_ONEWAY) {
        server->bad_frames++;
        rpc_link_fail(link, -ERR_BAD_MESSAGE);
        return;
    }
    request = mem_zalloc(sizeof(*request));
    request->opcode = frame->opcode;
    request->oneway = frame->type == FRAME_ONEWAY;
    request->id = frame->id;
    request->conn = conn;
    request->deadline_ns = env_now(server->env) + frame->deadline_ms * NS_PER_MS;
    buf_append_slice(&request->body_store, body);
    request->body = buf_slice(&request->body_store);
    request->payload = buf_take(payload);
    if (request->oneway) {
        server->handle(server, request);
        request_free(request);
        return;
    }
    conn->unanswered++;
    set_pause(conn);
    server->handle(server, request);
}

static void on_lost(struct rpc_link *link, int status)
{
    struct rpc_server_conn *conn = link->owner;
    struct rpc_server *server = conn->server;

    if (status == -ERR_BAD_MESSAGE || status == -ERR_CORRUPT) {
        server->bad_frames++;
        LOG_WARN(server->env, "rpc", "closed a connection that sent bad bytes error=%s peer=%u",
                 err_name(status), conn->peer_node);
    }
    env_timer_stop(server->env, &conn->greeting);
    rpc_link_deinit(link);
    mem_free(link);
    conn->link = NULL;
    conn->lost = true;
    list_remove(&conn->node);
    if (server->conn_lost != NULL) {
        server->conn_lost(server, conn);
    }
    release(conn);
}

static struct env_conn *on_accept(struct env_listener *listener)
{
    struct rpc_server *server = container_of(listener, struct rpc_server, listener);
    struct rpc_server_conn *conn = mem_zalloc(sizeof(*conn));
    struct rpc_link *link = mem_zalloc(sizeof(*link));

    rpc_link_init(link, server->env, server->identity);
    link->hello = on_hello;
    link->frame = on_frame;
    link->lost = on_lost;
    link->sent = on_sent;
    link->owner = conn;
    conn->server = server;
    conn->link = link;
    conn->greeting.fire = on_no_greeting;
    env_timer_start(server->env, &conn->greeting, env_now(server->env) + GREETING_MAX);
    list_push_back(&server->conns, &conn->node);
    return &link->conn;
}

/* Without TLS: loopback and Unix sockets, and for tests a network that ends in this machine. */
static int may_listen(const struct rpc_server *server, const char *address,
                      const struct address *parsed)
{
    const char *why = "write unix:PATH or 127.0.0.1:PORT";

    if (address_is_local(parsed)) {
        return 0;
    }
    if (server->insecure_test_network && test_network_is_closed(&why)) {
        LOG_WARN(server->env, "rpc",
                 "listens on '%s' without TLS: insecure_test_network is set, and this network "
                 "namespace has no way out; for tests only",
                 address);
        return 0;
    }
    LOG_ERROR(server->env, "rpc",
              "will not listen on '%s': without TLS only loopback and Unix sockets are safe; %s%s",
              address,
              server->insecure_test_network ? "insecure_test_network is refused here: " : "", why);
    return -EACCES;
}

int rpc_server_start(struct rpc_server *server, struct env *env,
                     const struct rpc_identity *identity, const char *address)
{
    struct address parsed;
    int r;

    server->env = env;
    server->identity = identity;
    server->listener = (struct env_listener){.accept = on_accept};
    list_init(&server->conns);
    r = address_parse(&parsed, address);
    if (r < 0) {
        LOG_ERROR(env, "rpc", "cannot listen on '%s': %s; write unix:PATH or 127.0.0.1:PORT",
                  address, err_text(r));
        return r;
    }
    r = may_listen(server, address, &parsed);
    address_deinit(&parsed);
    if (r < 0) {
        return r;
    }
    r = env_listen(env, &server->listener, address);
    if (r < 0) {
        LOG_ERROR(env, "rpc", "cannot listen on '%s': %s", address, err_text(r));
    }
    return r;
}

void rpc_server_stop(struct rpc_server *server)
{
    env_listen_stop(server->env, &server->listener);
    list_for_each (node, &server->conns) {
        rpc_link_fail(container_of(node, struct rpc_server_conn, node)->link, -ECANCELED);
    }
}

void rpc_request_reply(struct rpc_request *request, int status, struct slice body,
                       struct buf *payload)
{
    struct rpc_server_conn *conn = request->conn;
    struct frame frame = {.type = FRAME_REPLY,
                          .opcode = request->opcode,
                          .id = request->id,
                          .status = (uint32_t)-status};

    ASSERT(status <= 0 && !request->oneway);
    conn->unanswered--;
    if (!conn->lost && !conn->link->failing) {
        rpc_link_send(conn->link, frame, body, payload);
        set_pause(conn);
    }
    if (payload != NULL) {
        buf_deinit(payload);
    }
    release(conn);
    request_free(request);
}

void rpc_conn_oneway(struct rpc_server_conn *conn, uint16_t opcode, struct slice body,
                     struct slice payload)
{
    if (!conn->lost && !conn->link->failing && conn->link->ready) {
        rpc_link_oneway(conn->link, opcode, body, payload);
    }
}
