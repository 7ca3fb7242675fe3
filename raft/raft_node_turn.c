/*
 * raft_node_turn: the turn of the loop that calls the machine: it applies a slice, tells the role,
 * ends reads.
 */
#include "raft/raft_internal.h"
#include "raft/raft_node_internal.h"

void raft_node_turn_soon(struct raft_node *node)
{
    if (!env_timer_running(&node->turn) && !node->closing) {
        env_timer_start(node->env, &node->turn, env_now(node->env));
    }
}

bool raft_node_leads(const struct raft_node *node)
{
    return raft_leader_ready(&node->raft) && node->applied >= node->raft.term_start;
}

static bool role_differs(const struct raft_node *node)
{
    return node->told_leader != raft_node_leads(node) || node->told_term != node->raft.term ||
           node->told_leader_id != node->raft.leader;
}

/* Is there something to apply, and a state to apply it to? */
static bool may_apply(const struct raft_node *node)
{
    return node->applied < node->raft.commit && !node->raft.rebuild;
}

bool raft_node_turn_needed(const struct raft_node *node)
{
    return may_apply(node) || role_differs(node);
}

static void apply_entry(struct raft_node *node, uint64_t index, const struct raft_entry *entry)
{
    struct raft_members members;

    if (raft_command_is_members(entry->command)) {
        int r = raft_members_decode(&members, entry->command);

        ASSERT(r == 0); /* looked at before it came into the log */
        node->machine->members_changed(node->machine, index, entry->term, &members, entry->command);
    } else {
        node->machine->apply(node->machine, index, entry->term, entry->command);
    }
}

static void apply_slice(struct raft_node *node)
{
    for (unsigned i = 0; i < RAFT_APPLY_SLICE && may_apply(node); i++) {
        struct raft_entry entry = *raft_entry_at(&node->raft, node->applied + 1);

        apply_entry(node, node->applied + 1, &entry);
        if (node->closing) {
            return;
        }
        node->applied++;
        node->applied_term = entry.term;
    }
    if (node->raft.tail.bytes > RAFT_TAIL_BYTES_MAX) {
        raft_compact(&node->raft, node->applied, RAFT_TAIL_BYTES_MAX);
    }
}

static void tell_role(struct raft_node *node)
{
    if (!role_differs(node)) {
        return;
    }
    node->told_leader = raft_node_leads(node);
    node->told_term = node->raft.term;
    node->told_leader_id = node->raft.leader;
    LOG_INFO(node->env, "raft", "role term=%" PRIu64 " leader=%u leads=%d applied=%" PRIu64,
             node->told_term, node->told_leader_id, node->told_leader, node->applied);
    node->machine->role_changed(node->machine, node->told_leader, node->told_term,
                                node->told_leader_id);
}

static void end_reads(struct raft_node *node)
{
    list_for_each (at, &node->reads) {
        struct raft_read *read = list_entry(at, struct raft_read, node);

        if (read->id == 0 || read->index <= node->applied) {
            int status = read->id == 0 ? -ERR_NOT_LEADER : 0;

            list_remove(&read->node);
            node->read_count--;
            read->done(read, status);
            /* done() may have ended or begun others: what the loop holds may be gone. */
            raft_node_turn_soon(node);
            return;
        }
    }
}

static void end_many_reads(struct raft_node *node)
{
    uint64_t before;

    do {
        before = node->read_count;
        end_reads(node);
    } while (node->read_count < before && !node->closing);
}

void raft_node_turn(struct env_timer *timer)
{
    struct raft_node *node = container_of(timer, struct raft_node, turn);

    apply_slice(node);
    if (!node->closing) {
        tell_role(node);
    }
    if (!node->closing) {
        end_many_reads(node);
    }
    if (!node->closing && node->snapshot_out.wanted != 0 && !node->snapshot_out.active) {
        raft_node_snapshot_begin(node);
    }
    if (!node->closing && may_apply(node)) {
        raft_node_turn_soon(node);
    }
}

/* ---- reads ---- */

void raft_node_mark_reads(struct raft_node *node, const struct raft_output *output)
{
    for (unsigned i = 0; i < output->read_count; i++) {
        list_for_each (at, &node->reads) {
            struct raft_read *read = list_entry(at, struct raft_read, node);

            if (read->id == output->reads[i].id) {
                read->id = output->reads[i].status == 0 ? read->id : 0;
                read->index = output->reads[i].index;
                break;
            }
        }
    }
    if (output->read_count > 0) {
        raft_node_turn_soon(node);
    }
}

int raft_node_read(struct raft_node *node, struct raft_read *read)
{
    int r;

    if (node->closing || !raft_node_leads(node)) {
        return -ERR_NOT_LEADER;
    }
    if (raft_lease_good(&node->raft, env_now(node->env)) && node->applied >= node->raft.commit) {
        return 1;
    }
    if (node->read_count >= RAFT_READS_MAX) {
        return -ERR_BUSY;
    }
    read->id = ++node->next_read_id;
    read->index = UINT64_MAX;
    read->node = (struct list_node){0};
    list_push_back(&node->reads, &read->node);
    node->read_count++;
    r = raft_node_step(node, (struct raft_input){.type = RAFT_INPUT_READ, .read_id = read->id});
    if (r < 0) {
        raft_node_read_cancel(node, read);
    }
    return r;
}

void raft_node_read_cancel(struct raft_node *node, struct raft_read *read)
{
    if (list_linked(&read->node)) {
        list_remove(&read->node);
        node->read_count--;
    }
}
