/*
 * Repair: the log of this node was damaged where it was durable, and cut before the damage. It may
 * have acknowledged entries, and voted, in what is lost. (CTRL, FAST 2018, calls this the
 * corruption that must not be taken for a crash; canonical/raft and others cut and go on.)
 *
 * The log knows what it had promised (raft_log_repair.c): its hard state as it was last, (R, vote),
 * and an index P that no acknowledged entry is above. The hard state is kept, so no second vote can
 * be given in a term up to R. Until the repair ends, this node
 *   - does not vote, for nobody, and does not campaign;
 *   - tells how far it agrees (`repair` in its answers), which the leader uses to send the rest,
 * and does not count;
 *   - takes nothing for committed because a heartbeat says so: the leader may believe that it
 *     has what it had acknowledged.
 *
 * It ends when the log equals that of a leader L of term T up to m (an append was accepted there,
 * so by log matching everything before it is equal too), and (a) m >= P, or (b) T > R, and the
 * entry at m is of term T.
 *
 * Why nothing acknowledged is missing then. Let e, at index i, be committed with the help of our
 * acknowledgement, given in term t <= R; i <= P. L was accepted, so T >= R >= t. If T > t, L's
 * log holds e (leader completeness: this node's voice did not help to elect L unless it still held
 * what it had acknowledged, for it does not vote now). If T = t, it was L itself that sent e, and a
 * leader does not drop entries. So L's log has e at i. In (a) i <= P <= m, and our log equals L's
 * up to m: we have it. In (b) t < T, so e is before the first entry of term T in L's log, hence
 * before m. An acknowledgement that is still on its way when the repair ends names an index that
 * (a) covers, or a term that (b) has made old.
 *
 * (b) is there because P may be beyond the end of L's log, when what is lost was never committed.
 */
#include "raft/raft_internal.h"

#include "base/trace_mark.h"

void raft_repair_progress(struct raft *raft, uint64_t leader_term, uint64_t index)
{
    uint64_t term = 0;

    if (!raft->repair) {
        return;
    }
    (void)raft_tail_term(&raft->tail, index, &term);
    if (index < raft->repair_index && !(leader_term > raft->repair_term && term == leader_term)) {
        return;
    }
    TRACE_MARK("a damaged log is whole again");
    raft->repair = false;
    raft->did_repair = true;
    raft->state_dirty = true; /* the record of it may have been in what was lost */
}

void raft_repair_heard(struct raft_progress *progress, const struct raft_message *message)
{
    progress->repairing = message->repair;
    if (message->repair && message->reject && message->index > 0) {
        /* It had this once, or said so: what it holds is less. */
        progress->match =
            min_u64(progress->match, min_u64(message->hint_index, message->index - 1));
    }
}
