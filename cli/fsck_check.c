#include "cli/fsck_check.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <sys/stat.h>

#define PROBLEMS_MAX 1000 /* then the rest is not worth a line */

struct fsck_inode {
    uint64_t ino;
    struct record_inode record; /* without its slices */
    size_t inline_size;
    uint64_t refs;
    uint64_t subdirs;
    uint64_t extent_bytes;
    uint64_t reserved; /* by the records of its reservations */
    bool has_record, orphan;
};

struct fsck_chunk {
    uint64_t session, seq;
    uint64_t live; /* by the record */
    uint64_t used; /* by extents */
    uint64_t dead_since;
    unsigned copies;
    bool has_record;
};

static void problem(struct fsck *fsck, const char *format, ...) printf_like(2, 3);

static void problem(struct fsck *fsck, const char *format, ...)
{
    va_list args;

    if (fsck->problem_count == PROBLEMS_MAX) {
        return;
    }
    fsck->problems =
        mem_realloc(fsck->problems, (fsck->problem_count + 1) * sizeof(*fsck->problems));
    va_start(args, format);
    vsnprintf(fsck->problems[fsck->problem_count++].text, sizeof(fsck->problems[0].text), format,
              args);
    va_end(args);
}

static struct fsck_inode *inode_of(struct fsck *fsck, uint64_t ino)
{
    struct fsck_inode *inode = map_get(&fsck->inodes, map_u64(ino));

    if (inode == NULL) {
        inode = mem_zalloc(sizeof(*inode));
        inode->ino = ino;
        map_put(&fsck->inodes, map_u64(ino), inode);
    }
    return inode;
}

static struct fsck_chunk *chunk_of(struct fsck *fsck, uint64_t session, uint64_t seq)
{
    struct map_key key = {session, seq};
    struct fsck_chunk *chunk = map_get(&fsck->chunks, key);

    if (chunk == NULL) {
        chunk = mem_zalloc(sizeof(*chunk));
        chunk->session = session;
        chunk->seq = seq;
        map_put(&fsck->chunks, key, chunk);
    }
    return chunk;
}

/* ---- records ---- */

static int add_dentry(struct fsck *fsck, struct slice key, struct slice value)
{
    struct record_dentry dentry;
    struct fsck_inode *inode;
    int r = record_dentry_decode(&dentry, value);

    if (r < 0) {
        return r;
    }
    fsck->dentries++;
    inode = inode_of(fsck, dentry.ino);
    inode->refs++;
    if (S_ISDIR(dentry.type) || dentry.type == S_IFDIR >> 12) {
        inode_of(fsck, record_key_number(key, 0))->subdirs++;
    }
    return 0;
}

static struct fsck_inode *owner_of(struct fsck *fsck, uint64_t data_id)
{
    struct fsck_inode *owner = map_get(&fsck->data, map_u64(data_id));

    if (owner == NULL) {
        owner = mem_zalloc(sizeof(*owner));
        map_put(&fsck->data, map_u64(data_id), owner);
    }
    return owner;
}

static void add_journalled(struct fsck_journal *journal, uint64_t data, uint64_t offset)
{
    journal->count++;
    journal->sum += hash_mix64(hash_mix64(data) + offset);
}

static int add_extent(struct fsck *fsck, struct slice key, struct slice value)
{
    uint64_t data = record_key_number(key, 0), offset = record_key_number(key, 1);
    struct record_extent extent;
    int r = record_extent_decode(&extent, value);

    if (r < 0) {
        return r;
    }
    fsck->extents++;
    if (data == fsck->last_data && offset < fsck->last_end) {
        problem(fsck, "extents of data %" PRIu64 " overlap at %" PRIu64, data, offset);
    }
    fsck->last_data = data;
    fsck->last_end = offset + extent.length;
    owner_of(fsck, data)->extent_bytes += extent.length;
    if (extent.data.size == 0) {
        chunk_of(fsck, extent.session, extent.seq)->used += extent.length;
        return 0;
    }
    add_journalled(&fsck->journalled, data, offset);
    fsck->journal_bytes += extent.data.size;
    if (extent.data.size != extent.length) {
        problem(fsck, "journalled extent of data %" PRIu64 " at %" PRIu64 " has %zu of %u bytes",
                data, offset, extent.data.size, extent.length);
    }
    return 0;
}

static int add_inode(struct fsck *fsck, struct slice key, struct slice value)
{
    struct fsck_inode *inode = inode_of(fsck, record_key_number(key, 0));
    int r = record_inode_decode(&inode->record, value);

    if (r < 0) {
        return r;
    }
    inode->has_record = true;
    inode->inline_size = inode->record.content.size;
    inode->record.content = (struct slice){0};
    return 0;
}

static int add_chunk(struct fsck *fsck, struct slice key, struct slice value)
{
    struct fsck_chunk *chunk = chunk_of(fsck, record_key_number(key, 0), record_key_number(key, 1));
    struct record_chunk record;
    int r = record_chunk_decode(&record, value);

    if (r < 0) {
        return r;
    }
    chunk->has_record = true;
    chunk->live = record.live;
    chunk->dead_since = record.dead_since;
    return 0;
}

static int add_reservation(struct fsck *fsck, struct slice key, struct slice value)
{
    struct record_reservation record;
    int r = record_reservation_decode(&record, value);

    if (r == 0) {
        inode_of(fsck, record_key_number(key, 0))->reserved += record.length;
        fsck->reserved_bytes += record.length;
    }
    return r;
}

static int add_by_letter(struct fsck *fsck, struct slice key, struct slice value)
{
    switch (key.size > 0 ? key.data[0] : 0) {
    case 'D':
        return add_dentry(fsck, key, value);
    case 'E':
        return add_extent(fsck, key, value);
    case 'F':
        return add_reservation(fsck, key, value);
    case 'I':
        return add_inode(fsck, key, value);
    case 'J':
        add_journalled(&fsck->journal, record_key_number(key, 0), record_key_number(key, 1));
        return 0;
    case 'U':
        return add_chunk(fsck, key, value);
    case 'O':
        fsck->orphans++;
        inode_of(fsck, record_key_number(key, 0))->orphan = true;
        return 0;
    case 'G':
        fsck->gone++;
        return 0;
    case 'V':
        fsck->has_volume = record_volume_decode(&fsck->volume, value) == 0;
        return fsck->has_volume ? 0 : -1;
    default:
        return 0;
    }
}

void fsck_add_record(struct fsck *fsck, struct slice key, struct slice value)
{
    fsck->records++;
    if (add_by_letter(fsck, key, value) < 0) {
        problem(fsck, "record %c %" PRIu64 " %" PRIu64 " cannot be decoded", key.data[0],
                record_key_number(key, 0), record_key_number(key, 1));
    }
}

void fsck_add_copy(struct fsck *fsck, uint64_t session, uint64_t seq)
{
    struct fsck_chunk *chunk = map_get(&fsck->chunks, (struct map_key){session, seq});

    if (chunk != NULL) {
        chunk->copies++;
    }
}

/* ---- checks ---- */

static void check_links(struct fsck *fsck, const struct fsck_inode *inode)
{
    uint64_t ino = inode->ino;
    bool is_dir = S_ISDIR(inode->record.mode);
    uint64_t want = is_dir ? 2 + inode->subdirs : inode->refs;

    if (inode->orphan) {
        if (inode->refs != 0) {
            problem(fsck, "inode %" PRIu64 " is an orphan but %" PRIu64 " names lead to it", ino,
                    inode->refs);
        }
        return;
    }
    if (inode->refs == 0 && ino != META_ROOT_INO) {
        problem(fsck, "inode %" PRIu64 " (mode %o): no name leads to it", ino, inode->record.mode);
        return;
    }
    if (inode->record.nlink != want) {
        problem(fsck, "inode %" PRIu64 ": link count is %u, should be %" PRIu64, ino,
                inode->record.nlink, want);
    }
    if (is_dir && inode->refs > 1) {
        problem(fsck, "directory %" PRIu64 " has %" PRIu64 " names", ino, inode->refs);
    }
}

/* From every directory the parents lead to the root. */
static void check_parents(struct fsck *fsck, const struct fsck_inode *inode)
{
    uint64_t ino = inode->ino;

    if (!S_ISDIR(inode->record.mode) || inode->orphan) {
        return;
    }
    for (size_t steps = 0; ino != META_ROOT_INO; steps++) {
        const struct fsck_inode *at = map_get(&fsck->inodes, map_u64(ino));

        if (at == NULL || !at->has_record || steps > fsck->inodes.count) {
            problem(fsck, "directory %" PRIu64 ": its parents do not lead to the root", inode->ino);
            return;
        }
        ino = at->record.parent;
    }
}

static void check_contents(struct fsck *fsck, const struct fsck_inode *inode)
{
    const struct fsck_inode *owner = map_get(&fsck->data, map_u64(inode->record.data_id));
    uint64_t stored = owner != NULL ? owner->extent_bytes : 0;

    if (inode->record.reserved != inode->reserved) {
        problem(fsck, "inode %" PRIu64 ": counts %" PRIu64 " reserved bytes, there are %" PRIu64,
                inode->ino, inode->record.reserved, inode->reserved);
    }
    if (!S_ISREG(inode->record.mode)) {
        return;
    }
    if (inode->record.bytes != stored + inode->inline_size) {
        problem(fsck,
                "inode %" PRIu64 ": counts %" PRIu64 " bytes, extents and inline data are %" PRIu64,
                inode->ino, inode->record.bytes, stored + inode->inline_size);
    }
    if (stored + inode->inline_size > inode->record.size) {
        problem(fsck, "inode %" PRIu64 ": extents reach beyond its size", inode->ino);
    }
}

static void check_inodes(struct fsck *fsck)
{
    struct map_slot *slot;
    size_t at = 0;
    uint64_t count = 0;

    while ((slot = map_next(&fsck->inodes, &at)) != NULL) {
        const struct fsck_inode *inode = slot->value;

        if (!inode->has_record) {
            if (inode->reserved != 0) {
                problem(fsck, "bytes are reserved for inode %" PRIu64 ", which is not there",
                        inode->ino);
            }
            if (inode->refs != 0) {
                problem(fsck, "%" PRIu64 " names lead to inode %" PRIu64 ", which is not there",
                        inode->refs, inode->ino);
            }
            continue;
        }
        count++;
        check_links(fsck, inode);
        check_parents(fsck, inode);
        check_contents(fsck, inode);
    }
    if (fsck->has_volume && fsck->volume.inodes != count) {
        problem(fsck, "the volume counts %" PRIu64 " inodes, there are %" PRIu64,
                fsck->volume.inodes, count);
    }
}

static void check_chunk(struct fsck *fsck, const struct fsck_chunk *chunk, unsigned copies)
{
    if (!chunk->has_record || chunk->live != chunk->used) {
        problem(fsck,
                "chunk %" PRIx64 ".%" PRIx64 ": counts %" PRIu64
                " live bytes, extents name %" PRIu64,
                chunk->session, chunk->seq, chunk->live, chunk->used);
    }
    if (chunk->used != 0 && chunk->dead_since != 0) {
        problem(fsck, "chunk %" PRIx64 ".%" PRIx64 " is in use and in the delete queue",
                chunk->session, chunk->seq);
    }
    if (copies == 0 || chunk->used == 0) {
        return;
    }
    if (chunk->copies == 0) {
        problem(fsck, "chunk %" PRIx64 ".%" PRIx64 " is on no server: its data is lost",
                chunk->session, chunk->seq);
    } else if (chunk->copies < copies) {
        fsck->missing_copies += copies - chunk->copies;
    }
}

static void check_journal(struct fsck *fsck)
{
    if (fsck->journalled.count != fsck->journal.count ||
        fsck->journalled.sum != fsck->journal.sum) {
        problem(fsck,
                "%" PRIu64 " extents are journalled, the records that say so are %" PRIu64
                " or name others",
                fsck->journalled.count, fsck->journal.count);
    }
    if (fsck->has_volume && fsck->volume.journal_bytes != fsck->journal_bytes) {
        problem(fsck, "the volume counts %" PRIu64 " journalled bytes, there are %" PRIu64,
                fsck->volume.journal_bytes, fsck->journal_bytes);
    }
}

void fsck_finish(struct fsck *fsck, unsigned copies)
{
    struct map_slot *slot;
    size_t at = 0;

    if (!fsck->has_volume) {
        problem(fsck, "the volume record is not there");
    }
    check_inodes(fsck);
    check_journal(fsck);
    while ((slot = map_next(&fsck->chunks, &at)) != NULL) {
        check_chunk(fsck, slot->value, copies);
    }
    if (fsck->has_volume && fsck->volume.reserved_bytes != fsck->reserved_bytes) {
        problem(fsck, "the volume counts %" PRIu64 " reserved bytes, there are %" PRIu64,
                fsck->volume.reserved_bytes, fsck->reserved_bytes);
    }
    if (fsck->has_volume && fsck->volume.orphans != fsck->orphans) {
        problem(fsck, "the volume counts %" PRIu64 " orphans, there are %" PRIu64,
                fsck->volume.orphans, fsck->orphans);
    }
}

void fsck_init(struct fsck *fsck)
{
    *fsck = (struct fsck){0};
}

static void free_map(struct map *map)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(map, &at)) != NULL) {
        mem_free(slot->value);
    }
    map_deinit(map);
}

void fsck_deinit(struct fsck *fsck)
{
    free_map(&fsck->inodes);
    free_map(&fsck->data);
    free_map(&fsck->chunks);
    mem_free(fsck->problems);
}
