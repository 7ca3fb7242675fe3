#pragma once
/*
 * env: the one seam to the world (docs/adr/0004). Nothing else reads a clock, rolls dice, opens a
 * file or a socket, or starts a thread. net/env_uv.c is the real one; tests/sim/env_sim.c runs a
 * whole cluster in one process under a seed.
 *
 * The four laws, for timers, io, sends, connections and work:
 *   1. a completion never runs inside the call that submitted it;
 *   2. every submission completes exactly once, also after cancel or close;
 *   3. completions of one file (writes and syncs), and of one connection, come in order;
 *   4. request memory belongs to the caller, is embedded in its op, and is env's until completion.
 *
 * Blocking calls (env_io_now, env_read_file, env_list) are for start-up and offline tools, and for
 * B-tree page faults (docs/adr/0009); nothing else blocks.
 */
#include "base/buf.h"
#include "base/heap.h"
#include "base/list.h"

#include <sys/uio.h>

struct env;
struct env_file; /* an open file or directory of env's */

struct env_timer {
    struct heap_node node;
    void (*fire)(struct env_timer *timer); /* not running any more when called */
};

enum env_io_type {
    ENV_IO_OPEN,     /* path, flags -> file */
    ENV_IO_CLOSE,    /* file */
    ENV_IO_READ,     /* file, iov, offset -> result: bytes, short at end of file */
    ENV_IO_WRITE,    /* file, iov, offset -> result: all bytes, or an error */
    ENV_IO_SYNC,     /* file: fdatasync */
    ENV_IO_TRUNCATE, /* file, size */
    ENV_IO_ALLOCATE, /* file, offset, size: reserve space, growing the file */
    ENV_IO_PUNCH,    /* file, offset, size: give space back, size unchanged */
    ENV_IO_RENAME,   /* path, new_path */
    ENV_IO_UNLINK,   /* path */
    ENV_IO_MKDIR,    /* path; an existing directory is success */
    ENV_IO_SYNC_DIR, /* path: make creates, renames and unlinks in it durable */
    ENV_IO_STAT,     /* path -> size (bytes of the file), free_bytes and total_bytes of its disk */
};

enum {
    ENV_OPEN_CREATE = 1,    /* create when missing, mode 0600 */
    ENV_OPEN_EXCLUSIVE = 2, /* with CREATE: -EEXIST when it is there */
    ENV_OPEN_DIRECT = 4,    /* O_DIRECT where the file system has it */
    ENV_OPEN_READ_ONLY = 8,
    ENV_OPEN_BULK = 16, /* io goes through the bulk thread: checkpoints, tables, preallocation;
                           without it, through the log thread: append + fdatasync only */
    ENV_OPEN_LOCK = 32, /* exclusive advisory lock until closed; -EBUSY when another has it */
};

/* Path operations (no file) run on the bulk thread. Reads run wherever they end soonest. */
struct env_io {
    enum env_io_type type;
    unsigned flags;
    struct env_file *file;
    const char *path;
    const char *new_path;
    struct iovec *iov;
    unsigned iov_count;
    uint64_t offset;
    uint64_t size;
    uint64_t free_bytes;
    uint64_t total_bytes;
    int64_t result; /* >= 0, or a negative errno */
    void (*done)(struct env_io *io);
    void *data;            /* the caller's */
    struct list_node node; /* env's */
};

/* Pure CPU on buffers handed over; touches nothing else (no env, no globals). */
struct env_work {
    void (*run)(struct env_work *work); /* on another thread */
    void (*done)(struct env_work *work);
    struct list_node node;
};

struct env_send {
    struct iovec iov[4];
    unsigned iov_count;
    size_t sent;                                     /* env's */
    void (*done)(struct env_send *send, int status); /* 0 = handed to the kernel, or why not */
    struct list_node node;
};

/*
 * A stream connection, Unix or TCP. The owner fills in the callbacks, then env_connect, or returns
 * it from a listener's accept. env reads straight into the memory that want() names. After
 * env_conn_close (the owner's wish) or an error, closed() runs once, all sends have completed
 * before it, and env has forgotten the connection.
 */
struct env_conn {
    void (*opened)(struct env_conn *conn);
    struct iovec (*want)(struct env_conn *conn);          /* where the next bytes go; size > 0 */
    void (*received)(struct env_conn *conn, size_t size); /* `size` bytes went there */
    void (*closed)(struct env_conn *conn, int status);    /* 0 = our wish or end of stream */
    void *data;                                           /* the owner's */
    uint32_t peer_uid; /* Unix sockets: uid of the other process; UINT32_MAX on TCP */
    bool paused;       /* env_conn_pause: backpressure, nothing is read */
    void *impl;        /* env's */
};

struct env_listener {
    /* A peer has connected. Returns a connection with callbacks set (opened() follows), or NULL to
     * refuse. */
    struct env_conn *(*accept)(struct env_listener *listener);
    bool owner_only; /* Unix sockets: mode 0600 from the start */
    void *data;
    void *impl; /* env's */
};

/* How a process comes to its end before its time (docs/adr/0021). */
enum env_end {
    ENV_END_BUG,  /* what must not be: abort */
    ENV_END_DISK, /* its disk failed or is full: nothing is served any more, but who asks is told */
    ENV_END_AGAIN, /* it starts again at once, and mends at the start what it has found damaged */
};

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct env_ops {
    uint64_t (*now)(struct env *env);
    uint64_t (*wall)(struct env *env);
    uint64_t (*random)(struct env *env);
    void (*timer_start)(struct env *env, struct env_timer *timer, uint64_t deadline_ns);
    void (*timer_stop)(struct env *env, struct env_timer *timer);
    void (*io)(struct env *env, struct env_io *io);
    void (*io_now)(struct env *env, struct env_io *io);
    int (*list)(struct env *env, const char *path, struct buf *out_names);
    void (*work)(struct env *env, struct env_work *work);
    int (*listen)(struct env *env, struct env_listener *listener, const char *address);
    void (*listen_stop)(struct env *env, struct env_listener *listener);
    void (*connect)(struct env *env, struct env_conn *conn, const char *address);
    void (*send)(struct env *env, struct env_conn *conn, struct env_send *send);
    void (*conn_pause)(struct env *env, struct env_conn *conn, bool paused);
    void (*conn_close)(struct env *env, struct env_conn *conn);
    void (*log)(struct env *env, enum log_level level, const char *area, const char *text);
    /* Never returns: the process (a simulated node) dies now. disk_error: of ENV_END_DISK. */
    void (*fatal)(struct env *env, enum env_end end, int disk_error);
};

struct env {
    const struct env_ops *ops;
    enum log_level log_level;
};

/* Monotonic, ns. Counts time asleep (CLOCK_BOOTTIME). */
static inline uint64_t env_now(struct env *env)
{
    return env->ops->now(env);
}

/* Since 1970, ns; only for times that users see. */
static inline uint64_t env_wall(struct env *env)
{
    return env->ops->wall(env);
}

static inline uint64_t env_random(struct env *env)
{
    return env->ops->random(env);
}

/* Starts, or moves, the timer. A deadline in the past fires at the next turn of the loop. */
static inline void env_timer_start(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    env->ops->timer_start(env, timer, deadline_ns);
}

static inline void env_timer_stop(struct env *env, struct env_timer *timer)
{
    env->ops->timer_stop(env, timer);
}

static inline bool env_timer_running(const struct env_timer *timer)
{
    return timer->node.slot != 0;
}

static inline void env_io(struct env *env, struct env_io *io)
{
    env->ops->io(env, io);
}

/* Blocks; done is not called. Returns io->result. */
int64_t env_io_now(struct env *env, struct env_io *io);
static inline void env_work(struct env *env, struct env_work *work)
{
    env->ops->work(env, work);
}

/* Address: "unix:PATH" or "HOST:PORT". 0, or why not, at once. */
static inline int must_check env_listen(struct env *env, struct env_listener *listener,
                                        const char *address)
{
    return env->ops->listen(env, listener, address);
}

static inline void env_listen_stop(struct env *env, struct env_listener *listener)
{
    env->ops->listen_stop(env, listener);
}

/* opened() or closed() follows. */
static inline void env_connect(struct env *env, struct env_conn *conn, const char *address)
{
    env->ops->connect(env, conn, address);
}

/* The bytes named by send->iov stay untouched until done. Allowed on a connection that has failed
 * but whose closed() has not run yet. */
static inline void env_send(struct env *env, struct env_conn *conn, struct env_send *send)
{
    env->ops->send(env, conn, send);
}

static inline void env_conn_pause(struct env *env, struct env_conn *conn, bool paused)
{
    env->ops->conn_pause(env, conn, paused);
}

static inline void env_conn_close(struct env *env, struct env_conn *conn)
{
    env->ops->conn_close(env, conn);
}

/* Blocking, start-up only. Each returns 0 (env_read_at: bytes read) or a negative code. */
int must_check env_open_now(struct env *env, const char *path, unsigned flags,
                            struct env_file **out_file);
void env_close_now(struct env *env, struct env_file *file);
int64_t must_check env_read_at(struct env *env, struct env_file *file, void *data, size_t size,
                               uint64_t offset);
int must_check env_write_at(struct env *env, struct env_file *file, const void *data, size_t size,
                            uint64_t offset);
int must_check env_sync_now(struct env *env, struct env_file *file);
int must_check env_path_now(struct env *env, enum env_io_type type, const char *path,
                            const char *new_path);
/* -EFBIG above `max`. */
int must_check env_read_file(struct env *env, const char *path, size_t max, struct buf *out_bytes);
/* Writes a new file, syncs it, renames it to `path` and syncs the directory `dir`. */
int must_check env_replace_file(struct env *env, const char *dir, const char *path,
                                struct slice bytes);
/* Names in a directory (no dots), each ended by a zero byte, sorted. */
int must_check env_list(struct env *env, const char *path, struct buf *out_names);

/* The process dies at once (a differing state hash, a state that cannot be): never returns. */
_Noreturn void env_fatal(struct env *env, const char *area, const char *format, ...)
    printf_like(3, 4);
/* The server ends at once, because what it writes does not become durable any more, or what it has
 * written cannot be read; `error`: the negative code that says why. Never returns: what memory and
 * page cache hold is not trusted from here on. */
_Noreturn void env_disk_failed(struct env *env, int error, const char *area, const char *format,
                               ...) printf_like(4, 5);
/* The server starts again at once: what it needs in memory cannot be read. Never returns. */
_Noreturn void env_start_again(struct env *env, const char *area, const char *format, ...)
    printf_like(3, 4);
/* Is this negative code one of a disk that fails, is full, or has become read-only? */
bool env_is_disk_error(int error);
