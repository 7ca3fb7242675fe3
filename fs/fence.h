#pragma once
/*
 * fence: what was written under a lock, and is not committed when that lock is given up, is as
 * protected by it as what came before. A mount that is alone does not commit when it gives a lock
 * up, for nobody else may take it. But when its session is lost, others may: what was guarded then
 * goes into the file under the next session only if nobody else has changed it, and is lost
 * otherwise, with EIO at the next fsync or close. Until that is known, its data is neither read nor
 * written, and its attributes are not set.
 *
 * Whether anybody has, the file's change number tells: it must be the last that the service has
 * told while nobody else could change the file. What this mount has changed since counts when that
 * has its answer, and not before: it may never happen, and somebody else's change would be taken
 * for it.
 */
#include "fs/inode.h"

struct fs_call;

/* A lock of it was given up: what is pending was written under that. */
void fence_note(struct inode *inode);
/* The service's word of the file; `ours`: it answers a change that this mount made. */
void fence_told(const struct mount *mount, struct inode *inode, uint64_t change, bool ours);
/* The session is lost: what is guarded is held back until the service has told what became of the
 * file. */
void fence_raise(struct mount *mount);
/* By the service's word of a file that is fenced: somebody has changed it, and what was written
 * must not go into it. */
bool fence_refuses(const struct inode *inode, uint64_t change);
/* Has the call to wait until it is known what the file is? Then it starts anew. */
bool fence_wait(struct fs_call *call, struct inode *inode);
/* Something of it was committed, or is lost: nothing that was guarded may be left. */
void fence_done(struct inode *inode);
