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
        inode->local_ops != 0 || !list_empty(&inode->flush_waiters) ||
        !list_empty(&inode->truncate_waiters)) {
        return;
    }
    map_remove(&mount->inodes, map_u64(inode->ino));
    list_remove(&inode->flush_node);
    buf_deinit(&inode->inline_data);
    extent_map_deinit(&inode->extents);
    names_clear(&inode->names);
    dirty_deinit(&inode->dirty);
    dirty_deinit(&inode->flushing);
    mem_free(inode);
}

uint64_t inode_size(const struct inode *inode)
{
    return max_u64(inode->committed_size,
                   max_u64(dirty_end(&inode->dirty), dirty_end(&inode->flushing)));
}

/* Nobody else can have made a change, or ours is the only one since. */
static bool is_own_change(const struct mount *mount, const struct inode *inode,
                          const struct meta_attr *attr, bool ours)
{
    return coherence_trusts(mount, inode) || (ours && attr->change == inode->attr.change + 1);
}

/* Before they are taken in: what of the contents is still true? */
static void note_change(struct mount *mount, struct inode *inode, const struct meta_attr *attr,
                        bool ours)
{
    if (inode->attr.ino == 0 || attr->change == inode->attr.change) {
        return;
    }
    if (!is_own_change(mount, inode, attr, ours)) {
        inode_forget_contents(inode);
    } else if (inode->page_change == inode->attr.change) {
        inode->page_change = attr->change;
    }
}

void inode_update(struct mount *mount, struct inode *inode, struct meta_attr *attr, bool ours)
{
    uint64_t mtime = inode->attr.mtime;

    if (inode->local_ops != 0 && inode->attr_known) {
        inode->committed_size = attr->size; /* the rest we know better: the server is behind us */
        *attr = inode->attr;
        return;
    }
    if (inode->attr.ino != 0 && attr->change < inode->attr.change) {
        *attr = inode->attr;
        return;
    }
    note_change(mount, inode, attr, ours);
    inode->committed_size = attr->size;
    inode->attr = *attr;
    if (inode_pending(inode)) {
        inode->attr.size = inode_size(inode);
        inode->attr.mtime = mtime;
        inode->attr.ctime = max_u64(inode->attr.ctime, inode->attr.mtime);
    }
    if (inode->kill_priv) {
        inode->attr.mode = mode_without_priv(inode->attr.mode);
    }
    inode->attr_known = true;
    inode->epoch = coherence_epoch(mount);
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
