#include "fs/shutdown.h"

#include "base/log.h"
#include "fs/atime.h"
#include "fs/flush.h"
#include "fs/local.h"

#include <errno.h>
#include <inttypes.h>

bool shutdown_refuses(const struct fs_call *call)
{
    return call->mount->shutdown.down && call->op != FS_SHUTDOWN && call->op != FS_FLUSH &&
           call->op != FS_RELEASE;
}

/* Nothing is told before nothing is dirty: who is told may go on to do anything. */
static void drop_dirty(struct mount *mount)
{
    struct map_slot *slot;
    struct list_node *node;
    struct list dropped;
    size_t at = 0;

    list_init(&dropped);
    while ((slot = map_next(&mount->inodes, &at)) != NULL) {
        struct inode *inode = slot->value;

        if (inode->dirty.count != 0) {
            mount->dirty_bytes -= inode->dirty.bytes;
            dirty_truncate(&inode->dirty, 0);
            inode->write_error = -EIO;
            list_remove(&inode->flush_node);
            list_push_back(&dropped, &inode->flush_node);
            inode->lookups++; /* stays until it has been told below */
        }
    }
    while ((node = list_pop_front(&dropped)) != NULL) {
        struct inode *inode = container_of(node, struct inode, flush_node);

        flush_settled(inode);
        fs_call_truncate_next(inode);
        inode->lookups--;
        inode_release(mount, inode);
    }
}

static void go_down(struct mount *mount, enum shutdown_how how)
{
    if (!mount->shutdown.down) {
        LOG_WARN(mount->env, "mount",
                 "told to shut down: dirty_bytes=%" PRIu64 " %s; EIO from now on",
                 mount->dirty_bytes, how == SHUTDOWN_DROP ? "are dropped" : "are committed");
        mount->shutdown.down = true;
        if (mount->caches_lost != NULL) {
            mount->caches_lost(mount);
        }
    }
    if (how == SHUTDOWN_DROP) {
        drop_dirty(mount);
    } else {
        atime_send(mount);
    }
    flush_poke(mount);
}

/* Of data that could not be committed. */
static int lost_data(struct mount *mount)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&mount->inodes, &at)) != NULL) {
        const struct inode *inode = slot->value;

        if (inode->write_error != 0) {
            return inode->write_error;
        }
    }
    return mount->local.error;
}

void shutdown_start(struct fs_call *call)
{
    struct mount *mount = call->mount;

    if (call->who.uid != 0) {
        fs_call_finish(call, -EPERM);
        return;
    }
    if (call->flags > SHUTDOWN_DROP) {
        fs_call_finish(call, -EINVAL);
        return;
    }
    go_down(mount, (enum shutdown_how)call->flags);
    if (call->flags == SHUTDOWN_DROP) {
        fs_call_finish(call, 0);
    } else if (flush_busy(mount)) {
        call->waiting_flush = true;
        list_push_back(&mount->shutdown.waiters, &call->node);
    } else if (!local_wait(call)) {
        fs_call_finish(call, lost_data(mount));
    }
}

void shutdown_flushed(struct mount *mount)
{
    struct list_node *node;

    while (!flush_busy(mount) && (node = list_pop_front(&mount->shutdown.waiters)) != NULL) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        call->waiting_flush = false;
        shutdown_start(call);
    }
}

void shutdown_init(struct mount *mount)
{
    list_init(&mount->shutdown.waiters);
}
