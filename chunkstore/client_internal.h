#pragma once
/* client_internal: shared by the files of the chunk client only. */
#include "chunkstore/chunk_client.h"
#include "chunkstore/chunk_proto.h"
#include "chunkstore/limits.h"

struct chunk_peer {
    struct rpc_peer rpc;
    uint32_t id;
    uint64_t latency_ns; /* moving average of gets; 0 = unknown */
    uint64_t room;       /* bytes that it still takes, by its last answer, plus 1; 0 = unknown */
};

/* What every op of the client has: a place in the list, a deadline, a way to be cancelled. */
struct client_op {
    struct chunk_client *client; /* not touched once cancelled */
    struct env *env;
    struct op *op;
    struct list_node node;
    struct env_timer timer; /* the next thing to do: retry, hedge, give up */
    uint64_t deadline_ns;   /* UINT64_MAX = never */
    uint64_t backoff_ns;
    bool cancelled;
};

void client_op_init(struct client_op *self, struct chunk_client *client, struct op *op,
                    uint64_t timeout_ns);
/* Wakes the op at `at_ns`, or at its deadline when that is sooner. */
void client_op_wake_at(struct client_op *self, uint64_t at_ns);
/* The next back-off, from now. */
uint64_t client_op_backoff(struct client_op *self);
/* 0, -ECANCELED or -ETIMEDOUT. */
int client_op_over(const struct client_op *self);
void client_op_end(struct client_op *self);
void client_op_cancel(struct client_op *self);

/* NULL: not in the map. */
struct chunk_peer *client_peer(struct chunk_client *client, uint32_t server_id);
/* A call to it would only wait for a connection that lately failed. */
bool chunk_peer_unreachable(const struct chunk_peer *peer);
/* The distinct owners of a chunk. Returns their count; 0 also when there is no map yet, which is
 * asked for. */
unsigned client_owners(struct chunk_client *client, struct chunk_id id,
                       uint32_t out_owners[CHUNK_REPLICAS]);
/* Who may have it: the owners, then those whose place they take. */
unsigned client_holders(struct chunk_client *client, struct chunk_id id,
                        uint32_t out_holders[CHUNK_HOLDERS_MAX]);
/* A server said that our map is old; its reply may carry the newer one. */
void client_map_reply(struct chunk_client *client, struct slice body);
/* What a server says with a put. */
void client_note_room(struct chunk_client *client, uint32_t server, struct slice body);
void client_send_hint(struct chunk_client *client, uint32_t holder, uint32_t target,
                      struct chunk_id id);
void client_send_repair(struct chunk_client *client, uint32_t server, struct chunk_id id);
