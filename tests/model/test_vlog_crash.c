/*
 * A chunk store on simulated disks: power is cut at every write, sync and path operation of one
 * run. What was acknowledged is there afterwards, and nothing else is ever returned.
 */
#include "tests/lib/test.h"

#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/chunk_store.h"
#include "tests/sim/env_sim.h"

#define IDS   60
#define SIZES 3

struct crash_run {
    struct sim *sim;
    struct chunk_store *store;
    bool acknowledged[IDS], deleted[IDS], delete_asked[IDS];
    unsigned next; /* id to put */
    bool opened;
    int open_result;
};

struct crash_put {
    struct store_put put;
    struct crash_run *run;
    unsigned id;
    struct buf bytes, crcs;
};

struct crash_delete {
    struct store_delete del;
    struct crash_run *run;
    unsigned id;
    struct buf ids;
};

static struct index_key key_of(unsigned id)
{
    return (struct index_key){(uint32_t)(chunk_id_hash(3, id) % CHUNK_PARTITIONS), 3, id};
}

static uint32_t size_of(unsigned id)
{
    static const uint32_t sizes[SIZES] = {700, 20000, 70000};

    return sizes[id % SIZES];
}

static void fill(struct buf *bytes, unsigned id)
{
    for (uint32_t i = 0; i < size_of(id); i++) {
        buf_append(bytes, &(uint8_t){(uint8_t)(i * 7 + id * 31 + i / 251)}, 1);
    }
}

static void put_next(struct crash_run *run);

static void delete_released(struct store_delete *del)
{
    struct crash_delete *one = container_of(del, struct crash_delete, del);

    one->run->deleted[one->id] = del->op.result == 0;
    buf_deinit(&one->ids);
    mem_free(one);
}

static void delete_one(struct crash_run *run, unsigned id)
{
    struct crash_delete *one = mem_zalloc(sizeof(*one));

    one->run = run;
    one->id = id;
    run->delete_asked[id] = true;
    chunk_ids_append(&one->ids, 3, id);
    one->del = (struct store_delete){.ids = buf_slice(&one->ids), .released = delete_released};
    store_delete_start(&one->del, run->store);
}

static void put_released(struct store_put *put)
{
    struct crash_put *one = container_of(put, struct crash_put, put);
    struct crash_run *run = one->run;
    unsigned id = one->id;

    run->acknowledged[id] = put->op.result == 0;
    buf_deinit(&one->bytes);
    buf_deinit(&one->crcs);
    mem_free(one);
    if (id % 4 == 3) {
        delete_one(run, id - 1);
    }
    put_next(run);
}

static void put_next(struct crash_run *run)
{
    struct crash_put *one;
    struct iovec iov;

    if (run->next == IDS) {
        return;
    }
    one = mem_zalloc(sizeof(*one));
    one->run = run;
    one->id = run->next++;
    fill(&one->bytes, one->id);
    iov = (struct iovec){one->bytes.data, one->bytes.size};
    chunk_crcs_make(&iov, 1, &one->crcs);
    one->put = (struct store_put){.key = key_of(one->id),
                                  .length = size_of(one->id),
                                  .crcs = buf_slice(&one->crcs),
                                  .data = buf_slice(&one->bytes),
                                  .released = put_released};
    store_put_start(&one->put, run->store);
}

static void open_store(struct crash_run *run)
{
    struct chunk_settings settings = chunk_settings_defaults();
    struct chunk_store_config config = {
        .dir = "/d", .cluster_uuid = {5}, .server_id = 3, .settings = &settings};

    settings.segment_bytes = KiB(150);
    settings.memtable_bytes = KiB(2);
    run->store = mem_zalloc(sizeof(*run->store));
    run->open_result = chunk_store_open(run->store, sim_env(run->sim, 1), &config);
    run->opened = run->open_result == 0;
}

static void start(void *data)
{
    struct crash_run *run = data;

    open_store(run);
    for (unsigned i = 0; i < 3; i++) {
        put_next(run);
    }
}

struct crash_check {
    struct store_get get;
    struct crash_run *run;
    unsigned id;
    bool done;
};

static void get_released(struct store_get *get)
{
    container_of(get, struct crash_check, get)->done = true;
}

static void reopen(void *data)
{
    open_store(data);
}

static void start_get(void *data)
{
    struct crash_check *check = data;

    store_get_start(&check->get, check->run->store);
}

static void check_id(struct crash_run *run, unsigned id)
{
    struct crash_check check = {
        .get = {.key = key_of(id), .released = get_released}, .run = run, .id = id};
    cleanup(buf_deinit) struct buf bytes = {0};

    assert_true(sim_call(run->sim, 1, start_get, &check));
    while (!check.done && sim_step(run->sim)) {
    }
    assert_true(check.done);
    if (check.get.op.result == 0) {
        fill(&bytes, id);
        assert_false(run->deleted[id]);
        assert_int_equal(check.get.payload.size, bytes.size);
        assert_memory_equal(check.get.payload.data, bytes.data, bytes.size);
    } else {
        assert_int_equal(check.get.op.result, -ERR_NOT_FOUND);
        assert_true(!run->acknowledged[id] || run->delete_asked[id]);
    }
    buf_deinit(&check.get.crcs);
    buf_deinit(&check.get.payload);
}

/* False: the run ended before its crash. */
static bool run_once(uint64_t seed, uint64_t crash_at)
{
    struct crash_run run = {.sim = sim_new(seed)};
    bool crashed;

    sim_crash_at_io(run.sim, 1, crash_at);
    sim_call(run.sim, 1, start, &run);
    sim_run(run.sim, sim_now(run.sim) + 20 * NS_PER_S);
    crashed = !sim_up(run.sim, 1);
    if (!crashed) {
        sim_crash(run.sim, 1, SIM_POWER);
    }
    sim_crash_at_io(run.sim, 1, 0);
    sim_restart(run.sim, 1);
    assert_true(sim_call(run.sim, 1, reopen, &run));
    assert_int_equal(run.open_result, 0);
    assert_int_equal(run.store->corrupt_found, 0);
    for (unsigned id = 0; id < IDS; id++) {
        check_id(&run, id);
    }
    sim_crash(run.sim, 1, SIM_POWER);
    sim_free(run.sim);
    return crashed;
}

static void test_power_cut_at_every_io(void **state)
{
    uint64_t seed = test_seed(1);
    uint64_t at = 1;

    (void)state;
    while (run_once(seed + at, at)) {
        at++;
    }
    printf("crashed at each of %u operations\n", (unsigned)at - 1);
    assert_true(at > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_cut_at_every_io),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
