#include "meta/btree_page.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/err.h"

static unsigned get(const uint8_t *page, unsigned at)
{
    return bytes_get_le16(page + at);
}

static void set(uint8_t *page, unsigned at, size_t value)
{
    ASSERT(value <= UINT16_MAX);
    bytes_put_le16(page + at, (uint16_t)value);
}

static const uint8_t *cell(const uint8_t *page, unsigned i)
{
    return page + get(page, PAGE_HEADER + 2 * i);
}

static size_t cell_bytes(const uint8_t *at)
{
    return CELL_HEADER + bytes_get_le16(at) +
           (size_t)(bytes_get_le16(at + 2) & (CELL_OVERFLOW - 1));
}

void page_init(uint8_t *page, unsigned level)
{
    memset(page, 0, BTREE_PAGE);
    set(page, PAGE_HEAP_AT, BTREE_PAGE);
    set(page, PAGE_LEVEL_AT, level);
}

unsigned page_count(const uint8_t *page)
{
    return get(page, PAGE_COUNT_AT);
}

unsigned page_level(const uint8_t *page)
{
    return get(page, PAGE_LEVEL_AT);
}

struct slice page_key(const uint8_t *page, unsigned i)
{
    const uint8_t *at = cell(page, i);

    return slice_make(at + CELL_HEADER, bytes_get_le16(at));
}

struct slice page_value(const uint8_t *page, unsigned i)
{
    const uint8_t *at = cell(page, i);

    return slice_make(at + CELL_HEADER + bytes_get_le16(at),
                      bytes_get_le16(at + 2) & (CELL_OVERFLOW - 1));
}

bool page_overflows(const uint8_t *page, unsigned i)
{
    return (bytes_get_le16(cell(page, i) + 2) & CELL_OVERFLOW) != 0;
}

unsigned page_find(const uint8_t *page, struct slice key, bool *out_exact)
{
    unsigned low = 0;
    unsigned high = page_count(page);

    *out_exact = false;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        int r = slice_compare(page_key(page, middle), key);

        if (r == 0) {
            *out_exact = true;
            return middle;
        }
        if (r < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

unsigned page_find_child(const uint8_t *page, struct slice key)
{
    bool exact;
    unsigned i = page_find(page, key, &exact);

    ASSERT(page_level(page) > 0 && page_count(page) > 0);
    return exact || i == 0 ? i : i - 1;
}

size_t page_used(const uint8_t *page)
{
    return BTREE_PAGE - get(page, PAGE_HEAP_AT) - get(page, PAGE_DEAD_AT) +
           2 * (size_t)page_count(page);
}

size_t page_cell_size(struct slice key, struct slice value)
{
    return 2 + CELL_HEADER + key.size + value.size;
}

/* Moves the cells together at the end of the page. */
static void compact(uint8_t *page)
{
    uint8_t old[BTREE_PAGE];
    unsigned count = page_count(page);
    size_t heap = BTREE_PAGE;

    memcpy(old, page, BTREE_PAGE);
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *at = cell(old, i);
        size_t size = cell_bytes(at);

        heap -= size;
        memcpy(page + heap, at, size);
        set(page, PAGE_HEADER + 2 * i, heap);
    }
    memset(page + PAGE_HEADER + 2 * count, 0, heap - PAGE_HEADER - 2 * count);
    set(page, PAGE_HEAP_AT, heap);
    set(page, PAGE_DEAD_AT, 0);
}

bool page_insert(uint8_t *page, unsigned i, struct slice key, struct slice value, bool overflow)
{
    unsigned count = page_count(page);
    size_t size = page_cell_size(key, value);
    size_t heap;
    uint8_t *at;

    ASSERT(i <= count && key.size <= BTREE_KEY_MAX && value.size <= BTREE_VALUE_INLINE);
    if (page_used(page) + size > PAGE_CAPACITY) {
        return false;
    }
    if (PAGE_HEADER + 2 * (size_t)count + size > get(page, PAGE_HEAP_AT)) {
        compact(page);
    }
    heap = get(page, PAGE_HEAP_AT) - (size - 2);
    at = page + heap;
    bytes_put_le16(at, (uint16_t)key.size);
    bytes_put_le16(at + 2, (uint16_t)(value.size | (overflow ? CELL_OVERFLOW : 0)));
    if (key.size > 0) {
        memcpy(at + CELL_HEADER, key.data, key.size);
    }
    if (value.size > 0) {
        memcpy(at + CELL_HEADER + key.size, value.data, value.size);
    }
    at = page + PAGE_HEADER + 2 * i;
    memmove(at + 2, at, 2 * (size_t)(count - i));
    bytes_put_le16(at, (uint16_t)heap);
    set(page, PAGE_HEAP_AT, heap);
    set(page, PAGE_COUNT_AT, count + 1);
    return true;
}

void page_remove(uint8_t *page, unsigned i)
{
    unsigned count = page_count(page);
    uint8_t *slot = page + PAGE_HEADER + 2 * i;
    size_t size = cell_bytes(cell(page, i));

    ASSERT(i < count);
    if (get(page, PAGE_HEADER + 2 * i) == get(page, PAGE_HEAP_AT)) {
        set(page, PAGE_HEAP_AT, get(page, PAGE_HEAP_AT) + size);
    } else {
        set(page, PAGE_DEAD_AT, get(page, PAGE_DEAD_AT) + size);
    }
    memmove(slot, slot + 2, 2 * (size_t)(count - i - 1));
    set(page, PAGE_COUNT_AT, count - 1);
    if (count == 1) {
        set(page, PAGE_HEAP_AT, BTREE_PAGE);
        set(page, PAGE_DEAD_AT, 0);
    }
}

void page_set_value(uint8_t *page, unsigned i, struct slice value)
{
    struct slice old = page_value(page, i);

    ASSERT(old.size == value.size);
    if (value.size > 0) {
        memcpy(page + (old.data - page), value.data, value.size);
    }
}

unsigned page_split_point(const uint8_t *page)
{
    unsigned count = page_count(page);
    size_t half = page_used(page) / 2;
    size_t sum = 0;

    ASSERT(count >= 2);
    for (unsigned i = 0; i < count - 1; i++) {
        sum += cell_bytes(cell(page, i)) + 2;
        if (sum >= half) {
            return i + 1;
        }
    }
    return count - 1;
}

void page_move_tail(uint8_t *page, unsigned first, uint8_t *to)
{
    unsigned count = page_count(page);

    for (unsigned i = first; i < count; i++) {
        bool done = page_insert(to, page_count(to), page_key(page, i), page_value(page, i),
                                page_overflows(page, i));

        ASSERT(done);
    }
    for (unsigned i = count; i > first; i--) {
        page_remove(page, i - 1);
    }
    compact(page);
}

int page_check(const uint8_t *page)
{
    unsigned count = page_count(page);
    unsigned heap = get(page, PAGE_HEAP_AT);
    bool inner = page_level(page) > 0;
    size_t used = 0;

    if (heap > BTREE_PAGE || PAGE_HEADER + 2 * (size_t)count > heap ||
        page_level(page) >= BTREE_DEPTH_MAX || (inner && count == 0)) {
        return -ERR_CORRUPT;
    }
    for (unsigned i = 0; i < count; i++) {
        size_t at = get(page, PAGE_HEADER + 2 * i);
        size_t value;

        if (at < heap || at + CELL_HEADER > BTREE_PAGE || at + cell_bytes(page + at) > BTREE_PAGE) {
            return -ERR_CORRUPT;
        }
        used += cell_bytes(page + at);
        value = page_value(page, i).size;
        if (page_key(page, i).size > BTREE_KEY_MAX || value > BTREE_VALUE_INLINE ||
            (inner && value != CHILD_REF) ||
            (!inner && page_overflows(page, i) && value != OVERFLOW_REF) ||
            (i > 0 && slice_compare(page_key(page, i - 1), page_key(page, i)) >= 0)) {
            return -ERR_CORRUPT;
        }
    }
    return used + get(page, PAGE_DEAD_AT) == BTREE_PAGE - heap ? 0 : -ERR_CORRUPT;
}
