#include "base/op.h"

#include "base/assert.h"

#include <inttypes.h>

void op_init(struct op *op, const struct op_kind *kind)
{
    *op = (struct op){.kind = kind};
}

/*
 * The census: how many operations of each kind are in which state. One a process: a simulation,
 * which has many nodes, sees the sum. An op is counted from its first wake until it has drained.
 */
#define KINDS_MAX  32
#define STATES_MAX 24

static struct op_census {
    const struct op_kind *kind;
    uint64_t counts[STATES_MAX];
} census[KINDS_MAX];

static struct op_census *census_of(const struct op_kind *kind)
{
    for (unsigned i = 0; i < KINDS_MAX; i++) {
        if (census[i].kind == kind) {
            return &census[i];
        }
        if (census[i].kind == NULL) {
            ASSERT(kind->state_count <= STATES_MAX);
            census[i].kind = kind;
            return &census[i];
        }
    }
    return NULL;
}

static void census_begin(struct op *op)
{
    if (op->census == NULL && !op->decided) {
        op->census = census_of(op->kind);
        op->counted_state = op->state;
        if (op->census != NULL) {
            op->census->counts[op->state]++;
        }
    }
}

static void census_move(struct op *op)
{
    if (op->census != NULL && op->state != op->counted_state) {
        op->census->counts[op->counted_state]--;
        op->census->counts[op->state]++;
        op->counted_state = op->state;
    }
}

static void census_end(struct op *op)
{
    if (op->census != NULL) {
        op->census->counts[op->counted_state]--;
        op->census = NULL;
    }
}

void op_describe(struct buf *out)
{
    for (unsigned i = 0; i < KINDS_MAX && census[i].kind != NULL; i++) {
        for (unsigned state = 0; state < census[i].kind->state_count; state++) {
            if (census[i].counts[state] != 0) {
                buf_printf(out, "op %s %s %" PRIu64 "\n", census[i].kind->name,
                           census[i].kind->states[state], census[i].counts[state]);
            }
        }
    }
}

void op_wake(struct op *op)
{
    op->woken = true;
    if (op->running) {
        return; /* the call below us on the stack goes round again */
    }
    op->running = true;
    census_begin(op);
    while (op->woken && !op->decided) {
        op->woken = false;
        ASSERT(op->state < op->kind->state_count);
        op->kind->step(op);
        census_move(op);
    }
    op->running = false;
    if (op->decided && op->inflight == 0) {
        census_end(op);
        if (op->kind->drained != NULL) {
            op->kind->drained(op);
        }
    }
}

void op_complete(struct op *op)
{
    ASSERT(op->inflight > 0);
    op->inflight--;
    op_wake(op);
}

void op_finish(struct op *op, int result)
{
    ASSERT(op->running && !op->decided);
    op->decided = true;
    op->result = result;
    if (op->done != NULL) {
        op->done(op);
    }
}

const char *op_state_name(const struct op *op)
{
    return op->state < op->kind->state_count ? op->kind->states[op->state] : "?";
}
