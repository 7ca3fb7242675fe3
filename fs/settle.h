#pragma once
/*
 * settle: what a small fsync has left in the metadata (journalled extents) is moved into chunks
 * behind it: when a file has FS_SETTLE_BYTES of them, or after FS_SETTLE_AGE_NS. The move changes
 * no contents and loses against every write that comes in between, so that nobody waits for it.
 */
#include <stdbool.h>
#include <stdint.h>

struct mount;

void settle_init(struct mount *mount);
/* Nothing runs any more. */
void settle_deinit(struct mount *mount);
/* A commit has journalled so many bytes of the file. */
void settle_note(struct mount *mount, uint64_t ino, uint64_t bytes);
/* May so many more be journalled? */
bool settle_has_room(const struct mount *mount, uint64_t ino, uint64_t bytes);
/* The service had no room: none is asked for for a second. */
void settle_refused(struct mount *mount);
/* The service asks: somebody else's, left behind. */
void settle_ask(struct mount *mount, uint64_t ino);
/* Everything now, once; then done(mount). What cannot be moved stays where it is. */
void settle_all(struct mount *mount, void (*done)(struct mount *mount));
