#include "meta/inode_flags.h"

#include <errno.h>

#define INHERITED (META_ATTR_SYNC | META_ATTR_NODUMP | META_ATTR_NOATIME | META_ATTR_DIRSYNC)

int inode_flags_open(uint32_t flags, uint32_t open_flags)
{
    bool truncates = (open_flags & META_TRUNCATE) != 0;

    if (!truncates && (open_flags & META_OPEN_WRITE) == 0) {
        return 0;
    }
    return inode_flags_write(flags, !truncates && (open_flags & META_APPEND) != 0);
}

int inode_flags_write(uint32_t flags, bool append)
{
    if ((flags & META_ATTR_IMMUTABLE) != 0) {
        return -EPERM;
    }
    return (flags & META_ATTR_APPEND) != 0 && !append ? -EPERM : 0;
}

int inode_flags_setattr(uint32_t flags, uint32_t valid)
{
    const uint32_t touches = META_SET_ATIME_NOW | META_SET_MTIME_NOW;

    return inode_flags_write(flags, (valid & ~touches) == 0);
}

bool inode_flags_fit(uint32_t flags, uint32_t mode)
{
    return S_ISDIR(mode) || (S_ISREG(mode) && (flags & META_ATTR_DIRSYNC) == 0);
}

uint32_t inode_flags_inherited(uint32_t dir_flags, uint32_t mode)
{
    if (S_ISDIR(mode)) {
        return dir_flags & INHERITED;
    }
    return S_ISREG(mode) ? dir_flags & INHERITED & ~(uint32_t)META_ATTR_DIRSYNC : 0;
}
