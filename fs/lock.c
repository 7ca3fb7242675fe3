#include "fs/lock.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/trace_mark.h"
#include "fs/coherence.h"
#include "fs/flush.h"
#include "fs/limits.h"
#include "fs/lock_internal.h"

#include <errno.h>

/* ---- what is held ---- */

struct file_locks *lock_file(struct mount *mount, uint64_t ino, bool create)
{
    struct file_locks *file = map_get(&mount->locks.files, map_u64(ino));

    if (file == NULL && create) {
        file = mem_zalloc(sizeof(*file));
        file->ino = ino;
        map_put(&mount->locks.files, map_u64(ino), file);
    }
    return file;
}

void lock_file_put(struct mount *mount, struct file_locks *file)
{
    if (file->table.count == 0) {
        map_remove(&mount->locks.files, map_u64(file->ino));
        lock_table_deinit(&file->table);
        mem_free(file);
    }
}

void lock_note(struct mount *mount, uint64_t ino, const struct meta_lock *lock)
{
    struct file_locks *file = lock_file(mount, ino, lock->type != META_LOCK_NONE);

    if (file != NULL) {
        lock_table_set(&file->table, lock);
        lock_file_put(mount, file);
    }
}

static const struct meta_lock *first_held(const struct file_locks *file)
{
    for (size_t i = 0; i < file->table.count; i++) {
        if (file->table.items[i].ticket == 0) {
            return &file->table.items[i];
        }
    }
    return NULL;
}

static bool owner_holds(struct mount *mount, uint64_t ino, const struct meta_lock *owner)
{
    const struct file_locks *file = lock_file(mount, ino, false);

    return file != NULL && lock_table_holds(&file->table, owner);
}

bool lock_owner_has(struct mount *mount, uint64_t ino, const struct meta_lock *owner)
{
    return owner_holds(mount, ino, owner) || lock_is_asked(mount, ino, owner);
}

/* ---- calls that wait ---- */

/* While nobody hears us, the session may have expired, and others may have what we would grant. */
bool lock_session_lives(const struct mount *mount)
{
    return mount->meta.session != 0 && env_now(mount->env) < mount->meta.lease_until_ns;
}

void lock_retry_soon(struct mount *mount)
{
    if (!env_timer_running(&mount->locks.retry_timer)) {
        env_timer_start(mount->env, &mount->locks.retry_timer,
                        env_now(mount->env) + FS_LOCK_RETRY_NS);
    }
}

void lock_queue(struct fs_call *call, bool retry)
{
    struct mount *mount = call->mount;

    call->lock_step = LOCK_STEP_QUEUED;
    list_push_back(&mount->locks.queue, &call->node);
    if (retry) {
        lock_retry_soon(mount);
    }
}

void lock_run_queue(struct mount *mount)
{
    struct list calls;
    struct list_node *node;

    list_init(&calls);
    list_splice(&calls, &mount->locks.queue);
    while ((node = list_pop_front(&calls)) != NULL) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        call->lock_step = LOCK_STEP_NONE;
        fs_call_start(call);
    }
}

void lock_in_line(struct fs_call *call, uint64_t ticket)
{
    struct mount *mount = call->mount;

    call->lock_step = LOCK_STEP_IN_LINE;
    call->lock_ticket = ticket;
    list_push_back(&mount->locks.in_line, &call->node);
    if (!env_timer_running(&mount->locks.ask_timer)) {
        env_timer_start(mount->env, &mount->locks.ask_timer, env_now(mount->env) + FS_LOCK_ASK_NS);
    }
}

void lock_notified(struct mount *mount)
{
    if (mount->locks.mode == LOCKS_SENT) {
        lock_ask_turns(mount);
    }
}

/* What the service says unasked may have been lost on its way. */
static void on_ask_due(struct env_timer *timer)
{
    struct mount *mount = container_of(timer, struct mount, locks.ask_timer);

    lock_notified(mount);
    if (!list_empty(&mount->locks.in_line)) {
        env_timer_start(mount->env, timer, env_now(mount->env) + FS_LOCK_ASK_NS);
    }
}

/* ---- granted by the service ---- */

/* True: the kernel has pages of another state of the file, or an open that was told to drop them
 * may still be about to. */
static bool learn(struct fs_call *call, struct slice bytes)
{
    struct mount *mount = call->mount;
    uint64_t ino = call->ino;
    struct inode *inode = inode_find(mount, ino);
    struct meta_attr attr;
    bool stale;

    if (inode == NULL || meta_attr_decode(&attr, bytes) < 0 || attr.ino != ino) {
        return false;
    }
    stale = inode->page_change != 0 && (inode->page_change != attr.change || inode->pages_dropping);
    if (inode->attr.change != attr.change) {
        inode_forget_contents(inode);
    }
    inode_update(mount, inode, &attr, false);
    call->attr = inode->attr;
    inode->page_change = stale ? PAGES_UNKNOWN : inode->page_change;
    inode->pages_dropping = inode->pages_dropping && !stale;
    return stale;
}

void lock_held(struct fs_call *call, struct slice attr)
{
    if (learn(call, attr) && call->mount->drop_pages != NULL) {
        TRACE_MARK("a lock comes with other contents");
        call->lock_step = LOCK_STEP_PAGES;
        call->mount->drop_pages(call->mount, call->ino, call);
        return;
    }
    call->lock_step = LOCK_STEP_NONE;
    fs_call_finish(call, 0);
}

/* Pages that came since are of the state that the grant told, or of a newer one. */
void lock_pages_dropped(struct fs_call *call)
{
    struct inode *inode = inode_find(call->mount, call->ino);

    if (inode != NULL && inode->page_change == PAGES_UNKNOWN) {
        inode->page_change = call->attr.change;
    }
    call->lock_step = LOCK_STEP_NONE;
    fs_call_finish(call, 0);
}

/* ---- giving up ---- */

void lock_given_up(struct fs_call *call)
{
    call->lock_step = LOCK_STEP_NONE;
    if (call->op == FS_FLUSH && call->lock_error == 0) {
        call->lock_gone = true;
        fs_call_start(call);
    } else {
        fs_call_finish(call, call->lock_error);
    }
}

/* Nothing written before is left to commit. */
static void give_up_now(struct fs_call *call)
{
    struct mount *mount = call->mount;

    switch (mount->locks.mode) {
    case LOCKS_OWN:
        lock_own_give_up(mount, call->ino, &call->lock);
        lock_given_up(call);
        return;
    case LOCKS_SENT:
        lock_ask(call);
        return;
    case LOCKS_BEGINNING:
    case LOCKS_TELLING:
        lock_queue(call, false);
        return;
    }
}

void lock_flushed(struct fs_call *call, int status)
{
    if (call->lock_step == LOCK_STEP_SYNCING) {
        fs_call_finish(call, 0);
        return;
    }
    call->lock_error = call->op == FS_FLUSH ? status : 0;
    give_up_now(call);
}

bool lock_must_flush(struct mount *mount, uint64_t ino)
{
    const struct inode *inode = inode_find(mount, ino);

    return coherence_epoch(mount) == 0 && inode != NULL && inode_pending(inode);
}

static void give_up(struct fs_call *call)
{
    struct mount *mount = call->mount;

    if (!lock_owner_has(mount, call->ino, &call->lock)) {
        lock_given_up(call);
    } else if (lock_must_flush(mount, call->ino)) {
        call->lock_step = LOCK_STEP_FLUSHING;
        flush_wait(call, inode_find(mount, call->ino));
    } else {
        give_up_now(call);
    }
}

bool lock_close(struct fs_call *call)
{
    struct mount *mount = call->mount;

    call->lock.type = META_LOCK_NONE;
    call->lock.from = 0;
    call->lock.to = LOCK_TO_THE_END;
    lock_forget_taken(mount, call->ino, call->lock.owner);
    if (call->lock_gone || !lock_owner_has(mount, call->ino, &call->lock)) {
        return false;
    }
    if (mount->locks.mode == LOCKS_BEGINNING || mount->locks.mode == LOCKS_TELLING ||
        lock_is_unsettled(mount, call->ino, &call->lock)) {
        lock_queue(call, false);
    } else {
        give_up(call);
    }
    return true;
}

static void on_retry(struct env_timer *timer)
{
    struct mount *mount = container_of(timer, struct mount, locks.retry_timer);

    lock_give_up_later(mount);
    lock_own_grant_all(mount);
    lock_run_queue(mount);
}

/* ---- calls ---- */

static bool nothing_known(const struct mount *mount)
{
    return mount->locks.files.count == 0 && list_empty(&mount->locks.ops) &&
           list_empty(&mount->locks.in_line);
}

static void sent_start(struct fs_call *call)
{
    struct mount *mount = call->mount;

    if (call->op == FS_LOCK_TEST) {
        lock_ask_test(call);
    } else if (lock_is_unsettled(mount, call->ino, &call->lock)) {
        lock_queue(call, false);
    } else if (call->lock.type == META_LOCK_NONE) {
        give_up(call);
    } else if (coherence_epoch(mount) != mount->locks.refused_epoch && nothing_known(mount)) {
        lock_begin_own(mount);
        lock_queue(call, false);
    } else {
        lock_ask(call);
    }
}

/* Under a new lock, too, it would work with pages from before. */
static bool has_lost(const struct fs_call *call)
{
    const struct inode *inode = inode_find(call->mount, call->ino);

    return call->op == FS_LOCK && call->lock.type != META_LOCK_NONE && inode != NULL &&
           inode->locks_lost;
}

void lock_start(struct fs_call *call)
{
    struct mount *mount = call->mount;

    if (call->lock_step == LOCK_STEP_SYNCING) {
        fs_call_finish(call, 0); /* what it waited for has its answer */
        return;
    }
    if (has_lost(call)) {
        fs_call_finish(call, -EIO);
        return;
    }
    if (call->op == FS_LOCK && !call->lock.flock && call->lock.type != META_LOCK_NONE) {
        lock_note_taken(call);
    }
    if (call->op == FS_LOCK && lock_is_leaving(mount, call->ino, &call->lock)) {
        lock_queue(call, true);
        return;
    }
    switch (mount->locks.mode) {
    case LOCKS_SENT:
        sent_start(call);
        return;
    case LOCKS_OWN:
        if (!lock_session_lives(mount)) {
            lock_queue(call, true);
        } else if (call->op == FS_LOCK_TEST) {
            lock_own_test(call);
        } else {
            lock_own_start(call);
        }
        return;
    case LOCKS_BEGINNING:
    case LOCKS_TELLING:
        lock_queue(call, false);
        return;
    }
}

void lock_cancel(struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct file_locks *file = lock_file(mount, call->ino, false);

    if (call->lock_step == LOCK_STEP_PAGES) {
        return; /* it has the lock, and its answer in a moment */
    }
    lock_abandon(call);
    if (call->lock_step == LOCK_STEP_IN_LINE && mount->locks.mode == LOCKS_OWN && file != NULL) {
        lock_table_cancel(&file->table, call->lock_ticket);
        lock_own_grant(mount, file);
    }
    if (call->op == FS_FLUSH && call->lock_step != LOCK_STEP_SENT) {
        lock_give_up_all(mount, call->ino, &call->lock);
    }
    list_remove(&call->node);
    call->lock_step = LOCK_STEP_NONE;
    call->waiting_flush = false;
    fs_call_finish(call, -EINTR);
}

/* ---- who decides ---- */

static void one_synced(struct mount *mount)
{
    if (--mount->locks.syncing == 0 && mount->locks.mode == LOCKS_TELLING) {
        lock_tell_all(mount);
    }
}

static void on_synced(struct fs_call *call)
{
    struct mount *mount = call->mount;

    mem_free(call);
    one_synced(mount);
}

static void sync_file(struct mount *mount, uint64_t ino)
{
    struct inode *inode = inode_find(mount, ino);
    struct fs_call *call;

    if (inode != NULL && inode_pending(inode)) {
        call = mem_zalloc(sizeof(*call));
        call->op = FS_LOCK;
        call->mount = mount;
        call->ino = ino;
        call->lock_step = LOCK_STEP_SYNCING;
        call->done = on_synced;
        mount_call_begins(call);
        mount->locks.syncing++;
        flush_wait(call, inode);
    }
}

/* What was written until now, under locks or after them, is committed; nobody here gets another
 * lock meanwhile. What others go on writing is not waited for. */
static void begin_telling(struct mount *mount)
{
    cleanup(buf_deinit) struct buf inos = {0};
    struct map_slot *slot;
    size_t at = 0;

    mount->locks.mode = LOCKS_TELLING;
    mount->locks.syncing++;
    while ((slot = map_next(&mount->inodes, &at)) != NULL) {
        const struct inode *inode = slot->value;

        buf_append(&inos, &inode->ino, inode_pending(inode) ? sizeof(inode->ino) : 0);
    }
    for (size_t i = 0; i < inos.size; i += sizeof(uint64_t)) {
        uint64_t ino;

        memcpy(&ino, inos.data + i, sizeof(ino));
        sync_file(mount, ino);
    }
    one_synced(mount);
}

void lock_tell(struct mount *mount, void (*done)(struct mount *mount))
{
    mount->locks.told = done;
    if (mount->locks.mode == LOCKS_OWN && mount->meta.session == 0) {
        lock_session_lost(mount); /* it comes back here */
        return;
    }
    if (mount->locks.mode == LOCKS_OWN) {
        begin_telling(mount);
    } else if (mount->locks.mode == LOCKS_SENT && done != NULL) {
        mount->locks.told = NULL;
        done(mount);
    }
}

void lock_tell_no_more(struct mount *mount)
{
    mount->locks.told = NULL;
}

/* Whoever had a lock of it relied on nobody else writing: that is not so any more. */
static void lose_file(struct mount *mount, struct file_locks *file)
{
    struct inode *inode = inode_find(mount, file->ino);

    LOG_WARN(mount->env, "lock",
             "locks are lost with the session: programs that have the file open get EIO "
             "ino=%" PRIu64,
             file->ino);
    if (inode != NULL) {
        inode->locks_lost = true;
        inode->write_error = inode_pending(inode) ? -EIO : inode->write_error;
        flush_rounds_drop(mount, inode);
        fs_call_drop_dirty(mount, inode);
    }
}

void lock_session_lost(struct mount *mount)
{
    struct list_node *node;
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&mount->locks.files, &at)) != NULL) {
        struct file_locks *file = slot->value;

        if (first_held(file) != NULL) {
            lose_file(mount, file);
        }
        lock_table_deinit(&file->table);
        mem_free(file);
    }
    map_deinit(&mount->locks.files);
    mount->locks.mode = LOCKS_SENT;
    while ((node = list_pop_front(&mount->locks.in_line)) != NULL) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        lock_forget_question(call);
        lock_queue(call, true);
    }
    lock_run_queue(mount);
    if (mount->locks.told != NULL) {
        lock_tell(mount, mount->locks.told);
    }
}

void lock_init(struct mount *mount)
{
    list_init(&mount->locks.ops);
    list_init(&mount->locks.queue);
    list_init(&mount->locks.in_line);
    list_init(&mount->locks.later);
    list_init(&mount->locks.taken);
    mount->locks.ask_timer.fire = on_ask_due;
    mount->locks.retry_timer.fire = on_retry;
}

void lock_deinit(struct mount *mount)
{
    struct map_slot *slot;
    size_t at = 0;

    env_timer_stop(mount->env, &mount->locks.ask_timer);
    env_timer_stop(mount->env, &mount->locks.retry_timer);
    lock_forget_later(mount);
    while ((slot = map_next(&mount->locks.files, &at)) != NULL) {
        struct file_locks *file = slot->value;

        lock_table_deinit(&file->table);
        mem_free(file);
    }
    map_deinit(&mount->locks.files);
}
