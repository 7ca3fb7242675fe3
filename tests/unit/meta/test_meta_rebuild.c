/*
 * A metadata server whose state is damaged: it gives it up, keeps its log and its vote, and is
 * whole again by a snapshot of the leader's, whatever fails meanwhile.
 */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "meta/btree_format.h"
#include "meta/meta_server_internal.h"
#include "raft/raft_internal.h"
#include "tests/sim/env_sim.h"

#include <errno.h>

#define SERVERS 3

static const struct raft_peer_config peers[SERVERS] = {
    {1, "unix:meta0"}, {2, "unix:meta1"}, {3, "unix:meta2"}};

struct world {
    struct sim *sim;
    struct meta_server *servers[SERVERS];
    struct rpc_identity identities[SERVERS];
    struct meta_settings settings;
    int result; /* of the last start */
};

static struct world world;

static void start_server(void *data)
{
    unsigned i = (unsigned)(uintptr_t)data;
    struct meta_server_config config = {.identity = &world.identities[i],
                                        .dir = "meta",
                                        .address = peers[i].address,
                                        .peers = peers,
                                        .peer_count = SERVERS,
                                        .start = META_START_CREATE,
                                        .settings = &world.settings};

    world.identities[i] = (struct rpc_identity){
        .cluster_uuid = "0123456789abcde", .role = RPC_ROLE_META, .node_id = i + 1};
    world.servers[i] = mem_zalloc(sizeof(struct meta_server));
    world.result = meta_server_start(world.servers[i], sim_env(world.sim, i), &config);
}

static void kill_server(unsigned i)
{
    sim_crash(world.sim, i, SIM_POWER);
    world.servers[i] = NULL; /* leaked, like a killed process */
}

/* Who finds its state damaged at the start ends itself, and is started again. */
static void revive(unsigned i)
{
    unsigned tries = 0;

    do {
        assert_true(tries++ < 3);
        sim_restart(world.sim, i);
    } while (!sim_call(world.sim, i, start_server, (void *)(uintptr_t)i));
    assert_int_equal(world.result, 0);
}

static void run_for(uint64_t ns)
{
    sim_run(world.sim, sim_now(world.sim) + ns);
}

static int leader(void)
{
    for (int i = 0; i < SERVERS; i++) {
        if (world.servers[i] != NULL && world.servers[i]->leader) {
            return i;
        }
    }
    return -1;
}

static unsigned a_follower(void)
{
    return (unsigned)(leader() + 1) % SERVERS;
}

/* An operation of a session that does not exist: only its place in the log matters. */
static void propose_much(void *data)
{
    static uint8_t value[KiB(60)];
    struct meta_server *server = data;
    struct meta_request request = {.op = META_SETXATTR,
                                   .session = 77,
                                   .name = slice_text("user.x"),
                                   .data = slice_make(value, sizeof(value))};

    for (unsigned i = 0; i < 8; i++) {
        (void)!server_propose(server, &request, NULL);
    }
}

/* So many entries that the first ones have left every log. */
static void fill_logs(void)
{
    for (unsigned round = 0; round < 12; round++) {
        int i = leader();

        if (i >= 0) {
            assert_true(sim_call(world.sim, (unsigned)i, propose_much, world.servers[i]));
        }
        run_for(NS_PER_S);
    }
}

static void world_start(uint64_t seed)
{
    world = (struct world){.sim = sim_new(seed), .settings = meta_settings_defaults()};
    world.settings.checkpoint_ms = 500;
    world.settings.log_segment_bytes = RAFT_LOG_SEGMENT_MIN;
    for (unsigned i = 0; i < SERVERS; i++) {
        assert_true(sim_call(world.sim, i, start_server, (void *)(uintptr_t)i));
        assert_int_equal(world.result, 0);
    }
    run_for(3 * NS_PER_S);
    assert_true(leader() >= 0);
}

static void world_stop(void)
{
    for (unsigned i = 0; i < SERVERS; i++) {
        if (world.servers[i] != NULL) {
            kill_server(i);
        }
    }
    sim_free(world.sim);
}

/* One bit in each block of [first, end) of the tree's file. */
static void damage(unsigned i, uint64_t first, uint64_t end)
{
    uint64_t block = first;

    while (block < end && sim_rot_at(world.sim, i, "meta/tree", block * BTREE_BLOCK + 40)) {
        block++;
    }
    assert_true(block > first);
}

static void damage_pages(unsigned i)
{
    damage(i, BTREE_SUPER_BLOCKS, UINT64_MAX);
}

static void damage_super(unsigned i)
{
    damage(i, 0, BTREE_SUPER_BLOCKS);
}

static bool whole(unsigned i)
{
    int l = leader();

    return l >= 0 && !world.servers[i]->raft.raft.rebuild && !world.servers[i]->rebuild &&
           world.servers[i]->tree->applied_index == world.servers[l]->tree->applied_index;
}

static void until_whole(unsigned i)
{
    uint64_t limit = sim_now(world.sim) + 60 * NS_PER_S;

    while (!whole(i)) {
        assert_true(sim_now(world.sim) < limit);
        run_for(100 * NS_PER_MS);
    }
    assert_true(world.servers[i]->tree->hash == world.servers[leader()]->tree->hash);
    assert_false(server_has_file(world.servers[i], "tree.damaged"));
    assert_true(raft_may_vote(&world.servers[i]->raft.raft) || leader() == (int)i);
}

static void check_damage(void (*spoil)(unsigned i), unsigned victim, bool first_entries_are_there)
{
    uint64_t last, term;

    kill_server(victim);
    run_for(2 * NS_PER_S);
    spoil(victim);
    revive(victim);
    last = raft_last(&world.servers[victim]->raft.raft);
    term = world.servers[victim]->raft.raft.term;
    assert_true(last > 0 && term > 0); /* the log and the vote are kept */
    assert_true(world.servers[victim]->raft.raft.rebuild == !first_entries_are_there);
    assert_int_equal(world.servers[victim]->raft.raft.repair, 0);
    until_whole(victim);
}

static void test_damaged_pages_and_superblocks(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        world_start(seed);
        check_damage(damage_super, a_follower(), /* first_entries_are_there= */ true);
        fill_logs();
        check_damage(damage_pages, a_follower(), false);
        check_damage(damage_super, a_follower(), false);
        check_damage(damage_pages, (unsigned)leader(), false);
        kill_server(a_follower()); /* what came serves: it is needed now */
        run_for(5 * NS_PER_S);
        assert_true(leader() >= 0);
        world_stop();
    }
}

/* Its vote counts while it has no state: of three servers one is away. */
static void test_votes_while_it_has_no_state(void **state)
{
    (void)state;
    for (uint64_t seed = 11; seed <= 14; seed++) {
        unsigned victim, other;

        world_start(seed);
        fill_logs();
        victim = a_follower();
        other = (unsigned)leader();
        for (unsigned i = 0; i < SERVERS; i++) {
            kill_server(i);
        }
        damage_pages(victim);
        revive(victim);
        run_for(5 * NS_PER_S);
        assert_true(world.servers[victim]->raft.raft.rebuild);
        assert_int_equal(leader(), -1);
        assert_true(world.servers[victim]->raft.raft.role == RAFT_FOLLOWER); /* it never asks */
        revive(other);
        run_for(20 * NS_PER_S);
        assert_int_equal(leader(), (int)other);
        until_whole(victim);
        world_stop();
    }
}

/* The power goes at each I/O of it. */
static void test_power_lost_while_it_is_rebuilt(void **state)
{
    (void)state;
    for (uint64_t io = 1; io < 60; io++) {
        unsigned victim;

        world_start(100 + io);
        fill_logs();
        victim = a_follower();
        kill_server(victim);
        if (io % 2 == 0) {
            damage_pages(victim);
        } else {
            damage_super(victim);
        }
        sim_restart(world.sim, victim);
        sim_crash_at_io(world.sim, victim, io);
        (void)sim_call(world.sim, victim, start_server, (void *)(uintptr_t)victim);
        run_for(3 * NS_PER_S);
        sim_crash_at_io(world.sim, victim, 0);
        if (!sim_died(world.sim, victim)) {
            kill_server(victim);
        }
        revive(victim);
        until_whole(victim);
        world_stop();
    }
}

static void find_damage(void *data)
{
    struct meta_server *server = data;

    server->tree->damaged(server->tree);
}

/* A leader that reads a damaged page is gone at once; another one leads. */
static void test_leader_finds_damage(void **state)
{
    int victim;

    (void)state;
    world_start(21);
    fill_logs();
    victim = leader();
    assert_false(sim_call(world.sim, (unsigned)victim, find_damage, world.servers[victim]));
    world.servers[victim] = NULL;
    run_for(2 * NS_PER_S);
    assert_true(leader() >= 0 && leader() != victim);
    revive((unsigned)victim);
    assert_true(world.servers[victim]->raft.raft.rebuild);
    until_whole((unsigned)victim);
    world_stop();
}

static void begin_restore(void *data)
{
    struct meta_server *server = data;
    struct raft_snapshot what = {.index = server->raft.applied + 1, .term = 1, .bytes = 1};

    (void)!server_restore_begin(server->raft.machine, &what);
}

static void finish_restore(void *data)
{
    struct meta_server *server = data;

    (void)!server_restore_finish(server->raft.machine);
}

/* Whose disk fails while the state of another one comes ends itself and says so; it does not ask
 * for the state again and again. */
static void test_disk_fails_while_a_state_comes(void **state)
{
    static void (*const steps[])(void *data) = {begin_restore, finish_restore};

    (void)state;
    for (unsigned failing = 0; failing < ARRAY_SIZE(steps); failing++) {
        unsigned victim;

        world_start(41 + failing);
        victim = a_follower();
        for (unsigned i = 0; i < failing; i++) {
            assert_true(sim_call(world.sim, victim, steps[i], world.servers[victim]));
        }
        *sim_disk_faults(world.sim, victim) =
            (struct sim_disk_faults){.sync_errors = 1000 * 1000, .blocking_too = true};
        assert_false(sim_call(world.sim, victim, steps[failing], world.servers[victim]));
        world.servers[victim] = NULL;
        sim_disk_faults(world.sim, victim)->sync_errors = 0;
        revive(victim);
        run_for(3 * NS_PER_S);
        until_whole(victim);
        world_stop();
    }
}

static void remove_log(unsigned i)
{
    size_t size;
    char path[64];

    for (unsigned seq = 1; seq < 100; seq++) {
        snprintf(path, sizeof(path), "meta/log/log-%016x", seq);
        if (sim_file(world.sim, i, path, &size) != NULL) {
            assert_true(env_path_now(sim_env(world.sim, i), ENV_IO_UNLINK, path, NULL) == 0);
        }
    }
}

/* Neither state nor log: nobody knows what it has promised, so it does not start. */
static void test_log_is_gone_too(void **state)
{
    unsigned victim;

    (void)state;
    world_start(31);
    fill_logs();
    victim = a_follower();
    kill_server(victim);
    damage_super(victim);
    sim_restart(world.sim, victim);
    remove_log(victim);
    assert_true(sim_call(world.sim, victim, start_server, (void *)(uintptr_t)victim));
    assert_int_equal(world.result, -ERR_CORRUPT);
    world.servers[victim] = NULL;
    world_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_pages_and_superblocks),
        cmocka_unit_test(test_votes_while_it_has_no_state),
        cmocka_unit_test(test_leader_finds_damage),
        cmocka_unit_test(test_disk_fails_while_a_state_comes),
        cmocka_unit_test(test_log_is_gone_too),
        cmocka_unit_test(test_power_lost_while_it_is_rebuilt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
