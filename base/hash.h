#pragma once
/* hash: SipHash-1-3 for keys that outsiders choose, mix64 for ids that we choose. */
#include "base/slice.h"

struct hash_key {
    uint64_t k0;
    uint64_t k1;
};

/* SipHash-1-3 (Aumasson, Bernstein 2012, with the reduced rounds used for tables). */
uint64_t hash_bytes(struct hash_key key, struct slice bytes);

/* A bijection that spreads near ids (the finalizer of MurmurHash3). */
static inline uint64_t hash_mix64(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ (x >> 33);
}
