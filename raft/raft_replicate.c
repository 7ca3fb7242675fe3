/*
 * Replication (paper 5.3; thesis 10.2.1; etcd-raft's Progress).
 *
 *     PROBE      one append at a time, to find where the logs agree
 *     REPLICATE  pipelined: `next` runs ahead optimistically, bounded by what is in flight
 *     SNAPSHOT   what it needs is compacted; a state stream is under way or wanted
 */
#include "raft/raft_internal.h"

#include "base/trace_mark.h"

#include <errno.h>

uint64_t raft_next_stamp(struct raft *raft)
{
    raft->last_stamp = max_u64(raft->now_ns, raft->last_stamp + 1);
    return raft->last_stamp;
}

/* ---- leader: progress ---- */

static void become_probe(struct raft_progress *progress, uint64_t next)
{
    progress->state = RAFT_PROGRESS_PROBE;
    progress->next = max_u64(next, progress->match + 1);
    progress->paused = false;
    progress->inflight_count = 0;
    progress->inflight_bytes = 0;
}

static void inflight_add(struct raft *raft, struct raft_progress *progress, uint64_t last,
                         uint64_t bytes)
{
    unsigned at = (progress->inflight_start + progress->inflight_count) % RAFT_INFLIGHT_MAX;

    ASSERT(progress->inflight_count < RAFT_INFLIGHT_MAX);
    if (progress->inflight_count == 0) {
        progress->moved_ns = raft->now_ns;
    }
    progress->inflight[at].last = last;
    progress->inflight[at].bytes = bytes;
    progress->inflight_count++;
    progress->inflight_bytes += bytes;
}

static void inflight_free(struct raft_progress *progress, uint64_t match)
{
    while (progress->inflight_count > 0 &&
           progress->inflight[progress->inflight_start].last <= match) {
        progress->inflight_bytes -= progress->inflight[progress->inflight_start].bytes;
        progress->inflight_start = (progress->inflight_start + 1) % RAFT_INFLIGHT_MAX;
        progress->inflight_count--;
    }
}

static bool may_send(const struct raft_progress *progress)
{
    switch (progress->state) {
    case RAFT_PROGRESS_PROBE:
        return !progress->paused;
    case RAFT_PROGRESS_REPLICATE:
        return progress->inflight_count < RAFT_INFLIGHT_MAX &&
               progress->inflight_bytes < RAFT_INFLIGHT_BYTES_MAX;
    case RAFT_PROGRESS_SNAPSHOT:
        return false;
    }
    UNREACHABLE();
}

/* How many entries from `first` fit into one message. */
static unsigned fit(const struct raft *raft, uint64_t first, uint64_t *out_bytes)
{
    uint64_t bytes = 0;
    unsigned count = 0;

    while (count < RAFT_APPEND_ENTRIES_MAX && first + count <= raft_last(raft)) {
        uint64_t size = raft_tail_entry_bytes(raft_tail_at(&raft->tail, first + count));

        if (count > 0 && bytes + size > RAFT_APPEND_BYTES_MAX) {
            break;
        }
        bytes += size;
        count++;
    }
    *out_bytes = bytes;
    return count;
}

/* One append message. False when nothing was sent. */
static bool send_append(struct raft *raft, unsigned slot, bool even_empty)
{
    struct raft_progress *progress = &raft->progress[slot];
    struct raft_message *message;
    uint64_t log_term;
    uint64_t bytes;
    unsigned count;

    if (!may_send(progress)) {
        return false;
    }
    if (!raft_tail_term(&raft->tail, progress->next - 1, &log_term)) {
        progress->state = RAFT_PROGRESS_SNAPSHOT;
        raft->snapshot_to = raft->members.list[slot].id;
        return false;
    }
    count = fit(raft, progress->next, &bytes);
    if (count == 0 && !even_empty) {
        return false;
    }
    message = raft_emit(raft, RAFT_MESSAGE_APPEND, raft->members.list[slot].id);
    message->index = progress->next - 1;
    message->log_term = log_term;
    message->commit = raft->commit;
    message->voter = raft_is_voter(raft, slot);
    message->stamp = raft_next_stamp(raft);
    message->entries = raft_tail_at(&raft->tail, progress->next);
    message->entry_count = count;
    if (progress->state == RAFT_PROGRESS_PROBE) {
        progress->paused = true;
    } else if (count > 0) {
        progress->next += count;
        inflight_add(raft, progress, progress->next - 1, bytes);
    }
    return true;
}

void raft_replicate(struct raft *raft, unsigned slot, bool even_empty)
{
    while (send_append(raft, slot, even_empty)) {
        even_empty = false;
        if (raft->progress[slot].next > raft_last(raft)) {
            return;
        }
    }
}

void raft_replicate_all(struct raft *raft)
{
    for (unsigned i = 0; i < raft->members.count; i++) {
        if (i != raft->self) {
            raft_replicate(raft, i, /* even_empty= */ false);
        }
    }
}

void raft_beat(struct raft *raft)
{
    for (unsigned i = 0; i < raft->members.count; i++) {
        struct raft_message *message;

        if (i == raft->self) {
            continue;
        }
        message = raft_emit(raft, RAFT_MESSAGE_HEARTBEAT, raft->members.list[i].id);
        message->commit = min_u64(raft->commit, raft->progress[i].match);
        message->voter = raft_is_voter(raft, i);
        message->stamp = raft_next_stamp(raft);
    }
    raft->beat_ns = raft->now_ns;
    raft->heartbeat_ns = raft->now_ns + RAFT_HEARTBEAT_NS;
}

/* ---- leader: life ---- */

void raft_append_own(struct raft *raft, struct slice command)
{
    raft_tail_append(&raft->tail, raft->term, command);
    raft->append_first = raft_last(raft);
    raft_note_entry(raft, raft->append_first, command);
    raft->uncommitted_bytes += raft_tail_entry_bytes(raft_entry_at(raft, raft_last(raft)));
}

void raft_become_leader(struct raft *raft)
{
    uint64_t next = raft_last(raft) + 1;

    raft->role = RAFT_LEADER;
    raft->leader = raft->id;
    raft->suspect = false;
    raft->transfer_to = 0;
    raft->lease_off = false;
    raft->uncommitted_bytes = 0;
    for (uint64_t i = raft->commit + 1; i < next; i++) {
        raft->uncommitted_bytes += raft_tail_entry_bytes(raft_entry_at(raft, i));
    }
    for (unsigned i = 0; i < raft->members.count; i++) {
        raft->progress[i] = (struct raft_progress){
            .next = next, .heard_ns = raft->now_ns, .moved_ns = raft->now_ns};
    }
    raft->term_start = next;
    raft_append_own(raft, (struct slice){0});
    raft->beat_ns = raft->now_ns;
    raft->heartbeat_ns = raft->watch_ns = raft->now_ns + RAFT_HEARTBEAT_NS;
    raft_replicate_all(raft);
}

int raft_propose(struct raft *raft, struct slice command)
{
    if (raft->role != RAFT_LEADER) {
        return -ERR_NOT_LEADER;
    }
    if (raft->transfer_to != 0 || raft->uncommitted_bytes > RAFT_UNCOMMITTED_BYTES_MAX) {
        return -ERR_BUSY;
    }
    raft_append_own(raft, command);
    raft_replicate_all(raft);
    return 0;
}

static uint64_t match_of(const struct raft_progress *progress)
{
    return progress->repairing ? 0 : progress->match;
}

static uint64_t heard_of(const struct raft_progress *progress)
{
    return progress->heard_ns;
}

void raft_maybe_commit(struct raft *raft)
{
    uint64_t reached = raft_voters_reached(raft, raft->saved, match_of);
    uint64_t term;

    /* Only entries of our own term are committed by counting (paper 5.4.2, figure 8). */
    if (reached > raft->commit && raft_tail_term(&raft->tail, reached, &term) &&
        term == raft->term) {
        raft_set_commit(raft, reached);
    }
}

/* A leader that hears no majority for long is one no more (CheckQuorum). */
static bool quorum_lost(struct raft *raft)
{
    uint64_t late = raft->now_ns - raft->watch_ns;

    for (unsigned i = 0; late > RAFT_STALL_NS && i < raft->members.count; i++) {
        /* We were not running: their answers may be waiting. */
        raft->progress[i].heard_ns = min_u64(raft->now_ns, raft->progress[i].heard_ns + late);
    }
    return raft->now_ns - raft_voters_reached(raft, raft->now_ns, heard_of) > RAFT_QUORUM_LOST_NS;
}

void raft_leader_tick(struct raft *raft)
{
    if (raft->now_ns >= raft->watch_ns) {
        if (quorum_lost(raft)) {
            raft_become_follower(raft, raft->term, 0);
            return;
        }
        if (raft->transfer_to != 0 && raft->now_ns >= raft->transfer_deadline_ns) {
            raft->transfer_to = 0;
        }
        raft->watch_ns = raft->now_ns + RAFT_HEARTBEAT_NS;
    }
    if (raft->now_ns >= raft->heartbeat_ns) {
        raft_beat(raft);
    }
}

static void transfer_progress(struct raft *raft, unsigned slot)
{
    if (raft->transfer_to != raft->members.list[slot].id || raft->transfer_sent ||
        raft->progress[slot].match != raft_last(raft)) {
        return;
    }
    raft_emit(raft, RAFT_MESSAGE_TIMEOUT_NOW, raft->transfer_to);
    raft->transfer_sent = true;
    raft->lease_off = true; /* the next leader does not wait for our lease */
}

static bool is_alive(const struct raft *raft, unsigned slot)
{
    return raft->now_ns - raft->progress[slot].heard_ns < RAFT_ELECTION_MIN_NS;
}

/* The voter that lacks least, or ourselves when no other one is heard of. */
static unsigned most_advanced(const struct raft *raft)
{
    unsigned best = raft->self;

    for (unsigned i = 0; i < raft->members.count; i++) {
        if (i != raft->self && is_alive(raft, i) && raft_is_voter(raft, i) &&
            !raft->progress[i].repairing && !raft->progress[i].rebuilding &&
            (best == raft->self || raft->progress[i].match > raft->progress[best].match)) {
            best = i;
        }
    }
    return best;
}

int raft_on_transfer(struct raft *raft, uint32_t to)
{
    int slot = to != 0 ? raft_slot(raft, to) : (int)most_advanced(raft);

    if (raft->role != RAFT_LEADER) {
        return -ERR_NOT_LEADER;
    }
    if (raft->transfer_to != 0) {
        return -ERR_BUSY;
    }
    if (slot < 0 || to == raft->id || !raft_is_voter(raft, (unsigned)slot)) {
        return -EINVAL;
    }
    if (slot == (int)raft->self || !is_alive(raft, (unsigned)slot) ||
        raft->progress[slot].repairing || raft->progress[slot].rebuilding) {
        return -EHOSTDOWN;
    }
    raft->transfer_to = raft->members.list[slot].id;
    raft->transfer_sent = false;
    raft->transfer_deadline_ns = raft->now_ns + RAFT_TRANSFER_NS;
    transfer_progress(raft, (unsigned)slot);
    return 0;
}

/* ---- leader: answers ---- */

static struct raft_progress *heard(struct raft *raft, const struct raft_message *message)
{
    struct raft_progress *progress = &raft->progress[raft_slot(raft, message->from)];

    progress->heard_ns = raft->now_ns;
    if (message->stamp <= raft->last_stamp) {
        progress->acked = max_u64(progress->acked, message->stamp);
    }
    raft_read_confirm(raft);
    return progress;
}

static void on_reject(struct raft *raft, struct raft_progress *progress,
                      const struct raft_message *message)
{
    uint64_t next;

    if (progress->state == RAFT_PROGRESS_SNAPSHOT || message->index <= progress->match) {
        return;
    }
    if (progress->state == RAFT_PROGRESS_PROBE && message->index != progress->next - 1) {
        return; /* answers an older probe */
    }
    next = raft_tail_agree(&raft->tail, message->hint_index, message->hint_term) + 1;
    become_probe(progress, min_u64(next, message->index));
}

void raft_on_append_response(struct raft *raft, const struct raft_message *message)
{
    struct raft_progress *progress;
    unsigned slot = (unsigned)raft_slot(raft, message->from);

    if (raft->role != RAFT_LEADER) {
        return;
    }
    progress = heard(raft, message);
    if (message->index > raft_last(raft)) {
        return; /* no entry of ours: nothing it can be right about */
    }
    raft_repair_heard(progress, message);
    if (message->reject) {
        on_reject(raft, progress, message);
        raft_replicate(raft, slot, /* even_empty= */ true);
        return;
    }
    if (message->index > progress->match) {
        progress->match = message->index;
        progress->moved_ns = raft->now_ns;
    }
    progress->next = max_u64(progress->next, progress->match + 1);
    inflight_free(progress, progress->match);
    if (raft_rebuild_heard(raft, slot, message)) {
        raft_maybe_commit(raft);
        return;
    }
    if (progress->state == RAFT_PROGRESS_PROBE ||
        (progress->state == RAFT_PROGRESS_SNAPSHOT && progress->match >= raft->tail.base_index)) {
        progress->state = RAFT_PROGRESS_REPLICATE;
        progress->next = progress->match + 1;
        progress->inflight_count = 0;
        progress->inflight_bytes = 0;
    }
    raft_maybe_commit(raft);
    raft_replicate(raft, slot, /* even_empty= */ false);
    transfer_progress(raft, slot);
}

/* A follower that answers heartbeats: is what was sent to it lost, or what it had? */
static bool needs_probe(const struct raft *raft, const struct raft_progress *progress)
{
    return progress->inflight_count > 0 ? raft->now_ns - progress->moved_ns > RAFT_RESEND_NS
                                        : progress->repairing;
}

void raft_on_heartbeat_response(struct raft *raft, const struct raft_message *message)
{
    struct raft_progress *progress;
    unsigned slot = (unsigned)raft_slot(raft, message->from);

    if (raft->role != RAFT_LEADER) {
        return;
    }
    progress = heard(raft, message);
    if (raft_rebuild_heard(raft, slot, message)) {
        return;
    }
    if (progress->state == RAFT_PROGRESS_SNAPSHOT) {
        raft->snapshot_to = message->from;
        return;
    }
    raft_repair_heard(progress, message);
    progress->paused = false;
    if (progress->state == RAFT_PROGRESS_REPLICATE && needs_probe(raft, progress)) {
        become_probe(progress, progress->match + 1);
        progress->moved_ns = raft->now_ns;
    }
    if (progress->match < raft_last(raft) || progress->repairing) {
        raft_replicate(raft, slot, progress->state == RAFT_PROGRESS_PROBE);
    }
}

void raft_on_unreachable(struct raft *raft, uint32_t peer)
{
    int slot = raft_slot(raft, peer);

    if (raft->role != RAFT_LEADER || slot < 0 || (unsigned)slot == raft->self) {
        return;
    }
    if (raft->progress[slot].state == RAFT_PROGRESS_REPLICATE) {
        become_probe(&raft->progress[slot], raft->progress[slot].match + 1);
    }
    raft->progress[slot].paused = true; /* until it answers a heartbeat */
}

void raft_on_snapshot_sent(struct raft *raft, uint32_t peer, uint64_t index)
{
    int slot = raft_slot(raft, peer);
    struct raft_progress *progress;

    if (raft->role != RAFT_LEADER || slot < 0 ||
        raft->progress[slot].state != RAFT_PROGRESS_SNAPSHOT) {
        return;
    }
    progress = &raft->progress[slot];
    become_probe(progress, min_u64(index, raft_last(raft)) + 1);
    progress->paused = index == 0; /* failed: again with its next heartbeat */
    raft_replicate(raft, (unsigned)slot, /* even_empty= */ true);
}

/* ---- follower ---- */

static void follow(struct raft *raft, const struct raft_message *message)
{
    ASSERT(message->term == raft->term && raft->role != RAFT_LEADER);
    if (raft->role != RAFT_FOLLOWER || raft->leader != message->from) {
        raft_become_follower(raft, message->term, message->from);
    }
    raft->leader_heard_ns = raft->now_ns;
    raft->suspect = false;
    raft->stalls = 0;
    raft_arm_election(raft);
}

/* The leader may count on entries that we do not have. */
static bool forgets(const struct raft *raft)
{
    return raft->repair || raft->joining;
}

static struct raft_message *answer_append(struct raft *raft, const struct raft_message *message,
                                          uint64_t index)
{
    struct raft_message *answer = raft_emit(raft, RAFT_MESSAGE_APPEND_RESPONSE, message->from);

    answer->index = index;
    answer->stamp = message->stamp;
    answer->repair = forgets(raft);
    answer->rebuild = raft->rebuild;
    answer->after_save = true;
    return answer;
}

/* Takes over what differs. False: it contradicts what is committed here, which no leader does. */
static bool take_entries(struct raft *raft, const struct raft_message *message)
{
    unsigned at = 0;
    uint64_t term;

    while (at < message->entry_count &&
           raft_tail_term(&raft->tail, message->index + 1 + at, &term) &&
           term == message->entries[at].term) {
        at++;
    }
    if (at == message->entry_count) {
        return true;
    }
    if (message->index + 1 + at <= raft->commit) {
        return false;
    }
    TRACE_MARK("entries of an old leader are cut off");
    raft_tail_truncate(&raft->tail, message->index + 1 + at);
    raft_members_truncated(raft);
    raft->saved = min_u64(raft->saved, message->index + at);
    raft->append_first = message->index + 1 + at;
    for (; at < message->entry_count; at++) {
        raft_tail_append(&raft->tail, message->entries[at].term, message->entries[at].command);
        raft_note_entry(raft, message->index + 1 + at, message->entries[at].command);
    }
    return true;
}

static bool sane(const struct raft_message *message)
{
    uint64_t term = message->log_term;
    struct raft_members members;

    for (unsigned i = 0; i < message->entry_count; i++) {
        if (message->entries[i].term < term || message->entries[i].term > message->term) {
            return false;
        }
        if (raft_command_is_members(message->entries[i].command) &&
            raft_members_decode(&members, message->entries[i].command) < 0) {
            return false;
        }
        term = message->entries[i].term;
    }
    return message->index < UINT64_MAX - RAFT_APPEND_ENTRIES_MAX;
}

void raft_on_append(struct raft *raft, const struct raft_message *message)
{
    struct raft_message *answer;
    uint64_t term;

    if (raft->role == RAFT_LEADER || !sane(message)) {
        return; /* two leaders in one term, or terms that go back: not a member's words */
    }
    if (raft_lost_identity(raft, message)) {
        return;
    }
    follow(raft, message);
    if (message->index < raft->commit) {
        raft_repair_progress(raft, message->term, raft->commit);
        answer_append(raft, message, raft->commit);
        return;
    }
    if (!raft_tail_term(&raft->tail, message->index, &term) || term != message->log_term) {
        answer = answer_append(raft, message, message->index);
        answer->reject = true;
        answer->hint_index = raft_tail_agree(&raft->tail, message->index, message->log_term);
        (void)raft_tail_term(&raft->tail, answer->hint_index, &answer->hint_term);
        return;
    }
    if (!take_entries(raft, message)) {
        return;
    }
    raft_set_commit(raft, max_u64(raft->commit,
                                  min_u64(message->commit, message->index + message->entry_count)));
    raft_repair_progress(raft, message->term, message->index + message->entry_count);
    answer_append(raft, message, message->index + message->entry_count);
}

void raft_on_heartbeat(struct raft *raft, const struct raft_message *message)
{
    struct raft_message *answer;

    if (raft->role == RAFT_LEADER || raft_lost_identity(raft, message)) {
        return;
    }
    follow(raft, message);
    if (!forgets(raft)) {
        raft_set_commit(raft, max_u64(raft->commit, min_u64(message->commit, raft_last(raft))));
    }
    answer = raft_emit(raft, RAFT_MESSAGE_HEARTBEAT_RESPONSE, message->from);
    answer->stamp = message->stamp;
    answer->repair = forgets(raft);
    answer->rebuild = raft->rebuild;
}

void raft_on_restored(struct raft *raft, uint64_t index, uint64_t term,
                      const struct raft_members *members)
{
    struct raft_message *answer;
    uint64_t ours;

    if (raft->rebuild) {
        raft_rebuilt(raft, index, term, members);
    }
    if (raft_tail_term(&raft->tail, index, &ours) && ours == term) {
        raft_set_commit(raft, max_u64(raft->commit, index)); /* what follows it here stays */
    } else if (index > raft->commit && raft->role != RAFT_LEADER) {
        raft_tail_reset(&raft->tail, index, term);
        raft->saved = index;
        raft->commit = index;
        raft->did_reset = true;
        raft->base_members = *members;
        raft->base_members_index = index;
        raft_members_adopt(raft, members, index);
    }
    raft_repair_progress(raft, /* leader_term= */ raft->term, index);
    if (raft->role == RAFT_FOLLOWER && raft->leader != 0 && !raft->lost) {
        answer = raft_emit(raft, RAFT_MESSAGE_APPEND_RESPONSE, raft->leader);
        answer->index = raft->commit;
        answer->repair = forgets(raft);
        answer->after_save = true;
    }
}
