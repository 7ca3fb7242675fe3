/* Allocation and copies in the namespace: space that is shared, and what one log entry may do. */
#include "tests/unit/meta/ns_fixture.h"

#include "meta/limits.h"

#define PIECES 5000 /* more than two steps */

/* Proposed together, each with the space that was free before all of them. */
static void test_reservations_share_space(void **state)
{
    struct meta_request allocate = {
        .op = META_FALLOCATE, .size = MiB(600), .stamp_space = GiB(1) + 1};
    struct fixture f;

    (void)state;
    setup(&f);
    for (unsigned i = 0; i < 2; i++) {
        char name[] = {'a', (char)('0' + i), '\0'};

        assert_int_equal(make(&f, META_CREATE, name, 0644, &allocate.ino), 0);
        assert_int_equal(apply(&f, allocate), i == 0 ? 0 : -ENOSPC);
    }
    assert_int_equal(f.ns.volume.reserved_bytes, MiB(600));
    teardown(&f);
}

/* A file of PIECES extents of 4 KiB, one in two blocks. */
static uint64_t make_fragmented(struct fixture *f, const char *name)
{
    uint64_t ino;

    assert_int_equal(make(f, META_CREATE, name, 0644, &ino), 0);
    for (uint64_t i = 0; i < PIECES;) {
        cleanup(buf_deinit) struct buf extents = {0};
        cleanup(buf_deinit) struct buf one = {0};
        cleanup(buf_deinit) struct buf all = {0};

        for (unsigned k = 0; k < 1000 && i < PIECES; k++, i++) {
            cleanup(buf_deinit) struct buf extent = {0};

            meta_extent_encode(&(struct meta_extent){.offset = 8192 * i,
                                                     .length = 4096,
                                                     .chunk_session = f->session,
                                                     .chunk_seq = i + 1},
                               &extent);
            schema_write_bytes(&extents, buf_slice(&extent));
        }
        meta_commit_encode(&(struct meta_commit){.ino = ino, .extents = buf_slice(&extents)}, &one);
        schema_write_bytes(&all, buf_slice(&one));
        assert_int_equal(
            apply(f, (struct meta_request){.op = META_COMMIT, .data = buf_slice(&all)}), 0);
    }
    return ino;
}

/* From the beginning to the end, step by step, as a client does. Returns how many it took. */
static unsigned allocate_all(struct fixture *f, uint64_t ino, uint32_t mode)
{
    uint64_t end = 8192 * (uint64_t)PIECES, at = 0;
    unsigned steps = 0;

    while (at < end) {
        assert_int_equal(apply(f, (struct meta_request){.op = META_FALLOCATE,
                                                        .ino = ino,
                                                        .mode = mode,
                                                        .offset = at,
                                                        .size = end - at}),
                         0);
        assert_true(f->reply->value > at);
        at = f->reply->value;
        steps++;
    }
    return steps;
}

static void test_fallocate_in_steps(void **state)
{
    struct fixture f;
    uint64_t ino;

    (void)state;
    setup(&f);
    ino = make_fragmented(&f, "f");
    assert_int_equal(allocate_all(&f, ino, 0), 3);
    assert_int_equal(f.ns.volume.reserved_bytes, 4096 * (uint64_t)PIECES);
    assert_int_equal(allocate_all(&f, ino, 0), 3); /* nothing to do, but much to walk over */
    assert_int_equal(f.ns.volume.reserved_bytes, 4096 * (uint64_t)PIECES);
    assert_int_equal(allocate_all(&f, ino, META_ALLOCATE_PUNCH | META_ALLOCATE_KEEP_SIZE), 3);
    assert_int_equal(f.ns.volume.reserved_bytes, 0);
    assert_int_equal(f.ns.volume.used_bytes, 0);
    teardown(&f);
}

/* What a copy replaces is bounded, too. */
static void test_copy_in_steps(void **state)
{
    uint64_t end = 8192 * (uint64_t)PIECES, at = 0;
    uint64_t from, to;
    unsigned steps = 0;
    struct fixture f;

    (void)state;
    setup(&f);
    to = make_fragmented(&f, "to");
    assert_int_equal(make(&f, META_CREATE, "from", 0644, &from), 0);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETATTR,
                                                     .ino = from,
                                                     .valid = META_SET_SIZE,
                                                     .size = end}),
                     0);
    while (at < end) {
        assert_int_equal(apply(&f, (struct meta_request){.op = META_COPY_RANGE,
                                                         .ino = from,
                                                         .offset = at,
                                                         .ino2 = to,
                                                         .offset2 = at,
                                                         .size = end - at}),
                         0);
        assert_int_not_equal(f.reply->value, 0);
        at += f.reply->value;
        steps++;
    }
    assert_int_equal(steps, 3);
    assert_int_equal(f.ns.volume.used_bytes, 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reservations_share_space),
        cmocka_unit_test(test_fallocate_in_steps),
        cmocka_unit_test(test_copy_in_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
