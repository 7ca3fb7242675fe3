/*
 * Programs that lock: counters on two files that everybody locks, one by record locks, one by
 * flock, and any locks of any files. In half of the seeds, with dice of their own.
 *
 * Who waits for a flock holds nothing else, for nobody would end such a circle; circles of record
 * locks end with EDEADLK.
 */
#include "tests/sim/sim_kernel.h"

#include "base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#define COUNTERS 4 /* cells of a file, each under the lock of its own bytes */
#define SHORT_NS (20 * NS_PER_MS)
#define LONG_NS  (4 * NS_PER_S) /* mounts come and go meanwhile */

static struct rng *dice(void)
{
    static struct rng rng;
    static bool begun;

    if (!begun) {
        rng_init(&rng, world->options.seed ^ UINT64_C(0x10c5));
        begun = true;
    }
    return &rng;
}

static bool wanted(unsigned percent)
{
    return (world->options.seed / 4) % 2 == 1 && rng_percent(dice(), percent);
}

static uint64_t any(uint64_t count)
{
    return rng_below(dice(), count);
}

static void rest(uint64_t most_ns)
{
    process_wait_until(sim_now(world->sim) + any(most_ns));
}

static int open_file(struct program *program, struct knode *dir, const char *name, uint32_t flags,
                     struct kfile *out_file)
{
    int r;

    program_begins(program, "open %" PRIu64 "/%s to lock", k_ino(dir), name);
    r = k_open(program->kernel, dir, name, flags, out_file);
    program_ends(program, r);
    return r;
}

static void close_file(struct program *program, struct kfile *file)
{
    program_begins(program, "close locked %" PRIu64, k_ino(file->node));
    program_ends(program, k_close(program->kernel, file));
}

/* What is locked, and how. */
struct range {
    struct kfile *file;
    bool flock;
    uint64_t from, to;
};

static const char *kind_of(const struct range *range)
{
    return range->flock ? "flock" : "record lock";
}

static int lock(struct program *program, const struct range *range, uint8_t type, bool wait)
{
    uint64_t began = sim_now(world->sim);
    int r;

    program_begins(program, "%s %" PRIu64 " type %u [%" PRIu64 ", %" PRIu64 "]%s", kind_of(range),
                   k_ino(range->file->node), type, range->from, range->to, wait ? " wait" : "");
    r = range->flock ? k_flock(program->kernel, range->file, type, wait)
                     : k_lock(program->kernel, range->file, type, range->from, range->to, wait);
    program_ends(program, r);
    world->counts.lock_waits += r == 0 && wait && sim_now(world->sim) - began > 50 * NS_PER_MS;
    world->counts.lock_refusals += r == -EAGAIN;
    world->counts.deadlocks += r == -EDEADLK;
    return r;
}

/* A signal does not keep a program from giving up a lock. Returns what it was told first: after a
 * signal, others may have had the lock before it is told the second time. */
static int unlock(struct program *program, const struct range *range)
{
    int first = lock(program, range, META_LOCK_NONE, /* wait= */ false);
    int r = first;

    while (r == -EINTR) {
        r = lock(program, range, META_LOCK_NONE, /* wait= */ false);
    }
    return first;
}

/* ---- counters ---- */

/* 0 or an error. What it reads is what was written under the last lock. */
static int read_counter(struct program *program, const struct range *range, uint64_t cell)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    struct client *client = program->client;
    uint64_t ino = k_ino(range->file->node);
    int64_t r;

    program_begins(program, "read counter %" PRIu64 " of %" PRIu64, cell, ino);
    r = k_read(program->kernel, range->file, cell * SIM_CELL, SIM_CELL, &bytes);
    program_ends(program, r);
    if (r >= 0 && locks_kept(range->file->lock_session)) {
        guarded_read(client, ino, cell, bytes.size == SIM_CELL ? model_tag(bytes.data) : 0);
    }
    return r < 0 ? (int)r : 0;
}

/* Its outcome is sure when it has been synced, or the lock has been given up behind it. */
static void count(struct program *program, const struct range *range, uint64_t cell)
{
    struct kfile *file = range->file;
    uint64_t ino = k_ino(file->node), session = file->lock_session, tag;
    int r;

    program_begins(program, "count %" PRIu64 " of %" PRIu64, cell, ino);
    r = k_write_guarded(program->kernel, file, cell, &tag);
    program_ends(program, r);
    if (any(2) == 0) {
        rest(any(30) == 0 ? LONG_NS : SHORT_NS);
    }
    if (r == 0 && any(3) == 0) {
        program_begins(program, "fsync counter of %" PRIu64, ino);
        r = k_fsync(program->kernel, file->node);
        program_ends(program, r);
        if (r == 0 && locks_kept(session)) {
            guarded_written(ino, cell, tag);
        }
    }
    if (unlock(program, range) == 0 && r == 0 && locks_kept(session)) {
        guarded_written(ino, cell, tag);
    }
}

static void use_counter(struct program *program, struct kfile *file, bool flocks)
{
    uint64_t cell = flocks ? 0 : any(COUNTERS);
    bool whole = flocks || any(4) == 0;
    struct range range = {.file = file,
                          .flock = flocks,
                          .from = whole ? 0 : cell * SIM_CELL,
                          .to = whole ? UINT64_MAX : (cell + 1) * SIM_CELL - 1};
    uint8_t type = file->writable && any(4) != 0 ? META_LOCK_WRITE : META_LOCK_READ;

    if (lock(program, &range, type, any(4) != 0) < 0) {
        return;
    }
    if (read_counter(program, &range, cell) == 0 && type == META_LOCK_WRITE) {
        count(program, &range, cell);
    } else if (any(3) != 0) { /* else the close gives it up */
        (void)unlock(program, &range);
    }
}

static void do_counters(struct program *program, bool flocks)
{
    struct knode *root = k_root(program->kernel);
    uint64_t rounds = 1 + any(6), pause_ns = any(8) == 0 ? LONG_NS : SHORT_NS;
    struct kfile file;
    int r = open_file(program, root, flocks ? "flocked" : "locked",
                      any(4) == 0 ? O_RDONLY : O_RDWR | O_CREAT, &file);

    k_put(program->kernel, root);
    if (r < 0) {
        return;
    }
    for (uint64_t i = 0; i < rounds && !world->stopping; i++) {
        use_counter(program, &file, flocks);
        rest(pause_ns);
    }
    close_file(program, &file);
}

/* ---- any locks ---- */

static void any_lock(struct program *program, struct kfile *file, bool flocks)
{
    struct range range = {.file = file, .flock = flocks, .from = SIM_CELL * any(8)};
    uint8_t type = (uint8_t)any(3);

    range.to = any(4) == 0 ? UINT64_MAX : range.from + SIM_CELL * (1 + any(6)) - 1;
    if (!flocks && any(4) == 0) {
        program_begins(program, "test lock of %" PRIu64, k_ino(file->node));
        program_ends(program, k_lock_test(program->kernel, file,
                                          type == META_LOCK_NONE ? META_LOCK_WRITE : type,
                                          range.from, range.to));
    } else if (type == META_LOCK_NONE) {
        (void)unlock(program, &range);
    } else {
        (void)lock(program, &range, type, any(2) == 0);
    }
}

static void read_locked(struct program *program, struct kfile *file)
{
    program_begins(program, "read locked %" PRIu64, k_ino(file->node));
    program_ends(program,
                 k_read(program->kernel, file, SIM_CELL * any(20), SIM_CELL * (1 + any(100)),
                        /* out_bytes= */ NULL));
}

/* Two files of all those that programs use; their names may lead to one. */
static void do_any(struct program *program, struct knode *dir)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    struct kfile files[2];
    unsigned opened = 0;
    uint64_t steps = 2 + any(10);
    bool flocks = any(2) == 0;

    while (opened < (flocks ? 1 : 2) &&
           open_file(program, dir, names[any(ARRAY_SIZE(names))],
                     any(4) == 0 ? O_RDONLY : O_RDWR | O_CREAT, &files[opened]) == 0) {
        opened++;
    }
    for (uint64_t i = 0; i < steps && opened > 0 && !world->stopping; i++) {
        struct kfile *file = &files[any(opened)];

        any_lock(program, file, flocks);
        if (any(3) == 0) {
            read_locked(program, file);
        }
        rest(SHORT_NS);
    }
    while (opened-- > 0) {
        close_file(program, &files[opened]);
    }
}

void workload_locks(struct program *program, struct knode *dir)
{
    if (!wanted(25)) {
        return;
    }
    switch (any(3)) {
    case 0:
        do_counters(program, /* flocks= */ false);
        return;
    case 1:
        do_counters(program, /* flocks= */ true);
        return;
    default:
        do_any(program, dir);
        return;
    }
}
