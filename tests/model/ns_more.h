#pragma once
/* ns_more: operations of Linux beyond POSIX, on the namespace and on the model; part of
 * model_test_ns. */
#include "tests/model/ns_world.h"

/* Offsets are multiples of this, so that files do not come to consist of single bytes. */
#define GRAIN 100

static inline uint64_t any_offset(struct world *world, uint64_t limit)
{
    return rng_below(&world->rng, limit / GRAIN + 1) * GRAIN;
}

/* Bytes of the file that are stored in the inode itself. */
static inline uint64_t inline_size(struct world *world, const struct node *node)
{
    struct meta_request request = {.op = META_EXTENTS, .ino = node->ino};
    const struct meta_reply *reply = ns_read(&world->ns, &request, world->index);

    return node->is_inline && reply->error == 0 ? reply->data.size : 0;
}

static inline void model_allocate(struct node *node, uint64_t stored, uint32_t mode, uint64_t from,
                                  uint64_t to)
{
    bool punch = (mode & META_ALLOCATE_PUNCH) != 0, zero = (mode & META_ALLOCATE_ZERO) != 0;

    if ((punch || zero) && from < stored && to >= stored) {
        stored = from;
    }
    for (uint64_t i = from; i < to; i++) {
        bool was = node->cells[i].reserved;

        if (punch || zero) {
            node->cells[i] = (struct cell){0};
        }
        node->cells[i].reserved =
            !punch && (was || (node->cells[i].seq == 0 && (!node->is_inline || i >= stored)));
    }
    if ((mode & (META_ALLOCATE_PUNCH | META_ALLOCATE_KEEP_SIZE)) == 0 && node->size < to) {
        node->size = to;
    }
}

static inline void do_fallocate(struct world *world)
{
    static const uint32_t modes[] = {
        0, META_ALLOCATE_KEEP_SIZE, META_ALLOCATE_PUNCH | META_ALLOCATE_KEEP_SIZE,
        META_ALLOCATE_ZERO, META_ALLOCATE_ZERO | META_ALLOCATE_KEEP_SIZE};
    struct node *node = any_node(world);
    uint32_t mode = modes[rng_below(&world->rng, ARRAY_SIZE(modes))];
    uint64_t from = any_offset(world, FILE_MAX - GRAIN);
    uint64_t to = from + GRAIN + any_offset(world, FILE_MAX - GRAIN - from);
    uint64_t stored = inline_size(world, node);
    int expected = node->gone                       ? -ESTALE
                   : S_ISDIR(node->mode)            ? -EISDIR
                   : !S_ISREG(node->mode)           ? -ENODEV
                   : !allowed(world->user, node, 2) ? -EACCES
                                                    : 0;

    world->request = (struct meta_request){
        .op = META_FALLOCATE, .ino = node->ino, .mode = mode, .offset = from, .size = to - from};
    assert_int_equal(apply(world), expected);
    if (expected == 0) {
        assert_int_equal(world->reply->value, to);
        model_allocate(node, stored, mode, from, to);
        model_touch(world->model, node);
    }
}

/* How much of the range is copied; or why not. */
static inline int copy_expected(struct world *world, const struct node *from, const struct node *to,
                                uint64_t *io_length)
{
    const struct meta_request *request = &world->request;
    uint64_t stored = inline_size(world, to);

    if (to->gone || from->gone) {
        return -ESTALE;
    }
    if (!S_ISREG(to->mode) || !S_ISREG(from->mode)) {
        return -EINVAL;
    }
    if (from == to && request->offset < request->offset2 + *io_length &&
        request->offset2 < request->offset + *io_length) {
        return -EINVAL;
    }
    if (!allowed(world->user, from, 4) || !allowed(world->user, to, 2)) {
        return -EACCES;
    }
    *io_length = request->offset >= from->size               ? 0
                 : *io_length > from->size - request->offset ? from->size - request->offset
                                                             : *io_length;
    if (*io_length == 0) {
        return 0;
    }
    if (inline_size(world, from) > 0) {
        return -EOPNOTSUPP;
    }
    for (uint64_t i = 0; i < *io_length; i++) {
        if ((from->cells[request->offset + i].seq & JOURNALLED) != 0) {
            *io_length = i;
        }
    }
    return *io_length == 0 || (stored > 0 && (request->offset2 > 0 || *io_length < stored))
               ? -EOPNOTSUPP
               : 0;
}

static inline void do_copy_range(struct world *world)
{
    struct node *from = any_node(world);
    struct node *to = rng_percent(&world->rng, 30) ? from : any_node(world);
    uint64_t length = GRAIN + any_offset(world, FILE_MAX / 2);
    int expected;

    world->request = (struct meta_request){
        .op = META_COPY_RANGE,
        .ino = from->ino,
        .ino2 = to->ino,
        .offset = any_offset(world, FILE_MAX - length),
        .offset2 = rng_percent(&world->rng, 30) ? 0 : any_offset(world, FILE_MAX - length),
        .size = length};
    expected = copy_expected(world, from, to, &length);
    assert_int_equal(apply(world), expected);
    if (expected < 0) {
        return;
    }
    assert_int_equal(world->reply->value, length);
    for (uint64_t i = 0; i < length; i++) {
        struct cell *cell = &to->cells[world->request.offset2 + i];
        bool was = cell->reserved;

        *cell = from->cells[world->request.offset + i];
        cell->reserved = cell->seq == 0 && was;
    }
    if (length > 0) {
        to->is_inline = false;
        to->size =
            to->size > world->request.offset2 + length ? to->size : world->request.offset2 + length;
        model_touch(world->model, to);
    }
}

static inline void do_tmpfile(struct world *world)
{
    struct node *dir = any_dir(world);
    bool linkable = rng_percent(&world->rng, 70);
    int expected = dir_error(dir);

    expected = expected < 0 ? expected : may_change(world->user, dir);
    world->request = (struct meta_request){
        .op = META_TMPFILE, .flags = linkable ? 0 : META_NOREPLACE, .ino = dir->ino, .mode = 0640};
    assert_int_equal(apply(world), expected);
    if (expected == 0) {
        struct node *node = model_make(world->model, dir, NAMES, world->user, S_IFREG | 0640);

        world->model->next_ino++;
        node->linkable = linkable;
    }
}

/* Of a file with extents: where data and holes are, from anywhere. */
static inline void check_seek(struct world *world, const struct node *node)
{
    uint64_t from = rng_below(&world->rng, FILE_MAX), data = from, hole = from;
    struct meta_request request = {.op = META_SEEK, .ino = node->ino, .offset = from};
    const struct meta_reply *reply;

    for (; data < node->size && node->cells[data].seq == 0; data++) {
    }
    for (; hole < node->size && node->cells[hole].seq != 0; hole++) {
    }
    request.count = META_SEEK_DATA;
    reply = ns_read(&world->ns, &request, world->index);
    assert_int_equal(reply->error, data >= node->size ? ENXIO : 0);
    assert_int_equal(reply->value, data >= node->size ? 0 : data);
    request.count = META_SEEK_HOLE;
    reply = ns_read(&world->ns, &request, world->index);
    assert_int_equal(reply->error, from >= node->size ? ENXIO : 0);
    assert_int_equal(reply->value, from >= node->size ? 0 : hole);
}
