#pragma once
/* read: bytes of a file: committed contents, then what is flushing, then what is dirty, laid over.
 */
struct fs_call;
struct inode;

/* READ of call->size bytes at call->offset; the call finishes with call->out. */
void read_start(struct fs_call *call, struct inode *inode);
