/*
 * fcntl(2) and flock(2) as fs/fuse/file.c does them: nothing is kept here, each call goes to the
 * mount. A record lock's owner is the process, a flock's the open file; numbers of what has ended
 * are taken again at once, as the addresses that they are made of. Pages that the mount wants
 * dropped are dropped in the process that waits for the lock; in fact a thread of the mount does
 * it, and waits for the same.
 */
#include "tests/sim/sim_kernel_internal.h"

#include "base/assert.h"
#include "fs/lock.h"

static uint64_t files_of_process(const struct kernel *kernel)
{
    for (unsigned i = 0; i < SIM_PROCESSES_MAX; i++) {
        if (kernel->client->programs[i] != NULL &&
            kernel->client->programs[i]->process == process_self()) {
            return i + 1;
        }
    }
    UNREACHABLE();
}

struct kfile open_file(struct kernel *kernel, struct knode *node, bool writable, uint64_t floor)
{
    struct kfile file = {.node = node, .writable = writable, .floor = floor};

    while (kernel->addresses >> file.address & 1) {
        file.address++;
    }
    ASSERT(file.address < 64);
    kernel->addresses |= UINT64_C(1) << file.address;
    file.handle = ++kernel->last_handle;
    return file;
}

/* ---- pages ---- */

void kernel_drop_pages(struct mount *mount, uint64_t ino, struct fs_call *call)
{
    const struct client *client = mount->data;
    struct waiting *waiting;

    if (call == NULL) { /* of an append that went elsewhere */
        struct knode *node = map_get(&client->kernel->nodes, map_u64(ino));

        world->counts.appends_floated++;
        if (node != NULL) {
            pages_drop_later(node);
        }
        return;
    }
    waiting = container_of(call, struct waiting, call);
    waiting->dropping = true;
    process_ready(waiting->process);
}

static void pages_dropped(void *data)
{
    lock_pages_dropped(&((struct waiting *)data)->call);
}

void drop_pages(struct waiting *waiting)
{
    struct kernel *kernel = waiting->kernel;
    struct knode *node = map_get(&kernel->nodes, map_u64(waiting->call.ino));

    waiting->dropping = false;
    node->attr.size = max_u64(node->attr.size, waiting->call.attr.size);
    pages_invalidate(node);
    node_forget_attr(kernel, node);
    world->counts.lock_refreshes++;
    sim_call(world->sim, kernel->client->node, pages_dropped, waiting);
}

/* ---- calls ---- */

static int take(struct kernel *kernel, struct kfile *file, const struct meta_lock *lock, bool wait)
{
    struct waiting waiting = {.call = {.op = FS_LOCK,
                                       .ino = file->node->ino,
                                       .lock = *lock,
                                       .lock_wait = wait,
                                       .handle = file->handle}};
    uint64_t floor = witness_floor();
    int r;

    locks_asked(kernel->client, file->node->ino, lock);
    r = ask(&waiting, kernel);
    if (r == 0 && lock->type != META_LOCK_NONE) {
        file->lock_session = waiting.lock_session;
        file->floor = max_u64(file->floor, floor);
    }
    buf_deinit(&waiting.out);
    return r;
}

int k_lock(struct kernel *kernel, struct kfile *file, uint8_t type, uint64_t from, uint64_t to,
           bool wait)
{
    struct meta_lock lock = {
        .owner = files_of_process(kernel), .type = type, .from = from, .to = to};

    return take(kernel, file, &lock, wait);
}

int k_flock(struct kernel *kernel, struct kfile *file, uint8_t type, bool wait)
{
    struct meta_lock lock = {.owner = file->address, .type = type, .to = UINT64_MAX, .flock = true};

    file->flocked = true;
    return take(kernel, file, &lock, wait);
}

int k_lock_test(struct kernel *kernel, struct kfile *file, uint8_t type, uint64_t from, uint64_t to)
{
    struct meta_lock lock = {
        .owner = files_of_process(kernel), .type = type, .from = from, .to = to};
    struct waiting waiting = {.call = {.op = FS_LOCK_TEST, .ino = file->node->ino, .lock = lock}};
    uint64_t begun = locks_test_begin();
    int r = ask(&waiting, kernel);

    if (r == 0 && waiting.call.lock.type == META_LOCK_NONE) {
        locks_test_free(kernel->client, file->node->ino, &lock, begun);
    }
    buf_deinit(&waiting.out);
    return r;
}

/* ---- close ---- */

/* A descriptor that cannot write has no FLUSH: the mount has said so at the open. */
int flush_file(struct kernel *kernel, const struct kfile *file)
{
    struct waiting flush = {.call = {.op = FS_FLUSH, .ino = file->node->ino}};
    int r = 0;

    flush.call.lock.owner = files_of_process(kernel);
    locks_closed(kernel->client, file->node->ino, flush.call.lock.owner, /* flock= */ false);
    if (file->writable) {
        r = ask(&flush, kernel);
        pages_drop_told(&flush);
    }
    buf_deinit(&flush.out);
    return r;
}

void release_file(struct kernel *kernel, const struct kfile *file)
{
    struct waiting release = {.call = {.op = FS_RELEASE, .ino = file->node->ino}};

    release.call.handle = file->handle;
    release.call.lock.owner = file->address;
    release.call.lock.flock = file->flocked;
    locks_closed(kernel->client, file->node->ino, file->address, /* flock= */ true);
    (void)ask(&release, kernel);
    buf_deinit(&release.out);
    kernel->addresses &= ~(UINT64_C(1) << file->address);
}
