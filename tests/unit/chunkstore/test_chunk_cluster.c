/* Three chunk servers and a client over Unix sockets, in one loop. */
#include "tests/lib/test.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "chunkstore/chunk_client.h"
#include "chunkstore/chunk_server.h"
#include "net/env_uv.h"

#include <errno.h>

#define SERVERS 3

struct cluster {
    struct env_uv *uv;
    struct env *env;
    char *dir;
    struct rpc_identity identity[SERVERS + 1]; /* [SERVERS]: the client */
    struct chunk_server servers[SERVERS];
    char *dirs[SERVERS], *addresses[SERVERS];
    bool up[SERVERS];
    struct cluster_map map;
    struct chunk_client client;
    unsigned waiting;
};

static struct cluster *the_cluster; /* for callbacks that carry nothing */

static void wait_all(struct cluster *cluster)
{
    while (cluster->waiting > 0) {
        env_uv_run(cluster->uv);
    }
}

static void one_done(void)
{
    if (--the_cluster->waiting == 0) {
        env_uv_stop(the_cluster->uv);
    }
}

static void start_server(struct cluster *cluster, unsigned i)
{
    struct chunk_settings settings = chunk_settings_defaults();
    struct chunk_server_config config = {.dir = cluster->dirs[i],
                                         .listen = cluster->addresses[i],
                                         .zone = "z",
                                         .identity = &cluster->identity[i],
                                         .settings = &settings};

    settings.scrub_bytes_second = 0;
    assert_int_equal(chunk_server_start(&cluster->servers[i], cluster->env, &config), 0);
    chunk_client_set_map(&cluster->servers[i].peers, &cluster->map);
    cluster->up[i] = true;
}

static void on_stopped(struct chunk_server *server)
{
    (void)server;
    one_done();
}

static void stop_server(struct cluster *cluster, unsigned i)
{
    cluster->waiting++;
    cluster->up[i] = false;
    chunk_server_stop(&cluster->servers[i], on_stopped);
    wait_all(cluster);
}

static int cluster_setup(void **state)
{
    struct cluster *cluster = mem_zalloc(sizeof(*cluster));
    struct env_uv_config config = {.node_name = "test", .log_level = LOG_LEVEL_ERROR};
    struct chunk_server_info infos[SERVERS] = {0};

    the_cluster = cluster;
    cluster->dir = test_dir_make();
    assert_int_equal(env_uv_open(&cluster->uv, &config), 0);
    cluster->env = env_uv_env(cluster->uv);
    for (unsigned i = 0; i <= SERVERS; i++) {
        cluster->identity[i] =
            (struct rpc_identity){.cluster_uuid = {1, 2, 3},
                                  .role = i < SERVERS ? RPC_ROLE_CHUNK : RPC_ROLE_CLIENT,
                                  .node_id = i < SERVERS ? i + 1 : 0};
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        cluster->dirs[i] = mem_printf("%s/c%u", cluster->dir, i);
        cluster->addresses[i] = mem_printf("unix:%s/s%u", cluster->dir, i);
        infos[i].id = i + 1;
        snprintf(infos[i].address, sizeof(infos[i].address), "%s", cluster->addresses[i]);
    }
    cluster_map_build(&cluster->map, 1, infos, SERVERS);
    for (unsigned i = 0; i < SERVERS; i++) {
        start_server(cluster, i);
    }
    chunk_client_init(&cluster->client, cluster->env, &cluster->identity[SERVERS], 2);
    chunk_client_set_map(&cluster->client, &cluster->map);
    *state = cluster;
    return 0;
}

static void on_flush(struct env_timer *timer)
{
    (void)timer;
    one_done();
}

/* Lets closing connections and files end. */
static void settle(struct cluster *cluster, uint64_t ns)
{
    struct env_timer timer = {.fire = on_flush};

    cluster->waiting++;
    env_timer_start(cluster->env, &timer, env_now(cluster->env) + ns);
    wait_all(cluster);
}

static int cluster_teardown(void **state)
{
    struct cluster *cluster = *state;

    chunk_client_deinit(&cluster->client);
    for (unsigned i = 0; i < SERVERS; i++) {
        if (cluster->up[i]) {
            stop_server(cluster, i);
        }
        mem_free(cluster->dirs[i]);
        mem_free(cluster->addresses[i]);
    }
    settle(cluster, 50 * NS_PER_MS);
    cluster_map_deinit(&cluster->map);
    env_uv_close(cluster->uv);
    test_dir_remove(cluster->dir);
    mem_free(cluster);
    return 0;
}

static void fill(uint8_t *bytes, uint32_t size, uint64_t seed, bool compressible)
{
    struct rng rng;

    rng_init(&rng, seed);
    for (uint32_t i = 0; i < size; i++) {
        bytes[i] = compressible ? (uint8_t)("abcdefgh"[i / 64 % 8]) : (uint8_t)rng_next(&rng);
    }
}

static void put_released(struct chunk_put *put)
{
    (void)put;
    one_done();
}

static int put_chunk(struct cluster *cluster, uint64_t seq, uint32_t size, bool compressible)
{
    uint8_t *bytes = mem_alloc(size);
    struct iovec iov = {bytes, size};
    struct chunk_put put = {.id = {7, seq},
                            .iov = &iov,
                            .iov_count = 1,
                            .length = size,
                            .try_compress = true,
                            .timeout_ns = 5 * NS_PER_S,
                            .released = put_released};

    fill(bytes, size, seq, compressible);
    cluster->waiting++;
    chunk_put_start(&put, &cluster->client);
    wait_all(cluster);
    mem_free(bytes);
    return put.op.result;
}

static void on_peer_closed(struct rpc_peer *peer)
{
    (void)peer;
    one_done();
}

static void get_released(struct chunk_get *get)
{
    (void)get;
    one_done();
}

static int get_chunk(struct cluster *cluster, uint64_t seq, uint32_t offset, uint32_t length,
                     struct buf *out)
{
    struct chunk_get get = {.id = {7, seq},
                            .offset = offset,
                            .length = length,
                            .timeout_ns = 5 * NS_PER_S,
                            .released = get_released};

    cluster->waiting++;
    chunk_get_start(&get, &cluster->client);
    wait_all(cluster);
    *out = get.out;
    return get.op.result;
}

static void expect(struct cluster *cluster, uint64_t seq, uint32_t size, uint32_t offset,
                   uint32_t length, bool compressible)
{
    cleanup(buf_deinit) struct buf out = {0};
    uint8_t *bytes = mem_alloc(size);

    fill(bytes, size, seq, compressible);
    assert_int_equal(get_chunk(cluster, seq, offset, length, &out), 0);
    assert_int_equal(out.size, length);
    assert_memory_equal(out.data, bytes + offset, length);
    mem_free(bytes);
}

static void test_put_get_ranges(void **state)
{
    static const uint32_t sizes[] = {1, 100, 4096, 4097, 65535, 65536, 300000, 4 << 20};
    struct cluster *cluster = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (unsigned compressible = 0; compressible < 2; compressible++) {
            uint64_t seq = i * 2 + compressible + 1;
            uint32_t size = sizes[i];

            assert_int_equal(put_chunk(cluster, seq, size, compressible != 0), 0);
            expect(cluster, seq, size, 0, size, compressible != 0);
            expect(cluster, seq, size, size / 2, (size + 1) / 2, compressible != 0);
            expect(cluster, seq, size, size - 1, 1, compressible != 0);
        }
    }
    /* Again: the same bytes are fine, others are refused. */
    assert_int_equal(put_chunk(cluster, 3, 100, false), 0);
    assert_int_equal(put_chunk(cluster, 3, 101, false), -ERR_CORRUPT);
}

static void del_released(struct chunk_delete *del)
{
    (void)del;
    one_done();
}

static void test_delete(void **state)
{
    struct cluster *cluster = *state;
    struct chunk_id ids[] = {{7, 100}, {7, 101}, {7, 102}};
    struct chunk_delete del = {
        .ids = ids, .count = 3, .timeout_ns = 5 * NS_PER_S, .released = del_released};
    cleanup(buf_deinit) struct buf out = {0};

    assert_int_equal(put_chunk(cluster, 100, 10, false), 0);
    assert_int_equal(put_chunk(cluster, 101, 1 << 20, false), 0);
    cluster->waiting++;
    chunk_delete_start(&del, &cluster->client);
    wait_all(cluster);
    assert_int_equal(del.op.result, 0);
    assert_int_equal(get_chunk(cluster, 100, 0, 10, &out), -ERR_NOT_FOUND);
    assert_int_equal(get_chunk(cluster, 101, 0, 10, &out), -ERR_NOT_FOUND);
}

static void test_one_server_down_then_hint(void **state)
{
    struct cluster *cluster = *state;
    uint64_t before;

    assert_int_equal(put_chunk(cluster, 200, 5000, false), 0);
    stop_server(cluster, 1);
    for (uint64_t seq = 201; seq < 221; seq++) {
        uint64_t start = env_now(cluster->env);

        assert_int_equal(put_chunk(cluster, seq, 70000, false), 0);
        assert_true(env_now(cluster->env) - start < 2 * NS_PER_S);
        expect(cluster, seq, 70000, 60000, 10000, false);
    }
    expect(cluster, 200, 5000, 0, 5000, false);
    start_server(cluster, 1);
    before = env_now(cluster->env);
    while (cluster->servers[1].store.totals.chunks != cluster->servers[0].store.totals.chunks &&
           env_now(cluster->env) - before < 20 * NS_PER_S) {
        settle(cluster, 50 * NS_PER_MS);
    }
    assert_int_equal(cluster->servers[1].store.totals.chunks,
                     cluster->servers[0].store.totals.chunks);
    assert_memory_equal(cluster->servers[1].store.totals.hash,
                        cluster->servers[0].store.totals.hash,
                        sizeof(cluster->servers[0].store.totals.hash));
}

static void flip_a_bit(struct cluster *cluster, unsigned server)
{
    struct segment *segment = cluster->servers[server].store.open[SEGMENT_LARGE];
    uint64_t at;
    uint8_t byte;

    assert_non_null(segment);
    at = segment->end - RECORD_ALIGN_LARGE - 50000;
    assert_int_equal(env_read_at(cluster->env, segment->file, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(env_write_at(cluster->env, segment->file, &byte, 1, at), 0);
}

/* A damaged copy is never returned, and is replaced from another server. */
static void test_damage_is_repaired(void **state)
{
    struct cluster *cluster = *state;
    uint64_t before = env_now(cluster->env);
    uint64_t repairs = 0;
    struct index_key key = {(uint32_t)(chunk_id_hash(7, 300) % CHUNK_PARTITIONS), 7, 300};

    assert_int_equal(put_chunk(cluster, 300, 100000, false), 0);
    for (unsigned i = 0; i < SERVERS - 1; i++) { /* flip a bit of the data on two of them */
        flip_a_bit(cluster, i);
    }
    for (unsigned i = 0; i < 6; i++) {
        expect(cluster, 300, 100000, 0, 100000, false);
    }
    for (unsigned i = 0; i < SERVERS - 1; i++) { /* as a reader or the scrub would tell them */
        heal_pull(&cluster->servers[i].heal, &key, /* replace= */ false);
    }
    while (repairs < 2 && env_now(cluster->env) - before < 10 * NS_PER_S) {
        settle(cluster, 50 * NS_PER_MS);
        repairs = cluster->servers[0].heal.repairs + cluster->servers[1].heal.repairs;
    }
    assert_true(repairs >= 2);
}

/* ---- CHUNK_VERIFY ---- */

struct verification {
    struct rpc_call call;
    struct chunk_verify_reply reply;
    struct buf body;
    int status;
};

static void on_verified(struct rpc_call *call, struct rpc_reply *reply)
{
    struct verification *verification = container_of(call, struct verification, call);

    verification->status = reply->status;
    buf_append_slice(&verification->body, reply->body);
    one_done();
}

/* Asks server 1, as another server would. */
static int verify(struct cluster *cluster, struct chunk_verify_request request,
                  struct verification *out)
{
    cleanup(buf_deinit) struct buf body = {0};
    struct rpc_peer peer;

    *out = (struct verification){0};
    chunk_verify_request_encode(&request, &body);
    rpc_peer_init(&peer, cluster->env, &cluster->identity[SERVERS], cluster->addresses[0]);
    out->call = (struct rpc_call){.opcode = CHUNK_VERIFY,
                                  .body = buf_slice(&body),
                                  .timeout_ns = 10 * NS_PER_S,
                                  .done = on_verified};
    cluster->waiting++;
    rpc_call_start(&peer, &out->call);
    wait_all(cluster);
    peer.closed = on_peer_closed;
    cluster->waiting++;
    rpc_peer_close(&peer);
    wait_all(cluster);
    return out->status < 0 ? out->status
                           : chunk_verify_reply_decode(&out->reply, buf_slice(&out->body));
}

/* Of all partitions of server 1: ids of damaged copies, and how many were read. */
static uint64_t verify_all(struct cluster *cluster, uint32_t max, bool repair, struct buf *damaged)
{
    uint64_t chunks = 0;

    for (uint32_t p = 0; p < CHUNK_PARTITIONS; p++) {
        struct chunk_verify_request request = {.partition = p, .max = max, .repair = repair};
        struct verification one;
        bool last;

        do {
            assert_int_equal(verify(cluster, request, &one), 0);
            chunks += one.reply.chunks;
            buf_append_slice(damaged, one.reply.damaged);
            request.session = one.reply.session;
            request.seq = one.reply.seq;
            last = one.reply.last;
            buf_deinit(&one.body);
        } while (!last);
    }
    return chunks;
}

static void expect_damaged(const struct buf *ids, uint64_t session, uint64_t seq)
{
    uint64_t found_session, found_seq;

    assert_int_equal(chunk_ids_count(buf_slice(ids)), 1);
    chunk_ids_get(buf_slice(ids), 0, &found_session, &found_seq);
    assert_int_equal(found_session, session);
    assert_int_equal(found_seq, seq);
}

/* What a server is asked to verify it names; it repairs it only when told to. */
static void test_verify(void **state)
{
    struct cluster *cluster = *state;
    struct chunk_server *server = &cluster->servers[0];
    cleanup(buf_deinit) struct buf damaged = {0};
    struct verification one;
    uint64_t found, repairs = server->heal.repairs;

    assert_int_equal(put_chunk(cluster, 400, 100000, false), 0);
    assert_int_equal(verify_all(cluster, 0, false, &damaged), server->store.totals.chunks);
    assert_int_equal(damaged.size, 0);
    flip_a_bit(cluster, 0);
    found = server->store.corrupt_found;
    assert_int_equal(verify_all(cluster, 1, false, &damaged), server->store.totals.chunks);
    expect_damaged(&damaged, 7, 400);
    assert_int_equal(server->store.corrupt_found, found); /* it looked, no more */
    settle(cluster, 300 * NS_PER_MS);
    assert_int_equal(server->heal.repairs, repairs);

    buf_clear(&damaged);
    verify_all(cluster, 0, true, &damaged);
    expect_damaged(&damaged, 7, 400);
    for (unsigned i = 0; i < 200 && server->heal.repairs == repairs; i++) {
        settle(cluster, 50 * NS_PER_MS);
    }
    buf_clear(&damaged);
    assert_int_equal(verify_all(cluster, 0, false, &damaged), server->store.totals.chunks);
    assert_int_equal(damaged.size, 0);
    assert_int_equal(
        verify(cluster, (struct chunk_verify_request){.partition = CHUNK_PARTITIONS}, &one),
        -ERR_BAD_MESSAGE);
    buf_deinit(&one.body);
}

/* So much is left, whatever the disk says. */
static void leave_room(struct cluster *cluster, unsigned server, uint64_t bytes)
{
    struct chunk_store *store = &cluster->servers[server].store;

    store->stat_running = true; /* no look meanwhile */
    store->reserve = 1;
    store->room = bytes;
}

static void test_room_is_told(void **state)
{
    struct cluster *cluster = *state;

    leave_room(cluster, 0, KiB(100));
    leave_room(cluster, 1, MiB(50));
    leave_room(cluster, 2, MiB(10));
    assert_int_equal(put_chunk(cluster, 9001, 20000, false), 0);
    settle(cluster, 50 * NS_PER_MS); /* the third answer */
    /* One full server is no reason to refuse: two of three is a quorum. */
    assert_int_equal(cluster->client.room, MiB(10) - 20000);
    assert_int_equal(put_chunk(cluster, 9002, 200000, false), 0);
    settle(cluster, 50 * NS_PER_MS);
    assert_int_equal(cluster->client.room, MiB(10) - 220000);
    leave_room(cluster, 2, 1000);
    assert_int_equal(put_chunk(cluster, 9003, 200000, false), -ENOSPC);
    settle(cluster, 50 * NS_PER_MS);
    assert_int_equal(cluster->client.room, KiB(100) - 20000);
    leave_room(cluster, 0, MiB(20));
    assert_int_equal(put_chunk(cluster, 9004, 200000, false), 0);
    settle(cluster, 50 * NS_PER_MS);
    assert_int_equal(cluster->client.room, MiB(20) - 200000);
    /* What is here already needs none: a put that is sent again is not refused for itself. */
    for (unsigned i = 0; i < SERVERS; i++) {
        leave_room(cluster, i, 1000);
    }
    assert_int_equal(put_chunk(cluster, 9004, 200000, false), 0);
    assert_int_equal(put_chunk(cluster, 9005, 200000, false), -ENOSPC);
}

static void test_restart_keeps_all(void **state)
{
    struct cluster *cluster = *state;

    for (unsigned i = 0; i < SERVERS; i++) {
        stop_server(cluster, i);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        start_server(cluster, i);
    }
    expect(cluster, 300, 100000, 0, 100000, false);
    expect(cluster, 200, 5000, 0, 5000, false);
    expect(cluster, 16, 4 << 20, 0, 4 << 20, true);
}

static void test_foreign_directory_is_refused(void **state)
{
    struct cluster *cluster = *state;
    struct chunk_store store;
    struct chunk_store_config config = {
        .dir = cluster->dirs[0], .cluster_uuid = {9}, .server_id = 1};

    stop_server(cluster, 0);
    assert_int_equal(chunk_store_open(&store, cluster->env, &config), -ERR_WRONG_CLUSTER);
    memcpy(config.cluster_uuid, cluster->identity[0].cluster_uuid, 16);
    config.server_id = 2;
    assert_int_equal(chunk_store_open(&store, cluster->env, &config), -ERR_WRONG_NODE);
    config.dir = cluster->dir; /* files of somebody else */
    assert_int_equal(chunk_store_open(&store, cluster->env, &config), -ERR_BAD_FORMAT);
    start_server(cluster, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get_ranges),
        cmocka_unit_test(test_delete),
        cmocka_unit_test(test_one_server_down_then_hint),
        cmocka_unit_test(test_damage_is_repaired),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_room_is_told),
        cmocka_unit_test(test_restart_keeps_all),
        cmocka_unit_test(test_foreign_directory_is_refused),
    };

    return cmocka_run_group_tests(tests, cluster_setup, cluster_teardown);
}
