#include "tests/lib/test.h"

#include "base/err.h"
#include "base/mem.h"
#include "net/env_uv.h"
#include "net/rpc_link.h"
#include "net/test_network.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ECHO   1
#define SILENT 2

struct world {
    struct env_uv *uv;
    struct env *env;
    struct rpc_identity identity, other;
    struct rpc_server server;
    char *dir, *address;
    unsigned waiting, handled;
    struct rpc_request *kept;
};

static void handle(struct rpc_server *server, struct rpc_request *request)
{
    struct world *world = server->data;

    world->handled++;
    if (request->opcode == SILENT) {
        world->kept = request;
        return;
    }
    rpc_request_reply(request, 0, request->body, &request->payload);
}

static void setup(struct world *world)
{
    struct env_uv_config config = {.node_name = "test", .log_level = LOG_LEVEL_ERROR};

    *world = (struct world){.identity = {.role = RPC_ROLE_META, .node_id = 3}};
    world->other.cluster_uuid[0] = 1;
    assert_int_equal(env_uv_open(&world->uv, &config), 0);
    world->env = env_uv_env(world->uv);
    world->dir = test_dir_make();
    world->address = mem_printf("unix:%s/s", world->dir);
    world->server.handle = handle;
    world->server.data = world;
    assert_int_equal(rpc_server_start(&world->server, world->env, &world->identity, world->address),
                     0);
}

struct stopper {
    struct env_timer timer;
    struct world *world;
};

static void stop(struct env_timer *timer)
{
    env_uv_stop(container_of(timer, struct stopper, timer)->world->uv);
}

/* Lets the loop take the closing of connections to its end. */
static void teardown(struct world *world)
{
    struct stopper stopper = {{.fire = stop}, world};

    if (world->kept != NULL) {
        rpc_request_reply(world->kept, 0, (struct slice){0}, NULL);
    }
    rpc_server_stop(&world->server);
    env_timer_start(world->env, &stopper.timer, env_now(world->env) + 20 * NS_PER_MS);
    env_uv_run(world->uv);
    env_uv_close(world->uv);
    mem_free(world->address);
    test_dir_remove(world->dir);
}

struct one {
    struct rpc_call call;
    struct world *world;
    int status;
    size_t payload_size;
    bool intact;
};

static void done(struct rpc_call *call, struct rpc_reply *reply)
{
    struct one *one = container_of(call, struct one, call);

    one->status = reply->status;
    one->payload_size = reply->payload.size;
    one->intact = slice_equal(buf_slice(&reply->payload), call->payload);
    if (--one->world->waiting == 0) {
        env_uv_stop(one->world->uv);
    }
}

static void start(struct world *world, struct rpc_peer *peer, struct one *one, uint16_t opcode,
                  struct slice payload, uint64_t timeout_ns)
{
    *one = (struct one){.world = world};
    one->call = (struct rpc_call){.opcode = opcode,
                                  .body = slice_text("hello"),
                                  .payload = payload,
                                  .timeout_ns = timeout_ns,
                                  .done = done};
    world->waiting++;
    rpc_call_start(peer, &one->call);
}

static void test_many_calls(void **state)
{
    static uint8_t large[MiB(4)];
    struct one ones[200];
    struct rpc_peer peer;
    struct world world;

    (void)state;
    setup(&world);
    memset(large, 'q', sizeof(large));
    rpc_peer_init(&peer, world.env, &world.identity, world.address);
    for (unsigned i = 0; i < ARRAY_SIZE(ones); i++) {
        size_t size = i % 50 == 0 ? sizeof(large) : i * 11;

        start(&world, &peer, &ones[i], ECHO, slice_make(large, size), 20 * NS_PER_S);
    }
    env_uv_run(world.uv);
    for (unsigned i = 0; i < ARRAY_SIZE(ones); i++) {
        assert_int_equal(ones[i].status, 0);
        assert_true(ones[i].intact);
    }
    rpc_peer_close(&peer);
    teardown(&world);
}

static void test_timeout_and_cancel(void **state)
{
    struct one late, cancelled;
    struct rpc_peer peer;
    struct world world;

    (void)state;
    setup(&world);
    rpc_peer_init(&peer, world.env, &world.identity, world.address);
    start(&world, &peer, &late, SILENT, (struct slice){0}, 30 * NS_PER_MS);
    start(&world, &peer, &cancelled, ECHO, (struct slice){0}, NS_PER_S);
    rpc_call_cancel(&cancelled.call);
    assert_int_equal(cancelled.status, 0); /* law 1: not inside the call */
    env_uv_run(world.uv);
    assert_int_equal(late.status, -ETIMEDOUT);
    assert_int_equal(cancelled.status, -ECANCELED);
    rpc_peer_close(&peer);
    teardown(&world);
}

static void test_foreign_cluster_and_dead_server(void **state)
{
    struct one foreign, dead;
    struct rpc_peer peer, nobody;
    struct world world;
    char *missing;

    (void)state;
    setup(&world);
    missing = mem_printf("%s-missing", world.address);
    rpc_peer_init(&peer, world.env, &world.other, world.address);
    rpc_peer_init(&nobody, world.env, &world.identity, missing);
    start(&world, &peer, &foreign, ECHO, (struct slice){0}, NS_PER_S);
    start(&world, &nobody, &dead, ECHO, (struct slice){0}, NS_PER_S);
    env_uv_run(world.uv);
    assert_true(foreign.status == -ERR_WRONG_CLUSTER || foreign.status == -ERR_DISCONNECTED);
    assert_int_equal(dead.status, -ERR_DISCONNECTED);
    rpc_peer_close(&peer);
    rpc_peer_close(&nobody);
    teardown(&world);
    mem_free(missing);
}

/* A socket that takes connections and says nothing, as a stopped process does. */
static int listen_mute(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(strlen(path) < sizeof(name.sun_path));
    memcpy(name.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

static void test_no_greeting(void **state)
{
    struct rpc_peer peer;
    struct world world;
    struct one one;
    char *path, *address;
    int fd;

    (void)state;
    setup(&world);
    path = mem_printf("%s/mute", world.dir);
    address = mem_printf("unix:%s", path);
    fd = listen_mute(path);
    rpc_peer_init(&peer, world.env, &world.identity, address);
    start(&world, &peer, &one, ECHO, (struct slice){0}, 60 * NS_PER_S);
    env_uv_run(world.uv);
    assert_int_equal(one.status, -ERR_DISCONNECTED);
    rpc_peer_close(&peer);
    teardown(&world);
    close(fd);
    mem_free(path);
    mem_free(address);
}

/* Asks for 4 MiB echoes and reads none: the server stops listening to it. */
static void test_answers_not_taken(void **state)
{
    static uint8_t large[MiB(4)];
    struct stopper stopper = {.timer = {.fire = stop}};
    struct one ones[100];
    struct rpc_peer peer;
    struct world world;

    (void)state;
    setup(&world);
    stopper.world = &world;
    rpc_peer_init(&peer, world.env, &world.identity, world.address);
    start(&world, &peer, &ones[0], ECHO, (struct slice){0}, 20 * NS_PER_S);
    env_uv_run(world.uv);
    env_conn_pause(world.env, &peer.link->conn, true);
    for (unsigned i = 0; i < ARRAY_SIZE(ones); i++) {
        start(&world, &peer, &ones[i], ECHO, slice_make(large, sizeof(large)), 60 * NS_PER_S);
    }
    env_timer_start(world.env, &stopper.timer, env_now(world.env) + NS_PER_S);
    env_uv_run(world.uv);
    assert_true(world.handled >= RPC_REPLIES_MAX / sizeof(large));
    assert_true(world.handled < RPC_REPLIES_MAX / sizeof(large) + 8);
    env_conn_pause(world.env, &peer.link->conn, false);
    env_uv_run(world.uv);
    for (unsigned i = 0; i < ARRAY_SIZE(ones); i++) {
        assert_int_equal(ones[i].status, 0);
    }
    rpc_peer_close(&peer);
    teardown(&world);
}

static void test_public_address_is_refused(void **state)
{
    struct rpc_server server = {0};
    struct world world;
    const char *why = "";

    (void)state;
    setup(&world);
    world.env->log_level = LOG_LEVEL_ERROR;
    assert_int_equal(rpc_server_start(&server, world.env, &world.identity, "0.0.0.0:7000"),
                     -EACCES);
    assert_int_equal(rpc_server_start(&server, world.env, &world.identity, "nonsense"), -EINVAL);
    /* Nor does the setting help where the outside may be reached. */
    server.insecure_test_network = true;
    if (!test_network_is_closed(&why)) {
        assert_int_equal(rpc_server_start(&server, world.env, &world.identity, "0.0.0.0:7000"),
                         -EACCES);
        assert_true(strlen(why) > 0);
    }
    teardown(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_calls),
        cmocka_unit_test(test_timeout_and_cancel),
        cmocka_unit_test(test_foreign_cluster_and_dead_server),
        cmocka_unit_test(test_no_greeting),
        cmocka_unit_test(test_answers_not_taken),
        cmocka_unit_test(test_public_address_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
