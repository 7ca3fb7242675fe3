#pragma once
/*
 * lock: advisory locks as programs of this mount ask for them: fcntl(2), flock(2).
 *
 * With other mounts about, the metadata service decides each one and keeps it (meta/ns_lock.c). A
 * mount that is alone tells the service once that it decides itself, and until it has told what it
 * granted, nobody else gets a lock. With a lock that the service grants comes what is new in the
 * file: pages of older contents are dropped first; with one that is given up goes what was written.
 */
#include "fs/call.h"
#include "fs/mount.h"

/* FS_LOCK, FS_LOCK_TEST: begins, or begins again. */
void lock_start(struct fs_call *call);
/* A FLUSH: has its owner locks of the file, which go now? Then the call is started again when they
 * have, and true is returned. */
bool lock_close(struct fs_call *call);
/* An open file (of that owner) goes, and its flock with it. */
void lock_release(struct mount *mount, uint64_t ino, uint64_t owner);
/* The same: with it go record locks that were taken through it. Mostly a FLUSH came before; but one
 * that cannot write has none, and a lock whose owner it is itself (F_OFD_SETLK) is not in it. */
void lock_release_handle(struct mount *mount, uint64_t ino, uint64_t handle);
/* Nobody has the file open here any more: no lock of it can be meant to stay. */
void lock_file_closed(struct mount *mount, uint64_t ino);
/* What was written before a lock is given up is committed, or has failed. */
void lock_flushed(struct fs_call *call, int status);
/* The kernel has dropped its pages (mount.drop_pages). */
void lock_pages_dropped(struct fs_call *call);
/* The caller does not want to wait any more. */
void lock_cancel(struct fs_call *call);
/* The service is told of every lock that this mount granted itself; then done(mount), unless NULL.
 */
void lock_tell(struct mount *mount, void (*done)(struct mount *mount));
/* done of lock_tell will not run. */
void lock_tell_no_more(struct mount *mount);
/* Somebody's turn may have come. */
void lock_notified(struct mount *mount);
/* Another session: what the old one held may be somebody else's now. */
void lock_session_lost(struct mount *mount);
void lock_init(struct mount *mount);
void lock_deinit(struct mount *mount);
