/*
 * One round takes the dirty data of some inodes all the way:
 *
 *     LEARN --> PUT --> COMMIT --> finish
 *       ^        |        |
 *       +--------+- AGAIN <+  the session expired: new chunks under the new session;
 *                               or the data may not be journalled: chunks;
 *                               or another mount was faster: on what is there now
 *
 * LEARN asks for the contents of small files that we have not read: data up to META_INLINE_MAX
 * lives in the inode, and a file that outgrows it takes its inline bytes along into the first
 * chunk. A journalled round carries its data in the commit and has nothing to put. Where another
 * mount may have changed a file, LEARN asks anew what it is now. Then it waits for a session, for
 * chunks are named by it. While in a round, an inode's pieces are in inode->flushing: read-only,
 * still read by reads. The committed size never runs ahead of the data: pieces leave in the order
 * of their offsets. A third copy may still be on its way when the round ends: its memory stays
 * until the op drains.
 */
#include "fs/flush_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trace_mark.h"
#include "fs/call.h"
#include "fs/coherence.h"
#include "fs/fence.h"
#include "fs/limits.h"
#include "fs/settle.h"

#include <errno.h>

enum flush_state { FLUSH_LEARN, FLUSH_PUT, FLUSH_COMMIT, FLUSH_AGAIN };

static const char *const flush_states[] = {"learn", "put", "commit", "again"};

static void round_step(struct op *op);
static void round_drained(struct op *op);

static const struct op_kind flush_kind = {
    .name = "flush",
    .states = flush_states,
    .state_count = ARRAY_SIZE(flush_states),
    .step = round_step,
    .drained = round_drained,
};

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
            .id = {round->session, chunk->seq->seq},
            .iov = chunk->iov,
            .iov_count = chunk->iov_count,
            .length = chunk->length,
            .try_compress = round->mount->settings.compress != 0,
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

/* The kernel has what was appended where it was thought to go. */
static void drop_pages(struct mount *mount, struct inode *inode)
{
    inode->page_change = PAGES_UNKNOWN;
    inode->moves++;
    if (mount->drop_pages != NULL) {
        mount->drop_pages(mount, inode->ino, NULL);
    }
}

/* What was appended behind data that is lost leaves no hole where that was. */
static void close_up(struct mount *mount, struct inode *inode)
{
    if (dirty_place(&inode->dirty, inode->committed_size)) {
        TRACE_MARK("appends close up behind lost data");
        drop_pages(mount, inode);
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
    inode->attr_known = false;
    inode->gone = inode->gone || status == -ESTALE;
    inode_forget_contents(inode);
    close_up(mount, inode);
}

/* The answer was long on its way: another mount has committed since, and that is known already.
 * What was known of the contents is what we committed. */
static void forget_overtaken(struct inode *inode, const struct meta_attr *attr)
{
    if (attr->change + inode->local_ops < inode->attr.change) {
        TRACE_MARK("a commit's answer comes after a later state of the file");
        inode_forget_contents(inode);
    }
}

/* Has the commit of an inode to be made again? Another mount was faster; the data has to go into
 * chunks; or its chunks are of a session that has gone: it came under the next one. */
static bool must_repeat(const struct flush_round *round, uint32_t error)
{
    return error == ERR_CHANGED || error == ERR_JOURNAL_FULL ||
           (error == ERR_SESSION_EXPIRED && round->session != round->mount->meta.session);
}

static void inode_committed(struct round_inode *entry, const struct meta_commit_result *result)
{
    struct inode *inode = entry->inode;
    struct meta_attr attr;

    if (must_repeat(entry->round, result->error)) {
        if (result->error == ERR_CHANGED) {
            inode_forget_contents(inode);
            inode->attr.change = 0; /* ours may have been a wrong count: the service's is taken */
        }
        if (entry->round->status != -ERR_JOURNAL_FULL) {
            entry->round->status = -(int)result->error;
        }
        return;
    }
    entry->committed = true; /* or refused for good */
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
    if (entry->journalled != 0) {
        settle_note(entry->round->mount, inode->ino, entry->journalled);
    }
    if (meta_attr_decode(&attr, result->attr) == 0) {
        forget_overtaken(inode, &attr);
        /* Still pending: size and time stay ours. */
        inode_update(entry->round->mount, inode, &attr, true);
    }
    if (entry->moved) {
        drop_pages(entry->round->mount, inode);
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
    flush_inode_done(mount, inode);
    inode_release(mount, inode);
}

static void take_results(struct flush_round *round, struct slice data)
{
    struct schema_reader reader = schema_reader_make(data);

    for (unsigned i = round->commit_from; i < round->commit_to; i++) {
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
    if (round->status == 0) {
        take_results(round, call->reply.data);
    } else {
        for (unsigned i = round->commit_from; i < round->commit_to; i++) {
            round->inodes[i].unsure = true;
        }
    }
    op_complete(&round->op);
}

/* Trust that went away since the data was packed: may what was made of inline bytes, or of
 * what was the end, still be checked by the service? */
static bool has_ground(const struct flush_round *round)
{
    for (unsigned i = round->commit_to; i < round->inode_count; i++) {
        const struct round_inode *entry = &round->inodes[i];

        if (entry->inode != NULL && entry->is_inline && entry->base == 0 &&
            !coherence_trusts(round->mount, entry->inode)) {
            return false;
        }
    }
    return round->session == round->mount->meta.session;
}

static void start_commit(struct flush_round *round)
{
    if (!has_ground(round)) {
        round->op.state = FLUSH_AGAIN;
        round->op.woken = true;
        return;
    }
    round->op.state = FLUSH_COMMIT;
    round_encode_commit(round);
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
        if (round->inodes[i].inode != NULL && !round->inodes[i].committed) {
            inode_failed(round->mount, round->inodes[i].inode, round->status);
        }
    }
}

/* What the server cannot tell about must not be written over. */
static void drop_unlearned(struct flush_round *round)
{
    for (unsigned i = 0; i < round->inode_count; i++) {
        struct round_inode *entry = &round->inodes[i];

        if (entry->inode != NULL && entry->learn_error < 0) {
            TRACE_MARK("a flush of a file that is gone");
            inode_failed(round->mount, entry->inode, entry->learn_error);
            end_inode(round->mount, entry);
        }
    }
}

/* An append must not be made a second time: it would go behind itself. */
static void end_found(struct flush_round *round)
{
    for (unsigned i = 0; i < round->inode_count; i++) {
        struct round_inode *entry = &round->inodes[i];

        if (entry->inode != NULL && entry->found) {
            TRACE_MARK("a commit that has had no answer was made");
            inode_forget_contents(entry->inode);
            entry->inode->kill_priv = false;
            if (entry->journalled != 0) {
                settle_note(round->mount, entry->inode->ino, entry->journalled);
            }
            if (entry->moved) {
                drop_pages(round->mount, entry->inode);
            }
            end_inode(round->mount, entry);
        }
    }
}

/* What was written under a lock that is somebody else's now. */
static void drop_lost(struct flush_round *round)
{
    for (unsigned i = 0; i < round->inode_count; i++) {
        struct round_inode *entry = &round->inodes[i];

        if (entry->inode != NULL && entry->lost) {
            TRACE_MARK("a flush of a file whose locks are lost");
            if (entry->inode->fenced) { /* what was not in the round, too */
                TRACE_MARK("what a lock guarded that was given up is lost with the session");
                fs_call_drop_dirty(round->mount, entry->inode);
                drop_pages(round->mount, entry->inode);
            }
            inode_failed(round->mount, entry->inode, -EIO);
            end_inode(round->mount, entry);
        }
    }
}

static void settle_chunks(struct flush_round *round)
{
    for (unsigned i = 0; i < round->chunk_count; i++) {
        chunk_seq_settle(round->mount, &round->chunks[i]->seq);
    }
}

/* Who has written chunks can tell that there is room again; with small files only, time may. */
static void note_space(struct flush_round *round)
{
    struct mount *mount = round->mount;
    uint64_t now = env_now(mount->env);

    if (round->status == -ENOSPC) {
        mount->no_space = true;
        mount->no_space_ns = now;
    } else if (round->status == 0 &&
               (round->chunk_count > 0 || now >= mount->no_space_ns + FS_NO_SPACE_NS)) {
        mount->no_space = false;
    }
}

static void finish_round(struct flush_round *round)
{
    struct mount *mount = round->mount;

    settle_chunks(round);
    note_space(round);
    mount->counters.rounds++;
    mount->rounds[round->kind]--;
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
        dirty_deinit(&round->inodes[i].whole);
        buf_deinit(&round->inodes[i].extents);
        buf_deinit(&round->inodes[i].image);
    }
    buf_deinit(&round->body);
    mem_free(round->inodes);
    mem_free(round);
    flush_poke(mount);
}

static void pack_and_put(struct flush_round *round)
{
    round->session = round->mount->meta.session;
    round->status = 0;
    round->commit_to = 0;
    for (unsigned i = 0; i < round->inode_count; i++) {
        if (round->inodes[i].inode != NULL) {
            round_pack(round, &round->inodes[i]);
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

static void again(struct flush_round *round)
{
    settle_chunks(round);
    free_chunks(round);
    TRACE_MARK("a flush round begins again");
    if (round->status == -ERR_JOURNAL_FULL) {
        round->journal = false;
        settle_refused(round->mount);
    }
    round->status = 0;
    for (unsigned i = 0; i < round->inode_count; i++) {
        struct round_inode *entry = &round->inodes[i];

        entry->learned = false;
        dirty_deinit(&entry->whole);
        if (entry->inode != NULL && entry->committed) {
            end_inode(round->mount, entry); /* what is committed is not sent again */
        }
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
        end_found(round);
        if (is_empty(round) || round->status < 0) {
            finish_round(round);
            return;
        }
        if (round_is_behind(round) || round_learn(round) || !has_session(round)) {
            return;
        }
        drop_lost(round);
        if (is_empty(round)) {
            finish_round(round);
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
        start_commit(round);
        return;

    case FLUSH_COMMIT:
        if (!round->committed) {
            return;
        }
        if (round->status == -ERR_SESSION_EXPIRED || round->status == -ERR_JOURNAL_FULL ||
            round->status == -ERR_CHANGED) {
            op->state = FLUSH_AGAIN;
            op->woken = true;
            return;
        }
        if (round->status == 0 && round->commit_to < round->inode_count) {
            start_commit(round);
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

/* ---- public ---- */

struct flush_round *round_new(struct mount *mount, enum round_kind kind)
{
    struct flush_round *round = mem_zalloc(sizeof(*round));

    op_init(&round->op, &flush_kind);
    round->mount = mount;
    round->kind = kind;
    round->journal = kind == ROUND_JOURNAL;
    round->give_up.fire = on_give_up;
    return round;
}

void round_add(struct flush_round *round, struct inode *inode)
{
    if (round->inode_count == round->inode_capacity) {
        round->inode_capacity = round->inode_capacity ? round->inode_capacity * 2 : 4;
        round->inodes = mem_realloc(round->inodes, round->inode_capacity * sizeof(*round->inodes));
    }
    round->inodes[round->inode_count++] = (struct round_inode){.inode = inode, .round = round};
    inode->in_round = true;
    list_remove(&inode->flush_node);
}

bool round_start(struct flush_round *round)
{
    if (round->inode_count == 0) {
        mem_free(round);
        return false;
    }
    round->mount->rounds[round->kind]++;
    list_push_back(&round->mount->round_list, &round->node);
    op_wake(&round->op);
    return true;
}

void flush_rounds_drop(struct mount *mount, const struct inode *inode)
{
    list_for_each (node, &mount->round_list) {
        struct flush_round *round = container_of(node, struct flush_round, node);

        for (unsigned i = 0; i < round->inode_count; i++) {
            round->inodes[i].lost |= round->inodes[i].inode == inode;
        }
    }
}

void flush_rounds_wake(struct mount *mount)
{
    list_for_each (node, &mount->round_list) {
        op_wake(&container_of(node, struct flush_round, node)->op);
    }
}
