#pragma once
/*
 * ask: one request to each of some servers at once, for tools: every wait has a deadline.
 */
#include "cli/config.h"
#include "net/env_uv.h"
#include "net/rpc.h"

struct ask {
    struct rpc_call call;
    struct rpc_peer peer;
    struct buf body; /* the reply's, when status is 0 */
    struct buf payload;
    int status;
    struct ask_group *group;
};

struct ask_group {
    struct env_uv *uv;
    struct rpc_identity identity;
    unsigned waiting;
};

/* 0 or a negative code. */
int must_check ask_group_open(struct ask_group *group, const struct cluster_config *cluster);
/* The request `opcode` with `body` to `address`; ask_wait runs all that were started. */
void ask_start(struct ask_group *group, struct ask *ask, const char *address, uint16_t opcode,
               struct slice body, uint64_t timeout_ns);
void ask_wait(struct ask_group *group);
void ask_free(struct ask *ask);
void ask_group_close(struct ask_group *group);
