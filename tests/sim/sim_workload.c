/*
 * What programs do: random histories over a small shared tree, so that they meet; files whose cells
 * name their writes; trees that are built and moved into each other.
 */
#include "tests/sim/sim_kernel.h"

#include "base/assert.h"
#include "base/mem.h"
#include "meta/meta_proto.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#define NAMES    6
#define FILE_MAX (KiB(64)) /* most files; some are larger */
#define BIG_MAX  MiB(6)

static const char *const names[NAMES] = {"a", "b", "c", "d", "e", "f"};

static const char *any_name(void)
{
    return names[rng_below(&world->rng, NAMES)];
}

/* ---- steps ---- */

/* A directory at most three levels down; the root when there is none. */
static struct knode *walk(struct program *program)
{
    struct knode *dir = k_root(program->kernel);
    unsigned depth = (unsigned)rng_below(&world->rng, 4);

    while (depth-- > 0) {
        struct knode *next = NULL;
        struct meta_attr attr;
        const char *name;
        int r;

        name = any_name();
        program_begins(program, "walk %" PRIu64 "/%s", k_ino(dir), name);
        r = k_lookup(program->kernel, dir, name, &next);
        if (r == 0 && k_stat(program->kernel, next, &attr) == 0 && S_ISDIR(attr.mode)) {
            k_put(program->kernel, dir);
            dir = next;
        } else if (r == 0) {
            k_put(program->kernel, next);
        }
        program_ends(program, r);
    }
    return dir;
}

static uint64_t any_size(void)
{
    uint64_t most = rng_percent(&world->rng, 70) ? KiB(6) : FILE_MAX;

    if (rng_percent(&world->rng, 2)) {
        most = BIG_MAX;
    }
    return round_up(1 + rng_below(&world->rng, most), SIM_CELL);
}

static unsigned any(unsigned count)
{
    return (unsigned)rng_below(&world->rng, count);
}

static void use_file(struct program *program, struct kfile *file)
{
    struct kernel *kernel = program->kernel;
    unsigned steps = 1 + (unsigned)rng_below(&world->rng, 6);

    for (unsigned i = 0; i < steps && !world->stopping; i++) {
        uint64_t size = any_size();
        uint64_t offset = round_down(rng_below(&world->rng, FILE_MAX), SIM_CELL);
        unsigned dice = (unsigned)rng_below(&world->rng, 100);

        offset = rng_percent(&world->rng, 50) ? 0 : offset;
        if (dice < 45 && file->writable) {
            program_begins(program, "write %" PRIu64 " at %" PRIu64 "+%" PRIu64, k_ino(file->node),
                           offset, size);
            program_ends(program, k_write(kernel, file, offset, size));
        } else if (dice < 75) {
            program_begins(program, "read %" PRIu64 " at %" PRIu64 "+%" PRIu64, k_ino(file->node),
                           offset, size);
            program_ends(program, k_read(kernel, file, offset, min_u64(size, KiB(128)),
                                         /* out_bytes= */ NULL));
        } else if (dice < 90) {
            program_begins(program, "fsync %" PRIu64, k_ino(file->node));
            program_ends(program, k_fsync(kernel, file->node));
        } else if (file->writable) {
            program_begins(program, "truncate");
            program_ends(program,
                         k_truncate(kernel, file->node,
                                    rng_percent(&world->rng, 50) ? 0 : min_u64(size, FILE_MAX)));
        }
        workload_space(program, file);
    }
}

static void do_file(struct program *program, struct knode *dir)
{
    static const uint32_t ways[] = {O_RDWR | O_CREAT,
                                    O_RDWR | O_CREAT,
                                    O_RDONLY,
                                    O_WRONLY | O_CREAT | O_TRUNC,
                                    O_RDWR | O_CREAT | O_EXCL,
                                    O_RDWR};
    const char *name = rng_percent(&world->rng, 30) ? "f" : any_name();
    uint32_t way = ways[rng_below(&world->rng, ARRAY_SIZE(ways))];
    struct kfile file;
    int r;

    program_begins(program, "open %" PRIu64 "/%s %o", k_ino(dir), name, way);
    r = k_open(program->kernel, dir, name, way, &file);
    program_ends(program, r);
    if (r < 0) {
        return;
    }
    use_file(program, &file);
    if (rng_percent(&world->rng, 10)) { /* open and without a name */
        program_begins(program, "unlink open %" PRIu64 "/%s", k_ino(dir), name);
        program_ends(program, k_unlink(program->kernel, dir, name));
        use_file(program, &file);
    }
    program_begins(program, "close %" PRIu64, k_ino(file.node));
    program_ends(program, k_close(program->kernel, &file));
}

/* Like a database: writes and syncs of one file, one after the other, beside others that do the
 * same. */
static void do_hot_file(struct program *program)
{
    struct kernel *kernel = program->kernel;
    struct knode *root = k_root(kernel);
    unsigned steps = 10 + any(40);
    struct kfile file;
    int r;

    program_begins(program, "open 1/f 102");
    r = k_open(kernel, root, "f", O_RDWR | O_CREAT, &file);
    program_ends(program, r);
    k_put(kernel, root);
    for (unsigned i = 0; r == 0 && i < steps && !world->stopping; i++) {
        uint64_t offset = SIM_CELL * (uint64_t)any(400), size = SIM_CELL * (uint64_t)(1 + any(200));

        if (rng_percent(&world->rng, 70)) {
            program_begins(program, "write %" PRIu64 " at %" PRIu64 "+%" PRIu64, k_ino(file.node),
                           offset, size);
            program_ends(program, k_write(kernel, &file, offset, size));
        } else {
            program_begins(program, "fsync %" PRIu64, k_ino(file.node));
            program_ends(program, k_fsync(kernel, file.node));
        }
        process_wait_until(sim_now(world->sim) + rng_below(&world->rng, 3 * NS_PER_MS));
    }
    if (r == 0) {
        program_begins(program, "close %" PRIu64, k_ino(file.node));
        program_ends(program, k_close(kernel, &file));
    }
}

static void do_rename(struct program *program, struct knode *dir)
{
    static const uint32_t ways[] = {0, 0, 0, META_NOREPLACE, META_EXCHANGE};
    struct knode *other = rng_percent(&world->rng, 40) ? k_root(program->kernel) : walk(program);
    const char *from = any_name(), *to = any_name();

    program_begins(program, "rename %" PRIu64 "/%s to %" PRIu64 "/%s", k_ino(dir), from,
                   k_ino(other), to);
    program_ends(program, k_rename(program->kernel, dir, from, other, to,
                                   ways[rng_below(&world->rng, ARRAY_SIZE(ways))]));
    k_put(program->kernel, other);
}

static void do_link(struct program *program, struct knode *dir)
{
    const char *from = any_name(), *to = any_name();
    struct knode *node;
    int r;

    program_begins(program, "link %" PRIu64 "/%s %s", k_ino(dir), from, to);
    r = k_lookup(program->kernel, dir, from, &node);
    if (r == 0) {
        r = k_link(program->kernel, node, dir, to);
        k_put(program->kernel, node);
    }
    program_ends(program, r);
}

static void do_one(struct program *program, struct knode *dir)
{
    struct kernel *kernel = program->kernel;
    unsigned dice = (unsigned)rng_below(&world->rng, 100);
    const char *name = any_name();
    unsigned count;

    if (dice < 3) {
        do_hot_file(program);
    } else if (dice < 45) {
        do_file(program, dir);
    } else if (dice < 57) {
        program_begins(program, "mkdir %" PRIu64 "/%s", k_ino(dir), name);
        program_ends(program, k_mkdir(kernel, dir, name));
    } else if (dice < 65) {
        program_begins(program, "unlink %" PRIu64 "/%s", k_ino(dir), name);
        program_ends(program, k_unlink(kernel, dir, name));
    } else if (dice < 72) {
        program_begins(program, "rmdir %" PRIu64 "/%s", k_ino(dir), name);
        program_ends(program, k_rmdir(kernel, dir, name));
    } else if (dice < 84) {
        do_rename(program, dir);
    } else if (dice < 88) {
        do_link(program, dir);
    } else if (dice < 91) {
        program_begins(program, "symlink %" PRIu64 "/%s", k_ino(dir), name);
        program_ends(program, k_symlink(kernel, dir, name, "target"));
    } else if (dice < 96) {
        program_begins(program, "readdir %" PRIu64, k_ino(dir));
        program_ends(program, k_readdir(kernel, dir, &count));
    } else if (dice < 98) {
        program_begins(program, "fsync dir %" PRIu64, k_ino(dir));
        program_ends(program, k_fsync(kernel, dir));
    } else {
        program_begins(program, "statfs");
        program_ends(program, k_statfs(kernel));
    }
}

static void run_program(void *data)
{
    struct program *program = data;

    while (!world->stopping) {
        struct knode *dir = rng_percent(&world->rng, 20) ? k_root(program->kernel) : walk(program);

        do_one(program, dir);
        workload_tmpfile(program, dir);
        workload_locks(program, dir);
        workload_appends(program);
        k_put(program->kernel, dir);
        if (!world->stopping && rng_percent(&world->rng, 70)) {
            process_wait_until(sim_now(world->sim) + rng_below(&world->rng, 60 * NS_PER_MS));
        }
    }
}

void workload_start(struct client *client)
{
    unsigned count = 1 + (unsigned)rng_below(&world->rng, SIM_PROCESSES_MAX);

    for (unsigned i = 0; i < count; i++) {
        program_start(client, run_program);
    }
}
