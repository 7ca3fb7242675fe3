#include "tests/lib/test.h"

#include "base/op.h"

enum pair_state { PAIR_START, PAIR_WAIT };

static const char *const pair_states[] = {"start", "wait"};

struct pair {
    struct op op;
    unsigned steps, told, drained;
    bool early; /* decide at the first of the two completions */
    bool wake_inside;
};

static void pair_step(struct op *op)
{
    struct pair *pair = (struct pair *)op;

    pair->steps++;
    switch ((enum pair_state)op->state) {
    case PAIR_START:
        op->inflight = 2;
        op->state = PAIR_WAIT;
        if (pair->wake_inside) {
            pair->wake_inside = false;
            op_wake(op); /* must go round again, not recurse */
            assert_int_equal(pair->steps, 1);
        }
        return;
    case PAIR_WAIT:
        if (op->inflight == 0 || (pair->early && op->inflight == 1)) {
            op_finish(op, 7);
        }
        return;
    }
}

static void pair_drained(struct op *op)
{
    ((struct pair *)op)->drained++;
}

static void pair_done(struct op *op)
{
    ((struct pair *)op)->told++;
    assert_int_equal(op->result, 7);
}

static const struct op_kind pair_kind = {"pair", pair_states, 2, pair_step, pair_drained};

static void test_runs_to_the_end(void **state)
{
    struct pair pair = {0};

    (void)state;
    op_init(&pair.op, &pair_kind);
    pair.op.done = pair_done;
    op_wake(&pair.op);
    assert_string_equal(op_state_name(&pair.op), "wait");
    op_complete(&pair.op);
    assert_int_equal(pair.told, 0);
    op_complete(&pair.op);
    assert_int_equal(pair.told, 1);
    assert_int_equal(pair.drained, 1);
    assert_int_equal(pair.steps, 3);
}

/* The owner is told as soon as the result is known; the memory stays until all has come back. */
static void test_decided_before_drained(void **state)
{
    struct pair pair = {.early = true};

    (void)state;
    op_init(&pair.op, &pair_kind);
    pair.op.done = pair_done;
    op_wake(&pair.op);
    op_complete(&pair.op);
    assert_int_equal(pair.told, 1);
    assert_int_equal(pair.drained, 0);
    op_complete(&pair.op);
    assert_int_equal(pair.drained, 1);
    assert_int_equal(pair.steps, 2); /* not stepped after the decision */
}

static void test_wake_inside_step(void **state)
{
    struct pair pair = {.wake_inside = true};

    (void)state;
    op_init(&pair.op, &pair_kind);
    op_wake(&pair.op);
    assert_int_equal(pair.steps, 2);
    op_complete(&pair.op);
    op_complete(&pair.op);
    assert_int_equal(pair.drained, 1);
}

static void assert_described(const char *wanted)
{
    cleanup(buf_deinit) struct buf text = {0};

    op_describe(&text);
    buf_append(&text, "", 1);
    assert_string_equal((const char *)text.data, wanted);
}

/* An operation is seen from its first step until the last of it is gone. */
static void test_described(void **state)
{
    struct pair a = {0}, b = {.early = true};

    (void)state;
    assert_described("");
    op_init(&a.op, &pair_kind);
    op_init(&b.op, &pair_kind);
    assert_described("");
    op_wake(&a.op);
    op_wake(&b.op);
    assert_described("op pair wait 2\n");
    op_complete(&b.op);
    assert_described("op pair wait 2\n"); /* decided, not drained */
    op_complete(&b.op);
    assert_described("op pair wait 1\n");
    op_complete(&a.op);
    op_complete(&a.op);
    assert_described("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_to_the_end),
        cmocka_unit_test(test_decided_before_drained),
        cmocka_unit_test(test_wake_inside_step),
        cmocka_unit_test(test_described),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
