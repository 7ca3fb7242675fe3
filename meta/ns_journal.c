/*
 * ns_journal: small synchronous writes whose bytes are in the COMMIT itself and then in the
 * extent's record: one round instead of two. Each has a second key, so that they can be found;
 * SETTLE replaces them by a chunk, where they have not been overwritten or cut off meanwhile.
 */
#include "meta/ns_internal.h"

#include "chunkstore/placement.h"

static void put_journal(struct ns *ns, uint64_t data, uint64_t offset,
                        const struct record_journal *record)
{
    struct record_key key = record_key_journal(data, offset);

    buf_clear(&ns->scratch);
    record_journal_encode(record, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

void journal_add(struct ns *ns, const struct inode *inode, const struct extent *extent)
{
    put_journal(ns, inode->r.data_id, extent->offset,
                &(struct record_journal){.ino = inode->ino, .since = ns->stamp});
    ns->volume.journal_bytes += extent->r.length;
}

void journal_cut(struct ns *ns, uint64_t data, const struct extent *extent, uint64_t begin,
                 uint64_t end)
{
    struct record_key key = record_key_journal(data, extent->offset);
    struct record_journal record = {0};
    struct slice value;

    ns->volume.journal_bytes -= min_u64(ns->volume.journal_bytes, end - begin);
    if (!kv_get(ns->kv, record_slice(&key), &value) || record_journal_decode(&record, value) < 0) {
        return;
    }
    if (begin == extent->offset) {
        kv_del(ns->kv, record_slice(&key));
    }
    if (end < extent_end(extent)) {
        put_journal(ns, data, end, &record);
    }
}

bool journal_next(struct ns *ns, uint64_t data, uint64_t offset, uint64_t *out_offset)
{
    struct record_key at = record_key_journal(data, offset);
    struct slice key, value;

    if (!kv_seek(ns->kv, record_slice(&at), &key, &value) ||
        !record_key_same_group(key, 'J', data)) {
        return false;
    }
    *out_offset = record_key_number(key, 1);
    return true;
}

bool ns_next_journal(struct ns *ns, uint64_t after, uint64_t *out_data, struct record_journal *out)
{
    struct record_key at = record_key_journal(after + 1, 0);
    struct slice key, value;

    if (after == UINT64_MAX || !kv_seek(ns->kv, record_slice(&at), &key, &value) ||
        !record_key_is(key, 'J') || record_journal_decode(out, value) < 0) {
        return false;
    }
    *out_data = record_key_number(key, 0);
    return true;
}

/* ---- SETTLE ---- */

/* Puts the chunk's extent there, or lets the one before it grow. */
static void put_settled(struct ns *ns, uint64_t data, const struct extent *extent)
{
    struct extent before;

    if (extent->offset > 0 && extent_at(ns, data, extent->offset - 1, &before) &&
        extent_end(&before) == extent->offset && !extent_is_journalled(&before) &&
        before.r.session == extent->r.session && before.r.seq == extent->r.seq &&
        before.r.chunk_offset + before.r.length == extent->r.chunk_offset) {
        before.r.length += extent->r.length;
        extent_put(ns, data, &before);
    } else {
        extent_put(ns, data, extent);
    }
}

/* The chunk takes the place of [begin, end) of the journalled extent. */
static void settle_extent(struct ns *ns, uint64_t data, const struct meta_settle *settle,
                          const struct extent *old)
{
    uint64_t begin = max_u64(settle->offset, old->offset);
    uint64_t end = min_u64(settle->offset + settle->length, extent_end(old));
    struct extent extent = {
        .offset = begin,
        .r = {.length = (uint32_t)(end - begin),
              .session = settle->chunk_session,
              .seq = settle->chunk_seq,
              .chunk_offset = settle->chunk_offset + (uint32_t)(begin - settle->offset)}};

    extent_cut(ns, data, old, begin, end);
    chunk_ref(ns, settle->chunk_session, settle->chunk_seq, extent.r.length);
    put_settled(ns, data, &extent);
}

static void settle_range(struct ns *ns, uint64_t data, const struct meta_settle *settle)
{
    uint64_t at = settle->offset, end = settle->offset + settle->length;
    struct extent old;

    while (data != 0 && at < end && extent_at(ns, data, at, &old) && old.offset < end) {
        at = extent_end(&old);
        if (extent_is_journalled(&old) && old.r.session == settle->from_session &&
            old.r.seq == settle->from_seq) {
            settle_extent(ns, data, settle, &old);
        }
    }
}

static bool next_settle(struct schema_reader *reader, struct meta_settle *out, bool *io_failed)
{
    struct slice bytes;

    if (reader->at == reader->end) {
        return false;
    }
    bytes = schema_read_bytes(reader, META_BODY_MAX);
    *io_failed = reader->failed || meta_settle_decode(out, bytes) < 0;
    return !*io_failed;
}

static int check_settle(struct ns *ns, const struct meta_settle *settle)
{
    if (settle->length == 0 || settle->length > CHUNK_BYTES_MAX ||
        settle->chunk_offset > CHUNK_BYTES_MAX - settle->length ||
        settle->offset > (uint64_t)INT64_MAX - settle->length) {
        return -EINVAL;
    }
    return chunk_check(ns, settle->chunk_session, settle->chunk_seq);
}

static int check_settles(struct ns *ns)
{
    struct slice data = ns->request->data;
    struct schema_reader reader = schema_reader_make(data);
    struct meta_settle settle;
    bool failed = false;
    unsigned count = 0;

    while (next_settle(&reader, &settle, &failed)) {
        int r = ++count > META_EXTENTS_MAX ? -EINVAL : check_settle(ns, &settle);

        if (r < 0) {
            return r;
        }
    }
    return failed ? -EINVAL : 0;
}

/* The contents stay what they are, so no time and no change counter moves. */
int ns_settle(struct ns *ns)
{
    struct slice data = ns->request->data;
    struct schema_reader reader = schema_reader_make(data);
    struct inode inode = {0};
    struct meta_settle settle;
    bool failed = false;
    int r;

    r = inode_get(ns, ns->request->ino, &inode);
    if (r == 0) {
        r = S_ISREG(inode.r.mode) ? check_settles(ns) : -EINVAL;
    }
    if (r < 0) {
        return r;
    }
    while (next_settle(&reader, &settle, &failed)) {
        settle_range(ns, inode.r.data_id, &settle);
    }
    return 0;
}
