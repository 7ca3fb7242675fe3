#include "base/buf.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

void buf_deinit(struct buf *buf)
{
    mem_free(buf->data);
    *buf = (struct buf){0};
}

uint8_t *buf_reserve(struct buf *buf, size_t extra)
{
    size_t need;

    ASSERT(!__builtin_add_overflow(buf->size, extra, &need));
    if (need > buf->capacity) {
        buf->capacity = need < 64 ? 64 : need + need / 2;
        buf->data = mem_realloc(buf->data, buf->capacity);
    }
    return buf->size > 0 ? buf->data + buf->size : buf->data; /* which may be NULL */
}

void buf_append(struct buf *buf, const void *data, size_t size)
{
    if (size != 0) {
        memcpy(buf_reserve(buf, size), data, size);
        buf->size += size;
    }
}

void buf_append_zero(struct buf *buf, size_t size)
{
    if (size != 0) {
        memset(buf_reserve(buf, size), 0, size);
        buf->size += size;
    }
}

void buf_append_slice(struct buf *buf, struct slice bytes)
{
    buf_append(buf, bytes.data, bytes.size);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args, again;
    int size;

    va_start(args, format);
    va_copy(again, args);
    size = vsnprintf(NULL, 0, format, args);
    ASSERT(size >= 0);
    vsnprintf((char *)buf_reserve(buf, (size_t)size + 1), (size_t)size + 1, format, again);
    buf->size += (size_t)size;
    va_end(again);
    va_end(args);
}

struct buf buf_take(struct buf *buf)
{
    struct buf taken = *buf;

    *buf = (struct buf){0};
    return taken;
}
