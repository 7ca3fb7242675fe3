/*
 * flush: which inodes are flushed, and when: by age, by size, by pressure, or because somebody
 * waits. Data that fits goes with others of its kind into one round (flush_round.c); rounds of
 * either kind run at the same time, so that a small fsync does not wait behind a stream.
 */
#include "fs/flush_internal.h"

#include "base/assert.h"
#include "base/buggify.h"
#include "fs/call.h"
#include "fs/coherence.h"
#include "fs/fence.h"
#include "fs/limits.h"
#include "fs/local.h"
#include "fs/settle.h"
#include "fs/shutdown.h"

/* ---- those that wait ---- */

/* Is an error of the flush told to this one, once for all? Others hear it beside those. */
static bool takes_error(const struct fs_call *call)
{
    return call->op == FS_FSYNC || call->op == FS_FLUSH || call->written;
}

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
        inode->write_error = takes_error(call) ? 0 : inode->write_error;
        list_remove(node);
        call->waiting_flush = false;
        if (error == 0 && call->op != FS_WRITE && inode->local_ops != 0 && local_wait(call)) {
            continue; /* attributes set after the commit was sent are asked for too */
        }
        fs_call_flushed(call, error);
    }
    inode->flush_now = !list_empty(&inode->flush_waiters) || !list_empty(&inode->fence_waiters);
}

void flush_inode_done(struct mount *mount, struct inode *inode)
{
    end_waiters(inode); /* before the next round takes what they wait for */
    fence_done(inode);
    fs_call_write_next(inode);
    fs_call_truncate_next(inode);
    if (inode->dirty.count != 0) {
        flush_note(mount, inode);
    }
}

void flush_settled(struct inode *inode)
{
    if (!inode->in_round) {
        end_waiters(inode);
        fence_done(inode);
        fs_call_write_next(inode);
    }
}

/* ---- which inodes, when ---- */

static uint64_t dirty_age_ns(const struct mount *mount)
{
    return mount->settings.dirty_age_ms * NS_PER_MS;
}

bool flush_before_answer(const struct mount *mount, const struct inode *inode, uint64_t size)
{
    bool needs_chunks = size > META_INLINE_MAX || inode->contents != CONTENTS_INLINE ||
                        !coherence_trusts(mount, inode);

    return mount->no_space ||
           (needs_chunks && mount->chunks.room < FS_ROOM_LOW * mount->settings.dirty_bytes);
}

static bool is_due(const struct mount *mount, const struct inode *inode, uint64_t now)
{
    return inode->flush_now || mount->all_flushed != NULL || mount->closing ||
           flush_before_answer(mount, inode, inode->attr.size) || mount->shutdown.down ||
           !list_empty(&mount->space_queue) ||
           inode->dirty.bytes >= mount->settings.inode_flush_bytes ||
           mount->dirty_bytes >= mount->settings.dirty_flush_bytes ||
           now >= inode->dirty_since_ns + dirty_age_ns(mount) || BUGGIFY(mount->env, 2);
}

/* What little somebody waits for goes into the commit itself: one round trip instead of two. */
static enum round_kind kind_of(const struct mount *mount, const struct inode *inode)
{
    const struct dirty *dirty = &inode->dirty;
    uint64_t length = 0;

    if (!inode->flush_now || mount->no_space || dirty->count > FS_JOURNAL_PIECES) {
        return ROUND_CHUNKS;
    }
    for (size_t i = 0; i < dirty->count; i++) {
        length += dirty->pieces[i]->length;
    }
    return length <= FS_JOURNAL_BYTES && settle_has_room(mount, inode->ino, length) ? ROUND_JOURNAL
                                                                                    : ROUND_CHUNKS;
}

#define EXTENTS_EXTRA 2 /* a piece that is cut where a chunk ends, what was inline before */

/* What a round may still take. */
struct room {
    size_t extents;
    uint64_t bytes, body;
};

/* Takes the inode into the round; returns false when the round is full. */
static bool add_inode(struct flush_round *round, struct inode *inode, struct room *room)
{
    bool trusted = coherence_trusts(round->mount, inode);
    bool alone =
        round->kind == ROUND_CHUNKS && flush_before_answer(round->mount, inode, inode->attr.size);
    uint64_t cost = inode->attr.size <= META_INLINE_MAX ? inode->attr.size + 64 : 128;

    if (!trusted) {
        cost = META_INLINE_MAX + 64; /* what LEARN may find */
    }
    if (BUGGIFY(round->mount->env, 30)) {
        inode_forget_contents(inode); /* LEARN, and whatever may happen meanwhile */
    }
    if (round->kind == ROUND_JOURNAL) {
        cost += FS_JOURNAL_BYTES;
    }
    if (round->inode_count == FS_ROUND_INODES || room->extents == 0 || room->bytes == 0 ||
        room->body < cost + 4 * FS_EXTENT_BODY ||
        (round->inode_count > 0 && (alone || round->alone))) {
        return false;
    }
    round->alone = alone;
    dirty_take(&inode->dirty,
               min_u64(room->extents, (room->body - cost) / FS_EXTENT_BODY - EXTENTS_EXTRA),
               room->bytes, &inode->flushing);
    room->extents -= min_u64(room->extents, inode->flushing.count + EXTENTS_EXTRA);
    room->bytes -= min_u64(room->bytes, inode->flushing.bytes);
    room->body -= cost + (inode->flushing.count + EXTENTS_EXTRA) * FS_EXTENT_BODY;
    round_add(round, inode);
    return true;
}

/* False: the round takes no more. */
static bool take_due(struct flush_round *round, struct list *queue, struct room *room, uint64_t now)
{
    struct mount *mount = round->mount;

    list_for_each (node, queue) {
        struct inode *inode = container_of(node, struct inode, flush_node);

        if (inode->truncating || inode->in_round) {
            continue;
        }
        if (is_due(mount, inode, now)) {
            if (kind_of(mount, inode) == round->kind && !add_inode(round, inode, room)) {
                return false;
            }
        } else if (queue == &mount->flush_queue) {
            break; /* those that are due stand in front */
        }
    }
    return true;
}

/* Starts a round of the kind, if something is due for it. */
static bool start_round(struct mount *mount, enum round_kind kind, uint64_t now)
{
    struct flush_round *round = round_new(mount, kind);
    struct room room = {FS_ROUND_EXTENTS, FS_ROUND_BYTES, FS_ROUND_BODY};

    if (take_due(round, &mount->flush_hurried, &room, now)) {
        (void)take_due(round, &mount->flush_queue, &room, now);
    }
    return round_start(round);
}

static bool some_due_in(const struct mount *mount, const struct list *queue, uint64_t now)
{
    list_for_each (node, queue) {
        const struct inode *inode = container_of(node, struct inode, flush_node);
        bool free = !inode->truncating && !inode->in_round;

        if (free && (queue == &mount->flush_queue || is_due(mount, inode, now))) {
            return is_due(mount, inode, now);
        }
    }
    return false;
}

static bool some_due(const struct mount *mount, uint64_t now)
{
    return some_due_in(mount, &mount->flush_hurried, now) ||
           some_due_in(mount, &mount->flush_queue, now);
}

bool flush_busy(const struct mount *mount)
{
    return !list_empty(&mount->flush_queue) || !list_empty(&mount->flush_hurried) ||
           !list_empty(&mount->round_list);
}

void flush_poke(struct mount *mount)
{
    uint64_t now = env_now(mount->env);

    for (enum round_kind kind = 0; kind < ROUND_KINDS; kind++) {
        while (mount->rounds[kind] < mount->settings.flush_rounds && some_due(mount, now) &&
               start_round(mount, kind, now)) {
        }
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
    shutdown_flushed(mount);
    if ((!list_empty(&mount->flush_queue) || !list_empty(&mount->flush_hurried)) &&
        !env_timer_running(&mount->flush_timer)) {
        env_timer_start(mount->env, &mount->flush_timer, now + dirty_age_ns(mount) / 4);
    }
}

static void hurry_on(struct mount *mount, struct inode *inode)
{
    list_remove(&inode->flush_node);
    list_push_back(&mount->flush_hurried, &inode->flush_node);
    inode->hurried = true;
}

/* Age stands in the same line as haste. */
static void on_flush_timer(struct env_timer *timer)
{
    struct mount *mount = container_of(timer, struct mount, flush_timer);
    uint64_t now = env_now(mount->env);

    while (!list_empty(&mount->flush_queue)) {
        struct inode *inode =
            container_of(list_first(&mount->flush_queue), struct inode, flush_node);

        if (now < inode->dirty_since_ns + dirty_age_ns(mount)) {
            break;
        }
        hurry_on(mount, inode);
    }
    flush_poke(mount);
}

static void hurry(struct mount *mount, struct inode *inode)
{
    if (list_linked(&inode->flush_node) && !inode->hurried) {
        hurry_on(mount, inode);
    }
    flush_poke(mount);
}

void flush_note(struct mount *mount, struct inode *inode)
{
    if (!list_linked(&inode->flush_node)) {
        inode->dirty_since_ns = env_now(mount->env);
        inode->hurried = false;
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
        inode->write_error = takes_error(call) ? 0 : error;
        fs_call_flushed(call, error);
        return;
    }
    call->stamp = inode->dirty.stamp;
    local_stamp(call);
    call->waiting_flush = true;
    list_push_back(&inode->flush_waiters, &call->node);
    inode->flush_now = true;
    hurry(call->mount, inode);
}

void flush_hurry(struct mount *mount, struct inode *inode)
{
    inode->flush_now = true;
    hurry(mount, inode);
}

void flush_all(struct mount *mount, void (*done)(struct mount *mount))
{
    mount->all_flushed = done;
    flush_poke(mount);
}

void flush_init(struct mount *mount)
{
    list_init(&mount->flush_queue);
    list_init(&mount->flush_hurried);
    list_init(&mount->space_queue);
    list_init(&mount->chunk_seqs);
    list_init(&mount->open_queue);
    list_init(&mount->round_list);
    mount->flush_timer.fire = on_flush_timer;
    mount->next_chunk_seq = 1;
}
