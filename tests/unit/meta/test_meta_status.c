/*
 * What a metadata server says of its group: nobody hears that all is well from a leader that does
 * not serve yet.
 */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "meta/meta_server_internal.h"
#include "tests/sim/env_sim.h"

#define SERVERS 3
#define ASKER   3 /* node */

static const struct raft_peer_config peers[SERVERS] = {
    {1, "unix:meta0"}, {2, "unix:meta1"}, {3, "unix:meta2"}};

struct question {
    struct rpc_peer peer;
    struct rpc_call call;
    unsigned server;
    bool under_way;
};

struct world {
    struct sim *sim;
    struct meta_server *servers[SERVERS];
    struct rpc_identity identities[SERVERS + 1];
    struct meta_settings settings;
    struct question questions[SERVERS];
    unsigned early; /* answers of a leader that did not serve yet */
    unsigned served;
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
    assert_int_equal(meta_server_start(world.servers[i], sim_env(world.sim, i), &config), 0);
}

static bool has_code(struct slice codes, const char *code)
{
    for (size_t at = 0; at < codes.size; at += strlen((const char *)codes.data + at) + 1) {
        if (strcmp((const char *)codes.data + at, code) == 0) {
            return true;
        }
    }
    return false;
}

/* A leader stays one here, so who serves when it answers serves when the answer comes. */
static void on_status(struct rpc_call *call, struct rpc_reply *reply)
{
    struct question *question = call->data;
    struct meta_status status;

    question->under_way = false;
    if (reply->status != 0 || meta_status_decode(&status, reply->body) < 0 ||
        !slice_equal(status.role, slice_text("leader"))) {
        return;
    }
    if (has_code(status.health, "NO_LEADER")) {
        world.early++;
    } else {
        world.served++;
        assert_true(world.servers[question->server]->leader);
    }
}

static void ask(void *data)
{
    struct question *question = data;

    question->under_way = true;
    question->call = (struct rpc_call){
        .opcode = META_RPC_STATUS, .timeout_ns = NS_PER_S, .done = on_status, .data = question};
    rpc_call_start(&question->peer, &question->call);
}

static void init_question(void *data)
{
    struct question *question = data;

    rpc_peer_init(&question->peer, sim_env(world.sim, ASKER), &world.identities[ASKER],
                  peers[question->server].address);
}

static void run_for(uint64_t ns)
{
    uint64_t end = sim_now(world.sim) + ns;

    while (sim_now(world.sim) < end) {
        for (unsigned i = 0; i < SERVERS; i++) {
            if (!world.questions[i].under_way) {
                assert_true(sim_call(world.sim, ASKER, ask, &world.questions[i]));
            }
        }
        sim_run(world.sim, sim_now(world.sim) + NS_PER_MS);
    }
}

static void test_who_does_not_serve_yet_says_so(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        world = (struct world){.sim = sim_new(seed), .settings = meta_settings_defaults()};
        world.settings.log_segment_bytes = MiB(1); /* zeroed at each start */
        world.identities[ASKER] =
            (struct rpc_identity){.cluster_uuid = "0123456789abcde", .role = RPC_ROLE_ADMIN};
        sim_faults(world.sim)->disk_min_ns = 20 * NS_PER_MS; /* time to ask in */
        sim_faults(world.sim)->disk_max_ns = 30 * NS_PER_MS;
        for (unsigned i = 0; i < SERVERS; i++) {
            assert_true(sim_call(world.sim, i, start_server, (void *)(uintptr_t)i));
            world.questions[i].server = i;
            assert_true(sim_call(world.sim, ASKER, init_question, &world.questions[i]));
        }
        run_for(2 * NS_PER_S);
        assert_true(world.early > 0); /* it was asked in time */
        assert_true(world.served > 0);
        for (unsigned i = 0; i < SERVERS; i++) {
            sim_crash(world.sim, i, SIM_KILL);
        }
        sim_crash(world.sim, ASKER, SIM_KILL);
        sim_free(world.sim);
    }
}

static void test_a_disk_not_looked_at_is_not_full(void **state)
{
    struct meta_server *server = mem_zalloc(sizeof(*server));
    struct meta_space space;

    (void)state;
    world.sim = sim_new(1);
    server->env = sim_env(world.sim, 0);
    server->leader_since_ns = env_now(server->env);
    server->server_count = 2;
    server->servers[0].heard_ns = server->servers[1].heard_ns = env_now(server->env) + 1;
    assert_false(server_space(server, &space)); /* it asks again */
    server->servers[1].total_bytes = 1000;
    server->servers[1].free_bytes = 400;
    assert_true(server_space(server, &space)); /* the other one is taken for alike */
    assert_int_equal(space.total_bytes, 1000);
    assert_int_equal(space.free_bytes, 400);
    mem_free(server);
    sim_free(world.sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_does_not_serve_yet_says_so),
        cmocka_unit_test(test_a_disk_not_looked_at_is_not_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
