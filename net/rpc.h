#pragma once
/*
 * rpc: requests, replies and one-way messages over framed connections (net/frame.h), with
 * deadlines, reconnect and bounded queues. One address is one rpc_peer (client side); a server
 * listens and gives each request to its handler.
 *
 * A connection starts with HELLO both ways (cluster uuid, role, node id): a peer of another cluster
 * is refused with a message that names both.
 */
#include "base/env.h"
#include "base/map.h"

#define RPC_BODY_MAX     KiB(128)           /* encoded fields */
#define RPC_PAYLOAD_MAX  (MiB(4) + KiB(64)) /* raw bytes: a whole chunk and its checksums */
#define RPC_INFLIGHT_MAX 4096               /* calls waiting on one peer; above: -ERR_BUSY */
#define RPC_REPLIES_MAX  MiB(64)            /* answered, not yet taken by the peer */

enum rpc_role { RPC_ROLE_NONE, RPC_ROLE_META, RPC_ROLE_CHUNK, RPC_ROLE_CLIENT, RPC_ROLE_ADMIN };

/* Who we are, told to every peer. Outlives everything made with it. */
struct rpc_identity {
    uint8_t cluster_uuid[16];
    enum rpc_role role;
    uint32_t node_id; /* of a server; 0 for clients */
};

/* ---- client side ---- */

struct rpc_call;

/* A frame's contents as received. `payload` may be taken with buf_take. */
struct rpc_reply {
    int status;         /* 0, or a negative code from the server or (see rpc_call) from us */
    struct slice body;  /* borrowed until the callback returns */
    struct buf payload; /* ours, freed after the callback unless taken */
};

/* Set opcode, body, payload, timeout_ns and done; then rpc_call_start. Completes exactly once:
 * -ERR_DISCONNECTED (connection lost after sending: may or may not have been executed),
 * -ETIMEDOUT, -ECANCELED, -ERR_BUSY, or the server's status. */
struct rpc_call {
    uint16_t opcode;
    struct slice body;    /* copied by rpc_call_start */
    struct slice payload; /* borrowed until done */
    uint64_t timeout_ns;  /* > 0; also bounds the wait for a connection */
    void (*done)(struct rpc_call *call, struct rpc_reply *reply);
    void *data;
    /* private */
    struct rpc_peer *peer;
    uint64_t id;
    struct buf frame;
    struct env_send send;
    struct env_timer timer;
    struct list_node node;
    bool sending, decided;
    int status;
};

struct rpc_peer_stats {
    uint64_t calls, failures;
    bool connected;
    uint64_t connected_since_ns, refused_at_ns, lost_at_ns; /* 0 = never */
};

struct rpc_peer {
    struct env *env;
    const struct rpc_identity *identity;
    char *address;
    /* Told of every connection and loss; may be NULL. status: 0 = connected, or why it is lost. */
    void (*changed)(struct rpc_peer *peer, int status);
    /* One-way messages from the other side on this connection; may be NULL. */
    void (*oneway)(struct rpc_peer *peer, uint16_t opcode, struct slice body, struct buf *payload);
    void (*closed)(
        struct rpc_peer *peer); /* after rpc_peer_close: may free the peer; may be NULL */
    void *data;
    enum rpc_role expect_role; /* refuse others; RPC_ROLE_NONE = any */
    uint32_t expect_node;      /* refuse others; 0 = any */
    /* private */
    struct rpc_link *link;
    struct list calls; /* started, not yet decided */
    struct map by_id;
    uint64_t next_id;
    struct env_timer reconnect;
    uint64_t backoff_ns;
    struct rpc_peer_stats stats;
    bool closing;
};

/* Begins to connect at the first use and stays connected. Copies `address`. */
void rpc_peer_init(struct rpc_peer *peer, struct env *env, const struct rpc_identity *identity,
                   const char *address);
/* Connect now if not connected (a hint that the server may be back). */
void rpc_peer_poke(struct rpc_peer *peer);
/* Gives the connection up, if there is one: calls end with -ERR_DISCONNECTED from the loop, also
 * those whose bytes the other side does not take. */
void rpc_peer_reset(struct rpc_peer *peer);
/* All calls end with -ECANCELED, from the loop; then closed() runs. */
void rpc_peer_close(struct rpc_peer *peer);
void rpc_call_start(struct rpc_peer *peer, struct rpc_call *call);
/* Ends the call with -ECANCELED from the loop; harmless when it has ended. */
void rpc_call_cancel(struct rpc_call *call);
/* One way, no reply, copied; dropped without a word when there is no connection or its queue is
 * over `RPC_ONEWAY_QUEUE_MAX` bytes. */
#define RPC_ONEWAY_QUEUE_MAX MiB(16)
void rpc_peer_oneway(struct rpc_peer *peer, uint16_t opcode, struct slice body,
                     struct slice payload);

/* ---- server side ---- */

struct rpc_server_conn;

/* A request lives until rpc_request_reply, which must be called exactly once, also after the
 * connection is lost (then it only frees). One-way messages arrive as requests with oneway set and
 * are freed by the server when the handler returns. */
struct rpc_request {
    uint16_t opcode;
    bool oneway;
    struct slice body;    /* lives as long as the request */
    struct buf payload;   /* may be taken */
    uint64_t deadline_ns; /* env_now time after which nobody waits */
    struct rpc_server_conn *conn;
    /* private */
    uint64_t id;
    struct buf body_store;
    struct list_node node;
};

struct rpc_server_conn {
    enum rpc_role peer_role;
    uint32_t peer_node;
    uint32_t peer_uid;
    void *data; /* the handler's, NULL at first */
    struct rpc_server *server;
    /* private */
    struct rpc_link *link;
    unsigned unanswered;       /* requests handed out; reading stops at RPC_INFLIGHT_MAX */
    struct env_timer greeting; /* the other side says HELLO before it fires */
    struct list_node node;
    bool lost;
};

struct rpc_server {
    struct env *env;
    const struct rpc_identity *identity;
    /* Owns the request. */
    void (*handle)(struct rpc_server *server, struct rpc_request *request);
    /* The connection is gone (its requests may still be unanswered); may be NULL. */
    void (*conn_lost)(struct rpc_server *server, struct rpc_server_conn *conn);
    void *data;
    /* Set before rpc_server_start: other addresses too, in a closed namespace (net/test_network.h).
     */
    bool insecure_test_network;
    /* private */
    struct env_listener listener;
    struct list conns;
    uint64_t bad_frames; /* counter */
};

/* Listening on anything but loopback and Unix sockets is refused: -EACCES (until TLS lands), but
 * for insecure_test_network. */
int must_check rpc_server_start(struct rpc_server *server, struct env *env,
                                const struct rpc_identity *identity, const char *address);
void rpc_server_stop(struct rpc_server *server);
/* body is copied; payload is taken over (emptied). status 0 or negative. Frees the request. */
void rpc_request_reply(struct rpc_request *request, int status, struct slice body,
                       struct buf *payload);
/* One way to a connected client; dropped when its queue is full. */
void rpc_conn_oneway(struct rpc_server_conn *conn, uint16_t opcode, struct slice body,
                     struct slice payload);
