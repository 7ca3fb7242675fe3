#include "meta/ns_internal.h"

#include "meta/inode_flags.h"

#define SET_TIMES                                                                                  \
    (META_SET_ATIME | META_SET_MTIME | META_SET_CTIME | META_SET_ATIME_NOW | META_SET_MTIME_NOW)

static int check_owner_fields(const struct meta_request *request, const struct inode *inode)
{
    uint32_t valid = request->valid;

    if ((valid & META_SET_MODE) != 0 && !is_owner(request, inode)) {
        return -EPERM;
    }
    if ((valid & META_SET_UID) != 0 && request->uid != 0 &&
        (request->uid != inode->r.uid || request->new_uid != inode->r.uid)) {
        return -EPERM;
    }
    if ((valid & META_SET_GID) != 0 && request->uid != 0 &&
        (request->uid != inode->r.uid ||
         (request->new_gid != inode->r.gid && !in_group(request, request->new_gid)))) {
        return -EPERM;
    }
    return 0;
}

static int check_times(struct ns *ns, const struct inode *inode)
{
    const struct meta_request *request = ns->request;
    uint32_t valid = request->valid & SET_TIMES;
    uint32_t given = valid & (META_SET_ATIME | META_SET_MTIME | META_SET_CTIME);

    if (valid == 0 || is_owner(request, inode) || (request->flags & META_SKIP_ACCESS) != 0) {
        return 0;
    }
    if (given != 0) {
        return -EPERM;
    }
    return may_access(ns, inode, MAY_WRITE);
}

static int check_size(struct ns *ns, const struct inode *inode)
{
    const struct meta_request *request = ns->request;

    if ((request->valid & META_SET_SIZE) == 0) {
        return 0;
    }
    if (S_ISDIR(inode->r.mode)) {
        return -EISDIR;
    }
    if (!S_ISREG(inode->r.mode)) {
        return -EINVAL;
    }
    if (request->size > INT64_MAX) {
        return -EFBIG;
    }
    if ((request->flags & META_SKIP_ACCESS) != 0) {
        return 0;
    }
    return may_access(ns, inode, MAY_WRITE);
}

static void set_mode(const struct meta_request *request, struct inode *inode)
{
    uint32_t mode = request->mode & 07777;

    if (request->uid != 0 && !S_ISDIR(inode->r.mode) && !in_group(request, inode->r.gid)) {
        mode &= ~(uint32_t)S_ISGID;
    }
    inode->r.mode = (inode->r.mode & S_IFMT) | mode;
}

static void set_times(struct ns *ns, struct inode *inode)
{
    const struct meta_request *request = ns->request;
    uint32_t valid = request->valid;

    if ((valid & (META_SET_ATIME | META_SET_ATIME_NOW)) != 0) {
        inode->r.atime = (valid & META_SET_ATIME_NOW) != 0 ? ns->now : request->atime;
    }
    if ((valid & (META_SET_MTIME | META_SET_MTIME_NOW)) != 0) {
        inode->r.mtime = (valid & META_SET_MTIME_NOW) != 0 ? ns->now : request->mtime;
    }
    if ((valid & META_SET_CTIME) != 0) {
        inode->r.ctime = request->ctime;
    }
}

int ns_setattr(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    uint32_t valid = request->valid;
    struct inode inode = {0};
    int r;

    r = inode_get(ns, request->ino, &inode);
    if (r == 0 && (valid & META_SET_FLAGS) != 0) {
        return ns_set_flags(ns, &inode);
    }
    if (r == 0) {
        r = inode_flags_setattr(inode.r.flags, valid);
    }
    if (r == 0) {
        r = check_owner_fields(request, &inode);
    }
    if (r == 0) {
        r = check_times(ns, &inode);
    }
    if (r == 0) {
        r = check_size(ns, &inode);
    }
    if (r < 0) {
        return r;
    }
    inode_touch(ns, &inode);
    if ((valid & META_SET_SIZE) != 0) {
        inode_truncate(ns, &inode, request->size);
        inode.r.mtime = ns->now;
    }
    if ((valid & META_SET_UID) != 0) {
        inode.r.uid = request->new_uid;
    }
    if ((valid & META_SET_GID) != 0) {
        inode.r.gid = request->new_gid;
    }
    if ((valid & (META_SET_UID | META_SET_GID | META_SET_KILL_PRIV)) != 0) {
        kill_priv(ns, &inode);
    }
    if ((valid & META_SET_MODE) != 0) {
        set_mode(request, &inode);
        acl_follow_mode(ns, &inode);
    }
    set_times(ns, &inode);
    inode_put(ns, &inode);
    reply_attr(ns, &inode);
    return 0;
}
