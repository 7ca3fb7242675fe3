/*
 * local_names: the names that fs/local.c answers from, kept true: by what the service has answered,
 * and by batches of directory entries as they are read.
 */
#include "fs/local.h"

#include "fs/limits.h"

static void note_put(struct mount *mount, uint64_t dir_ino, struct slice name, uint64_t ino)
{
    struct inode *dir = inode_find(mount, dir_ino);

    if (dir == NULL) {
        return;
    }
    if (!dir->names.complete || dir->names.count >= FS_NAMES_MAX) {
        names_clear(&dir->names);
    } else {
        names_put(&dir->names, name, ino);
    }
}

static void note_remove(struct mount *mount, uint64_t dir_ino, struct slice name)
{
    struct inode *dir = inode_find(mount, dir_ino);

    if (dir != NULL) {
        names_remove(&dir->names, name);
    }
}

static void note_unsure(struct mount *mount, uint64_t dir_ino)
{
    struct inode *dir = inode_find(mount, dir_ino);

    if (dir != NULL) {
        names_clear(&dir->names);
    }
}

void local_note(struct fs_call *call, int status)
{
    struct mount *mount = call->mount;

    switch ((int)call->op) {
    case FS_CREATE:
    case FS_MKDIR:
    case FS_MKNOD:
    case FS_SYMLINK:
    case FS_LINK:
        if (status == 0) {
            note_put(mount, call->ino, call->name, call->attr.ino);
        } else {
            note_unsure(mount, call->ino);
        }
        return;
    case FS_UNLINK:
    case FS_RMDIR:
        if (status == 0) {
            note_remove(mount, call->ino, call->name);
        } else {
            note_unsure(mount, call->ino);
        }
        return;
    case FS_RENAME:
        if (status == 0 && call->meta.reply.flags & META_UNCHANGED) {
            return; /* two names of one file: both stay */
        }
        if (status == 0 && !(call->flags & (META_EXCHANGE | META_WHITEOUT))) {
            note_remove(mount, call->ino, call->name);
            note_put(mount, call->ino2, call->name2, call->attr.ino);
        } else {
            note_unsure(mount, call->ino);
            note_unsure(mount, call->ino2);
        }
        return;
    default:
        return;
    }
}

bool local_is_sure(const struct mount *mount)
{
    return mount->meta.given_up == 0;
}

static void names_unread(struct inode *dir)
{
    names_clear(&dir->names);
    dir->names_cookie = UINT64_MAX;
}

uint64_t local_names_next(const struct inode *dir)
{
    bool reading = dir->names_cookie != UINT64_MAX && dir->names_version == dir->names.version;

    return reading && !dir->names.complete ? dir->names_cookie : 0;
}

void local_note_entries(struct mount *mount, struct inode *dir, uint64_t offset,
                        struct slice records, bool end)
{
    struct schema_reader reader = schema_reader_make(records);
    uint64_t cookie = offset;

    if (dir->names.complete) {
        return;
    }
    if (!local_is_sure(mount)) {
        names_unread(dir); /* that change may come behind this batch */
        return;
    }
    if (offset == 0 && local_names_next(dir) == 0) {
        names_clear(&dir->names);
    } else if (local_names_next(dir) > offset) {
        return; /* read again: known already */
    } else if (local_names_next(dir) != offset || dir->names.count >= FS_NAMES_MAX) {
        names_unread(dir);
        return;
    }
    while (reader.at != reader.end) {
        struct slice record = schema_read_bytes(&reader, META_BODY_MAX);
        struct meta_dirent dirent;

        if (reader.failed || meta_dirent_decode(&dirent, record) < 0) {
            names_unread(dir);
            return;
        }
        names_put(&dir->names, dirent.name, dirent.ino);
        cookie = dirent.cookie;
    }
    dir->names.complete = end;
    dir->names_cookie = cookie;
    dir->names_version = dir->names.version;
}
