/*
 * fallocate, copy_file_range, lseek for data and holes, O_TMPFILE, as fs/fuse/file.c does them:
 * what changes contents has the inode locked, and pages and attributes are forgotten behind it.
 */
#include "tests/sim/sim_kernel_internal.h"

#include <fcntl.h>

/* The range may have changed from now on; bracketed by change_end. */
static void change_begin(struct kernel *kernel, struct knode *node, uint64_t from, uint64_t to)
{
    node_lock(node);
    data_change_begin(kernel->client, node->ino);
    data_replaced(kernel->client, node->ino, from, to);
}

static void change_end(struct kernel *kernel, struct knode *node, int r)
{
    pages_invalidate(node);
    node_forget_attr(kernel, node);
    data_unsure(kernel->client, node->ino, r);
    data_error(kernel->client, node->ino, r);
    data_change_end(kernel->client, node->ino);
    node_unlock(node);
}

int k_fallocate(struct kernel *kernel, struct kfile *file, uint32_t mode, uint64_t offset,
                uint64_t size)
{
    struct waiting waiting = {.call = {.op = FS_FALLOCATE,
                                       .ino = file->node->ino,
                                       .mode = mode,
                                       .offset = offset,
                                       .size = size}};
    bool zeroes = (mode & (META_ALLOCATE_PUNCH | META_ALLOCATE_ZERO)) != 0;
    int r;

    change_begin(kernel, file->node, offset, zeroes ? offset + size : offset);
    r = ask(&waiting, kernel);
    change_end(kernel, file->node, r);
    buf_deinit(&waiting.out);
    return r;
}

int64_t k_copy_range(struct kernel *kernel, struct kfile *from, uint64_t offset, struct kfile *to,
                     uint64_t offset2, uint64_t size)
{
    struct waiting waiting = {.call = {.op = FS_COPY_RANGE,
                                       .ino = from->node->ino,
                                       .offset = offset,
                                       .ino2 = to->node->ino,
                                       .offset2 = offset2,
                                       .size = size}};
    int r;

    change_begin(kernel, to->node, offset2, offset2 + size);
    r = ask(&waiting, kernel);
    change_end(kernel, to->node, r);
    buf_deinit(&waiting.out);
    return r < 0 ? r : (int64_t)waiting.call.size;
}

int64_t k_seek(struct kernel *kernel, struct knode *node, uint64_t offset, uint32_t whence)
{
    struct waiting waiting = {
        .call = {.op = FS_SEEK, .ino = node->ino, .offset = offset, .whence = whence}};
    int r = ask(&waiting, kernel);

    buf_deinit(&waiting.out);
    return r < 0 ? r : (int64_t)waiting.call.offset;
}

int k_tmpfile(struct kernel *kernel, struct knode *dir, struct kfile *out_file)
{
    uint64_t floor = witness_floor();
    struct waiting waiting = {
        .call = {.op = FS_TMPFILE, .ino = dir->ino, .mode = 0644, .open_flags = O_RDWR}};
    int r = ask(&waiting, kernel);

    if (r == 0) {
        struct knode *node = node_known(kernel, &waiting);

        node->opens++;
        *out_file = open_file(kernel, node, /* writable= */ true, floor);
    }
    buf_deinit(&waiting.out);
    return r;
}
