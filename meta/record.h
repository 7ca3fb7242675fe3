#pragma once
/*
 * record: the keys and values of the metadata state. Pure.
 *
 * A key is one letter and big-endian numbers, so that what belongs together lies together:
 *     C                        cluster map (encoded)
 *     D dir hash n             directory entry; n tells names of the same hash apart
 *     E data offset            extent of a file; data: the inode's data id
 *     F ino offset             reservation: allocated, without data
 *     G time session seq       delete queue: chunk dead since `time`
 *     I ino                    inode
 *     J data offset            journalled extent: its bytes are in the extent's record, and are to
 *                              be moved into a chunk
 *     K session ino            the session has locks of the file, or waits for some
 *     L ino                    locks of the file (meta/lock_table.h)
 *     M                        members of the metadata group (raft/raft_members.h)
 *     O ino                    orphan: unlinked, not freed yet; or data cut off from its inode
 *     R session seq            reply to a mutation, until the client has it
 *     S session                session
 *     U session seq            chunk in use: live bytes; or dead and in the delete queue
 *     V                        volume
 *     W session owner ticket   the owner of locks waits for one, of the file in the value
 *     X ino hash n             extended attribute
 */
#include "base/hash.h"
#include "base/schema.h"
#include "meta/meta_proto.h"

#define RECORD_KEY_MAX 25
#define RECORD_VERSION 1

struct record_key {
    uint8_t bytes[RECORD_KEY_MAX];
    uint8_t size;
};

/* Borrowed from `key`. */
struct slice record_slice(const struct record_key *key);

struct record_key record_key_map(void);
struct record_key record_key_dentry(uint64_t dir, uint64_t hash, uint8_t n);
struct record_key record_key_extent(uint64_t data, uint64_t offset);
struct record_key record_key_reservation(uint64_t ino, uint64_t offset);
struct record_key record_key_gone(uint64_t time, uint64_t session, uint64_t seq);
struct record_key record_key_inode(uint64_t ino);
struct record_key record_key_journal(uint64_t data, uint64_t offset);
struct record_key record_key_locks(uint64_t ino);
struct record_key record_key_locked(uint64_t session, uint64_t ino);
struct record_key record_key_lock_wait(uint64_t session, uint64_t owner, uint64_t ticket);
struct record_key record_key_members(void);
struct record_key record_key_orphan(uint64_t ino);
struct record_key record_key_reply(uint64_t session, uint64_t seq);
struct record_key record_key_session(uint64_t session);
struct record_key record_key_chunk(uint64_t session, uint64_t seq);
struct record_key record_key_volume(void);
struct record_key record_key_xattr(uint64_t ino, uint64_t hash, uint8_t n);

/* The `i`th number of a key; 0 when the key is shorter. */
uint64_t record_key_number(struct slice key, unsigned i);
/* Same letter, as long as its keys are, and the same first number. */
bool record_key_same_group(struct slice key, char letter, uint64_t first);
/* The letter, and as long as its keys are: a shorter key would stand for another one, and whoever
 * goes on behind that would come to it again. */
bool record_key_is(struct slice key, char letter);
/* Of a name in a directory or of an attribute: 63 bits, at least 3 (readdir cookies). */
uint64_t record_name_hash(struct hash_key salt, struct slice name);

/* clang-format off */
#define RECORD_VOLUME(F)                                    \
    F(u32,   version,     0,                       1)       \
    F(bytes, uuid,        16,                      1)       \
    F(u64,   salt0,       0,                       1)       \
    F(u64,   salt1,       0,                       1)       \
    F(u64,   next_ino,    0,                       1)       \
    F(u64,   next_session, 0,                      1)       \
    F(u64,   inodes,      0,                       1)       \
    F(u64,   used_bytes,  0,                       1)       \
    F(u64,   orphans,     0,                       1)       \
    F(u64,   delete_queue, 0,                      1)       \
    F(u64,   sessions,    0,                       1)       \
    F(u64,   map_epoch,   0,                       1)       \
    F(u64,   time,        0,                       1)       \
    F(u64,   journal_bytes, 0,                     1)       \
    F(u64,   reserved_bytes, 0,                    1)       \
    F(u32,   local_locks, 0,                       1)
/* used_bytes: of file data, wherever it is. time: the newest stamp. journal_bytes: of data in
 * journalled extents. reserved_bytes: of all reservations; not in used_bytes.
 * local_locks: sessions that grant locks themselves. */

#define RECORD_INODE(F)                                     \
    F(u32,   mode,        0,                       1)       \
    F(u32,   nlink,       0,                       1)       \
    F(u32,   uid,         0,                       1)       \
    F(u32,   gid,         0,                       1)       \
    F(u64,   rdev,        0,                       1)       \
    F(u64,   size,        0,                       1)       \
    F(u64,   bytes,       0,                       1)       \
    F(u64,   atime,       0,                       1)       \
    F(u64,   mtime,       0,                       1)       \
    F(u64,   ctime,       0,                       1)       \
    F(u64,   btime,       0,                       1)       \
    F(u64,   change,      0,                       1)       \
    F(u64,   parent,      0,                       1)       \
    F(u64,   data_id,     0,                       1)       \
    F(bytes, content,     META_INLINE_MAX,         1)       \
    F(u32,   flags,       0,                       1)       \
    F(u64,   reserved,    0,                       1)
/* bytes: of data that is stored. data_id: of its extents, 0 = none yet; never an inode's number.
 * content: symlink target, or inline data. flags: META_ATTR_*. reserved: bytes of its
 * reservations. */

#define RECORD_DENTRY(F)                                    \
    F(u64,   ino,         0,                       1)       \
    F(u32,   type,        0,                       1)       \
    F(bytes, name,        META_NAME_MAX,           1)

#define RECORD_EXTENT(F)                                    \
    F(u32,   length,      0,                       1)       \
    F(u64,   session,     0,                       1)       \
    F(u64,   seq,         0,                       1)       \
    F(u32,   chunk_offset, 0,                      1)       \
    F(u32,   flags,       0,                       1)       \
    F(bytes, data,        META_JOURNAL_EXTENT_MAX, 1)
/* data: empty, or the extent is journalled: the bytes themselves, and {session, seq} names the
 * COMMIT that brought them instead of a chunk. */

#define RECORD_RESERVATION(F)                               \
    F(u64,   length,      0,                       1)

#define RECORD_JOURNAL(F)                                   \
    F(u64,   ino,         0,                       1)       \
    F(u64,   since,       0,                       1)

#define RECORD_XATTR(F)                                     \
    F(bytes, name,        META_NAME_MAX,           1)       \
    F(bytes, value,       META_XATTR_VALUE_MAX,    1)

#define RECORD_SESSION(F)                                   \
    F(u64,   nonce,       0,                       1)       \
    F(u64,   last_seq,    0,                       1)       \
    F(u64,   low_water,   0,                       1)       \
    F(u64,   chunk_low,   0,                       1)       \
    F(u64,   opened,      0,                       1)       \
    F(u64,   inos_from,   0,                       1)       \
    F(u64,   inos_to,     0,                       1)       \
    F(bool,  local_locks, 0,                       1)       \
    F(u32,   locked,      0,                       1)
/* local_locks: it grants locks itself. locked: files that it has locks of, or waits for. */

#define RECORD_CHUNK(F)                                     \
    F(u64,   live,        0,                       1)       \
    F(u64,   dead_since,  0,                       1)
/* live: bytes that extents name. dead_since: 0 = alive. */

#define RECORD_ORPHAN(F)                                    \
    F(bool,  detached,    0,                       1)       \
    F(u64,   since,       0,                       1)       \
    F(bool,  linkable,    0,                       1)
/* linkable: made without a name, and may get one. detached: nobody can have it open: to be freed
 * without asking. */
/* clang-format on */

SCHEMA_DEFINE(record_volume, RECORD_VOLUME);
SCHEMA_DEFINE(record_inode, RECORD_INODE);
SCHEMA_DEFINE(record_dentry, RECORD_DENTRY);
SCHEMA_DEFINE(record_extent, RECORD_EXTENT);
SCHEMA_DEFINE(record_reservation, RECORD_RESERVATION);
SCHEMA_DEFINE(record_journal, RECORD_JOURNAL);
SCHEMA_DEFINE(record_xattr, RECORD_XATTR);
SCHEMA_DEFINE(record_session, RECORD_SESSION);
SCHEMA_DEFINE(record_chunk, RECORD_CHUNK);
SCHEMA_DEFINE(record_orphan, RECORD_ORPHAN);
