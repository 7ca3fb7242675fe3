#pragma once
/*
 * chunk_server: a chunk server: serves chunk_proto.h from one data directory, tells the metadata
 * service every second that it lives, and heals.
 */
#include "chunkstore/chunk_metrics.h"
#include "chunkstore/heal.h"

struct chunk_server_config {
    const char *dir;
    const char *listen;    /* address to listen on */
    const char *advertise; /* address told to others; NULL = listen */
    const char *zone;
    const struct rpc_identity *identity; /* node_id = server id, role CHUNK */
    const char *const *meta_addresses;
    unsigned meta_count;
    bool insecure_test_network;            /* see rpc_server */
    const struct chunk_settings *settings; /* NULL = the defaults; copied */
};

struct chunk_server {
    struct env *env;
    struct chunk_server_config config; /* texts borrowed */
    struct chunk_metrics metrics;
    struct chunk_store store;
    struct rpc_server rpc;
    struct chunk_client peers; /* connections to other chunk servers; its map is ours */
    struct heal heal;
    struct rpc_peer *meta[SERVER_METADATA_MAX]; /* owned: metadata servers that were ever named */
    unsigned meta_count;
    unsigned meta_now; /* whom we ask */
    struct env_timer heartbeat;
    struct rpc_call heartbeat_call;
    struct buf heartbeat_body;
    bool heartbeat_running;
    uint32_t told_health;
    unsigned requests;       /* being worked on */
    unsigned puts, old_puts; /* of those; accepted by an older map */
    unsigned deletes;
    unsigned verifies;
    unsigned busy; /* whatever must end before the server is gone */
    bool stopping;
    bool store_closed;
    void (*stopped)(struct chunk_server *server);
    void *data; /* the owner's */
};

/* Blocking (opens the store); then serves from the loop. 0, or why not (logged). */
int must_check chunk_server_start(struct chunk_server *server, struct env *env,
                                  const struct chunk_server_config *config);
/* Answers what it has accepted, closes the store; then `stopped` runs, from the loop. */
void chunk_server_stop(struct chunk_server *server, void (*stopped)(struct chunk_server *server));
void chunk_server_status(const struct chunk_server *server, struct chunk_status *out_status);
/* The figures as they are now, and the state in lines of words; for the admin socket. Between start
 * and stopped. */
const struct chunk_metrics *chunk_server_collect(struct chunk_server *server);
void chunk_server_describe(const struct chunk_server *server, struct buf *out);

/* ---- for heal.c and server_request.c ---- */
void chunk_server_handle(struct rpc_server *rpc, struct rpc_request *request);
void chunk_server_released(struct chunk_server *server);
/* The metadata server to ask; NULL = none is configured. */
struct rpc_peer *chunk_server_meta(struct chunk_server *server);
/* It did not help: ask the next one. */
void chunk_server_meta_next(struct chunk_server *server);
/* ---- server_meta.c ---- */
void server_meta_open(struct chunk_server *server);
/* Their calls end with -ECANCELED; the server is busy until all are closed. */
void server_meta_close(struct chunk_server *server);
/* A leader's list of its group's addresses (chunk_heartbeat_reply.members). */
void server_meta_learn(struct chunk_server *server, struct slice addresses);

bool chunk_server_owns(const struct chunk_server *server, uint32_t partition);
/* The map by which all puts are accepted that are not in the store yet; 0 = by several. */
uint64_t chunk_server_put_epoch(const struct chunk_server *server);
uint32_t chunk_server_health(const struct chunk_server *server);
/* CHUNK_VERIFY (server_verify.c). Takes over the request. */
void chunk_server_verify(struct chunk_server *server, struct rpc_request *request,
                         const struct chunk_verify_request *message);
