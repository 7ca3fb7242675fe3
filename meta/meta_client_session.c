/*
 * meta_client_session: the session of a client: opened, kept alive, told of orphans and of other
 * mounts, opened anew when it expired, closed.
 */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "meta/meta_client_internal.h"

#include <errno.h>

static void on_own(struct rpc_call *call, struct rpc_reply *reply);

static void own_send(struct meta_client *client, unsigned op)
{
    struct meta_request request = {.op = (uint8_t)op,
                                   .session = client->session,
                                   .low_water = client->low_water,
                                   .chunk_low = client_chunk_low(client)};
    uint64_t timeout = META_CLIENT_TRY_NS;

    ASSERT(client->own_op == META_OP_NONE);
    if (op == META_SESSION_OPEN) {
        request.session = 0;
        request.offset = client->nonce;
        timeout = META_CLIENT_OPEN_NS;
    } else if (op == META_SESSION_CLOSE) {
        timeout = META_CLIENT_CLOSE_NS;
    } else {
        request.flags = client->released ? META_RELEASED : 0;
        request.data = buf_slice(&client->orphans);
    }
    buf_clear(&client->frame);
    meta_request_encode(&request, &client->frame);
    client->own_op = op;
    client->own_sent_ns = env_now(client->env);
    client->own_call = (struct rpc_call){.opcode = META_RPC_REQUEST,
                                         .body = buf_slice(&client->frame),
                                         .timeout_ns = timeout,
                                         .done = on_own};
    rpc_call_start(&client->peers[client->leader], &client->own_call);
    client_silence_watch(client);
}

/* ---- alone ---- */

static void set_alone(struct meta_client *client, bool alone)
{
    if (alone) {
        client->alone_until_ns = client->own_sent_ns + META_ALONE_GRANT_NS;
        env_timer_start(client->env, &client->alone_timer, client->alone_until_ns);
    } else {
        client->alone_until_ns = 0;
        env_timer_stop(client->env, &client->alone_timer);
    }
    if (alone == client->alone) {
        return;
    }
    client->alone = alone;
    client->released = false; /* until what it was relied on for is over */
    if (client->alone_changed != NULL) {
        client->alone_changed(client, alone);
    } else if (!alone) {
        meta_client_release_alone(client);
    }
}

/* The grant has run out without a renewal. */
static void on_alone_over(struct env_timer *timer)
{
    set_alone(container_of(timer, struct meta_client, alone_timer), false);
}

void meta_client_release_alone(struct meta_client *client)
{
    if (!client->alone) {
        client->released = true;
        client_keepalive_soon(client);
    }
}

/* ---- orphans ---- */

/* Answers for those that this mount does not hold open. */
static void answer_orphans(struct meta_client *client, struct slice inos)
{
    buf_clear(&client->orphans);
    for (size_t i = 0; i + 8 <= inos.size && i / 8 < META_ORPHAN_ANSWER_MAX; i += 8) {
        uint64_t ino = bytes_get_le64(inos.data + i);

        if (client->is_open == NULL || !client->is_open(client, ino)) {
            buf_append(&client->orphans, inos.data + i, 8);
        }
    }
    if (client->orphans.size > 0) {
        client->keepalive_again = true;
    }
}

static void settle(struct meta_client *client, struct slice inos)
{
    for (size_t i = 0; client->settle != NULL && i + 8 <= inos.size && i / 8 < META_SETTLE_ASK;
         i += 8) {
        client->settle(client, bytes_get_le64(inos.data + i));
    }
}

/* ---- the cluster map ---- */

static void on_map(struct rpc_call *call, struct rpc_reply *reply)
{
    struct meta_client *client = call->data;
    struct cluster_map map = {0};
    bool again = client->map_again;

    client->map_busy = client->map_again = false;
    if (reply->status == 0 && cluster_map_decode(&map, reply->body) == 0) {
        client->map_epoch = max_u64(client->map_epoch, map.epoch);
        if (client->map_told != NULL) {
            client->map_told(client, &map);
        }
        cluster_map_deinit(&map);
    } else if (client_retryable(reply->status) && !client->closing) {
        client->map_again = true;
        client_retry(client, call->peer, reply->status, reply);
    }
    if (again && !client->map_again) {
        meta_client_fetch_map(client);
    }
}

void meta_client_fetch_map(struct meta_client *client)
{
    if (client->closing) {
        return;
    }
    if (client->map_busy || client->retry_wait) {
        client->map_again = true;
        return;
    }
    client->map_busy = true;
    client->map_call = (struct rpc_call){
        .opcode = META_RPC_MAP, .timeout_ns = META_CLIENT_TRY_NS, .done = on_map, .data = client};
    rpc_call_start(&client->peers[client->leader], &client->map_call);
}

/* ---- open, keep alive ---- */

static void renewed(struct meta_client *client, const struct meta_reply *answer)
{
    uint64_t lease =
        answer->value2 > META_LEASE_MARGIN_NS ? answer->value2 - META_LEASE_MARGIN_NS : 0;

    client->lease_until_ns = client->own_sent_ns + lease;
    client->refusals = 0;
    env_timer_start(client->env, &client->keepalive_timer, client->own_sent_ns + META_KEEPALIVE_NS);
    set_alone(client, (answer->flags & META_ALONE) != 0);
}

static void session_opened(struct meta_client *client, const struct meta_reply *answer)
{
    bool first = !client->ever_open;

    client->session = answer->value;
    client->next_seq = 1;
    client->low_water = 1;
    client->ever_open = true;
    buf_clear(&client->orphans);
    client_learn_members(client, answer->members);
    if (client->session_changed != NULL) {
        client->session_changed(client, first);
    }
    renewed(client, answer);
    client_pump(client);
}

static void kept_alive(struct meta_client *client, const struct meta_reply *answer)
{
    answer_orphans(client, answer->data);
    settle(client, answer->extents);
    client_learn_members(client, answer->members);
    renewed(client, answer);
    if (answer->value > client->map_epoch) {
        meta_client_fetch_map(client);
    }
}

void client_session_lost(struct meta_client *client)
{
    if (client->session == 0 || client->closing) {
        return;
    }
    LOG_WARN(client->env, "meta", "session expired, opening a new one id=%" PRIu64,
             client->session);
    client->sessions_lost++;
    client->session = 0;
    client->lease_until_ns = 0;
    env_timer_stop(client->env, &client->keepalive_timer);
    client_fail_mutations(client, -ERR_SESSION_EXPIRED);
    set_alone(client, false);
    client->nonce = env_random(client->env) | 1;
    if (client->own_op == META_OP_NONE) {
        own_send(client, META_SESSION_OPEN);
    } else {
        client->keepalive_again = true; /* see on_own */
    }
}

/* What comes next when our own call has ended. */
static void own_next(struct meta_client *client)
{
    bool again = client->keepalive_again;

    if (client->closing || client->own_op != META_OP_NONE || client->retry_wait) {
        return;
    }
    if (client->session == 0) {
        client->keepalive_again = false;
        own_send(client, META_SESSION_OPEN);
    } else if (again) {
        client->keepalive_again = false;
        own_send(client, META_KEEPALIVE);
    }
}

static void on_own(struct rpc_call *call, struct rpc_reply *reply)
{
    struct meta_client *client = container_of(call, struct meta_client, own_call);
    unsigned op = client->own_op;
    struct meta_reply answer = {0};
    int status = reply->status;

    client->own_op = META_OP_NONE;
    client_silence_broken(client, call, status);
    if (client->closing) {
        if (op == META_SESSION_CLOSE) {
            client_peers_close(client);
        } else {
            client_session_close(client);
        }
        return;
    }
    if (status == 0) {
        status = meta_reply_decode(&answer, reply->body);
    }
    if (status == 0) {
        status = -(int)answer.error;
    }
    if (status == 0 && op == META_SESSION_OPEN) {
        session_opened(client, &answer);
    } else if (status == 0 && client->session != 0) {
        kept_alive(client, &answer);
    } else if (status == -ERR_SESSION_EXPIRED) {
        client_session_lost(client);
    } else if (status < 0) {
        client->keepalive_again = true;
        client_retry(client, call->peer, client_retryable(status) ? status : -ERR_BUSY, reply);
        if (!client->retry_wait) { /* another call has changed the leader meanwhile */
            own_next(client);
        }
        return;
    }
    own_next(client);
}

static void on_keepalive_due(struct env_timer *timer)
{
    client_keepalive_soon(container_of(timer, struct meta_client, keepalive_timer));
}

void client_keepalive_soon(struct meta_client *client)
{
    client->keepalive_again = true;
    if (client->session != 0) {
        own_next(client);
    }
}

void client_session_start(struct meta_client *client)
{
    client->keepalive_timer.fire = on_keepalive_due;
    client->alone_timer.fire = on_alone_over;
    client->nonce = env_random(client->env) | 1;
    client->released = true;
    if (!client->config.no_session) {
        own_send(client, META_SESSION_OPEN);
    }
}

void client_session_retry(struct meta_client *client)
{
    if (!client->config.no_session) {
        own_next(client);
    }
    if (client->map_again) {
        client->map_again = false;
        meta_client_fetch_map(client);
    }
}

/* ---- closing ---- */

static void finish_close(struct meta_client *client)
{
    if (client->peers_open > 0 || client->flying > 0) {
        return;
    }
    env_timer_stop(client->env, &client->ending_timer);
    client_tell_ended(client);
    mem_free(client->peers);
    client->peers = NULL;
    buf_deinit(&client->frame);
    buf_deinit(&client->orphans);
    if (client->closed != NULL) {
        client->closed(client);
    }
}

static void on_peer_closed(struct rpc_peer *peer)
{
    struct meta_client *client = peer->data;

    client->peers_open--;
    finish_close(client);
}

void client_peers_close(struct meta_client *client)
{
    for (unsigned i = 0; i < client->peer_count; i++) {
        client->peers[i].closed = on_peer_closed;
        rpc_peer_close(&client->peers[i]);
    }
}

void client_session_close(struct meta_client *client)
{
    env_timer_stop(client->env, &client->keepalive_timer);
    env_timer_stop(client->env, &client->alone_timer);
    env_timer_stop(client->env, &client->retry_timer);
    env_timer_stop(client->env, &client->silence_timer);
    if (client->own_op != META_OP_NONE) {
        rpc_call_cancel(&client->own_call); /* on_own comes back here */
    } else if (client->session != 0) {
        own_send(client, META_SESSION_CLOSE);
    } else {
        client_peers_close(client);
    }
}
