#pragma once
/*
 * local: namespace operations answered by the mount itself while it is alone on the volume.
 *
 * Where all names of the directory are known, the outcome of a create, mkdir, symlink, unlink or
 * rename is known too: the kernel has checked permission, and nobody else can interfere. The call
 * is answered at once; the operation goes to the metadata service in the session's order behind it
 * (write-behind, as a local file system does). fsync waits for it; so does every question that only
 * the service can answer, and the service before it lets a second mount in.
 */
#include "fs/call.h"
#include "fs/mount.h"

/* Answers the call here if that is possible; false: it must go to the service. */
bool local_try(struct fs_call *call);
/* The call needs an answer that is true after all operations before it: queues it and returns true
 * while one of them is in flight (it is started again), false when it may go. */
bool local_wait(struct fs_call *call);
/* What is answered from now on is behind the call: it need not wait for that. */
void local_stamp(struct fs_call *call);
/* A call that the service has answered: what it changed in directories whose names we know. */
void local_note(struct fs_call *call, int status);
/* One batch of a directory's entries was read: [offset .. ] with its records. */
void local_note_entries(struct mount *mount, struct inode *dir, uint64_t offset,
                        struct slice records, bool end);
/* No change is on its way whose caller has given up, and which nobody will hear of. */
bool local_is_sure(const struct mount *mount);
/* Some names are known, read from the beginning up to this offset; 0 = none. */
uint64_t local_names_next(const struct inode *dir);
/* Runs when nothing is in flight (at once, if so). One at a time. */
void local_drain(struct mount *mount, void (*done)(struct mount *mount));
/* Nothing that we know of names may be used any more. */
void local_forget_all(struct mount *mount);
void local_init(struct mount *mount);
