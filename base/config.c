#include "base/config.h"

#include "base/assert.h"

#include <errno.h>
#include <inttypes.h>

#define RANDOM_BELOW 64 /* times */
#define RANDOM_ABOVE 8

static bool is_size(const char *name)
{
    const char *unit = strstr(name, "bytes");

    return unit != NULL && (strcmp(unit, "bytes") == 0 || strcmp(unit, "bytes_second") == 0);
}

static void print_value(struct buf *out, const struct config_row *row, uint64_t value)
{
    static const char units[] = "KMG";
    int unit = -1;

    while (is_size(row->name) && unit < 2 && value != 0 && value % 1024 == 0) {
        value /= 1024;
        unit++;
    }
    if (unit < 0) {
        buf_printf(out, "%" PRIu64, value);
    } else {
        buf_printf(out, "%" PRIu64 "%c", value, units[unit]);
    }
}

static void print_range(struct buf *out, const struct config_row *row)
{
    print_value(out, row, row->min);
    buf_printf(out, "..");
    print_value(out, row, row->max);
}

static void store(const struct config_row *row, void *values, uint64_t value)
{
    uint8_t *at = (uint8_t *)values + row->offset;
    uint32_t narrow = (uint32_t)value;

    ASSERT(row->size == sizeof(value) || row->size == sizeof(narrow));
    memcpy(at, row->size == sizeof(value) ? (const void *)&value : &narrow, row->size);
}

uint64_t config_get(const struct config_row *row, const void *values)
{
    const uint8_t *at = (const uint8_t *)values + row->offset;
    uint64_t wide = 0;
    uint32_t narrow = 0;

    memcpy(row->size == sizeof(wide) ? (void *)&wide : &narrow, at, row->size);
    return row->size == sizeof(wide) ? wide : narrow;
}

const struct config_row *config_find(const struct config_table *table, const char *name,
                                     size_t size)
{
    for (unsigned i = 0; i < table->count; i++) {
        if (strlen(table->rows[i].name) == size && memcmp(table->rows[i].name, name, size) == 0) {
            return &table->rows[i];
        }
    }
    return NULL;
}

/* Digits only: strtoull alone would take signs and spaces. */
static bool parse(const struct config_row *row, const char *text, uint64_t *out_value)
{
    static const char units[] = "KMG";
    unsigned shift = 0;
    const char *unit;
    uint64_t value;
    char *end;

    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    value = strtoull(text, &end, 10);
    unit = *end != '\0' && is_size(row->name) ? strchr(units, *end) : NULL;
    if (unit != NULL) {
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
    }
    if (errno != 0 || *end != '\0') {
        return false;
    }
    *out_value = value > UINT64_MAX >> shift ? UINT64_MAX : value << shift;
    return true;
}

static int unknown(const struct config_table *table, const char *key, struct buf *why)
{
    if (why != NULL) {
        buf_printf(why, "unknown key '%s' in [%s]; known:", key, table->section);
        for (unsigned i = 0; i < table->count; i++) {
            buf_printf(why, " %s", table->rows[i].name);
        }
    }
    return -ENOENT;
}

int config_set(const struct config_table *table, void *values, const char *key, const char *text,
               struct buf *why)
{
    const struct config_row *row = config_find(table, key, strlen(key));
    uint64_t value = 0;
    int r = 0;

    if (row == NULL) {
        return unknown(table, key, why);
    }
    if (!parse(row, text, &value)) {
        r = -EINVAL;
    } else if (value < row->min || value > row->max) {
        r = -ERANGE;
    }
    if (r == 0) {
        store(row, values, value);
    } else if (why != NULL) {
        buf_printf(why, "[%s] %s '%s' is not %s", table->section, key, text,
                   r == -ERANGE ? "in " : "a number in ");
        print_range(why, row);
    }
    return r;
}

void config_help(const struct config_table *table, struct buf *out)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct config_row *row = &table->rows[i];
        cleanup(buf_deinit) struct buf value = {0};
        cleanup(buf_deinit) struct buf range = {0};

        print_value(&value, row, row->initial);
        print_range(&range, row);
        buf_printf(out, "  %-24s %8.*s  %-14.*s %s\n", row->name, (int)value.size,
                   (const char *)value.data, (int)range.size, (const char *)range.data, row->help);
    }
}

void config_print(const struct config_table *table, const void *values, struct buf *out)
{
    for (unsigned i = 0; i < table->count; i++) {
        buf_printf(out, "%s = ", table->rows[i].name);
        print_value(out, &table->rows[i], config_get(&table->rows[i], values));
        buf_printf(out, "\n");
    }
}

static unsigned log2_of(uint64_t value)
{
    return value == 0 ? 0 : 63 - (unsigned)__builtin_clzll(value);
}

static uint64_t draw(const struct config_row *row, struct rng *rng)
{
    uint64_t times = is_size(row->name) ? 1 : RANDOM_ABOVE;
    uint64_t low = max_u64(row->min, row->initial / RANDOM_BELOW);
    uint64_t high = row->initial > UINT64_MAX / times ? row->max : row->initial * times;
    uint64_t bits, value;

    high = min_u64(row->max, max_u64(high, 1));
    bits = log2_of(low) + rng_below(rng, log2_of(high) - log2_of(low) + 1);
    value = (UINT64_C(1) << bits) + rng_below(rng, UINT64_C(1) << bits);
    return min_u64(max_u64(value, low), high);
}

void config_random(const struct config_table *table, void *values, struct rng *rng)
{
    for (unsigned i = 0; i < table->count; i++) {
        if (rng_percent(rng, 50)) {
            store(&table->rows[i], values, draw(&table->rows[i], rng));
        }
    }
}
