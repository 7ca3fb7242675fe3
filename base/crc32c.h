#pragma once
/* crc32c: the Castagnoli checksum of everything we store and send (RFC 3720, B.4). */
#include "base/slice.h"

/* Continues from `seed` (0 to begin): crc32c(crc32c(0, a), b) is the checksum of a followed by b.
 */
uint32_t crc32c(uint32_t seed, struct slice bytes);
