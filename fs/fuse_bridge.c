/*
 * libfuse 3.14's low level API on our loop: the device is polled and read by us, requests are given
 * to fuse_session_process_buf, and our writev sees every reply. Two things the library cannot say
 * are patched in there: flags of the INIT reply (PARALLEL_DIROPS, HANDLE_KILLPRIV_V2), each only if
 * the kernel offered it. Flags of requests that the library hides (kill suid) are read from the raw
 * bytes before it sees them.
 *
 * Interrupts are taken from the loop, never inside the library's callback, which holds the lock
 * that a reply needs.
 */
#define FUSE_USE_VERSION 314
#include "fs/fuse_bridge.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "fs/call.h"
#include "fs/coherence.h"
#include "fs/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <spawn.h>
#include <sys/wait.h>

#define REQUEST_MAX       (MiB(1) + KiB(4))
#define REQUESTS_PER_TURN 32 /* then others of the loop get their turn */
#define READ_AHEAD_KB     4096

/* From the kernel's uapi/linux/fuse.h, newer than the library's copy. */
#define KERNEL_INIT               26
#define KERNEL_WRITE              16
#define KERNEL_SETATTR            4
#define KERNEL_PARALLEL_DIROPS    (1U << 18)
#define KERNEL_HANDLE_KILLPRIV_V2 (1U << 28)
#define KERNEL_WRITE_KILL_SUIDGID (1U << 2)
#define KERNEL_FATTR_KILL_SUIDGID (1U << 11)
#define KERNEL_NOTIFY_INC_EPOCH   8

struct kernel_in_header {
    uint32_t len;
    uint32_t opcode;
    uint64_t unique;
    uint64_t nodeid;
    uint32_t uid, gid, pid;
    uint16_t total_extlen, padding;
};

struct kernel_out_header {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};

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
    uint8_t *buffer; /* the request being read; a WRITE that waits takes it along */
    bool buffer_taken;
    uint32_t raw_flags; /* of the request in hand: kill suid */
    uint64_t init_unique;
    uint32_t init_offered;
    struct group_entry groups; /* of the last non-root caller */
    char *mountpoint;
    bool over;
    struct env_timer ended_timer;
};

struct bridge_call {
    struct fs_call call;
    struct fuse_bridge *bridge;
    fuse_req_t req;
    struct fuse_file_info fi;
    struct env_timer interrupt;
    uint8_t *buffer; /* taken from the bridge */
    struct dir_handle *dir;
    size_t size;
    bool starting; /* still inside the request's callback */
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
};

static struct fuse_bridge *bridge_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static uint64_t to_ino(const struct fuse_bridge *bridge, fuse_ino_t nodeid)
{
    return nodeid == FUSE_ROOT_ID ? bridge->mount->root_ino : nodeid;
}

static fuse_ino_t to_nodeid(const struct fuse_bridge *bridge, uint64_t ino)
{
    return ino == bridge->mount->root_ino ? FUSE_ROOT_ID : ino;
}

static struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
}

static uint64_t from_timespec(struct timespec when)
{
    return when.tv_sec < 0 ? 0 : (uint64_t)when.tv_sec * NS_PER_S + (uint64_t)when.tv_nsec;
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

static struct fuse_entry_param to_entry(const struct fuse_bridge *bridge,
                                        const struct meta_attr *attr)
{
    double timeout = timeout_of(bridge);

    return (struct fuse_entry_param){
        .ino = to_nodeid(bridge, attr->ino),
        .generation = 1, /* inode numbers are never used again */
        .attr = to_stat(attr),
        .attr_timeout = timeout,
        .entry_timeout = timeout,
    };
}

/* ---- replies ---- */

static void forget(struct fuse_bridge *bridge, uint64_t ino, uint64_t count)
{
    struct inode *inode = inode_get(bridge->mount, ino);

    if (inode != NULL) {
        inode->lookups -= min_u64(inode->lookups, count);
        inode_release(bridge->mount, inode);
    }
}

static void reply_entry(struct bridge_call *bc)
{
    struct fuse_entry_param entry = to_entry(bc->bridge, &bc->call.attr);

    if (fuse_reply_entry(bc->req, &entry) == -ENOENT) {
        forget(bc->bridge, bc->call.attr.ino, 1);
    }
}

static void set_open_flags(struct bridge_call *bc)
{
    bc->fi.keep_cache = bc->call.keep_cache;
    bc->fi.fh = bc->call.attr.ino;
}

static void release_open(struct bridge_call *bc)
{
    struct inode *inode = inode_get(bc->bridge->mount, bc->call.attr.ino);

    if (inode != NULL) {
        inode->opens--;
        bc->bridge->mount->open_count--;
        inode_release(bc->bridge->mount, inode);
    }
}

static void reply_create(struct bridge_call *bc)
{
    struct fuse_entry_param entry = to_entry(bc->bridge, &bc->call.attr);

    set_open_flags(bc);
    if (fuse_reply_create(bc->req, &entry, &bc->fi) == -ENOENT) {
        release_open(bc);
        forget(bc->bridge, bc->call.attr.ino, 1);
    }
}

static void reply_open(struct bridge_call *bc)
{
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

static void reply_attr(struct bridge_call *bc)
{
    struct stat info = to_stat(&bc->call.attr);

    fuse_reply_attr(bc->req, &info, timeout_of(bc->bridge));
}

static void readdir_more(struct bridge_call *bc);

static void reply(struct bridge_call *bc)
{
    struct fs_call *call = &bc->call;

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
        reply_create(bc);
        return;
    case FS_OPEN:
        reply_open(bc);
        return;
    case FS_READ:
        fuse_reply_buf(bc->req, (const char *)call->out.data, call->out.size);
        return;
    case FS_WRITE:
        fuse_reply_write(bc->req, call->data.size);
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
        fuse_reply_err(bc->req, 0);
        return;
    case FS_READDIR:
        break; /* readdir_more */
    }
    UNREACHABLE();
}

static void bridge_call_free(struct bridge_call *bc)
{
    env_timer_stop(bc->bridge->env, &bc->interrupt);
    mem_free(bc->buffer);
    mem_free(bc);
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

static void on_done(struct fs_call *call)
{
    struct bridge_call *bc = container_of(call, struct bridge_call, call);

    bc->finished = true;
    if (call->op == FS_READDIR && call->error == 0) {
        readdir_more(bc);
        return;
    }
    if (call->error != 0) {
        if (!reply_negative(bc)) {
            fuse_reply_err(bc->req, call->error);
        }
    } else {
        reply(bc);
    }
    if (!bc->starting) {
        bridge_call_free(bc);
    }
}

/* ---- requests ---- */

static void on_interrupt_timer(struct env_timer *timer)
{
    struct bridge_call *bc = container_of(timer, struct bridge_call, interrupt);

    fs_call_cancel(&bc->call);
}

static void on_interrupt(fuse_req_t req, void *data)
{
    struct bridge_call *bc = data;

    (void)req;
    env_timer_start(bc->bridge->env, &bc->interrupt, env_now(bc->bridge->env));
}

/* Supplementary groups of the caller, read from /proc; kept for a moment per process. */
static struct slice groups_of(struct bridge_call *bc, const struct fuse_ctx *ctx)
{
    struct group_entry *entry = &bc->bridge->groups;
    uint64_t now = env_now(bc->bridge->env);
    gid_t list[META_GROUPS_MAX];
    int count;

    if (ctx->uid == 0) {
        return (struct slice){0}; /* no check looks at root's groups */
    }
    if (entry->pid != (uint32_t)ctx->pid || now > entry->read_at_ns + NS_PER_S) {
        count = fuse_req_getgroups(bc->req, META_GROUPS_MAX, list);
        entry->count = count > 0 ? (uint32_t)min_u64((uint64_t)count, META_GROUPS_MAX) : 0;
        for (uint32_t i = 0; i < entry->count; i++) {
            memcpy(entry->groups + 4 * i, &list[i], 4);
        }
        entry->pid = (uint32_t)ctx->pid;
        entry->read_at_ns = now;
    }
    memcpy(bc->groups, entry->groups, 4 * (size_t)entry->count);
    return slice_make(bc->groups, 4 * (size_t)entry->count);
}

static struct bridge_call *begin(fuse_req_t req, enum fs_op op, fuse_ino_t nodeid)
{
    struct bridge_call *bc = mem_alloc(sizeof(*bc));
    const struct fuse_ctx *ctx = fuse_req_ctx(req);

    memset(bc, 0, offsetof(struct bridge_call, groups));
    bc->name_size = 0;
    bc->bridge = bridge_of(req);
    bc->req = req;
    bc->interrupt.fire = on_interrupt_timer;
    bc->call.op = op;
    bc->call.mount = bc->bridge->mount;
    bc->call.ino = to_ino(bc->bridge, nodeid);
    bc->call.who.uid = ctx->uid;
    bc->call.who.gid = ctx->gid;
    bc->call.who.groups = groups_of(bc, ctx);
    bc->call.done = on_done;
    return bc;
}

/* Copies a name of the request, which does not outlive the callback. */
static struct slice keep(struct bridge_call *bc, const char *text)
{
    size_t size = strlen(text);
    char *at = bc->names + bc->name_size;

    ASSERT(bc->name_size + size <= sizeof(bc->names));
    memcpy(at, text, size);
    bc->name_size += size;
    return slice_make(at, size);
}

static void run(struct bridge_call *bc)
{
    bc->starting = true;
    fs_call_start(&bc->call);
    bc->starting = false;
    if (bc->finished) {
        bridge_call_free(bc);
        return;
    }
    fuse_req_interrupt_func(bc->req, on_interrupt, bc);
}

static bool name_fits(fuse_req_t req, const char *name)
{
    if (strlen(name) <= META_NAME_MAX) {
        return true;
    }
    fuse_reply_err(req, ENAMETOOLONG);
    return false;
}

static void run_name(fuse_req_t req, enum fs_op op, fuse_ino_t parent, const char *name)
{
    struct bridge_call *bc;

    if (!name_fits(req, name)) {
        return;
    }
    bc = begin(req, op, parent);
    bc->call.name = keep(bc, name);
    run(bc);
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    run_name(req, FS_LOOKUP, parent, name);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    run_name(req, FS_UNLINK, parent, name);
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    run_name(req, FS_RMDIR, parent, name);
}

static void on_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t count)
{
    struct fuse_bridge *bridge = bridge_of(req);

    forget(bridge, to_ino(bridge, nodeid), count);
    fuse_reply_none(req);
}

static void on_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct fuse_bridge *bridge = bridge_of(req);

    for (size_t i = 0; i < count; i++) {
        forget(bridge, to_ino(bridge, forgets[i].ino), forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

static void on_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    (void)fi;
    run(begin(req, FS_GETATTR, nodeid));
}

static const struct {
    int kernel;
    uint32_t ours;
} setattr_bits[] = {
    {FUSE_SET_ATTR_MODE, META_SET_MODE},
    {FUSE_SET_ATTR_UID, META_SET_UID},
    {FUSE_SET_ATTR_GID, META_SET_GID},
    {FUSE_SET_ATTR_SIZE, META_SET_SIZE},
    {FUSE_SET_ATTR_ATIME, META_SET_ATIME},
    {FUSE_SET_ATTR_MTIME, META_SET_MTIME},
    {FUSE_SET_ATTR_ATIME_NOW, META_SET_ATIME_NOW},
    {FUSE_SET_ATTR_MTIME_NOW, META_SET_MTIME_NOW},
};

static uint32_t to_valid(int to_set)
{
    uint32_t valid = 0;

    for (size_t i = 0; i < ARRAY_SIZE(setattr_bits); i++) {
        if (to_set & setattr_bits[i].kernel) {
            valid |= setattr_bits[i].ours;
        }
    }
    if (valid & META_SET_ATIME_NOW) {
        valid &= ~(uint32_t)META_SET_ATIME;
    }
    if (valid & META_SET_MTIME_NOW) {
        valid &= ~(uint32_t)META_SET_MTIME;
    }
    return valid;
}

static void on_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
    struct bridge_call *bc = begin(req, FS_SETATTR, nodeid);

    bc->call.valid = to_valid(to_set);
    if (bc->bridge->raw_flags & KERNEL_FATTR_KILL_SUIDGID) {
        bc->call.valid |= META_SET_KILL_PRIV;
    }
    bc->call.flags = fi != NULL ? META_SKIP_ACCESS : 0;
    bc->call.set = (struct meta_attr){
        .mode = attr->st_mode,
        .uid = attr->st_uid,
        .gid = attr->st_gid,
        .size = (uint64_t)attr->st_size,
        .atime = from_timespec(attr->st_atim),
        .mtime = from_timespec(attr->st_mtim),
    };
    run(bc);
}

static void on_readlink(fuse_req_t req, fuse_ino_t nodeid)
{
    run(begin(req, FS_READLINK, nodeid));
}

static void run_make(fuse_req_t req, enum fs_op op, fuse_ino_t parent, const char *name,
                     const struct fs_call *like)
{
    struct bridge_call *bc;

    if (!name_fits(req, name)) {
        return;
    }
    bc = begin(req, op, parent);
    bc->call.name = keep(bc, name);
    bc->call.mode = like->mode;
    bc->call.rdev = like->rdev;
    run(bc);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    run_make(req, FS_MKNOD, parent, name, &(struct fs_call){.mode = mode, .rdev = rdev});
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    run_make(req, FS_MKDIR, parent, name, &(struct fs_call){.mode = mode});
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct bridge_call *bc;

    if (!name_fits(req, name)) {
        return;
    }
    if (strlen(target) > META_SYMLINK_MAX) {
        fuse_reply_err(req, ENAMETOOLONG);
        return;
    }
    bc = begin(req, FS_SYMLINK, parent);
    bc->call.name = keep(bc, name);
    bc->call.name2 = keep(bc, target);
    run(bc);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags)
{
    struct bridge_call *bc;

    if (!name_fits(req, name) || !name_fits(req, new_name)) {
        return;
    }
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    bc = begin(req, FS_RENAME, parent);
    bc->call.name = keep(bc, name);
    bc->call.ino2 = to_ino(bc->bridge, new_parent);
    bc->call.name2 = keep(bc, new_name);
    bc->call.flags |= flags & RENAME_NOREPLACE ? META_NOREPLACE : 0;
    bc->call.flags |= flags & RENAME_EXCHANGE ? META_EXCHANGE : 0;
    run(bc);
}

static void on_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t parent, const char *name)
{
    struct bridge_call *bc;

    if (!name_fits(req, name)) {
        return;
    }
    bc = begin(req, FS_LINK, parent);
    bc->call.ino2 = to_ino(bc->bridge, nodeid);
    bc->call.name = keep(bc, name);
    run(bc);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    struct bridge_call *bc;

    if (!name_fits(req, name)) {
        return;
    }
    bc = begin(req, FS_CREATE, parent);
    bc->call.name = keep(bc, name);
    bc->call.mode = mode;
    bc->call.open_flags = (uint32_t)fi->flags;
    bc->fi = *fi;
    run(bc);
}

static void on_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct bridge_call *bc = begin(req, FS_OPEN, nodeid);

    bc->call.open_flags = (uint32_t)fi->flags;
    bc->call.attr.ino = bc->call.ino;
    bc->fi = *fi;
    run(bc);
}

static void on_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                    struct fuse_file_info *fi)
{
    struct bridge_call *bc = begin(req, FS_READ, nodeid);

    (void)fi;
    bc->call.offset = (uint64_t)offset;
    bc->call.size = size;
    run(bc);
}

static void on_write(fuse_req_t req, fuse_ino_t nodeid, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
    struct bridge_call *bc = begin(req, FS_WRITE, nodeid);

    (void)fi;
    bc->call.offset = (uint64_t)offset;
    bc->call.data = slice_make(data, size);
    bc->call.kill_priv = (bc->bridge->raw_flags & KERNEL_WRITE_KILL_SUIDGID) != 0;
    bc->starting = true;
    fs_call_start(&bc->call);
    bc->starting = false;
    if (bc->finished) {
        bridge_call_free(bc);
        return;
    }
    bc->buffer = bc->bridge->buffer; /* it waits: its bytes must stay */
    bc->bridge->buffer_taken = true;
    fuse_req_interrupt_func(req, on_interrupt, bc);
}

static void on_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    (void)fi;
    run(begin(req, FS_FLUSH, nodeid));
}

static void on_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    (void)fi;
    run(begin(req, FS_RELEASE, nodeid));
}

static void on_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    (void)fi;
    run(begin(req, FS_FSYNC, nodeid));
}

static void on_statfs(fuse_req_t req, fuse_ino_t nodeid)
{
    run(begin(req, FS_STATFS, nodeid));
}

/* ---- directories ---- */

static void on_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct dir_handle *dir = mem_zalloc(sizeof(*dir));

    (void)nodeid;
    fi->fh = (uint64_t)(uintptr_t)dir;
    fi->cache_readdir = coherence_timeout(bridge_of(req)->mount) > 0;
    fi->keep_cache = fi->cache_readdir;
    if (fuse_reply_open(req, fi) == -ENOENT) {
        mem_free(dir);
    }
}

static void on_releasedir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct dir_handle *dir = (struct dir_handle *)(uintptr_t)fi->fh;

    (void)nodeid;
    buf_deinit(&dir->records);
    mem_free(dir);
    fuse_reply_err(req, 0);
}

static void on_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
    (void)nodeid;
    (void)datasync;
    (void)fi;
    fuse_reply_err(req, 0); /* every change of a directory was durable before it was answered */
}

/* Adds one entry; false when the reply is full. */
static bool add_entry(struct bridge_call *bc, struct buf *out, const struct meta_dirent *dirent,
                      bool is_dot)
{
    char name[META_NAME_MAX + 1];
    struct fuse_entry_param entry = {0};
    size_t left = bc->size - out->size, used;

    memcpy(name, dirent->name.data, dirent->name.size);
    name[dirent->name.size] = '\0';
    entry.attr.st_ino = dirent->ino;
    entry.attr.st_mode = dirent->mode;
    if (!is_dot && dirent->attr.size != 0) {
        struct meta_attr attr;

        if (meta_attr_decode(&attr, dirent->attr) == 0) {
            struct inode *inode = inode_get(bc->bridge->mount, attr.ino);

            if (inode != NULL) {
                inode_update(bc->bridge->mount, inode, &attr);
            }
            entry = to_entry(bc->bridge, &attr);
        }
    }
    used = fuse_add_direntry_plus(bc->req, (char *)buf_reserve(out, left), left, name, &entry,
                                  (off_t)dirent->cookie);
    if (used > left) {
        return false;
    }
    out->size += used;
    if (entry.ino != 0) {
        inode_make(bc->bridge->mount, dirent->ino)->lookups++;
    }
    return true;
}

static bool add_dots(struct bridge_call *bc, struct buf *out)
{
    static const char *const names[] = {".", ".."};

    for (uint64_t cookie = bc->call.offset + 1; cookie <= 2; cookie++) {
        struct meta_dirent dot = {.ino = bc->call.ino,
                                  .cookie = cookie,
                                  .mode = S_IFDIR,
                                  .name = slice_text(names[cookie - 1])};

        if (!add_entry(bc, out, &dot, true)) {
            return false;
        }
        bc->call.offset = cookie;
    }
    return true;
}

/* Adds entries of the handle's batch from its position on. */
static bool add_records(struct bridge_call *bc, struct buf *out)
{
    struct dir_handle *dir = bc->dir;

    while (dir->at < dir->records.size) {
        struct schema_reader reader = {dir->records.data + dir->at,
                                       dir->records.data + dir->records.size, false};
        struct slice record = schema_read_bytes(&reader, META_BODY_MAX);
        struct meta_dirent dirent;

        if (reader.failed || meta_dirent_decode(&dirent, record) < 0) {
            dir->at = dir->records.size;
            return false;
        }
        if (!add_entry(bc, out, &dirent, false)) {
            return false;
        }
        dir->at = (size_t)(reader.at - dir->records.data);
        dir->at_cookie = dirent.cookie;
    }
    return true;
}

static void finish_readdir(struct bridge_call *bc, const struct buf *out)
{
    fuse_reply_buf(bc->req, (const char *)out->data, out->size);
    if (!bc->starting) {
        bridge_call_free(bc);
    }
}

static void fetch_batch(struct bridge_call *bc)
{
    bc->finished = false;
    bc->call.offset = bc->call.offset <= 2 ? 0 : bc->call.offset;
    bc->call.size = FS_READDIR_BATCH;
    if (bc->starting) {
        return; /* run() starts it */
    }
    fs_call_start(&bc->call);
}

/* A batch has come. */
static void readdir_more(struct bridge_call *bc)
{
    cleanup(buf_deinit) struct buf out = {0};
    struct dir_handle *dir = bc->dir;

    buf_clear(&dir->records);
    buf_append_slice(&dir->records, bc->call.out);
    dir->at = 0;
    dir->at_cookie = bc->call.offset;
    dir->end = bc->call.end;
    dir->filled = true;
    add_dots(bc, &out);
    add_records(bc, &out);
    finish_readdir(bc, &out);
}

static void on_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                           struct fuse_file_info *fi)
{
    struct bridge_call *bc = begin(req, FS_READDIR, nodeid);
    cleanup(buf_deinit) struct buf out = {0};

    bc->dir = (struct dir_handle *)(uintptr_t)fi->fh;
    bc->size = size;
    bc->call.offset = (uint64_t)offset;
    if (bc->call.offset > 2 && bc->dir->filled && bc->dir->at_cookie == bc->call.offset &&
        (bc->dir->at < bc->dir->records.size || bc->dir->end)) {
        add_records(bc, &out);
        fuse_reply_buf(req, (const char *)out.data, out.size);
        bridge_call_free(bc);
        return;
    }
    fetch_batch(bc);
    run(bc);
}

/* ---- extended attributes ---- */

/* POSIX ACLs are not kept yet: say so at once, as a file system without them does. */
static bool is_acl(const char *name)
{
    return strncmp(name, "system.posix_acl_", 17) == 0;
}

static bool xattr_refused(fuse_req_t req, const char *name)
{
    if (is_acl(name)) {
        fuse_reply_err(req, EOPNOTSUPP);
        return true;
    }
    if (strlen(name) > META_NAME_MAX) {
        fuse_reply_err(req, ERANGE);
        return true;
    }
    return false;
}

static void on_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value,
                        size_t size, int flags)
{
    struct bridge_call *bc;

    if (xattr_refused(req, name)) {
        return;
    }
    bc = begin(req, FS_SETXATTR, nodeid);
    bc->call.name = keep(bc, name);
    bc->buffer = mem_alloc(size);
    memcpy(bc->buffer, value, size);
    bc->call.data = slice_make(bc->buffer, size);
    bc->call.flags |= flags & 1 ? META_NOREPLACE : 0; /* XATTR_CREATE */
    bc->call.flags |= flags & 2 ? META_REPLACE : 0;   /* XATTR_REPLACE */
    run(bc);
}

static void on_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
    struct bridge_call *bc;

    if (xattr_refused(req, name)) {
        return;
    }
    bc = begin(req, FS_GETXATTR, nodeid);
    bc->call.name = keep(bc, name);
    bc->size = size;
    run(bc);
}

static void on_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size)
{
    struct bridge_call *bc = begin(req, FS_LISTXATTR, nodeid);

    bc->size = size;
    run(bc);
}

static void on_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
    struct bridge_call *bc;

    if (xattr_refused(req, name)) {
        return;
    }
    bc = begin(req, FS_REMOVEXATTR, nodeid);
    bc->call.name = keep(bc, name);
    run(bc);
}

/* ---- the session ---- */

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->want &=
        ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                    FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE);
    conn->want |=
        conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_EXPORT_SUPPORT |
                         FUSE_CAP_READDIRPLUS | FUSE_CAP_ASYNC_DIO | FUSE_CAP_EXPLICIT_INVAL_DATA |
                         FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_PARALLEL_DIROPS);
    conn->want &= ~(unsigned)FUSE_CAP_READDIRPLUS_AUTO;
    conn->max_background = 128;
    conn->congestion_threshold = 96;
    conn->time_gran = 1;
}

static const struct fuse_lowlevel_ops ops = {
    .init = on_init,
    .lookup = on_lookup,
    .forget = on_forget,
    .forget_multi = on_forget_multi,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .readlink = on_readlink,
    .mknod = on_mknod,
    .mkdir = on_mkdir,
    .unlink = on_unlink,
    .rmdir = on_rmdir,
    .symlink = on_symlink,
    .rename = on_rename,
    .link = on_link,
    .create = on_create,
    .open = on_open,
    .read = on_read,
    .write = on_write,
    .flush = on_flush,
    .release = on_release,
    .fsync = on_fsync,
    .opendir = on_opendir,
    .readdirplus = on_readdirplus,
    .releasedir = on_releasedir,
    .fsyncdir = on_fsyncdir,
    .statfs = on_statfs,
    .setxattr = on_setxattr,
    .getxattr = on_getxattr,
    .listxattr = on_listxattr,
    .removexattr = on_removexattr,
};

/* What libfuse cannot ask for, added to the INIT reply where the kernel offers it. */
static void patch_init(const struct fuse_bridge *bridge, uint8_t *bytes, size_t size)
{
    const size_t flags_at = sizeof(struct kernel_out_header) + 12;
    uint32_t flags;

    if (size < flags_at + sizeof(flags)) {
        return;
    }
    memcpy(&flags, bytes + flags_at, sizeof(flags));
    flags |= bridge->init_offered & (KERNEL_PARALLEL_DIROPS | KERNEL_HANDLE_KILLPRIV_V2);
    memcpy(bytes + flags_at, &flags, sizeof(flags));
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

/* Notes what the library will not tell us. */
static void look_at_raw(struct fuse_bridge *bridge, const uint8_t *bytes, size_t size)
{
    struct kernel_in_header header;
    const size_t arg = sizeof(header);

    memcpy(&header, bytes, sizeof(header));
    bridge->raw_flags = 0;
    if (header.opcode == KERNEL_INIT && size >= arg + 16) {
        bridge->init_unique = header.unique;
        memcpy(&bridge->init_offered, bytes + arg + 12, 4);
    } else if (header.opcode == KERNEL_WRITE && size >= arg + 24) {
        memcpy(&bridge->raw_flags, bytes + arg + 20, 4); /* fh 8, offset 8, size 4, write_flags */
    } else if (header.opcode == KERNEL_SETATTR && size >= arg + 4) {
        memcpy(&bridge->raw_flags, bytes + arg, 4); /* valid */
    }
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
        request = (struct fuse_buf){.size = (size_t)size, .mem = bridge->buffer};
        look_at_raw(bridge, bridge->buffer, (size_t)size);
        fuse_session_process_buf(bridge->session, &request);
        if (bridge->buffer_taken) {
            bridge->buffer = mem_alloc(REQUEST_MAX);
            bridge->buffer_taken = false;
        }
    }
}

/* The kernel's names and attributes are stale: all are looked up again at their next use. */
static void on_caches_lost(struct mount *mount)
{
    struct fuse_bridge *bridge = mount->data;
    struct kernel_out_header notify = {.len = sizeof(notify), .error = KERNEL_NOTIFY_INC_EPOCH};

    if (bridge != NULL && !bridge->over &&
        write(bridge->fd, &notify, sizeof(notify)) != (ssize_t)sizeof(notify)) {
        LOG_DEBUG(bridge->env, "fuse", "the kernel does not know epochs; timeouts run out instead");
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

    bridge->session = fuse_session_new(&args, &ops, sizeof(ops), bridge);
    mem_free(options);
    if (bridge->session == NULL) {
        return -EINVAL;
    }
    if (fuse_session_mount(bridge->session, bridge->config.mountpoint) != 0) {
        fuse_session_destroy(bridge->session);
        return -EIO;
    }
    bridge->fd = fuse_session_fd(bridge->session);
    if (fuse_session_custom_io(bridge->session, &device_io, bridge->fd) != 0) {
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
    mount->caches_lost = on_caches_lost;
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
    fuse_session_destroy(bridge->session);
    close(bridge->fd);
    mem_free(bridge->buffer);
    mem_free(bridge->mountpoint);
    mem_free(bridge);
}
