/*
 * meta_server_session: what the leader knows of sessions: who was heard when, whose turn it is,
 * and who may rely on being alone on the volume.
 *
 * Alone: with exactly one session, KEEPALIVE and SESSION_OPEN replies grant it META_ALONE, and the
 * leader notes until when that may be relied on (META_ALONE_WAIT_NS covers the grant and the
 * kernel's timeout). A newcomer's SESSION_OPEN is answered when the lone mount has said
 * META_RELEASED, or when that time has passed. A new leader cannot know what the old one granted:
 * newcomers wait out the whole time.
 */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trace_mark.h"
#include "meta/meta_server_internal.h"

#include <errno.h>

struct meta_session *server_session(struct meta_server *server, uint64_t id)
{
    return map_get(&server->sessions, map_u64(id));
}

static struct meta_session *session_add(struct meta_server *server, uint64_t id)
{
    struct meta_session *session = server_session(server, id);
    struct record_session record = {0};

    if (session != NULL || !ns_get_session(&server->ns, id, &record)) {
        return session;
    }
    session = mem_zalloc(sizeof(*session));
    session->id = id;
    session->heard_ns = env_now(server->env);
    session->next_seq = record.last_seq + 1;
    session->chunk_low = record.chunk_low;
    list_init(&session->parked);
    map_put(&server->sessions, map_u64(id), session);
    return session;
}

static void session_free(struct meta_server *server, struct meta_session *session, int status)
{
    struct list_node *node;

    while ((node = list_pop_front(&session->parked)) != NULL) {
        struct meta_parked *parked = list_entry(node, struct meta_parked, node);

        server_refuse(server, parked->request, status);
        mem_free(parked);
    }
    mem_free(session);
}

void server_session_gone(struct meta_server *server, uint64_t id)
{
    struct meta_session *session = map_remove(&server->sessions, map_u64(id));

    if (session != NULL) {
        session_free(server, session, -ERR_BUSY); /* the client asks again and is told */
    }
    if (server->alone_session == id) {
        server->alone_until_ns = 0; /* closed or expired: it relies on nothing any more */
        env_timer_start(server->env, &server->openers_timer, env_now(server->env));
    }
}

void server_tell_granted(struct meta_server *server)
{
    const struct buf *granted = &server->ns.granted;

    for (size_t i = 0; server->leader && i + 8 <= granted->size; i += 8) {
        struct meta_session *session = server_session(server, bytes_get_le64(granted->data + i));

        if (session != NULL && session->conn != NULL) {
            rpc_conn_oneway(session->conn, META_RPC_NOTIFY, (struct slice){0}, (struct slice){0});
        }
    }
}

/* ---- leading ---- */

void server_leader_begins(struct meta_server *server)
{
    uint64_t now = env_now(server->env);
    uint64_t id = 0;

    server->leader = true;
    server->leader_since_ns = now;
    server->ticked_ns = now;
    server->alone_session = 0;
    server->alone_until_ns = server->ns.volume.sessions > 0 ? now + META_ALONE_WAIT_NS : 0;
    server->state_check_ns = now;
    server->orphan_cursor = 0;
    while (ns_next_session(&server->ns, id, &id)) {
        session_add(server, id);
    }
}

static void openers_end(struct meta_server *server)
{
    struct list_node *node;

    while ((node = list_pop_front(&server->openers)) != NULL) {
        struct meta_opener *opener = list_entry(node, struct meta_opener, node);

        server_refuse(server, opener->request, -ERR_NOT_LEADER);
        mem_free(opener);
    }
}

void server_leader_ends(struct meta_server *server)
{
    struct map_slot *slot;
    size_t at = 0;

    server->leader = false;
    openers_end(server);
    server_reads_end(server);
    while ((slot = map_next(&server->sessions, &at)) != NULL) {
        session_free(server, slot->value, -ERR_NOT_LEADER);
    }
    map_deinit(&server->sessions);
    server_orphans_clear(server);
}

void server_session_heard(struct meta_server *server, struct rpc_request *request,
                          const struct meta_request *message)
{
    struct meta_session *session = server_session(server, message->session);

    if (session != NULL) {
        session->heard_ns = env_now(server->env);
        session->conn = request->conn;
        session->chunk_low = max_u64(session->chunk_low, message->chunk_low);
    }
}

void server_conn_lost(struct rpc_server *rpc, struct rpc_server_conn *conn)
{
    struct meta_server *server = rpc->data;
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&server->sessions, &at)) != NULL) {
        struct meta_session *session = slot->value;

        if (session->conn == conn) {
            session->conn = NULL;
        }
    }
}

/* ---- turns ---- */

static void reply_error(struct meta_server *server, struct rpc_request *request, int code)
{
    struct meta_reply reply = {.error = (uint32_t)-code};

    server_reply(server, request, &reply);
}

/* Nobody else has the volume mounted, nor is about to. */
static bool is_sole(const struct meta_server *server)
{
    return server->ns.volume.sessions == 1 && server->opens == 0 && list_empty(&server->openers);
}

/* Proposes one request whose turn it is, or which was executed before. */
static bool propose_turn(struct meta_server *server, struct rpc_request *request)
{
    struct meta_request message;
    int r = meta_request_decode(&message, request->body);
    struct meta_session *session;

    ASSERT(r == 0); /* decoded before */
    session = server_session(server, message.session);
    message.flags &= ~(uint32_t)META_SOLE_SESSION;
    message.flags |= is_sole(server) ? META_SOLE_SESSION : 0;
    if (session != NULL) { /* by this we have answered for chunks: what comes later obeys it */
        message.chunk_low = max_u64(message.chunk_low, session->chunk_low);
    }
    r = server_propose(server, &message, request);
    if (r < 0) {
        server_refuse(server, request, r);
    }
    return r == 0;
}

/* A resend of what is in the log already: the answer goes to the newer request. */
static bool replace_in_flight(struct meta_server *server, struct rpc_request *request,
                              const struct meta_request *message)
{
    list_for_each (node, &server->proposals) {
        struct meta_proposal *proposal = list_entry(node, struct meta_proposal, node);

        if (proposal->request != NULL && proposal->session == message->session &&
            proposal->seq == message->seq && ns_op_sequenced(proposal->op)) {
            server_refuse(server, proposal->request, -ERR_BUSY);
            proposal->request = request;
            return true;
        }
    }
    return false;
}

static void park(struct meta_server *server, struct meta_session *session,
                 struct rpc_request *request, uint64_t seq)
{
    struct list_node *at = &session->parked.head;
    struct meta_parked *parked;

    if (session->parked_count >= META_PARKED_MAX) {
        server_refuse(server, request, -ERR_BUSY);
        return;
    }
    while (at->prev != &session->parked.head) {
        struct meta_parked *before = list_entry(at->prev, struct meta_parked, node);

        if (before->seq == seq) { /* sent again */
            server_refuse(server, before->request, -ERR_BUSY);
            before->request = request;
            return;
        }
        if (before->seq < seq) {
            break;
        }
        at = at->prev;
    }
    parked = mem_zalloc(sizeof(*parked));
    parked->seq = seq;
    parked->request = request;
    list_insert_before(at, &parked->node);
    session->parked_count++;
}

/* Those whose turn has come. */
static void unpark(struct meta_server *server, struct meta_session *session)
{
    struct list_node *node;

    while ((node = list_first(&session->parked)) != NULL) {
        struct meta_parked *parked = list_entry(node, struct meta_parked, node);
        struct rpc_request *request = parked->request;
        uint64_t seq = parked->seq;

        if (seq > session->next_seq) {
            return;
        }
        list_remove(node);
        session->parked_count--;
        mem_free(parked);
        if (!propose_turn(server, request)) {
            return;
        }
        session->next_seq = max_u64(session->next_seq, seq + 1);
    }
}

static void mutate_in_turn(struct meta_server *server, struct rpc_request *request,
                           const struct meta_request *message)
{
    struct meta_session *session = server_session(server, message->session);
    uint64_t seq = message->seq;

    if (session == NULL) {
        reply_error(server, request, -ERR_SESSION_EXPIRED);
        return;
    }
    if (seq > session->next_seq) {
        park(server, session, request, seq);
        return;
    }
    if (seq < session->next_seq && replace_in_flight(server, request, message)) {
        return;
    }
    if (propose_turn(server, request) && seq == session->next_seq) {
        session->next_seq++;
        unpark(server, session);
    }
}

void server_mutate(struct meta_server *server, struct rpc_request *request,
                   const struct meta_request *message)
{
    bool open = message->op == META_SESSION_OPEN;

    if (request->conn->peer_role != RPC_ROLE_CLIENT ||
        (!open && message->op != META_SESSION_CLOSE && !ns_op_sequenced(message->op))) {
        reply_error(server, request, -EPERM); /* the others are the leader's own */
        return;
    }
    if (ns_op_sequenced(message->op)) {
        mutate_in_turn(server, request, message);
        return;
    }
    if (propose_turn(server, request) && open) {
        server->opens++;
    }
}

/* ---- alone ---- */

static void notify_lone(struct meta_server *server, uint64_t newcomer)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&server->sessions, &at)) != NULL) {
        struct meta_session *session = slot->value;

        if (session->id != newcomer && session->conn != NULL) {
            rpc_conn_oneway(session->conn, META_RPC_NOTIFY, (struct slice){0}, (struct slice){0});
        }
    }
}

static bool all_released(const struct meta_server *server)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&server->sessions, &at)) != NULL) {
        if (!((const struct meta_session *)slot->value)->released) {
            return false;
        }
    }
    return true;
}

/* A leader that has granted nothing itself does not know whom the one before it let rely on being
 * alone: nobody does when all have said so. */
static void note_released(struct meta_server *server, struct meta_session *session)
{
    session->released = true;
    if (server->alone_session == session->id ||
        (server->alone_session == 0 && all_released(server))) {
        server->alone_until_ns = 0;
        env_timer_start(server->env, &server->openers_timer, env_now(server->env));
    }
}

static bool grant_alone(struct meta_server *server, uint64_t session)
{
    struct meta_session *granted = server_session(server, session);
    uint64_t now = env_now(server->env);

    if (!is_sole(server) || (server->alone_session != session && server->alone_session != 0 &&
                             now < server->alone_until_ns)) {
        return false;
    }
    if (granted != NULL) {
        granted->released = false;
    }
    server->alone_session = session;
    server->alone_until_ns = now + META_ALONE_WAIT_NS;
    return true;
}

static void answer_opener(struct meta_server *server, struct rpc_request *request, uint64_t session,
                          uint64_t index)
{
    cleanup(buf_deinit) struct buf members = {0};
    struct meta_reply reply = {.index = index, .value = session, .value2 = META_LEASE_NS};

    server_member_addresses(server, &members);
    reply.members = buf_slice(&members);

    if (grant_alone(server, session)) {
        reply.flags |= META_ALONE;
    }
    server_reply(server, request, &reply);
}

void server_session_opened(struct meta_server *server, struct rpc_request *request,
                           const struct meta_reply *reply)
{
    struct meta_session *session = session_add(server, reply->value);
    struct meta_opener *opener;

    if (session != NULL) {
        session->conn = request->conn;
        session->heard_ns = env_now(server->env);
        if (server->alone_session != session->id) {
            note_released(server, session);
        }
    }
    if (server->alone_session == reply->value || env_now(server->env) >= server->alone_until_ns) {
        answer_opener(server, request, reply->value, reply->index);
        return;
    }
    TRACE_MARK("a mount waits for the one that is alone");
    opener = mem_zalloc(sizeof(*opener));
    opener->request = request;
    opener->session = reply->value;
    opener->index = reply->index;
    list_push_back(&server->openers, &opener->node);
    notify_lone(server, reply->value);
    env_timer_start(server->env, &server->openers_timer, server->alone_until_ns);
}

void server_openers_due(struct env_timer *timer)
{
    struct meta_server *server = container_of(timer, struct meta_server, openers_timer);
    uint64_t now = env_now(server->env);
    struct list_node *node;

    if (now < server->alone_until_ns) {
        env_timer_start(server->env, timer, server->alone_until_ns);
        return;
    }
    while (server->leader && (node = list_pop_front(&server->openers)) != NULL) {
        struct meta_opener *opener = list_entry(node, struct meta_opener, node);

        answer_opener(server, opener->request, opener->session, opener->index);
        mem_free(opener);
    }
}

void server_keepalive(struct meta_server *server, struct rpc_request *request,
                      const struct meta_request *message)
{
    struct meta_session *session = server_session(server, message->session);
    cleanup(buf_deinit) struct buf inos = {0};
    cleanup(buf_deinit) struct buf settle = {0};
    cleanup(buf_deinit) struct buf members = {0};
    struct meta_reply reply = {.index = server->tree->applied_index,
                               .value = server->ns.volume.map_epoch,
                               .value2 = META_LEASE_NS};

    if (session == NULL || session->expiring) {
        reply_error(server, request, -ERR_SESSION_EXPIRED);
        return;
    }
    session->heard_ns = env_now(server->env);
    if ((message->flags & META_RELEASED) != 0) {
        note_released(server, session);
    }
    server_orphans_answered(server, session->id, message->data);
    server_orphans_ask(server, session, &inos);
    reply.data = buf_slice(&inos);
    server_settle_ask(server, &settle);
    reply.extents = buf_slice(&settle);
    server_member_addresses(server, &members);
    reply.members = buf_slice(&members);
    if (grant_alone(server, session->id)) {
        reply.flags |= META_ALONE;
    }
    server_reply(server, request, &reply);
}

/* ---- expiry ---- */

/* While we were not running nobody could be heard: what the sessions have sent may be waiting. */
static void forgive_stall(struct meta_server *server, uint64_t now)
{
    uint64_t late = now - server->ticked_ns;
    struct map_slot *slot;
    size_t at = 0;

    server->ticked_ns = now;
    if (late < META_STALL_NS) {
        return;
    }
    LOG_WARN(server->env, "meta", "stood still, sessions get as much longer ms=%" PRIu64,
             late / NS_PER_MS);
    while ((slot = map_next(&server->sessions, &at)) != NULL) {
        struct meta_session *session = slot->value;

        session->heard_ns = min_u64(now, session->heard_ns + late);
    }
}

void server_sessions_tick(struct meta_server *server)
{
    uint64_t now = env_now(server->env);
    struct map_slot *slot;
    size_t at = 0;

    forgive_stall(server, now);
    while ((slot = map_next(&server->sessions, &at)) != NULL) {
        struct meta_session *session = slot->value;
        struct meta_request command = {.op = META_SESSION_EXPIRE, .ino = session->id};

        if (session->expiring || now < session->heard_ns + META_LEASE_NS + META_LEASE_GRACE_NS) {
            continue;
        }
        session->expiring = server_propose(server, &command, NULL) == 0;
        if (session->expiring) {
            server->metrics.sessions_expired++;
            LOG_WARN(server->env, "meta", "session expires id=%" PRIu64, session->id);
        }
    }
}
