/*
 * heal: the queue of tasks. A pull reads the whole chunk from one holder after the other and stores
 * it; a hint reads our copy and puts it to its target. At most repairs_max (chunk_settings.h) run
 * at a time.
 */
#include "chunkstore/heal.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/chunk_server.h"
#include "chunkstore/client_internal.h"
#include "chunkstore/heal_internal.h"

#include <errno.h>

#define HEAL_TICK_NS   NS_PER_S
#define HEAL_TRIES     5
#define HEAL_SETTLE_NS (2 * NS_PER_S) /* while a partition has not settled, sync is so often */

/*
 *     pull:  CHECK (our copy, when asked to) --> ASK (next holder) --> STORE --> finish
 *     hint:  CHECK (read our copy) --> PUSH --> finish
 */
enum { TASK_CHECK, TASK_CHECKED, TASK_ASK, TASK_ASKED, TASK_STORED, TASK_PUSHED };
static const char *const task_states[] = {"CHECK", "CHECKED", "ASK", "ASKED", "STORED", "PUSHED"};

struct heal_task {
    struct op op;
    struct heal *heal;
    struct list_node node;
    struct index_key key;
    uint32_t target; /* 0 = a pull */
    bool replace;
    unsigned holder; /* next to ask */
    unsigned tries;
    struct store_get get;
    struct store_put put;
    struct rpc_call call;
    struct buf body;
    int status;
    struct chunk_get_reply reply;
    struct buf reply_body, payload;
};

static struct map_key id_key(const struct index_key *key)
{
    return (struct map_key){key->session, key->seq};
}

static void run_tasks(struct heal *heal);

static void get_released(struct store_get *get)
{
    op_complete(&container_of(get, struct heal_task, get)->op);
}

static void put_released(struct store_put *put)
{
    op_complete(&container_of(put, struct heal_task, put)->op);
}

static void on_reply(struct rpc_call *call, struct rpc_reply *reply)
{
    struct heal_task *task = call->data;

    task->status = reply->status;
    buf_clear(&task->reply_body);
    buf_append_slice(&task->reply_body, reply->body);
    buf_deinit(&task->payload);
    task->payload = buf_take(&reply->payload);
    op_complete(&task->op);
}

static void call_peer(struct heal_task *task, struct chunk_peer *peer, uint16_t opcode,
                      struct slice payload)
{
    task->call = (struct rpc_call){.opcode = opcode,
                                   .body = buf_slice(&task->body),
                                   .payload = payload,
                                   .timeout_ns = HEAL_TIMEOUT_NS,
                                   .done = on_reply,
                                   .data = task};
    task->op.inflight++;
    rpc_call_start(&peer->rpc, &task->call);
}

/* Asks the next holder that is not us. False: there is none left. */
static bool ask_next(struct heal_task *task)
{
    struct chunk_server *server = task->heal->server;
    struct chunk_id id = {task->key.session, task->key.seq};
    struct chunk_get_request request = {id.session, id.seq, 0, 0, 0};
    uint32_t holders[CHUNK_HOLDERS_MAX];
    unsigned count = client_holders(&server->peers, id, holders);

    while (task->holder < count) {
        uint32_t holder = holders[task->holder++];
        struct chunk_peer *peer = client_peer(&server->peers, holder);

        if (holder == server->config.identity->node_id || peer == NULL ||
            chunk_peer_unreachable(peer)) {
            continue;
        }
        buf_clear(&task->body);
        chunk_get_request_encode(&request, &task->body);
        call_peer(task, peer, CHUNK_GET, (struct slice){0});
        return true;
    }
    return false;
}

static void read_own(struct heal_task *task)
{
    task->get = (struct store_get){.key = task->key, .released = get_released};
    task->op.inflight++;
    store_get_start(&task->get, &task->heal->server->store);
}

/* 0 = being stored, or why not. */
static int store_reply(struct heal_task *task)
{
    int r = task->status;

    if (r == 0) {
        r = chunk_get_reply_decode(&task->reply, buf_slice(&task->reply_body));
    }
    if (r == 0 && task->reply.first != 0) {
        r = -ERR_BAD_MESSAGE;
    }
    if (r < 0) {
        return r;
    }
    task->put = (struct store_put){.key = task->key,
                                   .length = task->reply.length,
                                   .flags = task->reply.flags,
                                   .crcs = task->reply.crcs,
                                   .data = buf_slice(&task->payload),
                                   .replace = task->replace,
                                   .released = put_released};
    task->op.inflight++;
    store_put_start(&task->put, &task->heal->server->store);
    return 0;
}

static int push(struct heal_task *task)
{
    struct chunk_peer *peer = client_peer(&task->heal->server->peers, task->target);
    struct chunk_put_request request = {.session = task->key.session,
                                        .seq = task->key.seq,
                                        .length = task->get.chunk_length,
                                        .flags = task->get.flags,
                                        .partition = task->key.partition,
                                        .crcs = buf_slice(&task->get.crcs)};

    if (peer == NULL) {
        return -ERR_NOT_FOUND; /* not in the cluster any more */
    }
    buf_clear(&task->body);
    chunk_put_request_encode(&request, &task->body);
    call_peer(task, peer, CHUNK_PUT, buf_slice(&task->get.payload));
    return 0;
}

/* From CHECKED: what our own copy tells. */
static void after_check(struct heal_task *task, struct op *op)
{
    int own = task->get.op.result;
    int r;

    if (task->target == 0) {
        if (own == 0) {
            op_finish(op, 0); /* it is fine */
            return;
        }
        task->replace = task->replace || own == -ERR_CORRUPT;
        op->state = TASK_ASK;
        return;
    }
    r = own < 0 ? own : push(task);
    op->state = TASK_PUSHED;
    if (r < 0) {
        op_finish(op, r);
    }
}

static void task_step(struct op *op)
{
    struct heal_task *task = container_of(op, struct heal_task, op);

    while (op->inflight == 0 && !op->decided) {
        if (task->heal->closing) {
            op_finish(op, -ECANCELED);
            return;
        }
        switch (op->state) {
        case TASK_CHECK:
            op->state = TASK_CHECKED;
            if (task->replace) {
                op->state = TASK_ASK; /* known to be damaged */
            } else {
                read_own(task);
            }
            break;
        case TASK_CHECKED:
            after_check(task, op);
            break;
        case TASK_ASK:
            op->state = TASK_ASKED;
            if (!ask_next(task)) {
                op_finish(op, -ERR_NOT_FOUND);
            }
            break;
        case TASK_ASKED:
            op->state = store_reply(task) < 0 ? TASK_ASK : TASK_STORED;
            break;
        case TASK_STORED:
            op_finish(op, task->put.op.result);
            break;
        default:
            op_finish(op, task->status);
            break;
        }
    }
}

static void task_free(struct heal_task *task)
{
    buf_deinit(&task->body);
    buf_deinit(&task->reply_body);
    buf_deinit(&task->payload);
    buf_deinit(&task->get.crcs);
    buf_deinit(&task->get.payload);
    mem_free(task);
}

static void clear_attempt(struct heal_task *task)
{
    buf_deinit(&task->get.crcs);
    buf_deinit(&task->get.payload);
    buf_deinit(&task->payload);
    task->holder = 0;
}

static void forget(struct heal_task *task)
{
    if (task->target == 0) {
        map_remove(&task->heal->tasks, id_key(&task->key));
        task->heal->task_count--;
    } else {
        task->heal->hint_count--;
    }
    task_free(task);
}

static bool worth_retrying(const struct heal_task *task, int result)
{
    return result != 0 && result != -ECANCELED && !task->heal->closing &&
           (task->target != 0 ? result != -ERR_NOT_FOUND && result != -ERR_CORRUPT
                              : task->tries < HEAL_TRIES);
}

static void task_drained(struct op *op)
{
    struct heal_task *task = container_of(op, struct heal_task, op);
    struct heal *heal = task->heal;
    int result = op->result;

    heal->running--;
    task->tries++;
    if (result == 0 && task->target != 0) {
        heal->hints_delivered++;
    } else if (result == 0 && op->state == TASK_STORED) {
        heal->repairs++;
        LOG_INFO(heal->server->env, "chunk", "chunk repaired session=%" PRIu64 " seq=%" PRIu64,
                 task->key.session, task->key.seq);
    }
    if (worth_retrying(task, result)) {
        clear_attempt(task);
        list_push_back(&heal->hints, &task->node); /* again at the next tick */
    } else {
        heal->pull_failures += result < 0 && task->target == 0;
        forget(task);
    }
    run_tasks(heal);
    if (heal->closing && heal->running == 0) {
        map_deinit(&heal->tasks);
    }
    chunk_server_released(heal->server);
}

static const struct op_kind task_kind = {.name = "heal_task",
                                         .states = task_states,
                                         .state_count = ARRAY_SIZE(task_states),
                                         .step = task_step,
                                         .drained = task_drained};

static void run_tasks(struct heal *heal)
{
    struct list_node *node;

    while (heal->running < heal->server->store.settings.repairs_max && !heal->closing &&
           (node = list_pop_front(&heal->queue)) != NULL) {
        struct heal_task *task = list_entry(node, struct heal_task, node);

        heal->queue_count--;
        heal->running++;
        heal->server->busy++;
        op_init(&task->op, &task_kind);
        op_wake(&task->op);
    }
}

static struct heal_task *add_task(struct heal *heal, const struct index_key *key)
{
    struct heal_task *task;

    if (heal->closing || heal->task_count + heal->hint_count >= HEAL_QUEUE_MAX) {
        heal->dropped++; /* the next sync finds it */
        return NULL;
    }
    task = mem_zalloc(sizeof(*task));
    task->heal = heal;
    task->key = *key;
    list_push_back(&heal->queue, &task->node);
    heal->queue_count++;
    env_timer_start(heal->server->env, &heal->timer, env_now(heal->server->env));
    return task;
}

void heal_pull(struct heal *heal, const struct index_key *key, bool replace)
{
    struct heal_task *task = map_get(&heal->tasks, id_key(key));

    if (task != NULL) {
        task->replace = task->replace || replace;
        return;
    }
    task = add_task(heal, key);
    if (task != NULL) {
        task->replace = replace;
        map_put(&heal->tasks, id_key(key), task);
        heal->task_count++;
    }
}

void heal_hint(struct heal *heal, const struct index_key *key, uint32_t target)
{
    struct heal_task *task;

    if (target == 0 || target == heal->server->config.identity->node_id) {
        return;
    }
    task = add_task(heal, key);
    if (task != NULL) {
        task->target = target;
        heal->hint_count++;
    }
}

/* Tasks that failed are tried again once their target can be reached. */
static void requeue(struct heal *heal)
{
    list_for_each (node, &heal->hints) {
        struct heal_task *task = list_entry(node, struct heal_task, node);
        struct chunk_peer *peer =
            task->target != 0 ? client_peer(&heal->server->peers, task->target) : NULL;

        if (peer != NULL && chunk_peer_unreachable(peer)) {
            rpc_peer_poke(&peer->rpc);
            continue;
        }
        list_remove(node);
        list_push_back(&heal->queue, node);
        heal->queue_count++;
    }
}

void heal_new_map(struct heal *heal, const struct cluster_map *map, const struct cluster_map *next)
{
    for (uint32_t p = 0; p < CHUNK_PARTITIONS; p++) {
        bool same = p < map->partition_count && p < next->partition_count &&
                    memcmp(map->owners[p], next->owners[p], sizeof(map->owners[p])) == 0 &&
                    memcmp(map->from[p], next->from[p], sizeof(map->from[p])) == 0;

        partition_set_put(&heal->settled, p, same && partition_set_has(&heal->settled, p));
    }
}

/* Have we got all that we take over? */
static bool is_settled(const struct heal *heal)
{
    const struct cluster_map *map = &heal->server->peers.map;

    for (uint32_t p = 0; p < map->partition_count; p++) {
        if (cluster_map_from(map, p, heal->server->config.identity->node_id) != 0 &&
            !partition_set_has(&heal->settled, p)) {
            return false;
        }
    }
    return true;
}

/* ---- servers that are away ---- */

void heal_note_reached(struct heal *heal, uint32_t server, bool reached)
{
    struct map_key key = map_u64(server);

    if (reached) {
        (void)map_remove(&heal->away, key);
    } else if (map_get(&heal->away, key) == NULL) {
        map_put(&heal->away, key, (void *)(uintptr_t)(env_now(heal->server->env) + 1));
    }
}

bool heal_given_up(const struct heal *heal, uint32_t server)
{
    uint64_t since = (uint64_t)(uintptr_t)map_get(&heal->away, map_u64(server));

    return since != 0 && env_now(heal->server->env) >= since + HEAL_GIVE_UP_NS;
}

/* ---- the timer ---- */

/* Rises when a partition settles, and with each chunk that is pulled. */
static uint64_t progress(const struct heal *heal)
{
    uint64_t count = heal->repairs;

    for (uint32_t p = 0; p < CHUNK_PARTITIONS; p++) {
        count += partition_set_has(&heal->settled, p);
    }
    return count;
}

/* Soon again while there is something to take over; without progress, as after a server that is
 * down for long, ever later, at last as seldom as always. */
static uint64_t sync_pause(struct heal *heal)
{
    uint64_t most = heal->server->store.settings.sync_ms * NS_PER_MS;
    uint64_t done = progress(heal);

    if (is_settled(heal)) {
        return most;
    }
    heal->settle_pause_ns = done != heal->progress || heal->settle_pause_ns == 0
                                ? HEAL_SETTLE_NS
                                : min_u64(2 * heal->settle_pause_ns, most);
    heal->progress = done;
    return min_u64(heal->settle_pause_ns, most);
}

static void on_timer(struct env_timer *timer)
{
    struct heal *heal = container_of(timer, struct heal, timer);
    uint64_t now = env_now(heal->server->env);

    requeue(heal);
    run_tasks(heal);
    if (now >= heal->sync_at_ns && heal_sync_start(heal)) {
        heal->sync_at_ns = now + sync_pause(heal);
    }
    env_timer_start(heal->server->env, timer, now + HEAL_TICK_NS);
}

void heal_sync_soon(struct heal *heal)
{
    if (!heal->closing) {
        heal->sync_at_ns = heal->settle_pause_ns = 0;
        env_timer_start(heal->server->env, &heal->timer,
                        env_now(heal->server->env) + HEAL_TICK_NS / 10);
    }
}

void heal_start(struct heal *heal, struct chunk_server *server)
{
    *heal = (struct heal){.server = server};
    list_init(&heal->queue);
    list_init(&heal->hints);
    heal->timer.fire = on_timer;
    env_timer_start(server->env, &heal->timer, env_now(server->env) + HEAL_TICK_NS);
    heal_scrub_start(heal);
}

void heal_stop(struct heal *heal)
{
    struct list_node *node;

    heal->closing = true;
    env_timer_stop(heal->server->env, &heal->timer);
    list_splice(&heal->queue, &heal->hints);
    while ((node = list_pop_front(&heal->queue)) != NULL) {
        forget(list_entry(node, struct heal_task, node));
    }
    heal_sync_stop(heal);
    heal_scrub_stop(heal);
    map_deinit(&heal->away);
    if (heal->running == 0) {
        map_deinit(&heal->tasks);
    }
}
