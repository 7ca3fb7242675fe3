/*
 * When has a new owner of a partition settled (docs/adr/0019)? Four chunk servers in the simulator,
 * 4 takes the place of 1 everywhere; who answers as the metadata service is this test.
 */
#include "tests/lib/test.h"

#include "chunkstore/chunk_crcs.h"
#include "chunkstore/chunk_server.h"
#include "tests/sim/env_sim.h"

#include <errno.h>

#define SERVERS   4
#define NEW       3 /* node of server 4 */
#define META_NODE 4

static const char *const meta_addresses[] = {"unix:meta"};

static struct {
    struct sim *sim;
    struct chunk_server servers[SERVERS];
    struct chunk_settings settings;
    struct rpc_identity identities[SERVERS + 1];
    char addresses[SERVERS][16];
    struct rpc_server meta;
    struct cluster_map map;
    uint64_t map_from_ns[SERVERS]; /* when a server gets to know the newest map */
    bool meta_silent;
    enum chunk_liveness liveness; /* of every chunk */
    unsigned asked;               /* times that the new owner asked for digests of server 1 */
    bool stored;
} world;

/* ---- the metadata service ---- */

static void answer_heartbeat(struct rpc_request *request, const struct chunk_heartbeat *beat)
{
    cleanup(buf_deinit) struct buf map = {0}, body = {0};
    struct chunk_heartbeat_reply reply = {.epoch = world.map.epoch};

    if (beat->epoch < world.map.epoch &&
        sim_now(world.sim) >= world.map_from_ns[beat->server_id - 1]) {
        cluster_map_encode(&world.map, &map);
        reply.map = buf_slice(&map);
    }
    chunk_heartbeat_reply_encode(&reply, &body);
    rpc_request_reply(request, 0, buf_slice(&body), NULL);
}

static void answer_live(struct rpc_request *request, const struct chunk_live_request *live)
{
    cleanup(buf_deinit) struct buf answers = {0}, body = {0};
    struct chunk_live_reply reply;
    uint8_t answer = (uint8_t)world.liveness;

    for (size_t i = 0; i < chunk_ids_count(live->ids); i++) {
        buf_append(&answers, &answer, 1);
    }
    reply = (struct chunk_live_reply){.liveness = buf_slice(&answers)};
    chunk_live_reply_encode(&reply, &body);
    rpc_request_reply(request, 0, buf_slice(&body), NULL);
}

static void on_request(struct rpc_server *server, struct rpc_request *request)
{
    struct chunk_heartbeat beat;
    struct chunk_live_request live;

    (void)server;
    if (request->opcode == CHUNK_META_HEARTBEAT) {
        assert_int_equal(chunk_heartbeat_decode(&beat, request->body), 0);
        answer_heartbeat(request, &beat);
    } else if (world.meta_silent) {
        rpc_request_reply(request, -EIO, (struct slice){0}, NULL);
    } else {
        assert_int_equal(chunk_live_request_decode(&live, request->body), 0);
        answer_live(request, &live);
    }
}

static void start_meta(void *data)
{
    struct rpc_identity *identity = &world.identities[SERVERS];

    (void)data;
    *identity = (struct rpc_identity){.cluster_uuid = {1}, .role = RPC_ROLE_META, .node_id = 1};
    world.meta = (struct rpc_server){.handle = on_request};
    assert_int_equal(
        rpc_server_start(&world.meta, sim_env(world.sim, META_NODE), identity, meta_addresses[0]),
        0);
}

/* ---- chunk servers ---- */

static void start_server(void *data)
{
    unsigned i = (unsigned)(uintptr_t)data;
    struct chunk_server_config config = {.dir = "chunk",
                                         .listen = world.addresses[i],
                                         .zone = "z",
                                         .identity = &world.identities[i],
                                         .meta_addresses = meta_addresses,
                                         .meta_count = 1,
                                         .settings = &world.settings};

    world.identities[i] =
        (struct rpc_identity){.cluster_uuid = {1}, .role = RPC_ROLE_CHUNK, .node_id = i + 1};
    assert_int_equal(chunk_server_start(&world.servers[i], sim_env(world.sim, i), &config), 0);
}

static void start(unsigned i)
{
    assert_true(sim_call(world.sim, i, start_server, (void *)(uintptr_t)i));
}

static void run_for(uint64_t ns)
{
    sim_run(world.sim, sim_now(world.sim) + ns);
}

/* 1, 2 and 3 own everything; or 4, 2 and 3, and 4 takes the place of 1. */
static void make_map(uint64_t epoch, bool moves)
{
    struct chunk_server_info infos[SERVERS] = {0};

    for (unsigned i = 0; i < SERVERS; i++) {
        infos[i].id = i + 1;
        snprintf(infos[i].address, sizeof(infos[i].address), "%s", world.addresses[i]);
    }
    cluster_map_deinit(&world.map);
    cluster_map_build(&world.map, epoch, infos, SERVERS);
    for (uint32_t p = 0; p < CHUNK_PARTITIONS; p++) {
        uint32_t owners[CHUNK_REPLICAS] = {moves ? 4 : 1, 2, 3};

        memcpy(world.map.owners[p], owners, sizeof(owners));
        world.map.from[p][0] = moves ? 1 : 0;
    }
}

static void world_start(uint64_t seed)
{
    world.sim = sim_new(seed);
    world.settings = chunk_settings_defaults();
    world.settings.sync_ms = 60000;
    world.settings.heartbeat_ms = 200;
    world.meta_silent = false;
    world.liveness = CHUNK_LIVE_LIVE;
    memset(world.map_from_ns, 0, sizeof(world.map_from_ns));
    for (unsigned i = 0; i < SERVERS; i++) {
        snprintf(world.addresses[i], sizeof(world.addresses[i]), "unix:chunk%u", i + 1);
    }
    make_map(1, /* moves= */ false);
    assert_true(sim_call(world.sim, META_NODE, start_meta, NULL));
    for (unsigned i = 0; i < SERVERS; i++) {
        start(i);
    }
    run_for(2 * NS_PER_S);
    assert_int_equal(world.servers[NEW].peers.map.epoch, 1);
}

static void world_stop(void)
{
    for (unsigned i = 0; i <= META_NODE; i++) {
        if (sim_up(world.sim, i)) {
            sim_crash(world.sim, i, SIM_KILL); /* leaked, like a killed process */
        }
    }
    sim_free(world.sim);
}

static const struct index_key key = {.session = 7, .seq = 1};

static uint32_t partition(void)
{
    return (uint32_t)(chunk_id_hash(key.session, key.seq) % CHUNK_PARTITIONS);
}

static void on_stored(struct store_put *put)
{
    assert_int_equal(put->op.result, 0);
    world.stored = true;
}

static void begin_store(void *data)
{
    static uint8_t bytes[5000];
    static struct buf crcs;
    static struct store_put put;
    struct iovec iov = {bytes, sizeof(bytes)};
    struct chunk_server *server = data;
    struct index_key at = key;

    at.partition = partition();
    buf_clear(&crcs);
    chunk_crcs_make(&iov, 1, &crcs);
    put = (struct store_put){.key = at,
                             .length = sizeof(bytes),
                             .crcs = buf_slice(&crcs),
                             .data = slice_make(bytes, sizeof(bytes)),
                             .released = on_stored};
    store_put_start(&put, &server->store);
}

/* The server has the chunk from now on. */
static void store(unsigned i)
{
    world.stored = false;
    assert_true(sim_call(world.sim, i, begin_store, &world.servers[i]));
    while (!world.stored) {
        assert_true(sim_step(world.sim));
    }
}

static bool has_chunk(unsigned i)
{
    return world.servers[i].store.totals.count[partition()] == 1;
}

static bool is_settled(void)
{
    return partition_set_has(&world.servers[NEW].heal.settled, partition());
}

/* Step by step, so that no instant is missed. */
static bool settles_within(uint64_t ns, bool with_chunk)
{
    uint64_t until = sim_now(world.sim) + ns;

    while (!is_settled() && sim_now(world.sim) < until) {
        assert_true(sim_step(world.sim));
    }
    assert_true(!is_settled() || has_chunk(NEW) == with_chunk);
    return is_settled();
}

/* ---- tests ---- */

/* What lives on the replaced server is on the new one first. */
static void test_settled_with_the_data(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        world_start(seed);
        store(0);
        make_map(2, /* moves= */ true);
        assert_true(settles_within(20 * NS_PER_S, /* with_chunk= */ true));
        world_stop();
    }
}

/* What may become alive, as it is being written, counts like what is. */
static void test_not_settled_before_it_is_known(void **state)
{
    (void)state;
    world_start(31);
    world.liveness = CHUNK_LIVE_UNKNOWN;
    store(0);
    make_map(2, /* moves= */ true);
    assert_false(settles_within(100 * NS_PER_S, false));
    world.liveness = CHUNK_LIVE_DEAD;
    assert_true(settles_within(100 * NS_PER_S, /* with_chunk= */ false));
    world_stop();
}

static void test_not_settled_when_nobody_can_say(void **state)
{
    (void)state;
    world_start(32);
    world.meta_silent = true;
    store(0);
    make_map(2, /* moves= */ true);
    assert_false(settles_within(100 * NS_PER_S, false));
    world.meta_silent = false;
    assert_true(settles_within(100 * NS_PER_S, /* with_chunk= */ true));
    world_stop();
}

/* As long as the replaced server takes puts by the old map, there may be more to come. */
static void test_not_settled_before_late_puts_end(void **state)
{
    (void)state;
    world_start(33);
    make_map(2, /* moves= */ true);
    world.map_from_ns[0] = UINT64_MAX;
    assert_false(settles_within(100 * NS_PER_S, false));
    store(0);
    world.map_from_ns[0] = 0;
    assert_true(settles_within(100 * NS_PER_S, /* with_chunk= */ true));
    world_stop();
}

/* A put that was accepted by the old map is not in the index yet. */
static void test_not_settled_while_a_put_is_under_way(void **state)
{
    (void)state;
    world_start(34);
    make_map(2, /* moves= */ true);
    while (world.servers[0].peers.map.epoch < 2) {
        assert_true(sim_step(world.sim));
    }
    world.servers[0].puts++;
    world.servers[0].old_puts++;
    assert_false(settles_within(100 * NS_PER_S, false));
    world.servers[0].puts--;
    world.servers[0].old_puts--;
    assert_true(settles_within(100 * NS_PER_S, /* with_chunk= */ false));
    world_stop();
}

static unsigned syncs_in(uint64_t ns)
{
    uint64_t before = world.servers[NEW].heal.syncs;

    run_for(ns);
    return (unsigned)(world.servers[NEW].heal.syncs - before);
}

/* Who was replaced is gone. It is asked for ever less often; after ten minutes its successor needs
 * only what the other owners have. */
static void test_a_server_that_is_gone_is_given_up(void **state)
{
    (void)state;
    world_start(35);
    store(0);
    store(1);
    sim_crash(world.sim, 0, SIM_KILL);
    make_map(2, /* moves= */ true);
    assert_true(syncs_in(20 * NS_PER_S) > 2);
    assert_true(has_chunk(NEW));
    assert_false(settles_within(500 * NS_PER_S, false));
    assert_true(syncs_in(60 * NS_PER_S) <= 2);
    assert_true(settles_within(300 * NS_PER_S, /* with_chunk= */ true));
    world_stop();
}

/* Another owner is gone too: what only these two have would be out of sight. */
static void test_the_last_copies_are_not_given_up(void **state)
{
    (void)state;
    world_start(36);
    store(0);
    store(2);
    sim_crash(world.sim, 0, SIM_KILL);
    sim_crash(world.sim, 2, SIM_KILL);
    make_map(2, /* moves= */ true);
    assert_false(settles_within(1500 * NS_PER_S, false));
    sim_restart(world.sim, 2);
    start(2);
    assert_true(settles_within(300 * NS_PER_S, /* with_chunk= */ true));
    world_stop();
}

/* Away again and again, but never for long. */
static void test_a_server_that_comes_back_is_not_given_up(void **state)
{
    (void)state;
    world_start(37);
    world.map_from_ns[0] = UINT64_MAX; /* it cannot say that nothing more will come */
    make_map(2, /* moves= */ true);
    for (unsigned i = 0; i < 4; i++) {
        sim_crash(world.sim, 0, SIM_KILL);
        assert_false(settles_within(400 * NS_PER_S, false));
        sim_restart(world.sim, 0);
        start(0);
        assert_false(settles_within(130 * NS_PER_S, false));
    }
    world_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settled_with_the_data),
        cmocka_unit_test(test_not_settled_before_it_is_known),
        cmocka_unit_test(test_not_settled_when_nobody_can_say),
        cmocka_unit_test(test_not_settled_before_late_puts_end),
        cmocka_unit_test(test_not_settled_while_a_put_is_under_way),
        cmocka_unit_test(test_a_server_that_is_gone_is_given_up),
        cmocka_unit_test(test_the_last_copies_are_not_given_up),
        cmocka_unit_test(test_a_server_that_comes_back_is_not_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
