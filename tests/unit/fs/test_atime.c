/* Which calls are accesses, and when the service is told. */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "fs/call.h"
#include "fs/limits.h"
#include "fs/mount.h"
#include "meta/meta_client_internal.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <fcntl.h>

#define INO              7

#define KERNEL_LARGEFILE 0x8000U /* of all opens by programs; the library has it as 0 */

static struct sim *sim;
static struct mount *mount;
static struct inode *inode;
static unsigned ended;

static void on_done(struct fs_call *call)
{
    (void)call;
}

static struct inode *make(uint64_t ino, uint32_t mode)
{
    struct inode *made = inode_make(mount, ino);

    made->attr = (struct meta_attr){.ino = ino, .nlink = 1, .mode = mode, .change = 1};
    made->attr_known = true;
    return made;
}

/* Nobody leads: what is asked of the service stays in mount.meta.queued. */
static int setup(void **state)
{
    (void)state;
    sim = sim_new(1);
    mount = mem_zalloc(sizeof(*mount));
    mount->env = mount->meta.env = sim_env(sim, 0);
    mount->meta.session = 1;
    mount->meta.retry_wait = true;
    list_init(&mount->meta.queued);
    list_init(&mount->meta.mutations);
    list_init(&mount->meta.reads);
    list_init(&mount->meta.ending);
    list_init(&mount->contents);
    list_init(&mount->open_queue);
    atime_init(mount);
    mount->config.atime = ATIME_RELATIVE;
    inode = make(INO, S_IFREG);
    inode->lookups = 1;
    ended = 0;
    return 0;
}

/* As the service answers what waits first. */
static void answer(void)
{
    struct meta_flight *flight =
        list_entry(list_pop_front(&mount->meta.queued), struct meta_flight, node);
    struct meta_call *call = flight->call;

    mem_free(flight);
    call->status = 0;
    call->done(call);
}

static int teardown(void **state)
{
    (void)state;
    atime_send(mount);
    while (!list_empty(&mount->meta.queued)) {
        answer();
    }
    env_timer_stop(mount->env, &mount->atime.timer);
    inode->lookups = 0;
    inode_release(mount, inode);
    map_deinit(&mount->inodes);
    mem_free(mount);
    sim_free(sim);
    return 0;
}

static bool is_access(struct fs_call call)
{
    call.mount = mount;
    call.ino = call.ino != 0 ? call.ino : INO;
    call.done = on_done;
    fs_call_finish(&call, 0);
    return inode_find(mount, call.ino)->accessed != 0;
}

static void test_which_calls(void **state)
{
    struct fs_call open = {.op = FS_OPEN, .open_flags = KERNEL_LARGEFILE | O_RDONLY};

    (void)state;
    assert_false(is_access((struct fs_call){.op = FS_GETATTR}));
    assert_false(is_access((struct fs_call){.op = FS_WRITE}));
    assert_false(is_access((struct fs_call){.op = FS_READ, .open_flags = O_NOATIME}));
    assert_false(is_access(open)); /* a READ will come */
    open.keep_cache = true;
    open.open_flags = KERNEL_LARGEFILE | O_WRONLY;
    assert_false(is_access(open));
    open.open_flags = KERNEL_LARGEFILE | O_NOATIME;
    assert_false(is_access(open));
    open.open_flags = 0; /* by the kernel, for an ioctl */
    assert_false(is_access(open));
    open.open_flags = KERNEL_LARGEFILE;
    assert_true(is_access(open));
}

static void test_relatime(void **state)
{
    uint64_t now = env_wall(mount->env);

    (void)state;
    inode->attr.mtime = inode->attr.ctime = now - 5;
    inode->attr.atime = now - 4;
    assert_false(is_access((struct fs_call){.op = FS_READ}));
    inode->attr.atime = now - 90000 * NS_PER_S;
    inode->attr.mtime = inode->attr.ctime = inode->attr.atime - 1;
    assert_true(is_access((struct fs_call){.op = FS_READ})); /* a day old */
    inode->accessed = 0;
    inode->attr.atime = inode->attr.mtime = inode->attr.ctime = now - 1;
    assert_true(is_access((struct fs_call){.op = FS_READ}));
}

static void test_not_of_all(void **state)
{
    struct inode *dir = make(9, S_IFDIR);

    (void)state;
    inode->attr.flags = META_ATTR_NOATIME;
    assert_false(is_access((struct fs_call){.op = FS_READ}));
    mount->config.no_dir_atime = true;
    assert_false(is_access((struct fs_call){.op = FS_READDIR, .ino = 9}));
    inode->attr.flags = 0;
    mount->config.atime = ATIME_NEVER;
    assert_false(is_access((struct fs_call){.op = FS_READ}));
    mount->config.atime = ATIME_STRICT;
    mount->config.read_only = true;
    assert_false(is_access((struct fs_call){.op = FS_READ}));
    inode_release(mount, dir);
}

/* One that is noted again, at the same moment, while the first is on its way. */
static void test_kept_until_it_is_told(void **state)
{
    struct inode *dir = make(9, S_IFDIR);
    struct fs_call set = {.op = FS_SETATTR, .mount = mount, .ino = 9, .valid = META_SET_ATIME_NOW};

    (void)state;
    assert_true(is_access((struct fs_call){.op = FS_READDIR, .ino = 9}));
    atime_before(&set);
    assert_int_equal(dir->accessed, 0);
    dir->attr.atime = 0; /* as set */
    assert_true(is_access((struct fs_call){.op = FS_READDIR, .ino = 9}));
    answer();
    assert_ptr_equal(inode_find(mount, 9), dir);
    atime_send(mount);
    answer();
    assert_null(inode_find(mount, 9));
}

/* A service that says nothing: few requests wait for it, however much is read. */
static void test_few_on_their_way(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5 * META_ACCESSED_MAX; i++) {
        make(100 + i, S_IFREG);
        assert_true(is_access((struct fs_call){.op = FS_READ, .ino = 100 + i}));
    }
    assert_int_equal(mount->atime.in_flight, FS_ATIME_FLIGHTS_MAX);
    for (unsigned i = 0; i < 5; i++) {
        answer();
    }
    assert_int_equal(mount->atime.in_flight, 0);
    assert_int_equal(mount->inodes.count, 1);
}

static void on_closed(struct mount *closed)
{
    (void)closed;
    ended++;
}

static void test_the_end_does_not_wait_for_ever(void **state)
{
    (void)state;
    assert_true(is_access((struct fs_call){.op = FS_READ}));
    mount->closing = true;
    atime_close(mount, on_closed);
    assert_int_equal(ended, 0);
    sim_run(sim, sim_now(sim) + 2 * FS_ATIME_CLOSE_NS);
    assert_int_equal(ended, 1);
}

/* More is noted than may be on its way: no timer is left behind. */
static void test_nothing_comes_after_the_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * META_ACCESSED_MAX + 1; i++) {
        make(100 + i, S_IFREG);
        assert_true(is_access((struct fs_call){.op = FS_READ, .ino = 100 + i}));
    }
    mount->closing = true;
    atime_close(mount, on_closed);
    sim_run(sim, sim_now(sim) + 2 * FS_ATIME_CLOSE_NS);
    assert_int_equal(ended, 1);
    answer();
    assert_false(env_timer_running(&mount->atime.timer));
}

static void test_the_end_comes_with_the_answer(void **state)
{
    (void)state;
    assert_true(is_access((struct fs_call){.op = FS_READ}));
    mount->closing = true;
    atime_close(mount, on_closed);
    answer();
    assert_int_equal(ended, 1);
    assert_false(env_timer_running(&mount->atime.timer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_which_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_relatime, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_of_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kept_until_it_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_few_on_their_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_end_does_not_wait_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_comes_after_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_end_comes_with_the_answer, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
