/* store_core: what the index and the totals say, segments in memory, free space. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/lsm_internal.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

bool record_head_is(const struct record_head *head, const struct index_entry *entry)
{
    return head->type != RECORD_DELETE && index_key_compare(&head->key, &entry->key) == 0 &&
           head->length == entry->length && head->stored_length == entry->stored_length &&
           head->flags == entry->flags;
}

uint64_t entry_record_bytes(const struct index_entry *entry)
{
    return record_bytes(record_class(entry->stored_length),
                        record_crcs_bytes(entry->length, entry->flags), entry->stored_length);
}

char *segment_path(const struct chunk_store *store, uint32_t id)
{
    return mem_printf("%s/segment-%08x", store->dir, id);
}

struct segment *segment_find(const struct chunk_store *store, uint32_t id)
{
    return map_get(&store->segments, map_u64(id));
}

struct segment *segment_add(struct chunk_store *store, const struct segment_head *head)
{
    struct segment *segment = mem_zalloc(sizeof(*segment));

    segment->id = head->id;
    segment->class = head->class;
    segment->salt = head->salt;
    segment->indexed = segment->indexed_frozen = SEGMENT_HEAD_BYTES;
    segment->refs = 1;
    map_put(&store->segments, map_u64(head->id), segment);
    return segment;
}

struct segment *segment_ref(struct segment *segment)
{
    segment->refs++;
    return segment;
}

void segment_unref(struct chunk_store *store, struct segment *segment)
{
    if (--segment->refs > 0) {
        return;
    }
    if (segment->file != NULL) {
        lsm_file_retire(&store->lsm, segment->file,
                        segment->doomed ? segment_path(store, segment->id) : NULL);
    }
    mem_free(segment);
}

void segment_doom(struct chunk_store *store, struct segment *segment)
{
    map_remove(&store->segments, map_u64(segment->id));
    segment->doomed = true;
    segment_unref(store, segment);
}

void store_add_dead(struct chunk_store *store, const struct index_entry *entry)
{
    struct segment *segment = segment_find(store, entry->segment);

    if (segment != NULL) {
        segment->dead += entry_record_bytes(entry);
    }
}

void store_count(struct chunk_store *store, const struct index_entry *entry, int direction)
{
    uint32_t partition = entry->key.partition % CHUNK_PARTITIONS;
    uint64_t step = (uint64_t)(int64_t)direction;

    store->totals.chunks += step;
    store->totals.stored_bytes += step * entry->stored_length;
    store->totals.count[partition] += step;
    store->totals.hash[partition] ^= chunk_id_hash(entry->key.session, entry->key.seq);
}

void store_apply(struct chunk_store *store, unsigned type, const struct index_entry *entry,
                 const struct index_entry *known)
{
    bool was = entry_live(known);

    if (type == RECORD_DELETE) {
        if (was) {
            store_count(store, known, -1);
            store_add_dead(store, known);
        }
        lsm_put(&store->lsm, entry);
        return;
    }
    if (was && known->digest != entry->digest) {
        store_add_dead(store, entry); /* refused: another chunk has this id */
        return;
    }
    if (was) {
        store_add_dead(store, known);
    } else {
        store_count(store, entry, 1);
    }
    lsm_put(&store->lsm, entry);
}

struct index_entry store_current(const struct chunk_store *store, const struct index_key *key,
                                 const struct index_entry *looked_up)
{
    const struct index_entry *recent = lsm_recent(&store->lsm, key);

    return recent != NULL ? *recent : *looked_up;
}

bool store_stalled(const struct chunk_store *store)
{
    return store->lsm.frozen != NULL && store->lsm.active->bytes >= store->settings.memtable_bytes;
}

void store_hold(struct lsm *lsm, int change)
{
    struct chunk_store *store = container_of(lsm, struct chunk_store, lsm);

    if (change > 0) {
        store->busy++;
    } else {
        store_released(store);
    }
}

void store_released(struct chunk_store *store)
{
    ASSERT(store->busy > 0);
    store->busy--;
    if (store->closing && store->busy == 0) {
        struct chunk_store *self = store;
        size_t position = 0;
        struct map_slot *slot;

        ASSERT(list_empty(&self->queue));
        env_timer_stop(self->env, &self->retry);
        while ((slot = map_next(&self->segments, &position)) != NULL) {
            struct segment *segment = slot->value;

            ASSERT(segment->refs == 1);
            env_close_now(self->env, segment->file);
            mem_free(segment);
        }
        map_deinit(&self->segments);
        map_deinit(&self->pending);
        lsm_deinit(&self->lsm);
        env_close_now(self->env, self->lock);
        mem_free(self->dir);
        self->closed(self);
    }
}

static void on_close_timer(struct env_timer *timer)
{
    store_released(container_of(timer, struct chunk_store, retry));
}

void chunk_store_close(struct chunk_store *store, void (*closed)(struct chunk_store *store))
{
    store->closing = true;
    store->closed = closed;
    store->busy++;
    store->retry.fire = on_close_timer;
    env_timer_start(store->env, &store->retry, env_now(store->env));
}

uint64_t chunk_store_dead_bytes(const struct chunk_store *store)
{
    size_t position = 0;
    struct map_slot *slot;
    uint64_t dead = 0;

    while ((slot = map_next(&store->segments, &position)) != NULL) {
        dead += ((const struct segment *)slot->value)->dead;
    }
    return dead;
}

/* ---- the disk ---- */

void store_failed(struct chunk_store *store, int result)
{
    if (result == -ENOSPC || result == -EDQUOT) {
        store->full = true;
        store->room = 0;
    } else if (env_is_disk_error(result)) {
        env_disk_failed(store->env, result, "chunk",
                        "the disk fails, this server stops; others have its chunks dir=%s error=%s",
                        store->dir, err_text(result));
    }
}

/* The largest chunk must fit, or it is full; and then two of them. */
static void judge_space(struct chunk_store *store, const struct env_io *stat)
{
    uint64_t reserve;
    bool full;

    store->disk_total = stat->total_bytes;
    store->disk_free = stat->free_bytes;
    reserve = stat->total_bytes / 100 * (100 - store->settings.full_percent);
    reserve = min_u64(max_u64(reserve, store->settings.reserve_bytes), stat->total_bytes / 4);
    store->reserve = reserve;
    store->room = stat->free_bytes - min_u64(reserve + store->queue_bytes, stat->free_bytes);
    full = stat->free_bytes < reserve + (store->full ? 2 : 1) * CHUNK_BYTES_MAX;
    if (full != store->full) {
        LOG_WARN(store->env, "chunk", "%s dir=%s free=%" PRIu64 " total=%" PRIu64,
                 full ? "disk is full, puts are refused" : "disk has room again", store->dir,
                 stat->free_bytes, stat->total_bytes);
    }
    store->full = full;
}

uint64_t chunk_store_room(const struct chunk_store *store)
{
    return store->reserve == 0 && !store->full ? UINT64_MAX : store->room;
}

static void on_stat(struct env_io *io)
{
    struct chunk_store *store = io->data;

    store->stat_running = false;
    if (io->result >= 0) {
        judge_space(store, io);
    }
    store_released(store);
}

void store_check_space(struct chunk_store *store)
{
    uint64_t now = env_now(store->env);

    if (store->stat_running || store->closing ||
        (store->stat_at_ns != 0 && now - store->stat_at_ns < STORE_STAT_NS)) {
        return;
    }
    store->stat_running = true;
    store->stat_at_ns = now;
    store->busy++;
    store->stat =
        (struct env_io){.type = ENV_IO_STAT, .path = store->dir, .done = on_stat, .data = store};
    env_io(store->env, &store->stat);
}

/* ---- manifest ---- */

void store_totals_pack(const struct store_totals *totals, struct buf *out)
{
    for (unsigned i = 0; i < CHUNK_PARTITIONS; i++) {
        uint8_t *at = buf_reserve(out, 16);

        bytes_put_le64(at, totals->hash[i]);
        bytes_put_le64(at + 8, totals->count[i]);
        out->size += 16;
    }
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = ((const struct manifest_segment *)a)->id;
    uint32_t y = ((const struct manifest_segment *)b)->id;

    return (x > y) - (x < y);
}

void store_describe(const struct chunk_store *store, struct manifest *manifest)
{
    const struct store_totals *totals = &store->totals_saved;
    size_t position = 0;
    struct map_slot *slot;

    store_totals_pack(totals, &manifest->digests);
    manifest->head = (struct manifest_head){.version = MANIFEST_VERSION,
                                            .next_segment = store->next_segment,
                                            .lsn = totals->lsn,
                                            .chunks = totals->chunks,
                                            .stored_bytes = totals->stored_bytes,
                                            .digests = buf_slice(&manifest->digests)};
    lsm_describe(&store->lsm, manifest);
    while ((slot = map_next(&store->segments, &position)) != NULL) {
        const struct segment *segment = slot->value;
        struct manifest_segment record = {segment->id,      segment->class,      segment->salt,
                                          segment->indexed, segment->dead_saved, segment->sealed};

        manifest_add_segment(manifest, &record);
    }
    if (manifest->head.segment_count > 0) {
        qsort(manifest->segments, manifest->head.segment_count, sizeof(*manifest->segments), by_id);
    }
}
