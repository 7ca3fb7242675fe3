/*
 * The client side of rpc: one connection to one address, calls matched to replies by id.
 *
 *     idle --> connecting --> connected --> lost --(back-off, jittered)--> connecting
 *
 * Calls that wait for the connection end with its failure, so that the caller may try another
 * server; calls that were sent end with -ERR_DISCONNECTED. A decided call whose bytes are still
 * with env is told when they are released.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "net/rpc_link.h"

#include <errno.h>

#define BACKOFF_MIN (5 * NS_PER_MS)
#define BACKOFF_MAX (500 * NS_PER_MS)
#define HELLO_MAX   (5 * NS_PER_S) /* to connect and be greeted: then again, the path may be new */

static void connect_now(struct rpc_peer *peer);

static void finish(struct rpc_call *call, struct rpc_reply *reply)
{
    list_remove(&call->node);
    map_remove(&call->peer->by_id, map_u64(call->id));
    env_timer_stop(call->peer->env, &call->timer);
    buf_deinit(&call->frame);
    call->done(call, reply);
}

static void finish_status(struct rpc_call *call, int status)
{
    struct rpc_reply reply = {.status = status};

    finish(call, &reply);
}

/* Its end is decided; told now, or when env has released its bytes. */
static void decide(struct rpc_call *call, int status)
{
    if (call->decided) {
        return;
    }
    call->decided = true;
    call->status = status;
    if (call->sending) {
        return;
    }
    finish_status(call, status);
}

static void on_sent(struct env_send *send, int status)
{
    struct rpc_call *call = container_of(send, struct rpc_call, send);

    (void)status; /* a failed connection ends its calls in on_lost */
    call->sending = false;
    if (call->decided) {
        finish_status(call, call->status);
    }
}

/* From the loop: a timeout, or a cancel (which moved the deadline to now). */
static void on_timeout(struct env_timer *timer)
{
    struct rpc_call *call = container_of(timer, struct rpc_call, timer);
    struct rpc_peer *peer = call->peer;
    bool stuck = call->sending && !call->decided && call->status == 0;

    decide(call, call->status != 0 ? call->status : -ETIMEDOUT);
    if (stuck && peer->link != NULL) {
        rpc_link_fail(peer->link, -ETIMEDOUT); /* a whole timeout, and the peer takes no bytes */
    }
}

static void send_call(struct rpc_peer *peer, struct rpc_call *call)
{
    call->send = (struct env_send){.done = on_sent, .iov_count = 1};
    call->send.iov[0] = (struct iovec){call->frame.data, call->frame.size};
    if (call->payload.size != 0) {
        call->send.iov[1] =
            (struct iovec){(void *)(uintptr_t)call->payload.data, call->payload.size};
        call->send.iov_count = 2;
    }
    call->sending = true;
    env_send(peer->env, &peer->link->conn, &call->send);
}

static int on_hello(struct rpc_link *link)
{
    struct rpc_peer *peer = link->owner;

    if ((peer->expect_role != RPC_ROLE_NONE && link->peer.role != peer->expect_role) ||
        (peer->expect_node != 0 && link->peer.node_id != peer->expect_node)) {
        return -ERR_WRONG_NODE;
    }
    env_timer_stop(peer->env, &peer->reconnect);
    peer->backoff_ns = 0;
    peer->stats.connected = true;
    peer->stats.connected_since_ns = env_now(peer->env);
    list_for_each (node, &peer->calls) {
        send_call(peer, container_of(node, struct rpc_call, node));
    }
    if (peer->changed != NULL) {
        peer->changed(peer, 0);
    }
    return 0;
}

static void on_frame(struct rpc_link *link, const struct frame *frame, struct slice body,
                     struct buf *payload)
{
    struct rpc_peer *peer = link->owner;
    struct rpc_reply reply = {.body = body};
    struct rpc_call *call;

    if (frame->type == FRAME_ONEWAY) {
        if (peer->oneway != NULL) {
            peer->oneway(peer, frame->opcode, body, payload);
        }
        return;
    }
    call = frame->type == FRAME_REPLY ? map_get(&peer->by_id, map_u64(frame->id)) : NULL;
    if (call == NULL || call->decided || call->sending) {
        return; /* late, or a reply to bytes not yet sent */
    }
    call->decided = true;
    reply.status = frame->status <= INT32_MAX ? -(int)frame->status : -ERR_BAD_MESSAGE;
    reply.payload = buf_take(payload);
    finish(call, &reply);
    buf_deinit(&reply.payload);
}

static void on_reconnect(struct env_timer *timer)
{
    struct rpc_peer *peer = container_of(timer, struct rpc_peer, reconnect);

    if (peer->closing) {
        return;
    }
    if (peer->link == NULL) {
        connect_now(peer);
    } else if (!peer->link->ready) {
        rpc_link_fail(peer->link, -ETIMEDOUT);
    }
}

static uint64_t next_backoff(struct rpc_peer *peer)
{
    uint64_t next = peer->backoff_ns ? min_u64(peer->backoff_ns * 2, BACKOFF_MAX) : BACKOFF_MIN;

    peer->backoff_ns = next;
    return next / 2 + env_random(peer->env) % next;
}

static void end_calls(struct rpc_peer *peer, int status)
{
    struct list ended;
    struct list_node *node;

    list_init(&ended);
    list_splice(&ended, &peer->calls);
    while ((node = list_pop_front(&ended)) != NULL) {
        struct rpc_call *call = container_of(node, struct rpc_call, node);

        ASSERT(!call->sending);
        decide(call, status);
    }
}

static void on_closing(struct env_timer *timer)
{
    struct rpc_peer *peer = container_of(timer, struct rpc_peer, reconnect);

    end_calls(peer, -ECANCELED);
    map_deinit(&peer->by_id);
    mem_free(peer->address);
    peer->address = NULL;
    if (peer->closed != NULL) {
        peer->closed(peer);
    }
}

/* The reconnect timer serves to end the calls from the loop. */
static void end_soon(struct rpc_peer *peer)
{
    peer->reconnect.fire = on_closing;
    env_timer_start(peer->env, &peer->reconnect, env_now(peer->env));
}

static void on_lost(struct rpc_link *link, int status)
{
    struct rpc_peer *peer = link->owner;
    bool was_connected = peer->stats.connected;
    uint64_t now = env_now(peer->env);

    rpc_link_deinit(link);
    mem_free(link);
    peer->link = NULL;
    peer->stats.connected = false;
    peer->stats.failures++;
    if (was_connected) {
        peer->stats.lost_at_ns = now;
    } else if (status == -ECONNREFUSED || status == -ENOENT) {
        peer->stats.refused_at_ns = now;
    }
    if (peer->closing) {
        end_soon(peer);
        return;
    }
    env_timer_start(peer->env, &peer->reconnect, now + next_backoff(peer));
    end_calls(peer, status == -ERR_WRONG_CLUSTER ? status : -ERR_DISCONNECTED);
    if (peer->changed != NULL) {
        peer->changed(peer, status != 0 ? status : -ERR_DISCONNECTED);
    }
}

static void connect_now(struct rpc_peer *peer)
{
    struct rpc_link *link = mem_zalloc(sizeof(*link));

    rpc_link_init(link, peer->env, peer->identity);
    link->hello = on_hello;
    link->frame = on_frame;
    link->lost = on_lost;
    link->owner = peer;
    peer->link = link;
    env_timer_start(peer->env, &peer->reconnect, env_now(peer->env) + HELLO_MAX);
    env_connect(peer->env, &link->conn, peer->address);
}

void rpc_peer_init(struct rpc_peer *peer, struct env *env, const struct rpc_identity *identity,
                   const char *address)
{
    *peer = (struct rpc_peer){.env = env, .identity = identity, .next_id = 1};
    peer->address = mem_strdup(address);
    peer->reconnect.fire = on_reconnect;
    list_init(&peer->calls);
}

void rpc_peer_poke(struct rpc_peer *peer)
{
    if (peer->link == NULL && !peer->closing) {
        connect_now(peer);
    }
}

void rpc_peer_reset(struct rpc_peer *peer)
{
    if (peer->link != NULL) {
        rpc_link_fail(peer->link, -ERR_DISCONNECTED);
    }
}

void rpc_peer_close(struct rpc_peer *peer)
{
    peer->closing = true;
    peer->changed = NULL;
    env_timer_stop(peer->env, &peer->reconnect);
    if (peer->link != NULL) {
        rpc_link_fail(peer->link, -ECANCELED);
    } else {
        end_soon(peer);
    }
}

static void refuse(struct env_timer *timer)
{
    struct rpc_call *call = container_of(timer, struct rpc_call, timer);

    call->decided = true;
    finish_status(call, call->status);
}

void rpc_call_start(struct rpc_peer *peer, struct rpc_call *call)
{
    struct frame frame = {.type = FRAME_REQUEST, .opcode = call->opcode, .id = peer->next_id++};
    uint64_t now = env_now(peer->env);

    ASSERT(call->timeout_ns > 0 && call->done != NULL);
    call->peer = peer;
    call->id = frame.id;
    call->status = 0;
    call->sending = call->decided = false;
    call->frame = (struct buf){0};
    call->timer = (struct env_timer){.fire = on_timeout};
    call->node = (struct list_node){0};
    peer->stats.calls++;
    if (peer->by_id.count >= RPC_INFLIGHT_MAX || peer->closing) {
        call->status = peer->closing ? -ECANCELED : -ERR_BUSY;
        call->timer.fire = refuse;
        env_timer_start(peer->env, &call->timer, now);
        return;
    }
    frame.deadline_ms = (uint32_t)min_u64(call->timeout_ns / NS_PER_MS + 1, UINT32_MAX);
    frame_encode(frame, call->body, call->payload, &call->frame);
    list_push_back(&peer->calls, &call->node);
    map_put(&peer->by_id, map_u64(call->id), call);
    env_timer_start(peer->env, &call->timer, now + call->timeout_ns);
    if (peer->link != NULL && peer->link->ready && !peer->link->failing) {
        send_call(peer, call);
    } else if (peer->link == NULL && !env_timer_running(&peer->reconnect)) {
        connect_now(peer);
    }
}

void rpc_call_cancel(struct rpc_call *call)
{
    if (call->peer == NULL || call->decided) {
        return;
    }
    call->status = -ECANCELED;
    env_timer_start(call->peer->env, &call->timer, env_now(call->peer->env));
}

void rpc_peer_oneway(struct rpc_peer *peer, uint16_t opcode, struct slice body,
                     struct slice payload)
{
    if (peer->link != NULL && peer->link->ready && !peer->link->failing) {
        rpc_link_oneway(peer->link, opcode, body, payload);
    } else if (peer->link == NULL && !env_timer_running(&peer->reconnect) && !peer->closing) {
        connect_now(peer);
    }
}
