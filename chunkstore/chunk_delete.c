/*
 * chunk_delete: one call to each server that owns some of the ids.
 *
 *     SEND --> WAIT (all replies) --> finish
 *
 * No retries: the owner of the list tries again later, as a whole.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/client_internal.h"

#include <errno.h>

enum { CHUNK_DELETE_SEND, CHUNK_DELETE_WAIT };
static const char *const delete_states[] = {"SEND", "WAIT"};

struct delete_slot {
    struct rpc_call call;
    struct chunk_delete *del;
    struct buf ids;
    uint32_t server;
    bool sent;
};

struct chunk_delete_impl {
    struct client_op base;
    struct delete_slot *slots; /* by server */
    unsigned slot_count;
    int failure;
};

static void on_reply(struct rpc_call *call, struct rpc_reply *reply)
{
    struct delete_slot *slot = call->data;
    struct chunk_delete *del = slot->del;

    slot->sent = false;
    if (reply->status < 0) {
        del->impl->failure = reply->status;
    }
    if (reply->status == -ERR_STALE_EPOCH && !del->impl->base.cancelled) {
        client_map_reply(del->impl->base.client, reply->body);
    }
    op_complete(&del->op);
}

static struct delete_slot *slot_for(struct chunk_delete_impl *impl, uint32_t server)
{
    for (unsigned i = 0; i < impl->slot_count; i++) {
        if (impl->slots[i].server == server) {
            return &impl->slots[i];
        }
    }
    ASSERT(impl->slot_count < impl->base.client->map.server_count);
    impl->slots[impl->slot_count].server = server;
    return &impl->slots[impl->slot_count++];
}

/* 0, or -EAGAIN when there is no map. */
static int group_ids(struct chunk_delete *del)
{
    struct chunk_delete_impl *impl = del->impl;

    impl->slots = mem_zalloc(impl->base.client->map.server_count * sizeof(*impl->slots));
    for (unsigned i = 0; i < del->count; i++) {
        uint32_t owners[CHUNK_REPLICAS];
        unsigned count = client_owners(impl->base.client, del->ids[i], owners);

        if (count == 0) {
            return -EAGAIN;
        }
        for (unsigned k = 0; k < count; k++) {
            chunk_ids_append(&slot_for(impl, owners[k])->ids, del->ids[i].session, del->ids[i].seq);
        }
    }
    return 0;
}

static void send_all(struct chunk_delete *del)
{
    struct chunk_delete_impl *impl = del->impl;

    for (unsigned i = 0; i < impl->slot_count; i++) {
        struct delete_slot *slot = &impl->slots[i];
        struct chunk_peer *peer = client_peer(impl->base.client, slot->server);
        struct chunk_delete_request request = {impl->base.client->map.epoch, buf_slice(&slot->ids)};
        cleanup(buf_deinit) struct buf body = {0};

        if (peer == NULL || chunk_peer_unreachable(peer)) {
            impl->failure = -ERR_DISCONNECTED;
            continue;
        }
        chunk_delete_request_encode(&request, &body);
        slot->del = del;
        slot->sent = true;
        slot->call = (struct rpc_call){.opcode = CHUNK_DELETE,
                                       .body = buf_slice(&body),
                                       .timeout_ns = CLIENT_ATTEMPT_NS,
                                       .done = on_reply,
                                       .data = slot};
        del->op.inflight++;
        rpc_call_start(&peer->rpc, &slot->call);
    }
}

static void delete_step(struct op *op)
{
    struct chunk_delete *del = container_of(op, struct chunk_delete, op);
    struct chunk_delete_impl *impl = del->impl;
    int r = client_op_over(&impl->base);

    if (r == 0 && op->state == CHUNK_DELETE_SEND) {
        op->state = CHUNK_DELETE_WAIT;
        r = group_ids(del);
        if (r == 0) {
            send_all(del);
        }
    }
    if (r == 0 && op->inflight > 0) {
        client_op_wake_at(&impl->base, UINT64_MAX);
        return;
    }
    for (unsigned i = 0; i < impl->slot_count; i++) {
        if (impl->slots[i].sent) {
            rpc_call_cancel(&impl->slots[i].call);
        }
    }
    client_op_end(&impl->base);
    op_finish(op, r != 0 ? r : impl->failure);
}

static void delete_drained(struct op *op)
{
    struct chunk_delete *del = container_of(op, struct chunk_delete, op);
    struct chunk_delete_impl *impl = del->impl;

    for (unsigned i = 0; i < impl->slot_count; i++) {
        buf_deinit(&impl->slots[i].ids);
    }
    env_timer_stop(impl->base.env, &impl->base.timer);
    mem_free(impl->slots);
    mem_free(impl);
    del->impl = NULL;
    if (del->released != NULL) {
        del->released(del);
    }
}

static const struct op_kind delete_kind = {.name = "chunk_delete",
                                           .states = delete_states,
                                           .state_count = ARRAY_SIZE(delete_states),
                                           .step = delete_step,
                                           .drained = delete_drained};

void chunk_delete_start(struct chunk_delete *del, struct chunk_client *client)
{
    void (*done)(struct op * op) = del->op.done;
    void *owner = del->op.owner;

    ASSERT(del->count > 0 && del->count <= CHUNK_DELETE_MAX);
    op_init(&del->op, &delete_kind);
    del->op.done = done;
    del->op.owner = owner;
    del->impl = mem_zalloc(sizeof(*del->impl));
    client_op_init(&del->impl->base, client, &del->op, del->timeout_ns);
    op_wake(&del->op);
}
