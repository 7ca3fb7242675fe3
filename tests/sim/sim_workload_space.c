/*
 * Programs that care where a file has data, and files without a name. With dice of their own, in
 * half of the seeds: the others are the runs that they were before there were such programs.
 */
#include "tests/sim/sim_kernel.h"

#include "base/rng.h"

#include <inttypes.h>

static struct rng *dice(void)
{
    static struct rng rng;
    static bool begun;

    if (!begun) {
        rng_init(&rng, world->options.seed ^ UINT64_C(0x5bace));
        begun = true;
    }
    return &rng;
}

static uint64_t any_cells(uint64_t most)
{
    return SIM_CELL * rng_below(dice(), most);
}

static bool wanted(unsigned percent)
{
    return (world->options.seed / 2) % 2 == 1 && rng_percent(dice(), percent);
}

static void allocate(struct program *program, struct kfile *file)
{
    static const uint32_t modes[] = {
        0, META_ALLOCATE_KEEP_SIZE, META_ALLOCATE_PUNCH | META_ALLOCATE_KEEP_SIZE,
        META_ALLOCATE_ZERO, META_ALLOCATE_ZERO | META_ALLOCATE_KEEP_SIZE};
    uint32_t mode = modes[rng_below(dice(), ARRAY_SIZE(modes))];
    uint64_t offset = any_cells(1500), size = SIM_CELL + any_cells(800);

    program_begins(program, "fallocate %" PRIu64 " mode %u at %" PRIu64 "+%" PRIu64,
                   k_ino(file->node), mode, offset, size);
    program_ends(program, k_fallocate(program->kernel, file, mode, offset, size));
    world->counts.allocations++;
}

/* Within the file: its halves do not overlap. */
static void copy(struct program *program, struct kfile *file)
{
    uint64_t half = SIM_CELL * 600, size = SIM_CELL + any_cells(500);
    uint64_t from = any_cells(100), to = half + any_cells(100);
    bool back = rng_percent(dice(), 30);
    int64_t r;

    program_begins(program, "copy %" PRIu64 " at %" PRIu64 "+%" PRIu64, k_ino(file->node),
                   back ? to : from, size);
    r = k_copy_range(program->kernel, file, back ? to : from, file, back ? from : to, size);
    program_ends(program, r);
    world->counts.copies += r > 0;
}

static void seek(struct program *program, struct kfile *file)
{
    uint32_t whence = rng_percent(dice(), 50) ? META_SEEK_DATA : META_SEEK_HOLE;
    uint64_t offset = any_cells(1000);

    program_begins(program, "seek %" PRIu64 " at %" PRIu64 " for %s", k_ino(file->node), offset,
                   whence == META_SEEK_DATA ? "data" : "a hole");
    program_ends(program, k_seek(program->kernel, file->node, offset, whence));
    world->counts.seeks++;
}

void workload_space(struct program *program, struct kfile *file)
{
    if (!wanted(15)) {
        return;
    }
    switch (rng_below(dice(), 3)) {
    case 0:
        if (file->writable) {
            allocate(program, file);
        }
        return;
    case 1:
        if (file->writable) {
            copy(program, file);
        }
        return;
    default:
        seek(program, file);
        return;
    }
}

void workload_tmpfile(struct program *program, struct knode *dir)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    struct kernel *kernel = program->kernel;
    struct kfile file;
    int r;

    if (!wanted(3)) {
        return;
    }
    program_begins(program, "tmpfile in %" PRIu64, k_ino(dir));
    r = k_tmpfile(kernel, dir, &file);
    program_ends(program, r);
    if (r < 0) {
        return;
    }
    program_begins(program, "write tmpfile %" PRIu64, k_ino(file.node));
    program_ends(program, k_write(kernel, &file, any_cells(100), SIM_CELL + any_cells(400)));
    if (rng_percent(dice(), 60)) {
        const char *name = names[rng_below(dice(), ARRAY_SIZE(names))];

        program_begins(program, "link tmpfile %" PRIu64 " %" PRIu64 "/%s", k_ino(file.node),
                       k_ino(dir), name);
        r = k_link(kernel, file.node, dir, name);
        program_ends(program, r);
        world->counts.tmpfiles_linked += r == 0;
    }
    program_begins(program, "fsync %" PRIu64, k_ino(file.node));
    program_ends(program, k_fsync(kernel, file.node));
    program_begins(program, "close %" PRIu64, k_ino(file.node));
    program_ends(program, k_close(kernel, &file));
}
