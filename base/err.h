#pragma once
/*
 * err: what errno cannot say. All functions return 0 (or a count) or a negative code: an errno, or
 * one of these, which start above every errno and every code of libuv.
 *
 *     name, errno an application sees (0 = must be handled before it reaches one), meaning
 */
#define ERR_TABLE(X)                                                                               \
    X(ERR_NOT_LEADER, 0, "this metadata server does not lead the group")                           \
    X(ERR_NO_LEADER, 0, "the metadata group has no leader at the moment")                          \
    X(ERR_NO_QUORUM, EIO, "too few replicas answered in time")                                     \
    X(ERR_BUSY, 0, "the server's queue is full, try again")                                        \
    X(ERR_SESSION_EXPIRED, ESTALE, "the session expired on the server")                            \
    X(ERR_SEQUENCE_GAP, 0, "an earlier request of this session is missing")                        \
    X(ERR_STALE_EPOCH, 0, "the cluster map is older than the server's")                            \
    X(ERR_CORRUPT, EIO, "stored bytes do not match their checksum")                                \
    X(ERR_BAD_MESSAGE, EIO, "a peer sent a message that cannot be decoded")                        \
    X(ERR_BAD_FORMAT, EIO, "the file is not in a format that this version reads")                  \
    X(ERR_WRONG_CLUSTER, EIO, "the other side belongs to another cluster")                         \
    X(ERR_WRONG_NODE, EIO, "the data directory belongs to another node")                           \
    X(ERR_DISCONNECTED, 0, "the connection was lost")                                              \
    X(ERR_REPAIR, 0, "the node is repairing its log and does not vote or serve")                   \
    X(ERR_NOT_FOUND, EIO, "no server holds the chunk")                                             \
    X(ERR_JOURNAL_FULL, 0, "too much data is journalled: it has to go into chunks")                \
    X(ERR_CHANGED, 0, "the file is not what the mount took it for: it has to ask again")

enum err_code {
    ERR_FIRST = 10000,
#define ERR_ENUM(name, posix, text) name,
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
        ERR_END
};

/* The text for a negative code (ours or errno); never NULL. */
const char *err_text(int code);
/* The symbolic name for one of our codes, strerrorname for errno; never NULL. */
const char *err_name(int code);
/* Maps a negative code to a positive errno for applications; EIO where the table says 0. */
int err_to_errno(int code);
