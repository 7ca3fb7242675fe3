#pragma once
/*
 * fence: what was written under a lock, and is not committed when that lock is given up, is as
 * protected by it as what came before. A mount that is alone does not commit when it gives a lock
 * up, for nobody else may take it. But when its session is lost, others may: what was guarded then
 * goes into the file under the next session only if nobody else has changed it, and is lost
 * otherwise, with EIO at the next fsync or close. Until that is known, nothing is read of the file,
 * and nothing written.
 */
#include "fs/inode.h"

struct fs_call;

/* A lock of it was given up: what is pending was written under that. */
void fence_note(struct mount *mount, struct inode *inode);
/* This mount will have made a change, or has made the one that the service counts so. */
void fence_will_change(struct inode *inode);
void fence_changed(struct inode *inode, uint64_t change);
/* The session is lost: what is guarded is held back until the service has told what became of the
 * file. */
void fence_raise(struct mount *mount);
/* A commit of this mount was found there, and nothing that others have written since. */
void fence_found(struct inode *inode, uint64_t change);
/* By the service's word of the file: what was written before the fence must not go into it. */
bool fence_refuses(const struct inode *inode, uint64_t change);
/* Has the call to wait until it is known what the file is? Then it starts anew. */
bool fence_wait(struct fs_call *call, struct inode *inode);
/* Something of it was committed, or is lost: nothing that was guarded may be left. */
void fence_done(struct inode *inode);
