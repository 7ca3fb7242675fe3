/*
 * Rebuild: this node's state machine has lost its state (a page of it was damaged), while its log
 * and its vote are intact. What it has promised holds, so it goes on
 *   - voting: whether a candidate's log is as new as ours is a question to the log alone;
 *   - acknowledging entries, which it stores as ever.
 * What it has not is the state that the log goes on from. Until a snapshot has brought one, it
 *   - does not campaign, and nobody hands over to it: it could not serve what it leads;
 *   - applies nothing;
 *   - tells (`rebuild` in its answers), and the leader sends a snapshot although the log would
 *     match, and no entries meanwhile, which could not leave the memory.
 *
 * The log begins behind an entry B. Segments are dropped when the state that has their entries is
 * durable, so everything up to B was committed: commit starts at B. A snapshot from before B is
 * refused by the driver: between it and B there would be a gap. From one at C >= B, what follows C
 * here stays (C is in our log and equal, or we end before C, or we end differently and begin anew
 * as after every snapshot).
 */
#include "raft/raft_internal.h"

#include "base/trace_mark.h"

bool raft_rebuild_heard(struct raft *raft, unsigned slot, const struct raft_message *message)
{
    struct raft_progress *progress = &raft->progress[slot];

    progress->rebuilding = message->rebuild;
    if (!message->rebuild) {
        return false;
    }
    if (raft->commit < raft->term_start) {
        return false; /* what it stores counts: without it there may never be a newer snapshot */
    }
    progress->state = RAFT_PROGRESS_SNAPSHOT;
    progress->inflight_count = 0;
    progress->inflight_bytes = 0;
    raft->snapshot_to = message->from;
    return true;
}

void raft_rebuilt(struct raft *raft, uint64_t index, uint64_t term,
                  const struct raft_members *members)
{
    uint64_t ours;

    ASSERT(index >= raft->tail.base_index);
    TRACE_MARK("a lost state is whole again");
    raft->rebuild = false;
    if (index == raft->tail.base_index) {
        raft->tail.base_term = term; /* no entry of the log says it */
    }
    if (!raft_tail_term(&raft->tail, index, &ours) || ours != term) {
        return; /* the log begins anew */
    }
    raft_set_commit(raft, max_u64(raft->commit, index));
    raft_tail_compact(&raft->tail, index);
    raft->base_members = *members;
    raft->base_members_index = index;
    if (raft->members_index <= index) {
        raft_members_adopt(raft, members, index);
    }
}
