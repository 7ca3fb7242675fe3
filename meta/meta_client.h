#pragma once
/*
 * meta_client: a mount's (or a tool's) connection to the metadata service.
 *
 * Finds the leader, keeps a session alive, gives every mutation its place in the session's order
 * and resends what is unanswered to a new leader, so that each happens exactly once. Waits for ever
 * by default ("hard"); with soft_timeout_ns calls end with -EIO.
 *
 *     struct meta_client client = {.session_changed = f, .alone_changed = g, .is_open = h};
 *     meta_client_start(&client, env, &config);
 *     call->request = (struct meta_request){.op = META_LOOKUP, .ino = dir, .name = name};
 *     call->done = on_done;
 *     meta_call_start(&client, call);     on_done: call->status, then call->reply
 *
 * Calls started before the session is open wait for it. All callbacks come from the loop.
 */
#include "chunkstore/placement.h"
#include "meta/limits.h"
#include "meta/meta_proto.h"
#include "net/rpc.h"

struct meta_client_config {
    const struct rpc_identity *identity; /* outlives the client */
    const char *const *addresses;        /* copied */
    unsigned address_count;              /* 1 .. META_CLIENT_ADDRESSES_MAX */
    uint64_t soft_timeout_ns;            /* 0 = hard */
    bool no_session;                     /* tools: reads only, no session, no keepalive */
};

struct meta_flight;

/* Set request (all but session, seq, low_water, chunk_low and stamp_time) and done. */
struct meta_call {
    struct meta_request request; /* its slices are borrowed until done */
    struct meta_reply reply;     /* valid in done when status is 0 or an error of the operation */
    /* 0; a negative errno or code from the operation; -EINTR after meta_call_cancel; -EIO when soft
     * and out of time; -ERR_SESSION_EXPIRED: the mutation is lost with its session (or happened
     * just before); -ECANCELED: the client was closed. */
    int status;
    void (*done)(struct meta_call *call);
    void *data;   /* the caller's */
    bool patient; /* soft_timeout_ns does not count: its answer has to be known */
    /* private */
    struct meta_flight *flight;
    struct list_node node;
};

struct meta_client {
    /* Set before meta_client_start; each may be NULL. */
    void *data;
    /* true: the first session is open (read client->session); false: it had expired and a new one
     * is open. */
    void (*session_changed)(struct meta_client *client, bool alive);
    /* No other mount exists (true), or one may (false): after false the owner drops what it let the
     * kernel keep, flushes, and calls meta_client_release_alone. */
    void (*alone_changed)(struct meta_client *client, bool alone);
    /* Does this mount hold the unlinked inode open? */
    bool (*is_open)(struct meta_client *client, uint64_t ino);
    /* The inode has journalled data that nobody else moves into chunks. */
    void (*settle)(struct meta_client *client, uint64_t ino);
    /* The service says that something has changed: another mount is there, or it is the turn of
     * somebody who waits for a lock. */
    void (*notified)(struct meta_client *client);
    /* The caller of a mutation was told EINTR or EIO before its answer: it may still happen. */
    void (*gave_up)(struct meta_client *client);
    void (*map_told)(struct meta_client *client, const struct cluster_map *map);
    void (*closed)(struct meta_client *client);
    /* See meta_request: asked for each one that is made. NULL: this client writes no chunks. */
    uint64_t (*chunk_low)(struct meta_client *client);

    /* To read. */
    uint64_t session; /* 0 = none open now */
    bool alone;
    uint64_t alone_until_ns; /* alone and env_now() below this: the kernel may cache for <= 1 s */
    uint64_t lease_until_ns; /* from here on nothing may be served from a cache */
    uint64_t low_water;      /* every mutation below has its answer */
    uint64_t next_seq;       /* of the next mutation */
    unsigned given_up;       /* mutations that may still happen and whose callers are gone */
    uint64_t map_epoch;
    uint64_t resends, leader_changes, sessions_lost, silences; /* counters */

    /* private */
    struct env *env;
    struct meta_client_config config;
    struct rpc_peer *peers;
    unsigned peer_count, peers_open, leader;
    uint64_t nonce;
    struct list queued;    /* flights not sent yet, in order */
    struct list mutations; /* sent, unanswered, by seq */
    struct list reads;     /* sent, unanswered */
    struct list ending;    /* calls decided by us; told from the loop */
    unsigned flying;       /* flights whose rpc has not ended */
    unsigned mutation_count, read_count;
    struct rpc_call own_call, map_call; /* SESSION_OPEN, KEEPALIVE or SESSION_CLOSE; MAP */
    unsigned own_op;                    /* what own_call is; 0 = idle */
    uint64_t own_sent_ns;
    bool map_busy, map_again, keepalive_again, released, closing, ever_open;
    struct buf frame;
    struct buf orphans;         /* answers for the next KEEPALIVE, u64 LE each */
    struct rpc_call probe_call; /* asks `probed` who leads */
    unsigned probed;
    bool probe_busy;
    uint64_t heard_ns; /* the leader answered something */
    struct env_timer keepalive_timer, retry_timer, alone_timer, ending_timer, silence_timer;
    unsigned refusals; /* since somebody led: of the next pause */
    bool retry_wait;
};

void meta_client_start(struct meta_client *client, struct env *env,
                       const struct meta_client_config *config);
/* Calls end with -ECANCELED; SESSION_CLOSE is tried for a moment; then closed() runs. */
void meta_client_close(struct meta_client *client);
/* The owner has finished what alone_changed(false) asked for. */
void meta_client_release_alone(struct meta_client *client);
/* Fetch the cluster map; map_told follows. */
void meta_client_fetch_map(struct meta_client *client);

void meta_call_start(struct meta_client *client, struct meta_call *call);
/* Ends the call with -EINTR from the loop; harmless when it has ended. A mutation that was sent may
 * still happen, once; one that was not sent never will. */
void meta_call_cancel(struct meta_client *client, struct meta_call *call);
