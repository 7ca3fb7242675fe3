#pragma once
/*
 * sim_world: one simulated cluster: its servers, its clients, what they are put through, and what
 * is known of them. One world at a time, in a process of its own (a world leaks what its dead
 * leave).
 */
#include "chunkstore/chunk_server.h"
#include "fs/atime.h"
#include "fs/mount_settings.h"
#include "meta/meta_server.h"
#include "tests/sim/env_sim.h"
#include "tests/sim/sim_model.h"
#include "tests/sim/sim_process.h"

#define SIM_METAS_MAX     5
#define SIM_CHUNKS_MAX    6
#define SIM_CLIENTS_MAX   4 /* and the one that looks at the end */
#define SIM_PROCESSES_MAX 4 /* programs at once on one client */
#define SIM_ADDRESS_MAX   24
#define SIM_ALIVE_NS      (60 * NS_PER_S) /* a call ends in this time, once all is healed */

struct mount;
struct kernel;

struct sim_options {
    uint64_t seed;
    uint64_t minutes; /* of trouble; 0 = drawn */
    bool trace;
    bool small; /* the smallest topology */
};

/* A machine for a metadata server. */
struct meta_node {
    struct meta_server *server; /* NULL = not running */
    uint32_t id;                /* 0 = nobody has this place now */
    bool joins;                 /* it was not there at the beginning */
    struct rpc_identity identity;
    char address[SIM_ADDRESS_MAX];
};

struct chunk_node {
    struct chunk_server *server;
    struct rpc_identity identity;
    const char *meta_addresses[SIM_METAS_MAX]; /* those of when it was started */
    char address[SIM_ADDRESS_MAX];
    char zone[16];
};

struct client {
    unsigned slot; /* 0.. */
    unsigned node;
    uint32_t incarnation; /* of all clients ever, 1.. */
    struct mount *mount;  /* NULL = not running */
    struct kernel *kernel;
    struct program *programs[SIM_PROCESSES_MAX];
    bool ready, closed;
    unsigned returning; /* calls that are answered, whose programs have not run since */
    uint64_t next_tag;
};

/* What happened, by kind: printed. */
/* clang-format off */
#define SIM_WORK(X)                                                                                \
    X(calls) X(errors) X(applied) X(reads_checked) X(reads_skipped) X(fsyncs) X(cells_checked)     \
    X(promises) X(promises_kept) X(cached_names) X(cached_attrs) X(pushed_pages)                   \
    X(locks_granted) X(guarded_reads) X(appends) X(appends_synced) X(appends_again)

/* Trouble that was met, and what got over it: required not to be zero over the listed seeds. */
#define SIM_TROUBLE(X)                                                                             \
    X(kills) X(powers) X(restarts) X(meta_down) X(chunk_down) X(client_down) X(elections)          \
    X(cuts) X(one_way_cuts) X(slow_links) X(resets) X(resends)                                     \
    X(pauses) X(long_pauses) X(wall_jumps) X(clocks_off) X(sessions_lost) X(interrupts)            \
    X(read_errors) X(write_errors) X(sync_errors) X(died) X(full_disks) X(no_space)                \
    X(torn_files) X(lost_names) X(rot) X(lost_writes) X(misdirected_writes) X(wipes) X(repairs)    \
    X(hints) X(joins) X(owners_settled) X(meta_replaced) X(meta_added) X(meta_removed)             \
    X(transfers) X(buggified) X(allocations) X(copies) X(seeks) X(tmpfiles_linked)                 \
    X(lock_waits) X(lock_refusals) X(deadlocks) X(lock_refreshes) X(locks_lost)               \
    X(appends_moved) X(appends_floated)

#define SIM_COUNTS(X) SIM_WORK(X) SIM_TROUBLE(X)
/* clang-format on */

struct sim_counts {
#define SIM_COUNT_MEMBER(name) uint64_t name;
    SIM_COUNTS(SIM_COUNT_MEMBER)
#undef SIM_COUNT_MEMBER
};

struct world {
    struct sim_options options;
    struct sim *sim;
    struct rng buggify_rng;
    struct rng rng;      /* of workload and faults: the same whatever the nodes draw */
    unsigned meta_count; /* places for metadata servers, taken or not */
    unsigned chunk_count, client_count;
    struct meta_node metas[SIM_METAS_MAX];
    struct chunk_node chunks[SIM_CHUNKS_MAX];
    struct client clients[SIM_CLIENTS_MAX + 1];
    uint32_t incarnations;
    unsigned write_quorum;
    unsigned map_servers; /* the first cluster map is made of so many */
    struct meta_settings meta_settings;
    struct chunk_settings chunk_settings;
    struct mount_settings mount_settings;
    enum atime_policy atime; /* of all mounts */
    struct model model;
    struct sim_counts counts;
    uint64_t trouble_until_ns;
    unsigned
        bad_chunk; /* the one chunk server whose disk spoils what it holds; none: chunk_count */
    bool lossy;    /* a disk is full: what was not synced may get lost, and is told */
    uint64_t healed_ns;
    bool healed;   /* no more trouble: every call must end */
    bool stopping; /* programs end after the call in hand */
    uint64_t trace_digest;
};

extern struct world *world;

/* ---- sim_trace.c ---- */
/* One line of the trace: printed with --trace, always part of the digest. */
void trace(const char *format, ...) printf_like(1, 2);
/* A promise is broken: says what, how to see it again, and ends the process. */
_Noreturn void violation(const char *format, ...) printf_like(1, 2);
void trace_attach(struct world *world);

/* ---- sim_cluster.c ---- */
extern const char cluster_uuid[16];
void cluster_draw(void);
void cluster_start(void);
unsigned meta_node_of(unsigned i);
unsigned chunk_node_of(unsigned i);
void meta_start(unsigned i);
void chunk_start(unsigned i);
void meta_kill(unsigned i, enum sim_crash_kind kind);
void chunk_kill(unsigned i, enum sim_crash_kind kind);
/* It has ended: what it has counted is the world's. */
void chunk_gone(unsigned i);
void client_start(unsigned slot);
void client_kill(unsigned slot, enum sim_crash_kind kind);
/* All that are mounted; waits until they are closed. */
void clients_close(void);
/* The metadata server that leads, or NULL. */
struct meta_server *cluster_leader(void);
/* Runs the world up to then: events, programs, trouble. */
void world_run(uint64_t until_ns);
/* ... until it is so. Violation `what` after `within_ns`. */
void world_run_until(bool (*is_so)(void), uint64_t within_ns, const char *what);

/* ---- sim_program.c ---- */
struct program {
    struct client *client;
    struct kernel *kernel;
    unsigned number;
    struct process *process;
    char doing[96]; /* empty = between two calls */
    uint64_t since_ns;
};
void program_start(struct client *client, void (*main)(void *program));
void program_begins(struct program *program, const char *format, ...) printf_like(2, 3);
void program_ends(struct program *program, int64_t r);
void programs_drop(struct client *client); /* they died with their client */
bool programs_ended(void);
/* Runs those that can; when the next one can by itself. */
void programs_run(void);
uint64_t programs_wake_ns(void);
/* Every call must end `within_ns`. */
void programs_check_alive(uint64_t within_ns);

/* ---- sim_workload.c ---- */
void workload_start(struct client *client);

/* ---- sim_workload_space.c ---- */
struct kfile;
struct knode;
/* Now and then: allocates, copies, or looks for holes in the open file. */
void workload_space(struct program *program, struct kfile *file);
/* Now and then: a file that has no name, and may get one. */
void workload_tmpfile(struct program *program, struct knode *dir);

/* ---- sim_workload_lock.c ---- */
/* Now and then: takes locks, of files below the directory or of those that all lock. */
void workload_locks(struct program *program, struct knode *dir);

/* ---- sim_workload_append.c ---- */
/* Now and then: appends to the files that everybody appends to, and reads them. */
void workload_appends(struct program *program);

/* ---- sim_faults.c ---- */
void faults_draw(void);
void faults_run(void);
uint64_t faults_wake_ns(void);
/* After each event. */
void faults_notice(void);
void faults_heal(void);
/* A node that is down starts again in a while. */
void faults_comes_back(unsigned node);
/* It does not, if it was to. */
void faults_stays_down(unsigned node);

/* ---- sim_members.c: the metadata group changes ---- */
void members_draw(void);
void members_run(void);
uint64_t members_wake_ns(void);
/* What was begun is done, and nothing more is. */
bool members_ended(void);

/* ---- sim_faults_disk.c ---- */
void disks_draw(void);
void disks_trouble(void);
void disks_heal(void);
/* May this node log an error, because its disk fails? */
bool faults_excuse(unsigned node);

/* ---- sim_witness.c: what the log says ---- */
void witness_watch_meta(struct meta_server *server);
/* A new leader's log has everything that anybody has applied. */
void witness_check_complete(const struct raft *raft);
void witness_client_gone(const struct client *client);
/* Operations that this client's mount has answered by itself so far; and that the service has
 * answered since. */
uint64_t witness_ops_started(const struct client *client);
uint64_t witness_ops_told(const struct client *client);
/* Is there a change of names or attributes that it waits for? */
bool witness_asking(const struct client *client);
/* The least index that a call beginning now must reflect. */
uint64_t witness_floor(void);
/* A system call returns that the service has answered as of this index. Others know it from now on.
 */
void witness_returned(uint64_t index);
uint64_t witness_known(void);

/* ---- sim_promise.c: what mounts answer by themselves ---- */
/* An operation was applied. */
void promise_applied(const struct meta_request *request);
/* A mutation of this client sets out. */
void promise_started(const struct client *client, uint64_t session);
/* LOOKUP (dir, name) or GETATTR (dir 0) was answered without asking. error: 0 or negative. */
void promise_made(const struct client *client, uint64_t dir, const char *name, int error,
                  const struct meta_attr *attr);
/* A kernel uses what it has cached: as good as an answer that is given now. */
void check_cached_name(const struct client *client, uint64_t dir, const char *name, uint64_t ino);
void check_cached_attr(const struct client *client, const struct meta_attr *attr, uint64_t floor);
/* Operations of anybody else so far. */
uint64_t promise_others(const struct client *client);

/* ---- sim_data.c: what files hold ---- */
struct data_mark; /* what an fsync that begins now must make durable */
struct data_read {
    uint64_t ino;
    uint64_t floor; /* what was replaced at this index or before may not be seen */
    uint64_t began_ns;
    uint64_t changes; /* UINT64_MAX: one is under way */
};
uint64_t data_next_tag(struct client *client);
/* Has it written what is not committed? */
bool data_pending(const struct client *client, uint64_t ino);
/* Around each write and truncate: a read beside it may see either. */
void data_change_begin(struct client *client, uint64_t ino);
void data_change_end(struct client *client, uint64_t ino);
void data_wrote(struct client *client, uint64_t ino, uint64_t offset, uint64_t size, uint64_t tag);
void data_truncated(struct client *client, uint64_t ino, uint64_t size);
/* The same of [from, to): a hole, or a copy of something else. */
void data_replaced(struct client *client, uint64_t ino, uint64_t from, uint64_t to);
/* A truncate has ended so: interrupted, it may still happen, and reads may see either from now on.
 */
void data_unsure(struct client *client, uint64_t ino, int error);
/* The program was told that what it wrote is lost. */
void data_error(struct client *client, uint64_t ino, int error);
struct data_mark *data_sync_begin(struct client *client, uint64_t ino);
void data_sync_end(struct client *client, struct data_mark *mark, int error);
struct data_read data_read_begin(const struct client *client, uint64_t ino, uint64_t floor);
void data_read_end(const struct client *client, const struct data_read *read, uint64_t offset,
                   struct slice bytes);
void data_client_gone(struct client *client);

/* ---- sim_append.c: appends, by what programs were told ---- */
/* One WRITE of so many cells sets out; and has this outcome. */
struct model_append *append_begin(struct client *client, uint64_t ino, uint32_t cells);
void append_end(struct model_append *append, int error);
/* What the client has appended and not synced need not be made: it was told so, or it is cut off,
 * or may be written over. */
void appends_lost(const struct client *client, uint64_t ino);
/* May some not be made yet? */
bool appends_pending(const struct client *client, uint64_t ino);
/* Around an fsync: how many it is about. */
size_t appends_sync_begin(const struct client *client, uint64_t ino);
void appends_sync_end(const struct client *client, uint64_t ino, size_t count);
/* May it be read at another place than the log has it? Its own mount has it where it was thought to
 * go, until an fsync has told that it is made. */
bool append_may_float(const struct client *client, const struct data_read *read, uint64_t tag);
/* What was synced is there. */
void appends_check_end(void);

/* ---- sim_lock.c: advisory locks, by what programs were told ---- */
/* The call begins: it may give up what it would change. */
void locks_asked(const struct client *client, uint64_t ino, const struct meta_lock *lock);
/* The kernel is told that it is so. Returns the session that it rests on; 0: that has ended. */
uint64_t locks_granted(const struct client *client, uint64_t ino, const struct meta_lock *lock);
/* All that the owner has of the file goes from now on. */
void locks_closed(const struct client *client, uint64_t ino, uint64_t owner, bool flock);
/* What rested on the session may have gone to others. */
void locks_session_ended(uint64_t session);
void locks_client_gone(const struct client *client);
/* Is what rests on the session still there, by the log? */
bool locks_kept(uint64_t session);
/* May the file be fenced on this client, because locks of it went with a session? */
bool locks_may_be_lost(const struct client *client, uint64_t ino);
/* Around a question whose answer was that nobody is in the way. */
uint64_t locks_test_begin(void);
void locks_test_free(const struct client *client, uint64_t ino, const struct meta_lock *lock,
                     uint64_t begun);
/* Cells that are written under locks only. Read, under a lock that is kept: */
void guarded_read(const struct client *client, uint64_t ino, uint64_t cell, uint64_t tag);
/* From now on it may be this, or what it was. */
void guarded_writing(uint64_t ino, uint64_t cell, uint64_t tag);
/* It is this, by what the program was told. */
void guarded_written(uint64_t ino, uint64_t cell, uint64_t tag);

/* ---- sim_buggify.c: marks of rare paths; `hits` by number ---- */
#define SIM_MARKS_MAX 256
unsigned marks_count(void);
void marks_add(uint64_t *hits);
/* Which ones nobody has reached. */
void marks_print(const uint64_t *hits);

/* ---- sim_check_event.c: after each event ---- */
void check_event(void);

/* ---- sim_check_end.c: heals everything, then looks at all of it ---- */
void check_end(void);
