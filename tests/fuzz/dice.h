#pragma once
/*
 * dice: values for tests that throw hostile input at code for a while: small numbers, edges, and
 * anything; bytes of which half look like text and pack well.
 *
 *     FUZZ_SECONDS=600 SEED=7 fuzz_test_raft
 */
#include "tests/lib/test.h"

#include "base/rng.h"
#include "base/slice.h"

#include <stdlib.h>
#include <time.h>

#define DICE_SECONDS 15

static struct rng rng;
static uint8_t noise[KiB(300)]; /* what byte fields are filled from */

static inline uint64_t any_number(uint64_t max)
{
    static const uint64_t edges[] = {0,         1,          127,       128,        255,
                                     4096,      65535,      65536,     KiB(8),     MiB(4),
                                     INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX - 1};
    uint64_t value;

    switch (rng_below(&rng, 4)) {
    case 0:
        value = edges[rng_below(&rng, ARRAY_SIZE(edges))];
        break;
    case 1:
        value = rng_next(&rng) >> rng_below(&rng, 64);
        break;
    default:
        value = rng_below(&rng, 20);
        break;
    }
    return value <= max ? value : value % (max + 1);
}

static inline struct slice any_bytes(uint64_t max)
{
    uint64_t limit = rng_below(&rng, 50) == 0 ? max : min_u64(max, 60);
    uint64_t size = rng_below(&rng, min_u64(limit, sizeof(noise)) + 1);

    return slice_make(noise + rng_below(&rng, sizeof(noise) - size + 1), size);
}

static inline uint64_t dice_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline uint64_t dice_seconds(void)
{
    const char *text = getenv("FUZZ_SECONDS");

    return text != NULL ? strtoull(text, NULL, 10) : DICE_SECONDS;
}

static inline void dice_begin(void)
{
    rng_init(&rng, test_seed(dice_now_ms()));
    for (size_t i = 0; i < sizeof(noise); i++) {
        noise[i] = i < sizeof(noise) / 2 ? (uint8_t)rng_next(&rng) : (uint8_t)('a' + i % 7);
    }
}
