/* When does the mount forget an inode? */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "fs/mount.h"

#include <errno.h>

static struct mount *mount;

static int setup(void **state)
{
    (void)state;
    mount = mem_zalloc(sizeof(*mount));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    map_deinit(&mount->inodes);
    mem_free(mount);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_forgotten_when_unused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kept_while_it_owes_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_unlinked_file_owes_nothing, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
