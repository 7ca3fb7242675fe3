#pragma once
/*
 * chunk_client: store, read and delete immutable chunks on their replicas.
 *
 * A chunk is done at W durable copies; the client goes on with the third in the background, or
 * leaves a hint with a server that has a copy. A read takes one copy whose checksums verify, tries
 * the other holders when it does not, and asks the bad server to repair itself.
 */
#include "base/op.h"
#include "chunkstore/placement.h"
#include "net/rpc.h"

struct chunk_id {
    uint64_t session;
    uint64_t seq;
};

struct chunk_client {
    struct env *env;
    const struct rpc_identity *identity;
    struct cluster_map map; /* owned copy, replaced by chunk_client_set_map */
    struct map peers;       /* server id -> struct chunk_peer (latency, health) */
    unsigned write_quorum;
    /* Bytes that puts can count on: so many servers take no more that the rest are too few for a
     * quorum. By what they said with their last put; UINT64_MAX = not known. */
    uint64_t room;
    uint64_t map_told_ns; /* when the metadata service last said what its map is */
    /* The map in use may be old: have chunk_client_set_map called; may be NULL. */
    void (*map_stale)(struct chunk_client *client);
    void *data;
    uint64_t put_count, get_count, read_fallbacks, read_repairs, degraded_puts; /* counters */
    struct list ops; /* private: in flight */
};

void chunk_client_init(struct chunk_client *client, struct env *env,
                       const struct rpc_identity *identity, unsigned write_quorum);
/* Drops all connections; calls in flight end with -ECANCELED. */
void chunk_client_deinit(struct chunk_client *client);
/* What the metadata service's map is now: takes over a copy if it is newer than the one in use. */
void chunk_client_set_map(struct chunk_client *client, const struct cluster_map *map);

/* Plain bytes in; checksums and compression happen inside. The bytes named by iov stay untouched
 * until op.kind->drained (memory outlives done: stragglers still send from it): the owner sets
 * `released`, called last. */
struct chunk_put {
    struct op op; /* set op.done, op.owner; result 0 = W durable copies */
    struct chunk_id id;
    struct iovec *iov;
    unsigned iov_count;
    uint32_t length; /* plain bytes, <= CHUNK_BYTES_MAX */
    bool try_compress;
    uint64_t timeout_ns; /* whole operation, retries included; 0 = for ever ("hard") */
    void (*released)(struct chunk_put *put);
    struct chunk_put_impl *impl; /* private */
};
void chunk_put_start(struct chunk_put *put, struct chunk_client *client);
/* Decides -ECANCELED from the loop, when not decided yet. */
void chunk_put_cancel(struct chunk_put *put);

/* Reads [offset, offset + length) of the plain bytes into `out` (appended). */
struct chunk_get {
    struct op op;
    struct chunk_id id;
    uint32_t offset;
    uint32_t length;
    struct buf out;      /* the caller's after done; exactly `length` bytes when result is 0 */
    uint64_t timeout_ns; /* 0 = for ever: keeps trying while servers are unreachable */
    void (*released)(struct chunk_get *get);
    struct chunk_get_impl *impl;
};
void chunk_get_start(struct chunk_get *get, struct chunk_client *client);
void chunk_get_cancel(struct chunk_get *get);

/* Deletes ids of one or many partitions on every owner. done: result 0 when every owner that holds
 * them has confirmed; else an error, try again later (idempotent). */
struct chunk_delete {
    struct op op;
    const struct chunk_id *ids; /* borrowed until released */
    unsigned count;             /* <= CHUNK_DELETE_MAX */
    uint64_t timeout_ns;
    void (*released)(struct chunk_delete *del);
    struct chunk_delete_impl *impl;
};
void chunk_delete_start(struct chunk_delete *del, struct chunk_client *client);
