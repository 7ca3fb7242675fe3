/*
 * meta_server_log: the replicated state machine: proposing, applying, answering, checkpoints.
 */
#include "base/assert.h"
#include "base/buggify.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "meta/meta_server_internal.h"

#include <errno.h>

static struct meta_server *server_of(struct raft_machine *machine)
{
    return container_of(machine, struct meta_server, machine);
}

void server_load_state(struct meta_server *server)
{
    ns_deinit(&server->ns);
    server_check_state_replaced(server);
    kv_tree_init(&server->view, server->tree);
    ns_init(&server->ns, &server->view.kv);
}

/* ---- proposing ---- */

int server_propose(struct meta_server *server, struct meta_request *command,
                   struct rpc_request *request)
{
    struct meta_proposal *proposal;
    struct meta_space space;
    uint64_t index;
    int r;

    if (server->proposal_count >= META_PROPOSALS_MAX) {
        return -ERR_BUSY;
    }
    command->stamp_time = server_stamp(server);
    command->stamp_space = 0;
    if (command->op == META_FALLOCATE && (command->mode & META_ALLOCATE_PUNCH) == 0) {
        if (!server_space(server, &space)) {
            return -ERR_BUSY;
        }
        command->stamp_space = space.free_bytes + 1;
    }
    buf_clear(&server->body);
    meta_request_encode(command, &server->body);
    r = raft_node_propose(&server->raft, buf_slice(&server->body), &index);
    if (r < 0) {
        return r;
    }
    proposal = mem_zalloc(sizeof(*proposal));
    proposal->index = index;
    proposal->started_ns = env_now(server->env);
    proposal->request = request;
    proposal->session = command->session;
    proposal->seq = command->seq;
    proposal->op = command->op;
    list_push_back(&server->proposals, &proposal->node);
    server->proposal_count++;
    return 0;
}

/* The leader's own flags fall when their entry is applied. */
static void own_applied(struct meta_server *server, unsigned op)
{
    switch (op) {
    case META_ORPHAN_FREE:
        server->freeing = false;
        break;
    case META_CLUSTER_MAP:
        server->map_proposed = false;
        break;
    case META_CHUNKS_DELETED:
        server->gc_proposed = false;
        break;
    case META_VOLUME_FORMAT:
        server->formatting = false;
        break;
    default:
        break;
    }
}

static void answer(struct meta_server *server, uint64_t index, const struct meta_reply *reply)
{
    struct list_node *first = list_first(&server->proposals);
    struct meta_proposal *proposal =
        first != NULL ? list_entry(first, struct meta_proposal, node) : NULL;

    if (proposal == NULL || proposal->index != index) {
        return; /* proposed by an earlier leader */
    }
    list_remove(&proposal->node);
    server->proposal_count--;
    metrics_observe(&server->metrics.op_seconds[proposal->op],
                    env_now(server->env) - proposal->started_ns);
    if (proposal->op == META_SESSION_OPEN) {
        server->opens--;
    }
    if (proposal->request == NULL) {
        own_applied(server, proposal->op);
    } else if (proposal->op == META_SESSION_OPEN && reply->error == 0) {
        server_session_opened(server, proposal->request, reply);
    } else {
        server_reply(server, proposal->request, reply);
    }
    mem_free(proposal);
}

/* ---- applying ---- */

static void applied(struct meta_server *server, const struct meta_request *request,
                    const struct meta_reply *reply, uint64_t index)
{
    unsigned op = request->op;

    if (op == META_LINK && reply->error == 0 && server->leader) {
        server_orphan_adopted(server, request->ino2);
    } else if (op == META_STATE_CHECK) {
        server_check_applied(server, request, index);
    } else if (op == META_CLUSTER_MAP && reply->error == 0) {
        server_map_applied(server);
    } else if (op == META_SESSION_CLOSE && server->leader) {
        server_session_gone(server, request->session);
    } else if (op == META_SESSION_EXPIRE && server->leader) {
        server_session_gone(server, request->ino);
    }
}

static void machine_apply(struct raft_machine *machine, uint64_t index, uint64_t term,
                          struct slice command)
{
    struct meta_server *server = server_of(machine);
    const struct meta_reply *reply;
    struct meta_request request;

    btree_set_applied(server->tree, index, term);
    server->log_bytes += command.size + 64;
    server->metrics.applied++;
    server->metrics.applied_bytes += command.size;
    if (command.size == 0) {
        return; /* a leader's no-op */
    }
    if (meta_request_decode(&request, command) < 0) {
        env_fatal(server->env, "meta", "a committed command cannot be decoded index=%" PRIu64,
                  index);
    }
    reply = ns_apply(&server->ns, &request, index);
    answer(server, index, reply);
    server_tell_granted(server);
    applied(server, &request, reply, index);
    btree_trim(server->tree);
    server_checkpoint_if_due(server);
}

/* ---- leading ---- */

static void format_volume(struct meta_server *server)
{
    uint8_t data[32];
    struct meta_request command = {.op = META_VOLUME_FORMAT, .data = slice_make(data, 32)};

    memcpy(data, server->identity.cluster_uuid, 16);
    bytes_put_le64(data + 16, env_random(server->env));
    bytes_put_le64(data + 24, env_random(server->env));
    server->formatting = server_propose(server, &command, NULL) == 0;
}

static void fail_proposals(struct meta_server *server)
{
    struct list_node *node;

    while ((node = list_pop_front(&server->proposals)) != NULL) {
        struct meta_proposal *proposal = list_entry(node, struct meta_proposal, node);

        if (proposal->request != NULL) {
            server_refuse(server, proposal->request, -ERR_NOT_LEADER);
        }
        mem_free(proposal);
    }
    server->proposal_count = 0;
    server->opens = 0;
    server->freeing = server->map_proposed = server->gc_proposed = server->formatting = false;
}

static void machine_role_changed(struct raft_machine *machine, bool is_leader, uint64_t term,
                                 uint32_t leader_id)
{
    struct meta_server *server = server_of(machine);
    bool was_leader = server->leader && term == server->term;

    server->leader_id = leader_id;
    if (server->leader && !(is_leader && was_leader)) {
        LOG_INFO(server->env, "meta", "leads no more term=%" PRIu64, server->term);
        server_leader_ends(server);
        fail_proposals(server);
    }
    server->term = term;
    if (is_leader && !server->leader && !server->stopping) {
        server->metrics.leaderships++;
        LOG_INFO(server->env, "meta", "leads term=%" PRIu64, term);
        fail_proposals(server);
        server_leader_begins(server);
        if (!server->ns.formatted) {
            format_volume(server);
        }
    }
}

/* ---- checkpoints ---- */

static void on_checkpoint(struct btree *tree)
{
    struct meta_server *server = tree->owner;

    metrics_observe(&server->metrics.checkpoint_seconds,
                    env_now(server->env) - server->checkpoint_started_ns);
    if (tree == server->tree && !server->stopping) {
        raft_node_compacted(&server->raft, tree->durable.applied_index);
        LOG_DEBUG(server->env, "meta", "checkpoint is durable applied=%" PRIu64,
                  tree->durable.applied_index);
    }
}

void server_checkpoint_if_due(struct meta_server *server)
{
    struct btree *tree = server->tree;
    uint64_t now;

    if (tree->checkpoint != NULL || server->stopping ||
        tree->applied_index == tree->durable.applied_index) {
        return;
    }
    now = env_now(server->env);
    if (server->log_bytes < server->settings.checkpoint_bytes &&
        btree_dirty_bytes(tree) < server->settings.cache_bytes / 2 &&
        now - server->checkpoint_started_ns < server->settings.checkpoint_ms * NS_PER_MS &&
        !BUGGIFY(server->env, 1)) {
        return;
    }
    server_members_note(server);
    server->checkpoint_started_ns = now;
    server->log_bytes = 0;
    btree_checkpoint_start(tree, on_checkpoint);
}

const struct raft_machine meta_server_machine = {
    .apply = machine_apply,
    .members_changed = server_machine_members_changed,
    .members = server_machine_members,
    .role_changed = machine_role_changed,
    .snapshot_begin = server_snapshot_begin,
    .snapshot_read = server_snapshot_read,
    .snapshot_end = server_snapshot_end,
    .restore_begin = server_restore_begin,
    .restore_write = server_restore_write,
    .restore_finish = server_restore_finish,
};
