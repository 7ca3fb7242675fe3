#include "base/mem.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *memory)
{
    ASSERT(memory != NULL);
    return memory;
}

void *mem_alloc(size_t size)
{
    return checked(malloc(size ? size : 1));
}

void *mem_zalloc(size_t size)
{
    return checked(calloc(1, size ? size : 1));
}

void *mem_realloc(void *old, size_t size)
{
    return checked(realloc(old, size ? size : 1));
}

void *mem_alloc_aligned(size_t align, size_t size)
{
    return checked(aligned_alloc(align, round_up(size, align)));
}

char *mem_strdup(const char *text)
{
    return checked(strdup(text));
}

char *mem_printf(const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) {
        text = NULL;
    }
    va_end(args);
    return checked(text);
}

void mem_free(void *old)
{
    free(old);
}
