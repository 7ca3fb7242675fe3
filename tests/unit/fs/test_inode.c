/* When does the mount forget an inode? */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "fs/mount.h"
#include "tests/sim/env_sim.h"

#include <errno.h>

static struct mount *mount;
static struct sim *sim;

static int setup(void **state)
{
    (void)state;
    sim = sim_new(1);
    mount = mem_zalloc(sizeof(*mount));
    mount->env = sim_env(sim, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    map_deinit(&mount->inodes);
    mem_free(mount);
    sim_free(sim);
    return 0;
}

static struct inode *make(uint64_t ino)
{
    struct inode *inode = inode_make(mount, ino);

    inode->attr.nlink = 1;
    return inode;
}

static void test_forgotten_when_unused(void **state)
{
    struct inode *inode = make(7);

    (void)state;
    inode->lookups = 1;
    inode_release(mount, inode);
    assert_ptr_equal(inode_find(mount, 7), inode);
    inode->lookups = 0;
    inode_release(mount, inode);
    assert_null(inode_find(mount, 7));
}

/* The kernel has forgotten a file whose data was lost: whoever syncs it next is told. */
static void test_kept_while_it_owes_an_error(void **state)
{
    struct inode *inode = make(8);

    (void)state;
    inode->write_error = -ENOSPC;
    inode_release(mount, inode);
    assert_ptr_equal(inode_find(mount, 8), inode);
    inode->write_error = 0; /* told */
    inode_release(mount, inode);
    assert_null(inode_find(mount, 8));
}

/* It has no name: nobody can open it and ask. */
static void test_an_unlinked_file_owes_nothing(void **state)
{
    struct inode *inode = make(9);

    (void)state;
    inode->write_error = -ENOSPC;
    inode->attr.nlink = 0;
    inode_release(mount, inode);
    assert_null(inode_find(mount, 9));
}

/* The service no longer has it: there is nothing to ask for any more. */
static void test_a_file_that_is_gone_owes_nothing(void **state)
{
    struct inode *inode = make(10);

    (void)state;
    inode->write_error = -ESTALE;
    inode->gone = true;
    inode_release(mount, inode);
    assert_null(inode_find(mount, 10));
}

/* Who has found its name has a while to open it, also when it was replaced; not when it was removed
 * before it was listed. */
static void test_found_and_then_opened(void **state)
{
    struct inode *inode = make(11);

    (void)state;
    inode->attr.ino = 11;
    assert_false(inode_may_be_opened(mount, inode));
    inode_ref(mount, inode);
    assert_true(inode_may_be_opened(mount, inode));
    inode->found_until_ns = 0;
    assert_false(inode_may_be_opened(mount, inode));
    inode->attr.nlink = 0;
    inode_ref(mount, inode);
    assert_false(inode_may_be_opened(mount, inode));
    mount->renaming = 1;
    assert_true(inode_may_be_opened(mount, inode));
    mount->renaming = 0;
    inode->lookups = 0;
    inode_release(mount, inode);
}

/* What nobody can read any more is not written. */
static void test_unreachable_data_is_dropped(void **state)
{
    struct inode *inode = make(12);

    (void)state;
    inode->attr.ino = 12;
    inode->attr.nlink = 0;
    inode->lookups = 1;
    dirty_write(&inode->dirty, 0, slice_text("x"));
    mount->dirty_bytes = inode->dirty.bytes;
    inode_release(mount, inode);
    assert_ptr_equal(inode_find(mount, 12), inode);
    inode->lookups = 0;
    inode_release(mount, inode);
    assert_null(inode_find(mount, 12));
    assert_int_equal(mount->dirty_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_forgotten_when_unused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kept_while_it_owes_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_unlinked_file_owes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_that_is_gone_owes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_found_and_then_opened, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreachable_data_is_dropped, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
