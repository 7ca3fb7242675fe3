#pragma once
/* mount_metrics: what a mount counts. */
#include "base/metrics.h"
#include "fs/call.h"

#define FS_OP_COUNT (FS_SHUTDOWN + 1)

const char *fs_op_name(unsigned op);

/* clang-format off */
#define MOUNT_METRICS(X, V)                                                                        \
    V(histogram, call_seconds, FS_OP_COUNT, "call", fs_op_name, "calls of the kernel, by kind")    \
    V(gauge,     calls_waiting, FS_OP_COUNT, "call", fs_op_name, "not answered yet, by kind")      \
    X(counter,   call_errors,      "calls that ended with an error, ENOENT of a lookup included")  \
    X(counter,   read_bytes,       "read by programs, past the kernel's pages")                    \
    X(counter,   written_bytes,    "written by programs")                                          \
    X(counter,   read_retries,     "reads begun again, for the file had changed")                  \
    X(gauge,     dirty_bytes,      "written and not committed")                                    \
    X(counter,   flush_rounds,     "committed, or tried to")                                       \
    X(gauge,     flushes_running,  "rounds in flight")                                             \
    X(gauge,     journal_bytes,    "carried in commits, not moved into chunks yet")                \
    X(gauge,     inodes,           "that the kernel knows")                                        \
    X(gauge,     contents_bytes,   "kept of clean files")                                          \
    X(gauge,     open_files,       "handles")                                                      \
    X(gauge,     session,          "its number; 0 = none open now")                                \
    X(gauge,     alone,            "1 while no other mount exists")                                \
    X(gauge,     local_waiting,    "answered, not confirmed by the metadata service yet")          \
    X(gauge,     meta_mutations,   "sent to the metadata service, not answered")                   \
    X(gauge,     meta_reads,       "sent to the metadata service, not answered")                   \
    X(counter,   meta_resends,     "requests sent again")                                          \
    X(counter,   leader_changes,   "times that another server answered as the leader")             \
    X(counter,   sessions_lost,    "expired on the servers")                                       \
    X(counter,   chunk_puts,       "chunks stored on enough servers")                              \
    X(counter,   chunk_gets,       "parts of chunks read")                                         \
    X(counter,   degraded_puts,    "puts that missed a server")                                    \
    X(counter,   read_fallbacks,   "gets that asked a second server")                              \
    X(counter,   read_repairs,     "damaged or missing copies reported")
/* clang-format on */

METRICS_DEFINE(mount_metrics, MOUNT_METRICS);

/* A call begins (more than once, when it had to wait) and ends. */
void mount_call_begins(struct fs_call *call);
void mount_call_ends(struct fs_call *call);
