#pragma once
/* rng: xoshiro256** (Blackman, Vigna 2018): fast, seeded, the same everywhere. Not for secrets. */
#include "base/compiler.h"

struct rng {
    uint64_t s[4];
};

void rng_init(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);
/* Uniform in [0, limit); limit > 0. */
uint64_t rng_below(struct rng *rng, uint64_t limit);
/* True `percent` times out of 100. */
bool rng_percent(struct rng *rng, unsigned percent);
