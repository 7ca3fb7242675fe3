#include "base/op.h"

#include "base/assert.h"

void op_init(struct op *op, const struct op_kind *kind)
{
    *op = (struct op){.kind = kind};
}

void op_wake(struct op *op)
{
    op->woken = true;
    if (op->running) {
        return; /* the call below us on the stack goes round again */
    }
    op->running = true;
    while (op->woken && !op->decided) {
        op->woken = false;
        ASSERT(op->state < op->kind->state_count);
        op->kind->step(op);
    }
    op->running = false;
    if (op->decided && op->inflight == 0 && op->kind->drained != NULL) {
        op->kind->drained(op);
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
