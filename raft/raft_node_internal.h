#pragma once
/* raft_node_internal: what the two files of the driver share. */
#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "raft/raft_node.h"

/* raft_node.c: one step of the core, and everything that its output asks for. */
int raft_node_step(struct raft_node *node, struct raft_input input);
/* Something to do at the next turn of the loop. */
void raft_node_turn_soon(struct raft_node *node);

/* raft_node_snapshot.c */
void raft_node_snapshot_begin(struct raft_node *node);
void raft_node_snapshot_receive(struct raft_node *node, struct rpc_request *request);
