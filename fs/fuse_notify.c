/*
 * What the kernel is told unasked: that its names and attributes are stale, pages of small files,
 * and that it has to drop pages.
 *
 * To drop or to put a page, the kernel takes its lock, and whoever has that may wait for an answer
 * of the loop. So pages are dropped by a thread of its own.
 */
#include "fs/fuse_internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "fs/lock.h"

#include <inttypes.h>

/* From the kernel's uapi/linux/fuse.h, newer than the library's copy. */
#define KERNEL_NOTIFY_INVAL_INODE 2
#define KERNEL_NOTIFY_STORE       4
#define KERNEL_NOTIFY_INC_EPOCH   8

struct kernel_notify_inval_inode {
    uint64_t nodeid;
    int64_t offset; /* of pages; below 0: attributes only */
    int64_t length;
};

struct kernel_notify_store {
    uint64_t nodeid;
    uint64_t offset;
    uint32_t size;
    uint32_t padding;
};

/* All are looked up again at their next use. */
void fuse_caches_lost(struct mount *mount)
{
    struct fuse_bridge *bridge = mount->data;
    struct kernel_out_header notify = {.len = sizeof(notify), .error = KERNEL_NOTIFY_INC_EPOCH};

    if (bridge != NULL && !bridge->over &&
        write(bridge->fd, &notify, sizeof(notify)) != (ssize_t)sizeof(notify)) {
        LOG_DEBUG(bridge->env, "fuse", "the kernel does not know epochs; timeouts run out instead");
    }
}

/* False: the kernel does not know the inode any more. */
static bool invalidate(int fd, fuse_ino_t nodeid, int64_t offset)
{
    struct {
        struct kernel_out_header header;
        struct kernel_notify_inval_inode inval;
    } notify = {.header = {.len = sizeof(notify), .error = KERNEL_NOTIFY_INVAL_INODE},
                .inval = {.nodeid = nodeid, .offset = offset}};

    return write(fd, &notify, sizeof(notify)) == (ssize_t)sizeof(notify);
}

void fuse_forget_attr(struct fuse_bridge *bridge, uint64_t ino)
{
    if (!invalidate(bridge->fd, fuse_to_nodeid(bridge, ino), -1)) {
        LOG_DEBUG(bridge->env, "fuse", "the kernel has forgotten the inode ino=%" PRIu64, ino);
    }
}

bool fuse_push_pages(struct fuse_bridge *bridge, fuse_ino_t nodeid, struct slice contents)
{
    struct kernel_notify_store store = {.nodeid = nodeid, .size = (uint32_t)contents.size};
    struct kernel_out_header header = {
        .len = (uint32_t)(sizeof(header) + sizeof(store) + contents.size),
        .error = KERNEL_NOTIFY_STORE};
    struct iovec parts[] = {
        {&header, sizeof(header)},
        {&store, sizeof(store)},
        {(void *)(uintptr_t)contents.data, contents.size},
    };

    return writev(bridge->fd, parts, ARRAY_SIZE(parts)) == (ssize_t)header.len;
}

/* ---- pages that are dropped ---- */

/* By way of a byte at its end, in a page that has to be dropped then. An answer to GETATTR is not
 * enough: the kernel does not take it when a drop comes in between, and reads to the old end. */
static void tell_size(int fd, fuse_ino_t nodeid, uint64_t size)
{
    struct kernel_notify_store store = {.nodeid = nodeid, .offset = size - 1, .size = 1};
    struct kernel_out_header header = {.len = (uint32_t)(sizeof(header) + sizeof(store) + 1),
                                       .error = KERNEL_NOTIFY_STORE};
    uint8_t byte = 0;
    struct iovec parts[] = {{&header, sizeof(header)}, {&store, sizeof(store)}, {&byte, 1}};
    ssize_t written = writev(fd, parts, ARRAY_SIZE(parts));

    (void)written; /* not known there any more: nothing to tell */
}

/* It may still run when the bridge is gone. */
struct page_drop {
    struct env_work work;
    struct fuse_bridge *bridge; /* for the loop only */
    struct fs_call *call;       /* waits for it; or NULL */
    void (*then)(struct fs_call *call);
    int fd;
    fuse_ino_t nodeid;
    uint64_t size; /* the kernel learns that the file is at least so large */
};

static void drop_run(struct env_work *work)
{
    const struct page_drop *drop = container_of(work, struct page_drop, work);

    if (drop->size != 0) {
        tell_size(drop->fd, drop->nodeid, drop->size);
    }
    (void)invalidate(drop->fd, drop->nodeid, 0); /* no log from here: this is not the loop */
}

static void drop_done(struct env_work *work)
{
    struct page_drop *drop = container_of(work, struct page_drop, work);

    drop->bridge->drops--;
    if (drop->call != NULL) {
        drop->then(drop->call);
    }
    mem_free(drop);
}

void fuse_drop_pages_then(struct fuse_bridge *bridge, uint64_t ino, struct fs_call *call,
                          void (*then)(struct fs_call *call))
{
    struct page_drop *drop = mem_zalloc(sizeof(*drop));

    drop->work = (struct env_work){.run = drop_run, .done = drop_done};
    drop->bridge = bridge;
    drop->call = call;
    drop->then = then;
    drop->fd = bridge->drop_fd;
    drop->nodeid = fuse_to_nodeid(bridge, ino);
    drop->size = call != NULL && call->op == FS_LOCK ? call->attr.size : 0;
    bridge->drops++;
    env_uv_work_aside(bridge->uv, &drop->work);
}

void fuse_drop_pages(struct mount *mount, uint64_t ino, struct fs_call *call)
{
    fuse_drop_pages_then(mount->data, ino, call, lock_pages_dropped);
}
