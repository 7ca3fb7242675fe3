#include "meta/ns_internal.h"

#include "base/assert.h"

/* ---- chunks in use ---- */

static void put_chunk(struct ns *ns, uint64_t session, uint64_t seq, struct record_chunk record)
{
    struct record_key key = record_key_chunk(session, seq);

    buf_clear(&ns->scratch);
    record_chunk_encode(&record, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

void chunk_ref(struct ns *ns, uint64_t session, uint64_t seq, uint64_t bytes)
{
    struct record_chunk record = {0};

    ns_get_chunk(ns, session, seq, &record);
    ASSERT(record.dead_since == 0);
    record.live += bytes;
    put_chunk(ns, session, seq, record);
}

/* The last byte gone: into the delete queue. */
static void chunk_unref(struct ns *ns, uint64_t session, uint64_t seq, uint64_t bytes)
{
    struct record_chunk record;

    if (!ns_get_chunk(ns, session, seq, &record) || record.dead_since != 0) {
        return;
    }
    record.live -= min_u64(record.live, bytes);
    if (record.live == 0) {
        struct record_key key = record_key_gone(ns->stamp, session, seq);

        record.dead_since = ns->stamp;
        kv_put(ns->kv, record_slice(&key), (struct slice){0});
        ns->volume.delete_queue++;
    }
    put_chunk(ns, session, seq, record);
}

int chunk_check(struct ns *ns, uint64_t session, uint64_t seq)
{
    struct record_session writer = {0};
    struct record_chunk record;
    uint64_t low;

    if (ns_get_chunk(ns, session, seq, &record)) {
        return record.dead_since != 0 ? -ESTALE : 0;
    }
    if (session != ns->request->session) {
        return -ERR_SESSION_EXPIRED; /* a chunk of a session that is gone: never committed */
    }
    /* What this very request gives up counts too: its chunks may have been called dead already. */
    ns_get_session(ns, session, &writer);
    low = max_u64(writer.chunk_low, ns->request->chunk_low);
    return seq < low ? -ESTALE : 0;
}

/* ---- extents of a file ---- */

void extent_put(struct ns *ns, uint64_t data, const struct extent *extent)
{
    struct record_key key = record_key_extent(data, extent->offset);

    buf_clear(&ns->scratch);
    record_extent_encode(&extent->r, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

static bool read_extent(struct slice key, struct slice value, uint64_t data,
                        struct extent *out_extent)
{
    if (!record_key_same_group(key, 'E', data) || record_extent_decode(&out_extent->r, value) < 0) {
        return false;
    }
    out_extent->offset = record_key_number(key, 1);
    return true;
}

bool extent_at(struct ns *ns, uint64_t data, uint64_t from, struct extent *out_extent)
{
    struct record_key at = record_key_extent(data, from);
    struct slice key, value;

    if (from > 0 && kv_seek_before(ns->kv, record_slice(&at), &key, &value) &&
        read_extent(key, value, data, out_extent) && extent_end(out_extent) > from) {
        return true;
    }
    return kv_seek(ns->kv, record_slice(&at), &key, &value) &&
           read_extent(key, value, data, out_extent);
}

/* The bytes [begin, end) of the file, which the extent covers. */
static struct extent part_of(const struct extent *extent, uint64_t begin, uint64_t end)
{
    uint32_t skip = (uint32_t)(begin - extent->offset);
    struct extent part = *extent;

    part.offset = begin;
    part.r.length = (uint32_t)(end - begin);
    if (extent_is_journalled(extent)) {
        part.r.data = slice_make(extent->r.data.data + skip, part.r.length);
    } else {
        part.r.chunk_offset += skip;
    }
    return part;
}

uint64_t extent_cut(struct ns *ns, uint64_t data, const struct extent *whole, uint64_t from,
                    uint64_t to)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    uint64_t begin = max_u64(from, whole->offset);
    uint64_t end = min_u64(to, extent_end(whole));
    struct extent extent = *whole;

    buf_append_slice(&bytes, extent.r.data); /* what it borrows from is about to change */
    extent.r.data = buf_slice(&bytes);
    if (extent_is_journalled(&extent)) {
        journal_cut(ns, data, &extent, begin, end);
    } else {
        chunk_unref(ns, extent.r.session, extent.r.seq, end - begin);
    }
    if (begin > extent.offset) {
        struct extent left = part_of(&extent, extent.offset, begin);

        extent_put(ns, data, &left);
    } else {
        struct record_key key = record_key_extent(data, extent.offset);

        kv_del(ns->kv, record_slice(&key));
    }
    if (end < extent_end(&extent)) {
        struct extent right = part_of(&extent, end, extent_end(&extent));

        extent_put(ns, data, &right);
    }
    return end - begin;
}

bool extents_punch(struct ns *ns, uint64_t data, uint64_t from, uint64_t to, unsigned *budget,
                   uint64_t *io_bytes)
{
    struct extent extent;

    while (data != 0 && extent_at(ns, data, from, &extent) && extent.offset < to) {
        if (*budget == 0) {
            return false;
        }
        (*budget)--;
        *io_bytes += extent_cut(ns, data, &extent, from, to);
    }
    return true;
}

void inode_account(struct ns *ns, struct inode *inode, uint64_t added, uint64_t removed)
{
    inode->r.bytes = inode->r.bytes + added - removed;
    ns->volume.used_bytes = ns->volume.used_bytes + added - removed;
}

/* What is too much for one step becomes an orphan of its own. */
void inode_drop_data(struct ns *ns, struct inode *inode)
{
    unsigned budget = META_FREE_STEP_EXTENTS;
    uint64_t freed = 0;

    if (!extents_punch(ns, inode->r.data_id, 0, UINT64_MAX, &budget, &freed)) {
        orphan_put(ns, inode->r.data_id, (struct record_orphan){.detached = true});
        ns->volume.used_bytes -= freed;
        inode->r.bytes = 0; /* the volume's count falls as the orphan is freed */
    } else {
        inode_account(ns, inode, 0, freed);
    }
    inode->r.data_id = 0; /* inline again */
}

void inode_set_content(struct ns *ns, struct inode *inode, struct slice content)
{
    inode_account(ns, inode, content.size, inode->r.content.size);
    inode->r.content = content;
}

void inode_truncate(struct ns *ns, struct inode *inode, uint64_t size)
{
    unsigned budget = UINT32_MAX;
    uint64_t freed = 0;

    if (size < inode->r.content.size) {
        inode_set_content(ns, inode, slice_make(inode->r.content.data, size));
    }
    if (size == 0) {
        inode_drop_data(ns, inode);
    } else if (size < inode->r.size) {
        extents_punch(ns, inode->r.data_id, size, UINT64_MAX, &budget, &freed);
        inode_account(ns, inode, 0, freed);
    }
    reservations_cut(ns, inode, size, UINT64_MAX);
    inode->r.size = size;
}

static void reply_extent(struct ns *ns, const struct extent *extent)
{
    struct meta_extent out = {.offset = extent->offset,
                              .length = extent->r.length,
                              .chunk_session = extent->r.session,
                              .chunk_seq = extent->r.seq,
                              .chunk_offset = extent->r.chunk_offset,
                              .flags = extent->r.flags,
                              .data = extent->r.data};

    buf_clear(&ns->scratch);
    meta_extent_encode(&out, &ns->scratch);
    schema_write_bytes(&ns->extents, buf_slice(&ns->scratch));
}

/* The next extent of the reply, from `offset` on. */
static bool next_for_reply(struct ns *ns, uint64_t data, uint64_t offset, struct extent *out_extent)
{
    if ((ns->request->flags & META_JOURNALLED) != 0 && !journal_next(ns, data, offset, &offset)) {
        return false;
    }
    return extent_at(ns, data, offset, out_extent);
}

void reply_data(struct ns *ns, const struct inode *inode, uint64_t offset, uint64_t length,
                unsigned max)
{
    uint64_t end = UINT64_MAX;
    struct extent extent;
    unsigned count = 0;

    if (inode->r.data_id == 0) {
        ns->reply.flags |= META_DATA_INLINE;
        ns->reply.value = inode->r.size;
        buf_append_slice(&ns->data, inode->r.content);
        return;
    }
    if (length > 0 && length < INT64_MAX && offset < INT64_MAX) {
        end = offset + length;
    }
    ns->reply.value = end;
    while (next_for_reply(ns, inode->r.data_id, offset, &extent) && extent.offset < end) {
        if (count++ == max || ns->extents.size > META_REPLY_EXTENTS_BYTES) {
            ns->reply.value = extent.offset;
            return;
        }
        reply_extent(ns, &extent);
        offset = extent_end(&extent);
    }
}

int ns_extents(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    struct inode inode = {0};
    int r;

    r = inode_get(ns, request->ino, &inode);
    if (r < 0) {
        return r;
    }
    if (!S_ISREG(inode.r.mode)) {
        return -EINVAL;
    }
    reply_attr(ns, &inode);
    reply_data(ns, &inode, request->offset, request->size, META_EXTENTS_MAX);
    return 0;
}
