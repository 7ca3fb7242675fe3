#include "cli/ask.h"

#include "base/log.h"

int ask_group_open(struct ask_group *group, const struct cluster_config *cluster)
{
    struct env_uv_config config = {.node_name = "keelfs", .log_level = LOG_LEVEL_ERROR};

    *group = (struct ask_group){.identity = {.role = RPC_ROLE_ADMIN}};
    memcpy(group->identity.cluster_uuid, cluster->uuid, 16);
    return env_uv_open(&group->uv, &config);
}

static void one_less(struct ask_group *group)
{
    if (--group->waiting == 0) {
        env_uv_stop(group->uv);
    }
}

static void on_reply(struct rpc_call *call, struct rpc_reply *reply)
{
    struct ask *ask = container_of(call, struct ask, call);

    ask->status = reply->status;
    buf_append_slice(&ask->body, reply->body);
    ask->payload = buf_take(&reply->payload);
    one_less(ask->group);
}

void ask_start(struct ask_group *group, struct ask *ask, const char *address, uint16_t opcode,
               struct slice body, uint64_t timeout_ns)
{
    *ask = (struct ask){.group = group};
    rpc_peer_init(&ask->peer, env_uv_env(group->uv), &group->identity, address);
    ask->call = (struct rpc_call){
        .opcode = opcode, .body = body, .timeout_ns = timeout_ns, .done = on_reply};
    group->waiting++;
    rpc_call_start(&ask->peer, &ask->call);
}

void ask_wait(struct ask_group *group)
{
    if (group->waiting != 0) {
        env_uv_run(group->uv);
    }
}

static void on_peer_closed(struct rpc_peer *peer)
{
    one_less(container_of(peer, struct ask, peer)->group);
}

void ask_free(struct ask *ask)
{
    ask->peer.closed = on_peer_closed;
    ask->group->waiting++;
    rpc_peer_close(&ask->peer);
    env_uv_run(ask->group->uv);
    buf_deinit(&ask->body);
    buf_deinit(&ask->payload);
}

void ask_group_close(struct ask_group *group)
{
    env_uv_close(group->uv);
}
