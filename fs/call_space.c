/*
 * Calls about where a file has data: fallocate, copy_file_range, lseek for data and holes. The
 * service decides them, so what this mount has written is committed first:
 *
 * - lseek waits for what was written before it;
 * - fallocate waits for its turn in truncate_waiters with nothing dirty, as a truncate does;
 * - copy_file_range does that for the target, when the source has nothing left to commit.
 *
 * While one of the latter two is on its way, `truncating` keeps flush rounds of the file away.
 */
#include "fs/call.h"

#include "base/assert.h"
#include "fs/coherence.h"
#include "fs/flush.h"
#include "fs/local.h"
#include "fs/lock.h"
#include "fs/mount.h"

#include <errno.h>

bool fs_call_needs_clean(const struct fs_call *call)
{
    return call->op == FS_FALLOCATE || call->op == FS_COPY_RANGE;
}

static struct inode *target_of(struct fs_call *call)
{
    return inode_find(call->mount, call->op == FS_COPY_RANGE ? call->ino2 : call->ino);
}

static void on_space_changed(struct meta_call *meta);

/* Too much for one step: on from where the service came to. */
static bool goes_on(struct fs_call *call)
{
    uint64_t end = call->meta.request.offset + call->meta.request.size;
    uint64_t at = call->meta.reply.value;

    if (call->op != FS_FALLOCATE || at <= call->meta.request.offset || at >= end) {
        return false;
    }
    call->offset = at;
    call->size = end - at;
    fs_call_space_send(call);
    return true;
}

static void on_space_changed(struct meta_call *meta)
{
    struct fs_call *call = container_of(meta, struct fs_call, meta);
    struct mount *mount = call->mount;
    struct inode *inode = target_of(call);
    int r = meta->status;

    ASSERT(inode != NULL && inode->truncating);
    call->waiting_meta = false;
    inode_forget_contents(inode);
    if (r == 0) {
        r = meta_attr_decode(&call->attr, meta->reply.attr);
    }
    if (r == 0) {
        call->attr_stale |= !inode->attr_known || inode->attr.mode != call->attr.mode;
        inode_update(mount, inode, &call->attr, true);
        if (goes_on(call)) {
            return;
        }
    }
    call->size = meta->reply.value; /* COPY_RANGE: so much */
    inode->truncating = false;
    if (inode->dirty.count != 0) {
        flush_note(mount, inode);
    }
    fs_call_finish(call, r);
    fs_call_truncate_next(inode);
    flush_poke(mount);
    inode_release(mount, inode);
}

void fs_call_space_send(struct fs_call *call)
{
    fs_call_meta_start(call);
    call->meta.done = on_space_changed;
}

static void on_sought(struct meta_call *meta)
{
    struct fs_call *call = container_of(meta, struct fs_call, meta);

    call->waiting_meta = false;
    if (meta->status == 0 && meta->reply.value2 == 1 && meta->reply.value > call->offset) {
        call->offset = meta->reply.value; /* much data: the hole is further on */
        fs_call_space_start(call);
        return;
    }
    call->offset = meta->reply.value;
    fs_call_finish(call, meta->status);
}

static void start_seek(struct fs_call *call)
{
    if (local_wait(call)) {
        return;
    }
    fs_call_meta_start(call);
    call->meta.done = on_sought;
}

/* Nothing is left to commit of what the call has to wait for. */
static void start_clean(struct fs_call *call)
{
    struct inode *target = target_of(call);

    if (call->op == FS_SEEK) {
        start_seek(call);
    } else if (target == NULL) {
        fs_call_finish(call, -ESTALE);
    } else {
        call->waiting_flush = true;
        list_push_back(&target->truncate_waiters, &call->node);
        fs_call_truncate_next(target);
    }
}

void fs_call_flushed(struct fs_call *call, int status)
{
    if (call->lock_step == LOCK_STEP_FLUSHING || call->lock_step == LOCK_STEP_SYNCING) {
        lock_flushed(call, status);
    } else if (status == 0 && (call->op == FS_SEEK || call->op == FS_COPY_RANGE)) {
        start_clean(call);
    } else if (call->op == FS_WRITE && !call->written) {
        fs_call_start(call); /* an error is not of its bytes */
    } else {
        fs_call_finish(call, status);
    }
}

void fs_call_space_start(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->ino);

    if (inode == NULL) {
        fs_call_finish(call, -ESTALE);
    } else if (call->op != FS_FALLOCATE && inode_pending(inode)) {
        flush_wait(call, inode);
    } else {
        start_clean(call);
    }
}
