/*
 * Inode flags of the namespace against a naive statement of what Linux says of them: four
 * directories, files with several names, random operations of root, whom nothing else stops. The
 * same errno each time, the same names and flags afterwards.
 */
#include "tests/unit/meta/ns_fixture.h"

#include "base/rng.h"

#define DIRS      4 /* the first is the root; the others lie in it, and are flagged like files */
#define NAMES     4
#define FILES_MAX 4000
#define USER      1000

struct file {
    uint64_t ino;
    uint32_t flags;
    bool is_dir;
};

struct world {
    struct fixture f;
    struct rng rng;
    struct file files[FILES_MAX]; /* the first DIRS are the directories */
    unsigned count;
    struct file *entries[DIRS][NAMES];
};

static const char *const names[NAMES] = {"a", "b", "c", "d"};
static const char *const dir_names[DIRS] = {"", "A", "B", "C"};

static unsigned below(struct world *world, unsigned limit)
{
    return (unsigned)rng_below(&world->rng, limit);
}

static bool immutable(const struct file *file)
{
    return (file->flags & META_ATTR_IMMUTABLE) != 0;
}

static bool append_only(const struct file *file)
{
    return (file->flags & META_ATTR_APPEND) != 0;
}

static bool frozen(const struct file *file)
{
    return immutable(file) || append_only(file);
}

/* Names may go from an append-only directory no more than from an immutable one. */
static bool may_go(const struct file *dir, const struct file *victim)
{
    return !frozen(dir) && !frozen(victim);
}

/* Mostly one that has a name; else any that there ever was: it is still open. */
static struct file *any_file(struct world *world)
{
    struct file *named = world->entries[below(world, DIRS)][below(world, NAMES)];

    if (below(world, 4) == 0) {
        return &world->files[below(world, DIRS)];
    }
    return named != NULL ? named : &world->files[below(world, world->count)];
}

static struct file *new_file(struct world *world, const struct file *dir, bool is_dir)
{
    uint32_t passed_on = META_ATTR_SYNC | META_ATTR_NODUMP | META_ATTR_NOATIME;
    struct file *file = &world->files[world->count++];
    struct meta_attr attr;

    assert_true(world->count < FILES_MAX);
    assert_int_equal(meta_attr_decode(&attr, world->f.reply->attr), 0);
    passed_on |= is_dir ? META_ATTR_DIRSYNC : 0;
    *file = (struct file){.ino = attr.ino, .flags = dir->flags & passed_on, .is_dir = is_dir};
    assert_int_equal(attr.flags & META_ATTR_SETTABLE, file->flags);
    return file;
}

static void do_create(struct world *world)
{
    unsigned d = below(world, DIRS), n = below(world, NAMES);
    const struct file *dir = &world->files[d];
    int expected = world->entries[d][n] != NULL ? -EEXIST : immutable(dir) ? -EPERM : 0;

    assert_int_equal(apply(&world->f, (struct meta_request){.op = META_CREATE,
                                                            .flags = META_NOREPLACE,
                                                            .ino = dir->ino,
                                                            .name = slice_text(names[n]),
                                                            .mode = 0644}),
                     expected);
    if (expected == 0) {
        world->entries[d][n] = new_file(world, dir, false);
    }
}

static void do_unlink(struct world *world)
{
    unsigned d = below(world, DIRS), n = below(world, NAMES);
    const struct file *dir = &world->files[d], *victim = world->entries[d][n];
    int expected = victim == NULL ? -ENOENT : may_go(dir, victim) ? 0 : -EPERM;

    assert_int_equal(apply(&world->f, (struct meta_request){.op = META_UNLINK,
                                                            .flags = META_STILL_OPEN,
                                                            .ino = dir->ino,
                                                            .name = slice_text(names[n])}),
                     expected);
    world->entries[d][n] = expected == 0 ? NULL : world->entries[d][n];
}

/* They have something in them, or may not go. */
static void do_rmdir(struct world *world)
{
    unsigned d = 1 + below(world, DIRS - 1);
    bool empty = true;

    for (unsigned n = 0; n < NAMES; n++) {
        empty = empty && world->entries[d][n] == NULL;
    }
    if (empty) {
        return;
    }
    assert_int_equal(apply(&world->f, (struct meta_request){.op = META_RMDIR,
                                                            .ino = META_ROOT_INO,
                                                            .name = slice_text(dir_names[d])}),
                     may_go(&world->files[0], &world->files[d]) ? -ENOTEMPTY : -EPERM);
}

static void do_link(struct world *world)
{
    unsigned from = below(world, DIRS), m = below(world, NAMES);
    unsigned d = below(world, DIRS), n = below(world, NAMES);
    const struct file *dir = &world->files[d];
    struct file *file = world->entries[from][m];
    int expected = world->entries[d][n] != NULL ? -EEXIST : immutable(dir) ? -EPERM : 0;

    if (file == NULL) {
        return;
    }
    expected = expected == 0 && frozen(file) ? -EPERM : expected;
    assert_int_equal(apply(&world->f, (struct meta_request){.op = META_LINK,
                                                            .ino = dir->ino,
                                                            .ino2 = file->ino,
                                                            .name = slice_text(names[n])}),
                     expected);
    world->entries[d][n] = expected == 0 ? file : world->entries[d][n];
}

static void do_rename(struct world *world)
{
    unsigned d = below(world, DIRS), n = below(world, NAMES);
    unsigned to_d = below(world, DIRS), to_n = below(world, NAMES);
    bool exchange = below(world, 4) == 0;
    const struct file *dir = &world->files[d], *to_dir = &world->files[to_d];
    struct file *moved = world->entries[d][n], *victim = world->entries[to_d][to_n];
    int expected = 0;

    if (moved == NULL || (exchange && victim == NULL)) {
        expected = -ENOENT;
    } else if (moved != victim && (!may_go(dir, moved) || immutable(to_dir) ||
                                   (victim != NULL && !may_go(to_dir, victim)))) {
        expected = -EPERM;
    }
    assert_int_equal(
        apply(&world->f, (struct meta_request){.op = META_RENAME,
                                               .flags = exchange ? META_EXCHANGE : META_STILL_OPEN,
                                               .ino = dir->ino,
                                               .name = slice_text(names[n]),
                                               .ino2 = to_dir->ino,
                                               .name2 = slice_text(names[to_n])}),
        expected);
    if (expected == 0 && moved != victim) {
        world->entries[d][n] = exchange ? victim : NULL;
        world->entries[to_d][to_n] = moved;
    }
}

static void do_setattr(struct world *world)
{
    static const uint32_t valids[] = {META_SET_MODE,      META_SET_UID,
                                      META_SET_GID,       META_SET_ATIME,
                                      META_SET_MTIME,     META_SET_ATIME_NOW | META_SET_MTIME_NOW,
                                      META_SET_MTIME_NOW, META_SET_MTIME | META_SET_ATIME_NOW,
                                      META_SET_SIZE};
    struct file *file = any_file(world);
    uint32_t valid = valids[below(world, ARRAY_SIZE(valids))];
    bool touch = (valid & ~(uint32_t)(META_SET_ATIME_NOW | META_SET_MTIME_NOW)) == 0;
    int expected = immutable(file) || (append_only(file) && !touch) ? -EPERM : 0;

    if (expected == 0 && valid == META_SET_SIZE && file->is_dir) {
        expected = -EISDIR;
    }
    assert_int_equal(apply(&world->f, (struct meta_request){.op = META_SETATTR,
                                                            .flags = META_SKIP_ACCESS,
                                                            .ino = file->ino,
                                                            .valid = valid,
                                                            .mode = 0755,
                                                            .size = below(world, 10)}),
                     expected);
}

static void do_xattr(struct world *world)
{
    struct file *file = any_file(world);
    bool remove = below(world, 2) == 0;
    int expected = frozen(file) ? -EPERM : remove ? -ENODATA : 0;

    assert_int_equal(
        apply(&world->f,
              (struct meta_request){.op = remove ? META_REMOVEXATTR : META_SETXATTR,
                                    .ino = file->ino,
                                    .name = slice_text(remove ? "trusted.none" : "user.a"),
                                    .data = slice_text("v")}),
        expected);
}

static void do_allocate(struct world *world)
{
    static const uint32_t modes[] = {0, META_ALLOCATE_KEEP_SIZE,
                                     META_ALLOCATE_PUNCH | META_ALLOCATE_KEEP_SIZE,
                                     META_ALLOCATE_ZERO};
    struct file *file = any_file(world);
    unsigned mode = below(world, ARRAY_SIZE(modes));
    int expected = file->is_dir ? -EISDIR : 0;

    if (expected == 0 && (immutable(file) || (append_only(file) && mode > 1))) {
        expected = -EPERM;
    }
    assert_int_equal(apply(&world->f, (struct meta_request){.op = META_FALLOCATE,
                                                            .flags = META_SKIP_ACCESS,
                                                            .ino = file->ino,
                                                            .mode = modes[mode],
                                                            .size = 4096}),
                     expected);
}

static void do_open(struct world *world)
{
    static const uint32_t hows[] = {META_OPEN_READ, META_OPEN_WRITE,
                                    META_OPEN_READ | META_OPEN_WRITE, META_OPEN_WRITE | META_APPEND,
                                    META_OPEN_READ | META_APPEND};
    struct file *file = any_file(world);
    uint32_t how = hows[below(world, ARRAY_SIZE(hows))];
    struct meta_request request = {.op = META_GETATTR, .ino = file->ino, .flags = how};
    bool writes = (how & META_OPEN_WRITE) != 0;
    int expected = writes && file->is_dir ? -EISDIR : 0;

    if (expected == 0 && writes &&
        (immutable(file) || (append_only(file) && (how & META_APPEND) == 0))) {
        expected = -EPERM;
    }
    assert_int_equal(-(int)ns_read(&world->f.ns, &request, 1)->error, expected);
}

/* Everything belongs to root: an ordinary user changes nothing. */
static void do_set_flags(struct world *world)
{
    static const uint32_t one_of[] = {META_ATTR_SYNC,   META_ATTR_IMMUTABLE, META_ATTR_APPEND,
                                      META_ATTR_NODUMP, META_ATTR_NOATIME,   META_ATTR_DIRSYNC};
    struct file *file = any_file(world);
    uint32_t mask = META_ATTR_IMMUTABLE | META_ATTR_APPEND, flags = 0, after;
    uint32_t uid = below(world, 10) == 0 ? USER : 0;
    int expected = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(one_of); i++) {
        mask |= below(world, 3) == 0 ? one_of[i] : 0;
        flags |= below(world, 5) == 0 ? mask & one_of[i] : 0;
    }
    after = (file->flags & ~mask) | flags;
    if ((flags & META_ATTR_DIRSYNC) != 0 && !file->is_dir) {
        expected = -EOPNOTSUPP;
    } else if (uid != 0 ||
               (immutable(file) && (after & META_ATTR_IMMUTABLE) != 0 && after != file->flags)) {
        expected = -EPERM;
    }
    assert_int_equal(apply(&world->f, (struct meta_request){.op = META_SETATTR,
                                                            .uid = uid,
                                                            .ino = file->ino,
                                                            .valid = META_SET_FLAGS,
                                                            .mode = mask,
                                                            .count = flags}),
                     expected);
    file->flags = expected == 0 ? after : file->flags;
}

static void check_all(struct world *world)
{
    for (unsigned d = 0; d < DIRS; d++) {
        for (unsigned n = 0; n < NAMES; n++) {
            struct meta_request request = {
                .op = META_LOOKUP, .ino = world->files[d].ino, .name = slice_text(names[n])};
            const struct meta_reply *reply = ns_read(&world->f.ns, &request, 1);
            struct meta_attr attr;

            assert_int_equal(reply->error, world->entries[d][n] == NULL ? ENOENT : 0);
            if (reply->error == 0) {
                assert_int_equal(meta_attr_decode(&attr, reply->attr), 0);
                assert_int_equal(attr.ino, world->entries[d][n]->ino);
            }
        }
    }
    for (unsigned i = 0; i < world->count; i++) {
        assert_int_equal(attr_of(&world->f, world->files[i].ino).flags & META_ATTR_SETTABLE,
                         world->files[i].flags);
    }
}

static void begin(struct world *world, uint64_t seed)
{
    *world = (struct world){.count = 1};
    world->files[0] = (struct file){.ino = META_ROOT_INO, .is_dir = true};
    rng_init(&world->rng, seed);
    setup(&world->f);
    for (unsigned d = 1; d < DIRS; d++) {
        uint64_t ino;

        assert_int_equal(make(&world->f, META_MKDIR, dir_names[d], 0755, &ino), 0);
        new_file(world, &world->files[0], true);
    }
}

static void test_random(void **state)
{
    static void (*const ops[])(struct world *) = {
        do_create,  do_create, do_unlink,   do_rmdir, do_link,      do_rename,   do_rename,
        do_setattr, do_xattr,  do_allocate, do_open,  do_set_flags, do_set_flags};
    static struct world world;
    uint64_t seed = test_seed(1);

    (void)state;
    for (uint64_t round = 0; round < 4; round++) {
        begin(&world, seed + round);
        for (int i = 0; i < 10000; i++) {
            ops[below(&world, ARRAY_SIZE(ops))](&world);
            if (i % 500 == 0) {
                check_all(&world);
            }
        }
        check_all(&world);
        teardown(&world.f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
