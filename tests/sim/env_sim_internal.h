#pragma once
/* env_sim_internal: what the files of the simulator share. */
#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>

struct sim_event {
    struct heap_node heap;
    struct list_node node_deferred;
    struct sim_node *node; /* whose code runs; dropped when it has died meanwhile */
    uint64_t epoch;
    void (*run)(struct sim_event *event);
    void *object;
    struct buf bytes;
    int status;
};

struct sim_inode {
    struct buf live;
    struct buf durable;
    size_t dirty_from, dirty_to; /* of live, not yet durable */
    bool spoils;                 /* its writes may get lost or go elsewhere */
    unsigned refs;
    bool locked;
};

struct sim_name {
    char *path;
    struct sim_inode *inode;
};

struct sim_names {
    struct sim_name *names;
    size_t count;
};

/* A change of names that is not durable yet. */
struct sim_change {
    char *path;              /* created or removed; of a rename the old name */
    char *new_path;          /* rename */
    struct sim_inode *inode; /* created; NULL = removed or renamed */
};

struct env_file {
    struct list_node node;
    struct sim_inode *inode;
    uint64_t last_ns; /* completions come in order */
    bool lock;
};

struct sim_disk {
    struct sim_names live;
    struct sim_names durable;
    struct sim_change *changes;
    size_t change_count;
    struct list files; /* open */
    uint64_t path_ns;  /* path operations complete in order */
    uint64_t crash_at_io;
    struct sim_disk_faults faults;
};

struct sim_end {
    struct list_node node; /* in sim.ends */
    struct sim_node *owner;
    uint64_t epoch;
    struct env_conn *conn; /* NULL = closed() has run, or the node is gone */
    struct sim_end *other;
    struct buf inbox;   /* arrived, not yet read */
    uint64_t arrive_ns; /* what is sent to this end arrives in order */
    uint64_t own_ns;    /* completions on this end come in order */
    uint64_t stalled_ns;
    bool closing; /* closed() is scheduled, nothing else is delivered */
    struct sim_event *closed;
    bool reading; /* a delivery is scheduled */
    int status;
};

struct sim_listener {
    struct list_node node;
    struct sim_node *owner;
    struct env_listener *listener;
    char *address;
};

struct sim_node {
    struct env env;
    struct sim *sim;
    unsigned number;
    uint64_t epoch;
    bool up;
    bool died;
    struct heap timers;
    struct sim_disk disk;
    struct list in_io; /* env_io submitted, in order */
    uint64_t paused_until_ns;
    struct list deferred; /* sim_event: came while it was paused */
    uint64_t clock_offset_ns;
    int64_t clock_ppm;
    uint64_t timer_key, timer_ns; /* of the first timer: its local time, and when that is */
    int64_t wall_offset_ns;
};

struct sim {
    struct rng rng;
    uint64_t now;
    struct heap events;
    struct sim_node nodes[SIM_NODES_MAX];
    struct sim_faults faults;
    bool cut[SIM_NODES_MAX][SIM_NODES_MAX];
    uint64_t slow_ns[SIM_NODES_MAX][SIM_NODES_MAX];
    struct list ends;
    struct list closed_ends; /* events may still name them */
    struct list listeners;
    struct sim_node *running;
    jmp_buf escape;
    bool verbose;
    sim_log_fn *log;
    void *log_data;
    uint64_t digest, steps, deaths;
    unsigned errors;
    char last_error[1100];
};

/* env_sim.c */
struct sim_node *sim_node_of(struct env *env);
struct sim_event *sim_schedule(struct sim_node *node, uint64_t at_ns,
                               void (*run)(struct sim_event *event), void *object);
uint64_t sim_delay(struct sim *sim, uint64_t min_ns, uint64_t max_ns, unsigned slow_percent);
/* Runs fn with env_fatal caught. False: the node died. */
bool sim_guard(struct sim_node *node, void (*fn)(void *data), void *data);
void sim_kill(struct sim_node *node, enum sim_crash_kind kind);

/* env_sim_disk.c */
void sim_disk_init(struct sim_disk *disk);
void sim_disk_deinit(struct sim_disk *disk);
void sim_disk_crash(struct sim_node *node, enum sim_crash_kind kind);
void sim_disk_io(struct env *env, struct env_io *io);
void sim_disk_io_now(struct env *env, struct env_io *io);
int sim_disk_list(struct env *env, const char *path, struct buf *out_names);

/* env_sim_net.c */
int sim_net_listen(struct env *env, struct env_listener *listener, const char *address);
void sim_net_listen_stop(struct env *env, struct env_listener *listener);
void sim_net_connect(struct env *env, struct env_conn *conn, const char *address);
void sim_net_send(struct env *env, struct env_conn *conn, struct env_send *send);
void sim_net_pause(struct env *env, struct env_conn *conn, bool paused);
void sim_net_close(struct env *env, struct env_conn *conn);
void sim_net_crash(struct sim_node *node, enum sim_crash_kind kind);
void sim_net_deinit(struct sim *sim);
