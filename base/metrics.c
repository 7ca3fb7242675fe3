#include "base/metrics.h"

#include "base/assert.h"

#include <inttypes.h>

static const struct metrics_histogram *histogram_at(const struct metrics_row *row,
                                                    const void *values, unsigned at)
{
    ASSERT(row->kind == METRICS_histogram && at < row->count);
    return (const struct metrics_histogram *)(const void *)((const char *)values + row->offset) +
           at;
}

static uint64_t number_at(const struct metrics_row *row, const void *values, unsigned at)
{
    if (row->kind == METRICS_histogram) {
        return histogram_at(row, values, at)->count;
    }
    return ((const uint64_t *)(const void *)((const char *)values + row->offset))[at];
}

static bool shown(const struct metrics_row *row, const void *values, unsigned at)
{
    return row->label == NULL || number_at(row, values, at) != 0;
}

static void print_seconds(struct buf *out, uint64_t ns)
{
    buf_printf(out, "%" PRIu64 ".%06" PRIu64, ns / NS_PER_S, ns % NS_PER_S / NS_PER_US);
}

static uint64_t bucket_end(unsigned bucket)
{
    return (UINT64_C(1) << bucket) * NS_PER_US;
}

uint64_t metrics_percentile(const struct metrics_histogram *histogram, unsigned percent)
{
    uint64_t wanted = (histogram->count * percent + 99) / 100;
    uint64_t seen = 0;

    if (histogram->count == 0) {
        return 0;
    }
    for (unsigned i = 0; i < METRICS_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= wanted) {
            return bucket_end(i);
        }
    }
    return UINT64_MAX;
}

/* ---- text ---- */

static const char *suffix(const struct metrics_row *row)
{
    return row->kind == METRICS_counter ? "_total" : "";
}

/* "keelfs_meta_op_seconds_bucket{op="CREATE",": what comes behind the name is the caller's. */
static void print_name(const struct metrics_table *table, const struct metrics_row *row,
                       const char *part, struct buf *out)
{
    buf_printf(out, "keelfs_%s_%s%s", table->prefix, row->name, part);
}

static void print_labels(const struct metrics_row *row, unsigned at, const char *le,
                         struct buf *out)
{
    if (row->label != NULL) {
        buf_printf(out, "{%s=\"%s\"%s%s%s}", row->label, row->label_value(at), le ? ",le=\"" : "",
                   le ? le : "", le ? "\"" : "");
    } else if (le != NULL) {
        buf_printf(out, "{le=\"%s\"}", le);
    }
}

static void text_bucket(const struct metrics_table *table, const struct metrics_row *row,
                        unsigned at, const char *le, uint64_t count, struct buf *out)
{
    print_name(table, row, "_bucket", out);
    print_labels(row, at, le, out);
    buf_printf(out, " %" PRIu64 "\n", count);
}

/* Cumulative, up to the first bucket that holds all; +Inf always. */
static void text_buckets(const struct metrics_table *table, const struct metrics_row *row,
                         unsigned at, const struct metrics_histogram *histogram, struct buf *out)
{
    cleanup(buf_deinit) struct buf le = {0};
    uint64_t seen = 0;

    for (unsigned i = 0; i < METRICS_BUCKETS && seen < histogram->count - histogram->slow; i++) {
        seen += histogram->buckets[i];
        buf_clear(&le);
        print_seconds(&le, bucket_end(i));
        buf_append(&le, "", 1);
        text_bucket(table, row, at, (const char *)le.data, seen, out);
    }
    text_bucket(table, row, at, "+Inf", histogram->count, out);
}

static void text_histogram(const struct metrics_table *table, const struct metrics_row *row,
                           unsigned at, const struct metrics_histogram *histogram, struct buf *out)
{
    text_buckets(table, row, at, histogram, out);
    print_name(table, row, "_sum", out);
    print_labels(row, at, NULL, out);
    buf_printf(out, " ");
    print_seconds(out, histogram->sum);
    buf_printf(out, "\n");
    print_name(table, row, "_count", out);
    print_labels(row, at, NULL, out);
    buf_printf(out, " %" PRIu64 "\n", histogram->count);
}

static void text_row(const struct metrics_table *table, const struct metrics_row *row,
                     const void *values, struct buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};

    buf_printf(out, "# HELP ");
    print_name(table, row, suffix(row), out);
    buf_printf(out, " %s\n# TYPE ", row->help);
    print_name(table, row, suffix(row), out);
    buf_printf(out, " %s\n", types[row->kind]);
    for (unsigned at = 0; at < row->count; at++) {
        if (!shown(row, values, at)) {
            continue;
        }
        if (row->kind == METRICS_histogram) {
            text_histogram(table, row, at, histogram_at(row, values, at), out);
            continue;
        }
        print_name(table, row, suffix(row), out);
        print_labels(row, at, NULL, out);
        buf_printf(out, " %" PRIu64 "\n", number_at(row, values, at));
    }
}

void metrics_text(const struct metrics_table *table, const void *values, struct buf *out)
{
    for (unsigned i = 0; i < table->count; i++) {
        text_row(table, &table->rows[i], values, out);
    }
}

/* ---- JSON; names and labels are identifiers and need no escapes ---- */

static void json_percentile(const struct metrics_histogram *histogram, unsigned percent,
                            struct buf *out)
{
    uint64_t ns = metrics_percentile(histogram, percent);

    buf_printf(out, ",\"p%u\":", percent);
    if (ns == UINT64_MAX) {
        buf_printf(out, "null");
    } else {
        print_seconds(out, ns);
    }
}

static void json_value(const struct metrics_row *row, const void *values, unsigned at,
                       struct buf *out)
{
    const struct metrics_histogram *histogram;

    if (row->kind != METRICS_histogram) {
        buf_printf(out, "%" PRIu64, number_at(row, values, at));
        return;
    }
    histogram = histogram_at(row, values, at);
    buf_printf(out, "{\"count\":%" PRIu64 ",\"seconds\":", histogram->count);
    print_seconds(out, histogram->sum);
    json_percentile(histogram, 50, out);
    json_percentile(histogram, 99, out);
    buf_printf(out, "}");
}

static void json_array(const struct metrics_row *row, const void *values, struct buf *out)
{
    const char *comma = "";

    buf_printf(out, "{");
    for (unsigned at = 0; at < row->count; at++) {
        if (shown(row, values, at)) {
            buf_printf(out, "%s\"%s\":", comma, row->label_value(at));
            json_value(row, values, at, out);
            comma = ",";
        }
    }
    buf_printf(out, "}");
}

void metrics_json(const struct metrics_table *table, const void *values, struct buf *out)
{
    buf_printf(out, "{");
    for (unsigned i = 0; i < table->count; i++) {
        const struct metrics_row *row = &table->rows[i];

        buf_printf(out, "%s\"%s\":", i > 0 ? "," : "", row->name);
        if (row->label != NULL) {
            json_array(row, values, out);
        } else {
            json_value(row, values, 0, out);
        }
    }
    buf_printf(out, "}\n");
}
