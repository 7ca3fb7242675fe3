#include "meta/lock_table.h"

#include "base/err.h"
#include "base/mem.h"

#include <errno.h>

#define OWNERS_MAX 64 /* that a search for a circle looks at */

static bool same_owner(const struct meta_lock *a, const struct meta_lock *b)
{
    return a->flock == b->flock && a->session == b->session && a->owner == b->owner;
}

static bool overlap(const struct meta_lock *a, const struct meta_lock *b)
{
    return a->from <= b->to && b->from <= a->to;
}

static bool conflict(const struct meta_lock *a, const struct meta_lock *b)
{
    return a->flock == b->flock && overlap(a, b) && !same_owner(a, b) &&
           (a->type == META_LOCK_WRITE || b->type == META_LOCK_WRITE);
}

/* ---- entries ---- */

static void append(struct lock_table *table, const struct meta_lock *lock)
{
    if (table->count == table->capacity) {
        table->capacity = table->capacity == 0 ? 4 : 2 * table->capacity;
        table->items = mem_realloc(table->items, table->capacity * sizeof(*table->items));
    }
    table->items[table->count++] = *lock;
}

/* The order of the others stays: it is that of those who wait. */
static void take_out(struct lock_table *table, size_t i)
{
    table->count--;
    memmove(&table->items[i], &table->items[i + 1], (table->count - i) * sizeof(*table->items));
}

static void append_range(struct lock_table *table, const struct meta_lock *like, uint64_t from,
                         uint64_t to)
{
    struct meta_lock part = *like;

    part.from = from;
    part.to = to;
    append(table, &part);
}

static bool touch(const struct meta_lock *a, const struct meta_lock *b)
{
    return overlap(a, b) || (a->to != LOCK_TO_THE_END && a->to + 1 == b->from) ||
           (b->to != LOCK_TO_THE_END && b->to + 1 == a->from);
}

void lock_table_set(struct lock_table *table, const struct meta_lock *want)
{
    struct meta_lock merged = *want;
    size_t before = table->count;

    merged.ticket = 0;
    for (size_t i = 0, left = before; left > 0; left--) {
        struct meta_lock own = table->items[i];

        if (own.ticket != 0 || !same_owner(&own, want) || !touch(&own, &merged)) {
            i++;
        } else if (own.type == want->type) {
            merged.from = min_u64(merged.from, own.from);
            merged.to = max_u64(merged.to, own.to);
            take_out(table, i);
        } else if (!overlap(&own, want)) {
            i++;
        } else {
            take_out(table, i);
            if (own.from < want->from) {
                append_range(table, &own, own.from, want->from - 1);
            }
            if (own.to > want->to) {
                append_range(table, &own, want->to + 1, own.to);
            }
        }
    }
    if (want->type != META_LOCK_NONE) {
        append(table, &merged);
    }
}

bool lock_table_holds(const struct lock_table *table, const struct meta_lock *owner)
{
    for (size_t i = 0; i < table->count; i++) {
        if (table->items[i].ticket == 0 && same_owner(&table->items[i], owner)) {
            return true;
        }
    }
    return false;
}

bool lock_table_has_session(const struct lock_table *table, uint64_t session)
{
    for (size_t i = 0; i < table->count; i++) {
        if (table->items[i].session == session) {
            return true;
        }
    }
    return false;
}

/* ---- what is in the way ---- */

/* Of `want`, whose ticket says who waits before it: the first in its way at or behind entry i.
 * Those that only wait count when it stands in line. table->count: none. */
static size_t next_blocker(const struct lock_table *table, const struct meta_lock *want,
                           bool in_line, size_t i)
{
    for (; i < table->count; i++) {
        const struct meta_lock *item = &table->items[i];

        if (conflict(item, want) &&
            (item->ticket == 0 || (in_line && item->ticket < want->ticket))) {
            break;
        }
    }
    return i;
}

const struct meta_lock *lock_table_holder(const struct lock_table *table,
                                          const struct meta_lock *want)
{
    size_t i = next_blocker(table, want, false, 0);

    return i < table->count ? &table->items[i] : NULL;
}

static bool is_blocked(const struct lock_table *table, const struct meta_lock *want, bool in_line)
{
    return next_blocker(table, want, in_line, 0) < table->count;
}

struct owners {
    struct meta_lock items[OWNERS_MAX];
    unsigned count;
};

static void note_owner(struct owners *owners, const struct meta_lock *lock)
{
    for (unsigned i = 0; i < owners->count; i++) {
        if (same_owner(&owners->items[i], lock)) {
            return;
        }
    }
    if (owners->count < OWNERS_MAX) {
        owners->items[owners->count++] = *lock;
    }
}

static void note_blockers(struct owners *owners, const struct lock_table *table,
                          const struct meta_lock *want)
{
    size_t i = 0;

    while ((i = next_blocker(table, want, true, i)) < table->count) {
        note_owner(owners, &table->items[i++]);
    }
}

/* Does anybody in the way of `want` wait, in the end, for its owner? A search that gets too long
 * says no, as the kernel's own. */
static bool closes_circle(const struct lock_table *table, const struct meta_lock *want,
                          struct lock_graph *graph)
{
    struct owners owners = {.count = 0};

    note_blockers(&owners, table, want);
    for (unsigned i = 0; i < owners.count; i++) {
        const struct lock_table *where;
        struct meta_lock wait;
        uint64_t cursor = 0;

        if (same_owner(&owners.items[i], want)) {
            return true;
        }
        while (graph->next_wait(graph, owners.items[i].session, owners.items[i].owner, &cursor,
                                &wait, &where)) {
            note_blockers(&owners, where, &wait);
        }
    }
    return false;
}

/* ---- requests ---- */

/* A process that converts its flock gives the old one up while it waits: two that do the same would
 * wait for each other for ever. */
static void give_up_flock(struct lock_table *table, const struct meta_lock *want)
{
    struct meta_lock none = *want;

    none.type = META_LOCK_NONE;
    lock_table_set(table, &none);
}

static int stand_in_line(struct lock_table *table, const struct meta_lock *want)
{
    if (want->flock) {
        give_up_flock(table, want);
    }
    append(table, want);
    return LOCK_WAITS;
}

/* Is it cut out of the middle of one? */
static bool cuts_in_two(const struct lock_table *table, const struct meta_lock *want)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct meta_lock *own = &table->items[i];

        if (own->ticket == 0 && same_owner(own, want) && own->from < want->from &&
            own->to > want->to) {
            return true;
        }
    }
    return false;
}

/* A lock adds itself, and cuts at most one other in two; giving up always works but for the cut. */
static bool has_room(const struct lock_table *table, const struct meta_lock *want)
{
    return table->count + 2 <= LOCK_TABLE_MAX ||
           (want->type == META_LOCK_NONE && !cuts_in_two(table, want));
}

int lock_table_request(struct lock_table *table, const struct meta_lock *want, bool wait,
                       struct lock_graph *graph)
{
    if (!has_room(table, want)) {
        return -ENOLCK;
    }
    if (want->type == META_LOCK_NONE) {
        lock_table_set(table, want);
        return 0;
    }
    if (is_blocked(table, want, false)) {
        if (!wait) {
            return -EAGAIN;
        }
        if (!want->flock && closes_circle(table, want, graph)) {
            return -EDEADLK;
        }
        return stand_in_line(table, want);
    }
    if (wait && is_blocked(table, want, true) && !lock_table_holds(table, want) &&
        (want->flock || !closes_circle(table, want, graph))) {
        return stand_in_line(table, want);
    }
    lock_table_set(table, want);
    return 0;
}

static bool may_have(const struct lock_table *table, const struct meta_lock *waiter)
{
    return !is_blocked(table, waiter, !lock_table_holds(table, waiter));
}

void lock_table_grant(struct lock_table *table,
                      void (*granted)(void *data, const struct meta_lock *lock), void *data)
{
    for (size_t i = 0; i < table->count;) {
        struct meta_lock waiter = table->items[i];
        bool held;

        if (waiter.ticket == 0 || !may_have(table, &waiter)) {
            i++;
            continue;
        }
        held = lock_table_holds(table, &waiter);
        take_out(table, i);
        lock_table_set(table, &waiter);
        granted(data, &waiter);
        i = held ? 0 : i; /* its owner may have given up something by that */
    }
}

const struct meta_lock *lock_table_waiter(const struct lock_table *table, uint64_t ticket)
{
    for (size_t i = 0; i < table->count; i++) {
        if (ticket != 0 && table->items[i].ticket == ticket) {
            return &table->items[i];
        }
    }
    return NULL;
}

void lock_table_cancel(struct lock_table *table, uint64_t ticket)
{
    const struct meta_lock *waiter = lock_table_waiter(table, ticket);

    if (waiter != NULL) {
        take_out(table, (size_t)(waiter - table->items));
    }
}

void lock_table_drop_session(struct lock_table *table, uint64_t session)
{
    for (size_t i = table->count; i-- > 0;) {
        if (table->items[i].session == session) {
            take_out(table, i);
        }
    }
}

/* ---- as a record ---- */

void lock_table_deinit(struct lock_table *table)
{
    mem_free(table->items);
    *table = (struct lock_table){0};
}

static bool is_sane(const struct meta_lock *lock)
{
    return lock->from <= lock->to &&
           (lock->type == META_LOCK_READ || lock->type == META_LOCK_WRITE);
}

int lock_table_decode(struct lock_table *table, struct slice bytes)
{
    struct schema_reader reader = schema_reader_make(bytes);

    table->count = 0;
    while (reader.at != reader.end) {
        struct slice record = schema_read_bytes(&reader, META_LOCK_BYTES_MAX);
        struct meta_lock lock;

        if (reader.failed || meta_lock_decode(&lock, record) < 0 || !is_sane(&lock) ||
            table->count >= LOCK_TABLE_MAX) {
            return -ERR_CORRUPT;
        }
        append(table, &lock);
    }
    return 0;
}

void lock_table_encode(const struct lock_table *table, struct buf *out)
{
    cleanup(buf_deinit) struct buf record = {0};

    for (size_t i = 0; i < table->count; i++) {
        buf_clear(&record);
        meta_lock_encode(&table->items[i], &record);
        schema_write_bytes(out, buf_slice(&record));
    }
}
