/*
 * A metadata server joins three others in the simulator: by entries, by a snapshot that names it,
 * by one that counts its vote already, with the power lost at each I/O of it. A chunk server that
 * was configured with the three hears of it.
 */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "chunkstore/chunk_server.h"
#include "meta/meta_server_internal.h"
#include "raft/raft_internal.h"
#include "tests/sim/env_sim.h"

#include <errno.h>

#define SERVERS 3
#define ALL     4
#define JOINER  3 /* node; its number is 4 */

static const struct raft_peer_config peers[ALL] = {
    {1, "unix:meta0"}, {2, "unix:meta1"}, {3, "unix:meta2"}, {4, "unix:meta3"}};

struct world {
    struct sim *sim;
    struct meta_server *servers[ALL];
    struct rpc_identity identities[ALL];
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
                                        .peer_count = i == JOINER ? ALL : SERVERS,
                                        .start = i == JOINER ? META_START_JOIN : META_START_CREATE,
                                        .settings = &world.settings};

    world.identities[i] = (struct rpc_identity){
        .cluster_uuid = "0123456789abcde", .role = RPC_ROLE_META, .node_id = i + 1};
    world.servers[i] = mem_zalloc(sizeof(struct meta_server));
    world.result = meta_server_start(world.servers[i], sim_env(world.sim, i), &config);
}

static bool start(unsigned i)
{
    return sim_call(world.sim, i, start_server, (void *)(uintptr_t)i);
}

static void kill_server(unsigned i, enum sim_crash_kind kind)
{
    sim_crash(world.sim, i, kind);
    world.servers[i] = NULL; /* leaked, like a killed process */
}

static void revive(unsigned i)
{
    sim_restart(world.sim, i);
    assert_true(start(i));
    assert_int_equal(world.result, 0);
}

static void run_for(uint64_t ns)
{
    sim_run(world.sim, sim_now(world.sim) + ns);
}

static struct meta_server *leader(void)
{
    for (unsigned i = 0; i < SERVERS; i++) {
        if (world.servers[i] != NULL && world.servers[i]->leader) {
            return world.servers[i];
        }
    }
    return NULL;
}

static struct raft *joiner(void)
{
    return &world.servers[JOINER]->raft.raft;
}

static void world_start(uint64_t seed)
{
    world = (struct world){.sim = sim_new(seed), .settings = meta_settings_defaults()};
    world.settings.checkpoint_ms = 500;
    world.settings.log_segment_bytes = RAFT_LOG_SEGMENT_MIN;
    for (unsigned i = 0; i < SERVERS; i++) {
        assert_true(start(i));
        assert_int_equal(world.result, 0);
    }
    run_for(3 * NS_PER_S);
    assert_non_null(leader());
}

static void world_stop(void)
{
    assert_int_equal(sim_errors(world.sim), 0);
    for (unsigned i = 0; i < ALL; i++) {
        if (world.servers[i] != NULL) {
            kill_server(i, SIM_KILL);
        }
    }
    sim_free(world.sim);
}

struct change {
    struct meta_server *server;
    struct raft_change change;
    int result;
};

static void change_group(void *data)
{
    struct change *change = data;
    uint64_t index;

    change->result = raft_node_change(&change->server->raft, &change->change, &index);
}

static int try_change(enum raft_change_type type)
{
    struct change change = {.server = leader(),
                            .change = {.type = type, .id = 4, .address = peers[JOINER].address}};

    if (change.server == NULL) {
        return -EAGAIN;
    }
    assert_true(sim_call(world.sim, change.server->identity.node_id - 1, change_group, &change));
    return change.result;
}

static void change(enum raft_change_type type)
{
    uint64_t limit = sim_now(world.sim) + 20 * NS_PER_S;

    while (try_change(type) != 0) {
        assert_true(sim_now(world.sim) < limit);
        run_for(10 * NS_PER_MS);
    }
}

/* From now on the others have only what follows their checkpoints: who lacks more gets a snapshot.
 */
static void forget_log(void)
{
    run_for(2 * NS_PER_S);
    for (unsigned i = 0; i < SERVERS; i++) {
        kill_server(i, SIM_KILL);
        revive(i);
        run_for(2 * NS_PER_S);
    }
    assert_non_null(leader());
}

static void check_votes(void)
{
    run_for(3 * NS_PER_S);
    assert_false(joiner()->lost);
    assert_true(raft_may_vote(joiner()));
    assert_int_equal(world.servers[JOINER]->members.count, ALL);
    assert_true(world.servers[JOINER]->tree->applied_index == leader()->tree->applied_index);
    list_for_each (at, &world.servers[JOINER]->raft.links) { /* those it met are members now */
        assert_true(list_entry(at, struct raft_link, list_node)->guest_until_ns == 0);
    }
}

static void restart_joiner(enum sim_crash_kind kind)
{
    kill_server(JOINER, kind);
    revive(JOINER);
    check_votes();
}

/* Step by step until the joiner's log, or a snapshot, names it. */
static void until_named(void)
{
    while (joiner()->joining) {
        assert_true(sim_step(world.sim));
    }
}

/* The first snapshot names it. It stands still before its next tick, its vote counts meanwhile, and
 * the second snapshot says so: it has promised nothing that it does not hold. */
static void test_snapshots_that_name_it(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        world_start(seed);
        change(RAFT_CHANGE_ADD);
        forget_log();
        assert_true(start(JOINER));
        until_named();
        assert_true(world.servers[JOINER]->restore_index > 0);
        while (try_change(RAFT_CHANGE_PROMOTE) != 0) {
            assert_true(sim_step(world.sim));
        }
        sim_pause(world.sim, JOINER, sim_now(world.sim) + 20 * NS_PER_S);
        forget_log();
        run_for(20 * NS_PER_S);
        check_votes();
        restart_joiner(SIM_KILL);
        restart_joiner(SIM_POWER);
        world_stop();
    }
}

/* Until it is named it has no group, whatever its configuration says, and no vote. */
static void test_power_lost_while_it_joins(void **state)
{
    (void)state;
    for (uint64_t io = 1; io < 80; io++) {
        world_start(100 + io);
        sim_crash_at_io(world.sim, JOINER, io);
        if (io % 2 == 0) {
            change(RAFT_CHANGE_ADD);
        }
        (void)start(JOINER);
        if (io % 2 != 0) {
            change(RAFT_CHANGE_ADD);
        }
        run_for(2 * NS_PER_S);
        sim_crash_at_io(world.sim, JOINER, 0);
        if (!sim_died(world.sim, JOINER)) {
            kill_server(JOINER, SIM_POWER);
        }
        revive(JOINER);
        assert_false(raft_may_vote(joiner()));
        assert_true(joiner()->members.count == 0 ||
                    raft_members_voters(&joiner()->members) == SERVERS);
        change(RAFT_CHANGE_PROMOTE);
        check_votes();
        restart_joiner(SIM_POWER);
        world_stop();
    }
}

static struct chunk_server chunk;

#define CHUNK_NODE 8

static void start_chunk(void *data)
{
    static const char *const addresses[] = {"unix:meta0", "unix:meta1", "unix:meta2"};
    static const struct rpc_identity identity = {
        .cluster_uuid = "0123456789abcde", .role = RPC_ROLE_CHUNK, .node_id = 1};
    static struct chunk_settings settings;
    struct chunk_server_config config = {.dir = "chunk",
                                         .listen = "unix:chunk",
                                         .zone = "z",
                                         .identity = &identity,
                                         .meta_addresses = addresses,
                                         .meta_count = ARRAY_SIZE(addresses),
                                         .settings = &settings};

    (void)data;
    settings = chunk_settings_defaults();
    assert_int_equal(chunk_server_start(&chunk, sim_env(world.sim, CHUNK_NODE), &config), 0);
}

static void hand_over_to_joiner(void *data)
{
    (void)data;
    world.result = raft_node_transfer(&leader()->raft, 4);
}

/* It leads, and the chunk server finds it: no server of its configuration leads any more. */
static void test_chunk_servers_hear_of_it(void **state)
{
    (void)state;
    world_start(77);
    assert_true(sim_call(world.sim, CHUNK_NODE, start_chunk, NULL));
    change(RAFT_CHANGE_ADD);
    assert_true(start(JOINER));
    change(RAFT_CHANGE_PROMOTE);
    check_votes();
    assert_int_equal(leader()->server_count, 1);
    assert_int_equal(chunk.meta_count, ALL);
    assert_true(sim_call(world.sim, leader()->identity.node_id - 1, hand_over_to_joiner, NULL));
    assert_int_equal(world.result, 0);
    run_for(10 * NS_PER_S);
    assert_true(world.servers[JOINER]->leader);
    assert_int_equal(world.servers[JOINER]->server_count, 1);
    assert_true(env_now(world.servers[JOINER]->env) - world.servers[JOINER]->servers[0].heard_ns <
                3 * NS_PER_S);
    sim_crash(world.sim, CHUNK_NODE, SIM_KILL);
    world_stop();
}

static void learn(void *data)
{
    server_meta_learn(&chunk, buf_slice(data));
}

/* As many addresses as there is room for, twice: those that are named now are known. */
static void test_chunk_server_forgets_old_addresses(void **state)
{
    (void)state;
    world_start(78);
    assert_true(sim_call(world.sim, CHUNK_NODE, start_chunk, NULL));
    for (unsigned i = 0; i < 3 * SERVER_METADATA_MAX; i++) {
        cleanup(buf_deinit) struct buf list = {0};
        char address[32];
        bool known = false;

        snprintf(address, sizeof(address), "unix:other%u", i);
        schema_write_bytes(&list, slice_text(address));
        sim_call(world.sim, CHUNK_NODE, learn, &list);
        for (unsigned k = 0; k < chunk.meta_count; k++) {
            known = known || strcmp(chunk.meta[k]->address, address) == 0;
        }
        assert_true(known);
        assert_true(chunk.meta_count <= SERVER_METADATA_MAX);
        run_for(NS_PER_S / 10); /* those that were dropped close; the leader names its own again */
    }
    sim_crash(world.sim, CHUNK_NODE, SIM_KILL);
    world_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshots_that_name_it),
        cmocka_unit_test(test_power_lost_while_it_joins),
        cmocka_unit_test(test_chunk_servers_hear_of_it),
        cmocka_unit_test(test_chunk_server_forgets_old_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
