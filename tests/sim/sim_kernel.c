#include "tests/sim/sim_kernel.h"

#include "base/assert.h"
#include "base/mem.h"
#include "fs/mount.h"

#include "fs/call.h"

#include <errno.h>
#include <fcntl.h>

struct knode {
    uint64_t ino;
    uint32_t mode;
    uint64_t lookups; /* that the mount counts for us */
    unsigned refs;
    unsigned opens;
    struct process *lock_owner; /* i_rwsem, exclusive */
    struct process *lock_queue[SIM_PROCESSES_MAX];
    unsigned lock_waiting;
};

struct kernel {
    struct client *client;
    struct map nodes; /* ino -> struct knode */
};

/* ---- calls ---- */

struct waiting {
    struct fs_call call;
    struct process *process;
    bool done;
    struct buf out;
};

static void on_done(struct fs_call *call)
{
    struct waiting *waiting = container_of(call, struct waiting, call);

    waiting->done = true;
    buf_append_slice(&waiting->out, call->out);
    process_ready(waiting->process);
}

static void start_call(void *data)
{
    fs_call_start(&((struct waiting *)data)->call);
}

/* The client's node code runs between two events, as everything of a node does. */
static int ask(struct kernel *kernel, struct waiting *waiting)
{
    waiting->process = process_self();
    waiting->call.mount = kernel->client->mount;
    waiting->call.done = on_done;
    sim_call(world->sim, kernel->client->node, start_call, waiting);
    while (!waiting->done) {
        process_wait();
    }
    world->counts.calls++;
    world->counts.errors += waiting->call.error != 0;
    return -waiting->call.error;
}

/* ---- nodes ---- */

static struct knode *node_get(struct kernel *kernel, uint64_t ino)
{
    struct knode *node = map_get(&kernel->nodes, map_u64(ino));

    if (node == NULL) {
        node = mem_zalloc(sizeof(*node));
        node->ino = ino;
        map_put(&kernel->nodes, map_u64(ino), node);
    }
    node->refs++;
    return node;
}

/* A reply has made the inode known. */
static struct knode *node_known(struct kernel *kernel, const struct meta_attr *attr)
{
    struct knode *node = node_get(kernel, attr->ino);

    node->lookups++;
    node->mode = attr->mode;
    return node;
}

struct forgetting {
    struct mount *mount;
    uint64_t ino, count;
};

static void forget(void *data)
{
    struct forgetting *forgetting = data;
    struct inode *inode = inode_find(forgetting->mount, forgetting->ino);

    if (inode != NULL) {
        inode->lookups -= min_u64(inode->lookups, forgetting->count);
        inode_release(forgetting->mount, inode);
    }
}

static void node_evict(struct kernel *kernel, struct knode *node)
{
    struct forgetting forgetting = {kernel->client->mount, node->ino, node->lookups};

    map_remove(&kernel->nodes, map_u64(node->ino));
    mem_free(node);
    sim_call(world->sim, kernel->client->node, forget, &forgetting);
}

void k_put(struct kernel *kernel, struct knode *node)
{
    ASSERT(node->refs > 0);
    node->refs--;
    if (node->refs == 0 && node->ino != META_ROOT_INO && rng_percent(&world->rng, 5)) {
        node_evict(kernel, node);
    }
}

struct knode *k_root(struct kernel *kernel)
{
    return node_get(kernel, META_ROOT_INO);
}

uint64_t k_ino(const struct knode *node)
{
    return node->ino;
}

/* ---- the inode's lock ---- */

static void lock(struct knode *node)
{
    struct process *self = process_self();

    if (node->lock_owner == NULL) {
        node->lock_owner = self;
        return;
    }
    ASSERT(node->lock_owner != self && node->lock_waiting < SIM_PROCESSES_MAX);
    node->lock_queue[node->lock_waiting++] = self;
    while (node->lock_owner != self) {
        process_wait();
    }
}

static void unlock(struct knode *node)
{
    ASSERT(node->lock_owner == process_self());
    node->lock_owner = NULL;
    if (node->lock_waiting > 0) {
        node->lock_owner = node->lock_queue[0];
        node->lock_waiting--;
        memmove(node->lock_queue, node->lock_queue + 1,
                node->lock_waiting * sizeof(node->lock_queue[0]));
        process_ready(node->lock_owner);
    }
}

static void lock_two(struct knode *a, struct knode *b)
{
    lock(a->ino <= b->ino ? a : b);
    if (a != b) {
        lock(a->ino <= b->ino ? b : a);
    }
}

static void unlock_two(struct knode *a, struct knode *b)
{
    unlock(a);
    if (a != b) {
        unlock(b);
    }
}

/* ---- names ---- */

int k_lookup(struct kernel *kernel, struct knode *dir, const char *name, struct knode **out_node)
{
    struct waiting waiting = {.call = {.op = FS_LOOKUP, .ino = dir->ino, .name = slice_text(name)}};
    int r = ask(kernel, &waiting);

    buf_deinit(&waiting.out);
    if (r == 0) {
        *out_node = node_known(kernel, &waiting.call.attr);
    }
    return r;
}

int k_stat(struct kernel *kernel, struct knode *node, struct meta_attr *out_attr)
{
    struct waiting waiting = {.call = {.op = FS_GETATTR, .ino = node->ino}};
    int r = ask(kernel, &waiting);

    buf_deinit(&waiting.out);
    *out_attr = waiting.call.attr;
    return r;
}

/* One name in one directory. */
static int change_name(struct kernel *kernel, struct knode *dir, struct waiting *waiting)
{
    int r;

    lock(dir);
    waiting->call.ino = dir->ino;
    r = ask(kernel, waiting);
    unlock(dir);
    buf_deinit(&waiting->out);
    return r;
}

static int make_name(struct kernel *kernel, struct knode *dir, struct waiting *waiting)
{
    int r = change_name(kernel, dir, waiting);

    if (r == 0) {
        k_put(kernel, node_known(kernel, &waiting->call.attr));
    }
    return r;
}

int k_mkdir(struct kernel *kernel, struct knode *dir, const char *name)
{
    struct waiting waiting = {.call = {.op = FS_MKDIR, .name = slice_text(name), .mode = 0755}};

    return make_name(kernel, dir, &waiting);
}

int k_symlink(struct kernel *kernel, struct knode *dir, const char *name, const char *target)
{
    struct waiting waiting = {
        .call = {.op = FS_SYMLINK, .name = slice_text(name), .name2 = slice_text(target)}};

    return make_name(kernel, dir, &waiting);
}

int k_link(struct kernel *kernel, struct knode *node, struct knode *dir, const char *name)
{
    struct waiting waiting = {.call = {.op = FS_LINK, .name = slice_text(name), .ino2 = node->ino}};

    return make_name(kernel, dir, &waiting);
}

int k_unlink(struct kernel *kernel, struct knode *dir, const char *name)
{
    struct waiting waiting = {.call = {.op = FS_UNLINK, .name = slice_text(name)}};

    return change_name(kernel, dir, &waiting);
}

int k_rmdir(struct kernel *kernel, struct knode *dir, const char *name)
{
    struct waiting waiting = {.call = {.op = FS_RMDIR, .name = slice_text(name)}};

    return change_name(kernel, dir, &waiting);
}

int k_rename(struct kernel *kernel, struct knode *dir, const char *name, struct knode *new_dir,
             const char *new_name, uint32_t flags)
{
    struct waiting waiting = {.call = {.op = FS_RENAME,
                                       .ino = dir->ino,
                                       .name = slice_text(name),
                                       .ino2 = new_dir->ino,
                                       .name2 = slice_text(new_name),
                                       .flags = flags}};
    int r;

    lock_two(dir, new_dir);
    r = ask(kernel, &waiting);
    unlock_two(dir, new_dir);
    buf_deinit(&waiting.out);
    return r;
}

int k_readdir(struct kernel *kernel, struct knode *dir, unsigned *out_count)
{
    uint64_t cookie = 0;
    bool end = false;
    int r = 0;

    *out_count = 0;
    while (r == 0 && !end) {
        struct waiting waiting = {
            .call = {.op = FS_READDIR, .ino = dir->ino, .offset = cookie, .size = 256}};
        struct schema_reader reader;

        r = ask(kernel, &waiting);
        end = waiting.call.end;
        reader =
            (struct schema_reader){waiting.out.data, waiting.out.data + waiting.out.size, false};
        while (r == 0 && reader.at < reader.end) {
            struct meta_dirent dirent;

            if (meta_dirent_decode(&dirent, schema_read_bytes(&reader, META_BODY_MAX)) < 0) {
                violation("a directory entry cannot be decoded");
            }
            cookie = dirent.cookie;
            ++*out_count;
        }
        buf_deinit(&waiting.out);
    }
    return r;
}

/* ---- files ---- */

static int open_known(struct kernel *kernel, struct knode *node, uint32_t flags)
{
    struct waiting waiting = {
        .call = {.op = FS_OPEN, .ino = node->ino, .open_flags = flags & (O_ACCMODE | O_TRUNC)}};
    int r;

    if (flags & O_TRUNC) {
        lock(node);
        data_change_begin(kernel->client, node->ino);
        data_truncated(kernel->client, node->ino, 0); /* it may have happened from now on */
    }
    r = ask(kernel, &waiting);
    if (flags & O_TRUNC) {
        data_change_end(kernel->client, node->ino);
        unlock(node);
    }
    buf_deinit(&waiting.out);
    return r;
}

static int create(struct kernel *kernel, struct knode *dir, const char *name, uint32_t flags,
                  struct knode **out_node)
{
    struct waiting waiting = {
        .call = {.op = FS_CREATE, .name = slice_text(name), .mode = 0644, .open_flags = flags}};
    int r;

    lock(dir);
    waiting.call.ino = dir->ino;
    r = ask(kernel, &waiting);
    unlock(dir);
    buf_deinit(&waiting.out);
    if (r == 0) {
        *out_node = node_known(kernel, &waiting.call.attr);
    }
    return r;
}

int k_open(struct kernel *kernel, struct knode *dir, const char *name, uint32_t flags,
           struct kfile *out_file)
{
    uint64_t floor = witness_floor();
    struct knode *node = NULL;
    int r = k_lookup(kernel, dir, name, &node);

    if (r == -ENOENT && (flags & O_CREAT)) {
        r = create(kernel, dir, name, flags, &node);
    } else if (r == 0 && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
        r = -EEXIST;
    } else if (r == 0) {
        r = S_ISREG(node->mode)   ? open_known(kernel, node, flags)
            : S_ISDIR(node->mode) ? -EISDIR
                                  : -ELOOP;
    }
    if (r == 0) {
        node->opens++;
        *out_file = (struct kfile){node, (flags & O_ACCMODE) != O_RDONLY, floor};
    } else if (node != NULL) {
        k_put(kernel, node);
    }
    return r;
}

int k_close(struct kernel *kernel, struct kfile *file)
{
    struct waiting flush = {.call = {.op = FS_FLUSH, .ino = file->node->ino}};
    struct waiting release = {.call = {.op = FS_RELEASE, .ino = file->node->ino}};
    int r = file->writable ? ask(kernel, &flush) : 0;

    (void)ask(kernel, &release);
    buf_deinit(&flush.out);
    buf_deinit(&release.out);
    file->node->opens--;
    k_put(kernel, file->node);
    file->node = NULL;
    return r;
}

int k_write(struct kernel *kernel, struct kfile *file, uint64_t offset, uint64_t size)
{
    struct client *client = kernel->client;
    struct knode *node = file->node;
    uint64_t tag = data_next_tag(client);
    uint8_t *bytes = mem_alloc(size);
    int r = 0;

    model_fill(bytes, size, tag);
    lock(node);
    data_change_begin(client, node->ino);
    for (uint64_t at = 0; r == 0 && at < size; at += MiB(1)) {
        uint64_t part = min_u64(size - at, MiB(1));
        struct waiting waiting = {.call = {.op = FS_WRITE,
                                           .ino = node->ino,
                                           .offset = offset + at,
                                           .data = slice_make(bytes + at, part)}};

        r = ask(kernel, &waiting);
        if (r == 0) {
            data_wrote(client, node->ino, offset + at, part, tag);
        }
        buf_deinit(&waiting.out);
    }
    data_change_end(client, node->ino);
    unlock(node);
    mem_free(bytes);
    return r;
}

int64_t k_read(struct kernel *kernel, struct kfile *file, uint64_t offset, uint64_t size,
               struct buf *out_bytes)
{
    struct data_read read = data_read_begin(kernel->client, file->node->ino, file->floor);
    struct waiting waiting = {
        .call = {.op = FS_READ, .ino = file->node->ino, .offset = offset, .size = size}};
    int r = ask(kernel, &waiting);
    int64_t got = (int64_t)waiting.out.size;

    if (r == 0) {
        data_read_end(kernel->client, &read, offset, buf_slice(&waiting.out));
    }
    if (r == 0 && out_bytes != NULL) {
        buf_append_slice(out_bytes, buf_slice(&waiting.out));
    }
    buf_deinit(&waiting.out);
    return r < 0 ? r : got;
}

int k_fsync(struct kernel *kernel, struct knode *node)
{
    struct data_mark *mark = data_sync_begin(kernel->client, node->ino);
    struct waiting waiting = {.call = {.op = FS_FSYNC, .ino = node->ino}};
    int r = ask(kernel, &waiting);

    data_sync_end(kernel->client, mark, r);
    buf_deinit(&waiting.out);
    return r;
}

int k_truncate(struct kernel *kernel, struct knode *node, uint64_t size)
{
    struct waiting waiting = {
        .call = {
            .op = FS_SETATTR, .ino = node->ino, .valid = META_SET_SIZE, .set = {.size = size}}};
    int r;

    lock(node);
    data_change_begin(kernel->client, node->ino);
    data_truncated(kernel->client, node->ino, size); /* it may have happened from now on */
    r = ask(kernel, &waiting);
    data_change_end(kernel->client, node->ino);
    unlock(node);
    buf_deinit(&waiting.out);
    return r;
}

int k_statfs(struct kernel *kernel)
{
    struct waiting waiting = {.call = {.op = FS_STATFS, .ino = META_ROOT_INO}};
    int r = ask(kernel, &waiting);

    buf_deinit(&waiting.out);
    return r;
}

/* ---- the whole ---- */

struct kernel *kernel_new(struct client *client)
{
    struct kernel *kernel = mem_zalloc(sizeof(*kernel));

    kernel->client = client;
    return kernel;
}

void kernel_free(struct kernel *kernel)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&kernel->nodes, &at)) != NULL) {
        mem_free(slot->value);
    }
    map_deinit(&kernel->nodes);
    mem_free(kernel);
}

void kernel_caches_lost(struct kernel *kernel)
{
    (void)kernel;
}
