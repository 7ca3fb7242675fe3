#include "meta/ns_internal.h"

#include "base/assert.h"
#include "chunkstore/placement.h"

struct extent {
    uint64_t offset;
    struct record_extent r;
};

static uint64_t extent_end(const struct extent *extent)
{
    return extent->offset + extent->r.length;
}

/* ---- chunks in use ---- */

static void put_chunk(struct ns *ns, uint64_t session, uint64_t seq, struct record_chunk record)
{
    struct record_key key = record_key_chunk(session, seq);

    buf_clear(&ns->scratch);
    record_chunk_encode(&record, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

static void chunk_ref(struct ns *ns, uint64_t session, uint64_t seq, uint64_t bytes)
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

/* ---- extents of a file ---- */

static void put_extent(struct ns *ns, uint64_t data, const struct extent *extent)
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

/* The first extent that ends behind `from`. */
static bool extent_at(struct ns *ns, uint64_t data, uint64_t from, struct extent *out_extent)
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

/* Cuts [from, to), which the extent overlaps, out of it. Returns the bytes that went. */
static uint64_t cut(struct ns *ns, uint64_t data, const struct extent *extent, uint64_t from,
                    uint64_t to)
{
    uint64_t begin = max_u64(from, extent->offset);
    uint64_t end = min_u64(to, extent_end(extent));

    if (begin > extent->offset) {
        struct extent left = *extent;

        left.r.length = (uint32_t)(begin - extent->offset);
        put_extent(ns, data, &left);
    } else {
        struct record_key key = record_key_extent(data, extent->offset);

        kv_del(ns->kv, record_slice(&key));
    }
    if (end < extent_end(extent)) {
        struct extent right = *extent;

        right.offset = end;
        right.r.length = (uint32_t)(extent_end(extent) - end);
        right.r.chunk_offset += (uint32_t)(end - extent->offset);
        put_extent(ns, data, &right);
    }
    chunk_unref(ns, extent->r.session, extent->r.seq, end - begin);
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
        *io_bytes += cut(ns, data, &extent, from, to);
    }
    return true;
}

static void account(struct ns *ns, struct inode *inode, uint64_t added, uint64_t removed)
{
    inode->r.bytes = inode->r.bytes + added - removed;
    ns->volume.used_bytes = ns->volume.used_bytes + added - removed;
}

/* All data goes; what is too much for one step becomes an orphan of its own. */
static void drop_data(struct ns *ns, struct inode *inode)
{
    unsigned budget = META_FREE_STEP_EXTENTS;
    uint64_t freed = 0;

    if (!extents_punch(ns, inode->r.data_id, 0, UINT64_MAX, &budget, &freed)) {
        orphan_put(ns, inode->r.data_id, true);
        ns->volume.used_bytes -= freed;
        inode->r.bytes = 0; /* the volume's count falls as the orphan is freed */
    } else {
        account(ns, inode, 0, freed);
    }
    inode->r.data_id = 0; /* inline again */
}

static void set_content(struct ns *ns, struct inode *inode, struct slice content)
{
    account(ns, inode, content.size, inode->r.content.size);
    inode->r.content = content;
}

void inode_truncate(struct ns *ns, struct inode *inode, uint64_t size)
{
    unsigned budget = UINT32_MAX;
    uint64_t freed = 0;

    if (size < inode->r.content.size) {
        set_content(ns, inode, slice_make(inode->r.content.data, size));
    }
    if (size == 0) {
        drop_data(ns, inode);
    } else if (size < inode->r.size) {
        extents_punch(ns, inode->r.data_id, size, UINT64_MAX, &budget, &freed);
        account(ns, inode, 0, freed);
    }
    inode->r.size = size;
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
    while (extent_at(ns, inode->r.data_id, offset, &extent) && extent.offset < end) {
        struct meta_extent out = {.offset = extent.offset,
                                  .length = extent.r.length,
                                  .chunk_session = extent.r.session,
                                  .chunk_seq = extent.r.seq,
                                  .chunk_offset = extent.r.chunk_offset,
                                  .flags = extent.r.flags};

        if (count++ == max) {
            ns->reply.value = extent.offset;
            return;
        }
        buf_clear(&ns->scratch);
        meta_extent_encode(&out, &ns->scratch);
        schema_write_bytes(&ns->extents, buf_slice(&ns->scratch));
        offset = extent_end(&extent);
    }
}

int ns_extents(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    cleanup(inode_deinit) struct inode inode = {0};
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

/* ---- COMMIT ---- */

/* The next length-prefixed extent. False at the end, or when *io_failed is set. */
static bool next_extent(struct schema_reader *reader, struct extent *out_extent, bool *io_failed)
{
    struct meta_extent wire;
    struct slice bytes;

    if (reader->at == reader->end) {
        return false;
    }
    bytes = schema_read_bytes(reader, META_BODY_MAX);
    if (reader->failed || meta_extent_decode(&wire, bytes) < 0) {
        *io_failed = true;
        return false;
    }
    *out_extent = (struct extent){.offset = wire.offset,
                                  .r = {.length = wire.length,
                                        .session = wire.chunk_session,
                                        .seq = wire.chunk_seq,
                                        .chunk_offset = wire.chunk_offset,
                                        .flags = wire.flags}};
    return true;
}

static struct schema_reader reader_of(struct slice bytes)
{
    return (struct schema_reader){bytes.data, bytes.data + bytes.size, false};
}

/* May this request name that chunk? */
static int check_chunk(struct ns *ns, uint64_t chunk_low, const struct extent *extent)
{
    struct record_chunk record;

    if (ns_get_chunk(ns, extent->r.session, extent->r.seq, &record)) {
        return record.dead_since != 0 ? -ESTALE : 0;
    }
    if (extent->r.session != ns->request->session) {
        return -ERR_SESSION_EXPIRED; /* a chunk of a session that is gone: never committed */
    }
    return extent->r.seq < chunk_low ? -ESTALE : 0;
}

static int check_extents(struct ns *ns, struct slice extents, uint64_t *out_end)
{
    struct schema_reader reader = reader_of(extents);
    struct record_session session = {0};
    struct extent extent;
    bool failed = false;
    unsigned count = 0;

    *out_end = 0;
    ns_get_session(ns, ns->request->session, &session);
    /* What this very request gives up counts too: its chunks may have been called dead already. */
    session.chunk_low = max_u64(session.chunk_low, ns->request->chunk_low);
    while (next_extent(&reader, &extent, &failed)) {
        int r;

        if (++count > META_EXTENTS_MAX || extent.r.length == 0 ||
            extent.r.length > CHUNK_BYTES_MAX ||
            extent.r.chunk_offset > CHUNK_BYTES_MAX - extent.r.length) {
            return -EINVAL;
        }
        if (extent.offset > (uint64_t)INT64_MAX - extent.r.length) {
            return -EFBIG;
        }
        r = check_chunk(ns, session.chunk_low, &extent);
        if (r < 0) {
            return r;
        }
        *out_end = max_u64(*out_end, extent_end(&extent));
    }
    return failed ? -EINVAL : 0;
}

/* Do the extents cover [0, size)? They may come in any order. */
static bool covers(struct slice extents, uint64_t size)
{
    uint64_t covered = 0;
    uint64_t before;

    do {
        struct schema_reader reader = reader_of(extents);
        struct extent extent;
        bool failed = false;

        before = covered;
        while (next_extent(&reader, &extent, &failed)) {
            if (extent.offset <= covered && extent_end(&extent) > covered) {
                covered = extent_end(&extent);
            }
        }
    } while (covered > before && covered < size);
    return covered >= size;
}

static int commit_check(struct ns *ns, const struct meta_commit *commit, const struct inode *inode,
                        uint64_t *out_end)
{
    int r;

    if (S_ISDIR(inode->r.mode)) {
        return -EISDIR;
    }
    if (!S_ISREG(inode->r.mode)) {
        return -EINVAL;
    }
    if ((commit->valid & META_SET_SIZE) != 0 && commit->size > INT64_MAX) {
        return -EFBIG;
    }
    if ((ns->request->flags & META_SKIP_ACCESS) == 0) {
        r = may_access(ns->request, inode, MAY_WRITE);
        if (r < 0) {
            return r;
        }
    }
    r = check_extents(ns, commit->extents, out_end);
    if (r < 0) {
        return r;
    }
    if (commit->is_inline) {
        return commit->extents.size > 0 ? -EINVAL : 0;
    }
    if (commit->extents.size > 0 && inode->r.content.size > 0 &&
        !covers(commit->extents, inode->r.content.size)) {
        return -EINVAL; /* would lose what was inline */
    }
    return 0;
}

/* Puts the extents in place of what they cover, cut off at the size. */
static void commit_extents(struct ns *ns, struct slice extents, struct inode *inode)
{
    struct schema_reader reader = reader_of(extents);
    struct extent extent;
    bool failed = false;

    if (inode->r.data_id == 0) {
        inode->r.data_id = ns->volume.next_ino++;
    }
    set_content(ns, inode, (struct slice){0});
    /* References first: a chunk that is named again must not die in between. */
    while (next_extent(&reader, &extent, &failed)) {
        if (extent.offset < inode->r.size) {
            chunk_ref(ns, extent.r.session, extent.r.seq,
                      min_u64(extent.r.length, inode->r.size - extent.offset));
        }
    }
    reader = reader_of(extents);
    while (next_extent(&reader, &extent, &failed)) {
        unsigned budget = UINT32_MAX;
        uint64_t removed = 0;

        if (extent.offset >= inode->r.size) {
            continue;
        }
        extent.r.length = (uint32_t)min_u64(extent.r.length, inode->r.size - extent.offset);
        extents_punch(ns, inode->r.data_id, extent.offset, extent_end(&extent), &budget, &removed);
        put_extent(ns, inode->r.data_id, &extent);
        account(ns, inode, extent.r.length, removed);
    }
}

static int commit_one(struct ns *ns, const struct meta_commit *commit, struct inode *inode)
{
    uint64_t end = 0;
    int r;

    r = inode_get(ns, commit->ino, inode);
    if (r == 0) {
        r = commit_check(ns, commit, inode, &end);
    }
    if (r < 0) {
        return r;
    }
    if (commit->is_inline) {
        drop_data(ns, inode);
        set_content(ns, inode, commit->inline_data);
        end = commit->inline_data.size;
        inode->r.size = end;
    }
    if ((commit->valid & META_SET_SIZE) != 0) {
        inode->r.size = max_u64(inode->r.size, commit->size);
    } else {
        inode->r.size = max_u64(inode->r.size, end);
    }
    if (commit->extents.size > 0) {
        commit_extents(ns, commit->extents, inode);
    }
    if ((commit->valid & META_SET_KILL_PRIV) != 0) {
        kill_priv(ns, inode);
    }
    inode_touch_data(ns, inode);
    if ((commit->valid & META_SET_MTIME) != 0) {
        inode->r.mtime = commit->mtime;
    }
    if ((commit->valid & META_SET_CTIME) != 0) {
        inode->r.ctime = commit->ctime;
    }
    inode_put(ns, inode);
    return 0;
}

/* 0 when the whole list can be decoded. */
static int check_list(struct slice data)
{
    struct schema_reader reader = reader_of(data);
    struct meta_commit commit;
    unsigned count = 0;

    while (reader.at < reader.end) {
        struct slice bytes = schema_read_bytes(&reader, META_BODY_MAX);

        if (reader.failed || meta_commit_decode(&commit, bytes) < 0 || ++count > META_COMMITS_MAX) {
            return -EINVAL;
        }
    }
    return 0;
}

int ns_commit(struct ns *ns)
{
    struct schema_reader reader = reader_of(ns->request->data);
    cleanup(buf_deinit) struct buf attr = {0};
    int r = check_list(ns->request->data);

    if (r < 0) {
        return r;
    }
    while (reader.at < reader.end) {
        cleanup(inode_deinit) struct inode inode = {0};
        struct meta_commit_result result = {0};
        struct meta_commit commit;

        r = meta_commit_decode(&commit, schema_read_bytes(&reader, META_BODY_MAX));
        ASSERT(r == 0);
        result.ino = commit.ino;
        r = commit_one(ns, &commit, &inode);
        result.error = (uint32_t)-r;
        buf_clear(&attr);
        if (r == 0) {
            attr_encode(&inode, &attr);
        }
        result.attr = buf_slice(&attr);
        buf_clear(&ns->scratch);
        meta_commit_result_encode(&result, &ns->scratch);
        schema_write_bytes(&ns->data, buf_slice(&ns->scratch));
    }
    return 0;
}
