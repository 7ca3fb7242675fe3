/*
 * store_group: group commit. Everything that waits in the queue when a group starts is written and
 * synced as one; what arrives meanwhile is the next group.
 *
 *     OPEN -> HEAD -> DIRECTORY  (only when a segment is full: make the next one durable first)
 *       ^         |
 *       +---------+-> WRITE -> (all durable) -> APPLY -> answer
 *
 * Records of class S are gathered in one buffer; those of class L are written from where they are.
 * A write that fails leaves nothing behind: the file is cut to its durable end before the next one.
 */
#include "base/assert.h"
#include "base/buggify.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

enum {
    GROUP_OPEN,
    GROUP_CREATED,
    GROUP_HEAD,
    GROUP_DIRECTORY,
    GROUP_BUILD,
    GROUP_WRITE,
    GROUP_REPAIR
};
static const char *const group_states[] = {"OPEN",  "CREATED", "HEAD",  "DIRECTORY",
                                           "BUILD", "WRITE",   "REPAIR"};

static void on_io(struct env_io *io)
{
    op_complete(io->data);
}

static void submit(struct chunk_store *store, struct env_io *io)
{
    io->done = on_io;
    io->data = &store->group.op;
    store->group.op.inflight++;
    env_io(store->env, io);
}

static enum segment_class item_class(const struct store_item *item)
{
    return record_class((uint32_t)item->data.size);
}

static uint64_t item_bytes(const struct store_item *item)
{
    return record_bytes(item_class(item), (uint32_t)item->crcs.size, (uint32_t)item->data.size);
}

/* Takes items from the queue, within the limits of one group. */
static void gather(struct chunk_store *store)
{
    struct store_group *group = &store->group;
    struct list_node *node;
    uint64_t bytes = 0;
    unsigned large = 0;

    while ((node = list_first(&store->queue)) != NULL && group->count < STORE_GROUP_ITEMS) {
        if (group->count > 0 && BUGGIFY(store->env, 20)) {
            break;
        }
        struct store_item *item = list_entry(node, struct store_item, node);
        enum segment_class class = item_class(item);

        if (group->count > 0 &&
            (bytes + item_bytes(item) > STORE_GROUP_BYTES || large + 1 > STORE_GROUP_LARGE_MAX)) {
            break;
        }
        bytes += item_bytes(item);
        large += class == SEGMENT_LARGE;
        group->files[class].bytes += item_bytes(item);
        group->count++;
        list_remove(node);
        store->queue_count--;
        list_push_back(&group->items, node);
    }
}

/* The class whose open segment is missing or full, or SEGMENT_CLASSES. */
static unsigned class_to_open(const struct chunk_store *store)
{
    for (unsigned class = 0; class < SEGMENT_CLASSES; class ++) {
        if (store->group.files[class].bytes > 0 &&
            (store->open[class] == NULL ||
             store->open[class]->end >= store->settings.segment_bytes)) {
            return class;
        }
    }
    return SEGMENT_CLASSES;
}

static void fail_group(struct chunk_store *store, int result)
{
    struct list_node *node;

    store_failed(store, result);
    while ((node = list_pop_front(&store->group.items)) != NULL) {
        struct store_item *item = list_entry(node, struct store_item, node);

        item->result = result;
        op_complete(item->op);
    }
}

static void create_segment(struct chunk_store *store, unsigned class)
{
    struct store_group *group = &store->group;

    group->class = class;
    group->path = segment_path(store, store->next_segment);
    group->io = (struct env_io){
        .type = ENV_IO_OPEN, .path = group->path, .flags = ENV_OPEN_CREATE | ENV_OPEN_EXCLUSIVE};
    submit(store, &group->io);
}

static void write_segment_head(struct chunk_store *store)
{
    struct store_group *group = &store->group;
    struct segment_head head = {store->next_segment, group->class, env_random(store->env)};

    store->next_segment++;
    group->fresh = segment_add(store, &head);
    group->fresh->file = group->io.file;
    group->head = mem_alloc(SEGMENT_HEAD_BYTES);
    segment_head_encode(&head, group->head);
    group->io_iov = (struct iovec){group->head, SEGMENT_HEAD_BYTES};
    group->io = (struct env_io){
        .type = ENV_IO_WRITE, .file = group->fresh->file, .iov = &group->io_iov, .iov_count = 1};
    submit(store, &group->io);
    group->files[group->class].sync =
        (struct env_io){.type = ENV_IO_SYNC, .file = group->fresh->file};
    submit(store, &group->files[group->class].sync);
}

static void put_slice(struct iovec *iov, struct slice bytes)
{
    *iov = (struct iovec){(void *)(uintptr_t)bytes.data, bytes.size};
}

/* Lays one record out at the end of its file. Scratch never moves: it was reserved as a whole. */
static void build_record(struct chunk_store *store, struct store_item *item)
{
    static const uint8_t zeros[RECORD_ALIGN_LARGE];
    enum segment_class class = item_class(item);
    struct store_group_file *file = &store->group.files[class];
    struct segment *segment = file->segment;
    uint64_t offset = segment->end + file->bytes;
    uint64_t size = item_bytes(item);
    size_t pad = (size_t)(size - RECORD_HEAD_BYTES - item->crcs.size - item->data.size);
    struct record_head head = {.lsn = ++store->totals.lsn,
                               .key = item->key,
                               .length = item->length,
                               .stored_length = (uint32_t)item->data.size,
                               .crcs_bytes = (uint32_t)item->crcs.size,
                               .flags = item->flags,
                               .type = item->type,
                               .synced = segment->end,
                               .server = store->config.server_id};
    uint8_t *at = file->scratch.data + file->scratch.size;

    if (item->crcs.size > 0) {
        memcpy(at + RECORD_HEAD_BYTES, item->crcs.data, item->crcs.size);
    }
    record_head_encode(&head, segment->salt, offset, at);
    file->scratch.size += RECORD_HEAD_BYTES + item->crcs.size;
    if (class == SEGMENT_SMALL) {
        buf_append_slice(&file->scratch, item->data);
        buf_append_zero(&file->scratch, pad);
        file->iov[0] = (struct iovec){file->scratch.data, file->scratch.size};
        file->iov_count = 1;
    } else {
        put_slice(&file->iov[file->iov_count++],
                  slice_make(at, RECORD_HEAD_BYTES + item->crcs.size));
        put_slice(&file->iov[file->iov_count++], item->data);
        if (pad > 0) {
            put_slice(&file->iov[file->iov_count++], slice_make(zeros, pad));
        }
    }
    file->bytes += size;
    item->entry = (struct index_entry){.key = item->key,
                                       .segment = item->type == RECORD_DELETE ? 0 : segment->id,
                                       .offset8 = (uint32_t)(offset / 8),
                                       .length = item->length,
                                       .stored_length = (uint32_t)item->data.size,
                                       .digest = crc32c(0, item->crcs),
                                       .flags = item->flags};
}

static void build(struct chunk_store *store)
{
    struct store_group *group = &store->group;

    for (unsigned class = 0; class < SEGMENT_CLASSES; class ++) {
        struct store_group_file *file = &group->files[class];
        uint64_t scratch = 0;
        size_t count = 0;

        if (file->bytes == 0) {
            continue;
        }
        list_for_each (node, &group->items) {
            struct store_item *item = list_entry(node, struct store_item, node);

            if (item_class(item) == class) {
                scratch +=
                    class == SEGMENT_SMALL ? item_bytes(item) : RECORD_HEAD_BYTES + item->crcs.size;
                count++;
            }
        }
        buf_reserve(&file->scratch, scratch);
        file->iov = mem_alloc((class == SEGMENT_SMALL ? 1 : count * 3) * sizeof(*file->iov));
        file->segment = store->open[class];
        file->bytes = 0;
    }
    list_for_each (item_node, &group->items) {
        build_record(store, list_entry(item_node, struct store_item, node));
    }
}

static void write_files(struct chunk_store *store)
{
    for (unsigned class = 0; class < SEGMENT_CLASSES; class ++) {
        struct store_group_file *file = &store->group.files[class];

        if (file->bytes == 0) {
            continue;
        }
        file->write = (struct env_io){.type = ENV_IO_WRITE,
                                      .file = file->segment->file,
                                      .iov = file->iov,
                                      .iov_count = file->iov_count,
                                      .offset = file->segment->end};
        submit(store, &file->write);
        file->sync = (struct env_io){.type = ENV_IO_SYNC, .file = file->segment->file};
        submit(store, &file->sync);
    }
}

static void check_sync(struct chunk_store *store, const struct env_io *sync, const char *what)
{
    if (sync->result < 0) {
        env_disk_failed(store->env, (int)sync->result, "chunk",
                        "sync failed, nothing is known to be durable %s dir=%s error=%s", what,
                        store->dir, err_name((int)sync->result));
    }
}

/* 0, or why a write failed. */
static int write_result(struct chunk_store *store)
{
    int r = 0;

    for (unsigned class = 0; class < SEGMENT_CLASSES; class ++) {
        struct store_group_file *file = &store->group.files[class];

        if (file->bytes > 0) {
            check_sync(store, &file->sync, "segment");
            if (file->write.result < 0) {
                r = (int)file->write.result;
            }
        }
    }
    return r;
}

static void cut_files(struct chunk_store *store)
{
    for (unsigned class = 0; class < SEGMENT_CLASSES; class ++) {
        struct store_group_file *file = &store->group.files[class];

        if (file->bytes > 0) {
            file->repair = (struct env_io){
                .type = ENV_IO_TRUNCATE, .file = file->segment->file, .size = file->segment->end};
            submit(store, &file->repair);
        }
    }
}

static void apply_group(struct chunk_store *store)
{
    struct list_node *node;

    store->groups++;
    for (unsigned class = 0; class < SEGMENT_CLASSES; class ++) {
        struct store_group_file *file = &store->group.files[class];

        if (file->bytes > 0) {
            file->segment->end += file->bytes;
            file->segment->sealed = file->segment->end >= store->settings.segment_bytes;
        }
    }
    list_for_each (item_node, &store->group.items) {
        struct store_item *item = list_entry(item_node, struct store_item, node);
        struct index_entry now = store_current(store, &item->key, &item->known);

        if (item->type == RECORD_MOVED && now.segment == item->known.segment &&
            now.offset8 == item->known.offset8) {
            store_apply(store, RECORD_MOVED, &item->entry, &now);
        } else if (item->type == RECORD_MOVED) { /* deleted or replaced meanwhile */
            store_add_dead(store, &item->entry);
        } else {
            store_apply(store, item->type, &item->entry, &now);
        }
        item->result = 0;
    }
    while ((node = list_pop_front(&store->group.items)) != NULL) {
        op_complete(list_entry(node, struct store_item, node)->op);
    }
}

static bool step_open(struct chunk_store *store, struct op *op)
{
    struct store_group *group = &store->group;
    unsigned class;

    switch (op->state) {
    case GROUP_OPEN:
        class = class_to_open(store);
        op->state = class == SEGMENT_CLASSES ? GROUP_BUILD : GROUP_CREATED;
        if (class != SEGMENT_CLASSES) {
            create_segment(store, class);
        }
        return true;
    case GROUP_CREATED:
        if (group->io.result < 0) {
            fail_group(store, (int)group->io.result);
            op_finish(op, (int)group->io.result);
            return false;
        }
        op->state = GROUP_HEAD;
        write_segment_head(store);
        return true;
    case GROUP_HEAD:
        check_sync(store, &group->files[group->class].sync, "segment head");
        mem_free(group->head);
        group->head = NULL;
        if (group->io.result < 0) {
            segment_doom(store, group->fresh);
            fail_group(store, (int)group->io.result);
            op_finish(op, (int)group->io.result);
            return false;
        }
        op->state = GROUP_DIRECTORY;
        group->io = (struct env_io){.type = ENV_IO_SYNC_DIR, .path = store->dir};
        submit(store, &group->io);
        return true;
    default:
        check_sync(store, &group->io, "directory");
        mem_free(group->path);
        group->path = NULL;
        group->fresh->end = SEGMENT_HEAD_BYTES;
        if (store->open[group->class] != NULL) {
            store->open[group->class]->sealed = true;
        }
        store->open[group->class] = group->fresh;
        op->state = GROUP_OPEN;
        return true;
    }
}

static void group_step(struct op *op)
{
    struct chunk_store *store =
        container_of(container_of(op, struct store_group, op), struct chunk_store, group);
    int r;

    while (op->inflight == 0) {
        if (op->state < GROUP_BUILD) {
            if (!step_open(store, op)) {
                return;
            }
            continue;
        }
        if (op->state == GROUP_BUILD) {
            op->state = GROUP_WRITE;
            build(store);
            write_files(store);
            continue;
        }
        if (op->state == GROUP_WRITE) {
            r = write_result(store);
            if (r == 0) {
                apply_group(store);
                op_finish(op, 0);
                return;
            }
            LOG_WARN(store->env, "chunk", "write failed, puts are refused dir=%s error=%s",
                     store->dir, err_name(r));
            store_failed(store, r);
            op->state = GROUP_REPAIR;
            op->result = r;
            cut_files(store);
            continue;
        }
        for (unsigned class = 0; class < SEGMENT_CLASSES; class ++) {
            if (store->group.files[class].bytes > 0 &&
                store->group.files[class].repair.result < 0) {
                env_disk_failed(store->env, (int)store->group.files[class].repair.result, "chunk",
                                "a failed write cannot be cut off dir=%s", store->dir);
            }
        }
        r = op->result;
        fail_group(store, r);
        op_finish(op, r);
        return;
    }
}

static void group_drained(struct op *op)
{
    struct chunk_store *store =
        container_of(container_of(op, struct store_group, op), struct chunk_store, group);

    for (unsigned class = 0; class < SEGMENT_CLASSES; class ++) {
        buf_deinit(&store->group.files[class].scratch);
        mem_free(store->group.files[class].iov);
    }
    mem_free(store->group.head);
    mem_free(store->group.path);
    store->group.active = false;
    store_job_kick(store);
    store_group_kick(store);
    store_released(store);
}

static const struct op_kind group_kind = {.name = "store_group",
                                          .states = group_states,
                                          .state_count = ARRAY_SIZE(group_states),
                                          .step = group_step,
                                          .drained = group_drained};

void store_group_kick(struct chunk_store *store)
{
    if (store->group.active || list_empty(&store->queue) || store_stalled(store)) {
        return;
    }
    store->group = (struct store_group){.active = true};
    op_init(&store->group.op, &group_kind);
    list_init(&store->group.items);
    gather(store);
    store->busy++;
    op_wake(&store->group.op);
}

void store_submit(struct chunk_store *store, struct store_item *item)
{
    item->op->inflight++;
    list_push_back(&store->queue, &item->node);
    store->queue_count++;
    store_group_kick(store);
}
