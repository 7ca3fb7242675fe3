#pragma once
/*
 * metrics: one table line per figure gives the struct, and the text that monitoring reads. Plain
 * integers of the loop's thread: counting is an increment.
 *
 *     #define STORE_METRICS(X, V)         kind, name, help
 *         X(counter, puts, "chunks put")
 *         X(gauge, queue_bytes, "of puts not durable yet")
 *         X(histogram, put_seconds, "from request to reply")
 *         V(counter, requests, OPS, "op", op_name, "requests by kind")   an array, by label
 *     METRICS_DEFINE(store_metrics, STORE_METRICS);              in the header
 *     METRICS_IMPLEMENT(store_metrics, "store", STORE_METRICS)   in one .c file
 *
 *     metrics.puts++;
 *     metrics_observe(&metrics.put_seconds, env_now(env) - started);
 *     metrics_text(store_metrics_table(), &metrics, &out);
 *
 * A histogram is of times, observed in ns and shown in seconds. Array members that were never
 * counted are not shown.
 */
#include "base/buf.h"

/* Bucket i counts what took less than 2^i us (and not less than the one before): up to 67 s. */
#define METRICS_BUCKETS 27

struct metrics_histogram {
    uint64_t count;
    uint64_t sum;  /* ns */
    uint64_t slow; /* above the last bucket */
    uint64_t buckets[METRICS_BUCKETS];
};

static inline void metrics_observe(struct metrics_histogram *histogram, uint64_t ns)
{
    uint64_t us = ns / NS_PER_US;
    unsigned bucket = us == 0 ? 0 : 64 - (unsigned)__builtin_clzll(us);

    histogram->count++;
    histogram->sum += ns;
    if (bucket < METRICS_BUCKETS) {
        histogram->buckets[bucket]++;
    } else {
        histogram->slow++;
    }
}

/* The upper end, in ns, of the bucket in which the given part of all lies; 0 when there are none,
 * UINT64_MAX above the last bucket. */
uint64_t metrics_percentile(const struct metrics_histogram *histogram, unsigned percent);

enum metrics_kind { METRICS_counter, METRICS_gauge, METRICS_histogram };

struct metrics_row {
    const char *name;
    const char *help;
    enum metrics_kind kind;
    unsigned offset; /* in the struct */
    unsigned count;  /* 1, or of the array */
    const char *label;
    const char *(*label_value)(unsigned at);
};

struct metrics_table {
    const char *prefix; /* behind "keelfs_" */
    const struct metrics_row *rows;
    unsigned count;
};

/* The text that Prometheus scrapes (exposition format 0.0.4). */
void metrics_text(const struct metrics_table *table, const void *values, struct buf *out);
/* One JSON object: numbers; arrays as objects by label; of a histogram count, seconds, p50, p99. */
void metrics_json(const struct metrics_table *table, const void *values, struct buf *out);

#define METRICS_TYPE_counter                              uint64_t
#define METRICS_TYPE_gauge                                uint64_t
#define METRICS_TYPE_histogram                            struct metrics_histogram

#define METRICS_MEMBER(kind, name, help)                  METRICS_TYPE_##kind name;
#define METRICS_ARRAY(kind, name, count, label, fn, help) METRICS_TYPE_##kind name[count];
#define METRICS_ROW(kind_, name_, help_)                                                           \
    {#name_, help_, METRICS_##kind_, offsetof(metrics_owner, name_), 1, NULL, NULL},
#define METRICS_ARRAY_ROW(kind_, name_, count_, label_, fn_, help_)                                \
    {#name_, help_, METRICS_##kind_, offsetof(metrics_owner, name_), count_, label_, fn_},

#define METRICS_DEFINE(name, TABLE)                                                                \
    struct name {                                                                                  \
        TABLE(METRICS_MEMBER, METRICS_ARRAY)                                                       \
    };                                                                                             \
    const struct metrics_table *name##_table(void)

#define METRICS_IMPLEMENT(name, prefix_, TABLE)                                                    \
    const struct metrics_table *name##_table(void)                                                 \
    {                                                                                              \
        typedef struct name metrics_owner;                                                         \
        static const struct metrics_row rows[] = {TABLE(METRICS_ROW, METRICS_ARRAY_ROW)};          \
        static const struct metrics_table table = {prefix_, rows, ARRAY_SIZE(rows)};               \
        return &table;                                                                             \
    }
