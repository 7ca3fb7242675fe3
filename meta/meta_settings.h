#pragma once
/* meta_settings: what an operator may set for a metadata server, [meta] in cluster.conf. What
 * replicas or clients must agree on is in meta/limits.h instead. */
#include "base/config.h"
#include "meta/limits.h"
#include "raft/limits.h"

/* clang-format off */
#define META_SETTINGS(X)                                                                           \
    X(uint64_t, cache_bytes,       MiB(19), MiB(1),               GiB(64),                         \
      "pages of the tree kept in memory")                                                          \
    X(uint64_t, checkpoint_bytes,  MiB(16), KiB(64),              MiB(128),                        \
      "a checkpoint follows so much log, which is kept in memory")                                 \
    X(uint32_t, checkpoint_ms,     30000,   100,                  3600000,                         \
      "and follows a change after this time")                                                      \
    X(uint64_t, log_segment_bytes, MiB(64), RAFT_LOG_SEGMENT_MIN, GiB(1),                          \
      "size of the log's files, made beforehand")                                                  \
    X(uint32_t, gc_grace_ms,       60000,   0,                    86400000,                        \
      "dead chunks stay so long for readers with older maps")                                      \
    X(uint32_t, state_check_ms,    5000,    100,                  3600000,                         \
      "replicas compare their states so often")                                                    \
    X(uint32_t, handover_ms,       1000,    0,                    60000,                           \
      "a leader that stops waits so long for another to lead; 0 = not at all")                     \
    X(uint32_t, delete_queue_long, 100000,  1,                    1000000000,                      \
      "dead chunks that wait: health says so above")
/* clang-format on */

CONFIG_DEFINE(meta_settings, META_SETTINGS);
