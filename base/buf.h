#pragma once
/*
 * buf: owned bytes that grow. Zero-initialised is empty and valid.
 *
 *     cleanup(buf_deinit) struct buf bytes = {0};
 *     buf_append(&bytes, data, size);
 */
#include "base/slice.h"

struct buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

void buf_deinit(struct buf *buf);
/* Makes room for `extra` more bytes and returns where they go; size is unchanged. */
uint8_t *buf_reserve(struct buf *buf, size_t extra);
void buf_append(struct buf *buf, const void *data, size_t size);
void buf_append_zero(struct buf *buf, size_t size);
void buf_append_slice(struct buf *buf, struct slice bytes);
void buf_printf(struct buf *buf, const char *format, ...) printf_like(2, 3);
/* Hands the bytes to the caller: *buf is empty afterwards. */
struct buf buf_take(struct buf *buf);

static inline void buf_clear(struct buf *buf)
{
    buf->size = 0;
}

static inline struct slice buf_slice(const struct buf *buf)
{
    return (struct slice){buf->data, buf->size};
}
