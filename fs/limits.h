#pragma once
/* limits: every bound of a mount, with its reason; those that can be set are in mount_settings.h.
 */
#include "base/compiler.h"

#define FS_PIECE_MAX          MiB(1)  /* a run of sequential writes in one allocation */
#define FS_ROUND_BYTES        MiB(16) /* data of one round: 4 chunks, each on 3 servers */
#define FS_ROUND_INODES       256     /* inodes committed in one transaction */
#define FS_ROUND_EXTENTS      1800    /* x 40 bytes fits META_BODY_MAX */
#define FS_ROUND_BODY         KiB(96) /* of commit records */
#define FS_EXTENT_BODY        40      /* the most that one extent takes of it */
#define FS_READ_GETS_MAX      512     /* chunk reads of one request: 2 MiB of 4 KiB extents */
#define FS_EXTENTS_CACHED_MAX 65536   /* of one inode, 2.6 MiB */
#define FS_JOURNAL_PIECES     4       /* of one inode's fsync that is carried in the commit */
#define FS_JOURNAL_BYTES      KiB(16) /* and so many bytes: above, chunks are no slower */
#define FS_SETTLE_BYTES       KiB(64) /* of a file journalled: moved into a chunk at once */
#define FS_SETTLE_AGE_NS      (5 * NS_PER_S) /* else so long after */
#define FS_SETTLE_FILE_MAX    KiB(256)       /* while that is under way; then chunks */
#define FS_SETTLE_MAX         MiB(8)         /* a quarter of META_JOURNAL_MAX */
#define FS_SETTLE_RUNNING     2              /* files at once */
#define FS_SETTLE_RECORD      128            /* bytes that a piece costs besides what it carries */
#define FS_SETTLE_RETRY_NS    NS_PER_S /* after a failure; twice as long after each one more */
#define FS_SETTLE_DOUBLINGS   5        /* of that */
#define FS_SETTLE_PUT_NS      (5 * NS_PER_S) /* then later again */
#define FS_ROOM_LOW           4 /* x dirty_bytes: with less left on disks, writes go through */
#define FS_NO_SPACE_NS        (10 * NS_PER_S) /* writes go through, if no chunk was stored */
#define FS_LOCAL_INOS         8192            /* inode numbers reserved at once */
#define FS_NAMES_MAX          100000          /* of one directory, 8 MiB; above: no longer kept */
#define FS_READDIR_BATCH      256
#define FS_FOUND_NS           NS_PER_S /* from the lookup of a name to the open of what it named */
/* Fetched before the kernel asks (fs/ahead.h). */
#define FS_AHEAD_INODES       16384 /* that the kernel does not know, 0.7 KiB each: 12 MiB */
#define FS_AHEAD_LOOKUPS      2U    /* in a directory, before its names are read */
#define FS_AHEAD_NAMES_EACH   64    /* names for each lookup: costs about what the lookup cost */
#define FS_AHEAD_FAILURES_MAX 10    /* each doubles FS_AHEAD_LOOKUPS */
#define FS_AHEAD_STREAMS      8     /* x FS_AHEAD_WINDOW_MAX x 8 KiB = half of FS_CONTENTS_MAX */
#define FS_AHEAD_NEAR         32    /* inode numbers between two opens of one stream */
#define FS_AHEAD_WINDOW_MIN   16
#define FS_AHEAD_WINDOW_MAX   256 /* files; 1 MiB of 4 KiB each: 20 ms of reading */
#define FS_AHEAD_FLIGHTS_MAX  16  /* requests, 120 KiB each in return */
#define FS_INTERRUPT_GRACE_NS                                                                      \
    NS_PER_S /* a handled signal does not end a call before; see fuse_request.c */
#define FS_ATIME_NS          (5 * NS_PER_S) /* from an access until the service is told */
#define FS_ATIME_FLIGHTS_MAX 2
#define FS_ATIME_CLOSE_NS    (1 * NS_PER_S)   /* for the last ones when the mount ends */
#define FS_LOCK_ASK_NS       (1 * NS_PER_S)   /* is it our turn? when nobody has said so */
#define FS_LOCK_RETRY_NS     (50 * NS_PER_MS) /* another mount has not told its locks yet */
