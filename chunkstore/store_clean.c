/*
 * store_clean: empty a segment: every record that the index still points at moves to the end of the
 * log; then nothing refers to the segment and it is unlinked.
 *
 * Only sealed segments whose records are all in the saved tables are cleaned, so that no tombstone
 * that a replay would need is lost. Whether a record lives is decided record by record from the
 * index, never from the counters of dead bytes.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trace_mark.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

enum { CLEAN_READ, CLEAN_LOOK, CLEAN_FOUND, CLEAN_MOVE };

struct segment *store_clean_pick(const struct chunk_store *store)
{
    struct segment *best = NULL;
    uint64_t best_percent = 0;
    size_t position = 0;
    struct map_slot *slot;

    while ((slot = map_next(&store->segments, &position)) != NULL) {
        struct segment *segment = slot->value;
        uint64_t used = max_u64(1, segment->end - min_u64(segment->end, SEGMENT_HEAD_BYTES));
        uint64_t percent = segment->dead * 100 / used;
        uint64_t limit = segment->class == SEGMENT_SMALL ? store->settings.clean_small_percent
                                                         : store->settings.clean_large_percent;

        if (segment->sealed && segment->file != NULL && segment->indexed == segment->end &&
            percent >= limit && percent > best_percent) {
            best = segment;
            best_percent = percent;
        }
    }
    return best;
}

static void on_io(struct env_io *io)
{
    op_complete(io->data);
}

/* Reads the window so that it begins at the record at `position`. */
static void read_window(struct store_job *job, size_t size)
{
    buf_clear(&job->window);
    job->iov = (struct iovec){buf_reserve(&job->window, size), size};
    job->io = (struct env_io){.type = ENV_IO_READ,
                              .file = job->segment->file,
                              .iov = &job->iov,
                              .iov_count = 1,
                              .offset = job->position,
                              .done = on_io,
                              .data = &job->op};
    job->op.inflight++;
    env_io(job->store->env, &job->io);
}

/* merged: offset in the window where the record begins. */
static struct slice at_record(const struct store_job *job)
{
    if (job->window.size == 0) {
        return (struct slice){0}; /* nothing was read yet: there is no address to add to */
    }
    return slice_make(job->window.data + job->merged, job->window.size - job->merged);
}

static void step_over(struct store_job *job, uint64_t size)
{
    job->position += size;
    if (size <= job->window.size - job->merged) {
        job->merged += (unsigned)size;
    } else {
        job->merged = 0;
        job->window.size = 0;
    }
}

static size_t record_whole(const struct record_head *head)
{
    return (size_t)RECORD_HEAD_BYTES + head->crcs_bytes + head->stored_length;
}

static void move_record(struct store_job *job, const struct index_entry *known, struct slice bytes)
{
    struct store_item *item = &job->items[job->item_count++];
    const uint8_t *at = job->moved.data + job->moved.size;

    buf_append(&job->moved, bytes.data + RECORD_HEAD_BYTES,
               record_whole(&job->head) - RECORD_HEAD_BYTES);
    *item =
        (struct store_item){.type = RECORD_MOVED,
                            .key = job->head.key,
                            .length = job->head.length,
                            .flags = job->head.flags,
                            .crcs = slice_make(at, job->head.crcs_bytes),
                            .data = slice_make(at + job->head.crcs_bytes, job->head.stored_length),
                            .known = *known,
                            .op = &job->op};
}

/* The record is alive: take its bytes along, or first read more. 0, or an error. */
static int keep_record(struct store_job *job)
{
    struct slice bytes = at_record(job);
    size_t whole = record_whole(&job->head);
    int r;

    if (bytes.size < whole) {
        job->merged = 0;
        read_window(job, whole);
        return 0;
    }
    r = record_verify(
        job->head.length, job->head.flags,
        slice_make(bytes.data + RECORD_HEAD_BYTES, job->head.crcs_bytes),
        slice_make(bytes.data + RECORD_HEAD_BYTES + job->head.crcs_bytes, job->head.stored_length));
    if (r < 0) {
        job->store->corrupt_found++;
        job->segment->dead = 0; /* not again before it is repaired */
        if (job->store->corrupt != NULL) {
            TRACE_MARK("a damaged copy was found while cleaning");
            job->store->corrupt(job->store, &job->head.key);
        }
        return r;
    }
    move_record(job, &job->find.entry, bytes);
    step_over(job,
              record_bytes(job->segment->class, job->head.crcs_bytes, job->head.stored_length));
    job->level = CLEAN_LOOK;
    return 0;
}

static bool batch_full(const struct store_job *job)
{
    return job->item_count == STORE_CLEAN_BATCH || job->moved.size >= STORE_CLEAN_BATCH_BYTES;
}

static void submit_batch(struct store_job *job)
{
    job->level = CLEAN_MOVE;
    for (size_t i = 0; i < job->item_count; i++) {
        store_submit(job->store, &job->items[i]);
    }
}

/* 1 = look again (or waits), 0 = end of the segment. */
static int look_at_record(struct store_job *job)
{
    uint64_t align = job->segment->class == SEGMENT_SMALL ? RECORD_ALIGN_SMALL : RECORD_ALIGN_LARGE;
    struct slice bytes = at_record(job);
    int r;

    if (job->position >= job->segment->end) {
        return 0;
    }
    if (bytes.size < RECORD_HEAD_BYTES + CHUNK_CRCS_MAX &&
        job->position + bytes.size < job->segment->end) {
        job->merged = 0;
        read_window(job, STORE_CLEAN_WINDOW);
        job->level = CLEAN_READ;
        return 1;
    }
    r = record_head_decode(&job->head, job->segment->salt, job->position, bytes);
    if (r < 0 || !segment_may_hold(job->segment, &job->head)) {
        step_over(job, align); /* damaged: if the index points here, reads report it */
        return 1;
    }
    if (job->head.type == RECORD_DELETE) {
        step_over(job, RECORD_HEAD_BYTES);
        return 1;
    }
    job->level = CLEAN_FOUND;
    lsm_find_start(&job->find, &job->store->lsm, &job->head.key, &job->op);
    return 1;
}

static int end_batch(struct store_job *job)
{
    for (size_t i = 0; i < job->item_count; i++) {
        if (job->items[i].result < 0) {
            return job->items[i].result;
        }
        job->store->cleaned_bytes += job->items[i].data.size;
    }
    job->item_count = 0;
    buf_clear(&job->moved);
    job->level = CLEAN_LOOK;
    return 0;
}

static int begin(struct store_job *job)
{
    job->items = mem_zalloc(STORE_CLEAN_BATCH * sizeof(*job->items));
    /* One record of any size always fits behind a batch that is not full. */
    buf_reserve(&job->moved, STORE_CLEAN_BATCH_BYTES + CHUNK_BYTES_MAX + CHUNK_CRCS_MAX);
    job->position = SEGMENT_HEAD_BYTES;
    job->level = CLEAN_LOOK;
    return 0;
}

int store_clean_step(struct store_job *job)
{
    int r = 0;

    if (job->items == NULL) {
        r = begin(job);
    }
    switch (job->level) {
    case CLEAN_READ:
        if (job->io.result < 0) {
            return (int)job->io.result;
        }
        job->window.size = (size_t)job->io.result;
        if (job->window.size < min_u64(STORE_CLEAN_WINDOW, job->segment->end - job->position)) {
            return -ERR_CORRUPT; /* shorter than it was */
        }
        job->level = CLEAN_LOOK;
        return 1;
    case CLEAN_LOOK:
        if (batch_full(job)) {
            submit_batch(job);
            return 1;
        }
        r = look_at_record(job);
        if (r == 0 && job->item_count > 0) {
            submit_batch(job);
            return 1;
        }
        return r;
    case CLEAN_FOUND:
        if (job->io.type == ENV_IO_READ && job->window.size == 0) {
            job->window.size = job->io.result < 0 ? 0 : (size_t)job->io.result;
            if (job->window.size < record_whole(&job->head)) {
                return job->io.result < 0 ? (int)job->io.result : -ERR_CORRUPT;
            }
        }
        if (job->find.op.result < 0) {
            return job->find.op.result;
        }
        if (job->find.op.result == 0 || job->find.entry.segment != job->segment->id ||
            entry_offset(&job->find.entry) != job->position) {
            step_over(job, record_bytes(job->segment->class, job->head.crcs_bytes,
                                        job->head.stored_length));
            job->level = CLEAN_LOOK;
            return 1;
        }
        r = keep_record(job);
        return r < 0 ? r : 1;
    default:
        r = end_batch(job);
        return r < 0 ? r : 1;
    }
}
