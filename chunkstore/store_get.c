/*
 * store_get:
 *
 *     FIND --> FOUND --> HEAD (header and checksums) --> DATA (the blocks needed) --> finish
 *                ^                                                      |
 *                +----- the record moved or went away meanwhile --------+
 */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/log.h"
#include "base/trace_mark.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

#define STORE_GET_TRIES 3

enum { STORE_GET_FIND, STORE_GET_FOUND, STORE_GET_HEAD, STORE_GET_DATA };
static const char *const get_states[] = {"FIND", "FOUND", "HEAD", "DATA"};

static void on_io(struct env_io *io)
{
    op_complete(io->data);
}

static void read_part(struct store_get *get, struct env_io *io, struct iovec *iov, uint64_t offset)
{
    *io = (struct env_io){.type = ENV_IO_READ,
                          .file = get->segment->file,
                          .iov = iov,
                          .iov_count = 1,
                          .offset = entry_offset(&get->find.entry) + offset,
                          .done = on_io,
                          .data = &get->op};
    get->op.inflight++;
    env_io(get->store->env, io);
}

static void drop_segment(struct store_get *get)
{
    if (get->segment != NULL) {
        segment_unref(get->store, get->segment);
        get->segment = NULL;
    }
}

/* 1 = reading, 0 = not here, or an error. */
static int begin_read(struct store_get *get)
{
    const struct index_entry *entry = &get->find.entry;
    size_t head = RECORD_HEAD_BYTES + record_crcs_bytes(entry->length, entry->flags);

    if (get->find.op.result <= 0) {
        return get->find.op.result < 0 ? get->find.op.result : -ERR_NOT_FOUND;
    }
    if (!entry_live(entry)) {
        return -ERR_NOT_FOUND;
    }
    if (get->length == 0) {
        get->offset = 0;
        get->length = entry->length;
    }
    if ((uint64_t)get->offset + get->length > entry->length) {
        return -EINVAL;
    }
    get->segment = segment_find(get->store, entry->segment);
    if (get->segment == NULL || get->segment->file == NULL) {
        get->segment = NULL;
        return -ERR_CORRUPT;
    }
    segment_ref(get->segment);
    buf_clear(&get->head);
    get->iov_head = (struct iovec){buf_reserve(&get->head, head), head};
    read_part(get, &get->io_head, &get->iov_head, 0);
    return 1;
}

static int check_head(struct store_get *get, struct chunk_span *out_span)
{
    const struct index_entry *entry = &get->find.entry;
    struct chunk_span want = {.stored_offset = get->offset, .stored_length = get->length};
    struct record_head head;
    struct slice crcs;
    int r;

    if (get->io_head.result < 0) {
        return (int)get->io_head.result;
    }
    get->head.size = (size_t)get->io_head.result;
    r = record_head_decode(&head, get->segment->salt, entry_offset(entry), buf_slice(&get->head));
    if (r < 0 || !record_head_is(&head, entry)) {
        return -ERR_CORRUPT;
    }
    crcs = slice_make(get->head.data + RECORD_HEAD_BYTES, head.crcs_bytes);
    if (crc32c(0, crcs) != entry->digest) {
        return -ERR_CORRUPT;
    }
    return chunk_span_find(out_span, entry->length, entry->flags, crcs, entry->stored_length, want);
}

static int begin_data(struct store_get *get)
{
    const struct index_entry *entry = &get->find.entry;
    size_t unit = (entry->flags & CHUNK_COMPRESSED) != 0 ? 8 : 4;
    size_t table = RECORD_HEAD_BYTES + record_crcs_bytes(entry->length, entry->flags);
    struct chunk_span span = {0};
    int r = check_head(get, &span);

    if (r < 0) {
        return r;
    }
    get->chunk_length = entry->length;
    get->flags = entry->flags;
    get->first = span.first;
    buf_clear(&get->crcs);
    buf_append(&get->crcs, get->head.data + RECORD_HEAD_BYTES + span.first * unit,
               span.count * unit);
    buf_clear(&get->payload);
    get->iov_data =
        (struct iovec){buf_reserve(&get->payload, span.stored_length), span.stored_length};
    read_part(get, &get->io_data, &get->iov_data, table + span.stored_offset);
    return 1;
}

static int check_data(struct store_get *get)
{
    if (get->io_data.result < 0) {
        return (int)get->io_data.result;
    }
    get->payload.size = (size_t)get->io_data.result;
    if (get->payload.size != get->iov_data.iov_len) {
        return -ERR_CORRUPT;
    }
    return chunk_crcs_check(get->chunk_length, get->flags, get->first, buf_slice(&get->crcs),
                            buf_slice(&get->payload));
}

/* Did the index change while we read? Then what we read may have been punched out. */
static bool moved_meanwhile(const struct store_get *get)
{
    struct index_entry now = store_current(get->store, &get->key, &get->find.entry);

    return now.segment != get->find.entry.segment || now.offset8 != get->find.entry.offset8;
}

/* Damage, or a read error: both are repaired from a peer. */
static int report(struct store_get *get, int r)
{
    if (r != -ERR_CORRUPT && r != -EIO) {
        return r;
    }
    if (get->quiet) {
        return -ERR_CORRUPT;
    }
    get->store->corrupt_found++;
    LOG_WARN(get->store->env, "chunk",
             "copy is damaged, readers go elsewhere session=%" PRIu64 " seq=%" PRIu64
             " segment=%u offset=%" PRIu64,
             get->key.session, get->key.seq, get->find.entry.segment,
             entry_offset(&get->find.entry));
    if (get->store->corrupt != NULL) {
        TRACE_MARK("a damaged copy was read");
        get->store->corrupt(get->store, &get->key);
    }
    return -ERR_CORRUPT;
}

static void get_step(struct op *op)
{
    struct store_get *get = container_of(op, struct store_get, op);
    int r = 1;

    while (op->inflight == 0) {
        switch (op->state) {
        case STORE_GET_FIND:
            op->state = STORE_GET_FOUND;
            lsm_find_start(&get->find, &get->store->lsm, &get->key, op);
            continue;
        case STORE_GET_FOUND:
            op->state = STORE_GET_HEAD;
            r = begin_read(get);
            break;
        case STORE_GET_HEAD:
            op->state = STORE_GET_DATA;
            r = begin_data(get);
            break;
        default:
            r = check_data(get);
            break;
        }
        if (r > 0) {
            continue;
        }
        drop_segment(get);
        if (r < 0 && get->find.op.result > 0 && moved_meanwhile(get) &&
            get->tries++ < STORE_GET_TRIES) {
            op->state = STORE_GET_FIND;
            continue;
        }
        op_finish(op, r < 0 && get->find.op.result > 0 ? report(get, r) : r);
        return;
    }
}

static void get_drained(struct op *op)
{
    struct store_get *get = container_of(op, struct store_get, op);
    struct chunk_store *store = get->store;

    buf_deinit(&get->head);
    store->get_bytes -= get->charged;
    store->get_count += op->result == 0;
    get->released(get);
    store_released(store);
}

static const struct op_kind get_kind = {.name = "store_get",
                                        .states = get_states,
                                        .state_count = ARRAY_SIZE(get_states),
                                        .step = get_step,
                                        .drained = get_drained};

void store_get_start(struct store_get *get, struct chunk_store *store)
{
    op_init(&get->op, &get_kind);
    get->store = store;
    get->segment = NULL;
    get->head = get->crcs = get->payload = (struct buf){0};
    get->tries = 0;
    get->charged = get->length == 0 ? CHUNK_BYTES_MAX : min_u64(get->length, CHUNK_BYTES_MAX);
    store->get_bytes += get->charged;
    store->busy++;
    op_wake(&get->op);
}
