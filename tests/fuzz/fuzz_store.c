/*
 * fuzz_store: a data directory of hostile bytes (manifest, index tables, segments) is opened as a
 * chunk store. All that it lists is read; chunks are put, what was listed is deleted, and what was
 * acknowledged is still there: also when the index lies about where the others are.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/chunk_store.h"
#include "chunkstore/sstable.h"
#include "chunkstore/store_internal.h"
#include "tests/fuzz/fuzz_disk.h"

#define DIR         "/s"
#define LISTED_MAX  64
#define CHUNKS      4
#define OUR_SESSION UINT64_C(0x5e55100000000000)

static const char *const names[] = {
    "/s/MANIFEST",         "/s/segment-00000001",       "/s/segment-00000002",
    "/s/segment-00000003", "/s/table-0000000000000001", "/s/table-0000000000000002"};

struct world {
    struct fuzz_disk disk;
    struct chunk_store store;
    struct chunk_settings settings;
    struct index_entry listed[LISTED_MAX];
    size_t listed_count;
    bool acknowledged[CHUNKS];
    unsigned waiting;
    int result;
};

static struct world the_world;

static const uint32_t sizes[CHUNKS] = {1, 5000, 70000, 140000};

static struct index_key key_of(unsigned i)
{
    return (struct index_key){(uint32_t)(chunk_id_hash(OUR_SESSION, i) % CHUNK_PARTITIONS),
                              OUR_SESSION, i};
}

static void open_store(struct world *world)
{
    struct chunk_store_config config = {
        .dir = DIR, .cluster_uuid = {5}, .server_id = 3, .settings = &world->settings};

    world->result = chunk_store_open(&world->store, &world->disk.env, &config);
}

static void on_closed(struct chunk_store *store)
{
    (void)store;
    the_world.waiting--;
}

/* An operation ends by itself; background jobs that fail come again for ever. */
static void wait_for(struct world *world)
{
    for (unsigned i = 0; i < 20 && world->waiting > 0; i++) {
        fuzz_disk_run(&world->disk, NS_PER_S);
    }
    ASSERT(world->waiting == 0);
}

static void close_store(struct world *world)
{
    world->waiting++;
    chunk_store_close(&world->store, on_closed);
    wait_for(world);
}

/* ---- what there is ---- */

static void on_scanned(struct store_scan *scan)
{
    (void)scan;
    the_world.waiting--;
}

static void list_all(struct world *world)
{
    struct store_scan scan = {.last_partition = CHUNK_PARTITIONS, .released = on_scanned};
    const struct index_entry *entries;

    scan.max = LISTED_MAX;
    world->waiting++;
    store_scan_start(&scan, &world->store);
    wait_for(world);
    entries = (const void *)scan.entries.data;
    world->listed_count = scan.entries.size / sizeof(*entries);
    ASSERT(world->listed_count <= LISTED_MAX);
    if (world->listed_count > 0) {
        memcpy(world->listed, entries, scan.entries.size);
    }
    buf_deinit(&scan.entries);
}

static void on_got(struct store_get *get)
{
    (void)get;
    the_world.waiting--;
}

/* 0, or why not; checks what holds for any chunk. */
static int get_one(struct world *world, struct index_key key, struct buf *out_bytes)
{
    struct store_get get = {.key = key, .released = on_got};

    world->waiting++;
    store_get_start(&get, &world->store);
    wait_for(world);
    if (get.op.result == 0) {
        ASSERT(get.payload.size > 0 && get.payload.size <= CHUNK_BYTES_MAX);
        ASSERT(get.crcs.size == chunk_crcs_bytes(get.chunk_length, get.flags));
        *out_bytes = buf_take(&get.payload);
    }
    buf_deinit(&get.crcs);
    buf_deinit(&get.payload);
    return get.op.result;
}

static void read_listed(struct world *world)
{
    for (size_t i = 0; i < world->listed_count; i++) {
        cleanup(buf_deinit) struct buf bytes = {0};

        (void)!get_one(world, world->listed[i].key, &bytes);
    }
}

/* ---- ours ---- */

static void on_put(struct store_put *put)
{
    (void)put;
    the_world.waiting--;
}

static int put_one(struct world *world, struct index_key key, const void *plain, uint32_t size)
{
    struct iovec iov = {(void *)(uintptr_t)plain, size};
    cleanup(buf_deinit) struct buf crcs = {0};
    struct store_put put = {
        .key = key, .length = size, .data = slice_make(plain, size), .released = on_put};

    chunk_crcs_make(&iov, 1, &crcs);
    put.crcs = buf_slice(&crcs);
    world->waiting++;
    store_put_start(&put, &world->store);
    wait_for(world);
    return put.op.result;
}

/* Where the index knows our id already, from the input, it is no chunk of ours. */
static void put_ours(struct world *world)
{
    static uint8_t plain[140000];

    memset(plain, 0x55, sizeof(plain));
    for (unsigned i = 0; i < CHUNKS; i++) {
        cleanup(buf_deinit) struct buf bytes = {0};

        world->acknowledged[i] = get_one(world, key_of(i), &bytes) == -ERR_NOT_FOUND &&
                                 put_one(world, key_of(i), plain, sizes[i]) == 0;
    }
}

static void check_ours(struct world *world)
{
    for (unsigned i = 0; i < CHUNKS; i++) {
        cleanup(buf_deinit) struct buf bytes = {0};
        int r = world->acknowledged[i] ? get_one(world, key_of(i), &bytes) : 0;

        ASSERT(r == 0 && (!world->acknowledged[i] || bytes.size == sizes[i]));
        for (size_t at = 0; at < bytes.size; at++) {
            ASSERT(bytes.data[at] == 0x55);
        }
    }
}

static void on_deleted(struct store_delete *del)
{
    (void)del;
    the_world.waiting--;
}

static void delete_listed(struct world *world)
{
    cleanup(buf_deinit) struct buf ids = {0};
    struct store_delete del = {.released = on_deleted};

    for (size_t i = 0; i < world->listed_count; i++) {
        chunk_ids_append(&ids, world->listed[i].key.session, world->listed[i].key.seq);
    }
    if (ids.size == 0) {
        return;
    }
    del.ids = buf_slice(&ids);
    world->waiting++;
    store_delete_start(&del, &world->store);
    wait_for(world);
    fuzz_disk_run(&world->disk, NS_PER_S); /* punches come after the answer */
}

static void run(void *data)
{
    struct world *world = data;

    open_store(world);
    if (world->result < 0) {
        return;
    }
    list_all(world);
    read_listed(world);
    put_ours(world);
    delete_listed(world);
    check_ours(world);
    close_store(world);
    open_store(world);
    ASSERT(world->result == 0);
    check_ours(world);
    close_store(world);
}

static void begin(struct world *world)
{
    *world = (struct world){.settings = chunk_settings_defaults()};
    world->settings.segment_bytes = KiB(256);
    world->settings.memtable_bytes = KiB(2);
    fuzz_disk_init(&world->disk);
}

/* The directory is ours already: IDENTITY is there. */
static void claim(struct world *world)
{
    open_store(world);
    ASSERT(world->result == 0);
    chunk_store_discard(&world->store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = fuzz_input_make(data, size);
    struct world *world = &the_world;
    bool alive;

    begin(world);
    claim(world);
    fuzz_disk_load(&world->disk, &input, names, ARRAY_SIZE(names));
    alive = fuzz_disk_guard(&world->disk, run, world);
    ASSERT(alive); /* no sync fails here: nothing to die of */
    fuzz_disk_deinit(&world->disk);
    return 0;
}

/* ---- directories as they should be ---- */

static void put_seed(struct world *world, uint64_t seq, uint32_t size)
{
    struct index_key key = {(uint32_t)(chunk_id_hash(1, seq) % CHUNK_PARTITIONS), 1, seq};
    uint8_t *plain = mem_zalloc(size);
    int r = put_one(world, key, plain, size);

    ASSERT(r == 0);
    mem_free(plain);
}

static void save(struct world *world, const char *name)
{
    cleanup(buf_deinit) struct buf bytes = {0};

    fuzz_disk_save(&world->disk, names, ARRAY_SIZE(names), &bytes);
    fuzz_seed(name, buf_slice(&bytes));
}

static void put_file(struct world *world, const char *name, struct slice bytes)
{
    struct env_file *file = NULL;
    int r = env_open_now(&world->disk.env, name, ENV_OPEN_CREATE, &file);

    r = r < 0 ? r : env_write_at(&world->disk.env, file, bytes.data, bytes.size, 0);
    ASSERT(r == 0);
    env_close_now(&world->disk.env, file);
}

/* An index that says that a chunk is where the next one will be written. */
static void save_lie(struct world *world)
{
    const struct segment *segment = segment_find(&world->store, 2);
    struct index_entry entry = {.key = {(uint32_t)(chunk_id_hash(2, 9) % CHUNK_PARTITIONS), 2, 9},
                                .segment = 2,
                                .offset8 = (uint32_t)(segment->end / 8),
                                .length = 200000,
                                .stored_length = 200000};
    struct manifest_segment listed = {segment->id, segment->class, segment->salt,
                                      .indexed = SEGMENT_HEAD_BYTES};
    struct manifest manifest = {
        .head = {.version = MANIFEST_VERSION, .next_table = 2, .next_segment = 3}};
    cleanup(buf_deinit) struct buf bytes = {0};
    struct sstable_builder builder;

    sstable_builder_init(&builder, 1);
    sstable_builder_add(&builder, &entry);
    sstable_builder_finish(&builder);
    put_file(world, "/s/table-0000000000000001", buf_slice(&builder.bytes));
    manifest_add_table(&manifest, &(struct manifest_table){1, 1, builder.bytes.size});
    manifest_add_segment(&manifest, &listed);
    manifest_encode(&manifest, &bytes);
    put_file(world, "/s/MANIFEST", buf_slice(&bytes));
    save(world, "lying-index");
    sstable_builder_deinit(&builder);
    manifest_deinit(&manifest);
}

static void seed_lie(struct world *world)
{
    begin(world);
    open_store(world);
    ASSERT(world->result == 0);
    put_seed(world, 1, 100);
    put_seed(world, 2, 70000);
    save_lie(world);
    close_store(world);
    fuzz_disk_deinit(&world->disk);
}

void fuzz_seeds(void)
{
    struct world *world = &the_world;

    seed_lie(world);

    begin(world);
    open_store(world);
    ASSERT(world->result == 0);
    put_seed(world, 1, 100);
    save(world, "small");
    put_seed(world, 2, 70000);
    save(world, "large");
    for (uint64_t seq = 3; seq < 30; seq++) { /* more than a memtable holds */
        put_seed(world, seq, 500);
    }
    fuzz_disk_run(&world->disk, 5 * NS_PER_S);
    save(world, "table");
    list_all(world);
    world->listed_count = 10;
    delete_listed(world);
    save(world, "deleted");
    close_store(world);
    fuzz_disk_deinit(&world->disk);
}
