/* ns_commit: COMMIT: what was written becomes part of files, many of them in one transaction. */
#include "meta/ns_internal.h"

#include "base/assert.h"
#include "base/trace_mark.h"
#include "chunkstore/placement.h"

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
                                        .flags = wire.flags,
                                        .data = wire.data}};
    return true;
}

static int check_extent(struct ns *ns, const struct extent *extent)
{
    if (extent->r.length == 0 || extent->r.length > CHUNK_BYTES_MAX ||
        extent->r.chunk_offset > CHUNK_BYTES_MAX - extent->r.length) {
        return -EINVAL;
    }
    if (extent->offset > (uint64_t)INT64_MAX - extent->r.length) {
        return -EFBIG;
    }
    if (extent_is_journalled(extent)) {
        return extent->r.data.size != extent->r.length || extent->r.session != 0 ||
                       extent->r.seq != 0 || extent->r.chunk_offset != 0
                   ? -EINVAL
                   : 0;
    }
    return chunk_check(ns, extent->r.session, extent->r.seq);
}

static int check_extents(struct ns *ns, struct slice extents, uint64_t *out_end)
{
    struct schema_reader reader = schema_reader_make(extents);
    uint64_t journalled = 0;
    struct extent extent;
    bool failed = false;
    unsigned count = 0;

    *out_end = 0;
    while (next_extent(&reader, &extent, &failed)) {
        int r = ++count > META_EXTENTS_MAX ? -EINVAL : check_extent(ns, &extent);

        if (r < 0) {
            return r;
        }
        journalled += extent.r.data.size;
        *out_end = max_u64(*out_end, extent_end(&extent));
    }
    if (failed) {
        return -EINVAL;
    }
    return journalled != 0 && ns->volume.journal_bytes + journalled > META_JOURNAL_MAX
               ? -ERR_JOURNAL_FULL
               : 0;
}

/* Do the extents cover [0, size)? They may come in any order. */
static bool covers(struct slice extents, uint64_t size)
{
    uint64_t covered = 0;
    uint64_t before;

    do {
        struct schema_reader reader = schema_reader_make(extents);
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
        r = may_access(ns, inode, MAY_WRITE);
        if (r < 0) {
            return r;
        }
    }
    r = check_extents(ns, commit->extents, out_end);
    if (r < 0) {
        return r;
    }
    if (commit->base != 0 && commit->base != inode->r.change) {
        TRACE_MARK("a commit on contents that have changed");
        return -ERR_CHANGED;
    }
    if (commit->old_end != 0 && commit->old_end - 1 != inode->r.size) {
        TRACE_MARK("an append to a file that ends elsewhere");
        return -ERR_CHANGED;
    }
    if (commit->is_inline) {
        return commit->extents.size > 0 ? -EINVAL : 0;
    }
    if (commit->extents.size > 0 && inode->r.content.size > 0 &&
        !covers(commit->extents, inode->r.content.size)) {
        TRACE_MARK("a commit that would lose inline bytes");
        return -ERR_CHANGED; /* would lose what was inline */
    }
    return 0;
}

/* Cut off at the size of the file; a journalled one gets its name. */
static void fit_extent(const struct ns *ns, const struct inode *inode, struct extent *extent)
{
    extent->r.length = (uint32_t)min_u64(extent->r.length, inode->r.size - extent->offset);
    if (extent_is_journalled(extent)) {
        extent->r.data.size = extent->r.length;
        extent->r.session = ns->request->session;
        extent->r.seq = ns->request->seq;
    }
}

/* References first: a chunk that is named again must not die in between. */
static void ref_extents(struct ns *ns, struct slice extents, const struct inode *inode)
{
    struct schema_reader reader = schema_reader_make(extents);
    struct extent extent;
    bool failed = false;

    while (next_extent(&reader, &extent, &failed)) {
        if (extent.offset < inode->r.size && !extent_is_journalled(&extent)) {
            fit_extent(ns, inode, &extent);
            chunk_ref(ns, extent.r.session, extent.r.seq, extent.r.length);
        }
    }
}

/* Puts the extents in place of what they cover. */
static void commit_extents(struct ns *ns, struct slice extents, struct inode *inode)
{
    struct schema_reader reader = schema_reader_make(extents);
    struct extent extent;
    bool failed = false;

    if (inode->r.data_id == 0) {
        inode->r.data_id = ns->volume.next_ino++;
    }
    inode_set_content(ns, inode, (struct slice){0});
    ref_extents(ns, extents, inode);
    while (next_extent(&reader, &extent, &failed)) {
        unsigned budget = UINT32_MAX;
        uint64_t removed = 0;

        if (extent.offset >= inode->r.size) {
            continue;
        }
        fit_extent(ns, inode, &extent);
        extents_punch(ns, inode->r.data_id, extent.offset, extent_end(&extent), &budget, &removed);
        extent_put(ns, inode->r.data_id, &extent);
        reservations_cut(ns, inode, extent.offset, extent_end(&extent));
        if (extent_is_journalled(&extent)) {
            journal_add(ns, inode, &extent);
        }
        inode_account(ns, inode, extent.r.length, removed);
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
        inode_drop_data(ns, inode);
        inode_set_content(ns, inode, commit->inline_data);
        end = commit->inline_data.size;
        reservations_cut(ns, inode, 0, end);
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
    struct schema_reader reader = schema_reader_make(data);
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
    struct schema_reader reader = schema_reader_make(ns->request->data);
    cleanup(buf_deinit) struct buf attr = {0};
    int r = check_list(ns->request->data);

    if (r < 0) {
        return r;
    }
    while (reader.at < reader.end) {
        struct inode inode = {0};
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
