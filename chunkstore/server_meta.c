/*
 * server_meta: whom a chunk server asks of the metadata service: the servers of its configuration,
 * and those that a leader has named since, for the group changes. Whoever was named stays known, as
 * a leader that was deposed may name those that are gone; without room, one that the newest answer
 * does not name makes place.
 */
#include "base/assert.h"
#include "base/mem.h"
#include "chunkstore/chunk_server.h"

struct rpc_peer *chunk_server_meta(struct chunk_server *server)
{
    return server->meta_count == 0 || server->stopping ? NULL : server->meta[server->meta_now];
}

void chunk_server_meta_next(struct chunk_server *server)
{
    if (server->meta_count > 0) {
        server->meta_now = (server->meta_now + 1) % server->meta_count;
    }
}

static struct rpc_peer *peer_new(struct chunk_server *server, const char *address)
{
    struct rpc_peer *peer = mem_zalloc(sizeof(*peer));

    rpc_peer_init(peer, server->env, server->config.identity, address);
    peer->expect_role = RPC_ROLE_META;
    peer->data = server;
    return peer;
}

static void on_closed(struct rpc_peer *peer)
{
    struct chunk_server *server = peer->data;

    mem_free(peer);
    chunk_server_released(server);
}

static void peer_drop(struct chunk_server *server, struct rpc_peer *peer)
{
    peer->closed = on_closed;
    server->busy++;
    rpc_peer_close(peer);
}

void server_meta_open(struct chunk_server *server)
{
    const struct chunk_server_config *config = &server->config;

    for (unsigned i = 0; i < config->meta_count; i++) {
        server->meta[server->meta_count++] = peer_new(server, config->meta_addresses[i]);
    }
}

void server_meta_close(struct chunk_server *server)
{
    for (unsigned i = 0; i < server->meta_count; i++) {
        peer_drop(server, server->meta[i]);
    }
    server->meta_count = 0;
}

static bool is_known(const struct chunk_server *server, struct slice address)
{
    for (unsigned i = 0; i < server->meta_count; i++) {
        if (slice_equal(slice_text(server->meta[i]->address), address)) {
            return true;
        }
    }
    return false;
}

/* The next address of a packed list. False: there is none. */
static bool next_address(struct schema_reader *reader, struct slice *out_address)
{
    if (reader->at == reader->end) {
        return false;
    }
    *out_address = schema_read_bytes(reader, CHUNK_MEMBERS_MAX);
    return !reader->failed;
}

static bool is_named(struct slice addresses, const char *address)
{
    struct schema_reader reader = schema_reader_make(addresses);
    struct slice named;

    while (next_address(&reader, &named)) {
        if (slice_equal(slice_text(address), named)) {
            return true;
        }
    }
    return false;
}

/* A place in the list, also for one more than there is room for. */
static unsigned make_room(struct chunk_server *server, struct slice addresses)
{
    if (server->meta_count < SERVER_METADATA_MAX) {
        return server->meta_count++;
    }
    for (unsigned i = 0; i < server->meta_count; i++) {
        if (!is_named(addresses, server->meta[i]->address)) {
            peer_drop(server, server->meta[i]);
            return i;
        }
    }
    return SERVER_METADATA_MAX;
}

void server_meta_learn(struct chunk_server *server, struct slice addresses)
{
    struct schema_reader reader = schema_reader_make(addresses);
    struct slice named;

    while (next_address(&reader, &named)) {
        char address[CHUNK_ADDRESS_MAX + 1] = {0};
        unsigned at;

        if (named.size == 0 || named.size > CHUNK_ADDRESS_MAX || is_known(server, named)) {
            continue;
        }
        at = make_room(server, addresses);
        if (at == SERVER_METADATA_MAX) {
            return;
        }
        memcpy(address, named.data, named.size);
        server->meta[at] = peer_new(server, address);
    }
}
