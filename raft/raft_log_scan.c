/*
 * Recovery: reads every segment, tells torn from corrupt, and leaves the log ready to append.
 *
 * A bad record at X of the last segment is a torn write when nothing behind it claims that X was
 * synced: the rest is zeroed. It is corruption when a later record of the same segment carries
 * synced_upto > X. A segment that has a successor was complete when the successor was named, so
 * there anything bad is corruption. Then the log is cut before the damage, and the node takes no
 * part until the leader has sent the rest (raft_log_repair.c, raft_repair.c): otherwise entries
 * that it has acknowledged would silently be missing from elections. When it cannot be known what
 * was promised, or nobody else has it, the start is refused.
 */
#include "raft/raft_log_internal.h"

#include "base/trace_mark.h"

#include "raft/raft_proto.h"

struct scan {
    struct raft_log *log;
    struct raft_log_recovered *out;
    struct raft_log_segment *segment;
    struct raft_log_segment *previous; /* read before it, or NULL */
    struct buf bytes;                  /* of the segment */
    uint64_t prev_seq;
    uint64_t prev_end; /* of the segment before; 0 = none read */
    uint32_t prev_crc; /* of its last record */
    uint64_t at;
    uint64_t synced; /* bytes of the segment that its last record vouches for */
    uint32_t crc;    /* head_crc of the last good record here */
    bool has_base;   /* tail is positioned */
};

static int zero_rest(struct scan *scan);

/* The log ends at `at` of the segment from now on. */
static int end_here(struct scan *scan)
{
    struct raft_log *log = scan->log;
    int r;

    r = env_open_now(log->env, scan->segment->path, 0, &log->file);
    if (r == 0) {
        r = zero_rest(scan);
    }
    log->offset = scan->at;
    log->synced = log->vouched = scan->at;
    log->prev_crc = scan->crc;
    return r;
}

/* Back to the end of the segment before, where everything was good. */
static int step_back(struct scan *scan)
{
    scan->segment = scan->previous;
    scan->at = scan->prev_end;
    scan->crc = scan->prev_crc;
    scan->synced = 0;
    buf_clear(&scan->bytes);
    return env_read_file(scan->log->env, scan->segment->path, SIZE_MAX, &scan->bytes);
}

/* Cuts the log at `at` of the segment (0: its header is bad). */
static int cut(struct scan *scan, const char *what)
{
    struct raft_log *log = scan->log;
    struct raft_hard_state state = scan->out->state;
    uint64_t index;
    int r = 0;

    if (!log->config.may_repair || (scan->at == 0 && scan->previous == NULL) ||
        !raft_log_promises(log, scan->at == 0 ? scan->previous : scan->segment, &state, &index)) {
        return -ERR_CORRUPT;
    }
    TRACE_MARK("a damaged log is cut and repaired by the leader");
    LOG_WARN(log->env, "raft",
             "the log is damaged: %s path=%s offset=%" PRIu64
             "; it is cut there, and the node takes no part until the leader has sent it entries "
             "up to index=%" PRIu64 " term=%" PRIu64,
             what, scan->segment->path, scan->at, index, state.term);
    r = raft_log_keep_promises(log, state, index);
    if (r == 0 && scan->at == 0) {
        r = step_back(scan);
    }
    r = r < 0 ? r : raft_log_drop_behind(log, scan->segment);
    return r < 0 ? r : end_here(scan);
}

static int damaged(struct scan *scan, const char *what)
{
    int r = cut(scan, what);

    if (r == -ERR_CORRUPT) {
        LOG_ERROR(scan->log->env, "raft",
                  "the log is damaged, the node does not start: %s path=%s offset=%" PRIu64
                  "; to replace this node, give its machine a new number and `keelfs meta replace`",
                  what, scan->segment->path, scan->at);
    }
    return r;
}

static int check_header(struct scan *scan)
{
    struct raft_log *log = scan->log;
    const char *path = scan->segment->path;
    struct raft_log_header header;
    uint32_t crc;

    scan->at = 0;
    if (scan->bytes.size < RAFT_LOG_HEADER_BYTES) {
        return damaged(scan, "shorter than a segment header");
    }
    memcpy(&header, scan->bytes.data, sizeof(header));
    if (header.magic != RAFT_LOG_MAGIC || header.version != RAFT_LOG_VERSION) {
        LOG_ERROR(log->env, "raft",
                  "not a log of this version path=%s magic=%" PRIx64 " version=%u", path,
                  header.magic, header.version);
        return -ERR_BAD_FORMAT;
    }
    crc = header.crc;
    header.crc = 0;
    memcpy(scan->bytes.data, &header, sizeof(header));
    if (crc32c(0, slice_make(scan->bytes.data, RAFT_LOG_HEADER_BYTES)) != crc) {
        return damaged(scan, "the segment header does not match its checksum");
    }
    if (memcmp(header.cluster_uuid, log->config.cluster_uuid, sizeof(header.cluster_uuid)) != 0) {
        LOG_ERROR(log->env, "raft", "the log belongs to another cluster path=%s", path);
        return -ERR_WRONG_CLUSTER;
    }
    if (header.node_id != log->config.node_id || header.group != log->config.group) {
        LOG_ERROR(log->env, "raft", "the log belongs to node %u, we are node %u path=%s",
                  header.node_id, log->config.node_id, path);
        return -ERR_WRONG_NODE;
    }
    if (header.seq != scan->segment->seq) {
        return damaged(scan, "the file has the name of another segment");
    }
    if (scan->prev_end != 0 &&
        (header.prev_end != scan->prev_end || header.prev_crc != scan->prev_crc)) {
        return damaged(scan, "the segment before does not end where this one says");
    }
    return 0;
}

/* The record at `at`, when it is whole and in its place in the chain. */
static bool good_head(const struct scan *scan, uint64_t at, struct raft_log_record *out_record)
{
    if (at + sizeof(*out_record) > scan->bytes.size) {
        return false;
    }
    memcpy(out_record, scan->bytes.data + at, sizeof(*out_record));
    return out_record->magic == RAFT_LOG_RECORD_MAGIC &&
           out_record->head_crc == raft_log_head_crc(*out_record, scan->segment->seq);
}

static bool good_record(const struct scan *scan, struct raft_log_record *out_record)
{
    uint64_t data = scan->at + sizeof(*out_record);

    return good_head(scan, scan->at, out_record) && out_record->prev_crc == scan->crc &&
           out_record->size <= scan->bytes.size - data &&
           crc32c(0, slice_make(scan->bytes.data + data, out_record->size)) == out_record->data_crc;
}

static int take_entries(struct scan *scan, const struct raft_log_record *record, struct slice data)
{
    struct raft_entry entries[RAFT_APPEND_ENTRIES_MAX];
    struct raft_tail *tail = &scan->out->tail;
    int r;

    if (record->count == 0 || record->count > RAFT_APPEND_ENTRIES_MAX || record->first_index == 0) {
        return damaged(scan, "a record of entries makes no sense");
    }
    r = raft_entries_decode(entries, record->count, data);
    if (r < 0) {
        return damaged(scan, "a record of entries cannot be decoded");
    }
    if (!scan->has_base) {
        scan->has_base = true;
        raft_tail_reset(tail, record->first_index - 1, 0);
    }
    if (record->first_index > raft_tail_last(tail) + 1) {
        return damaged(scan, "entries are missing before this record");
    }
    for (unsigned i = 0; i < record->count; i++) {
        uint64_t index = record->first_index + i;

        if (index < tail->base_index) {
            continue;
        }
        if (index == tail->base_index) {
            tail->base_term = entries[i].term;
            continue;
        }
        if (index <= raft_tail_last(tail)) {
            raft_tail_truncate(tail, index);
        }
        raft_tail_append(tail, entries[i].term, entries[i].command);
    }
    scan->segment->last_index =
        max_u64(scan->segment->last_index, record->first_index + record->count - 1);
    return 0;
}

static int take_record(struct scan *scan, const struct raft_log_record *record)
{
    struct slice data = slice_make(scan->bytes.data + scan->at + sizeof(*record), record->size);

    switch (RAFT_LOG_TYPE(record->type)) {
    case RAFT_LOG_ENTRIES:
        return take_entries(scan, record, data);
    case RAFT_LOG_STATE:
        scan->out->state = (struct raft_hard_state){record->term, record->vote};
        return 0;
    case RAFT_LOG_RESET:
        scan->has_base = true;
        raft_tail_reset(&scan->out->tail, record->first_index, record->term);
        return 0;
    default:
        return damaged(scan, "a record of unknown type");
    }
}

/* Something behind `at` proves that `at` had been synced. */
static bool vouched(const struct scan *scan)
{
    struct raft_log_record record;

    for (uint64_t at = scan->at + 8; at + sizeof(record) <= scan->bytes.size; at += 8) {
        if (good_head(scan, at, &record) && record.synced_upto > scan->at) {
            return true;
        }
    }
    return false;
}

/* What no record vouches for may be in the page cache only: left there by a process that was killed
 * before its sync, or whose sync failed. After that the kernel takes the pages for clean, and no
 * later sync brings them to the disk, unless they are written again. */
static int write_again(const struct scan *scan)
{
    uint64_t from = min_u64(max_u64(scan->synced, RAFT_LOG_HEADER_BYTES), scan->at);

    return from == scan->at ? 0
                            : env_write_at(scan->log->env, scan->log->file, scan->bytes.data + from,
                                           scan->at - from, from);
}

static int zero_rest(struct scan *scan)
{
    struct raft_log *log = scan->log;
    uint64_t end = scan->bytes.size;
    int r;

    while (end > scan->at && scan->bytes.data[end - 1] == 0) {
        end--;
    }
    if (end > scan->at) {
        TRACE_MARK("the log was torn");
        LOG_WARN(
            log->env, "raft",
            "the last write before the crash was torn, it was never acknowledged and is dropped "
            "path=%s offset=%" PRIu64 " bytes=%" PRIu64,
            scan->segment->path, scan->at, end - scan->at);
    }
    for (uint64_t at = scan->at; at < end; at += RAFT_LOG_ZERO_BLOCK) {
        r = env_write_at(log->env, log->file, raft_log_zeros,
                         min_u64(RAFT_LOG_ZERO_BLOCK, end - at), at);
        if (r < 0) {
            return r;
        }
    }
    /* Also when nothing was torn: from here on all of it counts as durable. */
    r = write_again(scan);
    r = r < 0 ? r : env_sync_now(log->env, log->file);
    return r < 0 ? r : env_path_now(log->env, ENV_IO_SYNC_DIR, log->dir, NULL);
}

static int scan_segment(struct scan *scan, bool last)
{
    struct raft_log *log = scan->log;
    struct raft_log_record record;
    int r;

    buf_clear(&scan->bytes);
    r = env_read_file(log->env, scan->segment->path, SIZE_MAX, &scan->bytes);
    if (r < 0) {
        LOG_ERROR(log->env, "raft", "cannot read the log path=%s error=%s", scan->segment->path,
                  err_text(r));
        return r;
    }
    r = check_header(scan);
    if (r < 0 || log->file != NULL) {
        return r; /* bad: the log ends in the segment before */
    }
    scan->at = RAFT_LOG_HEADER_BYTES;
    scan->synced = 0;
    scan->crc = 0;
    while (good_record(scan, &record)) {
        r = take_record(scan, &record);
        if (r < 0 || log->file != NULL) {
            return r; /* makes no sense: the log was cut there */
        }
        scan->crc = record.head_crc;
        scan->synced = record.synced_upto;
        scan->at += sizeof(record) + round_up(record.size, 8);
    }
    scan->prev_end = scan->at;
    scan->prev_crc = scan->crc;
    if (!last) {
        return 0; /* the next header tells whether this is the end */
    }
    if (scan->crc == 0 || vouched(scan)) {
        return damaged(scan, "a record that was durable does not match its checksum");
    }
    return end_here(scan);
}

/* "log-" or "spare-" and 16 hexadecimal digits. */
static bool parse_name(const char *name, const char *prefix, uint64_t *out_number)
{
    size_t length = strlen(prefix);
    char *end = NULL;

    if (strncmp(name, prefix, length) != 0 || strlen(name) != length + 16) {
        return false;
    }
    *out_number = strtoull(name + length, &end, 16);
    return *end == '\0';
}

/* Segments from before a gap become spares: only now, for what is begun here does not end before
 * raft_log_open does, and that may fail. */
static void recycle_all(struct raft_log *log, struct list *old)
{
    struct list_node *node;

    while ((node = list_pop_front(old)) != NULL) {
        raft_log_spare_recycle(log, list_entry(node, struct raft_log_segment, node));
    }
}

static void forget_all(struct list *old)
{
    struct list_node *node;

    while ((node = list_pop_front(old)) != NULL) {
        raft_log_segment_free(list_entry(node, struct raft_log_segment, node));
    }
}

/* Names come sorted. Only the newest unbroken run counts: older segments were being dropped. */
static int list_segments(struct raft_log *log, struct list *old)
{
    cleanup(buf_deinit) struct buf names = {0};
    uint64_t seq;
    int r;

    r = env_list(log->env, log->dir, &names);
    if (r < 0) {
        return r;
    }
    for (size_t at = 0; at < names.size; at += strlen((char *)names.data + at) + 1) {
        const char *name = (const char *)names.data + at;

        if (parse_name(name, "spare-", &seq)) {
            cleanup(buf_deinit) struct buf path = {0};

            buf_printf(&path, "%s/%s", log->dir, name);
            buf_append_zero(&path, 1);
            r = env_path_now(log->env, ENV_IO_UNLINK, (const char *)path.data, NULL);
            if (r < 0) {
                return r;
            }
        } else if (parse_name(name, "log-", &seq)) {
            if (!list_empty(&log->segments) &&
                list_entry(list_last(&log->segments), struct raft_log_segment, node)->seq + 1 !=
                    seq) {
                list_splice(old, &log->segments);
            }
            list_push_back(&log->segments, &raft_log_segment_new(log, seq)->node);
        }
    }
    return 0;
}

static int create_first(struct raft_log *log)
{
    struct raft_log_segment *segment = raft_log_segment_new(log, 1);
    struct raft_log_record record = {.magic = RAFT_LOG_RECORD_MAGIC,
                                     .type = RAFT_LOG_STATE | RAFT_LOG_PROMISES,
                                     .first_index = 1};
    char *path = mem_printf("%s/spare-%016x", log->dir, 0);
    uint8_t *block = mem_zalloc(RAFT_LOG_HEADER_BYTES + sizeof(record));
    int r;

    list_push_back(&log->segments, &segment->node);
    record.head_crc = raft_log_head_crc(record, 1);
    raft_log_header_encode(log, 1, 0, block);
    memcpy(block + RAFT_LOG_HEADER_BYTES, &record, sizeof(record));
    r = env_open_now(log->env, path, ENV_OPEN_CREATE, &log->file);
    for (uint64_t at = 0; r == 0 && at < log->config.segment_bytes; at += RAFT_LOG_ZERO_BLOCK) {
        r = env_write_at(log->env, log->file, raft_log_zeros,
                         min_u64(RAFT_LOG_ZERO_BLOCK, log->config.segment_bytes - at), at);
    }
    if (r == 0) {
        r = env_write_at(log->env, log->file, block, RAFT_LOG_HEADER_BYTES + sizeof(record), 0);
    }
    if (r == 0) {
        r = env_sync_now(log->env, log->file);
    }
    if (r == 0) {
        r = env_path_now(log->env, ENV_IO_RENAME, path, segment->path);
    }
    if (r == 0) {
        r = env_path_now(log->env, ENV_IO_SYNC_DIR, log->dir, NULL);
    }
    if (r < 0) {
        LOG_ERROR(log->env, "raft", "cannot create the log path=%s error=%s", segment->path,
                  err_text(r));
    }
    log->offset = log->synced = log->vouched = RAFT_LOG_HEADER_BYTES + sizeof(record);
    log->prev_crc = record.head_crc;
    mem_free(block);
    mem_free(path);
    return r;
}

/* The state is lost, and no record says which entry the log begins behind: all entries were in the
 * state. The records' heads say how far they went: the node takes no part before it has as much. */
static int keep_unseen(struct scan *scan)
{
    struct raft_log *log = scan->log;
    struct raft_log_segment *first =
        list_entry(list_first(&log->segments), struct raft_log_segment, node);
    struct raft_hard_state state = scan->out->state;
    uint64_t index;

    if (!raft_log_promises(log, first, &state, &index)) {
        return -ERR_CORRUPT;
    }
    raft_tail_reset(&scan->out->tail, 0, 0);
    if (index == 0) {
        return 0;
    }
    scan->out->repair = (struct raft_repair){true, state.term, index};
    return raft_log_keep_promises(log, state, index);
}

/* The state machine holds everything up to the base: the log must continue there, or begin anew. */
static int join_base(struct raft_log *log, struct scan *scan)
{
    uint64_t base = log->config.base_index;
    struct raft_tail *tail = &scan->out->tail;
    uint64_t term = 0;

    log->state = scan->out->state;
    log->last_index = raft_tail_last(tail);
    if (log->config.state_lost) {
        return scan->has_base ? 0 : keep_unseen(scan);
    }
    if (scan->has_base && base < tail->base_index) {
        LOG_ERROR(log->env, "raft",
                  "the log begins behind what the state machine holds, entries are missing; the "
                  "node does not start dir=%s log=%" PRIu64 " state=%" PRIu64,
                  log->dir, tail->base_index, base);
        return -ERR_CORRUPT;
    }
    if (scan->has_base && raft_tail_term(tail, base, &term) &&
        (term == log->config.base_term || term == 0)) {
        raft_tail_compact(tail, base);
        tail->base_term = log->config.base_term;
        return 0;
    }
    raft_tail_reset(tail, base, log->config.base_term);
    log->last_index = base;
    if (base > 0) {
        raft_log_reset(log, base, log->config.base_term);
    }
    return 0;
}

/* A repair that was begun now, or before an earlier start. */
static int take_repair(struct raft_log *log, struct raft_log_recovered *out)
{
    struct raft_hard_state state;
    uint64_t index;
    int r = raft_log_repair_read(log, &state, &index);

    if (r < 0) {
        LOG_ERROR(log->env, "raft", "cannot read what the damaged log had promised dir=%s error=%s",
                  log->dir, err_text(r));
    }
    if (r <= 0) {
        return r;
    }
    out->repair = (struct raft_repair){true, state.term, index};
    if (state.term > out->state.term || (state.term == out->state.term && out->state.vote == 0)) {
        out->state = state;
    }
    return 0;
}

static int lock_dir(struct raft_log *log)
{
    char *path = mem_printf("%s/lock", log->dir);
    int r;

    r = env_path_now(log->env, ENV_IO_MKDIR, log->dir, NULL);
    if (r == 0) {
        r = env_open_now(log->env, path, ENV_OPEN_CREATE | ENV_OPEN_LOCK, &log->lock);
    }
    if (r < 0) {
        LOG_ERROR(log->env, "raft", "cannot take the log directory path=%s error=%s", log->dir,
                  r == -EBUSY ? "another process has it" : err_text(r));
    }
    mem_free(path);
    return r;
}

int raft_log_recover(struct raft_log *log, struct raft_log_recovered *out)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    struct scan scan = {.log = log, .out = out};
    struct list old;
    int r;

    list_init(&old);
    r = lock_dir(log);
    if (r == 0) {
        r = list_segments(log, &old);
    }
    if (r < 0) {
        forget_all(&old);
        return r;
    }
    if (list_empty(&log->segments)) {
        r = create_first(log);
    }
    list_for_each (node, &log->segments) {
        if (r < 0) {
            break;
        }
        scan.segment = list_entry(node, struct raft_log_segment, node);
        r = scan_segment(&scan, node == list_last(&log->segments));
        if (r < 0 || log->file != NULL) {
            break; /* those behind it may be gone */
        }
        scan.previous = scan.segment;
    }
    bytes = scan.bytes;
    r = r < 0 ? r : take_repair(log, out);
    r = r < 0 ? r : join_base(log, &scan);
    if (r < 0) {
        forget_all(&old);
    } else {
        recycle_all(log, &old);
    }
    return r;
}
