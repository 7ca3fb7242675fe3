#pragma once
/*
 * assert: conditions that only a bug of ours can break; on in every build.
 *
 * Bytes from the wire, the disk or the kernel are validated first and never reach an ASSERT raw.
 * ASSERT_SLOW guards whole-structure walks: debug and simulation builds only.
 */
#include "base/compiler.h"

_Noreturn void assert_failed(const char *condition, const char *file, int line);

#define ASSERT(condition)                                                                          \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) {                                                   \
            assert_failed(#condition, __FILE__, __LINE__);                                         \
        }                                                                                          \
    } while (0)

#ifdef KEELFS_SLOW_ASSERTS
#define ASSERT_SLOW(condition) ASSERT(condition)
#else
#define ASSERT_SLOW(condition) ((void)sizeof(condition))
#endif

#define UNREACHABLE() assert_failed("unreachable", __FILE__, __LINE__)
