/*
 * libfuse 3.14's low level API on our loop: the device is polled and read by us, requests are given
 * to fuse_session_process_buf, and our writev sees every reply. Two things the library cannot say
 * are patched in there: flags of the INIT reply (PARALLEL_DIROPS, HANDLE_KILLPRIV_V2), each only if
 * the kernel offered it. Flags of requests that the library hides (kill suid) are read from the raw
 * bytes before it sees them. Two requests are newer than the library, and begin as older ones do:
 * TMPFILE goes to it as a CREATE and STATX as a GETATTR, with a mark.
 *
 * Interrupts are taken from the loop, never inside the library's callback, which holds the lock
 * that a reply needs.
 */
#include "fs/fuse_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>

#define REQUEST_MAX       (MiB(1) + KiB(4))
#define REQUESTS_PER_TURN 32 /* then others of the loop get their turn */
#define READ_AHEAD_KB     4096

/* From the kernel's uapi/linux/fuse.h, newer than the library's copy. */
#define KERNEL_INIT               26
#define KERNEL_WRITE              16
#define KERNEL_SETATTR            4
#define KERNEL_OPEN               14
#define KERNEL_SETXATTR           21
#define KERNEL_GETATTR            3
#define KERNEL_CREATE             35
#define KERNEL_TMPFILE            51
#define KERNEL_STATX              52
#define KERNEL_PARALLEL_DIROPS    (1U << 18)
#define KERNEL_HANDLE_KILLPRIV_V2 (1U << 28)
#define KERNEL_SETXATTR_EXT       (1U << 29)
#define KERNEL_INIT_EXT           (1U << 30)
#define KERNEL_ALLOW_IDMAP        (1U << 8) /* of the second word */

struct kernel_in_header {
    uint32_t len;
    uint32_t opcode;
    uint64_t unique;
    uint64_t nodeid;
    uint32_t uid, gid, pid;
    uint16_t total_extlen, padding;
};

/* ---- the session ---- */

/* What libfuse cannot ask for, added to the INIT reply where the kernel offers it. */
static void patch_init(struct fuse_bridge *bridge, uint8_t *bytes, size_t size)
{
    const size_t flags_at = sizeof(struct kernel_out_header) + 12;
    const size_t flags2_at = flags_at + 20;
    uint32_t flags, flags2;

    if (size < flags2_at + sizeof(flags2)) {
        return;
    }
    memcpy(&flags, bytes + flags_at, sizeof(flags));
    memcpy(&flags2, bytes + flags2_at, sizeof(flags2));
    flags |= bridge->init_offered & (KERNEL_PARALLEL_DIROPS | KERNEL_HANDLE_KILLPRIV_V2);
    if (bridge->config.idmap && bridge->init_offered2 & KERNEL_ALLOW_IDMAP) {
        bridge->setxattr_ext = true;
        flags |= KERNEL_INIT_EXT | KERNEL_SETXATTR_EXT;
        flags2 |= KERNEL_ALLOW_IDMAP;
    } else if (bridge->config.idmap) {
        LOG_WARN(bridge->env, "fuse", "the kernel knows no idmapped FUSE mounts: it needs 6.12");
    }
    memcpy(bytes + flags_at, &flags, sizeof(flags));
    memcpy(bytes + flags2_at, &flags2, sizeof(flags2));
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *userdata)
{
    struct fuse_bridge *bridge = userdata;
    const struct kernel_out_header *header = iov[0].iov_base;
    cleanup(buf_deinit) struct buf copy = {0};

    if (bridge->init_unique == 0 || header->unique != bridge->init_unique) {
        return writev(fd, iov, count);
    }
    bridge->init_unique = 0;
    for (int i = 0; i < count; i++) {
        buf_append(&copy, iov[i].iov_base, iov[i].iov_len);
    }
    if (header->error == 0) {
        patch_init(bridge, copy.data, copy.size);
    }
    return write(fd, copy.data, copy.size);
}

static ssize_t device_read(int fd, void *data, size_t size, void *userdata)
{
    (void)userdata;
    return read(fd, data, size);
}

static const struct fuse_custom_io device_io = {.writev = device_writev, .read = device_read};

/* Notes the flags of a SETXATTR and makes it as long as the library knows it. Returns its size. */
static size_t shorten_setxattr(struct fuse_bridge *bridge, uint8_t *bytes, size_t size)
{
    const size_t flags_at = sizeof(struct kernel_in_header) + 8; /* size 4, flags 4 */
    const size_t more = 8;                                       /* setxattr_flags 4, padding 4 */
    uint32_t shorter = (uint32_t)(size - more);

    if (size < flags_at + more) {
        return size;
    }
    memcpy(&bridge->raw_flags, bytes + flags_at, sizeof(bridge->raw_flags));
    memmove(bytes + flags_at, bytes + flags_at + more, size - flags_at - more);
    memcpy(bytes, &shorter, sizeof(shorter));
    return shorter;
}

/* Notes what the library will not tell us. Returns the size of what it is given. */
static size_t look_at_raw(struct fuse_bridge *bridge, uint8_t *bytes, size_t size)
{
    struct kernel_in_header header;
    const size_t arg = sizeof(header);

    memcpy(&header, bytes, sizeof(header));
    bridge->raw_flags = 0;
    bridge->raw_tmpfile = header.opcode == KERNEL_TMPFILE;
    bridge->raw_statx = header.opcode == KERNEL_STATX;
    if (bridge->raw_tmpfile || bridge->raw_statx) {
        header.opcode = bridge->raw_tmpfile ? KERNEL_CREATE : KERNEL_GETATTR;
        memcpy(bytes, &header, sizeof(header));
    }
    if (header.opcode == KERNEL_INIT && size >= arg + 16) {
        bridge->init_unique = header.unique;
        memcpy(&bridge->init_offered, bytes + arg + 12, 4);
        if (bridge->init_offered & KERNEL_INIT_EXT && size >= arg + 20) {
            memcpy(&bridge->init_offered2, bytes + arg + 16, 4);
        }
    } else if (header.opcode == KERNEL_WRITE && size >= arg + 24) {
        memcpy(&bridge->raw_flags, bytes + arg + 20, 4); /* fh 8, offset 8, size 4, write_flags */
    } else if (header.opcode == KERNEL_OPEN && size >= arg + 8) {
        memcpy(&bridge->raw_flags, bytes + arg + 4, 4); /* flags 4, open_flags */
    } else if (header.opcode == KERNEL_SETATTR && size >= arg + 4) {
        memcpy(&bridge->raw_flags, bytes + arg, 4); /* valid */
    } else if (header.opcode == KERNEL_SETXATTR && bridge->setxattr_ext) {
        size = shorten_setxattr(bridge, bytes, size);
    }
    return size;
}

static void end(struct fuse_bridge *bridge)
{
    if (!bridge->over) {
        bridge->over = true;
        env_uv_unwatch(&bridge->watch);
        bridge->config.ended(bridge->config.data);
    }
}

static void on_readable(struct env_uv_watch *watch)
{
    struct fuse_bridge *bridge = container_of(watch, struct fuse_bridge, watch);

    for (unsigned i = 0; i < REQUESTS_PER_TURN && !bridge->over; i++) {
        ssize_t size = read(bridge->fd, bridge->buffer, REQUEST_MAX);
        struct fuse_buf request;

        if (size < 0 && (errno == EINTR || errno == ENOENT)) {
            continue; /* a request that was aborted before we read it */
        }
        if (size < 0 && errno == EAGAIN) {
            return;
        }
        if (size < (ssize_t)sizeof(struct kernel_in_header)) {
            end(bridge); /* ENODEV: unmounted */
            return;
        }
        request = (struct fuse_buf){.mem = bridge->buffer};
        request.size = look_at_raw(bridge, bridge->buffer, (size_t)size);
        fuse_session_process_buf(bridge->session, &request);
        if (bridge->buffer_taken) {
            bridge->buffer = mem_alloc(REQUEST_MAX);
            bridge->buffer_taken = false;
        }
    }
}

/* 128 KiB of readahead is too little for a network; only root may raise it. The mount itself must
 * not be touched from here, so its device number comes from mountinfo. */
static void raise_readahead(struct fuse_bridge *bridge)
{
    FILE *info = fopen("/proc/self/mountinfo", "re");
    char line[8192], device[32], target[4096], path[96];

    while (info != NULL && fgets(line, sizeof(line), info) != NULL) {
        if (sscanf(line, "%*d %*d %31s %*s %4095s", device, target) == 2 &&
            strcmp(target, bridge->mountpoint) == 0) {
            FILE *out;

            snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb", device);
            out = fopen(path, "we");
            if (out != NULL) {
                fprintf(out, "%d\n", READ_AHEAD_KB);
                fclose(out);
            }
        }
    }
    if (info != NULL) {
        fclose(info);
    }
}

static int mount_session(struct fuse_bridge *bridge)
{
    char *options = mem_strdup(bridge->config.options);
    char program[] = "keelfs", dash_o[] = "-o";
    char *argv[] = {program, dash_o, options, NULL};
    struct fuse_args args = {.argc = 3, .argv = argv};

    bridge->session = fuse_session_new(&args, &fuse_request_ops, sizeof(fuse_request_ops), bridge);
    mem_free(options);
    if (bridge->session == NULL) {
        return -EINVAL;
    }
    if (fuse_session_mount(bridge->session, bridge->config.mountpoint) != 0) {
        fuse_session_destroy(bridge->session);
        return -EIO;
    }
    bridge->fd = fuse_session_fd(bridge->session);
    bridge->drop_fd = fcntl(bridge->fd, F_DUPFD_CLOEXEC, 0);
    if (bridge->drop_fd < 0 ||
        fuse_session_custom_io(bridge->session, &device_io, bridge->fd) != 0) {
        return -EIO;
    }
    fcntl(bridge->fd, F_SETFL, fcntl(bridge->fd, F_GETFL) | O_NONBLOCK);
    return 0;
}

int fuse_bridge_start(struct fuse_bridge **out_bridge, struct env_uv *uv, struct mount *mount,
                      const struct fuse_bridge_config *config)
{
    struct fuse_bridge *bridge = mem_zalloc(sizeof(*bridge));
    int r;

    bridge->uv = uv;
    bridge->env = env_uv_env(uv);
    bridge->mount = mount;
    bridge->config = *config;
    bridge->mountpoint = mem_strdup(config->mountpoint);
    bridge->buffer = mem_alloc(REQUEST_MAX);
    bridge->watch.readable = on_readable;
    r = mount_session(bridge);
    if (r == 0) {
        r = env_uv_watch(uv, &bridge->watch, bridge->fd);
    }
    if (r < 0) {
        mem_free(bridge->buffer);
        mem_free(bridge->mountpoint);
        mem_free(bridge);
        return r;
    }
    mount->data = bridge;
    mount->caches_lost = fuse_caches_lost;
    mount->drop_pages = fuse_drop_pages;
    raise_readahead(bridge);
    *out_bridge = bridge;
    return 0;
}

void fuse_bridge_unmount(struct fuse_bridge *bridge)
{
    char program[] = "umount", lazy[] = "-l";
    char *argv[] = {program, lazy, bridge->mountpoint, NULL};
    char *no_environment[] = {NULL};
    pid_t pid;

    if (posix_spawn(&pid, "/bin/umount", NULL, NULL, argv, no_environment) != 0) {
        LOG_WARN(bridge->env, "fuse", "cannot run umount; unmount %s by hand", bridge->mountpoint);
    }
}

void fuse_bridge_stop(struct fuse_bridge *bridge)
{
    bridge->over = true;
    env_uv_unwatch(&bridge->watch);
    bridge->mount->data = NULL;
    bridge->mount->drop_pages = NULL;
    fuse_session_destroy(bridge->session);
    close(bridge->fd);
    if (bridge->drops == 0) {
        close(bridge->drop_fd); /* else it may be in use until the process ends */
    }
    mem_free(bridge->buffer);
    mem_free(bridge->mountpoint);
    mem_free(bridge);
}
