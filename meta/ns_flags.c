/* ns_flags: inode flags: who may set them, and what an inode that has them refuses, with the errno
 * that Linux gives (fs/namei.c, fs/attr.c, fs/xattr.c, fs/open.c). */
#include "meta/ns_internal.h"

#include "meta/inode_flags.h"

static bool is_frozen(const struct inode *inode)
{
    return (inode->r.flags & META_ATTR_FROZEN) != 0;
}

int flags_allow_change(const struct inode *inode)
{
    return is_frozen(inode) ? -EPERM : 0;
}

int flags_allow_remove(const struct inode *dir, const struct inode *victim)
{
    return (dir->r.flags & META_ATTR_APPEND) != 0 || is_frozen(victim) ? -EPERM : 0;
}

int flags_allow_allocate(const struct inode *inode, uint32_t mode)
{
    bool grows = (mode & ~(uint32_t)META_ALLOCATE_KEEP_SIZE) == 0;

    return inode_flags_write(inode->r.flags, grows);
}

static int check_flags(const struct meta_request *request, const struct inode *inode,
                       uint32_t flags)
{
    uint32_t old = inode->r.flags;

    if (request->valid != META_SET_FLAGS || (request->count & ~request->mode) != 0 ||
        (request->mode & ~(uint32_t)META_ATTR_SETTABLE) != 0) {
        return -EINVAL;
    }
    if (!inode_flags_fit(request->count, inode->r.mode)) {
        return -EOPNOTSUPP;
    }
    if (!is_owner(request, inode)) {
        return -EPERM;
    }
    if (((flags ^ old) & META_ATTR_FROZEN) != 0 && request->uid != 0) {
        return -EPERM;
    }
    /* As long as it is immutable, the other flags are what they are. */
    return (flags & old & META_ATTR_IMMUTABLE) != 0 && flags != old ? -EPERM : 0;
}

int ns_set_flags(struct ns *ns, struct inode *inode)
{
    const struct meta_request *request = ns->request;
    uint32_t flags = (inode->r.flags & ~request->mode) | request->count;
    int r = check_flags(request, inode, flags);

    if (r < 0) {
        return r;
    }
    inode->r.flags = flags;
    inode_touch(ns, inode);
    inode_put(ns, inode);
    reply_attr(ns, inode);
    return 0;
}
