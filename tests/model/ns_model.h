#pragma once
/*
 * ns_model: the namespace as one would write it down naively: nodes in an array, entries by the
 * number of their name, each byte of a file with where it comes from. test_ns.c holds the real one
 * against it.
 */
#include "base/assert.h"
#include "base/mem.h"

#include <errno.h>
#include <stdint.h>
#include <sys/stat.h>

#define NODES_MAX  4000
#define FILE_MAX   3000 /* bytes of a file in the model */
#define NAMES      10

#define JOURNALLED (UINT64_C(1) << 63)

/* Where a byte comes from; seq 0: a hole, or inline (then off is the byte); JOURNALLED with the seq
 * of the commit: off is the byte. */
struct cell {
    uint64_t seq;
    uint32_t off;
    bool reserved; /* allocated, and nothing is stored there */
};

struct xattr_model {
    char value[16];
    bool set;
};

struct node {
    uint64_t ino;
    uint32_t mode, nlink, uid, gid;
    uint64_t size;
    uint64_t atime, mtime, ctime;
    bool is_inline, gone;
    bool linkable; /* made without a name, and may get one */
    struct node *parent;
    struct node *entries[NAMES]; /* by name number */
    struct cell *cells;
    struct xattr_model xattrs[2];
};

struct model {
    struct node nodes[NODES_MAX];
    unsigned count;
    uint64_t next_ino;
    uint64_t now; /* the time that the operation gives to inodes */
};

struct user {
    uint32_t uid, gid;
};

static const struct user users[] = {{0, 0}, {1000, 1000}, {1001, 1000}, {1002, 2000}};

static inline bool allowed(const struct user *user, const struct node *node, unsigned mask)
{
    unsigned bits = node->mode & 7;

    if (user->uid == 0) {
        return true;
    }
    if (user->uid == node->uid) {
        bits = node->mode >> 6 & 7;
    } else if (user->gid == node->gid) {
        bits = node->mode >> 3 & 7;
    }
    return (mask & ~bits) == 0;
}

static inline bool owns(const struct user *user, const struct node *node)
{
    return user->uid == 0 || user->uid == node->uid;
}

static inline int may_change(const struct user *user, const struct node *dir)
{
    return dir->nlink == 0 ? -ENOENT : allowed(user, dir, 3) ? 0 : -EACCES;
}

static inline int may_drop(const struct user *user, const struct node *dir,
                           const struct node *victim)
{
    bool sticky = (dir->mode & S_ISVTX) != 0;

    return sticky && !owns(user, victim) && !owns(user, dir) ? -EPERM : 0;
}

/* The contents (of a directory: the names) have changed. */
static inline void model_touch(const struct model *model, struct node *node)
{
    node->mtime = node->ctime = model->now;
}

static inline struct node *model_make(struct model *model, struct node *dir, unsigned name,
                                      const struct user *user, uint32_t mode)
{
    struct node *node = &model->nodes[model->count++];

    ASSERT(model->count < NODES_MAX);
    *node = (struct node){.ino = model->next_ino,
                          .mode = mode,
                          .nlink = S_ISDIR(mode) ? 2 : 1,
                          .uid = user->uid,
                          .gid = user->gid,
                          .is_inline = true,
                          .parent = dir};
    if ((dir->mode & S_ISGID) != 0) {
        node->gid = dir->gid;
        node->mode |= S_ISDIR(mode) ? S_ISGID : 0;
    }
    node->cells = mem_zalloc(FILE_MAX * sizeof(*node->cells));
    node->atime = model->now;
    model_touch(model, node);
    if (name == NAMES) { /* without a name */
        node->nlink = 0;
        return node;
    }
    model_touch(model, dir);
    dir->entries[name] = node;
    dir->nlink += S_ISDIR(mode) ? 1 : 0;
    return node;
}

/* What a rename leaves behind that was asked to. */
static inline void model_whiteout(struct model *model, struct node *dir, unsigned name,
                                  const struct user *user)
{
    struct node *node = model_make(model, dir, NAMES, user, S_IFCHR);

    model->next_ino++;
    node->gid = user->gid;
    node->nlink = 1;
    dir->entries[name] = node;
}

static inline uint64_t model_reserved(const struct node *node)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < FILE_MAX; i++) {
        bytes += node->cells[i].reserved;
    }
    return bytes;
}

static inline bool model_empty(const struct node *dir)
{
    for (int i = 0; i < NAMES; i++) {
        if (dir->entries[i] != NULL) {
            return false;
        }
    }
    return true;
}

static inline void model_drop(const struct model *model, struct node *victim, bool at_once)
{
    victim->ctime = model->now;
    victim->nlink = S_ISDIR(victim->mode) ? 0 : victim->nlink - 1;
    victim->gone = victim->nlink == 0 && at_once;
}

static inline bool model_below(const struct node *dir, const struct node *top)
{
    while (dir != top && dir->parent != dir) {
        dir = dir->parent;
    }
    return dir == top;
}
