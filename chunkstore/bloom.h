#pragma once
/* bloom: a set that may say yes by mistake (about 1 in 120 at 10 bits a key), never no. Pure. */
#include "base/slice.h"

/* Bytes for `count` keys. */
size_t bloom_bytes(size_t count);
void bloom_add(uint8_t *bits, size_t bytes, uint64_t hash);
bool bloom_may_have(struct slice bits, uint64_t hash);
