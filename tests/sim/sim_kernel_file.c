/*
 * Contents: a page cache that is written through. A READ locks its folios until it is answered; an
 * open that may not keep pages waits for them. i_size is that of the attributes.
 */
#include "tests/sim/sim_kernel_internal.h"

#include "base/assert.h"
#include "base/mem.h"
#include "fs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#define READ_PAGES       32       /* of one READ */
#define KERNEL_LARGEFILE 0100000U /* the kernel adds it to what a program opens */

static uint8_t *page_at(const struct knode *node, uint64_t number)
{
    return map_get(&node->pages, map_u64(number));
}

void pages_drop(struct knode *node, uint64_t from)
{
    struct map kept = {0};
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&node->pages, &at)) != NULL) {
        if (slot->key.lo < from) {
            map_put(&kept, slot->key, slot->value);
        } else {
            mem_free(slot->value);
        }
    }
    map_deinit(&node->pages);
    node->pages = kept;
}

/* Who wants a folio waits for a READ that has it. */
static void wait_for_reads(const struct knode *node)
{
    while (node->reading > 0) {
        process_wait_until(sim_now(world->sim) + NS_PER_MS / 4);
    }
}

void pages_invalidate(struct knode *node)
{
    wait_for_reads(node);
    pages_drop(node, 0);
}

static void page_put(struct knode *node, uint64_t number, const uint8_t *bytes, size_t size)
{
    uint8_t *page = mem_zalloc(PAGE);

    if (size > 0) {
        memcpy(page, bytes, size);
    }
    mem_free(map_put(&node->pages, map_u64(number), page));
}

void pages_store(struct knode *node, struct slice contents)
{
    if (node->reading > 0 || node->writing > 0) {
        violation("deadlock: the mount puts pages of inode %" PRIu64
                  " while a request that waits for it has them locked",
                  node->ino);
    }
    world->counts.pushed_pages++;
    for (uint64_t at = 0; at < contents.size; at += PAGE) {
        page_put(node, at / PAGE, contents.data + at, min_u64(PAGE, contents.size - at));
    }
}

/* What was written here goes into pages that are up to date; others stay out. */
static void pages_write(struct knode *node, uint64_t offset, const uint8_t *bytes, uint64_t size)
{
    for (uint64_t at = 0; at < size;) {
        uint64_t in_page = (offset + at) % PAGE;
        uint64_t part = min_u64(PAGE - in_page, size - at);
        uint8_t *page = page_at(node, (offset + at) / PAGE);

        if (page != NULL) {
            memcpy(page + in_page, bytes + at, part);
        } else if (part == PAGE) {
            page_put(node, (offset + at) / PAGE, bytes + at, PAGE);
        }
        at += part;
    }
}

static void pages_truncate(struct knode *node, uint64_t size)
{
    uint8_t *page = page_at(node, size / PAGE);

    pages_drop(node, (size + PAGE - 1) / PAGE);
    if (page != NULL && size % PAGE != 0) {
        memset(page + size % PAGE, 0, PAGE - size % PAGE);
    }
}

/* ---- open, close ---- */

static int open_known(struct kernel *kernel, struct knode *node, uint32_t flags)
{
    struct waiting waiting = {
        .call = {.op = FS_OPEN,
                 .ino = node->ino,
                 .open_flags = (flags & (O_ACCMODE | O_TRUNC)) | KERNEL_LARGEFILE}};
    bool truncates = (flags & O_TRUNC) != 0;
    int r;

    if (truncates) {
        model_log_plain(&world->model, node->ino);
        node_lock(node);
        data_change_begin(kernel->client, node->ino);
        data_truncated(kernel->client, node->ino, 0); /* it may have happened from now on */
    }
    r = ask(&waiting, kernel);
    if (r == 0 && truncates) {
        wait_for_reads(node);
        pages_truncate(node, 0);
    }
    if (r == 0) {
        node_forget_attr(kernel, node);
    }
    if (truncates) {
        data_unsure(kernel->client, node->ino, r);
        data_change_end(kernel->client, node->ino);
        node_unlock(node);
    }
    if (r == 0 && !waiting.call.keep_cache) {
        pages_invalidate(node);
    }
    buf_deinit(&waiting.out);
    return r;
}

int k_open(struct kernel *kernel, struct knode *dir, const char *name, uint32_t flags,
           struct kfile *out_file)
{
    uint64_t floor = witness_floor();
    struct knode *node = NULL;
    int r = k_lookup(kernel, dir, name, &node);

    if (r == -ENOENT && (flags & O_CREAT)) {
        r = create_known(kernel, dir, name, flags, &node);
    } else if (r == 0 && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
        r = -EEXIST;
    } else if (r == 0) {
        r = S_ISREG(node->mode)   ? open_known(kernel, node, flags)
            : S_ISDIR(node->mode) ? -EISDIR
                                  : -ELOOP;
    }
    if (r == 0) {
        node->opens++;
        *out_file = open_file(kernel, node, (flags & O_ACCMODE) != O_RDONLY, floor);
    } else if (node != NULL) {
        k_put(kernel, node);
    }
    return r;
}

int k_close(struct kernel *kernel, struct kfile *file)
{
    int r = flush_file(kernel, file);

    data_error(kernel->client, file->node->ino, r);
    release_file(kernel, file);
    file->node->opens--;
    k_put(kernel, file->node);
    file->node = NULL;
    return r;
}

/* ---- write ---- */

int write_part(struct kernel *kernel, struct knode *node, uint64_t offset, struct slice bytes,
               bool append)
{
    struct waiting waiting = {
        .call = {
            .op = FS_WRITE, .ino = node->ino, .offset = offset, .append = append, .data = bytes}};
    int r;

    pages_drop_due(kernel, node);
    wait_for_reads(node);
    node->writing++;
    r = ask(&waiting, kernel);
    node->writing--;
    if (r == 0) {
        pages_write(node, offset, bytes.data, bytes.size);
        node->attr.size = max_u64(node->attr.size, offset + bytes.size);
        node->attr_version = ++kernel->version;
    }
    if (r == 0 && waiting.call.moved) { /* the bridge has it dropped behind the answer */
        world->counts.appends_moved++;
        pages_drop_later(node);
    }
    buf_deinit(&waiting.out);
    return r;
}

static int write_file(struct kernel *kernel, struct kfile *file, uint64_t offset, uint64_t size,
                      uint64_t *guarded_tag)
{
    struct client *client = kernel->client;
    struct knode *node = file->node;
    uint8_t *bytes = mem_alloc(size);
    uint64_t tag;
    int r = 0;

    model_log_plain(&world->model, node->ino);
    node_lock(node);
    tag = data_next_tag(client); /* tags are in the order of writes, appends among them */
    if (guarded_tag != NULL) {
        *guarded_tag = tag;
        guarded_writing(node->ino, offset / SIM_CELL, tag);
    }
    model_fill(bytes, size, tag);
    appends_lost(client, node->ino);
    data_change_begin(client, node->ino);
    for (uint64_t at = 0; r == 0 && at < size; at += MiB(1)) {
        uint64_t part = min_u64(size - at, MiB(1));

        r = write_part(kernel, node, offset + at, slice_make(bytes + at, part),
                       /* append= */ false);
        if (r == 0) {
            data_wrote(client, node->ino, offset + at, part, tag);
        }
    }
    data_error(client, node->ino, r);
    data_change_end(client, node->ino);
    node_unlock(node);
    mem_free(bytes);
    return r;
}

int k_write(struct kernel *kernel, struct kfile *file, uint64_t offset, uint64_t size)
{
    return write_file(kernel, file, offset, size, NULL);
}

int k_write_guarded(struct kernel *kernel, struct kfile *file, uint64_t cell, uint64_t *out_tag)
{
    *out_tag = 0;
    return write_file(kernel, file, cell * SIM_CELL, SIM_CELL, out_tag);
}

int k_truncate(struct kernel *kernel, struct knode *node, uint64_t size)
{
    struct waiting waiting = {
        .call = {
            .op = FS_SETATTR, .ino = node->ino, .valid = META_SET_SIZE, .set = {.size = size}}};
    int r;

    model_log_plain(&world->model, node->ino);
    node_lock(node);
    data_change_begin(kernel->client, node->ino);
    data_truncated(kernel->client, node->ino, size); /* it may have happened from now on */
    r = ask(&waiting, kernel);
    wait_for_reads(node);
    if (r == 0) {
        node->attr_version = ++kernel->version;
        node->attr = waiting.call.attr;
        node->attr_until_ns = kernel_now(kernel) + waiting.timeout_ns;
        pages_truncate(node, size);
    } else {
        node_forget_attr(kernel, node);
        pages_invalidate(node);
    }
    data_unsure(kernel->client, node->ino, r);
    data_change_end(kernel->client, node->ino);
    node_unlock(node);
    buf_deinit(&waiting.out);
    return r;
}

/* ---- read ---- */

/* Fills the run of missing pages that begins at `number`, at most up to `last`. */
static int fill_pages(struct kernel *kernel, struct knode *node, uint64_t number, uint64_t last)
{
    struct waiting waiting = {.call = {.op = FS_READ, .ino = node->ino, .offset = number * PAGE}};
    uint64_t count = 1;
    int r;

    while (number + count <= last && count < READ_PAGES && page_at(node, number + count) == NULL) {
        count++;
    }
    waiting.call.size = count * PAGE;
    while (node->writing > 0) {
        process_wait_until(sim_now(world->sim) + NS_PER_MS / 4);
    }
    node->reading++;
    r = ask(&waiting, kernel);
    for (uint64_t i = 0; r == 0 && i < count; i++) {
        uint64_t at = i * PAGE;
        uint64_t got = waiting.out.size > at ? min_u64(PAGE, waiting.out.size - at) : 0;

        if (page_at(node, number + i) == NULL) {
            page_put(node, number + i, waiting.out.data + at, got);
        }
    }
    node->reading--;
    buf_deinit(&waiting.out);
    return r;
}

static int read_pages(struct kernel *kernel, struct knode *node, uint64_t offset, uint64_t end,
                      struct buf *out)
{
    for (uint64_t at = offset; at < end;) {
        uint64_t number = at / PAGE;
        uint64_t part = min_u64(PAGE - at % PAGE, end - at);
        const uint8_t *page;
        int r;

        pages_drop_due(kernel, node);
        page = page_at(node, number);
        if (page == NULL) {
            r = fill_pages(kernel, node, number, (end - 1) / PAGE);
            if (r < 0) {
                return r;
            }
            continue; /* it may be gone again */
        }
        buf_append(out, page + at % PAGE, part);
        at += part;
    }
    return 0;
}

int64_t k_read(struct kernel *kernel, struct kfile *file, uint64_t offset, uint64_t size,
               struct buf *out_bytes)
{
    struct knode *node = file->node;
    struct data_read read = data_read_begin(kernel->client, node->ino, file->floor);
    cleanup(buf_deinit) struct buf bytes = {0};
    struct meta_attr attr;
    int r = 0;

    pages_drop_due(kernel, node);
    if (offset + size > node->attr.size || node->attr.ino == 0) {
        r = k_stat(kernel, node, &attr);
    }
    if (r == 0 && offset < node->attr.size) {
        r = read_pages(kernel, node, offset, min_u64(offset + size, node->attr.size), &bytes);
    }
    if (r == 0) {
        data_read_end(kernel->client, &read, offset, buf_slice(&bytes));
    } else if (r == -EIO && !locks_may_be_lost(kernel->client, node->ino)) {
        /* of two durable copies one is good: a mount waits for it */
        violation("durable: inode %" PRIu64 " cannot be read at %" PRIu64 "+%" PRIu64, node->ino,
                  offset, size);
    }
    if (r == 0 && out_bytes != NULL) {
        buf_append_slice(out_bytes, buf_slice(&bytes));
    }
    return r < 0 ? r : (int64_t)bytes.size;
}

int k_fsync(struct kernel *kernel, struct knode *node)
{
    struct data_mark *mark = data_sync_begin(kernel->client, node->ino);
    struct waiting waiting = {.call = {.op = FS_FSYNC, .ino = node->ino}};
    int r = ask(&waiting, kernel);

    pages_drop_told(&waiting);
    data_sync_end(kernel->client, mark, r);
    buf_deinit(&waiting.out);
    return r;
}
