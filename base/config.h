#pragma once
/*
 * config: one table line per value gives struct, defaults, checked parser, help text, and random
 * values for simulations. Pure; who reads a file gives keys and texts (cli/config.c).
 *
 *     #define STORE_SETTINGS(X)      type      name        default  min  max     help
 *         X(uint32_t, sync_ms,        30000,   100, 86400000, "owners compare so often")
 *         X(uint64_t, segment_bytes,  MiB(64), KiB(64), GiB(1), "a segment is full at")
 *     CONFIG_DEFINE(store_settings, STORE_SETTINGS);            in the header
 *     CONFIG_IMPLEMENT(store_settings, "store", STORE_SETTINGS) in one .c file
 *
 *     struct store_settings settings = store_settings_defaults();
 *     r = config_set(store_settings_table(), &settings, "sync_ms", "500", &why);
 *
 * Types: uint32_t, uint64_t. The name ends in the unit; what ends in `bytes` or `bytes_second` may
 * be written with K, M or G (1024) behind the number.
 */
#include "base/buf.h"
#include "base/rng.h"

struct config_row {
    const char *name;
    const char *help;
    uint64_t initial, min, max;
    uint16_t offset; /* in the struct */
    uint16_t size;   /* 4 or 8 */
};

struct config_table {
    const char *section; /* of cluster.conf */
    const struct config_row *rows;
    unsigned count;
};

/* 0; -ENOENT: the table has no such key; -EINVAL: not a number; -ERANGE. `why` (may be NULL) gets a
 * sentence that names section, key and what is allowed; `values` is untouched then. */
int must_check config_set(const struct config_table *table, void *values, const char *key,
                          const char *text, struct buf *why);
uint64_t config_get(const struct config_row *row, const void *values);
/* NULL: no such key. `size`: of the name, which need not end there. */
const struct config_row *config_find(const struct config_table *table, const char *name,
                                     size_t size);
/* One line a value: name, default, range, help. */
void config_help(const struct config_table *table, struct buf *out);
/* One line a value as it is: "name = value". */
void config_print(const struct config_table *table, const void *values, struct buf *out);
/* For simulations. Half of the values stay as they are, each other is drawn from its range, small
 * ones as likely as large ones, but not further than 64 times below the default or 8 times above;
 * sizes never above: small caches and files meet more, and large ones only take memory. */
void config_random(const struct config_table *table, void *values, struct rng *rng);

#define CONFIG_MEMBER(type, name, initial, min, max, help)   type name;
#define CONFIG_INITIAL(type, name, initial_, min, max, help) .name = (initial_),
/* Signed and wide, because an unsigned minimum of 0 makes the compiler complain. */
#define CONFIG_CHECK_ROW(type, name, initial_, min_, max_, help_)                                  \
    _Static_assert((__int128)(min_) <= (__int128)(initial_), #name);                               \
    _Static_assert((__int128)(initial_) <= (__int128)(max_), #name);                               \
    _Static_assert((max_) <= (type)-1, #name);
#define CONFIG_ROW(type, name_, initial_, min_, max_, help_)                                       \
    {#name_, help_, (initial_), (min_), (max_), offsetof(config_owner, name_), sizeof(type)},

#define CONFIG_DEFINE(name, TABLE)                                                                 \
    struct name {                                                                                  \
        TABLE(CONFIG_MEMBER)                                                                       \
    };                                                                                             \
    const struct config_table *name##_table(void);                                                 \
    struct name name##_defaults(void)

#define CONFIG_IMPLEMENT(name, section_, TABLE)                                                    \
    TABLE(CONFIG_CHECK_ROW)                                                                        \
    const struct config_table *name##_table(void)                                                  \
    {                                                                                              \
        typedef struct name config_owner;                                                          \
        static const struct config_row rows[] = {TABLE(CONFIG_ROW)};                               \
        static const struct config_table table = {section_, rows, ARRAY_SIZE(rows)};               \
        return &table;                                                                             \
    }                                                                                              \
    struct name name##_defaults(void)                                                              \
    {                                                                                              \
        return (struct name){TABLE(CONFIG_INITIAL)};                                               \
    }
