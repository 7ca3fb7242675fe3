#pragma once
/* bytes: integers in byte strings: little endian on disk and in lists, big endian in keys. */
#include "base/compiler.h"

#include <endian.h>
#include <string.h>

#define BYTES_ACCESS(name, type, to, from)                                                         \
    static inline type bytes_get_##name(const uint8_t *at)                                         \
    {                                                                                              \
        type value;                                                                                \
                                                                                                   \
        memcpy(&value, at, sizeof(value));                                                         \
        return from(value);                                                                        \
    }                                                                                              \
    static inline void bytes_put_##name(uint8_t *at, type value)                                   \
    {                                                                                              \
        value = to(value);                                                                         \
        memcpy(at, &value, sizeof(value));                                                         \
    }

BYTES_ACCESS(le16, uint16_t, htole16, le16toh)
BYTES_ACCESS(le32, uint32_t, htole32, le32toh)
BYTES_ACCESS(le64, uint64_t, htole64, le64toh)
BYTES_ACCESS(be64, uint64_t, htobe64, be64toh)
