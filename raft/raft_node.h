#pragma once
/*
 * raft_node: one member of a Raft group at work: it owns the pure core (raft/raft.h), the log on
 * disk (raft/raft_log.h), one connection to each other member, and the timers.
 *
 *     raft_node_open(&node, env, &config, &machine);
 *     raft_node_propose(&node, command, &index);     machine->apply(index) follows when committed
 *     raft_node_read(&node, &read);                  1: serve now; 0: read.done() will run
 *     raft_node_compacted(&node, checkpoint_index);  the log up to there is not needed any more
 *     raft_node_close(&node);
 *
 * The machine is called from the loop, never from inside raft_node_propose or raft_node_read. A
 * failed write or sync of the log ends the process (env_fatal).
 */
#include "net/rpc.h"
#include "raft/limits.h"
#include "raft/raft.h"
#include "raft/raft_log.h"
#include "raft/raft_proto.h"

struct raft_peer_config {
    uint32_t id; /* 1.. */
    const char *address;
};

struct raft_node_config {
    const struct rpc_identity *identity; /* cluster uuid, our node id; outlives the node */
    const char *dir;                     /* of the log; created when missing */
    /* Copied. Without `members`: the group, ourselves included; with them: addresses that are newer
     * than theirs. */
    const struct raft_peer_config *peers;
    unsigned peer_count; /* 1..RAFT_MEMBERS_MAX */
    /* That the state machine's checkpoint holds. NULL: none, `peers` are the group; an empty set:
     * the log or a leader will tell. */
    const struct raft_members *members;
    bool joining;           /* we were never in the group; `peers` are not it */
    uint64_t applied_index; /* what the state machine's checkpoint holds */
    uint64_t applied_term;  /* term of that entry */
    bool state_lost; /* the checkpoint is gone, the log is not: applied_index is 0, and a snapshot
                        is needed unless the log goes back to the first entry */
    uint64_t log_segment_bytes; /* 0 = RAFT_LOG_SEGMENT_BYTES */
};

/* The state after the entry (index, term). */
struct raft_snapshot {
    uint64_t index;
    uint64_t term;
    uint64_t bytes; /* that it takes on a disk, about */
};

/* The replicated state machine; implemented by the owner, embedded in its struct. */
struct raft_machine {
    /* In order, committed, exactly once per start. An empty command is a leader's no-op. */
    void (*apply)(struct raft_machine *machine, uint64_t index, uint64_t term,
                  struct slice command);
    /* The same, for an entry that says who belongs to the group. The command is what `members` has
     * to be made from at the next start. */
    void (*members_changed)(struct raft_machine *machine, uint64_t index, uint64_t term,
                            const struct raft_members *members, struct slice command);
    /* What members_changed told last, as far as the state holds it; count 0: never. */
    void (*members)(struct raft_machine *machine, struct raft_members *out_members);
    /* is_leader is true only after the no-op of our term has been applied. leader_id 0 = none
     * known. Told of every change of (is_leader, term, leader). */
    void (*role_changed)(struct raft_machine *machine, bool is_leader, uint64_t term,
                         uint32_t leader_id);
    /* A whole-state stream for a member that is too far behind. At most one outgoing and one
     * incoming at a time. Reading: frames of at most RAFT_SNAPSHOT_FRAME_MAX; empty = end. The
     * cursor's state is that of *out_index, whatever is applied meanwhile. */
    int (*snapshot_begin)(struct raft_machine *machine, struct raft_snapshot *out_snapshot,
                          void **out_cursor);
    int (*snapshot_read)(struct raft_machine *machine, void *cursor, struct buf *out_frame);
    void (*snapshot_end)(struct raft_machine *machine, void *cursor);
    /* Until restore_finish the old state stays and goes on: the stream may break off for good when
     * another leader has the entries themselves. What is finished is always newer than what was
     * applied. A restore that breaks off is begun anew with restore_begin, which refuses with
     * -ENOSPC what will not fit. restore_finish: durable when it returns 0. */
    int (*restore_begin)(struct raft_machine *machine, const struct raft_snapshot *snapshot);
    int (*restore_write)(struct raft_machine *machine, struct slice frame);
    int (*restore_finish)(struct raft_machine *machine);
};

/* A linearizable read: done(0) once everything committed before raft_node_read is applied;
 * done(-ERR_NOT_LEADER) when leadership was lost meanwhile. */
struct raft_read {
    void (*done)(struct raft_read *read, int status);
    struct list_node node; /* the rest is raft_node's */
    uint64_t id;
    uint64_t index;
};

/* The other side of one connection to a member, or for a while to somebody who asked for our vote
 * and whom we do not know as one. */
struct raft_link {
    struct list_node list_node;
    struct raft_node *node;
    uint32_t id;
    struct rpc_peer peer;
    bool was_up; /* connected since it was last reported unreachable */
    bool closing;
    uint64_t guest_until_ns; /* not a member; 0 = a member, or one that has just gone */
};

/* What waits until the log is durable up to a ticket: a message, or (to is 0) the news for the core
 * that its entries up to (index, term) are. */
struct raft_held {
    struct list_node node;
    uint64_t ticket;
    uint32_t to;
    struct buf body;
    uint64_t index;
    uint64_t term;
};

/* The one outgoing snapshot stream. */
struct raft_snapshot_out {
    bool active;
    uint32_t wanted; /* member that needs one; 0 = none */
    uint32_t to;
    void *cursor;
    struct raft_snapshot what;
    uint64_t leader_term; /* a stream ends with the leadership */
    uint64_t stream_id;
    uint64_t frame_no;        /* of the frame in flight */
    uint64_t sent_bytes;      /* before it */
    uint64_t began_ns;        /* with sent_bytes it gives the pace */
    uint64_t broken_since_ns; /* the frame in flight was lost then; 0 = not */
    uint64_t pause_until_ns;  /* no stream begins before */
    bool last;                /* the end frame is in flight */
    struct env_timer pace;
    uint64_t resumed; /* counter: frames that arrived after they were lost */
    struct buf frame;
    struct buf body;
    struct rpc_call call;
};

/* The one incoming snapshot stream. */
struct raft_snapshot_in {
    bool active;
    uint32_t from;
    uint64_t stream_id;
    uint64_t next_frame;
    struct raft_snapshot what;
};

struct raft_node {
    struct env *env;
    const struct rpc_identity *identity;
    struct raft_machine *machine;
    struct raft raft;
    struct raft_log log;
    struct raft_peer_config *peers; /* as configured; ours */
    unsigned peer_count;
    struct list links;      /* raft_link */
    unsigned links_version; /* of raft.members that they were made for */
    bool told_lost;
    struct env_timer tick;
    struct env_timer turn; /* fires at the next turn of the loop: apply, reads */
    uint64_t repaired;     /* the log is whole again when it is durable up to this ticket; 0 = is */
    struct list held;      /* raft_held, by ticket */
    uint64_t held_count;
    struct list reads; /* raft_read: waiting for confirmation or apply */
    uint64_t next_read_id;
    uint64_t read_count;
    uint64_t applied;
    uint64_t applied_term;
    uint64_t compacted; /* what the owner's checkpoint holds */
    bool told_leader;   /* last role_changed */
    uint64_t told_term;
    uint32_t told_leader_id;
    struct raft_snapshot_out snapshot_out;
    struct raft_snapshot_in snapshot_in;
    bool opened;
    bool closing;
};

/* Blocks while it recovers the log. -ERR_WRONG_CLUSTER, -ERR_WRONG_NODE, -ERR_BAD_FORMAT,
 * -ERR_CORRUPT: the directory is not ours or damaged; the log line names the file. */
int must_check raft_node_open(struct raft_node *node, struct env *env,
                              const struct raft_node_config *config, struct raft_machine *machine);
/* Waiting reads end with -ERR_NOT_LEADER, within the call. The memory must live until
 * raft_node_closed is true (connections and writes end from the loop). */
void raft_node_close(struct raft_node *node);
bool raft_node_closed(const struct raft_node *node);

/* The command is copied. -ERR_NOT_LEADER; -ERR_BUSY above RAFT_UNCOMMITTED_BYTES_MAX. */
int must_check raft_node_propose(struct raft_node *node, struct slice command, uint64_t *out_index);
/* 1: the lease is good and everything committed is applied: serve now, check raft_node_lease_good
 * after reading if the read took long. 0: done() will run. -ERR_NOT_LEADER, -ERR_BUSY. */
int must_check raft_node_read(struct raft_node *node, struct raft_read *read);
/* done() will not run. */
void raft_node_read_cancel(struct raft_node *node, struct raft_read *read);
bool raft_node_lease_good(struct raft_node *node);

/* The rpc handler of the owner passes requests with these opcodes here, which consumes them. */
bool raft_node_is_raft_opcode(uint16_t opcode);
void raft_node_receive(struct raft_node *node, struct rpc_request *request);

/* One way to another member, over the connection that Raft uses; dropped when there is none. */
void raft_node_oneway(struct raft_node *node, uint32_t to, uint16_t opcode, struct slice body);

/* The owner's checkpoint holds everything up to `index` durably. */
void raft_node_compacted(struct raft_node *node, uint64_t index);
/* Hands leadership to a member (0 = the most advanced one). 0: it is on its way, proposals are
 * refused with -ERR_BUSY until role_changed tells the outcome, or RAFT_TRANSFER_NS has passed.
 * -ERR_NOT_LEADER; -ERR_BUSY: one is on its way; -EINVAL: not another member; -EHOSTDOWN: it (or
 * every one) has not been heard of. */
int must_check raft_node_transfer(struct raft_node *node, uint32_t to);
/* Begins a change of the group, see RAFT_INPUT_CHANGE; it is done when machine.members_changed says
 * so for *out_index. */
int must_check raft_node_change(struct raft_node *node, const struct raft_change *change,
                                uint64_t *out_index);

/* Where the member is to be found. */
const char *raft_node_address(const struct raft_node *node, const struct raft_member *member);

struct raft_peer_status {
    uint32_t id; /* ours too */
    const char *address;
    bool voter;
    uint64_t match;
    uint64_t next;
    uint64_t heard_ns; /* env_now of its last message; 0 = never */
    bool connected;
    bool snapshot;   /* needs or receives one */
    bool repairing;  /* its log was damaged */
    bool rebuilding; /* its state was damaged */
};

struct raft_node_status {
    enum raft_role role;
    bool leader_ready; /* leads, and the no-op of its term is applied */
    bool joining, lost;
    bool repair;  /* its log was damaged and is not whole yet */
    bool rebuild; /* its state was damaged and a snapshot has not come yet */
    uint64_t term;
    uint32_t leader_id;
    uint64_t commit;
    uint64_t applied;
    uint64_t first; /* oldest entry in memory */
    uint64_t last;
    uint64_t saved;
    unsigned peer_count;
    struct raft_peer_status peers[RAFT_MEMBERS_MAX];
};

void raft_node_status(const struct raft_node *node, struct raft_node_status *out_status);
