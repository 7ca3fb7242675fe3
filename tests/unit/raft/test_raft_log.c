#include "tests/lib/test.h"

#include "base/err.h"
#include "base/mem.h"
#include "raft/raft_log.h"
#include "tests/sim/env_sim.h"

#define DIR        "/log"
#define ENTRIES    400
#define ENTRY_SIZE 700 /* 400 entries fill four segments of 64 KiB and more */

struct driver {
    struct sim *sim;
    struct raft_log *log; /* left behind by crashes */
    struct raft_log_config config;
    struct raft_log_recovered recovered;
    int result;
    uint64_t next;         /* index to append */
    uint64_t acknowledged; /* largest index reported durable */
    uint64_t submitted;
    uint64_t term;
    uint64_t compact_behind; /* 0 = never */
};

static void fill(uint8_t *bytes, uint64_t index, uint64_t term)
{
    for (unsigned i = 0; i < ENTRY_SIZE; i++) {
        bytes[i] = (uint8_t)(index * 31 + term * 7 + i);
    }
}

static void append_some(struct driver *driver);

static void on_saved(struct raft_log *log, uint64_t ticket)
{
    struct driver *driver = log->data;

    (void)ticket; /* one append at a time: what is submitted is durable */
    driver->acknowledged = driver->submitted;
    if (driver->compact_behind != 0 && driver->acknowledged > driver->compact_behind) {
        raft_log_compact(log, driver->acknowledged - driver->compact_behind);
    }
    append_some(driver);
}

static void append_some(struct driver *driver)
{
    struct raft_entry entries[3];
    uint8_t bytes[3][ENTRY_SIZE];
    struct raft_hard_state state = {driver->term, 1};
    unsigned count = (unsigned)(driver->next % 3 + 1);

    if (driver->next > ENTRIES) {
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        fill(bytes[i], driver->next + i, driver->term);
        entries[i] = (struct raft_entry){driver->term, slice_make(bytes[i], ENTRY_SIZE)};
    }
    driver->submitted = driver->next + count - 1;
    raft_log_append(driver->log, driver->next, entries, count,
                    driver->next % 5 == 0 ? &state : NULL);
    driver->next += count;
}

static void open_log(void *data)
{
    struct driver *driver = data;

    driver->log = mem_zalloc(sizeof(*driver->log));
    driver->result =
        raft_log_open(driver->log, sim_env(driver->sim, 0), &driver->config, &driver->recovered);
    driver->log->saved = on_saved;
    driver->log->data = driver;
}

static void go_on(void *data)
{
    append_some(data);
}

static void open_and_append(void *data)
{
    struct driver *driver = data;

    open_log(driver);
    append_some(driver);
}

static struct driver driver_make(uint64_t seed)
{
    return (struct driver){
        .sim = sim_new(seed),
        .config = {.dir = DIR, .node_id = 3, .segment_bytes = KiB(64)},
        .next = 1,
        .term = 1,
    };
}

static void check_entries(const struct driver *driver, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i <= to; i++) {
        const struct raft_entry *entry = raft_tail_at(&driver->recovered.tail, i);
        uint8_t bytes[ENTRY_SIZE];

        assert_non_null(entry);
        fill(bytes, i, entry->term);
        assert_true(slice_equal(entry->command, slice_make(bytes, ENTRY_SIZE)));
    }
}

static void reopen(struct driver *driver)
{
    raft_tail_deinit(&driver->recovered.tail);
    sim_restart(driver->sim, 0);
    assert_true(sim_call(driver->sim, 0, open_log, driver));
}

static void test_write_and_read_back(void **state)
{
    struct driver driver = driver_make(1);

    (void)state;
    assert_true(sim_call(driver.sim, 0, open_and_append, &driver));
    assert_int_equal(driver.result, 0);
    sim_run(driver.sim, 60 * NS_PER_S);
    assert_true(driver.acknowledged >= ENTRIES);
    sim_crash(driver.sim, 0, SIM_POWER);
    reopen(&driver);
    assert_int_equal(driver.result, 0);
    assert_int_equal(raft_tail_last(&driver.recovered.tail), driver.acknowledged);
    assert_int_equal(driver.recovered.state.term, 1);
    assert_int_equal(driver.recovered.state.vote, 1);
    check_entries(&driver, 1, driver.acknowledged);
    raft_tail_deinit(&driver.recovered.tail);
    sim_free(driver.sim);
}

/* Power is lost at every single io in turn: nothing acknowledged is lost, what else is there was
 * submitted, and the log goes on. */
static void crash_at(uint64_t n, uint64_t compact_behind, bool *out_done)
{
    struct driver driver = driver_make(n);
    uint64_t last;
    uint64_t acknowledged;
    uint64_t submitted;

    driver.compact_behind = compact_behind;
    sim_crash_at_io(driver.sim, 0, n);
    if (sim_call(driver.sim, 0, open_and_append, &driver)) {
        sim_run(driver.sim, 60 * NS_PER_S);
    }
    *out_done = !sim_died(driver.sim, 0);
    if (*out_done) {
        sim_crash(driver.sim, 0, SIM_POWER);
    }
    acknowledged = driver.acknowledged;
    submitted = driver.submitted;
    /* What was compacted away is in the state machine. */
    if (compact_behind != 0 && acknowledged > compact_behind) {
        driver.config.base_index = acknowledged - compact_behind;
        driver.config.base_term = 1;
    }
    reopen(&driver);
    assert_int_equal(driver.result, 0);
    last = raft_tail_last(&driver.recovered.tail);
    assert_true(last >= acknowledged && last <= submitted);
    check_entries(&driver, driver.config.base_index + 1, last);
    /* It goes on, replacing the newest entry by one of a newer term. */
    driver.compact_behind = 0; /* the machine stays where it is */
    driver.term = 2;
    driver.next = last > driver.config.base_index ? last : last + 1;
    sim_call(driver.sim, 0, go_on, &driver);
    sim_run(driver.sim, 120 * NS_PER_S);
    assert_true(sim_up(driver.sim, 0));
    acknowledged = driver.acknowledged;
    sim_crash(driver.sim, 0, SIM_POWER);
    reopen(&driver);
    assert_int_equal(driver.result, 0);
    assert_int_equal(raft_tail_last(&driver.recovered.tail), acknowledged);
    check_entries(&driver, driver.config.base_index + 1, acknowledged);
    raft_tail_deinit(&driver.recovered.tail);
    assert_int_equal(sim_errors(driver.sim), 0);
    sim_free(driver.sim);
}

static void test_crash_at_every_io(void **state)
{
    bool done = false;

    (void)state;
    for (uint64_t n = 1; !done; n += n < 60 ? 1 : 7) {
        crash_at(n, 0, &done);
    }
    done = false;
    for (uint64_t n = 1; !done; n += n < 60 ? 3 : 11) {
        crash_at(n, 50, &done);
    }
}

static uint64_t write_all(struct driver *driver)
{
    sim_call(driver->sim, 0, open_and_append, driver);
    sim_run(driver->sim, 60 * NS_PER_S);
    sim_crash(driver->sim, 0, SIM_POWER);
    return driver->acknowledged;
}

/* A flipped bit in what was durable is corruption, wherever it is, and never silently cut. */
static void test_corruption_is_told_apart(void **state)
{
    static const char *const paths[] = {DIR "/log-0000000000000001", DIR "/log-0000000000000003"};
    static const size_t offsets[] = {0, 20, 100, KiB(4) + 4, KiB(4) + 60, KiB(5), KiB(20)};

    (void)state;
    for (unsigned p = 0; p < ARRAY_SIZE(paths); p++) {
        for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++) {
            struct driver driver = driver_make(7);
            uint8_t *bytes;
            size_t size;

            (void)write_all(&driver);
            bytes = sim_file(driver.sim, 0, paths[p], &size);
            assert_non_null(bytes);
            bytes[offsets[i]] ^= 0x10;
            reopen(&driver);
            assert_int_equal(driver.result, offsets[i] == 0 ? -ERR_BAD_FORMAT : -ERR_CORRUPT);
            assert_int_equal(sim_errors(driver.sim), 1);
            sim_free(driver.sim);
        }
    }
}

static void repaired(void *data)
{
    raft_log_repaired(((struct driver *)data)->log);
}

/* With others that have everything: the log is cut before the damage, what it had promised is
 * known, also after power is lost anywhere on the way, and it goes on from there. */
static void repair_at(const char *path, size_t offset, uint64_t crash)
{
    struct driver driver = driver_make(7);
    uint64_t acknowledged = write_all(&driver), last;
    uint8_t *bytes, good;
    size_t size;

    driver.config.may_repair = true;
    bytes = sim_file(driver.sim, 0, path, &size);
    assert_non_null(bytes);
    good = bytes[offset];
    bytes[offset] ^= 0x10;
    if (crash > 0) {
        sim_restart(driver.sim, 0);
        sim_crash_at_io(driver.sim, 0, crash);
        (void)sim_call(driver.sim, 0, open_log, &driver);
        if (!sim_died(driver.sim, 0)) {
            sim_crash(driver.sim, 0, SIM_POWER);
        }
        sim_crash_at_io(driver.sim, 0, 0);
        bytes = sim_file(driver.sim, 0, path, &size);
        if (bytes != NULL && bytes[offset] == good) {
            bytes[offset] ^= 0x10; /* it was not synced: nobody had looked yet */
        }
    }
    reopen(&driver);
    assert_int_equal(driver.result, 0);
    assert_int_equal(sim_errors(driver.sim), 0);
    last = raft_tail_last(&driver.recovered.tail);
    assert_true(driver.recovered.repair.wanted && last < acknowledged);
    assert_int_equal(driver.recovered.repair.index, acknowledged);
    assert_int_equal(driver.recovered.repair.term, 1);
    assert_int_equal(driver.recovered.state.term, 1);
    assert_int_equal(driver.recovered.state.vote, 1);
    check_entries(&driver, 1, last);
    driver.next = last + 1;
    assert_true(sim_call(driver.sim, 0, go_on, &driver));
    sim_run(driver.sim, sim_now(driver.sim) + 60 * NS_PER_S);
    sim_crash(driver.sim, 0, SIM_POWER);
    reopen(&driver); /* the leader has not said yet that this was all */
    assert_true(driver.recovered.repair.wanted);
    assert_int_equal(driver.recovered.repair.index, acknowledged);
    assert_true(sim_call(driver.sim, 0, repaired, &driver));
    sim_crash(driver.sim, 0, SIM_POWER);
    reopen(&driver);
    assert_false(driver.recovered.repair.wanted);
    assert_true(raft_tail_last(&driver.recovered.tail) >= acknowledged);
    check_entries(&driver, 1, acknowledged);
    raft_tail_deinit(&driver.recovered.tail);
    sim_free(driver.sim);
}

static void test_damage_is_cut(void **state)
{
    static const size_t offsets[] = {20, 100, KiB(4) + 4, KiB(4) + 60, KiB(5), KiB(20)};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++) {
        repair_at(DIR "/log-0000000000000003", offsets[i], 0);
        if (i >= 2) { /* the header of the first says whose log it is */
            repair_at(DIR "/log-0000000000000001", offsets[i], 0);
        }
    }
    for (uint64_t crash = 1; crash < 40; crash++) {
        repair_at(DIR "/log-0000000000000002", KiB(20), crash);
    }
}

/* In the segment being written, only a successor can tell; there is one as long as it is not the
 * last record. */
static void test_corruption_in_the_last_segment(void **state)
{
    struct driver driver = driver_make(7);
    uint8_t *bytes;
    size_t size;

    (void)state;
    (void)write_all(&driver);
    for (unsigned seq = 9; seq > 0; seq--) {
        char path[64];

        snprintf(path, sizeof(path), DIR "/log-%016x", seq);
        bytes = sim_file(driver.sim, 0, path, &size);
        if (bytes != NULL) {
            break;
        }
    }
    assert_non_null(bytes);
    bytes[KiB(4) + 10] ^= 1;
    reopen(&driver);
    assert_int_equal(driver.result, -ERR_CORRUPT);
    sim_free(driver.sim);
}

static void test_foreign_directories(void **state)
{
    struct driver driver = driver_make(7);

    (void)state;
    (void)write_all(&driver);
    driver.config.node_id = 4;
    reopen(&driver);
    assert_int_equal(driver.result, -ERR_WRONG_NODE);
    sim_crash(driver.sim, 0, SIM_KILL);
    driver.config.node_id = 3;
    driver.config.cluster_uuid[5] = 1;
    reopen(&driver);
    assert_int_equal(driver.result, -ERR_WRONG_CLUSTER);
    sim_free(driver.sim);
}

/* The machine was restored from a snapshot, but the crash came before the log's reset. */
static void test_begins_anew_behind_the_machine(void **state)
{
    struct driver driver = driver_make(9);

    (void)state;
    (void)write_all(&driver);
    driver.config.base_index = 5000;
    driver.config.base_term = 9;
    driver.next = 5001;
    reopen(&driver);
    assert_int_equal(driver.result, 0);
    assert_int_equal(raft_tail_last(&driver.recovered.tail), 5000);
    sim_run(driver.sim, 70 * NS_PER_S);
    sim_crash(driver.sim, 0, SIM_POWER);
    reopen(&driver);
    assert_int_equal(driver.result, 0);
    assert_int_equal(raft_tail_last(&driver.recovered.tail), 5000);
    /* A machine that lost its state has no way back. */
    sim_crash(driver.sim, 0, SIM_POWER);
    driver.config.base_index = 0;
    driver.config.base_term = 0;
    reopen(&driver);
    assert_int_equal(driver.result, -ERR_CORRUPT);
    sim_free(driver.sim);
}

/* After a failed sync the page cache has what the disk never got, and counts it as clean. What is
 * read back then must get to the disk after all, before it counts. */
static void test_failed_sync_leaves_the_page_cache_ahead(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct driver driver = driver_make(seed);
        struct sim_disk_faults *disk = sim_disk_faults(driver.sim, 0);
        uint64_t last;

        assert_true(sim_call(driver.sim, 0, open_and_append, &driver));
        sim_run(driver.sim, sim_now(driver.sim) + seed * 2 * NS_PER_MS);
        disk->sync_errors = 1000000;
        disk->failed_sync_cleans = 100;
        sim_run(driver.sim, sim_now(driver.sim) + 500 * NS_PER_MS);
        assert_true(sim_died(driver.sim, 0));
        disk->sync_errors = 0;
        reopen(&driver);
        assert_int_equal(driver.result, 0);
        last = raft_tail_last(&driver.recovered.tail);
        driver.next = last + 1;
        assert_true(sim_call(driver.sim, 0, go_on, &driver)); /* and says that it is durable */
        sim_run(driver.sim, sim_now(driver.sim) + 100 * NS_PER_MS);
        assert_true(driver.acknowledged > last);
        sim_crash(driver.sim, 0, SIM_POWER);
        reopen(&driver);
        assert_int_equal(driver.result, 0);
        check_entries(&driver, 1, driver.acknowledged);
        raft_tail_deinit(&driver.recovered.tail);
        sim_free(driver.sim);
    }
}

static void test_full_disk_stops_the_node(void **state)
{
    struct driver driver = driver_make(9);
    uint64_t acknowledged;

    (void)state;
    sim_faults(driver.sim)->disk_bytes_max = KiB(64) * 4;
    sim_call(driver.sim, 0, open_and_append, &driver);
    sim_run(driver.sim, 60 * NS_PER_S);
    assert_true(sim_died(driver.sim, 0));
    acknowledged = driver.acknowledged;
    assert_true(acknowledged > 100 && acknowledged < ENTRIES);
    sim_faults(driver.sim)->disk_bytes_max = 0;
    reopen(&driver);
    assert_int_equal(driver.result, 0);
    assert_true(raft_tail_last(&driver.recovered.tail) >= acknowledged);
    sim_free(driver.sim);
}

static void close_log(void *data)
{
    raft_log_close(((struct driver *)data)->log);
}

static void test_close_ends_everything(void **state)
{
    struct driver driver = driver_make(11);

    (void)state;
    sim_call(driver.sim, 0, open_and_append, &driver);
    sim_run(driver.sim, NS_PER_S + 30 * NS_PER_MS);
    sim_call(driver.sim, 0, close_log, &driver);
    sim_run(driver.sim, 5 * NS_PER_S);
    assert_true(raft_log_closed(driver.log));
    mem_free(driver.log);
    raft_tail_deinit(&driver.recovered.tail);
    sim_call(driver.sim, 0, open_log, &driver); /* the lock is free again */
    assert_int_equal(driver.result, 0);
    sim_free(driver.sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_and_read_back),
        cmocka_unit_test(test_crash_at_every_io),
        cmocka_unit_test(test_corruption_is_told_apart),
        cmocka_unit_test(test_damage_is_cut),
        cmocka_unit_test(test_corruption_in_the_last_segment),
        cmocka_unit_test(test_foreign_directories),
        cmocka_unit_test(test_begins_anew_behind_the_machine),
        cmocka_unit_test(test_failed_sync_leaves_the_page_cache_ahead),
        cmocka_unit_test(test_full_disk_stops_the_node),
        cmocka_unit_test(test_close_ends_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
