/*
 * A chunk store against a simple table: random puts, gets, deletes and restarts with segments and
 * memtables so small that flushes, merges and cleaning run all the time.
 */
#include "tests/lib/test.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/chunk_store.h"
#include "chunkstore/compress.h"
#include "net/env_uv.h"

#include <errno.h>

#define IDS   400
#define BATCH 24

struct model {
    struct env_uv *uv;
    struct env *env;
    char *dir;
    struct chunk_store store;
    struct rng rng;
    uint32_t length[IDS]; /* 0 = absent */
    bool compressed[IDS];
    unsigned waiting;
};

static struct model *the_model;

static void one_done(void)
{
    if (--the_model->waiting == 0) {
        env_uv_stop(the_model->uv);
    }
}

static void wait_all(struct model *model)
{
    while (model->waiting > 0) {
        env_uv_run(model->uv);
    }
}

static void on_settle(struct env_timer *timer)
{
    (void)timer;
    one_done();
}

static void settle(struct model *model, uint64_t ns)
{
    struct env_timer timer = {.fire = on_settle};

    model->waiting++;
    env_timer_start(model->env, &timer, env_now(model->env) + ns);
    wait_all(model);
}

static void open_store(struct model *model)
{
    struct chunk_settings settings = chunk_settings_defaults();
    struct chunk_store_config config = {
        .dir = model->dir, .cluster_uuid = {5}, .server_id = 3, .settings = &settings};

    settings.segment_bytes = KiB(512);
    settings.memtable_bytes = KiB(8);
    assert_int_equal(chunk_store_open(&model->store, model->env, &config), 0);
}

static void on_closed(struct chunk_store *store)
{
    (void)store;
    one_done();
}

static void close_store(struct model *model)
{
    model->waiting++;
    chunk_store_close(&model->store, on_closed);
    wait_all(model);
}

static struct index_key key_of(unsigned id)
{
    return (struct index_key){(uint32_t)(chunk_id_hash(9, id) % CHUNK_PARTITIONS), 9, id};
}

static void fill(struct buf *bytes, unsigned id, uint32_t length, bool compressible)
{
    struct rng rng;

    rng_init(&rng, id * 1000003 + length);
    buf_reserve(bytes, length);
    for (bytes->size = 0; bytes->size < length; bytes->size++) {
        bytes->data[bytes->size] =
            compressible ? (uint8_t)(id + bytes->size / 100) : (uint8_t)rng_next(&rng);
    }
}

struct one_put {
    struct store_put put;
    struct buf plain, stored, crcs;
    unsigned id;
};

static void put_released(struct store_put *put)
{
    (void)put;
    one_done();
}

static void start_put(struct model *model, struct one_put *one, unsigned id)
{
    uint32_t length = (uint32_t)(rng_percent(&model->rng, 20) ? 1 + rng_below(&model->rng, 200000)
                                                              : 1 + rng_below(&model->rng, 9000));
    bool compressible = rng_percent(&model->rng, 30);
    struct iovec iov;

    *one = (struct one_put){.id = id};
    fill(&one->plain, id, length, compressible);
    iov = (struct iovec){one->plain.data, one->plain.size};
    one->put =
        (struct store_put){.key = key_of(id), .length = length, .data = buf_slice(&one->plain)};
    if (compressible && compress_chunk(&iov, 1, length, &one->stored, &one->crcs)) {
        one->put.flags = CHUNK_COMPRESSED;
        one->put.data = buf_slice(&one->stored);
    } else {
        chunk_crcs_make(&iov, 1, &one->crcs);
    }
    one->put.crcs = buf_slice(&one->crcs);
    one->put.released = put_released;
    model->waiting++;
    model->length[id] = length;
    model->compressed[id] = compressible;
    store_put_start(&one->put, &model->store);
}

static void put_some(struct model *model)
{
    struct one_put puts[BATCH];
    unsigned count = 0;

    for (unsigned i = 0; i < BATCH; i++) {
        unsigned id = (unsigned)rng_below(&model->rng, IDS);

        if (model->length[id] == 0) {
            start_put(model, &puts[count++], id);
        }
    }
    wait_all(model);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(puts[i].put.op.result, 0);
        buf_deinit(&puts[i].plain);
        buf_deinit(&puts[i].stored);
        buf_deinit(&puts[i].crcs);
    }
}

static void delete_released(struct store_delete *del)
{
    (void)del;
    one_done();
}

static void delete_some(struct model *model)
{
    cleanup(buf_deinit) struct buf ids = {0};
    struct store_delete del = {.released = delete_released};
    unsigned count = 1 + (unsigned)rng_below(&model->rng, BATCH);

    for (unsigned i = 0; i < count; i++) {
        unsigned id = (unsigned)rng_below(&model->rng, IDS);

        chunk_ids_append(&ids, 9, id);
        model->length[id] = 0;
    }
    del.ids = buf_slice(&ids);
    model->waiting++;
    store_delete_start(&del, &model->store);
    wait_all(model);
    assert_int_equal(del.op.result, 0);
}

static void get_released(struct store_get *get)
{
    (void)get;
    one_done();
}

static void check_one(struct model *model, unsigned id)
{
    struct store_get get = {.key = key_of(id), .released = get_released};
    cleanup(buf_deinit) struct buf plain = {0};
    cleanup(buf_deinit) struct buf restored = {0};
    uint32_t unit, length = model->length[id];

    if (length != 0) {
        get.offset = (uint32_t)rng_below(&model->rng, length);
        get.length = 1 + (uint32_t)rng_below(&model->rng, length - get.offset);
    }
    model->waiting++;
    store_get_start(&get, &model->store);
    wait_all(model);
    assert_int_equal(get.op.result, length == 0 ? -ERR_NOT_FOUND : 0);
    if (length != 0) {
        fill(&plain, id, length, model->compressed[id]);
        unit = (get.flags & CHUNK_COMPRESSED) != 0 ? KiB(64) : KiB(4);
        if ((get.flags & CHUNK_COMPRESSED) != 0) {
            assert_int_equal(compress_restore(get.chunk_length, get.first, buf_slice(&get.crcs),
                                              buf_slice(&get.payload), &restored),
                             0);
        } else {
            buf_append_slice(&restored, buf_slice(&get.payload));
        }
        assert_int_equal(get.first, get.offset / unit);
        assert_memory_equal(restored.data, plain.data + get.first * unit, restored.size);
        assert_true(get.first * unit + restored.size >= get.offset + get.length);
    }
    buf_deinit(&get.crcs);
    buf_deinit(&get.payload);
}

static void scan_released(struct store_scan *scan)
{
    (void)scan;
    one_done();
}

static void check_all(struct model *model)
{
    struct store_scan scan = {
        .last_partition = CHUNK_PARTITIONS, .max = IDS + 1, .released = scan_released};
    const struct index_entry *entries;
    uint64_t chunks = 0;

    for (unsigned id = 0; id < IDS; id++) {
        check_one(model, id);
        chunks += model->length[id] != 0;
    }
    assert_int_equal(model->store.totals.chunks, chunks);
    model->waiting++;
    store_scan_start(&scan, &model->store);
    wait_all(model);
    assert_int_equal(scan.op.result, 0);
    assert_true(scan.last);
    assert_int_equal(scan.entries.size / sizeof(*entries), chunks);
    entries = (const void *)scan.entries.data;
    for (size_t i = 0; i < chunks; i++) {
        assert_int_equal(entries[i].length, model->length[entries[i].key.seq]);
        assert_true(i == 0 || index_key_compare(&entries[i - 1].key, &entries[i].key) < 0);
    }
    buf_deinit(&scan.entries);
}

static int setup(void **state)
{
    struct model *model = mem_zalloc(sizeof(*model));
    struct env_uv_config config = {.node_name = "test", .log_level = LOG_LEVEL_ERROR};

    the_model = model;
    model->dir = test_dir_make();
    assert_int_equal(env_uv_open(&model->uv, &config), 0);
    model->env = env_uv_env(model->uv);
    *state = model;
    return 0;
}

static int teardown(void **state)
{
    struct model *model = *state;

    settle(model, 50 * NS_PER_MS);
    env_uv_close(model->uv);
    test_dir_remove(model->dir);
    mem_free(model);
    return 0;
}

static void test_equals_a_table(void **state)
{
    struct model *model = *state;
    uint64_t cleaned = 0;

    rng_init(&model->rng, test_seed(1));
    open_store(model);
    for (unsigned round = 0; round < 400; round++) {
        uint64_t dice = rng_below(&model->rng, 100);

        if (dice < 45) {
            put_some(model);
        } else if (dice < 85) {
            delete_some(model);
        } else if (dice < 97) {
            check_one(model, (unsigned)rng_below(&model->rng, IDS));
        } else {
            cleaned += model->store.cleaned_bytes;
            close_store(model);
            settle(model, NS_PER_MS);
            open_store(model);
            check_all(model);
            assert_int_equal(model->store.corrupt_found, 0);
        }
    }
    check_all(model);
    cleaned += model->store.cleaned_bytes;
    assert_true(cleaned > 0);
    assert_true(model->store.lsm.next_table > 20);
    close_store(model);
}

/* Any flipped bit in any file: reads give the right bytes or an error, never other bytes. */
static void flip(struct model *model, const char *name, unsigned count)
{
    char *path = mem_printf("%s/%s", model->dir, name);
    struct env_io stat = {.type = ENV_IO_STAT, .path = path};
    struct env_file *file = NULL;

    assert_true(env_io_now(model->env, &stat) >= 0);
    assert_int_equal(env_open_now(model->env, path, 0, &file), 0);
    for (unsigned i = 0; i < count && stat.size > 0; i++) {
        uint64_t at = rng_below(&model->rng, stat.size);
        uint8_t byte;

        assert_int_equal(env_read_at(model->env, file, &byte, 1, at), 1);
        byte ^= (uint8_t)(1U << rng_below(&model->rng, 8));
        assert_int_equal(env_write_at(model->env, file, &byte, 1, at), 0);
    }
    env_close_now(model->env, file);
    mem_free(path);
}

static void check_damaged(struct model *model, unsigned id, unsigned *lost)
{
    struct store_get get = {.key = key_of(id), .released = get_released};
    cleanup(buf_deinit) struct buf plain = {0};
    cleanup(buf_deinit) struct buf restored = {0};

    model->waiting++;
    store_get_start(&get, &model->store);
    wait_all(model);
    if (get.op.result == 0 && model->length[id] != 0) {
        fill(&plain, id, model->length[id], model->compressed[id]);
        if ((get.flags & CHUNK_COMPRESSED) != 0) {
            assert_int_equal(compress_restore(get.chunk_length, get.first, buf_slice(&get.crcs),
                                              buf_slice(&get.payload), &restored),
                             0);
        } else {
            buf_append_slice(&restored, buf_slice(&get.payload));
        }
        assert_int_equal(restored.size, plain.size);
        assert_memory_equal(restored.data, plain.data, plain.size);
    } else if (model->length[id] != 0) {
        assert_true(get.op.result == -ERR_CORRUPT || get.op.result == -ERR_NOT_FOUND);
        (*lost)++;
    }
    buf_deinit(&get.crcs);
    buf_deinit(&get.payload);
}

static void damage(struct model *model, const char *prefix, unsigned flips)
{
    cleanup(buf_deinit) struct buf names = {0};

    assert_int_equal(env_list(model->env, model->dir, &names), 0);
    for (size_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;

        at += strlen(name) + 1;
        if (strncmp(name, prefix, strlen(prefix)) == 0) {
            flip(model, name, flips);
        }
    }
}

static void test_flipped_bits_are_never_returned(void **state)
{
    static const char *const prefixes[] = {"MANIFEST", "table-", "segment-"};
    struct model *model = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++) {
        unsigned lost = 0;

        damage(model, prefixes[i], 3);
        open_store(model);
        for (unsigned id = 0; id < IDS; id++) {
            check_damaged(model, id, &lost);
        }
        assert_true(model->store.corrupt_found + model->store.torn_tails > 0);
        if (i < 2) {
            assert_int_equal(lost, 0); /* the index is made anew from the segments */
        }
        close_store(model);
        settle(model, NS_PER_MS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_a_table),
        cmocka_unit_test(test_flipped_bits_are_never_returned),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
