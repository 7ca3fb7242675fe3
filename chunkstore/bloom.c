#include "chunkstore/bloom.h"

#include "chunkstore/limits.h"

size_t bloom_bytes(size_t count)
{
    return (count * BLOOM_BITS_PER_KEY + 7) / 8 + 8;
}

/* Double hashing (Kirsch, Mitzenmacher 2006): probe i is h + i * d. */
static uint64_t step_of(uint64_t hash)
{
    return ((hash >> 32) | (hash << 32)) | 1;
}

void bloom_add(uint8_t *bits, size_t bytes, uint64_t hash)
{
    uint64_t step = step_of(hash);

    for (unsigned i = 0; i < BLOOM_PROBES; i++, hash += step) {
        uint64_t bit = hash % (bytes * 8);

        bits[bit / 8] |= (uint8_t)(1U << (bit % 8));
    }
}

bool bloom_may_have(struct slice bits, uint64_t hash)
{
    uint64_t step = step_of(hash);

    if (bits.size == 0) {
        return true;
    }
    for (unsigned i = 0; i < BLOOM_PROBES; i++, hash += step) {
        uint64_t bit = hash % (bits.size * 8);

        if ((bits.data[bit / 8] & (1U << (bit % 8))) == 0) {
            return false;
        }
    }
    return true;
}
