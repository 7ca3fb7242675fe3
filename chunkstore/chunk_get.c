/*
 * chunk_get: read a range of a chunk from the best holder.
 *
 *     ASK --> WAIT --> (a copy that verifies) --> finish
 *      ^       |
 *      +-------+ too slow: ask another as well; failed: ask the next, at last back off
 *
 * NotFound from every holder is the verdict -ERR_NOT_FOUND, once the metadata service has said that
 * our map is the newest. A server whose copy is missing or damaged is told to repair itself once
 * another one had it.
 */
#include "base/assert.h"
#include "base/buggify.h"
#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/client_internal.h"
#include "chunkstore/compress.h"

#include <errno.h>

enum { CHUNK_GET_ASK, CHUNK_GET_WAIT };
static const char *const get_states[] = {"ASK", "WAIT"};

struct get_slot {
    struct rpc_call call;
    struct chunk_get *get;
    uint32_t server;
    bool sent;
    int failure;
    uint64_t sent_ns;
    uint64_t retry_ns;
};

struct chunk_get_impl {
    struct client_op base;
    struct buf body;
    struct get_slot slots[CHUNK_HOLDERS_MAX];
    unsigned slot_count;
    uint64_t hedge_ns;
    uint64_t epoch;   /* of the map that the slots are by */
    uint64_t gone_ns; /* when the last holder said NotFound; 0 = one has not */
    bool found;
};

/* Verifies, restores and cuts out what was asked for. */
static int accept_reply(struct chunk_get *get, struct rpc_reply *reply)
{
    cleanup(buf_deinit) struct buf plain = {0};
    struct chunk_get_reply info;
    struct slice bytes = buf_slice(&reply->payload);
    uint64_t start;
    int r = chunk_get_reply_decode(&info, reply->body);

    if (r < 0) {
        return r;
    }
    r = chunk_crcs_check(info.length, info.flags, info.first, info.crcs, bytes);
    if (r == 0 && (info.flags & CHUNK_COMPRESSED) != 0) {
        r = compress_restore(info.length, info.first, info.crcs, bytes, &plain);
        bytes = buf_slice(&plain);
    }
    if (r < 0) {
        return r;
    }
    start =
        info.first * ((info.flags & CHUNK_COMPRESSED) != 0 ? CHUNK_FRAME_BYTES : CHUNK_BLOCK_BYTES);
    if (start > get->offset || start + bytes.size < (uint64_t)get->offset + get->length) {
        return -ERR_CORRUPT;
    }
    buf_append(&get->out, bytes.data + (get->offset - start), get->length);
    return 0;
}

static void note_latency(struct chunk_get *get, const struct get_slot *slot)
{
    struct chunk_client *client = get->impl->base.client;
    struct chunk_peer *peer = client_peer(client, slot->server);
    uint64_t took = env_now(get->impl->base.env) - slot->sent_ns;

    if (peer != NULL) {
        peer->latency_ns = peer->latency_ns == 0 ? took : (peer->latency_ns * 7 + took) / 8;
    }
}

static void on_reply(struct rpc_call *call, struct rpc_reply *reply)
{
    struct get_slot *slot = call->data;
    struct chunk_get *get = slot->get;

    slot->sent = false;
    slot->failure = reply->status;
    slot->retry_ns = 0;
    if (!get->impl->base.cancelled && !get->op.decided && !get->impl->found) {
        if (reply->status == 0) {
            slot->failure = accept_reply(get, reply);
            get->impl->found = slot->failure == 0;
            note_latency(get, slot);
        } else if (reply->status == -ERR_STALE_EPOCH) {
            client_map_reply(get->impl->base.client, reply->body);
        }
    }
    op_complete(&get->op);
}

static void send_to(struct chunk_get *get, struct get_slot *slot, struct chunk_peer *peer)
{
    struct chunk_get_impl *impl = get->impl;
    struct chunk_get_request request = {get->id.session, get->id.seq, get->offset, get->length,
                                        impl->base.client->map.epoch};
    uint64_t now = env_now(impl->base.env);

    buf_clear(&impl->body);
    chunk_get_request_encode(&request, &impl->body);
    slot->get = get;
    slot->sent = true;
    slot->sent_ns = now;
    slot->failure = 0;
    slot->call = (struct rpc_call){.opcode = CHUNK_GET,
                                   .body = buf_slice(&impl->body),
                                   .timeout_ns = CLIENT_ATTEMPT_NS,
                                   .done = on_reply,
                                   .data = slot};
    impl->hedge_ns = now + max_u64(2 * peer->latency_ns, CLIENT_HEDGE_MIN_NS);
    if (BUGGIFY(impl->base.client->env, 20)) {
        impl->hedge_ns = now; /* everybody is asked at once */
    }
    get->op.inflight++;
    rpc_call_start(&peer->rpc, &slot->call);
}

/* What a holder by an older map said does not count: it may have got the chunk since. */
static void refresh_slots(struct chunk_get *get)
{
    struct chunk_get_impl *impl = get->impl;
    uint32_t holders[CHUNK_HOLDERS_MAX];
    unsigned count = client_holders(impl->base.client, get->id, holders);

    for (unsigned i = 0; i < impl->slot_count; i++) {
        if (impl->slots[i].sent) {
            return; /* not while calls point here */
        }
    }
    if (impl->epoch == impl->base.client->map.epoch) {
        return;
    }
    impl->epoch = impl->base.client->map.epoch;
    for (unsigned i = 0; i < count; i++) {
        impl->slots[i] = (struct get_slot){.server = holders[i]};
    }
    impl->slot_count = count;
}

static bool better(const struct chunk_peer *a, const struct chunk_peer *b)
{
    if (chunk_peer_unreachable(a) != chunk_peer_unreachable(b)) {
        return chunk_peer_unreachable(b);
    }
    return a->latency_ns < b->latency_ns;
}

/* The best holder that was not asked since its last failure, or NULL. */
static struct get_slot *best_slot(struct chunk_get *get, uint64_t now)
{
    struct chunk_client *client = get->impl->base.client;
    struct get_slot *best = NULL;

    for (unsigned i = 0; i < get->impl->slot_count; i++) {
        struct get_slot *slot = &get->impl->slots[i];
        struct chunk_peer *peer = client_peer(client, slot->server);
        bool due = slot->failure == 0 || (slot->retry_ns != 0 && slot->retry_ns <= now);

        if (slot->sent || peer == NULL || !due || slot->failure == -ERR_NOT_FOUND) {
            continue;
        }
        if (chunk_peer_unreachable(peer)) {
            slot->failure = -ERR_DISCONNECTED;
            slot->retry_ns = 0;
            rpc_peer_poke(&peer->rpc);
            continue;
        }
        if (best == NULL || better(peer, client_peer(client, best->server))) {
            best = slot;
        }
    }
    return best;
}

static bool not_found_anywhere(const struct chunk_get_impl *impl)
{
    for (unsigned i = 0; i < impl->slot_count; i++) {
        if (impl->slots[i].failure != -ERR_NOT_FOUND) {
            return false;
        }
    }
    return impl->slot_count > 0;
}

/* Everybody says NotFound. True: by the newest map; else that is asked for. */
static bool is_gone(struct chunk_get_impl *impl)
{
    struct chunk_client *client = impl->base.client;

    if (impl->epoch != client->map.epoch) {
        return false;
    }
    if (client->map_stale == NULL || (impl->gone_ns != 0 && client->map_told_ns > impl->gone_ns)) {
        return true;
    }
    if (impl->gone_ns == 0) {
        impl->gone_ns = env_now(impl->base.env);
    }
    client->map_stale(client);
    return false;
}

/* -ERR_NOT_FOUND, -EINVAL or -ERR_CORRUPT when no holder can do better, 0 otherwise. */
static int final_failure(struct chunk_get_impl *impl)
{
    int failure = 0;

    if (not_found_anywhere(impl)) {
        return is_gone(impl) ? -ERR_NOT_FOUND : 0;
    }
    impl->gone_ns = 0;
    for (unsigned i = 0; i < impl->slot_count; i++) {
        int r = impl->slots[i].failure;

        if (impl->slots[i].sent || (r != -ERR_NOT_FOUND && r != -EINVAL && r != -ERR_CORRUPT)) {
            return 0;
        }
        failure = r != -ERR_NOT_FOUND ? r : failure;
    }
    return failure;
}

/* Asks whom it makes sense to ask now; returns when to look again. */
static uint64_t ask(struct chunk_get *get)
{
    struct chunk_get_impl *impl = get->impl;
    uint64_t now = env_now(impl->base.env);
    uint64_t again = UINT64_MAX;
    unsigned sent = 0;

    refresh_slots(get);
    for (unsigned i = 0; i < impl->slot_count; i++) {
        sent += impl->slots[i].sent;
    }
    if (sent == 0 || now >= impl->hedge_ns) {
        struct get_slot *slot = best_slot(get, now);

        if (slot != NULL) {
            send_to(get, slot, client_peer(impl->base.client, slot->server));
            return impl->hedge_ns;
        }
        if (sent > 0) {
            return UINT64_MAX; /* all are asked */
        }
    }
    if (sent > 0) {
        return impl->hedge_ns;
    }
    for (unsigned i = 0; i < impl->slot_count; i++) {
        struct get_slot *slot = &impl->slots[i];

        if (slot->retry_ns <= now) {
            slot->retry_ns = client_op_backoff(&impl->base);
        }
        again = min_u64(again, slot->retry_ns);
    }
    return again == UINT64_MAX ? client_op_backoff(&impl->base) : again;
}

static void finish_get(struct chunk_get *get, int result)
{
    struct chunk_get_impl *impl = get->impl;
    unsigned failed = 0;

    for (unsigned i = 0; i < impl->slot_count; i++) {
        struct get_slot *slot = &impl->slots[i];

        failed += slot->failure != 0;
        if (slot->sent) {
            rpc_call_cancel(&slot->call);
        } else if (result == 0 &&
                   (slot->failure == -ERR_NOT_FOUND || slot->failure == -ERR_CORRUPT)) {
            client_send_repair(impl->base.client, slot->server, get->id);
        }
    }
    if (result == 0) {
        impl->base.client->get_count++;
        impl->base.client->read_fallbacks += failed > 0;
    }
    client_op_end(&impl->base);
    op_finish(&get->op, result);
}

static void get_step(struct op *op)
{
    struct chunk_get *get = container_of(op, struct chunk_get, op);
    struct chunk_get_impl *impl = get->impl;
    int r;

    op->state = CHUNK_GET_WAIT;
    r = client_op_over(&impl->base);
    if (r == 0 && !impl->found) {
        r = final_failure(impl);
    }
    if (r != 0 || impl->found) {
        finish_get(get, r);
        return;
    }
    client_op_wake_at(&impl->base, ask(get));
}

static void get_drained(struct op *op)
{
    struct chunk_get *get = container_of(op, struct chunk_get, op);

    env_timer_stop(get->impl->base.env, &get->impl->base.timer);
    buf_deinit(&get->impl->body);
    mem_free(get->impl);
    get->impl = NULL;
    if (get->released != NULL) {
        get->released(get);
    }
}

static const struct op_kind get_kind = {.name = "chunk_get",
                                        .states = get_states,
                                        .state_count = ARRAY_SIZE(get_states),
                                        .step = get_step,
                                        .drained = get_drained};

void chunk_get_start(struct chunk_get *get, struct chunk_client *client)
{
    void (*done)(struct op * op) = get->op.done;
    void *owner = get->op.owner;

    ASSERT(get->length > 0 && get->length <= CHUNK_BYTES_MAX);
    op_init(&get->op, &get_kind);
    get->op.done = done;
    get->op.owner = owner;
    get->impl = mem_zalloc(sizeof(*get->impl));
    client_op_init(&get->impl->base, client, &get->op, get->timeout_ns);
    op_wake(&get->op);
}

void chunk_get_cancel(struct chunk_get *get)
{
    if (get->impl != NULL && !get->op.decided) {
        client_op_cancel(&get->impl->base);
    }
}
