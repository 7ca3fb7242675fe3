#pragma once
/* raft_node_internal: what the files of the driver share. */
#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "raft/raft_node.h"

/* raft_node.c: one step of the core, and everything that its output asks for. */
int raft_node_step(struct raft_node *node, struct raft_input input);

/* raft_node_turn.c: the only one that calls the machine, but for snapshots. */
void raft_node_turn(struct env_timer *timer);
/* Something to do at the next turn of the loop. */
void raft_node_turn_soon(struct raft_node *node);
/* Is there something to apply or to tell? */
bool raft_node_turn_needed(const struct raft_node *node);
/* It leads, and has applied all that was there before its term. */
bool raft_node_leads(const struct raft_node *node);
/* Confirmed reads get their index, refused ones an id of 0; the turn ends both. */
void raft_node_mark_reads(struct raft_node *node, const struct raft_output *output);

/* raft_node_link.c */
void raft_node_copy_peers(struct raft_node *node, const struct raft_node_config *config);
void raft_node_free_peers(struct raft_node *node);
/* NULL when there is none. */
struct raft_link *raft_node_link(const struct raft_node *node, uint32_t id);
/* Connections as the set of members says. */
void raft_node_update_links(struct raft_node *node);
/* Somebody who is no member for us asks or leads: the answer needs a connection. */
void raft_node_meet(struct raft_node *node, uint32_t id, struct slice address);
void raft_node_close_links(struct raft_node *node);

/* raft_node_snapshot.c */
void raft_node_snapshot_begin(struct raft_node *node);
void raft_node_snapshot_close(struct raft_node *node);
void raft_node_snapshot_receive(struct raft_node *node, struct rpc_request *request);
