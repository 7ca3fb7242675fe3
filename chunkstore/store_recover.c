/*
 * store_recover: what chunk_store_open does, blocking: identity, manifest, tables, and the replay
 * of what the segments hold behind the tables.
 *
 * A record is valid when its header's crc is; its bytes are checked where a crash may have torn
 * them: behind the highest "synced" that any record of the segment states. Damage before that point
 * is corruption, counted and left to be repaired from peers; behind it, it is a torn write of
 * something never acknowledged. After damage the scan goes on at the next valid record, so that
 * nothing valid is dropped.
 *
 * Records of all segments are applied in the order of their lsn. If the index is damaged, all of it
 * is made anew from the segments.
 */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trace_mark.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

struct replay_record {
    struct record_head head;
    struct index_entry entry;
    struct segment *segment;
    uint64_t offset;
    uint64_t size;
};

struct replay {
    struct chunk_store *store;
    struct replay_record *records;
    size_t count, capacity;
    struct buf window;
    uint64_t window_at;
    uint64_t file_size;
    uint64_t synced; /* highest that a record of this segment states */
    bool wrote;      /* records of this segment that nothing vouches for, again */
};

/* ---- scanning one segment ---- */

/* At least `size` bytes at `offset`, less at the end of the file. Borrowed until the next call. */
static int look(struct replay *replay, struct env_file *file, uint64_t offset, size_t size,
                struct slice *out_bytes)
{
    uint64_t window_end = replay->window_at + replay->window.size;
    uint64_t want = min_u64(size, replay->file_size - min_u64(offset, replay->file_size));

    if (offset < replay->window_at || offset + want > window_end) {
        size_t capacity = (size_t)max_u64(size, STORE_CLEAN_WINDOW);
        int64_t got;

        buf_clear(&replay->window);
        got = env_read_at(replay->store->env, file, buf_reserve(&replay->window, capacity),
                          capacity, offset);
        if (got < 0) {
            return (int)got;
        }
        replay->window.size = (size_t)got;
        replay->window_at = offset;
    }
    *out_bytes = slice_make(replay->window.data + (offset - replay->window_at),
                            replay->window.size - (size_t)(offset - replay->window_at));
    return 0;
}

static void add_record(struct replay *replay, const struct replay_record *record)
{
    if (replay->count == replay->capacity) {
        replay->capacity = replay->capacity ? replay->capacity * 2 : 1024;
        replay->records = mem_realloc(replay->records, replay->capacity * sizeof(*replay->records));
    }
    replay->records[replay->count++] = *record;
}

static struct replay_record make_record(const struct record_head *head, struct segment *segment,
                                        uint64_t offset, struct slice bytes)
{
    struct replay_record record = {.head = *head, .segment = segment, .offset = offset};

    record.size = record_bytes(segment->class, head->crcs_bytes, head->stored_length);
    record.entry = (struct index_entry){
        .key = head->key,
        .segment = head->type == RECORD_DELETE ? 0 : segment->id,
        .offset8 = (uint32_t)(offset / 8),
        .length = head->length,
        .stored_length = head->stored_length,
        .digest = crc32c(0, slice_make(bytes.data + RECORD_HEAD_BYTES, head->crcs_bytes)),
        .flags = head->flags,
    };
    return record;
}

/* 0, or -ERR_CORRUPT when the stored bytes do not match. */
static int verify_data(struct replay *replay, const struct replay_record *record)
{
    size_t whole = RECORD_HEAD_BYTES + record->head.crcs_bytes + record->head.stored_length;
    struct slice bytes;
    int r;

    if (record->head.type == RECORD_DELETE) {
        return 0;
    }
    r = look(replay, record->segment->file, record->offset, whole, &bytes);
    if (r < 0) {
        return r;
    }
    if (bytes.size < whole) {
        return -ERR_CORRUPT;
    }
    return record_verify(record->head.length, record->head.flags,
                         slice_make(bytes.data + RECORD_HEAD_BYTES, record->head.crcs_bytes),
                         slice_make(bytes.data + RECORD_HEAD_BYTES + record->head.crcs_bytes,
                                    record->head.stored_length));
}

static int scan_headers(struct replay *replay, struct segment *segment, uint64_t *out_gap)
{
    uint64_t align = segment->class == SEGMENT_SMALL ? RECORD_ALIGN_SMALL : RECORD_ALIGN_LARGE;
    uint64_t offset = segment->indexed;
    uint64_t gap = 0; /* first damaged byte since the last valid record; 0 = none */

    while (offset < replay->file_size) {
        struct record_head head;
        struct slice bytes;
        int r = look(replay, segment->file, offset, RECORD_HEAD_BYTES + CHUNK_CRCS_MAX, &bytes);

        if (r < 0) {
            return r;
        }
        r = record_head_decode(&head, segment->salt, offset, bytes);
        if (r == 0 && segment_may_hold(segment, &head)) {
            struct replay_record record = make_record(&head, segment, offset, bytes);

            if (gap != 0 && head.synced > gap) {
                replay->store->corrupt_found++;
                LOG_WARN(replay->store->env, "chunk",
                         "records are damaged, they will be pulled from peers segment=%u "
                         "offset=%" PRIu64 " bytes=%" PRIu64,
                         segment->id, gap, offset - gap);
            } else if (gap != 0) {
                replay->store->torn_tails++;
            }
            gap = 0;
            replay->synced = max_u64(replay->synced, head.synced);
            add_record(replay, &record);
            offset += record.size;
        } else {
            gap = gap == 0 ? offset : gap;
            offset += align;
        }
    }
    *out_gap = gap;
    return 0;
}

/* No later record vouches for it: it may be in the page cache only, left there by a process that
 * was killed before its sync, or whose sync failed. The kernel takes such pages for clean; only
 * what is written again is sure to get to the disk with the next sync. */
static int write_again(struct replay *replay, const struct replay_record *record)
{
    struct slice bytes;
    int r = look(replay, record->segment->file, record->offset, record->size, &bytes);

    replay->wrote = true;
    TRACE_MARK("chunks that no record vouches for");
    return r < 0 ? r
                 : env_write_at(replay->store->env, record->segment->file, bytes.data,
                                min_u64(bytes.size, record->size), record->offset);
}

/* Drops records of the last group that a crash has torn; sets the segment's end. */
static int check_tail(struct replay *replay, struct segment *segment, size_t from)
{
    size_t kept = from;

    segment->end = segment->indexed;
    for (size_t i = from; i < replay->count; i++) {
        struct replay_record *record = &replay->records[i];

        if (record->offset + record->size > replay->synced) {
            int r = verify_data(replay, record);

            if (r == -ERR_CORRUPT) {
                replay->store->torn_tails++;
                LOG_INFO(replay->store->env, "chunk",
                         "record of a torn write dropped segment=%u offset=%" PRIu64, segment->id,
                         record->offset);
                continue;
            }
            r = r < 0 ? r : write_again(replay, record);
            if (r < 0) {
                return r;
            }
        }
        segment->end = record->offset + record->size;
        replay->records[kept++] = *record;
    }
    replay->count = kept;
    return 0;
}

static int truncate_segment(struct chunk_store *store, struct segment *segment)
{
    struct env_io cut = {.type = ENV_IO_TRUNCATE, .file = segment->file, .size = segment->end};
    int64_t r = env_io_now(store->env, &cut);

    return r < 0 ? (int)r : env_sync_now(store->env, segment->file);
}

static int scan_segment(struct replay *replay, struct segment *segment)
{
    char *path = segment_path(replay->store, segment->id);
    struct env_io stat = {.type = ENV_IO_STAT, .path = path};
    size_t from = replay->count;
    uint64_t gap = 0;
    int64_t r = env_io_now(replay->store->env, &stat);

    mem_free(path);
    if (r < 0) {
        return (int)r;
    }
    replay->file_size = stat.size;
    replay->window.size = 0;
    replay->window_at = 0;
    replay->synced = segment->indexed;
    replay->wrote = false;
    r = scan_headers(replay, segment, &gap);
    if (r == 0) {
        r = check_tail(replay, segment, from);
    }
    if (r < 0) {
        return (int)r;
    }
    if (gap != 0) {
        replay->store->torn_tails++;
    }
    if (stat.size > segment->end && !segment->sealed) {
        return truncate_segment(replay->store, segment);
    }
    return replay->wrote ? env_sync_now(replay->store->env, segment->file) : 0;
}

/* ---- opening ---- */

static int open_segment_file(struct chunk_store *store, struct segment *segment)
{
    char *path = segment_path(store, segment->id);
    int r = env_open_now(store->env, path, 0, &segment->file);

    if (r == -ENOENT) {
        LOG_WARN(store->env, "chunk",
                 "a segment is missing, its chunks will be pulled from peers path=%s", path);
        store->corrupt_found++;
        segment->sealed = true;
        segment->end = segment->indexed;
        r = 0;
    }
    mem_free(path);
    return r;
}

static int adopt_listed(struct chunk_store *store, const struct manifest *manifest, bool rebuild)
{
    for (uint32_t i = 0; i < manifest->head.segment_count; i++) {
        const struct manifest_segment *record = &manifest->segments[i];
        struct segment_head head = {record->id, record->class, record->salt};
        struct segment *segment = segment_add(store, &head);
        int r;

        segment->sealed = record->sealed;
        store->next_segment = (uint32_t)max_u64(store->next_segment, (uint64_t)record->id + 1);
        if (!rebuild) {
            segment->indexed = segment->indexed_frozen = record->indexed;
            segment->dead = segment->dead_frozen = segment->dead_saved = record->dead;
        }
        r = open_segment_file(store, segment);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* A file that no manifest lists: new, or cleaned away. */
static int adopt_unlisted(struct chunk_store *store, uint32_t id, bool listed_below)
{
    uint8_t bytes[64];
    struct segment_head head;
    struct env_file *file = NULL;
    char *path = segment_path(store, id);
    int64_t got = -ERR_CORRUPT;
    int r = 0;

    if (listed_below) {
        r = env_path_now(store->env, ENV_IO_UNLINK, path, NULL);
        mem_free(path);
        return r;
    }
    r = env_open_now(store->env, path, 0, &file);
    if (r == 0) {
        got = env_read_at(store->env, file, bytes, sizeof(bytes), 0);
    }
    if (got >= 0 && segment_head_decode(&head, slice_make(bytes, (size_t)got)) == 0 &&
        head.id == id) {
        segment_add(store, &head)->file = file;
    } else if (r == 0) {
        LOG_INFO(store->env, "chunk", "segment without a header, never used path=%s", path);
        store->torn_tails++;
        env_close_now(store->env, file);
        r = env_path_now(store->env, ENV_IO_UNLINK, path, NULL);
    }
    store->next_segment = (uint32_t)max_u64(store->next_segment, (uint64_t)id + 1);
    mem_free(path);
    return r;
}

static bool parse_name(const char *name, const char *prefix, uint64_t *out_id)
{
    size_t size = strlen(prefix);
    char *end;

    if (strncmp(name, prefix, size) != 0) {
        return false;
    }
    *out_id = strtoull(name + size, &end, 16);
    return *end == 0 && end != name + size && *out_id > 0 && *out_id < UINT32_MAX;
}

static bool table_listed(const struct manifest *manifest, uint64_t id)
{
    for (uint32_t i = 0; i < manifest->head.table_count; i++) {
        if (manifest->tables[i].id == id) {
            return true;
        }
    }
    return false;
}

static int adopt_files(struct chunk_store *store, const struct manifest *manifest)
{
    cleanup(buf_deinit) struct buf names = {0};
    int r = env_list(store->env, store->dir, &names);

    for (size_t at = 0; r == 0 && at < names.size;) {
        const char *name = (const char *)names.data + at;
        uint64_t id = 0;

        at += strlen(name) + 1;
        if (parse_name(name, "segment-", &id)) {
            if (segment_find(store, (uint32_t)id) == NULL) {
                r = adopt_unlisted(store, (uint32_t)id, id < manifest->head.next_segment);
            }
        } else if (parse_name(name, "table-", &id) && !table_listed(manifest, id)) {
            char *path = lsm_table_path(&store->lsm, id);

            r = env_path_now(store->env, ENV_IO_UNLINK, path, NULL);
            mem_free(path);
        }
    }
    return r;
}

static void adopt_totals(struct chunk_store *store, const struct manifest *manifest)
{
    struct store_totals *totals = &store->totals;

    totals->chunks = manifest->head.chunks;
    totals->stored_bytes = manifest->head.stored_bytes;
    for (unsigned i = 0; i < CHUNK_PARTITIONS && (i + 1) * 16 <= manifest->digests.size; i++) {
        totals->hash[i] = bytes_get_le64(manifest->digests.data + i * 16);
        totals->count[i] = bytes_get_le64(manifest->digests.data + i * 16 + 8);
    }
}

static int by_lsn(const void *a, const void *b)
{
    uint64_t x = ((const struct replay_record *)a)->head.lsn;
    uint64_t y = ((const struct replay_record *)b)->head.lsn;

    return (x > y) - (x < y);
}

static int apply_records(struct chunk_store *store, struct replay *replay, bool rebuild)
{
    if (replay->count > 0) {
        qsort(replay->records, replay->count, sizeof(*replay->records), by_lsn);
    }
    for (size_t i = 0; i < replay->count; i++) {
        struct replay_record *record = &replay->records[i];
        struct index_entry known = {0};
        int r = lsm_get_now(&store->lsm, &record->head.key, &known);

        if (r < 0) {
            return r;
        }
        store->totals.lsn = max_u64(store->totals.lsn, record->head.lsn);
        if (rebuild && record->head.type != RECORD_DELETE && entry_live(&known) &&
            known.digest != record->entry.digest) {
            store_count(store, &known, -1); /* its tombstone was cleaned away: the newer one wins */
            store_add_dead(store, &known);
            known = (struct index_entry){0};
        }
        if (record->head.type == RECORD_MOVED && !entry_live(&known) && !rebuild) {
            store_add_dead(store, &record->entry);
        } else if (record->head.type != RECORD_DELETE || entry_live(&known)) {
            store_apply(store, record->head.type, &record->entry, &known);
        }
        if (record->head.type == RECORD_DELETE) {
            record->segment->dead += record->size;
        }
    }
    return 0;
}

static int replay_segments(struct chunk_store *store, bool rebuild)
{
    struct replay replay = {.store = store};
    size_t position = 0;
    struct map_slot *slot;
    int r = 0;

    while (r == 0 && (slot = map_next(&store->segments, &position)) != NULL) {
        struct segment *segment = slot->value;

        if (segment->file != NULL) {
            r = scan_segment(&replay, segment);
        }
        segment->sealed = segment->sealed || segment->end >= store->settings.segment_bytes;
    }
    if (r == 0) {
        r = apply_records(store, &replay, rebuild);
    }
    mem_free(replay.records);
    buf_deinit(&replay.window);
    return r;
}

/* Goes on at the end of the newest segment of each class that is not full. */
static void choose_open(struct chunk_store *store)
{
    size_t position = 0;
    struct map_slot *slot;

    while ((slot = map_next(&store->segments, &position)) != NULL) {
        struct segment *segment = slot->value;
        struct segment **open = &store->open[segment->class];

        if (!segment->sealed && segment->file != NULL &&
            (*open == NULL || (*open)->id < segment->id)) {
            if (*open != NULL) {
                (*open)->sealed = true;
            }
            *open = segment;
        } else {
            segment->sealed = true;
        }
    }
}

int store_recover(struct chunk_store *store)
{
    struct manifest manifest = {0};
    cleanup(buf_deinit) struct buf bytes = {0};
    char *path = mem_printf("%s/MANIFEST", store->dir);
    bool rebuild = false;
    int r = env_read_file(store->env, path, MANIFEST_BYTES_MAX, &bytes);

    if (r == 0) {
        r = manifest_decode(&manifest, buf_slice(&bytes));
        rebuild = r == -ERR_CORRUPT;
    } else if (r == -ENOENT) {
        r = 0; /* nothing was ever flushed */
    }
    if (r == 0) {
        store->next_segment = (uint32_t)max_u64(1, manifest.head.next_segment);
        store->totals.lsn = manifest.head.lsn;
        r = lsm_load(&store->lsm, &manifest);
        rebuild = rebuild || r == -ERR_CORRUPT;
    }
    if (rebuild) {
        LOG_WARN(store->env, "chunk",
                 "the index is damaged, it is made anew from the segments "
                 "dir=%s",
                 store->dir);
        store->corrupt_found++;
        store->lsm.next_table = max_u64(store->lsm.next_table, manifest.head.next_table);
        manifest.head.table_count = 0;
        r = 0;
    } else if (r == 0) {
        adopt_totals(store, &manifest);
    }
    if (r == 0) {
        r = adopt_listed(store, &manifest, rebuild);
    }
    if (r == 0) {
        r = adopt_files(store, &manifest);
    }
    store->totals_saved = store->totals;
    if (r == 0) {
        r = replay_segments(store, rebuild);
    }
    if (r == 0) {
        choose_open(store);
    } else {
        LOG_ERROR(store->env, "chunk", "cannot open the data directory path=%s error=%s",
                  store->dir, err_name(r));
    }
    mem_free(path);
    manifest_deinit(&manifest);
    return r;
}

static int prepare_dir(struct chunk_store *store)
{
    char *path = mem_printf("%s/LOCK", store->dir);
    int r = env_path_now(store->env, ENV_IO_MKDIR, store->dir, NULL);

    if (r == 0) {
        r = env_open_now(store->env, path, ENV_OPEN_CREATE | ENV_OPEN_LOCK, &store->lock);
    }
    if (r < 0) {
        LOG_ERROR(store->env, "chunk", "%s path=%s error=%s",
                  r == -EBUSY ? "another process uses the data directory; stop it first"
                              : "cannot use the data directory",
                  path, err_name(r));
    } else {
        r = store_check_identity(store);
    }
    mem_free(path);
    return r;
}

void chunk_store_discard(struct chunk_store *store)
{
    size_t position = 0;
    struct map_slot *slot;

    ASSERT(store->busy == 0);
    while ((slot = map_next(&store->segments, &position)) != NULL) {
        struct segment *segment = slot->value;

        env_close_now(store->env, segment->file);
        mem_free(segment);
    }
    map_deinit(&store->segments);
    lsm_deinit(&store->lsm);
    env_close_now(store->env, store->lock);
    mem_free(store->dir);
}

int chunk_store_open(struct chunk_store *store, struct env *env,
                     const struct chunk_store_config *config)
{
    int r;

    *store = (struct chunk_store){.env = env, .config = *config, .next_segment = 1};
    store->dir = mem_strdup(config->dir);
    store->config.dir = store->dir;
    store->settings = config->settings != NULL ? *config->settings : chunk_settings_defaults();
    store->config.settings = &store->settings;
    list_init(&store->queue);
    lsm_init(&store->lsm, env, store->dir);
    store->lsm.blocks_max = store->settings.index_cache_bytes / SSTABLE_BLOCK_BYTES;
    store->lsm.hold = store_hold;
    r = prepare_dir(store);
    if (r == 0) {
        r = store_recover(store);
    }
    if (r < 0) {
        chunk_store_discard(store);
    }
    return r;
}
