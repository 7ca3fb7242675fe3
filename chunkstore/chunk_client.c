#include "chunkstore/chunk_client.h"

#include "base/assert.h"
#include "base/buggify.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/client_internal.h"

#include <errno.h>

void chunk_client_init(struct chunk_client *client, struct env *env,
                       const struct rpc_identity *identity, unsigned write_quorum)
{
    ASSERT(write_quorum >= 1 && write_quorum <= CHUNK_REPLICAS);
    *client = (struct chunk_client){
        .env = env, .identity = identity, .write_quorum = write_quorum, .room = UINT64_MAX};
    list_init(&client->ops);
}

static void peer_closed(struct rpc_peer *rpc)
{
    mem_free(container_of(rpc, struct chunk_peer, rpc));
}

static void close_peer(struct chunk_peer *peer)
{
    peer->rpc.closed = peer_closed;
    rpc_peer_close(&peer->rpc);
}

void chunk_client_deinit(struct chunk_client *client)
{
    size_t position = 0;
    struct map_slot *slot;

    list_for_each (node, &client->ops) {
        client_op_cancel(list_entry(node, struct client_op, node));
        list_remove(node);
    }
    while ((slot = map_next(&client->peers, &position)) != NULL) {
        close_peer(slot->value);
    }
    map_deinit(&client->peers);
    cluster_map_deinit(&client->map);
}

/* Closes connections to servers that are gone or have moved. */
static void drop_stale_peers(struct chunk_client *client)
{
    size_t position = 0;
    struct map_slot *slot;

    while ((slot = map_next(&client->peers, &position)) != NULL) {
        struct chunk_peer *peer = slot->value;
        const struct chunk_server_info *info = cluster_map_server(&client->map, peer->id);

        if (info == NULL || strcmp(info->address, peer->rpc.address) != 0) {
            map_remove(&client->peers, map_u64(peer->id));
            close_peer(peer);
            position = 0; /* the map has changed under the iteration */
        }
    }
}

/* So many full servers leave some partition without a quorum: the needed-th smallest room. */
static uint64_t room_of(const struct chunk_client *client)
{
    uint64_t least[CHUNK_REPLICAS]; /* ascending */
    unsigned owners = (unsigned)min_u64(CHUNK_REPLICAS, client->map.server_count);
    unsigned needed = owners < client->write_quorum ? 1 : owners + 1 - client->write_quorum;
    unsigned count = 0;
    size_t position = 0;
    struct map_slot *slot;

    while ((slot = map_next(&client->peers, &position)) != NULL) {
        uint64_t room = ((const struct chunk_peer *)slot->value)->room - 1; /* unknown: much */
        unsigned at = count;

        while (at > 0 && least[at - 1] > room) {
            at--;
        }
        if (at < needed) {
            count += count < needed;
            memmove(&least[at + 1], &least[at], (count - 1 - at) * sizeof(*least));
            least[at] = room;
        }
    }
    return count == needed ? least[count - 1] : UINT64_MAX;
}

static void take_map(struct chunk_client *client, const struct cluster_map *map)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    struct cluster_map copy;

    if (map->epoch <= client->map.epoch) {
        return;
    }
    cluster_map_encode(map, &bytes);
    if (cluster_map_decode(&copy, buf_slice(&bytes)) < 0) {
        return;
    }
    cluster_map_deinit(&client->map);
    client->map = copy;
    drop_stale_peers(client);
    client->room = room_of(client);
    list_for_each (node, &client->ops) {
        struct client_op *op = list_entry(node, struct client_op, node);

        client_op_wake_at(op, env_now(client->env)); /* owners may have changed */
    }
}

void chunk_client_set_map(struct chunk_client *client, const struct cluster_map *map)
{
    client->map_told_ns = env_now(client->env);
    take_map(client, map);
}

void client_note_room(struct chunk_client *client, uint32_t server, struct slice body)
{
    struct chunk_peer *peer = map_get(&client->peers, map_u64(server));
    struct chunk_put_reply reply;

    if (peer != NULL && chunk_put_reply_decode(&reply, body) == 0) {
        peer->room = reply.room;
        client->room = BUGGIFY(client->env, 3) ? 0 : room_of(client);
    }
}

void client_map_reply(struct chunk_client *client, struct slice body)
{
    struct chunk_heartbeat_reply reply;
    struct cluster_map map;

    if (chunk_heartbeat_reply_decode(&reply, body) == 0 && reply.map.size > 0 &&
        cluster_map_decode(&map, reply.map) == 0) {
        take_map(client, &map);
        cluster_map_deinit(&map);
    }
    if (client->map_stale != NULL) {
        client->map_stale(client);
    }
}

struct chunk_peer *client_peer(struct chunk_client *client, uint32_t server_id)
{
    struct chunk_peer *peer = map_get(&client->peers, map_u64(server_id));
    const struct chunk_server_info *info = cluster_map_server(&client->map, server_id);

    if (peer != NULL || info == NULL) {
        return peer;
    }
    peer = mem_zalloc(sizeof(*peer));
    peer->id = server_id;
    rpc_peer_init(&peer->rpc, client->env, client->identity, info->address);
    peer->rpc.expect_role = RPC_ROLE_CHUNK;
    peer->rpc.expect_node = server_id;
    map_put(&client->peers, map_u64(server_id), peer);
    return peer;
}

bool chunk_peer_unreachable(const struct chunk_peer *peer)
{
    return !peer->rpc.stats.connected && peer->rpc.stats.failures > 0;
}

unsigned client_owners(struct chunk_client *client, struct chunk_id id,
                       uint32_t out_owners[CHUNK_REPLICAS])
{
    unsigned count = 0;
    uint32_t partition = placement_partition(&client->map, id.session, id.seq);

    if (client->map.epoch == 0) {
        if (client->map_stale != NULL) {
            client->map_stale(client);
        }
        return 0;
    }
    for (unsigned i = 0; i < CHUNK_REPLICAS; i++) {
        uint32_t owner = client->map.owners[partition][i];

        if (owner != 0) {
            out_owners[count++] = owner;
        }
    }
    return count;
}

unsigned client_holders(struct chunk_client *client, struct chunk_id id,
                        uint32_t out_holders[CHUNK_HOLDERS_MAX])
{
    unsigned count = client_owners(client, id, out_holders);
    uint32_t partition = placement_partition(&client->map, id.session, id.seq);

    for (unsigned i = 0; count > 0 && i < CHUNK_REPLICAS; i++) {
        uint32_t from = client->map.from[partition][i];

        if (from != 0) {
            out_holders[count++] = from;
        }
    }
    return count;
}

void client_send_hint(struct chunk_client *client, uint32_t holder, uint32_t target,
                      struct chunk_id id)
{
    struct chunk_hint_request hint = {id.session, id.seq, target};
    struct chunk_peer *peer = client_peer(client, holder);
    cleanup(buf_deinit) struct buf body = {0};

    if (peer != NULL) {
        chunk_hint_request_encode(&hint, &body);
        rpc_peer_oneway(&peer->rpc, CHUNK_HINT, buf_slice(&body), (struct slice){0});
    }
}

void client_send_repair(struct chunk_client *client, uint32_t server, struct chunk_id id)
{
    struct chunk_repair_request repair = {id.session, id.seq};
    struct chunk_peer *peer = client_peer(client, server);
    cleanup(buf_deinit) struct buf body = {0};

    if (peer != NULL) {
        client->read_repairs++;
        chunk_repair_request_encode(&repair, &body);
        rpc_peer_oneway(&peer->rpc, CHUNK_REPAIR, buf_slice(&body), (struct slice){0});
    }
}

/* ---- what ops share ---- */

static void on_timer(struct env_timer *timer)
{
    op_wake(container_of(timer, struct client_op, timer)->op);
}

void client_op_init(struct client_op *self, struct chunk_client *client, struct op *op,
                    uint64_t timeout_ns)
{
    *self = (struct client_op){.client = client, .env = client->env, .op = op};
    self->timer.fire = on_timer;
    self->deadline_ns = timeout_ns == 0 ? UINT64_MAX : env_now(client->env) + timeout_ns;
    self->backoff_ns = CLIENT_BACKOFF_MIN_NS;
    list_push_back(&client->ops, &self->node);
}

void client_op_wake_at(struct client_op *self, uint64_t at_ns)
{
    at_ns = min_u64(at_ns, self->deadline_ns);
    if (self->op->decided || self->cancelled) {
        return;
    }
    if (at_ns == UINT64_MAX) {
        env_timer_stop(self->env, &self->timer);
    } else {
        env_timer_start(self->env, &self->timer, at_ns);
    }
}

uint64_t client_op_backoff(struct client_op *self)
{
    uint64_t wait = self->backoff_ns / 2 + env_random(self->env) % self->backoff_ns;

    self->backoff_ns = min_u64(self->backoff_ns * 2, CLIENT_BACKOFF_MAX_NS);
    return env_now(self->env) + wait;
}

int client_op_over(const struct client_op *self)
{
    if (self->cancelled) {
        return -ECANCELED;
    }
    return env_now(self->env) >= self->deadline_ns ? -ERR_NO_QUORUM : 0;
}

void client_op_end(struct client_op *self)
{
    env_timer_stop(self->env, &self->timer);
    list_remove(&self->node);
}

void client_op_cancel(struct client_op *self)
{
    self->cancelled = true;
    if (!self->op->decided) {
        env_timer_start(self->env, &self->timer, env_now(self->env));
    }
}
