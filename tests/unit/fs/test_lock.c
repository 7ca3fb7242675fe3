/* Locks that a mount which is alone grants itself, what gives them up; and what a file that is open
 * answers from then on. */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "fs/call.h"
#include "fs/coherence.h"
#include "fs/lock_internal.h"
#include "fs/mount.h"
#include "tests/sim/env_sim.h"

#include <errno.h>

struct fixture {
    struct sim *sim;
    struct mount mount;
    unsigned ended;
    int error;
};

static void on_done(struct fs_call *call)
{
    struct fixture *f = call->mount->data;

    f->ended++;
    f->error = call->error;
}

static struct fixture *alone(void)
{
    struct fixture *f = mem_zalloc(sizeof(*f));

    f->sim = sim_new(1);
    f->mount.env = sim_env(f->sim, 0);
    f->mount.data = f;
    f->mount.meta.session = 1;
    f->mount.meta.lease_until_ns = UINT64_MAX;
    f->mount.locks.mode = LOCKS_OWN;
    lock_init(&f->mount);
    list_init(&f->mount.flush_queue);
    list_init(&f->mount.flush_hurried);
    list_init(&f->mount.contents);
    list_init(&f->mount.round_list);
    return f;
}

static void leave(struct fixture *f)
{
    lock_deinit(&f->mount);
    map_deinit(&f->mount.inodes);
    sim_free(f->sim);
    mem_free(f);
}

static int run(struct fixture *f, struct fs_call call)
{
    unsigned before = f->ended;

    call.mount = &f->mount;
    call.ino = 7;
    call.started_ns = 1;
    call.done = on_done;
    fs_call_start(&call);
    assert_int_equal(f->ended, before + 1);
    return f->error;
}

static int lock(struct fixture *f, uint64_t owner, uint64_t handle, uint8_t type)
{
    return run(f, (struct fs_call){.op = FS_LOCK,
                                   .lock = {.owner = owner, .type = type, .to = UINT64_MAX},
                                   .handle = handle});
}

static struct meta_lock flock_of(uint64_t owner)
{
    return (struct meta_lock){
        .owner = owner, .type = META_LOCK_WRITE, .to = UINT64_MAX, .flock = true};
}

static int release(struct fixture *f, uint64_t handle)
{
    return run(f, (struct fs_call){.op = FS_RELEASE, .handle = handle});
}

/* A descriptor that cannot write is closed without a FLUSH: RELEASE is all that comes. */
static void test_record_locks_go_with_the_open_file(void **state)
{
    struct fixture *f = alone();

    (void)state;
    assert_int_equal(lock(f, 1, 10, META_LOCK_READ), 0);
    assert_int_equal(lock(f, 2, 20, META_LOCK_READ), 0);
    assert_int_equal(release(f, 10), 0);
    assert_int_equal(lock(f, 2, 20, META_LOCK_WRITE), 0);
    leave(f);
}

/* An older open file of the same process goes late: another process had it, too. */
static void test_not_with_another_open_file(void **state)
{
    struct fixture *f = alone();

    (void)state;
    assert_int_equal(lock(f, 1, 10, META_LOCK_READ), 0);
    assert_int_equal(lock(f, 1, 11, META_LOCK_READ), 0);
    assert_int_equal(release(f, 10), 0);
    assert_int_equal(lock(f, 2, 20, META_LOCK_WRITE), EAGAIN);
    assert_int_equal(run(f, (struct fs_call){.op = FS_FLUSH, .lock = {.owner = 1}}), 0);
    assert_int_equal(lock(f, 2, 20, META_LOCK_WRITE), 0);
    assert_int_equal(release(f, 11), 0);
    assert_int_equal(lock(f, 1, 12, META_LOCK_READ), EAGAIN);
    leave(f);
}

/* An open file is closed while data of the file is still to be committed, and the next one gets its
 * number: what the old one gives up is not the new one's. */
static void test_the_next_owner_of_that_number(void **state)
{
    struct fixture *f = alone();
    struct inode *inode = inode_make(&f->mount, 7);
    struct fs_call call = {.op = FS_LOCK,
                           .mount = &f->mount,
                           .ino = 7,
                           .started_ns = 1,
                           .lock = flock_of(1),
                           .done = on_done};

    (void)state;
    inode->opens = inode->buffered_opens = f->mount.open_count = 3;
    inode->epoch = f->mount.alone_epoch = 1;
    f->mount.meta.alone_until_ns = UINT64_MAX;
    f->mount.meta.alone = true;
    assert_int_equal(run(f, (struct fs_call){.op = FS_LOCK, .lock = flock_of(1)}), 0);
    f->mount.meta.alone = false;
    dirty_write(&inode->dirty, 0, slice_text("not committed"));
    assert_int_equal(run(f, (struct fs_call){.op = FS_RELEASE, .lock = flock_of(1)}), 0);
    fs_call_start(&call);
    assert_int_equal(f->ended, 2);
    dirty_deinit(&inode->dirty);
    inode->dirty = (struct dirty){0};
    f->mount.meta.alone = true;
    sim_run(f->sim, sim_now(f->sim) + NS_PER_S);
    assert_int_equal(f->ended, 3);
    assert_int_equal(f->error, 0);
    assert_int_equal(run(f, (struct fs_call){.op = FS_LOCK, .lock = flock_of(2)}), EAGAIN);
    inode->opens = 0;
    inode_release(&f->mount, inode);
    leave(f);
}

/* A call that waits for something else than another lock. */
static void begin(struct fixture *f, struct fs_call *call)
{
    unsigned before = f->ended;

    *call = (struct fs_call){.mount = &f->mount,
                             .op = FS_LOCK,
                             .ino = 7,
                             .handle = 1,
                             .started_ns = 1,
                             .lock = {.owner = 5, .type = META_LOCK_WRITE, .to = UINT64_MAX},
                             .done = on_done};
    fs_call_start(call);
    assert_int_equal(f->ended, before);
}

static void set_lease(struct fixture *f, uint64_t until_ns)
{
    f->mount.meta.lease_until_ns = until_ns;
}

/* While nobody hears this mount, its session may be over, and others may have the lock. */
static void test_granted_while_the_session_lives(void **state)
{
    struct fixture *f = alone();
    struct fs_call call;

    (void)state;
    set_lease(f, 0);
    begin(f, &call);
    sim_run(f->sim, sim_now(f->sim) + NS_PER_S);
    assert_int_equal(f->ended, 0);
    set_lease(f, UINT64_MAX);
    sim_run(f->sim, sim_now(f->sim) + NS_PER_S);
    assert_int_equal(f->ended, 1);
    assert_int_equal(f->error, 0);
    assert_int_equal(release(f, 1), 0);
    leave(f);
}

/* What is known of the file is from before this mount was alone: the service is asked, which is not
 * there. */
static void test_not_granted_over_old_contents(void **state)
{
    struct fixture *f = alone();
    struct inode *inode = inode_make(&f->mount, 7);
    struct fs_call call;

    (void)state;
    list_init(&f->mount.meta.queued);
    list_init(&f->mount.meta.ending);
    f->mount.meta.env = f->mount.env;
    f->mount.meta.closing = true;
    inode->opens = 1;
    assert_false(coherence_trusts(&f->mount, inode));
    begin(f, &call);
    assert_false(list_empty(&f->mount.meta.ending));
    inode->opens = 0;
    inode_release(&f->mount, inode);
    leave(f);
}

/* Whoever had a lock relied on nobody else writing. */
static void test_locks_are_lost_with_the_session(void **state)
{
    struct fixture *f = alone();
    struct inode *inode, *other = inode_make(&f->mount, 8);

    (void)state;
    assert_int_equal(lock(f, 5, 1, META_LOCK_WRITE), 0);
    inode = inode_make(&f->mount, 7);
    inode->opens = other->opens = 1;
    lock_session_lost(&f->mount);
    assert_true(inode->locks_lost);
    assert_false(other->locks_lost);
    inode->opens = other->opens = 0;
    inode_release(&f->mount, inode);
    inode_release(&f->mount, other);
    leave(f);
}

/* What was lost is told by every call, not only by the first. */
static void test_open_files_say_what_was_lost(void **state)
{
    static const enum fs_op ops[] = {FS_READ, FS_WRITE, FS_FSYNC, FS_FALLOCATE, FS_SEEK};
    struct fixture *f = alone();
    struct inode *inode = inode_make(&f->mount, 7);

    (void)state;
    inode->opens = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        inode->locks_lost = true;
        assert_int_equal(run(f, (struct fs_call){.op = ops[i]}), EIO);
        inode->gone = true;
        assert_int_equal(run(f, (struct fs_call){.op = ops[i]}), ESTALE);
        inode->gone = inode->locks_lost = false;
    }
    assert_int_equal(run(f, (struct fs_call){.op = FS_FSYNC}), 0);
    inode->opens = 0;
    inode_release(&f->mount, inode);
    leave(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_locks_go_with_the_open_file),
        cmocka_unit_test(test_not_with_another_open_file),
        cmocka_unit_test(test_the_next_owner_of_that_number),
        cmocka_unit_test(test_granted_while_the_session_lives),
        cmocka_unit_test(test_not_granted_over_old_contents),
        cmocka_unit_test(test_locks_are_lost_with_the_session),
        cmocka_unit_test(test_open_files_say_what_was_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
