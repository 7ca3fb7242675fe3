/*
 * Where files have data: allocation, holes, copies of ranges, files without a name. How far one
 * step of the log comes is the server's affair: it is taken from the reply.
 */
#include "tests/sim/sim_model.h"

#include "base/mem.h"

#include <errno.h>

static struct model_answer fail(int error)
{
    return (struct model_answer){.error = error};
}

static struct model_answer broken(const char *why)
{
    return (struct model_answer){.broken = why};
}

static struct model_answer changed(const struct model *model, struct model_inode *inode)
{
    inode->changed = model->index;
    return (struct model_answer){.has_attr = true, .inode = inode};
}

struct model_answer model_fallocate(struct model *model, const struct meta_request *request,
                                    const struct meta_reply *reply, unsigned slot)
{
    struct model_inode *inode = model_inode(model, request->ino);
    bool punch = (request->mode & META_ALLOCATE_PUNCH) != 0;

    if (inode == NULL) {
        return fail(ESTALE);
    }
    if (reply->error == ENOSPC && !punch && request->stamp_space != 0) {
        return fail(ENOSPC); /* how much room there is, it does not know */
    }
    if (reply->error == 0 &&
        (reply->value <= request->offset || reply->value > request->offset + request->size)) {
        return broken("an allocation comes to where it was not asked to");
    }
    if (reply->error != 0) {
        return (struct model_answer){0}; /* differs: the caller says so */
    }
    if ((request->mode & (META_ALLOCATE_PUNCH | META_ALLOCATE_ZERO)) != 0) {
        model_zero(model, inode, request->offset, reply->value, slot);
    }
    if ((request->mode & (META_ALLOCATE_PUNCH | META_ALLOCATE_KEEP_SIZE)) == 0 &&
        reply->value > inode->size) {
        inode->size = reply->value;
    }
    return changed(model, inode);
}

struct model_answer model_copy_range(struct model *model, const struct meta_request *request,
                                     const struct meta_reply *reply, unsigned slot)
{
    const struct model_inode *from = model_inode(model, request->ino);
    struct model_inode *to = model_inode(model, request->ino2);
    uint64_t room;

    if (from == NULL || to == NULL) {
        return fail(ESTALE);
    }
    room = request->offset < from->size ? from->size - request->offset : 0;
    if (reply->error == EOPNOTSUPP && room > 0) {
        return fail(EOPNOTSUPP); /* not in chunks: the program copies */
    }
    if (reply->error != 0) {
        return (struct model_answer){0};
    }
    if (reply->value > min_u64(request->size, room) || (reply->value == 0 && room > 0)) {
        return broken("a copy is longer than what was asked for, or empty");
    }
    if (reply->value == 0) {
        return (struct model_answer){.has_attr = true, .inode = to};
    }
    model_copy(model, from, request->offset, to, request->offset2, reply->value, slot);
    return changed(model, to);
}

struct model_answer model_tmpfile(struct model *model, const struct meta_request *request,
                                  const struct meta_reply *reply)
{
    const struct model_inode *dir = model_inode(model, request->ino);
    struct model_inode *inode;
    struct meta_attr attr;

    if (dir == NULL || !S_ISDIR(dir->mode)) {
        return fail(dir == NULL ? ESTALE : ENOTDIR);
    }
    if (dir->nlink == 0) {
        return fail(ENOENT);
    }
    if (reply->error != 0) {
        return (struct model_answer){0};
    }
    if (meta_attr_decode(&attr, reply->attr) < 0 || model_inode(model, attr.ino) != NULL) {
        return broken("a new inode has a number that was used before");
    }
    inode = mem_zalloc(sizeof(*inode));
    inode->ino = attr.ino;
    inode->mode = S_IFREG | (request->mode & 07777);
    inode->uid = request->uid;
    inode->gid = request->gid;
    inode->linkable = true;
    map_put(&model->inodes, map_u64(inode->ino), inode);
    return changed(model, inode);
}

/* Are these cells all without data? What has none may count as data, but never the other way. */
static bool all_zero(const struct model_inode *inode, uint64_t from, uint64_t to)
{
    for (uint64_t cell = from / SIM_CELL; cell * SIM_CELL < to; cell++) {
        if (model_cell(inode, cell) != 0) {
            return false;
        }
    }
    return true;
}

struct model_answer model_seek(const struct model *model, const struct meta_request *request,
                               const struct meta_reply *reply)
{
    const struct model_inode *inode = model_inode(model, request->ino);
    bool data = request->count == META_SEEK_DATA;
    uint64_t at = reply->value;

    if (inode == NULL) {
        return fail(ESTALE);
    }
    if (request->offset >= inode->size) {
        return fail(ENXIO);
    }
    if (reply->error == ENXIO && data) {
        return all_zero(inode, request->offset, inode->size) ? fail(ENXIO)
                                                             : broken("lseek finds no data");
    }
    if (reply->error != 0) {
        return (struct model_answer){0};
    }
    if (at < request->offset || at > inode->size) {
        return broken("lseek leads out of the file");
    }
    if (data && !all_zero(inode, request->offset, at)) {
        return broken("lseek leads past data");
    }
    if (!data && reply->value2 == 0 && at < inode->size &&
        !all_zero(inode, at, min_u64(at + SIM_CELL, inode->size))) {
        return broken("lseek takes data for a hole");
    }
    return (struct model_answer){0};
}
