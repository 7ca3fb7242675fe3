/*
 * Locks that go when nobody waits to see it: with the open file, with the last one, or because who
 * closed it was interrupted. What was written under them is committed first, so they go later; the
 * same owner gets no new one until then.
 */
#include "fs/flush.h"
#include "fs/lock_internal.h"

#include "base/mem.h"

/* A lock that nobody waits to see given up. */
struct lock_later {
    struct list_node node; /* in mount.locks.later */
    uint64_t ino;
    struct meta_lock lock;
};

static void send_give_up(struct mount *mount, uint64_t ino, const struct meta_lock *lock)
{
    if (mount->locks.mode != LOCKS_OWN) {
        lock_send(mount, ino, lock);
    }
    lock_own_give_up(mount, ino, lock);
}

void lock_give_up_later(struct mount *mount)
{
    list_for_each (node, &mount->locks.later) {
        struct lock_later *later = container_of(node, struct lock_later, node);

        if (lock_must_flush(mount, later->ino) ||
            lock_is_unsettled(mount, later->ino, &later->lock)) {
            lock_retry_soon(mount);
            continue;
        }
        list_remove(node);
        send_give_up(mount, later->ino, &later->lock);
        mem_free(later);
    }
}

void lock_give_up_all(struct mount *mount, uint64_t ino, const struct meta_lock *owner)
{
    struct lock_later *later = mem_zalloc(sizeof(*later));

    later->ino = ino;
    later->lock = *owner;
    later->lock.type = META_LOCK_NONE;
    later->lock.from = 0;
    later->lock.to = LOCK_TO_THE_END;
    list_push_back(&mount->locks.later, &later->node);
    if (lock_must_flush(mount, ino)) {
        flush_hurry(mount, inode_find(mount, ino));
    }
    lock_give_up_later(mount);
}

bool lock_is_leaving(const struct mount *mount, uint64_t ino, const struct meta_lock *owner)
{
    list_for_each (node, &mount->locks.later) {
        const struct lock_later *later = container_of(node, struct lock_later, node);

        if (later->ino == ino && later->lock.owner == owner->owner &&
            later->lock.flock == owner->flock) {
            return true;
        }
    }
    return false;
}

/* An owner has asked for record locks of the file, last through this handle. */
struct lock_taken {
    struct list_node node; /* in mount.locks.taken */
    uint64_t ino, owner, handle;
};

static struct lock_taken *find_taken(struct mount *mount, uint64_t ino, uint64_t owner)
{
    list_for_each (node, &mount->locks.taken) {
        struct lock_taken *taken = container_of(node, struct lock_taken, node);

        if (taken->ino == ino && taken->owner == owner) {
            return taken;
        }
    }
    return NULL;
}

void lock_note_taken(const struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct lock_taken *taken = find_taken(mount, call->ino, call->lock.owner);

    if (taken == NULL) {
        taken = mem_zalloc(sizeof(*taken));
        taken->ino = call->ino;
        taken->owner = call->lock.owner;
        list_push_back(&mount->locks.taken, &taken->node);
    }
    taken->handle = call->handle;
}

static void forget(struct lock_taken *taken)
{
    list_remove(&taken->node);
    mem_free(taken);
}

void lock_forget_taken(struct mount *mount, uint64_t ino, uint64_t owner)
{
    struct lock_taken *taken = find_taken(mount, ino, owner);

    if (taken != NULL) {
        forget(taken);
    }
}

void lock_release_handle(struct mount *mount, uint64_t ino, uint64_t handle)
{
    list_for_each (node, &mount->locks.taken) {
        struct lock_taken *taken = container_of(node, struct lock_taken, node);
        const struct meta_lock lock = {.owner = taken->owner};

        if (taken->ino == ino && taken->handle == handle) {
            forget(taken);
            if (lock_owner_has(mount, ino, &lock)) {
                lock_give_up_all(mount, ino, &lock);
            }
        }
    }
}

void lock_release(struct mount *mount, uint64_t ino, uint64_t owner)
{
    const struct meta_lock lock = {.owner = owner, .flock = true};

    if (lock_owner_has(mount, ino, &lock)) {
        lock_give_up_all(mount, ino, &lock);
    }
}

void lock_file_closed(struct mount *mount, uint64_t ino)
{
    const struct file_locks *file = lock_file(mount, ino, false);
    struct lock_table copy = {0};

    for (size_t i = 0; file != NULL && i < file->table.count; i++) {
        if (file->table.items[i].ticket == 0 && !lock_table_holds(&copy, &file->table.items[i])) {
            lock_table_set(&copy, &file->table.items[i]);
        }
    }
    for (size_t i = 0; i < copy.count; i++) {
        lock_give_up_all(mount, ino, &copy.items[i]);
    }
    lock_table_deinit(&copy);
}

void lock_forget_later(struct mount *mount)
{
    struct list_node *node;

    while ((node = list_pop_front(&mount->locks.later)) != NULL) {
        mem_free(container_of(node, struct lock_later, node));
    }
    while ((node = list_pop_front(&mount->locks.taken)) != NULL) {
        mem_free(container_of(node, struct lock_taken, node));
    }
}
