/*
 * diskfault: LD_PRELOAD shim: the disk below one server fails on command.
 *
 * DISKFAULT names a directory with the directories of the servers (meta1, chunk2, ...). The first
 * file that a process opens below one of them tells whose disk this is; $DISKFAULT/fault/NAME is
 * then mapped and says, at any time, what fails: five u32, see struct control. Files elsewhere
 * (logs, sockets) are never touched.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { NOTHING, WRITE_EIO, FULL, READ_ONLY, SHORT_WRITE, SYNC_EIO, READ_EIO };

struct control {
    _Atomic uint32_t kind;
    _Atomic uint32_t percent; /* of the operations that could fail */
    _Atomic uint32_t seed;
    _Atomic uint32_t count; /* of the dice thrown */
    _Atomic uint32_t hits;
};

static _Atomic(struct control *) control;
static char root[PATH_MAX];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void load(void)
{
    const char *dir = getenv("DISKFAULT");

    snprintf(root, sizeof(root), "%s/", dir != NULL ? dir : "/nowhere");
}

static bool is_server(const char *name)
{
    return strncmp(name, "meta", 4) == 0 || strncmp(name, "chunk", 5) == 0;
}

static struct control *map_control(const char *name)
{
    char path[PATH_MAX + 64];
    void *memory;
    int fd;

    snprintf(path, sizeof(path), "%sfault/%.*s", root, (int)strcspn(name, "/"), name);
    fd = REAL(open64)(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    memory = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Is the path on the disk? */
static bool concerns(const char *path)
{
    size_t size = strlen(root);

    if (strncmp(path, root, size) != 0 || !is_server(path + size)) {
        return false;
    }
    if (control == NULL) {
        control = map_control(path + size);
    }
    return control != NULL;
}

static bool concerns_fd(int fd)
{
    char link[64], path[PATH_MAX];
    ssize_t size;

    if (control == NULL || control->kind == NOTHING) {
        return false;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof(path) - 1);
    if (size < 0) {
        return false;
    }
    path[size] = '\0';
    return concerns(path);
}

static uint32_t dice(void)
{
    uint64_t x = ((uint64_t)control->seed << 32) + atomic_fetch_add(&control->count, 1);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(x >> 33);
}

static bool strikes(enum kind kind)
{
    if (control->kind != kind || dice() % 100 >= control->percent) {
        return false;
    }
    control->hits++;
    return true;
}

/* Does a change of the disk fail? */
static bool refuses(void)
{
    errno = strikes(WRITE_EIO) ? EIO : strikes(FULL) ? ENOSPC : strikes(READ_ONLY) ? EROFS : 0;
    return errno != 0;
}

ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t offset)
{
    if (concerns_fd(fd)) {
        if (refuses()) {
            return -1;
        }
        if (iov[0].iov_len > 1 && strikes(SHORT_WRITE)) {
            struct iovec part = {iov[0].iov_base, 1 + dice() % (iov[0].iov_len - 1)};

            return REAL(pwritev64)(fd, &part, 1, offset);
        }
    }
    return REAL(pwritev64)(fd, iov, count, offset);
}

ssize_t preadv64v2(int fd, const struct iovec *iov, int count, off64_t offset, int flags)
{
    if (concerns_fd(fd) && strikes(READ_EIO)) {
        errno = EIO;
        return -1;
    }
    return REAL(preadv64v2)(fd, iov, count, offset, flags);
}

/* It fails once, and the pages count as clean: the next one has nothing to say. */
static bool sync_fails(int fd)
{
    if (!concerns_fd(fd) || !strikes(SYNC_EIO)) {
        return false;
    }
    control->kind = NOTHING;
    errno = EIO;
    return true;
}

int fdatasync(int fd)
{
    return sync_fails(fd) ? -1 : REAL(fdatasync)(fd);
}

int fsync(int fd)
{
    return sync_fails(fd) ? -1 : REAL(fsync)(fd);
}

int ftruncate64(int fd, off64_t size)
{
    return concerns_fd(fd) && refuses() ? -1 : REAL(ftruncate64)(fd, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    return concerns_fd(fd) && refuses() ? -1 : REAL(fallocate64)(fd, mode, offset, size);
}

int open64(const char *path, int flags, ...)
{
    bool changes = (flags & O_CREAT) != 0 || (flags & O_ACCMODE) != O_RDONLY;
    va_list args;
    int mode;

    va_start(args, flags);
    mode = flags & O_CREAT ? va_arg(args, int) : 0;
    va_end(args);
    if (concerns(path) && changes &&
        (strikes(READ_ONLY) || ((flags & O_CREAT) != 0 && strikes(FULL)))) {
        errno = control->kind == FULL ? ENOSPC : EROFS;
        return -1;
    }
    return REAL(open64)(path, flags, mode);
}

int rename(const char *from, const char *to)
{
    return concerns(to) && refuses() ? -1 : REAL(rename)(from, to);
}

int unlink(const char *path)
{
    if (concerns(path) && strikes(READ_ONLY)) {
        errno = EROFS;
        return -1;
    }
    return REAL(unlink)(path);
}

int statvfs64(const char *path, struct statvfs64 *out)
{
    int r = REAL(statvfs64)(path, out);

    if (r == 0 && concerns(path) && control->kind == FULL) {
        out->f_bavail = out->f_bfree = 0;
    }
    return r;
}
