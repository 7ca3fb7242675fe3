#include "base/rng.h"

#include "base/assert.h"
#include "base/hash.h"

static uint64_t rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

void rng_init(struct rng *rng, uint64_t seed)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rng->s); i++) {
        seed += UINT64_C(0x9e3779b97f4a7c15);
        rng->s[i] = hash_mix64(seed) | 1;
    }
}

uint64_t rng_next(struct rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *rng, uint64_t limit)
{
    ASSERT(limit > 0);
    return (uint64_t)(((unsigned __int128)rng_next(rng) * limit) >> 64);
}

bool rng_percent(struct rng *rng, unsigned percent)
{
    return rng_below(rng, 100) < percent;
}
