#pragma once
/*
 * env_uv: the real world behind struct env: libuv's loop and timers, our own sockets on uv_poll,
 * one log thread (append + fdatasync, in order), one bulk thread (everything slow), a small pool
 * for cold reads and CPU work. The only file with threads.
 */
#include "base/env.h"

struct env_uv;

struct env_uv_config {
    const char *node_name; /* in log lines, borrowed */
    enum log_level log_level;
    unsigned pool_threads; /* 0 = 2 */
    const char *log_path;  /* NULL = stderr */
};

/* 0 or a negative code. */
int must_check env_uv_open(struct env_uv **out_uv, const struct env_uv_config *config);
struct env *env_uv_env(struct env_uv *uv);
/* Runs until env_uv_stop. */
void env_uv_run(struct env_uv *uv);
void env_uv_stop(struct env_uv *uv);
/* Joins the threads and frees all; every connection and file has been closed before. */
void env_uv_close(struct env_uv *uv);

/* Calls back when fd is readable, from the loop, until unwatched. For the FUSE device. */
struct env_uv_watch {
    void (*readable)(struct env_uv_watch *watch);
    void *data;
    void *impl;
};
int must_check env_uv_watch(struct env_uv *uv, struct env_uv_watch *watch, int fd);
void env_uv_unwatch(struct env_uv_watch *watch);

/* env_work on a thread of its own, one after the other: for what may have to wait for the loop. */
void env_uv_work_aside(struct env_uv *uv, struct env_work *work);

/* Called when this process has to end before its time, but not because of a bug; it is aborted when
 * that returns. disk_error: see env_ops.fatal. */
void env_uv_on_end(struct env_uv *uv, void (*ended)(void *data, enum env_end end, int disk_error),
                   void *data);

/* Calls back, from the loop, at SIGINT, SIGTERM or SIGHUP. */
void env_uv_on_stop_signal(struct env_uv *uv, void (*stop)(void *data), void *data);
