#pragma once
/*
 * inode_flags: what the flags of an inode (chattr(1), ioctl_iflags(2)) allow; for the namespace and
 * for mounts. Pure. Linux does most of this for local file systems; for FUSE it does not know the
 * flags. What only the namespace decides is in meta/ns_flags.c.
 */
#include "meta/meta_proto.h"

/* May it be opened so (META_OPEN_*, META_TRUNCATE)? 0 or -EPERM. */
int inode_flags_open(uint32_t flags, uint32_t open_flags);
/* May it be written to; `append`: at its end? 0 or -EPERM. */
int inode_flags_write(uint32_t flags, bool append);
/* May these attributes be set (META_SET_*)? 0 or -EPERM. */
int inode_flags_setattr(uint32_t flags, uint32_t valid);
/* Those that a new inode of this mode gets from its directory. */
uint32_t inode_flags_inherited(uint32_t dir_flags, uint32_t mode);
/* Can an inode of this mode have those of META_ATTR_SETTABLE? */
bool inode_flags_fit(uint32_t flags, uint32_t mode);
