#include "base/env.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>

int64_t env_io_now(struct env *env, struct env_io *io)
{
    env->ops->io_now(env, io);
    return io->result;
}

static int status(int64_t result)
{
    return result < 0 ? (int)result : 0;
}

int env_open_now(struct env *env, const char *path, unsigned flags, struct env_file **out_file)
{
    struct env_io io = {.type = ENV_IO_OPEN, .path = path, .flags = flags};
    int r = status(env_io_now(env, &io));

    if (r == 0) {
        *out_file = io.file;
    }
    return r;
}

void env_close_now(struct env *env, struct env_file *file)
{
    struct env_io io = {.type = ENV_IO_CLOSE, .file = file};

    if (file != NULL) {
        env_io_now(env, &io);
    }
}

int64_t env_read_at(struct env *env, struct env_file *file, void *data, size_t size,
                    uint64_t offset)
{
    struct iovec iov = {data, size};
    struct env_io io = {
        .type = ENV_IO_READ, .file = file, .iov = &iov, .iov_count = 1, .offset = offset};

    return env_io_now(env, &io);
}

int env_write_at(struct env *env, struct env_file *file, const void *data, size_t size,
                 uint64_t offset)
{
    struct iovec iov = {(void *)(uintptr_t)data, size};
    struct env_io io = {
        .type = ENV_IO_WRITE, .file = file, .iov = &iov, .iov_count = 1, .offset = offset};

    return status(env_io_now(env, &io));
}

int env_sync_now(struct env *env, struct env_file *file)
{
    struct env_io io = {.type = ENV_IO_SYNC, .file = file};

    return status(env_io_now(env, &io));
}

int env_path_now(struct env *env, enum env_io_type type, const char *path, const char *new_path)
{
    struct env_io io = {.type = type, .path = path, .new_path = new_path};

    return status(env_io_now(env, &io));
}

int env_read_file(struct env *env, const char *path, size_t max, struct buf *out_bytes)
{
    struct env_io stat = {.type = ENV_IO_STAT, .path = path};
    struct env_file *file = NULL;
    int64_t got;
    int r;

    r = status(env_io_now(env, &stat));
    if (r < 0) {
        return r;
    }
    if (stat.size > max) {
        return -EFBIG;
    }
    r = env_open_now(env, path, ENV_OPEN_READ_ONLY, &file);
    if (r < 0) {
        return r;
    }
    got = env_read_at(env, file, buf_reserve(out_bytes, stat.size), stat.size, 0);
    env_close_now(env, file);
    if (got < 0) {
        return (int)got;
    }
    out_bytes->size += (size_t)got;
    return 0;
}

static int write_whole(struct env *env, const char *path, struct slice bytes)
{
    struct env_file *file = NULL;
    int r;

    r = env_path_now(env, ENV_IO_UNLINK, path, NULL);
    if (r < 0 && r != -ENOENT) {
        return r;
    }
    r = env_open_now(env, path, ENV_OPEN_CREATE, &file);
    if (r < 0) {
        return r;
    }
    r = env_write_at(env, file, bytes.data, bytes.size, 0);
    if (r == 0) {
        r = env_sync_now(env, file);
    }
    env_close_now(env, file);
    return r;
}

int env_replace_file(struct env *env, const char *dir, const char *path, struct slice bytes)
{
    char *temporary = mem_printf("%s.new", path);
    int r;

    r = write_whole(env, temporary, bytes);
    if (r == 0) {
        r = env_path_now(env, ENV_IO_RENAME, temporary, path);
    }
    if (r == 0) {
        r = env_path_now(env, ENV_IO_SYNC_DIR, dir, NULL);
    }
    mem_free(temporary);
    return r;
}

int env_list(struct env *env, const char *path, struct buf *out_names)
{
    return env->ops->list(env, path, out_names);
}

_Noreturn static void end_process(struct env *env, enum log_level level, enum env_end end,
                                  int disk_error, const char *area, const char *format,
                                  va_list args)
{
    char text[1024];

    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    env->ops->log(env, level, area, text);
    env->ops->fatal(env, end, disk_error);
    UNREACHABLE();
}

void env_fatal(struct env *env, const char *area, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    end_process(env, LOG_LEVEL_ERROR, ENV_END_BUG, 0, area, format, args);
}

void env_disk_failed(struct env *env, int error, const char *area, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    end_process(env, LOG_LEVEL_ERROR, ENV_END_DISK, error, area, format, args);
}

void env_start_again(struct env *env, const char *area, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    end_process(env, LOG_LEVEL_WARN, ENV_END_AGAIN, 0, area, format, args);
}

bool env_is_disk_error(int error)
{
    switch (-error) {
    case EIO:
    case ENOSPC:
    case EDQUOT:
    case EROFS:
    case EUCLEAN: /* the file system found itself damaged */
    case ENODEV:
    case ENXIO:
        return true;
    default:
        return false;
    }
}

void log_write(struct env *env, enum log_level level, const char *area, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    env->ops->log(env, level, area, text);
}
