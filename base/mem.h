#pragma once
/*
 * mem: the only allocator. Failure aborts: a server that cannot get memory for a bounded queue must
 * not limp on, and every queue is bounded.
 */
#include "base/compiler.h"

void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_zalloc(size_t size) __attribute__((malloc, returns_nonnull)); /* zeroed */
void *mem_realloc(void *old, size_t size) __attribute__((returns_nonnull));
/* For O_DIRECT and page buffers; freed with mem_free. */
void *mem_alloc_aligned(size_t align, size_t size) __attribute__((returns_nonnull));
char *mem_strdup(const char *text) __attribute__((returns_nonnull));
char *mem_printf(const char *format, ...) printf_like(1, 2);
void mem_free(void *old);
