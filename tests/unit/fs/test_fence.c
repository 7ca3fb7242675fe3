/* What was written under a lock that was given up since, when the session is lost. */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "fs/call.h"
#include "fs/fence.h"
#include "fs/lock_internal.h"
#include "fs/mount.h"
#include "tests/sim/env_sim.h"

#include <errno.h>

#define INO    7
#define CHANGE 40

static struct sim *sim;
static struct mount *mount;
static struct inode *inode;
static unsigned ended;
static int error;

static void on_done(struct fs_call *call)
{
    ended++;
    error = call->error;
}

/* A mount that is alone knows the file. */
static int setup(void **state)
{
    (void)state;
    sim = sim_new(1);
    mount = mem_zalloc(sizeof(*mount));
    mount->env = sim_env(sim, 0);
    mount->meta.session = 1;
    mount->meta.lease_until_ns = mount->meta.alone_until_ns = UINT64_MAX;
    mount->meta.alone = true;
    mount->alone_epoch = 1;
    mount->locks.mode = LOCKS_OWN;
    mount->settings.flush_rounds = 0; /* nothing is committed here */
    lock_init(mount);
    list_init(&mount->flush_queue);
    list_init(&mount->flush_hurried);
    list_init(&mount->space_queue);
    list_init(&mount->contents);
    list_init(&mount->round_list);
    list_init(&mount->shutdown.waiters);
    inode = inode_make(mount, INO);
    inode->epoch = mount->alone_epoch;
    inode->attr = (struct meta_attr){.ino = INO, .nlink = 1, .mode = S_IFREG, .change = CHANGE};
    inode->attr_known = true;
    inode->told_change = CHANGE;
    inode->contents = CONTENTS_INLINE;
    inode->opens = mount->open_count = 1;
    ended = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fs_call_drop_dirty(mount, inode);
    inode->opens = 0;
    inode_release(mount, inode);
    env_timer_stop(mount->env, &mount->flush_timer);
    lock_deinit(mount);
    map_deinit(&mount->inodes);
    mem_free(mount);
    sim_free(sim);
    return 0;
}

static void lock(uint8_t type)
{
    struct fs_call call = {
        .op = FS_LOCK,
        .mount = mount,
        .ino = INO,
        .started_ns = 1,
        .lock = {.owner = 1, .type = type, .to = UINT64_MAX, .flock = true},
        .done = on_done,
    };

    fs_call_start(&call);
    assert_int_equal(error, 0);
}

static void write_at(uint64_t offset)
{
    inode->dirty.stamp++;
    dirty_write(&inode->dirty, offset, slice_text("data"));
    mount->dirty_bytes = inode->dirty.bytes;
}

static void write_under_lock(void)
{
    lock(META_LOCK_WRITE);
    write_at(0);
    lock(META_LOCK_NONE);
}

static void test_others_work_is_not_written_over(void **state)
{
    (void)state;
    write_under_lock();
    fence_raise(mount);
    assert_true(inode->fenced);
    assert_false(fence_refuses(inode, CHANGE));
    assert_true(fence_refuses(inode, CHANGE + 1));
}

/* The service's word, as answers bring it. */
static void told(uint64_t change, bool ours)
{
    struct meta_attr attr = inode->attr;

    attr.change = change;
    inode_update(mount, inode, &attr, ours);
}

/* What is answered before it is sent may never happen. */
static void test_own_changes_count_when_they_are_made(void **state)
{
    (void)state;
    inode->attr.change++; /* chmod, answered here */
    write_under_lock();
    fence_raise(mount);
    assert_false(fence_refuses(inode, CHANGE));
    assert_true(fence_refuses(inode, CHANGE + 1)); /* that may be somebody else's */
}

static void test_own_changes_are_no_others(void **state)
{
    (void)state;
    write_under_lock();
    told(CHANGE + 1, true);
    told(CHANGE + 2, false); /* nobody else is there */
    fence_raise(mount);
    assert_false(fence_refuses(inode, CHANGE + 2));
    told(CHANGE + 3, true);
    assert_false(fence_refuses(inode, CHANGE + 3));
    assert_true(fence_refuses(inode, CHANGE + 4));
}

/* Others may have been there since, also when this mount is alone again. */
static void test_news_under_the_next_session_are_not_trusted(void **state)
{
    (void)state;
    write_under_lock();
    fence_raise(mount);
    told(CHANGE + 1, false);
    assert_true(fence_refuses(inode, CHANGE + 1));
    told(CHANGE + 2, true); /* ours, but what came before was not */
    assert_true(fence_refuses(inode, CHANGE + 2));
}

/* Without trust the number may be one that others have made. */
static void test_news_without_trust_are_not_taken(void **state)
{
    (void)state;
    write_under_lock();
    mount->meta.alone = false;
    told(CHANGE + 1, false);
    fence_raise(mount);
    assert_true(fence_refuses(inode, CHANGE + 1));
}

static void test_data_without_a_lock_is_not_fenced(void **state)
{
    (void)state;
    write_at(0);
    fence_raise(mount);
    assert_false(inode->fenced);
}

/* What was guarded is committed: what is written from then on is not. */
static void test_over_when_the_guarded_is_committed(void **state)
{
    (void)state;
    write_under_lock();
    write_at(100);
    fence_done(inode);
    assert_int_not_equal(inode->guard_stamp, 0); /* the first is dirty still */
    dirty_truncate(&inode->dirty, 0);
    write_at(100);
    fence_done(inode);
    fence_raise(mount);
    assert_false(inode->fenced);
}

static void test_a_write_waits_until_it_is_known(void **state)
{
    struct fs_call call = {.op = FS_WRITE,
                           .mount = mount,
                           .ino = INO,
                           .started_ns = 1,
                           .data = slice_text("more"),
                           .done = on_done};

    (void)state;
    mount->settings.dirty_bytes = UINT64_MAX;
    mount->settings.dirty_flush_bytes = UINT64_MAX;
    mount->settings.inode_flush_bytes = UINT64_MAX;
    mount->settings.dirty_age_ms = 1000;
    write_under_lock();
    ended = 0;
    fence_raise(mount);
    fs_call_start(&call);
    assert_int_equal(ended, 0);
    fs_call_drop_dirty(mount, inode);
    assert_int_equal(ended, 1);
    assert_int_equal(error, 0);
    assert_int_equal(dirty_end(&inode->dirty), 4);
    assert_false(inode->fenced);
}

static void test_a_read_that_waits_can_be_interrupted(void **state)
{
    struct fs_call call = {
        .op = FS_READ, .mount = mount, .ino = INO, .started_ns = 1, .size = 4, .done = on_done};

    (void)state;
    write_under_lock();
    ended = 0;
    fence_raise(mount);
    fs_call_start(&call);
    assert_int_equal(ended, 0);
    fs_call_cancel(&call);
    assert_int_equal(ended, 1);
    assert_int_equal(error, EINTR);
    assert_true(list_empty(&inode->fence_waiters));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_others_work_is_not_written_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_changes_are_no_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_changes_count_when_they_are_made, setup, teardown),
        cmocka_unit_test_setup_teardown(test_news_under_the_next_session_are_not_trusted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_news_without_trust_are_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_data_without_a_lock_is_not_fenced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_over_when_the_guarded_is_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_write_waits_until_it_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_read_that_waits_can_be_interrupted, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
