#pragma once
/*
 * flush: dirty data becomes chunks on their replicas, then one metadata transaction makes it
 * visible and durable: many inodes, one commit.
 */
#include "fs/inode.h"

struct mount;
struct fs_call;

/* The inode has (more) dirty data: it will be flushed by age, size or pressure. */
void flush_note(struct mount *mount, struct inode *inode);
/* The disks are full or soon will be: what is written to this file, which is of that size then, is
 * to reach them before the write is answered, so that the write itself says ENOSPC. */
bool flush_before_answer(const struct mount *mount, const struct inode *inode, uint64_t size);
/* Starts rounds that are due. */
void flush_poke(struct mount *mount);
/* The call finishes when all data that the inode has now is committed, with the inode's error if
 * there was one. */
void flush_wait(struct fs_call *call, struct inode *inode);
/* What is dirty of the inode is flushed as soon as may be. */
void flush_hurry(struct mount *mount, struct inode *inode);
/* Everything dirty now; then done(mount). One at a time. */
void flush_all(struct mount *mount, void (*done)(struct mount *mount));
/* Dirty data was dropped: calls that waited for it have nothing to wait for. */
void flush_settled(struct inode *inode);
/* The session is lost, and what is on its way of the inode is not to be sent in another one. */
void flush_rounds_drop(struct mount *mount, const struct inode *inode);
/* There is a session again, or an operation answered before has its own answer: what waits for that
 * may go on. */
void flush_rounds_wake(struct mount *mount);
/* Is there data that the servers have not taken? */
bool flush_busy(const struct mount *mount);
void flush_init(struct mount *mount);
