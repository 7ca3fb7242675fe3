/* The kernel's IOCTL requests: those that it does not answer itself. */
#include "fs/fuse_internal.h"

#include "fs/shutdown.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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

void fuse_ioctl(fuse_req_t req, fuse_ino_t nodeid, unsigned command, void *arg,
                struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
                size_t out_size)
{
    (void)fi;
    (void)flags;
    (void)in;
    (void)in_size;
    (void)out_size;
    if (command == IOC_SHUTDOWN) {
        run_shutdown(req, nodeid, arg);
        return;
    }
    fuse_reply_err(req, ENOTTY);
}
