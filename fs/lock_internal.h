#pragma once
/* lock_internal: shared by fs/lock*.c. */
#include "fs/lock.h"

/* What this mount holds of one file, with session 0. Exists while there is any. */
struct file_locks {
    uint64_t ino;
    struct lock_table table;
};

/* ---- lock.c ---- */
struct file_locks *lock_file(struct mount *mount, uint64_t ino, bool create);
/* Frees it when it is empty. */
void lock_file_put(struct mount *mount, struct file_locks *file);
/* This is held from now on, or given up. */
void lock_note(struct mount *mount, uint64_t ino, const struct meta_lock *lock);
/* Waits until the mode has changed; `retry`: or for a moment. */
void lock_queue(struct fs_call *call, bool retry);
void lock_run_queue(struct mount *mount);
/* The file may have changed while somebody else had it: `attr` is how it is now. Finishes the call,
 * which has its lock. */
void lock_held(struct fs_call *call, struct slice attr);
/* Given up, as the call wanted. */
void lock_given_up(struct fs_call *call);
void lock_in_line(struct fs_call *call, uint64_t ticket);

/* Again in a moment: what waits for the service to hear us. */
void lock_retry_soon(struct mount *mount);
/* While nobody hears us, the session may have expired, and others may have what we would grant. */
bool lock_session_lives(const struct mount *mount);

/* What was written under the lock is to be there for whoever has it next. */
bool lock_must_flush(struct mount *mount, uint64_t ino);
/* Is there anything to give up, or about to be? */
bool lock_owner_has(struct mount *mount, uint64_t ino, const struct meta_lock *owner);

/* ---- lock_later.c ---- */
/* All that the owner has of the file, for nobody who waits; behind what was written under it. */
void lock_give_up_all(struct mount *mount, uint64_t ino, const struct meta_lock *owner);
/* Those whose file has nothing left to commit. */
void lock_give_up_later(struct mount *mount);
/* Is something of that owner still to be given up? Numbers of owners are used again: what it asks
 * for now must come behind that. */
bool lock_is_leaving(const struct mount *mount, uint64_t ino, const struct meta_lock *owner);
/* A record lock is asked for: it goes with that open file at the latest. */
void lock_note_taken(const struct fs_call *call);
void lock_forget_taken(struct mount *mount, uint64_t ino, uint64_t owner);
void lock_forget_later(struct mount *mount);

/* ---- lock_own.c ---- */
void lock_own_start(struct fs_call *call);
void lock_own_test(struct fs_call *call);
void lock_own_give_up(struct mount *mount, uint64_t ino, const struct meta_lock *lock);
/* Whose turn has come by what has changed: in the file, which goes when it is empty; in all. */
void lock_own_grant(struct mount *mount, struct file_locks *file);
void lock_own_grant_all(struct mount *mount);

/* ---- lock_ask.c ---- */
/* Asks the service for call->lock, or gives it up. */
void lock_ask(struct fs_call *call);
/* The same for nobody: what is given up, or put back. */
void lock_send(struct mount *mount, uint64_t ino, const struct meta_lock *lock);
void lock_ask_test(struct fs_call *call);
/* The lock is granted here; what the file is now comes from the service. Finishes the call. */
void lock_ask_attr(struct fs_call *call);
/* The answer does not matter any more. */
void lock_forget_question(struct fs_call *call);
/* Nobody waits for the answer any more: what it grants is given back. */
void lock_abandon(struct fs_call *call);
/* Is a lock of that owner on its way? */
bool lock_is_asked(const struct mount *mount, uint64_t ino, const struct meta_lock *owner);
/* Is a lock that this owner asked for, and does not want any more, still to be answered and given
 * back? */
bool lock_is_unsettled(const struct mount *mount, uint64_t ino, const struct meta_lock *owner);
/* We decide from now on, if the service agrees. */
void lock_begin_own(struct mount *mount);
void lock_tell_all(struct mount *mount);
void lock_ask_turns(struct mount *mount);
