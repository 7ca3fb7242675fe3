#pragma once
/* chunk_metrics: what a chunk server counts. */
#include "base/metrics.h"

/* clang-format off */
#define CHUNK_METRICS(X, V)                                                                        \
    X(counter,   puts,             "chunks stored")                                                \
    X(counter,   put_bytes,        "of them, as they came")                                        \
    X(histogram, put_seconds,      "from request to reply")                                        \
    X(counter,   reads,            "chunks read")                                                  \
    X(counter,   read_bytes,       "of them, as they went")                                        \
    X(histogram, read_seconds,     "from request to reply")                                        \
    X(counter,   deletes,          "chunks deleted")                                               \
    X(counter,   failed,           "puts, gets and deletes that ended with an error")              \
    X(counter,   syncs,            "groups of records made durable")                               \
    X(gauge,     requests_running, "being worked on")                                              \
    X(gauge,     put_queue_bytes,  "accepted, not durable yet")                                    \
    X(gauge,     get_queue_bytes,  "being read")                                                   \
    X(gauge,     chunks,           "live")                                                         \
    X(gauge,     stored_bytes,     "of live chunks")                                               \
    X(gauge,     dead_bytes,       "in segments, not given back yet")                              \
    X(gauge,     disk_total_bytes, "of the disk")                                                  \
    X(gauge,     disk_free_bytes,  "of the disk")                                                  \
    X(gauge,     full,             "1 while puts are refused")                                     \
    X(counter,   cleaned_bytes,    "moved by cleaning")                                            \
    X(counter,   corrupt_found,    "copies that did not verify")                                   \
    X(counter,   torn_tails,       "ends of segments cut off at the start")                        \
    X(counter,   repairs,          "copies pulled from others")                                    \
    X(counter,   repair_failures,  "pulls that found no copy")                                     \
    X(gauge,     repairs_waiting,  "queued")                                                       \
    X(gauge,     hints_waiting,    "for servers that cannot be reached")                           \
    X(counter,   hints_delivered,  "copies pushed to others")                                      \
    X(counter,   comparisons,      "rounds of anti-entropy")                                       \
    X(counter,   scrubbed_bytes,   "read and verified")                                            \
    X(gauge,     map_epoch,        "of the cluster map")
/* clang-format on */

METRICS_DEFINE(chunk_metrics, CHUNK_METRICS);
