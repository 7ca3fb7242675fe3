#include "meta/meta_client.h"

#include "base/assert.h"
#include "base/buggify.h"
#include "base/log.h"
#include "base/mem.h"
#include "meta/meta_client_internal.h"

#include <errno.h>

static void flight_free(struct meta_flight *flight)
{
    ASSERT(!flight->in_rpc && flight->call == NULL);
    env_timer_stop(flight->client->env, &flight->soft);
    flight->client->given_up -= flight->given_up;
    list_remove(&flight->node);
    buf_deinit(&flight->frame);
    mem_free(flight);
}

/* ---- ending calls ---- */

/* Tells the caller now; from the loop only. */
static void call_done(struct meta_call *call, int status)
{
    call->flight = NULL;
    call->status = status;
    call->done(call);
}

void client_tell_ended(struct meta_client *client)
{
    struct list ended;
    struct list_node *node;

    list_init(&ended);
    list_splice(&ended, &client->ending);
    while ((node = list_pop_front(&ended)) != NULL) {
        struct meta_call *call = list_entry(node, struct meta_call, node);

        call_done(call, call->status);
    }
}

static void on_ending(struct env_timer *timer)
{
    client_tell_ended(container_of(timer, struct meta_client, ending_timer));
}

static void leave_list(struct meta_flight *flight)
{
    struct meta_client *client = flight->client;

    if (list_linked(&flight->node)) {
        client->mutation_count -= flight->seq != 0 ? 1 : 0;
        client->read_count -= flight->seq == 0 && flight->in_rpc ? 1 : 0;
    }
    list_remove(&flight->node);
}

static void give_up(struct meta_flight *flight)
{
    struct meta_client *client = flight->client;

    if (flight->given_up || client->closing) {
        return;
    }
    flight->given_up = true;
    client->given_up++;
    if (client->gave_up != NULL) {
        client->gave_up(client);
    }
}

/* The caller is told from the loop; the flight goes when nothing needs it. A mutation that was
 * sent stays, so that its seq is executed. */
static void abandon(struct meta_flight *flight, int status, bool keep_mutation)
{
    struct meta_client *client = flight->client;
    struct meta_call *call = flight->call;

    if (call != NULL) {
        flight->call = NULL;
        call->flight = NULL;
        call->status = status;
        list_push_back(&client->ending, &call->node);
        env_timer_start(client->env, &client->ending_timer, env_now(client->env));
        env_timer_stop(client->env, &flight->soft);
    }
    if (flight->seq != 0 && keep_mutation) {
        give_up(flight);
        return;
    }
    leave_list(flight);
    if (flight->in_rpc) {
        rpc_call_cancel(&flight->rpc);
    } else {
        flight_free(flight);
    }
}

static void on_soft_timeout(struct env_timer *timer)
{
    abandon(container_of(timer, struct meta_flight, soft), -EIO, true);
}

/* ---- finding the leader ---- */

bool client_retryable(int status)
{
    return status == -ERR_NOT_LEADER || status == -ERR_NO_LEADER || status == -ERR_BUSY ||
           status == -ERR_DISCONNECTED || status == -ETIMEDOUT || status == -ECANCELED ||
           status == -ERR_REPAIR;
}

static void on_oneway(struct rpc_peer *peer, uint16_t opcode, struct slice body,
                      struct buf *payload)
{
    struct meta_client *client = peer->data;

    (void)body;
    (void)payload;
    if (opcode == META_RPC_NOTIFY) {
        client_keepalive_soon(client);
        if (client->notified != NULL) {
            client->notified(client);
        }
    }
}

/* The leader is gone: the next one must know soon who is there, and on what they rely. */
static void on_peer_changed(struct rpc_peer *peer, int status)
{
    struct meta_client *client = peer->data;

    if (status < 0 && peer == &client->peers[client->leader]) {
        client_keepalive_soon(client);
    }
}

static void add_peer(struct meta_client *client, const char *address)
{
    struct rpc_peer *peer = &client->peers[client->peer_count++];

    rpc_peer_init(peer, client->env, client->config.identity, address);
    peer->expect_role = RPC_ROLE_META;
    peer->oneway = on_oneway;
    peer->changed = on_peer_changed;
    peer->data = client;
    client->peers_open++;
}

/* The peer at that address; one that the configuration does not know has joined since. */
unsigned client_peer_named(struct meta_client *client, struct slice address)
{
    for (unsigned i = 0; i < client->peer_count; i++) {
        if (slice_equal(slice_text(client->peers[i].address), address)) {
            return i;
        }
    }
    if (address.size > 0 && !client->closing && client->peer_count < META_CLIENT_ADDRESSES_MAX) {
        char *text = mem_printf("%.*s", (int)address.size, (const char *)address.data);

        add_peer(client, text);
        mem_free(text);
        return client->peer_count - 1;
    }
    return client->peer_count;
}

void client_learn_members(struct meta_client *client, struct slice addresses)
{
    struct schema_reader reader = schema_reader_make(addresses);

    while (reader.at != reader.end) {
        struct slice address = schema_read_bytes(&reader, META_MEMBERS_MAX);

        if (reader.failed) {
            return;
        }
        (void)client_peer_named(client, address);
    }
}

static void pause_then_retry(struct meta_client *client, uint64_t pause_ns)
{
    client->retry_wait = true;
    env_timer_start(client->env, &client->retry_timer, env_now(client->env) + pause_ns);
}

void client_change_leader(struct meta_client *client, unsigned leader)
{
    if (leader == client->leader) {
        return;
    }
    client->leader = leader;
    client->leader_changes++;
    rpc_peer_poke(&client->peers[leader]);
    list_for_each (node, &client->mutations) {
        struct meta_flight *flight = list_entry(node, struct meta_flight, node);

        if (flight->in_rpc) {
            rpc_call_cancel(&flight->rpc); /* the old one may be cut off: do not wait for it */
        }
    }
    list_for_each (node, &client->reads) {
        struct meta_flight *flight = list_entry(node, struct meta_flight, node);

        if (flight->in_rpc) {
            rpc_call_cancel(&flight->rpc);
        }
    }
}

/* Doubles when all servers were asked once more: one of them is the dead leader, and to wait long
 * because of it would be most of a failover's pause. */
static uint64_t next_pause(struct meta_client *client)
{
    unsigned rounds = client->refusals++ / client->peer_count;

    return min_u64(META_CLIENT_RETRY_NS << (rounds < 8 ? rounds : 8), META_CLIENT_RETRY_MAX);
}

void client_retry(struct meta_client *client, struct rpc_peer *asked, int status,
                  const struct rpc_reply *reply)
{
    struct meta_reply hint = {0};
    unsigned named = client->peer_count;

    if (client->retry_wait || asked != &client->peers[client->leader]) {
        return; /* dealt with already */
    }
    if (status == -ERR_NOT_LEADER && reply != NULL && meta_reply_decode(&hint, reply->body) == 0) {
        named = client_peer_named(client, hint.data);
    }
    if (named < client->peer_count && named != client->leader) {
        client_change_leader(client, named);
        pause_then_retry(client, 0);
        return;
    }
    if (status != -ERR_BUSY && status != -ECANCELED) {
        client_change_leader(client, (client->leader + 1) % client->peer_count);
    }
    pause_then_retry(client, next_pause(client));
}

static void on_retry(struct env_timer *timer)
{
    struct meta_client *client = container_of(timer, struct meta_client, retry_timer);

    client->retry_wait = false;
    client_session_retry(client);
    client_pump(client);
}

/* ---- flights ---- */

static void note_answered(struct meta_client *client)
{
    struct list_node *first = list_first(&client->mutations);

    client->low_water =
        first != NULL ? list_entry(first, struct meta_flight, node)->seq : client->next_seq;
}

/* In place of a mutation that no server can decode: its seq must be executed all the same. */
static void replace_by_nothing(struct meta_flight *flight)
{
    struct meta_request nothing = {
        .op = META_COMMIT, .session = flight->client->session, .seq = flight->seq};

    buf_clear(&flight->frame);
    meta_request_encode(&nothing, &flight->frame);
}

/* The server's answer. */
static void flight_answered(struct meta_flight *flight, const struct meta_reply *answer)
{
    struct meta_client *client = flight->client;
    struct meta_call *call = flight->call;

    leave_list(flight);
    note_answered(client);
    flight->call = NULL;
    flight_free(flight);
    if (call != NULL) {
        call->reply = *answer;
        call_done(call, -(int)answer->error);
    }
    client_pump(client);
}

static void on_flight(struct rpc_call *rpc, struct rpc_reply *reply)
{
    struct meta_flight *flight = container_of(rpc, struct meta_flight, rpc);
    struct meta_client *client = flight->client;
    struct meta_reply answer;
    int status = reply->status;

    client->flying--;
    client_silence_broken(client, rpc, status);
    if (!list_linked(&flight->node)) {
        flight->in_rpc = false;
        flight_free(flight); /* abandoned meanwhile */
        return;
    }
    client->read_count -= flight->seq == 0 ? 1 : 0;
    flight->in_rpc = false;
    if (status == 0) {
        status = meta_reply_decode(&answer, reply->body);
    }
    if (status == 0 && answer.error == ERR_SEQUENCE_GAP) {
        status = -ERR_BUSY; /* what is before it comes, or must be sent again too */
    } else if (status == 0) {
        client->refusals = 0;
        if (answer.error == ERR_SESSION_EXPIRED && flight->sequenced) {
            client_session_lost(client);
            return;
        }
        flight_answered(flight, &answer);
        return;
    }
    if (client_retryable(status)) {
        client->resends++;
        client_retry(client, rpc->peer, status, reply);
        client_pump(client);
        return;
    }
    LOG_WARN(client->env, "meta", "request refused op=%s error=%s",
             flight->call != NULL ? meta_op_name(flight->call->request.op) : "?", err_text(status));
    if (flight->seq != 0) {
        replace_by_nothing(flight);
        abandon(flight, status, true);
        client_pump(client);
    } else {
        abandon(flight, status, false);
    }
}

uint64_t client_chunk_low(struct meta_client *client)
{
    return client->chunk_low != NULL ? client->chunk_low(client) : 0;
}

static void encode(struct meta_flight *flight)
{
    struct meta_client *client = flight->client;
    struct meta_request request = flight->call->request;

    request.session = client->session;
    request.seq = flight->seq;
    request.low_water = client->low_water;
    request.chunk_low = client_chunk_low(client);
    buf_clear(&flight->frame);
    meta_request_encode(&request, &flight->frame);
}

static void flight_send(struct meta_flight *flight)
{
    struct meta_client *client = flight->client;

    if (flight->seq == 0) {
        encode(flight); /* the session may have changed */
        client->read_count++;
    }
    flight->in_rpc = true;
    client->flying++;
    flight->rpc = (struct rpc_call){.opcode = META_RPC_REQUEST,
                                    .body = buf_slice(&flight->frame),
                                    .timeout_ns = BUGGIFY(client->env, 3) ? 5 * NS_PER_MS
                                                                          : META_CLIENT_TRY_NS,
                                    .done = on_flight};
    rpc_call_start(&client->peers[client->leader], &flight->rpc);
    client_silence_watch(client);
}

/* A queued flight takes its place in the session's order. */
static bool admit(struct meta_flight *flight)
{
    struct meta_client *client = flight->client;

    if (!flight->sequenced) {
        if (client->read_count >= META_CLIENT_READS_MAX) {
            return false;
        }
        list_remove(&flight->node);
        list_push_back(&client->reads, &flight->node);
        return true;
    }
    if (client->next_seq - client->low_water >= META_CLIENT_WINDOW) {
        return false;
    }
    list_remove(&flight->node);
    list_push_back(&client->mutations, &flight->node);
    flight->seq = client->next_seq++;
    client->mutation_count++;
    note_answered(client);
    encode(flight);
    return true;
}

static bool may_send(const struct meta_client *client)
{
    return !client->retry_wait && !client->closing &&
           (client->session != 0 || client->config.no_session);
}

void client_pump(struct meta_client *client)
{
    bool full[2] = {false, false}; /* reads, mutations */

    if (!may_send(client)) {
        return;
    }
    list_for_each (node, &client->mutations) {
        struct meta_flight *flight = list_entry(node, struct meta_flight, node);

        if (!flight->in_rpc) {
            flight_send(flight);
        }
    }
    list_for_each (node, &client->reads) {
        struct meta_flight *flight = list_entry(node, struct meta_flight, node);

        if (!flight->in_rpc) {
            flight_send(flight);
        }
    }
    list_for_each (node, &client->queued) {
        struct meta_flight *flight = list_entry(node, struct meta_flight, node);

        if (!full[flight->sequenced]) {
            full[flight->sequenced] = !admit(flight);
            if (!full[flight->sequenced]) {
                flight_send(flight);
            }
        }
        if (full[0] && full[1]) {
            return;
        }
    }
}

void client_fail_mutations(struct meta_client *client, int status)
{
    struct list_node *node;

    while ((node = list_first(&client->mutations)) != NULL) {
        abandon(list_entry(node, struct meta_flight, node), status, false);
    }
}

void client_fail_all(struct meta_client *client, int status)
{
    struct list *lists[] = {&client->queued, &client->reads};
    struct list_node *node;

    client_fail_mutations(client, status);
    for (unsigned i = 0; i < ARRAY_SIZE(lists); i++) {
        while ((node = list_first(lists[i])) != NULL) {
            abandon(list_entry(node, struct meta_flight, node), status, false);
        }
    }
}

/* ---- public ---- */

void meta_call_start(struct meta_client *client, struct meta_call *call)
{
    struct meta_flight *flight = mem_zalloc(sizeof(*flight));
    unsigned op = call->request.op;

    ASSERT(call->done != NULL);
    flight->client = client;
    flight->call = call;
    flight->soft.fire = on_soft_timeout;
    flight->sequenced = meta_op_mutates(op);
    call->flight = flight;
    call->node = (struct list_node){0};
    call->reply = (struct meta_reply){0};
    list_push_back(&client->queued, &flight->node);
    if (client->closing || (flight->sequenced && client->config.no_session)) {
        abandon(flight, client->closing ? -ECANCELED : -EROFS, false);
        return;
    }
    if (client->config.soft_timeout_ns > 0 && !call->patient) {
        env_timer_start(client->env, &flight->soft,
                        env_now(client->env) + client->config.soft_timeout_ns);
    }
    client_pump(client);
}

void meta_call_cancel(struct meta_client *client, struct meta_call *call)
{
    (void)client;
    if (call->flight != NULL) {
        abandon(call->flight, -EINTR, true);
    }
}

void meta_client_start(struct meta_client *client, struct env *env,
                       const struct meta_client_config *config)
{
    ASSERT(config->address_count >= 1 && config->address_count <= META_CLIENT_ADDRESSES_MAX);
    client->env = env;
    client->config = *config;
    client->peers = mem_zalloc(META_CLIENT_ADDRESSES_MAX * sizeof(*client->peers));
    for (unsigned i = 0; i < config->address_count; i++) {
        add_peer(client, config->addresses[i]);
    }
    list_init(&client->queued);
    list_init(&client->mutations);
    list_init(&client->reads);
    list_init(&client->ending);
    client->ending_timer.fire = on_ending;
    client->retry_timer.fire = on_retry;
    client->next_seq = 1;
    client->low_water = 1;
    client_session_start(client);
}

void meta_client_close(struct meta_client *client)
{
    if (client->closing) {
        return;
    }
    client_fail_all(client, -ECANCELED);
    client->closing = true;
    client_session_close(client);
}
