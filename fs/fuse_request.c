/*
 * The kernel's requests as fs_calls. Interrupts are taken from the loop, never inside the library's
 * callback, which holds the lock that a reply needs.
 */
#include "fs/fuse_internal.h"

#include "base/assert.h"
#include "base/mem.h"
#include "fs/coherence.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

/* Behind an asynchronous direct write the kernel keeps pages that were read while it was on its
 * way. */
static bool makes_pages_stale(const struct bridge_call *bc)
{
    return bc->call.op == FS_WRITE && bc->call.error == 0 && (bc->fi.flags & O_DIRECT) != 0 &&
           coherence_written_directly(inode_find(bc->bridge->mount, bc->call.ino));
}

static void on_pages_dropped(struct fs_call *call)
{
    struct bridge_call *bc = container_of(call, struct bridge_call, call);

    if (call->stale_pages) {
        fs_call_pages_dropped(call);
    }
    fuse_reply_call(bc);
    fuse_call_free(bc);
}

static void on_done(struct fs_call *call)
{
    struct bridge_call *bc = container_of(call, struct bridge_call, call);

    if (call->stale_pages || makes_pages_stale(bc)) {
        fuse_drop_pages_then(bc->bridge, call->ino, call, on_pages_dropped);
        return;
    }
    bc->finished = true;
    if (call->op == FS_READDIR && call->error == 0) {
        fuse_readdir_more(bc);
        return;
    }
    fuse_reply_call(bc);
    if (!bc->starting) {
        fuse_call_free(bc);
    }
}

/* ---- requests ---- */

#define UID_NOT_TOLD UINT32_MAX

/* Signals that do nothing by default: SIGCHLD, SIGCONT, SIGURG, SIGWINCH. */
#define HARMLESS_SIGNALS (1ULL << 16 | 1ULL << 17 | 1ULL << 22 | 1ULL << 27)

/* Is a signal pending that will end the process? */
static bool is_dying(uint32_t pid)
{
    char path[48], line[128];
    unsigned long long pending = 0, off = 0, mask;
    FILE *in;

    snprintf(path, sizeof(path), "/proc/%u/status", pid);
    in = fopen(path, "re");
    if (in == NULL) {
        return true;
    }
    while (fgets(line, sizeof(line), in) != NULL) {
        if (sscanf(line, "SigPnd: %llx", &mask) == 1 || sscanf(line, "ShdPnd: %llx", &mask) == 1) {
            pending |= mask;
        } else if (sscanf(line, "SigBlk: %llx", &mask) == 1 ||
                   sscanf(line, "SigIgn: %llx", &mask) == 1 ||
                   sscanf(line, "SigCgt: %llx", &mask) == 1) {
            off |= mask;
        }
    }
    fclose(in);
    return (pending & ~off & ~HARMLESS_SIGNALS) != 0;
}

/*
 * The kernel interrupts for any signal, also one that the process only wants to take notice of (a
 * timer, a child's end), and no program expects EINTR of rename or fsync. So a call ends at once
 * for a signal that kills, and for others only when it has waited longer than any failover takes.
 * To wait for a lock may take for ever, and programs set an alarm for that: any signal ends it.
 */
static void on_interrupt_timer(struct env_timer *timer)
{
    struct bridge_call *bc = container_of(timer, struct bridge_call, interrupt);
    uint64_t patience = bc->started_ns + FS_INTERRUPT_GRACE_NS;

    if (!bc->call.lock_wait && env_now(bc->bridge->env) < patience && !is_dying(bc->pid)) {
        env_timer_start(bc->bridge->env, timer, patience);
        return;
    }
    fs_call_cancel(&bc->call);
}

static void on_interrupt(fuse_req_t req, void *data)
{
    struct bridge_call *bc = data;

    (void)req;
    env_timer_start(bc->bridge->env, &bc->interrupt, env_now(bc->bridge->env));
}

static void let_interrupt(struct bridge_call *bc)
{
    bc->started_ns = env_now(bc->bridge->env);
    fuse_req_interrupt_func(bc->req, on_interrupt, bc);
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

/* The user that the process itself runs as, or nobody's number. */
static uint32_t uid_of(uint32_t pid)
{
    uint32_t uid = UID_NOT_TOLD;
    char path[48], line[128];
    FILE *in;

    snprintf(path, sizeof(path), "/proc/%u/status", pid);
    in = fopen(path, "re");
    if (in == NULL) {
        return uid;
    }
    while (fgets(line, sizeof(line), in) != NULL) {
        if (sscanf(line, "Uid: %*u %*u %*u %" SCNu32, &uid) == 1) {
            break;
        }
    }
    fclose(in);
    return uid;
}

/* Does it matter for these who the caller is, beyond what the kernel has checked? */
static bool asks_who(enum fs_op op)
{
    return op == FS_LISTXATTR || op == FS_FALLOCATE || op == FS_COPY_RANGE || op == FS_SHUTDOWN;
}

/*
 * On a mount that may be idmapped, the kernel says whom a new inode is to belong to, and nothing of
 * other callers: users are who they are by the mount that they came through, which only it knows.
 * So it alone checks permission.
 */
static void set_mapped_caller(struct bridge_call *bc, const struct fuse_ctx *ctx)
{
    struct fs_call *call = &bc->call;

    if (ctx->uid != UID_NOT_TOLD) {
        call->who.uid = ctx->uid;
        call->who.gid = ctx->gid;
        call->flags |= META_SKIP_ACCESS;
    } else if (asks_who(call->op)) {
        call->who.uid = uid_of(bc->pid);
        call->who.gid = UID_NOT_TOLD;
    }
}

struct bridge_call *fuse_call_begin(fuse_req_t req, enum fs_op op, fuse_ino_t nodeid)
{
    struct bridge_call *bc = mem_alloc(sizeof(*bc));
    const struct fuse_ctx *ctx = fuse_req_ctx(req);

    memset(bc, 0, offsetof(struct bridge_call, groups));
    bc->name_size = 0;
    bc->bridge = fuse_bridge_of(req);
    bc->req = req;
    bc->interrupt.fire = on_interrupt_timer;
    bc->pid = (uint32_t)ctx->pid;
    bc->call.op = op;
    bc->call.mount = bc->bridge->mount;
    bc->call.ino = fuse_to_ino(bc->bridge, nodeid);
    bc->call.who.umask = ctx->umask;
    if (bc->bridge->config.idmap) {
        set_mapped_caller(bc, ctx);
    } else {
        bc->call.who.uid = ctx->uid;
        bc->call.who.gid = ctx->gid;
        bc->call.who.groups = groups_of(bc, ctx);
    }
    bc->call.done = on_done;
    return bc;
}

/* Copies a name of the request, which does not outlive the callback. */
struct slice fuse_call_keep(struct bridge_call *bc, const char *text)
{
    size_t size = strlen(text);
    char *at = bc->names + bc->name_size;

    ASSERT(bc->name_size + size <= sizeof(bc->names));
    memcpy(at, text, size);
    bc->name_size += size;
    return slice_make(at, size);
}

void fuse_call_run(struct bridge_call *bc)
{
    bc->starting = true;
    fs_call_start(&bc->call);
    bc->starting = false;
    if (bc->finished) {
        fuse_call_free(bc);
        return;
    }
    let_interrupt(bc);
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
    bc = fuse_call_begin(req, op, parent);
    bc->call.name = fuse_call_keep(bc, name);
    fuse_call_run(bc);
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
    struct fuse_bridge *bridge = fuse_bridge_of(req);

    fuse_forget(bridge, fuse_to_ino(bridge, nodeid), count);
    fuse_reply_none(req);
}

static void on_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct fuse_bridge *bridge = fuse_bridge_of(req);

    for (size_t i = 0; i < count; i++) {
        fuse_forget(bridge, fuse_to_ino(bridge, forgets[i].ino), forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

static void on_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_GETATTR, nodeid);

    (void)fi;
    bc->statx = bc->bridge->raw_statx;
    fuse_call_run(bc);
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
    struct bridge_call *bc = fuse_call_begin(req, FS_SETATTR, nodeid);

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
        .atime = fuse_from_timespec(attr->st_atim),
        .mtime = fuse_from_timespec(attr->st_mtim),
    };
    fuse_call_run(bc);
}

static void on_readlink(fuse_req_t req, fuse_ino_t nodeid)
{
    fuse_call_run(fuse_call_begin(req, FS_READLINK, nodeid));
}

static void run_make(fuse_req_t req, enum fs_op op, fuse_ino_t parent, const char *name,
                     const struct fs_call *like)
{
    struct bridge_call *bc;

    if (!name_fits(req, name)) {
        return;
    }
    bc = fuse_call_begin(req, op, parent);
    bc->call.name = fuse_call_keep(bc, name);
    bc->call.mode = like->mode;
    bc->call.rdev = like->rdev;
    fuse_call_run(bc);
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
    bc = fuse_call_begin(req, FS_SYMLINK, parent);
    bc->call.name = fuse_call_keep(bc, name);
    bc->call.name2 = fuse_call_keep(bc, target);
    fuse_call_run(bc);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags)
{
    struct bridge_call *bc;

    if (!name_fits(req, name) || !name_fits(req, new_name)) {
        return;
    }
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    bc = fuse_call_begin(req, FS_RENAME, parent);
    bc->call.name = fuse_call_keep(bc, name);
    bc->call.ino2 = fuse_to_ino(bc->bridge, new_parent);
    bc->call.name2 = fuse_call_keep(bc, new_name);
    bc->call.flags |= flags & RENAME_NOREPLACE ? META_NOREPLACE : 0;
    bc->call.flags |= flags & RENAME_EXCHANGE ? META_EXCHANGE : 0;
    bc->call.flags |= flags & RENAME_WHITEOUT ? META_WHITEOUT : 0;
    fuse_call_run(bc);
}

static void on_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t parent, const char *name)
{
    struct bridge_call *bc;

    if (!name_fits(req, name)) {
        return;
    }
    bc = fuse_call_begin(req, FS_LINK, parent);
    bc->call.ino2 = fuse_to_ino(bc->bridge, nodeid);
    bc->call.name = fuse_call_keep(bc, name);
    fuse_call_run(bc);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    bool tmpfile = fuse_bridge_of(req)->raw_tmpfile; /* its name means nothing */
    struct bridge_call *bc;

    if (!tmpfile && !name_fits(req, name)) {
        return;
    }
    bc = fuse_call_begin(req, tmpfile ? FS_TMPFILE : FS_CREATE, parent);
    bc->call.name = tmpfile ? (struct slice){0} : fuse_call_keep(bc, name);
    bc->call.mode = mode;
    bc->call.open_flags = (uint32_t)fi->flags;
    bc->fi = *fi;
    fuse_call_run(bc);
}

static void on_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_OPEN, nodeid);

    bc->call.open_flags = (uint32_t)fi->flags;
    bc->call.attr.ino = bc->call.ino;
    bc->call.kill_priv = (bc->bridge->raw_flags & KERNEL_OPEN_KILL_SUIDGID) != 0;
    bc->fi = *fi;
    fuse_call_run(bc);
}

static void on_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                    struct fuse_file_info *fi)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_READ, nodeid);

    bc->call.open_flags = (uint32_t)fi->flags;
    bc->call.offset = (uint64_t)offset;
    bc->call.size = size;
    fuse_call_run(bc);
}

static void on_write(fuse_req_t req, fuse_ino_t nodeid, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_WRITE, nodeid);

    bc->fi = *fi;
    bc->call.append = (fi->flags & O_APPEND) != 0 && !fi->writepage;
    bc->call.offset = (uint64_t)offset;
    bc->call.data = slice_make(data, size);
    bc->call.kill_priv = (bc->bridge->raw_flags & KERNEL_WRITE_KILL_SUIDGID) != 0;
    bc->starting = true;
    fs_call_start(&bc->call);
    bc->starting = false;
    if (bc->finished) {
        fuse_call_free(bc);
        return;
    }
    bc->buffer = bc->bridge->buffer; /* it waits: its bytes must stay */
    bc->bridge->buffer_taken = true;
    let_interrupt(bc);
}

static void on_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_FLUSH, nodeid);

    bc->call.lock.owner = fi->lock_owner;
    fuse_call_run(bc);
}

static void on_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_RELEASE, nodeid);

    bc->call.lock.owner = fi->lock_owner;
    bc->call.lock.flock = fi->flock_release != 0;
    bc->call.handle = fi->fh;
    bc->call.open_flags = fi->fh & HANDLE_DIRECT ? O_DIRECT : 0;
    fuse_call_run(bc);
}

static void on_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    (void)fi;
    fuse_call_run(fuse_call_begin(req, FS_FSYNC, nodeid));
}

static void on_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t offset, off_t length,
                         struct fuse_file_info *fi)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_FALLOCATE, nodeid);

    (void)fi;
    bc->call.mode = (uint32_t)mode;
    bc->call.flags = META_SKIP_ACCESS; /* the descriptor was opened for writing */
    bc->call.offset = (uint64_t)offset;
    bc->call.size = (uint64_t)length;
    fuse_call_run(bc);
}

static void on_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t offset, int whence,
                     struct fuse_file_info *fi)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_SEEK, nodeid);

    (void)fi;
    bc->call.offset = (uint64_t)offset;
    bc->call.whence = (uint32_t)whence;
    fuse_call_run(bc);
}

static void on_copy_file_range(fuse_req_t req, fuse_ino_t nodeid, off_t offset,
                               struct fuse_file_info *fi, fuse_ino_t to_nodeid, off_t to_offset,
                               struct fuse_file_info *to_fi, size_t size, int flags)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_COPY_RANGE, nodeid);

    (void)fi;
    (void)to_fi;
    (void)flags;
    bc->call.flags = META_SKIP_ACCESS;
    bc->call.ino2 = fuse_to_ino(bc->bridge, to_nodeid);
    bc->call.offset = (uint64_t)offset;
    bc->call.offset2 = (uint64_t)to_offset;
    bc->call.size = min_u64(size, GiB(1)); /* the reply has 32 bits for it */
    fuse_call_run(bc);
}

static void on_statfs(fuse_req_t req, fuse_ino_t nodeid)
{
    fuse_call_run(fuse_call_begin(req, FS_STATFS, nodeid));
}

static void on_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    (void)fi;
    fuse_call_run(fuse_call_begin(req, FS_FSYNC, nodeid));
}

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->want &=
        ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                    FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE);
    conn->want |=
        conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_EXPORT_SUPPORT |
                         FUSE_CAP_READDIRPLUS | FUSE_CAP_ASYNC_DIO | FUSE_CAP_EXPLICIT_INVAL_DATA |
                         FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_POSIX_ACL |
                         FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
    conn->want &= ~(unsigned)FUSE_CAP_READDIRPLUS_AUTO;
    conn->max_background = 128;
    conn->congestion_threshold = 96;
    conn->time_gran = 1;
}

const struct fuse_lowlevel_ops fuse_request_ops = {
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
    .opendir = fuse_opendir,
    .readdirplus = fuse_readdirplus,
    .releasedir = fuse_releasedir,
    .fsyncdir = on_fsyncdir,
    .fallocate = on_fallocate,
    .lseek = on_lseek,
    .copy_file_range = on_copy_file_range,
    .getlk = fuse_getlk,
    .setlk = fuse_setlk,
    .flock = fuse_flock,
    .ioctl = fuse_ioctl,
    .statfs = on_statfs,
    .setxattr = fuse_setxattr,
    .getxattr = fuse_getxattr,
    .listxattr = fuse_listxattr,
    .removexattr = fuse_removexattr,
};
