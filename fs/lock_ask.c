/*
 * What is asked of the metadata service about locks. Each question is an op of its own, which
 * outlives the call that it is for: a lock that is granted to a call that was interrupted meanwhile
 * is given back, to what the owner held before.
 */
#include "fs/coherence.h"
#include "fs/lock_internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/trace_mark.h"

#include <errno.h>

struct lock_op {
    struct meta_call meta;
    struct list_node node; /* in mount.locks.ops */
    struct mount *mount;
    struct fs_call *call; /* NULL: nobody waits */
    uint64_t ino;
    struct meta_lock lock;
    bool sure;             /* what comes of it is what is wanted, though nobody waits */
    struct env_timer soft; /* the call's patience; the op's has no end: its answer must be known */
};

static void on_soft_timeout(struct env_timer *timer)
{
    struct fs_call *call = container_of(timer, struct lock_op, soft)->call;

    lock_forget_question(call);
    call->lock_step = LOCK_STEP_NONE;
    fs_call_finish(call, -EIO);
}

static struct lock_op *op_new(struct mount *mount, struct fs_call *call, uint64_t ino,
                              const struct meta_lock *lock)
{
    struct lock_op *op = mem_zalloc(sizeof(*op));

    op->mount = mount;
    op->call = call;
    op->ino = ino;
    op->lock = *lock;
    op->soft.fire = on_soft_timeout;
    list_push_back(&mount->locks.ops, &op->node);
    if (call != NULL) {
        call->lock_op = op;
    }
    return op;
}

static struct meta_request request_of(const struct lock_op *op, unsigned meta_op)
{
    return (struct meta_request){
        .op = (uint8_t)meta_op,
        .ino = op->ino,
        .ino2 = op->lock.owner,
        .mode = op->lock.type,
        .count = op->lock.pid,
        .offset = op->lock.from,
        .offset2 = op->lock.to,
        .flags = op->lock.flock ? META_LOCK_FLOCK : 0,
    };
}

static void op_send(struct lock_op *op, struct meta_request request,
                    void (*done)(struct meta_call *call))
{
    uint64_t patience = op->mount->config.soft_timeout_ns;

    if (patience != 0 && op->call != NULL && op->call->lock_step == LOCK_STEP_SENT) {
        env_timer_start(op->mount->env, &op->soft, env_now(op->mount->env) + patience);
    }
    op->meta = (struct meta_call){.request = request, .done = done, .patient = true};
    meta_call_start(&op->mount->meta, &op->meta);
}

/* The answer is here. Returns the call that waits for it, or NULL. */
static struct fs_call *op_end(struct lock_op *op)
{
    list_remove(&op->node);
    env_timer_stop(op->mount->env, &op->soft);
    if (op->call != NULL) {
        op->call->lock_op = NULL;
    }
    return op->call;
}

/* Its answer is dealt with. */
static void op_free(struct lock_op *op)
{
    struct mount *mount = op->mount;
    bool waited_for = op->call == NULL && !op->sure;

    mem_free(op);
    if (waited_for) {
        lock_run_queue(mount); /* a call of the same owner may have waited: lock_is_unsettled */
    }
}

bool lock_is_unsettled(const struct mount *mount, uint64_t ino, const struct meta_lock *owner)
{
    list_for_each (node, &mount->locks.ops) {
        const struct lock_op *op = container_of(node, struct lock_op, node);

        if (op->call == NULL && !op->sure && op->ino == ino && op->lock.owner == owner->owner &&
            op->lock.flock == owner->flock) {
            return true;
        }
    }
    return false;
}

bool lock_is_asked(const struct mount *mount, uint64_t ino, const struct meta_lock *owner)
{
    list_for_each (node, &mount->locks.ops) {
        const struct lock_op *op = container_of(node, struct lock_op, node);

        if (op->ino == ino && op->lock.owner == owner->owner && op->lock.flock == owner->flock &&
            op->lock.type != META_LOCK_NONE) {
            return true;
        }
    }
    return false;
}

/* ---- giving back ---- */

static void send_sure(struct mount *mount, uint64_t ino, const struct meta_lock *lock);

static void send_part(struct mount *mount, uint64_t ino, const struct meta_lock *like, uint8_t type,
                      uint64_t from, uint64_t to)
{
    struct meta_lock part = *like;

    part.type = type;
    part.from = from;
    part.to = to;
    send_sure(mount, ino, &part);
}

/* The first that the owner holds in [from, to]. */
static const struct meta_lock *held_from(const struct file_locks *file,
                                         const struct meta_lock *owner, uint64_t from, uint64_t to)
{
    const struct meta_lock *first = NULL;

    for (size_t i = 0; file != NULL && i < file->table.count; i++) {
        const struct meta_lock *item = &file->table.items[i];

        if (item->ticket == 0 && item->owner == owner->owner && item->flock == owner->flock &&
            item->to >= from && item->from <= to && (first == NULL || item->from < first->from)) {
            first = item;
        }
    }
    return first;
}

/* The service granted what nobody wants any more: as it was before. */
static void give_back(struct mount *mount, uint64_t ino, const struct meta_lock *lock)
{
    const struct file_locks *file = lock_file(mount, ino, false);
    uint64_t at = lock->from;

    TRACE_MARK("a lock is granted to a call that has ended");
    for (;;) {
        const struct meta_lock *held = held_from(file, lock, at, lock->to);
        uint64_t to;

        if (held == NULL) {
            send_part(mount, ino, lock, META_LOCK_NONE, at, lock->to);
            return;
        }
        if (held->from > at) {
            send_part(mount, ino, lock, META_LOCK_NONE, at, held->from - 1);
        }
        to = min_u64(held->to, lock->to);
        send_part(mount, ino, lock, held->type, max_u64(at, held->from), to);
        if (to >= lock->to) {
            return;
        }
        at = to + 1;
    }
}

/* ---- asking ---- */

static void on_cancelled(struct meta_call *meta)
{
    struct lock_op *op = container_of(meta, struct lock_op, meta);

    op_end(op);
    if (meta->status == 0 && meta->reply.value == 0) {
        give_back(op->mount, op->ino, &op->lock); /* its turn had come just before */
    }
    op_free(op);
}

static void send_cancel(struct mount *mount, uint64_t ino, const struct meta_lock *lock,
                        uint64_t ticket)
{
    struct lock_op *op = op_new(mount, NULL, ino, lock);

    op_send(op, (struct meta_request){.op = META_LOCK_CANCEL, .ino = ino, .size = ticket},
            on_cancelled);
}

/* Nobody waits: what was granted all the same? */
static void settle_abandoned(struct lock_op *op)
{
    struct meta_call *meta = &op->meta;

    if (meta->status < 0) {
        if (op->sure && meta->status != -ECANCELED && meta->status != -ERR_SESSION_EXPIRED) {
            LOG_WARN(op->mount->env, "lock", "a lock is not as it was ino=%" PRIu64 " error=%s",
                     op->ino, err_name(meta->status));
        }
    } else if (meta->reply.value == 1) {
        send_cancel(op->mount, op->ino, &op->lock, meta->reply.value2);
    } else if (op->sure) {
        lock_note(op->mount, op->ino, &op->lock);
    } else {
        give_back(op->mount, op->ino, &op->lock);
    }
}

static void take_answer(struct fs_call *call, const struct meta_call *meta)
{
    struct mount *mount = call->mount;

    if (meta->status == -ERR_BUSY) {
        lock_queue(call, true); /* another mount has not told its locks yet */
    } else if (meta->status == -ERR_SESSION_EXPIRED && !mount->closing) {
        lock_queue(call, true);
    } else if (meta->status < 0) {
        call->lock_step = LOCK_STEP_NONE;
        fs_call_finish(call, meta->status);
    } else if (meta->reply.value == 1) {
        lock_in_line(call, meta->reply.value2);
    } else {
        lock_note(mount, call->ino, &call->lock);
        if (call->lock.type == META_LOCK_NONE) {
            lock_given_up(call);
        } else {
            lock_held(call, meta->reply.attr);
        }
    }
}

static void on_asked(struct meta_call *meta)
{
    struct lock_op *op = container_of(meta, struct lock_op, meta);
    struct fs_call *call = op_end(op);

    if (call != NULL) {
        take_answer(call, meta);
    } else {
        settle_abandoned(op);
    }
    op_free(op);
}

void lock_ask(struct fs_call *call)
{
    struct lock_op *op = op_new(call->mount, call, call->ino, &call->lock);
    struct meta_request request = request_of(op, META_LOCK);

    call->lock_step = LOCK_STEP_SENT;
    request.flags |= call->lock_wait ? META_LOCK_WAIT : 0;
    op_send(op, request, on_asked);
}

static void send_sure(struct mount *mount, uint64_t ino, const struct meta_lock *lock)
{
    struct lock_op *op = op_new(mount, NULL, ino, lock);

    op->sure = true;
    op_send(op, request_of(op, META_LOCK), on_asked);
}

void lock_send(struct mount *mount, uint64_t ino, const struct meta_lock *lock)
{
    send_sure(mount, ino, lock);
}

void lock_forget_question(struct fs_call *call)
{
    struct lock_op *op = call->lock_op;

    call->lock_op = NULL;
    if (op != NULL) {
        op->call = NULL;
        op->sure = op->lock.type == META_LOCK_NONE;
        env_timer_stop(op->mount->env, &op->soft);
    }
}

void lock_abandon(struct fs_call *call)
{
    lock_forget_question(call);
    if (call->lock_step == LOCK_STEP_IN_LINE && call->mount->locks.mode != LOCKS_OWN) {
        send_cancel(call->mount, call->ino, &call->lock, call->lock_ticket);
    }
}

/* ---- tests ---- */

static void on_tested(struct meta_call *meta)
{
    struct lock_op *op = container_of(meta, struct lock_op, meta);
    struct fs_call *call = op_end(op);
    int r = meta->status;

    if (call != NULL && r == -ERR_BUSY) {
        lock_queue(call, true);
    } else if (call != NULL) {
        call->lock_step = LOCK_STEP_NONE;
        call->lock.type = META_LOCK_NONE;
        if (r == 0 && meta->reply.data.size != 0) {
            r = meta_lock_decode(&call->lock, meta->reply.data);
        }
        fs_call_finish(call, r);
    }
    op_free(op);
}

void lock_ask_test(struct fs_call *call)
{
    struct lock_op *op = op_new(call->mount, call, call->ino, &call->lock);

    call->lock_step = LOCK_STEP_SENT;
    op_send(op, request_of(op, META_LOCK_TEST), on_tested);
}

/* ---- contents ---- */

/* Without an answer (we are closing, the file has gone) the lock is held all the same. */
static void on_attr(struct meta_call *meta)
{
    struct lock_op *op = container_of(meta, struct lock_op, meta);
    struct fs_call *call = op_end(op);

    if (meta->status == 0) {
        lock_held(call, meta->reply.attr);
    } else {
        call->lock_step = LOCK_STEP_NONE;
        fs_call_finish(call, 0);
    }
    mem_free(op);
}

void lock_ask_attr(struct fs_call *call)
{
    struct lock_op *op = op_new(call->mount, call, call->ino, &call->lock);

    call->lock_step = LOCK_STEP_PAGES;
    op_send(op, (struct meta_request){.op = META_GETATTR, .ino = call->ino}, on_attr);
}

/* ---- turns ---- */

static void on_turn(struct meta_call *meta)
{
    struct lock_op *op = container_of(meta, struct lock_op, meta);
    struct fs_call *call = op_end(op);

    if (call != NULL && meta->status == 0 && meta->reply.value == 0) {
        list_remove(&call->node);
        lock_note(call->mount, call->ino, &call->lock);
        lock_held(call, meta->reply.attr);
    }
    op_free(op);
}

void lock_ask_turns(struct mount *mount)
{
    list_for_each (node, &mount->locks.in_line) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        if (call->lock_op == NULL) {
            struct lock_op *op = op_new(mount, call, call->ino, &call->lock);

            op_send(op,
                    (struct meta_request){
                        .op = META_LOCK_STATE, .ino = call->ino, .size = call->lock_ticket},
                    on_turn);
        }
    }
}

/* ---- who decides ---- */

static void send_local(struct mount *mount, uint32_t on, void (*done)(struct meta_call *call))
{
    struct lock_op *op = op_new(mount, NULL, 0, &(struct meta_lock){0});

    op_send(op, (struct meta_request){.op = META_LOCK_LOCAL, .count = on}, done);
}

static void on_begun(struct meta_call *meta)
{
    struct lock_op *op = container_of(meta, struct lock_op, meta);
    struct mount *mount = op->mount;
    bool agreed = meta->status == 0;

    op_end(op);
    mem_free(op);
    if (mount->locks.mode != LOCKS_BEGINNING) {
        return; /* the session is another one */
    }
    mount->locks.mode = agreed ? LOCKS_OWN : LOCKS_SENT;
    mount->locks.refused_epoch = agreed ? 0 : coherence_epoch(mount);
    if (mount->locks.told != NULL) {
        lock_tell(mount, mount->locks.told);
    }
    lock_run_queue(mount);
}

void lock_begin_own(struct mount *mount)
{
    mount->locks.mode = LOCKS_BEGINNING;
    send_local(mount, 1, on_begun);
}

static void on_all_told(struct meta_call *meta)
{
    struct lock_op *op = container_of(meta, struct lock_op, meta);
    struct mount *mount = op->mount;
    void (*told)(struct mount * mount) = mount->locks.told;

    op_end(op);
    mem_free(op);
    if (mount->locks.mode != LOCKS_TELLING) {
        return;
    }
    mount->locks.mode = LOCKS_SENT;
    mount->locks.told = NULL;
    lock_run_queue(mount);
    if (told != NULL) {
        told(mount);
    }
}

/* Those who wait here stand in the service's line now, in the order that they have. */
static void tell_line(struct mount *mount)
{
    struct list_node *node;

    while ((node = list_pop_front(&mount->locks.in_line)) != NULL) {
        lock_ask(container_of(node, struct fs_call, node));
    }
}

/* Leaves what is held: what waits has its place elsewhere. */
static void tell_file(struct mount *mount, struct file_locks *file)
{
    struct lock_table *table = &file->table;

    for (size_t i = table->count; i-- > 0;) {
        if (table->items[i].ticket != 0) {
            lock_table_cancel(table, table->items[i].ticket);
        } else {
            send_sure(mount, file->ino, &table->items[i]);
        }
    }
}

void lock_tell_all(struct mount *mount)
{
    struct map_slot *slot;
    size_t at = 0;

    TRACE_MARK("a mount tells the service which locks it has granted");
    mount->locks.mode = LOCKS_TELLING;
    while ((slot = map_next(&mount->locks.files, &at)) != NULL) {
        tell_file(mount, slot->value);
    }
    tell_line(mount);
    send_local(mount, 0, on_all_told);
}
