#pragma once
/* chunk_settings: what an operator may set for a chunk server, [chunk] in cluster.conf. */
#include "base/config.h"

/* clang-format off */
#define CHUNK_SETTINGS(X)                                                                          \
    X(uint64_t, segment_bytes,       MiB(64),  KiB(64),  GiB(1),                                   \
      "a segment of the value log is full at")                                                     \
    X(uint64_t, memtable_bytes,      MiB(3),   KiB(2),   MiB(32) ,                                 \
      "index entries in memory before a table is written; three times")                            \
    X(uint64_t, index_cache_bytes,   MiB(4),   KiB(256), GiB(4),                                   \
      "blocks of index tables kept in memory")                                                     \
    X(uint64_t, put_queue_bytes,     MiB(24),  MiB(4),   GiB(4),                                   \
      "chunks accepted and not on disk; above, clients wait")                                      \
    X(uint64_t, get_queue_bytes,     MiB(16),  MiB(4),   GiB(4),                                   \
      "chunks being read; above, clients wait")                                                    \
    X(uint32_t, full_percent,        95,       50,       99,                                       \
      "of the disk: puts are refused above")                                                       \
    X(uint64_t, reserve_bytes,       MiB(64),  MiB(1),   GiB(1024),                                \
      "and when less is free, for cleaning needs room")                                            \
    X(uint32_t, clean_small_percent, 30,       5,        95,                                       \
      "dead bytes at which a segment of small records is cleaned")                                 \
    X(uint32_t, clean_large_percent, 90,       5,        99,                                       \
      "the same, of large ones, which are punched out before")                                     \
    X(uint32_t, repairs_max,         4,        1,        64, "repairs in flight, each a chunk")    \
    X(uint64_t, scrub_bytes_second,  4000000,  0,        GiB(16),                                  \
      "stored bytes read and verified; 0 = no scrub")                                              \
    X(uint32_t, sync_ms,             30000,    100,      86400000,                                 \
      "owners of a partition compare their chunks so often")                                       \
    X(uint32_t, heartbeat_ms,        1000,     100,      2000,                                     \
      "the metadata service hears of this server so often")
/* clang-format on */

CONFIG_DEFINE(chunk_settings, CHUNK_SETTINGS);
