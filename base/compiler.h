#pragma once
/* compiler: the few words we add to C: attributes, units, container_of, scoped cleanup. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define must_check                         __attribute__((warn_unused_result))
#define printf_like(format_arg, first_arg) __attribute__((format(printf, format_arg, first_arg)))
/* Runs fn(&variable) when the variable leaves its scope. */
#define cleanup(fn)                     __attribute__((cleanup(fn)))

#define KiB(n)                          ((uint64_t)(n) << 10)
#define MiB(n)                          ((uint64_t)(n) << 20)
#define GiB(n)                          ((uint64_t)(n) << 30)

#define NS_PER_US                       UINT64_C(1000)
#define NS_PER_MS                       UINT64_C(1000000)
#define NS_PER_S                        UINT64_C(1000000000)

#define ARRAY_SIZE(array)               (sizeof(array) / sizeof((array)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline uint64_t round_up(uint64_t value, uint64_t align)
{
    return (value + align - 1) / align * align;
}

static inline uint64_t round_down(uint64_t value, uint64_t align)
{
    return value / align * align;
}
