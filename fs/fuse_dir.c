/* Directory reading: batches from the server, handed to the kernel entry by entry. */
#include "fs/fuse_internal.h"

#include "base/assert.h"
#include "base/mem.h"
#include "fs/coherence.h"
#include "fs/local.h"
#include "fs/lock.h"

#include <errno.h>

/* ---- directories ---- */

void fuse_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct dir_handle *dir;

    (void)nodeid;
    if (fuse_bridge_of(req)->mount->shutdown.down) {
        fuse_reply_err(req, EIO);
        return;
    }
    dir = mem_zalloc(sizeof(*dir));
    dir->open_flags = (uint32_t)fi->flags;
    fi->fh = (uint64_t)(uintptr_t)dir;
    fi->cache_readdir = coherence_keep_listings(fuse_bridge_of(req)->mount);
    fi->keep_cache = fi->cache_readdir;
    if (fuse_reply_open(req, fi) == -ENOENT) {
        mem_free(dir);
    }
}

void fuse_releasedir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct dir_handle *dir = (struct dir_handle *)(uintptr_t)fi->fh;

    if (fi->flock_release != 0) {
        struct fuse_bridge *bridge = fuse_bridge_of(req);

        lock_release(bridge->mount, fuse_to_ino(bridge, nodeid), fi->lock_owner);
    }
    buf_deinit(&dir->records);
    mem_free(dir);
    fuse_reply_err(req, 0);
}

/* The kernel gets to know the entry: its attributes as they are true here. What came with an
 * earlier request may be older than a change of ours whose outcome we have not asked for: then it
 * is not taken in, and the kernel must ask (false). */
static bool take_known(const struct bridge_call *bc, struct meta_attr *attr)
{
    struct mount *mount = bc->bridge->mount;
    struct inode *inode = inode_make(mount, attr->ino);

    inode_ref(mount, inode);
    if (bc->old_batch && inode->attr.ino != 0 && !inode->attr_known) {
        return false;
    }
    inode_update(mount, inode, attr, false);
    return true;
}

/* Adds one entry; false when the reply is full. */
static bool add_entry(struct bridge_call *bc, struct buf *out, const struct meta_dirent *dirent,
                      bool is_dot)
{
    char name[META_NAME_MAX + 1];
    struct fuse_entry_param entry = {0};
    size_t left = bc->size - out->size, used;
    bool with_attr = !is_dot && dirent->attr.size != 0;
    struct meta_attr attr;

    slice_copy(name, dirent->name);
    name[dirent->name.size] = '\0';
    entry.attr.st_ino = dirent->ino;
    entry.attr.st_mode = dirent->mode;
    if (fuse_add_direntry_plus(bc->req, NULL, 0, name, NULL, 0) > left) {
        return false;
    }
    if (with_attr && meta_attr_decode(&attr, dirent->attr) == 0) {
        bool current = take_known(bc, &attr);

        entry = fuse_to_entry(bc->bridge, &attr);
        entry.attr_timeout = current ? entry.attr_timeout : 0;
    }
    used = fuse_add_direntry_plus(bc->req, (char *)buf_reserve(out, left), left, name, &entry,
                                  (off_t)dirent->cookie);
    ASSERT(used <= left);
    out->size += used;
    return true;
}

static bool add_dots(struct bridge_call *bc, struct buf *out)
{
    static const char *const names[] = {".", ".."};

    for (uint64_t cookie = bc->call.offset + 1; cookie <= 2; cookie++) {
        struct meta_dirent dot = {.ino = bc->call.ino,
                                  .cookie = cookie,
                                  .mode = S_IFDIR,
                                  .name = slice_text(names[cookie - 1])};

        if (!add_entry(bc, out, &dot, true)) {
            return false;
        }
        bc->call.offset = cookie;
    }
    return true;
}

/* Adds entries of the handle's batch from its position on. */
static bool add_records(struct bridge_call *bc, struct buf *out)
{
    struct dir_handle *dir = bc->dir;

    while (dir->at < dir->records.size) {
        struct schema_reader reader = schema_reader_make(
            slice_make(dir->records.data + dir->at, dir->records.size - dir->at));
        struct slice record = schema_read_bytes(&reader, META_BODY_MAX);
        struct meta_dirent dirent;

        if (reader.failed || meta_dirent_decode(&dirent, record) < 0) {
            dir->at = dir->records.size;
            return false;
        }
        if (!add_entry(bc, out, &dirent, false)) {
            return false;
        }
        dir->at = (size_t)(reader.at - dir->records.data);
        dir->at_cookie = dirent.cookie;
    }
    return true;
}

static void finish_readdir(struct bridge_call *bc, const struct buf *out)
{
    fuse_reply_buf(bc->req, (const char *)out->data, out->size);
    if (!bc->starting) {
        fuse_call_free(bc);
    }
}

/* A batch has come. */
void fuse_readdir_more(struct bridge_call *bc)
{
    cleanup(buf_deinit) struct buf out = {0};
    struct dir_handle *dir = bc->dir;
    struct inode *inode = inode_find(bc->bridge->mount, bc->call.ino);

    if (inode != NULL && coherence_timeout(bc->bridge->mount) > 0) {
        local_note_entries(bc->bridge->mount, inode, bc->call.meta.request.offset, bc->call.out,
                           bc->call.end);
    }
    buf_clear(&dir->records);
    buf_append_slice(&dir->records, bc->call.out);
    dir->at = 0;
    dir->at_cookie = bc->call.offset;
    dir->end = bc->call.end;
    dir->filled = true;
    add_dots(bc, &out);
    add_records(bc, &out);
    finish_readdir(bc, &out);
}

void fuse_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                      struct fuse_file_info *fi)
{
    struct bridge_call *bc = fuse_call_begin(req, FS_READDIR, nodeid);
    cleanup(buf_deinit) struct buf out = {0};

    bc->dir = (struct dir_handle *)(uintptr_t)fi->fh;
    bc->size = size;
    bc->call.offset = (uint64_t)offset;
    if (bc->call.offset > 2 && bc->dir->filled && bc->dir->at_cookie == bc->call.offset &&
        (bc->dir->at < bc->dir->records.size || bc->dir->end)) {
        bc->old_batch = true;
        add_records(bc, &out);
        fuse_reply_buf(req, (const char *)out.data, out.size);
        fuse_call_free(bc);
        return;
    }
    bc->call.open_flags = bc->dir->open_flags;
    bc->call.size = FS_READDIR_BATCH;
    fuse_call_run(bc);
}
