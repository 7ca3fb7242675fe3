/* Extended attributes. */
#include "fs/fuse_internal.h"

#include "base/mem.h"

#include <errno.h>

/* ---- extended attributes ---- */

static bool xattr_refused(fuse_req_t req, const char *name)
{
    if (strlen(name) > META_NAME_MAX) {
        fuse_reply_err(req, ERANGE);
        return true;
    }
    return false;
}

/* An ACL set by somebody outside of the file's group, as the kernel has found: its owner, in no
 * group, is just that. */
static void set_by_outsider(struct fs_call *call)
{
    const struct inode *inode = inode_find(call->mount, call->ino);

    if (inode != NULL) {
        call->who.uid = inode->attr.uid;
        call->who.gid = UINT32_MAX;
    }
}

void fuse_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value,
                   size_t size, int flags)
{
    struct bridge_call *bc;

    if (xattr_refused(req, name)) {
        return;
    }
    bc = fuse_call_begin(req, FS_SETXATTR, nodeid);
    bc->call.name = fuse_call_keep(bc, name);
    bc->buffer = mem_alloc(size);
    memcpy(bc->buffer, value, size);
    bc->call.data = slice_make(bc->buffer, size);
    bc->call.flags |= flags & 1 ? META_NOREPLACE : 0; /* XATTR_CREATE */
    bc->call.flags |= flags & 2 ? META_REPLACE : 0;   /* XATTR_REPLACE */
    if (bc->bridge->raw_flags & KERNEL_ACL_KILL_SGID) {
        set_by_outsider(&bc->call);
    }
    fuse_call_run(bc);
}

void fuse_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
    struct bridge_call *bc;

    if (xattr_refused(req, name)) {
        return;
    }
    bc = fuse_call_begin(req, FS_GETXATTR, nodeid);
    bc->call.name = fuse_call_keep(bc, name);
    bc->size = size;
    fuse_call_run(bc);
}

void fuse_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_LISTXATTR, nodeid);

    bc->size = size;
    fuse_call_run(bc);
}

void fuse_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
    struct bridge_call *bc;

    if (xattr_refused(req, name)) {
        return;
    }
    bc = fuse_call_begin(req, FS_REMOVEXATTR, nodeid);
    bc->call.name = fuse_call_keep(bc, name);
    fuse_call_run(bc);
}
