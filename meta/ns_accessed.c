/*
 * ns_accessed: access times, told late and many at once. To have been read is no change of an
 * inode: ctime and the change number stay. What has changed since it was read has a time of access
 * from before its change in any case, so that of the read does not matter any more; and a time that
 * somebody has set meanwhile is not overwritten.
 */
#include "base/bytes.h"
#include "meta/ns_internal.h"

/* A clock that is ahead must not keep later times out. */
static uint64_t not_ahead(const struct ns *ns, uint64_t atime)
{
    return (int64_t)atime > (int64_t)ns->stamp ? ns->stamp : atime;
}

static void set_atime(struct ns *ns, uint64_t ino, uint64_t atime)
{
    struct inode inode = {0};

    if (inode_get(ns, ino, &inode) < 0 || (inode.r.flags & META_ATTR_NOATIME) != 0 ||
        (int64_t)atime <= (int64_t)time_later(inode.r.atime, inode.r.ctime)) {
        return;
    }
    inode.r.atime = atime;
    inode_put_unchanged(ns, &inode);
}

int ns_accessed(struct ns *ns)
{
    struct slice data = ns->request->data;

    if (data.size == 0 || data.size % META_ACCESSED_BYTES != 0 ||
        data.size > META_ACCESSED_MAX * META_ACCESSED_BYTES) {
        return -EINVAL;
    }
    for (size_t at = 0; at < data.size; at += META_ACCESSED_BYTES) {
        set_atime(ns, bytes_get_le64(data.data + at),
                  not_ahead(ns, bytes_get_le64(data.data + at + 8)));
    }
    return 0;
}
