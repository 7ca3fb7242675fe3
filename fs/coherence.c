#include "fs/coherence.h"

#include "fs/flush.h"
#include "fs/local.h"
#include "fs/lock.h"
#include "fs/mount.h"

#include <fcntl.h>

#define ALONE_TIMEOUT_NS NS_PER_S /* what META_ALONE allows beyond each renewal */

/* For an ioctl about inode flags, without so much as O_LARGEFILE. It drops no pages then. */
#define OPENED_BY_THE_KERNEL 0

static bool alone(const struct mount *mount)
{
    return mount->meta.alone && mount->meta.given_up == 0 &&
           env_now(mount->env) < mount->meta.alone_until_ns;
}

uint64_t coherence_timeout(struct mount *mount)
{
    if (!alone(mount)) {
        return 0;
    }
    mount->kept_until_ns = env_now(mount->env) + ALONE_TIMEOUT_NS;
    return ALONE_TIMEOUT_NS;
}

bool coherence_keep_listings(struct mount *mount)
{
    return coherence_timeout(mount) > 0 && mount->config.atime != ATIME_STRICT;
}

/*
 * The open itself is counted in inode->opens. The kernel drops pages when it has our reply, in the
 * process that opens; until that has shown that it went on (RELEASE at the latest), another open
 * that kept the pages could come before it.
 */
bool coherence_keep_pages(const struct mount *mount, struct inode *inode, uint32_t open_flags)
{
    bool same = inode->page_change == inode->attr.change && inode->page_change != 0;
    bool may_hold = inode->page_change != 0;
    bool keep;

    inode->pages_dropping = inode->pages_dropping && inode->opens > 1;
    keep = (same || (coherence_trusts(mount, inode) && inode_pending(inode) &&
                     inode->page_change != PAGES_UNKNOWN)) &&
           !inode->pages_dropping && mount->config.atime != ATIME_STRICT;
    inode->pages_dropping = inode->pages_dropping || (may_hold && !keep);
    if (may_hold && !keep && open_flags == OPENED_BY_THE_KERNEL) {
        inode->page_change = PAGES_UNKNOWN;
    } else if (may_hold || (open_flags & O_DIRECT) == 0) {
        inode->page_change = inode->attr.change;
    }
    return keep;
}

bool coherence_written_directly(struct inode *inode)
{
    bool may_hold = inode != NULL && (inode->page_change != 0 || inode->buffered_opens > 0);

    if (may_hold && inode->buffered_opens == 0) {
        inode->page_change = 0; /* until one is opened, nobody makes new ones */
    }
    return may_hold;
}

/*
 * Putting a page takes its lock, and whoever has it may wait for us: a READ, or a WRITE, of an open
 * file (or a mapping, which keeps the file open). RELEASE comes after the last of them has been
 * answered, so with no handle open nobody has. page_change is set at the first open: before, the
 * kernel has no page, so none can be an old one.
 */
bool coherence_push_pages(const struct mount *mount, const struct inode *inode)
{
    return coherence_trusts(mount, inode) && inode->opens == 0 && inode->page_change == 0 &&
           inode->contents == CONTENTS_INLINE && inode->attr.size != 0 &&
           inode->inline_data.size == inode->attr.size && !inode_pending(inode) &&
           !inode->truncating && list_empty(&inode->truncate_waiters);
}

bool coherence_flush_on_close(const struct mount *mount)
{
    return !alone(mount);
}

uint64_t coherence_epoch(const struct mount *mount)
{
    return alone(mount) ? mount->alone_epoch : 0;
}

bool coherence_trusts(const struct mount *mount, const struct inode *inode)
{
    return alone(mount) && inode->epoch == mount->alone_epoch;
}

/* What we and the kernel believe may become wrong at any time, until that change has its answer. */
void coherence_gave_up(struct meta_client *client)
{
    struct mount *mount = client->data;

    mount->alone_epoch++;
    if (mount->caches_lost != NULL) {
        mount->caches_lost(mount);
    }
}

/* All is committed; attributes that the kernel was told last may still be used there. */
static void release_when_old(struct mount *mount)
{
    env_timer_start(mount->env, &mount->release_timer,
                    max_u64(env_now(mount->env), mount->kept_until_ns));
}

static void on_release(struct env_timer *timer)
{
    meta_client_release_alone(&container_of(timer, struct mount, release_timer)->meta);
}

static void tell_locks(struct mount *mount)
{
    lock_tell(mount, release_when_old);
}

static void flushed(struct mount *mount)
{
    local_drain(mount, tell_locks);
}

/* What was to be released belongs to a period of being alone that is over. */
static void stop_release(struct mount *mount)
{
    env_timer_stop(mount->env, &mount->release_timer);
    if (mount->all_flushed == flushed) {
        mount->all_flushed = NULL;
    }
    if (mount->local.drained == tell_locks) {
        mount->local.drained = NULL;
    }
    lock_tell_no_more(mount);
}

/* Another mount wants in: the kernel forgets names, all data is committed, then it may. */
void coherence_alone_changed(struct meta_client *client, bool is_alone)
{
    struct mount *mount = client->data;

    stop_release(mount);
    if (is_alone) {
        mount->alone_epoch++;
        return;
    }
    local_forget_all(mount);
    if (mount->caches_lost != NULL) {
        mount->caches_lost(mount);
    }
    if (!mount->closing) { /* else all is flushed already, and closing the session tells it */
        lock_tell(mount, NULL);
        flush_all(mount, flushed);
    }
}

void coherence_init(struct mount *mount)
{
    mount->release_timer.fire = on_release;
}

void coherence_deinit(struct mount *mount)
{
    env_timer_stop(mount->env, &mount->release_timer);
}
