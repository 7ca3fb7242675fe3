#pragma once
/*
 * raft: agreement on a log, as a function (Ongaro, Ousterhout 2014; Ongaro's thesis; the shape of
 * etcd-raft). No clock, no disk, no network: raft_step takes one input and says what to do.
 *
 * The contract of the output, in this order:
 *   1. give `save_state` (term, vote) and `append` to the log, in the order of the steps; when all
 *      of it is durable, input SAVED with the last index and term of what was appended;
 *   2. send `send`; those marked after_save only when everything given to the log so far, this
 *      step's included, is durable;
 *   3. apply entries up to `commit`, taken by raft_entry_at;
 *   4. input TICK no later than `deadline_ns`.
 * The output and everything it points to hold until the next call that changes the raft.
 */
#include "base/rng.h"
#include "raft/limits.h"
#include "raft/raft_members.h"
#include "raft/raft_tail.h"

#include <limits.h>

#define RAFT_NOT_MEMBER UINT_MAX

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

enum raft_message_type {
    RAFT_MESSAGE_PRE_VOTE = 1,       /* index, log_term: our last entry; term: what we would use */
    RAFT_MESSAGE_PRE_VOTE_RESPONSE,  /* reject; term: the one asked for, or ours when higher */
    RAFT_MESSAGE_VOTE,               /* as PRE_VOTE; force: leadership was handed over */
    RAFT_MESSAGE_VOTE_RESPONSE,      /* reject */
    RAFT_MESSAGE_APPEND,             /* index, log_term: entry before `entries`; commit; stamp */
    RAFT_MESSAGE_APPEND_RESPONSE,    /* index: match, or when rejected the index refused;
                                        hint_index, hint_term: where to go on; stamp echoed */
    RAFT_MESSAGE_HEARTBEAT,          /* commit (never above the receiver's match); stamp */
    RAFT_MESSAGE_HEARTBEAT_RESPONSE, /* stamp echoed */
    RAFT_MESSAGE_TIMEOUT_NOW,        /* leadership is handed to the receiver */
    RAFT_MESSAGE_TYPE_END
};

struct raft_message {
    enum raft_message_type type;
    uint32_t from;
    uint32_t to;
    uint64_t term;
    uint64_t index;
    uint64_t log_term;
    uint64_t commit;
    uint64_t hint_index;
    uint64_t hint_term;
    uint64_t stamp; /* the leader's clock when it sent what is answered */
    bool reject;
    bool force;
    bool repair; /* APPEND_RESPONSE, HEARTBEAT_RESPONSE: our log was damaged or begins with nothing;
                    this is no acknowledgement, and we may have forgotten earlier ones */
    bool rebuild; /* APPEND_RESPONSE, HEARTBEAT_RESPONSE: our state is gone, our log is not: we need
                     a snapshot (raft_rebuild.c) */
    bool voter;   /* APPEND, HEARTBEAT: the sender's set counts the receiver's vote */
    bool after_save;
    struct slice address; /* VOTE, PRE_VOTE, HEARTBEAT: where the answer goes when the sender is not
                             known; the owner fills it in */
    const struct raft_entry *entries;
    unsigned entry_count;
};

enum raft_input_type {
    RAFT_INPUT_TICK,          /* time has passed */
    RAFT_INPUT_RECEIVE,       /* message: decoded, `to` is us, `from` is a member */
    RAFT_INPUT_PROPOSE,       /* command -> -ERR_NOT_LEADER, -ERR_BUSY */
    RAFT_INPUT_SAVED,         /* index, term: the log is durable up to this entry */
    RAFT_INPUT_READ,          /* read_id -> -ERR_NOT_LEADER, -ERR_BUSY; answered by output.reads */
    RAFT_INPUT_SUSPECT,       /* peer: its connection was reset and a new one refused */
    RAFT_INPUT_UNREACHABLE,   /* peer: what was in flight to it may be lost */
    RAFT_INPUT_SNAPSHOT_SENT, /* peer, index: it holds the snapshot; index 0: it failed */
    RAFT_INPUT_RESTORED, /* index, term, members: the state machine was replaced by a snapshot */
    RAFT_INPUT_TRANSFER, /* peer: hand leadership to it; 0 = to the most advanced voter ->
                            -ERR_NOT_LEADER, -ERR_BUSY, -EINVAL, -EHOSTDOWN */
    RAFT_INPUT_CHANGE,   /* change -> -ERR_NOT_LEADER; -ERR_BUSY: another one is under way;
                            -EAGAIN: PROMOTE of one that lags; -EDEADLK: REMOVE of the leader;
                            -ERR_NO_QUORUM: REMOVE would stop the group; or as
                            raft_members_change says */
};

struct raft_input {
    enum raft_input_type type;
    uint64_t now_ns;
    union {
        const struct raft_message *message;
        struct slice command;
        uint64_t read_id;
        uint32_t peer;
        const struct raft_change *change;
        const struct raft_members *members; /* in effect at `index` */
    };
    uint64_t index;
    uint64_t term;
};

struct raft_read_ready {
    uint64_t id;
    uint64_t index; /* serve once applied up to here */
    int status;     /* 0, or -ERR_NOT_LEADER */
};

struct raft_output {
    bool save_state;
    uint64_t append_first; /* index of append[0]; the log drops what it has from there on */
    const struct raft_entry *append;
    unsigned append_count;
    const struct raft_message *send;
    unsigned send_count;
    const struct raft_read_ready *reads;
    unsigned read_count;
    uint32_t snapshot_to; /* member that needs a snapshot; 0 = none. Repeated by heartbeats */
    uint64_t commit;
    uint64_t deadline_ns;
    bool reset;    /* RESTORED took effect: the log begins anew behind (index, term) */
    bool repaired; /* when what is saved now is durable, the log holds all that it had promised */
};

enum raft_progress_state { RAFT_PROGRESS_PROBE, RAFT_PROGRESS_REPLICATE, RAFT_PROGRESS_SNAPSHOT };

/* What the leader knows of one follower (etcd-raft's Progress). */
struct raft_progress {
    enum raft_progress_state state;
    uint64_t match;
    uint64_t next;
    bool repairing;    /* message.repair of its last answer: match does not count */
    bool rebuilding;   /* message.rebuild of its last answer */
    bool paused;       /* PROBE: one append is under way */
    uint64_t acked;    /* newest stamp it answered in this term */
    uint64_t heard_ns; /* when it last answered in this term */
    uint64_t moved_ns; /* when match last grew, or something was first put in flight */
    unsigned inflight_start;
    unsigned inflight_count;
    uint64_t inflight_bytes;
    struct {
        uint64_t last;
        uint64_t bytes;
    } inflight[RAFT_INFLIGHT_MAX];
};

struct raft_pending_read {
    uint64_t id;
    uint64_t index;
    uint64_t stamp; /* confirmed when a majority answered something stamped so or later */
};

struct raft_config {
    uint32_t id;
    const struct raft_members *members; /* in effect at base_index; none: not known yet */
    bool joining;                       /* we have never been in the group */
    uint64_t seed;
    uint64_t now_ns;
    uint64_t term; /* from the log */
    uint32_t vote;
    uint64_t base_index; /* what the state machine holds; entries follow by raft_load */
    uint64_t base_term;
    bool repair; /* the log was damaged, and had promised up to: */
    uint64_t repair_index;
    uint64_t repair_term;
    bool rebuild; /* the state machine has lost its state: base is where the log begins */
};

struct raft {
    uint32_t id;
    unsigned self;                    /* our slot in members, or RAFT_NOT_MEMBER */
    struct raft_members members;      /* the newest in the log, committed or not */
    uint64_t members_index;           /* of their entry; 0 = they came from the configuration */
    unsigned members_version;         /* rises with each change */
    struct raft_members base_members; /* in effect at the tail's base */
    uint64_t base_members_index;
    bool joining; /* no set has named us yet */
    bool lost;    /* a set names us as a voter, and what we promised as one is gone */
    bool repair;  /* raft_repair.c */
    uint64_t repair_index, repair_term;
    bool rebuild; /* raft_rebuild.c */
    struct rng rng;

    uint64_t term; /* durable when saved: */
    uint32_t vote;
    struct raft_tail tail;
    uint64_t saved;  /* entries up to here are durable */
    uint64_t commit; /* grows only */

    enum raft_role role;
    uint32_t leader;          /* 0 = none known */
    uint64_t now_ns;          /* of the input being handled */
    uint64_t leader_heard_ns; /* 0 = never */
    uint64_t started_ns;
    uint64_t election_ns; /* followers and candidates: campaign then */
    unsigned stalls;      /* election timers re-armed in a row because they came late */
    bool suspect;         /* the leader's process seems dead */
    unsigned suspect_tries;

    bool answered[RAFT_MEMBERS_MAX]; /* candidates: who has voted */
    unsigned granted;
    unsigned refused;

    struct raft_progress progress[RAFT_MEMBERS_MAX]; /* leader */
    uint64_t term_start;                             /* leader: index of our no-op */
    uint64_t heartbeat_ns;                           /* leader: next round */
    uint64_t watch_ns; /* leader: looks then at its quorum and at a transfer; no read moves it */
    uint64_t beat_ns;  /* leader: last round */
    uint64_t uncommitted_bytes; /* leader */
    uint64_t last_stamp;
    uint32_t transfer_to; /* 0 = no transfer under way */
    bool transfer_sent;
    bool lease_off; /* a TIMEOUT_NOW was sent in this term */
    uint64_t transfer_deadline_ns;
    struct raft_pending_read *pending; /* oldest first */
    unsigned pending_count;
    unsigned pending_capacity;

    /* Collected during one step. */
    bool state_dirty;
    bool did_reset;
    bool did_repair;
    uint64_t append_first; /* 0 = nothing appended */
    struct raft_message *send;
    unsigned send_count;
    unsigned send_capacity;
    struct raft_read_ready *ready;
    unsigned ready_count;
    unsigned ready_capacity;
    uint32_t snapshot_to;
};

void raft_init(struct raft *raft, const struct raft_config *config);
void raft_deinit(struct raft *raft);
/* Recovery, before the first step: the next entry of the durable log. */
void raft_load(struct raft *raft, uint64_t term, struct slice command);

/* 0, or for PROPOSE, READ and TRANSFER why not (the output is valid all the same). PROPOSE: the
 * entry's index is raft_last afterwards. */
int must_check raft_step(struct raft *raft, const struct raft_input *input,
                         struct raft_output *out_output);

/* Entries up to `index` (committed and applied) leave the memory, but for the newest `keep_bytes`
 * of them. */
void raft_compact(struct raft *raft, uint64_t index, uint64_t keep_bytes);
uint64_t raft_last(const struct raft *raft);
const struct raft_entry *raft_entry_at(const struct raft *raft, uint64_t index);
/* A leader that, at now_ns, can be sure that nobody else leads. */
bool raft_lease_good(const struct raft *raft, uint64_t now_ns);
/* Leader, and an entry of its term is committed: reads make sense. */
bool raft_leader_ready(const struct raft *raft);
/* Walks everything; for tests. Asserts. */
void raft_check(const struct raft *raft);
