/*
 * The lock tables of two small files against a naive model: one type for each owner and byte, and a
 * list of those who wait.
 */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "base/rng.h"
#include "meta/lock_table.h"

#include <errno.h>
#include <stdio.h>

#define BYTES  16
#define OWNERS 4 /* of sessions 1 and 2, two each */
#define FILES  2
#define KINDS  2 /* POSIX, flock */
#define STEPS  20000
#define WAITS  64

struct wait {
    unsigned file;
    struct meta_lock lock;
};

struct world {
    struct lock_graph graph;
    struct lock_table tables[FILES];
    uint8_t held[FILES][KINDS][OWNERS][BYTES];
    struct wait waits[WAITS]; /* in order */
    unsigned wait_count;
    unsigned granting; /* the file */
    unsigned waited, granted, deadlocks, refused;
    struct rng rng;
    uint64_t ticket;
};

static unsigned owner_of(const struct meta_lock *lock)
{
    return (unsigned)(2 * (lock->session - 1) + lock->owner);
}

static uint64_t last_byte(uint64_t to)
{
    return min_u64(to, BYTES - 1);
}

/* ---- the model ---- */

static void model_set(struct world *world, unsigned file, const struct meta_lock *lock)
{
    for (uint64_t byte = lock->from; byte <= last_byte(lock->to); byte++) {
        world->held[file][lock->flock][owner_of(lock)][byte] = lock->type;
    }
}

static bool types_conflict(unsigned a, unsigned b)
{
    return a != META_LOCK_NONE && b != META_LOCK_NONE &&
           (a == META_LOCK_WRITE || b == META_LOCK_WRITE);
}

/* Does that owner hold what keeps `want` from being? */
static bool model_holds_against(const struct world *world, unsigned file, unsigned owner,
                                const struct meta_lock *want)
{
    for (uint64_t byte = want->from; owner != owner_of(want) && byte <= last_byte(want->to);
         byte++) {
        if (types_conflict(world->held[file][want->flock][owner][byte], want->type)) {
            return true;
        }
    }
    return false;
}

static bool model_blocked(const struct world *world, unsigned file, const struct meta_lock *want)
{
    for (unsigned owner = 0; owner < OWNERS; owner++) {
        if (model_holds_against(world, file, owner, want)) {
            return true;
        }
    }
    return false;
}

static bool model_holds(const struct world *world, unsigned file, const struct meta_lock *of)
{
    for (unsigned byte = 0; byte < BYTES; byte++) {
        if (world->held[file][of->flock][owner_of(of)][byte] != META_LOCK_NONE) {
            return true;
        }
    }
    return false;
}

static bool locks_conflict(const struct meta_lock *a, const struct meta_lock *b)
{
    return a->flock == b->flock && owner_of(a) != owner_of(b) && a->from <= b->to &&
           b->from <= a->to && types_conflict(a->type, b->type);
}

/* Somebody came before it, waits, and wants what it cannot have beside it. */
static bool model_in_line(const struct world *world, unsigned file, const struct meta_lock *want)
{
    for (unsigned i = 0; i < world->wait_count; i++) {
        if (world->waits[i].file == file && world->waits[i].lock.ticket < want->ticket &&
            locks_conflict(&world->waits[i].lock, want)) {
            return true;
        }
    }
    return false;
}

/* Who, directly, is in the way of `want`, as bits. */
static unsigned model_blockers(const struct world *world, unsigned file,
                               const struct meta_lock *want)
{
    unsigned owners = 0;

    for (unsigned owner = 0; owner < OWNERS; owner++) {
        owners |= model_holds_against(world, file, owner, want) ? 1U << owner : 0;
    }
    for (unsigned i = 0; i < world->wait_count; i++) {
        if (world->waits[i].file == file && world->waits[i].lock.ticket < want->ticket &&
            locks_conflict(&world->waits[i].lock, want)) {
            owners |= 1U << owner_of(&world->waits[i].lock);
        }
    }
    return owners;
}

/* Would it wait, in the end, for itself? */
static bool model_circle(const struct world *world, unsigned file, const struct meta_lock *want)
{
    unsigned reached = model_blockers(world, file, want), before;

    do {
        before = reached;
        for (unsigned i = 0; i < world->wait_count; i++) {
            const struct wait *wait = &world->waits[i];

            if (!wait->lock.flock && reached & 1U << owner_of(&wait->lock)) {
                reached |= model_blockers(world, wait->file, &wait->lock);
            }
        }
    } while (reached != before);
    return (reached & 1U << owner_of(want)) != 0;
}

static int model_request(struct world *world, unsigned file, const struct meta_lock *want,
                         bool wait)
{
    struct meta_lock none = *want;

    if (want->type == META_LOCK_NONE) {
        model_set(world, file, want);
        return 0;
    }
    if (model_blocked(world, file, want)) {
        if (!wait) {
            return -EAGAIN;
        }
        if (!want->flock && model_circle(world, file, want)) {
            return -EDEADLK;
        }
    } else if (!wait || !model_in_line(world, file, want) || model_holds(world, file, want) ||
               (!want->flock && model_circle(world, file, want))) {
        model_set(world, file, want);
        return 0;
    }
    none.type = META_LOCK_NONE;
    if (want->flock) {
        model_set(world, file, &none);
    }
    world->waits[world->wait_count++] = (struct wait){file, *want};
    return LOCK_WAITS;
}

static void model_unwait(struct world *world, unsigned i)
{
    world->wait_count--;
    memmove(&world->waits[i], &world->waits[i + 1],
            (world->wait_count - i) * sizeof(world->waits[0]));
}

static unsigned model_find(const struct world *world, uint64_t ticket)
{
    unsigned i = 0;

    while (i < world->wait_count && world->waits[i].lock.ticket != ticket) {
        i++;
    }
    return i;
}

/* ---- both ---- */

static bool next_wait(struct lock_graph *graph, uint64_t session, uint64_t owner,
                      uint64_t *io_cursor, struct meta_lock *out_wait,
                      const struct lock_table **out_table)
{
    struct world *world = container_of(graph, struct world, graph);

    for (unsigned i = (unsigned)*io_cursor; i < world->wait_count; i++) {
        struct wait *wait = &world->waits[i];

        if (wait->lock.session == session && wait->lock.owner == owner && !wait->lock.flock) {
            *io_cursor = i + 1;
            *out_wait = wait->lock;
            *out_table = &world->tables[wait->file];
            return true;
        }
    }
    return false;
}

/* Its turn had come: nobody holds it, and nobody before it who wants it still waits. */
static void on_granted(void *data, const struct meta_lock *lock)
{
    struct world *world = data;
    unsigned i = model_find(world, lock->ticket);

    assert_int_not_equal(i, world->wait_count);
    assert_false(model_blocked(world, world->granting, lock));
    assert_true(!model_in_line(world, world->granting, lock) ||
                model_holds(world, world->granting, lock));
    model_unwait(world, i);
    model_set(world, world->granting, lock);
    world->granted++;
}

static struct meta_lock random_lock(struct world *world)
{
    struct meta_lock lock = {
        .session = 1 + rng_below(&world->rng, 2),
        .owner = rng_below(&world->rng, 2),
        .from = rng_below(&world->rng, BYTES),
        .ticket = ++world->ticket,
        .pid = 7,
        .flock = rng_below(&world->rng, 4) == 0,
        .type = (uint8_t)rng_below(&world->rng, 3),
    };

    lock.to = lock.from + rng_below(&world->rng, BYTES - lock.from);
    if (lock.to == BYTES - 1) {
        lock.to = LOCK_TO_THE_END; /* what is behind belongs to the last byte */
    }
    if (lock.flock) {
        lock.from = 0;
        lock.to = LOCK_TO_THE_END;
    }
    return lock;
}

static void grant(struct world *world, unsigned file)
{
    world->granting = file;
    lock_table_grant(&world->tables[file], on_granted, world);
}

static void step_request(struct world *world, unsigned file)
{
    struct meta_lock want = random_lock(world);
    bool wait = rng_below(&world->rng, 2) == 0 && world->wait_count < WAITS;
    const struct meta_lock *holder = lock_table_holder(&world->tables[file], &want);
    int expected;
    int r;

    assert_true(want.type == META_LOCK_NONE ||
                (holder != NULL) == model_blocked(world, file, &want));
    r = lock_table_request(&world->tables[file], &want, wait, &world->graph);
    expected = model_request(world, file, &want, wait);
    assert_int_equal(r, expected);
    world->waited += r == LOCK_WAITS;
    world->deadlocks += r == -EDEADLK;
    world->refused += r == -EAGAIN;
    grant(world, file);
}

static void step_cancel(struct world *world)
{
    unsigned i, file;

    if (world->wait_count == 0) {
        return;
    }
    i = (unsigned)rng_below(&world->rng, world->wait_count);
    file = world->waits[i].file;
    lock_table_cancel(&world->tables[file], world->waits[i].lock.ticket);
    model_unwait(world, i);
    grant(world, file);
}

static void step_session_ends(struct world *world)
{
    uint64_t session = 1 + rng_below(&world->rng, 2);

    for (unsigned i = world->wait_count; i-- > 0;) {
        if (world->waits[i].lock.session == session) {
            model_unwait(world, i);
        }
    }
    for (unsigned file = 0; file < FILES; file++) {
        for (unsigned kind = 0; kind < KINDS; kind++) {
            memset(world->held[file][kind][2 * (session - 1)], 0, (size_t)2 * BYTES);
        }
        lock_table_drop_session(&world->tables[file], session);
        grant(world, file);
    }
}

/* As a record and back. */
static void reload(struct lock_table *table)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    struct lock_table copy = {0};

    lock_table_encode(table, &bytes);
    assert_int_equal(lock_table_decode(&copy, buf_slice(&bytes)), 0);
    lock_table_deinit(table);
    *table = copy;
}

static void check_table(const struct world *world, unsigned file)
{
    const struct lock_table *table = &world->tables[file];
    uint8_t held[KINDS][OWNERS][BYTES] = {0};
    unsigned waits = 0;

    for (size_t i = 0; i < table->count; i++) {
        const struct meta_lock *item = &table->items[i];

        waits += item->ticket != 0;
        if (item->ticket != 0) { /* nobody waits without a reason */
            assert_true(model_blocked(world, file, item) || model_in_line(world, file, item));
            continue;
        }
        for (uint64_t byte = item->from; byte <= last_byte(item->to); byte++) {
            assert_int_equal(held[item->flock][owner_of(item)][byte], 0);
            held[item->flock][owner_of(item)][byte] = item->type;
        }
    }
    assert_memory_equal(held, world->held[file], sizeof(held));
    for (unsigned i = 0; i < world->wait_count; i++) {
        waits -= world->waits[i].file == file;
    }
    assert_int_equal(waits, 0);
}

static void test_model(void **state)
{
    struct world *world = mem_zalloc(sizeof(*world));

    (void)state;
    world->graph.next_wait = next_wait;
    rng_init(&world->rng, test_seed(1));
    for (unsigned i = 0; i < STEPS; i++) {
        unsigned file = (unsigned)rng_below(&world->rng, FILES);
        uint64_t what = rng_below(&world->rng, 100);

        if (what < 90) {
            step_request(world, file);
        } else if (what < 98) {
            step_cancel(world);
        } else if (what < 99) {
            step_session_ends(world);
        } else {
            reload(&world->tables[file]);
        }
        check_table(world, 0);
        check_table(world, 1);
    }
    printf("%u waited, %u were granted, %u deadlocks, %u refused\n", world->waited, world->granted,
           world->deadlocks, world->refused);
    assert_true(world->waited > 100 && world->granted > 100 && world->deadlocks > 100);
    for (unsigned file = 0; file < FILES; file++) {
        lock_table_deinit(&world->tables[file]);
    }
    mem_free(world);
}

static bool nobody_waits(struct lock_graph *graph, uint64_t session, uint64_t owner,
                         uint64_t *io_cursor, struct meta_lock *out_wait,
                         const struct lock_table **out_table)
{
    (void)graph;
    (void)session;
    (void)owner;
    (void)io_cursor;
    (void)out_wait;
    (void)out_table;
    return false;
}

/* What is full takes no more, and can be given up piece by piece; neighbours become one. */
static void test_full(void **state)
{
    struct lock_graph graph = {nobody_waits};
    struct lock_table table = {0};
    struct meta_lock lock = {.session = 1, .owner = 1, .type = META_LOCK_READ};
    uint64_t count = 0;
    cleanup(buf_deinit) struct buf bytes = {0};

    (void)state;
    while (lock_table_request(&table, &lock, false, &graph) == 0) {
        lock.from = lock.to = 2 * ++count;
    }
    assert_int_equal(count, LOCK_TABLE_MAX - 1);
    assert_int_equal(table.count, count);
    lock_table_encode(&table, &bytes);
    assert_true(bytes.size <= KiB(256)); /* what a record may be */
    lock.type = META_LOCK_NONE;
    lock.from = lock.to = 2;
    assert_int_equal(lock_table_request(&table, &lock, false, &graph), 0);
    lock = (struct meta_lock){
        .session = 1, .owner = 1, .type = META_LOCK_READ, .from = 0, .to = LOCK_TO_THE_END};
    assert_int_equal(lock_table_request(&table, &lock, false, &graph), 0);
    assert_int_equal(table.count, 1);
    lock_table_deinit(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
