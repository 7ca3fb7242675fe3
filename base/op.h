#pragma once
/*
 * op: an operation in named states. The one asynchronous style of the code (docs/adr/0003).
 *
 * One kind per file; its step() holds all control flow as a switch over op->state and returns when
 * it waits. Whatever it waits for calls op_complete, once for each op->inflight++. op_finish
 * decides the result and tells the owner by done(); when nothing is in flight any more, drained()
 * gives the memory back. Every wait has a deadline (an env_timer in the op's struct).
 */
#include "base/buf.h"

struct op;

struct op_kind {
    const char *name;
    const char *const *states; /* names by number, for traces and status */
    unsigned state_count;
    void (*step)(struct op *op);
    void (*drained)(struct op *op); /* may free the op: its last use; NULL = nothing to do */
};

struct op_census;

struct op {
    const struct op_kind *kind;
    unsigned state;
    unsigned counted_state;   /* op.c's */
    struct op_census *census; /* op.c's; NULL = not counted */
    unsigned inflight;        /* completions still to come */
    int result;               /* valid once decided */
    bool running;
    bool woken;
    bool decided;
    void (*done)(struct op *op); /* owner's; must not free the op; NULL = nobody waits */
    void *owner;
};

void op_init(struct op *op, const struct op_kind *kind);
/* Runs step() until it waits or decides; safe to call from inside step(). May free the op. */
void op_wake(struct op *op);
/* One thing that was in flight has ended. May free the op. */
void op_complete(struct op *op);
/* From step() only: the result is `result`, the owner is told. */
void op_finish(struct op *op, int result);
const char *op_state_name(const struct op *op);
/* Appends a line "op KIND STATE COUNT" for each state in which operations of this process wait. */
void op_describe(struct buf *out);
