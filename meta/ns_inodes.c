/*
 * INODES: the files with numbers in a range, with their contents, for a mount that reads ahead.
 * Files that were made one after the other have numbers one after the other, and are mostly read
 * so too.
 */
#include "meta/ns_internal.h"

/* Of META_BODY_MAX (120 KiB): one file more fits on top. */
#define INODES_BYTES KiB(96)
/* More (data carried in them) is left to those who ask for the file. */
#define FILE_EXTENTS KiB(16)

/* The first inode in [from, to); false when there is none. */
static bool next_inode(struct ns *ns, uint64_t from, uint64_t to, struct inode *out_inode)
{
    struct record_key at = record_key_inode(from);
    struct slice key, value;

    if (!kv_seek(ns->kv, record_slice(&at), &key, &value) || !record_key_is(key, 'I') ||
        record_key_number(key, 0) >= to) {
        return false;
    }
    out_inode->ino = record_key_number(key, 0);
    return record_inode_decode(&out_inode->r, arena_copy(&ns->arena, value)) == 0;
}

/* With its attributes, as GETATTR with META_WANT_DATA gives it. */
static void add_file(struct ns *ns, const struct inode *inode, struct buf *records)
{
    cleanup(buf_deinit) struct buf record = {0};
    struct meta_file file;

    buf_clear(&ns->data);
    buf_clear(&ns->extents);
    buf_clear(&ns->attr);
    ns->reply.flags = 0;
    reply_data(ns, inode, 0, 0, META_LOOKUP_EXTENTS);
    if (ns->extents.size > FILE_EXTENTS) {
        return;
    }
    attr_encode(inode, &ns->attr);
    file = (struct meta_file){
        .attr = buf_slice(&ns->attr),
        .is_inline = (ns->reply.flags & META_DATA_INLINE) != 0,
        .inline_data = buf_slice(&ns->data),
        .extents = buf_slice(&ns->extents),
        .extents_to = ns->reply.value,
    };
    meta_file_encode(&file, &record);
    schema_write_bytes(records, buf_slice(&record));
}

int ns_inodes(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    struct inode inode = {0};
    cleanup(buf_deinit) struct buf records = {0};
    uint64_t next = request->ino;

    for (unsigned seen = 0; seen < META_INODES_SEEN && records.size < INODES_BYTES; seen++) {
        if (!next_inode(ns, next, request->ino2, &inode)) {
            next = request->ino2;
            break;
        }
        next = inode.ino + 1;
        if (S_ISREG(inode.r.mode) && inode.r.nlink > 0) {
            add_file(ns, &inode, &records);
        }
    }
    buf_clear(&ns->attr);
    buf_clear(&ns->data);
    buf_clear(&ns->extents);
    buf_append_slice(&ns->data, buf_slice(&records));
    ns->reply.flags = 0;
    ns->reply.value = next;
    return 0;
}
