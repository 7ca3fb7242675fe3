/*
 * flush_pack: the dirty pieces of a round's inodes laid into chunks, many small ones of many files
 * into one, or (a journalled round) into the commit itself; and the records of the commit.
 */
#include "fs/flush_internal.h"

#include "base/mem.h"
#include "base/trace_mark.h"
#include "fs/coherence.h"
#include "fs/limits.h"

static struct round_chunk *new_chunk(struct flush_round *round)
{
    struct round_chunk *chunk = mem_zalloc(sizeof(*chunk));

    chunk->round = round;
    chunk->seq = chunk_seq_take(round->mount);
    round->chunks = mem_realloc(round->chunks, (round->chunk_count + 1) * sizeof(*round->chunks));
    round->chunks[round->chunk_count++] = chunk;
    return chunk;
}

static void chunk_add(struct round_chunk *chunk, uint8_t *data, uint32_t size)
{
    if (chunk->iov_count == chunk->iov_capacity) {
        chunk->iov_capacity = chunk->iov_capacity ? chunk->iov_capacity * 2 : 8;
        chunk->iov = mem_realloc(chunk->iov, chunk->iov_capacity * sizeof(*chunk->iov));
    }
    chunk->iov[chunk->iov_count++] = (struct iovec){data, size};
    chunk->length += size;
}

static void add_extent(struct round_inode *entry, const struct meta_extent *extent)
{
    cleanup(buf_deinit) struct buf record = {0};

    meta_extent_encode(extent, &record);
    schema_write_bytes(&entry->extents, buf_slice(&record));
}

/* Lays one piece into the round's last chunk, and into new ones as they fill up. */
static void pack_piece(struct flush_round *round, struct round_inode *entry,
                       const struct dirty_piece *piece)
{
    uint32_t done = 0;

    while (done < piece->length) {
        struct round_chunk *chunk =
            round->chunk_count > 0 ? round->chunks[round->chunk_count - 1] : NULL;
        uint32_t part;

        if (chunk == NULL || chunk->length == CHUNK_BYTES_MAX) {
            chunk = new_chunk(round);
        }
        part = (uint32_t)min_u64(piece->length - done, CHUNK_BYTES_MAX - chunk->length);
        add_extent(entry, &(struct meta_extent){.offset = piece->offset + done,
                                                .length = part,
                                                .chunk_session = round->session,
                                                .chunk_seq = chunk->seq->seq,
                                                .chunk_offset = chunk->length});
        chunk_add(chunk, dirty_piece_data(piece) + done, part);
        done += part;
    }
}

/* The piece goes along in the commit. */
static void journal_piece(struct round_inode *entry, const struct dirty_piece *piece)
{
    uint32_t done = 0;

    while (done < piece->length) {
        uint32_t part = (uint32_t)min_u64(piece->length - done, META_JOURNAL_EXTENT_MAX);

        add_extent(entry,
                   &(struct meta_extent){.offset = piece->offset + done,
                                         .length = part,
                                         .data = slice_make(dirty_piece_data(piece) + done, part)});
        entry->journalled += part + FS_SETTLE_RECORD;
        done += part;
    }
}

/* The inline bytes that nothing dirty covers move into the chunk too. They are not dirty: should
 * the file turn out to have changed, they must not be written over what came. */
static void outgrow_inline(struct round_inode *entry)
{
    const struct inode *inode = entry->inode;

    dirty_write(&entry->whole, 0, buf_slice(&inode->inline_data));
    for (size_t i = 0; i < inode->flushing.count; i++) {
        const struct dirty_piece *piece = inode->flushing.pieces[i];

        dirty_write(&entry->whole, piece->offset,
                    slice_make(dirty_piece_data(piece), piece->length));
    }
}

static void make_image(struct round_inode *entry)
{
    struct inode *inode = entry->inode;

    buf_clear(&entry->image);
    buf_append_slice(&entry->image, buf_slice(&inode->inline_data));
    if (entry->image.size < entry->size) {
        buf_append_zero(&entry->image, entry->size - entry->image.size);
    }
    entry->image.size = entry->size;
    dirty_overlay(&inode->flushing, 0, entry->image.data, entry->image.size);
}

/* Does the file end where this mount thinks that it ended at the append? Then what this mount has
 * written behind that stays there, too. */
static bool lies_well(const struct round_inode *entry)
{
    const struct inode *inode = entry->inode;
    uint64_t begin = dirty_float_offset(&inode->flushing);

    return entry->on_trust && begin >= inode->committed_size &&
           begin <= max_u64(inode->committed_size, dirty_plain_end(&inode->flushing));
}

/* Others may have written where it was thought to go, or made the file shorter: it goes behind what
 * is there. */
static void place_floating(struct round_inode *entry)
{
    struct inode *inode = entry->inode;

    if (lies_well(entry)) {
        return;
    }
    if (!dirty_place(&inode->flushing, inode->committed_size)) {
        return;
    }
    TRACE_MARK("an append goes elsewhere than it was thought to");
    (void)dirty_place(&inode->dirty, dirty_end(&inode->flushing));
    inode->attr.size = inode_size(inode);
    inode->version++;
    entry->moved = true;
}

/* Inline contents are replaced as a whole. What is appended to others rests on where the file ends
 * alone: who writes elsewhere, or changes the mode, is not in its way. */
static void rest_on_what_is_known(struct round_inode *entry)
{
    const struct inode *inode = entry->inode;

    entry->base = inode->fenced                        ? inode->told_change
                  : inode->contents == CONTENTS_INLINE ? inode->attr.change
                                                       : 0;
    entry->old_end = inode->flushing.floating != 0 ? inode->committed_size + 1 : 0;
}

void round_pack(struct flush_round *round, struct round_inode *entry)
{
    struct inode *inode = entry->inode;
    const struct dirty *pieces = &inode->flushing;

    entry->on_trust = coherence_trusts(round->mount, inode);
    if (inode->flushing.floating != 0) {
        place_floating(entry);
    }
    buf_clear(&entry->extents);
    entry->journalled = 0;
    entry->unsure = false;
    entry->size = entry->new_size = max_u64(inode->committed_size, dirty_end(&inode->flushing));
    rest_on_what_is_known(entry);
    entry->is_inline = inode->contents == CONTENTS_INLINE && entry->size <= META_INLINE_MAX;
    if (entry->is_inline) {
        make_image(entry);
        return;
    }
    entry->size = dirty_end(&inode->flushing); /* and no more: somebody may have made it shorter */
    if (inode->contents == CONTENTS_INLINE && inode->inline_data.size != 0) {
        outgrow_inline(entry);
        pieces = &entry->whole;
    }
    for (size_t i = 0; i < pieces->count; i++) {
        if (round->journal) {
            journal_piece(entry, pieces->pieces[i]);
        } else {
            pack_piece(round, entry, pieces->pieces[i]);
        }
    }
}

static void encode_inode(struct flush_round *round, struct round_inode *entry)
{
    cleanup(buf_deinit) struct buf record = {0};
    struct meta_commit commit = {
        .ino = entry->inode->ino,
        .valid = META_SET_SIZE | META_SET_MTIME,
        .size = entry->size,
        .mtime = entry->inode->attr.mtime,
        .is_inline = entry->is_inline,
        .inline_data = entry->is_inline ? buf_slice(&entry->image) : (struct slice){0},
        .extents = buf_slice(&entry->extents),
    };
    bool trusted;

    if (entry->inode->kill_priv) {
        commit.valid |= META_SET_KILL_PRIV;
    }
    entry->mtime = commit.mtime;
    trusted = entry->on_trust && coherence_trusts(round->mount, entry->inode);
    commit.base = entry->base; /* it may come late, behind others' */
    commit.old_end = entry->old_end;
    if (trusted) {
        commit.valid |= META_SET_CTIME; /* as applications have seen it */
        commit.ctime = entry->inode->attr.ctime;
    }
    meta_commit_encode(&commit, &record);
    schema_write_bytes(&round->body, buf_slice(&record));
}

void round_encode_commit(struct flush_round *round)
{
    unsigned i = round->commit_to;

    buf_clear(&round->body);
    round->commit_from = i;
    for (; i < round->inode_count; i++) {
        size_t before = round->body.size;

        if (round->inodes[i].inode == NULL) {
            continue;
        }
        encode_inode(round, &round->inodes[i]);
        if (round->body.size > META_BODY_MAX && before != 0) {
            round->body.size = before; /* what LEARN found was more than the round was meant for */
            TRACE_MARK("a flush round of several commits");
            break;
        }
    }
    round->commit_to = i;
}
