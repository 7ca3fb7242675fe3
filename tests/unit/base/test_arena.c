#include "tests/lib/test.h"

#include "base/arena.h"
#include "base/rng.h"

#define PIECES 3000

/* Pieces of all sizes are aligned, do not overlap, and hold what was put there. */
static void test_pieces(void **state)
{
    struct arena arena = {0};
    struct rng rng;

    (void)state;
    rng_init(&rng, test_seed(3));
    for (unsigned round = 0; round < 20; round++) {
        static struct slice pieces[PIECES];

        for (unsigned i = 0; i < PIECES; i++) {
            size_t size = rng_below(&rng, rng_percent(&rng, 1) ? 4 * ARENA_BLOCK_BYTES : 200);
            uint8_t *at = arena_alloc(&arena, size);

            assert_int_equal((uintptr_t)at % _Alignof(max_align_t), 0);
            memset(at, (int)(i % 251), size);
            pieces[i] = slice_make(at, size);
        }
        for (unsigned i = 0; i < PIECES; i++) {
            for (size_t k = 0; k < pieces[i].size; k++) {
                assert_int_equal(pieces[i].data[k], i % 251);
            }
        }
        arena_reset(&arena);
    }
    arena_deinit(&arena);
}

static void test_copy(void **state)
{
    struct arena arena = {0};
    char text[] = "four";
    struct slice copy, empty;

    (void)state;
    copy = arena_copy(&arena, slice_text(text));
    empty = arena_copy(&arena, (struct slice){0});
    text[0] = 'p';
    assert_true(slice_equal(copy, slice_text("four")));
    assert_int_equal(empty.size, 0);
    arena_deinit(&arena);
    arena_reset(&arena); /* an empty one, as a zeroed one is */
    arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
