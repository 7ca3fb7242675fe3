/* env_sim: events, time, timers, nodes. */
#include "tests/sim/env_sim_internal.h"

#include "base/hash.h"

/* Nodes that crash leave their memory behind: there is nobody to free it. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

struct sim_node *sim_node_of(struct env *env)
{
    return container_of(env, struct sim_node, env);
}

uint64_t sim_delay(struct sim *sim, uint64_t min_ns, uint64_t max_ns, unsigned slow_percent)
{
    uint64_t delay = min_ns + rng_below(&sim->rng, max_ns - min_ns + 1);

    return rng_percent(&sim->rng, slow_percent) ? delay * 10 : delay;
}

struct sim_event *sim_schedule(struct sim_node *node, uint64_t at_ns,
                               void (*run)(struct sim_event *event), void *object)
{
    struct sim_event *event = mem_zalloc(sizeof(*event));

    event->node = node;
    event->epoch = node->epoch;
    event->run = run;
    event->object = object;
    heap_push(&node->sim->events, &event->heap, max_u64(at_ns, node->sim->now + 1));
    return event;
}

bool sim_guard(struct sim_node *node, void (*fn)(void *data), void *data)
{
    struct sim *sim = node->sim;

    ASSERT(sim->running == NULL);
    sim->running = node;
    if (setjmp(sim->escape) == 0) {
        fn(data);
        sim->running = NULL;
        return true;
    }
    sim->running = NULL;
    return false;
}

/* ---- ops ---- */

/* The node's own clock at that time. */
static uint64_t to_local(const struct sim_node *node, uint64_t ns)
{
    int64_t drift = (int64_t)(ns / 1000000) * node->clock_ppm +
                    (int64_t)(ns % 1000000) * node->clock_ppm / 1000000;

    return ns + node->clock_offset_ns + (uint64_t)drift;
}

/* When its clock will show that, or a little later. */
static uint64_t from_local(const struct sim_node *node, uint64_t local_ns)
{
    uint64_t shown, at;

    if (local_ns <= node->clock_offset_ns || local_ns > (UINT64_C(1) << 60)) {
        return local_ns > (UINT64_C(1) << 60) ? UINT64_MAX : 0;
    }
    shown = local_ns - node->clock_offset_ns;
    at = shown -
         (uint64_t)((int64_t)(shown / (uint64_t)(1000000 + node->clock_ppm)) * node->clock_ppm);
    while (to_local(node, at) < local_ns) {
        at += 1 + (local_ns - to_local(node, at)) / 2;
    }
    return at;
}

static uint64_t op_now(struct env *env)
{
    return to_local(sim_node_of(env), sim_node_of(env)->sim->now);
}

static uint64_t op_wall(struct env *env)
{
    const struct sim_node *node = sim_node_of(env);

    return UINT64_C(1700000000) * NS_PER_S + to_local(node, node->sim->now) +
           (uint64_t)node->wall_offset_ns;
}

static uint64_t op_random(struct env *env)
{
    return rng_next(&sim_node_of(env)->sim->rng);
}

static void op_timer_stop(struct env *env, struct env_timer *timer)
{
    heap_remove(&sim_node_of(env)->timers, &timer->node);
}

static void op_timer_start(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    struct sim_node *node = sim_node_of(env);

    heap_remove(&node->timers, &timer->node);
    heap_push(&node->timers, &timer->node, max_u64(deadline_ns, op_now(env) + 1));
}

static void work_done(struct sim_event *event)
{
    struct env_work *work = event->object;

    work->run(work);
    work->done(work);
}

static void op_work(struct env *env, struct env_work *work)
{
    struct sim_node *node = sim_node_of(env);

    sim_schedule(node, node->sim->now + sim_delay(node->sim, 10 * NS_PER_US, NS_PER_MS, 5),
                 work_done, work);
}

static void op_log(struct env *env, enum log_level level, const char *area, const char *text)
{
    static const char letters[] = "EWID";
    struct sim_node *node = sim_node_of(env);
    struct sim *sim = node->sim;

    if (level == LOG_LEVEL_ERROR) {
        sim->errors++;
        snprintf(sim->last_error, sizeof(sim->last_error), "node %u %s: %s", node->number, area,
                 text);
    }
    if (sim->log != NULL) {
        char line[1100];

        snprintf(line, sizeof(line), "%c %s: %s", letters[level], area, text);
        sim->log(sim->log_data, node->number, level, line);
    }
    if (sim->verbose) {
        printf("%12.6f n%u %c %s: %s\n", (double)sim->now / 1e9, node->number, letters[level], area,
               text);
    }
}

static void op_fatal(struct env *env, enum env_end end, int disk_error)
{
    struct sim_node *node = sim_node_of(env);

    (void)end;
    (void)disk_error;
    ASSERT(node->sim->running == node);
    node->died = true;
    node->sim->deaths++;
    sim_kill(node, SIM_KILL);
    longjmp(node->sim->escape, 1);
}

static const struct env_ops sim_ops = {
    .now = op_now,
    .wall = op_wall,
    .random = op_random,
    .timer_start = op_timer_start,
    .timer_stop = op_timer_stop,
    .io = sim_disk_io,
    .io_now = sim_disk_io_now,
    .list = sim_disk_list,
    .work = op_work,
    .listen = sim_net_listen,
    .listen_stop = sim_net_listen_stop,
    .connect = sim_net_connect,
    .send = sim_net_send,
    .conn_pause = sim_net_pause,
    .conn_close = sim_net_close,
    .log = op_log,
    .fatal = op_fatal,
};

/* ---- the loop ---- */

struct sim_run {
    struct sim_event *event;
    struct env_timer *timer;
};

static void run_one(void *data)
{
    struct sim_run *run = data;

    if (run->event != NULL) {
        run->event->run(run->event);
    } else {
        run->timer->fire(run->timer);
    }
}

static void event_free(struct sim_event *event)
{
    buf_deinit(&event->bytes);
    mem_free(event);
}

static uint64_t first_timer_ns(struct sim_node *node, uint64_t local_ns)
{
    if (node->timer_key != local_ns) {
        node->timer_key = local_ns;
        node->timer_ns = from_local(node, local_ns);
    }
    return max_u64(node->timer_ns, node->paused_until_ns);
}

/* The node with the earliest timer, or with something that waited for the end of its pause; NULL
 * when there is none. */
static struct sim_node *first_node(struct sim *sim, uint64_t *out_ns)
{
    struct sim_node *best = NULL;

    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_node *node = &sim->nodes[i];
        struct heap_node *top = heap_top(&node->timers);
        uint64_t at = UINT64_MAX;

        if (!list_empty(&node->deferred)) {
            at = node->paused_until_ns;
        } else if (top != NULL) {
            at = first_timer_ns(node, top->key);
        }
        if (at != UINT64_MAX && (best == NULL || at < *out_ns)) {
            best = node;
            *out_ns = at;
        }
    }
    return best;
}

uint64_t sim_next_ns(struct sim *sim)
{
    struct heap_node *top = heap_top(&sim->events);
    uint64_t own_ns = UINT64_MAX;

    (void)first_node(sim, &own_ns);
    return top != NULL ? min_u64(top->key, own_ns) : own_ns;
}

static void note_step(struct sim *sim, const struct sim_node *node, unsigned kind)
{
    sim->steps++;
    sim->digest = hash_mix64(sim->digest ^ sim->now) + node->number * 2 + kind;
}

static void run_event(struct sim *sim, struct sim_event *event)
{
    struct sim_run run = {.event = event};

    note_step(sim, event->node, 0);
    if (event->node->up && event->node->epoch == event->epoch) {
        sim_guard(event->node, run_one, &run);
    }
    event_free(event);
}

static void run_timer(struct sim *sim, struct sim_node *node)
{
    struct sim_run run = {.timer = container_of(heap_top(&node->timers), struct env_timer, node)};

    heap_remove(&node->timers, &run.timer->node);
    note_step(sim, node, 1);
    sim_guard(node, run_one, &run);
}

/* An event of the network, of disks, of work. */
static void step_event(struct sim *sim, struct sim_event *event)
{
    heap_remove(&sim->events, &event->heap);
    if (event->node->paused_until_ns > sim->now) {
        list_push_back(&event->node->deferred, &event->node_deferred);
    } else {
        run_event(sim, event);
    }
}

bool sim_step_until(struct sim *sim, uint64_t until_ns)
{
    struct heap_node *top = heap_top(&sim->events);
    uint64_t own_ns = UINT64_MAX;
    struct sim_node *node = first_node(sim, &own_ns);
    uint64_t at = top != NULL ? min_u64(top->key, own_ns) : own_ns;

    if (at > until_ns || (top == NULL && node == NULL)) {
        sim->now = max_u64(sim->now, until_ns);
        return false;
    }
    sim->now = max_u64(sim->now, at);
    if (top != NULL && (top->key < own_ns || (top->key == own_ns && list_empty(&node->deferred)))) {
        step_event(sim, container_of(top, struct sim_event, heap));
    } else if (!list_empty(&node->deferred)) {
        run_event(sim,
                  list_entry(list_pop_front(&node->deferred), struct sim_event, node_deferred));
    } else {
        run_timer(sim, node);
    }
    return true;
}

bool sim_step(struct sim *sim)
{
    return sim_next_ns(sim) != UINT64_MAX && sim_step_until(sim, UINT64_MAX);
}

void sim_run(struct sim *sim, uint64_t until_ns)
{
    while (sim_step_until(sim, until_ns)) {
    }
}

/* ---- nodes ---- */

struct sim *sim_new(uint64_t seed)
{
    struct sim *sim = mem_zalloc(sizeof(*sim));

    rng_init(&sim->rng, seed);
    sim->now = NS_PER_S;
    sim->verbose = getenv("SIM_LOG") != NULL;
    list_init(&sim->ends);
    list_init(&sim->closed_ends);
    list_init(&sim->listeners);
    sim->faults = (struct sim_faults){
        .net_min_ns = 50 * NS_PER_US,
        .net_max_ns = NS_PER_MS,
        .net_slow_percent = 1,
        .disk_min_ns = 20 * NS_PER_US,
        .disk_max_ns = NS_PER_MS,
        .disk_slow_percent = 1,
    };
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_node *node = &sim->nodes[i];

        node->env = (struct env){&sim_ops, LOG_LEVEL_INFO};
        node->sim = sim;
        node->number = i;
        node->up = true;
        list_init(&node->in_io);
        list_init(&node->deferred);
        sim_disk_init(&node->disk);
    }
    return sim;
}

void sim_free(struct sim *sim)
{
    struct list_node *deferred;
    struct heap_node *top;

    while ((top = heap_top(&sim->events)) != NULL) {
        heap_remove(&sim->events, top);
        event_free(container_of(top, struct sim_event, heap));
    }
    heap_deinit(&sim->events);
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        while ((deferred = list_pop_front(&sim->nodes[i].deferred)) != NULL) {
            event_free(list_entry(deferred, struct sim_event, node_deferred));
        }
    }
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        heap_deinit(&sim->nodes[i].timers);
        sim_disk_deinit(&sim->nodes[i].disk);
    }
    sim_net_deinit(sim);
    mem_free(sim);
}

bool sim_call(struct sim *sim, unsigned node, void (*fn)(void *data), void *data)
{
    ASSERT(sim->nodes[node].up);
    return sim_guard(&sim->nodes[node], fn, data);
}

void sim_kill(struct sim_node *node, enum sim_crash_kind kind)
{
    struct list_node *deferred;

    if (!node->up) {
        return;
    }
    sim_net_crash(node, kind);
    sim_disk_crash(node, kind);
    node->up = false;
    node->epoch++;
    /* The timers' memory belongs to the dead: forget it without touching it. */
    heap_deinit(&node->timers);
    node->timers = (struct heap){0};
    list_init(&node->in_io);
    node->paused_until_ns = 0;
    while ((deferred = list_pop_front(&node->deferred)) != NULL) {
        event_free(list_entry(deferred, struct sim_event, node_deferred));
    }
}

void sim_crash(struct sim *sim, unsigned node, enum sim_crash_kind kind)
{
    ASSERT(sim->running == NULL);
    sim_kill(&sim->nodes[node], kind);
}

void sim_restart(struct sim *sim, unsigned node)
{
    ASSERT(!sim->nodes[node].up);
    sim->nodes[node].up = true;
    sim->nodes[node].died = false;
}

bool sim_up(const struct sim *sim, unsigned node)
{
    return sim->nodes[node].up;
}

bool sim_died(const struct sim *sim, unsigned node)
{
    return sim->nodes[node].died;
}

void sim_cut(struct sim *sim, unsigned from, unsigned to, bool cut)
{
    sim->cut[from][to] = cut;
}

void sim_heal(struct sim *sim)
{
    memset(sim->cut, 0, sizeof(sim->cut));
    memset(sim->slow_ns, 0, sizeof(sim->slow_ns));
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        sim->nodes[i].paused_until_ns = 0;
    }
}

void sim_pause(struct sim *sim, unsigned node, uint64_t until_ns)
{
    sim->nodes[node].paused_until_ns = max_u64(sim->nodes[node].paused_until_ns, until_ns);
}

void sim_set_clock(struct sim *sim, unsigned node, uint64_t offset_ns, int drift_ppm)
{
    ASSERT(heap_top(&sim->nodes[node].timers) == NULL);
    sim->nodes[node].clock_offset_ns = offset_ns;
    sim->nodes[node].clock_ppm = drift_ppm;
}

void sim_jump_wall(struct sim *sim, unsigned node, int64_t by_ns)
{
    sim->nodes[node].wall_offset_ns += by_ns;
}

void sim_slow(struct sim *sim, unsigned from, unsigned to, uint64_t extra_ns)
{
    sim->slow_ns[from][to] = extra_ns;
}

struct sim_faults *sim_faults(struct sim *sim)
{
    return &sim->faults;
}

struct rng *sim_rng(struct sim *sim)
{
    return &sim->rng;
}

uint64_t sim_now(const struct sim *sim)
{
    return sim->now;
}

struct env *sim_env(struct sim *sim, unsigned node)
{
    return &sim->nodes[node].env;
}

unsigned sim_errors(const struct sim *sim)
{
    return sim->errors;
}

const char *sim_last_error(const struct sim *sim)
{
    return sim->last_error;
}

uint64_t sim_digest(const struct sim *sim)
{
    return sim->digest;
}

uint64_t sim_deaths(const struct sim *sim)
{
    return sim->deaths;
}

uint64_t sim_steps(const struct sim *sim)
{
    return sim->steps;
}

void sim_set_log(struct sim *sim, sim_log_fn *log, void *data)
{
    sim->log = log;
    sim->log_data = data;
}

void sim_set_verbose(struct sim *sim, bool verbose)
{
    sim->verbose = verbose;
}
