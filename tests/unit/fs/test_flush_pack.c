/* Where a round puts what was appended; who waits for it. */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "fs/call.h"
#include "fs/flush_internal.h"
#include "fs/local.h"
#include "tests/sim/env_sim.h"

static struct mount *mount;
static struct sim *sim;

static int setup(void **state)
{
    (void)state;
    sim = sim_new(1);
    mount = mem_zalloc(sizeof(*mount));
    mount->env = sim_env(sim, 0);
    flush_init(mount);
    local_init(mount);
    list_init(&mount->meta.queued);
    list_init(&mount->meta.mutations);
    list_init(&mount->meta.reads);
    mount->meta.env = mount->env;
    list_init(&mount->contents);
    mount->alone_epoch = 3;
    mount->meta.alone = true;
    mount->meta.alone_until_ns = UINT64_MAX;
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

/* Appended on a shared volume where the file ended then, at 200. Another mount has made the file
 * empty and has gone: LEARN tells us so, and that we are alone. */
static void test_append_behind_a_truncate_of_another_mount(void **state)
{
    struct inode *inode = inode_make(mount, 7);
    struct meta_attr attr = {.ino = 7, .mode = S_IFREG | 0644, .nlink = 1, .size = 0, .change = 12};
    struct flush_round round = {.mount = mount, .journal = true};
    struct round_inode entry = {.inode = inode, .round = &round, .learned = true};

    (void)state;
    inode->attr = (struct meta_attr){.ino = 7, .nlink = 1, .size = 200, .change = 10};
    inode->committed_size = 200;
    inode->lookups = 1;
    dirty_append(&inode->flushing, 200, slice_text("a line of a log"));
    inode_update(mount, inode, &attr, false);
    inode->contents = CONTENTS_EXTENTS;
    round_pack(&round, &entry);
    assert_true(entry.on_trust);
    assert_int_equal(inode->flushing.pieces[0]->offset, 0);
    buf_deinit(&entry.extents);
    dirty_deinit(&inode->flushing);
    inode->lookups = 0;
    inode_release(mount, inode);
}

static void on_done(struct fs_call *call)
{
    (void)call;
}

/* All rounds are busy (the session is gone). The truncate waits for what floats; then the file's
 * locks are lost, and what it waits for is dropped (lose_file). */
static void test_truncate_goes_on_when_nothing_is_dirty_any_more(void **state)
{
    struct inode *inode = inode_make(mount, 8);
    struct fs_call call = {.mount = mount,
                           .op = FS_SETATTR,
                           .ino = 8,
                           .valid = META_SET_SIZE,
                           .set = {.size = 150},
                           .done = on_done};

    (void)state;
    inode->attr = (struct meta_attr){.ino = 8, .nlink = 1, .mode = S_IFREG | 0644, .size = 200};
    inode->opens = 1;
    mount->settings.flush_rounds = 0;
    dirty_append(&inode->dirty, 100, slice_text("a line of a log"));
    flush_note(mount, inode);
    fs_call_start(&call);
    assert_false(list_empty(&inode->truncate_waiters));
    fs_call_drop_dirty(mount, inode);
    assert_int_equal(inode->dirty.count, 0);
    assert_true(list_empty(&inode->truncate_waiters));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_append_behind_a_truncate_of_another_mount, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_truncate_goes_on_when_nothing_is_dirty_any_more, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
