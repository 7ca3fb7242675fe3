#include "meta/ns_internal.h"

/* Everything a rename looks at. `to` and `victim` exist only when `replaces`. */
struct rename {
    struct inode from_dir, to_dir; /* the same directory: only from_dir is used */
    struct inode moved, victim;
    struct dentry from, to;
    bool same_dir, replaces, exchange;
};

static struct inode *target_dir(struct rename *rename)
{
    return rename->same_dir ? &rename->from_dir : &rename->to_dir;
}

static int load_dirs(struct ns *ns, struct rename *rename)
{
    const struct meta_request *request = ns->request;
    int r;

    rename->same_dir = request->ino == request->ino2;
    r = inode_get_dir(ns, request->ino, &rename->from_dir);
    if (r == 0 && !rename->same_dir) {
        r = inode_get_dir(ns, request->ino2, &rename->to_dir);
    }
    if (r == 0) {
        r = may_access(ns, &rename->from_dir, MAY_EXEC);
    }
    if (r == 0) {
        r = may_access(ns, target_dir(rename), MAY_EXEC);
    }
    if (r == 0) {
        r = name_check(request->name);
    }
    return r < 0 ? r : name_check(request->name2);
}

static int load_names(struct ns *ns, struct rename *rename)
{
    const struct meta_request *request = ns->request;
    int r;

    rename->exchange = (request->flags & META_EXCHANGE) != 0;
    if (rename->exchange && (request->flags & (META_NOREPLACE | META_WHITEOUT)) != 0) {
        return -EINVAL;
    }
    r = dentry_find(ns, rename->from_dir.ino, request->name, &rename->from);
    if (r < 0) {
        return r;
    }
    r = inode_get(ns, rename->from.ino, &rename->moved);
    if (r < 0) {
        return r;
    }
    rename->replaces = dentry_find(ns, target_dir(rename)->ino, request->name2, &rename->to) == 0;
    if (rename->replaces && (request->flags & META_NOREPLACE) != 0) {
        return -EEXIST;
    }
    if (!rename->replaces) {
        return rename->exchange ? -ENOENT : 0;
    }
    return inode_get(ns, rename->to.ino, &rename->victim);
}

/* Is `dir` below `top`, or `top` itself? */
static int is_below(struct ns *ns, uint64_t dir, uint64_t top)
{
    for (unsigned depth = 0; depth < META_DEPTH_MAX; depth++) {
        struct inode inode = {0};
        int r;

        if (dir == top) {
            return 1;
        }
        if (dir == META_ROOT_INO) {
            return 0;
        }
        r = inode_get(ns, dir, &inode);
        if (r < 0) {
            return 0;
        }
        dir = inode.r.parent;
    }
    return -ELOOP;
}

static int check_cycles(struct ns *ns, struct rename *rename)
{
    int r;

    if (rename->same_dir) {
        return 0;
    }
    if (S_ISDIR(rename->moved.r.mode)) {
        r = is_below(ns, rename->to_dir.ino, rename->moved.ino);
        if (r != 0) {
            return r < 0 ? r : -EINVAL;
        }
    }
    if (rename->replaces && S_ISDIR(rename->victim.r.mode)) {
        r = is_below(ns, rename->from_dir.ino, rename->victim.ino);
        if (r != 0) {
            return r < 0 ? r : rename->exchange ? -EINVAL : -ENOTEMPTY;
        }
    }
    return 0;
}

/* A directory that moves to another parent changes its "..": that takes write permission on it. */
static int may_reparent(struct ns *ns, const struct rename *rename, const struct inode *inode)
{
    if (rename->same_dir || !S_ISDIR(inode->r.mode)) {
        return 0;
    }
    return may_access(ns, inode, MAY_WRITE);
}

static int check_rights(struct ns *ns, struct rename *rename)
{
    const struct meta_request *request = ns->request;
    struct inode *to_dir = target_dir(rename);
    int r;

    r = may_change_dir(ns, &rename->from_dir);
    if (r == 0) {
        r = may_remove(request, &rename->from_dir, &rename->moved);
    }
    if (r == 0) {
        r = may_change_dir(ns, to_dir);
    }
    if (r == 0 && rename->replaces) {
        r = may_remove(request, to_dir, &rename->victim);
    }
    if (r == 0) {
        r = may_reparent(ns, rename, &rename->moved);
    }
    if (r == 0 && rename->exchange) {
        r = may_reparent(ns, rename, &rename->victim);
    }
    return r;
}

static int check_types(struct ns *ns, const struct rename *rename)
{
    bool dir = S_ISDIR(rename->moved.r.mode);

    if (!rename->replaces || rename->exchange) {
        return 0;
    }
    if (dir && !S_ISDIR(rename->victim.r.mode)) {
        return -ENOTDIR;
    }
    if (!dir && S_ISDIR(rename->victim.r.mode)) {
        return -EISDIR;
    }
    return dir && !dir_is_empty(ns, rename->victim.ino) ? -ENOTEMPTY : 0;
}

static void do_exchange(struct ns *ns, struct rename *rename)
{
    const struct meta_request *request = ns->request;
    struct inode *to_dir = target_dir(rename);
    int moved_dir = S_ISDIR(rename->moved.r.mode);
    int victim_dir = S_ISDIR(rename->victim.r.mode);

    dentry_retarget(ns, rename->from_dir.ino, request->name, &rename->from, rename->victim.ino,
                    rename->victim.r.mode);
    dentry_retarget(ns, to_dir->ino, request->name2, &rename->to, rename->moved.ino,
                    rename->moved.r.mode);
    if (!rename->same_dir) {
        rename->from_dir.r.nlink += (uint32_t)(victim_dir - moved_dir);
        to_dir->r.nlink += (uint32_t)(moved_dir - victim_dir);
    }
    if (moved_dir) {
        rename->moved.r.parent = to_dir->ino;
    }
    if (victim_dir) {
        rename->victim.r.parent = rename->from_dir.ino;
    }
    inode_touch(ns, &rename->victim);
    inode_put(ns, &rename->victim);
}

static void do_move(struct ns *ns, struct rename *rename)
{
    const struct meta_request *request = ns->request;
    struct inode *to_dir = target_dir(rename);
    bool dir = S_ISDIR(rename->moved.r.mode);

    dentry_remove(ns, rename->from_dir.ino, &rename->from);
    if (rename->replaces) {
        dentry_retarget(ns, to_dir->ino, request->name2, &rename->to, rename->moved.ino,
                        rename->moved.r.mode);
        to_dir->r.nlink -= S_ISDIR(rename->victim.r.mode) ? 1 : 0;
    } else {
        dentry_add(ns, to_dir->ino, request->name2, rename->moved.ino, rename->moved.r.mode);
    }
    if ((request->flags & META_WHITEOUT) != 0) {
        whiteout_add(ns, &rename->from_dir, request->name);
    }
    if (dir) {
        rename->from_dir.r.nlink--;
        to_dir->r.nlink++;
        rename->moved.r.parent = to_dir->ino;
    }
}

int ns_rename(struct ns *ns)
{
    struct rename rename = {0};
    int r;

    r = load_dirs(ns, &rename);
    if (r == 0) {
        r = load_names(ns, &rename);
    }
    if (r < 0) {
        return r;
    }
    if (rename.replaces && rename.moved.ino == rename.victim.ino) {
        reply_attr(ns, &rename.moved); /* two names of one file: nothing happens (POSIX) */
        ns->reply.flags |= META_UNCHANGED;
        return 0;
    }
    r = check_cycles(ns, &rename);
    if (r == 0) {
        r = check_rights(ns, &rename);
    }
    if (r == 0) {
        r = check_types(ns, &rename);
    }
    if (r == 0 && !rename.replaces) {
        r = dentry_room(ns, target_dir(&rename)->ino, ns->request->name2);
    }
    if (r < 0) {
        return r;
    }
    if (rename.exchange) {
        do_exchange(ns, &rename);
    } else {
        do_move(ns, &rename);
    }
    inode_touch_data(ns, &rename.from_dir);
    inode_put(ns, &rename.from_dir);
    if (!rename.same_dir) {
        inode_touch_data(ns, &rename.to_dir);
        inode_put(ns, &rename.to_dir);
    }
    inode_touch(ns, &rename.moved);
    inode_put(ns, &rename.moved);
    if (rename.replaces) {
        ns->reply.value = rename.victim.ino;
        if (!rename.exchange) {
            inode_drop_link(ns, &rename.victim);
        }
    }
    reply_attr(ns, &rename.moved);
    return 0;
}
