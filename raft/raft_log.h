#pragma once
/*
 * raft_log: the durable log in preallocated, pre-zeroed segments (raft/raft_log_format.h).
 *
 *     raft_log_open(&log, env, &config, &recovered);      blocks
 *     ticket = raft_log_append(&log, first, entries, count, &state);
 *     ... log.saved(log, ticket) runs once everything up to the ticket is durable
 *
 * Group commit: what is appended while a sync runs goes into the next write and sync, as one
 * record. Appending entries at an index that exists replaces the suffix from there. A failed write
 * or sync, or a disk too full for the next segment, ends the process.
 *
 * A log that is damaged where it was durable is cut before the damage, and what it had promised is
 * kept in the file `repair`, until raft_log_repaired: raft/raft_repair.c says what the owner may do
 * meanwhile.
 */
#include "base/env.h"
#include "base/metrics.h"
#include "raft/limits.h"
#include "raft/raft_tail.h"

struct raft_log_config {
    const char *dir; /* created when missing */
    uint8_t cluster_uuid[16];
    uint32_t node_id;
    uint32_t group;
    uint64_t segment_bytes; /* 0 = RAFT_LOG_SEGMENT_BYTES */
    /* Entries up to here are in the state machine; when the log ends before, or disagrees, it
     * begins anew behind this entry. */
    uint64_t base_index;
    uint64_t base_term;
    bool state_lost; /* the state machine holds nothing: the log is kept as far back as it goes */
    bool may_repair; /* others have what is damaged; otherwise a damaged log is refused */
};

struct raft_hard_state {
    uint64_t term;
    uint32_t vote;
};

/* A damaged log has promised so much: no vote in a term below, entries up to the index. */
struct raft_repair {
    bool wanted;
    uint64_t term;
    uint64_t index;
};

/* What recovery found: the newest hard state, and the entries behind base_index, in order. */
struct raft_log_recovered {
    struct raft_hard_state state;
    struct raft_tail tail;
    struct raft_repair repair;
};

struct raft_log_segment {
    struct list_node node;
    uint64_t seq;
    uint64_t last_index; /* largest index of an entry in it; 0 = none */
    char *path;
};

enum raft_log_spare_state {
    RAFT_LOG_SPARE_RENAME,   /* an old segment loses its name ... */
    RAFT_LOG_SPARE_SYNC_DIR, /* ... durably, before its contents go */
    RAFT_LOG_SPARE_OPEN,
    RAFT_LOG_SPARE_ZERO,
    RAFT_LOG_SPARE_SYNC,
    RAFT_LOG_SPARE_CLOSE,
    RAFT_LOG_SPARE_READY,
    RAFT_LOG_SPARE_UNLINK,
};

/* A spare segment in preparation, or ready. */
struct raft_log_spare {
    struct list_node node;
    struct raft_log *log;
    enum raft_log_spare_state state;
    char *path;
    char *old_path; /* of the segment it was; NULL = a new file */
    struct env_file *file;
    struct env_io io;
    struct iovec iov;
    uint64_t zeroed;
};

/* The writer: one write and sync at a time; between segments, the steps of a switch. */
enum raft_log_step {
    RAFT_LOG_IDLE,
    RAFT_LOG_WRITE,
    RAFT_LOG_SYNC,
    RAFT_LOG_WAIT_SPARE,
    RAFT_LOG_SWITCH_OPEN,
    RAFT_LOG_SWITCH_WRITE, /* header and hard state */
    RAFT_LOG_SWITCH_SYNC,
    RAFT_LOG_SWITCH_RENAME,
    RAFT_LOG_SWITCH_SYNC_DIR,
    RAFT_LOG_SWITCH_CLOSE, /* the old one */
    RAFT_LOG_CLOSE,
    RAFT_LOG_CLOSED,
};

struct raft_log {
    struct env *env;
    struct raft_log_config config;
    char *dir;
    struct env_file *lock;
    /* Everything up to this ticket is durable. Runs from the loop. */
    void (*saved)(struct raft_log *log, uint64_t ticket);
    void *data; /* the owner's */

    struct list segments; /* raft_log_segment, oldest first; the last one is written */
    struct env_file *file;
    uint64_t offset;   /* where the next record goes */
    uint64_t synced;   /* bytes of the segment that are durable */
    uint64_t vouched;  /* bytes of the segment of which a later record says so */
    uint32_t prev_crc; /* of the last record in this segment; 0 = none */
    uint64_t spare_no; /* for names */
    uint64_t last_index;
    struct raft_hard_state state; /* newest given to append */

    struct list spares; /* raft_log_spare, in any state */
    unsigned spare_count;

    struct buf batch; /* records of the next write; until then synced_upto is their ticket */
    uint64_t ticket;  /* of the newest append */
    uint64_t durable; /* everything up to this ticket is */
    struct buf writing;
    uint64_t writing_ticket;
    enum raft_log_step step;
    struct iovec iov;
    struct env_io io;
    struct raft_log_segment *next; /* switching to */
    struct raft_log_spare *next_spare;
    struct env_file *next_file;
    bool closing;
    uint64_t writes; /* counter: group commits */
    uint64_t write_started_ns;
    struct metrics_histogram sync_seconds; /* of a group commit: write and sync */
};

/* -ERR_WRONG_CLUSTER, -ERR_WRONG_NODE, -ERR_BAD_FORMAT, -ERR_CORRUPT, or an errno; logged. The
 * caller owns out_recovered->tail. */
int must_check raft_log_open(struct raft_log *log, struct env *env,
                             const struct raft_log_config *config,
                             struct raft_log_recovered *out_recovered);
/* Submits `count` entries from index `first` and, unless NULL, a hard state. Copies. Returns the
 * ticket. */
uint64_t raft_log_append(struct raft_log *log, uint64_t first, const struct raft_entry *entries,
                         unsigned count, const struct raft_hard_state *state);
/* The log begins anew behind (index, term): a snapshot was restored. */
uint64_t raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term);
/* Entries up to `index` are not needed: whole segments are recycled. */
void raft_log_compact(struct raft_log *log, uint64_t index);
/* Everything that the damaged log had promised is durable again. Blocks. */
void raft_log_repaired(struct raft_log *log);
/* What is not durable yet is dropped. The memory must live until raft_log_closed. */
void raft_log_close(struct raft_log *log);
bool raft_log_closed(const struct raft_log *log);
