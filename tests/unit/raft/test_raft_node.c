/* Three nodes over real sockets, files and threads, in one loop. */
#include "tests/lib/test.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "net/env_uv.h"
#include "raft/raft_node.h"

#define NODES   3
#define ENTRIES 2000

struct cluster;

struct member {
    struct cluster *cluster;
    struct raft_node node;
    struct rpc_server server;
    struct rpc_identity identity;
    struct raft_machine machine;
    uint64_t applied;
    bool leads;
};

struct cluster {
    struct env_uv *uv;
    struct env *env;
    char *dir;
    struct member members[NODES];
    struct env_timer timer;
    uint64_t proposed;
    uint64_t deadline_ns;
    bool closing;
    bool done;
    bool read_done;
    struct raft_read read;
};

static void apply(struct raft_machine *machine, uint64_t index, uint64_t term, struct slice command)
{
    struct member *member = container_of(machine, struct member, machine);

    (void)term;
    (void)command;
    ASSERT(index == member->applied + 1);
    member->applied = index;
}

static void members(struct raft_machine *machine, struct raft_members *out_members)
{
    (void)machine;
    *out_members = (struct raft_members){0};
}

static void role_changed(struct raft_machine *machine, bool is_leader, uint64_t term,
                         uint32_t leader_id)
{
    (void)term;
    (void)leader_id;
    container_of(machine, struct member, machine)->leads = is_leader;
}

static void handle(struct rpc_server *server, struct rpc_request *request)
{
    raft_node_receive(&((struct member *)server->data)->node, request);
}

static void read_done(struct raft_read *read, int status)
{
    struct cluster *cluster = container_of(read, struct cluster, read);

    cluster->read_done = status == 0;
}

static void drive(struct cluster *cluster, struct member *leader)
{
    uint8_t command[300] = {1};
    uint64_t index;

    for (unsigned i = 0; i < 50 && cluster->proposed < ENTRIES; i++) {
        cluster->proposed +=
            raft_node_propose(&leader->node, slice_make(command, sizeof(command)), &index) == 0;
    }
    if (cluster->proposed == ENTRIES && !cluster->read_done && cluster->read.id == 0) {
        cluster->read.done = read_done;
        cluster->read_done = raft_node_read(&leader->node, &cluster->read) == 1;
    }
}

static bool all_applied(const struct cluster *cluster)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (cluster->members[i].applied < ENTRIES) {
            return false;
        }
    }
    return cluster->read_done;
}

static bool all_closed(const struct cluster *cluster)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (!raft_node_closed(&cluster->members[i].node)) {
            return false;
        }
    }
    return true;
}

static void on_timer(struct env_timer *timer)
{
    struct cluster *cluster = container_of(timer, struct cluster, timer);
    bool late = env_now(cluster->env) > cluster->deadline_ns;

    if (cluster->closing && (all_closed(cluster) || late)) {
        env_uv_stop(cluster->uv);
        return;
    }
    env_timer_start(cluster->env, timer, env_now(cluster->env) + NS_PER_MS);
    for (unsigned i = 0; i < NODES && !cluster->closing; i++) {
        if (cluster->members[i].leads) {
            drive(cluster, &cluster->members[i]);
        }
    }
    if (!cluster->closing && (late || all_applied(cluster))) {
        cluster->done = !late;
        cluster->closing = true;
        cluster->deadline_ns = env_now(cluster->env) + 10 * NS_PER_S;
        for (unsigned i = 0; i < NODES; i++) {
            raft_node_close(&cluster->members[i].node);
            rpc_server_stop(&cluster->members[i].server);
        }
    }
}

static void open_member(struct cluster *cluster, unsigned n)
{
    struct member *member = &cluster->members[n];
    struct raft_peer_config peers[NODES];
    char *dir = mem_printf("%s/node%u", cluster->dir, n);
    int r;

    for (unsigned i = 0; i < NODES; i++) {
        peers[i].id = i + 1;
        peers[i].address = mem_printf("unix:%s/socket%u", cluster->dir, i);
    }
    member->cluster = cluster;
    member->identity = (struct rpc_identity){.role = RPC_ROLE_META, .node_id = n + 1};
    member->machine =
        (struct raft_machine){.apply = apply, .members = members, .role_changed = role_changed};
    member->server.handle = handle;
    member->server.data = member;
    r = rpc_server_start(&member->server, cluster->env, &member->identity, peers[n].address);
    assert_int_equal(r, 0);
    r = raft_node_open(&member->node, cluster->env,
                       &(struct raft_node_config){.identity = &member->identity,
                                                  .dir = dir,
                                                  .peers = peers,
                                                  .peer_count = NODES,
                                                  .log_segment_bytes = KiB(256)},
                       &member->machine);
    assert_int_equal(r, 0);
    for (unsigned i = 0; i < NODES; i++) {
        mem_free((void *)(uintptr_t)peers[i].address);
    }
    mem_free(dir);
}

static void test_three_nodes(void **state)
{
    struct cluster *cluster = mem_zalloc(sizeof(*cluster));
    int r;

    (void)state;
    r = env_uv_open(&cluster->uv,
                    &(struct env_uv_config){.node_name = "test", .log_level = LOG_LEVEL_WARN});
    assert_int_equal(r, 0);
    cluster->env = env_uv_env(cluster->uv);
    cluster->dir = test_dir_make();
    for (unsigned i = 0; i < NODES; i++) {
        open_member(cluster, i);
    }
    cluster->deadline_ns = env_now(cluster->env) + 60 * NS_PER_S;
    cluster->timer.fire = on_timer;
    env_timer_start(cluster->env, &cluster->timer, env_now(cluster->env));
    env_uv_run(cluster->uv);
    assert_true(cluster->done);
    assert_true(all_closed(cluster));
    env_uv_close(cluster->uv);
    test_dir_remove(cluster->dir);
    mem_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_three_nodes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
