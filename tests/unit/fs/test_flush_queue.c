/* In which order files are flushed: who is waited for stands in line, and age joins the line. */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "fs/call.h"
#include "fs/flush.h"
#include "fs/mount.h"
#include "tests/sim/env_sim.h"

#define FILES 5

static struct sim *sim;
static struct mount *mount;
static struct inode *files[FILES];

static int setup(void **state)
{
    (void)state;
    sim = sim_new(1);
    mount = mem_zalloc(sizeof(*mount));
    mount->env = sim_env(sim, 0);
    mount->settings = mount_settings_defaults();
    mount->settings.flush_rounds = 0; /* nothing leaves the queue */
    mount->chunks.room = UINT64_MAX;
    flush_init(mount);
    list_init(&mount->contents);
    list_init(&mount->shutdown.waiters);
    for (unsigned i = 0; i < FILES; i++) {
        files[i] = inode_make(mount, 10 + i);
        files[i]->opens = 1;
        dirty_write(&files[i]->dirty, 0, slice_text("data"));
        mount->dirty_bytes += files[i]->dirty.bytes;
        flush_note(mount, files[i]);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    env_timer_stop(mount->env, &mount->flush_timer);
    for (unsigned i = 0; i < FILES; i++) {
        list_remove(&files[i]->flush_node);
        dirty_truncate(&files[i]->dirty, 0);
        files[i]->opens = 0;
        inode_release(mount, files[i]);
    }
    map_deinit(&mount->inodes);
    mem_free(mount);
    sim_free(sim);
    return 0;
}

static void expect(const struct list *queue, const char *order)
{
    list_for_each (node, queue) {
        const struct inode *inode = container_of(node, struct inode, flush_node);

        assert_int_equal(inode->ino - 10, *order - '0');
        order++;
    }
    assert_int_equal(*order, '\0');
}

static void test_first_come_first_served(void **state)
{
    (void)state;
    expect(&mount->flush_queue, "01234");
    flush_hurry(mount, files[3]);
    flush_hurry(mount, files[1]);
    flush_hurry(mount, files[3]); /* in line already */
    flush_hurry(mount, files[4]);
    expect(&mount->flush_hurried, "314");
    expect(&mount->flush_queue, "02");
}

static void test_age_joins_the_line(void **state)
{
    (void)state;
    flush_hurry(mount, files[2]);
    files[3]->dirty_since_ns = files[4]->dirty_since_ns =
        env_now(mount->env) + NS_PER_S * 10; /* younger */
    mount->flush_timer.fire(&mount->flush_timer);
    expect(&mount->flush_hurried, "2");
    sim_run(sim, env_now(mount->env) + 3 * NS_PER_S);
    expect(&mount->flush_hurried, "201");
    expect(&mount->flush_queue, "34");
    flush_hurry(mount, files[4]);
    expect(&mount->flush_hurried, "2014");
    expect(&mount->flush_queue, "3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_come_first_served, setup, teardown),
        cmocka_unit_test_setup_teardown(test_age_joins_the_line, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
