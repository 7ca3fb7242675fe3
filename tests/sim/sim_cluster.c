/* The topology: which node runs what, with which settings; starting, killing, running. */
#include "tests/sim/sim_kernel.h"

#include "base/assert.h"
#include "base/mem.h"
#include "fs/mount.h"

const char cluster_uuid[16] = "simulated-volume";

unsigned meta_node_of(unsigned i)
{
    return i;
}

unsigned chunk_node_of(unsigned i)
{
    return world->meta_count + i;
}

/* ---- drawing ---- */

static uint64_t draw(uint64_t least, uint64_t most)
{
    return least + rng_below(&world->rng, most - least + 1);
}

/* Small ones make rare paths common; what comes after a time has to come within the run. */
static void draw_config(void)
{
    world->meta_settings = meta_settings_defaults();
    world->chunk_settings = chunk_settings_defaults();
    world->mount_settings = mount_settings_defaults();
    config_random(meta_settings_table(), &world->meta_settings, &world->rng);
    config_random(chunk_settings_table(), &world->chunk_settings, &world->rng);
    config_random(mount_settings_table(), &world->mount_settings, &world->rng);
    world->meta_settings.log_segment_bytes = KiB(64) << draw(0, 4);
    world->meta_settings.gc_grace_ms = (uint32_t)draw(1000, 20000);
    world->chunk_settings.sync_ms = (uint32_t)draw(2000, 30000);
}

void cluster_draw(void)
{
    struct sim_faults *faults = sim_faults(world->sim);
    unsigned next;

    world->meta_count = rng_percent(&world->rng, 70) ? 3 : 5;
    world->chunk_count = (unsigned)draw(3, SIM_CHUNKS_MAX);
    world->client_count = (unsigned)draw(1, SIM_CLIENTS_MAX);
    if (world->options.small) {
        world->meta_count = world->chunk_count = 3;
        world->client_count = 1;
    }
    world->write_quorum = 2;
    /* The others join one after the other: at once, or in the middle of the trouble. */
    world->map_servers = (unsigned)draw(CHUNK_REPLICAS, world->chunk_count);
    for (unsigned i = 0; i < world->meta_count; i++) {
        world->metas[i].id = i + 1;
        snprintf(world->metas[i].address, SIM_ADDRESS_MAX, "unix:meta%u", i + 1);
    }
    members_draw();
    for (unsigned i = 0; i < world->chunk_count; i++) {
        snprintf(world->chunks[i].address, SIM_ADDRESS_MAX, "unix:chunk%u", i + 1);
        snprintf(world->chunks[i].zone, sizeof(world->chunks[i].zone), "z%u", i);
    }
    next = world->meta_count + world->chunk_count;
    for (unsigned i = 0; i <= SIM_CLIENTS_MAX; i++) {
        world->clients[i].slot = i;
        world->clients[i].node = i < SIM_CLIENTS_MAX ? next + i : SIM_NODES_MAX - 1;
    }
    draw_config();
    faults->net_max_ns = draw(200 * NS_PER_US, 20 * NS_PER_MS);
    faults->disk_max_ns = draw(100 * NS_PER_US, 10 * NS_PER_MS);
    trace("cluster: %u metadata servers, %u chunk servers, %u clients", world->meta_count,
          world->chunk_count, world->client_count);
}

/* ---- metadata servers ---- */

/* What the file with the configuration says now. */
static unsigned meta_peers(struct raft_peer_config peers[SIM_METAS_MAX])
{
    unsigned count = 0;

    for (unsigned i = 0; i < world->meta_count; i++) {
        if (world->metas[i].id != 0) {
            peers[count++] = (struct raft_peer_config){world->metas[i].id, world->metas[i].address};
        }
    }
    return count;
}

static unsigned meta_addresses(const char *addresses[SIM_METAS_MAX])
{
    struct raft_peer_config peers[SIM_METAS_MAX];
    unsigned count = meta_peers(peers);

    for (unsigned i = 0; i < count; i++) {
        addresses[i] = peers[i].address;
    }
    return count;
}

static void open_meta(void *data)
{
    struct meta_node *node = data;
    unsigned i = (unsigned)(node - world->metas);
    struct raft_peer_config peers[SIM_METAS_MAX];
    struct meta_server_config config = {
        .identity = &node->identity,
        .dir = "meta",
        .address = node->address,
        .peers = peers,
        .peer_count = meta_peers(peers),
        .start = node->joins ? META_START_JOIN : META_START_CREATE,
        .owner_uid = UINT32_MAX, /* everybody here */
        .write_quorum = world->write_quorum,
        .chunk_servers_min = world->map_servers,
        .settings = &world->meta_settings,
    };
    int r;

    node->identity = (struct rpc_identity){.role = RPC_ROLE_META, .node_id = node->id};
    memcpy(node->identity.cluster_uuid, cluster_uuid, 16);
    node->server = mem_zalloc(sizeof(*node->server));
    r = meta_server_start(node->server, sim_env(world->sim, meta_node_of(i)), &config);
    if (r < 0) {
        violation("metadata server %u does not start: %d", node->id, r);
    }
    witness_watch_meta(node->server);
}

void meta_start(unsigned i)
{
    sim_call(world->sim, meta_node_of(i), open_meta, &world->metas[i]);
    trace("start meta %u", world->metas[i].id);
}

void meta_kill(unsigned i, enum sim_crash_kind kind)
{
    sim_crash(world->sim, meta_node_of(i), kind);
    world->metas[i].server =
        NULL; /* its memory is left behind, as a killed process does not care */
    trace("%s meta %u", kind == SIM_KILL ? "kill" : "power off", world->metas[i].id);
}

struct meta_server *cluster_leader(void)
{
    struct meta_server *leader = NULL;

    for (unsigned i = 0; i < world->meta_count; i++) {
        struct meta_server *server = world->metas[i].server;

        if (server != NULL && sim_up(world->sim, meta_node_of(i)) && server->leader &&
            (leader == NULL || server->term > leader->term)) {
            leader = server;
        }
    }
    return leader;
}

/* ---- chunk servers ---- */

static void open_chunk(void *data)
{
    struct chunk_node *node = data;
    unsigned i = (unsigned)(node - world->chunks);
    struct chunk_server_config config = {
        .dir = "chunk",
        .listen = node->address,
        .zone = node->zone,
        .identity = &node->identity,
        .meta_addresses = node->meta_addresses,
        .meta_count = meta_addresses(node->meta_addresses),
        .settings = &world->chunk_settings,
    };
    int r;

    node->identity = (struct rpc_identity){.role = RPC_ROLE_CHUNK, .node_id = i + 1};
    memcpy(node->identity.cluster_uuid, cluster_uuid, 16);
    node->server = mem_zalloc(sizeof(*node->server));
    r = chunk_server_start(node->server, sim_env(world->sim, chunk_node_of(i)), &config);
    if (r < 0) {
        violation("chunk server %u does not start: %d", i + 1, r);
    }
}

void chunk_start(unsigned i)
{
    sim_call(world->sim, chunk_node_of(i), open_chunk, &world->chunks[i]);
    trace("start chunk %u", i + 1);
}

void chunk_gone(unsigned i)
{
    const struct chunk_server *server = world->chunks[i].server;

    if (server != NULL) {
        world->counts.repairs += server->heal.repairs;
        world->counts.hints += server->heal.hints_delivered;
    }
    world->chunks[i].server = NULL;
}

void chunk_kill(unsigned i, enum sim_crash_kind kind)
{
    sim_crash(world->sim, chunk_node_of(i), kind);
    chunk_gone(i);
    trace("%s chunk %u", kind == SIM_KILL ? "kill" : "power off", i + 1);
}

/* ---- clients ---- */

static void on_ready(struct mount *mount, int status)
{
    struct client *client = mount->data;

    if (status < 0) {
        violation("a mount cannot start: %d", status);
    }
    client->ready = true;
}

static void on_caches_lost(struct mount *mount)
{
    struct client *client = mount->data;

    kernel_caches_lost(client->kernel);
}

static void on_closed(struct mount *mount)
{
    ((struct client *)mount->data)->closed = true;
}

static void open_client(void *data)
{
    static const char *addresses[SIM_METAS_MAX];
    struct client *client = data;
    struct mount_config config = {
        .identity = {.role = RPC_ROLE_CLIENT},
        .meta_addresses = addresses,
        .meta_address_count = meta_addresses(addresses),
        .write_quorum = world->write_quorum,
        .atime = world->atime,
        .settings = &world->mount_settings,
    };

    memcpy(config.identity.cluster_uuid, cluster_uuid, 16);
    client->mount->ready = on_ready;
    client->mount->caches_lost = on_caches_lost;
    client->mount->drop_pages = kernel_drop_pages;
    client->mount->closed = on_closed;
    client->mount->data = client;
    mount_start(client->mount, sim_env(world->sim, client->node), &config);
}

void client_start(unsigned slot)
{
    struct client *client = &world->clients[slot];

    client->mount = mem_zalloc(sizeof(*client->mount));
    client->ready = client->closed = false;
    client->incarnation = ++world->incarnations;
    client->next_tag = 0;
    client->returning = 0;
    client->kernel = kernel_new(client);
    model_new_client(&world->model, slot, client->incarnation);
    sim_call(world->sim, client->node, open_client, client);
    trace("start client %u", slot);
}

/* What was known of it is not true of the next one. */
static void forget_client(struct client *client)
{
    world->counts.sessions_lost += client->mount->meta.sessions_lost;
    world->counts.resends += client->mount->meta.resends;
    programs_drop(client);
    kernel_free(client->kernel);
    data_client_gone(client);
    locks_client_gone(client);
    witness_client_gone(client);
    client->kernel = NULL;
    client->mount = NULL;
    client->ready = false;
}

void client_kill(unsigned slot, enum sim_crash_kind kind)
{
    struct client *client = &world->clients[slot];

    sim_crash(world->sim, client->node, kind);
    forget_client(client);
    trace("kill client %u", slot);
}

static void close_mount(void *data)
{
    mount_close(((struct client *)data)->mount);
}

static bool all_closed(void)
{
    for (unsigned i = 0; i <= SIM_CLIENTS_MAX; i++) {
        if (world->clients[i].mount != NULL && !world->clients[i].closed) {
            return false;
        }
    }
    return true;
}

void clients_close(void)
{
    for (unsigned i = 0; i <= SIM_CLIENTS_MAX; i++) {
        if (world->clients[i].mount != NULL) {
            sim_call(world->sim, world->clients[i].node, close_mount, &world->clients[i]);
        }
    }
    world_run_until(all_closed, 60 * NS_PER_S, "alive: a mount does not close");
    for (unsigned i = 0; i <= SIM_CLIENTS_MAX; i++) {
        if (world->clients[i].mount != NULL) {
            forget_client(&world->clients[i]);
        }
    }
}

/* ---- running ---- */

static void start_ready_clients(void)
{
    for (unsigned i = 0; i < SIM_CLIENTS_MAX; i++) {
        struct client *client = &world->clients[i];

        if (client->ready && client->programs[0] == NULL && !world->stopping) {
            workload_start(client);
        }
    }
}

/* One instant: an event, or what programs and trouble do then. */
static void one_turn(uint64_t until_ns)
{
    uint64_t trouble_ns = faults_wake_ns();
    uint64_t own =
        min_u64(min_u64(programs_wake_ns(), trouble_ns), min_u64(members_wake_ns(), until_ns));

    (void)sim_step_until(world->sim, own);
    if (sim_now(world->sim) >= trouble_ns) {
        faults_run();
    }
    faults_notice();
    members_run();
    start_ready_clients();
    programs_run();
    check_event();
}

void world_run(uint64_t until_ns)
{
    while (sim_now(world->sim) < until_ns) {
        one_turn(until_ns);
    }
}

void world_run_until(bool (*is_so)(void), uint64_t within_ns, const char *what)
{
    uint64_t until = sim_now(world->sim) + within_ns;

    while (!is_so()) {
        if (sim_now(world->sim) >= until) {
            violation("%s within %.0f s", what, (double)within_ns / 1e9);
        }
        one_turn(until);
    }
}

static bool has_leader(void)
{
    return cluster_leader() != NULL;
}

void cluster_start(void)
{
    for (unsigned i = 0; i < world->meta_count; i++) {
        if (world->metas[i].id != 0) {
            meta_start(i);
        } else {
            sim_crash(world->sim, meta_node_of(i), SIM_KILL);
        }
    }
    for (unsigned i = 0; i < world->chunk_count; i++) {
        if (sim_up(world->sim, chunk_node_of(i))) {
            chunk_start(i);
        }
    }
    world_run_until(has_leader, 10 * NS_PER_S, "alive: no leader at the start");
    for (unsigned i = 0; i < world->client_count; i++) {
        client_start(i);
    }
}
