#pragma once
/*
 * schema: one table line per field gives struct, size, encoder, bounded decoder and printer.
 *
 *     #define POINT(F)            kind   field  max  since
 *         F(u32,   x,     0,   1)
 *         F(bytes, label, 64,  1)
 *     SCHEMA_DEFINE(point, POINT);        in the header: struct point and its functions
 *     SCHEMA_IMPLEMENT(point, POINT)      in one .c file
 *
 * Kinds: u8 u16 u32 u64 (LEB128 on the wire), bool, bytes (struct slice, borrowed from the input
 * after decoding; `max` is checked before any arithmetic). Wire: field count, then the fields in
 * order. Fields are only ever appended: a decoder leaves fields that an older sender did not know
 * at zero and skips those that a newer one added.
 */
#include "base/buf.h"
#include "base/err.h"

struct schema_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed; /* sticky */
};

/* Begins at the front of `bytes`, which are borrowed. No bytes may have no address: nothing is
 * added to it then. */
static inline struct schema_reader schema_reader_make(struct slice bytes)
{
    return (struct schema_reader){bytes.data, bytes.size > 0 ? bytes.data + bytes.size : bytes.data,
                                  false};
}

/* What has not been read yet. */
static inline struct slice schema_reader_rest(const struct schema_reader *reader)
{
    return (struct slice){reader->at, (size_t)(reader->end - reader->at)};
}

uint64_t schema_read_uint(struct schema_reader *reader, uint64_t max);
struct slice schema_read_bytes(struct schema_reader *reader, uint64_t max);
void schema_write_uint(struct buf *out, uint64_t value);
void schema_write_bytes(struct buf *out, struct slice bytes);
void schema_print_uint(struct buf *out, const char *name, uint64_t value);
void schema_print_bytes(struct buf *out, const char *name, struct slice bytes);

#define SCHEMA_TYPE_u8                         uint8_t
#define SCHEMA_TYPE_u16                        uint16_t
#define SCHEMA_TYPE_u32                        uint32_t
#define SCHEMA_TYPE_u64                        uint64_t
#define SCHEMA_TYPE_bool                       bool
#define SCHEMA_TYPE_bytes                      struct slice

#define SCHEMA_WRITE_u8(out, value)            schema_write_uint(out, value)
#define SCHEMA_WRITE_u16(out, value)           schema_write_uint(out, value)
#define SCHEMA_WRITE_u32(out, value)           schema_write_uint(out, value)
#define SCHEMA_WRITE_u64(out, value)           schema_write_uint(out, value)
#define SCHEMA_WRITE_bool(out, value)          schema_write_uint(out, value)
#define SCHEMA_WRITE_bytes(out, value)         schema_write_bytes(out, value)

#define SCHEMA_READ_u8(reader, max)            (uint8_t) schema_read_uint(reader, UINT8_MAX)
#define SCHEMA_READ_u16(reader, max)           (uint16_t) schema_read_uint(reader, UINT16_MAX)
#define SCHEMA_READ_u32(reader, max)           (uint32_t) schema_read_uint(reader, UINT32_MAX)
#define SCHEMA_READ_u64(reader, max)           schema_read_uint(reader, UINT64_MAX)
#define SCHEMA_READ_bool(reader, max)          (schema_read_uint(reader, 1) != 0)
#define SCHEMA_READ_bytes(reader, max)         schema_read_bytes(reader, max)

#define SCHEMA_PRINT_u8(out, name, value)      schema_print_uint(out, name, value)
#define SCHEMA_PRINT_u16(out, name, value)     schema_print_uint(out, name, value)
#define SCHEMA_PRINT_u32(out, name, value)     schema_print_uint(out, name, value)
#define SCHEMA_PRINT_u64(out, name, value)     schema_print_uint(out, name, value)
#define SCHEMA_PRINT_bool(out, name, value)    schema_print_uint(out, name, value)
#define SCHEMA_PRINT_bytes(out, name, value)   schema_print_bytes(out, name, value)

#define SCHEMA_MEMBER(kind, field, max, since) SCHEMA_TYPE_##kind field;
#define SCHEMA_COUNT(kind, field, max, since)  +1
#define SCHEMA_ENCODE(kind, field, max, since) SCHEMA_WRITE_##kind(out, message->field);
#define SCHEMA_DECODE(kind, field, max, since)                                                     \
    if (field_count > 0) {                                                                         \
        message.field = SCHEMA_READ_##kind(&reader, (max));                                        \
        field_count--;                                                                             \
    }
#define SCHEMA_PRINT(kind, field, max, since) SCHEMA_PRINT_##kind(out, #field, message->field);

/* x_encode appends to `out`. x_decode returns 0 or -ERR_BAD_MESSAGE; slices borrow from `bytes`. */
#define SCHEMA_DEFINE(name, TABLE)                                                                 \
    struct name {                                                                                  \
        TABLE(SCHEMA_MEMBER)                                                                       \
    };                                                                                             \
    void name##_encode(const struct name *message, struct buf *out);                               \
    int must_check name##_decode(struct name *out_message, struct slice bytes);                    \
    void name##_format(const struct name *message, struct buf *out)

#define SCHEMA_IMPLEMENT(name, TABLE)                                                              \
    void name##_encode(const struct name *message, struct buf *out)                                \
    {                                                                                              \
        schema_write_uint(out, 0 TABLE(SCHEMA_COUNT));                                             \
        TABLE(SCHEMA_ENCODE)                                                                       \
    }                                                                                              \
    int name##_decode(struct name *out_message, struct slice bytes)                                \
    {                                                                                              \
        struct schema_reader reader = schema_reader_make(bytes);                                   \
        uint64_t field_count = schema_read_uint(&reader, 255);                                     \
        struct name message = {0};                                                                 \
        TABLE(SCHEMA_DECODE)                                                                       \
        if (reader.failed) {                                                                       \
            return -ERR_BAD_MESSAGE;                                                               \
        }                                                                                          \
        *out_message = message;                                                                    \
        return 0;                                                                                  \
    }                                                                                              \
    void name##_format(const struct name *message, struct buf *out)                                \
    {                                                                                              \
        buf_printf(out, "%s", #name);                                                              \
        TABLE(SCHEMA_PRINT)                                                                        \
    }
