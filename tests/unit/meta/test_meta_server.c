/*
 * Three metadata servers and their clients in the simulator: operations end to end, exactly once
 * under leader kills, sessions, being alone, orphans, chunk servers, restarts and snapshots.
 */
#include "base/bytes.h"
#include "base/mem.h"
#include "chunkstore/chunk_proto.h"
#include "tests/lib/meta_world.h"

#include <errno.h>
#include <stdio.h>

static void test_basics(void **state)
{
    struct meta_attr dir, file, found;
    struct meta_world_call call;

    (void)state;
    meta_world_start(1, 1);
    assert_int_equal(meta_world_request(0,
                                        (struct meta_request){.op = META_MKDIR,
                                                              .ino = META_ROOT_INO,
                                                              .name = slice_text("dir"),
                                                              .mode = 0755},
                                        &dir),
                     0);
    assert_int_equal(meta_world_create(0, dir.ino, "file", &file), 0);
    assert_int_equal(meta_world_create(0, dir.ino, "file", &found), -EEXIST);
    assert_int_equal(meta_world_lookup(0, dir.ino, "file", &found), 0);
    assert_int_equal(found.ino, file.ino);
    assert_int_equal(meta_world_lookup(0, dir.ino, "none", &found), -ENOENT);
    meta_world_begin(&call, 0, (struct meta_request){.op = META_READDIR, .ino = dir.ino});
    while (!call.done) {
        meta_world_run(NS_PER_MS);
    }
    assert_true(call.data.size > 0);
    assert_int_equal(call.value, 1);
    assert_int_equal(meta_world_finish(&call), 0);
    assert_true(meta_world.mounts[0]->alone);
    meta_world_stop();
}

static void test_exactly_once(void **state)
{
    enum { COUNT = 400 };
    static struct meta_world_call calls[COUNT];
    uint64_t seed = test_seed(7);
    struct rng rng;

    (void)state;
    rng_init(&rng, seed);
    meta_world_start(seed, 1);
    sim_faults(meta_world.sim)->reset_per_million = 2000;
    for (unsigned i = 0; i < COUNT; i++) {
        static char names[COUNT][16];

        snprintf(names[i], sizeof(names[i]), "d%u", i);
        meta_world_begin(&calls[i], 0,
                         (struct meta_request){.op = META_MKDIR,
                                               .ino = META_ROOT_INO,
                                               .name = slice_text(names[i]),
                                               .mode = 0755});
        meta_world_run(rng_below(&rng, 40 * NS_PER_MS));
        if (i % 40 == 39) {
            int victim = meta_world_leader();

            if (victim >= 0) {
                meta_world_kill((unsigned)victim, i % 80 == 39 ? SIM_KILL : SIM_POWER);
                meta_world_run(rng_below(&rng, 2 * NS_PER_S));
                meta_world_revive((unsigned)victim);
            }
        }
    }
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(meta_world_finish(&calls[i]), 0); /* a second execution would say EEXIST */
    }
    sim_faults(meta_world.sim)->reset_per_million = 0;
    for (unsigned i = 0; i < COUNT; i += 37) {
        char name[16];

        snprintf(name, sizeof(name), "d%u", i);
        assert_int_equal(meta_world_lookup(0, META_ROOT_INO, name, NULL), 0);
    }
    meta_world_stop();
}

static void cancel_call(void *data)
{
    struct meta_world_call *call = data;

    meta_call_cancel(&call->mount->client, &call->call);
}

/* The caller of a mutation is gone, the mutation is not: until it has its answer the client says
 * that what was read may be about to change. */
static void test_given_up(void **state)
{
    struct meta_request mkdir = {.op = META_MKDIR,
                                 .flags = META_NOREPLACE,
                                 .ino = META_ROOT_INO,
                                 .name = slice_text("d"),
                                 .mode = 0755};
    struct meta_attr attr;
    struct meta_world_call call;

    (void)state;
    meta_world_start(test_seed(3), 1);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "f", &attr), 0);
    meta_world_begin(&call, 0, mkdir);
    assert_int_equal(meta_world.mounts[0]->client.given_up, 0);
    assert_true(sim_call(meta_world.sim, META_WORLD_SERVERS, cancel_call, &call));
    assert_int_equal(meta_world.mounts[0]->client.given_up, 1);
    assert_int_equal(meta_world_finish(&call), -EINTR);
    meta_world_run(5 * NS_PER_S);
    assert_int_equal(meta_world.mounts[0]->client.given_up, 0);
    assert_int_equal(meta_world_lookup(0, META_ROOT_INO, "d", &attr), 0);
    meta_world_stop();
}

static void test_alone(void **state)
{
    uint64_t began;

    (void)state;
    meta_world_start(3, 1);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "a", NULL), 0);
    meta_world_run(5 * NS_PER_S);
    assert_true(meta_world.mounts[0]->alone);
    /* The lone mount lets go at once: the newcomer need not wait long. */
    began = sim_now(meta_world.sim);
    sim_call(meta_world.sim, META_WORLD_SERVERS + 1, meta_world_start_client, (void *)1);
    assert_int_equal(meta_world_lookup(1, META_ROOT_INO, "a", NULL), 0);
    assert_true(sim_now(meta_world.sim) - began < NS_PER_S);
    assert_false(meta_world.mounts[0]->alone);
    assert_false(meta_world.mounts[1]->alone);
    /* It goes: the other is alone again. */
    sim_call(meta_world.sim, META_WORLD_SERVERS + 1, meta_world_close_client, meta_world.mounts[1]);
    meta_world_run(6 * NS_PER_S);
    assert_true(meta_world.mounts[1]->closed);
    mem_free(meta_world.mounts[1]);
    assert_true(meta_world.mounts[0]->alone);
    /* It does not let go: the newcomer waits until the grant has run out. */
    meta_world.mounts[0]->hold_alone = true;
    began = sim_now(meta_world.sim);
    sim_call(meta_world.sim, META_WORLD_SERVERS + 1, meta_world_start_client, (void *)1);
    assert_int_equal(meta_world_lookup(1, META_ROOT_INO, "a", NULL), 0);
    assert_true(sim_now(meta_world.sim) - began > 2 * NS_PER_S);
    assert_true(sim_now(meta_world.sim) - began < 5 * NS_PER_S);
    sim_call(meta_world.sim, META_WORLD_SERVERS, meta_world_release, meta_world.mounts[0]);
    meta_world_stop();
}

/* A new leader asks at once who relies on being alone: newcomers need not wait for what the old one
 * may have granted. `waits`: the newcomer's session was there before the leader died. */
static void newcomer_after_failover(bool waits)
{
    unsigned victim;
    uint64_t began;

    meta_world_start(3, 1);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "a", NULL), 0);
    meta_world_run(5 * NS_PER_S);
    assert_true(meta_world.mounts[0]->alone);
    meta_world.mounts[0]->hold_alone = waits;
    victim = (unsigned)meta_world_leader();
    if (waits) {
        sim_call(meta_world.sim, META_WORLD_SERVERS + 1, meta_world_start_client, (void *)1);
        meta_world_run(NS_PER_S / 2);
        assert_false(meta_world.mounts[0]->alone);
    }
    meta_world_kill(victim, SIM_KILL);
    began = sim_now(meta_world.sim);
    if (waits) {
        sim_call(meta_world.sim, META_WORLD_SERVERS, meta_world_release, meta_world.mounts[0]);
    } else {
        sim_call(meta_world.sim, META_WORLD_SERVERS + 1, meta_world_start_client, (void *)1);
    }
    assert_int_equal(meta_world_lookup(1, META_ROOT_INO, "a", NULL), 0);
    assert_true(sim_now(meta_world.sim) - began < 2 * NS_PER_S);
    meta_world_stop();
}

static void test_alone_over_failover(void **state)
{
    (void)state;
    newcomer_after_failover(false);
    newcomer_after_failover(true);
}

static void test_orphans(void **state)
{
    struct meta_attr file;
    struct meta_request unlink = {.op = META_UNLINK, .ino = META_ROOT_INO, .name = slice_text("f")};
    struct meta_server *server;

    (void)state;
    meta_world_start(4, 2);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "f", &file), 0);
    meta_world.mounts[0]->open_ino = file.ino;
    assert_int_equal(meta_world_request(1, unlink, NULL), 0);
    meta_world_run(8 * NS_PER_S);
    assert_int_equal(
        meta_world_request(0, (struct meta_request){.op = META_GETATTR, .ino = file.ino}, NULL), 0);
    meta_world.mounts[0]->open_ino = 0;
    meta_world_run(8 * NS_PER_S);
    assert_int_equal(
        meta_world_request(0, (struct meta_request){.op = META_GETATTR, .ino = file.ino}, NULL),
        -ESTALE);
    /* A mount that dies with the file open does not keep it for ever. */
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "f", &file), 0);
    meta_world.mounts[0]->open_ino = file.ino;
    assert_int_equal(meta_world_request(1, unlink, NULL), 0);
    sim_crash(meta_world.sim, META_WORLD_SERVERS, SIM_POWER);
    meta_world.mounts[0] = NULL;
    meta_world_run(20 * NS_PER_S);
    server = meta_world.servers[meta_world_leader()];
    assert_int_equal(server->ns.volume.orphans, 0);
    assert_int_equal(server->ns.volume.sessions, 1);
    assert_int_equal(server->ns.volume.inodes, 1);
    meta_world_stop();
}

static void test_restart_and_snapshot(void **state)
{
    char name[32];

    (void)state;
    meta_world.settings.checkpoint_ms = 2000;
    meta_world.settings.log_segment_bytes = KiB(64);
    meta_world_start(5, 1);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "before%u", i);
        assert_int_equal(meta_world_create(0, META_ROOT_INO, name, NULL), 0);
    }
    meta_world_kill(2, SIM_KILL);
    for (unsigned i = 0; i < 1500; i++) {
        snprintf(name, sizeof(name), "during%u", i);
        assert_int_equal(meta_world_create(0, META_ROOT_INO, name, NULL), 0);
    }
    meta_world_run(10 * NS_PER_S);
    for (unsigned i = 0; i < 2; i++) { /* restarted: they hold only what follows the checkpoint */
        meta_world_kill(i, SIM_KILL);
        meta_world_revive(i);
        meta_world_run(5 * NS_PER_S);
    }
    meta_world_revive(2);
    meta_world_run(10 * NS_PER_S);
    meta_world_check();
    assert_true(meta_world.servers[2]->restore_index > 0);
    assert_int_equal(meta_world.servers[2]->ns.volume.inodes, 1551);
    for (unsigned i = 0; i < META_WORLD_SERVERS; i++) {
        meta_world_kill(i, SIM_POWER);
    }
    for (unsigned i = 0; i < META_WORLD_SERVERS; i++) {
        meta_world_revive(i);
    }
    assert_int_equal(meta_world_lookup(0, META_ROOT_INO, "during1499", NULL), 0);
    assert_int_equal(meta_world_lookup(0, META_ROOT_INO, "before0", NULL), 0);
    assert_int_equal(meta_world.mounts[0]->sessions, 1);
    meta_world_stop();
    meta_world.settings = meta_world_settings();
}

static void transfer(void *data)
{
    assert_int_equal(raft_node_transfer(&((struct meta_server *)data)->raft, 0), 0);
}

/* Whatever an operator sets: nothing is lost over kills, and the replicas agree. */
static void test_random_settings(void **state)
{
    char name[32];

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct rng rng;

        rng_init(&rng, test_seed(70) + i);
        config_random(meta_settings_table(), &meta_world.settings, &rng);
        meta_world.settings.log_segment_bytes =
            min_u64(meta_world.settings.log_segment_bytes, MiB(8)); /* zeroed at each start */
        meta_world_start(80 + i, 1);
        for (unsigned k = 0; k < 60; k++) {
            snprintf(name, sizeof(name), "file%u", k);
            assert_int_equal(meta_world_create(0, META_ROOT_INO, name, NULL), 0);
            if (k % 20 == 10) {
                meta_world_kill(k / 20, SIM_POWER);
                meta_world_revive(k / 20);
            }
        }
        meta_world_run(12 * NS_PER_S);
        for (unsigned k = 0; k < 60; k++) {
            snprintf(name, sizeof(name), "file%u", k);
            assert_int_equal(meta_world_lookup(0, META_ROOT_INO, name, NULL), 0);
        }
        meta_world_stop();
        meta_world.settings = meta_world_settings();
    }
}

/* The leader dies while it sends its whole state to a member; the next leader has the entries that
 * the member lacks, so no other stream follows: the member goes on from where it was. */
static void test_snapshot_breaks_off(void **state)
{
    char name[32];

    (void)state;
    meta_world.settings.checkpoint_ms = 2000;
    meta_world.settings.log_segment_bytes = KiB(64);
    meta_world_start(6, 1);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "before", NULL), 0);
    meta_world_kill(2, SIM_KILL);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "during%u", i);
        assert_int_equal(meta_world_create(0, META_ROOT_INO, name, NULL), 0);
    }
    meta_world_run(5 * NS_PER_S);
    meta_world_kill(0, SIM_KILL); /* from now on it holds only what follows its checkpoint */
    meta_world_revive(0);
    meta_world_run(5 * NS_PER_S);
    if (meta_world_leader() != 0) {
        assert_true(sim_call(meta_world.sim, 1, transfer, meta_world.servers[1]));
        meta_world_run(2 * NS_PER_S);
    }
    assert_int_equal(meta_world_leader(), 0);
    meta_world_revive(2);
    while (!meta_world.servers[2]->raft.snapshot_in.active) {
        assert_true(sim_step(meta_world.sim));
    }
    meta_world_kill(0, SIM_KILL);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "after", NULL), 0);
    meta_world_run(2 * NS_PER_S);
    assert_int_equal(meta_world_leader(), 1);
    assert_int_equal(meta_world.servers[2]->ns.volume.inodes, 303);
    meta_world_revive(0);
    meta_world_stop();
    meta_world.settings = meta_world_settings();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basics),
        cmocka_unit_test(test_exactly_once),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_alone_over_failover),
        cmocka_unit_test(test_orphans),
        cmocka_unit_test(test_restart_and_snapshot),
        cmocka_unit_test(test_random_settings),
        cmocka_unit_test(test_snapshot_breaks_off),
    };

    meta_world.settings = meta_world_settings();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
