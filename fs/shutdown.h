#pragma once
/*
 * shutdown: a mount that is told to go down at once, as FS_IOC_SHUTDOWN of local file systems does
 * it: every call fails with EIO from then on, until it is unmounted. For tests of what a crash
 * leaves, and for an administrator who has to stop writers now.
 */
#include "fs/call.h"
#include "fs/mount.h"

/* Numbers of the ioctl. */
enum shutdown_how {
    SHUTDOWN_FLUSH,     /* what was written is committed first */
    SHUTDOWN_FLUSH_LOG, /* the same */
    SHUTDOWN_DROP,      /* what is not committed is lost */
};

/* FS_SHUTDOWN: begins, or begins again. */
void shutdown_start(struct fs_call *call);
/* Is the call one that a mount that is down does not answer any more? */
bool shutdown_refuses(const struct fs_call *call);
/* No data is on its way any more. */
void shutdown_flushed(struct mount *mount);
void shutdown_init(struct mount *mount);
