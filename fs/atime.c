#include "fs/atime.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "base/trace_mark.h"
#include "fs/call.h"
#include "fs/limits.h"
#include "fs/mount.h"

#include <fcntl.h>

#define DAY_NS UINT64_C(86400000000000)

/* An ACCESSED on its way. */
struct atime_op {
    struct mount *mount;
    struct meta_call call;
    struct buf data;
};

/* ---- what is an access ---- */

static bool reads(const struct fs_call *call)
{
    switch ((int)call->op) {
    case FS_READ:
    case FS_READDIR:
    case FS_READLINK:
        return (call->open_flags & O_NOATIME) == 0;
    case FS_OPEN: /* 0: by the kernel, for an ioctl */
        return (call->keep_cache || call->pages.size != 0) && call->open_flags != 0 &&
               (call->open_flags & O_ACCMODE) != O_WRONLY && (call->open_flags & O_NOATIME) == 0;
    default:
        return false;
    }
}

static bool is_due(const struct mount *mount, const struct inode *inode, uint64_t now)
{
    const struct meta_attr *attr = &inode->attr;
    uint64_t changed = time_later(attr->mtime, attr->ctime);

    if (mount->config.read_only || mount->closing || attr->flags & META_ATTR_NOATIME ||
        attr->nlink == 0 || (int64_t)now <= (int64_t)attr->atime ||
        (S_ISDIR(attr->mode) && mount->config.no_dir_atime)) {
        return false;
    }
    return mount->config.atime == ATIME_STRICT || time_later(attr->atime, changed) == changed ||
           now - attr->atime >= DAY_NS;
}

static void wait_to_send(struct mount *mount)
{
    if (mount->atime.count >= META_ACCESSED_MAX || mount->atime.closed != NULL) {
        atime_send(mount);
    } else if (mount->atime.count != 0 && !mount->closing &&
               !env_timer_running(&mount->atime.timer)) {
        env_timer_start(mount->env, &mount->atime.timer, env_now(mount->env) + FS_ATIME_NS);
    }
}

void atime_note(struct fs_call *call)
{
    struct mount *mount = call->mount;
    bool wanted = mount->config.atime != ATIME_NEVER && reads(call);
    struct inode *inode = wanted ? inode_find(mount, call->ino) : NULL;
    uint64_t now = inode != NULL ? env_wall(mount->env) : 0;

    if (inode == NULL || !inode->attr_known || !is_due(mount, inode, now)) {
        return;
    }
    inode->accessed = inode->attr.atime = now;
    call->attr_stale = call->op == FS_OPEN; /* of what it reads itself, the kernel knows */
    if (!list_linked(&inode->accessed_node)) {
        list_push_back(&mount->atime.inodes, &inode->accessed_node);
        mount->atime.count++;
    }
    wait_to_send(mount);
}

/* ---- telling ---- */

static void told(struct atime_op *op, size_t at)
{
    struct inode *inode = inode_find(op->mount, bytes_get_le64(op->data.data + at));

    if (inode != NULL && !list_linked(&inode->accessed_node) &&
        inode->accessed == bytes_get_le64(op->data.data + at + 8)) {
        inode->accessed = 0;
        inode_release(op->mount, inode);
    }
}

static void close_if_told(struct mount *mount, bool patient)
{
    void (*done)(struct mount *) = mount->atime.closed;

    if (done != NULL && (!patient || (mount->atime.count == 0 && mount->atime.in_flight == 0))) {
        env_timer_stop(mount->env, &mount->atime.timer);
        mount->atime.closed = NULL;
        done(mount);
    }
}

/* If it has failed, the session is lost, or the service does not know the operation: these times
 * are lost. */
static void on_told(struct meta_call *call)
{
    struct atime_op *op = container_of(call, struct atime_op, call);
    struct mount *mount = op->mount;

    TRACE_MARK("access times are told");
    mount->atime.in_flight--;
    for (size_t at = 0; at < op->data.size; at += META_ACCESSED_BYTES) {
        told(op, at);
    }
    buf_deinit(&op->data);
    mem_free(op);
    wait_to_send(mount);
    close_if_told(mount, true);
}

static void append(struct buf *data, uint64_t ino, uint64_t atime)
{
    uint8_t *at = buf_reserve(data, META_ACCESSED_BYTES);

    bytes_put_le64(at, ino);
    bytes_put_le64(at + 8, atime);
    data->size += META_ACCESSED_BYTES;
}

/* Each inode is there once: what may not be sent yet is noted at little cost. */
void atime_send(struct mount *mount)
{
    struct atime_op *op;
    struct list_node *node;

    if (mount->atime.count == 0 || mount->atime.in_flight >= FS_ATIME_FLIGHTS_MAX) {
        return;
    }
    op = mem_zalloc(sizeof(*op));
    op->mount = mount;
    while (op->data.size < META_ACCESSED_MAX * META_ACCESSED_BYTES &&
           (node = list_pop_front(&mount->atime.inodes)) != NULL) {
        const struct inode *inode = container_of(node, struct inode, accessed_node);

        append(&op->data, inode->ino, inode->accessed);
        mount->atime.count--;
    }
    mount->atime.in_flight++;
    op->call = (struct meta_call){.done = on_told, .patient = true};
    op->call.request = (struct meta_request){.op = META_ACCESSED, .data = buf_slice(&op->data)};
    meta_call_start(&mount->meta, &op->call);
}

void atime_before(struct fs_call *call)
{
    struct mount *mount = call->mount;
    struct inode *inode = inode_find(mount, call->ino);

    if (inode == NULL || inode->accessed == 0) {
        return;
    }
    if (list_linked(&inode->accessed_node)) {
        atime_send(mount);
    }
    if (call->valid & (META_SET_ATIME | META_SET_ATIME_NOW)) {
        mount->atime.count -= list_linked(&inode->accessed_node) ? 1 : 0;
        list_remove(&inode->accessed_node);
        inode->accessed = 0; /* it is ours to say no more */
    }
}

void atime_close(struct mount *mount, void (*done)(struct mount *mount))
{
    mount->atime.closed = done;
    atime_send(mount);
    env_timer_start(mount->env, &mount->atime.timer, env_now(mount->env) + FS_ATIME_CLOSE_NS);
    close_if_told(mount, true);
}

static void on_timer(struct env_timer *timer)
{
    struct mount *mount = container_of(timer, struct mount, atime.timer);

    atime_send(mount);
    close_if_told(mount, false);
}

void atime_init(struct mount *mount)
{
    list_init(&mount->atime.inodes);
    mount->atime.timer.fire = on_timer;
}
