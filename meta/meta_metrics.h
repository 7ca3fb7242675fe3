#pragma once
/* meta_metrics: what a metadata server counts. */
#include "base/metrics.h"
#include "meta/meta_proto.h"

/* clang-format off */
#define META_METRICS(X, V)                                                                         \
    X(gauge,     leader,            "1 while this server leads the group")                         \
    X(gauge,     term,              "of Raft")                                                     \
    X(gauge,     commit_index,      "of the log: on a majority")                                   \
    X(gauge,     applied_index,     "of the log: in the tree")                                     \
    X(counter,   leaderships,       "times that this server began to lead")                        \
    X(counter,   requests,          "requests of clients, chunk servers and tools")                \
    X(counter,   refused,           "requests answered with a refusal: not the leader, busy, bad") \
    V(counter,   reads, META_OP_END, "op", meta_op_name, "reads served, by operation")             \
    V(histogram, op_seconds, META_OP_END, "op", meta_op_name,                                      \
      "from proposal to answer, by operation")                                                     \
    X(gauge,     proposals_waiting, "proposed, not applied")                                       \
    X(gauge,     reads_waiting,     "for their confirmation")                                      \
    X(gauge,     held_messages,     "of Raft, waiting for the disk")                               \
    X(counter,   applied,           "log entries applied")                                         \
    X(counter,   applied_bytes,     "of them")                                                     \
    X(histogram, log_sync_seconds,  "write and sync of one group of log entries")                  \
    X(counter,   checkpoints,       "made durable")                                                \
    X(histogram, checkpoint_seconds, "from start to durable")                                      \
    X(gauge,     log_bytes,         "applied since the last checkpoint began")                     \
    X(gauge,     tree_bytes,        "pages of the tree in memory")                                 \
    X(gauge,     tree_dirty_bytes,  "of them not in a checkpoint")                                 \
    X(counter,   page_faults,       "pages read from disk")                                        \
    X(counter,   page_evictions,    "pages dropped from memory")                                   \
    X(gauge,     sessions,          "of mounts")                                                   \
    X(counter,   sessions_expired,  "by this server while it led")                                 \
    X(gauge,     inodes,            "of the volume")                                               \
    X(gauge,     used_bytes,        "of the volume")                                               \
    X(gauge,     orphans,           "unlinked and not freed")                                      \
    X(gauge,     delete_queue,      "dead chunks")
/* clang-format on */

METRICS_DEFINE(meta_metrics, META_METRICS);
