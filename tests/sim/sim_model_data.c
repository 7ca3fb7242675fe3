/* Contents: cells, who wrote them last, what was there before. */
#include "tests/sim/sim_model.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

void model_fill(uint8_t *bytes, size_t size, uint64_t tag)
{
    ASSERT(size % SIM_CELL == 0);
    for (size_t at = 0; at < size; at += 8) {
        memcpy(bytes + at, &tag, 8);
    }
}

uint64_t model_tag(const uint8_t *bytes)
{
    uint64_t tag, word;

    memcpy(&tag, bytes, 8);
    for (size_t at = 8; at < SIM_CELL; at += 8) {
        memcpy(&word, bytes + at, 8);
        if (word != tag) {
            return UINT64_MAX;
        }
    }
    return tag;
}

uint64_t model_cell(const struct model_inode *inode, uint64_t cell)
{
    return cell < inode->cell_count ? inode->cells[cell] : 0;
}

static void keep_past(struct model *model, struct model_inode *inode, uint64_t cell, uint64_t tag)
{
    if (cell >= MODEL_PAST_MAX) {
        return;
    }
    if ((inode->past_count & (inode->past_count - 1)) == 0) {
        size_t capacity = inode->past_count == 0 ? 1 : 2 * inode->past_count;

        inode->past = mem_realloc(inode->past, capacity * sizeof(*inode->past));
    }
    inode->past[inode->past_count++] =
        (struct model_past){.index = model->index, .tag = tag, .cell = (uint32_t)cell};
}

static void set_cell(struct model *model, struct model_inode *inode, uint64_t cell, uint64_t tag)
{
    if (model_cell(inode, cell) == tag) {
        return;
    }
    if (cell >= inode->cell_count) {
        size_t count = round_up(cell + 1, 64);

        inode->cells = mem_realloc(inode->cells, count * sizeof(*inode->cells));
        memset(inode->cells + inode->cell_count, 0,
               (count - inode->cell_count) * sizeof(*inode->cells));
        inode->cell_count = count;
    }
    keep_past(model, inode, cell, inode->cells[cell]);
    inode->cells[cell] = tag;
}

uint32_t model_committed(const struct model_inode *inode, unsigned slot, uint64_t cell)
{
    return cell < inode->committed_count[slot] ? inode->committed[slot][cell] : 0;
}

static void note_committed(struct model_inode *inode, unsigned slot, uint64_t cell, uint64_t tag)
{
    if (cell >= inode->committed_count[slot]) {
        size_t count = round_up(cell + 1, 64);

        inode->committed[slot] =
            mem_realloc(inode->committed[slot], count * sizeof(*inode->committed[slot]));
        memset(inode->committed[slot] + inode->committed_count[slot], 0,
               (count - inode->committed_count[slot]) * sizeof(*inode->committed[slot]));
        inode->committed_count[slot] = count;
    }
    inode->committed[slot][cell] = (uint32_t)tag;
}

/* A mount may change what it has written, and nothing else: a commit that brings back what was
 * there before undoes somebody's work. */
static const char *commit_cell(struct model *model, struct model_inode *inode, uint64_t cell,
                               uint64_t tag, unsigned slot)
{
    bool lives = slot < MODEL_SLOTS && model->incarnations[slot] == model->writer;
    const char *why;

    if (tag == UINT64_MAX) {
        return "a commit has a torn cell";
    }
    if (tag != 0 && tag >> MODEL_TAG_BITS == model->writer &&
        (!lives || (uint32_t)tag >= model_committed(inode, slot, cell) ||
         model_append_comes_again(model, inode, tag))) {
        if (lives && (uint32_t)tag >= model_committed(inode, slot, cell)) {
            note_committed(inode, slot, cell, tag);
        }
    } else if (tag != model_cell(inode, cell)) {
        model->bad = (struct model_bad){cell, tag, model_cell(inode, cell), slot};
        return "a commit brings back old contents that the mount has not written now";
    }
    why = model_append_cell(model, inode, cell, tag);
    if (why != NULL) {
        model->bad = (struct model_bad){cell, tag, model_cell(inode, cell), slot};
    }
    set_cell(model, inode, cell, tag);
    return why;
}

static void note_foreign(struct model *model, struct model_inode *inode, unsigned slot)
{
    for (unsigned i = 0; i < MODEL_SLOTS; i++) {
        if (i != slot) {
            inode->foreign_index[i] = model->index;
        }
    }
}

void model_truncate(struct model *model, struct model_inode *inode, uint64_t size, unsigned slot)
{
    for (uint64_t cell = size / SIM_CELL; cell < inode->cell_count; cell++) {
        set_cell(model, inode, cell, 0);
    }
    inode->size = size;
    inode->changed = model->index;
    note_foreign(model, inode, slot);
}

void model_zero(struct model *model, struct model_inode *inode, uint64_t from, uint64_t to,
                unsigned slot)
{
    for (uint64_t cell = from / SIM_CELL; cell < to / SIM_CELL && cell < inode->cell_count;
         cell++) {
        set_cell(model, inode, cell, 0);
    }
    note_foreign(model, inode, slot);
}

void model_copy(struct model *model, const struct model_inode *from, uint64_t offset,
                struct model_inode *to, uint64_t offset2, uint64_t length, unsigned slot)
{
    for (uint64_t i = 0; i < length / SIM_CELL; i++) {
        set_cell(model, to, offset2 / SIM_CELL + i, model_cell(from, offset / SIM_CELL + i));
    }
    to->size = max_u64(to->size, offset2 + length);
    note_foreign(model, to, slot);
}

bool model_was(const struct model_inode *inode, uint64_t cell, uint64_t tag, uint64_t floor)
{
    if (model_cell(inode, cell) == tag || cell >= MODEL_PAST_MAX) {
        return true;
    }
    for (size_t i = inode->past_count; i > 0 && inode->past[i - 1].index > floor; i--) {
        if (inode->past[i - 1].cell == cell && inode->past[i - 1].tag == tag) {
            return true;
        }
    }
    return false;
}

/* The whole contents: what they do not reach is a hole. */
static const char *commit_inline(struct model *model, struct model_inode *inode, struct slice bytes,
                                 unsigned slot)
{
    const char *why = NULL;

    if (bytes.size % SIM_CELL != 0) {
        return "inline data is not whole cells";
    }
    for (uint64_t cell = 0; why == NULL && cell < bytes.size / SIM_CELL; cell++) {
        why = commit_cell(model, inode, cell, model_tag(bytes.data + cell * SIM_CELL), slot);
    }
    return why;
}

static const char *check_chunk(const struct model *model, const struct model_chunk *chunk,
                               uint64_t from, uint64_t length)
{
    if (chunk == NULL || chunk->deleted) {
        return "an extent names a chunk that was never written, or is deleted";
    }
    if ((unsigned)__builtin_popcount(chunk->holders) < model->write_quorum) {
        return "a commit names a chunk that has too few durable copies";
    }
    if (from + length > (uint64_t)chunk->cell_count * SIM_CELL) {
        return "an extent reaches beyond its chunk";
    }
    return NULL;
}

static const char *commit_extent(struct model *model, struct model_inode *inode,
                                 const struct meta_extent *extent, unsigned slot)
{
    const struct model_chunk *chunk = model_chunk(model, extent->chunk_session, extent->chunk_seq);
    const char *why = NULL;

    if (extent->offset % SIM_CELL != 0 || extent->length % SIM_CELL != 0 ||
        extent->chunk_offset % SIM_CELL != 0) {
        return "an extent is not whole cells";
    }
    if (extent->data.size == 0) {
        why = check_chunk(model, chunk, extent->chunk_offset, extent->length);
    }
    for (uint64_t i = 0; why == NULL && i < extent->length / SIM_CELL; i++) {
        uint64_t cell = extent->offset / SIM_CELL + i;
        uint64_t tag = extent->data.size != 0 ? model_tag(extent->data.data + i * SIM_CELL)
                                              : chunk->cells[extent->chunk_offset / SIM_CELL + i];

        if (cell * SIM_CELL < inode->size) {
            why = commit_cell(model, inode, cell, tag, slot);
        }
    }
    return why;
}

const char *model_settle(struct model *model, const struct meta_settle *settle)
{
    return check_chunk(model, model_chunk(model, settle->chunk_session, settle->chunk_seq),
                       settle->chunk_offset, settle->length);
}

static const char *commit_extents(struct model *model, struct model_inode *inode,
                                  const struct meta_commit *commit, unsigned slot)
{
    struct schema_reader reader = schema_reader_make(commit->extents);
    const char *why = NULL;

    while (why == NULL && reader.at < reader.end) {
        struct meta_extent extent;
        struct slice bytes = schema_read_bytes(&reader, META_BODY_MAX);

        if (reader.failed || meta_extent_decode(&extent, bytes) < 0) {
            return "an extent cannot be decoded";
        }
        why = commit_extent(model, inode, &extent, slot);
    }
    return why;
}

/* Where what the commit brings ends. */
static uint64_t end_of(const struct meta_commit *commit)
{
    struct schema_reader reader = schema_reader_make(commit->extents);
    uint64_t end = commit->is_inline ? commit->inline_data.size : 0;
    struct meta_extent extent;

    while (reader.at < reader.end &&
           meta_extent_decode(&extent, schema_read_bytes(&reader, META_BODY_MAX)) == 0) {
        end = max_u64(end, extent.offset + extent.length);
    }
    return end;
}

const char *model_commit(struct model *model, struct model_inode *inode,
                         const struct meta_commit *commit, unsigned slot)
{
    uint64_t end = end_of(commit);
    const char *why;

    if ((commit->valid & META_SET_SIZE) != 0 && commit->size > max_u64(inode->size, end)) {
        return "a commit makes the file longer than its data";
    }
    if (commit->is_inline && end < inode->size) {
        return "a commit makes the file shorter";
    }
    model->append_end = inode->size / SIM_CELL;
    inode->size = max_u64(inode->size, (commit->valid & META_SET_SIZE) != 0 ? commit->size : end);
    why = commit->is_inline ? commit_inline(model, inode, commit->inline_data, slot)
                            : commit_extents(model, inode, commit, slot);
    why = why != NULL ? why : model_append_commit_end(model, inode->ino);
    note_foreign(model, inode, slot);
    inode->changed = model->index;
    return why;
}

void model_new_client(struct model *model, unsigned slot, uint64_t incarnation)
{
    struct map_slot *at;
    size_t position = 0;

    model->incarnations[slot] = incarnation;
    while ((at = map_next(&model->inodes, &position)) != NULL) {
        ((struct model_inode *)at->value)->committed_count[slot] = 0;
    }
}

void model_inode_free(struct model_inode *inode)
{
    for (unsigned i = 0; i < MODEL_SLOTS; i++) {
        mem_free(inode->committed[i]);
    }
    mem_free(inode->entries);
    mem_free(inode->target);
    mem_free(inode->cells);
    mem_free(inode->past);
    mem_free(inode);
}

struct model_chunk *model_chunk(const struct model *model, uint64_t session, uint64_t seq)
{
    return map_get(&model->chunks, (struct map_key){session, seq});
}

bool model_chunk_put(struct model *model, uint64_t session, uint64_t seq, struct slice bytes)
{
    struct model_chunk *chunk = model_chunk(model, session, seq);
    bool known = chunk != NULL;

    if (!known) {
        chunk = mem_zalloc(sizeof(*chunk));
        chunk->session = session;
        chunk->seq = seq;
        chunk->cell_count = (uint32_t)(bytes.size / SIM_CELL);
        chunk->cells = mem_alloc(chunk->cell_count * sizeof(*chunk->cells) + 8);
        map_put(&model->chunks, (struct map_key){session, seq}, chunk);
    }
    if (chunk->cell_count != bytes.size / SIM_CELL) {
        return false;
    }
    for (uint32_t i = 0; i < chunk->cell_count; i++) {
        uint64_t tag = model_tag(bytes.data + (size_t)i * SIM_CELL);

        if (known && chunk->cells[i] != tag) {
            return false;
        }
        chunk->cells[i] = tag;
    }
    return true;
}
