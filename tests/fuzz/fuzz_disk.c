#include "tests/fuzz/fuzz_disk.h"

#include "base/assert.h"
#include "base/bytes.h"

#include <errno.h>

#define LOAD_OFFSET_MAX MiB(2)
#define SAVE_GAP        16 /* as many zeros are worth a record of their own */

static struct fuzz_disk *disk_of(struct env *env)
{
    return container_of(env, struct fuzz_disk, env);
}

struct env_file *fuzz_disk_file(struct fuzz_disk *disk, const char *name)
{
    for (unsigned i = 0; i < FUZZ_FILES_MAX; i++) {
        if (disk->files[i].exists && strcmp(disk->files[i].name, name) == 0) {
            return &disk->files[i];
        }
    }
    return NULL;
}

static struct env_file *create(struct fuzz_disk *disk, const char *name)
{
    for (unsigned i = 0; i < FUZZ_FILES_MAX; i++) {
        struct env_file *file = &disk->files[i];

        if (!file->exists && file->opens == 0) {
            buf_deinit(&file->bytes);
            *file = (struct env_file){.exists = true};
            snprintf(file->name, sizeof(file->name), "%s", name);
            return file;
        }
    }
    return NULL;
}

static int64_t open_file(struct fuzz_disk *disk, struct env_io *io)
{
    struct env_file *file = fuzz_disk_file(disk, io->path);

    if (file != NULL && (io->flags & ENV_OPEN_EXCLUSIVE) != 0) {
        return -EEXIST;
    }
    if (file == NULL && (io->flags & ENV_OPEN_CREATE) != 0) {
        file = create(disk, io->path);
        if (file == NULL) {
            return -ENOSPC;
        }
    }
    if (file == NULL) {
        return -ENOENT;
    }
    file->opens++;
    io->file = file;
    return 0;
}

static void set_size(struct env_file *file, uint64_t size)
{
    if (size > file->bytes.size) {
        buf_append_zero(&file->bytes, (size_t)size - file->bytes.size);
    }
    file->bytes.size = (size_t)size;
}

static int64_t write_file(struct env_io *io)
{
    uint64_t at = io->offset;

    for (unsigned i = 0; i < io->iov_count; i++) {
        size_t size = io->iov[i].iov_len;

        if (at > FUZZ_FILE_MAX || size > FUZZ_FILE_MAX - at) {
            return -EFBIG;
        }
        set_size(io->file, max_u64(io->file->bytes.size, at + size));
        if (size > 0) {
            memcpy(io->file->bytes.data + at, io->iov[i].iov_base, size);
        }
        at += size;
    }
    return (int64_t)(at - io->offset);
}

static int64_t read_file(struct env_io *io)
{
    uint64_t at = io->offset;

    for (unsigned i = 0; i < io->iov_count && at < io->file->bytes.size; i++) {
        size_t size = (size_t)min_u64(io->iov[i].iov_len, io->file->bytes.size - at);

        if (size > 0) {
            memcpy(io->iov[i].iov_base, io->file->bytes.data + at, size);
        }
        at += size;
    }
    return (int64_t)(at - io->offset);
}

static int64_t punch(struct env_io *io)
{
    uint64_t size = io->file->bytes.size;

    if (io->offset < size && io->size > 0) {
        memset(io->file->bytes.data + io->offset, 0, min_u64(io->size, size - io->offset));
    }
    return 0;
}

static int64_t change_name(struct fuzz_disk *disk, struct env_io *io)
{
    struct env_file *file = fuzz_disk_file(disk, io->path);
    struct env_file *other = io->type == ENV_IO_RENAME ? fuzz_disk_file(disk, io->new_path) : NULL;

    if (file == NULL) {
        return -ENOENT;
    }
    if (other != NULL && other != file) {
        other->exists = false;
    }
    if (io->type == ENV_IO_RENAME) {
        snprintf(file->name, sizeof(file->name), "%s", io->new_path);
    } else {
        file->exists = false;
    }
    return 0;
}

static int64_t stat_file(struct fuzz_disk *disk, struct env_io *io)
{
    const struct env_file *file = fuzz_disk_file(disk, io->path);

    io->size = file != NULL ? file->bytes.size : 0;
    io->total_bytes = GiB(100);
    io->free_bytes = GiB(50);
    return 0;
}

static int64_t perform(struct fuzz_disk *disk, struct env_io *io)
{
    switch (io->type) {
    case ENV_IO_OPEN:
        return open_file(disk, io);
    case ENV_IO_CLOSE:
        ASSERT(io->file->opens > 0);
        io->file->opens--;
        return 0;
    case ENV_IO_READ:
        return read_file(io);
    case ENV_IO_WRITE:
        return write_file(io);
    case ENV_IO_TRUNCATE:
        if (io->size > FUZZ_FILE_MAX) {
            return -EFBIG;
        }
        set_size(io->file, io->size);
        return 0;
    case ENV_IO_PUNCH:
        return punch(io);
    case ENV_IO_RENAME:
    case ENV_IO_UNLINK:
        return change_name(disk, io);
    case ENV_IO_STAT:
        return stat_file(disk, io);
    case ENV_IO_SYNC:
    case ENV_IO_SYNC_DIR:
    case ENV_IO_MKDIR:
    case ENV_IO_ALLOCATE:
        return 0;
    }
    UNREACHABLE();
}

static void disk_io_now(struct env *env, struct env_io *io)
{
    io->result = perform(disk_of(env), io);
}

static void disk_io(struct env *env, struct env_io *io)
{
    io->node = (struct list_node){0};
    list_push_back(&disk_of(env)->queue, &io->node);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int disk_list(struct env *env, const char *path, struct buf *out_names)
{
    const char *names[FUZZ_FILES_MAX];
    size_t length = strlen(path), count = 0;

    for (unsigned i = 0; i < FUZZ_FILES_MAX; i++) {
        const struct env_file *file = &disk_of(env)->files[i];

        if (file->exists && strncmp(file->name, path, length) == 0 && file->name[length] == '/') {
            names[count++] = file->name + length + 1;
        }
    }
    qsort(names, count, sizeof(*names), by_text);
    for (size_t i = 0; i < count; i++) {
        buf_append(out_names, names[i], strlen(names[i]) + 1);
    }
    return 0;
}

static uint64_t disk_now(struct env *env)
{
    return disk_of(env)->now;
}

static uint64_t disk_random(struct env *env)
{
    disk_of(env)->dice = disk_of(env)->dice * UINT64_C(6364136223846793005) + 1442695040888963407;
    return disk_of(env)->dice >> 11;
}

static void disk_timer_stop(struct env *env, struct env_timer *timer)
{
    heap_remove(&disk_of(env)->timers, &timer->node);
}

static void disk_timer_start(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    disk_timer_stop(env, timer);
    heap_push(&disk_of(env)->timers, &timer->node, max_u64(deadline_ns, disk_of(env)->now));
}

static void disk_log(struct env *env, enum log_level level, const char *area, const char *text)
{
    (void)env;
    (void)level;
    if (getenv("FUZZ_LOG") != NULL) {
        printf("%s: %s\n", area, text);
    }
}

static void disk_fatal(struct env *env, enum env_end end, int result)
{
    (void)end;
    (void)result;
    longjmp(disk_of(env)->escape, 1);
}

static const struct env_ops disk_ops = {.now = disk_now,
                                        .wall = disk_now,
                                        .random = disk_random,
                                        .timer_start = disk_timer_start,
                                        .timer_stop = disk_timer_stop,
                                        .io = disk_io,
                                        .io_now = disk_io_now,
                                        .list = disk_list,
                                        .log = disk_log,
                                        .fatal = disk_fatal};

void fuzz_disk_init(struct fuzz_disk *disk)
{
    *disk = (struct fuzz_disk){.env = {&disk_ops, LOG_LEVEL_INFO}, .now = NS_PER_S, .dice = 1};
    list_init(&disk->queue);
}

void fuzz_disk_deinit(struct fuzz_disk *disk)
{
    ASSERT(list_empty(&disk->queue) && heap_top(&disk->timers) == NULL);
    for (unsigned i = 0; i < FUZZ_FILES_MAX; i++) {
        ASSERT(disk->files[i].opens == 0); /* else somebody forgot a file */
        buf_deinit(&disk->files[i].bytes);
    }
    heap_deinit(&disk->timers);
}

bool fuzz_disk_guard(struct fuzz_disk *disk, void (*fn)(void *data), void *data)
{
    if (setjmp(disk->escape) != 0) {
        return false;
    }
    fn(data);
    return true;
}

void fuzz_disk_run(struct fuzz_disk *disk, uint64_t ns)
{
    uint64_t until = disk->now + ns;

    for (;;) {
        struct list_node *node = list_pop_front(&disk->queue);
        struct heap_node *top = heap_top(&disk->timers);

        if (node != NULL) {
            struct env_io *io = list_entry(node, struct env_io, node);

            io->result = perform(disk, io);
            io->done(io);
        } else if (top != NULL && top->key <= until) {
            struct env_timer *timer = container_of(top, struct env_timer, node);

            heap_remove(&disk->timers, top);
            disk->now = max_u64(disk->now, top->key);
            timer->fire(timer);
        } else {
            return;
        }
    }
}

/* ---- inputs ---- */

void fuzz_disk_load(struct fuzz_disk *disk, struct fuzz_input *input, const char *const *names,
                    unsigned count)
{
    while (input->left > 0) {
        const char *name = names[fuzz_below(input, count)];
        uint64_t offset = fuzz_number(input, 4) % LOAD_OFFSET_MAX;
        struct slice bytes = fuzz_bytes(input, (size_t)fuzz_number(input, 2));
        struct env_file *file = fuzz_disk_file(disk, name);

        file = file != NULL ? file : create(disk, name);
        ASSERT(file != NULL);
        set_size(file, max_u64(file->bytes.size, offset + bytes.size));
        if (bytes.size > 0) {
            memcpy(file->bytes.data + offset, bytes.data, bytes.size);
        }
    }
}

static void save_record(struct buf *out, unsigned file, size_t offset, struct slice bytes)
{
    uint8_t *at = buf_reserve(out, 7);

    at[0] = (uint8_t)file;
    bytes_put_le32(at + 1, (uint32_t)offset);
    bytes_put_le16(at + 5, (uint16_t)bytes.size);
    out->size += 7;
    buf_append_slice(out, bytes);
}

/* The end of what begins at `at`: SAVE_GAP zeros follow, or it is as long as a record can be. */
static size_t run_end(struct slice bytes, size_t at)
{
    size_t end = at + 1;

    for (size_t i = at; i < bytes.size && i - at < UINT16_MAX && i < end + SAVE_GAP; i++) {
        end = bytes.data[i] != 0 ? i + 1 : end;
    }
    return end;
}

void fuzz_disk_save(struct fuzz_disk *disk, const char *const *names, unsigned count,
                    struct buf *out)
{
    for (unsigned i = 0; i < count; i++) {
        const struct env_file *file = fuzz_disk_file(disk, names[i]);
        struct slice bytes = file != NULL ? buf_slice(&file->bytes) : (struct slice){0};

        for (size_t at = 0; at < bytes.size; at++) {
            if (bytes.data[at] != 0) {
                size_t end = run_end(bytes, at);

                save_record(out, i, at, slice_make(bytes.data + at, end - at));
                at = end - 1;
            }
        }
        if (file != NULL) {
            save_record(out, i, bytes.size, (struct slice){0});
        }
    }
}
