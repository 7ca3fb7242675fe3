/* Three metadata servers that stop, stand still, differ from each other, or are too few. */
#include "base/mem.h"
#include "tests/lib/meta_world.h"

#include <errno.h>
#include <stdio.h>

/* The longest time between two creates, one after the other, for so long. */
static uint64_t longest_pause(unsigned *no, uint64_t ns)
{
    uint64_t end = sim_now(meta_world.sim) + ns, longest = 0;
    char name[32];

    while (sim_now(meta_world.sim) < end) {
        uint64_t before = sim_now(meta_world.sim);

        snprintf(name, sizeof(name), "load%u", (*no)++);
        assert_int_equal(meta_world_create(0, META_ROOT_INO, name, NULL), 0);
        longest = max_u64(longest, sim_now(meta_world.sim) - before);
    }
    return longest;
}

static void forget_stopped(unsigned i)
{
    assert_non_null(meta_world.servers[i]->data); /* on_stopped was called */
    mem_free(meta_world.servers[i]);
    meta_world.servers[i] = NULL;
}

/* A leader that is told to stop hands over: who works meanwhile waits for less than an election. */
static void test_graceful_stop(void **state)
{
    uint64_t pause, worst = 0;
    unsigned no = 0;

    (void)state;
    for (unsigned seed = 0; seed < 5; seed++) {
        int old;

        meta_world_start(20 + seed, 1);
        (void)longest_pause(&no, NS_PER_S);
        old = meta_world_leader();
        assert_true(old >= 0);
        assert_true(sim_call(meta_world.sim, (unsigned)old, meta_world_stop_server,
                             meta_world.servers[old]));
        pause = longest_pause(&no, 2 * NS_PER_S);
        assert_true(meta_world_leader() >= 0 && meta_world_leader() != old);
        forget_stopped((unsigned)old);
        worst = max_u64(worst, pause);
        meta_world_stop();
    }
    printf("longest pause of a create while the leader stops: %.1f ms\n", (double)worst / 1e6);
    assert_true(worst < RAFT_ELECTION_MIN_NS);
}

/* Nobody to hand over to: it stops at once, and within its time when others do not take it. */
static void test_stop_without_others(void **state)
{
    int old;

    (void)state;
    meta_world_start(30, 1);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "a", NULL), 0);
    old = meta_world_leader();
    for (int i = 0; i < META_WORLD_SERVERS; i++) {
        if (i != old) {
            meta_world_kill((unsigned)i, SIM_POWER); /* its peers see silence, not a reset */
        }
    }
    assert_true(
        sim_call(meta_world.sim, (unsigned)old, meta_world_stop_server, meta_world.servers[old]));
    meta_world_run(meta_world.settings.handover_ms * NS_PER_MS + 500 * NS_PER_MS);
    forget_stopped((unsigned)old);
    for (unsigned i = 0; i < META_WORLD_SERVERS; i++) {
        if ((int)i != old) {
            meta_world_revive(i);
        }
    }
    meta_world_run(2 * NS_PER_S);
    meta_world_stop();
}

/* As a process is that was stopped for a minute: its clock went on, it heard nobody. */
static void stand_still(void *data)
{
    struct meta_server *server = data;
    struct map_slot *slot;
    size_t at = 0;

    server->ticked_ns -= 60 * NS_PER_S;
    while ((slot = map_next(&server->sessions, &at)) != NULL) {
        ((struct meta_session *)slot->value)->heard_ns -= 60 * NS_PER_S;
    }
}

static void test_stall_expires_nobody(void **state)
{
    (void)state;
    meta_world_start(8, 1);
    meta_world_run(70 * NS_PER_S);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "a", NULL), 0);
    assert_true(sim_call(meta_world.sim, (unsigned)meta_world_leader(), stand_still,
                         meta_world.servers[meta_world_leader()]));
    meta_world_run(5 * NS_PER_S);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "b", NULL), 0);
    assert_int_equal(meta_world.mounts[0]->sessions, 1);
    /* It is forgiven once: a client that is gone still expires. */
    sim_crash(meta_world.sim, META_WORLD_SERVERS, SIM_POWER);
    meta_world.mounts[0] = NULL;
    meta_world_run(15 * NS_PER_S);
    assert_int_equal(meta_world.servers[meta_world_leader()]->ns.volume.sessions, 0);
    meta_world_stop();
}

/* A leader that is frozen resets no connection: its clients find the next one all the same, within
 * a second; when the votes are split, one election later. */
static void test_leader_stands_still(void **state)
{
    unsigned slow = 0;

    (void)state;
    for (uint64_t seed = 20; seed < 30; seed++) {
        uint64_t began;
        int frozen;

        meta_world_start(seed, 1);
        assert_int_equal(meta_world_create(0, META_ROOT_INO, "a", NULL), 0);
        meta_world_run(NS_PER_S);
        frozen = meta_world_leader();
        began = sim_now(meta_world.sim);
        sim_pause(meta_world.sim, (unsigned)frozen, began + 5 * NS_PER_S);
        assert_int_equal(meta_world_create(0, META_ROOT_INO, "b", NULL), 0);
        assert_in_range(sim_now(meta_world.sim) - began, 0, 1500 * NS_PER_MS);
        slow += sim_now(meta_world.sim) - began > NS_PER_S;
        assert_int_not_equal(meta_world_leader(), -1);
        assert_true(meta_world.mounts[0]->client.silences > 0);
        assert_int_equal(meta_world.mounts[0]->sessions, 1);
        meta_world_run(6 * NS_PER_S);
        assert_int_equal(meta_world_create(0, META_ROOT_INO, "b", NULL), -EEXIST);
        meta_world_stop();
    }
    assert_true(slow <= 1);
}

static void change_state(void *data)
{
    struct meta_server *server = data;

    btree_put(server->tree, slice_text("Z"), slice_text("of this replica only"));
}

/* Load until one of them dies or 20 seconds are over. */
static void run_until_death(void)
{
    static unsigned no;
    bool died = false;

    for (unsigned i = 0; i < 20 && !died; i++) {
        char name[32];

        snprintf(name, sizeof(name), "until%u", no++);
        assert_int_equal(meta_world_create(0, META_ROOT_INO, name, NULL), 0);
        meta_world_run(NS_PER_S);
        for (unsigned k = 0; k < META_WORLD_SERVERS; k++) {
            died |= sim_died(meta_world.sim, k);
        }
    }
}

/* The replica that is alone with its state stops, be it a follower or the leader; the others go on.
 */
static void one_differs(bool is_leader, uint64_t seed)
{
    unsigned odd;

    meta_world_start(seed, 1);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "a", NULL), 0);
    meta_world_run(NS_PER_S);
    odd = ((unsigned)meta_world_leader() + !is_leader) % META_WORLD_SERVERS;
    assert_true(sim_call(meta_world.sim, odd, change_state, meta_world.servers[odd]));
    run_until_death();
    assert_true(sim_died(meta_world.sim, odd));
    assert_non_null(
        strstr(sim_last_error(meta_world.sim), "the state differs from the majority's"));
    meta_world.errors = sim_errors(meta_world.sim);
    meta_world.servers[odd] = NULL;
    for (unsigned i = 0; i < META_WORLD_SERVERS; i++) {
        assert_int_equal(sim_died(meta_world.sim, i), i == odd);
    }
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "goes on", NULL), 0);
    meta_world_revive(odd); /* what differed was in no checkpoint: replayed, it agrees again */
    meta_world_run(12 * NS_PER_S);
    assert_true(meta_world.servers[odd]->tree->applied_index > 0);
    run_until_death();
    meta_world_stop();
}

static void test_follower_differs(void **state)
{
    (void)state;
    one_differs(false, 7);
    one_differs(false, 9);
}

static void test_leader_differs(void **state)
{
    (void)state;
    one_differs(true, 7);
    one_differs(true, 9);
}

/* Two that differ, and nobody to say which is right: both stay, it is said, and settled when the
 * third is back. */
static void test_no_majority(void **state)
{
    unsigned odd, away;

    (void)state;
    meta_world_start(11, 1);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "a", NULL), 0);
    meta_world_run(NS_PER_S);
    odd = (unsigned)meta_world_leader();
    away = (odd + 1) % META_WORLD_SERVERS;
    meta_world_kill(away, SIM_KILL);
    assert_true(sim_call(meta_world.sim, odd, change_state, meta_world.servers[odd]));
    run_until_death();
    assert_non_null(strstr(sim_last_error(meta_world.sim), "no majority agrees"));
    for (unsigned i = 0; i < META_WORLD_SERVERS; i++) {
        assert_false(sim_died(meta_world.sim, i));
    }
    meta_world_revive(away);
    run_until_death();
    assert_true(sim_died(meta_world.sim, odd));
    meta_world.servers[odd] = NULL;
    meta_world.errors = sim_errors(meta_world.sim);
    assert_int_equal(meta_world_create(0, META_ROOT_INO, "goes on", NULL), 0);
    meta_world_revive(odd);
    meta_world_run(5 * NS_PER_S);
    meta_world_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_follower_differs),    cmocka_unit_test(test_leader_differs),
        cmocka_unit_test(test_no_majority),         cmocka_unit_test(test_stall_expires_nobody),
        cmocka_unit_test(test_leader_stands_still), cmocka_unit_test(test_graceful_stop),
        cmocka_unit_test(test_stop_without_others),
    };

    meta_world.settings = meta_world_settings();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
