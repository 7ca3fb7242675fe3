#include "tests/lib/test.h"

#include "base/config.h"

#include <errno.h>

#define SAMPLE(X)                                                                                  \
    X(uint32_t, wait_ms, 500, 10, 60000, "wait so long")                                           \
    X(uint64_t, cache_bytes, MiB(8), KiB(64), GiB(4), "keep so much")                              \
    X(uint64_t, scrub_bytes_second, 0, 0, UINT64_MAX, "0 = not at all")

CONFIG_DEFINE(sample, SAMPLE);
CONFIG_IMPLEMENT(sample, "sample", SAMPLE)

static void test_defaults(void **state)
{
    struct sample sample = sample_defaults();

    (void)state;
    assert_int_equal(sample.wait_ms, 500);
    assert_int_equal(sample.cache_bytes, MiB(8));
    assert_int_equal(sample.scrub_bytes_second, 0);
}

static void test_texts(void **state)
{
    static const struct {
        const char *key, *text;
        int result;
        uint64_t value;
    } cases[] = {
        {"wait_ms", "10", 0, 10},
        {"wait_ms", "60000", 0, 60000},
        {"wait_ms", "9", -ERANGE, 0},
        {"wait_ms", "60001", -ERANGE, 0},
        {"wait_ms", "4294967306", -ERANGE, 0}, /* 10, if it were cut to 32 bits */
        {"wait_ms", "1K", -EINVAL, 0},         /* only bytes have units */
        {"wait_ms", "", -EINVAL, 0},
        {"wait_ms", "-20", -EINVAL, 0},
        {"wait_ms", " 20", -EINVAL, 0},
        {"wait_ms", "20 s", -EINVAL, 0},
        {"wait_m", "20", -ENOENT, 0},
        {"wait_ms2", "20", -ENOENT, 0},
        {"cache_bytes", "65536", 0, 65536},
        {"cache_bytes", "64K", 0, 65536},
        {"cache_bytes", "63K", -ERANGE, 0},
        {"cache_bytes", "2M", 0, MiB(2)},
        {"cache_bytes", "4G", 0, GiB(4)},
        {"cache_bytes", "5G", -ERANGE, 0},
        {"cache_bytes", "1MB", -EINVAL, 0},
        {"cache_bytes", "17179869185G", -ERANGE, 0}, /* 1 GiB, if the shift wrapped */
        {"scrub_bytes_second", "99999999999999999999", -EINVAL, 0},
        {"scrub_bytes_second", "3M", 0, MiB(3)},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct sample sample = sample_defaults(), before = sample;
        const struct config_row *row =
            config_find(sample_table(), cases[i].key, strlen(cases[i].key));
        cleanup(buf_deinit) struct buf why = {0};
        int r = config_set(sample_table(), &sample, cases[i].key, cases[i].text, &why);

        assert_int_equal(r, cases[i].result);
        assert_int_equal(why.size == 0, r == 0);
        if (r == 0) {
            assert_int_equal(config_get(row, &sample), cases[i].value);
        } else {
            assert_memory_equal(&sample, &before, sizeof(sample));
        }
    }
}

static void assert_text(struct buf *text, const char *wanted)
{
    buf_append(text, "", 1);
    assert_string_equal((const char *)text->data, wanted);
    buf_clear(text);
}

/* What an operator reads names section, key, and what would be right. */
static void test_complaints(void **state)
{
    cleanup(buf_deinit) struct buf why = {0};
    struct sample sample = sample_defaults();

    (void)state;
    assert_int_equal(config_set(sample_table(), &sample, "cache_bytes", "1K", &why), -ERANGE);
    assert_text(&why, "[sample] cache_bytes '1K' is not in 64K..4G");
    assert_int_equal(config_set(sample_table(), &sample, "wait_ms", "soon", &why), -EINVAL);
    assert_text(&why, "[sample] wait_ms 'soon' is not a number in 10..60000");
    assert_int_equal(config_set(sample_table(), &sample, "weight", "1", &why), -ENOENT);
    assert_text(&why, "unknown key 'weight' in [sample]; known: wait_ms cache_bytes "
                      "scrub_bytes_second");
}

static void test_printing(void **state)
{
    cleanup(buf_deinit) struct buf text = {0};
    struct sample sample = sample_defaults();

    (void)state;
    sample.wait_ms = 1024;
    config_print(sample_table(), &sample, &text);
    assert_text(&text, "wait_ms = 1024\ncache_bytes = 8M\nscrub_bytes_second = 0\n");
    config_help(sample_table(), &text);
    buf_append(&text, "", 1);
    assert_non_null(strstr((const char *)text.data, "cache_bytes                    8M  64K..4G"));
    assert_non_null(strstr((const char *)text.data, "0 = not at all\n"));
}

/* Random values are in range, differ from seed to seed, and are the same for one seed. */
static void test_random(void **state)
{
    uint64_t seed = test_seed(1);
    unsigned changed = 0;

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        struct sample sample = sample_defaults(), again = sample;
        struct rng rng, rng2;

        rng_init(&rng, seed + i);
        rng_init(&rng2, seed + i);
        config_random(sample_table(), &sample, &rng);
        config_random(sample_table(), &again, &rng2);
        assert_memory_equal(&sample, &again, sizeof(sample));
        assert_in_range(sample.wait_ms, 10, 60000);
        assert_in_range(sample.wait_ms, 500 / 64, 500 * 8);
        assert_in_range(sample.cache_bytes, MiB(8) / 64, MiB(8));
        assert_in_range(sample.scrub_bytes_second, 0, 1);
        changed += sample.cache_bytes != MiB(8);
    }
    assert_in_range(changed, 700, 1200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),   cmocka_unit_test(test_texts),
        cmocka_unit_test(test_complaints), cmocka_unit_test(test_printing),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
