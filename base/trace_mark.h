#pragma once
/*
 * trace_mark: TRACE_MARK("the log was torn") at a rare path: keelfs-sim counts how often each is
 * taken, and lists those that no seed has reached. Compiles to nothing unless KEELFS_SIM is
 * defined.
 */
#include "base/compiler.h"

#ifdef KEELFS_SIM

struct trace_mark {
    const char *name;
    const char *file;
    uint64_t line;
    uint64_t hits;
} __attribute__((aligned(32))); /* the linker lays them side by side */

#define TRACE_MARK(text)                                                                           \
    do {                                                                                           \
        static struct trace_mark mark                                                              \
            __attribute__((section("trace_marks"), used)) = {(text), __FILE__, __LINE__, 0};       \
        mark.hits++;                                                                               \
    } while (0)

#else
#define TRACE_MARK(text) ((void)0)
#endif
