#pragma once
/* mount_settings: what an operator may set for a mount, [mount] in cluster.conf or -o NAME=VALUE.
 */
#include "base/config.h"
#include "meta/limits.h"

/* Half of the session's window is free for what cannot be answered before it is sent. */
#define MOUNT_LOCAL_OPS_MAX (META_CLIENT_WINDOW / 2)

/* clang-format off */
#define MOUNT_SETTINGS(X)                                                                          \
    X(uint64_t, dirty_bytes,       MiB(64),             MiB(4),  GiB(16),                          \
      "written and not committed; above, writes wait")                                             \
    X(uint64_t, dirty_flush_bytes, MiB(24),             MiB(1),  GiB(16),                          \
      "of all files: flushed without waiting for age")                                             \
    X(uint64_t, inode_flush_bytes, MiB(8),              KiB(64), GiB(1), "of one file: the same")  \
    X(uint32_t, dirty_age_ms,      1000,                20,      60000,                            \
      "written data is flushed after this time")                                                   \
    X(uint32_t, flush_rounds,      4,                   1,       16,                               \
      "flushes in flight, each up to 16 MiB")                                                      \
    X(uint64_t, contents_bytes,    MiB(32),             KiB(64), GiB(4),                           \
      "contents of small files and extents kept of clean files")                                   \
    X(uint32_t, local_ops,         MOUNT_LOCAL_OPS_MAX, 0,       MOUNT_LOCAL_OPS_MAX,              \
      "answered before they are sent, when alone; 0 = none")                                       \
    X(uint32_t, compress,          1,                   0,       1,                                \
      "chunks are compressed where that pays; 0 = never")
/* clang-format on */

CONFIG_DEFINE(mount_settings, MOUNT_SETTINGS);
