#include "base/schema.h"

#include <inttypes.h>

/* LEB128: seven bits a byte, low first. */
uint64_t schema_read_uint(struct schema_reader *reader, uint64_t max)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte;

        if (reader->failed || reader->at == reader->end) {
            break;
        }
        byte = *reader->at++;
        if (shift == 63 && byte > 1) {
            break; /* would not fit 64 bits */
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            reader->failed = value > max;
            return reader->failed ? 0 : value;
        }
    }
    reader->failed = true;
    return 0;
}

struct slice schema_read_bytes(struct schema_reader *reader, uint64_t max)
{
    uint64_t size = schema_read_uint(reader, max);
    struct slice bytes = {reader->at, (size_t)size};

    if (reader->failed || size > (uint64_t)(reader->end - reader->at)) {
        reader->failed = true;
        return (struct slice){0};
    }
    if (size > 0) {
        reader->at += size;
    }
    return bytes;
}

void schema_write_uint(struct buf *out, uint64_t value)
{
    uint8_t *at = buf_reserve(out, 10);
    size_t size = 0;

    while (value >= 0x80) {
        at[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    at[size++] = (uint8_t)value;
    out->size += size;
}

void schema_write_bytes(struct buf *out, struct slice bytes)
{
    schema_write_uint(out, bytes.size);
    buf_append_slice(out, bytes);
}

void schema_print_uint(struct buf *out, const char *name, uint64_t value)
{
    buf_printf(out, " %s=%" PRIu64, name, value);
}

void schema_print_bytes(struct buf *out, const char *name, struct slice bytes)
{
    size_t shown = bytes.size < 32 ? bytes.size : 32;

    buf_printf(out, " %s=%zu:", name, bytes.size);
    for (size_t i = 0; i < shown; i++) {
        uint8_t c = bytes.data[i];

        if (c > ' ' && c < 0x7f && c != '\\') {
            buf_printf(out, "%c", c);
        } else {
            buf_printf(out, "\\%02x", c);
        }
    }
    if (shown < bytes.size) {
        buf_printf(out, "...");
    }
}
