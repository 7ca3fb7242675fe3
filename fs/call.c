/*
 * Calls that are one metadata operation: sent, answered, taken into the inode table. Those that
 * touch file contents are in fs/call_data.c.
 */
#include "fs/call.h"

#include "base/assert.h"
#include "fs/atime.h"
#include "fs/coherence.h"
#include "fs/fence.h"
#include "fs/flush.h"
#include "fs/local.h"
#include "fs/lock.h"
#include "fs/mount.h"
#include "fs/shutdown.h"

#include <errno.h>
#include <fcntl.h>

/* No removal that frees a file at once is on its way any more. */
static void start_opens(struct mount *mount)
{
    struct list_node *node;

    while (mount->removing == 0 && (node = list_pop_front(&mount->open_queue)) != NULL) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        call->waiting_flush = false;
        fs_call_data_start(call);
    }
}

/* A program that has synced reads what it appended where it lies. */
static void note_moves(struct fs_call *call, int status)
{
    const struct inode *inode = inode_find(call->mount, call->ino);

    if (status == 0 && (call->op == FS_FSYNC || call->op == FS_FLUSH) && inode != NULL &&
        call->mount->drop_pages != NULL) {
        call->moves = inode->moves;
        call->stale_pages = inode->moves != inode->moves_dropped;
    }
}

void fs_call_pages_dropped(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->ino);

    if (inode != NULL) {
        inode->moves_dropped = max_u64(inode->moves_dropped, call->moves);
    }
}

void fs_call_finish(struct fs_call *call, int status)
{
    struct mount *mount = call->mount;

    note_moves(call, status);
    if (status == 0) {
        atime_note(call);
    }
    call->error = status < 0 ? err_to_errno(status) : 0;
    mount->opening -= call->opening ? 1 : 0;
    mount->removing -= call->removing ? 1 : 0;
    mount->renaming -= call->renaming ? 1 : 0;
    mount_call_ends(call);
    call->done(call);
    start_opens(mount);
}

/* The attributes in a reply, as they are true here. */
static int take_attr(struct fs_call *call, const struct meta_reply *reply)
{
    bool ours = meta_op_mutates(call->meta.request.op) && !(reply->flags & META_UNCHANGED);
    struct inode *inode;
    int r;

    if (reply->attr.size == 0) {
        return 0;
    }
    r = meta_attr_decode(&call->attr, reply->attr);
    if (r < 0) {
        return r;
    }
    inode = inode_find(call->mount, call->attr.ino);
    if (inode != NULL) {
        inode_update(call->mount, inode, &call->attr, ours);
    }
    return 0;
}

/* What is looked up is often opened next: its contents came along. */
static void take_looked_up(struct fs_call *call, struct inode *inode,
                           const struct meta_reply *reply)
{
    if (call->meta.request.flags & META_WANT_DATA && inode->contents == CONTENTS_UNKNOWN &&
        !inode_pending(inode) && inode->attr.change == call->attr.change &&
        inode_take_contents(call->mount, inode, reply, 0) < 0) {
        inode_forget_contents(inode);
    }
}

/* The kernel gets to know the entry with this reply: a lookup reference. */
static void make_known(struct fs_call *call, const struct meta_reply *reply)
{
    bool known = inode_find(call->mount, call->attr.ino) != NULL;
    struct inode *inode = inode_make(call->mount, call->attr.ino);

    inode_ref(call->mount, inode);
    if (!known) { /* else take_attr has: they say what is pending here by now */
        inode_update(call->mount, inode, &call->attr, false);
    }
    if (call->op == FS_CREATE || call->op == FS_TMPFILE) {
        if (reply->value2 == 1) {
            inode->contents = CONTENTS_INLINE; /* new and empty */
        } else if (call->open_flags & O_TRUNC) {
            inode_forget_contents(inode);
        }
        inode_open(call->mount, inode, call->open_flags);
        call->keep_cache = coherence_keep_pages(call->mount, inode, call->open_flags);
    }
    if (call->op == FS_LOOKUP && S_ISREG(call->attr.mode)) {
        take_looked_up(call, inode, reply);
    }
    if (call->op == FS_MKDIR && coherence_trusts(call->mount, inode)) {
        inode->names.complete = true; /* new and empty */
    }
}

/* Nobody can read it any more: what is not committed need not be. */
static void drop_unlinked(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->attr.ino);

    bool freed = (call->flags & META_STILL_OPEN) == 0; /* whoever wants to open it comes too late */

    if (inode != NULL && call->attr.nlink == 0 && inode->opens == 0 &&
        (freed || call->mount->opening == 0)) {
        fs_call_drop_dirty(call->mount, inode);
        inode->found_until_ns = 0;
    }
}

static void forget_attributes(struct mount *mount, uint64_t ino)
{
    struct inode *inode = inode_find(mount, ino);

    if (inode != NULL) {
        inode->attr_known = false;
    }
}

/* Who has found its name before may open it. */
static void keep_replaced(struct mount *mount, uint64_t ino)
{
    struct inode *inode = inode_find(mount, ino);

    forget_attributes(mount, ino);
    if (inode != NULL) {
        inode_found(mount, inode);
    }
}

/* A mutation changes more inodes than the one it answers with: directories, a replaced file. */
static void forget_touched(struct fs_call *call, const struct meta_reply *reply)
{
    switch ((int)call->op) {
    case FS_RENAME:
        forget_attributes(call->mount, call->ino2);
        keep_replaced(call->mount, reply->value);
        forget_attributes(call->mount, call->ino);
        return;
    case FS_CREATE:
    case FS_MKDIR:
    case FS_MKNOD:
    case FS_SYMLINK:
    case FS_LINK:
    case FS_UNLINK:
    case FS_RMDIR:
    case FS_SETXATTR:
    case FS_REMOVEXATTR:
        forget_attributes(call->mount, call->ino);
        return;
    default:
        return;
    }
}

static bool makes_known(enum fs_op op)
{
    return op == FS_LOOKUP || op == FS_CREATE || op == FS_TMPFILE || op == FS_MKDIR ||
           op == FS_MKNOD || op == FS_SYMLINK || op == FS_LINK;
}

/* A directory that is removed while somebody is in it has attributes still, and no data that it
 * would have to be kept for: what was known of it is true, but for its links. */
static int removed_dir_attr(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->ino);

    if (call->op != FS_GETATTR || inode == NULL || !S_ISDIR(inode->attr.mode)) {
        return -ESTALE;
    }
    inode->attr.nlink = 0;
    call->attr = inode->attr;
    return 0;
}

static void on_meta(struct meta_call *meta)
{
    struct fs_call *call = container_of(meta, struct fs_call, meta);
    int r = meta->status;

    call->waiting_meta = false;
    if (r == 0) {
        r = take_attr(call, &meta->reply);
    } else if (r == -ESTALE) {
        r = removed_dir_attr(call);
    }
    if (r == 0 && makes_known(call->op) && call->attr.ino == 0) {
        r = -ERR_BAD_MESSAGE;
    }
    if (r == 0 && makes_known(call->op)) {
        make_known(call, &meta->reply);
    }
    if (r == 0 && call->op == FS_UNLINK) {
        drop_unlinked(call);
    }
    forget_touched(call, &meta->reply);
    local_note(call, r);
    call->out = meta->reply.data;
    call->end = meta->reply.value == 1;
    fs_call_finish(call, r);
}

static const uint8_t meta_ops[] = {
    [FS_LOOKUP] = META_LOOKUP,
    [FS_GETATTR] = META_GETATTR,
    [FS_SETATTR] = META_SETATTR,
    [FS_READLINK] = META_READLINK,
    [FS_CREATE] = META_CREATE,
    [FS_MKDIR] = META_MKDIR,
    [FS_MKNOD] = META_MKNOD,
    [FS_SYMLINK] = META_SYMLINK,
    [FS_LINK] = META_LINK,
    [FS_UNLINK] = META_UNLINK,
    [FS_RMDIR] = META_RMDIR,
    [FS_RENAME] = META_RENAME,
    [FS_READDIR] = META_READDIR,
    [FS_STATFS] = META_STATFS,
    [FS_GETXATTR] = META_GETXATTR,
    [FS_LISTXATTR] = META_LISTXATTR,
    [FS_SETXATTR] = META_SETXATTR,
    [FS_REMOVEXATTR] = META_REMOVEXATTR,
    [FS_FALLOCATE] = META_FALLOCATE,
    [FS_SEEK] = META_SEEK,
    [FS_COPY_RANGE] = META_COPY_RANGE,
    [FS_TMPFILE] = META_TMPFILE,
};

static struct meta_request request_of(const struct fs_call *call)
{
    struct meta_request request = {
        .op = call->op == FS_OPEN ? META_SETATTR : meta_ops[call->op], /* O_TRUNC */
        .flags = call->flags,
        .uid = call->who.uid,
        .gid = call->who.gid,
        .umask = call->who.umask,
        .groups = call->who.groups,
        .ino = call->ino,
        .ino2 = call->ino2,
        .name = call->name,
        .name2 = call->name2,
        .mode = call->mode,
        .rdev = call->rdev,
        .valid = call->valid,
        .size = call->set.size,
        .atime = call->set.atime,
        .mtime = call->set.mtime,
        .ctime = call->set.ctime,
        .new_uid = call->set.uid,
        .new_gid = call->set.gid,
        .offset = call->offset,
        .offset2 = call->offset2,
        .data = call->data,
    };

    return request;
}

void fs_call_meta_start(struct fs_call *call)
{
    call->meta = (struct meta_call){.request = request_of(call), .done = on_meta};
    switch (call->op) {
    case FS_SYMLINK:
        call->meta.request.data = call->name2;
        call->meta.request.name2 = (struct slice){0};
        break;
    case FS_CREATE:
        call->meta.request.flags |= call->open_flags & O_EXCL ? META_NOREPLACE : 0;
        call->meta.request.flags |= call->open_flags & O_TRUNC ? META_TRUNCATE : 0;
        call->meta.request.flags |= fs_call_open_rights(call); /* it may be there by now */
        break;
    case FS_READDIR:
        call->meta.request.count = (uint32_t)call->size;
        call->meta.request.offset = call->offset <= 2 ? 0 : call->offset; /* 1, 2: the dots */
        call->meta.request.flags |= META_WANT_ATTRS;
        break;
    case FS_LOOKUP:
        call->meta.request.flags |= coherence_epoch(call->mount) != 0 ? META_WANT_DATA : 0;
        break;
    case FS_SETATTR:
        call->meta.request.mode = call->set.mode;
        call->meta.request.count = call->set.flags;
        break;
    case FS_FALLOCATE:
    case FS_COPY_RANGE:
        call->meta.request.size = call->size;
        break;
    case FS_SEEK:
        call->meta.request.count = call->whence;
        break;
    case FS_TMPFILE:
        call->meta.request.flags |= call->open_flags & O_EXCL ? META_NOREPLACE : 0;
        break;
    case FS_GETATTR:
    case FS_READLINK:
    case FS_MKDIR:
    case FS_MKNOD:
    case FS_LINK:
    case FS_UNLINK:
    case FS_RMDIR:
    case FS_RENAME:
    case FS_OPEN:
    case FS_READ:
    case FS_WRITE:
    case FS_FLUSH:
    case FS_RELEASE:
    case FS_FSYNC:
    case FS_STATFS:
    case FS_GETXATTR:
    case FS_LISTXATTR:
    case FS_SETXATTR:
    case FS_REMOVEXATTR:
    case FS_LOCK:
    case FS_LOCK_TEST:
    case FS_SHUTDOWN:
        break;
    }
    call->waiting_meta = true;
    meta_call_start(&call->mount->meta, &call->meta);
}

/* While nobody else can change it, what we know of an inode is the truth. */
static bool answer_locally(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->ino);

    if (inode == NULL || !inode->attr_known || !coherence_trusts(call->mount, inode)) {
        return false;
    }
    call->attr = inode->attr;
    fs_call_finish(call, 0);
    return true;
}

/* Do the attributes say that there is no such extended attribute? */
static bool has_no_xattr(const struct meta_attr *attr, struct slice name)
{
    if (slice_equal(name, slice_text("system.posix_acl_access"))) {
        return (attr->flags & META_ATTR_ACL) == 0 && !S_ISLNK(attr->mode);
    }
    if (slice_equal(name, slice_text("system.posix_acl_default"))) {
        return (attr->flags & META_ATTR_DEFAULT_ACL) == 0 && !S_ISLNK(attr->mode);
    }
    return (attr->flags & META_ATTR_NO_XATTRS) != 0 &&
           (slice_goes_on(name, "security.") || slice_goes_on(name, "user."));
}

static bool has_no_xattrs(const struct meta_attr *attr)
{
    const uint32_t acls = META_ATTR_ACL | META_ATTR_DEFAULT_ACL;

    return (attr->flags & (acls | META_ATTR_NO_XATTRS)) == META_ATTR_NO_XATTRS;
}

/* Most inodes have none, and the kernel asks for ACLs with every check of a permission, and for
 * capabilities with the first write behind each change of the attributes. */
static bool answer_no_xattr(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->ino);

    if (inode == NULL || !inode->attr_known || !coherence_trusts(call->mount, inode)) {
        return false;
    }
    if (call->op == FS_LISTXATTR && has_no_xattrs(&inode->attr)) {
        fs_call_finish(call, 0);
        return true;
    }
    if (call->op == FS_GETXATTR && has_no_xattr(&inode->attr, call->name)) {
        fs_call_finish(call, -ENODATA);
        return true;
    }
    return false;
}

/* The victim of an unlink or a rename may be open here: only if nothing is open at all, or about to
 * be, is that excluded before the lookup on the server, so this errs on the side of "still open".
 * What a rename replaces always counts as open: a name never fails to be there (rename(2)), so who
 * has found the old file must be able to open it. */
static void note_open_victims(struct fs_call *call)
{
    struct mount *mount = call->mount;

    if (call->op == FS_RENAME) {
        call->renaming = true;
        mount->renaming++;
    }
    if (call->renaming || mount->open_count != 0 || mount->opening != 0) {
        call->flags |= META_STILL_OPEN;
    } else if (!call->removing) {
        call->removing = true;
        mount->removing++;
    }
}

/* An open must not find a file that is about to be freed: it waits. Removals that come from now on
 * keep their victims. */
static void start_open(struct fs_call *call)
{
    struct mount *mount = call->mount;

    if (!call->opening) { /* it may have waited and begun again */
        call->opening = true;
        mount->opening++;
    }
    if (call->op == FS_CREATE || call->op == FS_TMPFILE) {
        fs_call_meta_start(call);
    } else if (mount->removing != 0) {
        call->waiting_flush = true;
        list_push_back(&mount->open_queue, &call->node);
    } else {
        fs_call_data_start(call);
    }
}

/* False: it starts anew when it may. */
static bool may_set(struct fs_call *call)
{
    if (fence_wait(call, inode_find(call->mount, call->ino))) {
        return false;
    }
    atime_before(call);
    return true;
}

void fs_call_start(struct fs_call *call)
{
    mount_call_begins(call);
    if (shutdown_refuses(call)) {
        fs_call_finish(call, -EIO);
        return;
    }
    if ((call->op == FS_SETATTR && !may_set(call)) || local_try(call)) {
        return;
    }
    switch (call->op) {
    case FS_GETATTR:
        if (!answer_locally(call) && !local_wait(call)) {
            fs_call_meta_start(call);
        }
        return;
    case FS_GETXATTR:
    case FS_LISTXATTR:
        if (!answer_no_xattr(call) && !local_wait(call)) {
            fs_call_meta_start(call);
        }
        return;
    case FS_LOOKUP:
    case FS_READLINK:
    case FS_READDIR:
    case FS_STATFS:
        if (!local_wait(call)) {
            fs_call_meta_start(call);
        }
        return;
    case FS_UNLINK:
    case FS_RENAME:
        note_open_victims(call);
        fs_call_meta_start(call);
        return;
    case FS_OPEN:
    case FS_CREATE:
    case FS_TMPFILE:
        start_open(call);
        return;
    case FS_MKDIR:
    case FS_MKNOD:
    case FS_SYMLINK:
    case FS_LINK:
    case FS_RMDIR:
    case FS_SETXATTR:
    case FS_REMOVEXATTR:
        fs_call_meta_start(call);
        return;
    case FS_SETATTR:
    case FS_READ:
    case FS_WRITE:
    case FS_FLUSH:
    case FS_RELEASE:
    case FS_FSYNC:
    case FS_FALLOCATE:
    case FS_SEEK:
    case FS_COPY_RANGE:
        fs_call_data_start(call);
        return;
    case FS_LOCK:
    case FS_LOCK_TEST:
        lock_start(call);
        return;
    case FS_SHUTDOWN:
        shutdown_start(call);
        return;
    }
    UNREACHABLE();
}

void fs_call_cancel(struct fs_call *call)
{
    call->cancelled = true;
    if (call->lock_step != LOCK_STEP_NONE) {
        lock_cancel(call);
    } else if (call->waiting_meta) {
        meta_call_cancel(&call->mount->meta, &call->meta);
    } else if (call->active != NULL) {
        op_wake(call->active);
    } else if (call->waiting_flush || call->waiting_space) {
        call->waiting_flush = call->waiting_space = false;
        list_remove(&call->node);
        /* A write that waits for its commit is done: EINTR would say that nothing was written. What
         * becomes of it, fsync or close tells. */
        fs_call_finish(call, call->written ? 0 : -EINTR);
    }
}
