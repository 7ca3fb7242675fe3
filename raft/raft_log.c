/*
 * raft_log: append and the writer.
 *
 *     IDLE -> WRITE -> SYNC -> IDLE                        one group commit
 *     IDLE -> [WAIT_SPARE] -> SWITCH_OPEN .. SWITCH_CLOSE  the next segment
 *
 * Invariants:
 *   1. a segment is complete and durable before the next one gets its name;
 *   2. the bytes behind `offset` in the segment are zero;
 *   3. a ticket is reported only when every record up to it is durable.
 */
#include "raft/raft_log_internal.h"

#include "base/buggify.h"
#include "base/trace_mark.h"

#include "raft/raft_proto.h"

/* A record holds about this much at most (one entry is never split). */
#define RECORD_BYTES KiB(512)

uint32_t raft_log_head_crc(struct raft_log_record record, uint64_t seq)
{
    record.head_crc = 0;
    return crc32c((uint32_t)seq, slice_make(&record, sizeof(record)));
}

void raft_log_header_encode(const struct raft_log *log, uint64_t seq, uint64_t prev_end,
                            uint8_t *out_block)
{
    struct raft_log_header header = {
        .magic = RAFT_LOG_MAGIC,
        .version = RAFT_LOG_VERSION,
        .node_id = log->config.node_id,
        .group = log->config.group,
        .seq = seq,
        .first_index = log->last_index + 1,
        .prev_end = prev_end,
        .prev_crc = log->prev_crc,
    };

    memcpy(header.cluster_uuid, log->config.cluster_uuid, sizeof(header.cluster_uuid));
    memset(out_block, 0, RAFT_LOG_HEADER_BYTES);
    memcpy(out_block, &header, sizeof(header));
    header.crc = crc32c(0, slice_make(out_block, RAFT_LOG_HEADER_BYTES));
    memcpy(out_block, &header, sizeof(header));
}

void raft_log_put_record(struct buf *out, struct raft_log_record record, struct slice data)
{
    record.magic = RAFT_LOG_RECORD_MAGIC;
    record.size = (uint32_t)data.size;
    record.data_crc = crc32c(0, data);
    buf_append(out, &record, sizeof(record));
    buf_append_slice(out, data);
    buf_append_zero(out, round_up(data.size, 8) - data.size);
}

static uint64_t record_bytes(const struct raft_log_record *record)
{
    return sizeof(*record) + round_up(record->size, 8);
}

struct raft_log_segment *raft_log_segment_new(struct raft_log *log, uint64_t seq)
{
    struct raft_log_segment *segment = mem_zalloc(sizeof(*segment));

    segment->seq = seq;
    segment->path = mem_printf("%s/log-%016" PRIx64, log->dir, seq);
    return segment;
}

void raft_log_segment_free(struct raft_log_segment *segment)
{
    if (segment != NULL) {
        mem_free(segment->path);
        mem_free(segment);
    }
}

static struct raft_log_segment *current(const struct raft_log *log)
{
    return list_entry(list_last(&log->segments), struct raft_log_segment, node);
}

/* ---- the writer ---- */

static void on_io(struct env_io *io);

static void submit(struct raft_log *log, enum raft_log_step step, struct env_io io)
{
    log->step = step;
    log->io = io;
    log->io.done = on_io;
    log->io.data = log;
    env_io(log->env, &log->io);
}

static void submit_write(struct raft_log *log, enum raft_log_step step, struct env_file *file,
                         uint64_t offset)
{
    log->iov = (struct iovec){log->writing.data, log->writing.size};
    submit(log, step,
           (struct env_io){.type = ENV_IO_WRITE,
                           .file = file,
                           .iov = &log->iov,
                           .iov_count = 1,
                           .offset = offset});
}

/* Completes the head at `at` of the batch, which goes to `offset`, and returns its size. */
static uint64_t finish_record(struct raft_log *log, size_t at, uint32_t *prev_crc)
{
    struct raft_log_record record;

    memcpy(&record, log->batch.data + at, sizeof(record));
    log->writing_ticket = record.synced_upto;
    record.synced_upto = log->synced;
    record.prev_crc = *prev_crc;
    record.head_crc = raft_log_head_crc(record, current(log)->seq);
    *prev_crc = record.head_crc;
    memcpy(log->batch.data + at, &record, sizeof(record));
    if (RAFT_LOG_TYPE(record.type) == RAFT_LOG_ENTRIES) {
        current(log)->last_index =
            max_u64(current(log)->last_index, record.first_index + record.count - 1);
    }
    return record_bytes(&record);
}

/* Moves the records that fit from the batch to `writing`. False: the segment is full. */
static bool take_batch(struct raft_log *log)
{
    bool empty = log->offset == RAFT_LOG_HEADER_BYTES + sizeof(struct raft_log_record);
    uint64_t room =
        log->config.segment_bytes > log->offset ? log->config.segment_bytes - log->offset : 0;
    struct raft_log_record record;
    size_t size = 0;

    while (size < log->batch.size) {
        memcpy(&record, log->batch.data + size, sizeof(record));
        /* A record larger than a segment makes its segment larger. */
        if (size + record_bytes(&record) > room && !(empty && size == 0)) {
            break;
        }
        if (size > 0 &&
            (size + record_bytes(&record) > RAFT_LOG_BATCH_MAX || BUGGIFY(log->env, 20))) {
            break;
        }
        size += finish_record(log, size, &log->prev_crc);
    }
    if (size == 0) {
        return false;
    }
    if (size < log->batch.size) {
        memcpy(&record, log->batch.data + size, sizeof(record));
        if (record.synced_upto == log->writing_ticket) {
            log->writing_ticket--; /* the rest of this append comes later */
        }
    }
    buf_clear(&log->writing);
    buf_append(&log->writing, log->batch.data, size);
    memmove(log->batch.data, log->batch.data + size, log->batch.size - size);
    log->batch.size -= size;
    return true;
}

static void begin_switch(struct raft_log *log)
{
    log->next_spare = raft_log_spare_take(log);
    if (log->next_spare == NULL) {
        TRACE_MARK("the log waits for a spare segment");
        log->step = RAFT_LOG_WAIT_SPARE;
        raft_log_spares_fill(log);
        return;
    }
    log->next = raft_log_segment_new(log, current(log)->seq + 1);
    submit(log, RAFT_LOG_SWITCH_OPEN,
           (struct env_io){.type = ENV_IO_OPEN, .path = log->next_spare->path});
}

static void encode_start(struct raft_log *log)
{
    struct raft_log_record record = {
        .magic = RAFT_LOG_RECORD_MAGIC,
        .type = RAFT_LOG_STATE | RAFT_LOG_PROMISES,
        .term = log->state.term,
        .vote = log->state.vote,
        .first_index = log->last_index + 1,
    };

    record.head_crc = raft_log_head_crc(record, log->next->seq);
    buf_clear(&log->writing);
    raft_log_header_encode(log, log->next->seq, log->offset,
                           buf_reserve(&log->writing, RAFT_LOG_HEADER_BYTES));
    log->writing.size += RAFT_LOG_HEADER_BYTES;
    buf_append(&log->writing, &record, sizeof(record));
    log->prev_crc = record.head_crc;
}

static void end_switch(struct raft_log *log)
{
    struct env_file *old = log->file;

    list_push_back(&log->segments, &log->next->node);
    log->next = NULL;
    raft_log_spare_free(log->next_spare);
    log->next_spare = NULL;
    log->file = log->next_file;
    log->next_file = NULL;
    log->offset = log->writing.size;
    log->synced = log->vouched = log->offset;
    raft_log_spares_fill(log);
    submit(log, RAFT_LOG_SWITCH_CLOSE, (struct env_io){.type = ENV_IO_CLOSE, .file = old});
}

static void report(struct raft_log *log)
{
    log->vouched = log->synced;
    log->offset += log->writing.size;
    log->synced = log->offset;
    log->writes++;
    log->step = RAFT_LOG_IDLE;
    if (log->writing_ticket > log->durable && !log->closing) {
        log->durable = log->writing_ticket;
        log->saved(log, log->durable);
    }
}

static void io_failed(struct raft_log *log, const struct env_io *io)
{
    static const char *const names[] = {
        [ENV_IO_OPEN] = "open",     [ENV_IO_WRITE] = "write",      [ENV_IO_SYNC] = "sync",
        [ENV_IO_RENAME] = "rename", [ENV_IO_SYNC_DIR] = "sync of", [ENV_IO_CLOSE] = "close",
    };

    env_disk_failed(
        log->env, (int)io->result, "raft",
        "cannot %s the log, the node stops; nothing acknowledged is lost path=%s error=%s%s",
        names[io->type], io->path != NULL ? io->path : current(log)->path,
        err_text((int)io->result),
        io->result == -ENOSPC ? " (free space on its disk, then start the node again)" : "");
}

static void on_io(struct env_io *io)
{
    struct raft_log *log = io->data;

    if (io->result < 0) {
        io_failed(log, io);
    }
    switch (log->step) {
    case RAFT_LOG_WRITE:
        submit(log, RAFT_LOG_SYNC, (struct env_io){.type = ENV_IO_SYNC, .file = log->file});
        return;
    case RAFT_LOG_SYNC:
        metrics_observe(&log->sync_seconds, env_now(log->env) - log->write_started_ns);
        report(log);
        break;
    case RAFT_LOG_SWITCH_OPEN:
        log->next_file = io->file;
        encode_start(log);
        submit_write(log, RAFT_LOG_SWITCH_WRITE, log->next_file, 0);
        return;
    case RAFT_LOG_SWITCH_WRITE:
        submit(log, RAFT_LOG_SWITCH_SYNC,
               (struct env_io){.type = ENV_IO_SYNC, .file = log->next_file});
        return;
    case RAFT_LOG_SWITCH_SYNC:
        submit(log, RAFT_LOG_SWITCH_RENAME,
               (struct env_io){.type = ENV_IO_RENAME,
                               .path = log->next_spare->path,
                               .new_path = log->next->path});
        return;
    case RAFT_LOG_SWITCH_RENAME:
        submit(log, RAFT_LOG_SWITCH_SYNC_DIR,
               (struct env_io){.type = ENV_IO_SYNC_DIR, .path = log->dir});
        return;
    case RAFT_LOG_SWITCH_SYNC_DIR:
        end_switch(log);
        return;
    case RAFT_LOG_SWITCH_CLOSE:
        log->step = RAFT_LOG_IDLE;
        break;
    case RAFT_LOG_CLOSE:
        log->file = NULL;
        log->step = RAFT_LOG_IDLE;
        break;
    case RAFT_LOG_IDLE:
    case RAFT_LOG_WAIT_SPARE:
    case RAFT_LOG_CLOSED:
        UNREACHABLE();
    }
    raft_log_pump(log);
}

static void free_all(struct raft_log *log)
{
    struct list_node *node;

    while ((node = list_pop_front(&log->segments)) != NULL) {
        raft_log_segment_free(list_entry(node, struct raft_log_segment, node));
    }
    while ((node = list_pop_front(&log->spares)) != NULL) {
        raft_log_spare_free(list_entry(node, struct raft_log_spare, node));
    }
    buf_deinit(&log->batch);
    buf_deinit(&log->writing);
    mem_free(log->dir);
    log->dir = NULL;
    log->step = RAFT_LOG_CLOSED;
}

/* Closes what is open, one at a time, then frees. */
static void pump_close(struct raft_log *log)
{
    struct env_file *file = log->file != NULL ? log->file : log->lock;

    list_for_each (node, &log->spares) {
        if (list_entry(node, struct raft_log_spare, node)->state != RAFT_LOG_SPARE_READY) {
            return; /* its io is under way */
        }
    }
    if (file == NULL) {
        free_all(log);
        return;
    }
    if (file == log->lock) {
        log->lock = NULL;
    }
    submit(log, RAFT_LOG_CLOSE, (struct env_io){.type = ENV_IO_CLOSE, .file = file});
}

void raft_log_pump(struct raft_log *log)
{
    if (log->step == RAFT_LOG_WAIT_SPARE) {
        log->step = RAFT_LOG_IDLE;
    }
    if (log->step != RAFT_LOG_IDLE) {
        return;
    }
    if (log->closing) {
        pump_close(log);
    } else if (log->batch.size == 0) {
        return;
    } else if (take_batch(log)) {
        log->write_started_ns = env_now(log->env);
        submit_write(log, RAFT_LOG_WRITE, log->file, log->offset);
    } else {
        begin_switch(log);
    }
}

/* ---- the interface ---- */

static void put_entries(struct raft_log *log, uint64_t first, const struct raft_entry *entries,
                        unsigned count)
{
    cleanup(buf_deinit) struct buf data = {0};
    unsigned at = 0;

    while (at < count) {
        struct raft_log_record record = {
            .type = RAFT_LOG_ENTRIES | RAFT_LOG_PROMISES,
            .first_index = first + at,
            .term = log->state.term,
            .vote = log->state.vote,
            .synced_upto = log->ticket,
        };

        buf_clear(&data);
        do {
            raft_entries_encode(&entries[at], 1, &data);
            at++;
            record.count++;
        } while (at < count && data.size + entries[at].command.size < RECORD_BYTES &&
                 record.count < RAFT_APPEND_ENTRIES_MAX);
        raft_log_put_record(&log->batch, record, buf_slice(&data));
    }
    if (count > 0) {
        log->last_index = first + count - 1;
    }
}

uint64_t raft_log_append(struct raft_log *log, uint64_t first, const struct raft_entry *entries,
                         unsigned count, const struct raft_hard_state *state)
{
    ASSERT(!log->closing);
    ASSERT(count == 0 || (first > 0 && first <= log->last_index + 1));
    log->ticket++;
    if (state != NULL) {
        struct raft_log_record record = {
            .type = RAFT_LOG_STATE | RAFT_LOG_PROMISES,
            .term = state->term,
            .vote = state->vote,
            .first_index = log->last_index + 1,
            .synced_upto = log->ticket,
        };

        log->state = *state;
        raft_log_put_record(&log->batch, record, (struct slice){0});
    }
    put_entries(log, first, entries, count);
    raft_log_pump(log);
    return log->ticket;
}

uint64_t raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term)
{
    struct raft_log_record record = {
        .type = RAFT_LOG_RESET,
        .first_index = index,
        .term = term,
        .synced_upto = ++log->ticket,
    };

    struct raft_log_record state = {
        .type = RAFT_LOG_STATE | RAFT_LOG_PROMISES,
        .term = log->state.term,
        .vote = log->state.vote,
        .first_index = index + 1,
        .synced_upto = log->ticket,
    };

    log->last_index = index;
    raft_log_put_record(&log->batch, record, (struct slice){0});
    raft_log_put_record(&log->batch, state, (struct slice){0}); /* which says what RESET cannot */
    raft_log_pump(log);
    return log->ticket;
}

void raft_log_compact(struct raft_log *log, uint64_t index)
{
    while (list_first(&log->segments) != list_last(&log->segments)) {
        struct raft_log_segment *oldest =
            list_entry(list_first(&log->segments), struct raft_log_segment, node);

        if (oldest->last_index > index) {
            return;
        }
        list_remove(&oldest->node);
        raft_log_spare_recycle(log, oldest);
    }
}

int raft_log_open(struct raft_log *log, struct env *env, const struct raft_log_config *config,
                  struct raft_log_recovered *out_recovered)
{
    int r;

    *log = (struct raft_log){.env = env, .config = *config, .dir = mem_strdup(config->dir)};
    log->config.dir = log->dir;
    if (log->config.segment_bytes == 0) {
        log->config.segment_bytes = RAFT_LOG_SEGMENT_BYTES;
    }
    ASSERT(log->config.segment_bytes >= RAFT_LOG_SEGMENT_MIN);
    list_init(&log->segments);
    list_init(&log->spares);
    *out_recovered = (struct raft_log_recovered){0};
    r = raft_log_recover(log, out_recovered);
    if (r < 0) {
        raft_tail_deinit(&out_recovered->tail);
        env_close_now(env, log->file);
        env_close_now(env, log->lock);
        free_all(log);
        return r;
    }
    raft_log_spares_fill(log);
    return 0;
}

void raft_log_close(struct raft_log *log)
{
    log->closing = true;
    buf_clear(&log->batch);
    raft_log_pump(log);
}

bool raft_log_closed(const struct raft_log *log)
{
    return log->step == RAFT_LOG_CLOSED;
}
