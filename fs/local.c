#include "fs/local.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/trace_mark.h"
#include "fs/coherence.h"
#include "fs/flush.h"
#include "fs/limits.h"
#include "meta/inode_flags.h"

#include <errno.h>

/* An operation that was answered before it was sent. Its names and data are copies behind it. */
struct local_op {
    struct meta_call call;
    struct list_node node; /* in mount.local.ops */
    struct mount *mount;
    uint64_t number;
    uint64_t inos[4]; /* whose attributes it changes; 0 = none */
    uint8_t bytes[];
};

static bool may_answer(const struct mount *mount)
{
    return coherence_epoch(mount) != 0 && mount->local.in_flight < mount->settings.local_ops &&
           !mount->closing && !mount->no_space;
}

static struct inode *known(struct mount *mount, uint64_t ino)
{
    struct inode *inode = ino != 0 ? inode_find(mount, ino) : NULL;

    return inode != NULL && inode->attr_known && coherence_trusts(mount, inode) ? inode : NULL;
}

/* What may be refused because of them, or is to wait for the service. */
#define LEFT_TO_THE_SERVICE                                                                        \
    (META_ATTR_IMMUTABLE | META_ATTR_APPEND | META_ATTR_SYNC | META_ATTR_DIRSYNC)

/* Known, and its inode flags let us change it here; or NULL. */
static struct inode *plain(struct mount *mount, uint64_t ino)
{
    struct inode *inode = known(mount, ino);

    return inode != NULL && !(inode->attr.flags & LEFT_TO_THE_SERVICE) ? inode : NULL;
}

/* A directory whose names are all known, or NULL. */
static struct inode *known_dir(struct mount *mount, uint64_t ino)
{
    struct inode *dir = plain(mount, ino);

    return dir != NULL && dir->names.complete && dir->attr.nlink > 0 ? dir : NULL;
}

/* ---- sending behind the answer ---- */

static bool is_answered(const struct mount *mount, uint64_t number)
{
    struct list_node *first = list_first(&mount->local.ops);

    return first == NULL || container_of(first, struct local_op, node)->number > number;
}

static void run_waiters(struct mount *mount)
{
    struct list waiters;
    struct list_node *node;

    list_init(&waiters);
    list_splice(&waiters, &mount->local.waiters);
    while ((node = list_pop_front(&waiters)) != NULL) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        if (is_answered(mount, call->behind)) {
            call->waiting_flush = false;
            fs_call_start(call);
        } else {
            list_push_back(&mount->local.waiters, node);
        }
    }
    if (mount->local.in_flight == 0 && mount->local.drained != NULL) {
        void (*done)(struct mount *) = mount->local.drained;

        mount->local.drained = NULL;
        done(mount);
    }
}

/* What was promised did not happen: nothing that we believe of names is sure any more. */
static void promise_broken(struct local_op *op)
{
    struct mount *mount = op->mount;

    LOG_WARN(mount->env, "local",
             "an operation that was answered before was refused: op=%s error=%s; names are read "
             "again, the next fsync of a directory reports it",
             meta_op_name(op->call.request.op), err_name(op->call.status));
    mount->local.error = op->call.status;
    TRACE_MARK("a promise of a mount is broken");
    local_forget_all(mount);
    if (mount->caches_lost != NULL) {
        mount->caches_lost(mount);
    }
}

static void on_sent(struct meta_call *call)
{
    struct local_op *op = container_of(call, struct local_op, call);
    struct mount *mount = op->mount;
    struct meta_attr attr;

    for (unsigned i = 0; i < ARRAY_SIZE(op->inos); i++) {
        struct inode *inode = op->inos[i] != 0 ? inode_find(mount, op->inos[i]) : NULL;

        if (inode == NULL) {
            continue;
        }
        inode->local_ops--;
        if (call->status < 0) {
            inode->attr_known = inode->attr_known && inode_pending(inode);
        } else if (inode->local_ops == 0 && meta_attr_decode(&attr, call->reply.attr) == 0 &&
                   attr.ino == inode->ino) {
            inode_update(mount, inode, &attr, !(call->reply.flags & META_UNCHANGED));
        }
        inode_release(mount, inode);
    }
    mount->local.in_flight--;
    list_remove(&op->node);
    flush_rounds_wake(mount);
    if (call->status < 0) {
        promise_broken(op);
    }
    if (is_answered(mount, op->number)) {
        run_waiters(mount);
    }
    mem_free(op);
}

static struct slice copy(uint8_t **at, struct slice from)
{
    struct slice copied = {*at, from.size};

    if (from.size != 0) {
        memcpy(*at, from.data, from.size);
        *at += from.size;
    }
    return copied;
}

/* Sends `request` with the call's words; inos: whose attributes it changes. */
static void send_behind(struct fs_call *call, struct meta_request request, uint64_t now,
                        const uint64_t inos[4])
{
    struct mount *mount = call->mount;
    struct local_op *op = mem_zalloc(sizeof(*op) + request.name.size + request.name2.size +
                                     request.data.size + call->who.groups.size);
    uint8_t *at = op->bytes;

    op->mount = mount;
    op->number = ++mount->local.last_number;
    for (unsigned i = 0; i < ARRAY_SIZE(op->inos); i++) {
        struct inode *inode = inos[i] != 0 ? inode_find(mount, inos[i]) : NULL;

        op->inos[i] = inode != NULL ? inos[i] : 0;
        if (inode != NULL) {
            inode->local_ops++;
        }
    }
    request.name = copy(&at, request.name);
    request.name2 = copy(&at, request.name2);
    request.data = copy(&at, request.data);
    request.groups = copy(&at, call->who.groups);
    request.uid = call->who.uid;
    request.gid = call->who.gid;
    request.flags |= META_CLIENT_TIME | (call->flags & META_SKIP_ACCESS);
    request.ctime = now;
    op->call = (struct meta_call){.request = request, .done = on_sent};
    mount->local.in_flight++;
    list_push_back(&mount->local.ops, &op->node);
    meta_call_start(&mount->meta, &op->call);
}

/* As the service will count it: what is older than this is not taken in any more. */
static void touch(struct inode *inode, uint64_t now)
{
    inode->attr.ctime = now;
    inode->attr.change++;
    if (inode->page_change == inode->attr.change - 1) {
        inode->page_change++; /* the pages are as good as before */
    }
}

static void touch_dir(struct inode *dir, uint64_t now, int subdirs)
{
    touch(dir, now);
    dir->attr.mtime = now;
    dir->attr.nlink = (uint32_t)((int)dir->attr.nlink + subdirs);
}

/* ---- inode numbers ---- */

static void on_reserved(struct meta_call *call)
{
    struct mount *mount = call->data;

    mount->local.reserving = false;
    if (call->status == 0) {
        mount->local.next_ino = call->reply.value;
        mount->local.end_ino = call->reply.value + FS_LOCAL_INOS;
    }
}

/* 0 when none is at hand; some are on their way then. */
static uint64_t take_ino(struct mount *mount)
{
    struct local_state *local = &mount->local;

    if (local->next_ino < local->end_ino) {
        return local->next_ino++;
    }
    if (!local->reserving) {
        local->reserving = true;
        local->reserve = (struct meta_call){.done = on_reserved, .data = mount};
        local->reserve.request =
            (struct meta_request){.op = META_RESERVE_INOS, .count = FS_LOCAL_INOS};
        meta_call_start(&mount->meta, &local->reserve);
    }
    return 0;
}

/* ---- making ---- */

static const struct {
    uint8_t op;
    uint32_t type;
} makers[] = {
    [FS_CREATE] = {META_CREATE, S_IFREG},
    [FS_MKDIR] = {META_MKDIR, S_IFDIR},
    [FS_SYMLINK] = {META_SYMLINK, S_IFLNK},
};

static struct meta_attr attr_of_new(const struct fs_call *call, const struct inode *dir,
                                    uint64_t ino, uint64_t now)
{
    uint32_t type = makers[call->op].type;
    struct meta_attr attr = {
        .ino = ino,
        .mode = type | (type == S_IFLNK ? 0777 : call->mode & 07777 & ~call->who.umask),
        .nlink = type == S_IFDIR ? 2 : 1,
        .uid = call->who.uid,
        .gid = dir->attr.mode & S_ISGID ? dir->attr.gid : call->who.gid,
        .size = type == S_IFLNK ? call->name2.size : 0,
        .atime = now,
        .mtime = now,
        .ctime = now,
        .btime = now,
        .change = 1,
        .flags = META_ATTR_NO_XATTRS | inode_flags_inherited(dir->attr.flags, type),
        .parent = type == S_IFDIR ? dir->ino : 0,
    };

    if (type == S_IFDIR && dir->attr.mode & S_ISGID) {
        attr.mode |= S_ISGID;
    }
    return attr;
}

static void learn_new(struct fs_call *call, struct inode *inode)
{
    inode->attr = call->attr;
    inode->attr_known = true;
    inode->epoch = coherence_epoch(call->mount);
    inode->contents = CONTENTS_INLINE;
    inode_ref(call->mount, inode);
    inode->names.complete = call->op == FS_MKDIR;
    if (call->op == FS_CREATE) {
        inode_open(call->mount, inode, call->open_flags);
    }
}

static bool try_make(struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct inode *dir = known_dir(mount, call->ino);
    uint64_t now = env_wall(mount->env), ino;

    if (dir == NULL || dir->attr.flags & META_ATTR_DEFAULT_ACL ||
        names_find(&dir->names, call->name) != 0 || dir->names.count >= FS_NAMES_MAX ||
        (call->mode & S_ISGID && call->who.uid != 0)) {
        return false;
    }
    ino = take_ino(mount);
    if (ino == 0) {
        return false;
    }
    call->attr = attr_of_new(call, dir, ino, now);
    learn_new(call, inode_make(mount, ino));
    names_put(&dir->names, call->name, ino);
    touch_dir(dir, now, call->op == FS_MKDIR);
    send_behind(call,
                (struct meta_request){
                    .op = makers[call->op].op,
                    .flags = META_NOREPLACE,
                    .ino = call->ino,
                    .ino2 = ino,
                    .name = call->name,
                    .mode = call->mode,
                    .umask = call->who.umask,
                    .data = call->op == FS_SYMLINK ? call->name2 : (struct slice){0},
                },
                now, (uint64_t[]){dir->ino, ino, 0, 0});
    fs_call_finish(call, 0);
    return true;
}

/* ---- removing, renaming ---- */

static bool may_be_open(const struct mount *mount, const struct inode *inode)
{
    return inode->opens != 0 || mount->opening != 0;
}

static void drop_name_of(struct inode *victim, uint64_t now)
{
    touch(victim, now);
    victim->attr.nlink -= victim->attr.nlink > 0;
}

/* The service frees it at once. */
static void drop_file(struct mount *mount, struct inode *victim)
{
    if (victim->attr.nlink == 0) {
        fs_call_drop_dirty(mount, victim);
        victim->found_until_ns = 0;
    }
}

static bool try_unlink(struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct inode *dir = known_dir(mount, call->ino);
    struct inode *victim = dir ? plain(mount, names_find(&dir->names, call->name)) : NULL;
    uint64_t now = env_wall(mount->env);

    if (victim == NULL || S_ISDIR(victim->attr.mode)) {
        return false;
    }
    names_remove(&dir->names, call->name);
    touch_dir(dir, now, 0);
    drop_name_of(victim, now);
    if (!may_be_open(mount, victim)) {
        drop_file(mount, victim);
    }
    send_behind(call,
                (struct meta_request){.op = META_UNLINK,
                                      .flags = may_be_open(mount, victim) ? META_STILL_OPEN : 0,
                                      .ino = call->ino,
                                      .name = call->name},
                now, (uint64_t[]){dir->ino, victim->ino, 0, 0});
    fs_call_finish(call, 0);
    return true;
}

static bool try_rmdir(struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct inode *dir = known_dir(mount, call->ino);
    struct inode *victim = dir ? known_dir(mount, names_find(&dir->names, call->name)) : NULL;
    uint64_t now = env_wall(mount->env);

    if (victim == NULL || victim->names.count != 0 || !S_ISDIR(victim->attr.mode)) {
        return false;
    }
    names_remove(&dir->names, call->name);
    names_clear(&victim->names);
    touch_dir(dir, now, -1);
    victim->attr.nlink = 0;
    touch(victim, now);
    send_behind(call, (struct meta_request){.op = META_RMDIR, .ino = call->ino, .name = call->name},
                now, (uint64_t[]){dir->ino, victim->ino, 0, 0});
    fs_call_finish(call, 0);
    return true;
}

/* Files only: a directory's rename may make a cycle, which the service looks for. */
static bool try_rename(struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct inode *from = known_dir(mount, call->ino), *to = known_dir(mount, call->ino2);
    struct inode *moved = from ? plain(mount, names_find(&from->names, call->name)) : NULL;
    uint64_t now = env_wall(mount->env), there;
    struct inode *victim;

    if (moved == NULL || to == NULL || S_ISDIR(moved->attr.mode) ||
        call->flags & (META_NOREPLACE | META_EXCHANGE | META_WHITEOUT) ||
        to->names.count >= FS_NAMES_MAX) {
        return false;
    }
    there = names_find(&to->names, call->name2);
    victim = plain(mount, there);
    if (there != 0 && (victim == NULL || victim == moved || S_ISDIR(victim->attr.mode))) {
        return false;
    }
    names_remove(&from->names, call->name);
    names_put(&to->names, call->name2, moved->ino);
    touch_dir(from, now, 0);
    if (to != from) {
        touch_dir(to, now, 0);
    }
    touch(moved, now);
    if (victim != NULL) {
        drop_name_of(victim, now);
        inode_found(mount, victim); /* who has found its name may open it */
    }
    send_behind(call,
                (struct meta_request){.op = META_RENAME,
                                      .flags = victim != NULL ? META_STILL_OPEN : 0,
                                      .ino = call->ino,
                                      .name = call->name,
                                      .ino2 = call->ino2,
                                      .name2 = call->name2},
                now,
                (uint64_t[]){moved->ino, from->ino, to == from ? 0 : to->ino,
                             victim != NULL ? victim->ino : 0});
    fs_call_finish(call, 0);
    return true;
}

/* ---- attributes ---- */

/* What clears bits of the mode is left to the service. */
static bool is_plain_setattr(const struct fs_call *call, const struct meta_attr *attr)
{
    bool root = call->who.uid == 0;

    if (call->valid & META_SET_FLAGS) {
        return root && inode_flags_fit(call->set.flags, attr->mode);
    }
    if (call->valid & META_SET_SIZE ||
        (call->valid & META_SET_MODE && attr->flags & META_ATTR_ACL)) {
        return false;
    }
    if (call->valid & (META_SET_UID | META_SET_GID | META_SET_KILL_PRIV)) {
        return root && !(attr->mode & (S_ISUID | S_ISGID));
    }
    return root || !(call->valid & META_SET_MODE && call->set.mode & S_ISGID);
}

static void set_attributes(struct meta_attr *attr, const struct fs_call *call, uint64_t now)
{
    uint32_t valid = call->valid;

    if (valid & META_SET_FLAGS) {
        attr->flags = (attr->flags & ~call->set.mode) | call->set.flags;
    }
    if (valid & META_SET_MODE) {
        attr->mode = (attr->mode & S_IFMT) | (call->set.mode & 07777);
    }
    if (valid & META_SET_UID) {
        attr->uid = call->set.uid;
    }
    if (valid & META_SET_GID) {
        attr->gid = call->set.gid;
    }
    if (valid & (META_SET_ATIME | META_SET_ATIME_NOW)) {
        attr->atime = valid & META_SET_ATIME_NOW ? now : call->set.atime;
    }
    if (valid & (META_SET_MTIME | META_SET_MTIME_NOW)) {
        attr->mtime = valid & META_SET_MTIME_NOW ? now : call->set.mtime;
    }
}

static bool try_setattr(struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct inode *inode = plain(mount, call->ino);
    uint64_t now = env_wall(mount->env);

    if (inode == NULL || inode->truncating || !is_plain_setattr(call, &inode->attr)) {
        return false;
    }
    set_attributes(&inode->attr, call, now);
    touch(inode, now);
    if (call->valid & META_SET_MODE) {
        inode->kill_priv = false;
    }
    send_behind(call,
                (struct meta_request){.op = META_SETATTR,
                                      .flags = call->flags,
                                      .ino = call->ino,
                                      .valid = call->valid,
                                      .mode = call->set.mode,
                                      .count = call->set.flags,
                                      .atime = call->set.atime,
                                      .mtime = call->set.mtime,
                                      .new_uid = call->set.uid,
                                      .new_gid = call->set.gid},
                now, (uint64_t[]){inode->ino, 0, 0, 0});
    call->attr = inode->attr;
    fs_call_finish(call, 0);
    return true;
}

static bool try_lookup(struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct inode *dir = inode_find(mount, call->ino), *inode;
    uint64_t ino;

    if (dir == NULL || !coherence_trusts(mount, dir) || slice_equal(call->name, slice_text(".")) ||
        slice_equal(call->name, slice_text(".."))) {
        return false;
    }
    ahead_lookup(mount, dir);
    ino = names_find(&dir->names, call->name);
    if (ino == 0 && known_dir(mount, call->ino) != NULL) {
        fs_call_finish(call, -ENOENT);
        return true;
    }
    inode = known(mount, ino); /* also a name of some: each one that is kept is true */
    if (inode == NULL) {
        return false;
    }
    inode_ref(mount, inode);
    call->attr = inode->attr;
    fs_call_finish(call, 0);
    return true;
}

bool local_try(struct fs_call *call)
{
    if (!may_answer(call->mount)) {
        return false;
    }
    switch ((int)call->op) {
    case FS_LOOKUP:
        return try_lookup(call);
    case FS_CREATE:
    case FS_MKDIR:
    case FS_SYMLINK:
        return try_make(call);
    case FS_UNLINK:
        return try_unlink(call);
    case FS_RMDIR:
        return try_rmdir(call);
    case FS_RENAME:
        return try_rename(call);
    case FS_SETATTR:
        return try_setattr(call);
    default:
        return false;
    }
}

void local_stamp(struct fs_call *call)
{
    if (call->behind == 0) {
        call->behind = call->mount->local.last_number;
    }
}

bool local_wait(struct fs_call *call)
{
    struct mount *mount = call->mount;

    local_stamp(call);
    if (is_answered(mount, call->behind)) {
        return false;
    }
    call->waiting_flush = true;
    list_push_back(&mount->local.waiters, &call->node);
    return true;
}

void local_drain(struct mount *mount, void (*done)(struct mount *mount))
{
    if (mount->local.in_flight == 0) {
        done(mount);
    } else {
        mount->local.drained = done;
    }
}

void local_forget_all(struct mount *mount)
{
    struct map_slot *slot;
    size_t at = 0;

    ahead_forget_all(mount);
    while ((slot = map_next(&mount->inodes, &at)) != NULL) {
        struct inode *inode = slot->value;

        names_clear(&inode->names);
        inode->names_cookie = UINT64_MAX;
        inode->attr.change = 0; /* our own count ends: whatever the service says is newer */
        if (inode->page_change != 0 || inode->buffered_opens > 0) { /* what was made here, too */
            inode->page_change = PAGES_UNKNOWN;
        }
    }
    mount->alone_epoch++;
    mount->local.next_ino = mount->local.end_ino = 0;
}

void local_init(struct mount *mount)
{
    list_init(&mount->local.waiters);
    list_init(&mount->local.ops);
}
