#include "base/crc32c.h"

#include <isa-l/crc.h>

/* libisal takes an int length and does not invert. */
#define STEP_MAX ((size_t)1 << 30)

uint32_t crc32c(uint32_t seed, struct slice bytes)
{
    uint32_t crc = ~seed;

    while (bytes.size != 0) {
        size_t step = bytes.size < STEP_MAX ? bytes.size : STEP_MAX;

        crc = crc32_iscsi((unsigned char *)(uintptr_t)bytes.data, (int)step, crc);
        bytes.data += step;
        bytes.size -= step;
    }
    return ~crc;
}
