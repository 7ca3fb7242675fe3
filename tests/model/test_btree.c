/*
 * The B+tree against a sorted array: random operations, reopening, and crashes at every write of a
 * checkpoint with each unsynced sector kept or lost by its own coin.
 */
#include "tests/lib/test.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "meta/btree.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- a disk that forgets ---- */

#define SECTOR    512
#define FILES_MAX 4

struct env_file {
    char name[32];
    struct buf bytes;   /* as a reader sees it */
    struct buf durable; /* as it is after a crash, but for coins */
    bool exists;
};

struct disk {
    struct env env;
    struct env_file files[FILES_MAX];
    struct list queue; /* async io not done yet */
    struct rng *rng;
    unsigned writes;
};

static struct env_file *find(struct disk *disk, const char *path, bool create)
{
    for (int i = 0; i < FILES_MAX; i++) {
        if (disk->files[i].exists && strcmp(disk->files[i].name, path) == 0) {
            return &disk->files[i];
        }
    }
    for (int i = 0; create && i < FILES_MAX; i++) {
        if (!disk->files[i].exists) {
            disk->files[i].exists = true;
            snprintf(disk->files[i].name, sizeof(disk->files[i].name), "%s", path);
            return &disk->files[i];
        }
    }
    return NULL;
}

static int64_t write_file(struct disk *disk, struct env_io *io)
{
    uint64_t at = io->offset;

    disk->writes++;
    for (unsigned i = 0; i < io->iov_count; i++) {
        if (io->file->bytes.size < at + io->iov[i].iov_len) {
            buf_append_zero(&io->file->bytes, at + io->iov[i].iov_len - io->file->bytes.size);
        }
        memcpy(io->file->bytes.data + at, io->iov[i].iov_base, io->iov[i].iov_len);
        at += io->iov[i].iov_len;
    }
    return (int64_t)(at - io->offset);
}

static int64_t read_file(struct env_io *io)
{
    size_t size = io->iov[0].iov_len;

    assert_int_equal(io->iov_count, 1);
    if (io->offset >= io->file->bytes.size) {
        return 0;
    }
    size = size < io->file->bytes.size - io->offset ? size : io->file->bytes.size - io->offset;
    memcpy(io->iov[0].iov_base, io->file->bytes.data + io->offset, size);
    return (int64_t)size;
}

static void sync_file(struct env_file *file)
{
    buf_clear(&file->durable);
    buf_append_slice(&file->durable, buf_slice(&file->bytes));
}

static void disk_do(struct env *env, struct env_io *io)
{
    struct disk *disk = container_of(env, struct disk, env);
    struct env_file *file;

    io->result = 0;
    switch (io->type) {
    case ENV_IO_OPEN:
        io->file = find(disk, io->path, (io->flags & ENV_OPEN_CREATE) != 0);
        io->result = io->file == NULL ? -ENOENT : 0;
        break;
    case ENV_IO_READ:
        io->result = read_file(io);
        break;
    case ENV_IO_WRITE:
        io->result = write_file(disk, io);
        break;
    case ENV_IO_SYNC:
        sync_file(io->file);
        break;
    case ENV_IO_RENAME:
        file = find(disk, io->path, false);
        assert_non_null(file);
        snprintf(file->name, sizeof(file->name), "%s", io->new_path);
        break;
    case ENV_IO_TRUNCATE:
        buf_clear(&io->file->bytes);
        break;
    case ENV_IO_UNLINK:
        io->result = -ENOENT;
        break;
    case ENV_IO_CLOSE:
    case ENV_IO_SYNC_DIR:
    case ENV_IO_ALLOCATE:
    case ENV_IO_PUNCH:
    case ENV_IO_MKDIR:
    case ENV_IO_STAT:
        break;
    }
}

static void disk_submit(struct env *env, struct env_io *io)
{
    list_push_back(&container_of(env, struct disk, env)->queue, &io->node);
}

/* Runs one queued io. False when there is none. */
static bool disk_step(struct disk *disk)
{
    struct list_node *node = list_pop_front(&disk->queue);
    struct env_io *io = node != NULL ? list_entry(node, struct env_io, node) : NULL;

    if (io == NULL) {
        return false;
    }
    disk_do(&disk->env, io);
    io->done(io);
    return true;
}

static void disk_log(struct env *env, enum log_level level, const char *area, const char *text)
{
    (void)env;
    if (level == LOG_LEVEL_ERROR) {
        printf("%s: %s\n", area, text);
    }
}

static void disk_fatal(struct env *env, enum env_end end, int disk_error)
{
    (void)env;
    (void)end;
    (void)disk_error;
    abort();
}

static const struct env_ops disk_ops = {
    .io = disk_submit, .io_now = disk_do, .log = disk_log, .fatal = disk_fatal};

static void disk_init(struct disk *disk, struct rng *rng)
{
    *disk = (struct disk){.env = {.ops = &disk_ops, .log_level = LOG_LEVEL_INFO}, .rng = rng};
    list_init(&disk->queue);
}

/* What was not synced survives sector by sector, or does not; the queue is gone, but its head may
 * have reached the disk in part. */
static void disk_crash(struct disk *disk)
{
    struct list_node *node = list_first(&disk->queue);

    if (node != NULL && list_entry(node, struct env_io, node)->type == ENV_IO_WRITE) {
        disk_do(&disk->env, list_entry(node, struct env_io, node));
    }
    list_init(&disk->queue);
    for (int i = 0; i < FILES_MAX; i++) {
        struct env_file *file = &disk->files[i];

        for (size_t at = 0; at < file->bytes.size; at += SECTOR) {
            size_t size = file->bytes.size - at < SECTOR ? file->bytes.size - at : SECTOR;
            bool old = at + size <= file->durable.size;

            if (rng_percent(disk->rng, 50)) {
                continue;
            }
            if (old) {
                memcpy(file->bytes.data + at, file->durable.data + at, size);
            } else {
                memset(file->bytes.data + at, 0, size);
            }
        }
        sync_file(file);
    }
}

static void disk_deinit(struct disk *disk)
{
    for (int i = 0; i < FILES_MAX; i++) {
        buf_deinit(&disk->files[i].bytes);
        buf_deinit(&disk->files[i].durable);
    }
}

/* ---- the model: a sorted array ---- */

struct pair {
    struct buf key;
    struct buf value;
};

struct model {
    struct pair *pairs;
    size_t count, capacity;
};

static size_t model_find(const struct model *model, struct slice key, bool *out_exact)
{
    size_t low = 0;
    size_t high = model->count;

    *out_exact = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int r = slice_compare(buf_slice(&model->pairs[middle].key), key);

        if (r == 0) {
            *out_exact = true;
            return middle;
        }
        if (r < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void model_put(struct model *model, struct slice key, struct slice value)
{
    bool exact;
    size_t i = model_find(model, key, &exact);

    if (!exact) {
        if (model->count == model->capacity) {
            model->capacity = model->capacity ? model->capacity * 2 : 64;
            model->pairs = mem_realloc(model->pairs, model->capacity * sizeof(*model->pairs));
        }
        memmove(&model->pairs[i + 1], &model->pairs[i], (model->count - i) * sizeof(*model->pairs));
        model->pairs[i] = (struct pair){0};
        buf_append_slice(&model->pairs[i].key, key);
        model->count++;
    }
    buf_clear(&model->pairs[i].value);
    buf_append_slice(&model->pairs[i].value, value);
}

static bool model_del(struct model *model, struct slice key)
{
    bool exact;
    size_t i = model_find(model, key, &exact);

    if (exact) {
        buf_deinit(&model->pairs[i].key);
        buf_deinit(&model->pairs[i].value);
        memmove(&model->pairs[i], &model->pairs[i + 1],
                (model->count - i - 1) * sizeof(*model->pairs));
        model->count--;
    }
    return exact;
}

static void model_clear(struct model *model)
{
    while (model->count > 0) {
        model->count--;
        buf_deinit(&model->pairs[model->count].key);
        buf_deinit(&model->pairs[model->count].value);
    }
    mem_free(model->pairs);
    *model = (struct model){0};
}

static void model_copy(struct model *to, const struct model *from)
{
    model_clear(to);
    for (size_t i = 0; i < from->count; i++) {
        model_put(to, buf_slice(&from->pairs[i].key), buf_slice(&from->pairs[i].value));
    }
}

/* ---- random work ---- */

struct world {
    struct rng rng;
    struct disk disk;
    struct btree tree;
    struct model model;   /* now */
    struct model frozen;  /* what the checkpoint under way makes durable */
    struct model durable; /* what the last one made durable */
    uint64_t applied;
    bool checkpointing;
    struct btree view;
    struct model view_model;
    bool viewing;
};

static struct world *the_world;

static const struct btree_config config = {
    .dir = "dir", .path = "tree", .node_id = 7, .cache_bytes = 12 * BTREE_PAGE};

static struct slice random_key(struct world *world, uint8_t *out)
{
    uint64_t n = rng_below(&world->rng, 4000);
    size_t size = 8;

    memset(out, 0, BTREE_KEY_MAX);
    out[0] = (uint8_t)('A' + n % 3);
    for (int i = 0; i < 7; i++) {
        out[1 + i] = (uint8_t)(n >> (8 * (6 - i)));
    }
    if (n % 50 == 0) {
        size = 8 + n % (BTREE_KEY_MAX - 8);
    }
    return slice_make(out, size);
}

static struct slice random_value(struct world *world, struct buf *out)
{
    uint64_t kind = rng_below(&world->rng, 100);
    uint64_t size = rng_below(&world->rng, kind < 90 ? 200 : kind < 97 ? 2100 : KiB(70));

    buf_clear(out);
    buf_append_zero(out, size);
    for (size_t i = 0; i < size; i += 8) {
        out->data[i] = (uint8_t)rng_next(&world->rng);
    }
    return buf_slice(out);
}

static void compare(struct btree *tree, const struct model *model)
{
    cleanup(buf_deinit) struct buf from = {0};
    struct slice key, value;
    uint64_t hash = 0;

    for (size_t i = 0; i < model->count; i++) {
        assert_true(btree_seek(tree, buf_slice(&from), &key, &value));
        assert_true(slice_equal(key, buf_slice(&model->pairs[i].key)));
        assert_true(slice_equal(value, buf_slice(&model->pairs[i].value)));
        hash += btree_pair_hash(key, value);
        buf_clear(&from);
        buf_append_slice(&from, key);
        buf_append_zero(&from, 1); /* the next possible key */
    }
    assert_false(btree_seek(tree, buf_slice(&from), &key, &value));
    for (size_t i = model->count; i > 0; i--) {
        assert_true(btree_seek_before(tree, buf_slice(&from), &key, &value));
        assert_true(slice_equal(key, buf_slice(&model->pairs[i - 1].key)));
        buf_clear(&from);
        buf_append_slice(&from, key);
    }
    assert_false(btree_seek_before(tree, buf_slice(&from), &key, &value));
    assert_true(tree->hash == hash);
    assert_true(tree->pairs == model->count);
    btree_check(tree);
}

static void on_checkpoint(struct btree *tree)
{
    (void)tree;
    the_world->checkpointing = false;
    model_copy(&the_world->durable, &the_world->frozen);
}

static void one_change(struct world *world)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    uint8_t key_bytes[BTREE_KEY_MAX];
    struct slice key = random_key(world, key_bytes);
    struct slice value;
    bool exact;
    size_t i;

    switch (rng_below(&world->rng, 3 + world->model.count / 1000)) {
    case 0:
    case 1:
        value = random_value(world, &bytes);
        btree_put(&world->tree, key, value);
        model_put(&world->model, key, value);
        btree_set_applied(&world->tree, ++world->applied, 1);
        break;
    case 2:
        i = model_find(&world->model, key, &exact);
        assert_int_equal(btree_get(&world->tree, key, &value), exact);
        if (exact) {
            assert_true(slice_equal(value, buf_slice(&world->model.pairs[i].value)));
        }
        break;
    default:
        assert_int_equal(btree_del(&world->tree, key), model_del(&world->model, key));
        btree_set_applied(&world->tree, ++world->applied, 1);
        break;
    }
    btree_trim(&world->tree);
}

static void start_checkpoint(struct world *world)
{
    model_copy(&world->frozen, &world->model);
    world->checkpointing = true;
    btree_checkpoint_start(&world->tree, on_checkpoint);
}

/* The process dies; what is left of the tree in memory is thrown away. */
static void forget_tree(struct world *world)
{
    if (world->viewing) {
        btree_close(&world->view);
        world->viewing = false;
    }
    if (world->checkpointing) {
        /* Lets the checkpoint end on a copy of the disk that nobody looks at. */
        struct disk kept = world->disk;

        for (int i = 0; i < FILES_MAX; i++) {
            world->disk.files[i].bytes = (struct buf){0};
            world->disk.files[i].durable = (struct buf){0};
            buf_append_slice(&world->disk.files[i].bytes, buf_slice(&kept.files[i].bytes));
        }
        world->disk.queue = kept.queue;
        if (!list_empty(&kept.queue)) {
            world->disk.queue.head.next->prev = &world->disk.queue.head;
            world->disk.queue.head.prev->next = &world->disk.queue.head;
        }
        model_copy(&world->frozen, &world->durable); /* on_checkpoint must not change durable */
        while (disk_step(&world->disk)) {
        }
        for (int i = 0; i < FILES_MAX; i++) {
            buf_deinit(&world->disk.files[i].bytes);
            buf_deinit(&world->disk.files[i].durable);
            world->disk.files[i] = kept.files[i];
        }
        list_init(&world->disk.queue);
    }
    btree_close(&world->tree);
}

static void reopen(struct world *world, bool crash)
{
    struct model maybe = {0};
    bool was_writing = world->checkpointing;

    model_copy(&maybe, &world->frozen);
    if (crash) {
        struct list_node *head = list_first(&world->disk.queue);
        struct list queue = world->disk.queue;

        /* The crash changes the files; the tree is freed afterwards on copies. */
        disk_crash(&world->disk);
        if (head != NULL) {
            world->disk.queue = queue;
            head->prev = &world->disk.queue.head;
            queue.head.prev->next = &world->disk.queue.head;
        }
    }
    forget_tree(world);
    assert_int_equal(btree_open(&world->tree, &world->disk.env, &config), 0);
    if (was_writing && (world->tree.pairs != world->durable.count ||
                        world->tree.applied_index != world->tree.durable.applied_index)) {
        model_copy(&world->durable, &maybe);
    } else if (was_writing) {
        /* Same size: decide by contents. */
        uint64_t hash = 0;

        for (size_t i = 0; i < maybe.count; i++) {
            hash +=
                btree_pair_hash(buf_slice(&maybe.pairs[i].key), buf_slice(&maybe.pairs[i].value));
        }
        if (world->tree.hash == hash) {
            model_copy(&world->durable, &maybe);
        }
    }
    compare(&world->tree, &world->durable);
    model_copy(&world->model, &world->durable);
    world->applied = world->tree.applied_index;
    world->checkpointing = false;
    model_clear(&maybe);
}

static void world_init(struct world *world, uint64_t seed)
{
    *world = (struct world){0};
    the_world = world;
    rng_init(&world->rng, seed);
    disk_init(&world->disk, &world->rng);
    assert_int_equal(btree_open(&world->tree, &world->disk.env, &config), 0);
}

static void world_deinit(struct world *world)
{
    while (disk_step(&world->disk)) {
    }
    if (world->viewing) {
        btree_close(&world->view);
    }
    btree_close(&world->tree);
    model_clear(&world->model);
    model_clear(&world->frozen);
    model_clear(&world->durable);
    model_clear(&world->view_model);
    disk_deinit(&world->disk);
}

static void toggle_view(struct world *world)
{
    if (world->viewing) {
        compare(&world->view, &world->view_model);
        btree_close(&world->view);
    } else {
        assert_int_equal(btree_open_view(&world->view, &world->tree, 4 * BTREE_PAGE), 0);
        model_copy(&world->view_model, &world->durable);
    }
    world->viewing = !world->viewing;
}

static void test_random(void **state)
{
    uint64_t seed = test_seed(1);

    (void)state;
    for (int round = 0; round < 6; round++) {
        struct world world;

        world_init(&world, seed + (uint64_t)round);
        for (int i = 0; i < 30000; i++) {
            one_change(&world);
            if (rng_below(&world.rng, 40) == 0) {
                disk_step(&world.disk);
            }
            if (!world.checkpointing && rng_below(&world.rng, 1500) == 0) {
                start_checkpoint(&world);
            }
            if (rng_below(&world.rng, 3000) == 0) {
                toggle_view(&world);
            }
            if (rng_below(&world.rng, 4000) == 0) {
                compare(&world.tree, &world.model);
            }
            if (rng_below(&world.rng, 8000) == 0) {
                reopen(&world, rng_percent(&world.rng, 50));
            }
        }
        compare(&world.tree, &world.model);
        assert_true(world.tree.node_count * BTREE_PAGE <= 4 * config.cache_bytes + MiB(4));
        world_deinit(&world);
    }
}

/* Emptying a tree gives its space back. */
static void test_shrink(void **state)
{
    struct world world;
    uint64_t used;

    (void)state;
    world_init(&world, 5);
    for (uint64_t i = 0; i < 20000; i++) {
        uint8_t key[8] = {(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};

        btree_put(&world.tree, slice_make(key, 8), slice_make(key, 8));
    }
    btree_checkpoint_now(&world.tree);
    assert_true(world.tree.space.used * BTREE_BLOCK < 20000 * 40);
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t j = i * 7919 % 20000;
        uint8_t key[8] = {(uint8_t)(j >> 16), (uint8_t)(j >> 8), (uint8_t)j};

        assert_true(btree_del(&world.tree, slice_make(key, 8)));
    }
    assert_int_equal(world.tree.pairs, 0);
    assert_true(world.tree.hash == 0);
    btree_check(&world.tree);
    btree_checkpoint_now(&world.tree);
    btree_checkpoint_now(&world.tree);
    used = world.tree.space.used;
    assert_true(used <= BTREE_SUPER_BLOCKS + BTREE_PAGE_BLOCKS + 8);
    world_deinit(&world);
}

/* A crash at each io of a checkpoint leaves the state before it, or the whole of it. */
static void test_crash_everywhere(void **state)
{
    uint64_t seed = test_seed(11);

    (void)state;
    for (unsigned stop = 0; stop < 60; stop++) {
        for (uint64_t round = 0; round < 2; round++) {
            struct world world;

            world_init(&world, seed + stop * 100 + round);
            for (int i = 0; i < 600; i++) {
                one_change(&world);
            }
            start_checkpoint(&world);
            while (disk_step(&world.disk)) {
            }
            for (int i = 0; i < 300; i++) {
                one_change(&world);
            }
            start_checkpoint(&world);
            for (unsigned i = 0; i < stop; i++) {
                one_change(&world);
                disk_step(&world.disk);
            }
            reopen(&world, true);
            for (int i = 0; i < 100; i++) {
                one_change(&world);
            }
            compare(&world.tree, &world.model);
            btree_checkpoint_now(&world.tree);
            world_deinit(&world);
        }
    }
}

static void test_damage(void **state)
{
    struct world world;
    struct btree again;

    (void)state;
    world_init(&world, 3);
    btree_put(&world.tree, slice_text("a"), slice_text("1"));
    btree_checkpoint_now(&world.tree);
    btree_close(&world.tree);
    /* Two of four copies may be lost; more is an error, not an empty tree. */
    memset(world.disk.files[0].bytes.data, 0xff, 2 * BTREE_BLOCK);
    assert_int_equal(btree_open(&again, &world.disk.env, &config), 0);
    assert_int_equal(again.pairs, 1);
    btree_close(&again);
    memset(world.disk.files[0].bytes.data, 0xff, 8 * BTREE_BLOCK);
    assert_int_equal(btree_open(&again, &world.disk.env, &config), -ERR_CORRUPT);
    disk_deinit(&world.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_shrink),
        cmocka_unit_test(test_crash_everywhere),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
