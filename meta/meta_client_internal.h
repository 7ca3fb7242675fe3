#pragma once
/* meta_client_internal: what the two halves of the client share. */
#include "meta/meta_client.h"

/* One call on its way. Outlives the call: a mutation goes on after its caller has given up. */
struct meta_flight {
    struct list_node node; /* in queued, mutations or reads; none: only its rpc is left */
    struct meta_client *client;
    struct meta_call *call; /* NULL: nobody waits */
    struct rpc_call rpc;
    struct env_timer soft;
    struct buf frame;
    uint64_t seq; /* of a mutation that was sent; else 0 */
    bool sequenced;
    bool in_rpc;
    bool given_up; /* counted in the client's */
};

/* ---- meta_client.c ---- */
uint64_t client_chunk_low(struct meta_client *client);
/* Sends what may be sent. */
void client_pump(struct meta_client *client);
/* Tells the callers whose calls we have ended; from the loop. */
void client_tell_ended(struct meta_client *client);
/* Mutations sent in the old session end with `status`. */
void client_fail_mutations(struct meta_client *client, int status);
/* Ends everything. */
void client_fail_all(struct meta_client *client, int status);
/* `status` means that the request may be sent again. */
bool client_retryable(int status);
/* A reply or the lack of one from the leader: another one (or the same, later)? */
void client_retry(struct meta_client *client, struct rpc_peer *asked, int status,
                  const struct rpc_reply *reply);

/* From now on `leader` (an index of peers) is asked. */
void client_change_leader(struct meta_client *client, unsigned leader);
/* The peer at that address, or peer_count. */
unsigned client_peer_named(struct meta_client *client, struct slice address);

/* ---- meta_client_probe.c ---- */
/* Something was sent to the leader. */
void client_silence_watch(struct meta_client *client);
/* A call to a server ended. */
void client_silence_broken(struct meta_client *client, const struct rpc_call *call, int status);

/* ---- meta_client_session.c ---- */
void client_session_start(struct meta_client *client);
/* The retry pause is over. */
void client_session_retry(struct meta_client *client);
void client_session_lost(struct meta_client *client);
/* Servers that the configuration does not name. */
void client_learn_members(struct meta_client *client, struct slice addresses);
void client_keepalive_soon(struct meta_client *client);
void client_session_close(struct meta_client *client);
void client_peers_close(struct meta_client *client);
