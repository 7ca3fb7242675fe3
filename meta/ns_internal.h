#pragma once
/* ns_internal: what the files of the namespace share. Handlers return 0 or a negative code; after
 * an error the state is as it was before the request. */
#include "meta/limits.h"
#include "meta/ns.h"

#include <errno.h>

/* A copy; what r borrows lives in ns->arena, as long as the request. */
struct inode {
    uint64_t ino;
    struct record_inode r;
};

enum { MAY_EXEC = 1, MAY_WRITE = 2, MAY_READ = 4 };

struct dentry {
    uint64_t ino;
    uint32_t type; /* S_IFMT bits */
    uint64_t hash;
    uint8_t n;
};

struct extent {
    uint64_t offset;        /* in the file */
    struct record_extent r; /* its data is borrowed: from the tree until the next change, or from
                               the request */
};

static inline uint64_t extent_end(const struct extent *extent)
{
    return extent->offset + extent->r.length;
}

static inline bool extent_is_journalled(const struct extent *extent)
{
    return extent->r.data.size != 0;
}

/* ---- ns_inode.c ---- */
/* -ESTALE when there is none. */
int must_check inode_get(struct ns *ns, uint64_t ino, struct inode *out_inode);
/* The same, for a directory: also -ENOTDIR. */
int must_check inode_get_dir(struct ns *ns, uint64_t ino, struct inode *out_inode);
void inode_put(struct ns *ns, struct inode *inode);
/* The same, and it is no change of the inode. */
void inode_put_unchanged(struct ns *ns, const struct inode *inode);
/* Data changed: mtime and ctime; or only attributes: ctime. */
void inode_touch_data(struct ns *ns, struct inode *inode);
void inode_touch(struct ns *ns, struct inode *inode);
/* The reply's attr. */
void reply_attr(struct ns *ns, const struct inode *inode);
void attr_encode(const struct inode *inode, struct buf *out);
bool in_group(const struct meta_request *request, uint32_t gid);
/* 0 or -EACCES; -EPERM: immutable, to whoever wants to write. */
int must_check may_access(struct ns *ns, const struct inode *inode, unsigned mask);
bool is_owner(const struct meta_request *request, const struct inode *inode);
void kill_priv(struct ns *ns, struct inode *inode);

/* ---- ns_dir.c ---- */
int must_check name_check(struct slice name);
/* -ENOENT */
int must_check dentry_find(struct ns *ns, uint64_t dir, struct slice name,
                           struct dentry *out_dentry);
/* Is there room for one more name of this hash? 0 or -ENOSPC. */
int must_check dentry_room(struct ns *ns, uint64_t dir, struct slice name);
void dentry_add(struct ns *ns, uint64_t dir, struct slice name, uint64_t ino, uint32_t type);
void dentry_remove(struct ns *ns, uint64_t dir, const struct dentry *dentry);
void dentry_retarget(struct ns *ns, uint64_t dir, struct slice name, const struct dentry *dentry,
                     uint64_t ino, uint32_t type);
bool dir_is_empty(struct ns *ns, uint64_t dir);
/* May a name be made in, or removed from, this directory? Checks the directory only. */
int must_check may_change_dir(struct ns *ns, const struct inode *dir);
/* The sticky bit and inode flags: -EPERM. */
int must_check may_remove(const struct meta_request *request, const struct inode *dir,
                          const struct inode *victim);
int must_check ns_lookup(struct ns *ns);
int must_check ns_getattr(struct ns *ns);
int must_check ns_readlink(struct ns *ns);
int must_check ns_readdir(struct ns *ns);
int must_check ns_statfs(struct ns *ns);

/* ---- ns_create.c ---- */
int must_check ns_create(struct ns *ns);
int must_check ns_mkdir(struct ns *ns);
int must_check ns_mknod(struct ns *ns);
int must_check ns_symlink(struct ns *ns);
int must_check ns_link(struct ns *ns);
int must_check ns_tmpfile(struct ns *ns);
/* The character device 0:0 of that name, in place of what a rename took away. */
void whiteout_add(struct ns *ns, struct inode *dir, struct slice name);

/* ---- ns_unlink.c ---- */
/* One name less (a directory: its only one). Frees the inode or makes it an orphan at 0. */
void inode_drop_link(struct ns *ns, struct inode *inode);
void orphan_put(struct ns *ns, uint64_t ino, struct record_orphan record);
/* The orphan gets a name, if it was made to: 0 or -ENOENT. */
int must_check orphan_adopt(struct ns *ns, uint64_t ino);
/* Would orphan_adopt find it? */
bool orphan_is_linkable(struct ns *ns, uint64_t ino);
int must_check ns_unlink(struct ns *ns);
int must_check ns_rmdir(struct ns *ns);
int must_check ns_orphan_free(struct ns *ns);
int must_check ns_chunks_deleted(struct ns *ns);

/* ---- ns_rename.c ---- */
int must_check ns_rename(struct ns *ns);

/* ---- ns_setattr.c ---- */
int must_check ns_setattr(struct ns *ns);

/* ---- ns_flags.c ---- */
/* What the inode flags forbid: 0 or -EPERM. Write access to an immutable inode: may_access. Of
 * extended attributes, of the contents other than at the end, and a further link: */
int must_check flags_allow_change(const struct inode *inode);
int must_check flags_allow_remove(const struct inode *dir, const struct inode *victim);
int must_check flags_allow_allocate(const struct inode *inode, uint32_t mode);
/* SETATTR with META_SET_FLAGS. */
int must_check ns_set_flags(struct ns *ns, struct inode *inode);

/* ---- ns_extent.c ---- */
/* So many more bytes of the chunk are named by extents. */
void chunk_ref(struct ns *ns, uint64_t session, uint64_t seq, uint64_t bytes);
/* May this request name that chunk? 0, -ESTALE or -ERR_SESSION_EXPIRED. */
int must_check chunk_check(struct ns *ns, uint64_t session, uint64_t seq);
void extent_put(struct ns *ns, uint64_t data, const struct extent *extent);
/* The first extent that ends behind `from`. */
bool extent_at(struct ns *ns, uint64_t data, uint64_t from, struct extent *out_extent);
/* Cuts [from, to), which the extent overlaps, out of it. Returns the bytes that went. */
uint64_t extent_cut(struct ns *ns, uint64_t data, const struct extent *whole, uint64_t from,
                    uint64_t to);
/* Stored bytes of the inode, and of the volume. */
void inode_account(struct ns *ns, struct inode *inode, uint64_t added, uint64_t removed);
void inode_set_content(struct ns *ns, struct inode *inode, struct slice content);
/* All extents go: the file's data is inline again. */
void inode_drop_data(struct ns *ns, struct inode *inode);
/* Drops [from, to) of the data; at most *budget extents. False when some are left. */
bool extents_punch(struct ns *ns, uint64_t data, uint64_t from, uint64_t to, unsigned *budget,
                   uint64_t *io_bytes);
/* The size becomes `size`; data behind it is gone. */
void inode_truncate(struct ns *ns, struct inode *inode, uint64_t size);
/* Contents for the reply, from `offset`; at most `max` extents. */
void reply_data(struct ns *ns, const struct inode *inode, uint64_t offset, uint64_t length,
                unsigned max);
int must_check ns_extents(struct ns *ns);

/* ---- ns_allocate.c ---- */
/* [from, to) of the file is data now, or gone: nothing is reserved there any more. */
void reservations_cut(struct ns *ns, struct inode *inode, uint64_t from, uint64_t to);
/* All of them; at most *budget. False when some are left. */
bool reservations_free(struct ns *ns, struct inode *inode, unsigned *budget);
/* One log entry changes at most so much of the file: up to where in [from, to), and beyond `from`,
 * there are few enough extents and reservations. */
uint64_t range_of_a_step(struct ns *ns, const struct inode *inode, uint64_t from, uint64_t to);
int must_check ns_fallocate(struct ns *ns);
int must_check ns_seek(struct ns *ns);

/* ---- ns_copy.c ---- */
int must_check ns_copy_range(struct ns *ns);

/* ---- ns_commit.c ---- */
int must_check ns_commit(struct ns *ns);

/* ---- ns_journal.c ---- */
/* The extent, which was put, is journalled. */
void journal_add(struct ns *ns, const struct inode *inode, const struct extent *extent);
/* [begin, end) of the journalled extent goes; what is left of it on either side stays. */
void journal_cut(struct ns *ns, uint64_t data, const struct extent *extent, uint64_t begin,
                 uint64_t end);
/* Where the first journalled extent at or behind `offset` begins. */
bool journal_next(struct ns *ns, uint64_t data, uint64_t offset, uint64_t *out_offset);
int must_check ns_settle(struct ns *ns);
int must_check ns_accessed(struct ns *ns);

/* ---- ns_inodes.c ---- */
int must_check ns_inodes(struct ns *ns);

/* ---- ns_xattr.c ---- */
void xattrs_free(struct ns *ns, uint64_t ino);
/* Its value is borrowed until the next change. */
bool xattr_find(struct ns *ns, uint64_t ino, struct slice name, struct slice *out_value);
/* Sets it, whatever was there; the caller has seen to the limits. */
void xattr_put(struct ns *ns, uint64_t ino, struct slice name, struct slice value);
bool xattr_remove_named(struct ns *ns, uint64_t ino, struct slice name);
int must_check ns_getxattr(struct ns *ns);
int must_check ns_listxattr(struct ns *ns);
int must_check ns_setxattr(struct ns *ns);
int must_check ns_removexattr(struct ns *ns);

/* ---- ns_acl.c ---- */
enum acl_kind { ACL_ACCESS, ACL_DEFAULT };

bool acl_is_name(struct slice name, enum acl_kind *out_kind);
/* Does a list decide about somebody who is neither the owner nor root? Then 0 or -EACCES. */
bool acl_decides(struct ns *ns, const struct inode *inode, unsigned mask, int *out_result);
/* The mode has changed: its list says the same. */
void acl_follow_mode(struct ns *ns, const struct inode *inode);
/* Mode and lists of a new inode: by the directory's default list, or by the umask. */
void acl_inherit(struct ns *ns, const struct inode *dir, struct inode *inode);
/* May the list be read, or written, at all? */
int must_check acl_check(const struct ns *ns, const struct inode *inode, enum acl_kind kind,
                         bool write);
/* Sets the list and the mode that follows from it; the caller puts the inode. */
int must_check acl_set(struct ns *ns, struct inode *inode, enum acl_kind kind, struct slice acl);
void acl_remove(struct ns *ns, struct inode *inode, enum acl_kind kind);

/* ---- ns_lock.c ---- */
int must_check ns_lock(struct ns *ns);
int must_check ns_lock_cancel(struct ns *ns);
int must_check ns_lock_local(struct ns *ns);
int must_check ns_lock_test(struct ns *ns);
int must_check ns_lock_state(struct ns *ns);
/* The session is gone, and its locks with it. */
void locks_end(struct ns *ns, uint64_t session, const struct record_session *record);

/* ---- ns_session.c ---- */
int must_check ns_reserve_inos(struct ns *ns);
/* Was this number reserved by the session, and is it still free? */
bool ino_is_reserved(struct ns *ns, uint64_t ino);
int must_check ns_session_open(struct ns *ns);
int must_check ns_session_close(struct ns *ns, uint64_t session);
