#include "fs/dirty.h"

#include "base/assert.h"
#include "base/mem.h"
#include "fs/limits.h"

static uint64_t piece_end(const struct dirty_piece *piece)
{
    return piece->offset + piece->length;
}

static void piece_free(struct dirty *dirty, struct dirty_piece *piece)
{
    dirty->bytes -= piece->capacity;
    mem_free(piece->data);
    mem_free(piece);
}

/* The first piece that ends behind `offset`. */
static size_t find(const struct dirty *dirty, uint64_t offset)
{
    size_t low = 0, high = dirty->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (piece_end(dirty->pieces[middle]) > offset) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* memmove of a run of pointers that may be empty. */
static void move_pieces(struct dirty *dirty, size_t to, size_t from, size_t count)
{
    if (count != 0) {
        memmove(dirty->pieces + to, dirty->pieces + from, count * sizeof(*dirty->pieces));
    }
}

static void remove_at(struct dirty *dirty, size_t at, size_t count)
{
    for (size_t i = at; i < at + count; i++) {
        dirty->floating -= dirty->pieces[i]->floats ? 1 : 0;
        piece_free(dirty, dirty->pieces[i]);
    }
    move_pieces(dirty, at, at + count, dirty->count - at - count);
    dirty->count -= count;
}

static void insert_at(struct dirty *dirty, size_t at, struct dirty_piece *piece)
{
    if (dirty->count == dirty->capacity) {
        dirty->capacity = dirty->capacity ? dirty->capacity * 2 : 4;
        dirty->pieces = mem_realloc(dirty->pieces, dirty->capacity * sizeof(*dirty->pieces));
    }
    move_pieces(dirty, at + 1, at, dirty->count - at);
    dirty->pieces[at] = piece;
    dirty->count++;
    dirty->floating += piece->floats ? 1 : 0;
}

static void piece_grow(struct dirty *dirty, struct dirty_piece *piece, uint32_t length)
{
    uint64_t need = (uint64_t)piece->start + length;
    uint32_t capacity;

    if (need > piece->capacity) {
        capacity = (uint32_t)min_u64(max_u64(need, 2 * (uint64_t)piece->capacity),
                                     max_u64(need, FS_PIECE_MAX));
        piece->data = mem_realloc(piece->data, capacity);
        dirty->bytes += capacity - piece->capacity;
        piece->capacity = capacity;
    }
    piece->length = length;
}

/* Makes room for [offset, end): pieces inside go, those that reach in are trimmed. Returns where a
 * piece at `offset` belongs. No piece contains the range. *io_stamp becomes that of the oldest
 * piece in the way: who waits for its bytes waits for those that take their place. */
static size_t clear_range(struct dirty *dirty, uint64_t offset, uint64_t end, uint64_t *io_stamp)
{
    size_t at = find(dirty, offset), last;

    for (last = at; last < dirty->count && dirty->pieces[last]->offset < end; last++) {
        *io_stamp = min_u64(*io_stamp, dirty->pieces[last]->stamp);
    }
    if (at < dirty->count && dirty->pieces[at]->offset < offset) {
        dirty->pieces[at]->length = (uint32_t)(offset - dirty->pieces[at]->offset);
        at++;
    }
    for (last = at; last < dirty->count && piece_end(dirty->pieces[last]) <= end; last++) {
    }
    remove_at(dirty, at, last - at);
    if (at < dirty->count && dirty->pieces[at]->offset < end) {
        struct dirty_piece *piece = dirty->pieces[at];
        uint32_t cut = (uint32_t)(end - piece->offset);

        piece->offset += cut;
        piece->start += cut;
        piece->length -= cut;
    }
    return at;
}

static void write_piece(struct dirty *dirty, uint64_t offset, struct slice bytes, bool floats)
{
    uint64_t end = offset + bytes.size, stamp = dirty->stamp;
    size_t at = find(dirty, offset);
    struct dirty_piece *piece;

    ASSERT(bytes.size > 0 && bytes.size <= UINT32_MAX / 4);
    piece = at < dirty->count ? dirty->pieces[at] : NULL;
    if (piece != NULL && piece->offset <= offset && end <= piece_end(piece)) {
        memcpy(dirty_piece_data(piece) + (offset - piece->offset), bytes.data, bytes.size);
        return;
    }
    at = clear_range(dirty, offset, end, &stamp);
    piece = at > 0 ? dirty->pieces[at - 1] : NULL;
    if (piece != NULL && piece->floats == floats && piece_end(piece) == offset &&
        piece->length + bytes.size <= FS_PIECE_MAX) {
        uint32_t length = piece->length;

        piece_grow(dirty, piece, length + (uint32_t)bytes.size);
        piece->stamp = min_u64(piece->stamp, stamp);
        memcpy(dirty_piece_data(piece) + length, bytes.data, bytes.size);
        return;
    }
    piece = mem_zalloc(sizeof(*piece));
    piece->offset = offset;
    piece->stamp = stamp;
    piece->floats = floats;
    piece_grow(dirty, piece, (uint32_t)bytes.size);
    memcpy(piece->data, bytes.data, bytes.size);
    insert_at(dirty, at, piece);
}

void dirty_write(struct dirty *dirty, uint64_t offset, struct slice bytes)
{
    write_piece(dirty, offset, bytes, /* floats= */ false);
}

void dirty_append(struct dirty *dirty, uint64_t offset, struct slice bytes)
{
    ASSERT(dirty_end(dirty) <= offset);
    write_piece(dirty, offset, bytes, /* floats= */ true);
}

void dirty_truncate(struct dirty *dirty, uint64_t size)
{
    size_t at = find(dirty, size);

    if (at < dirty->count && dirty->pieces[at]->offset < size) {
        dirty->pieces[at]->length = (uint32_t)(size - dirty->pieces[at]->offset);
        at++;
    }
    remove_at(dirty, at, dirty->count - at);
}

void dirty_overlay(const struct dirty *dirty, uint64_t offset, uint8_t *out, size_t size)
{
    uint64_t end = offset + size;

    for (size_t i = find(dirty, offset); i < dirty->count && dirty->pieces[i]->offset < end; i++) {
        const struct dirty_piece *piece = dirty->pieces[i];
        uint64_t from = max_u64(piece->offset, offset);
        uint64_t to = min_u64(piece_end(piece), end);

        memcpy(out + (from - offset), dirty_piece_data(piece) + (from - piece->offset), to - from);
    }
}

bool dirty_covers(const struct dirty *dirty, uint64_t offset, uint64_t size)
{
    uint64_t end = offset + size;

    for (size_t i = find(dirty, offset); offset < end; i++) {
        if (i == dirty->count || dirty->pieces[i]->offset > offset) {
            return false;
        }
        offset = piece_end(dirty->pieces[i]);
    }
    return true;
}

uint64_t dirty_oldest(const struct dirty *dirty)
{
    uint64_t oldest = UINT64_MAX;

    for (size_t i = 0; i < dirty->count; i++) {
        oldest = min_u64(oldest, dirty->pieces[i]->stamp);
    }
    return oldest;
}

uint64_t dirty_end(const struct dirty *dirty)
{
    return dirty->count ? piece_end(dirty->pieces[dirty->count - 1]) : 0;
}

uint64_t dirty_float_offset(const struct dirty *dirty)
{
    for (size_t i = 0; dirty->floating != 0; i++) {
        if (dirty->pieces[i]->floats) {
            return dirty->pieces[i]->offset;
        }
    }
    return UINT64_MAX;
}

uint64_t dirty_plain_end(const struct dirty *dirty)
{
    uint64_t end = 0;

    for (size_t i = 0; i < dirty->count && !dirty->pieces[i]->floats; i++) {
        end = piece_end(dirty->pieces[i]);
    }
    return end;
}

bool dirty_place(struct dirty *dirty, uint64_t end)
{
    struct dirty placed = {.bytes = dirty->bytes, .stamp = dirty->stamp};
    bool moved = false;

    if (dirty->floating == 0 || dirty_float_offset(dirty) == end) {
        return false;
    }
    for (size_t i = 0; i < dirty->count; i++) {
        if (!dirty->pieces[i]->floats) {
            insert_at(&placed, placed.count, dirty->pieces[i]);
        }
    }
    end = max_u64(end, dirty_end(&placed));
    for (size_t i = 0; i < dirty->count; i++) {
        struct dirty_piece *piece = dirty->pieces[i];

        if (piece->floats) {
            moved = moved || piece->offset != end;
            piece->offset = end;
            end += piece->length;
            insert_at(&placed, placed.count, piece);
        }
    }
    mem_free(dirty->pieces);
    *dirty = placed;
    return moved;
}

void dirty_take(struct dirty *dirty, size_t pieces_max, uint64_t bytes_max, struct dirty *taken)
{
    size_t count = 0;
    uint64_t bytes = 0;

    ASSERT(taken->count == 0);
    while (count < dirty->count && count < pieces_max &&
           (count == 0 || bytes + dirty->pieces[count]->length <= bytes_max)) {
        bytes += dirty->pieces[count]->length;
        insert_at(taken, count, dirty->pieces[count]);
        dirty->floating -= dirty->pieces[count]->floats ? 1 : 0;
        taken->bytes += dirty->pieces[count]->capacity;
        count++;
    }
    dirty->bytes -= taken->bytes;
    move_pieces(dirty, 0, count, dirty->count - count);
    dirty->count -= count;
}

void dirty_deinit(struct dirty *dirty)
{
    remove_at(dirty, 0, dirty->count);
    mem_free(dirty->pieces);
    *dirty = (struct dirty){0};
}
