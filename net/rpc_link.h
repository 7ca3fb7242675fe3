#pragma once
/*
 * rpc_link: one framed connection with HELLO done, under rpc_peer.c and rpc_server.c; private to
 * net.
 */
#include "base/schema.h"
#include "net/frame.h"
#include "net/rpc.h"

/* clang-format off */
#define RPC_HELLO(F)              \
    F(bytes, cluster_uuid, 16, 1) \
    F(u8,    role,         0,  1) \
    F(u32,   node_id,      0,  1)
/* clang-format on */
SCHEMA_DEFINE(rpc_hello, RPC_HELLO);

struct rpc_link {
    struct env_conn conn;
    struct env *env;
    const struct rpc_identity *identity;
    struct frame_reader reader;
    bool ready;                         /* the other side's HELLO was accepted */
    bool failing;                       /* closed() will come; nothing is delivered any more */
    int status;                         /* why we closed it */
    size_t oneway_queued, reply_queued; /* bytes not yet handed to the kernel */
    struct rpc_identity peer;
    /* The owner's, all from the loop. */
    int (*hello)(struct rpc_link *link); /* 0 accepts the peer */
    void (*frame)(struct rpc_link *link, const struct frame *frame, struct slice body,
                  struct buf *payload);
    void (*sent)(struct rpc_link *link);             /* reply_queued has fallen; may be NULL */
    void (*lost)(struct rpc_link *link, int status); /* the last call; the owner frees */
    void *owner;
};

void rpc_link_init(struct rpc_link *link, struct env *env, const struct rpc_identity *identity);
void rpc_link_deinit(struct rpc_link *link);
/* Closes with `status` as the reason that lost() gets. */
void rpc_link_fail(struct rpc_link *link, int status);
/* Sends a copy of body; takes the payload's memory over (NULL = none). */
void rpc_link_send(struct rpc_link *link, struct frame frame, struct slice body,
                   struct buf *payload);
void rpc_link_oneway(struct rpc_link *link, uint16_t opcode, struct slice body,
                     struct slice payload);
