#pragma once
/*
 * coherence: what the kernel and the mount may keep, and for how long. The whole policy is here.
 *
 * Now: while this mount is alone on the volume (the metadata service says so, and asks before it
 * lets a second one in), names, attributes and pages may be kept for a second and close does not
 * flush. Otherwise close-to-open: nothing is kept but pages of a file whose change counter is the
 * same at open; close flushes. Caps per inode will replace this.
 */
#include "fs/inode.h"
#include "meta/meta_client.h"

struct mount;

/* How long the kernel may use a name, or attributes, that it is told now: ns. Nobody else is let in
 * before that. */
uint64_t coherence_timeout(struct mount *mount);
/* May the kernel keep the entries of a directory that it reads now? */
bool coherence_keep_listings(struct mount *mount);
/* May pages from an earlier open be used? To be asked once at each open, after fresh attributes. */
bool coherence_keep_pages(const struct mount *mount, struct inode *inode, uint32_t open_flags);
/* After a direct write: may the kernel have pages from before it? They are dropped now. */
bool coherence_written_directly(struct inode *inode);
/* May the whole contents be put into the kernel's cache before this open, not yet counted, is
 * answered? Only where the kernel has no page of the file and none can be locked. */
bool coherence_push_pages(const struct mount *mount, const struct inode *inode);
/* What was read or written now belongs to this state of the file. */
bool coherence_flush_on_close(const struct mount *mount);
/* Is what we know of the inode as good as the server's answer? Only what was learned since this
 * mount is alone: another one may have come and gone before. */
bool coherence_trusts(const struct mount *mount, const struct inode *inode);
/* The period of being alone, 0 = not alone. */
uint64_t coherence_epoch(const struct mount *mount);
/* Somebody waits no more for a change that may still happen: nothing is trusted until it has. */
void coherence_gave_up(struct meta_client *client);
/* The service tells whether we are alone. */
void coherence_alone_changed(struct meta_client *client, bool alone);
void coherence_init(struct mount *mount);
void coherence_deinit(struct mount *mount);
