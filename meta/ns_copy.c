/*
 * ns_copy: COPY_RANGE: a range of one file becomes part of another (or of the same), by naming the
 * same chunks: no data moves, for chunks never change. Only what lies in chunks can be shared; for
 * the rest the answer is EOPNOTSUPP, and the client copies.
 */
#include "meta/ns_internal.h"

#include "base/assert.h"

struct copy {
    struct inode from, to; /* of the same file: only `to` */
    bool same;
    uint64_t length;
    struct extent *parts; /* of the source, at their new offsets */
    unsigned count;
};

static struct inode *source(struct copy *copy)
{
    return copy->same ? &copy->to : &copy->from;
}

static int load(struct ns *ns, struct copy *copy)
{
    const struct meta_request *request = ns->request;
    int r;

    copy->same = request->ino == request->ino2;
    r = inode_get(ns, request->ino2, &copy->to);
    if (r == 0 && !copy->same) {
        r = inode_get(ns, request->ino, &copy->from);
    }
    if (r < 0) {
        return r;
    }
    if (!S_ISREG(copy->to.r.mode) || !S_ISREG(source(copy)->r.mode)) {
        return -EINVAL;
    }
    if (request->size > INT64_MAX || request->offset > INT64_MAX - request->size ||
        request->offset2 > INT64_MAX - request->size) {
        return -EFBIG;
    }
    if (copy->same && request->offset < request->offset2 + request->size &&
        request->offset2 < request->offset + request->size) {
        return -EINVAL;
    }
    r = flags_allow_change(&copy->to);
    if (r < 0 || (request->flags & META_SKIP_ACCESS) != 0) {
        return r;
    }
    r = may_access(ns, source(copy), MAY_READ);
    return r < 0 ? r : may_access(ns, &copy->to, MAY_WRITE);
}

/* Finds the parts; the copy is shorter when they are too many, or where they are not in chunks. */
static int find_parts(struct ns *ns, struct copy *copy)
{
    const struct meta_request *request = ns->request;
    const struct inode *from = source(copy);
    uint64_t at = request->offset, end = request->offset + copy->length;
    struct extent extent;

    if (from->r.content.size > 0 ||
        (copy->to.r.content.size > 0 &&
         (request->offset2 > 0 || copy->length < copy->to.r.content.size))) {
        return -EOPNOTSUPP;
    }
    copy->parts = arena_alloc(&ns->arena, META_EXTENTS_MAX * sizeof(*copy->parts));
    while (at < end && from->r.data_id != 0 && extent_at(ns, from->r.data_id, at, &extent) &&
           extent.offset < end) {
        uint64_t begin = max_u64(at, extent.offset);

        if (extent_is_journalled(&extent) || copy->count == META_EXTENTS_MAX) {
            copy->length = begin - request->offset;
            return copy->length == 0 ? -EOPNOTSUPP : 0;
        }
        at = min_u64(extent_end(&extent), end);
        extent.r.chunk_offset += (uint32_t)(begin - extent.offset);
        extent.r.length = (uint32_t)(at - begin);
        extent.offset = request->offset2 + (begin - request->offset);
        copy->parts[copy->count++] = extent;
    }
    return 0;
}

/* The inline data of the target, if any, is wholly covered. */
static bool covers_inline(const struct copy *copy)
{
    return copy->length >= copy->to.r.content.size;
}

static void put_parts(struct ns *ns, struct copy *copy)
{
    struct inode *to = &copy->to;
    uint64_t begin = ns->request->offset2, removed = 0, added = 0;
    unsigned budget = UINT32_MAX;

    for (unsigned i = 0; i < copy->count; i++) { /* first: a chunk must not die in between */
        chunk_ref(ns, copy->parts[i].r.session, copy->parts[i].r.seq, copy->parts[i].r.length);
    }
    if (to->r.data_id == 0) {
        to->r.data_id = ns->volume.next_ino++;
    }
    inode_set_content(ns, to, (struct slice){0});
    extents_punch(ns, to->r.data_id, begin, begin + copy->length, &budget, &removed);
    for (unsigned i = 0; i < copy->count; i++) {
        const struct extent *part = &copy->parts[i];

        extent_put(ns, to->r.data_id, part);
        reservations_cut(ns, to, part->offset, extent_end(part));
        added += part->r.length;
    }
    inode_account(ns, to, added, removed);
    to->r.size = max_u64(to->r.size, begin + copy->length);
}

/* ino, offset: from where; ino2, offset2: where to; size: how much at most. value: how much was. */
int ns_copy_range(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    struct copy copy = {0};
    uint64_t size;
    int r;

    r = load(ns, &copy);
    if (r < 0) {
        return r;
    }
    size = source(&copy)->r.size;
    copy.length = request->offset < size ? min_u64(request->size, size - request->offset) : 0;
    if (copy.length > 0) {
        copy.length =
            range_of_a_step(ns, &copy.to, request->offset2, request->offset2 + copy.length) -
            request->offset2;
        r = find_parts(ns, &copy);
        if (r == 0 && !covers_inline(&copy)) {
            r = -EOPNOTSUPP;
        }
        if (r < 0) {
            return r;
        }
        put_parts(ns, &copy);
        if (request->uid != 0) {
            kill_priv(ns, &copy.to);
        }
        inode_touch_data(ns, &copy.to);
        inode_put(ns, &copy.to);
    } else {
        ns->reply.flags |= META_UNCHANGED;
    }
    reply_attr(ns, &copy.to);
    ns->reply.value = copy.length;
    return 0;
}
