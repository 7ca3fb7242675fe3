#include "base/bytes.h"
#include "meta/ns_internal.h"

#include "base/assert.h"

int inode_get(struct ns *ns, uint64_t ino, struct inode *out_inode)
{
    struct record_key key = record_key_inode(ino);
    struct slice value;

    if (!kv_get(ns->kv, record_slice(&key), &value)) {
        return -ESTALE;
    }
    out_inode->ino = ino;
    return record_inode_decode(&out_inode->r, arena_copy(&ns->arena, value));
}

int inode_get_dir(struct ns *ns, uint64_t ino, struct inode *out_inode)
{
    int r = inode_get(ns, ino, out_inode);

    return r < 0 ? r : S_ISDIR(out_inode->r.mode) ? 0 : -ENOTDIR;
}

void inode_put(struct ns *ns, struct inode *inode)
{
    inode->r.change++;
    inode_put_unchanged(ns, inode);
}

void inode_put_unchanged(struct ns *ns, const struct inode *inode)
{
    struct record_key key = record_key_inode(inode->ino);

    buf_clear(&ns->scratch);
    record_inode_encode(&inode->r, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

void inode_touch_data(struct ns *ns, struct inode *inode)
{
    inode->r.mtime = ns->now;
    inode->r.ctime = ns->now;
}

void inode_touch(struct ns *ns, struct inode *inode)
{
    inode->r.ctime = ns->now;
}

void attr_encode(const struct inode *inode, struct buf *out)
{
    const struct record_inode *r = &inode->r;
    struct meta_attr attr = {.ino = inode->ino,
                             .mode = r->mode,
                             .nlink = r->nlink,
                             .uid = r->uid,
                             .gid = r->gid,
                             .rdev = r->rdev,
                             .size = r->size,
                             .blocks = (r->bytes + r->reserved + 511) / 512,
                             .atime = r->atime,
                             .mtime = r->mtime,
                             .ctime = r->ctime,
                             .btime = r->btime,
                             .change = r->change,
                             .parent = S_ISDIR(r->mode) ? r->parent : 0,
                             .flags = r->flags};

    meta_attr_encode(&attr, out);
}

void reply_attr(struct ns *ns, const struct inode *inode)
{
    buf_clear(&ns->attr);
    attr_encode(inode, &ns->attr);
}

bool in_group(const struct meta_request *request, uint32_t gid)
{
    if (request->gid == gid) {
        return true;
    }
    for (size_t i = 0; i + 4 <= request->groups.size; i += 4) {
        if (bytes_get_le32(request->groups.data + i) == gid) {
            return true;
        }
    }
    return false;
}

bool is_owner(const struct meta_request *request, const struct inode *inode)
{
    return request->uid == 0 || request->uid == inode->r.uid;
}

int may_access(struct ns *ns, const struct inode *inode, unsigned mask)
{
    const struct meta_request *request = ns->request;
    uint32_t mode = inode->r.mode;
    uint32_t bits;
    int r;

    if ((mask & MAY_WRITE) != 0 && (inode->r.flags & META_ATTR_IMMUTABLE) != 0) {
        return -EPERM;
    }
    if ((request->flags & META_SKIP_ACCESS) != 0 && S_ISDIR(mode)) {
        return 0;
    }
    if (request->uid == 0) {
        bool runs = S_ISDIR(mode) || (mode & 0111) != 0;

        return (mask & MAY_EXEC) != 0 && !runs ? -EACCES : 0;
    }
    if (request->uid == inode->r.uid) {
        bits = mode >> 6;
    } else if (acl_decides(ns, inode, mask, &r)) {
        return r;
    } else if (in_group(request, inode->r.gid)) {
        bits = mode >> 3;
    } else {
        bits = mode;
    }
    return (mask & ~bits & 7) != 0 ? -EACCES : 0;
}

void kill_priv(struct ns *ns, struct inode *inode)
{
    bool outsider;

    if (S_ISDIR(inode->r.mode)) {
        return;
    }
    outsider = ns->request->uid != 0 && !in_group(ns->request, inode->r.gid);
    inode->r.mode &= ~(uint32_t)S_ISUID;
    if ((inode->r.mode & S_IXGRP) != 0 || outsider) {
        inode->r.mode &= ~(uint32_t)S_ISGID;
    }
    xattr_remove_named(ns, inode->ino, slice_text("security.capability"));
}
