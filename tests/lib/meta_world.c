#include "tests/lib/meta_world.h"

#include "base/assert.h"
#include "base/mem.h"

struct meta_world meta_world;

static const char *const addresses[META_WORLD_SERVERS] = {"unix:meta0", "unix:meta1", "unix:meta2"};

/* ---- servers ---- */

static const struct raft_peer_config peers[META_WORLD_SERVERS] = {
    {1, "unix:meta0"}, {2, "unix:meta1"}, {3, "unix:meta2"}};

static void on_stopped(struct meta_server *server)
{
    server->data = server; /* seen by world_stop */
}

struct meta_settings meta_world_settings(void)
{
    struct meta_settings settings = meta_settings_defaults();

    settings.gc_grace_ms = 1000;
    settings.log_segment_bytes = MiB(1); /* zeroed at each start */
    return settings;
}

static void start_server(void *data)
{
    unsigned i = (unsigned)(uintptr_t)data;
    struct meta_server_config config = {.identity = &meta_world.identities[i],
                                        .dir = "meta",
                                        .address = addresses[i],
                                        .peers = peers,
                                        .peer_count = META_WORLD_SERVERS,
                                        .settings = &meta_world.settings,
                                        .owner_uid = 0};

    meta_world.identities[i] = (struct rpc_identity){
        .cluster_uuid = "0123456789abcde", .role = RPC_ROLE_META, .node_id = i + 1};
    meta_world.servers[i] = mem_zalloc(sizeof(struct meta_server));
    meta_world.servers[i]->stopped = on_stopped;
    assert_int_equal(meta_server_start(meta_world.servers[i], sim_env(meta_world.sim, i), &config),
                     0);
}

void meta_world_kill(unsigned i, enum sim_crash_kind kind)
{
    sim_crash(meta_world.sim, i, kind);
    meta_world.servers[i] = NULL; /* what it held is leaked, like a killed process */
}

void meta_world_revive(unsigned i)
{
    sim_restart(meta_world.sim, i);
    assert_true(sim_call(meta_world.sim, i, start_server, (void *)(uintptr_t)i));
}

int meta_world_leader(void)
{
    for (int i = 0; i < META_WORLD_SERVERS; i++) {
        if (meta_world.servers[i] != NULL && meta_world.servers[i]->leader) {
            return i;
        }
    }
    return -1;
}

/* ---- clients ---- */

static void on_session(struct meta_client *client, bool alive)
{
    struct meta_world_mount *mount = client->data;

    (void)alive;
    mount->sessions++;
}

void meta_world_release(void *data)
{
    meta_client_release_alone(&((struct meta_world_mount *)data)->client);
}

static void on_alone(struct meta_client *client, bool alone)
{
    struct meta_world_mount *mount = client->data;

    mount->alone = alone;
    if (!alone && !mount->hold_alone) {
        meta_client_release_alone(client);
    }
}

static bool is_open(struct meta_client *client, uint64_t ino)
{
    return ((struct meta_world_mount *)client->data)->open_ino == ino;
}

static void on_map(struct meta_client *client, const struct cluster_map *map)
{
    assert_true(map->epoch > 0);
    ((struct meta_world_mount *)client->data)->maps++;
}

static void on_closed(struct meta_client *client)
{
    ((struct meta_world_mount *)client->data)->closed = true;
}

void meta_world_start_client(void *data)
{
    unsigned i = (unsigned)(uintptr_t)data;
    struct meta_world_mount *mount = mem_zalloc(sizeof(*mount));
    struct meta_client_config config = {
        .identity = &mount->identity, .addresses = addresses, .address_count = META_WORLD_SERVERS};

    mount->identity =
        (struct rpc_identity){.cluster_uuid = "0123456789abcde", .role = RPC_ROLE_CLIENT};
    mount->client = (struct meta_client){.data = mount,
                                         .session_changed = on_session,
                                         .alone_changed = on_alone,
                                         .is_open = is_open,
                                         .map_told = on_map,
                                         .closed = on_closed};
    meta_world.mounts[i] = mount;
    meta_client_start(&mount->client, sim_env(meta_world.sim, META_WORLD_SERVERS + i), &config);
}

void meta_world_close_client(void *data)
{
    meta_client_close(&((struct meta_world_mount *)data)->client);
}

static void on_done(struct meta_call *meta_call)
{
    struct meta_world_call *call = container_of(meta_call, struct meta_world_call, call);

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
    struct meta_world_call *call = data;

    call->call.done = on_done;
    meta_call_start(&call->mount->client, &call->call);
}

void meta_world_begin(struct meta_world_call *call, unsigned mount, struct meta_request request)
{
    *call = (struct meta_world_call){.mount = meta_world.mounts[mount]};
    call->call.request = request;
    assert_true(sim_call(meta_world.sim, META_WORLD_SERVERS + mount, start_call, call));
}

void meta_world_run(uint64_t ns)
{
    sim_run(meta_world.sim, sim_now(meta_world.sim) + ns);
}

int meta_world_finish(struct meta_world_call *call)
{
    uint64_t limit = sim_now(meta_world.sim) + META_WORLD_LIMIT;

    while (!call->done && sim_now(meta_world.sim) < limit) {
        meta_world_run(NS_PER_MS);
    }
    assert_true(call->done);
    buf_deinit(&call->data);
    return call->call.status;
}

int meta_world_request(unsigned mount, struct meta_request message, struct meta_attr *out_attr)
{
    struct meta_world_call call;
    int r;

    meta_world_begin(&call, mount, message);
    r = meta_world_finish(&call);
    if (out_attr != NULL) {
        *out_attr = call.attr;
    }
    return r;
}

int meta_world_create(unsigned mount, uint64_t dir, const char *name, struct meta_attr *out_attr)
{
    return meta_world_request(mount,
                              (struct meta_request){.op = META_CREATE,
                                                    .flags = META_NOREPLACE,
                                                    .ino = dir,
                                                    .name = slice_text(name),
                                                    .mode = 0644},
                              out_attr);
}

int meta_world_lookup(unsigned mount, uint64_t dir, const char *name, struct meta_attr *out_attr)
{
    return meta_world_request(
        mount, (struct meta_request){.op = META_LOOKUP, .ino = dir, .name = slice_text(name)},
        out_attr);
}

void meta_world_start(uint64_t seed, unsigned mounts)
{
    meta_world = (struct meta_world){.sim = sim_new(seed), .settings = meta_world.settings};
    for (unsigned i = 0; i < META_WORLD_SERVERS; i++) {
        assert_true(sim_call(meta_world.sim, i, start_server, (void *)(uintptr_t)i));
    }
    for (unsigned i = 0; i < mounts; i++) {
        assert_true(sim_call(meta_world.sim, META_WORLD_SERVERS + i, meta_world_start_client,
                             (void *)(uintptr_t)i));
    }
}

void meta_world_stop_server(void *data)
{
    meta_server_stop(data);
}

/* Replicas that have applied the same agree on the state. */
void meta_world_check(void)
{
    meta_world_run(2 * NS_PER_S);
    for (unsigned i = 0; i < META_WORLD_SERVERS; i++) {
        for (unsigned j = 0; j < i; j++) {
            struct meta_server *a = meta_world.servers[i], *b = meta_world.servers[j];

            if (a != NULL && b != NULL && a->tree->applied_index == b->tree->applied_index) {
                assert_true(a->tree->hash == b->tree->hash);
            }
        }
    }
    assert_int_equal(sim_errors(meta_world.sim), meta_world.errors);
}

void meta_world_stop(void)
{
    meta_world_check();
    for (unsigned i = 0; i < META_WORLD_CLIENTS; i++) {
        if (meta_world.mounts[i] != NULL) {
            sim_call(meta_world.sim, META_WORLD_SERVERS + i, meta_world_close_client,
                     meta_world.mounts[i]);
        }
    }
    meta_world_run(3 * NS_PER_S);
    for (unsigned i = 0; i < META_WORLD_CLIENTS; i++) {
        if (meta_world.mounts[i] != NULL) {
            assert_true(meta_world.mounts[i]->closed);
            mem_free(meta_world.mounts[i]);
        }
    }
    for (unsigned i = 0; i < META_WORLD_SERVERS; i++) {
        if (meta_world.servers[i] != NULL) {
            sim_call(meta_world.sim, i, meta_world_stop_server, meta_world.servers[i]);
        }
    }
    meta_world_run(2 * NS_PER_S);
    for (unsigned i = 0; i < META_WORLD_SERVERS; i++) {
        assert_true(meta_world.servers[i] == NULL || meta_world.servers[i]->data != NULL);
        mem_free(meta_world.servers[i]);
    }
    sim_free(meta_world.sim);
}
