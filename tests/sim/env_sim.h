#pragma once
/*
 * env_sim: many nodes in one thread under a seed: virtual time, a network and disks that fail.
 *
 *     struct sim *sim = sim_new(seed);
 *     struct env *env = sim_env(sim, 1);          node 1; open real code on it
 *     sim_run(sim, 5 * NS_PER_S);                 until then, or until nothing is left to happen
 *     sim_crash(sim, 1, SIM_KILL);                everything of the node is dropped, disk torn
 *     sim_restart(sim, 1);                        an empty node on the disk that is left
 *
 * Obeys the four laws of env.h. Node code runs in events; calls from outside go through sim_call,
 * so that env_fatal inside ends only that node (`died` is set, its memory is leaked).
 *
 * Disk: writes reach the file in order; a crash keeps of every unsynced 512-byte sector the old or
 * the new contents by its own coin; creates, renames and unlinks survive as a prefix of their
 * order, all of them after SYNC_DIR. Network: each connection in order with a random delay,
 * reset at random; a cut link delivers nothing and stalls, a connection stalled for 10 s is reset.
 */
#include "base/env.h"
#include "base/rng.h"

#define SIM_NODES_MAX 16

struct sim;

enum sim_crash_kind {
    SIM_KILL,  /* the process dies: peers see resets at once, written pages survive */
    SIM_POWER, /* the machine dies: unsynced writes are lost or torn, peers see silence */
};

/* May be changed at any time. */
struct sim_faults {
    uint64_t net_min_ns, net_max_ns;   /* delay of one chunk */
    unsigned net_slow_percent;         /* chunks delayed ten times longer */
    unsigned reset_per_million;        /* chunks that reset their connection instead */
    uint64_t disk_min_ns, disk_max_ns; /* latency of one io */
    unsigned disk_slow_percent;        /* ios ten times slower */
    uint64_t disk_bytes_max;           /* per node; 0 = no limit */
    uint64_t resets_met;               /* counted */
};

/* Of one node's disk; chances are per million operations. May be changed at any time. */
struct sim_disk_faults {
    unsigned read_errors, write_errors, sync_errors; /* EIO */
    unsigned lost_writes, misdirected_writes; /* of files whose names have `spoil_prefix` in them */
    unsigned failed_sync_cleans; /* percent of failed syncs after which the disk never gets the
                                    data, though the page cache has it (what Linux does) */
    const char *spoil_prefix;
    bool blocking_too;  /* those that the node waits for */
    uint64_t bytes_max; /* 0 = that of struct sim_faults */
    /* Counted. */
    uint64_t read_errors_met, write_errors_met, sync_errors_met, lost_met, misdirected_met,
        no_space_met, rotted;
    /* By losses of power: files whose unsynced bytes are not all there, changes of names without
     * SYNC_DIR behind them. */
    uint64_t torn_files, lost_names;
};

struct sim *sim_new(uint64_t seed);
void sim_free(struct sim *sim);
struct sim_faults *sim_faults(struct sim *sim);
struct rng *sim_rng(struct sim *sim);
uint64_t sim_now(const struct sim *sim);
/* Nodes are 0..SIM_NODES_MAX-1, all up at first. */
struct env *sim_env(struct sim *sim, unsigned node);
/* Runs the next event. False: nothing is left. */
bool sim_step(struct sim *sim);
/* Runs the next event if it comes by then; or else sets the clock to it, and returns false. */
bool sim_step_until(struct sim *sim, uint64_t until_ns);
/* When the next event is; UINT64_MAX = never. */
uint64_t sim_next_ns(struct sim *sim);
/* Events so far, folded into one number: equal runs have equal ones at each step. */
uint64_t sim_digest(const struct sim *sim);
uint64_t sim_steps(const struct sim *sim);
/* Runs everything up to `until_ns` and sets the clock to it. */
void sim_run(struct sim *sim, uint64_t until_ns);
/* Runs fn as that node. False: the node died in it. */
bool sim_call(struct sim *sim, unsigned node, void (*fn)(void *data), void *data);
void sim_crash(struct sim *sim, unsigned node, enum sim_crash_kind kind);
void sim_restart(struct sim *sim, unsigned node);
bool sim_up(const struct sim *sim, unsigned node);
/* It ended itself by env_fatal since the last restart. */
bool sim_died(const struct sim *sim, unsigned node);
/* How often nodes did so far. */
uint64_t sim_deaths(const struct sim *sim);
/* The node does nothing until then (SIGSTOP, a paused machine); what comes waits. */
void sim_pause(struct sim *sim, unsigned node, uint64_t until_ns);
/* Its monotonic clock runs `drift_ppm` fast (or slow) and is `offset_ns` ahead. When nothing has
 * been started on it yet. */
void sim_set_clock(struct sim *sim, unsigned node, uint64_t offset_ns, int drift_ppm);
/* Its wall clock jumps. */
void sim_jump_wall(struct sim *sim, unsigned node, int64_t by_ns);
/* What goes that way takes so much longer. */
void sim_slow(struct sim *sim, unsigned from, unsigned to, uint64_t extra_ns);
/* One way; also while connections are open. */
void sim_cut(struct sim *sim, unsigned from, unsigned to, bool cut);
/* No link is cut or slow, nobody is paused. */
void sim_heal(struct sim *sim);
/* Bytes of all files. */
uint64_t sim_disk_used(const struct sim *sim, unsigned node);
struct sim_disk_faults *sim_disk_faults(struct sim *sim, unsigned node);
/* One bit of a file whose name has `prefix` in it turns over on the disk; false when there is none.
 */
bool sim_rot(struct sim *sim, unsigned node, const char *prefix);
/* The same at a place of a file; false when it is not there. */
bool sim_rot_at(struct sim *sim, unsigned node, const char *path, uint64_t offset);
/* The node is down; its disk is replaced by an empty one. */
void sim_wipe(struct sim *sim, unsigned node);
/* Crash (SIM_POWER) as soon as the node submits its n-th write, sync or path operation from now;
 * 0 = never. */
void sim_crash_at_io(struct sim *sim, unsigned node, uint64_t n);
/* Bytes of a file as it is now, borrowed; data is NULL when there is none. For bit rot, write. */
uint8_t *sim_file(struct sim *sim, unsigned node, const char *path, size_t *out_size);
/* ERROR lines so far, and the last one. */
unsigned sim_errors(const struct sim *sim);
const char *sim_last_error(const struct sim *sim);
/* Print the log lines of all nodes (also with $SIM_LOG set). */
void sim_set_verbose(struct sim *sim, bool verbose);
/* Called for each log line. */
typedef void sim_log_fn(void *data, unsigned node, enum log_level level, const char *line);
void sim_set_log(struct sim *sim, sim_log_fn *log, void *data);
