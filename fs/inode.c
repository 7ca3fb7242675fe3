#include "fs/inode.h"

#include "base/assert.h"
#include "base/mem.h"
#include "fs/coherence.h"
#include "fs/fence.h"
#include "fs/limits.h"
#include "fs/mount.h"

#include <fcntl.h>

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
        list_init(&inode->write_waiters);
        list_init(&inode->fence_waiters);
        map_put(&mount->inodes, map_u64(ino), inode);
    }
    return inode;
}

void inode_open(struct mount *mount, struct inode *inode, uint32_t flags)
{
    inode->opens++;
    inode->buffered_opens += flags & O_DIRECT ? 0 : 1;
    mount->open_count++;
}

void inode_close(struct mount *mount, struct inode *inode, uint32_t flags)
{
    unsigned buffered = flags & O_DIRECT ? 0 : 1;

    ASSERT(inode->opens > 0 && inode->buffered_opens >= buffered && mount->open_count > 0);
    inode->opens--;
    inode->buffered_opens -= buffered;
    mount->open_count--;
}

void inode_unkeep(struct mount *mount, struct inode *inode)
{
    if (list_linked(&inode->ahead_node)) {
        list_remove(&inode->ahead_node);
        mount->ahead.inode_count--;
    }
}

void inode_ref(struct mount *mount, struct inode *inode)
{
    inode->lookups++;
    if (inode->attr.nlink != 0 || inode->attr.ino == 0) { /* else a listing from before */
        inode_found(mount, inode);
    }
    inode_unkeep(mount, inode);
}

void inode_found(struct mount *mount, struct inode *inode)
{
    inode->found_until_ns = env_now(mount->env) + FS_FOUND_NS;
}

bool inode_may_be_opened(const struct mount *mount, const struct inode *inode)
{
    return inode->lookups != 0 &&
           (mount->renaming != 0 || env_now(mount->env) < inode->found_until_ns);
}

bool inode_pending(const struct inode *inode)
{
    return inode->dirty.count != 0 || inode->flushing.count != 0 || inode->in_round;
}

static void drop_contents(struct mount *mount, struct inode *inode)
{
    inode->contents = CONTENTS_UNKNOWN;
    extent_map_deinit(&inode->extents);
    buf_deinit(&inode->inline_data);
    mount->contents_bytes -= inode->contents_bytes;
    inode->contents_bytes = 0;
    list_remove(&inode->contents_node);
}

/* Data of it was lost and nobody has been told: the next fsync or close of it is, also when the
 * kernel has forgotten it meanwhile. As many as had unwritten data when the space ran out, at most.
 */
static bool owes_error(const struct inode *inode)
{
    return inode->write_error != 0 && inode->attr.nlink != 0 && !inode->gone;
}

/* Nobody will ever read it. */
static bool is_unreachable(const struct inode *inode)
{
    return inode->attr.ino != 0 && inode->attr.nlink == 0 && inode->lookups == 0 &&
           inode->opens == 0 && inode->local_ops == 0;
}

void inode_release(struct mount *mount, struct inode *inode)
{
    if (inode->dirty.count != 0 && is_unreachable(inode)) {
        fs_call_drop_dirty(mount, inode);
    }
    if (owes_error(inode) || inode->lookups != 0 || inode->opens != 0 || inode_pending(inode) ||
        inode->truncating || inode->local_ops != 0 || list_linked(&inode->ahead_node) ||
        inode->accessed != 0 || list_linked(&inode->accessed_node) ||
        !list_empty(&inode->flush_waiters) || !list_empty(&inode->truncate_waiters) ||
        !list_empty(&inode->write_waiters) || !list_empty(&inode->fence_waiters)) {
        return;
    }
    map_remove(&mount->inodes, map_u64(inode->ino));
    list_remove(&inode->flush_node);
    drop_contents(mount, inode);
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

    fence_told(mount, inode, attr->change, ours);
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
        inode->attr.ctime = time_later(inode->attr.ctime, inode->attr.mtime);
    }
    if (inode->kill_priv) {
        inode->attr.mode = mode_without_priv(inode->attr.mode);
    }
    if (inode->accessed != 0) {
        inode->attr.atime = time_later(inode->attr.atime, inode->accessed);
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

static bool is_needed(const struct inode *inode)
{
    return inode_pending(inode) || inode->truncating || inode->local_ops != 0;
}

/* The one used longest ago goes first; what is needed waits behind. */
static void shrink_contents(struct mount *mount, const struct inode *keep)
{
    for (unsigned tries = 0; tries < 16 && mount->contents_bytes > mount->settings.contents_bytes;
         tries++) {
        struct inode *last = container_of(list_last(&mount->contents), struct inode, contents_node);

        if (last == keep) {
            return;
        }
        if (is_needed(last)) {
            list_remove(&last->contents_node);
            list_push_front(&mount->contents, &last->contents_node);
        } else {
            drop_contents(mount, last);
        }
    }
}

void inode_note_contents(struct mount *mount, struct inode *inode)
{
    uint64_t bytes = inode->inline_data.capacity +
                     inode->extents.capacity * sizeof(*inode->extents.extents) +
                     inode->extents.data_bytes;

    mount->contents_bytes += bytes - inode->contents_bytes;
    inode->contents_bytes = bytes;
    list_remove(&inode->contents_node);
    if (bytes != 0) {
        list_push_front(&mount->contents, &inode->contents_node);
        shrink_contents(mount, inode);
    }
}

int inode_take_contents(struct mount *mount, struct inode *inode, const struct meta_reply *reply,
                        uint64_t offset)
{
    int r = 0;

    if (reply->flags & META_DATA_INLINE) {
        buf_clear(&inode->inline_data);
        buf_append_slice(&inode->inline_data, reply->data);
        inode->contents = CONTENTS_INLINE;
    } else if (reply->value <= offset) {
        return -ERR_BAD_MESSAGE;
    } else {
        inode->contents = CONTENTS_EXTENTS;
        r = extent_map_add(&inode->extents, offset, reply->value, reply->extents);
    }
    inode_note_contents(mount, inode);
    return r;
}
