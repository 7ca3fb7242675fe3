/* Flush rounds of mounts before a metadata service of three, in the simulator: commits whose answer
 * is lost, commits that come late, files that are gone. All files are small: no chunk is written.
 */
#include "tests/lib/meta_world.h"

#include "base/mem.h"
#include "fs/call.h"
#include "fs/flush_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define MOUNTS      META_WORLD_CLIENTS
#define FIRST_MOUNT META_WORLD_SERVERS /* its node */
#define PROGRAMS    64                 /* calls of one test */
#define WHOLE       64                 /* more bytes than any file has */
#define SESSION_NS  (META_LEASE_NS + META_LEASE_GRACE_NS + NS_PER_S) /* it has expired for sure */

struct client {
    struct mount mount;
    bool ready, closed;
};

static struct client *clients[MOUNTS];

static struct program {
    struct fs_call call;
    char read[WHOLE + 1];
    bool done;
} programs[PROGRAMS]; /* not on a stack: a test that fails leaves calls behind */
static unsigned program_count;

/* ---- mounts ---- */

static void on_ready(struct mount *mount, int status)
{
    assert_int_equal(status, 0);
    ((struct client *)mount->data)->ready = true;
}

static void on_closed(struct mount *mount)
{
    ((struct client *)mount->data)->closed = true;
}

static void start_mount(void *data)
{
    static const char *const addresses[] = {"unix:meta0", "unix:meta1", "unix:meta2"};
    unsigned i = (unsigned)(uintptr_t)data;
    struct mount_config config = {
        .identity = {.cluster_uuid = "0123456789abcde", .role = RPC_ROLE_CLIENT},
        .meta_addresses = addresses,
        .meta_address_count = META_WORLD_SERVERS,
        .write_quorum = 2};

    clients[i] = mem_zalloc(sizeof(struct client));
    clients[i]->mount.ready = on_ready;
    clients[i]->mount.closed = on_closed;
    clients[i]->mount.data = clients[i];
    mount_start(&clients[i]->mount, sim_env(meta_world.sim, FIRST_MOUNT + i), &config);
}

static void close_mount(void *data)
{
    mount_close(&((struct client *)data)->mount);
}

static void wait_for(const bool *flag)
{
    uint64_t limit = sim_now(meta_world.sim) + META_WORLD_LIMIT;

    while (!*flag && sim_now(meta_world.sim) < limit) {
        meta_world_run(NS_PER_MS);
    }
    assert_true(*flag);
}

/* One event, and none too late. */
static void step(uint64_t limit)
{
    assert_true(sim_step(meta_world.sim));
    assert_true(sim_now(meta_world.sim) < limit);
}

static void mount_up(unsigned i)
{
    assert_true(sim_call(meta_world.sim, FIRST_MOUNT + i, start_mount, (void *)(uintptr_t)i));
    wait_for(&clients[i]->ready);
}

static int setup(void **state)
{
    (void)state;
    program_count = 0;
    meta_world_start(1, 0);
    mount_up(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sim_heal(meta_world.sim);
    for (unsigned i = 0; i < MOUNTS; i++) {
        if (clients[i] != NULL) {
            sim_call(meta_world.sim, FIRST_MOUNT + i, close_mount, clients[i]);
            wait_for(&clients[i]->closed);
            mem_free(clients[i]);
            clients[i] = NULL;
        }
    }
    meta_world_stop();
    return 0;
}

/* ---- the network ---- */

static void cut(unsigned mount, bool questions, bool answers)
{
    for (unsigned i = 0; i < META_WORLD_SERVERS; i++) {
        sim_cut(meta_world.sim, FIRST_MOUNT + mount, i, questions);
        sim_cut(meta_world.sim, i, FIRST_MOUNT + mount, answers);
    }
}

static void lose_session(unsigned mount)
{
    cut(mount, /* questions= */ true, /* answers= */ true);
    meta_world_run(SESSION_NS);
    assert_int_equal(clients[mount]->mount.meta.sessions_lost, 0); /* not heard of yet */
}

/* ---- programs ---- */

static void on_done(struct fs_call *call)
{
    struct program *program = container_of(call, struct program, call);

    assert_false(program->done);
    program->done = true;
    if (call->op == FS_READ && call->error == 0) {
        assert_true(call->out.size < sizeof(program->read));
        memcpy(program->read, call->out.data, call->out.size);
    }
}

static void start_call(void *data)
{
    fs_call_start(&((struct program *)data)->call);
}

static struct program *begin(unsigned mount, struct fs_call call)
{
    struct program *program = &programs[program_count++];

    assert_true(program_count <= PROGRAMS);
    *program = (struct program){.call = call};
    program->call.mount = &clients[mount]->mount;
    program->call.done = on_done;
    assert_true(sim_call(meta_world.sim, FIRST_MOUNT + mount, start_call, program));
    return program;
}

static int finish(const struct program *program)
{
    wait_for(&program->done);
    return program->call.error;
}

static int run(unsigned mount, struct fs_call call)
{
    return finish(begin(mount, call));
}

static struct fs_call fsync_of(uint64_t ino)
{
    return (struct fs_call){.op = FS_FSYNC, .ino = ino};
}

static struct fs_call write_of(uint64_t ino, uint64_t offset, const char *text)
{
    return (struct fs_call){.op = FS_WRITE, .ino = ino, .offset = offset, .data = slice_text(text)};
}

static struct fs_call append_of(uint64_t ino, const char *text)
{
    return (struct fs_call){.op = FS_WRITE, .ino = ino, .append = true, .data = slice_text(text)};
}

static uint64_t make(unsigned mount, uint64_t dir, enum fs_op op, const char *name)
{
    const struct program *program =
        begin(mount, (struct fs_call){.op = op,
                                      .ino = dir,
                                      .name = slice_text(name),
                                      .mode = op == FS_CREATE ? 0644 : 0755,
                                      .open_flags = O_RDWR});

    assert_int_equal(finish(program), 0);
    return program->call.attr.ino;
}

static uint64_t make_file(unsigned mount)
{
    return make(mount, META_ROOT_INO, FS_CREATE, "file");
}

static int open_file(unsigned mount, uint64_t ino)
{
    return run(mount, (struct fs_call){.op = FS_OPEN, .ino = ino, .open_flags = O_RDWR});
}

/* What the second mount reads once it has opened the file. */
static void assert_file_is(uint64_t ino, const char *text)
{
    const struct program *program;

    if (clients[1] == NULL) {
        mount_up(1);
    }
    assert_int_equal(open_file(1, ino), 0);
    program = begin(1, (struct fs_call){.op = FS_READ, .ino = ino, .size = WHOLE});
    assert_int_equal(finish(program), 0);
    assert_string_equal(program->read, text);
}

/* ---- rounds ---- */

static const struct flush_round *round_of(unsigned mount)
{
    struct list_node *node = list_first(&clients[mount]->mount.round_list);

    return node != NULL ? container_of(node, struct flush_round, node) : NULL;
}

static bool is_commit_sent(unsigned mount)
{
    const struct flush_round *round = round_of(mount);

    return round != NULL && round->commit.done != NULL && !round->committed;
}

/* An fsync begins; returns as soon as the commit that it waits for is on its way. */
static const struct program *send_commit(unsigned mount, uint64_t ino)
{
    uint64_t limit = sim_now(meta_world.sim) + META_WORLD_LIMIT;
    const struct program *program = begin(mount, fsync_of(ino));

    while (!is_commit_sent(mount)) {
        assert_false(program->done);
        step(limit);
    }
    return program;
}

static void wait_until_alone(void)
{
    const struct meta_client *meta = &clients[0]->mount.meta;
    uint64_t limit = sim_now(meta_world.sim) + META_WORLD_LIMIT;

    while (!meta->alone || meta->alone_until_ns < sim_now(meta_world.sim) + 2 * NS_PER_S) {
        step(limit);
    }
}

/* ---- an append whose commit has no answer ---- */

/* The commit of "two" is sent; then the session is lost. Returns the file. */
static uint64_t append_without_answer(bool shared, bool arrives)
{
    const struct program *program;
    uint64_t ino;

    if (shared) {
        mount_up(1);
    } else {
        wait_until_alone();
    }
    ino = make_file(0);
    assert_int_equal(run(0, append_of(ino, "one ")), 0);
    assert_int_equal(run(0, fsync_of(ino)), 0);
    assert_int_equal(run(0, append_of(ino, "two ")), 0);
    program = send_commit(0, ino);
    cut(0, !arrives, /* answers= */ true);
    meta_world_run(NS_PER_S);
    assert_true(is_commit_sent(0));
    lose_session(0);
    cut(0, false, false);
    assert_int_equal(finish(program), 0);
    assert_int_equal(clients[0]->mount.meta.sessions_lost, 1);
    return ino;
}

/* It was made: a second time it would go behind itself. */
static void test_an_append_that_was_made_is_not_made_again(void **state)
{
    (void)state;
    assert_file_is(append_without_answer(/* shared= */ true, /* arrives= */ true), "one two ");
}

static void test_nor_one_that_was_made_while_alone(void **state)
{
    (void)state;
    assert_file_is(append_without_answer(/* shared= */ false, /* arrives= */ true), "one two ");
}

static void test_an_append_that_was_not_made_is_made(void **state)
{
    (void)state;
    assert_file_is(append_without_answer(/* shared= */ true, /* arrives= */ false), "one two ");
}

/* ---- a commit that comes late ---- */

/* The first mount is alone and commits `last`; that arrives when it is not alone any more, the
 * second one has written behind what there was, and the session of the first still lives. */
static uint64_t commit_late(struct fs_call last)
{
    const struct program *program;
    uint64_t ino;

    wait_until_alone();
    ino = last.ino = make_file(0);
    assert_int_equal(run(0, write_of(ino, 0, "mine ")), 0);
    assert_int_equal(run(0, fsync_of(ino)), 0);
    wait_until_alone();
    cut(0, /* questions= */ true, /* answers= */ true);
    assert_int_equal(run(0, last), 0);
    program = send_commit(0, ino);
    mount_up(1);
    assert_int_equal(open_file(1, ino), 0);
    assert_int_equal(run(1, write_of(ino, 5, "theirs ")), 0);
    assert_int_equal(run(1, fsync_of(ino)), 0);
    assert_true(is_commit_sent(0));
    cut(0, false, false);
    assert_int_equal(finish(program), 0);
    assert_int_equal(clients[0]->mount.meta.sessions_lost, 0);
    return ino;
}

/* The commit of a small file carries all of it: without what the other has written. */
static void test_a_late_commit_undoes_nothing(void **state)
{
    (void)state;
    assert_file_is(commit_late(write_of(0, 0, "MINE")), "MINE theirs ");
}

static void test_a_late_append_goes_behind_what_came(void **state)
{
    (void)state;
    assert_file_is(commit_late(append_of(0, "late ")), "mine theirs late ");
}

/* ---- files that are gone ---- */

static void assert_gone(uint64_t ino)
{
    static const enum fs_op ops[] = {FS_FSYNC, FS_READ, FS_WRITE, FS_FALLOCATE, FS_FSYNC};

    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        struct fs_call call = {
            .op = ops[i], .ino = ino, .size = 1, .append = i % 2 == 0, .data = slice_text("x")};

        assert_int_equal(run(0, call), ESTALE);
    }
    assert_int_equal(clients[0]->mount.dirty_bytes, 0);
}

/* While the first mount, which has the file open and written to, is cut off and its session ends,
 * the second removes it. */
static uint64_t written_and_removed(void)
{
    uint64_t ino;

    mount_up(1);
    ino = make_file(0);
    assert_int_equal(run(0, write_of(ino, 0, "there")), 0);
    assert_int_equal(run(0, fsync_of(ino)), 0);
    cut(0, true, true);
    assert_int_equal(run(0, write_of(ino, 0, "lost")), 0);
    lose_session(0);
    assert_int_equal(
        run(1, (struct fs_call){.op = FS_UNLINK, .ino = META_ROOT_INO, .name = slice_text("file")}),
        0);
    meta_world_run(NS_PER_S); /* nobody answers for it */
    assert_int_equal(open_file(1, ino), ESTALE);
    return ino;
}

static void test_fsync_of_a_file_that_was_removed(void **state)
{
    const struct program *program;
    uint64_t ino = written_and_removed();

    (void)state;
    program = begin(0, fsync_of(ino));
    cut(0, false, false);
    assert_int_equal(finish(program), ESTALE);
    assert_gone(ino);
}

/* The round was nobody's: who closes the file is told. */
static void test_close_of_a_file_that_was_removed(void **state)
{
    uint64_t ino = written_and_removed();
    uint64_t limit = sim_now(meta_world.sim) + META_WORLD_LIMIT;

    (void)state;
    cut(0, false, false);
    while (inode_pending(inode_find(&clients[0]->mount, ino))) {
        step(limit);
    }
    assert_int_equal(run(0, (struct fs_call){.op = FS_FLUSH, .ino = ino}), ESTALE);
    assert_gone(ino);
    assert_int_equal(run(0, (struct fs_call){.op = FS_RELEASE, .ino = ino, .open_flags = O_RDWR}),
                     0);
}

/* What a mount that is alone has made is its own promise: the service never had it. */
static void test_a_file_that_went_with_its_session(void **state)
{
    const struct program *program;
    uint64_t dir, ino;

    (void)state;
    wait_until_alone();
    dir = make(0, META_ROOT_INO, FS_MKDIR, "dir");
    (void)make(0, dir, FS_CREATE, "before"); /* asks for inode numbers, too */
    assert_int_equal(run(0, (struct fs_call){.op = FS_GETATTR, .ino = dir}), 0);
    wait_until_alone();
    cut(0, true, true);
    ino = make(0, dir, FS_CREATE, "file");
    assert_int_equal(clients[0]->mount.local.in_flight, 1);
    assert_int_equal(run(0, write_of(ino, 0, "lost")), 0);
    program = begin(0, fsync_of(ino));
    lose_session(0);
    assert_false(program->done);
    cut(0, false, false);
    assert_int_equal(finish(program), ESTALE);
    assert_gone(ino);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_append_that_was_made_is_not_made_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_nor_one_that_was_made_while_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_append_that_was_not_made_is_made, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_late_commit_undoes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_late_append_goes_behind_what_came, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fsync_of_a_file_that_was_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_of_a_file_that_was_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_that_went_with_its_session, setup, teardown),
    };

    meta_world.settings = meta_world_settings();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
