#include "fs/fence.h"

#include "base/trace_mark.h"
#include "fs/call.h"
#include "fs/coherence.h"
#include "fs/flush.h"
#include "fs/mount.h"

void fence_note(struct inode *inode)
{
    if (inode_pending(inode) && !inode->fenced) {
        inode->guard_stamp = inode->dirty.stamp;
    }
}

/* Once it is fenced others may have changed it; but not in between, when the next change is ours.
 */
void fence_told(const struct mount *mount, struct inode *inode, uint64_t change, bool ours)
{
    bool known = inode->fenced ? ours && inode->told_change != 0 && change == inode->told_change + 1
                               : ours || coherence_epoch(mount) != 0;

    if (known) {
        inode->told_change = max_u64(inode->told_change, change);
    }
}

void fence_raise(struct mount *mount)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&mount->inodes, &at)) != NULL) {
        struct inode *inode = slot->value;

        inode->fenced = inode->fenced || inode->guard_stamp != 0;
    }
}

bool fence_refuses(const struct inode *inode, uint64_t change)
{
    return inode->fenced && change > inode->told_change;
}

bool fence_wait(struct fs_call *call, struct inode *inode)
{
    if (inode == NULL || !inode->fenced) {
        return false;
    }
    TRACE_MARK("a call waits for what was written under a lock of a lost session");
    call->waiting_flush = true;
    list_push_back(&inode->fence_waiters, &call->node);
    flush_hurry(call->mount, inode);
    return true;
}

static void run_waiters(struct inode *inode)
{
    struct list calls;
    struct list_node *node;

    list_init(&calls);
    list_splice(&calls, &inode->fence_waiters);
    while ((node = list_pop_front(&calls)) != NULL) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        call->waiting_flush = false;
        fs_call_start(call);
    }
}

void fence_done(struct inode *inode)
{
    if (inode->in_round || dirty_oldest(&inode->dirty) <= inode->guard_stamp) {
        return;
    }
    inode->guard_stamp = 0;
    inode->fenced = false;
    run_waiters(inode);
}
