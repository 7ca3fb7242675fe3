/*
 * A reply is taken in like one to a question of the kernel. It can be older than a change of this
 * mount only while that change is unanswered (requests and answers of one connection keep their
 * order, a new leader is asked again), and until then the inode is there and knows better: it is
 * looked up by the kernel, pending, or has operations in flight.
 */
#include "fs/ahead.h"

#include "base/mem.h"
#include "fs/coherence.h"
#include "fs/limits.h"
#include "fs/local.h"
#include "fs/mount.h"

#include <errno.h>

/* A batch of names or of contents, on its way. */
struct ahead_op {
    struct meta_call call;
    struct mount *mount;
    uint64_t epoch;  /* the period of being alone in which it was sent */
    unsigned stream; /* contents: to be told at the end */
};

static struct ahead_op *start(struct mount *mount, const struct meta_request *request,
                              void (*done)(struct meta_call *call))
{
    struct ahead_op *op = mem_zalloc(sizeof(*op));

    op->call = (struct meta_call){.request = *request, .done = done};
    op->mount = mount;
    op->epoch = coherence_epoch(mount);
    mount->ahead.in_flight++;
    meta_call_start(&mount->meta, &op->call);
    return op;
}

static bool may_start(const struct mount *mount)
{
    return coherence_epoch(mount) != 0 && !mount->closing &&
           mount->ahead.in_flight < FS_AHEAD_FLIGHTS_MAX;
}

static bool is_good(const struct ahead_op *op)
{
    return op->call.status == 0 && coherence_epoch(op->mount) == op->epoch &&
           local_is_sure(op->mount);
}

static void finish(struct ahead_op *op)
{
    op->mount->ahead.in_flight--;
    mem_free(op);
}

/* ---- inodes ---- */

static void keep(struct mount *mount, struct inode *inode)
{
    struct ahead *ahead = &mount->ahead;

    if (inode->lookups != 0 || list_linked(&inode->ahead_node)) {
        return;
    }
    list_push_front(&ahead->inodes, &inode->ahead_node);
    ahead->inode_count++;
    while (ahead->inode_count > FS_AHEAD_INODES) {
        struct inode *last = container_of(list_last(&ahead->inodes), struct inode, ahead_node);

        inode_unkeep(mount, last);
        inode_release(mount, last);
    }
}

/* NULL when the record is damaged. *out_change: the state that the reply speaks of. */
static struct inode *take_attr(struct mount *mount, struct slice bytes, uint64_t *out_change)
{
    struct meta_attr attr;
    struct inode *inode;

    if (meta_attr_decode(&attr, bytes) < 0 || attr.ino == 0) {
        return NULL;
    }
    inode = inode_make(mount, attr.ino);
    *out_change = attr.change;
    inode_update(mount, inode, &attr, false);
    keep(mount, inode);
    return inode;
}

/* ---- names ---- */

static void fetch_names(struct mount *mount, struct inode *dir);

static void take_entries(struct mount *mount, struct slice records)
{
    struct schema_reader reader = schema_reader_make(records);
    uint64_t change;

    while (reader.at != reader.end) {
        struct slice record = schema_read_bytes(&reader, META_BODY_MAX);
        struct meta_dirent dirent;

        if (reader.failed || meta_dirent_decode(&dirent, record) < 0) {
            return;
        }
        if (dirent.attr.size != 0) {
            take_attr(mount, dirent.attr, &change);
        }
    }
}

/* There are too many, or some have changed and all must be read again: patience grows. */
static void names_failed(struct inode *dir)
{
    dir->ahead_lookups = 0;
    dir->ahead_begun = false;
    if (dir->names.count >= FS_NAMES_MAX || dir->ahead_failures == FS_AHEAD_FAILURES_MAX) {
        dir->ahead_off = true;
    } else {
        dir->ahead_failures++;
    }
}

static void on_entries(struct meta_call *call)
{
    struct ahead_op *op = container_of(call, struct ahead_op, call);
    struct mount *mount = op->mount;
    struct inode *dir = inode_find(mount, call->request.ino);
    uint64_t offset = call->request.offset;

    if (dir != NULL) {
        dir->ahead_busy = false;
    }
    if (dir != NULL && is_good(op)) {
        if (local_names_next(dir) != offset) {
            names_failed(dir);
        } else {
            local_note_entries(mount, dir, offset, call->reply.data, call->reply.value == 1);
        }
        take_entries(mount, call->reply.data);
        dir = inode_find(mount, call->request.ino); /* what came may have pushed it out */
        if (dir != NULL) {
            fetch_names(mount, dir);
        }
    } else if (dir != NULL) {
        names_failed(dir);
    }
    finish(op);
}

static void fetch_names(struct mount *mount, struct inode *dir)
{
    uint64_t next = local_names_next(dir), have = next != 0 ? dir->names.count : 0;
    uint64_t want = (uint64_t)dir->ahead_lookups * FS_AHEAD_NAMES_EACH;

    if (dir->names.complete || dir->ahead_busy || dir->ahead_off || have >= want ||
        dir->ahead_lookups < FS_AHEAD_LOOKUPS << dir->ahead_failures || !may_start(mount)) {
        return;
    }
    if (have >= FS_NAMES_MAX || (next == 0 && dir->ahead_begun)) {
        names_failed(dir);
        return;
    }
    dir->ahead_begun = dir->ahead_busy = true;
    start(mount,
          &(struct meta_request){
              .op = META_READDIR,
              .ino = dir->ino,
              .offset = next,
              .count = (uint32_t)min_u64(want - have, META_READDIR_MAX),
              .flags = have < FS_AHEAD_INODES ? META_WANT_ATTRS : 0,
          },
          on_entries);
}

void ahead_lookup(struct mount *mount, struct inode *dir)
{
    if (!dir->names.complete && dir->ahead_lookups < FS_NAMES_MAX) {
        dir->ahead_lookups++;
        fetch_names(mount, dir);
    }
}

/* ---- contents ---- */

static void take_file(struct mount *mount, const struct meta_file *file)
{
    struct meta_reply contents = {
        .flags = file->is_inline ? META_DATA_INLINE : 0,
        .data = file->inline_data,
        .extents = file->extents,
        .value = file->extents_to,
    };
    uint64_t change;
    struct inode *inode = take_attr(mount, file->attr, &change);

    if (inode == NULL || inode->contents != CONTENTS_UNKNOWN || inode_pending(inode) ||
        inode->truncating || inode->attr.change != change) {
        return;
    }
    if (inode_take_contents(mount, inode, &contents, 0) < 0) {
        inode_forget_contents(inode);
    }
    inode->fetched = inode->contents != CONTENTS_UNKNOWN;
}

static void take_files(struct mount *mount, struct slice records)
{
    struct schema_reader reader = schema_reader_make(records);

    while (reader.at != reader.end) {
        struct slice record = schema_read_bytes(&reader, META_BODY_MAX);
        struct meta_file file;

        if (reader.failed || meta_file_decode(&file, record) < 0) {
            return;
        }
        take_file(mount, &file);
    }
}

static void fetch_contents(struct mount *mount, const struct stream_range *range);

static void on_contents(struct meta_call *call)
{
    struct ahead_op *op = container_of(call, struct ahead_op, call);
    struct mount *mount = op->mount;
    struct stream_range rest = {op->stream, call->reply.value, call->request.ino2};

    mount->ahead.no_contents |= call->status == -EINVAL;
    if (is_good(op)) {
        take_files(mount, call->reply.data);
    }
    if (is_good(op) && may_start(mount) && rest.from > call->request.ino && rest.from < rest.to) {
        fetch_contents(mount, &rest);
    } else {
        streams_done(&mount->ahead.streams, op->stream);
    }
    finish(op);
}

static void fetch_contents(struct mount *mount, const struct stream_range *range)
{
    struct ahead_op *op = start(
        mount, &(struct meta_request){.op = META_INODES, .ino = range->from, .ino2 = range->to},
        on_contents);

    op->stream = range->stream;
}

void ahead_open(struct mount *mount, struct inode *inode)
{
    bool known = inode->contents != CONTENTS_UNKNOWN;
    struct stream_range range;

    if ((known && !inode->fetched) || mount->ahead.no_contents || !may_start(mount)) {
        return;
    }
    inode->fetched = false;
    if (streams_note(&mount->ahead.streams, inode->ino, known, &range)) {
        fetch_contents(mount, &range);
    }
}

void ahead_forget_all(struct mount *mount)
{
    struct ahead *ahead = &mount->ahead;

    while (!list_empty(&ahead->inodes)) {
        struct inode *inode = container_of(list_last(&ahead->inodes), struct inode, ahead_node);

        inode_unkeep(mount, inode);
        inode_release(mount, inode);
    }
}

void ahead_init(struct mount *mount)
{
    list_init(&mount->ahead.inodes);
}
