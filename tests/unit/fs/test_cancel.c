/* What a signal makes of a call that waits. */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "fs/call.h"
#include "fs/mount.h"
#include "tests/sim/env_sim.h"

#include <errno.h>

static unsigned ended;

static void on_done(struct fs_call *call)
{
    (void)call;
    ended++;
}

/* The call waits in some queue, for a flush or for room; its error when a signal comes. */
static int cancelled(enum fs_op op, bool for_flush)
{
    struct sim *sim = sim_new(1);
    struct mount *mount = mem_zalloc(sizeof(*mount));
    struct list queue;
    struct fs_call call = {.op = op,
                           .mount = mount,
                           .waiting_flush = for_flush,
                           .written = op == FS_WRITE && for_flush,
                           .waiting_space = !for_flush,
                           .started_ns = 1,
                           .done = on_done};

    mount->env = sim_env(sim, 0);
    list_init(&queue);
    list_push_back(&queue, &call.node);
    ended = 0;
    fs_call_cancel(&call);
    assert_int_equal(ended, 1);
    assert_true(list_empty(&queue));
    mem_free(mount);
    sim_free(sim);
    return call.error;
}

/* Its bytes are taken: EINTR would have the program write them a second time. */
static void test_a_write_that_waits_for_its_commit(void **state)
{
    (void)state;
    assert_int_equal(cancelled(FS_WRITE, /* for_flush= */ true), 0);
}

static void test_others_have_done_nothing(void **state)
{
    (void)state;
    assert_int_equal(cancelled(FS_WRITE, /* for_flush= */ false), EINTR);
    assert_int_equal(cancelled(FS_FSYNC, /* for_flush= */ true), EINTR);
    assert_int_equal(cancelled(FS_READ, /* for_flush= */ true), EINTR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_that_waits_for_its_commit),
        cmocka_unit_test(test_others_have_done_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
