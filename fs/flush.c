/*
 * One round takes the dirty data of some inodes all the way:
 *
 *     LEARN --> PUT --> COMMIT --> finish
 *       ^        |        |
 *       +--------+- AGAIN <+  the session expired: new chunks under the new session
 *
 * LEARN asks for the contents of small files that we have not read: data up to META_INLINE_MAX
 * lives in the inode, and a file that outgrows it takes its inline bytes along into the first
 * chunk. Where another mount may have changed a file, LEARN asks anew what it is now. Then it waits
 * for a session, for chunks are named by it. While in a round, an inode's pieces are in
 * inode->flushing: read-only, still read by reads. The committed size never runs ahead of the data:
 * pieces leave in the order of their offsets. A third copy may still be on its way when the round
 * ends: its memory stays until the op drains.
 */
#include "fs/flush.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "fs/call.h"
#include "fs/coherence.h"
#include "fs/limits.h"
#include "fs/local.h"
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
    bool learned;       /* its contents are what the server has */
    int learn_error;    /* the server does not know it any more, or does not answer (soft) */
    struct buf extents; /* encoded for the commit */
    struct buf image;   /* the whole contents, when they stay inline */
    bool is_inline;
    uint64_t size;     /* to commit */
    struct dirty sent; /* the pieces, once the round has ended */
};

struct flush_round {
    struct op op;
    struct list_node node; /* in mount.round_list */
    struct mount *mount;
    struct env_timer give_up; /* soft: no session for so long */
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
    struct inode *inode = entry->inode;
    struct meta_attr attr;
    uint64_t change;
    int r = call->status;

    if (r == 0) {
        r = meta_attr_decode(&attr, call->reply.attr);
    }
    if (r == 0) {
        change = attr.change;
        inode_update(round->mount, inode, &attr, false);
        entry->learned = inode->attr.change == change;
        if (call->request.flags & META_WANT_DATA && inode->contents == CONTENTS_UNKNOWN &&
            entry->learned) {
            r = inode_take_contents(round->mount, inode, &call->reply, 0);
        }
    }
    entry->learn_error = r;
    op_complete(&round->op);
}

static bool must_learn(const struct round_inode *entry)
{
    return entry->inode != NULL && entry->learn_error == 0 &&
           (!entry->learned || entry->inode->contents == CONTENTS_UNKNOWN);
}

/* Returns whether there is something to wait for. */
static bool learn(struct flush_round *round)
{
    for (unsigned i = 0; i < round->inode_count; i++) {
        struct round_inode *entry = &round->inodes[i];

        if (!must_learn(entry)) {
            continue;
        }
        entry->learn = (struct meta_call){.done = on_learned};
        entry->learn.request = (struct meta_request){
            .op = META_GETATTR,
            .ino = entry->inode->ino,
            .flags = entry->inode->contents == CONTENTS_UNKNOWN ? META_WANT_DATA : 0};
        round->op.inflight++;
        meta_call_start(&round->mount->meta, &entry->learn);
    }
    return round->op.inflight > 0;
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
    entry->size = max_u64(inode->committed_size, dirty_end(&inode->flushing));
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
        struct meta_commit commit;

        if (entry->inode == NULL) {
            continue;
        }
        commit = (struct meta_commit){
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
        if (coherence_trusts(round->mount, entry->inode)) {
            commit.valid |= META_SET_CTIME; /* as applications have seen it */
            commit.ctime = entry->inode->attr.ctime;
        }
        meta_commit_encode(&commit, &record);
        schema_write_bytes(&round->body, buf_slice(&record));
    }
}

/* ---- the end ---- */

/* No round holds data of the inode. Those that wait for what is dirty still wait on, but not for
 * what was written after they came; an error is told to all. */
static void end_waiters(struct inode *inode)
{
    uint64_t oldest = dirty_oldest(&inode->dirty);
    int error = inode->write_error;

    list_for_each (node, &inode->flush_waiters) {
        struct fs_call *call = container_of(node, struct fs_call, node);

        if (error == 0 && oldest <= call->stamp) {
            continue;
        }
        inode->write_error = 0;
        list_remove(node);
        call->waiting_flush = false;
        if (error == 0 && inode->local_ops != 0 && local_wait(call)) {
            continue; /* attributes set after the commit was sent are asked for too */
        }
        fs_call_finish(call, error);
    }
    inode->flush_now = !list_empty(&inode->flush_waiters);
}

void flush_settled(struct inode *inode)
{
    if (!inode->in_round) {
        end_waiters(inode);
    }
}

static void inode_failed(struct mount *mount, struct inode *inode, int status)
{
    if (inode->attr.nlink == 0 && inode->opens == 0) {
        return; /* unlinked meanwhile: nobody can miss it */
    }
    LOG_WARN(mount->env, "flush",
             "written data was lost: error=%s ino=%" PRIu64 "; fsync or close reports it",
             err_name(status), inode->ino);
    inode->write_error = inode->write_error ? inode->write_error : status;
    inode_forget_contents(inode);
}

static void inode_committed(struct round_inode *entry, const struct meta_commit_result *result)
{
    struct inode *inode = entry->inode;
    struct meta_attr attr;

    if (result->error != 0) {
        inode_failed(entry->round->mount, inode, -(int)result->error);
        return;
    }
    inode->kill_priv = false;
    inode->version++;
    extent_map_clear(&inode->extents);
    buf_deinit(&inode->inline_data);
    inode->contents = entry->is_inline ? CONTENTS_INLINE : CONTENTS_EXTENTS;
    if (entry->is_inline) {
        inode->inline_data = buf_take(&entry->image);
        inode_note_contents(entry->round->mount, inode);
    }
    if (meta_attr_decode(&attr, result->attr) == 0) {
        /* Still pending: size and time stay ours. */
        inode_update(entry->round->mount, inode, &attr, true);
    }
}

/* Chunks of a session that has gone: the commit came under the next one. */
static bool has_expired(const struct flush_round *round, struct slice data)
{
    struct schema_reader reader = {data.data, data.data + data.size, false};

    while (reader.at != reader.end && !reader.failed) {
        struct meta_commit_result result;
        struct slice record = schema_read_bytes(&reader, META_BODY_MAX);

        if (!reader.failed && meta_commit_result_decode(&result, record) == 0 &&
            result.error == ERR_SESSION_EXPIRED) {
            return round->session != round->mount->meta.session;
        }
    }
    return false;
}

static void take_results(struct flush_round *round, struct slice data)
{
    struct schema_reader reader = {data.data, data.data + data.size, false};

    for (unsigned i = 0; i < round->inode_count; i++) {
        struct meta_commit_result result;
        struct slice record;

        if (round->inodes[i].inode == NULL) {
            continue;
        }
        record = schema_read_bytes(&reader, META_BODY_MAX);
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
    if (call->status == 0 && has_expired(round, call->reply.data)) {
        round->status = -ERR_SESSION_EXPIRED;
    } else if (call->status == 0) {
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
    for (unsigned i = 0; i < round->inode_count; i++) {
        if (round->inodes[i].inode != NULL) {
            inode_failed(round->mount, round->inodes[i].inode, round->status);
        }
    }
}

/* The inode is out of the round; its pieces stay with the entry until they are not sent from. */
static void end_inode(struct mount *mount, struct round_inode *entry)
{
    struct inode *inode = entry->inode;

    entry->sent = inode->flushing;
    inode->flushing = (struct dirty){0};
    inode->in_round = false;
    inode->attr.size = inode_size(inode); /* smaller when what was written is lost */
    entry->inode = NULL;
    end_waiters(inode); /* before the next round takes what they wait for */
    fs_call_truncate_next(inode);
    if (inode->dirty.count != 0) {
        flush_note(mount, inode);
    }
    inode_release(mount, inode);
}

/* What the server cannot tell about must not be written over. */
static void drop_unlearned(struct flush_round *round)
{
    for (unsigned i = 0; i < round->inode_count; i++) {
        struct round_inode *entry = &round->inodes[i];

        if (entry->inode != NULL && entry->learn_error < 0) {
            inode_failed(round->mount, entry->inode, entry->learn_error);
            end_inode(round->mount, entry);
        }
    }
}

static void finish_round(struct flush_round *round)
{
    struct mount *mount = round->mount;

    settle_chunks(round);
    mount->no_space = round->status == -ENOSPC;
    mount->counters.rounds++;
    mount->rounds--;
    list_remove(&round->node);
    env_timer_stop(mount->env, &round->give_up);
    if (round->status < 0) {
        fail_inodes(round);
    }
    for (unsigned i = 0; i < round->inode_count; i++) {
        if (round->inodes[i].inode != NULL) {
            end_inode(mount, &round->inodes[i]);
        }
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
        if (round->inodes[i].inode != NULL) {
            pack_inode(round, &round->inodes[i]);
        }
    }
    put_chunks(round);
    round->op.woken = true; /* there may be nothing to put */
}

static bool is_empty(const struct flush_round *round)
{
    for (unsigned i = 0; i < round->inode_count; i++) {
        if (round->inodes[i].inode != NULL) {
            return false;
        }
    }
    return true;
}

static void on_give_up(struct env_timer *timer)
{
    struct flush_round *round = container_of(timer, struct flush_round, give_up);

    round->status = -EIO;
    op_wake(&round->op);
}

/* Is there a session to name chunks by? Soft mounts wait for one only so long. */
static bool has_session(struct flush_round *round)
{
    struct mount *mount = round->mount;
    uint64_t patience = mount->config.soft_timeout_ns;

    if (mount->meta.session != 0) {
        env_timer_stop(mount->env, &round->give_up);
        return true;
    }
    if (patience != 0 && !env_timer_running(&round->give_up)) {
        env_timer_start(mount->env, &round->give_up, env_now(mount->env) + patience);
    }
    return false;
}

void flush_session_opened(struct mount *mount)
{
    list_for_each (node, &mount->round_list) {
        op_wake(&container_of(node, struct flush_round, node)->op);
    }
}

static void again(struct flush_round *round)
{
    settle_chunks(round);
    free_chunks(round);
    round->status = 0;
    for (unsigned i = 0; i < round->inode_count; i++) {
        round->inodes[i].learned = false;
    }
}

static void round_step(struct op *op)
{
    struct flush_round *round = container_of(op, struct flush_round, op);

    switch ((enum flush_state)op->state) {
    case FLUSH_LEARN:
        if (op->inflight > 0) {
            return;
        }
        drop_unlearned(round);
        if (is_empty(round) || round->status < 0) {
            finish_round(round);
            return;
        }
        if (learn(round) || !has_session(round)) {
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
        if (round->session != round->mount->meta.session) {
            op->state = FLUSH_AGAIN;
            op->woken = true;
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
        again(round);
        op->state = FLUSH_LEARN;
        op->woken = true;
        return;
    }
    UNREACHABLE();
}

/* ---- which inodes, when ---- */

static uint64_t dirty_age_ns(const struct mount *mount)
{
    return mount->settings.dirty_age_ms * NS_PER_MS;
}

static bool is_due(const struct mount *mount, const struct inode *inode, uint64_t now)
{
    return inode->flush_now || mount->all_flushed != NULL || mount->no_space || mount->closing ||
           inode->dirty.bytes >= mount->settings.inode_flush_bytes ||
           mount->dirty_bytes >= mount->settings.dirty_flush_bytes ||
           now >= inode->dirty_since_ns + dirty_age_ns(mount);
}

#define EXTENTS_EXTRA 2 /* a piece that is cut where a chunk ends, what was inline before */

/* Takes the inode into the round; returns false when the round is full. */
static bool add_inode(struct flush_round *round, struct inode *inode, size_t *extents,
                      uint64_t *bytes, uint64_t *body)
{
    struct round_inode *entry = &round->inodes[round->inode_count];
    bool trusted = coherence_trusts(round->mount, inode);
    uint64_t inline_cost = inode->attr.size <= META_INLINE_MAX ? inode->attr.size + 64 : 128;

    if (!trusted) {
        inline_cost = META_INLINE_MAX + 64; /* what LEARN may find */
    }
    if (round->inode_count == FS_ROUND_INODES || *extents == 0 || *bytes == 0 ||
        *body < inline_cost + 4 * FS_EXTENT_BODY) {
        return false;
    }
    *entry = (struct round_inode){.inode = inode, .round = round, .learned = trusted};
    dirty_take(&inode->dirty,
               min_u64(*extents, (*body - inline_cost) / FS_EXTENT_BODY - EXTENTS_EXTRA), *bytes,
               &inode->flushing);
    *extents -= min_u64(*extents, inode->flushing.count + EXTENTS_EXTRA);
    *bytes -= min_u64(*bytes, inode->flushing.bytes);
    *body -= inline_cost + (inode->flushing.count + EXTENTS_EXTRA) * FS_EXTENT_BODY;
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
    round->give_up.fire = on_give_up;
    list_push_back(&mount->round_list, &round->node);
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

bool flush_busy(const struct mount *mount)
{
    return !list_empty(&mount->flush_queue) || mount->rounds != 0;
}

void flush_poke(struct mount *mount)
{
    uint64_t now = env_now(mount->env);

    while (mount->rounds < mount->settings.flush_rounds && some_due(mount, now)) {
        start_round(mount, now);
    }
    while (mount->dirty_bytes < mount->settings.dirty_bytes && !list_empty(&mount->space_queue)) {
        struct fs_call *call =
            container_of(list_pop_front(&mount->space_queue), struct fs_call, node);

        call->waiting_space = false;
        fs_call_start(call);
    }
    if (mount->all_flushed != NULL && !flush_busy(mount)) {
        void (*done)(struct mount *) = mount->all_flushed;

        mount->all_flushed = NULL;
        done(mount);
    }
    if (!list_empty(&mount->flush_queue) && !env_timer_running(&mount->flush_timer)) {
        env_timer_start(mount->env, &mount->flush_timer, now + dirty_age_ns(mount) / 4);
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
        env_timer_start(mount->env, &mount->flush_timer,
                        env_now(mount->env) + dirty_age_ns(mount) / 4);
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
    call->stamp = inode->dirty.stamp;
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
    list_init(&mount->open_queue);
    list_init(&mount->round_list);
    mount->flush_timer.fire = on_flush_timer;
    mount->next_chunk_seq = 1;
    mount->meta.chunk_low = 1;
}
