/*
 * settle: one op a file at a time:
 *
 *     LEARN --> PUT --> COMMIT --> LEARN ... --> finish, when no journalled extent is left
 *
 * LEARN asks the service for journalled extents with their bytes; PUT makes one chunk of them;
 * COMMIT (SETTLE) names it in place of those that are still there. An error ends the op: the data
 * is safe where it is, and the file has its turn again later.
 */
#include "fs/settle.h"

#include "base/assert.h"
#include "base/mem.h"
#include "fs/chunk_seq.h"
#include "fs/limits.h"
#include "fs/mount.h"

#include <errno.h>

struct settle_file {
    uint64_t ino;
    uint64_t bytes; /* journalled by us; 0: the service has asked */
    uint64_t since_ns;
    uint64_t not_before_ns; /* after a failure */
    unsigned failures;      /* in a row */
    struct list_node node;  /* in settle_state.queue, unless an op works on it */
    bool running;
};

enum settle_step { SETTLE_LEARN, SETTLE_PUT, SETTLE_COMMIT };

static const char *const settle_states[] = {"learn", "put", "commit"};

struct settle_op {
    struct op op;
    struct mount *mount;
    struct settle_file *file;
    uint64_t taken;   /* file->bytes when it began */
    uint64_t session; /* of the chunk */
    uint64_t next;    /* offset that the next LEARN asks from; UINT64_MAX: that was all */
    struct meta_call call;
    bool asking;
    struct buf extents; /* as learned */
    struct chunk_put put;
    struct chunk_seq *seq;
    struct iovec *iov;
    unsigned count, capacity;
    uint32_t length;
    struct buf body; /* of SETTLE */
    int status;
};

static void settle_step(struct op *op);
static void settle_drained(struct op *op);
static void pump(struct mount *mount);

static const struct op_kind settle_kind = {
    .name = "settle",
    .states = settle_states,
    .state_count = ARRAY_SIZE(settle_states),
    .step = settle_step,
    .drained = settle_drained,
};

/* ---- LEARN ---- */

static void on_learned(struct meta_call *call)
{
    struct settle_op *settle = container_of(call, struct settle_op, call);

    settle->asking = false;
    settle->status = call->status;
    buf_clear(&settle->extents);
    if (call->status == 0 && (call->reply.flags & META_DATA_INLINE) == 0) {
        buf_append_slice(&settle->extents, call->reply.extents);
        settle->next = call->reply.value;
    } else {
        settle->next = UINT64_MAX; /* truncated to nothing meanwhile, or an error */
    }
    op_complete(&settle->op);
}

static void ask(struct settle_op *settle, struct meta_request request,
                void (*done)(struct meta_call *call))
{
    request.ino = settle->file->ino;
    settle->call = (struct meta_call){.request = request, .done = done};
    settle->asking = true;
    settle->op.inflight++;
    meta_call_start(&settle->mount->meta, &settle->call);
}

/* ---- PUT ---- */

static void add_part(struct settle_op *settle, const struct meta_extent *extent)
{
    cleanup(buf_deinit) struct buf one = {0};
    struct meta_settle record = {.offset = extent->offset,
                                 .length = extent->length,
                                 .from_session = extent->chunk_session,
                                 .from_seq = extent->chunk_seq,
                                 .chunk_session = settle->session,
                                 .chunk_seq = settle->seq->seq,
                                 .chunk_offset = settle->length};

    if (settle->count == settle->capacity) {
        settle->capacity = settle->capacity ? settle->capacity * 2 : 16;
        settle->iov = mem_realloc(settle->iov, settle->capacity * sizeof(*settle->iov));
    }
    settle->iov[settle->count++] = (struct iovec){
        settle->extents.data + (extent->data.data - settle->extents.data), extent->data.size};
    settle->length += extent->length;
    meta_settle_encode(&record, &one);
    schema_write_bytes(&settle->body, buf_slice(&one));
}

/* What was learned into iov and body. Returns 0 or -ERR_BAD_MESSAGE. */
static int pack(struct settle_op *settle)
{
    struct schema_reader reader = schema_reader_make(buf_slice(&settle->extents));
    struct meta_extent extent;

    settle->count = 0;
    settle->length = 0;
    settle->session = settle->mount->meta.session;
    buf_clear(&settle->body);
    settle->seq = chunk_seq_take(settle->mount);
    while (reader.at != reader.end) {
        struct slice record = schema_read_bytes(&reader, META_BODY_MAX);

        if (reader.failed || meta_extent_decode(&extent, record) < 0 ||
            extent.data.size != extent.length || extent.length == 0) {
            return -ERR_BAD_MESSAGE;
        }
        add_part(settle, &extent);
    }
    return 0;
}

static void on_put(struct op *op)
{
    struct settle_op *settle = op->owner;

    settle->status = op->result;
    op_wake(&settle->op);
}

static void on_put_released(struct chunk_put *put)
{
    op_complete(&container_of(put, struct settle_op, put)->op);
}

static void put_chunk(struct settle_op *settle)
{
    settle->put = (struct chunk_put){
        .id = {settle->session, settle->seq->seq},
        .iov = settle->iov,
        .iov_count = settle->count,
        .length = settle->length,
        .try_compress = settle->mount->settings.compress != 0,
        .timeout_ns = FS_SETTLE_PUT_NS,
        .released = on_put_released,
    };
    settle->put.op.done = on_put;
    settle->put.op.owner = settle;
    settle->op.inflight++;
    chunk_put_start(&settle->put, &settle->mount->chunks);
}

/* ---- COMMIT ---- */

static void on_committed(struct meta_call *call)
{
    struct settle_op *settle = container_of(call, struct settle_op, call);

    settle->asking = false;
    settle->status = call->status;
    op_complete(&settle->op);
}

/* ---- the end ---- */

static bool is_gone(int status)
{
    return status == -ESTALE || status == -ENOENT;
}

static void forget(struct mount *mount, struct settle_file *file)
{
    mount->settle.bytes -= file->bytes;
    map_remove(&mount->settle.files, map_u64(file->ino));
    mem_free(file);
}

/* The data is safe where it is: there is time. */
static void back_off(const struct mount *mount, struct settle_file *file)
{
    uint64_t pause = FS_SETTLE_RETRY_NS << min_u64(file->failures, FS_SETTLE_DOUBLINGS);

    file->failures++;
    file->not_before_ns = env_now(mount->env) + pause;
}

static void finish(struct settle_op *settle)
{
    struct settle_state *state = &settle->mount->settle;
    struct settle_file *file = settle->file;
    bool ours = file->bytes != 0;

    chunk_seq_settle(settle->mount, &settle->seq);
    file->running = false;
    if (settle->status == 0) {
        file->bytes -= settle->taken;
        state->bytes -= settle->taken;
        file->failures = 0;
        file->not_before_ns = 0;
    } else {
        back_off(settle->mount, file);
    }
    if (file->bytes == 0 || is_gone(settle->status) || !ours || state->done != NULL) {
        forget(settle->mount, file);
    } else {
        file->since_ns = env_now(settle->mount->env);
        list_push_back(&state->queue, &file->node);
    }
    settle->file = NULL;
    op_finish(&settle->op, settle->status);
}

static void settle_drained(struct op *op)
{
    struct settle_op *settle = container_of(op, struct settle_op, op);
    struct mount *mount = settle->mount;

    mount->settle.running--;
    mem_free(settle->iov);
    buf_deinit(&settle->extents);
    buf_deinit(&settle->body);
    mem_free(settle);
    pump(mount);
}

static void settle_step(struct op *op)
{
    struct settle_op *settle = container_of(op, struct settle_op, op);

    switch ((enum settle_step)op->state) {
    case SETTLE_LEARN:
        if (op->inflight > 0) {
            return;
        }
        if (settle->status == 0 && settle->extents.size > 0) {
            settle->status = settle->mount->meta.session != 0 ? pack(settle) : -ERR_SESSION_EXPIRED;
        } else if (settle->status == 0 && settle->next != UINT64_MAX) {
            ask(settle,
                (struct meta_request){
                    .op = META_EXTENTS, .flags = META_JOURNALLED, .offset = settle->next},
                on_learned);
            return;
        }
        if (settle->status < 0 || settle->extents.size == 0) {
            finish(settle);
            return;
        }
        op->state = SETTLE_PUT;
        put_chunk(settle);
        return;

    case SETTLE_PUT:
        if (!settle->put.op.decided) {
            return;
        }
        if (settle->status < 0) {
            finish(settle);
            return;
        }
        op->state = SETTLE_COMMIT;
        ask(settle, (struct meta_request){.op = META_SETTLE, .data = buf_slice(&settle->body)},
            on_committed);
        return;

    case SETTLE_COMMIT:
        if (settle->asking) {
            return;
        }
        chunk_seq_settle(settle->mount, &settle->seq);
        if (settle->status < 0) {
            finish(settle);
            return;
        }
        if (op->inflight > 0) {
            return; /* a third copy is still sent from what we learned */
        }
        buf_clear(&settle->extents);
        op->state = SETTLE_LEARN;
        op->woken = true;
        return;
    }
    UNREACHABLE();
}

/* ---- which files, when ---- */

static bool is_due(const struct mount *mount, const struct settle_file *file)
{
    uint64_t now = env_now(mount->env);

    if (mount->settle.done != NULL) {
        return true; /* tried once more, and left to others then */
    }
    return now >= file->not_before_ns &&
           (file->bytes >= FS_SETTLE_BYTES || file->bytes == 0 ||
            mount->settle.bytes >= FS_SETTLE_MAX / 2 || now >= file->since_ns + FS_SETTLE_AGE_NS);
}

static void start(struct mount *mount, struct settle_file *file)
{
    struct settle_op *settle = mem_zalloc(sizeof(*settle));

    op_init(&settle->op, &settle_kind);
    settle->mount = mount;
    settle->file = file;
    settle->taken = file->bytes;
    list_remove(&file->node);
    file->running = true;
    mount->settle.running++;
    op_wake(&settle->op);
}

static struct settle_file *first_due(struct mount *mount)
{
    struct settle_file *file;

    list_for_each (node, &mount->settle.queue) {
        file = container_of(node, struct settle_file, node);
        if (is_due(mount, file)) {
            return file;
        }
    }
    return NULL;
}

static void pump(struct mount *mount)
{
    struct settle_state *state = &mount->settle;
    struct settle_file *file;

    while (state->running < FS_SETTLE_RUNNING && (file = first_due(mount)) != NULL) {
        start(mount, file);
    }
    if (state->done != NULL && state->running == 0) {
        void (*done)(struct mount *) = state->done;

        state->done = NULL;
        done(mount);
        return;
    }
    if (!list_empty(&state->queue) && !env_timer_running(&state->timer)) {
        env_timer_start(mount->env, &state->timer, env_now(mount->env) + FS_SETTLE_AGE_NS / 4);
    }
}

static void on_timer(struct env_timer *timer)
{
    pump(container_of(timer, struct mount, settle.timer));
}

static struct settle_file *file_of(struct mount *mount, uint64_t ino)
{
    struct settle_file *file = map_get(&mount->settle.files, map_u64(ino));

    if (file == NULL) {
        file = mem_zalloc(sizeof(*file));
        file->ino = ino;
        file->since_ns = env_now(mount->env);
        map_put(&mount->settle.files, map_u64(ino), file);
        list_push_back(&mount->settle.queue, &file->node);
    }
    return file;
}

void settle_note(struct mount *mount, uint64_t ino, uint64_t bytes)
{
    file_of(mount, ino)->bytes += bytes;
    mount->settle.bytes += bytes;
    pump(mount);
}

bool settle_has_room(const struct mount *mount, uint64_t ino, uint64_t bytes)
{
    const struct settle_state *state = &mount->settle;
    const struct settle_file *file = map_get(&state->files, map_u64(ino));
    uint64_t have = file != NULL ? file->bytes : 0;

    return state->bytes + bytes <= FS_SETTLE_MAX && have + bytes <= FS_SETTLE_FILE_MAX &&
           (state->refused_ns == 0 || env_now(mount->env) >= state->refused_ns + NS_PER_S);
}

void settle_refused(struct mount *mount)
{
    mount->settle.refused_ns = env_now(mount->env);
}

void settle_ask(struct mount *mount, uint64_t ino)
{
    if (!mount->closing && map_get(&mount->settle.files, map_u64(ino)) == NULL) {
        file_of(mount, ino);
        pump(mount);
    }
}

void settle_all(struct mount *mount, void (*done)(struct mount *mount))
{
    mount->settle.done = done;
    pump(mount);
}

void settle_init(struct mount *mount)
{
    list_init(&mount->settle.queue);
    mount->settle.timer.fire = on_timer;
}

void settle_deinit(struct mount *mount)
{
    ASSERT(mount->settle.running == 0);
    env_timer_stop(mount->env, &mount->settle.timer);
    map_deinit(&mount->settle.files);
}
