/*
 * O_APPEND as fs/fuse/file.c does it: the offset of a WRITE is i_size as the kernel knows it, read
 * under the inode's lock; nobody is asked. Pages that the mount wants dropped, because an append
 * went elsewhere, are dropped by a thread of the mount, some time later.
 */
#include "tests/sim/sim_kernel_internal.h"

#include "base/mem.h"

#define DROP_NS (20 * NS_PER_MS)

void pages_drop_later(struct knode *node)
{
    node->drop_ns = sim_now(world->sim) + 1 + rng_below(&world->rng, DROP_NS);
}

/* While a request has folios locked, the thread waits for them. */
void pages_drop_due(struct kernel *kernel, struct knode *node)
{
    if (node->drop_ns != 0 && sim_now(world->sim) >= node->drop_ns && node->reading == 0 &&
        node->writing == 0) {
        node->drop_ns = 0;
        pages_drop(node, 0);
        node_forget_attr(kernel, node);
    }
}

static void told(void *data)
{
    fs_call_pages_dropped(&((struct waiting *)data)->call);
}

void pages_drop_told(struct waiting *waiting)
{
    struct kernel *kernel = waiting->kernel;
    struct knode *node = map_get(&kernel->nodes, map_u64(waiting->call.ino));

    if (waiting->call.stale_pages) {
        pages_invalidate(node);
        node_forget_attr(kernel, node);
        sim_call(world->sim, kernel->client->node, told, waiting);
    }
}

/* Each cell says which part of the record it is. */
static void fill(uint8_t *bytes, const struct model_append *append)
{
    for (uint32_t i = 0; i < append->cells; i++) {
        model_fill(bytes + i * SIM_CELL, SIM_CELL, append->first + i);
    }
}

int k_append(struct kernel *kernel, struct kfile *file, uint64_t size)
{
    struct client *client = kernel->client;
    struct knode *node = file->node;
    uint8_t *bytes = mem_alloc(min_u64(size, MiB(1)));
    int r = 0;

    node_lock(node);
    data_change_begin(client, node->ino);
    for (uint64_t at = 0; r == 0 && at < size; at += MiB(1)) {
        uint64_t part = min_u64(size - at, MiB(1));
        struct model_append *append = append_begin(client, node->ino, (uint32_t)(part / SIM_CELL));

        fill(bytes, append);
        r = write_part(kernel, node, node->attr.size, slice_make(bytes, part), /* append= */ true);
        append_end(append, r);
    }
    node_forget_attr(kernel, node); /* i_size stays */
    data_error(client, node->ino, r);
    data_change_end(client, node->ino);
    node_unlock(node);
    mem_free(bytes);
    return r;
}

/* ---- direct ---- */

struct direct_part {
    struct waiting waiting;
    struct model_append *append;
    uint8_t *bytes;
};

static void direct_begin(struct kernel *kernel, struct knode *node, struct direct_part *part,
                         uint64_t offset, uint64_t size)
{
    part->append = append_begin(kernel->client, node->ino, (uint32_t)(size / SIM_CELL));
    part->bytes = mem_alloc(size);
    fill(part->bytes, part->append);
    part->waiting = (struct waiting){.call = {.op = FS_WRITE,
                                              .ino = node->ino,
                                              .offset = offset,
                                              .append = true,
                                              .data = slice_make(part->bytes, size)}};
    ask_begin(&part->waiting, kernel);
}

static int direct_end(struct kernel *kernel, struct direct_part *part)
{
    int r = ask_end(&part->waiting);

    append_end(part->append, r);
    world->counts.appends_moved += r == 0 && part->waiting.call.moved;
    data_error(kernel->client, part->append->ino, r);
    buf_deinit(&part->waiting.out);
    mem_free(part->bytes);
    return r;
}

/* All at once, as fuse_direct_IO does it also when the program waits. */
int k_append_direct(struct kernel *kernel, struct kfile *file, uint64_t size, unsigned parts)
{
    struct direct_part direct[APPEND_PARTS_MAX];
    struct knode *node = file->node;
    uint64_t most = min_u64(round_up(size / parts + 1, SIM_CELL), MiB(1)), at = 0;
    uint64_t offset;
    unsigned count = 0;
    int r = 0;

    node_lock(node);
    data_change_begin(kernel->client, node->ino);
    pages_drop_due(kernel, node);
    offset = node->attr.size;
    for (; at < size && count < parts; count++) {
        uint64_t part = min_u64(size - at, most);

        direct_begin(kernel, node, &direct[count], offset + at, part);
        at += part;
    }
    for (unsigned i = 0; i < count; i++) {
        int part_r = direct_end(kernel, &direct[i]);

        r = r < 0 ? r : part_r;
    }
    node->attr.size = max_u64(node->attr.size, r == 0 ? offset + at : 0);
    pages_invalidate(node);
    node_forget_attr(kernel, node);
    data_change_end(kernel->client, node->ino);
    node_unlock(node);
    return r;
}
