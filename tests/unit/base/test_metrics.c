#include "tests/lib/test.h"

#include "base/metrics.h"

static const char *fruit(unsigned at)
{
    static const char *const names[] = {"apple", "pear", "plum"};

    return names[at];
}

#define SAMPLE(X, V)                                                                               \
    X(counter, puts, "chunks put")                                                                 \
    X(gauge, queue_bytes, "of puts")                                                               \
    V(counter, eaten, 3, "fruit", fruit, "fruits")                                                 \
    X(histogram, put_seconds, "put")                                                               \
    V(histogram, bite_seconds, 3, "fruit", fruit, "bites")

METRICS_DEFINE(sample, SAMPLE);
METRICS_IMPLEMENT(sample, "store", SAMPLE)

static void test_buckets(void **state)
{
    static const struct {
        uint64_t ns;
        unsigned bucket;
    } cases[] = {
        {0, 0},    {999, 0},  {1000, 1}, /* 1 us is not less than 2^0 us */
        {1999, 1}, {2000, 2}, {3999, 2}, {NS_PER_MS, 10}, {NS_PER_S, 20}, {67 * NS_PER_S, 26},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct metrics_histogram histogram = {0};

        metrics_observe(&histogram, cases[i].ns);
        assert_int_equal(histogram.buckets[cases[i].bucket], 1);
        assert_int_equal(histogram.sum, cases[i].ns);
        assert_true(metrics_percentile(&histogram, 50) > cases[i].ns);
        assert_int_equal(histogram.slow, 0);
    }
}

static void test_percentiles(void **state)
{
    struct metrics_histogram histogram = {0};

    (void)state;
    assert_int_equal(metrics_percentile(&histogram, 99), 0);
    for (unsigned i = 0; i < 98; i++) {
        metrics_observe(&histogram, 500);
    }
    metrics_observe(&histogram, 3 * NS_PER_US);
    metrics_observe(&histogram, 1000 * NS_PER_S);
    assert_int_equal(metrics_percentile(&histogram, 50), NS_PER_US);
    assert_int_equal(metrics_percentile(&histogram, 98), NS_PER_US);
    assert_int_equal(metrics_percentile(&histogram, 99), 4 * NS_PER_US);
    assert_int_equal(metrics_percentile(&histogram, 100), UINT64_MAX);
    assert_int_equal(histogram.slow, 1);
}

static struct sample some(void)
{
    struct sample sample = {.puts = 7, .queue_bytes = 9};

    sample.eaten[1] = 3;
    metrics_observe(&sample.put_seconds, 1500);
    metrics_observe(&sample.put_seconds, 100 * NS_PER_S);
    metrics_observe(&sample.bite_seconds[2], 100);
    return sample;
}

static void test_text(void **state)
{
    cleanup(buf_deinit) struct buf out = {0};
    struct sample sample = some();

    (void)state;
    metrics_text(sample_table(), &sample, &out);
    buf_append(&out, "", 1);
    assert_string_equal((const char *)out.data,
                        "# HELP keelfs_store_puts_total chunks put\n"
                        "# TYPE keelfs_store_puts_total counter\n"
                        "keelfs_store_puts_total 7\n"
                        "# HELP keelfs_store_queue_bytes of puts\n"
                        "# TYPE keelfs_store_queue_bytes gauge\n"
                        "keelfs_store_queue_bytes 9\n"
                        "# HELP keelfs_store_eaten_total fruits\n"
                        "# TYPE keelfs_store_eaten_total counter\n"
                        "keelfs_store_eaten_total{fruit=\"pear\"} 3\n"
                        "# HELP keelfs_store_put_seconds put\n"
                        "# TYPE keelfs_store_put_seconds histogram\n"
                        "keelfs_store_put_seconds_bucket{le=\"0.000001\"} 0\n"
                        "keelfs_store_put_seconds_bucket{le=\"0.000002\"} 1\n"
                        "keelfs_store_put_seconds_bucket{le=\"+Inf\"} 2\n"
                        "keelfs_store_put_seconds_sum 100.000001\n"
                        "keelfs_store_put_seconds_count 2\n"
                        "# HELP keelfs_store_bite_seconds bites\n"
                        "# TYPE keelfs_store_bite_seconds histogram\n"
                        "keelfs_store_bite_seconds_bucket{fruit=\"plum\",le=\"0.000001\"} 1\n"
                        "keelfs_store_bite_seconds_bucket{fruit=\"plum\",le=\"+Inf\"} 1\n"
                        "keelfs_store_bite_seconds_sum{fruit=\"plum\"} 0.000000\n"
                        "keelfs_store_bite_seconds_count{fruit=\"plum\"} 1\n");
}

static void test_json(void **state)
{
    cleanup(buf_deinit) struct buf out = {0};
    struct sample sample = some();

    (void)state;
    metrics_json(sample_table(), &sample, &out);
    buf_append(&out, "", 1);
    assert_string_equal((const char *)out.data,
                        "{\"puts\":7,\"queue_bytes\":9,\"eaten\":{\"pear\":3},"
                        "\"put_seconds\":{\"count\":2,\"seconds\":100.000001,\"p50\":0.000002,"
                        "\"p99\":null},\"bite_seconds\":{\"plum\":{\"count\":1,"
                        "\"seconds\":0.000000,\"p50\":0.000001,\"p99\":0.000001}}}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
