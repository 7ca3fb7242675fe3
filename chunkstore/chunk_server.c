#include "chunkstore/chunk_server.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

/* ---- heartbeats ---- */

static uint64_t heartbeat_ns(const struct chunk_server *server)
{
    return server->store.settings.heartbeat_ms * NS_PER_MS;
}

uint32_t chunk_server_health(const struct chunk_server *server)
{
    if (server->store.full) {
        return CHUNK_HEALTH_FULL;
    }
    return server->heal.task_count > 0 ? CHUNK_HEALTH_DEGRADED : CHUNK_HEALTH_OK;
}

static void take_map(struct chunk_server *server, struct slice bytes)
{
    struct cluster_map map;
    uint64_t before = server->peers.map.epoch;

    if (bytes.size == 0) {
        return;
    }
    if (cluster_map_decode(&map, bytes) < 0) {
        LOG_WARN(server->env, "chunk", "the metadata service sent a map that cannot be decoded");
        return;
    }
    if (map.epoch > before) {
        heal_new_map(&server->heal, &server->peers.map, &map);
    }
    chunk_client_set_map(&server->peers, &map);
    if (map.epoch > before) {
        server->old_puts = server->puts;
        LOG_INFO(server->env, "chunk", "new cluster map epoch=%" PRIu64 " servers=%u", map.epoch,
                 map.server_count);
        heal_sync_soon(&server->heal);
    }
    cluster_map_deinit(&map);
}

static void take_answer(struct chunk_server *server, const struct rpc_reply *reply)
{
    struct chunk_heartbeat_reply answer = {0};
    int status = reply->status;
    bool said = (status == 0 || status == -ERR_NOT_LEADER || status == -ERR_NO_LEADER) &&
                chunk_heartbeat_reply_decode(&answer, reply->body) == 0;

    if (said && status == 0) {
        take_map(server, answer.map);
    } else {
        chunk_server_meta_next(server);
    }
    if (said) {
        server_meta_learn(server, answer.members);
    }
    if (status == -ERR_NOT_LEADER) { /* the next one may lead: soon */
        env_timer_start(server->env, &server->heartbeat,
                        env_now(server->env) + heartbeat_ns(server) / 20);
    }
}

static void on_heartbeat_reply(struct rpc_call *call, struct rpc_reply *reply)
{
    struct chunk_server *server = call->data;

    server->heartbeat_running = false;
    if (!server->stopping) {
        take_answer(server, reply);
    }
    chunk_server_released(server);
}

static void send_heartbeat(struct chunk_server *server)
{
    const struct partition_set *settled = &server->heal.settled;
    const char *address = server->config.advertise;
    struct chunk_heartbeat beat = {
        .server_id = server->config.identity->node_id,
        .address = slice_text(address),
        .zone = slice_text(server->config.zone != NULL ? server->config.zone : ""),
        .total_bytes = server->store.disk_total - server->store.reserve,
        .free_bytes = server->store.disk_total == 0 ? 0 : chunk_store_room(&server->store),
        .health = chunk_server_health(server),
        .epoch = server->peers.map.epoch,
        .settled = slice_make(settled->bits, sizeof(settled->bits)),
    };

    server->told_health = beat.health;
    buf_clear(&server->heartbeat_body);
    chunk_heartbeat_encode(&beat, &server->heartbeat_body);
    server->heartbeat_call = (struct rpc_call){.opcode = CHUNK_META_HEARTBEAT,
                                               .body = buf_slice(&server->heartbeat_body),
                                               .timeout_ns = SERVER_META_TIMEOUT_NS,
                                               .done = on_heartbeat_reply,
                                               .data = server};
    server->heartbeat_running = true;
    server->busy++;
    rpc_call_start(chunk_server_meta(server), &server->heartbeat_call);
}

static void on_heartbeat(struct env_timer *timer)
{
    struct chunk_server *server = container_of(timer, struct chunk_server, heartbeat);

    store_check_space(&server->store);
    if (!server->heartbeat_running && server->meta_count > 0) {
        send_heartbeat(server);
    }
    env_timer_start(server->env, timer, env_now(server->env) + heartbeat_ns(server));
}

/* ---- life ---- */

bool chunk_server_owns(const struct chunk_server *server, uint32_t partition)
{
    const struct cluster_map *map = &server->peers.map;

    return map->epoch == 0 || cluster_map_owns(map, partition, server->config.identity->node_id);
}

uint64_t chunk_server_put_epoch(const struct chunk_server *server)
{
    return server->old_puts == 0 ? server->peers.map.epoch : 0;
}

void chunk_server_status(const struct chunk_server *server, struct chunk_status *out_status)
{
    const struct chunk_store *store = &server->store;
    const struct heal *heal = &server->heal;

    *out_status = (struct chunk_status){
        .server_id = server->config.identity->node_id,
        .epoch = server->peers.map.epoch,
        .health = chunk_server_health(server),
        .chunks = store->totals.chunks,
        .stored_bytes = store->totals.stored_bytes,
        .dead_bytes = chunk_store_dead_bytes(store),
        .disk_total = store->disk_total,
        .disk_free = store->disk_free,
        .put_count = store->put_count,
        .get_count = store->get_count,
        .delete_count = store->delete_count,
        .groups = store->groups,
        .corrupt_found = store->corrupt_found,
        .torn_tails = store->torn_tails,
        .repairs = heal->repairs,
        .hints_waiting = heal->hint_count,
        .hints_delivered = heal->hints_delivered,
        .scrubbed_bytes = heal->scrubbed_bytes,
        .cleaned_bytes = store->cleaned_bytes,
    };
}

static void on_corrupt(struct chunk_store *store, const struct index_key *key)
{
    struct chunk_server *server = store->data;

    heal_pull(&server->heal, key, /* replace= */ true);
}

int chunk_server_start(struct chunk_server *server, struct env *env,
                       const struct chunk_server_config *config)
{
    struct chunk_store_config store = {
        .dir = config->dir, .server_id = config->identity->node_id, .settings = config->settings};
    int r;

    if (config->meta_count > SERVER_METADATA_MAX || config->identity->node_id == 0) {
        return -EINVAL;
    }
    *server = (struct chunk_server){.env = env, .config = *config};
    if (server->config.advertise == NULL) {
        server->config.advertise = server->config.listen;
    }
    memcpy(store.cluster_uuid, config->identity->cluster_uuid, sizeof(store.cluster_uuid));
    r = chunk_store_open(&server->store, env, &store);
    if (r < 0) {
        return r;
    }
    server->store.data = server;
    server->store.corrupt = on_corrupt;
    server->rpc.handle = chunk_server_handle;
    server->rpc.data = server;
    server->rpc.insecure_test_network = config->insecure_test_network;
    r = rpc_server_start(&server->rpc, env, config->identity, config->listen);
    if (r < 0) {
        chunk_store_discard(&server->store);
        return r;
    }
    chunk_client_init(&server->peers, server->env, config->identity, 1);
    server_meta_open(server);
    heal_start(&server->heal, server);
    server->heartbeat.fire = on_heartbeat;
    env_timer_start(env, &server->heartbeat, env_now(env));
    LOG_INFO(env, "chunk", "serving server=%u address=%s dir=%s chunks=%" PRIu64 " bytes=%" PRIu64,
             config->identity->node_id, config->listen, config->dir, server->store.totals.chunks,
             server->store.totals.stored_bytes);
    return 0;
}

static void on_store_closed(struct chunk_store *store)
{
    struct chunk_server *server = store->data;

    server->store_closed = true;
    server->stopped(server);
}

/* The last thing has ended: nothing uses the store any more. */
void chunk_server_released(struct chunk_server *server)
{
    ASSERT(server->busy > 0);
    server->busy--;
    if (server->stopping && server->busy == 0) {
        buf_deinit(&server->heartbeat_body);
        chunk_store_close(&server->store, on_store_closed);
    }
}

void chunk_server_stop(struct chunk_server *server, void (*stopped)(struct chunk_server *server))
{
    if (server->stopping) {
        return;
    }
    server->stopped = stopped;
    server->busy++;
    server->stopping = true;
    env_timer_stop(server->env, &server->heartbeat);
    rpc_server_stop(&server->rpc);
    heal_stop(&server->heal);
    chunk_client_deinit(&server->peers);
    server_meta_close(server);
    chunk_server_released(server);
}
