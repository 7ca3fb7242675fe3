/*
 * Membership (thesis 4.1 to 4.3): one server at a time, so that any majority of the old set and any
 * of the new one share a member. A set counts from the moment it is in the log, committed or not;
 * what a truncated suffix had changed is undone. A leader changes nothing before an entry of its
 * term is committed (Ongaro, raft-dev 2015).
 *
 * Deviations: a leader does not remove itself (it hands leadership over first); a member is added
 * as a learner, and becomes a voter when it has caught up.
 *
 * A node that begins with nothing (joining) learns the set from the log. Nobody gets a vote before
 * its log holds a set that names it as a learner. So a node whose vote counts already, in the
 * leader's set or in a snapshot, while it knows none that names it, has had this number before and
 * lost its data, with what it had voted and acknowledged: it takes no part (`lost`). The entry that
 * once added it may still be in the log; it would make it a learner again, and the next one a
 * voter.
 */
#include "raft/raft_internal.h"

#include "base/mem.h"

#include <errno.h>

unsigned raft_voters(const struct raft *raft)
{
    return raft_members_voters(&raft->members);
}

bool raft_is_voter(const struct raft *raft, unsigned slot)
{
    return raft->members.list[slot].voter;
}

bool raft_may_vote(const struct raft *raft)
{
    return !raft->joining && !raft->repair && !raft->rebuild && raft->self != RAFT_NOT_MEMBER &&
           raft_is_voter(raft, raft->self);
}

uint64_t raft_voters_reached(const struct raft *raft, uint64_t own,
                             uint64_t (*value)(const struct raft_progress *progress))
{
    uint64_t values[RAFT_MEMBERS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < raft->members.count; i++) {
        if (raft_is_voter(raft, i)) {
            values[count++] = i == raft->self ? own : value(&raft->progress[i]);
        }
    }
    return quorum_reached(values, count);
}

/* What is known of members that stay is kept. */
void raft_members_adopt(struct raft *raft, const struct raft_members *members, uint64_t index)
{
    struct raft_progress *progress = mem_zalloc(sizeof(raft->progress));

    for (unsigned i = 0; i < members->count; i++) {
        int old = raft_members_find(&raft->members, members->list[i].id);

        progress[i] = old >= 0 ? raft->progress[old]
                               : (struct raft_progress){.next = raft_last(raft) + 1,
                                                        .heard_ns = raft->now_ns,
                                                        .moved_ns = raft->now_ns};
    }
    memcpy(raft->progress, progress, sizeof(raft->progress));
    mem_free(progress);
    raft->members = *members;
    raft->members_index = index;
    raft->members_version++;
    raft->self = (unsigned)raft_members_find(members, raft->id); /* -1: RAFT_NOT_MEMBER */
    if (raft->joining && raft->self != RAFT_NOT_MEMBER) {
        raft->joining = raft_is_voter(raft, raft->self);
        raft->lost = raft->joining;
    }
}

void raft_note_entry(struct raft *raft, uint64_t index, struct slice command)
{
    struct raft_members members;

    if (raft_command_is_members(command) && raft_members_decode(&members, command) == 0) {
        raft_members_adopt(raft, &members, index);
    }
}

/* The newest set in entries up to `index`; false when none is in memory. */
static bool newest_members(const struct raft *raft, uint64_t index,
                           struct raft_members *out_members, uint64_t *out_index)
{
    for (uint64_t at = index; at > raft->tail.base_index; at--) {
        struct slice command = raft_tail_at(&raft->tail, at)->command;

        if (raft_command_is_members(command) && raft_members_decode(out_members, command) == 0) {
            *out_index = at;
            return true;
        }
    }
    return false;
}

void raft_members_truncated(struct raft *raft)
{
    struct raft_members members;
    uint64_t index;

    if (raft->members_index <= raft_last(raft)) {
        return;
    }
    if (newest_members(raft, raft_last(raft), &members, &index)) {
        raft_members_adopt(raft, &members, index);
    } else {
        raft_members_adopt(raft, &raft->base_members, raft->base_members_index);
    }
}

void raft_members_compact(struct raft *raft, uint64_t index)
{
    struct raft_members members;

    if (raft->members_index > raft->tail.base_index &&
        newest_members(raft, index, &members, &raft->base_members_index)) {
        raft->base_members = members;
    }
}

bool raft_lost_identity(struct raft *raft, const struct raft_message *message)
{
    raft->lost = raft->lost || (raft->joining && message->voter);
    return raft->lost;
}

/* ---- the leader ---- */

static bool is_alive(const struct raft *raft, unsigned slot)
{
    return slot == raft->self ||
           raft->now_ns - raft->progress[slot].heard_ns < RAFT_ELECTION_MIN_NS;
}

/* May the member vote from now on without the group waiting for it? It must hold the set that names
 * it: see `lost` above. */
static int check_caught_up(const struct raft *raft, unsigned slot)
{
    const struct raft_progress *progress = &raft->progress[slot];

    return is_alive(raft, slot) && !progress->repairing && !progress->rebuilding &&
                   progress->state == RAFT_PROGRESS_REPLICATE &&
                   progress->match >= raft->members_index &&
                   raft_last(raft) - progress->match <= RAFT_PROMOTE_LAG
               ? 0
               : -EAGAIN;
}

/* Those that stay must be able to go on without it. */
static int check_removal(const struct raft *raft, unsigned slot)
{
    unsigned voters = 0, alive = 0;

    if (slot == raft->self) {
        return -EDEADLK;
    }
    for (unsigned i = 0; i < raft->members.count; i++) {
        if (i != slot && raft_is_voter(raft, i)) {
            voters++;
            alive += is_alive(raft, i) && !raft->progress[i].repairing;
        }
    }
    return alive >= voters / 2 + 1 ? 0 : -ERR_NO_QUORUM;
}

int raft_propose_change(struct raft *raft, const struct raft_change *change)
{
    cleanup(buf_deinit) struct buf command = {0};
    struct raft_members members = raft->members;
    int slot = raft_members_find(&members, change->id);
    int r;

    if (raft->role != RAFT_LEADER) {
        return -ERR_NOT_LEADER;
    }
    if (!raft_leader_ready(raft) || raft->members_index > raft->commit || raft->transfer_to != 0) {
        return -ERR_BUSY;
    }
    r = raft_members_change(&members, change);
    if (r == 0 && change->type == RAFT_CHANGE_PROMOTE) {
        r = check_caught_up(raft, (unsigned)slot);
    } else if (r == 0 && change->type == RAFT_CHANGE_REMOVE) {
        r = check_removal(raft, (unsigned)slot);
    }
    if (r < 0) {
        return r;
    }
    raft_members_encode(&members, &command);
    raft_append_own(raft, buf_slice(&command));
    raft_replicate_all(raft);
    raft_maybe_commit(raft); /* one voter less may be what was missing */
    return 0;
}
