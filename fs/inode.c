#include "fs/inode.h"

#include "base/mem.h"
#include "fs/coherence.h"
#include "fs/mount.h"

struct inode *inode_find(struct mount *mount, uint64_t ino)
{
    return map_get(&mount->inodes, map_u64(ino));
}

struct inode *inode_make(struct mount *mount, uint64_t ino)
{
    struct inode *inode = inode_find(mount, ino);

    if (inode == NULL) {
        inode = mem_zalloc(sizeof(*inode));
        inode->ino = ino;
        inode->version = 1;
        list_init(&inode->flush_waiters);
        list_init(&inode->truncate_waiters);
        map_put(&mount->inodes, map_u64(ino), inode);
    }
    return inode;
}

bool inode_pending(const struct inode *inode)
{
    return inode->dirty.count != 0 || inode->flushing.count != 0 || inode->in_round;
}

void inode_release(struct mount *mount, struct inode *inode)
{
    if (inode->lookups != 0 || inode->opens != 0 || inode_pending(inode) || inode->truncating ||
        !list_empty(&inode->flush_waiters) || !list_empty(&inode->truncate_waiters)) {
        return;
    }
    map_remove(&mount->inodes, map_u64(inode->ino));
    list_remove(&inode->flush_node);
    buf_deinit(&inode->inline_data);
    extent_map_deinit(&inode->extents);
    dirty_deinit(&inode->dirty);
    dirty_deinit(&inode->flushing);
    mem_free(inode);
}

/* The change is our own doing where nobody else can have made one, or our commit reports it. */
static bool is_own_change(const struct mount *mount, const struct inode *inode)
{
    return inode_pending(inode) || coherence_trusts_attributes(mount);
}

void inode_update(struct mount *mount, struct inode *inode, struct meta_attr *attr)
{
    bool pending = inode_pending(inode);
    uint64_t size = inode->attr.size, mtime = inode->attr.mtime;

    if (inode->attr_known && attr->change < inode->attr.change) {
        *attr = inode->attr;
        return;
    }
    if (inode->attr_known && attr->change != inode->attr.change) {
        if (!is_own_change(mount, inode)) {
            inode_forget_contents(inode);
        } else if (inode->page_change == inode->attr.change) {
            inode->page_change = attr->change;
        }
    }
    inode->committed_size = attr->size;
    inode->attr = *attr;
    if (pending && inode->attr_known) {
        inode->attr.size = max_u64(size, attr->size);
        inode->attr.mtime = mtime;
        inode->attr.ctime = max_u64(inode->attr.ctime, inode->attr.mtime);
    }
    inode->attr_known = true;
    *attr = inode->attr;
}

void inode_forget_contents(struct inode *inode)
{
    inode->contents = CONTENTS_UNKNOWN;
    inode->version++;
    extent_map_clear(&inode->extents);
    buf_deinit(&inode->inline_data);
}

int inode_take_contents(struct inode *inode, const struct meta_reply *reply, uint64_t offset)
{
    int r;

    if (reply->flags & META_DATA_INLINE) {
        buf_clear(&inode->inline_data);
        buf_append_slice(&inode->inline_data, reply->data);
        inode->contents = CONTENTS_INLINE;
        return 0;
    }
    inode->contents = CONTENTS_EXTENTS;
    if (reply->value <= offset) {
        return -ERR_BAD_MESSAGE;
    }
    r = extent_map_add(&inode->extents, offset, reply->value, reply->extents);
    return r;
}
