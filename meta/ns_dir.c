#include "meta/ns_internal.h"

#include "base/assert.h"
#include "meta/inode_flags.h"

#define READDIR_BYTES KiB(96) /* of META_BODY_MAX (120 KiB): one collision group fits on top */

int name_check(struct slice name)
{
    if (name.size == 0) {
        return -ENOENT;
    }
    if (name.size > META_NAME_MAX) {
        return -ENAMETOOLONG;
    }
    if (memchr(name.data, '/', name.size) != NULL || memchr(name.data, 0, name.size) != NULL) {
        return -EINVAL;
    }
    if (slice_equal(name, slice_text(".")) || slice_equal(name, slice_text(".."))) {
        return -EINVAL;
    }
    return 0;
}

static uint64_t hash_of(const struct ns *ns, struct slice name)
{
    return record_name_hash((struct hash_key){ns->volume.salt0, ns->volume.salt1}, name);
}

/* The first entry of `dir` at or behind (hash, n). */
static bool next_dentry(struct ns *ns, uint64_t dir, uint64_t hash, uint8_t n,
                        struct dentry *out_dentry, struct record_dentry *out_record)
{
    struct record_key from = record_key_dentry(dir, hash, n);
    struct slice key, value;

    if (!kv_seek(ns->kv, record_slice(&from), &key, &value) ||
        !record_key_same_group(key, 'D', dir) || key.size != from.size ||
        record_dentry_decode(out_record, value) < 0) {
        return false;
    }
    *out_dentry = (struct dentry){.ino = out_record->ino,
                                  .type = out_record->type,
                                  .hash = record_key_number(key, 1),
                                  .n = key.data[key.size - 1]};
    return true;
}

int dentry_find(struct ns *ns, uint64_t dir, struct slice name, struct dentry *out_dentry)
{
    uint64_t hash = hash_of(ns, name);
    struct record_dentry record;
    struct dentry dentry;
    uint8_t n = 0;

    while (next_dentry(ns, dir, hash, n, &dentry, &record) && dentry.hash == hash) {
        if (slice_equal(record.name, name)) {
            *out_dentry = dentry;
            return 0;
        }
        n = (uint8_t)(dentry.n + 1);
    }
    return -ENOENT;
}

/* The first number that no name of this hash has. */
static unsigned free_number(struct ns *ns, uint64_t dir, uint64_t hash)
{
    struct record_dentry record;
    struct dentry dentry;
    uint8_t n = 0;

    while (next_dentry(ns, dir, hash, n, &dentry, &record) && dentry.hash == hash &&
           dentry.n == n) {
        n++;
    }
    return n;
}

int dentry_room(struct ns *ns, uint64_t dir, struct slice name)
{
    return free_number(ns, dir, hash_of(ns, name)) < META_COLLISIONS_MAX ? 0 : -ENOSPC;
}

static void put_dentry(struct ns *ns, struct record_key key, struct record_dentry record)
{
    buf_clear(&ns->scratch);
    record_dentry_encode(&record, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

void dentry_add(struct ns *ns, uint64_t dir, struct slice name, uint64_t ino, uint32_t type)
{
    uint64_t hash = hash_of(ns, name);
    unsigned n = free_number(ns, dir, hash);

    ASSERT(n < META_COLLISIONS_MAX);
    put_dentry(ns, record_key_dentry(dir, hash, (uint8_t)n),
               (struct record_dentry){.ino = ino, .type = type & S_IFMT, .name = name});
}

void dentry_remove(struct ns *ns, uint64_t dir, const struct dentry *dentry)
{
    struct record_key key = record_key_dentry(dir, dentry->hash, dentry->n);
    bool there = kv_del(ns->kv, record_slice(&key));

    ASSERT(there);
}

void dentry_retarget(struct ns *ns, uint64_t dir, struct slice name, const struct dentry *dentry,
                     uint64_t ino, uint32_t type)
{
    put_dentry(ns, record_key_dentry(dir, dentry->hash, dentry->n),
               (struct record_dentry){.ino = ino, .type = type & S_IFMT, .name = name});
}

bool dir_is_empty(struct ns *ns, uint64_t dir)
{
    struct record_dentry record;
    struct dentry dentry;

    return !next_dentry(ns, dir, 0, 0, &dentry, &record);
}

int may_change_dir(struct ns *ns, const struct inode *dir)
{
    if (dir->r.nlink == 0) {
        return -ENOENT;
    }
    return may_access(ns, dir, MAY_WRITE | MAY_EXEC);
}

int may_remove(const struct meta_request *request, const struct inode *dir,
               const struct inode *victim)
{
    bool sticky = (dir->r.mode & S_ISVTX) != 0 && (request->flags & META_SKIP_ACCESS) == 0;

    if (sticky && !is_owner(request, victim) && !is_owner(request, dir)) {
        return -EPERM;
    }
    return flags_allow_remove(dir, victim);
}

/* By its number alone, of any type: a file handle that the kernel was given. */
static int lookup_self(struct ns *ns)
{
    struct inode inode = {0};
    int r = inode_get(ns, ns->request->ino, &inode);

    if (r == 0 && inode.r.nlink == 0) {
        r = -ESTALE; /* who has it open, knows it still */
    }
    if (r == 0 && S_ISDIR(inode.r.mode)) {
        r = may_access(ns, &inode, MAY_EXEC);
    }
    if (r == 0) {
        reply_attr(ns, &inode);
    }
    return r;
}

int ns_lookup(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    struct inode dir = {0};
    struct inode child = {0};
    struct dentry dentry;
    int r;

    if (slice_equal(request->name, slice_text("."))) {
        return lookup_self(ns);
    }
    r = inode_get_dir(ns, request->ino, &dir);
    if (r < 0) {
        return r;
    }
    r = may_access(ns, &dir, MAY_EXEC);
    if (r < 0) {
        return r;
    }
    if (slice_equal(request->name, slice_text(".."))) {
        dentry.ino = dir.r.parent;
    } else {
        r = name_check(request->name);
        if (r == 0) {
            r = dentry_find(ns, request->ino, request->name, &dentry);
        }
        if (r < 0) {
            return r;
        }
    }
    r = inode_get(ns, dentry.ino, &child);
    if (r < 0) {
        return r;
    }
    reply_attr(ns, &child);
    if ((request->flags & META_WANT_DATA) != 0) {
        reply_data(ns, &child, 0, 0, META_LOOKUP_EXTENTS);
    }
    return 0;
}

int ns_getattr(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    struct inode inode = {0};
    unsigned mask = 0;
    int r;

    r = inode_get(ns, request->ino, &inode);
    if (r < 0) {
        return r;
    }
    mask |= (request->flags & META_OPEN_READ) != 0 ? MAY_READ : 0;
    mask |= (request->flags & META_OPEN_WRITE) != 0 ? MAY_WRITE : 0;
    mask |= (request->flags & META_OPEN_EXEC) != 0 ? MAY_EXEC : 0;
    if ((mask & MAY_WRITE) != 0 && S_ISDIR(inode.r.mode)) {
        return -EISDIR;
    }
    r = may_access(ns, &inode, mask);
    if (r == 0) {
        r = inode_flags_open(inode.r.flags, request->flags);
    }
    if (r < 0) {
        return r;
    }
    reply_attr(ns, &inode);
    if ((request->flags & META_WANT_DATA) != 0) {
        reply_data(ns, &inode, 0, 0, META_LOOKUP_EXTENTS);
    }
    return 0;
}

int ns_readlink(struct ns *ns)
{
    struct inode inode = {0};
    int r;

    r = inode_get(ns, ns->request->ino, &inode);
    if (r < 0) {
        return r;
    }
    if (!S_ISLNK(inode.r.mode)) {
        return -EINVAL;
    }
    reply_attr(ns, &inode);
    buf_append_slice(&ns->data, inode.r.content);
    return 0;
}

/* Appends one entry; `attrs`: also what its inode says. */
static void add_entry(struct ns *ns, const struct dentry *dentry, struct buf *name, bool attrs)
{
    struct inode inode = {0};
    struct meta_dirent entry = {
        .ino = dentry->ino, .cookie = dentry->hash, .mode = dentry->type, .name = buf_slice(name)};

    buf_clear(&ns->attr);
    if (attrs && inode_get(ns, dentry->ino, &inode) == 0) {
        attr_encode(&inode, &ns->attr);
        entry.attr = buf_slice(&ns->attr);
    }
    buf_clear(&ns->scratch);
    meta_dirent_encode(&entry, &ns->scratch);
    schema_write_bytes(&ns->data, buf_slice(&ns->scratch));
}

int ns_readdir(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    struct inode dir = {0};
    cleanup(buf_deinit) struct buf name = {0};
    unsigned max =
        request->count > 0 && request->count < META_READDIR_MAX ? request->count : META_READDIR_MAX;
    struct record_dentry record;
    struct dentry dentry = {.hash = request->offset, .n = UINT8_MAX};
    unsigned count = 0;
    int r;

    r = inode_get_dir(ns, request->ino, &dir);
    if (r < 0) {
        return r;
    }
    for (;;) {
        uint64_t last = dentry.hash;

        /* n stays below META_COLLISIONS_MAX, so UINT8_MAX is behind the whole group. */
        if (!next_dentry(ns, request->ino, dentry.hash, dentry.n, &dentry, &record)) {
            ns->reply.value = 1;
            break;
        }
        if (dentry.hash != last && (count >= max || ns->data.size >= READDIR_BYTES)) {
            break; /* never inside a group: the cookie could not tell where to go on */
        }
        buf_clear(&name);
        buf_append_slice(&name, record.name);
        add_entry(ns, &dentry, &name, (request->flags & META_WANT_ATTRS) != 0);
        dentry.n++;
        count++;
    }
    reply_attr(ns, &dir);
    return 0;
}

int ns_statfs(struct ns *ns)
{
    struct meta_statfs record = {.used_bytes = ns->volume.used_bytes, .inodes = ns->volume.inodes};

    meta_statfs_encode(&record, &ns->data);
    return 0;
}
