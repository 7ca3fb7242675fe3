/*
 * Locks that this mount grants itself, while it is alone: the tables of lock_internal.h hold who
 * waits here, too, by tickets of our own.
 */
#include "fs/coherence.h"
#include "fs/fence.h"
#include "fs/lock_internal.h"

#include "meta/limits.h"

#include <errno.h>

struct own_graph {
    struct lock_graph graph;
    struct mount *mount;
};

/* *io_cursor: so many calls of the line have been looked at. */
static bool next_wait(struct lock_graph *graph, uint64_t session, uint64_t owner,
                      uint64_t *io_cursor, struct meta_lock *out_wait,
                      const struct lock_table **out_table)
{
    struct mount *mount = container_of(graph, struct own_graph, graph)->mount;
    const struct file_locks *file;
    uint64_t at = 0;

    (void)session;
    list_for_each (node, &mount->locks.in_line) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        file = lock_file(mount, call->ino, false);
        if (at++ < *io_cursor || call->lock.flock || call->lock.owner != owner || file == NULL) {
            continue;
        }
        *io_cursor = at;
        *out_wait = call->lock;
        out_wait->ticket = call->lock_ticket;
        *out_table = &file->table;
        return true;
    }
    return false;
}

struct own_grants {
    struct mount *mount;
    struct list calls;
};

static void on_granted(void *data, const struct meta_lock *lock)
{
    struct own_grants *grants = data;

    list_for_each (node, &grants->mount->locks.in_line) {
        if (container_of(node, struct fs_call, node)->lock_ticket == lock->ticket) {
            list_remove(node);
            list_push_back(&grants->calls, node);
            return;
        }
    }
}

/* What was known of the file before we were alone may be old: others had locks of it then. */
static void own_held(struct fs_call *call)
{
    const struct inode *inode = inode_find(call->mount, call->ino);

    if (call->lock.type != META_LOCK_NONE && inode != NULL &&
        !coherence_trusts(call->mount, inode)) {
        lock_ask_attr(call);
        return;
    }
    call->lock_step = LOCK_STEP_NONE;
    fs_call_finish(call, 0);
}

/* Whose turn has come by what has changed. */
void lock_own_grant(struct mount *mount, struct file_locks *file)
{
    struct own_grants grants = {.mount = mount};
    struct list_node *node;

    list_init(&grants.calls);
    if (mount->locks.mode == LOCKS_OWN && lock_session_lives(mount)) {
        lock_table_grant(&file->table, on_granted, &grants);
    } else if (mount->locks.mode == LOCKS_OWN) {
        lock_retry_soon(mount);
    }
    lock_file_put(mount, file);
    while ((node = list_pop_front(&grants.calls)) != NULL) {
        own_held(container_of(node, struct fs_call, node));
    }
}

/* What the owner gives up now has guarded what is not committed yet. */
static void guard(struct mount *mount, const struct file_locks *file, const struct meta_lock *owner)
{
    struct inode *inode = inode_find(mount, file->ino);

    if (inode != NULL && lock_table_holds(&file->table, owner)) {
        fence_note(inode);
    }
}

void lock_own_give_up(struct mount *mount, uint64_t ino, const struct meta_lock *lock)
{
    struct file_locks *file = lock_file(mount, ino, false);

    if (file != NULL) {
        guard(mount, file, lock);
        lock_table_set(&file->table, lock);
        lock_own_grant(mount, file);
    }
}

/* What is granted here must find room at the service later. */
static bool own_has_room(const struct mount *mount, const struct file_locks *file,
                         const struct meta_lock *want)
{
    return want->type == META_LOCK_NONE || (mount->locks.files.count <= META_LOCKED_FILES_MAX &&
                                            file->table.count + 4 <= LOCK_TABLE_MAX);
}

void lock_own_start(struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct file_locks *file = lock_file(mount, call->ino, true);
    struct own_graph graph = {.graph = {next_wait}, .mount = mount};
    struct meta_lock want = call->lock;
    int r;

    want.ticket = ++mount->locks.next_ticket;
    guard(mount, file, &want);
    r = own_has_room(mount, file, &want)
            ? lock_table_request(&file->table, &want, call->lock_wait, &graph.graph)
            : -ENOLCK;
    if (r == LOCK_WAITS) {
        lock_in_line(call, want.ticket);
        lock_own_grant(mount, file); /* it may have given up a flock */
        return;
    }
    lock_own_grant(mount, file);
    if (r == 0) {
        own_held(call);
        return;
    }
    call->lock_step = LOCK_STEP_NONE;
    fs_call_finish(call, r);
}

void lock_own_test(struct fs_call *call)
{
    const struct file_locks *file = lock_file(call->mount, call->ino, false);
    const struct meta_lock *holder =
        file != NULL ? lock_table_holder(&file->table, &call->lock) : NULL;

    call->lock = holder != NULL ? *holder : (struct meta_lock){.type = META_LOCK_NONE};
    fs_call_finish(call, 0);
}

/* Turns that came while nobody heard us. */
void lock_own_grant_all(struct mount *mount)
{
    struct map_slot *slot;
    size_t at = 0;

    while (mount->locks.mode == LOCKS_OWN && !list_empty(&mount->locks.in_line) &&
           (slot = map_next(&mount->locks.files, &at)) != NULL) {
        lock_own_grant(mount, slot->value); /* never empties the file: somebody holds it or waits */
    }
}
