#include "meta/ns_internal.h"

#include "base/assert.h"
#include "meta/inode_flags.h"

/* A new inode in `dir`, as the kernel's inode_init_owner would make it. */
static struct inode inode_make(struct ns *ns, const struct inode *dir, uint32_t mode)
{
    const struct meta_request *request = ns->request;
    struct inode inode = {.ino = request->ino2 != 0 ? request->ino2 : ns->volume.next_ino++,
                          .r = {.mode = mode,
                                .nlink = S_ISDIR(mode) ? 2 : 1,
                                .uid = request->uid,
                                .gid = request->gid,
                                .atime = ns->now,
                                .mtime = ns->now,
                                .ctime = ns->now,
                                .btime = ns->now,
                                .parent = S_ISDIR(mode) ? dir->ino : 0,
                                .flags = META_ATTR_NO_XATTRS}};

    inode.r.flags |= inode_flags_inherited(dir->r.flags, mode);
    if ((dir->r.mode & S_ISGID) != 0) {
        inode.r.gid = dir->r.gid;
        if (S_ISDIR(mode)) {
            inode.r.mode |= S_ISGID;
        } else if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && request->uid != 0 &&
                   (request->flags & META_SKIP_ACCESS) == 0 && !in_group(request, dir->r.gid)) {
            inode.r.mode &= ~(uint32_t)S_ISGID;
        }
    }
    return inode;
}

/* The parent directory, when a new name may be made in it. *out_there: the name exists. */
static int parent_for_new(struct ns *ns, struct inode *dir, struct dentry *out_dentry,
                          bool *out_there)
{
    const struct meta_request *request = ns->request;
    int r;

    r = inode_get_dir(ns, request->ino, dir);
    if (r < 0) {
        return r;
    }
    r = may_access(ns, dir, MAY_EXEC);
    if (r < 0) {
        return r;
    }
    r = name_check(request->name);
    if (r < 0) {
        return r;
    }
    *out_there = dentry_find(ns, dir->ino, request->name, out_dentry) == 0;
    if (*out_there) {
        return 0;
    }
    r = may_change_dir(ns, dir);
    return r < 0 ? r : dentry_room(ns, dir->ino, request->name);
}

static void insert_new(struct ns *ns, struct inode *dir, struct inode *inode)
{
    inode_put(ns, inode);
    dentry_add(ns, dir->ino, ns->request->name, inode->ino, inode->r.mode);
    if (S_ISDIR(inode->r.mode)) {
        dir->r.nlink++;
    }
    inode_touch_data(ns, dir);
    inode_put(ns, dir);
    ns->volume.inodes++;
    ns->volume.used_bytes += inode->r.bytes;
    reply_attr(ns, inode);
    ns->reply.value2 = 1;
}

/* CREATE of a name that exists: an open. */
static int open_existing(struct ns *ns, uint64_t ino)
{
    const struct meta_request *request = ns->request;
    struct inode inode = {0};
    unsigned mask = 0;
    int r;

    if ((request->flags & META_NOREPLACE) != 0) {
        return -EEXIST;
    }
    r = inode_get(ns, ino, &inode);
    if (r < 0) {
        return r;
    }
    if (S_ISDIR(inode.r.mode)) {
        return -EISDIR;
    }
    if (S_ISLNK(inode.r.mode)) {
        return -ELOOP; /* the kernel follows links before it comes here */
    }
    mask |= (request->flags & META_OPEN_READ) != 0 ? MAY_READ : 0;
    mask |= (request->flags & (META_OPEN_WRITE | META_TRUNCATE)) != 0 ? MAY_WRITE : 0;
    r = may_access(ns, &inode, mask);
    if (r == 0) {
        r = inode_flags_open(inode.r.flags, request->flags);
    }
    if (r < 0) {
        return r;
    }
    if ((request->flags & META_TRUNCATE) != 0 && S_ISREG(inode.r.mode)) {
        inode_truncate(ns, &inode, 0);
        kill_priv(ns, &inode);
        inode_touch_data(ns, &inode);
        inode_put(ns, &inode);
    } else {
        ns->reply.flags |= META_UNCHANGED;
    }
    reply_attr(ns, &inode);
    return 0;
}

static int make_node(struct ns *ns, uint32_t mode, uint64_t rdev, struct slice content)
{
    struct inode dir = {0};
    struct inode inode;
    struct dentry dentry;
    bool there;
    int r;

    r = parent_for_new(ns, &dir, &dentry, &there);
    if (r < 0) {
        return r;
    }
    if (there) {
        return ns->request->op == META_CREATE ? open_existing(ns, dentry.ino) : -EEXIST;
    }
    if (ns->request->ino2 != 0 && !ino_is_reserved(ns, ns->request->ino2)) {
        return -EINVAL;
    }
    inode = inode_make(ns, &dir, mode);
    acl_inherit(ns, &dir, &inode);
    inode.r.rdev = rdev;
    inode.r.content = content;
    inode.r.size = content.size;
    insert_new(ns, &dir, &inode);
    return 0;
}

int ns_create(struct ns *ns)
{
    return make_node(ns, S_IFREG | (ns->request->mode & 07777), 0, (struct slice){0});
}

int ns_mkdir(struct ns *ns)
{
    return make_node(ns, S_IFDIR | (ns->request->mode & 07777), 0, (struct slice){0});
}

int ns_mknod(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    uint32_t type = request->mode & S_IFMT;
    bool device = type == S_IFCHR || type == S_IFBLK;

    if (type == 0) {
        type = S_IFREG;
    }
    if (!device && type != S_IFREG && type != S_IFIFO && type != S_IFSOCK) {
        return -EINVAL;
    }
    if (device && request->uid != 0 && (request->flags & META_SKIP_ACCESS) == 0 &&
        (type == S_IFBLK || request->rdev != 0)) {
        return -EPERM;
    }
    return make_node(ns, type | (request->mode & 07777), device ? request->rdev : 0,
                     (struct slice){0});
}

int ns_symlink(struct ns *ns)
{
    struct slice target = ns->request->data;

    if (target.size == 0) {
        return -ENOENT;
    }
    if (target.size > META_SYMLINK_MAX) {
        return -ENAMETOOLONG;
    }
    if (memchr(target.data, 0, target.size) != NULL) {
        return -EINVAL;
    }
    return make_node(ns, S_IFLNK | 0777, 0, target);
}

/* A file without a name: an orphan from the beginning, until it is linked or nobody has it open. */
int ns_tmpfile(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    bool linkable = (request->flags & META_NOREPLACE) == 0;
    struct inode dir = {0};
    struct inode inode;
    int r;

    r = inode_get_dir(ns, request->ino, &dir);
    if (r == 0) {
        r = may_change_dir(ns, &dir);
    }
    if (r < 0) {
        return r;
    }
    if (request->ino2 != 0 && !ino_is_reserved(ns, request->ino2)) {
        return -EINVAL;
    }
    inode = inode_make(ns, &dir, S_IFREG | (request->mode & 07777));
    inode.r.nlink = 0;
    acl_inherit(ns, &dir, &inode);
    inode_put(ns, &inode);
    ns->volume.inodes++;
    orphan_put(ns, inode.ino, (struct record_orphan){.linkable = linkable});
    reply_attr(ns, &inode);
    ns->reply.value2 = 1;
    return 0;
}

void whiteout_add(struct ns *ns, struct inode *dir, struct slice name)
{
    struct inode inode = {.ino = ns->volume.next_ino++,
                          .r = {.mode = S_IFCHR,
                                .nlink = 1,
                                .uid = ns->request->uid,
                                .gid = ns->request->gid,
                                .atime = ns->now,
                                .mtime = ns->now,
                                .ctime = ns->now,
                                .btime = ns->now}};

    inode_put(ns, &inode);
    dentry_add(ns, dir->ino, name, inode.ino, inode.r.mode);
    ns->volume.inodes++;
}

int ns_link(struct ns *ns)
{
    struct inode dir = {0};
    struct inode inode = {0};
    struct dentry dentry;
    bool there;
    int r;

    r = inode_get(ns, ns->request->ino2, &inode);
    if (r < 0) {
        return r;
    }
    r = parent_for_new(ns, &dir, &dentry, &there);
    if (r < 0) {
        return r;
    }
    if (there) {
        return -EEXIST;
    }
    r = flags_allow_change(&inode);
    if (r < 0) {
        return r;
    }
    if (S_ISDIR(inode.r.mode)) {
        return -EPERM;
    }
    if (inode.r.nlink >= META_LINKS_MAX) {
        return -EMLINK;
    }
    if (inode.r.nlink == 0) {
        r = orphan_adopt(ns, inode.ino);
        if (r < 0) {
            return r;
        }
    }
    inode.r.nlink++;
    inode_touch(ns, &inode);
    inode_put(ns, &inode);
    dentry_add(ns, dir.ino, ns->request->name, inode.ino, inode.r.mode);
    inode_touch_data(ns, &dir);
    inode_put(ns, &dir);
    reply_attr(ns, &inode);
    return 0;
}
