/*
 * Elections (paper 5.2, 5.4.1; thesis 6.2.3, 9.6).
 *
 *     FOLLOWER --timeout--> PRE_CANDIDATE --majority would vote--> CANDIDATE --majority--> LEADER
 *        ^                        |                                    |                     |
 *        +---- refused, or a leader or a newer term is heard ----------+--- quorum lost -----+
 *
 * A leader whose process died closes its connections at once; a follower that sees the reset and
 * a refused reconnect (SUSPECT) campaigns after RAFT_SUSPECT_NS of silence instead of the whole
 * timeout, and voters that suspect it too shorten their refusal to the same. Never below the lease.
 */
#include "raft/raft_internal.h"

#include "base/trace_mark.h"

void raft_arm_election(struct raft *raft)
{
    raft->election_ns =
        raft->now_ns + RAFT_ELECTION_MIN_NS + rng_below(&raft->rng, RAFT_ELECTION_SPREAD_NS);
}

/* On suspicion we ask again soon: the others may only now see what we saw. */
static void arm_retry(struct raft *raft)
{
    if (raft->suspect && raft->suspect_tries < RAFT_SUSPECT_TRIES) {
        TRACE_MARK("an election because the leader is suspect");
        raft->suspect_tries++;
        raft->election_ns = raft->now_ns + RAFT_SUSPECT_SPREAD_NS / 2 +
                            rng_below(&raft->rng, RAFT_SUSPECT_SPREAD_NS);
    } else {
        raft->suspect = false;
        raft_arm_election(raft);
    }
}

void raft_become_follower(struct raft *raft, uint64_t term, uint32_t leader)
{
    ASSERT(term >= raft->term);
    if (term > raft->term) {
        raft->term = term;
        raft->vote = 0;
        raft->state_dirty = true;
    }
    if (raft->role == RAFT_LEADER) {
        raft_read_fail(raft);
        raft->leader_heard_ns = raft->now_ns; /* we led until now: no hurry to elect another */
    }
    raft->role = RAFT_FOLLOWER;
    raft->leader = leader;
    raft->transfer_to = 0;
    raft->stalls = 0;
    raft_arm_election(raft);
}

bool raft_leader_protected(const struct raft *raft)
{
    uint64_t silence = raft->suspect ? RAFT_SUSPECT_NS : RAFT_ELECTION_MIN_NS;

    if (raft->role == RAFT_LEADER) {
        return true; /* it resigns by itself when it has no quorum */
    }
    if (raft->now_ns - raft->started_ns < RAFT_SUSPECT_NS) {
        return true; /* before the restart we may have promised a lease */
    }
    return raft->leader_heard_ns != 0 && raft->now_ns - raft->leader_heard_ns < silence;
}

static void begin_vote(struct raft *raft, enum raft_role role)
{
    raft->role = role;
    raft->leader = 0;
    memset(raft->answered, 0, sizeof(raft->answered));
    raft->answered[raft->self] = true; /* raft_may_vote: we are a member */
    raft->granted = 1;
    raft->refused = 0;
}

static void ask_votes(struct raft *raft, enum raft_message_type type, uint64_t term, bool force)
{
    uint64_t last_term = 0;

    (void)raft_tail_term(&raft->tail, raft_last(raft), &last_term);
    for (unsigned i = 0; i < raft->members.count; i++) {
        struct raft_message *message;

        if (i == raft->self || !raft_is_voter(raft, i)) {
            continue;
        }
        message = raft_emit(raft, type, raft->members.list[i].id);
        message->term = term;
        message->index = raft_last(raft);
        message->log_term = last_term;
        message->force = force;
        message->after_save = type == RAFT_MESSAGE_VOTE;
    }
}

void raft_pre_campaign(struct raft *raft)
{
    begin_vote(raft, RAFT_PRE_CANDIDATE);
    arm_retry(raft);
    if (raft_voters(raft) == 1) {
        raft_campaign(raft, /* force= */ false);
        return;
    }
    ask_votes(raft, RAFT_MESSAGE_PRE_VOTE, raft->term + 1, /* force= */ false);
}

void raft_campaign(struct raft *raft, bool force)
{
    begin_vote(raft, RAFT_CANDIDATE);
    raft->term++;
    raft->vote = raft->id;
    raft->state_dirty = true;
    if (raft->suspect && raft->suspect_tries < RAFT_SUSPECT_TRIES) {
        /* A split vote is settled soon; two disk writes and two messages fit into this. */
        raft->election_ns =
            raft->now_ns + RAFT_SUSPECT_VOTE_NS + rng_below(&raft->rng, RAFT_SUSPECT_VOTE_NS);
    } else {
        raft_arm_election(raft);
    }
    if (raft_voters(raft) == 1) {
        raft_become_leader(raft);
        return;
    }
    ask_votes(raft, RAFT_MESSAGE_VOTE, raft->term, force);
}

void raft_election_tick(struct raft *raft)
{
    if (raft->now_ns < raft->election_ns) {
        return;
    }
    /* A timer this late means that we were not running; the leader's messages may be waiting. */
    if (raft->now_ns - raft->election_ns > RAFT_STALL_NS && raft->stalls < RAFT_STALL_TRIES) {
        raft->stalls++;
        raft_arm_election(raft);
        return;
    }
    raft->stalls = 0;
    if (!raft_may_vote(raft)) {
        raft->leader = 0;
        raft_arm_election(raft);
        return;
    }
    raft_pre_campaign(raft);
}

static bool up_to_date(const struct raft *raft, const struct raft_message *message)
{
    uint64_t last = raft_last(raft);
    uint64_t last_term = 0;

    (void)raft_tail_term(&raft->tail, last, &last_term);
    return message->log_term > last_term ||
           (message->log_term == last_term && message->index >= last);
}

void raft_on_vote(struct raft *raft, const struct raft_message *message)
{
    bool pre = message->type == RAFT_MESSAGE_PRE_VOTE;
    bool may_vote = raft->vote == message->from || (raft->vote == 0 && raft->leader == 0) ||
                    (pre && message->term > raft->term);
    bool grant = may_vote && up_to_date(raft, message);
    struct raft_message *answer;

    if (raft->repair || (!message->force && raft_leader_protected(raft))) {
        grant = false;
    }
    answer = raft_emit(raft, pre ? RAFT_MESSAGE_PRE_VOTE_RESPONSE : RAFT_MESSAGE_VOTE_RESPONSE,
                       message->from);
    answer->reject = !grant;
    answer->after_save = !pre;
    if (!grant) {
        return;
    }
    answer->term = message->term;
    if (!pre) {
        raft->state_dirty = raft->state_dirty || raft->vote != message->from;
        raft->vote = message->from;
        raft_arm_election(raft);
    }
}

void raft_on_vote_response(struct raft *raft, const struct raft_message *message)
{
    bool pre = message->type == RAFT_MESSAGE_PRE_VOTE_RESPONSE;
    struct quorum quorum = quorum_majority(raft_voters(raft));
    int slot = raft_slot(raft, message->from);

    if (raft->role != (pre ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE) || raft->answered[slot] ||
        !raft_is_voter(raft, (unsigned)slot)) {
        return;
    }
    if (pre && !message->reject && message->term != raft->term + 1) {
        return; /* answers an older question */
    }
    raft->answered[slot] = true;
    raft->granted += !message->reject;
    raft->refused += message->reject;
    quorum.yes = raft->granted;
    quorum.no = raft->refused;
    switch (quorum_verdict(&quorum)) {
    case QUORUM_PENDING:
        return;
    case QUORUM_WON:
        if (pre) {
            raft_campaign(raft, /* force= */ false);
        } else {
            raft_become_leader(raft);
        }
        return;
    case QUORUM_LOST: {
        uint64_t retry_ns = raft->election_ns; /* as armed when we asked */

        raft_become_follower(raft, raft->term, 0);
        raft->election_ns = retry_ns;
        return;
    }
    }
}

void raft_on_suspect(struct raft *raft, uint32_t peer)
{
    uint64_t at;

    if (raft->role != RAFT_FOLLOWER || raft->leader != peer || raft->suspect) {
        return; /* each refused reconnect tells it anew: the dice are thrown once */
    }
    raft->suspect = true;
    raft->suspect_tries = 0;
    at = max_u64(raft->now_ns, raft->leader_heard_ns + RAFT_SUSPECT_NS) +
         rng_below(&raft->rng, RAFT_SUSPECT_SPREAD_NS);
    raft->election_ns = min_u64(raft->election_ns, at);
}
