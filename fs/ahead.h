#pragma once
/*
 * ahead: what is likely to be asked for next is fetched from the metadata service before it is
 * asked, in large batches, while this mount is alone on the volume.
 *
 * Names and attributes: after some lookups in a directory whose names are not all known, its
 * entries are read; at most FS_AHEAD_NAMES_EACH for each lookup, so that a directory of a million
 * names is not read for one of them. Contents: after opens of files that were made near each other,
 * those of the next ones (fs/streams.h).
 *
 * An inode that was fetched so is kept without the kernel knowing it (lookups == 0), in
 * mount.ahead.inodes: what this mount changes is seen there like in every other one, and what the
 * mount may trust of it is decided by fs/coherence.h as for every other one.
 */
#include "fs/inode.h"
#include "fs/streams.h"

struct mount;

struct ahead {
    struct list inodes; /* not known by the kernel; fetched last in front */
    unsigned inode_count;
    struct streams streams;
    unsigned in_flight;
    bool no_contents; /* the service does not know INODES */
};

void ahead_init(struct mount *mount);
/* A name was looked up in this directory. */
void ahead_lookup(struct mount *mount, struct inode *dir);
/* The file is about to be opened for reading. */
void ahead_open(struct mount *mount, struct inode *inode);
/* Being alone has ended: all that the kernel does not know is dropped. */
void ahead_forget_all(struct mount *mount);
