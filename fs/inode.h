#pragma once
/*
 * inode: what a mount knows of one inode: attributes, contents known, dirty data. Lives while the
 * kernel knows it (lookups), a handle is open, or data is on its way.
 */
#include "base/list.h"
#include "fs/dirty.h"
#include "fs/extent_map.h"
#include "fs/names.h"
#include "meta/meta_proto.h"

struct mount;

enum inode_contents {
    CONTENTS_UNKNOWN, /* ask the metadata service */
    CONTENTS_INLINE,  /* inline_data is the whole of it (zeros up to the size) */
    CONTENTS_EXTENTS,
};

#define PAGES_UNKNOWN UINT64_MAX

struct inode {
    uint64_t ino;
    uint64_t lookups;        /* references of the kernel */
    uint64_t found_until_ns; /* a program may have found its name, and be about to open it */
    unsigned opens;
    unsigned buffered_opens; /* of those: through the kernel's pages */
    uint64_t epoch; /* mount.alone_epoch when the server's last word came; 0 = not alone then */
    struct meta_attr
        attr; /* the server's last word; size and mtime are ours while data is pending */
    bool attr_known;
    enum inode_contents contents;
    struct buf inline_data;
    struct extent_map extents; /* CONTENTS_EXTENTS */
    uint64_t version;          /* of the committed contents as we see them: reads that began with an
                                  older one begin again */
    uint64_t page_change;      /* attr.change whose pages the kernel may hold; 0 = no pages,
                                  PAGES_UNKNOWN = of nobody knows which */
    uint64_t moves, moves_dropped; /* appends that went elsewhere than the kernel has them in its
                                      pages; those whose pages are dropped, as an fsync knows */
    bool pages_dropping;           /* an open handle made the kernel drop old ones: maybe not yet */
    struct dirty dirty;
    struct dirty flushing;   /* in a flush round, read-only */
    uint64_t committed_size; /* the size that the server knows */
    uint64_t dirty_since_ns;
    struct list_node flush_node;  /* in mount.flush_queue, or in flush_hurried */
    bool hurried;                 /* in the latter, if in any */
    struct list flush_waiters;    /* fs_calls that wait for all data to be committed */
    struct list truncate_waiters; /* SETATTR calls that wait for their turn */
    struct list write_waiters;    /* WRITE calls that wait for others of this file */
    struct list fence_waiters;    /* calls that wait until `fenced` is over */
    uint64_t guard_stamp; /* of fs/fence.h: writes up to this one were made under locks that are
                             given up; 0 = none is left */
    uint64_t told_change; /* attr.change, as the service has told it while nobody else could change
                             the file; 0 = never */
    bool fenced;          /* the session in which these were made is lost */
    bool in_round;
    bool locks_lost;                /* of programs that have it open: they get EIO */
    bool gone;                      /* the service has it no more: ESTALE from now on */
    bool flush_now;                 /* somebody waits: do not wait for age */
    bool truncating;                /* a SETATTR of the size is on its way: no flush */
    bool kill_priv;                 /* the next commit clears suid and sgid */
    struct list_node contents_node; /* in mount.contents: used last in front */
    uint64_t contents_bytes;        /* accounted there */
    struct names names;             /* of a directory */
    uint64_t names_cookie;  /* the batch behind this one would complete them; UINT64_MAX = none */
    uint64_t names_version; /* when they began to be read */
    unsigned local_ops; /* of fs/local.h, in flight: our attributes are newer than the server's */
    struct list_node ahead_node; /* in mount.ahead.inodes: kept without the kernel knowing it */
    bool fetched;                /* the contents were fetched ahead, and not opened since */
    bool ahead_busy;             /* of a directory: names are being fetched */
    bool ahead_begun;            /* names have been fetched from the beginning */
    bool ahead_off;              /* it is too large or changes too much for that */
    uint8_t ahead_failures;
    uint32_t ahead_lookups; /* while its names were not complete */
    uint64_t accessed;      /* of fs/atime.h: the service may not know of it yet; 0 = it does */
    struct list_node accessed_node; /* in mount.atime.inodes */
    int write_error;                /* of a flush in the background, told once at fsync or close */
};

struct inode *inode_find(struct mount *mount, uint64_t ino); /* NULL when unknown */
struct inode *inode_make(struct mount *mount, uint64_t ino);
/* It is open once more, or once less; flags: O_*. */
void inode_open(struct mount *mount, struct inode *inode, uint32_t flags);
void inode_close(struct mount *mount, struct inode *inode, uint32_t flags);
/* The kernel gets to know it. */
void inode_ref(struct mount *mount, struct inode *inode);
/* A name of it was found, or is replaced now: it can be opened for a while, name or not. */
void inode_found(struct mount *mount, struct inode *inode);
bool inode_may_be_opened(const struct mount *mount, const struct inode *inode);
/* It does not stay any more for having been fetched ahead. */
void inode_unkeep(struct mount *mount, struct inode *inode);
/* Frees the inode when nothing needs it any more. */
void inode_release(struct mount *mount, struct inode *inode);
/* Takes in the server's attributes, unless older than what we have, and puts into *attr what is
 * true here: pending size and mtime. `ours`: they answer a change that this mount made. */
void inode_update(struct mount *mount, struct inode *inode, struct meta_attr *attr, bool ours);
/* The size as this mount sees it: committed, and what is written behind that. */
uint64_t inode_size(const struct inode *inode);
/* What we know of the contents is stale. */
void inode_forget_contents(struct inode *inode);
/* The contents known of this inode have grown or were used: others may have to go. */
void inode_note_contents(struct mount *mount, struct inode *inode);
bool inode_pending(const struct inode *inode);
/* As the server's META_SET_KILL_PRIV leaves it. */
static inline uint32_t mode_without_priv(uint32_t mode)
{
    return mode & ~(uint32_t)(S_ISUID | (mode & S_IXGRP ? S_ISGID : 0));
}

/* The contents of a reply with META_WANT_DATA or of EXTENTS that asked from `offset`. */
int must_check inode_take_contents(struct mount *mount, struct inode *inode,
                                   const struct meta_reply *reply, uint64_t offset);
