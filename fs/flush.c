/*
 * One round takes the dirty data of some inodes all the way:
 *
 *     LEARN --> PUT --> COMMIT --> finish
 *                ^         |
 *                +- AGAIN <+  the session expired: new chunks under the new session
 *
 * LEARN asks for the contents of small files that we have not read: data up to META_INLINE_MAX
 * lives in the inode, and a file that outgrows it takes its inline bytes along into the first
 * chunk. While in a round, an inode's pieces are in inode->flushing: read-only, still read by
 * reads. The committed size never runs ahead of the data: pieces leave in the order of their
 * offsets. A third copy may still be on its way when the round ends: its memory stays until the op
 * drains.
 */
#include "fs/flush.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "fs/call.h"
#include "fs/limits.h"
#include "fs/mount.h"

#include <errno.h>

enum flush_state { FLUSH_LEARN, FLUSH_PUT, FLUSH_COMMIT, FLUSH_AGAIN };

static const char *const flush_states[] = {"learn", "put", "commit", "again"};

/* A chunk sequence number that is handed out and neither committed nor given up. */
struct chunk_seq {
    struct list_node node;
    uint64_t seq;
};

struct round_chunk {
    struct chunk_put put;
    struct flush_round *round;
    struct chunk_seq seq;
    struct iovec *iov;
    unsigned iov_count, iov_capacity;
    uint32_t length;
};

struct round_inode {
    struct inode *inode;
    struct meta_call learn;
    struct flush_round *round;
    struct buf extents; /* encoded for the commit */
    struct buf image;   /* the whole contents, when they stay inline */
    bool is_inline;
    uint64_t size;     /* to commit */
    struct dirty sent; /* the pieces, once the round has ended */
};

struct flush_round {
    struct op op;
    struct mount *mount;
    struct round_inode inodes[FS_ROUND_INODES];
    unsigned inode_count;
    struct round_chunk **chunks;
    unsigned chunk_count;
    uint64_t session;
    struct buf body;
    struct meta_call commit;
    bool committed; /* the commit has its answer */
    int status;
};

static void round_step(struct op *op);
static void round_drained(struct op *op);

static const struct op_kind round_kind = {
    .name = "flush",
    .states = flush_states,
    .state_count = ARRAY_SIZE(flush_states),
    .step = round_step,
    .drained = round_drained,
};

/* ---- chunk numbers ---- */

static void update_chunk_low(struct mount *mount)
{
    struct list_node *first = list_first(&mount->chunk_seqs);

    mount->meta.chunk_low =
        first != NULL ? container_of(first, struct chunk_seq, node)->seq : mount->next_chunk_seq;
}

static void settle_chunks(struct flush_round *round)
{
    for (unsigned i = 0; i < round->chunk_count; i++) {
        list_remove(&round->chunks[i]->seq.node);
    }
    update_chunk_low(round->mount);
}

/* ---- LEARN ---- */

static void on_learned(struct meta_call *call)
{
    struct round_inode *entry = container_of(call, struct round_inode, learn);
    struct flush_round *round = entry->round;
    int r = call->status;

    if (r == 0) {
        r = inode_take_contents(entry->inode, &call->reply, 0);
    }
    if (r < 0) {
        entry->inode->write_error = r;
    }
    op_complete(&round->op);
}

static bool must_learn(const struct round_inode *entry)
{
    return entry->inode->contents == CONTENTS_UNKNOWN && entry->inode->write_error == 0;
}

static void learn(struct flush_round *round)
{
    for (unsigned i = 0; i < round->inode_count; i++) {
        struct round_inode *entry = &round->inodes[i];

        if (!must_learn(entry)) {
            continue;
        }
        entry->learn = (struct meta_call){.done = on_learned};
        entry->learn.request = (struct meta_request){
            .op = META_GETATTR, .ino = entry->inode->ino, .flags = META_WANT_DATA};
        round->op.inflight++;
        meta_call_start(&round->mount->meta, &entry->learn);
    }
}

/* ---- packing ---- */

static struct round_chunk *new_chunk(struct flush_round *round)
{
    struct round_chunk *chunk = mem_zalloc(sizeof(*chunk));
    struct mount *mount = round->mount;

    chunk->round = round;
    chunk->seq.seq = mount->next_chunk_seq++;
    list_push_back(&mount->chunk_seqs, &chunk->seq.node);
    round->chunks = mem_realloc(round->chunks, (round->chunk_count + 1) * sizeof(*round->chunks));
    round->chunks[round->chunk_count++] = chunk;
    return chunk;
}

static void chunk_add(struct round_chunk *chunk, uint8_t *data, uint32_t size)
{
    if (chunk->iov_count == chunk->iov_capacity) {
        chunk->iov_capacity = chunk->iov_capacity ? chunk->iov_capacity * 2 : 8;
        chunk->iov = mem_realloc(chunk->iov, chunk->iov_capacity * sizeof(*chunk->iov));
    }
    chunk->iov[chunk->iov_count++] = (struct iovec){data, size};
    chunk->length += size;
}

static void add_extent(struct round_inode *entry, const struct round_chunk *chunk, uint64_t offset,
                       uint32_t length)
{
    struct meta_extent extent = {
        .offset = offset,
        .length = length,
        .chunk_session = entry->round->session,
        .chunk_seq = chunk->seq.seq,
        .chunk_offset = chunk->length,
    };
    cleanup(buf_deinit) struct buf record = {0};

    meta_extent_encode(&extent, &record);
    schema_write_bytes(&entry->extents, buf_slice(&record));
}

/* Lays one piece into the round's last chunk, and into new ones as they fill up. */
static void pack_piece(struct flush_round *round, struct round_inode *entry,
                       const struct dirty_piece *piece)
{
    uint32_t done = 0;

    while (done < piece->length) {
        struct round_chunk *chunk =
            round->chunk_count > 0 ? round->chunks[round->chunk_count - 1] : NULL;
        uint32_t part;

        if (chunk == NULL || chunk->length == CHUNK_BYTES_MAX) {
            chunk = new_chunk(round);
        }
        part = (uint32_t)min_u64(piece->length - done, CHUNK_BYTES_MAX - chunk->length);
        add_extent(entry, chunk, piece->offset + done, part);
        chunk_add(chunk, dirty_piece_data(piece) + done, part);
        done += part;
    }
}

/* The inline bytes that nothing dirty covers move into the chunk too. */
static void outgrow_inline(struct inode *inode)
{
    struct dirty whole = {0};

    if (inode->inline_data.size == 0) {
        return;
    }
    dirty_write(&whole, 0, buf_slice(&inode->inline_data));
    for (size_t i = 0; i < inode->flushing.count; i++) {
        const struct dirty_piece *piece = inode->flushing.pieces[i];

        dirty_write(&whole, piece->offset, slice_make(dirty_piece_data(piece), piece->length));
    }
    dirty_deinit(&inode->flushing);
    inode->flushing = whole;
}

static void make_image(struct round_inode *entry)
{
    struct inode *inode = entry->inode;

    buf_clear(&entry->image);
    buf_append_slice(&entry->image, buf_slice(&inode->inline_data));
    if (entry->image.size < entry->size) {
        buf_append_zero(&entry->image, entry->size - entry->image.size);
    }
    entry->image.size = entry->size;
    dirty_overlay(&inode->flushing, 0, entry->image.data, entry->image.size);
}

static void pack_inode(struct flush_round *round, struct round_inode *entry)
{
    struct inode *inode = entry->inode;

    buf_clear(&entry->extents);
    entry->size = inode->dirty.count == 0
                      ? inode->attr.size
                      : max_u64(inode->committed_size, dirty_end(&inode->flushing));
    entry->is_inline = inode->contents == CONTENTS_INLINE && entry->size <= META_INLINE_MAX;
    if (entry->is_inline) {
        make_image(entry);
        return;
    }
    if (inode->contents == CONTENTS_INLINE) {
        uint64_t before = inode->flushing.bytes;

        outgrow_inline(inode);
        round->mount->dirty_bytes += inode->flushing.bytes - before;
    }
    for (size_t i = 0; i < inode->flushing.count; i++) {
        pack_piece(round, entry, inode->flushing.pieces[i]);
    }
}

/* ---- PUT ---- */

static void on_put(struct op *op)
{
    struct round_chunk *chunk = op->owner;

    if (op->result < 0 && chunk->round->status == 0) {
        chunk->round->status = op->result;
    }
    op_wake(&chunk->round->op);
}

static void on_put_released(struct chunk_put *put)
{
    op_complete(&container_of(put, struct round_chunk, put)->round->op);
}

static void put_chunks(struct flush_round *round)
{
    for (unsigned i = 0; i < round->chunk_count; i++) {
        struct round_chunk *chunk = round->chunks[i];

        chunk->put = (struct chunk_put){
            .id = {round->session, chunk->seq.seq},
            .iov = chunk->iov,
            .iov_count = chunk->iov_count,
            .length = chunk->length,
            .try_compress = true,
            .timeout_ns = round->mount->config.soft_timeout_ns,
            .released = on_put_released,
        };
        chunk->put.op.done = on_put;
        chunk->put.op.owner = chunk;
        round->op.inflight++;
        chunk_put_start(&chunk->put, &round->mount->chunks);
    }
}

static bool puts_decided(const struct flush_round *round)
{
    for (unsigned i = 0; i < round->chunk_count; i++) {
        if (!round->chunks[i]->put.op.decided) {
            return false;
        }
    }
    return true;
}

/* ---- COMMIT ---- */

static void encode_commit(struct flush_round *round)
{
    buf_clear(&round->body);
    for (unsigned i = 0; i < round->inode_count; i++) {
        struct round_inode *entry = &round->inodes[i];
        cleanup(buf_deinit) struct buf record = {0};
        struct meta_commit commit = {
            .ino = entry->inode->ino,
            .valid = META_SET_SIZE | META_SET_MTIME,
            .size = entry->size,
            .mtime = entry->inode->attr.mtime,
            .is_inline = entry->is_inline,
            .inline_data = entry->is_inline ? buf_slice(&entry->image) : (struct slice){0},
            .extents = buf_slice(&entry->extents),
        };

        if (entry->inode->kill_priv) {
            commit.valid |= META_SET_KILL_PRIV;
        }
        meta_commit_encode(&commit, &record);
        schema_write_bytes(&round->body, buf_slice(&record));
    }
}

/* ---- the end ---- */

static void end_waiters(struct inode *inode)
{
    struct list_node *node;
    int error = inode->write_error;

    if (inode->dirty.count != 0 && error == 0) {
        return; /* written while the round ran: they wait for the next */
    }
    inode->flush_now = false;
    if (!list_empty(&inode->flush_waiters)) {
        inode->write_error = 0;
    }
    while ((node = list_pop_front(&inode->flush_waiters)) != NULL) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        call->waiting_flush = false;
        fs_call_finish(call, error);
    }
}

static void inode_committed(struct round_inode *entry, const struct meta_commit_result *result)
{
    struct inode *inode = entry->inode;
    struct meta_attr attr;

    if (result->error != 0) {
        inode->write_error = inode->write_error ? inode->write_error : -(int)result->error;
        return;
    }
    inode->kill_priv = false;
    inode->version++;
    extent_map_clear(&inode->extents);
    buf_deinit(&inode->inline_data);
    if (entry->is_inline) {
        inode->inline_data = buf_take(&entry->image);
    } else {
        inode->contents = CONTENTS_EXTENTS;
    }
    if (meta_attr_decode(&attr, result->attr) == 0) {
        inode_update(entry->round->mount, inode,
                     &attr); /* still pending: size and time stay ours */
    }
}

static void take_results(struct flush_round *round, struct slice data)
{
    struct schema_reader reader = {data.data, data.data + data.size, false};

    for (unsigned i = 0; i < round->inode_count; i++) {
        struct meta_commit_result result;
        struct slice record = schema_read_bytes(&reader, META_BODY_MAX);

        if (reader.failed || meta_commit_result_decode(&result, record) < 0) {
            result = (struct meta_commit_result){.error = EIO};
        }
        inode_committed(&round->inodes[i], &result);
    }
}

static void on_committed(struct meta_call *call)
{
    struct flush_round *round = container_of(call, struct flush_round, commit);

    round->committed = true;
    round->status = call->status;
    if (call->status == 0) {
        take_results(round, call->reply.data);
    }
    op_complete(&round->op);
}

static void start_commit(struct flush_round *round)
{
    encode_commit(round);
    round->committed = false;
    round->commit = (struct meta_call){.done = on_committed};
    round->commit.request = (struct meta_request){
        .op = META_COMMIT, .flags = META_SKIP_ACCESS, .data = buf_slice(&round->body)};
    round->op.inflight++;
    meta_call_start(&round->mount->meta, &round->commit);
}

static void fail_inodes(struct flush_round *round)
{
    LOG_WARN(round->mount->env, "flush",
             "written data was lost: error=%s inodes=%u; fsync and close of these files report it",
             err_name(round->status), round->inode_count);
    for (unsigned i = 0; i < round->inode_count; i++) {
        struct inode *inode = round->inodes[i].inode;

        inode->write_error = inode->write_error ? inode->write_error : round->status;
        inode_forget_contents(inode);
    }
}

/* The inode is out of the round; its pieces stay with the entry until they are not sent from. */
static void end_inode(struct mount *mount, struct round_inode *entry)
{
    struct inode *inode = entry->inode;

    entry->sent = inode->flushing;
    inode->flushing = (struct dirty){0};
    inode->in_round = false;
    entry->inode = NULL;
    if (inode->dirty.count != 0) {
        flush_note(mount, inode);
    }
    end_waiters(inode);
    fs_call_truncate_next(inode);
    inode_release(mount, inode);
}

static void finish_round(struct flush_round *round)
{
    struct mount *mount = round->mount;

    settle_chunks(round);
    mount->no_space = round->status == -ENOSPC;
    mount->counters.rounds++;
    mount->rounds--;
    if (round->status < 0) {
        fail_inodes(round);
    }
    for (unsigned i = 0; i < round->inode_count; i++) {
        end_inode(mount, &round->inodes[i]);
    }
    op_finish(&round->op, round->status);
}

static void free_chunks(struct flush_round *round)
{
    for (unsigned i = 0; i < round->chunk_count; i++) {
        mem_free(round->chunks[i]->iov);
        mem_free(round->chunks[i]);
    }
    mem_free(round->chunks);
    round->chunks = NULL;
    round->chunk_count = 0;
}

static void round_drained(struct op *op)
{
    struct flush_round *round = container_of(op, struct flush_round, op);
    struct mount *mount = round->mount;

    free_chunks(round);
    for (unsigned i = 0; i < round->inode_count; i++) {
        mount->dirty_bytes -= round->inodes[i].sent.bytes;
        dirty_deinit(&round->inodes[i].sent);
        buf_deinit(&round->inodes[i].extents);
        buf_deinit(&round->inodes[i].image);
    }
    buf_deinit(&round->body);
    mem_free(round);
    flush_poke(mount);
}

static void pack_and_put(struct flush_round *round)
{
    round->session = round->mount->meta.session;
    round->status = 0;
    for (unsigned i = 0; i < round->inode_count; i++) {
        pack_inode(round, &round->inodes[i]);
    }
    put_chunks(round);
    round->op.woken = true; /* there may be nothing to put */
}

static void round_step(struct op *op)
{
    struct flush_round *round = container_of(op, struct flush_round, op);

    switch ((enum flush_state)op->state) {
    case FLUSH_LEARN:
        if (op->inflight > 0) {
            return;
        }
        op->state = FLUSH_PUT;
        pack_and_put(round);
        return;

    case FLUSH_PUT:
        if (!puts_decided(round)) {
            return;
        }
        if (round->status < 0) {
            finish_round(round);
            return;
        }
        op->state = FLUSH_COMMIT;
        start_commit(round);
        return;

    case FLUSH_COMMIT:
        if (!round->committed) {
            return;
        }
        if (round->status == -ERR_SESSION_EXPIRED) {
            op->state = FLUSH_AGAIN;
            op->woken = true;
            return;
        }
        finish_round(round);
        return;

    case FLUSH_AGAIN:
        if (op->inflight > 0) {
            return; /* memory of the old chunks is still sent from */
        }
        settle_chunks(round);
        free_chunks(round);
        op->state = FLUSH_PUT;
        pack_and_put(round);
        return;
    }
    UNREACHABLE();
}

/* ---- which inodes, when ---- */

static bool is_due(const struct mount *mount, const struct inode *inode, uint64_t now)
{
    return inode->flush_now || mount->all_flushed != NULL || mount->no_space || mount->closing ||
           inode->dirty.bytes >= FS_INODE_FLUSH || mount->dirty_bytes >= FS_DIRTY_FLUSH ||
           now >= inode->dirty_since_ns + FS_DIRTY_AGE_NS;
}

/* Takes the inode into the round; returns false when the round is full. */
static bool add_inode(struct flush_round *round, struct inode *inode, size_t *extents,
                      uint64_t *bytes, uint64_t *body)
{
    struct round_inode *entry = &round->inodes[round->inode_count];
    uint64_t inline_cost = inode->attr.size <= META_INLINE_MAX ? inode->attr.size + 64 : 128;

    if (round->inode_count == FS_ROUND_INODES || *extents == 0 || *bytes == 0 ||
        *body < inline_cost) {
        return false;
    }
    *entry = (struct round_inode){.inode = inode, .round = round};
    dirty_take(&inode->dirty, *extents, *bytes, &inode->flushing);
    *extents -= min_u64(*extents, inode->flushing.count + 2);
    *bytes -= min_u64(*bytes, inode->flushing.bytes);
    *body -= inline_cost;
    inode->in_round = true;
    list_remove(&inode->flush_node);
    round->inode_count++;
    return true;
}

static void start_round(struct mount *mount, uint64_t now)
{
    struct flush_round *round = mem_zalloc(sizeof(*round));
    size_t extents = FS_ROUND_EXTENTS;
    uint64_t bytes = FS_ROUND_BYTES, body = FS_ROUND_BODY;

    op_init(&round->op, &round_kind);
    round->mount = mount;
    list_for_each (node, &mount->flush_queue) {
        struct inode *inode = container_of(node, struct inode, flush_node);

        if (inode->truncating || inode->in_round) {
            continue;
        }
        if (!is_due(mount, inode, now) || !add_inode(round, inode, &extents, &bytes, &body)) {
            break; /* those that are due stand in front */
        }
    }
    if (round->inode_count == 0) {
        mem_free(round);
        return;
    }
    mount->rounds++;
    learn(round);
    op_wake(&round->op);
}

static bool some_due(const struct mount *mount, uint64_t now)
{
    list_for_each (node, &mount->flush_queue) {
        const struct inode *inode = container_of(node, struct inode, flush_node);

        if (!inode->truncating && !inode->in_round) {
            return is_due(mount, inode, now);
        }
    }
    return false;
}

static bool all_clean(const struct mount *mount)
{
    return list_empty(&mount->flush_queue) && mount->rounds == 0;
}

void flush_poke(struct mount *mount)
{
    uint64_t now = env_now(mount->env);

    while (mount->rounds < FS_ROUNDS_MAX && some_due(mount, now)) {
        start_round(mount, now);
    }
    while (mount->dirty_bytes < FS_DIRTY_MAX && !list_empty(&mount->space_queue)) {
        struct fs_call *call =
            container_of(list_pop_front(&mount->space_queue), struct fs_call, node);

        call->waiting_space = false;
        fs_call_start(call);
    }
    if (mount->all_flushed != NULL && all_clean(mount)) {
        void (*done)(struct mount *) = mount->all_flushed;

        mount->all_flushed = NULL;
        done(mount);
    }
    if (!list_empty(&mount->flush_queue) && !env_timer_running(&mount->flush_timer)) {
        env_timer_start(mount->env, &mount->flush_timer, now + FS_DIRTY_AGE_NS / 4);
    }
}

static void on_flush_timer(struct env_timer *timer)
{
    flush_poke(container_of(timer, struct mount, flush_timer));
}

/* Those that need not wait for age go to the front. */
static void hurry(struct mount *mount, struct inode *inode)
{
    if (list_linked(&inode->flush_node)) {
        list_remove(&inode->flush_node);
        list_push_front(&mount->flush_queue, &inode->flush_node);
    }
    flush_poke(mount);
}

void flush_note(struct mount *mount, struct inode *inode)
{
    if (!list_linked(&inode->flush_node)) {
        inode->dirty_since_ns = env_now(mount->env);
        list_push_back(&mount->flush_queue, &inode->flush_node);
    }
    if (is_due(mount, inode, env_now(mount->env))) {
        hurry(mount, inode);
    } else if (!env_timer_running(&mount->flush_timer)) {
        env_timer_start(mount->env, &mount->flush_timer, env_now(mount->env) + FS_DIRTY_AGE_NS / 4);
    }
}

void flush_wait(struct fs_call *call, struct inode *inode)
{
    int error = inode->write_error;

    if (!inode_pending(inode)) {
        inode->write_error = 0;
        fs_call_finish(call, error);
        return;
    }
    call->waiting_flush = true;
    list_push_back(&inode->flush_waiters, &call->node);
    inode->flush_now = true;
    hurry(call->mount, inode);
}

void flush_all(struct mount *mount, void (*done)(struct mount *mount))
{
    mount->all_flushed = done;
    flush_poke(mount);
}

void flush_init(struct mount *mount)
{
    list_init(&mount->flush_queue);
    list_init(&mount->space_queue);
    list_init(&mount->chunk_seqs);
    mount->flush_timer.fire = on_flush_timer;
    mount->next_chunk_seq = 1;
    mount->meta.chunk_low = 1;
}
