/*
 * raft: dispatch of input x role, terms, and the collected output.
 *
 * Invariants:
 *   1. base <= commit <= last; saved <= last; commit never shrinks; committed entries never change.
 *   2. vote is 0 or fixed within a term; term never shrinks.
 *   3. nothing that promises durability (a vote, an append's acknowledgement, a request for votes)
 *      leaves without after_save.
 *   4. heartbeat answers promise nothing durable: they say that at that moment no newer term was
 *      known here. A node that forgot a promise by restarting refuses votes for RAFT_SUSPECT_NS.
 *
 * Deviations from the paper: PreVote and CheckQuorum (thesis 9.6, 6.2), votes refused while a
 * leader was heard recently (6.2.3), leases by the send time of what was answered (6.4.1), the
 * leader's disk write in parallel (10.2.1), conflict back-up by term as in etcd-raft.
 */
#include "raft/raft_internal.h"

#include "base/mem.h"

void raft_init(struct raft *raft, const struct raft_config *config)
{
    *raft = (struct raft){
        .id = config->id,
        .term = config->term,
        .vote = config->vote,
        .saved = config->base_index,
        .commit = config->base_index,
        .repair = config->repair,
        .repair_index = config->repair_index,
        .repair_term = config->repair_term,
        .rebuild = config->rebuild,
        .now_ns = config->now_ns,
        .started_ns = config->now_ns,
    };
    rng_init(&raft->rng, config->seed);
    raft_tail_init(&raft->tail, config->base_index, config->base_term);
    raft->joining = config->joining;
    raft->base_members = *config->members;
    raft_members_adopt(raft, config->members, 0);
    raft_arm_election(raft);
}

void raft_deinit(struct raft *raft)
{
    raft_tail_deinit(&raft->tail);
    mem_free(raft->pending);
    mem_free(raft->send);
    mem_free(raft->ready);
    *raft = (struct raft){0};
}

void raft_load(struct raft *raft, uint64_t term, struct slice command)
{
    raft_tail_append(&raft->tail, term, command);
    raft->saved = raft_last(raft);
    raft_note_entry(raft, raft->saved, command);
}

int raft_slot(const struct raft *raft, uint32_t id)
{
    return raft_members_find(&raft->members, id);
}

struct raft_message *raft_emit(struct raft *raft, enum raft_message_type type, uint32_t to)
{
    struct raft_message *message;

    if (raft->send_count == raft->send_capacity) {
        raft->send_capacity = raft->send_capacity == 0 ? 16 : raft->send_capacity * 2;
        raft->send = mem_realloc(raft->send, raft->send_capacity * sizeof(*raft->send));
    }
    message = &raft->send[raft->send_count++];
    *message = (struct raft_message){.type = type, .from = raft->id, .to = to, .term = raft->term};
    return message;
}

void raft_emit_ready(struct raft *raft, uint64_t id, uint64_t index, int status)
{
    if (raft->ready_count == raft->ready_capacity) {
        raft->ready_capacity = raft->ready_capacity == 0 ? 16 : raft->ready_capacity * 2;
        raft->ready = mem_realloc(raft->ready, raft->ready_capacity * sizeof(*raft->ready));
    }
    raft->ready[raft->ready_count++] = (struct raft_read_ready){id, index, status};
}

void raft_set_commit(struct raft *raft, uint64_t commit)
{
    ASSERT(commit <= raft_last(raft));
    if (raft->role == RAFT_LEADER) {
        for (uint64_t i = raft->commit + 1; i <= commit; i++) {
            raft->uncommitted_bytes -= raft_tail_entry_bytes(raft_tail_at(&raft->tail, i));
        }
    }
    raft->commit = max_u64(raft->commit, commit);
}

/* A message of an older term: its sender learns ours, where that helps. */
static void answer_old_term(struct raft *raft, const struct raft_message *message)
{
    struct raft_message *answer;

    switch (message->type) {
    case RAFT_MESSAGE_APPEND:
    case RAFT_MESSAGE_HEARTBEAT:
        answer = raft_emit(raft, RAFT_MESSAGE_HEARTBEAT_RESPONSE, message->from);
        answer->after_save = true;
        return;
    case RAFT_MESSAGE_PRE_VOTE:
        answer = raft_emit(raft, RAFT_MESSAGE_PRE_VOTE_RESPONSE, message->from);
        answer->reject = true;
        return;
    case RAFT_MESSAGE_VOTE:
        answer = raft_emit(raft, RAFT_MESSAGE_VOTE_RESPONSE, message->from);
        answer->reject = true;
        answer->after_save = true;
        return;
    case RAFT_MESSAGE_PRE_VOTE_RESPONSE:
    case RAFT_MESSAGE_VOTE_RESPONSE:
    case RAFT_MESSAGE_APPEND_RESPONSE:
    case RAFT_MESSAGE_HEARTBEAT_RESPONSE:
    case RAFT_MESSAGE_TIMEOUT_NOW:
    case RAFT_MESSAGE_TYPE_END:
        return;
    }
}

static bool from_leader(const struct raft_message *message)
{
    return message->type == RAFT_MESSAGE_APPEND || message->type == RAFT_MESSAGE_HEARTBEAT;
}

/* A message of a newer term. False: it is to be ignored. */
static bool accept_new_term(struct raft *raft, const struct raft_message *message)
{
    if (message->type == RAFT_MESSAGE_PRE_VOTE) {
        return true; /* asks what would be; nobody's term changes */
    }
    if (message->type == RAFT_MESSAGE_PRE_VOTE_RESPONSE && !message->reject) {
        return true; /* carries the term we asked for */
    }
    if (message->type == RAFT_MESSAGE_VOTE && !message->force && raft_leader_protected(raft)) {
        return false;
    }
    raft_become_follower(raft, message->term, from_leader(message) ? message->from : 0);
    return true;
}

static void dispatch(struct raft *raft, const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MESSAGE_PRE_VOTE:
    case RAFT_MESSAGE_VOTE:
        raft_on_vote(raft, message);
        return;
    case RAFT_MESSAGE_PRE_VOTE_RESPONSE:
    case RAFT_MESSAGE_VOTE_RESPONSE:
        raft_on_vote_response(raft, message);
        return;
    case RAFT_MESSAGE_APPEND:
        raft_on_append(raft, message);
        return;
    case RAFT_MESSAGE_HEARTBEAT:
        raft_on_heartbeat(raft, message);
        return;
    case RAFT_MESSAGE_APPEND_RESPONSE:
        raft_on_append_response(raft, message);
        return;
    case RAFT_MESSAGE_HEARTBEAT_RESPONSE:
        raft_on_heartbeat_response(raft, message);
        return;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        if (raft->role == RAFT_FOLLOWER && raft->leader == message->from && raft_may_vote(raft)) {
            raft_campaign(raft, /* force= */ true);
        }
        return;
    case RAFT_MESSAGE_TYPE_END:
        return;
    }
}

/* Who asks or leads may be a member that we do not know yet; who answers is not (thesis 4.1). */
static bool has_a_say(const struct raft *raft, const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MESSAGE_PRE_VOTE:
    case RAFT_MESSAGE_VOTE:
        return !raft->joining;
    case RAFT_MESSAGE_APPEND:
    case RAFT_MESSAGE_HEARTBEAT:
    case RAFT_MESSAGE_TIMEOUT_NOW:
        return true;
    case RAFT_MESSAGE_PRE_VOTE_RESPONSE:
    case RAFT_MESSAGE_VOTE_RESPONSE:
    case RAFT_MESSAGE_APPEND_RESPONSE:
    case RAFT_MESSAGE_HEARTBEAT_RESPONSE:
        return raft_slot(raft, message->from) >= 0;
    case RAFT_MESSAGE_TYPE_END:
        break;
    }
    return false;
}

static void receive(struct raft *raft, const struct raft_message *message)
{
    if (message->from == raft->id || raft->lost || !has_a_say(raft, message)) {
        return;
    }
    if (message->term < raft->term) {
        answer_old_term(raft, message);
        return;
    }
    if (message->term > raft->term && !accept_new_term(raft, message)) {
        return;
    }
    dispatch(raft, message);
}

static void on_saved(struct raft *raft, uint64_t index, uint64_t term)
{
    uint64_t ours;

    /* An older write of a suffix that was replaced meanwhile has another term. */
    if (index <= raft->saved || !raft_tail_term(&raft->tail, index, &ours) || ours != term) {
        return;
    }
    raft->saved = index;
    if (raft->role == RAFT_LEADER) {
        raft_maybe_commit(raft);
    }
}

static int handle(struct raft *raft, const struct raft_input *input)
{
    switch (input->type) {
    case RAFT_INPUT_TICK:
        if (raft->role == RAFT_LEADER) {
            raft_leader_tick(raft);
        } else {
            raft_election_tick(raft);
        }
        return 0;
    case RAFT_INPUT_RECEIVE:
        receive(raft, input->message);
        return 0;
    case RAFT_INPUT_PROPOSE:
        return raft_propose(raft, input->command);
    case RAFT_INPUT_SAVED:
        on_saved(raft, input->index, input->term);
        return 0;
    case RAFT_INPUT_READ:
        return raft_read_begin(raft, input->read_id);
    case RAFT_INPUT_SUSPECT:
        raft_on_suspect(raft, input->peer);
        return 0;
    case RAFT_INPUT_UNREACHABLE:
        raft_on_unreachable(raft, input->peer);
        return 0;
    case RAFT_INPUT_SNAPSHOT_SENT:
        raft_on_snapshot_sent(raft, input->peer, input->index);
        return 0;
    case RAFT_INPUT_RESTORED:
        raft_on_restored(raft, input->index, input->term, input->members);
        return 0;
    case RAFT_INPUT_TRANSFER:
        return raft_on_transfer(raft, input->peer);
    case RAFT_INPUT_CHANGE:
        return raft_propose_change(raft, input->change);
    }
    UNREACHABLE();
}

int raft_step(struct raft *raft, const struct raft_input *input, struct raft_output *out_output)
{
    int r;

    raft->now_ns = max_u64(raft->now_ns, input->now_ns);
    raft->state_dirty = false;
    raft->did_reset = false;
    raft->did_repair = false;
    raft->append_first = 0;
    raft->send_count = 0;
    raft->ready_count = 0;
    raft->snapshot_to = 0;
    r = handle(raft, input);
    *out_output = (struct raft_output){
        .save_state = raft->state_dirty,
        .append_first = raft->append_first,
        .send = raft->send,
        .send_count = raft->send_count,
        .reads = raft->ready,
        .read_count = raft->ready_count,
        .snapshot_to = raft->snapshot_to,
        .commit = raft->commit,
        .deadline_ns = raft->role == RAFT_LEADER ? min_u64(raft->heartbeat_ns, raft->watch_ns)
                                                 : raft->election_ns,
        .reset = raft->did_reset,
        .repaired = raft->did_repair,
    };
    if (raft->append_first != 0) {
        out_output->append = raft_tail_at(&raft->tail, raft->append_first);
        out_output->append_count = (unsigned)(raft_last(raft) - raft->append_first + 1);
    }
    ASSERT_SLOW((raft_check(raft), true));
    return r;
}

void raft_compact(struct raft *raft, uint64_t index, uint64_t keep_bytes)
{
    uint64_t limit = min_u64(index, min_u64(raft->commit, raft->saved));
    uint64_t bytes = raft->tail.bytes;
    uint64_t at = raft->tail.base_index;

    while (at < limit && bytes > keep_bytes) {
        bytes -= raft_tail_entry_bytes(raft_tail_at(&raft->tail, at + 1));
        at++;
    }
    raft_members_compact(raft, at);
    raft_tail_compact(&raft->tail, at);
}

uint64_t raft_last(const struct raft *raft)
{
    return raft_tail_last(&raft->tail);
}

const struct raft_entry *raft_entry_at(const struct raft *raft, uint64_t index)
{
    return raft_tail_at(&raft->tail, index);
}

bool raft_leader_ready(const struct raft *raft)
{
    return raft->role == RAFT_LEADER && raft->commit >= raft->term_start;
}

void raft_check(const struct raft *raft)
{
    ASSERT(raft->tail.base_index <= raft->commit);
    ASSERT(raft->commit <= raft_last(raft));
    ASSERT(raft->saved <= raft_last(raft));
    ASSERT(raft->tail.count == 0 ||
           raft->tail.entries[raft->tail.start + raft->tail.count - 1].term <= raft->term);
    if (raft->role == RAFT_LEADER) {
        ASSERT(raft->leader == raft->id);
        ASSERT(raft->vote == raft->id);
        for (unsigned i = 0; i < raft->members.count; i++) {
            ASSERT(i == raft->self || raft->progress[i].match < raft->progress[i].next);
            ASSERT(i == raft->self || raft->progress[i].next <= raft_last(raft) + 1);
        }
    } else {
        ASSERT(raft->pending_count == 0);
    }
}
