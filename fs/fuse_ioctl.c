/* The kernel's IOCTL requests: inode flags, and shutting down. */
#include "fs/fuse_internal.h"

#include "fs/shutdown.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

/* "Goes down": of XFS, taken over by ext4, f2fs and others. */
#define IOC_SHUTDOWN _IOR('X', 125, uint32_t)

/*
 * By its number the ioctl gives something to the caller, so the kernel does not hand us what the
 * caller gives: it is read from the caller, who waits meanwhile.
 */
static int read_word(uint32_t pid, uint64_t address, uint32_t *out_word)
{
    char path[48];
    ssize_t size;
    int fd;

    snprintf(path, sizeof(path), "/proc/%" PRIu32 "/mem", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -EPERM;
    }
    size = pread(fd, out_word, sizeof(*out_word), (off_t)address);
    close(fd);
    return size == sizeof(*out_word) ? 0 : -EFAULT;
}

static void run_shutdown(fuse_req_t req, fuse_ino_t nodeid, const void *arg)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_SHUTDOWN, nodeid);
    int r = -EPERM;

    if (bc->call.who.uid == 0) { /* before its memory is looked at */
        r = read_word(bc->pid, (uint64_t)(uintptr_t)arg, &bc->call.flags);
    }
    if (r < 0) {
        fuse_reply_err(req, -r);
        fuse_call_free(bc);
        return;
    }
    fuse_call_run(bc);
}

/* ---- inode flags: what the kernel makes of FS_IOC_* and of file_setattr(2) ---- */

static const struct {
    uint32_t xflag, flag;
} xflags[] = {
    {FS_XFLAG_SYNC, META_ATTR_SYNC},       {FS_XFLAG_IMMUTABLE, META_ATTR_IMMUTABLE},
    {FS_XFLAG_APPEND, META_ATTR_APPEND},   {FS_XFLAG_NODUMP, META_ATTR_NODUMP},
    {FS_XFLAG_NOATIME, META_ATTR_NOATIME},
};

_Static_assert(META_ATTR_SYNC == FS_SYNC_FL && META_ATTR_IMMUTABLE == FS_IMMUTABLE_FL &&
                   META_ATTR_APPEND == FS_APPEND_FL && META_ATTR_NODUMP == FS_NODUMP_FL &&
                   META_ATTR_NOATIME == FS_NOATIME_FL && META_ATTR_DIRSYNC == FS_DIRSYNC_FL,
               "as the kernel has them");

void fuse_reply_flags(struct bridge_call *bc)
{
    uint32_t flags = bc->call.attr.flags & META_ATTR_SETTABLE;
    struct fsxattr out = {0};

    if (bc->ioctl == FS_IOC_GETFLAGS) {
        fuse_reply_ioctl(bc->req, 0, &flags, sizeof(flags));
        return;
    }
    if (bc->ioctl == FS_IOC_FSGETXATTR) {
        for (size_t i = 0; i < ARRAY_SIZE(xflags); i++) {
            out.fsx_xflags |= flags & xflags[i].flag ? xflags[i].xflag : 0;
        }
        fuse_reply_ioctl(bc->req, 0, &out, sizeof(out));
        return;
    }
    fuse_forget_attr(bc->bridge, bc->call.ino); /* its ctime */
    fuse_reply_ioctl(bc->req, 0, NULL, 0);
}

static void on_mappings_written(struct fs_call *call)
{
    fuse_call_run(container_of(call, struct bridge_call, call));
}

/* Sets those of `mask` to what they are in `flags`. */
static void run_set_flags(fuse_req_t req, fuse_ino_t nodeid, unsigned command, uint32_t mask,
                          uint32_t flags)
{
    struct bridge_call *bc;

    if ((flags & ~mask) != 0) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    bc = fuse_call_begin(req, FS_SETATTR, nodeid);
    bc->ioctl = command;
    bc->call.valid = META_SET_FLAGS;
    bc->call.set = (struct meta_attr){.mode = mask, .flags = flags};
    if (flags & META_ATTR_FROZEN) { /* what was written through mappings is from before */
        fuse_drop_pages_then(bc->bridge, bc->call.ino, &bc->call, on_mappings_written);
    } else {
        fuse_call_run(bc);
    }
}

static void run_set_xattr(fuse_req_t req, fuse_ino_t nodeid, const struct fsxattr *wanted)
{
    uint32_t unknown = wanted->fsx_xflags, mask = 0, flags = 0;

    for (size_t i = 0; i < ARRAY_SIZE(xflags); i++) {
        mask |= xflags[i].flag;
        flags |= wanted->fsx_xflags & xflags[i].xflag ? xflags[i].flag : 0;
        unknown &= ~xflags[i].xflag;
    }
    if (unknown != 0 || wanted->fsx_extsize != 0 || wanted->fsx_projid != 0 ||
        wanted->fsx_cowextsize != 0) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    run_set_flags(req, nodeid, FS_IOC_FSSETXATTR, mask, flags);
}

static void run_get_flags(fuse_req_t req, fuse_ino_t nodeid, unsigned command)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_GETATTR, nodeid);

    bc->ioctl = command;
    fuse_call_run(bc);
}

/* True: it was one of these. Their sizes are the kernel's to check; nothing else sends them. */
static bool run_flags(fuse_req_t req, fuse_ino_t nodeid, unsigned command, const void *in,
                      size_t in_size)
{
    struct fsxattr wanted;
    uint32_t flags;

    if (command == FS_IOC_GETFLAGS || command == FS_IOC_FSGETXATTR) {
        run_get_flags(req, nodeid, command);
    } else if (command == FS_IOC_SETFLAGS && in_size == sizeof(flags)) {
        memcpy(&flags, in, sizeof(flags));
        run_set_flags(req, nodeid, command, META_ATTR_SETTABLE, flags);
    } else if (command == FS_IOC_FSSETXATTR && in_size == sizeof(wanted)) {
        memcpy(&wanted, in, sizeof(wanted));
        run_set_xattr(req, nodeid, &wanted);
    } else {
        return false;
    }
    return true;
}

void fuse_ioctl(fuse_req_t req, fuse_ino_t nodeid, unsigned command, void *arg,
                struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
                size_t out_size)
{
    (void)fi;
    (void)flags;
    (void)out_size;
    if (command == IOC_SHUTDOWN) {
        run_shutdown(req, nodeid, arg);
        return;
    }
    if (!run_flags(req, nodeid, command, in, in_size)) {
        fuse_reply_err(req, ENOTTY);
    }
}
