/*
 * chunk_put: store a chunk on its owners.
 *
 *     PREPARE --> SEND --> WAIT --> (write quorum of distinct owners durable) --> finish
 *                  ^        |
 *                  +--------+ an owner failed: again after a back-off, until the deadline
 *
 * Owners known to be unreachable are not waited for; they are tried again at each round. After the
 * verdict stragglers go on; an owner that did not make it becomes a hint with one that did.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trace_mark.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/client_internal.h"
#include "chunkstore/compress.h"

#include <errno.h>

#define COMPRESS_ELSEWHERE KiB(128)             /* from this size on compression leaves the loop */
#define PUT_SLOTS          (CHUNK_REPLICAS * 2) /* owners may change while we try */

enum { CHUNK_PUT_PREPARE, CHUNK_PUT_PREPARED, CHUNK_PUT_SEND, CHUNK_PUT_WAIT };
static const char *const put_states[] = {"PREPARE", "PREPARED", "SEND", "WAIT"};

struct put_slot {
    struct rpc_call call;
    struct chunk_put *put;
    uint32_t server; /* 0 = free */
    bool sent;       /* in flight */
    bool durable;
    int failure; /* last */
    bool final;  /* trying again is useless */
    uint64_t retry_ns;
};

struct chunk_put_impl {
    struct client_op base;
    struct env_work work;
    struct buf stored, crcs, body;
    uint32_t flags;
    bool worked;
    struct put_slot slots[PUT_SLOTS];
};

static void compress_run(struct env_work *work)
{
    struct chunk_put_impl *impl = container_of(work, struct chunk_put_impl, work);
    struct chunk_put *put = container_of(impl->base.op, struct chunk_put, op);

    if (compress_chunk(put->iov, put->iov_count, put->length, &impl->stored, &impl->crcs)) {
        impl->flags = CHUNK_COMPRESSED;
    }
}

static void compress_done(struct env_work *work)
{
    op_complete(container_of(work, struct chunk_put_impl, work)->base.op);
}

static void start_compression(struct chunk_put *put)
{
    struct chunk_put_impl *impl = put->impl;

    if (!put->try_compress || !compress_worth_it(put->iov, put->iov_count, put->length)) {
        return;
    }
    impl->work = (struct env_work){.run = compress_run, .done = compress_done};
    if (put->length >= COMPRESS_ELSEWHERE) {
        put->op.inflight++;
        env_work(impl->base.env, &impl->work);
    } else {
        compress_run(&impl->work);
    }
}

/* Checksums, and one piece of memory to send from. */
static void lay_out(struct chunk_put *put)
{
    struct chunk_put_impl *impl = put->impl;

    if (impl->flags == 0) {
        chunk_crcs_make(put->iov, put->iov_count, &impl->crcs);
        for (unsigned i = 0; put->iov_count > 1 && i < put->iov_count; i++) {
            buf_append(&impl->stored, put->iov[i].iov_base, put->iov[i].iov_len);
        }
    }
}

static struct slice payload_of(const struct chunk_put *put)
{
    return put->impl->stored.size > 0 ? buf_slice(&put->impl->stored)
                                      : slice_make(put->iov[0].iov_base, put->iov[0].iov_len);
}

static bool is_final(int status)
{
    return status == -ENOSPC || status == -ERR_CORRUPT || status == -EINVAL ||
           status == -ERR_BAD_MESSAGE;
}

static struct put_slot *durable_slot(struct chunk_put_impl *impl)
{
    for (unsigned i = 0; i < PUT_SLOTS; i++) {
        if (impl->slots[i].durable) {
            return &impl->slots[i];
        }
    }
    return NULL;
}

/* After the verdict: whoever has no copy gets it from whoever has. */
static void leave_hint(struct chunk_put *put, const struct put_slot *slot)
{
    struct chunk_put_impl *impl = put->impl;
    struct put_slot *holder = durable_slot(impl);

    if (!impl->base.cancelled && holder != NULL && put->op.result == 0) {
        impl->base.client->degraded_puts++;
        TRACE_MARK("a hint is left");
        client_send_hint(impl->base.client, holder->server, slot->server, put->id);
    }
}

static void on_reply(struct rpc_call *call, struct rpc_reply *reply)
{
    struct put_slot *slot = call->data;
    struct chunk_put *put = slot->put;

    slot->sent = false;
    slot->durable = reply->status == 0;
    slot->failure = reply->status;
    slot->final = is_final(reply->status);
    slot->retry_ns = 0;
    if ((reply->status == 0 || reply->status == -ENOSPC) && !put->impl->base.cancelled) {
        client_note_room(put->impl->base.client, slot->server, reply->body);
    }
    if (reply->status == -ERR_STALE_EPOCH && !put->impl->base.cancelled) {
        client_map_reply(put->impl->base.client, reply->body);
    }
    if (put->op.decided && !slot->durable) {
        leave_hint(put, slot);
    }
    op_complete(&put->op);
}

static struct put_slot *slot_for(struct chunk_put_impl *impl, uint32_t server)
{
    struct put_slot *empty = NULL;

    for (unsigned i = 0; i < PUT_SLOTS; i++) {
        if (impl->slots[i].server == server) {
            return &impl->slots[i];
        }
        if (impl->slots[i].server == 0 && empty == NULL) {
            empty = &impl->slots[i];
        }
    }
    if (empty != NULL) {
        empty->server = server;
    }
    return empty;
}

static void send_to(struct chunk_put *put, struct put_slot *slot, struct chunk_peer *peer)
{
    struct chunk_put_impl *impl = put->impl;
    struct chunk_put_request request = {
        .session = put->id.session,
        .seq = put->id.seq,
        .length = put->length,
        .flags = impl->flags,
        .epoch = impl->base.client->map.epoch,
        .partition = placement_partition(&impl->base.client->map, put->id.session, put->id.seq),
        .crcs = buf_slice(&impl->crcs),
    };

    buf_clear(&impl->body);
    chunk_put_request_encode(&request, &impl->body);
    slot->put = put;
    slot->sent = true;
    slot->call = (struct rpc_call){.opcode = CHUNK_PUT,
                                   .body = buf_slice(&impl->body),
                                   .payload = payload_of(put),
                                   .timeout_ns = CLIENT_ATTEMPT_NS,
                                   .done = on_reply,
                                   .data = slot};
    put->op.inflight++;
    rpc_call_start(&peer->rpc, &slot->call);
}

/* Sends to every owner that needs it now; returns when to look again. */
static uint64_t send_round(struct chunk_put *put)
{
    struct chunk_put_impl *impl = put->impl;
    uint32_t owners[CHUNK_REPLICAS];
    unsigned count = client_owners(impl->base.client, put->id, owners);
    uint64_t now = env_now(impl->base.env);
    uint64_t again = count == 0 ? now : UINT64_MAX;
    bool backed_off = false;

    for (unsigned i = 0; i < count; i++) {
        struct put_slot *slot = slot_for(impl, owners[i]);
        struct chunk_peer *peer = client_peer(impl->base.client, owners[i]);

        if (slot == NULL || peer == NULL || slot->durable || slot->sent || slot->final) {
            continue;
        }
        if (chunk_peer_unreachable(peer) && slot->failure == 0) {
            slot->failure = -ERR_DISCONNECTED;
            rpc_peer_poke(&peer->rpc);
        }
        if (slot->failure != 0 && slot->retry_ns == 0) {
            slot->retry_ns = client_op_backoff(&impl->base);
        }
        if (slot->failure == 0 || (slot->retry_ns <= now && !chunk_peer_unreachable(peer))) {
            send_to(put, slot, peer);
            continue;
        }
        if (slot->retry_ns <= now) {
            slot->retry_ns = client_op_backoff(&impl->base);
        }
        again = min_u64(again, slot->retry_ns);
        backed_off = true;
    }
    return count == 0 && !backed_off ? client_op_backoff(&impl->base) : again;
}

/* 1 = won, 0 = pending, or why it cannot be won. */
static int put_verdict(struct chunk_put *put)
{
    struct chunk_put_impl *impl = put->impl;
    uint32_t owners[CHUNK_REPLICAS];
    unsigned durable = 0, lost = 0, count;
    int failure = 0;

    for (unsigned i = 0; i < PUT_SLOTS; i++) {
        durable += impl->slots[i].durable;
    }
    if (durable >= impl->base.client->write_quorum) {
        return 1;
    }
    count = client_owners(impl->base.client, put->id, owners);
    for (unsigned i = 0; i < count; i++) {
        struct put_slot *slot = slot_for(impl, owners[i]);

        if (slot != NULL && slot->final) {
            lost++;
            failure = slot->failure;
        }
    }
    return lost > 0 && count - lost < impl->base.client->write_quorum ? failure : 0;
}

static void finish_put(struct chunk_put *put, int result)
{
    struct chunk_put_impl *impl = put->impl;

    client_op_end(&impl->base);
    put->op.result = result;
    if (result == 0) {
        impl->base.client->put_count++;
        for (unsigned i = 0; i < PUT_SLOTS; i++) {
            struct put_slot *slot = &impl->slots[i];

            if (slot->server != 0 && !slot->durable && !slot->sent) {
                leave_hint(put, slot);
            }
        }
        list_push_back(&impl->base.client->ops, &impl->base.node); /* stragglers use the client */
    }
    op_finish(&put->op, result);
}

static void put_step(struct op *op)
{
    struct chunk_put *put = container_of(op, struct chunk_put, op);
    struct chunk_put_impl *impl = put->impl;
    int r;

    if (op->state == CHUNK_PUT_PREPARE) {
        op->state = CHUNK_PUT_PREPARED;
        start_compression(put);
    }
    if (op->state == CHUNK_PUT_PREPARED) {
        if (op->inflight > 0) {
            return;
        }
        lay_out(put);
        op->state = CHUNK_PUT_SEND;
    }
    r = client_op_over(&impl->base);
    if (r == 0) {
        r = put_verdict(put);
    }
    if (r != 0) {
        finish_put(put, r > 0 ? 0 : r);
        return;
    }
    client_op_wake_at(&impl->base, send_round(put));
    op->state = CHUNK_PUT_WAIT;
}

static void put_drained(struct op *op)
{
    struct chunk_put *put = container_of(op, struct chunk_put, op);
    struct chunk_put_impl *impl = put->impl;

    list_remove(&impl->base.node);
    env_timer_stop(impl->base.env, &impl->base.timer);
    buf_deinit(&impl->stored);
    buf_deinit(&impl->crcs);
    buf_deinit(&impl->body);
    mem_free(impl);
    put->impl = NULL;
    if (put->released != NULL) {
        put->released(put);
    }
}

static const struct op_kind put_kind = {.name = "chunk_put",
                                        .states = put_states,
                                        .state_count = ARRAY_SIZE(put_states),
                                        .step = put_step,
                                        .drained = put_drained};

void chunk_put_start(struct chunk_put *put, struct chunk_client *client)
{
    void (*done)(struct op * op) = put->op.done;
    void *owner = put->op.owner;

    ASSERT(put->length > 0 && put->length <= CHUNK_BYTES_MAX && put->iov_count > 0);
    op_init(&put->op, &put_kind);
    put->op.done = done;
    put->op.owner = owner;
    put->impl = mem_zalloc(sizeof(*put->impl));
    client_op_init(&put->impl->base, client, &put->op, put->timeout_ns);
    client_op_wake_at(&put->impl->base, UINT64_MAX);
    op_wake(&put->op);
}

void chunk_put_cancel(struct chunk_put *put)
{
    if (put->impl != NULL && !put->op.decided) {
        client_op_cancel(&put->impl->base);
    }
}
