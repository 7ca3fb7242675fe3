/*
 * fuzz_tree: a B+tree file of hostile bytes is opened, read from end to end, changed, checkpointed
 * and opened again. Damage may be refused (an error, or env_fatal); nothing else may happen.
 */
#include "base/assert.h"
#include "meta/btree_internal.h"
#include "tests/fuzz/fuzz_disk.h"

#define DIR       "/t"
#define PATH      "/t/tree"
#define WALK_MAX  2000 /* pairs: a tree may lead to one page from everywhere */
#define PUTS_MAX  24
#define VALUE_MAX 5000

static const char *const names[] = {PATH};

struct world {
    struct fuzz_disk disk;
    struct btree tree;
    struct fuzz_input input;
    int result;
};

static void open_tree(void *data)
{
    struct world *world = data;
    struct btree_config config = {.dir = DIR, .path = PATH, .node_id = 3, .cache_bytes = KiB(64)};

    world->result = -1;
    world->result = btree_open(&world->tree, &world->disk.env, &config);
}

static void walk(void *data)
{
    struct world *world = data;
    uint8_t next[BTREE_KEY_MAX + 1];
    size_t size = 0;
    struct slice key, value;

    for (unsigned i = 0; i < WALK_MAX; i++) {
        if (!btree_seek(&world->tree, slice_make(next, size), &key, &value)) {
            return;
        }
        ASSERT(key.size <= BTREE_KEY_MAX && value.size <= BTREE_VALUE_MAX);
        memcpy(next, key.data, key.size);
        next[key.size] = 0; /* the next key there can be */
        size = min_u64(key.size + 1, BTREE_KEY_MAX);
        (void)btree_seek_before(&world->tree, slice_make(next, size), &key, &value);
        (void)btree_get(&world->tree, slice_make(next, size), &value);
        btree_trim(&world->tree);
    }
}

/* A key that is there, or one of the input's. */
static struct slice choose_key(struct world *world, uint8_t out_key[BTREE_KEY_MAX])
{
    uint64_t kind = fuzz_number(&world->input, 1);
    struct slice wish = fuzz_bytes(&world->input, kind % 16);
    struct slice key = wish, value;

    if ((kind & 128) != 0 && !btree_seek(&world->tree, wish, &key, &value)) {
        key = wish;
    }
    if (key.size > 0) {
        memcpy(out_key, key.data, key.size);
    }
    return slice_make(out_key, key.size);
}

static void change(void *data)
{
    static const uint8_t value[VALUE_MAX];
    struct world *world = data;
    uint8_t bytes[BTREE_KEY_MAX];

    for (unsigned i = 0; i < PUTS_MAX && world->input.left > 0; i++) {
        struct slice key = choose_key(world, bytes);
        uint64_t size = fuzz_number(&world->input, 2) % (2 * VALUE_MAX);

        if (size >= VALUE_MAX) {
            (void)btree_del(&world->tree, key);
        } else {
            btree_put(&world->tree, key, slice_make(value, size));
        }
    }
    btree_checkpoint_now(&world->tree);
    btree_set_applied(&world->tree, 9, 9);
    btree_checkpoint_now(&world->tree);
}

/* False: the process has ended. */
static bool use(struct world *world, void (*fn)(void *data))
{
    return fuzz_disk_guard(&world->disk, fn, world);
}

static void run(struct world *world)
{
    if (!use(world, open_tree)) {
        btree_close(&world->tree);
        return;
    }
    if (world->result < 0) {
        return; /* closed already */
    }
    if (use(world, walk) && use(world, change)) {
        btree_close(&world->tree);
        (void)!use(world, open_tree);
        if (world->result < 0) {
            return;
        }
        (void)use(world, walk);
    }
    btree_close(&world->tree);
}

/* u8 bytes of the changes, changes, the disk. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = fuzz_input_make(data, size);
    struct slice changes = fuzz_bytes(&input, (size_t)fuzz_number(&input, 1));
    static struct world world;

    fuzz_disk_init(&world.disk);
    world.input = fuzz_input_make(changes.data, changes.size);
    fuzz_disk_load(&world.disk, &input, names, ARRAY_SIZE(names));
    run(&world);
    fuzz_disk_deinit(&world.disk);
    return 0;
}

/* ---- trees as they should be ---- */

struct shape {
    const char *name;
    unsigned pairs;
    size_t value; /* bytes */
    size_t key;
    unsigned removed; /* every so many-th pair */
};

static void fill(struct btree *tree, const struct shape *shape)
{
    uint8_t value[VALUE_MAX], key[BTREE_KEY_MAX];

    memset(value, 0, sizeof(value));
    memset(key, 0, sizeof(key));
    for (unsigned i = 0; i < shape->pairs; i++) {
        key[0] = (uint8_t)(i >> 8);
        key[1] = (uint8_t)(i * 7);
        btree_put(tree, slice_make(key, shape->key), slice_make(value, shape->value));
        if (shape->removed != 0 && i % shape->removed == 0) {
            (void)btree_del(tree, slice_make(key, shape->key));
        }
        if (i == shape->pairs / 2) {
            btree_checkpoint_now(tree);
        }
    }
    btree_checkpoint_now(tree);
}

void fuzz_seeds(void)
{
    static const struct shape shapes[] = {{"empty", 0, 0, 2, 0},
                                          {"few", 5, 3, 4, 0},
                                          {"overflow", 3, 3000, 4, 2},
                                          {"deep", 90, 2, 400, 0},
                                          {"removed", 60, 40, 300, 3}};
    static const uint8_t changes[] = {0x84, 'a', 0,   0,   0,    40,   0,    0x80, 0xf0, 0x26,
                                      3,    'x', 'y', 'z', 0xa0, 0x0f, 0x81, 0,    0xf0, 0x26};

    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        cleanup(buf_deinit) struct buf bytes = {0};
        static struct world world;

        fuzz_disk_init(&world.disk);
        open_tree(&world);
        ASSERT(world.result == 0);
        fill(&world.tree, &shapes[i]);
        btree_close(&world.tree);
        buf_append(&bytes, &(uint8_t){sizeof(changes)}, 1);
        buf_append(&bytes, changes, sizeof(changes));
        fuzz_disk_save(&world.disk, names, ARRAY_SIZE(names), &bytes);
        fuzz_seed(shapes[i].name, buf_slice(&bytes));
        fuzz_disk_deinit(&world.disk);
    }
}
