#include "meta/ns_internal.h"

#include "base/assert.h"

#define XATTR_LIST_MAX KiB(64) /* Linux: XATTR_LIST_MAX */

struct xattr {
    uint64_t hash;
    uint8_t n;
    struct slice name; /* both borrowed until the next kv call */
    struct slice value;
};

static bool next_xattr(struct ns *ns, uint64_t ino, uint64_t hash, uint8_t n,
                       struct xattr *out_xattr)
{
    struct record_key from = record_key_xattr(ino, hash, n);
    struct record_xattr record;
    struct slice key, value;

    if (!kv_seek(ns->kv, record_slice(&from), &key, &value) ||
        !record_key_same_group(key, 'X', ino) || key.size != from.size ||
        record_xattr_decode(&record, value) < 0) {
        return false;
    }
    *out_xattr = (struct xattr){.hash = record_key_number(key, 1),
                                .n = key.data[key.size - 1],
                                .name = record.name,
                                .value = record.value};
    return true;
}

/* *out_free: a number that no name of this hash has. */
static bool find_xattr(struct ns *ns, uint64_t ino, struct slice name, struct xattr *out_xattr,
                       unsigned *out_free)
{
    struct hash_key salt = {ns->volume.salt0, ns->volume.salt1};
    uint64_t hash = record_name_hash(salt, name);
    unsigned free_n = 0;
    unsigned n = 0;

    while (n < META_COLLISIONS_MAX && next_xattr(ns, ino, hash, (uint8_t)n, out_xattr) &&
           out_xattr->hash == hash) {
        if (slice_equal(out_xattr->name, name)) {
            return true;
        }
        free_n = out_xattr->n == free_n ? free_n + 1 : free_n;
        n = out_xattr->n + 1U;
    }
    out_xattr->hash = hash;
    *out_free = free_n;
    return false;
}

/* Linux's rules for the name spaces (xattr(7)). */
static int check_xattr(struct ns *ns, const struct inode *inode, bool write)
{
    const struct meta_request *request = ns->request;
    struct slice name = request->name;
    enum acl_kind kind;

    if (name.size == 0 || memchr(name.data, 0, name.size) != NULL) {
        return -ERANGE;
    }
    if (write && flags_allow_change(inode) < 0) {
        return -EPERM;
    }
    if (acl_is_name(name, &kind)) {
        return acl_check(ns, inode, kind, write);
    }
    if (slice_goes_on(name, "user.")) {
        if (!S_ISREG(inode->r.mode) && !S_ISDIR(inode->r.mode)) {
            return write ? -EPERM : -ENODATA;
        }
        if (write && S_ISDIR(inode->r.mode) && (inode->r.mode & S_ISVTX) != 0 &&
            !is_owner(request, inode)) {
            return -EPERM;
        }
        return may_access(ns, inode, write ? MAY_WRITE : MAY_READ);
    }
    if (slice_goes_on(name, "trusted.")) {
        return request->uid == 0 ? 0 : write ? -EPERM : -ENODATA;
    }
    if (slice_equal(name, slice_text("security.capability")) && request->op == META_REMOVEXATTR) {
        /* The kernel does that when anybody writes to the file; for others it is root's. */
        return may_access(ns, inode, MAY_WRITE);
    }
    if (slice_goes_on(name, "security.")) {
        return !write || request->uid == 0 ? 0 : -EPERM;
    }
    return -EOPNOTSUPP;
}

bool xattr_remove_named(struct ns *ns, uint64_t ino, struct slice name)
{
    struct record_key key;
    struct xattr xattr;
    unsigned n;

    if (!find_xattr(ns, ino, name, &xattr, &n)) {
        return false;
    }
    key = record_key_xattr(ino, xattr.hash, xattr.n);
    return kv_del(ns->kv, record_slice(&key));
}

bool xattr_find(struct ns *ns, uint64_t ino, struct slice name, struct slice *out_value)
{
    struct xattr xattr;
    unsigned n;

    if (!find_xattr(ns, ino, name, &xattr, &n)) {
        return false;
    }
    *out_value = xattr.value;
    return true;
}

static void put_xattr(struct ns *ns, uint64_t ino, struct slice name, struct slice value,
                      const struct xattr *at)
{
    struct record_xattr record = {.name = name, .value = value};
    struct record_key key = record_key_xattr(ino, at->hash, at->n);

    buf_clear(&ns->scratch);
    record_xattr_encode(&record, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

void xattr_put(struct ns *ns, uint64_t ino, struct slice name, struct slice value)
{
    struct xattr xattr;
    unsigned n = 0;

    if (!find_xattr(ns, ino, name, &xattr, &n)) {
        ASSERT(n < META_COLLISIONS_MAX);
        xattr.n = (uint8_t)n;
    }
    put_xattr(ns, ino, name, value, &xattr);
}

void xattrs_free(struct ns *ns, uint64_t ino)
{
    struct xattr xattr;

    while (next_xattr(ns, ino, 0, 0, &xattr)) {
        struct record_key key = record_key_xattr(ino, xattr.hash, xattr.n);

        kv_del(ns->kv, record_slice(&key));
    }
}

int ns_getxattr(struct ns *ns)
{
    struct inode inode = {0};
    struct xattr xattr;
    unsigned n;
    int r;

    r = inode_get(ns, ns->request->ino, &inode);
    if (r == 0) {
        r = check_xattr(ns, &inode, false);
    }
    if (r < 0) {
        return r;
    }
    if (!find_xattr(ns, inode.ino, ns->request->name, &xattr, &n)) {
        return -ENODATA;
    }
    buf_append_slice(&ns->data, xattr.value);
    return 0;
}

int ns_listxattr(struct ns *ns)
{
    struct inode inode = {0};
    struct xattr xattr = {0};
    unsigned n = 0;
    int r;

    r = inode_get(ns, ns->request->ino, &inode);
    if (r < 0) {
        return r;
    }
    while (next_xattr(ns, inode.ino, xattr.hash, (uint8_t)n, &xattr)) {
        if (ns->request->uid == 0 || !slice_goes_on(xattr.name, "trusted.")) {
            buf_append_slice(&ns->data, xattr.name);
            buf_append_zero(&ns->data, 1);
        }
        n = xattr.n + 1U;
    }
    return 0;
}

/* Bytes that LISTXATTR would return. */
static size_t list_size(struct ns *ns, uint64_t ino)
{
    struct xattr xattr = {0};
    size_t size = 0;
    unsigned n = 0;

    while (next_xattr(ns, ino, xattr.hash, (uint8_t)n, &xattr)) {
        size += xattr.name.size + 1;
        n = xattr.n + 1U;
    }
    return size;
}

/* Where the value goes; checks XATTR_CREATE, XATTR_REPLACE and the limits. */
static int find_place(struct ns *ns, const struct inode *inode, struct xattr *out_at)
{
    const struct meta_request *request = ns->request;
    unsigned n = 0;

    if (request->data.size > META_XATTR_VALUE_MAX) {
        return -E2BIG;
    }
    if (find_xattr(ns, inode->ino, request->name, out_at, &n)) {
        return (request->flags & META_NOREPLACE) != 0 ? -EEXIST : 0;
    }
    if ((request->flags & META_REPLACE) != 0) {
        return -ENODATA;
    }
    if (n >= META_COLLISIONS_MAX ||
        list_size(ns, inode->ino) + request->name.size + 1 > XATTR_LIST_MAX) {
        return -ENOSPC;
    }
    out_at->n = (uint8_t)n;
    return 0;
}

int ns_setxattr(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    struct inode inode = {0};
    enum acl_kind kind;
    struct xattr at;
    int r;

    r = inode_get(ns, request->ino, &inode);
    if (r == 0) {
        r = check_xattr(ns, &inode, true);
    }
    if (r == 0) {
        r = find_place(ns, &inode, &at);
    }
    if (r == 0 && acl_is_name(request->name, &kind)) {
        r = acl_set(ns, &inode, kind, request->data);
    } else if (r == 0) {
        put_xattr(ns, inode.ino, request->name, request->data, &at);
        inode.r.flags &= ~(uint32_t)META_ATTR_NO_XATTRS;
    }
    if (r < 0) {
        return r;
    }
    inode_touch(ns, &inode);
    inode_put(ns, &inode);
    reply_attr(ns, &inode);
    return 0;
}

int ns_removexattr(struct ns *ns)
{
    struct inode inode = {0};
    enum acl_kind kind;
    int r;

    r = inode_get(ns, ns->request->ino, &inode);
    if (r == 0) {
        r = check_xattr(ns, &inode, true);
    }
    if (r < 0) {
        return r;
    }
    if (acl_is_name(ns->request->name, &kind)) {
        acl_remove(ns, &inode, kind); /* none there: that is what was asked for */
    } else if (!xattr_remove_named(ns, inode.ino, ns->request->name)) {
        return -ENODATA;
    }
    inode_touch(ns, &inode);
    inode_put(ns, &inode);
    reply_attr(ns, &inode);
    return 0;
}
