#pragma once
/*
 * fs_call: one file operation as the kernel asks it, without the kernel: the FUSE bridge makes them
 * of requests, the simulator makes them up. A call completes exactly once, by done(), never inside
 * fs_call_start's caller's frame unless it can be answered from memory (done may run at once).
 */
#include "base/op.h"
#include "fs/dirty.h"
#include "meta/meta_client.h"

enum fs_op {
    FS_LOOKUP,
    FS_GETATTR,
    FS_SETATTR,
    FS_READLINK,
    FS_CREATE, /* and open */
    FS_MKDIR,
    FS_MKNOD,
    FS_SYMLINK,
    FS_LINK,
    FS_UNLINK,
    FS_RMDIR,
    FS_RENAME,
    FS_OPEN,
    FS_READ,
    FS_WRITE,
    FS_FLUSH, /* close(2) of one descriptor */
    FS_RELEASE,
    FS_FSYNC,
    FS_READDIR, /* one batch of directory entries */
    FS_STATFS,
    FS_GETXATTR,
    FS_LISTXATTR,
    FS_SETXATTR,
    FS_REMOVEXATTR,
    FS_FALLOCATE,
    FS_SEEK,       /* for data or a hole */
    FS_COPY_RANGE, /* chunks of one file become part of another */
    FS_TMPFILE,    /* CREATE without a name */
    FS_LOCK,       /* takes, changes or gives up a lock */
    FS_LOCK_TEST,  /* would it be granted? */
    FS_SHUTDOWN,   /* the mount goes down, as flags say (fs/shutdown.h) */
};

struct fs_credentials {
    uint32_t uid;
    uint32_t gid;
    uint32_t umask;      /* not applied yet: a directory's default ACL may take its place */
    struct slice groups; /* u32 little endian; borrowed until done */
};

/* Where a call is that is about locks. */
enum lock_step {
    LOCK_STEP_NONE,
    LOCK_STEP_QUEUED,   /* until the mode has changed, or for a moment */
    LOCK_STEP_FLUSHING, /* what was written is being committed */
    LOCK_STEP_SYNCING,  /* not for a program: everything written until then */
    LOCK_STEP_SENT,     /* the service is asked */
    LOCK_STEP_IN_LINE,  /* it has a ticket */
    LOCK_STEP_PAGES,    /* granted: the kernel drops its pages */
};

struct mount;
struct inode;
struct lock_op;

struct fs_call {
    enum fs_op op;
    struct mount *mount;
    struct fs_credentials who;
    /* Arguments; slices are borrowed until done. */
    uint64_t ino;  /* the file, or the parent directory */
    uint64_t ino2; /* LINK: the file; RENAME: the new parent; COPY_RANGE: the target */
    struct slice name;
    struct slice name2; /* RENAME: the new name; SYMLINK: the target */
    uint32_t mode;
    uint64_t rdev;
    uint32_t open_flags;  /* OPEN, CREATE, RELEASE: O_* */
    uint32_t flags;       /* meta_flag bits: NOREPLACE, EXCHANGE, REPLACE, SKIP_ACCESS */
    uint32_t valid;       /* SETATTR: META_SET_* */
    struct meta_attr set; /* SETATTR: the values; META_SET_FLAGS: flags, mode = which of them */
    uint64_t offset;      /* READ, WRITE; READDIR: cookie; SEEK: also the result */
    uint64_t offset2;     /* COPY_RANGE: in the target */
    uint64_t size;        /* READ, FALLOCATE; COPY_RANGE: also the result */
    uint32_t whence;      /* SEEK: META_SEEK_* */
    bool kill_priv;       /* WRITE, OPEN with O_TRUNC: clear suid and sgid */
    bool attr_stale;      /* so it did, or may have; or the access time is another */
    bool append;          /* WRITE: at the end, wherever that is; offset: where the kernel has it */
    bool moved;           /* WRITE: and it is somewhere else */
    struct slice data;    /* WRITE, SETXATTR */
    struct meta_lock lock; /* LOCK, LOCK_TEST (also the result: type NONE = free); FLUSH, RELEASE:
                              its owner, and flock */
    bool lock_wait;        /* LOCK: until it is granted */
    uint64_t handle;       /* LOCK, RELEASE: the open file */
    void (*done)(struct fs_call *call);

    /* Results. */
    int error;             /* 0 or a positive errno */
    struct meta_attr attr; /* of the entry, or the inode */
    struct slice pages;    /* OPEN: the whole contents, for the kernel's cache; or empty */
    bool keep_cache;       /* OPEN, CREATE: pages from before are valid */
    struct slice out;      /* READ, READLINK, xattrs, READDIR records, STATFS: valid inside done */
    bool end;              /* READDIR: no more entries */
    bool stale_pages;      /* FSYNC, FLUSH: what was appended lies elsewhere than the kernel has it:
                              its pages are dropped, and fs_call_pages_dropped is told, before the
                              program has its answer */

    /* Private. */
    struct meta_call meta;
    struct list_node node; /* of a wait queue */
    struct op *active;     /* a running read, for cancel */
    uint64_t started_ns;   /* 0 = not yet */
    uint64_t stamp;        /* a sync: everything written up to this one */
    uint64_t moves;        /* stale_pages: of the inode, then */
    uint64_t behind;       /* waits for operations up to this number (fs/local.h); 0 = not yet */
    enum lock_step lock_step;
    struct lock_op *lock_op; /* SENT; IN_LINE: the question whether it is our turn, or NULL */
    uint64_t lock_ticket;    /* IN_LINE */
    int lock_error;          /* of the flush before it was given up */
    bool lock_gone;          /* FLUSH: the owner's locks are given up */
    bool waiting_meta, waiting_flush, waiting_space, cancelled;
    bool attr_told;                   /* READ, WRITE: by the service, and just now */
    bool written;                     /* WRITE: its bytes are taken */
    bool turn;                        /* WRITE: it has waited in line, and is the first */
    bool opening, removing, renaming; /* counted in the mount */
};

void fs_call_start(struct fs_call *call);
/* Ends the call with EINTR as soon as may be; harmless when it has ended. */
void fs_call_cancel(struct fs_call *call);

/* For the files that implement calls. */
void fs_call_finish(struct fs_call *call, int status); /* status: 0 or a negative code */
void fs_call_data_start(struct fs_call *call);         /* OPEN READ WRITE FLUSH FSYNC SETATTR */
/* Asks the service for the attributes of call->ino; then the call starts anew, attr_told. */
void fs_call_ask_attr(struct fs_call *call);
/* The same for FALLOCATE, SEEK, COPY_RANGE (fs/call_space.c): begins, or begins again. */
void fs_call_space_start(struct fs_call *call);
/* It is its turn. */
void fs_call_space_send(struct fs_call *call);
/* Must nothing of the file be dirty at its turn? */
bool fs_call_needs_clean(const struct fs_call *call);
/* META_OPEN_*: what the file is opened for; OPEN, CREATE. */
uint32_t fs_call_open_rights(const struct fs_call *call);
/* What flush_wait waited for is committed, or has failed. */
void fs_call_flushed(struct fs_call *call, int status);
/* The writes in line go on, the first that waited first. */
void fs_call_write_next(struct inode *inode);
/* See stale_pages. */
void fs_call_pages_dropped(struct fs_call *call);
/* The next SETATTR of the size in line may go, if the inode is in no flush round. */
void fs_call_truncate_next(struct inode *inode);
/* The inode is gone for everybody: forget what it has not committed. */
void fs_call_drop_dirty(struct mount *mount, struct inode *inode);
/* Sends the call as the one metadata operation that it is. */
void fs_call_meta_start(struct fs_call *call);
