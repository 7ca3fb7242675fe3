/* Answers to the kernel: attributes, entries, data, in the shapes that libfuse takes. */
#include "fs/fuse_internal.h"

#include "base/assert.h"
#include "base/mem.h"
#include "fs/coherence.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>

uint64_t fuse_to_ino(const struct fuse_bridge *bridge, fuse_ino_t nodeid)
{
    return nodeid == FUSE_ROOT_ID ? bridge->mount->root_ino : nodeid;
}

fuse_ino_t fuse_to_nodeid(const struct fuse_bridge *bridge, uint64_t ino)
{
    return ino == bridge->mount->root_ino ? FUSE_ROOT_ID : ino;
}

/* Times are nanoseconds since 1970 with a sign: from 1677 to 2262. What is beyond stays at the end.
 */
#define TIME_MAX_S (INT64_MAX / (int64_t)NS_PER_S - 1)

static struct timespec to_timespec(uint64_t ns)
{
    int64_t signed_ns = (int64_t)ns;
    int64_t part = signed_ns % (int64_t)NS_PER_S;

    part += part < 0 ? (int64_t)NS_PER_S : 0;
    return (struct timespec){(signed_ns - part) / (int64_t)NS_PER_S, part};
}

uint64_t fuse_from_timespec(struct timespec when)
{
    int64_t seconds = when.tv_sec;

    seconds = seconds > TIME_MAX_S ? TIME_MAX_S : seconds < -TIME_MAX_S ? -TIME_MAX_S : seconds;
    return (uint64_t)(seconds * (int64_t)NS_PER_S + when.tv_nsec);
}

static struct stat to_stat(const struct meta_attr *attr)
{
    return (struct stat){
        .st_ino = attr->ino,
        .st_mode = attr->mode,
        .st_nlink = attr->nlink,
        .st_uid = attr->uid,
        .st_gid = attr->gid,
        .st_rdev = attr->rdev,
        .st_size = (off_t)attr->size,
        .st_blksize = META_BLOCK_SIZE,
        .st_blocks = (blkcnt_t)attr->blocks,
        .st_atim = to_timespec(attr->atime),
        .st_mtim = to_timespec(attr->mtime),
        .st_ctim = to_timespec(attr->ctime),
    };
}

static double timeout_of(const struct fuse_bridge *bridge)
{
    return (double)coherence_timeout(bridge->mount) / (double)NS_PER_S;
}

struct fuse_entry_param fuse_to_entry(const struct fuse_bridge *bridge,
                                      const struct meta_attr *attr)
{
    double timeout = timeout_of(bridge);

    return (struct fuse_entry_param){
        .ino = fuse_to_nodeid(bridge, attr->ino),
        .generation = 1, /* inode numbers are never used again */
        .attr = to_stat(attr),
        .attr_timeout = timeout,
        .entry_timeout = timeout,
    };
}

/* ---- replies ---- */

void fuse_forget(struct fuse_bridge *bridge, uint64_t ino, uint64_t count)
{
    struct inode *inode = inode_find(bridge->mount, ino);

    if (inode != NULL) {
        inode->lookups -= min_u64(inode->lookups, count);
        inode_release(bridge->mount, inode);
    }
}

static void reply_entry(struct bridge_call *bc)
{
    struct fuse_entry_param entry = fuse_to_entry(bc->bridge, &bc->call.attr);

    if (fuse_reply_entry(bc->req, &entry) == -ENOENT) {
        fuse_forget(bc->bridge, bc->call.attr.ino, 1);
    }
}

static void set_open_flags(struct bridge_call *bc)
{
    bc->fi.keep_cache = bc->call.keep_cache;
    bc->fi.noflush = (bc->fi.flags & O_ACCMODE) == O_RDONLY; /* nothing to bring home at close */
    bc->fi.fh =
        ++bc->bridge->last_handle << 1 | ((bc->fi.flags & O_DIRECT) != 0 ? HANDLE_DIRECT : 0);
}

static void release_open(struct bridge_call *bc)
{
    struct inode *inode = inode_find(bc->bridge->mount, bc->call.attr.ino);

    if (inode != NULL) {
        inode_close(bc->bridge->mount, inode, bc->call.open_flags);
        inode_release(bc->bridge->mount, inode);
    }
}

static void reply_create(struct bridge_call *bc)
{
    struct fuse_entry_param entry = fuse_to_entry(bc->bridge, &bc->call.attr);

    set_open_flags(bc);
    if (fuse_reply_create(bc->req, &entry, &bc->fi) == -ENOENT) {
        release_open(bc);
        fuse_forget(bc->bridge, bc->call.attr.ino, 1);
    }
}

static void reply_open(struct bridge_call *bc)
{
    if (bc->call.pages.size != 0 &&
        fuse_push_pages(bc->bridge, fuse_to_nodeid(bc->bridge, bc->call.ino), bc->call.pages)) {
        bc->call.keep_cache = true;
    }
    set_open_flags(bc);
    if (fuse_reply_open(bc->req, &bc->fi) == -ENOENT) {
        release_open(bc);
    }
}

static void reply_xattr(struct bridge_call *bc)
{
    size_t size = bc->call.out.size;

    if (bc->size == 0) {
        fuse_reply_xattr(bc->req, size);
    } else if (size > bc->size) {
        fuse_reply_err(bc->req, ERANGE);
    } else {
        fuse_reply_buf(bc->req, (const char *)bc->call.out.data, size);
    }
}

/* What was appended elsewhere is in wrong pages, which the kernel holds until it has the answer. */
static void reply_write(struct bridge_call *bc)
{
    fuse_reply_write(bc->req, bc->call.data.size);
    if (bc->call.moved) {
        fuse_drop_pages(bc->bridge->mount, bc->call.ino, NULL);
    }
}

static void reply_statfs(struct bridge_call *bc)
{
    struct meta_statfs record;
    struct statvfs out = {
        .f_bsize = META_BLOCK_SIZE, .f_frsize = META_BLOCK_SIZE, .f_namemax = META_NAME_MAX};

    if (meta_statfs_decode(&record, bc->call.out) < 0) {
        fuse_reply_err(bc->req, EIO);
        return;
    }
    out.f_blocks = record.total_bytes / META_BLOCK_SIZE;
    out.f_bfree = out.f_bavail = record.free_bytes / META_BLOCK_SIZE;
    out.f_ffree = out.f_favail = record.free_bytes / 512;
    out.f_files = record.inodes + out.f_ffree;
    fuse_reply_statfs(bc->req, &out);
}

static void reply_readlink(struct bridge_call *bc)
{
    char target[META_SYMLINK_MAX + 1];
    size_t size = min_u64(bc->call.out.size, META_SYMLINK_MAX);

    memcpy(target, bc->call.out.data, size);
    target[size] = '\0';
    fuse_reply_readlink(bc->req, target);
}

/* The kernel's struct fuse_statx_out, which the library does not have. */
struct kernel_sx_time {
    int64_t tv_sec;
    uint32_t tv_nsec;
    int32_t reserved;
};

struct kernel_statx_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec;
    uint32_t flags;
    uint64_t spare[2];
    uint32_t mask;
    uint32_t blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode;
    uint16_t spare0;
    uint64_t ino, size, blocks, attributes_mask;
    struct kernel_sx_time atime, btime, ctime, mtime;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t spare2[14];
};

_Static_assert(sizeof(struct kernel_statx_out) == 288, "as the kernel has it");

static struct kernel_sx_time to_sx_time(uint64_t ns)
{
    struct timespec when = to_timespec(ns);

    return (struct kernel_sx_time){.tv_sec = when.tv_sec, .tv_nsec = (uint32_t)when.tv_nsec};
}

static void reply_statx(struct bridge_call *bc)
{
    const struct meta_attr *attr = &bc->call.attr;
    uint64_t timeout = coherence_timeout(bc->bridge->mount);
    struct kernel_statx_out out = {
        .attr_valid = timeout / NS_PER_S,
        .attr_valid_nsec = (uint32_t)(timeout % NS_PER_S),
        .mask = STATX_BASIC_STATS | STATX_BTIME,
        .blksize = META_BLOCK_SIZE,
        .nlink = attr->nlink,
        .uid = attr->uid,
        .gid = attr->gid,
        .mode = (uint16_t)attr->mode,
        .ino = attr->ino,
        .size = attr->size,
        .blocks = attr->blocks,
        .atime = to_sx_time(attr->atime),
        .btime = to_sx_time(attr->btime),
        .ctime = to_sx_time(attr->ctime),
        .mtime = to_sx_time(attr->mtime),
        .rdev_major = major(attr->rdev),
        .rdev_minor = minor(attr->rdev),
    };

    fuse_reply_buf(bc->req, (const char *)&out, sizeof(out));
}

static void reply_attr(struct bridge_call *bc)
{
    struct stat info = to_stat(&bc->call.attr);

    if (bc->ioctl != 0) {
        fuse_reply_flags(bc);
        return;
    }
    if (bc->statx) {
        reply_statx(bc);
        return;
    }
    fuse_reply_attr(bc->req, &info, timeout_of(bc->bridge));
}

static void reply_success(struct bridge_call *bc)
{
    struct fs_call *call = &bc->call;

    if (call->attr_stale) { /* the kernel forgets times and size only by itself */
        fuse_forget_attr(bc->bridge, call->op == FS_COPY_RANGE ? call->ino2 : call->ino);
    }
    switch (call->op) {
    case FS_LOOKUP:
    case FS_MKDIR:
    case FS_MKNOD:
    case FS_SYMLINK:
    case FS_LINK:
        reply_entry(bc);
        return;
    case FS_GETATTR:
    case FS_SETATTR:
        reply_attr(bc);
        return;
    case FS_READLINK:
        reply_readlink(bc);
        return;
    case FS_CREATE:
    case FS_TMPFILE:
        reply_create(bc);
        return;
    case FS_OPEN:
        reply_open(bc);
        return;
    case FS_READ:
        fuse_reply_buf(bc->req, (const char *)call->out.data, call->out.size);
        return;
    case FS_WRITE:
        reply_write(bc);
        return;
    case FS_SEEK:
        fuse_reply_lseek(bc->req, (off_t)call->offset);
        return;
    case FS_COPY_RANGE:
        fuse_reply_write(bc->req, call->size);
        return;
    case FS_STATFS:
        reply_statfs(bc);
        return;
    case FS_GETXATTR:
    case FS_LISTXATTR:
        reply_xattr(bc);
        return;
    case FS_UNLINK:
    case FS_RMDIR:
    case FS_RENAME:
    case FS_FLUSH:
    case FS_RELEASE:
    case FS_FSYNC:
    case FS_SETXATTR:
    case FS_REMOVEXATTR:
    case FS_FALLOCATE:
    case FS_LOCK:
        fuse_reply_err(bc->req, 0);
        return;
    case FS_SHUTDOWN:
        fuse_reply_ioctl(bc->req, 0, NULL, 0);
        return;
    case FS_LOCK_TEST:
        fuse_reply_test(bc);
        return;
    case FS_READDIR:
        break; /* readdir_more */
    }
    UNREACHABLE();
}

/* A name that is not there may be remembered as such. */
static bool reply_negative(struct bridge_call *bc)
{
    struct fuse_entry_param none = {.entry_timeout = timeout_of(bc->bridge)};

    if (bc->call.op != FS_LOOKUP || bc->call.error != ENOENT || none.entry_timeout <= 0) {
        return false;
    }
    fuse_reply_entry(bc->req, &none);
    return true;
}

void fuse_call_free(struct bridge_call *bc)
{
    env_timer_stop(bc->bridge->env, &bc->interrupt);
    mem_free(bc->buffer);
    mem_free(bc);
}

/* What inode flags have refused of a mapping is not to be read by others in its pages. */
static void drop_refused(struct bridge_call *bc)
{
    if (bc->call.op == FS_WRITE && bc->call.error == EPERM && bc->fi.writepage) {
        fuse_drop_pages(bc->bridge->mount, bc->call.ino, NULL);
    }
}

void fuse_reply_call(struct bridge_call *bc)
{
    if (bc->call.error == 0) {
        reply_success(bc);
    } else if (!reply_negative(bc)) {
        fuse_reply_err(bc->req, bc->call.error);
        drop_refused(bc);
    }
}
