#include "net/env_uv.h"

#include "base/assert.h"
#include "base/mem.h"
#include "net/env_uv_internal.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t uv_env_now(struct env *env)
{
    (void)env;
    return clock_ns(CLOCK_BOOTTIME);
}

static uint64_t uv_env_wall(struct env *env)
{
    (void)env;
    return clock_ns(CLOCK_REALTIME);
}

static uint64_t uv_env_random(struct env *env)
{
    return rng_next(&env_uv_of(env)->rng);
}

static void on_timer(uv_timer_t *handle);

/* The one libuv timer follows the earliest of ours. */
static void arm(struct env_uv *uv)
{
    struct heap_node *top = heap_top(&uv->timers);
    uint64_t now = clock_ns(CLOCK_BOOTTIME);

    if (top == NULL) {
        uv_timer_stop(&uv->timer);
        return;
    }
    uv_update_time(&uv->loop);
    uv_timer_start(&uv->timer, on_timer,
                   top->key <= now ? 0 : (top->key - now + NS_PER_MS - 1) / NS_PER_MS, 0);
}

static void on_timer(uv_timer_t *handle)
{
    struct env_uv *uv = handle->data;
    uint64_t now = clock_ns(CLOCK_BOOTTIME);
    struct heap_node *top;

    while ((top = heap_top(&uv->timers)) != NULL && top->key <= now) {
        struct env_timer *timer = container_of(top, struct env_timer, node);

        heap_remove(&uv->timers, top);
        timer->fire(timer);
    }
    arm(uv);
}

static void uv_env_timer_start(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    struct env_uv *uv = env_uv_of(env);

    heap_remove(&uv->timers, &timer->node);
    heap_push(&uv->timers, &timer->node, deadline_ns);
    if (heap_top(&uv->timers) == &timer->node) {
        arm(uv);
    }
}

static void uv_env_timer_stop(struct env *env, struct env_timer *timer)
{
    heap_remove(&env_uv_of(env)->timers, &timer->node);
}

static void uv_env_log(struct env *env, enum log_level level, const char *area, const char *text)
{
    static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG"};
    struct env_uv *uv = env_uv_of(env);
    uint64_t wall = clock_ns(CLOCK_REALTIME);
    time_t seconds = (time_t)(wall / NS_PER_S);
    struct tm when;
    char stamp[32];

    gmtime_r(&seconds, &when);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &when);
    fprintf(uv->log, "%s.%06uZ %-5s %s %s: %s\n", stamp, (unsigned)(wall % NS_PER_S / 1000),
            names[level], uv->node_name, area, text);
    fflush(uv->log);
}

static void uv_env_fatal(struct env *env, enum env_end end, int disk_error)
{
    struct env_uv *uv = env_uv_of(env);

    fflush(uv->log);
    if (end != ENV_END_BUG && uv->ended != NULL) {
        uv->ended(uv->ended_data, end, disk_error);
    }
    abort();
}

static const struct env_ops uv_env_ops = {
    .now = uv_env_now,
    .wall = uv_env_wall,
    .random = uv_env_random,
    .timer_start = uv_env_timer_start,
    .timer_stop = uv_env_timer_stop,
    .io = env_uv_io,
    .io_now = env_uv_io_now,
    .list = env_uv_list,
    .work = env_uv_work,
    .listen = env_uv_listen,
    .listen_stop = env_uv_listen_stop,
    .connect = env_uv_connect,
    .send = env_uv_send,
    .conn_pause = env_uv_conn_pause,
    .conn_close = env_uv_conn_close,
    .log = uv_env_log,
    .fatal = uv_env_fatal,
};

static void on_wake(uv_poll_t *handle, int status, int events)
{
    struct env_uv *uv = handle->data;
    uint64_t count;

    (void)status;
    (void)events;
    if (read(uv->wake_fd, &count, sizeof(count)) == sizeof(count)) {
        env_uv_file_drain(uv);
    }
}

static void on_idle(uv_idle_t *handle)
{
    struct env_uv *uv = handle->data;
    struct list now;
    struct list_node *node;

    uv_idle_stop(handle);
    list_init(&now);
    list_splice(&now, &uv->deferred);
    while ((node = list_pop_front(&now)) != NULL) {
        struct deferred *deferred = container_of(node, struct deferred, node);

        deferred->run(deferred);
    }
    env_uv_file_drain(uv);
}

static void on_prepare(uv_prepare_t *handle)
{
    env_uv_net_flush(handle->data);
}

void env_uv_soon(struct env_uv *uv)
{
    uv_idle_start(&uv->idle, on_idle);
}

void env_uv_defer(struct env_uv *uv, struct deferred *deferred)
{
    list_push_back(&uv->deferred, &deferred->node);
    env_uv_soon(uv);
}

static void init_handles(struct env_uv *uv)
{
    uv_timer_init(&uv->loop, &uv->timer);
    uv->timer.data = uv;
    /* Not uv_async: its receiver spins until the sender has left uv_async_send, and a sender that
     * lost its core to the receiver stays there for long. */
    uv_poll_init(&uv->loop, &uv->wake, uv->wake_fd);
    uv->wake.data = uv;
    uv_poll_start(&uv->wake, UV_READABLE, on_wake);
    uv_idle_init(&uv->loop, &uv->idle);
    uv->idle.data = uv;
    uv_prepare_init(&uv->loop, &uv->flush);
    uv->flush.data = uv;
    uv_prepare_start(&uv->flush, on_prepare);
}

static void seed(struct env_uv *uv)
{
    uint64_t value = 0;

    if (getrandom(&value, sizeof(value), 0) != sizeof(value)) {
        value = clock_ns(CLOCK_REALTIME);
    }
    rng_init(&uv->rng, value);
}

int env_uv_open(struct env_uv **out_uv, const struct env_uv_config *config)
{
    struct env_uv *uv = mem_zalloc(sizeof(*uv));
    int r;

    uv->env = (struct env){.ops = &uv_env_ops, .log_level = config->log_level};
    uv->node_name = config->node_name;
    uv->log = config->log_path != NULL ? fopen(config->log_path, "ae") : stderr;
    if (uv->log == NULL) {
        r = -errno;
        mem_free(uv);
        return r;
    }
    list_init(&uv->done_io);
    list_init(&uv->done_work);
    list_init(&uv->ready);
    list_init(&uv->deferred);
    list_init(&uv->dirty);
    pthread_mutex_init(&uv->done_mutex, NULL);
    signal(SIGPIPE, SIG_IGN);
    seed(uv);
    uv->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = uv_loop_init(&uv->loop);
    ASSERT(r == 0 && uv->wake_fd >= 0);
    init_handles(uv);
    r = env_uv_file_start(uv, config->pool_threads != 0 ? config->pool_threads : 2);
    if (r < 0) {
        return r;
    }
    *out_uv = uv;
    return 0;
}

struct env *env_uv_env(struct env_uv *uv)
{
    return &uv->env;
}

void env_uv_run(struct env_uv *uv)
{
    uv_run(&uv->loop, UV_RUN_DEFAULT);
}

void env_uv_stop(struct env_uv *uv)
{
    uv_stop(&uv->loop);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

void env_uv_close(struct env_uv *uv)
{
    env_uv_file_stop(uv);
    uv_walk(&uv->loop, close_handle, NULL);
    uv_run(&uv->loop, UV_RUN_DEFAULT);
    uv_loop_close(&uv->loop);
    close(uv->wake_fd);
    heap_deinit(&uv->timers);
    pthread_mutex_destroy(&uv->done_mutex);
    if (uv->log != stderr) {
        fclose(uv->log);
    }
    mem_free(uv);
}

static void on_watch(uv_poll_t *handle, int status, int events)
{
    struct env_uv_watch *watch = handle->data;

    (void)status; /* an error shows when the fd is read */
    (void)events;
    watch->readable(watch);
}

int env_uv_watch(struct env_uv *uv, struct env_uv_watch *watch, int fd)
{
    uv_poll_t *poll = mem_zalloc(sizeof(*poll));
    int r;

    r = uv_poll_init(&uv->loop, poll, fd);
    if (r < 0) {
        mem_free(poll);
        return r;
    }
    poll->data = watch;
    watch->impl = poll;
    return uv_poll_start(poll, UV_READABLE, on_watch);
}

static void free_handle(uv_handle_t *handle)
{
    mem_free(handle);
}

void env_uv_unwatch(struct env_uv_watch *watch)
{
    uv_poll_t *poll = watch->impl;

    if (poll != NULL) {
        watch->impl = NULL;
        uv_poll_stop(poll);
        uv_close((uv_handle_t *)poll, free_handle);
    }
}

void env_uv_on_end(struct env_uv *uv, void (*ended)(void *data, enum env_end end, int disk_error),
                   void *data)
{
    uv->ended = ended;
    uv->ended_data = data;
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct env_uv *uv = handle->data;

    (void)number;
    uv->stop_signal(uv->stop_data);
}

void env_uv_on_stop_signal(struct env_uv *uv, void (*stop)(void *data), void *data)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

    uv->stop_signal = stop;
    uv->stop_data = data;
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        uv_signal_init(&uv->loop, &uv->signals[i]);
        uv->signals[i].data = uv;
        uv_signal_start(&uv->signals[i], on_signal, numbers[i]);
        uv_unref((uv_handle_t *)&uv->signals[i]);
    }
}
