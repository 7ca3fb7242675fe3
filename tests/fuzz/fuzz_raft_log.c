/*
 * fuzz_raft_log: a log directory of hostile bytes is recovered, written to, and recovered again:
 * what was acknowledged meanwhile is there.
 */
#include "base/assert.h"
#include "raft/raft_log.h"
#include "raft/raft_log_format.h"
#include "tests/fuzz/fuzz_disk.h"

#include <errno.h>

#define DIR "/l"

static const char *const names[] = {"/l/log-0000000000000001",   "/l/log-0000000000000002",
                                    "/l/log-0000000000000003",   "/l/repair",
                                    "/l/spare-0000000000000001", "/l/log-ffffffffffffffff"};

struct world {
    struct fuzz_disk disk;
    struct raft_log log;
    struct raft_log_config config;
    struct raft_log_recovered found;
    uint64_t saved; /* ticket */
    int result;
};

static void on_saved(struct raft_log *log, uint64_t ticket)
{
    ((struct world *)log->data)->saved = ticket;
}

static void open_log(void *data)
{
    struct world *world = data;

    world->result = raft_log_open(&world->log, &world->disk.env, &world->config, &world->found);
    world->log.saved = on_saved;
    world->log.data = world;
    fuzz_disk_run(&world->disk, 0);
}

static void close_log(void *data)
{
    struct world *world = data;

    raft_log_close(&world->log);
    fuzz_disk_run(&world->disk, NS_PER_S);
    ASSERT(raft_log_closed(&world->log));
    raft_tail_deinit(&world->found.tail);
}

static void check_tail(const struct raft_tail *tail)
{
    uint64_t last = raft_tail_last(tail);

    for (size_t i = 0; i < tail->count; i++) {
        const struct raft_entry *entry = raft_tail_at(tail, tail->base_index + 1 + i);

        ASSERT(entry != NULL && entry->command.size <= RAFT_COMMAND_MAX);
    }
    ASSERT(last == tail->base_index + tail->count);
}

/* Entries of several sizes behind the last one, in the newest term, and a compaction. */
static void append(void *data)
{
    static uint8_t bytes[KiB(20)];
    struct world *world = data;
    uint64_t last = raft_tail_last(&world->found.tail);
    struct raft_hard_state state = {world->found.state.term, world->found.state.vote};
    struct raft_entry entries[] = {{state.term, slice_make(bytes, sizeof(bytes))},
                                   {state.term, slice_make(bytes, 1)},
                                   {state.term, {0}}};
    uint64_t ticket = 0;

    for (unsigned i = 0; i < 6; i++) { /* more than one segment takes */
        ticket = raft_log_append(&world->log, last + 1, entries, ARRAY_SIZE(entries), &state);
        last += ARRAY_SIZE(entries);
        fuzz_disk_run(&world->disk, NS_PER_S);
    }
    ASSERT(world->saved == ticket);
    raft_log_compact(&world->log, world->config.base_index);
    fuzz_disk_run(&world->disk, NS_PER_S);
}

static void read_again(struct world *world, uint64_t last)
{
    const struct raft_entry *entry;

    world->config.base_term = world->found.tail.base_term;
    close_log(world);
    open_log(world);
    ASSERT(world->result == 0); /* it was good, and we have written to it */
    ASSERT(raft_tail_last(&world->found.tail) == last);
    entry = raft_tail_at(&world->found.tail, last - 1);
    ASSERT(entry != NULL && entry->command.size == 1);
    close_log(world);
}

static void run(void *data)
{
    struct world *world = data;
    uint64_t last;

    open_log(world);
    if (world->result < 0) {
        return;
    }
    check_tail(&world->found.tail);
    last = raft_tail_last(&world->found.tail);
    if (last > UINT64_MAX / 2) {
        close_log(world);
        return;
    }
    append(world);
    read_again(world, last + 18);
}

/* u8 flags, u8 base index, u8 base term, the disk. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = fuzz_input_make(data, size);
    static struct world world;
    bool alive;

    fuzz_crc = 0x01010101; /* 0 says that there is no record before */
    world = (struct world){0};
    world.config = (struct raft_log_config){.dir = DIR,
                                            .node_id = 3,
                                            .segment_bytes = RAFT_LOG_SEGMENT_MIN,
                                            .may_repair = fuzz_number(&input, 1) % 2 != 0};
    world.config.base_index = fuzz_number(&input, 1);
    world.config.base_term = fuzz_number(&input, 1);
    fuzz_disk_init(&world.disk);
    fuzz_disk_load(&world.disk, &input, names, ARRAY_SIZE(names));
    alive = fuzz_disk_guard(&world.disk, run, &world);
    ASSERT(alive); /* no disk fails here: nothing to die of */
    fuzz_disk_deinit(&world.disk);
    return 0;
}

/* ---- logs as they should be ---- */

static void append_small(struct world *world, unsigned count, size_t size, bool state)
{
    static uint8_t bytes[KiB(40)];
    struct raft_hard_state hard = {2, 1};

    for (unsigned i = 0; i < count; i++) {
        struct raft_entry entry = {2, slice_make(bytes, size)};

        raft_log_append(&world->log, world->log.last_index + 1, &entry, 1, state ? &hard : NULL);
        fuzz_disk_run(&world->disk, NS_PER_S);
    }
}

static void save(struct world *world, const char *name, uint8_t flags)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    const uint8_t head[] = {flags, 0, 0};

    buf_append(&bytes, head, sizeof(head));
    fuzz_disk_save(&world->disk, names, ARRAY_SIZE(names), &bytes);
    fuzz_seed(name, buf_slice(&bytes));
}

void fuzz_seeds(void)
{
    static struct world world;

    fuzz_crc = 0x01010101;
    world.config =
        (struct raft_log_config){.dir = DIR, .node_id = 3, .segment_bytes = RAFT_LOG_SEGMENT_MIN};
    fuzz_disk_init(&world.disk);
    open_log(&world);
    save(&world, "empty", 0);
    append_small(&world, 4, 20, true);
    save(&world, "small", 0);
    raft_log_append(&world.log, 3, &(struct raft_entry){3, {0}}, 1, NULL);
    fuzz_disk_run(&world.disk, NS_PER_S);
    save(&world, "replaced", 1);
    append_small(&world, 3, 39000, false);
    save(&world, "segments", 1);
    raft_log_reset(&world.log, 50, 4);
    append_small(&world, 2, 5, true);
    save(&world, "reset", 1);
    close_log(&world);
    fuzz_disk_deinit(&world.disk);
}
