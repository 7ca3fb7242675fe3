/*
 * Calls that touch file contents: open, read, write, flush, fsync, truncate.
 *
 * Writes are answered from memory; what they wrote is dirty until a flush round has committed it.
 * A change of the size is ordered with the rounds: it waits for the one that runs, and none starts
 * while it is on its way. The kernel lets no write of this mount run beside it.
 */
#include "fs/call.h"

#include "base/assert.h"
#include "base/trace_mark.h"
#include "fs/coherence.h"
#include "fs/fence.h"
#include "fs/flush.h"
#include "fs/limits.h"
#include "fs/local.h"
#include "fs/lock.h"
#include "fs/mount.h"
#include "fs/read.h"
#include "meta/inode_flags.h"

#include <errno.h>
#include <fcntl.h>

/* ---- what the service says of the file ---- */

static void on_attr_told(struct meta_call *meta)
{
    struct fs_call *call = container_of(meta, struct fs_call, meta);
    struct inode *inode = inode_find(call->mount, call->ino);
    int r = meta->status;

    call->waiting_meta = false;
    if (r == 0) {
        r = inode == NULL ? -ESTALE : meta_attr_decode(&call->attr, meta->reply.attr);
    }
    if (r < 0) {
        fs_call_finish(call, r);
        return;
    }
    call->attr_told = true;
    inode_update(call->mount, inode, &call->attr, false);
    fs_call_data_start(call);
}

void fs_call_ask_attr(struct fs_call *call)
{
    call->meta = (struct meta_call){.done = on_attr_told};
    call->meta.request = (struct meta_request){.op = META_GETATTR, .ino = call->ino};
    call->waiting_meta = true;
    meta_call_start(&call->mount->meta, &call->meta);
}

/* ---- SETATTR ---- */

static void truncate_local(struct mount *mount, struct inode *inode, uint64_t size)
{
    uint64_t before = inode->dirty.bytes;

    dirty_truncate(&inode->dirty, size);
    mount->dirty_bytes -= before - inode->dirty.bytes;
    if (inode->dirty.count == 0) {
        list_remove(&inode->flush_node);
    }
    flush_settled(inode);
}

void fs_call_drop_dirty(struct mount *mount, struct inode *inode)
{
    truncate_local(mount, inode, 0);
    fs_call_truncate_next(inode);
}

static void on_size_set(struct meta_call *meta)
{
    struct fs_call *call = container_of(meta, struct fs_call, meta);
    struct mount *mount = call->mount;
    struct inode *inode = inode_find(mount, call->ino);
    int r = meta->status;

    ASSERT(inode != NULL && inode->truncating);
    call->waiting_meta = false;
    inode->truncating = false;
    inode_forget_contents(inode);
    if (r == 0) {
        r = meta_attr_decode(&call->attr, meta->reply.attr);
    }
    if (r == 0) {
        truncate_local(mount, inode, call->attr.size);
        inode->attr.mtime = call->attr.mtime;
        inode_update(mount, inode, &call->attr, true);
        if (inode->committed_size == 0) {
            inode->contents = CONTENTS_INLINE;       /* empty */
            inode->page_change = inode->attr.change; /* the kernel has dropped all pages */
        }
    }
    if (inode->dirty.count != 0) {
        flush_note(mount, inode);
    }
    if (call->op == FS_OPEN && r == 0) {
        inode_open(mount, inode, call->open_flags);
        call->keep_cache = false;
    }
    fs_call_finish(call, r);
    fs_call_truncate_next(inode);
    flush_poke(mount);
    inode_release(mount, inode);
}

/* Has it to be known where they are? */
static bool cuts_floating(const struct fs_call *call, const struct inode *inode)
{
    return coherence_trusts(call->mount, inode) ? call->set.size > dirty_float_offset(&inode->dirty)
                                                : call->set.size != 0 && inode->dirty.floating != 0;
}

void fs_call_truncate_next(struct inode *inode)
{
    struct list_node *node;
    struct fs_call *call;

    if (inode->in_round || inode->truncating) {
        return;
    }
    node = list_pop_front(&inode->truncate_waiters);
    if (node == NULL) {
        return;
    }
    call = container_of(node, struct fs_call, node);
    if (inode->dirty.count != 0 && (fs_call_needs_clean(call) || cuts_floating(call, inode))) {
        list_push_front(&inode->truncate_waiters, &call->node);
        flush_hurry(call->mount, inode);
        return; /* the end of the round comes here again */
    }
    call->waiting_flush = false;
    inode->truncating = true;
    if (fs_call_needs_clean(call)) {
        fs_call_space_send(call);
        return;
    }
    fs_call_meta_start(call);
    call->meta.done = on_size_set;
}

static void start_truncate(struct fs_call *call, struct inode *inode)
{
    call->waiting_flush = true;
    list_push_back(&inode->truncate_waiters, &call->node);
    fs_call_truncate_next(inode);
}

/* What is not committed yet takes the times and mode with it that are set now. */
static void set_pending_times(struct fs_call *call, struct inode *inode)
{
    if (!inode_pending(inode) || inode_flags_setattr(inode->attr.flags, call->valid) < 0) {
        return;
    }
    if (call->valid & META_SET_MTIME) {
        inode->attr.mtime = call->set.mtime;
    } else if (call->valid & META_SET_MTIME_NOW) {
        inode->attr.mtime = env_wall(call->mount->env);
    }
    if (call->valid & META_SET_MODE) {
        inode->kill_priv = false;
    }
}

static void start_setattr(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->ino);

    if (call->valid & META_SET_SIZE) {
        start_truncate(call, inode_make(call->mount, call->ino));
        return;
    }
    if (call->valid & META_SET_FLAGS && local_wait(call)) {
        return; /* then it is answered here, or nothing is promised while it is on its way */
    }
    if (inode != NULL) {
        set_pending_times(call, inode);
    }
    fs_call_meta_start(call);
}

/* ---- OPEN ---- */

/* The file is open now. */
static void count_open(struct fs_call *call, struct inode *inode)
{
    bool reads = (call->open_flags & (O_ACCMODE | O_DIRECT)) == O_RDONLY;

    if (reads && coherence_push_pages(call->mount, inode)) {
        call->pages = buf_slice(&inode->inline_data);
    }
    inode_open(call->mount, inode, call->open_flags);
    call->keep_cache = coherence_keep_pages(call->mount, inode, call->open_flags);
}

static void on_opened(struct meta_call *meta)
{
    struct fs_call *call = container_of(meta, struct fs_call, meta);
    struct mount *mount = call->mount;
    struct inode *inode = inode_make(mount, call->ino);
    int r = meta->status;

    call->waiting_meta = false;
    if (r == 0) {
        r = meta_attr_decode(&call->attr, meta->reply.attr);
    }
    if (r == 0) {
        uint64_t change = call->attr.change;

        inode_update(mount, inode, &call->attr, false);
        if (inode->contents == CONTENTS_UNKNOWN && inode->attr.change == change &&
            !inode_pending(inode)) {
            r = inode_take_contents(mount, inode, &meta->reply, 0);
        }
    }
    if (r == 0) {
        count_open(call, inode);
    }
    fs_call_finish(call, r);
    inode_release(mount, inode);
}

/* execve(2) opens with this (the kernel's __FMODE_EXEC): to run a program is not to read it. */
#define KERNEL_OPEN_TO_EXECUTE 0x20U

uint32_t fs_call_open_rights(const struct fs_call *call)
{
    unsigned mode = call->open_flags & O_ACCMODE;
    uint32_t rights = call->open_flags & O_APPEND ? META_APPEND : 0;

    rights |= mode == O_WRONLY                            ? 0
              : call->open_flags & KERNEL_OPEN_TO_EXECUTE ? META_OPEN_EXEC
                                                          : META_OPEN_READ;
    return rights | (mode != O_RDONLY ? META_OPEN_WRITE : 0);
}

static void start_open(struct fs_call *call)
{
    struct inode *inode = inode_make(call->mount, call->ino);
    unsigned mode = call->open_flags & O_ACCMODE;

    if (inode->attr.ino != 0 && inode->attr.nlink == 0 && inode->opens == 0 &&
        !inode_may_be_opened(call->mount, inode)) {
        /* Removed just before: the kernel looks the name up again. */
        fs_call_finish(call, -ESTALE);
        return;
    }
    call->flags |= fs_call_open_rights(call);
    if (call->open_flags & O_TRUNC) {
        call->valid = META_SET_SIZE | META_SET_MTIME_NOW;
        call->valid |= call->kill_priv ? META_SET_KILL_PRIV : 0;
        call->set.size = 0;
        start_truncate(call, inode);
        return;
    }
    if (mode != O_WRONLY) {
        ahead_open(call->mount, inode);
    }
    if (coherence_trusts(call->mount, inode) && inode->attr_known &&
        inode->contents != CONTENTS_UNKNOWN) {
        int error = inode_flags_open(inode->attr.flags, call->flags);

        if (error == 0) {
            count_open(call, inode);
            call->attr = inode->attr;
        }
        fs_call_finish(call, error);
        return;
    }
    if (local_wait(call)) {
        return;
    }
    call->meta = (struct meta_call){.done = on_opened};
    call->meta.request = (struct meta_request){
        .op = META_GETATTR,
        .ino = call->ino,
        .uid = call->who.uid,
        .gid = call->who.gid,
        .groups = call->who.groups,
        .flags = call->flags | META_WANT_DATA,
    };
    call->waiting_meta = true;
    meta_call_start(&call->mount->meta, &call->meta);
}

/* ---- WRITE ---- */

/* What floats stays together, also when the file has grown under a part that is on its way. */
static uint64_t floating_end(const struct inode *inode)
{
    if (inode->dirty.count != 0) {
        return dirty_end(&inode->dirty);
    }
    return inode->flushing.floating != 0 ? dirty_end(&inode->flushing) : inode_size(inode);
}

/* In line: who came first goes first, for one write(2) may be several WRITEs at once. */
static void wait_for_turn(struct fs_call *call, struct inode *inode)
{
    TRACE_MARK("a write waits for others of its file");
    call->waiting_flush = true;
    if (call->turn) {
        list_push_front(&inode->write_waiters, &call->node);
    } else {
        list_push_back(&inode->write_waiters, &call->node);
    }
    flush_hurry(call->mount, inode);
}

void fs_call_write_next(struct inode *inode)
{
    struct list_node *node;

    while ((node = list_pop_front(&inode->write_waiters)) != NULL) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        call->waiting_flush = false;
        call->turn = true;
        fs_call_start(call);
        if (list_first(&inode->write_waiters) == node) {
            return; /* it still waits */
        }
    }
}

/* Near full disks nothing that was answered is in the way of an error. */
static bool error_would_mix(const struct fs_call *call, const struct inode *inode)
{
    uint64_t at = call->append ? inode->attr.size : call->offset;

    return inode_pending(inode) &&
           flush_before_answer(call->mount, inode, max_u64(inode->attr.size, at + call->data.size));
}

/* Are there other writes where appends have no sure place, or the other way round? */
static bool must_wait(const struct fs_call *call, const struct inode *inode)
{
    size_t beside =
        call->append ? inode->dirty.count - inode->dirty.floating : inode->dirty.floating;

    return (!call->turn && !list_empty(&inode->write_waiters)) || error_would_mix(call, inode) ||
           (beside != 0 && !coherence_trusts(call->mount, inode));
}

/*
 * Where the file ends is for us to say: the kernel goes by the size that it heard last. And while
 * others may append, too, it is for the service to say: what is appended floats until it is
 * committed, and no other writes are dirty beside it, but from when nobody else could. True: the
 * call waits for those.
 */
static bool place_append(struct fs_call *call, struct inode *inode)
{
    if (must_wait(call, inode)) {
        wait_for_turn(call, inode);
        return true;
    }
    if (call->append) {
        bool sure = coherence_trusts(call->mount, inode);
        uint64_t end = sure ? inode_size(inode) : floating_end(inode);

        call->moved = call->offset != end;
        call->offset = end;
        inode->page_change = call->moved ? PAGES_UNKNOWN : inode->page_change;
        inode->moves += call->moved ? 1 : 0;
    }
    return false;
}

/* Do inode flags forbid the write? Another mount may have taken them away: the service is asked
 * first. True: the call waits for that, or has ended. */
static bool refuse_write(struct fs_call *call, const struct inode *inode)
{
    int error = inode_flags_write(inode->attr.flags, call->append);

    if (error == 0) {
        return false;
    }
    if (call->attr_told || coherence_trusts(call->mount, inode)) {
        fs_call_finish(call, error);
        return true;
    }
    fs_call_ask_attr(call);
    return true;
}

static void start_write(struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct inode *inode = inode_find(mount, call->ino);
    uint64_t end, before;

    if (inode == NULL) {
        fs_call_finish(call, -ESTALE);
        return;
    }
    if (refuse_write(call, inode)) {
        return;
    }
    if (call->data.size == 0) {
        fs_call_finish(call, 0);
        return;
    }
    if (mount->dirty_bytes >= mount->settings.dirty_bytes) {
        call->waiting_space = true;
        call->turn = false; /* this line keeps the order, too */
        list_push_back(&mount->space_queue, &call->node);
        flush_poke(mount);
        return;
    }
    if (place_append(call, inode)) {
        return;
    }
    if (__builtin_add_overflow(call->offset, call->data.size, &end) || end > INT64_MAX) {
        fs_call_finish(call, -EFBIG);
        return;
    }
    call->written = true;
    before = inode->dirty.bytes;
    inode->dirty.stamp++;
    (call->append ? dirty_append : dirty_write)(&inode->dirty, call->offset, call->data);
    mount->dirty_bytes += inode->dirty.bytes - before;
    mount->counters.written_bytes += call->data.size;
    inode->attr.size = max_u64(inode->attr.size, end);
    inode->attr.mtime = inode->attr.ctime = env_wall(mount->env);
    if (call->kill_priv) {
        uint32_t mode = mode_without_priv(inode->attr.mode);

        call->attr_stale = mode != inode->attr.mode || !inode->attr_known;
        inode->kill_priv = true;
        inode->attr.mode = mode;
    }
    flush_note(mount, inode);
    if (flush_before_answer(mount, inode, inode->attr.size)) {
        TRACE_MARK("a write waits for disks that are full or nearly so");
        flush_wait(call, inode);
        return;
    }
    if (inode->attr.flags & META_ATTR_SYNC) {
        flush_wait(call, inode); /* as with O_SYNC */
        return;
    }
    fs_call_finish(call, 0);
}

/* ---- the rest ---- */

/* What went wrong behind earlier answers; told once. */
static int take_error(struct mount *mount, struct inode *inode)
{
    int error = inode != NULL && inode->write_error != 0 ? inode->write_error : mount->local.error;

    if (inode != NULL) {
        inode->write_error = 0;
    }
    mount->local.error = 0;
    return error;
}

static void start_sync(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->ino);

    if (inode != NULL && inode_pending(inode)) {
        flush_wait(call, inode); /* its commit has its turn behind all that was answered before */
    } else if (!local_wait(call)) {
        fs_call_finish(call, take_error(call->mount, inode));
    }
}

static void start_flush(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->ino);
    int error;

    if (lock_close(call)) {
        return;
    }
    if (inode == NULL || coherence_flush_on_close(call->mount) || call->mount->no_space ||
        (inode_pending(inode) && flush_before_answer(call->mount, inode, inode->attr.size))) {
        start_sync(call);
        return;
    }
    error = inode->write_error;
    inode->write_error = 0;
    fs_call_finish(call, error);
}

static void start_release(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->ino);
    struct mount *mount = call->mount;

    if (call->lock.flock) {
        lock_release(mount, call->ino, call->lock.owner);
    }
    lock_release_handle(mount, call->ino, call->handle);
    fs_call_finish(call, 0);
    if (inode != NULL) {
        inode_close(mount, inode, call->open_flags);
        if (inode->opens == 0) {
            lock_file_closed(mount, inode->ino);
            inode->locks_lost = false;
        }
        inode_release(mount, inode);
    }
}

static bool works_on_contents(const struct fs_call *call)
{
    return call->op == FS_READ || call->op == FS_WRITE || call->op == FS_FSYNC ||
           call->op == FS_FALLOCATE || call->op == FS_COPY_RANGE || call->op == FS_SEEK ||
           (call->op == FS_SETATTR && call->valid & META_SET_SIZE);
}

/* What a file that is open can say for good: it is gone, which every call is told and not only the
 * first; or its locks are lost: somebody else may have worked on it meanwhile, and thinks that it
 * was protected. */
static int lasting_error(const struct fs_call *call)
{
    uint64_t ino = call->op == FS_COPY_RANGE ? call->ino2 : call->ino;
    const struct inode *inode = inode_find(call->mount, ino);

    if (inode == NULL || !works_on_contents(call)) {
        return 0;
    }
    return inode->gone ? -ESTALE : inode->locks_lost ? -EIO : 0;
}

void fs_call_data_start(struct fs_call *call)
{
    struct inode *inode;
    int error = lasting_error(call);

    if (error < 0) {
        fs_call_finish(call, error);
        return;
    }
    if (works_on_contents(call) && fence_wait(call, inode_find(call->mount, call->ino))) {
        return;
    }
    switch ((int)call->op) {
    case FS_SETATTR:
        start_setattr(call);
        return;
    case FS_OPEN:
        start_open(call);
        return;
    case FS_READ:
        inode = inode_find(call->mount, call->ino);
        if (inode == NULL) {
            fs_call_finish(call, -ESTALE);
            return;
        }
        read_start(call, inode);
        return;
    case FS_WRITE:
        start_write(call);
        return;
    case FS_FLUSH:
        start_flush(call);
        return;
    case FS_RELEASE:
        start_release(call);
        return;
    case FS_FSYNC:
        start_sync(call);
        return;
    case FS_FALLOCATE:
    case FS_SEEK:
    case FS_COPY_RANGE:
        fs_call_space_start(call);
        return;
    default:
        UNREACHABLE();
    }
}
