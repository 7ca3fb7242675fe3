#pragma once
/*
 * log: LOG_INFO(env, "raft", "became leader term=%" PRIu64, term): the event in words, then
 * key=value. ERROR: an operator must act (fails a simulation). WARN: handled, degraded, says what
 * we do instead. INFO: state changes. DEBUG: each move. Whoever handles an error logs it, once.
 */
#include "base/env.h"

#include <inttypes.h>

void log_write(struct env *env, enum log_level level, const char *area, const char *format, ...)
    printf_like(4, 5);

#define LOG_AT(env, level, area, ...)                                                              \
    do {                                                                                           \
        if ((level) <= (env)->log_level) {                                                         \
            log_write((env), (level), (area), __VA_ARGS__);                                        \
        }                                                                                          \
    } while (0)
#define LOG_ERROR(env, area, ...) LOG_AT(env, LOG_LEVEL_ERROR, area, __VA_ARGS__)
#define LOG_WARN(env, area, ...)  LOG_AT(env, LOG_LEVEL_WARN, area, __VA_ARGS__)
#define LOG_INFO(env, area, ...)  LOG_AT(env, LOG_LEVEL_INFO, area, __VA_ARGS__)
#define LOG_DEBUG(env, area, ...) LOG_AT(env, LOG_LEVEL_DEBUG, area, __VA_ARGS__)
