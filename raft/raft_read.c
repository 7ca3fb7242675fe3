/*
 * Linearizable reads (thesis 6.4). Every append and heartbeat carries a stamp of the leader's
 * clock, strictly growing, that the answer echoes. What a majority has answered, stamped s, proves
 * that nobody else led before s was sent. So:
 *   - lease: s + RAFT_LEASE_NS is still ahead; nobody votes within RAFT_SUSPECT_NS of hearing us;
 *   - otherwise a read gets a stamp, a round of heartbeats goes out, and the read is confirmed when
 *     a majority has answered that stamp or a later one.
 */
#include "raft/raft_internal.h"

#include "base/mem.h"

/* Rounds of heartbeats for reads are at least this far apart. */
#define READ_ROUND_NS (1 * NS_PER_MS)

static uint64_t acked(const struct raft_progress *progress)
{
    return progress->acked;
}

static uint64_t reached_stamp(const struct raft *raft)
{
    return raft_voters_reached(raft, UINT64_MAX, acked);
}

bool raft_lease_good(const struct raft *raft, uint64_t now_ns)
{
    uint64_t stamp;

    if (!raft_leader_ready(raft) || raft->lease_off) {
        return false;
    }
    stamp = reached_stamp(raft);
    return stamp == UINT64_MAX || (stamp != 0 && now_ns < stamp + RAFT_LEASE_NS);
}

int raft_read_begin(struct raft *raft, uint64_t read_id)
{
    if (!raft_leader_ready(raft)) {
        return -ERR_NOT_LEADER;
    }
    if (raft_lease_good(raft, raft->now_ns)) {
        raft_emit_ready(raft, read_id, raft->commit, 0);
        return 0;
    }
    if (raft->pending_count == RAFT_READS_MAX) {
        return -ERR_BUSY;
    }
    if (raft->pending_count == raft->pending_capacity) {
        raft->pending_capacity = raft->pending_capacity == 0 ? 64 : raft->pending_capacity * 2;
        raft->pending = mem_realloc(raft->pending, raft->pending_capacity * sizeof(*raft->pending));
    }
    raft->pending[raft->pending_count++] =
        (struct raft_pending_read){read_id, raft->commit, raft_next_stamp(raft)};
    if (raft->now_ns >= raft->beat_ns + READ_ROUND_NS) {
        raft_beat(raft);
    } else {
        raft->heartbeat_ns = min_u64(raft->heartbeat_ns, raft->beat_ns + READ_ROUND_NS);
    }
    raft_read_confirm(raft); /* alone in the group: at once */
    return 0;
}

void raft_read_confirm(struct raft *raft)
{
    uint64_t stamp;
    unsigned done = 0;

    if (raft->pending_count == 0) {
        return;
    }
    stamp = reached_stamp(raft);
    while (done < raft->pending_count && raft->pending[done].stamp <= stamp) {
        raft_emit_ready(raft, raft->pending[done].id, raft->pending[done].index, 0);
        done++;
    }
    raft->pending_count -= done;
    memmove(raft->pending, raft->pending + done, raft->pending_count * sizeof(*raft->pending));
}

void raft_read_fail(struct raft *raft)
{
    for (unsigned i = 0; i < raft->pending_count; i++) {
        raft_emit_ready(raft, raft->pending[i].id, 0, -ERR_NOT_LEADER);
    }
    raft->pending_count = 0;
}
