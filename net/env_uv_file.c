/*
 * Files and threads of env_uv. Writes and syncs of a file go through one thread, in order (law 3);
 * reads that the page cache can answer are done on the loop, others by the pool.
 */
#include "base/assert.h"
#include "base/mem.h"
#include "net/env_uv_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

struct env_file {
    int fd;
    bool bulk;
    bool direct;
};

#define LOCK_TRIES    150 /* 3 s */
#define LOCK_PAUSE_MS 20

static int64_t result_of(int r)
{
    return r < 0 ? -errno : r;
}

/* Who was killed a moment ago may still have a last write under way, and its locks with it:
 * start-up waits for that, but not for a process that lives. */
static bool lock_file(int fd)
{
    for (unsigned tries = 0; tries < LOCK_TRIES; tries++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return true;
        }
        poll(NULL, 0, LOCK_PAUSE_MS);
    }
    return false;
}

static int64_t do_open(struct env_io *io)
{
    int flags = O_CLOEXEC;
    struct stat info;
    int fd;

    flags |= io->flags & ENV_OPEN_READ_ONLY ? O_RDONLY : O_RDWR;
    flags |= io->flags & ENV_OPEN_CREATE ? O_CREAT : 0;
    flags |= io->flags & ENV_OPEN_EXCLUSIVE ? O_EXCL : 0;
    fd = open(io->path, flags | (io->flags & ENV_OPEN_DIRECT ? O_DIRECT : 0), 0600);
    if (fd < 0 && errno == EINVAL && io->flags & ENV_OPEN_DIRECT) {
        fd = open(io->path, flags, 0600);
    }
    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(fd);
        return -EISDIR;
    }
    if (io->flags & ENV_OPEN_LOCK && !lock_file(fd)) {
        close(fd);
        return -EBUSY;
    }
    io->file = mem_zalloc(sizeof(*io->file));
    *io->file = (struct env_file){.fd = fd,
                                  .bulk = (io->flags & ENV_OPEN_BULK) != 0,
                                  .direct = (io->flags & ENV_OPEN_DIRECT) != 0};
    return 0;
}

static int64_t do_close(struct env_io *io)
{
    int64_t r = result_of(close(io->file->fd));

    mem_free(io->file);
    io->file = NULL;
    return r;
}

/* The part of the vector behind `done` bytes; returns the count of entries used. */
static unsigned iov_rest(const struct env_io *io, size_t done, struct iovec out[64])
{
    unsigned count = 0;

    for (unsigned i = 0; i < io->iov_count && count < 64; i++) {
        if (done >= io->iov[i].iov_len) {
            done -= io->iov[i].iov_len;
            continue;
        }
        out[count].iov_base = (char *)io->iov[i].iov_base + done;
        out[count++].iov_len = io->iov[i].iov_len - done;
        done = 0;
    }
    return count;
}

static int64_t do_transfer(struct env_io *io, int flags)
{
    struct iovec rest[64];
    size_t done = 0;
    unsigned count;

    while ((count = iov_rest(io, done, rest)) != 0) {
        off_t offset = (off_t)(io->offset + done);
        ssize_t r = io->type == ENV_IO_READ ? preadv2(io->file->fd, rest, (int)count, offset, flags)
                                            : pwritev(io->file->fd, rest, (int)count, offset);

        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return -errno;
        }
        if (r == 0) {
            return io->type == ENV_IO_READ ? (int64_t)done : -EIO;
        }
        done += (size_t)r;
    }
    return (int64_t)done;
}

static int64_t do_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t r;

    if (fd < 0) {
        return -errno;
    }
    r = result_of(fsync(fd));
    close(fd);
    return r;
}

static int64_t do_stat(struct env_io *io)
{
    struct stat info;
    struct statvfs disk;

    if (stat(io->path, &info) < 0 || statvfs(io->path, &disk) < 0) {
        return -errno;
    }
    io->size = (uint64_t)info.st_size;
    io->free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    io->total_bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
    return 0;
}

static int64_t do_mkdir(const char *path)
{
    int64_t r = result_of(mkdir(path, 0700));

    return r == -EEXIST ? 0 : r;
}

static int64_t execute(struct env_io *io)
{
    off_t offset = (off_t)io->offset, size = (off_t)io->size;

    switch (io->type) {
    case ENV_IO_OPEN:
        return do_open(io);
    case ENV_IO_CLOSE:
        return do_close(io);
    case ENV_IO_READ:
    case ENV_IO_WRITE:
        return do_transfer(io, 0);
    case ENV_IO_SYNC:
        return result_of(fdatasync(io->file->fd));
    case ENV_IO_TRUNCATE:
        return result_of(ftruncate(io->file->fd, size));
    case ENV_IO_ALLOCATE:
        return result_of(fallocate(io->file->fd, 0, offset, size));
    case ENV_IO_PUNCH:
        return result_of(
            fallocate(io->file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size));
    case ENV_IO_RENAME:
        return result_of(rename(io->path, io->new_path));
    case ENV_IO_UNLINK:
        return result_of(unlink(io->path));
    case ENV_IO_MKDIR:
        return do_mkdir(io->path);
    case ENV_IO_SYNC_DIR:
        return do_sync_dir(io->path);
    case ENV_IO_STAT:
        return do_stat(io);
    }
    UNREACHABLE();
}

/* ---- threads ---- */

static void report(struct env_uv *uv, struct list *list, struct list_node *node)
{
    bool send;

    pthread_mutex_lock(&uv->done_mutex);
    list_push_back(list, node);
    send = !uv->wake_sent;
    uv->wake_sent = true;
    pthread_mutex_unlock(&uv->done_mutex);
    if (send) {
        uint64_t one = 1;
        ssize_t r = write(uv->wake_fd, &one, sizeof(one));

        ASSERT(r == sizeof(one));
    }
}

static struct list_node *lane_take(struct lane *lane)
{
    struct list_node *node;

    pthread_mutex_lock(&lane->mutex);
    while ((node = list_pop_front(&lane->queue)) == NULL && !lane->stopping) {
        pthread_cond_wait(&lane->wake, &lane->mutex);
    }
    pthread_mutex_unlock(&lane->mutex);
    return node;
}

static void *lane_run(void *arg)
{
    struct lane *lane = arg;
    struct list_node *node;

    while ((node = lane_take(lane)) != NULL) {
        struct env_io *io = container_of(node, struct env_io, node);

        io->result = execute(io);
        report(lane->uv, &lane->uv->done_io, &io->node);
    }
    return NULL;
}

static void *pool_run(void *arg)
{
    struct lane *lane = arg;
    struct list_node *node;

    while ((node = lane_take(lane)) != NULL) {
        struct env_work *work = container_of(node, struct env_work, node);

        work->run(work);
        report(lane->uv, &lane->uv->done_work, &work->node);
    }
    return NULL;
}

static void lane_push(struct lane *lane, struct list_node *node)
{
    pthread_mutex_lock(&lane->mutex);
    list_push_back(&lane->queue, node);
    pthread_cond_signal(&lane->wake);
    pthread_mutex_unlock(&lane->mutex);
}

static int lane_start(struct lane *lane, struct env_uv *uv, unsigned threads, void *(*run)(void *))
{
    lane->uv = uv;
    list_init(&lane->queue);
    pthread_mutex_init(&lane->mutex, NULL);
    pthread_cond_init(&lane->wake, NULL);
    for (unsigned i = 0; i < threads && i < ARRAY_SIZE(lane->threads); i++) {
        int r = pthread_create(&lane->threads[i], NULL, run, lane);

        if (r != 0) {
            return -r;
        }
        lane->thread_count++;
    }
    return 0;
}

static void lane_stop(struct lane *lane)
{
    pthread_mutex_lock(&lane->mutex);
    lane->stopping = true;
    pthread_cond_broadcast(&lane->wake);
    pthread_mutex_unlock(&lane->mutex);
    for (unsigned i = 0; i < lane->thread_count; i++) {
        pthread_join(lane->threads[i], NULL);
    }
    pthread_mutex_destroy(&lane->mutex);
    pthread_cond_destroy(&lane->wake);
}

/* ---- the loop's side ---- */

/* Reads that the page cache could not answer become work of the pool. */
struct cold_read {
    struct env_work work;
    struct env_io *io;
};

static void cold_read_run(struct env_work *work)
{
    struct cold_read *cold = container_of(work, struct cold_read, work);

    cold->io->result = execute(cold->io);
}

static void cold_read_done(struct env_work *work)
{
    struct cold_read *cold = container_of(work, struct cold_read, work);
    struct env_io *io = cold->io;

    mem_free(cold);
    io->done(io);
}

static void read_start(struct env_uv *uv, struct env_io *io)
{
    struct cold_read *cold;

    io->result = io->file->direct ? -EAGAIN : do_transfer(io, RWF_NOWAIT);
    if (io->result != -EAGAIN && io->result != -EOPNOTSUPP && io->result >= 0) {
        size_t want = 0;

        for (unsigned i = 0; i < io->iov_count; i++) {
            want += io->iov[i].iov_len;
        }
        if ((size_t)io->result == want) {
            list_push_back(&uv->ready, &io->node);
            env_uv_soon(uv);
            return;
        }
    }
    cold = mem_zalloc(sizeof(*cold));
    cold->io = io;
    cold->work.run = cold_read_run;
    cold->work.done = cold_read_done;
    lane_push(&uv->pool, &cold->work.node);
}

void env_uv_io(struct env *env, struct env_io *io)
{
    struct env_uv *uv = env_uv_of(env);

    if (io->type == ENV_IO_READ) {
        read_start(uv, io);
    } else if (io->file != NULL && !io->file->bulk) {
        lane_push(&uv->log_lane, &io->node);
    } else {
        lane_push(&uv->bulk_lane, &io->node);
    }
}

void env_uv_io_now(struct env *env, struct env_io *io)
{
    (void)env;
    io->result = execute(io);
}

void env_uv_work(struct env *env, struct env_work *work)
{
    lane_push(&env_uv_of(env)->pool, &work->node);
}

void env_uv_work_aside(struct env_uv *uv, struct env_work *work)
{
    if (uv->aside.uv == NULL) {
        int r = lane_start(&uv->aside, uv, 1, pool_run);

        ASSERT(r == 0);
    }
    lane_push(&uv->aside, &work->node);
}

void env_uv_file_drain(struct env_uv *uv)
{
    struct list ios, works;
    struct list_node *node;

    list_init(&ios);
    list_init(&works);
    pthread_mutex_lock(&uv->done_mutex);
    uv->wake_sent = false;
    list_splice(&ios, &uv->done_io);
    list_splice(&works, &uv->done_work);
    pthread_mutex_unlock(&uv->done_mutex);
    list_splice(&ios, &uv->ready);
    while ((node = list_pop_front(&ios)) != NULL) {
        struct env_io *io = container_of(node, struct env_io, node);

        io->done(io);
    }
    while ((node = list_pop_front(&works)) != NULL) {
        struct env_work *work = container_of(node, struct env_work, node);

        work->done(work);
    }
}

int env_uv_file_start(struct env_uv *uv, unsigned pool_threads)
{
    int r = lane_start(&uv->log_lane, uv, 1, lane_run);

    if (r == 0) {
        r = lane_start(&uv->bulk_lane, uv, 1, lane_run);
    }
    return r < 0 ? r : lane_start(&uv->pool, uv, pool_threads, pool_run);
}

void env_uv_file_stop(struct env_uv *uv)
{
    lane_stop(&uv->log_lane);
    lane_stop(&uv->bulk_lane);
    lane_stop(&uv->pool);
    if (uv->aside.uv != NULL) {
        lane_stop(&uv->aside);
    }
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int env_uv_list(struct env *env, const char *path, struct buf *out_names)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, NULL, compare_names);

    (void)env;
    if (count < 0) {
        return -errno;
    }
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;

        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            buf_append(out_names, name, strlen(name) + 1);
        }
        mem_free(entries[i]);
    }
    mem_free(entries);
    return 0;
}
