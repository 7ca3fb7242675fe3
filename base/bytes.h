#pragma once
/* bytes: integers in byte strings, at any alignment: little endian on disk and in messages, big
 * endian in keys, which memcmp then orders. */
#include "base/compiler.h"

#include <endian.h>
#include <string.h>

#define BYTES_ACCESS(name, type, to, from)                                                         \
    static inline type bytes_get_##name(const void *at)                                            \
    {                                                                                              \
        type value;                                                                                \
                                                                                                   \
        memcpy(&value, at, sizeof(value));                                                         \
        return from(value);                                                                        \
    }                                                                                              \
    static inline void bytes_put_##name(void *at, type value)                                      \
    {                                                                                              \
        value = to(value);                                                                         \
        memcpy(at, &value, sizeof(value));                                                         \
    }

BYTES_ACCESS(le16, uint16_t, htole16, le16toh)
BYTES_ACCESS(le32, uint32_t, htole32, le32toh)
BYTES_ACCESS(le64, uint64_t, htole64, le64toh)
BYTES_ACCESS(be32, uint32_t, htobe32, be32toh)
BYTES_ACCESS(be64, uint64_t, htobe64, be64toh)
