/*
 * env_sim_net: connections as pairs of ends. Bytes sent by one end become an event that fills the
 * other's inbox; a second kind of event hands the inbox to its owner. An end's events keep their
 * order by `arrive_ns` and `own_ns`.
 */
#include "tests/sim/env_sim_internal.h"

#define STALL_RETRY_NS (20 * NS_PER_MS)
#define STALL_RESET_NS (10 * NS_PER_S)

static struct sim_end *end_new(struct sim_node *owner, struct env_conn *conn)
{
    struct sim_end *end = mem_zalloc(sizeof(*end));

    end->owner = owner;
    end->epoch = owner->epoch;
    end->conn = conn;
    conn->impl = end;
    conn->peer_uid = UINT32_MAX;
    list_push_back(&owner->sim->ends, &end->node);
    return end;
}

/* It is nobody's any more. */
static void end_leave(struct sim_end *end)
{
    end->conn = NULL;
    buf_deinit(&end->inbox);
    list_remove(&end->node);
    list_push_back(&end->owner->sim->closed_ends, &end->node);
}

static uint64_t net_delay(struct sim *sim)
{
    return sim_delay(sim, sim->faults.net_min_ns, sim->faults.net_max_ns,
                     sim->faults.net_slow_percent);
}

static uint64_t own_next(struct sim_end *end, uint64_t delay)
{
    end->own_ns = max_u64(end->owner->sim->now + delay, end->own_ns + 1);
    return end->own_ns;
}

static void on_closed(struct sim_event *event)
{
    struct sim_end *end = event->object;
    struct env_conn *conn = end->conn;

    end->closed = NULL;
    if (conn != NULL) {
        end_leave(end);
        conn->impl = NULL;
        conn->closed(conn, end->status);
    }
}

/* This end will hear closed(status) and nothing else. */
static void shut(struct sim_end *end, int status)
{
    if (end->closing || end->conn == NULL) {
        return;
    }
    end->closing = true;
    end->status = status;
    end->closed = sim_schedule(end->owner, own_next(end, 1), on_closed, end);
}

static void on_reset(struct sim_event *event)
{
    shut(event->object, event->status);
}

/* The other end hears `status` after what is already under way to it. */
static void shut_later(struct sim_end *end, int status)
{
    struct sim_event *event;

    end->arrive_ns = max_u64(end->owner->sim->now + net_delay(end->owner->sim), end->arrive_ns + 1);
    event = sim_schedule(end->owner, end->arrive_ns, on_reset, end);
    event->status = status;
}

static void on_readable(struct sim_event *event)
{
    struct sim_end *end = event->object;

    end->reading = false;
    while (end->inbox.size > 0 && !end->closing && end->conn != NULL && !end->conn->paused) {
        struct iovec iov = end->conn->want(end->conn);
        size_t size = min_u64(iov.iov_len, end->inbox.size);

        ASSERT(size > 0);
        memcpy(iov.iov_base, end->inbox.data, size);
        memmove(end->inbox.data, end->inbox.data + size, end->inbox.size - size);
        end->inbox.size -= size;
        end->conn->received(end->conn, size);
    }
}

static void read_soon(struct sim_end *end)
{
    if (!end->reading && end->inbox.size > 0) {
        end->reading = true;
        sim_schedule(end->owner, own_next(end, 1), on_readable, end);
    }
}

static void on_arrival(struct sim_event *event)
{
    struct sim_end *end = event->object;
    struct sim *sim = end->owner->sim;

    if (end->closing || end->conn == NULL) {
        return;
    }
    if (rng_below(&sim->rng, 1000000) < sim->faults.reset_per_million) {
        sim->faults.resets_met++;
        shut(end, -ECONNRESET);
        shut_later(end->other, -ECONNRESET);
        return;
    }
    buf_append_slice(&end->inbox, buf_slice(&event->bytes));
    read_soon(end);
}

/* Runs at the sender's, so that a cut link can hold it back: hands over or waits. */
static void on_departure(struct sim_event *event)
{
    struct sim_end *end = event->object; /* the receiver */
    struct sim *sim = end->owner->sim;
    struct sim_event *arrival;

    if (end->conn == NULL || end->closing) {
        return;
    }
    if (sim->cut[event->node->number][end->owner->number] ||
        (end->stalled_ns != 0 && event->status == 0)) {
        struct sim_event *again;

        if (end->stalled_ns == 0) {
            end->stalled_ns = sim->now;
        }
        if (sim->now - end->stalled_ns > STALL_RESET_NS) {
            shut(end->other, -ETIMEDOUT);
            shut_later(end, -ECONNRESET);
            return;
        }
        /* Everything behind it waits too: events of one time keep their order. */
        again = sim_schedule(event->node, round_down(sim->now, STALL_RETRY_NS) + STALL_RETRY_NS,
                             on_departure, end);
        again->bytes = buf_take(&event->bytes);
        again->status = 1; /* has waited its turn */
        return;
    }
    end->stalled_ns = 0;
    end->arrive_ns =
        max_u64(sim->now + net_delay(sim) + sim->slow_ns[event->node->number][end->owner->number],
                end->arrive_ns + 1);
    arrival = sim_schedule(end->owner, end->arrive_ns, on_arrival, end);
    arrival->bytes = buf_take(&event->bytes);
    arrival->epoch = end->epoch;
}

/* closed() is scheduled, or waits for the end of a pause: the send completes before it. */
static void before_closed(struct sim_event *done, struct sim_end *end)
{
    struct sim_event *closed = end->closed;
    struct heap *events = &end->owner->sim->events;

    if (closed == NULL) {
        return;
    }
    if (list_linked(&closed->node_deferred)) {
        heap_remove(events, &done->heap);
        list_insert_before(&closed->node_deferred, &done->node_deferred);
    } else if (closed->heap.key <= done->heap.key) {
        end->own_ns = done->heap.key + 1;
        heap_remove(events, &closed->heap);
        heap_push(events, &closed->heap, end->own_ns);
    }
}

static void on_sent(struct sim_event *event)
{
    struct env_send *send = event->object;

    send->done(send, event->status);
}

void sim_net_send(struct env *env, struct env_conn *conn, struct env_send *send)
{
    struct sim_end *end = conn->impl;
    struct sim_event *done;
    struct sim_event *departure;

    ASSERT(end != NULL && end->owner == sim_node_of(env));
    if (!end->closing && end->other != NULL) {
        departure = sim_schedule(end->owner, end->owner->sim->now, on_departure, end->other);
        for (unsigned i = 0; i < send->iov_count; i++) {
            buf_append(&departure->bytes, send->iov[i].iov_base, send->iov[i].iov_len);
        }
        done = sim_schedule(end->owner, own_next(end, 1 + rng_below(&end->owner->sim->rng, 50000)),
                            on_sent, send);
        return;
    }
    done = sim_schedule(end->owner, end->owner->sim->now, on_sent, send);
    done->status = -ECANCELED;
    before_closed(done, end);
}

static void on_opened(struct sim_event *event)
{
    struct sim_end *end = event->object;

    if (!end->closing && end->conn != NULL) {
        end->conn->opened(end->conn);
    }
}

static struct sim_listener *find_listener(struct sim *sim, const char *address)
{
    list_for_each (at, &sim->listeners) {
        struct sim_listener *listener = list_entry(at, struct sim_listener, node);

        if (strcmp(listener->address, address) == 0) {
            return listener;
        }
    }
    return NULL;
}

static void on_refused(struct sim_event *event)
{
    shut(event->object, event->status);
}

static void refuse(struct sim_end *end, uint64_t delay, int status)
{
    struct sim_event *event =
        sim_schedule(end->owner, end->owner->sim->now + delay, on_refused, end);

    event->status = status;
}

/* At the listener's node. */
static void on_connecting(struct sim_event *event)
{
    struct sim_end *end = event->object;
    struct sim *sim = end->owner->sim;
    const char *address = (const char *)event->bytes.data;
    struct sim_listener *listener = find_listener(sim, address);
    struct env_conn *conn;

    if (end->conn == NULL || end->closing || end->epoch != end->owner->epoch) {
        return;
    }
    conn = listener != NULL ? listener->listener->accept(listener->listener) : NULL;
    if (conn == NULL) {
        refuse(end, net_delay(sim), -ECONNREFUSED);
        return;
    }
    end->other = end_new(event->node, conn);
    end->other->other = end;
    sim_schedule(event->node, own_next(end->other, 1), on_opened, end->other);
    end->own_ns = max_u64(end->own_ns, sim->now + net_delay(sim));
    sim_schedule(end->owner, end->own_ns, on_opened, end);
}

static void on_connect_timeout(struct sim_event *event)
{
    struct sim_end *end = event->object;

    if (end->other == NULL) {
        shut(end, -ETIMEDOUT);
    }
}

void sim_net_connect(struct env *env, struct env_conn *conn, const char *address)
{
    struct sim_node *node = sim_node_of(env);
    struct sim *sim = node->sim;
    struct sim_end *end = end_new(node, conn);
    struct sim_listener *listener = find_listener(sim, address);
    struct sim_event *event;

    if (listener == NULL) {
        refuse(end, 2 * net_delay(sim), -ECONNREFUSED);
        return;
    }
    if (sim->cut[node->number][listener->owner->number] ||
        sim->cut[listener->owner->number][node->number]) {
        refuse(end, NS_PER_S, -ETIMEDOUT);
        return;
    }
    event = sim_schedule(listener->owner, sim->now + net_delay(sim), on_connecting, end);
    buf_append(&event->bytes, address, strlen(address) + 1);
    /* If the listener's node dies before that, nobody answers. */
    sim_schedule(node, sim->now + NS_PER_S, on_connect_timeout, end);
}

void sim_net_pause(struct env *env, struct env_conn *conn, bool paused)
{
    struct sim_end *end = conn->impl;

    (void)env;
    conn->paused = paused;
    if (end != NULL && !paused) {
        read_soon(end);
    }
}

void sim_net_close(struct env *env, struct env_conn *conn)
{
    struct sim_end *end = conn->impl;

    (void)env;
    if (end == NULL || end->closing) {
        return;
    }
    if (end->other != NULL) {
        shut_later(end->other, 0);
    }
    shut(end, 0);
}

int sim_net_listen(struct env *env, struct env_listener *listener, const char *address)
{
    struct sim_node *node = sim_node_of(env);
    struct sim_listener *entry;

    if (find_listener(node->sim, address) != NULL) {
        return -EADDRINUSE;
    }
    entry = mem_zalloc(sizeof(*entry));
    entry->owner = node;
    entry->listener = listener;
    entry->address = mem_strdup(address);
    listener->impl = entry;
    list_push_back(&node->sim->listeners, &entry->node);
    return 0;
}

static void listener_free(struct sim_listener *listener)
{
    list_remove(&listener->node);
    mem_free(listener->address);
    mem_free(listener);
}

void sim_net_listen_stop(struct env *env, struct env_listener *listener)
{
    (void)env;
    if (listener->impl != NULL) {
        listener_free(listener->impl);
        listener->impl = NULL;
    }
}

void sim_net_crash(struct sim_node *node, enum sim_crash_kind kind)
{
    struct sim *sim = node->sim;

    list_for_each (at, &sim->listeners) {
        struct sim_listener *listener = list_entry(at, struct sim_listener, node);

        if (listener->owner == node) {
            listener_free(listener);
        }
    }
    list_for_each (at, &sim->ends) {
        struct sim_end *end = list_entry(at, struct sim_end, node);

        if (end->owner != node || end->conn == NULL) {
            continue;
        }
        end_leave(end);
        if (end->other != NULL && end->other->conn != NULL) {
            if (kind == SIM_KILL) {
                shut_later(end->other, -ECONNRESET);
            } else {
                end->other->arrive_ns = max_u64(end->other->arrive_ns, sim->now + 2 * NS_PER_S);
                shut_later(end->other, -ETIMEDOUT);
            }
        }
    }
}

void sim_net_deinit(struct sim *sim)
{
    struct list_node *node;

    while ((node = list_first(&sim->listeners)) != NULL) {
        listener_free(list_entry(node, struct sim_listener, node));
    }
    list_splice(&sim->ends, &sim->closed_ends);
    while ((node = list_pop_front(&sim->ends)) != NULL) {
        struct sim_end *end = list_entry(node, struct sim_end, node);

        buf_deinit(&end->inbox);
        mem_free(end);
    }
}
