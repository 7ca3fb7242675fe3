#pragma once
/* limits: every bound of the metadata service, with the arithmetic behind it; those that can be set
 * are in meta/meta_settings.h. */
#include "base/compiler.h"

/* ---- client ---- */
#define META_CLIENT_ADDRESSES_MAX 128 /* configured, and joined since: never forgotten */
/* Mutations without an answer: a server keeps as many replies of each session. */
#define META_CLIENT_WINDOW 1024
/* Reads in flight; RPC_INFLIGHT_MAX (4096) less the window and the client's own calls. */
#define META_CLIENT_READS_MAX  2048
#define META_CLIENT_TRY_NS     (3 * NS_PER_S)    /* one attempt, then ask another server */
#define META_CLIENT_OPEN_NS    (8 * NS_PER_S)    /* SESSION_OPEN may wait META_ALONE_WAIT_NS */
#define META_CLIENT_CLOSE_NS   (1 * NS_PER_S)    /* SESSION_CLOSE: else the lease runs out */
#define META_CLIENT_RETRY_NS   (50 * NS_PER_MS)  /* pause when no server leads */
#define META_CLIENT_RETRY_MAX  (400 * NS_PER_MS) /* doubled with each round of them, up to this */
#define META_CLIENT_SILENCE_NS (200 * NS_PER_MS) /* no answer: does another one lead? */
#define META_CLIENT_PROBE_NS   (50 * NS_PER_MS)  /* from one question to the next */
#define META_KEEPALIVE_NS      (2500 * NS_PER_MS)
#define META_ALONE_GRANT_NS    (3 * NS_PER_S) /* from sending the KEEPALIVE; + 1 s in the kernel */
#define META_LEASE_MARGIN_NS   (2 * NS_PER_S) /* the client stops this much before the server */
#define META_ORPHAN_ANSWER_MAX 1024           /* inode numbers in one KEEPALIVE, 8 bytes each */

/* ---- server ---- */
#define META_LEASE_NS            (10 * NS_PER_S)
#define META_LEASE_GRACE_NS      (1 * NS_PER_S) /* the server waits this much longer */
#define META_ALONE_WAIT_NS       (4 * NS_PER_S) /* grant 3 s + kernel timeout 1 s */
#define META_STALL_NS            (1 * NS_PER_S) /* a tick (200 ms) this late: we stood still */
#define META_SESSIONS_MAX        10000
#define META_REPLIES_MAX         (2 * META_CLIENT_WINDOW) /* kept of a session, whatever it says */
#define META_PARKED_MAX          META_CLIENT_WINDOW /* requests of a session ahead of their turn */
#define META_PROPOSALS_MAX       4096               /* not applied yet; above: the client retries */
#define META_READS_MAX           4096               /* waiting for their read index */
#define META_SERVER_DOWN_NS      (5 * NS_PER_S)
#define META_GC_BATCH            1024    /* chunks in one delete and one log entry: 16 KiB */
#define META_DISK_RESERVE        MiB(64) /* free beside a state that is received: a log segment */
#define META_SNAPSHOT_PAGES      64      /* page cache of a tree that a snapshot reads */
#define META_LEAVE_TELL_NS       (100 * NS_PER_MS) /* 2 x META_CLIENT_RETRY_NS: who leads now */
#define META_DESCRIBE_MAX        100               /* sessions listed by the admin socket */
#define META_STOP_POLL_NS        (2 * NS_PER_MS)
#define META_FREE_STEP_EXTENTS   2000 /* extents freed by one log entry */
#define META_FREE_STEP_INODES    256  /* orphans freed by one log entry */
#define META_READDIR_MAX         1024 /* entries in a reply, if they fit 120 KiB */
#define META_LOOKUP_EXTENTS      128  /* sent along with attributes; about 5 KiB */
#define META_INODES_SEEN         1024 /* inodes looked at by one INODES, files or not */
#define META_DEPTH_MAX           4096 /* parents walked by a rename's cycle check */
#define META_LINKS_MAX           65000
#define META_COMMITS_MAX         512  /* records in one COMMIT: 512 results of 160 B = 80 KiB */
#define META_ACL_MAX             4096 /* bytes of an ACL, as the kernel's; a new entry copies two */
#define META_LOCKED_FILES_MAX    10000    /* of a session: its end is one log entry, 5 us a file */
#define META_COLLISIONS_MAX      16       /* names of a directory with the same 63-bit hash */
#define META_RESERVE_MAX         65536    /* inode numbers reserved by a session at once */
#define META_REPLY_EXTENTS_BYTES KiB(100) /* + one journalled extent: below META_BODY_MAX */
#define META_JOURNAL_MAX         MiB(32)  /* journalled, of a volume: it is in the tree */
#define META_SETTLE_AGE_NS       (20 * NS_PER_S) /* its writer has forgotten it */
#define META_SETTLE_ASK          32              /* files that one session is asked to settle */
