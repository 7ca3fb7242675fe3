/*
 * store_delete:
 *
 *     FIND --> FOUND (next id) ... --> WAIT (tombstones durable) --> finish
 *                                        then OPEN --> READ --> PUNCH ... --> CLOSE   (large
 * records)
 *
 * Punching comes after the answer and may be lost in a crash: cleaning finds the space later. It
 * cannot be undone, so the index is not believed where the record is: its header must say the same.
 * Only whole 4 KiB blocks of the stored bytes are given back; header and checksums stay, so that a
 * scan of the segment can step over the record.
 */
#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

enum { STORE_DELETE_FIND, STORE_DELETE_FOUND, STORE_DELETE_WAIT };
static const char *const delete_states[] = {"FIND", "FOUND", "WAIT"};

static void find_next(struct store_delete *del)
{
    struct index_key key = {0};

    chunk_ids_get(del->ids, del->next, &key.session, &key.seq);
    key.partition = (uint32_t)(chunk_id_hash(key.session, key.seq) % CHUNK_PARTITIONS);
    del->next++;
    lsm_find_start(&del->find, &del->store->lsm, &key, &del->op);
}

/* Adds a tombstone when the chunk is here, or is being written. */
static int add_found(struct store_delete *del)
{
    const struct index_key *key = &del->find.key;
    struct index_entry none = {0};
    struct index_entry now;
    struct map_key id = {key->session, key->seq};

    if (del->find.op.result < 0) {
        return del->find.op.result;
    }
    now = store_current(del->store, key, del->find.op.result > 0 ? &del->find.entry : &none);
    if (!entry_live(&now) && map_get(&del->store->pending, id) == NULL) {
        return 0;
    }
    if (entry_live(&now) && now.stored_length >= STORE_SMALL_MAX) {
        del->dead[del->dead_count++] = now;
    }
    del->items[del->item_count++] =
        (struct store_item){.type = RECORD_DELETE, .key = *key, .known = now, .op = &del->op};
    return 0;
}

/* All at once: they become one group. */
static void submit_tombstones(struct store_delete *del)
{
    for (size_t i = 0; i < del->item_count; i++) {
        store_submit(del->store, &del->items[i]);
    }
}

static int verdict(const struct store_delete *del)
{
    for (size_t i = 0; i < del->item_count; i++) {
        if (del->items[i].result < 0) {
            return del->items[i].result;
        }
    }
    return 0;
}

static void punch_io_done(struct env_io *io);

struct store_punch {
    struct chunk_store *store;
    struct index_entry *entries;
    size_t count, next;
    struct segment *segment; /* whose file is open */
    struct env_file *file;
    char *path;
    struct buf head; /* of the record, and its checksums */
    struct iovec iov;
    struct env_io io;
};

static void punch_submit(struct store_punch *punch, struct env_io io)
{
    punch->io = io;
    punch->io.done = punch_io_done;
    env_io(punch->store->env, &punch->io);
}

static void punch_end(struct store_punch *punch)
{
    struct chunk_store *store = punch->store;

    mem_free(punch->entries);
    mem_free(punch->path);
    buf_deinit(&punch->head);
    mem_free(punch);
    store_released(store);
}

static void read_record_head(struct store_punch *punch, const struct index_entry *entry)
{
    size_t size = RECORD_HEAD_BYTES + record_crcs_bytes(entry->length, entry->flags);

    buf_clear(&punch->head);
    punch->iov = (struct iovec){buf_reserve(&punch->head, size), size};
    punch_submit(punch, (struct env_io){.type = ENV_IO_READ,
                                        .file = punch->file,
                                        .iov = &punch->iov,
                                        .iov_count = 1,
                                        .offset = entry_offset(entry)});
}

/* Is what was read the head of the record that the index names? */
static bool record_is_there(struct store_punch *punch, const struct index_entry *entry)
{
    struct record_head head;

    if (punch->io.result < 0) {
        return false;
    }
    punch->head.size = (size_t)punch->io.result;
    return record_head_decode(&head, punch->segment->salt, entry_offset(entry),
                              buf_slice(&punch->head)) == 0 &&
           segment_may_hold(punch->segment, &head) && record_head_is(&head, entry);
}

static void punch_range(struct store_punch *punch, const struct index_entry *entry)
{
    uint64_t start = round_up(entry_offset(entry) + RECORD_HEAD_BYTES +
                                  record_crcs_bytes(entry->length, entry->flags),
                              RECORD_ALIGN_LARGE);
    uint64_t end = entry_offset(entry) + entry_record_bytes(entry);

    punch_submit(punch, (struct env_io){.type = ENV_IO_PUNCH,
                                        .file = punch->file,
                                        .offset = start,
                                        .size = end > start ? end - start : 0});
}

/* One step: close, open, or read what is to be punched out. */
static void punch_next(struct store_punch *punch)
{
    bool end = punch->next == punch->count || punch->store->closing;
    const struct index_entry *entry = end ? NULL : &punch->entries[punch->next];

    if (punch->file != NULL && (end || entry->segment != punch->segment->id)) {
        struct env_file *file = punch->file;

        segment_unref(punch->store, punch->segment);
        punch->file = NULL;
        punch_submit(punch, (struct env_io){.type = ENV_IO_CLOSE, .file = file});
    } else if (end) {
        punch_end(punch);
    } else if (punch->file == NULL) {
        punch->segment = segment_find(punch->store, entry->segment);
        mem_free(punch->path);
        punch->path = segment_path(punch->store, entry->segment);
        if (punch->segment != NULL) {
            segment_ref(punch->segment);
        }
        punch_submit(punch, (struct env_io){
                                .type = ENV_IO_OPEN, .path = punch->path, .flags = ENV_OPEN_BULK});
    } else {
        read_record_head(punch, entry);
    }
}

static void punch_read(struct store_punch *punch)
{
    const struct index_entry *entry = &punch->entries[punch->next++];

    if (record_is_there(punch, entry)) {
        punch_range(punch, entry);
        return;
    }
    punch->store->corrupt_found++;
    LOG_WARN(punch->store->env, "chunk",
             "the index names a place where the deleted chunk is not, it is left as it is "
             "session=%" PRIu64 " seq=%" PRIu64 " segment=%u offset=%" PRIu64,
             entry->key.session, entry->key.seq, entry->segment, entry_offset(entry));
    punch_next(punch);
}

static void punch_io_done(struct env_io *io)
{
    struct store_punch *punch = container_of(io, struct store_punch, io);

    if (io->type == ENV_IO_READ) {
        punch_read(punch);
        return;
    }
    if (io->type == ENV_IO_OPEN && (io->result < 0 || punch->segment == NULL)) {
        if (io->result >= 0) {
            punch->next++;
            punch_submit(punch, (struct env_io){.type = ENV_IO_CLOSE, .file = io->file});
            return;
        }
        if (punch->segment != NULL) {
            segment_unref(punch->store, punch->segment);
        }
        punch->next++; /* cleaned away meanwhile */
    } else if (io->type == ENV_IO_OPEN) {
        punch->file = io->file;
    }
    punch_next(punch);
}

static int by_place(const void *a, const void *b)
{
    const struct index_entry *x = a, *y = b;

    return x->segment != y->segment ? (x->segment > y->segment) - (x->segment < y->segment)
                                    : (x->offset8 > y->offset8) - (x->offset8 < y->offset8);
}

static void punch_start(struct store_delete *del)
{
    struct store_punch *punch = mem_zalloc(sizeof(*punch));

    punch->store = del->store;
    punch->entries = del->dead;
    punch->count = del->dead_count;
    del->dead = NULL;
    qsort(punch->entries, punch->count, sizeof(*punch->entries), by_place);
    punch->store->busy++;
    punch_next(punch);
}

static void delete_step(struct op *op)
{
    struct store_delete *del = container_of(op, struct store_delete, op);
    size_t count = chunk_ids_count(del->ids);
    int r;

    while (op->inflight == 0) {
        switch (op->state) {
        case STORE_DELETE_FIND:
            if (del->store->closing || count == 0 || count > CHUNK_DELETE_MAX) {
                op_finish(op, del->store->closing ? -ECANCELED : -EINVAL);
                return;
            }
            del->items = mem_zalloc(count * sizeof(*del->items));
            del->dead = mem_zalloc(count * sizeof(*del->dead));
            op->state = STORE_DELETE_FOUND;
            find_next(del);
            continue;
        case STORE_DELETE_FOUND:
            r = add_found(del);
            if (r < 0) {
                op_finish(op, r);
                return;
            }
            if (del->next < count) {
                find_next(del);
                continue;
            }
            op->state = STORE_DELETE_WAIT;
            submit_tombstones(del);
            continue;
        default:
            r = verdict(del);
            if (r == 0 && del->dead_count > 0) {
                punch_start(del);
            }
            del->store->delete_count += r == 0 ? del->item_count : 0;
            op_finish(op, r);
            return;
        }
    }
}

static void delete_drained(struct op *op)
{
    struct store_delete *del = container_of(op, struct store_delete, op);
    struct chunk_store *store = del->store;

    mem_free(del->items);
    mem_free(del->dead);
    del->released(del);
    store_released(store);
}

static const struct op_kind delete_kind = {.name = "store_delete",
                                           .states = delete_states,
                                           .state_count = ARRAY_SIZE(delete_states),
                                           .step = delete_step,
                                           .drained = delete_drained};

void store_delete_start(struct store_delete *del, struct chunk_store *store)
{
    op_init(&del->op, &delete_kind);
    del->store = store;
    del->items = NULL;
    del->dead = NULL;
    del->next = del->item_count = del->dead_count = 0;
    store->busy++;
    op_wake(&del->op);
}
