#pragma once
/*
 * atime: times of the last access, as Linux keeps them: with each access (strictatime), or only
 * when the last one is not newer than the last change, or a day old (relatime), or never (noatime).
 * An access is a READ, READDIR or READLINK of the kernel, or an open for reading after which the
 * kernel may answer reads from its own pages.
 *
 * This mount sees them at once; the service is told some seconds later, of many at a time (as
 * lazytime does it), and a mount that is killed has told nothing of the last ones.
 */
#include "fs/inode.h"

struct fs_call;

enum atime_policy { ATIME_NEVER, ATIME_RELATIVE, ATIME_STRICT };

void atime_init(struct mount *mount);
/* The call has ended well: was it an access? */
void atime_note(struct fs_call *call);
/* Tells the service what it has not been told, as much as one request holds. */
void atime_send(struct mount *mount);
/* The call is about to set times: what was noted before goes before it. */
void atime_before(struct fs_call *call);
/* Tells all, and waits for it, but not for long; then done(mount). Nothing is noted any more. */
void atime_close(struct mount *mount, void (*done)(struct mount *mount));
