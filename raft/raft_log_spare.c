/*
 * Spare segments: zeroed and synced beforehand, so that an append changes neither size nor extents
 * of its file and its fdatasync writes no metadata of the file system. Old segments are reused.
 *
 *     (old segment) RENAME -> SYNC_DIR -> OPEN -> ZERO (repeated) -> SYNC -> CLOSE -> READY
 *     (new file)                          OPEN -> ...
 *     (one too many) UNLINK -> gone
 */
#include "raft/raft_log_internal.h"

uint8_t raft_log_zeros[RAFT_LOG_ZERO_BLOCK] __attribute__((aligned(4096)));

static void spare_done(struct env_io *io);

static void submit(struct raft_log_spare *spare, enum raft_log_spare_state state, struct env_io io)
{
    spare->state = state;
    spare->io = io;
    spare->io.done = spare_done;
    spare->io.data = spare;
    env_io(spare->log->env, &spare->io);
}

void raft_log_spare_free(struct raft_log_spare *spare)
{
    if (spare != NULL) {
        mem_free(spare->path);
        mem_free(spare->old_path);
        mem_free(spare);
    }
}

static void zero_more(struct raft_log_spare *spare)
{
    uint64_t size = min_u64(RAFT_LOG_ZERO_BLOCK, spare->log->config.segment_bytes - spare->zeroed);

    spare->iov = (struct iovec){raft_log_zeros, size};
    submit(spare, RAFT_LOG_SPARE_ZERO,
           (struct env_io){.type = ENV_IO_WRITE,
                           .file = spare->file,
                           .iov = &spare->iov,
                           .iov_count = 1,
                           .offset = spare->zeroed});
    spare->zeroed += size;
}

static void open_spare(struct raft_log_spare *spare)
{
    submit(spare, RAFT_LOG_SPARE_OPEN,
           (struct env_io){
               .type = ENV_IO_OPEN, .path = spare->path, .flags = ENV_OPEN_CREATE | ENV_OPEN_BULK});
}

static void sync_spare(struct raft_log_spare *spare)
{
    submit(spare, RAFT_LOG_SPARE_SYNC, (struct env_io){.type = ENV_IO_SYNC, .file = spare->file});
}

static void close_spare(struct raft_log_spare *spare)
{
    submit(spare, RAFT_LOG_SPARE_CLOSE, (struct env_io){.type = ENV_IO_CLOSE, .file = spare->file});
}

static void spare_failed(struct raft_log_spare *spare)
{
    env_disk_failed(
        spare->log->env, (int)spare->io.result, "raft",
        "cannot prepare the next log segment, the node stops; nothing acknowledged is lost "
        "path=%s error=%s%s",
        spare->path, err_text((int)spare->io.result),
        spare->io.result == -ENOSPC ? " (free space on its disk, then start the node again)" : "");
}

static void spare_done(struct env_io *io)
{
    struct raft_log_spare *spare = io->data;
    struct raft_log *log = spare->log;

    if (io->result < 0 && spare->state != RAFT_LOG_SPARE_UNLINK) {
        spare_failed(spare);
    }
    switch (spare->state) {
    case RAFT_LOG_SPARE_RENAME:
        submit(spare, RAFT_LOG_SPARE_SYNC_DIR,
               (struct env_io){.type = ENV_IO_SYNC_DIR, .path = log->dir});
        return;
    case RAFT_LOG_SPARE_SYNC_DIR:
        open_spare(spare);
        return;
    case RAFT_LOG_SPARE_OPEN:
        spare->file = io->file;
        zero_more(spare);
        return;
    case RAFT_LOG_SPARE_ZERO:
        if (log->closing) {
            close_spare(spare);
        } else if (spare->zeroed < log->config.segment_bytes) {
            zero_more(spare);
        } else {
            sync_spare(spare);
        }
        return;
    case RAFT_LOG_SPARE_SYNC:
        close_spare(spare);
        return;
    case RAFT_LOG_SPARE_CLOSE:
        spare->file = NULL;
        spare->state = RAFT_LOG_SPARE_READY;
        break;
    case RAFT_LOG_SPARE_UNLINK:
        list_remove(&spare->node);
        raft_log_spare_free(spare);
        break;
    case RAFT_LOG_SPARE_READY:
        UNREACHABLE();
    }
    raft_log_pump(log);
}

static struct raft_log_spare *spare_new(struct raft_log *log)
{
    struct raft_log_spare *spare = mem_zalloc(sizeof(*spare));

    spare->log = log;
    spare->path = mem_printf("%s/spare-%016" PRIx64, log->dir, ++log->spare_no);
    list_push_back(&log->spares, &spare->node);
    return spare;
}

void raft_log_spares_fill(struct raft_log *log)
{
    while (log->spare_count < RAFT_LOG_SPARES && !log->closing) {
        log->spare_count++;
        open_spare(spare_new(log));
    }
}

void raft_log_spare_recycle(struct raft_log *log, struct raft_log_segment *segment)
{
    struct raft_log_spare *spare = spare_new(log);

    spare->old_path = segment->path;
    segment->path = NULL;
    raft_log_segment_free(segment);
    if (log->spare_count < 2 * RAFT_LOG_SPARES) {
        log->spare_count++;
        submit(spare, RAFT_LOG_SPARE_RENAME,
               (struct env_io){
                   .type = ENV_IO_RENAME, .path = spare->old_path, .new_path = spare->path});
    } else {
        submit(spare, RAFT_LOG_SPARE_UNLINK,
               (struct env_io){.type = ENV_IO_UNLINK, .path = spare->old_path});
    }
}

struct raft_log_spare *raft_log_spare_take(struct raft_log *log)
{
    list_for_each (node, &log->spares) {
        struct raft_log_spare *spare = list_entry(node, struct raft_log_spare, node);

        if (spare->state == RAFT_LOG_SPARE_READY) {
            list_remove(&spare->node);
            log->spare_count--;
            return spare;
        }
    }
    return NULL;
}
