#pragma once
/* Shared by net/env_uv*.c only. */
#include "net/env_uv.h"

#include "base/rng.h"

#include <pthread.h>
#include <stdio.h>
#include <uv.h>

/* A thread (or several) that takes io and work from a queue, in order. */
struct lane {
    struct env_uv *uv;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct list queue; /* of struct job */
    bool stopping;
    pthread_t threads[8];
    unsigned thread_count;
};

/* Something that runs at the next turn of the loop: law 1. */
struct deferred {
    struct list_node node;
    void (*run)(struct deferred *deferred);
};

struct env_uv {
    struct env env;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_poll_t wake; /* of wake_fd: threads have completed something */
    int wake_fd;
    uv_idle_t idle;     /* active while `ready` or `deferred` holds something */
    uv_prepare_t flush; /* sends what was queued during this turn */
    uv_signal_t signals[3];
    void (*stop_signal)(void *data);
    void *stop_data;
    void (*ended)(void *data, enum env_end end, int disk_error);
    void *ended_data;
    struct heap timers;
    struct rng rng;
    const char *node_name;
    FILE *log;
    struct lane log_lane;
    struct lane bulk_lane;
    struct lane pool;
    struct lane aside; /* no thread before it is used */
    pthread_mutex_t done_mutex;
    struct list done_io; /* completed by threads, under done_mutex */
    struct list done_work;
    bool wake_sent;    /* under done_mutex */
    struct list ready; /* io completed on the loop itself */
    struct list deferred;
    struct list dirty; /* connections with sends to flush */
};

static inline struct env_uv *env_uv_of(struct env *env)
{
    return container_of(env, struct env_uv, env);
}

/* What waits in `ready` and `deferred` runs at the next turn. */
void env_uv_soon(struct env_uv *uv);
void env_uv_defer(struct env_uv *uv, struct deferred *deferred);
/* env_uv_file.c */
int env_uv_file_start(struct env_uv *uv, unsigned pool_threads);
void env_uv_file_stop(struct env_uv *uv);
void env_uv_file_drain(struct env_uv *uv); /* runs completions */
void env_uv_io(struct env *env, struct env_io *io);
void env_uv_io_now(struct env *env, struct env_io *io);
int env_uv_list(struct env *env, const char *path, struct buf *out_names);
void env_uv_work(struct env *env, struct env_work *work);
/* env_uv_net.c */
int env_uv_listen(struct env *env, struct env_listener *listener, const char *address);
void env_uv_listen_stop(struct env *env, struct env_listener *listener);
void env_uv_connect(struct env *env, struct env_conn *conn, const char *address);
void env_uv_send(struct env *env, struct env_conn *conn, struct env_send *send);
void env_uv_conn_pause(struct env *env, struct env_conn *conn, bool paused);
void env_uv_conn_close(struct env *env, struct env_conn *conn);
void env_uv_net_flush(struct env_uv *uv);
