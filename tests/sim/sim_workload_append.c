/*
 * Programs that append: to files that everybody knows, two that are only appended to and one that
 * is also written and emptied. In half of the seeds, with dice of their own.
 */
#include "tests/sim/sim_kernel.h"

#include "base/rng.h"

#include <fcntl.h>
#include <inttypes.h>

#define SHORT_NS (10 * NS_PER_MS)
#define LONG_NS  (6 * NS_PER_S) /* mounts come and go meanwhile */

static struct rng *dice(void)
{
    static struct rng rng;
    static bool begun;

    if (!begun) {
        rng_init(&rng, world->options.seed ^ UINT64_C(0xa99e));
        begun = true;
    }
    return &rng;
}

static bool wanted(unsigned percent)
{
    return (world->options.seed / 8) % 2 == 1 && rng_percent(dice(), percent);
}

static uint64_t any(uint64_t count)
{
    return rng_below(dice(), count);
}

/* Most are lines of a log; some are more than one WRITE. */
static uint64_t any_size(void)
{
    uint64_t dies = any(100);

    return SIM_CELL * (1 + any(dies < 90 ? 20 : dies < 99 ? 400 : 30000));
}

static void append(struct program *program, struct kfile *file)
{
    uint64_t size = any_size();
    unsigned parts = any(8) == 0 ? 2 + (unsigned)any(APPEND_PARTS_MAX - 1) : 1;

    program_begins(program, "append %" PRIu64 " +%" PRIu64 " in %u", k_ino(file->node), size,
                   parts);
    program_ends(program, parts > 1 ? k_append_direct(program->kernel, file, size, parts)
                                    : k_append(program->kernel, file, size));
}

static void read_some(struct program *program, struct kfile *file)
{
    struct meta_attr attr;
    uint64_t size = SIM_CELL * (1 + any(200)), offset;
    int r;

    program_begins(program, "stat log %" PRIu64, k_ino(file->node));
    r = k_stat(program->kernel, file->node, &attr);
    program_ends(program, r);
    if (r < 0) {
        return;
    }
    offset = any(3) == 0 ? any(attr.size / SIM_CELL + 1) * SIM_CELL
                         : attr.size - min_u64(size, attr.size);
    program_begins(program, "read log %" PRIu64 " at %" PRIu64 "+%" PRIu64, k_ino(file->node),
                   offset, size);
    program_ends(program, k_read(program->kernel, file, offset, size, /* out_bytes= */ NULL));
}

static void sync_log(struct program *program, struct kfile *file)
{
    program_begins(program, "fsync log %" PRIu64, k_ino(file->node));
    program_ends(program, k_fsync(program->kernel, file->node));
}

/* As a descriptor without O_APPEND does it. */
static void change_otherwise(struct program *program, struct kfile *file)
{
    uint64_t offset = SIM_CELL * any(300), size = SIM_CELL * (1 + any(50));

    if (any(4) == 0) {
        program_begins(program, "truncate log %" PRIu64, k_ino(file->node));
        program_ends(program, k_truncate(program->kernel, file->node, 0));
        return;
    }
    program_begins(program, "write log %" PRIu64 " at %" PRIu64 "+%" PRIu64, k_ino(file->node),
                   offset, size);
    program_ends(program, k_write(program->kernel, file, offset, size));
}

static void use(struct program *program, struct kfile *file, bool mixed)
{
    uint64_t steps = 1 + any(25), pause_ns = any(12) == 0 ? LONG_NS : SHORT_NS;

    for (uint64_t i = 0; i < steps && !world->stopping; i++) {
        uint64_t what = any(100);

        if (what < 15 || !file->writable) {
            read_some(program, file);
        } else if (what < 30) {
            sync_log(program, file);
        } else if (what < 40 && mixed) {
            change_otherwise(program, file);
        } else {
            append(program, file);
        }
        process_wait_until(sim_now(world->sim) + any(pause_ns));
    }
}

void workload_appends(struct program *program)
{
    static const char *const names[] = {"log0", "log1", "log2"};
    unsigned number = (unsigned)any(ARRAY_SIZE(names));
    uint32_t flags = any(5) == 0 ? O_RDONLY : O_RDWR | O_CREAT;
    struct knode *root;
    struct kfile file;
    int r;

    if (!wanted(25)) {
        return;
    }
    root = k_root(program->kernel);
    program_begins(program, "open %s %o", names[number], flags);
    r = k_open(program->kernel, root, names[number], flags, &file);
    program_ends(program, r);
    k_put(program->kernel, root);
    if (r < 0) {
        return;
    }
    use(program, &file, number == 2);
    program_begins(program, "close log %" PRIu64, k_ino(file.node));
    program_ends(program, k_close(program->kernel, &file));
}
