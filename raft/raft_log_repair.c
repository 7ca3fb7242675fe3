/*
 * raft_log_repair: what is left of a damaged log, and how it is cut.
 *
 * Entries that this node has acknowledged, or a vote, may be in what cannot be read. Every record
 * says what the hard state is and where the log ends when it was made (RAFT_LOG_PROMISES), so the
 * last readable one, which a vouched damage always has behind it, names all promises. They go
 * into the file `repair`; only then the log is cut before the damage. A crash in between finds the
 * damage, or a log that ends early, and the file: it does the same again. The file goes when
 * everything promised is durable again.
 */
#include "raft/raft_log_internal.h"

static char *repair_path(const struct raft_log *log)
{
    return mem_printf("%s/repair", log->dir);
}

static uint32_t file_crc(const struct raft_log_repair_file *file)
{
    return crc32c(0, slice_make(file, offsetof(struct raft_log_repair_file, crc)));
}

int raft_log_repair_read(struct raft_log *log, struct raft_hard_state *out_state,
                         uint64_t *out_index)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    struct raft_log_repair_file file;
    char *path = repair_path(log);
    int r = env_read_file(log->env, path, KiB(4), &bytes);

    mem_free(path);
    if (r == -ENOENT) {
        return 0;
    }
    if (r < 0) {
        return r;
    }
    if (bytes.size < sizeof(file)) {
        return -ERR_CORRUPT;
    }
    memcpy(&file, bytes.data, sizeof(file));
    if (file.magic != RAFT_LOG_REPAIR_MAGIC || file.crc != file_crc(&file)) {
        return -ERR_CORRUPT;
    }
    *out_state = (struct raft_hard_state){file.term, file.vote};
    *out_index = file.index;
    return 1;
}

int raft_log_keep_promises(struct raft_log *log, struct raft_hard_state state, uint64_t index)
{
    struct raft_log_repair_file file = {
        .magic = RAFT_LOG_REPAIR_MAGIC, .term = state.term, .index = index, .vote = state.vote};
    char *path = repair_path(log);
    int r;

    file.crc = file_crc(&file);
    r = env_replace_file(log->env, log->dir, path, slice_make(&file, sizeof(file)));
    mem_free(path);
    return r;
}

static void take_promise(struct raft_hard_state *state, uint64_t *index, uint64_t term,
                         uint32_t vote, uint64_t last)
{
    if (term > state->term || (term == state->term && vote != 0)) {
        *state = (struct raft_hard_state){term, vote};
    }
    *index = max_u64(*index, last);
}

/* Every record head that can be read, also behind bytes that cannot. *told: the last one tells what
 * was promised before it. */
static void read_heads(struct slice bytes, uint64_t seq, struct raft_hard_state *state,
                       uint64_t *index, bool *told)
{
    struct raft_log_record record;

    for (size_t at = RAFT_LOG_HEADER_BYTES; at + sizeof(record) <= bytes.size; at += 8) {
        memcpy(&record, bytes.data + at, sizeof(record));
        if (record.magic != RAFT_LOG_RECORD_MAGIC ||
            record.head_crc != raft_log_head_crc(record, seq)) {
            continue;
        }
        *told = (record.type & RAFT_LOG_PROMISES) != 0;
        if (*told) {
            take_promise(state, index, record.term, record.vote,
                         record.first_index + record.count - 1);
        }
    }
}

bool raft_log_promises(struct raft_log *log, struct raft_log_segment *from,
                       struct raft_hard_state *state, uint64_t *out_index)
{
    struct raft_hard_state kept;
    uint64_t index = 0, kept_index;
    int there = raft_log_repair_read(log, &kept, &kept_index);
    bool told = there > 0, begun = false;

    if (there < 0) {
        return false;
    }
    if (there > 0) {
        take_promise(state, &index, kept.term, kept.vote, kept_index);
    }
    list_for_each (node, &log->segments) {
        struct raft_log_segment *segment = list_entry(node, struct raft_log_segment, node);
        cleanup(buf_deinit) struct buf bytes = {0};

        begun = begun || segment == from;
        if (!begun) {
            continue;
        }
        if (env_read_file(log->env, segment->path, SIZE_MAX, &bytes) < 0) {
            return false;
        }
        read_heads(buf_slice(&bytes), segment->seq, state, &index, &told);
    }
    *out_index = index;
    return told;
}

int raft_log_drop_behind(struct raft_log *log, struct raft_log_segment *last)
{
    while (list_last(&log->segments) != &last->node) {
        struct raft_log_segment *newest =
            list_entry(list_last(&log->segments), struct raft_log_segment, node);
        int r = env_path_now(log->env, ENV_IO_UNLINK, newest->path, NULL);

        /* One by one: what is left must stay an unbroken run. */
        r = r < 0 ? r : env_path_now(log->env, ENV_IO_SYNC_DIR, log->dir, NULL);
        if (r < 0) {
            return r;
        }
        list_remove(&newest->node);
        raft_log_segment_free(newest);
    }
    return 0;
}

void raft_log_repaired(struct raft_log *log)
{
    char *path = repair_path(log);
    int r = env_path_now(log->env, ENV_IO_UNLINK, path, NULL);

    r = r < 0 ? r : env_path_now(log->env, ENV_IO_SYNC_DIR, log->dir, NULL);
    if (r < 0) { /* harmless: the next start waits for the leader's word once more */
        LOG_WARN(log->env, "raft", "cannot remove path=%s error=%s", path, err_text(r));
    }
    mem_free(path);
}
