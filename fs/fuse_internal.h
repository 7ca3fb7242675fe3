#pragma once
/* fuse_internal: shared by fs/fuse_*.c only, the files that know libfuse. */
#define FUSE_USE_VERSION 314
#include "fs/fuse_bridge.h"

#include "fs/call.h"
#include "fs/limits.h"

#include <fuse_lowlevel.h>

#define KERNEL_WRITE_KILL_SUIDGID (1U << 2)
#define KERNEL_FATTR_KILL_SUIDGID (1U << 11)
#define KERNEL_OPEN_KILL_SUIDGID  (1U << 0)
#define KERNEL_ACL_KILL_SGID      (1U << 0) /* of SETXATTR */

struct group_entry {
    uint32_t pid;
    uint64_t read_at_ns;
    uint32_t count;
    uint8_t groups[META_GROUPS_MAX * 4];
};

struct fuse_bridge {
    struct env_uv *uv;
    struct env *env;
    struct mount *mount;
    struct fuse_bridge_config config;
    struct fuse_session *session;
    struct env_uv_watch watch;
    int fd;
    int drop_fd;     /* the same, for the thread that drops pages */
    unsigned drops;  /* on their way there */
    uint8_t *buffer; /* the request being read; a WRITE that waits takes it along */
    bool buffer_taken;
    uint32_t raw_flags; /* of the request in hand: kill suid */
    bool raw_tmpfile;   /* it was a TMPFILE, seen as CREATE */
    bool raw_statx;     /* it was a STATX, seen as GETATTR */
    uint64_t init_unique;
    uint32_t init_offered, init_offered2;
    bool setxattr_ext;         /* SETXATTR requests are longer than the library knows */
    struct group_entry groups; /* of the last non-root caller */
    char *mountpoint;
    uint64_t last_handle; /* of an open file: they count from 1; fi->fh is 2 n + HANDLE_DIRECT */
    bool over;
    struct env_timer ended_timer;
};

#define HANDLE_DIRECT 1U /* opened with O_DIRECT; F_SETFL may change what RELEASE says */

struct bridge_call {
    struct fs_call call;
    struct fuse_bridge *bridge;
    fuse_req_t req;
    struct fuse_file_info fi;
    struct env_timer interrupt; /* a signal has come: cancel when it fires */
    uint64_t started_ns;
    uint32_t pid;
    uint8_t *buffer; /* taken from the bridge */
    struct dir_handle *dir;
    bool old_batch; /* the entries came with an earlier request */
    size_t size;
    bool statx;     /* the answer has another form */
    unsigned ioctl; /* it was one of those about inode flags */
    bool starting;  /* still inside the request's callback */
    bool finished;
    uint8_t groups[META_GROUPS_MAX * 4];
    size_t name_size;
    char names[2 * META_NAME_MAX + META_SYMLINK_MAX + 3];
};

/* An open directory: the entries of the last batch from the server. */
struct dir_handle {
    struct buf records;
    size_t at;          /* in records */
    uint64_t at_cookie; /* the entry before `at` */
    bool end;           /* nothing follows the records */
    bool filled;
    uint32_t open_flags;
};

extern const struct fuse_lowlevel_ops fuse_request_ops;

static inline struct fuse_bridge *fuse_bridge_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

struct kernel_out_header {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};

/* fuse_notify.c */
/* mount.caches_lost */
void fuse_caches_lost(struct mount *mount);
/* The kernel asks for the attributes again. Pages stay: this waits for nothing. */
void fuse_forget_attr(struct fuse_bridge *bridge, uint64_t ino);
/* mount.drop_pages */
void fuse_drop_pages(struct mount *mount, uint64_t ino, struct fs_call *call);
/* The same; then(call) follows, unless there is no call. */
void fuse_drop_pages_then(struct fuse_bridge *bridge, uint64_t ino, struct fs_call *call,
                          void (*then)(struct fs_call *call));
/* Puts the whole contents of a file into the kernel's cache. The kernel waits for locks of its
 * pages: coherence_push_pages says when none can be held. */
bool fuse_push_pages(struct fuse_bridge *bridge, fuse_ino_t nodeid, struct slice contents);

/* fuse_reply.c */
uint64_t fuse_to_ino(const struct fuse_bridge *bridge, fuse_ino_t nodeid);
fuse_ino_t fuse_to_nodeid(const struct fuse_bridge *bridge, uint64_t ino);
struct fuse_entry_param fuse_to_entry(const struct fuse_bridge *bridge,
                                      const struct meta_attr *attr);
uint64_t fuse_from_timespec(struct timespec when);
/* The kernel drops `count` references of an inode. */
void fuse_forget(struct fuse_bridge *bridge, uint64_t ino, uint64_t count);
/* Answers the kernel with what the call has come to. */
void fuse_reply_call(struct bridge_call *bc);
void fuse_call_free(struct bridge_call *bc);

/* fuse_request.c */
struct bridge_call *fuse_call_begin(fuse_req_t req, enum fs_op op, fuse_ino_t nodeid);
/* Starts the call, and lets it be interrupted while it waits. */
void fuse_call_run(struct bridge_call *bc);
/* Copies a name of the request, which does not outlive the callback. */
struct slice fuse_call_keep(struct bridge_call *bc, const char *text);

/* fuse_dir.c */
void fuse_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void fuse_releasedir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void fuse_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                      struct fuse_file_info *fi);
/* A batch of entries has come. */
void fuse_readdir_more(struct bridge_call *bc);

/* fuse_xattr.c */
void fuse_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value,
                   size_t size, int flags);
void fuse_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size);
void fuse_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size);
void fuse_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name);

/* fuse_lock.c */
void fuse_getlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock);
void fuse_setlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock,
                int sleep);
void fuse_flock(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, int op);
/* Answers a LOCK_TEST. */
void fuse_reply_test(struct bridge_call *bc);

/* fuse_ioctl.c */
/* Answers an ioctl about inode flags. */
void fuse_reply_flags(struct bridge_call *bc);
void fuse_ioctl(fuse_req_t req, fuse_ino_t nodeid, unsigned command, void *arg,
                struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
                size_t out_size);
