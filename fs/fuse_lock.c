/* The kernel's lock requests as fs_calls. */
#include "fs/fuse_internal.h"

#include "fs/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

static uint8_t type_of(short type)
{
    return type == F_WRLCK ? META_LOCK_WRITE : type == F_RDLCK ? META_LOCK_READ : META_LOCK_NONE;
}

static struct meta_lock lock_of(const struct fuse_file_info *fi, const struct flock *lock)
{
    return (struct meta_lock){
        .owner = fi->lock_owner,
        .from = (uint64_t)lock->l_start,
        .to = lock->l_len == 0 ? LOCK_TO_THE_END : (uint64_t)(lock->l_start + lock->l_len - 1),
        .pid = (uint32_t)lock->l_pid,
        .type = type_of(lock->l_type),
    };
}

void fuse_getlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_LOCK_TEST, nodeid);

    bc->call.lock = lock_of(fi, lock);
    fuse_call_run(bc);
}

void fuse_setlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock,
                int sleep)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_LOCK, nodeid);

    bc->call.lock = lock_of(fi, lock);
    bc->call.lock_wait = sleep != 0;
    bc->call.handle = fi->fh;
    fuse_call_run(bc);
}

void fuse_flock(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, int op)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_LOCK, nodeid);

    bc->call.lock = (struct meta_lock){
        .owner = fi->lock_owner,
        .to = LOCK_TO_THE_END,
        .pid = bc->pid,
        .flock = true,
        .type = op & LOCK_EX   ? META_LOCK_WRITE
                : op & LOCK_SH ? META_LOCK_READ
                               : META_LOCK_NONE,
    };
    bc->call.lock_wait = (op & LOCK_NB) == 0;
    fuse_call_run(bc);
}

void fuse_reply_test(struct bridge_call *bc)
{
    const struct meta_lock *found = &bc->call.lock;
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    if (found->type != META_LOCK_NONE) {
        lock.l_type = found->type == META_LOCK_WRITE ? F_WRLCK : F_RDLCK;
        lock.l_start = (off_t)found->from;
        lock.l_len = found->to == LOCK_TO_THE_END ? 0 : (off_t)(found->to - found->from + 1);
        lock.l_pid = (pid_t)found->pid;
    }
    fuse_reply_lock(bc->req, &lock);
}
