/*
 * meta_client_probe: a leader that says nothing. The connections of a killed one are reset at once;
 * one that stands still, or that the network has lost, keeps them, and calls to it would wait for
 * META_CLIENT_TRY_NS. So when something waits and nothing was answered for META_CLIENT_SILENCE_NS,
 * the others are asked in turn, each META_CLIENT_PROBE_NS, who leads. If that is somebody else,
 * everything goes there. If it is the silent one, or nobody, we go on waiting: a slow leader is
 * better than two that we ask.
 *
 * The question is META_RPC_MAP: only a leader answers it, the others name the leader.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/trace_mark.h"
#include "meta/meta_client_internal.h"

#include <errno.h>

static bool waits(const struct meta_client *client)
{
    return client->flying > 0 || client->own_op != META_OP_NONE;
}

static void on_probe(struct rpc_call *call, struct rpc_reply *reply)
{
    struct meta_client *client = call->data;
    struct meta_reply hint = {0};
    unsigned silent = client->leader, found = client->peer_count;

    client->probe_busy = false;
    if (client->closing) {
        return;
    }
    if (reply->status == 0) {
        found = client->probed;
    } else if (reply->status == -ERR_NOT_LEADER && meta_reply_decode(&hint, reply->body) == 0) {
        found = client_peer_named(client, hint.data);
    }
    if (found == client->peer_count || found == silent || client->retry_wait || !waits(client) ||
        env_now(client->env) - client->heard_ns < META_CLIENT_SILENCE_NS) {
        return;
    }
    TRACE_MARK("a client leaves a leader that says nothing");
    LOG_INFO(client->env, "meta", "%s does not answer, %s leads", client->peers[silent].address,
             client->peers[found].address);
    client->silences++;
    client_change_leader(client, found);
    rpc_peer_reset(&client->peers[silent]);
}

static void ask(struct meta_client *client)
{
    client->probed = (client->probed + 1) % client->peer_count;
    if (client->probed == client->leader) {
        client->probed = (client->probed + 1) % client->peer_count;
    }
    client->probe_busy = true;
    client->probe_call = (struct rpc_call){.opcode = META_RPC_MAP,
                                           .timeout_ns = META_CLIENT_PROBE_NS,
                                           .done = on_probe,
                                           .data = client};
    rpc_call_start(&client->peers[client->probed], &client->probe_call);
}

static void on_silence(struct env_timer *timer)
{
    struct meta_client *client = container_of(timer, struct meta_client, silence_timer);
    uint64_t now = env_now(client->env);

    if (!waits(client)) {
        return;
    }
    if (now - client->heard_ns < META_CLIENT_SILENCE_NS) {
        env_timer_start(client->env, timer, client->heard_ns + META_CLIENT_SILENCE_NS);
        return;
    }
    if (!client->probe_busy && client->peer_count > 1) {
        ask(client);
    }
    env_timer_start(client->env, timer, now + META_CLIENT_PROBE_NS);
}

void client_silence_watch(struct meta_client *client)
{
    if (!env_timer_running(&client->silence_timer) && !client->closing) {
        client->silence_timer.fire = on_silence;
        env_timer_start(client->env, &client->silence_timer,
                        env_now(client->env) + META_CLIENT_SILENCE_NS);
    }
}

void client_silence_broken(struct meta_client *client, const struct rpc_call *call, int status)
{
    if (call->peer == &client->peers[client->leader] && status != -ETIMEDOUT &&
        status != -ECANCELED) {
        client->heard_ns = env_now(client->env);
    }
    if (!waits(client)) {
        env_timer_stop(client->env, &client->silence_timer);
    }
}
