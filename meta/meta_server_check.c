/*
 * meta_server_check: do the replicas hold the same state? Who is alone with its own must stop.
 *
 *   1. The leader logs a STATE_CHECK. Each replica that applies it notes the hash of its state
 *      behind that entry, and reports it to the leader.
 *   2. When a majority of the voters has reported the same hash, the next STATE_CHECK names it,
 *      with the index that it belongs to: the verdict, the same for all.
 *   3. A replica that applies a verdict on an index of which it knows its own hash, and it is
 *      another one, stops: a leader as well as a follower.
 *
 * Without such a majority there is no verdict: the entry names index 0. If hashes differ then, it
 * cannot be known who is wrong; the leader says so and asks again with the next entry.
 */
#include "base/bytes.h"
#include "base/log.h"
#include "meta/meta_server_internal.h"
#include "meta/meta_server_proto.h"

SCHEMA_IMPLEMENT(meta_state_report, META_STATE_REPORT)

/* In place of what the member reported before, or of the oldest report. */
static void note(struct meta_server *server, uint32_t node, uint64_t index, uint64_t hash)
{
    struct meta_server_report *slot = &server->reports[0];

    for (unsigned i = 0; i < RAFT_MEMBERS_MAX; i++) {
        if (server->reports[i].node == node) {
            slot = &server->reports[i];
            break;
        }
        if (server->reports[i].index < slot->index) {
            slot = &server->reports[i];
        }
    }
    *slot = (struct meta_server_report){node, index, hash};
}

/* What the member has reported for the last check; NULL = nothing yet. */
static const struct meta_server_report *reported(const struct meta_server *server, uint32_t node)
{
    for (unsigned i = 0; i < RAFT_MEMBERS_MAX; i++) {
        if (server->reports[i].node == node && server->reports[i].index == server->check_index) {
            return &server->reports[i];
        }
    }
    return NULL;
}

/* How many voters have reported `hash` for the last check. */
static unsigned votes(const struct meta_server *server, uint64_t hash)
{
    const struct raft_members *members = &server->raft.raft.members;
    unsigned count = 0;

    for (unsigned i = 0; i < members->count; i++) {
        const struct meta_server_report *report = reported(server, members->list[i].id);

        count += members->list[i].voter && report != NULL && report->hash == hash;
    }
    return count;
}

/* Warns of each member that is not with the majority. */
static void name_the_odd(struct meta_server *server, uint64_t verdict)
{
    const struct raft_members *members = &server->raft.raft.members;

    for (unsigned i = 0; i < members->count; i++) {
        const struct meta_server_report *report = reported(server, members->list[i].id);

        if (report != NULL && report->hash != verdict) {
            LOG_WARN(server->env, "meta",
                     "a replica's state differs from the majority's, it will stop node=%u "
                     "index=%" PRIu64,
                     report->node, report->index);
        }
    }
}

static bool have_verdict(struct meta_server *server, uint64_t *out_hash)
{
    const struct raft_members *members = &server->raft.raft.members;
    unsigned differing = 0;

    for (unsigned i = 0; i < members->count; i++) {
        const struct meta_server_report *report = reported(server, members->list[i].id);

        if (report == NULL) {
            continue;
        }
        if (votes(server, report->hash) > raft_members_voters(members) / 2) {
            *out_hash = report->hash;
            return true;
        }
        differing += report->hash != server->check_hash;
    }
    if (differing > 0) {
        LOG_ERROR(server->env, "meta",
                  "replicas' states differ and no majority agrees: bring back all metadata "
                  "servers index=%" PRIu64,
                  server->check_index);
    }
    return false;
}

/* ---- every replica ---- */

static void report(struct meta_server *server)
{
    struct meta_state_report message = {server->check_index, server->check_hash};
    cleanup(buf_deinit) struct buf body = {0};

    note(server, server->identity.node_id, message.index, message.hash);
    if (!server->leader && server->leader_id != 0) {
        meta_state_report_encode(&message, &body);
        raft_node_oneway(&server->raft, server->leader_id, META_RPC_STATE_REPORT, buf_slice(&body));
    }
}

void server_check_applied(struct meta_server *server, const struct meta_request *request,
                          uint64_t index)
{
    if (request->data.size == 16 && server->check_index != 0 &&
        bytes_get_le64(request->data.data) == server->check_index &&
        bytes_get_le64(request->data.data + 8) != server->check_hash) {
        env_fatal(server->env, "meta",
                  "the state differs from the majority's index=%" PRIu64 " hash=%016" PRIx64,
                  server->check_index, server->check_hash);
    }
    server->check_index = index;
    server->check_hash = server->tree->hash;
    report(server);
}

void server_check_state_replaced(struct meta_server *server)
{
    server->check_index = 0; /* what was noted of the old one is nobody's fault any more */
}

/* ---- the leader ---- */

void server_check_report(struct meta_server *server, const struct rpc_request *request)
{
    struct meta_state_report message;

    if (request->conn->peer_role == RPC_ROLE_META &&
        meta_state_report_decode(&message, request->body) == 0) {
        note(server, request->conn->peer_node, message.index, message.hash);
    }
}

void server_check_tick(struct meta_server *server)
{
    uint64_t now = env_now(server->env), verdict;
    uint8_t data[16] = {0};
    struct meta_request command = {.op = META_STATE_CHECK, .data = slice_make(data, 16)};

    if (now - server->state_check_ns < server->settings.state_check_ms * NS_PER_MS ||
        server->tree->applied_index <= server->state_check_index) {
        return;
    }
    if (server->check_index != 0 && have_verdict(server, &verdict)) {
        name_the_odd(server, verdict);
        bytes_put_le64(data, server->check_index);
        bytes_put_le64(data + 8, verdict);
    }
    server->state_check_ns = now;
    if (server_propose(server, &command, NULL) == 0) {
        server->state_check_index = server->tree->applied_index + 1; /* not for its own sake */
    }
}
