#pragma once
/*
 * meta_proto: what clients and the metadata service say to each other, and what the Raft log
 * carries: one request shape, one reply shape, for every operation. A field that an operation does
 * not use is zero and costs one byte.
 *
 * Mutations carry {session, seq}: executed exactly once, in seq order, over any number of resends.
 * The leader stamps `stamp_*` before the request enters the log; every replica then executes the
 * same bytes (meta/ns.h).
 */
#include "base/schema.h"

#include <sys/stat.h>

#define META_NAME_MAX           255
#define META_SYMLINK_MAX        4095
#define META_XATTR_VALUE_MAX    65536
#define META_INLINE_MAX         KiB(8)  /* file data up to this lives in the inode record */
#define META_GROUPS_MAX         256     /* supplementary groups, u32 little endian each */
#define META_JOURNAL_EXTENT_MAX KiB(16) /* bytes carried by one extent of a COMMIT */
#define META_EXTENTS_MAX        2048    /* a commit of one inode carries at most so many */
#define META_BODY_MAX           KiB(120)
#define META_MEMBERS_MAX        KiB(2) /* RAFT_MEMBERS_MAX addresses of 255 bytes */
#define META_ROOT_INO           UINT64_C(1)
#define META_BLOCK_SIZE         4096
#define META_ACCESSED_MAX       512 /* inodes in one ACCESSED */
#define META_ACCESSED_BYTES     16U /* for each */
#define META_LOCK_BYTES_MAX     64  /* one encoded meta_lock: five numbers of 10 bytes, one of 5 */

/*  name, is it a mutation (logged) */
#define META_OPS(X)                                                                                \
    X(SESSION_OPEN, 1)                                                                             \
    X(SESSION_CLOSE, 1)                                                                            \
    X(KEEPALIVE, 0)                                                                                \
    X(LOOKUP, 0)                                                                                   \
    X(GETATTR, 0)                                                                                  \
    X(READLINK, 0)                                                                                 \
    X(READDIR, 0)                                                                                  \
    X(EXTENTS, 0)                                                                                  \
    X(GETXATTR, 0)                                                                                 \
    X(LISTXATTR, 0)                                                                                \
    X(STATFS, 0)                                                                                   \
    X(SETATTR, 1)                                                                                  \
    X(CREATE, 1)                                                                                   \
    X(MKDIR, 1)                                                                                    \
    X(MKNOD, 1)                                                                                    \
    X(SYMLINK, 1)                                                                                  \
    X(LINK, 1)                                                                                     \
    X(UNLINK, 1)                                                                                   \
    X(RMDIR, 1)                                                                                    \
    X(RENAME, 1)                                                                                   \
    X(SETXATTR, 1)                                                                                 \
    X(REMOVEXATTR, 1)                                                                              \
    X(COMMIT, 1)                                                                                   \
    X(ORPHAN_FREE, 1)                                                                              \
    X(SESSION_EXPIRE, 1)                                                                           \
    X(CHUNKS_DELETED, 1)                                                                           \
    X(CLUSTER_MAP, 1)                                                                              \
    X(STATE_CHECK, 1)                                                                              \
    X(VOLUME_FORMAT, 1)                                                                            \
    X(SCAN, 0)                                                                                     \
    X(RESERVE_INOS, 1)                                                                             \
    X(SETTLE, 1)                                                                                   \
    X(INODES, 0)                                                                                   \
    X(FALLOCATE, 1)                                                                                \
    X(SEEK, 0)                                                                                     \
    X(COPY_RANGE, 1)                                                                               \
    X(TMPFILE, 1)                                                                                  \
    X(LOCK, 1)                                                                                     \
    X(LOCK_CANCEL, 1)                                                                              \
    X(LOCK_LOCAL, 1)                                                                               \
    X(LOCK_TEST, 0)                                                                                \
    X(LOCK_STATE, 0)                                                                               \
    X(ACCESSED, 1)

enum meta_op {
    META_OP_NONE,
#define META_OP_ENUM(name, mutates) META_##name,
    META_OPS(META_OP_ENUM)
#undef META_OP_ENUM
        META_OP_END
};

/* One RPC opcode carries every client operation; the others are served by metad too. */
enum meta_opcode {
    META_RPC_REQUEST = 0x0100, /* body: meta_request; reply body: meta_reply */
    META_RPC_STATUS = 0x0101,  /* reply body: meta_status */
    META_RPC_NOTIFY = 0x0102,  /* one way to a client: keep alive now (something changed) */
    META_RPC_MAP = 0x0103,     /* reply body: a cluster map (chunkstore/placement.h) */
};

/* Bits of meta_request.valid: which members SETATTR changes; and of COMMIT. */
enum {
    META_SET_MODE = 1,
    META_SET_UID = 2,
    META_SET_GID = 4,
    META_SET_SIZE = 8,
    META_SET_ATIME = 16,
    META_SET_MTIME = 32,
    META_SET_CTIME = 64,
    META_SET_ATIME_NOW = 128, /* the leader's stamp */
    META_SET_MTIME_NOW = 256,
    META_SET_KILL_PRIV = 512, /* clear suid, sgid-with-x and security.capability */
    META_SET_FLAGS = 1024,    /* inode flags; alone in its SETATTR */
};

enum meta_flag {
    META_WANT_DATA = 1,    /* LOOKUP GETATTR: also inline data or extents from offset 0 */
    META_WANT_ATTRS = 2,   /* READDIR: attributes of each entry */
    META_NOREPLACE = 4,    /* RENAME; XATTR_CREATE for SETXATTR; O_EXCL for CREATE */
    META_EXCHANGE = 8,     /* RENAME */
    META_WHITEOUT = 16384, /* RENAME: leaves a whiteout, character device 0:0, behind */
    META_REPLACE = 16,     /* XATTR_REPLACE */
    META_STILL_OPEN = 32,  /* UNLINK, RENAME over: this session has the victim open */
    META_SKIP_ACCESS = 64, /* no permission check: the handle was opened with the right (COMMIT,
                              SETATTR of size through a descriptor), or only the kernel knows what
                              the caller may do in directories (what makes inodes, by way of an
                              idmapped mount) */
    META_SOLE_SESSION =
        128, /* stamp: no other session exists; an orphan not STILL_OPEN goes at once */
    META_OPEN_READ = 256,    /* GETATTR at open: check read permission */
    META_OPEN_WRITE = 512,   /* GETATTR at open: check write permission */
    META_OPEN_EXEC = 32768,  /* GETATTR at open: check execute permission, and nothing else */
    META_TRUNCATE = 1024,    /* CREATE of an existing file with O_TRUNC */
    META_CLIENT_TIME = 4096, /* inodes' times come from request.ctime: an operation that was
                                answered by a mount that is alone, before it was sent */
    META_JOURNALLED = 8192,  /* EXTENTS: only journalled ones */
    META_LOCK_FLOCK = 65536, /* LOCK, LOCK_TEST: flock(2), not a POSIX record lock */
    META_LOCK_WAIT = 131072, /* LOCK: stand in line while somebody else holds it */
    META_APPEND = 262144,    /* beside META_OPEN_WRITE: all writes go to the end */
    META_RELEASED = 2048,    /* KEEPALIVE: this mount no longer relies on being alone */
};

/* clang-format off */
/*    kind   field        max                      since */
#define META_REQUEST(F)                                     \
    F(u8,    op,          0,                       1)       \
    F(u64,   session,     0,                       1)       \
    F(u64,   seq,         0,                       1)       \
    F(u64,   low_water,   0,                       1)       \
    F(u64,   chunk_low,   0,                       1)       \
    F(u32,   flags,       0,                       1)       \
    F(u32,   uid,         0,                       1)       \
    F(u32,   gid,         0,                       1)       \
    F(bytes, groups,      META_GROUPS_MAX * 4,     1)       \
    F(u64,   ino,         0,                       1)       \
    F(u64,   ino2,        0,                       1)       \
    F(bytes, name,        META_NAME_MAX,           1)       \
    F(bytes, name2,       META_NAME_MAX,           1)       \
    F(u32,   mode,        0,                       1)       \
    F(u64,   rdev,        0,                       1)       \
    F(u32,   valid,       0,                       1)       \
    F(u64,   size,        0,                       1)       \
    F(u64,   atime,       0,                       1)       \
    F(u64,   mtime,       0,                       1)       \
    F(u64,   ctime,       0,                       1)       \
    F(u32,   new_uid,     0,                       1)       \
    F(u32,   new_gid,     0,                       1)       \
    F(u64,   offset,      0,                       1)       \
    F(u32,   count,       0,                       1)       \
    F(bytes, data,        META_BODY_MAX,           1)       \
    F(u64,   stamp_time,  0,                       1)       \
    F(u32,   umask,       0,                       1)       \
    F(u64,   offset2,     0,                       1)       \
    F(u64,   stamp_space, 0,                       1)
/* session, seq: 0 for reads by tools. low_water: every seq below it has been answered, its reply
 * may be forgotten. chunk_low: every chunk {session, seq < chunk_low} that is not committed
 * never will be. groups: u32 LE each. ino: the file, or the parent directory. ino2: LINK: the
 * file to link; RENAME: the new parent. data: symlink target, xattr value, meta_commit records
 * (COMMIT), u64 LE inode numbers (KEEPALIVE: orphans not open here; ORPHAN_FREE), chunk ids 2 x
 * u64 LE (CHUNKS_DELETED). stamp_time: ns since 1970, by the leader, never runs backwards. umask:
 * CREATE, MKDIR, MKNOD, TMPFILE: what is taken from `mode`, unless the directory has a default ACL.
 * FALLOCATE: mode = META_ALLOCATE_*, offset, size. stamp_space: by the leader, for FALLOCATE: bytes
 * that all reservations may take, + 1; 0 = it does not know. COPY_RANGE: ino, offset = from where,
 * ino2, offset2 = to where, size = how much at most. SEEK: offset, count = META_SEEK_*. TMPFILE:
 * ino = the directory, META_NOREPLACE = it can not be linked later. The two enums are as Linux has
 * them. LOCK, LOCK_TEST: mode = META_LOCK_*, ino2 = the owner, count = its process, [offset,
 * offset2] inclusive. LOCK_CANCEL, LOCK_STATE: size = the ticket. LOCK_LOCAL: count = 1: this
 * session, which is the only one, grants locks itself from now on; 0: it has told all of them.
 * SETATTR with META_SET_FLAGS: mode = which of META_ATTR_SETTABLE, count = those that get set.
 * ACCESSED: data = inode number and access time, 2 x u64 LE for each. */
enum { META_ALLOCATE_KEEP_SIZE = 1, META_ALLOCATE_PUNCH = 2, META_ALLOCATE_ZERO = 16 };
enum { META_SEEK_DATA = 3, META_SEEK_HOLE = 4 };
enum { META_LOCK_NONE = 0, META_LOCK_READ = 1, META_LOCK_WRITE = 2 };

#define META_ATTR(F)                                        \
    F(u64,   ino,         0,                       1)       \
    F(u32,   mode,        0,                       1)       \
    F(u32,   nlink,       0,                       1)       \
    F(u32,   uid,         0,                       1)       \
    F(u32,   gid,         0,                       1)       \
    F(u64,   rdev,        0,                       1)       \
    F(u64,   size,        0,                       1)       \
    F(u64,   blocks,      0,                       1)       \
    F(u64,   atime,       0,                       1)       \
    F(u64,   mtime,       0,                       1)       \
    F(u64,   ctime,       0,                       1)       \
    F(u64,   btime,       0,                       1)       \
    F(u64,   change,      0,                       1)       \
    F(u64,   parent,      0,                       1)       \
    F(u32,   flags,       0,                       1)
/* blocks: 512 bytes each, allocated. change: rises with every change of the inode. parent: of a
 * directory. flags: META_ATTR_*. */
enum {
    META_ATTR_ACL = 1,         /* an access ACL that says more than the mode */
    META_ATTR_DEFAULT_ACL = 2, /* of a directory: its new entries inherit it */
    META_ATTR_NO_XATTRS = 4,   /* it never had an extended attribute other than those */
    /* Inode flags, with the numbers of FS_*_FL in linux/fs.h (ioctl_iflags(2)). */
    META_ATTR_SYNC = 8,        /* changes are committed before they are answered */
    META_ATTR_IMMUTABLE = 16,
    META_ATTR_APPEND = 32,     /* a file only grows, a directory only gets names */
    META_ATTR_NODUMP = 64,
    META_ATTR_NOATIME = 128,
    META_ATTR_DIRSYNC = 65536, /* of a directory: changes of its names, as SYNC */

    META_ATTR_SETTABLE = META_ATTR_SYNC | META_ATTR_IMMUTABLE | META_ATTR_APPEND |
                         META_ATTR_NODUMP | META_ATTR_NOATIME | META_ATTR_DIRSYNC,
    META_ATTR_FROZEN = META_ATTR_IMMUTABLE | META_ATTR_APPEND, /* root's to change */
};

#define META_REPLY(F)                                       \
    F(u32,   error,       0,                       1)       \
    F(u64,   index,       0,                       1)       \
    F(u32,   flags,       0,                       1)       \
    F(bytes, attr,        256,                     1)       \
    F(u64,   value,       0,                       1)       \
    F(u64,   value2,      0,                       1)       \
    F(bytes, data,        META_BODY_MAX,           1)       \
    F(bytes, extents,     META_BODY_MAX,           1)       \
    F(bytes, members,     META_MEMBERS_MAX,        1)
/* members: KEEPALIVE, SESSION_OPEN: length-prefixed addresses of the metadata servers. error: 0, an
 * errno, or an err_code, positive. index: Raft index at which this took effect.
 * attr: one meta_attr. SESSION_OPEN: value = session id, value2 = lease in ns. KEEPALIVE: value2
 * = lease, data = u64 LE inode numbers of orphans to answer for, extents = u64 LE inode numbers
 * of files to settle. Mutations: flags META_UNCHANGED: attr.change has not moved. READDIR: data =
 * length-prefixed meta_dirent records, value = 1 at the end. EXTENTS (and WANT_DATA): flags
 * META_DATA_INLINE: data = whole inline data; else extents = length-prefixed meta_extent records
 * covering [offset, value), holes left out. STATFS: data = one meta_statfs. GETXATTR, LISTXATTR,
 * READLINK: data.
 * COMMIT: data = meta_commit_result records. SESSION_*, KEEPALIVE: flags META_ALONE. KEEPALIVE:
 * value = epoch of the cluster map. CREATE: value2 = 1 when the file is new. UNLINK, RMDIR: attr
 * of the victim afterwards. RENAME: attr of what moved, value = ino of the replaced or exchanged
 * one, or 0. RESERVE_INOS (count): value = the first of the numbers, for ino2 of CREATE, MKDIR,
 * MKNOD and SYMLINK of this session. SCAN (data = first key, count = most pairs): data =
 * length-prefixed keys and values in turn, value = 1 at the end. The RPC status -ERR_NOT_LEADER:
 * value = id of the leader or 0, data = its address. Inline data may be shorter than the file: the
 * rest reads as zeros; a file without extents is inline, also an empty one. EXTENTS: value =
 * UINT64_MAX: to the end of the file; request size = length of the range wanted, 0 = all. INODES
 * (ino = first number, ino2 = behind the last): data = length-prefixed meta_file of the regular
 * files in between, value = where to go on, ino2 at the end. FALLOCATE: value = how far it came:
 * the client goes on there. COPY_RANGE: value = how much was copied, attr of the target. SEEK:
 * value = the offset, value2 = 1: no hole up to there, ask again from there. LOCK: value = 0: held
 * from now on; value = 1: it stands in line, value2 = its ticket; ERR_BUSY: a mount that granted
 * locks itself has not told them yet. LOCK_STATE: value = 1: still in line. Both with the attr.
 * LOCK_CANCEL: value = 1: it stood in line and does no more. LOCK_TEST: data = the meta_lock in
 * the way, or nothing. */

/* Times are nanoseconds since 1970, with a sign: before that, the number is a large one. */
static inline uint64_t time_later(uint64_t a, uint64_t b)
{
    return (int64_t)a > (int64_t)b ? a : b;
}

enum { META_DATA_INLINE = 1, META_ALONE = 2, META_UNCHANGED = 4 };

#define META_EXTENT(F)                                      \
    F(u64,   offset,      0,                       1)       \
    F(u32,   length,      0,                       1)       \
    F(u64,   chunk_session, 0,                     1)       \
    F(u64,   chunk_seq,   0,                       1)       \
    F(u32,   chunk_offset, 0,                      1)       \
    F(u32,   flags,       0,                       1)       \
    F(bytes, data,        META_JOURNAL_EXTENT_MAX, 1)
/* offset: in the file. chunk_offset: in the chunk's plain bytes. data: empty, or the extent is
 * journalled: these are its `length` bytes. In a COMMIT a journalled one names no chunk (zeros); in
 * a reply chunk_session and chunk_seq name the COMMIT that it came with. */

/* SETTLE: what of [offset, offset + length) is still journalled by the COMMIT {from_session,
 * from_seq} lies in the chunk from now on, the range's first byte at chunk_offset. */
#define META_SETTLE_RECORD(F)                               \
    F(u64,   offset,      0,                       1)       \
    F(u32,   length,      0,                       1)       \
    F(u64,   from_session, 0,                      1)       \
    F(u64,   from_seq,    0,                       1)       \
    F(u64,   chunk_session, 0,                     1)       \
    F(u64,   chunk_seq,   0,                       1)       \
    F(u32,   chunk_offset, 0,                      1)

#define META_DIRENT(F)                                      \
    F(u64,   ino,         0,                       1)       \
    F(u64,   cookie,      0,                       1)       \
    F(u32,   mode,        0,                       1)       \
    F(bytes, name,        META_NAME_MAX,           1)       \
    F(bytes, attr,        256,                     1)
/* cookie: READDIR with offset = cookie continues behind this entry. Cookies of real entries are
 * >= 3: 0 = start; "." and ".." are made by the client (1, 2). */

/* One regular file in a reply to INODES: what GETATTR with META_WANT_DATA says of it. */
#define META_FILE_RECORD(F)                                \
    F(bytes, attr,        256,                     1)       \
    F(bool,  is_inline,   0,                       1)       \
    F(bytes, inline_data, META_INLINE_MAX,         1)       \
    F(bytes, extents,     META_BODY_MAX,           1)       \
    F(u64,   extents_to,  0,                       1)
/* attr: one meta_attr. is_inline: inline_data is the whole of it; else extents cover
 * [0, extents_to). */

#define META_COMMIT_RECORD(F)                               \
    F(u64,   ino,         0,                       1)       \
    F(u32,   valid,       0,                       1)       \
    F(u64,   size,        0,                       1)       \
    F(u64,   mtime,       0,                       1)       \
    F(bool,  is_inline,   0,                       1)       \
    F(bytes, inline_data, META_INLINE_MAX,         1)       \
    F(bytes, extents,     META_BODY_MAX,           1)       \
    F(u64,   ctime,       0,                       1)       \
    F(u64,   base,        0,                       1)       \
    F(u64,   old_end,     0,                       1)
/* valid: META_SET_SIZE: the size becomes max(size, its size now) (never shrinks: SETATTR does
 * that); META_SET_MTIME: mtime = given, else the stamp; META_SET_KILL_PRIV. is_inline: the whole
 * contents are inline_data now (size = its length), extents are dropped. Else extents replace
 * what they cover; data that was inline before must be covered by them or lie in the range [0,
 * META_INLINE_MAX) rewritten. base: 0, or the change counter that the inode must have still: what
 * is committed rests on contents that the mount had read. old_end: 0, or the size + 1 that the file
 * must have still: what is committed was appended there. If it has another, or what was inline is
 * not covered, the record's result is ERR_CHANGED. */

/* One for each record of a COMMIT, in order. error: positive; attr: one meta_attr when error is
 * 0. */
#define META_COMMIT_RESULT(F)                               \
    F(u64,   ino,         0,                       1)       \
    F(u32,   error,       0,                       1)       \
    F(bytes, attr,        256,                     1)

/* One advisory lock, held (ticket 0) or waited for. [from, to] inclusive; type: META_LOCK_*. The
 * owner's number means something to its session only. */
#define META_LOCK_RECORD(F)                                 \
    F(u64,   session,     0,                       1)       \
    F(u64,   owner,       0,                       1)       \
    F(u64,   from,        0,                       1)       \
    F(u64,   to,          0,                       1)       \
    F(u64,   ticket,      0,                       1)       \
    F(u32,   pid,         0,                       1)       \
    F(bool,  flock,       0,                       1)       \
    F(u8,    type,        0,                       1)

#define META_STATFS_RECORD(F)                               \
    F(u64,   total_bytes, 0,                       1)       \
    F(u64,   free_bytes,  0,                       1)       \
    F(u64,   used_bytes,  0,                       1)       \
    F(u64,   inodes,      0,                       1)

/* What one metadata server says of itself, its group and (the leader only) of the chunk servers.
 * role: "leader", "follower", ... members, servers: length-prefixed records. health: codes from
 * meta_health_name, each ended by a zero byte; empty = all is well. */
#define META_STATUS(F)                                      \
    F(u32,   id,          0,                       1)       \
    F(bytes, role,        32,                      1)       \
    F(u64,   term,        0,                       1)       \
    F(u32,   leader,      0,                       1)       \
    F(u64,   commit,      0,                       1)       \
    F(u64,   applied,     0,                       1)       \
    F(u64,   last,        0,                       1)       \
    F(bytes, members,     KiB(8),                  1)       \
    F(u32,   sessions,    0,                       1)       \
    F(bytes, servers,     KiB(100),                1)       \
    F(u64,   inodes,      0,                       1)       \
    F(u64,   used_bytes,  0,                       1)       \
    F(u64,   orphans,     0,                       1)       \
    F(u64,   delete_queue, 0,                      1)       \
    F(u64,   map_epoch,   0,                       1)       \
    F(bytes, health,      KiB(4),                  1)       \
    F(bytes, cluster_uuid, 16,                     1)       \
    F(u64,   checkpoints, 0,                       1)       \
    F(u64,   state_hash,  0,                       1)       \
    F(u64,   journal_bytes, 0,                     1)

/* heard_ms: since it was last heard of, UINT64_MAX = never; 0 for the server that answers. */
#define META_STATUS_MEMBER(F)                               \
    F(u32,   id,          0,                       1)       \
    F(bytes, address,     255,                     1)       \
    F(u64,   match,       0,                       1)       \
    F(u64,   heard_ms,    0,                       1)       \
    F(bool,  learner,     0,                       1)

#define META_STATUS_SERVER(F)                               \
    F(u32,   id,          0,                       1)       \
    F(bytes, address,     255,                     1)       \
    F(bytes, zone,        31,                      1)       \
    F(u64,   total_bytes, 0,                       1)       \
    F(u64,   free_bytes,  0,                       1)       \
    F(u64,   heard_ms,    0,                       1)
/* clang-format on */

SCHEMA_DEFINE(meta_request, META_REQUEST);
SCHEMA_DEFINE(meta_attr, META_ATTR);
SCHEMA_DEFINE(meta_reply, META_REPLY);
SCHEMA_DEFINE(meta_extent, META_EXTENT);
SCHEMA_DEFINE(meta_settle, META_SETTLE_RECORD);
SCHEMA_DEFINE(meta_dirent, META_DIRENT);
SCHEMA_DEFINE(meta_file, META_FILE_RECORD);
SCHEMA_DEFINE(meta_commit, META_COMMIT_RECORD);
SCHEMA_DEFINE(meta_commit_result, META_COMMIT_RESULT);
SCHEMA_DEFINE(meta_lock, META_LOCK_RECORD);
SCHEMA_DEFINE(meta_statfs, META_STATFS_RECORD);
SCHEMA_DEFINE(meta_status, META_STATUS);
SCHEMA_DEFINE(meta_status_member, META_STATUS_MEMBER);
SCHEMA_DEFINE(meta_status_server, META_STATUS_SERVER);

/* What can be wrong: code, in words. The codes are an interface: scripts match them. */
#define META_HEALTH_TABLE(X)                                                                       \
    X(NO_LEADER, "the metadata group has no leader")                                               \
    X(META_SERVER_DOWN, "a metadata server has not been heard of")                                 \
    X(META_LOG_REPAIR,                                                                             \
      "a metadata server's log was damaged: it takes no part until the leader has sent the rest")  \
    X(META_TREE_REBUILD,                                                                           \
      "a metadata server's state was damaged: it does not lead until it has another one's")        \
    X(META_DISK_FAILED, "a metadata server's disk failed: it has stopped serving")                 \
    X(META_DISK_FULL, "a metadata server's disk is full: it has stopped serving")                  \
    X(CHUNK_SERVER_DOWN, "a chunk server has not been heard of")                                   \
    X(CHUNK_SERVERS_FEW, "fewer chunk servers are known than a chunk has copies")                  \
    X(CHUNK_DISK_FAILED, "a chunk server's disk failed: it has stopped serving")                   \
    X(CHUNK_DISK_FULL, "a chunk server's disk is full: it takes no new chunks")                    \
    X(NO_CLUSTER_MAP, "no cluster map has been made yet")                                          \
    X(SPACE_LOW, "a chunk server has less than 5 % of its space free")                             \
    X(DELETE_QUEUE_LONG, "deleted chunks wait longer than they should")

const char *meta_op_name(unsigned op);
bool meta_op_mutates(unsigned op);
