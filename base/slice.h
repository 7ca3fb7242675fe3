#pragma once
/* slice: borrowed bytes. Whoever made it says until when they live. */
#include "base/compiler.h"

#include <string.h>

struct slice {
    const uint8_t *data; /* may be NULL when size is 0 */
    size_t size;
};

static inline struct slice slice_make(const void *data, size_t size)
{
    return (struct slice){data, size};
}

static inline struct slice slice_text(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

/* Orders as memcmp does, a prefix before what extends it. */
static inline int slice_compare(struct slice a, struct slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int r = size ? memcmp(a.data, b.data, size) : 0;

    return r != 0 ? r : (a.size > b.size) - (a.size < b.size);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* `to` has room for all of them. Nothing is read when there are none: memcpy may not be given NULL.
 */
static inline void slice_copy(void *to, struct slice bytes)
{
    if (bytes.size > 0) {
        memcpy(to, bytes.data, bytes.size);
    }
}

/* Does `slice` begin with `prefix`, and go on behind it? */
static inline bool slice_goes_on(struct slice slice, const char *prefix)
{
    size_t size = strlen(prefix);

    return slice.size > size && memcmp(slice.data, prefix, size) == 0;
}
