#pragma once
/*
 * standin: what a server's process becomes when its disk has failed or is full (docs/adr/0021). It
 * has no data, opens no file, and answers nothing but what `keelfs status` and `keelfs stats` ask,
 * at the server's addresses, with the code that says what is wrong. To everybody else it is nobody:
 * it says HELLO in the role of a tool, which members and clients take for a server that is gone.
 */
#include "cli/daemon.h"
#include "net/rpc.h"

struct standin {
    struct env *env;
    const struct daemon_kind *kind;
    struct rpc_identity identity;
    struct rpc_server rpc;
    struct admin admin;
    int error; /* what the disk said: a negative code */
};

/* `error` is the negative code that the disk gave. 0, or why it cannot listen. What it points to
 * must live as long as env runs; there is no stop: the process just ends. */
int must_check standin_start(struct standin *standin, struct env *env,
                             const struct daemon_kind *kind, const struct cluster_config *cluster,
                             const struct node_config *node, int error);
