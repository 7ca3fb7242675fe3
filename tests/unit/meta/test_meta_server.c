/*
 * Three metadata servers and their clients in the simulator: operations end to end, exactly once
 * under leader kills, sessions, being alone, orphans, chunk servers, restarts and snapshots.
 */
#include "tests/lib/test.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/mem.h"
#include "chunkstore/chunk_proto.h"
#include "meta/meta_client.h"
#include "meta/meta_server_internal.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <stdio.h>

#define SERVERS 3
#define CLIENTS 2 /* on nodes 3 and 4 */
#define LIMIT   (120 * NS_PER_S)

static const char *const addresses[SERVERS] = {"unix:meta0", "unix:meta1", "unix:meta2"};

struct mount {
    struct meta_client client;
    struct rpc_identity identity;
    uint64_t open_ino; /* held open */
    unsigned sessions; /* session_changed calls */
    unsigned maps;
    bool alone, closed, hold_alone;
};

struct world {
    struct sim *sim;
    struct meta_server *servers[SERVERS];
    struct rpc_identity identities[SERVERS];
    struct mount *mounts[CLIENTS];
    struct meta_settings settings;
    unsigned errors; /* ERROR lines that the test wanted */
};

static struct world world;

/* ---- servers ---- */

static const struct raft_peer_config peers[SERVERS] = {
    {1, "unix:meta0"}, {2, "unix:meta1"}, {3, "unix:meta2"}};

static void on_stopped(struct meta_server *server)
{
    server->data = server; /* seen by world_stop */
}

static struct meta_settings test_settings(void)
{
    struct meta_settings settings = meta_settings_defaults();

    settings.gc_grace_ms = 1000;
    return settings;
}

static void start_server(void *data)
{
    unsigned i = (unsigned)(uintptr_t)data;
    struct meta_server_config config = {.identity = &world.identities[i],
                                        .dir = "meta",
                                        .address = addresses[i],
                                        .peers = peers,
                                        .peer_count = SERVERS,
                                        .settings = &world.settings,
                                        .owner_uid = 0};

    world.identities[i] = (struct rpc_identity){
        .cluster_uuid = "0123456789abcde", .role = RPC_ROLE_META, .node_id = i + 1};
    world.servers[i] = mem_zalloc(sizeof(struct meta_server));
    world.servers[i]->stopped = on_stopped;
    assert_int_equal(meta_server_start(world.servers[i], sim_env(world.sim, i), &config), 0);
}

static void kill_server(unsigned i, enum sim_crash_kind kind)
{
    sim_crash(world.sim, i, kind);
    world.servers[i] = NULL; /* what it held is leaked, like a killed process */
}

static void revive_server(unsigned i)
{
    sim_restart(world.sim, i);
    assert_true(sim_call(world.sim, i, start_server, (void *)(uintptr_t)i));
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

/* ---- clients ---- */

static void on_session(struct meta_client *client, bool alive)
{
    struct mount *mount = client->data;

    (void)alive;
    mount->sessions++;
}

static void release(void *data)
{
    meta_client_release_alone(&((struct mount *)data)->client);
}

static void on_alone(struct meta_client *client, bool alone)
{
    struct mount *mount = client->data;

    mount->alone = alone;
    if (!alone && !mount->hold_alone) {
        meta_client_release_alone(client);
    }
}

static bool is_open(struct meta_client *client, uint64_t ino)
{
    return ((struct mount *)client->data)->open_ino == ino;
}

static void on_map(struct meta_client *client, const struct cluster_map *map)
{
    assert_true(map->epoch > 0);
    ((struct mount *)client->data)->maps++;
}

static void on_closed(struct meta_client *client)
{
    ((struct mount *)client->data)->closed = true;
}

static void start_client(void *data)
{
    unsigned i = (unsigned)(uintptr_t)data;
    struct mount *mount = mem_zalloc(sizeof(*mount));
    struct meta_client_config config = {
        .identity = &mount->identity, .addresses = addresses, .address_count = SERVERS};

    mount->identity =
        (struct rpc_identity){.cluster_uuid = "0123456789abcde", .role = RPC_ROLE_CLIENT};
    mount->client = (struct meta_client){.data = mount,
                                         .session_changed = on_session,
                                         .alone_changed = on_alone,
                                         .is_open = is_open,
                                         .map_told = on_map,
                                         .closed = on_closed};
    world.mounts[i] = mount;
    meta_client_start(&mount->client, sim_env(world.sim, SERVERS + i), &config);
}

static void close_client(void *data)
{
    meta_client_close(&((struct mount *)data)->client);
}

struct call {
    struct meta_call call;
    struct mount *mount;
    struct buf data; /* of the reply */
    struct meta_attr attr;
    uint64_t value;
    uint32_t flags;
    bool done;
};

static void on_done(struct meta_call *meta_call)
{
    struct call *call = container_of(meta_call, struct call, call);

    ASSERT(!call->done);
    call->done = true;
    if (meta_call->status == 0) {
        buf_append_slice(&call->data, meta_call->reply.data);
        call->value = meta_call->reply.value;
        call->flags = meta_call->reply.flags;
        if (meta_call->reply.attr.size > 0) {
            int r = meta_attr_decode(&call->attr, meta_call->reply.attr);

            ASSERT(r == 0);
        }
    }
}

static void start_call(void *data)
{
    struct call *call = data;

    call->call.done = on_done;
    meta_call_start(&call->mount->client, &call->call);
}

static void begin(struct call *call, unsigned mount, struct meta_request request)
{
    *call = (struct call){.mount = world.mounts[mount]};
    call->call.request = request;
    assert_true(sim_call(world.sim, SERVERS + mount, start_call, call));
}

static void run_for(uint64_t ns)
{
    sim_run(world.sim, sim_now(world.sim) + ns);
}

static int finish(struct call *call)
{
    uint64_t limit = sim_now(world.sim) + LIMIT;

    while (!call->done && sim_now(world.sim) < limit) {
        run_for(NS_PER_MS);
    }
    assert_true(call->done);
    buf_deinit(&call->data);
    return call->call.status;
}

static int request(unsigned mount, struct meta_request message, struct meta_attr *out_attr)
{
    struct call call;
    int r;

    begin(&call, mount, message);
    r = finish(&call);
    if (out_attr != NULL) {
        *out_attr = call.attr;
    }
    return r;
}

static int create(unsigned mount, uint64_t dir, const char *name, struct meta_attr *out_attr)
{
    return request(mount,
                   (struct meta_request){.op = META_CREATE,
                                         .flags = META_NOREPLACE,
                                         .ino = dir,
                                         .name = slice_text(name),
                                         .mode = 0644},
                   out_attr);
}

static int lookup(unsigned mount, uint64_t dir, const char *name, struct meta_attr *out_attr)
{
    return request(mount,
                   (struct meta_request){.op = META_LOOKUP, .ino = dir, .name = slice_text(name)},
                   out_attr);
}

static void world_start(uint64_t seed, unsigned mounts)
{
    world = (struct world){.sim = sim_new(seed), .settings = world.settings};
    for (unsigned i = 0; i < SERVERS; i++) {
        assert_true(sim_call(world.sim, i, start_server, (void *)(uintptr_t)i));
    }
    for (unsigned i = 0; i < mounts; i++) {
        assert_true(sim_call(world.sim, SERVERS + i, start_client, (void *)(uintptr_t)i));
    }
}

static void stop_server(void *data)
{
    meta_server_stop(data);
}

/* Replicas that have applied the same agree on the state. */
static void check_agreement(void)
{
    run_for(2 * NS_PER_S);
    for (unsigned i = 0; i < SERVERS; i++) {
        for (unsigned j = 0; j < i; j++) {
            struct meta_server *a = world.servers[i], *b = world.servers[j];

            if (a != NULL && b != NULL && a->tree->applied_index == b->tree->applied_index) {
                assert_true(a->tree->hash == b->tree->hash);
            }
        }
    }
    assert_int_equal(sim_errors(world.sim), world.errors);
}

static void world_stop(void)
{
    check_agreement();
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (world.mounts[i] != NULL) {
            sim_call(world.sim, SERVERS + i, close_client, world.mounts[i]);
        }
    }
    run_for(3 * NS_PER_S);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (world.mounts[i] != NULL) {
            assert_true(world.mounts[i]->closed);
            mem_free(world.mounts[i]);
        }
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        if (world.servers[i] != NULL) {
            sim_call(world.sim, i, stop_server, world.servers[i]);
        }
    }
    run_for(2 * NS_PER_S);
    for (unsigned i = 0; i < SERVERS; i++) {
        assert_true(world.servers[i] == NULL || world.servers[i]->data != NULL);
        mem_free(world.servers[i]);
    }
    sim_free(world.sim);
}

/* ---- tests ---- */

static void test_basics(void **state)
{
    struct meta_attr dir, file, found;
    struct call call;

    (void)state;
    world_start(1, 1);
    assert_int_equal(request(0,
                             (struct meta_request){.op = META_MKDIR,
                                                   .ino = META_ROOT_INO,
                                                   .name = slice_text("dir"),
                                                   .mode = 0755},
                             &dir),
                     0);
    assert_int_equal(create(0, dir.ino, "file", &file), 0);
    assert_int_equal(create(0, dir.ino, "file", &found), -EEXIST);
    assert_int_equal(lookup(0, dir.ino, "file", &found), 0);
    assert_int_equal(found.ino, file.ino);
    assert_int_equal(lookup(0, dir.ino, "none", &found), -ENOENT);
    begin(&call, 0, (struct meta_request){.op = META_READDIR, .ino = dir.ino});
    while (!call.done) {
        run_for(NS_PER_MS);
    }
    assert_true(call.data.size > 0);
    assert_int_equal(call.value, 1);
    assert_int_equal(finish(&call), 0);
    assert_true(world.mounts[0]->alone);
    world_stop();
}

static void test_exactly_once(void **state)
{
    enum { COUNT = 400 };
    static struct call calls[COUNT];
    uint64_t seed = test_seed(7);
    struct rng rng;

    (void)state;
    rng_init(&rng, seed);
    world_start(seed, 1);
    sim_faults(world.sim)->reset_per_million = 2000;
    for (unsigned i = 0; i < COUNT; i++) {
        static char names[COUNT][16];

        snprintf(names[i], sizeof(names[i]), "d%u", i);
        begin(&calls[i], 0,
              (struct meta_request){.op = META_MKDIR,
                                    .ino = META_ROOT_INO,
                                    .name = slice_text(names[i]),
                                    .mode = 0755});
        run_for(rng_below(&rng, 40 * NS_PER_MS));
        if (i % 40 == 39) {
            int victim = leader();

            if (victim >= 0) {
                kill_server((unsigned)victim, i % 80 == 39 ? SIM_KILL : SIM_POWER);
                run_for(rng_below(&rng, 2 * NS_PER_S));
                revive_server((unsigned)victim);
            }
        }
    }
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(finish(&calls[i]), 0); /* a second execution would say EEXIST */
    }
    sim_faults(world.sim)->reset_per_million = 0;
    for (unsigned i = 0; i < COUNT; i += 37) {
        char name[16];

        snprintf(name, sizeof(name), "d%u", i);
        assert_int_equal(lookup(0, META_ROOT_INO, name, NULL), 0);
    }
    world_stop();
}

static void cancel_call(void *data)
{
    struct call *call = data;

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
    struct call call;

    (void)state;
    world_start(test_seed(3), 1);
    assert_int_equal(create(0, META_ROOT_INO, "f", &attr), 0);
    begin(&call, 0, mkdir);
    assert_int_equal(world.mounts[0]->client.given_up, 0);
    assert_true(sim_call(world.sim, SERVERS, cancel_call, &call));
    assert_int_equal(world.mounts[0]->client.given_up, 1);
    assert_int_equal(finish(&call), -EINTR);
    run_for(5 * NS_PER_S);
    assert_int_equal(world.mounts[0]->client.given_up, 0);
    assert_int_equal(lookup(0, META_ROOT_INO, "d", &attr), 0);
    world_stop();
}

static void test_alone(void **state)
{
    uint64_t began;

    (void)state;
    world_start(3, 1);
    assert_int_equal(create(0, META_ROOT_INO, "a", NULL), 0);
    run_for(5 * NS_PER_S);
    assert_true(world.mounts[0]->alone);
    /* The lone mount lets go at once: the newcomer need not wait long. */
    began = sim_now(world.sim);
    sim_call(world.sim, SERVERS + 1, start_client, (void *)1);
    assert_int_equal(lookup(1, META_ROOT_INO, "a", NULL), 0);
    assert_true(sim_now(world.sim) - began < NS_PER_S);
    assert_false(world.mounts[0]->alone);
    assert_false(world.mounts[1]->alone);
    /* It goes: the other is alone again. */
    sim_call(world.sim, SERVERS + 1, close_client, world.mounts[1]);
    run_for(6 * NS_PER_S);
    assert_true(world.mounts[1]->closed);
    mem_free(world.mounts[1]);
    assert_true(world.mounts[0]->alone);
    /* It does not let go: the newcomer waits until the grant has run out. */
    world.mounts[0]->hold_alone = true;
    began = sim_now(world.sim);
    sim_call(world.sim, SERVERS + 1, start_client, (void *)1);
    assert_int_equal(lookup(1, META_ROOT_INO, "a", NULL), 0);
    assert_true(sim_now(world.sim) - began > 2 * NS_PER_S);
    assert_true(sim_now(world.sim) - began < 5 * NS_PER_S);
    sim_call(world.sim, SERVERS, release, world.mounts[0]);
    world_stop();
}

/* A new leader asks at once who relies on being alone: newcomers need not wait for what the old one
 * may have granted. `waits`: the newcomer's session was there before the leader died. */
static void newcomer_after_failover(bool waits)
{
    unsigned victim;
    uint64_t began;

    world_start(3, 1);
    assert_int_equal(create(0, META_ROOT_INO, "a", NULL), 0);
    run_for(5 * NS_PER_S);
    assert_true(world.mounts[0]->alone);
    world.mounts[0]->hold_alone = waits;
    victim = (unsigned)leader();
    if (waits) {
        sim_call(world.sim, SERVERS + 1, start_client, (void *)1);
        run_for(NS_PER_S / 2);
        assert_false(world.mounts[0]->alone);
    }
    kill_server(victim, SIM_KILL);
    began = sim_now(world.sim);
    if (waits) {
        sim_call(world.sim, SERVERS, release, world.mounts[0]);
    } else {
        sim_call(world.sim, SERVERS + 1, start_client, (void *)1);
    }
    assert_int_equal(lookup(1, META_ROOT_INO, "a", NULL), 0);
    assert_true(sim_now(world.sim) - began < 2 * NS_PER_S);
    world_stop();
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
    world_start(4, 2);
    assert_int_equal(create(0, META_ROOT_INO, "f", &file), 0);
    world.mounts[0]->open_ino = file.ino;
    assert_int_equal(request(1, unlink, NULL), 0);
    run_for(8 * NS_PER_S);
    assert_int_equal(request(0, (struct meta_request){.op = META_GETATTR, .ino = file.ino}, NULL),
                     0);
    world.mounts[0]->open_ino = 0;
    run_for(8 * NS_PER_S);
    assert_int_equal(request(0, (struct meta_request){.op = META_GETATTR, .ino = file.ino}, NULL),
                     -ESTALE);
    /* A mount that dies with the file open does not keep it for ever. */
    assert_int_equal(create(0, META_ROOT_INO, "f", &file), 0);
    world.mounts[0]->open_ino = file.ino;
    assert_int_equal(request(1, unlink, NULL), 0);
    sim_crash(world.sim, SERVERS, SIM_POWER);
    world.mounts[0] = NULL;
    run_for(20 * NS_PER_S);
    server = world.servers[leader()];
    assert_int_equal(server->ns.volume.orphans, 0);
    assert_int_equal(server->ns.volume.sessions, 1);
    assert_int_equal(server->ns.volume.inodes, 1);
    world_stop();
}

static void test_restart_and_snapshot(void **state)
{
    char name[32];

    (void)state;
    world.settings.checkpoint_ms = 2000;
    world.settings.log_segment_bytes = KiB(64);
    world_start(5, 1);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "before%u", i);
        assert_int_equal(create(0, META_ROOT_INO, name, NULL), 0);
    }
    kill_server(2, SIM_KILL);
    for (unsigned i = 0; i < 1500; i++) {
        snprintf(name, sizeof(name), "during%u", i);
        assert_int_equal(create(0, META_ROOT_INO, name, NULL), 0);
    }
    run_for(10 * NS_PER_S);
    for (unsigned i = 0; i < 2; i++) { /* restarted: they hold only what follows the checkpoint */
        kill_server(i, SIM_KILL);
        revive_server(i);
        run_for(5 * NS_PER_S);
    }
    revive_server(2);
    run_for(10 * NS_PER_S);
    check_agreement();
    assert_true(world.servers[2]->restore_index > 0);
    assert_int_equal(world.servers[2]->ns.volume.inodes, 1551);
    for (unsigned i = 0; i < SERVERS; i++) {
        kill_server(i, SIM_POWER);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        revive_server(i);
    }
    assert_int_equal(lookup(0, META_ROOT_INO, "during1499", NULL), 0);
    assert_int_equal(lookup(0, META_ROOT_INO, "before0", NULL), 0);
    assert_int_equal(world.mounts[0]->sessions, 1);
    world_stop();
    world.settings = test_settings();
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
        config_random(meta_settings_table(), &world.settings, &rng);
        world_start(80 + i, 1);
        for (unsigned k = 0; k < 60; k++) {
            snprintf(name, sizeof(name), "file%u", k);
            assert_int_equal(create(0, META_ROOT_INO, name, NULL), 0);
            if (k % 20 == 10) {
                kill_server(k / 20, SIM_POWER);
                revive_server(k / 20);
            }
        }
        run_for(12 * NS_PER_S);
        for (unsigned k = 0; k < 60; k++) {
            snprintf(name, sizeof(name), "file%u", k);
            assert_int_equal(lookup(0, META_ROOT_INO, name, NULL), 0);
        }
        world_stop();
        world.settings = test_settings();
    }
}

/* The leader dies while it sends its whole state to a member; the next leader has the entries that
 * the member lacks, so no other stream follows: the member goes on from where it was. */
static void test_snapshot_breaks_off(void **state)
{
    char name[32];

    (void)state;
    world.settings.checkpoint_ms = 2000;
    world.settings.log_segment_bytes = KiB(64);
    world_start(6, 1);
    assert_int_equal(create(0, META_ROOT_INO, "before", NULL), 0);
    kill_server(2, SIM_KILL);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "during%u", i);
        assert_int_equal(create(0, META_ROOT_INO, name, NULL), 0);
    }
    run_for(5 * NS_PER_S);
    kill_server(0, SIM_KILL); /* from now on it holds only what follows its checkpoint */
    revive_server(0);
    run_for(5 * NS_PER_S);
    if (leader() != 0) {
        assert_true(sim_call(world.sim, 1, transfer, world.servers[1]));
        run_for(2 * NS_PER_S);
    }
    assert_int_equal(leader(), 0);
    revive_server(2);
    while (!world.servers[2]->raft.snapshot_in.active) {
        assert_true(sim_step(world.sim));
    }
    kill_server(0, SIM_KILL);
    assert_int_equal(create(0, META_ROOT_INO, "after", NULL), 0);
    run_for(2 * NS_PER_S);
    assert_int_equal(leader(), 1);
    assert_int_equal(world.servers[2]->ns.volume.inodes, 303);
    revive_server(0);
    world_stop();
    world.settings = test_settings();
}

/* The longest time between two creates, one after the other, for so long. */
static uint64_t longest_pause(unsigned *no, uint64_t ns)
{
    uint64_t end = sim_now(world.sim) + ns, longest = 0;
    char name[32];

    while (sim_now(world.sim) < end) {
        uint64_t before = sim_now(world.sim);

        snprintf(name, sizeof(name), "load%u", (*no)++);
        assert_int_equal(create(0, META_ROOT_INO, name, NULL), 0);
        longest = max_u64(longest, sim_now(world.sim) - before);
    }
    return longest;
}

static void forget_stopped(unsigned i)
{
    assert_non_null(world.servers[i]->data); /* on_stopped was called */
    mem_free(world.servers[i]);
    world.servers[i] = NULL;
}

/* A leader that is told to stop hands over: who works meanwhile waits for less than an election. */
static void test_graceful_stop(void **state)
{
    uint64_t pause, worst = 0;
    unsigned no = 0;

    (void)state;
    for (unsigned seed = 0; seed < 5; seed++) {
        int old;

        world_start(20 + seed, 1);
        (void)longest_pause(&no, NS_PER_S);
        old = leader();
        assert_true(old >= 0);
        assert_true(sim_call(world.sim, (unsigned)old, stop_server, world.servers[old]));
        pause = longest_pause(&no, 2 * NS_PER_S);
        assert_true(leader() >= 0 && leader() != old);
        forget_stopped((unsigned)old);
        worst = max_u64(worst, pause);
        world_stop();
    }
    printf("longest pause of a create while the leader stops: %.1f ms\n", (double)worst / 1e6);
    assert_true(worst < RAFT_ELECTION_MIN_NS);
}

/* Nobody to hand over to: it stops at once, and within its time when others do not take it. */
static void test_stop_without_others(void **state)
{
    int old;

    (void)state;
    world_start(30, 1);
    assert_int_equal(create(0, META_ROOT_INO, "a", NULL), 0);
    old = leader();
    for (int i = 0; i < SERVERS; i++) {
        if (i != old) {
            kill_server((unsigned)i, SIM_POWER); /* its peers see silence, not a reset */
        }
    }
    assert_true(sim_call(world.sim, (unsigned)old, stop_server, world.servers[old]));
    run_for(world.settings.handover_ms * NS_PER_MS + 500 * NS_PER_MS);
    forget_stopped((unsigned)old);
    for (unsigned i = 0; i < SERVERS; i++) {
        if ((int)i != old) {
            revive_server(i);
        }
    }
    run_for(2 * NS_PER_S);
    world_stop();
}

/* As a process is that was stopped for a minute: its clock went on, it heard nobody. */
static void stand_still(void *data)
{
    struct meta_server *server = data;
    struct map_slot *slot;
    size_t at = 0;

    server->ticked_ns -= 60 * NS_PER_S;
    while ((slot = map_next(&server->sessions, &at)) != NULL) {
        ((struct meta_session *)slot->value)->heard_ns -= 60 * NS_PER_S;
    }
}

static void test_stall_expires_nobody(void **state)
{
    (void)state;
    world_start(8, 1);
    run_for(70 * NS_PER_S);
    assert_int_equal(create(0, META_ROOT_INO, "a", NULL), 0);
    assert_true(sim_call(world.sim, (unsigned)leader(), stand_still, world.servers[leader()]));
    run_for(5 * NS_PER_S);
    assert_int_equal(create(0, META_ROOT_INO, "b", NULL), 0);
    assert_int_equal(world.mounts[0]->sessions, 1);
    /* It is forgiven once: a client that is gone still expires. */
    sim_crash(world.sim, SERVERS, SIM_POWER);
    world.mounts[0] = NULL;
    run_for(15 * NS_PER_S);
    assert_int_equal(world.servers[leader()]->ns.volume.sessions, 0);
    world_stop();
}

/* A leader that is frozen resets no connection: its clients find the next one all the same. */
static void test_leader_stands_still(void **state)
{
    (void)state;
    for (uint64_t seed = 20; seed < 30; seed++) {
        uint64_t began;
        int frozen;

        world_start(seed, 1);
        assert_int_equal(create(0, META_ROOT_INO, "a", NULL), 0);
        run_for(NS_PER_S);
        frozen = leader();
        began = sim_now(world.sim);
        sim_pause(world.sim, (unsigned)frozen, began + 5 * NS_PER_S);
        assert_int_equal(create(0, META_ROOT_INO, "b", NULL), 0);
        assert_in_range(sim_now(world.sim) - began, 0, NS_PER_S);
        assert_int_not_equal(leader(), -1);
        assert_true(world.mounts[0]->client.silences > 0);
        assert_int_equal(world.mounts[0]->sessions, 1);
        run_for(6 * NS_PER_S);
        assert_int_equal(create(0, META_ROOT_INO, "b", NULL), -EEXIST);
        world_stop();
    }
}

static void change_state(void *data)
{
    struct meta_server *server = data;

    btree_put(server->tree, slice_text("Z"), slice_text("of this replica only"));
}

/* Load until one of them dies or 20 seconds are over. */
static void run_until_death(void)
{
    static unsigned no;
    bool died = false;

    for (unsigned i = 0; i < 20 && !died; i++) {
        char name[32];

        snprintf(name, sizeof(name), "until%u", no++);
        assert_int_equal(create(0, META_ROOT_INO, name, NULL), 0);
        run_for(NS_PER_S);
        for (unsigned k = 0; k < SERVERS; k++) {
            died |= sim_died(world.sim, k);
        }
    }
}

/* The replica that is alone with its state stops, be it a follower or the leader; the others go on.
 */
static void one_differs(bool is_leader, uint64_t seed)
{
    unsigned odd;

    world_start(seed, 1);
    assert_int_equal(create(0, META_ROOT_INO, "a", NULL), 0);
    run_for(NS_PER_S);
    odd = ((unsigned)leader() + !is_leader) % SERVERS;
    assert_true(sim_call(world.sim, odd, change_state, world.servers[odd]));
    run_until_death();
    assert_true(sim_died(world.sim, odd));
    assert_non_null(strstr(sim_last_error(world.sim), "the state differs from the majority's"));
    world.errors = sim_errors(world.sim);
    world.servers[odd] = NULL;
    for (unsigned i = 0; i < SERVERS; i++) {
        assert_int_equal(sim_died(world.sim, i), i == odd);
    }
    assert_int_equal(create(0, META_ROOT_INO, "goes on", NULL), 0);
    revive_server(odd); /* what differed was in no checkpoint: replayed, it agrees again */
    run_for(12 * NS_PER_S);
    assert_true(world.servers[odd]->tree->applied_index > 0);
    run_until_death();
    world_stop();
}

static void test_follower_differs(void **state)
{
    (void)state;
    one_differs(false, 7);
    one_differs(false, 9);
}

static void test_leader_differs(void **state)
{
    (void)state;
    one_differs(true, 7);
    one_differs(true, 9);
}

/* Two that differ, and nobody to say which is right: both stay, it is said, and settled when the
 * third is back. */
static void test_no_majority(void **state)
{
    unsigned odd, away;

    (void)state;
    world_start(11, 1);
    assert_int_equal(create(0, META_ROOT_INO, "a", NULL), 0);
    run_for(NS_PER_S);
    odd = (unsigned)leader();
    away = (odd + 1) % SERVERS;
    kill_server(away, SIM_KILL);
    assert_true(sim_call(world.sim, odd, change_state, world.servers[odd]));
    run_until_death();
    assert_non_null(strstr(sim_last_error(world.sim), "no majority agrees"));
    for (unsigned i = 0; i < SERVERS; i++) {
        assert_false(sim_died(world.sim, i));
    }
    revive_server(away);
    run_until_death();
    assert_true(sim_died(world.sim, odd));
    world.servers[odd] = NULL;
    world.errors = sim_errors(world.sim);
    assert_int_equal(create(0, META_ROOT_INO, "goes on", NULL), 0);
    revive_server(odd);
    run_for(5 * NS_PER_S);
    world_stop();
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
        cmocka_unit_test(test_follower_differs),
        cmocka_unit_test(test_leader_differs),
        cmocka_unit_test(test_no_majority),
        cmocka_unit_test(test_stall_expires_nobody),
        cmocka_unit_test(test_leader_stands_still),
        cmocka_unit_test(test_graceful_stop),
        cmocka_unit_test(test_stop_without_others),
    };

    world.settings = test_settings();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
