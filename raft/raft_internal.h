#pragma once
/* raft_internal: what the files of the pure core call in each other. */
#include "base/assert.h"
#include "base/err.h"
#include "raft/quorum.h"
#include "raft/raft.h"

/* raft.c */
struct raft_message *raft_emit(struct raft *raft, enum raft_message_type type, uint32_t to);
void raft_emit_ready(struct raft *raft, uint64_t id, uint64_t index, int status);
void raft_set_commit(struct raft *raft, uint64_t commit);
/* Slot of a member, or -1. */
int raft_slot(const struct raft *raft, uint32_t id);

/* raft_change.c */
unsigned raft_voters(const struct raft *raft);
bool raft_is_voter(const struct raft *raft, unsigned slot);
/* Do we vote, and ask for votes? */
bool raft_may_vote(const struct raft *raft);
/* The largest value that a majority of voters has reached; `own` is ours. */
uint64_t raft_voters_reached(const struct raft *raft, uint64_t own,
                             uint64_t (*value)(const struct raft_progress *progress));
void raft_members_adopt(struct raft *raft, const struct raft_members *members, uint64_t index);
/* The entry is in the log: if it is a set of members, it counts from now on. */
void raft_note_entry(struct raft *raft, uint64_t index, struct slice command);
/* Entries were dropped from the end. */
void raft_members_truncated(struct raft *raft);
/* Entries up to `index` are about to leave the memory. */
void raft_members_compact(struct raft *raft, uint64_t index);
/* A leader's message to us: we join, and our vote is counted already. We are lost then. */
bool raft_lost_identity(struct raft *raft, const struct raft_message *message);
int raft_propose_change(struct raft *raft, const struct raft_change *change);

/* raft_rebuild.c */
/* Leader: a follower has answered. True: it waits for a snapshot, and for nothing else. */
bool raft_rebuild_heard(struct raft *raft, unsigned slot, const struct raft_message *message);
/* Our state is that of a snapshot again. */
void raft_rebuilt(struct raft *raft, uint64_t index, uint64_t term,
                  const struct raft_members *members);

/* raft_election.c */
void raft_become_follower(struct raft *raft, uint64_t term, uint32_t leader);
void raft_arm_election(struct raft *raft);
void raft_campaign(struct raft *raft, bool force);
void raft_pre_campaign(struct raft *raft);
void raft_election_tick(struct raft *raft);
/* A leader was heard so recently that nobody may be elected. */
bool raft_leader_protected(const struct raft *raft);
void raft_on_vote(struct raft *raft, const struct raft_message *message);
void raft_on_vote_response(struct raft *raft, const struct raft_message *message);
void raft_on_suspect(struct raft *raft, uint32_t peer);

/* raft_replicate.c */
void raft_become_leader(struct raft *raft);
int raft_propose(struct raft *raft, struct slice command);
void raft_leader_tick(struct raft *raft);
void raft_beat(struct raft *raft);
uint64_t raft_next_stamp(struct raft *raft);
void raft_maybe_commit(struct raft *raft);
void raft_on_append(struct raft *raft, const struct raft_message *message);
void raft_on_heartbeat(struct raft *raft, const struct raft_message *message);
void raft_on_append_response(struct raft *raft, const struct raft_message *message);
void raft_on_heartbeat_response(struct raft *raft, const struct raft_message *message);
void raft_on_unreachable(struct raft *raft, uint32_t peer);
void raft_on_snapshot_sent(struct raft *raft, uint32_t peer, uint64_t index);
void raft_on_restored(struct raft *raft, uint64_t index, uint64_t term,
                      const struct raft_members *members);
int must_check raft_on_transfer(struct raft *raft, uint32_t to);
void raft_append_own(struct raft *raft, struct slice command);
void raft_replicate_all(struct raft *raft);
/* Sends what the follower may get now; `even_empty`: at least one message. */
void raft_replicate(struct raft *raft, unsigned slot, bool even_empty);

/* raft_repair.c */
/* What the leader of the message has told up to `index` is in our log as it is in its. */
void raft_repair_progress(struct raft *raft, uint64_t leader_term, uint64_t index);
/* A member whose log was damaged says how far it agrees. */
void raft_repair_heard(struct raft_progress *progress, const struct raft_message *message);

/* raft_read.c */
int raft_read_begin(struct raft *raft, uint64_t read_id);
void raft_read_confirm(struct raft *raft);
void raft_read_fail(struct raft *raft);
