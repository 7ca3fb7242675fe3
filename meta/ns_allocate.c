/*
 * ns_allocate: FALLOCATE, and what is allocated without data: *reservations*, ranges of a file that
 * count as used and read as zeros. They are records of their own beside extents and inline data,
 * with which they never overlap: whoever stores data in a range cuts the reservation out of it.
 * SEEK: where data and holes are; a reservation is a hole.
 */
#include "meta/ns_internal.h"

#include "base/assert.h"
#include "base/bytes.h"

#define ALLOCATE_MODES (META_ALLOCATE_KEEP_SIZE | META_ALLOCATE_PUNCH | META_ALLOCATE_ZERO)

struct range {
    uint64_t from, to;
};

/* ---- reservations ---- */

/* The first one of the inode that ends behind `from`. */
static bool reservation_at(struct ns *ns, uint64_t ino, uint64_t from, struct range *out_range)
{
    struct record_key at = record_key_reservation(ino, from);
    struct record_reservation record;
    struct slice key, value;

    if (from > 0 && kv_seek_before(ns->kv, record_slice(&at), &key, &value) &&
        record_key_same_group(key, 'F', ino) && record_reservation_decode(&record, value) == 0 &&
        record_key_number(key, 1) + record.length > from) {
        *out_range =
            (struct range){record_key_number(key, 1), record_key_number(key, 1) + record.length};
        return true;
    }
    if (!kv_seek(ns->kv, record_slice(&at), &key, &value) ||
        !record_key_same_group(key, 'F', ino) || record_reservation_decode(&record, value) < 0) {
        return false;
    }
    *out_range =
        (struct range){record_key_number(key, 1), record_key_number(key, 1) + record.length};
    return true;
}

static void put_reservation(struct ns *ns, struct inode *inode, struct range range)
{
    struct record_key key = record_key_reservation(inode->ino, range.from);
    struct record_reservation record = {.length = range.to - range.from};

    buf_clear(&ns->scratch);
    record_reservation_encode(&record, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
    inode->r.reserved += record.length;
    ns->volume.reserved_bytes += record.length;
}

static void drop_reservation(struct ns *ns, struct inode *inode, struct range range)
{
    struct record_key key = record_key_reservation(inode->ino, range.from);

    kv_del(ns->kv, record_slice(&key));
    inode->r.reserved -= range.to - range.from;
    ns->volume.reserved_bytes -= range.to - range.from;
}

void reservations_cut(struct ns *ns, struct inode *inode, uint64_t from, uint64_t to)
{
    struct range range;

    while (inode->r.reserved != 0 && from < to && reservation_at(ns, inode->ino, from, &range) &&
           range.from < to) {
        drop_reservation(ns, inode, range);
        if (range.from < from) {
            put_reservation(ns, inode, (struct range){range.from, from});
        }
        if (range.to > to) {
            put_reservation(ns, inode, (struct range){to, range.to});
        }
        from = range.to;
    }
}

bool reservations_free(struct ns *ns, struct inode *inode, unsigned *budget)
{
    struct range range;

    while (inode->r.reserved != 0 && reservation_at(ns, inode->ino, 0, &range)) {
        if (*budget == 0) {
            return false;
        }
        (*budget)--;
        drop_reservation(ns, inode, range);
    }
    return true;
}

uint64_t range_of_a_step(struct ns *ns, const struct inode *inode, uint64_t from, uint64_t to)
{
    uint64_t data_to = from, reserved_to = from;
    struct extent extent;
    struct range range;
    unsigned i;

    for (i = 0; inode->r.data_id != 0 && i < META_FREE_STEP_EXTENTS &&
                extent_at(ns, inode->r.data_id, data_to, &extent) && extent.offset < to;
         i++) {
        data_to = extent_end(&extent);
    }
    to = i == META_FREE_STEP_EXTENTS ? min_u64(to, data_to) : to;
    for (i = 0; inode->r.reserved != 0 && i < META_FREE_STEP_EXTENTS &&
                reservation_at(ns, inode->ino, reserved_to, &range) && range.from < to;
         i++) {
        reserved_to = range.to;
    }
    return i == META_FREE_STEP_EXTENTS ? min_u64(to, reserved_to) : to;
}

/* Adds one where nothing is, and lets those that it touches become one with it. */
static void add_reservation(struct ns *ns, struct inode *inode, struct range range)
{
    struct range other;

    if (range.from > 0 && reservation_at(ns, inode->ino, range.from - 1, &other) &&
        other.to == range.from) {
        drop_reservation(ns, inode, other);
        range.from = other.from;
    }
    if (reservation_at(ns, inode->ino, range.to, &other) && other.from == range.to) {
        drop_reservation(ns, inode, other);
        range.to = other.to;
    }
    put_reservation(ns, inode, range);
}

/* ---- allocating ---- */

/* The first range in [from, to) that no data takes. */
static bool next_gap(struct ns *ns, const struct inode *inode, uint64_t from, uint64_t to,
                     struct range *out_gap)
{
    struct extent extent;

    from = max_u64(from, inode->r.content.size);
    for (;;) {
        bool some = inode->r.data_id != 0 && extent_at(ns, inode->r.data_id, from, &extent);

        if (from >= to) {
            return false;
        }
        if (!some || extent.offset > from) {
            *out_gap = (struct range){from, some ? min_u64(extent.offset, to) : to};
            return true;
        }
        from = extent_end(&extent);
    }
}

/* The first range in the gap that is not reserved. */
static bool next_unreserved(struct ns *ns, const struct inode *inode, struct range gap,
                            struct range *out_free)
{
    struct range taken;

    while (gap.from < gap.to) {
        bool some = inode->r.reserved != 0 && reservation_at(ns, inode->ino, gap.from, &taken);

        if (!some || taken.from > gap.from) {
            *out_free = (struct range){gap.from, some ? min_u64(taken.from, gap.to) : gap.to};
            return true;
        }
        gap.from = taken.to;
    }
    return false;
}

/* The bytes that would have to be reserved; with `apply`, they are. */
static uint64_t reserve(struct ns *ns, struct inode *inode, uint64_t from, uint64_t to, bool apply)
{
    uint64_t needed = 0;
    struct range gap, piece;

    while (next_gap(ns, inode, from, to, &gap)) {
        while (next_unreserved(ns, inode, gap, &piece)) {
            needed += piece.to - piece.from;
            if (apply) {
                add_reservation(ns, inode, piece);
            }
            gap.from = piece.to;
        }
        from = gap.to;
    }
    return needed;
}

/* ---- punching ---- */

static void punch_inline(struct ns *ns, struct inode *inode, uint64_t from, uint64_t to)
{
    struct slice content = inode->r.content;
    cleanup(buf_deinit) struct buf bytes = {0};

    if (from >= content.size) {
        return;
    }
    if (to >= content.size) {
        inode_set_content(ns, inode, slice_make(content.data, from));
        return;
    }
    buf_append_slice(&bytes, content);
    memset(bytes.data + from, 0, to - from);
    inode_set_content(ns, inode, arena_copy(&ns->arena, buf_slice(&bytes)));
}

static void punch(struct ns *ns, struct inode *inode, uint64_t from, uint64_t to)
{
    unsigned budget = UINT32_MAX;
    uint64_t freed = 0;

    punch_inline(ns, inode, from, to);
    extents_punch(ns, inode->r.data_id, from, to, &budget, &freed);
    inode_account(ns, inode, 0, freed);
}

/* ---- the operations ---- */

static int check_allocate(struct ns *ns, const struct inode *inode)
{
    const struct meta_request *request = ns->request;
    uint32_t mode = request->mode;
    uint64_t end;
    int r;

    if (!S_ISREG(inode->r.mode)) {
        return S_ISDIR(inode->r.mode) ? -EISDIR : -ENODEV;
    }
    if ((mode & ~(uint32_t)ALLOCATE_MODES) != 0 ||
        ((mode & META_ALLOCATE_PUNCH) != 0 && (mode & META_ALLOCATE_ZERO) != 0)) {
        return -EOPNOTSUPP;
    }
    if (request->size == 0) {
        return -EINVAL;
    }
    if (__builtin_add_overflow(request->offset, request->size, &end) || end > INT64_MAX) {
        return -EFBIG;
    }
    r = flags_allow_allocate(inode, mode);
    return r < 0 || (request->flags & META_SKIP_ACCESS) != 0 ? r : may_access(ns, inode, MAY_WRITE);
}

/* mode: META_ALLOCATE_*; [offset, offset + size). value: how far it came; the client goes on there.
 */
int ns_fallocate(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    struct inode inode = {0};
    uint64_t to;
    int r;

    r = inode_get(ns, request->ino, &inode);
    if (r == 0) {
        r = check_allocate(ns, &inode);
    }
    if (r < 0) {
        return r;
    }
    to = range_of_a_step(ns, &inode, request->offset, request->offset + request->size);
    if ((request->mode & META_ALLOCATE_PUNCH) == 0 && request->stamp_space != 0 &&
        ns->volume.reserved_bytes + reserve(ns, &inode, request->offset, to, false) >=
            request->stamp_space) {
        return -ENOSPC;
    }
    if ((request->mode & (META_ALLOCATE_PUNCH | META_ALLOCATE_ZERO)) != 0) {
        punch(ns, &inode, request->offset, to);
    }
    if ((request->mode & META_ALLOCATE_PUNCH) != 0) {
        reservations_cut(ns, &inode, request->offset, to);
    } else {
        reserve(ns, &inode, request->offset, to, true);
    }
    if ((request->mode & (META_ALLOCATE_PUNCH | META_ALLOCATE_KEEP_SIZE)) == 0) {
        inode.r.size = max_u64(inode.r.size, to);
    }
    if (request->uid != 0) {
        kill_priv(ns, &inode);
    }
    inode_touch_data(ns, &inode);
    inode_put(ns, &inode);
    reply_attr(ns, &inode);
    ns->reply.value = to;
    return 0;
}

/* Inline data: a block of zeros is a hole. */
static bool is_zero_block(struct slice content, uint64_t block)
{
    uint64_t end = min_u64(content.size, (block + 1) * META_BLOCK_SIZE);

    for (uint64_t i = block * META_BLOCK_SIZE; i < end; i++) {
        if (content.data[i] != 0) {
            return false;
        }
    }
    return true;
}

static uint64_t seek_inline(const struct inode *inode, uint64_t offset, bool data)
{
    while (offset < inode->r.size &&
           is_zero_block(inode->r.content, offset / META_BLOCK_SIZE) == data) {
        offset = (offset / META_BLOCK_SIZE + 1) * META_BLOCK_SIZE;
        if (data && offset >= inode->r.content.size) {
            return inode->r.size; /* nothing but a hole from here on */
        }
    }
    return min_u64(offset, inode->r.size);
}

/* value2 = 1: data up to `value` at least; ask again from there. */
static uint64_t seek_extents(struct ns *ns, const struct inode *inode, uint64_t offset, bool data)
{
    struct extent extent;

    if (data) {
        return extent_at(ns, inode->r.data_id, offset, &extent) ? max_u64(offset, extent.offset)
                                                                : inode->r.size;
    }
    for (unsigned count = 0; extent_at(ns, inode->r.data_id, offset, &extent); count++) {
        if (extent.offset > offset) {
            break;
        }
        if (count == META_FREE_STEP_EXTENTS) {
            ns->reply.value2 = 1;
            break;
        }
        offset = extent_end(&extent);
    }
    return min_u64(offset, inode->r.size);
}

/* count: SEEK_DATA or SEEK_HOLE of Linux; value: the offset. */
int ns_seek(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    bool data = request->count == META_SEEK_DATA;
    struct inode inode = {0};
    uint64_t at;
    int r;

    r = inode_get(ns, request->ino, &inode);
    if (r < 0) {
        return r;
    }
    if (!S_ISREG(inode.r.mode) || (!data && request->count != META_SEEK_HOLE)) {
        return -EINVAL;
    }
    if (request->offset >= inode.r.size) {
        return -ENXIO;
    }
    at = inode.r.data_id == 0 ? seek_inline(&inode, request->offset, data)
                              : seek_extents(ns, &inode, request->offset, data);
    if (data && at >= inode.r.size) {
        return -ENXIO;
    }
    ns->reply.value = at;
    return 0;
}
