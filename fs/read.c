/*
 *     LEARN --> GET --> (contents changed meanwhile?) --> finish
 *       ^                        |
 *       +------------------------+
 *
 * LEARN asks for the extents (or inline data) of the range when we do not know them; GET fetches
 * the parts of chunks. A commit or truncate that lands meanwhile makes the read begin again, for
 * what was dirty at the start is then in chunks that it did not look at.
 */
#include "fs/read.h"

#include "base/assert.h"
#include "base/mem.h"
#include "fs/call.h"
#include "fs/limits.h"
#include "fs/mount.h"

#include <errno.h>

enum read_state { READ_LEARN, READ_GET, READ_CHECK };

static const char *const read_states[] = {"learn", "get", "check"};

struct read_part {
    struct chunk_get get;
    struct read_op *read;
    size_t out_offset; /* where the wanted bytes go */
};

struct read_op {
    struct op op;
    struct fs_call *call;
    struct inode *inode;
    struct mount *mount;
    struct buf bytes;
    uint64_t version;
    struct meta_call learn;
    bool learning;
    struct read_part **parts;
    unsigned part_count;
    unsigned refetches; /* after a chunk was gone: its extents were old */
    int status;
};

static void read_step(struct op *op);
static void read_drained(struct op *op);

static const struct op_kind read_kind = {
    .name = "read",
    .states = read_states,
    .state_count = ARRAY_SIZE(read_states),
    .step = read_step,
    .drained = read_drained,
};

#define REFETCHES_MAX 2

static uint64_t end_of(const struct read_op *read)
{
    return read->call->offset + read->bytes.size;
}

static bool is_known(const struct read_op *read)
{
    const struct inode *inode = read->inode;

    return inode->contents == CONTENTS_INLINE ||
           (inode->contents == CONTENTS_EXTENTS && inode->extents.from <= read->call->offset &&
            inode->extents.to >= end_of(read));
}

/* ---- LEARN ---- */

static void on_learned(struct meta_call *call)
{
    struct read_op *read = container_of(call, struct read_op, learn);
    int r = call->status;

    read->learning = false;
    if (r == 0 && read->version == read->inode->version) {
        r = inode_take_contents(read->mount, read->inode, &call->reply, call->request.offset);
    }
    read->version = read->inode->version;
    if (r < 0) {
        read->status = r;
    }
    op_complete(&read->op);
}

static void learn(struct read_op *read)
{
    const struct extent_map *map = &read->inode->extents;
    uint64_t from = 0;

    if (read->inode->contents == CONTENTS_EXTENTS) {
        from = map->from <= read->call->offset && map->to > read->call->offset ? map->to
                                                                               : read->call->offset;
    }
    read->learn = (struct meta_call){.done = on_learned};
    read->learn.request = (struct meta_request){
        .op = META_EXTENTS,
        .ino = read->inode->ino,
        .offset = from,
        .size = end_of(read) - min_u64(from, end_of(read)),
    };
    read->learning = true;
    read->op.inflight++;
    meta_call_start(&read->mount->meta, &read->learn);
}

/* ---- GET ---- */

static void on_got(struct op *op)
{
    struct read_part *part = op->owner;
    struct read_op *read = part->read;
    struct slice got = buf_slice(&part->get.out);

    if (op->result < 0) {
        read->status = read->status ? read->status : op->result;
    } else if (!read->op.decided) {
        memcpy(read->bytes.data + part->out_offset, got.data, got.size);
    }
    buf_deinit(&part->get.out);
}

static void on_get_released(struct chunk_get *get)
{
    op_complete(&container_of(get, struct read_part, get)->read->op);
}

/* Fetches the part of an extent in [from, to) of the file. */
static void fetch(struct read_op *read, const struct meta_extent *extent, uint64_t from,
                  uint64_t to)
{
    struct read_part *part;

    if (extent->data.size != 0) { /* journalled: the bytes are here */
        memcpy(read->bytes.data + (from - read->call->offset),
               extent->data.data + (from - extent->offset), to - from);
        return;
    }
    part = mem_zalloc(sizeof(*part));

    part->read = read;
    part->out_offset = from - read->call->offset;
    part->get = (struct chunk_get){
        .id = {extent->chunk_session, extent->chunk_seq},
        .offset = extent->chunk_offset + (uint32_t)(from - extent->offset),
        .length = (uint32_t)(to - from),
        .timeout_ns = read->mount->config.soft_timeout_ns,
        .released = on_get_released,
    };
    part->get.op.done = on_got;
    part->get.op.owner = part;
    read->parts = mem_realloc(read->parts, (read->part_count + 1) * sizeof(struct read_part *));
    read->parts[read->part_count++] = part;
    read->op.inflight++;
    chunk_get_start(&part->get, &read->mount->chunks);
}

static void get_extents(struct read_op *read)
{
    const struct extent_map *map = &read->inode->extents;
    uint64_t offset = read->call->offset, end = end_of(read);

    for (size_t i = extent_map_find(map, offset); i < map->count; i++) {
        const struct meta_extent *extent = &map->extents[i];

        if (extent->offset >= end) {
            break;
        }
        fetch(read, extent, max_u64(extent->offset, offset),
              min_u64(extent->offset + extent->length, end));
    }
}

static void get_inline(struct read_op *read)
{
    const struct buf *data = &read->inode->inline_data;
    uint64_t offset = read->call->offset;

    if (offset < data->size) {
        memcpy(read->bytes.data, data->data + offset,
               min_u64(read->bytes.size, data->size - offset));
    }
}

static void get(struct read_op *read)
{
    memset(read->bytes.data, 0, read->bytes.size);
    if (read->inode->contents == CONTENTS_INLINE) {
        get_inline(read);
    } else {
        get_extents(read);
    }
}

static void free_parts(struct read_op *read)
{
    for (unsigned i = 0; i < read->part_count; i++) {
        mem_free(read->parts[i]);
    }
    mem_free(read->parts);
    read->parts = NULL;
    read->part_count = 0;
}

static void read_drained(struct op *op)
{
    struct read_op *read = container_of(op, struct read_op, op);
    struct inode *inode = read->inode;

    free_parts(read);
    buf_deinit(&read->bytes);
    inode->opens--;
    inode_release(read->mount, inode);
    mem_free(read);
}

static void cancel_parts(struct read_op *read)
{
    for (unsigned i = 0; i < read->part_count; i++) {
        chunk_get_cancel(&read->parts[i]->get);
    }
    if (read->learning) {
        meta_call_cancel(&read->mount->meta, &read->learn);
    }
}

static void finish(struct read_op *read, int status)
{
    struct fs_call *call = read->call;
    struct inode *inode = read->inode;

    if (status == 0) {
        dirty_overlay(&inode->flushing, call->offset, read->bytes.data, read->bytes.size);
        dirty_overlay(&inode->dirty, call->offset, read->bytes.data, read->bytes.size);
        call->out = buf_slice(&read->bytes);
        read->mount->counters.read_bytes += read->bytes.size;
    }
    call->active = NULL;
    op_finish(&read->op, status);
    fs_call_finish(call, status);
}

static bool is_gone(int status)
{
    return status == -ERR_NOT_FOUND;
}

static void read_step(struct op *op)
{
    struct read_op *read = container_of(op, struct read_op, op);

    if (read->call->cancelled) {
        cancel_parts(read);
        finish(read, -EINTR);
        return;
    }
    switch ((enum read_state)op->state) {
    case READ_LEARN:
        if (op->inflight > 0) {
            return;
        }
        if (read->status < 0) {
            finish(read, read->status);
            return;
        }
        if (!is_known(read)) {
            learn(read);
            return;
        }
        read->version = read->inode->version;
        op->state = READ_GET;
        get(read);
        op->woken = true;
        return;

    case READ_GET:
        if (op->inflight > 0) {
            return;
        }
        free_parts(read);
        op->state = READ_CHECK;
        op->woken = true;
        return;

    case READ_CHECK:
        if (is_gone(read->status) && read->refetches < REFETCHES_MAX) {
            read->refetches++;
            inode_forget_contents(read->inode);
        } else if (read->status < 0) {
            finish(read, read->status);
            return;
        }
        if (read->version == read->inode->version) {
            finish(read, 0);
            return;
        }
        read->mount->counters.read_retries++;
        read->version = read->inode->version;
        read->status = 0;
        op->state = READ_LEARN;
        op->woken = true;
        return;
    }
    UNREACHABLE();
}

static void begin(struct fs_call *call, struct inode *inode)
{
    struct read_op *read;
    uint64_t size = inode->attr.size;

    if (call->offset >= size || call->size == 0) {
        call->out = (struct slice){0};
        fs_call_finish(call, 0);
        return;
    }
    read = mem_zalloc(sizeof(*read));
    op_init(&read->op, &read_kind);
    read->call = call;
    read->inode = inode;
    read->mount = call->mount;
    read->version = inode->version;
    read->bytes.size = min_u64(call->size, size - call->offset);
    read->bytes.capacity = read->bytes.size;
    read->bytes.data = mem_alloc(read->bytes.size);
    inode->opens++;
    call->active = &read->op;
    if (dirty_covers(&inode->dirty, call->offset, read->bytes.size)) {
        op_init(&read->op, &read_kind);
        read->op.state = READ_CHECK;
    }
    op_wake(&read->op);
}

/* After written data was lost, where the file ends is for the service to say; or that it is gone.
 */
void read_start(struct fs_call *call, struct inode *inode)
{
    if (!call->attr_told && !inode->attr_known && call->offset + call->size > inode->attr.size) {
        fs_call_ask_attr(call);
        return;
    }
    begin(call, inode);
}
