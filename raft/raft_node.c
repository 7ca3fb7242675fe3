/*
 * raft_node: performs what the core decides, in its order: save, send, apply.
 *
 * Entry points from the loop: tick timer, saved log, received frame, changed connection, and the
 * turn timer, which alone calls the machine: it applies a slice, tells the role, ends reads. The
 * owner's calls (propose, read) only step the core and start the turn timer.
 *
 * Messages that promise durability wait in `held`, in ticket order, together with the markers that
 * tell the core what has become durable.
 */
#include "raft/raft_node_internal.h"

#include "raft/raft_internal.h"

#include <errno.h>

/* ---- the core's output ---- */

static struct raft_held *hold(struct raft_node *node, uint64_t ticket)
{
    struct raft_held *held = mem_zalloc(sizeof(*held));

    held->ticket = ticket;
    list_push_back(&node->held, &held->node);
    node->held_count++;
    return held;
}

static void save(struct raft_node *node, const struct raft_output *output)
{
    struct raft_hard_state state = {node->raft.term, node->raft.vote};
    struct raft_held *marker;
    uint64_t ticket;

    if (output->reset) {
        (void)raft_log_reset(&node->log, node->raft.tail.base_index, node->raft.tail.base_term);
    }
    if (!output->save_state && output->append_count == 0) {
        return;
    }
    ticket = raft_log_append(&node->log, output->append_first, output->append, output->append_count,
                             output->save_state ? &state : NULL);
    if (output->repaired) {
        node->repaired = ticket;
        LOG_WARN(node->env, "raft",
                 "the damaged log is whole again, the node takes part last=%" PRIu64
                 " term=%" PRIu64,
                 raft_last(&node->raft), node->raft.term);
    }
    if (output->append_count > 0) {
        marker = hold(node, ticket);
        marker->index = output->append_first + output->append_count - 1;
        marker->term = output->append[output->append_count - 1].term;
    }
}

/* Who does not know us needs to know where we are, to answer. */
static struct slice own_address(const struct raft_node *node, const struct raft_message *message)
{
    const struct raft *raft = &node->raft;
    bool asks = message->type == RAFT_MESSAGE_PRE_VOTE || message->type == RAFT_MESSAGE_VOTE ||
                message->type == RAFT_MESSAGE_HEARTBEAT;

    return asks && raft->self != RAFT_NOT_MEMBER
               ? slice_text(raft_node_address(node, &raft->members.list[raft->self]))
               : (struct slice){0};
}

static void send_now(struct raft_node *node, uint32_t to, struct slice body, struct slice payload)
{
    struct raft_link *link = raft_node_link(node, to);

    if (link != NULL) {
        rpc_peer_oneway(&link->peer, RAFT_OPCODE_MESSAGE, body, payload);
    }
}

static void send(struct raft_node *node, const struct raft_message *original)
{
    cleanup(buf_deinit) struct buf body = {0};
    cleanup(buf_deinit) struct buf payload = {0};
    struct raft_message with_address = *original;
    const struct raft_message *message = &with_address;

    with_address.address = own_address(node, original);
    raft_message_encode(message, &body, &payload);
    if (message->after_save && node->log.durable < node->log.ticket) {
        if (node->held_count < RAFT_HELD_MAX) {
            struct raft_held *held = hold(node, node->log.ticket);

            ASSERT(payload.size == 0);
            held->to = message->to;
            held->body = buf_take(&body);
        }
        return;
    }
    send_now(node, message->to, buf_slice(&body), buf_slice(&payload));
}

int raft_node_step(struct raft_node *node, struct raft_input input)
{
    struct raft_output output;
    int r;

    input.now_ns = env_now(node->env);
    r = raft_step(&node->raft, &input, &output);
    save(node, &output);
    if (node->links_version != node->raft.members_version) {
        raft_node_update_links(node);
    }
    for (unsigned i = 0; i < output.send_count; i++) {
        send(node, &output.send[i]);
    }
    raft_node_mark_reads(node, &output);
    if (output.snapshot_to != 0) {
        node->snapshot_out.wanted = output.snapshot_to;
    }
    if (raft_node_turn_needed(node) || (output.snapshot_to != 0 && !node->snapshot_out.active)) {
        raft_node_turn_soon(node);
    }
    if (node->raft.lost && !node->told_lost) {
        node->told_lost = true;
        LOG_ERROR(node->env, "raft",
                  "this server's data is gone, but the group still counts its vote: it takes no "
                  "part. Remove it from the group and add it again under a new number id=%u",
                  node->raft.id);
    }
    env_timer_start(node->env, &node->tick, output.deadline_ns);
    return r;
}

static void step(struct raft_node *node, struct raft_input input)
{
    int r = raft_node_step(node, input);

    ASSERT(r == 0); /* only PROPOSE, READ, TRANSFER and CHANGE are refused */
}

/* ---- events ---- */

static void on_tick(struct env_timer *timer)
{
    struct raft_node *node = container_of(timer, struct raft_node, tick);

    step(node, (struct raft_input){.type = RAFT_INPUT_TICK});
    raft_node_update_links(node); /* guests go */
}

static void held_free(struct raft_held *held)
{
    buf_deinit(&held->body);
    mem_free(held);
}

static void on_saved(struct raft_log *log, uint64_t ticket)
{
    struct raft_node *node = log->data;
    struct list_node *first;

    if (node->repaired != 0 && ticket >= node->repaired) {
        node->repaired = 0;
        raft_log_repaired(log);
    }
    while ((first = list_first(&node->held)) != NULL) {
        struct raft_held *held = list_entry(first, struct raft_held, node);

        if (held->ticket > ticket) {
            return;
        }
        list_remove(&held->node);
        node->held_count--;
        if (held->to == 0) {
            step(node, (struct raft_input){
                           .type = RAFT_INPUT_SAVED, .index = held->index, .term = held->term});
        } else {
            send_now(node, held->to, buf_slice(&held->body), (struct slice){0});
        }
        held_free(held);
    }
}

bool raft_node_is_raft_opcode(uint16_t opcode)
{
    return opcode >= RAFT_OPCODE_FIRST && opcode <= RAFT_OPCODE_LAST;
}

static void receive_message(struct raft_node *node, const struct rpc_request *request)
{
    struct raft_entry entries[RAFT_APPEND_ENTRIES_MAX];
    struct raft_message message;
    int r;

    r = raft_message_decode(&message, request->body, buf_slice(&request->payload), entries);
    if (r < 0 || message.to != node->raft.id || message.from != request->conn->peer_node ||
        request->conn->peer_role != RPC_ROLE_META) {
        LOG_DEBUG(node->env, "raft", "message dropped from=%u error=%s", request->conn->peer_node,
                  r < 0 ? err_text(r) : "not a member's");
        return;
    }
    raft_node_meet(node, message.from, message.address);
    step(node, (struct raft_input){.type = RAFT_INPUT_RECEIVE, .message = &message});
}

void raft_node_receive(struct raft_node *node, struct rpc_request *request)
{
    if (request->oneway) {
        if (request->opcode == RAFT_OPCODE_MESSAGE && node->opened && !node->closing) {
            receive_message(node, request);
        }
        return; /* the server frees it */
    }
    if (request->opcode != RAFT_OPCODE_SNAPSHOT || !node->opened || node->closing) {
        rpc_request_reply(request, -EOPNOTSUPP, (struct slice){0}, NULL);
        return;
    }
    raft_node_snapshot_receive(node, request);
}

/* ---- the interface ---- */

int raft_node_propose(struct raft_node *node, struct slice command, uint64_t *out_index)
{
    int r;

    if (command.size > RAFT_COMMAND_MAX || raft_command_is_members(command)) {
        return -EMSGSIZE;
    }
    if (node->closing) {
        return -ERR_NOT_LEADER;
    }
    r = raft_node_step(node, (struct raft_input){.type = RAFT_INPUT_PROPOSE, .command = command});
    if (r == 0) {
        *out_index = raft_last(&node->raft);
    }
    return r;
}

bool raft_node_lease_good(struct raft_node *node)
{
    return !node->closing && raft_node_leads(node) &&
           raft_lease_good(&node->raft, env_now(node->env));
}

void raft_node_oneway(struct raft_node *node, uint32_t to, uint16_t opcode, struct slice body)
{
    struct raft_link *link = node->closing ? NULL : raft_node_link(node, to);

    if (link != NULL) {
        rpc_peer_oneway(&link->peer, opcode, body, (struct slice){0});
    }
}

void raft_node_compacted(struct raft_node *node, uint64_t index)
{
    index = min_u64(index, node->applied);
    if (index <= node->compacted || node->closing) {
        return;
    }
    node->compacted = index;
    raft_compact(&node->raft,
                 /* The member that receives a snapshot goes on from there. */
                 node->snapshot_out.active ? min_u64(index, node->snapshot_out.what.index) : index,
                 RAFT_TAIL_KEEP_BYTES);
    raft_log_compact(&node->log, index);
}

int raft_node_transfer(struct raft_node *node, uint32_t to)
{
    if (node->closing) {
        return -ERR_NOT_LEADER;
    }
    return raft_node_step(node, (struct raft_input){.type = RAFT_INPUT_TRANSFER, .peer = to});
}

int raft_node_change(struct raft_node *node, const struct raft_change *change, uint64_t *out_index)
{
    int r;

    if (node->closing) {
        return -ERR_NOT_LEADER;
    }
    r = raft_node_step(node, (struct raft_input){.type = RAFT_INPUT_CHANGE, .change = change});
    if (r == 0) {
        *out_index = raft_last(&node->raft);
    }
    return r;
}

/* The group as the checkpoint has it, or as it was configured. */
static int first_members(const struct raft_node_config *config, struct raft_members *out_members)
{
    int r = 0;

    *out_members = (struct raft_members){0};
    if (config->members != NULL) {
        *out_members = *config->members;
    } else if (!config->joining) {
        for (unsigned i = 0; r == 0 && i < config->peer_count; i++) {
            r = raft_members_add(out_members, config->peers[i].id, /* voter= */ true,
                                 config->peers[i].address);
        }
    }
    return r;
}

static int open_core(struct raft_node *node, const struct raft_node_config *config)
{
    struct raft_log_config log_config = {
        .dir = config->dir,
        .node_id = config->identity->node_id,
        .segment_bytes = config->log_segment_bytes,
        .base_index = config->applied_index,
        .base_term = config->applied_term,
        .state_lost = config->state_lost,
    };
    struct raft_log_recovered recovered;
    struct raft_members members;
    uint64_t base;
    int r;

    memcpy(log_config.cluster_uuid, config->identity->cluster_uuid,
           sizeof(log_config.cluster_uuid));
    r = first_members(config, &members);
    log_config.may_repair = members.count == 0 || raft_members_voters(&members) >
                                                      1; /* another voter has what is damaged */
    if (r == 0) {
        r = raft_log_open(&node->log, node->env, &log_config, &recovered);
    }
    if (r < 0) {
        return r;
    }
    node->log.saved = on_saved;
    node->log.data = node;
    base = config->state_lost ? recovered.tail.base_index : config->applied_index;
    raft_init(&node->raft,
              &(struct raft_config){
                  .id = config->identity->node_id,
                  .members = &members,
                  .joining = config->joining,
                  .seed = env_random(node->env),
                  .now_ns = env_now(node->env),
                  .term = max_u64(recovered.state.term, config->applied_term),
                  .vote = recovered.state.term >= config->applied_term ? recovered.state.vote : 0,
                  .base_index = base,
                  .base_term = config->state_lost ? recovered.tail.base_term : config->applied_term,
                  .rebuild = config->state_lost && base > 0,
                  .repair = recovered.repair.wanted,
                  .repair_index = recovered.repair.index,
                  .repair_term = recovered.repair.term,
              });
    for (uint64_t i = base + 1; i <= raft_tail_last(&recovered.tail); i++) {
        const struct raft_entry *entry = raft_tail_at(&recovered.tail, i);

        raft_load(&node->raft, entry->term, entry->command);
    }
    LOG_INFO(node->env, "raft",
             "log recovered term=%" PRIu64 " vote=%u applied=%" PRIu64 " last=%" PRIu64,
             node->raft.term, node->raft.vote, node->applied, raft_last(&node->raft));
    raft_tail_deinit(&recovered.tail);
    return 0;
}

static int check_config(struct env *env, const struct raft_node_config *config)
{
    unsigned found = 0;

    for (unsigned i = 0; i < config->peer_count; i++) {
        found += config->peers[i].id == config->identity->node_id;
        for (unsigned k = 0; k < i; k++) {
            found += config->peers[k].id == config->peers[i].id ? 2 : 0;
        }
    }
    if (config->members != NULL || config->joining) {
        return 0; /* the group is not ours to say */
    }
    if (config->peer_count == 0 || config->peer_count > RAFT_MEMBERS_MAX || found != 1) {
        LOG_ERROR(env, "raft",
                  "the configured members are wrong: 1 to %d with different ids, ours (%u) among "
                  "them",
                  RAFT_MEMBERS_MAX, config->identity->node_id);
        return -EINVAL;
    }
    return 0;
}

int raft_node_open(struct raft_node *node, struct env *env, const struct raft_node_config *config,
                   struct raft_machine *machine)
{
    int r;

    *node = (struct raft_node){
        .env = env,
        .identity = config->identity,
        .machine = machine,
        .applied = config->applied_index,
        .applied_term = config->applied_term,
        .compacted = config->applied_index,
    };
    node->tick.fire = on_tick;
    node->turn.fire = raft_node_turn;
    raft_node_copy_peers(node, config);
    list_init(&node->links);
    list_init(&node->held);
    list_init(&node->reads);
    r = check_config(env, config);
    if (r == 0) {
        r = open_core(node, config);
    }
    if (r < 0) {
        raft_node_free_peers(node);
        node->closing = true;
        node->log.step = RAFT_LOG_CLOSED;
        return r;
    }
    raft_node_update_links(node);
    node->opened = true;
    step(node, (struct raft_input){.type = RAFT_INPUT_TICK});
    return 0;
}

static void drop_waiting(struct raft_node *node)
{
    struct list_node *first;

    while ((first = list_pop_front(&node->held)) != NULL) {
        held_free(list_entry(first, struct raft_held, node));
    }
    node->held_count = 0;
    while ((first = list_pop_front(&node->reads)) != NULL) {
        struct raft_read *read = list_entry(first, struct raft_read, node);

        node->read_count--;
        read->done(read, -ERR_NOT_LEADER);
    }
}

void raft_node_close(struct raft_node *node)
{
    if (node->closing) {
        return;
    }
    node->closing = true;
    env_timer_stop(node->env, &node->tick);
    env_timer_stop(node->env, &node->turn);
    drop_waiting(node);
    raft_node_snapshot_close(node);
    raft_node_close_links(node);
    raft_node_free_peers(node);
    raft_log_close(&node->log);
    raft_deinit(&node->raft);
}

bool raft_node_closed(const struct raft_node *node)
{
    return node->closing && list_empty(&node->links) && !node->snapshot_out.active &&
           raft_log_closed(&node->log);
}

void raft_node_status(const struct raft_node *node, struct raft_node_status *out_status)
{
    const struct raft *raft = &node->raft;

    *out_status = (struct raft_node_status){
        .role = raft->role,
        .leader_ready = !node->closing && raft_node_leads(node),
        .term = raft->term,
        .leader_id = raft->leader,
        .commit = raft->commit,
        .applied = node->applied,
        .first = raft->tail.base_index + 1,
        .last = raft_last(raft),
        .saved = raft->saved,
        .joining = raft->joining,
        .repair = raft->repair,
        .rebuild = raft->rebuild,
        .lost = raft->lost,
    };
    for (unsigned i = 0; i < raft->members.count; i++) {
        const struct raft_progress *progress = &raft->progress[i];
        const struct raft_member *member = &raft->members.list[i];
        const struct raft_link *link = raft_node_link(node, member->id);
        bool leader = raft->role == RAFT_LEADER && i != raft->self;

        out_status->peers[out_status->peer_count++] = (struct raft_peer_status){
            .id = member->id,
            .address = raft_node_address(node, member),
            .voter = member->voter,
            .match = i == raft->self ? raft->saved
                     : leader        ? progress->match
                                     : 0,
            .next = leader ? progress->next : 0,
            .heard_ns = leader ? progress->heard_ns : 0,
            .connected = link != NULL && link->peer.stats.connected,
            .repairing = leader && progress->repairing,
            .rebuilding = leader && progress->rebuilding,
            .snapshot = leader && progress->state == RAFT_PROGRESS_SNAPSHOT,
        };
    }
}
