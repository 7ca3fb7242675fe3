#include "base/bytes.h"
#include "meta/ns_internal.h"

#include "chunkstore/chunk_proto.h"

void orphan_put(struct ns *ns, uint64_t ino, struct record_orphan record)
{
    struct record_key key = record_key_orphan(ino);
    struct slice old;

    if (!kv_get(ns->kv, record_slice(&key), &old)) {
        ns->volume.orphans++;
    }
    record.since = ns->stamp;
    buf_clear(&ns->scratch);
    record_orphan_encode(&record, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

bool orphan_is_linkable(struct ns *ns, uint64_t ino)
{
    struct record_key key = record_key_orphan(ino);
    struct record_orphan record;
    struct slice value;

    return kv_get(ns->kv, record_slice(&key), &value) &&
           record_orphan_decode(&record, value) == 0 && record.linkable;
}

int orphan_adopt(struct ns *ns, uint64_t ino)
{
    struct record_key key = record_key_orphan(ino);

    if (!orphan_is_linkable(ns, ino)) {
        return -ENOENT;
    }
    kv_del(ns->kv, record_slice(&key));
    ns->volume.orphans--;
    return 0;
}

/* Frees as much as the budget allows. True when the inode is gone. */
static bool free_inode(struct ns *ns, struct inode *inode, unsigned *budget)
{
    struct record_key key = record_key_inode(inode->ino);
    uint64_t freed = 0;

    if (S_ISREG(inode->r.mode)) {
        bool all = extents_punch(ns, inode->r.data_id, 0, UINT64_MAX, budget, &freed) &&
                   reservations_free(ns, inode, budget);

        inode->r.bytes -= min_u64(inode->r.bytes, freed);
        ns->volume.used_bytes -= min_u64(ns->volume.used_bytes, freed);
        if (!all) {
            inode_put(ns, inode);
            return false;
        }
        ns->volume.used_bytes -= min_u64(ns->volume.used_bytes, inode->r.bytes); /* inline */
    }
    xattrs_free(ns, inode->ino);
    kv_del(ns->kv, record_slice(&key));
    ns->volume.inodes--;
    return true;
}

void inode_drop_link(struct ns *ns, struct inode *inode)
{
    uint32_t flags = ns->request->flags;
    bool at_once = (flags & META_SOLE_SESSION) != 0 && (flags & META_STILL_OPEN) == 0;
    unsigned budget = META_FREE_STEP_EXTENTS;

    inode->r.nlink = S_ISDIR(inode->r.mode) ? 0 : inode->r.nlink - 1;
    inode_touch(ns, inode);
    reply_attr(ns, inode);
    if (inode->r.nlink == 0 && at_once && free_inode(ns, inode, &budget)) {
        return;
    }
    inode_put(ns, inode);
    reply_attr(ns, inode); /* with the number of this change */
    if (inode->r.nlink > 0) {
        return;
    }
    orphan_put(ns, inode->ino, (struct record_orphan){.detached = at_once});
}

/* The parent and the victim of UNLINK and RMDIR, when it may be removed from there. */
static int find_victim(struct ns *ns, struct inode *dir, struct inode *victim,
                       struct dentry *out_dentry)
{
    const struct meta_request *request = ns->request;
    int r;

    r = inode_get_dir(ns, request->ino, dir);
    if (r < 0) {
        return r;
    }
    r = may_access(ns, dir, MAY_EXEC);
    if (r < 0) {
        return r;
    }
    r = name_check(request->name);
    if (r < 0) {
        return r;
    }
    r = dentry_find(ns, dir->ino, request->name, out_dentry);
    if (r < 0) {
        return r;
    }
    r = inode_get(ns, out_dentry->ino, victim);
    if (r < 0) {
        return r;
    }
    r = may_change_dir(ns, dir);
    if (r < 0) {
        return r;
    }
    return may_remove(request, dir, victim);
}

int ns_unlink(struct ns *ns)
{
    struct inode dir = {0};
    struct inode victim = {0};
    struct dentry dentry;
    int r;

    r = find_victim(ns, &dir, &victim, &dentry);
    if (r < 0) {
        return r;
    }
    if (S_ISDIR(victim.r.mode)) {
        return -EISDIR;
    }
    dentry_remove(ns, dir.ino, &dentry);
    inode_touch_data(ns, &dir);
    inode_put(ns, &dir);
    inode_drop_link(ns, &victim);
    return 0;
}

int ns_rmdir(struct ns *ns)
{
    struct inode dir = {0};
    struct inode victim = {0};
    struct dentry dentry;
    int r;

    r = find_victim(ns, &dir, &victim, &dentry);
    if (r < 0) {
        return r;
    }
    if (!S_ISDIR(victim.r.mode)) {
        return -ENOTDIR;
    }
    if (!dir_is_empty(ns, victim.ino)) {
        return -ENOTEMPTY;
    }
    dentry_remove(ns, dir.ino, &dentry);
    dir.r.nlink--;
    inode_touch_data(ns, &dir);
    inode_put(ns, &dir);
    inode_drop_link(ns, &victim);
    return 0;
}

/* One step for one orphan. */
static void free_orphan(struct ns *ns, uint64_t ino, unsigned *budget)
{
    struct record_key key = record_key_orphan(ino);
    struct inode inode = {0};
    struct slice value;
    bool gone = true;

    if (!kv_get(ns->kv, record_slice(&key), &value)) {
        return; /* freed before: the leader asked twice */
    }
    if (inode_get(ns, ino, &inode) == 0) {
        gone = inode.r.nlink == 0 && free_inode(ns, &inode, budget);
    } else { /* data cut off from its inode */
        uint64_t freed = 0;

        gone = extents_punch(ns, ino, 0, UINT64_MAX, budget, &freed);
        ns->volume.used_bytes -= min_u64(ns->volume.used_bytes, freed);
    }
    if (gone) {
        kv_del(ns->kv, record_slice(&key));
        ns->volume.orphans--;
    } else {
        orphan_put(ns, ino,
                   (struct record_orphan){.detached = true}); /* the rest without asking again */
    }
}

int ns_orphan_free(struct ns *ns)
{
    struct slice inos = ns->request->data;
    unsigned budget = META_FREE_STEP_EXTENTS;

    if (inos.size % 8 != 0 || inos.size / 8 > META_FREE_STEP_INODES) {
        return -EINVAL;
    }
    for (size_t i = 0; i < inos.size && budget > 0; i += 8) {
        free_orphan(ns, bytes_get_le64(inos.data + i), &budget);
    }
    return 0;
}

int ns_chunks_deleted(struct ns *ns)
{
    struct slice ids = ns->request->data;
    size_t count = chunk_ids_count(ids);

    for (size_t i = 0; i < count; i++) {
        struct record_chunk record;
        struct record_key key;
        uint64_t session, seq;

        chunk_ids_get(ids, i, &session, &seq);
        if (!ns_get_chunk(ns, session, seq, &record) || record.dead_since == 0) {
            continue;
        }
        key = record_key_gone(record.dead_since, session, seq);
        kv_del(ns->kv, record_slice(&key));
        key = record_key_chunk(session, seq);
        kv_del(ns->kv, record_slice(&key));
        ns->volume.delete_queue--;
    }
    return 0;
}
