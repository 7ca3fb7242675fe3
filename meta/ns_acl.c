/*
 * ns_acl: POSIX access control lists, as extended attributes of the names and in the form that
 * Linux gives them (acl(5), posix_acl_xattr.h): u32 version, then {u16 tag, u16 permissions, u32
 * id}, little endian. The mode of an inode is kept in step: its group bits are the mask's. A list
 * that says no more than a mode can is kept as the mode alone. Two bits of the inode's flags say
 * which lists it has, so that nobody looks for those that are not there.
 */
#include "meta/ns_internal.h"

#include "base/bytes.h"

#define MODE_PERMISSIONS 0777U
#define ACL_HEAD         4
#define ACL_ENTRY        8
#define ACL_VERSION      2

enum acl_tag {
    ACL_USER_OBJ = 0x01,
    ACL_USER = 0x02,
    ACL_GROUP_OBJ = 0x04,
    ACL_GROUP = 0x08,
    ACL_MASK = 0x10,
    ACL_OTHER = 0x20,
};

struct acl_entry {
    uint16_t tag, perm;
    uint32_t id;
};

static const char *const acl_names[] = {
    [ACL_ACCESS] = "system.posix_acl_access", [ACL_DEFAULT] = "system.posix_acl_default"};
static const uint32_t acl_flags[] = {
    [ACL_ACCESS] = META_ATTR_ACL, [ACL_DEFAULT] = META_ATTR_DEFAULT_ACL};

static size_t count_of(struct slice acl)
{
    return acl.size >= ACL_HEAD ? (acl.size - ACL_HEAD) / ACL_ENTRY : 0;
}

static struct acl_entry entry_at(struct slice acl, size_t i)
{
    const uint8_t *at = acl.data + ACL_HEAD + i * ACL_ENTRY;

    return (struct acl_entry){(uint16_t)(at[0] | at[1] << 8), (uint16_t)(at[2] | at[3] << 8),
                              bytes_get_le32(at + 4)};
}

static void set_perm(struct buf *acl, size_t i, unsigned perm)
{
    acl->data[ACL_HEAD + i * ACL_ENTRY + 2] = (uint8_t)(perm & 7);
}

/* Is it well formed: each single entry once, in the order of their tags, a mask when one is needed?
 */
static bool is_valid(struct slice acl)
{
    unsigned seen[ACL_OTHER + 1] = {0};
    unsigned last = 0;

    if (acl.size < ACL_HEAD || (acl.size - ACL_HEAD) % ACL_ENTRY != 0 ||
        bytes_get_le32(acl.data) != ACL_VERSION) {
        return false;
    }
    for (size_t i = 0; i < count_of(acl); i++) {
        struct acl_entry entry = entry_at(acl, i);
        bool named = entry.tag == ACL_USER || entry.tag == ACL_GROUP;

        if (entry.tag > ACL_OTHER || entry.tag == 0 || (entry.tag & (entry.tag - 1)) != 0 ||
            entry.perm > 7 || entry.tag < last || (entry.tag == last && !named)) {
            return false;
        }
        seen[entry.tag]++;
        last = entry.tag;
    }
    return seen[ACL_USER_OBJ] == 1 && seen[ACL_GROUP_OBJ] == 1 && seen[ACL_OTHER] == 1 &&
           (seen[ACL_MASK] == 1 || seen[ACL_USER] + seen[ACL_GROUP] == 0);
}

/* The permissions of the entry with this tag; false when there is none. */
static bool find_tag(struct slice acl, unsigned tag, unsigned *out_perm)
{
    for (size_t i = 0; i < count_of(acl); i++) {
        struct acl_entry entry = entry_at(acl, i);

        if (entry.tag == tag) {
            *out_perm = entry.perm;
            return true;
        }
    }
    return false;
}

/* The permission bits that the list stands for. */
static uint32_t mode_of(struct slice acl)
{
    unsigned user = 0, group = 0, other = 0;

    find_tag(acl, ACL_USER_OBJ, &user);
    find_tag(acl, ACL_GROUP_OBJ, &group);
    find_tag(acl, ACL_MASK, &group);
    find_tag(acl, ACL_OTHER, &other);
    return user << 6 | group << 3 | other;
}

static bool says_more_than_mode(struct slice acl)
{
    return count_of(acl) > 3;
}

/* Has it a mask? Then that, and not the owning group's entry, is the mode's group bits. */
static unsigned group_tag(struct slice acl)
{
    unsigned perm;

    return find_tag(acl, ACL_MASK, &perm) ? ACL_MASK : ACL_GROUP_OBJ;
}

/* Where in the mode the permissions of this entry are; -1 = not there. */
static int shift_of(struct slice acl, unsigned tag)
{
    return tag == ACL_USER_OBJ ? 6 : tag == group_tag(acl) ? 3 : tag == ACL_OTHER ? 0 : -1;
}

/* The list after a chmod. */
static void follow_mode(struct buf *acl, uint32_t mode)
{
    for (size_t i = 0; i < count_of(buf_slice(acl)); i++) {
        int shift = shift_of(buf_slice(acl), entry_at(buf_slice(acl), i).tag);

        if (shift >= 0) {
            set_perm(acl, i, mode >> shift);
        }
    }
}

/* A new inode's list from its directory's: what the creator did not ask for goes, also from the
 * mode. */
static uint32_t meet_mode(struct buf *acl, uint32_t mode)
{
    for (size_t i = 0; i < count_of(buf_slice(acl)); i++) {
        struct acl_entry entry = entry_at(buf_slice(acl), i);
        int shift = shift_of(buf_slice(acl), entry.tag);

        if (shift >= 0) {
            unsigned perm = entry.perm & (mode >> shift) & 7;

            set_perm(acl, i, perm);
            mode = (mode & ~(7U << shift)) | perm << shift;
        }
    }
    return mode;
}

/* ---- who may ---- */

/* As the kernel's posix_acl_permission. The owner has been dealt with. */
static int list_access(const struct meta_request *request, const struct inode *inode,
                       struct slice acl, unsigned mask)
{
    bool in_some = false;
    unsigned bound = 7, other = 0;

    find_tag(acl, ACL_MASK, &bound);
    find_tag(acl, ACL_OTHER, &other);
    for (size_t i = 0; i < count_of(acl); i++) {
        struct acl_entry entry = entry_at(acl, i);
        bool grants = (mask & ~(unsigned)entry.perm & 7) == 0;
        bool bounded = (mask & ~(entry.perm & bound) & 7) == 0;

        if (entry.tag == ACL_USER && entry.id == request->uid) {
            return bounded ? 0 : -EACCES;
        }
        if ((entry.tag == ACL_GROUP_OBJ && in_group(request, inode->r.gid)) ||
            (entry.tag == ACL_GROUP && in_group(request, entry.id))) {
            in_some = true;
            if (grants) {
                return bounded ? 0 : -EACCES;
            }
        }
    }
    return in_some || (mask & ~other & 7) != 0 ? -EACCES : 0;
}

bool acl_decides(struct ns *ns, const struct inode *inode, unsigned mask, int *out_result)
{
    struct slice acl;

    if ((inode->r.flags & META_ATTR_ACL) == 0 || (inode->r.mode & S_IRWXG) == 0 ||
        !xattr_find(ns, inode->ino, slice_text(acl_names[ACL_ACCESS]), &acl)) {
        return false;
    }
    *out_result = list_access(ns->request, inode, acl, mask);
    return true;
}

/* ---- kept in step ---- */

static void store(struct ns *ns, struct inode *inode, enum acl_kind kind, struct slice acl)
{
    xattr_put(ns, inode->ino, slice_text(acl_names[kind]), acl);
    inode->r.flags |= acl_flags[kind];
}

static void drop(struct ns *ns, struct inode *inode, enum acl_kind kind)
{
    xattr_remove_named(ns, inode->ino, slice_text(acl_names[kind]));
    inode->r.flags &= ~acl_flags[kind];
}

void acl_follow_mode(struct ns *ns, const struct inode *inode)
{
    cleanup(buf_deinit) struct buf acl = {0};
    struct slice stored;

    if ((inode->r.flags & META_ATTR_ACL) != 0 &&
        xattr_find(ns, inode->ino, slice_text(acl_names[ACL_ACCESS]), &stored)) {
        buf_append_slice(&acl, stored);
        follow_mode(&acl, inode->r.mode);
        xattr_put(ns, inode->ino, slice_text(acl_names[ACL_ACCESS]), buf_slice(&acl));
    }
}

void acl_inherit(struct ns *ns, const struct inode *dir, struct inode *inode)
{
    cleanup(buf_deinit) struct buf acl = {0};
    struct slice stored;

    if (S_ISLNK(inode->r.mode)) {
        return;
    }
    if ((dir->r.flags & META_ATTR_DEFAULT_ACL) == 0 ||
        !xattr_find(ns, dir->ino, slice_text(acl_names[ACL_DEFAULT]), &stored)) {
        inode->r.mode &= ~(ns->request->umask & MODE_PERMISSIONS);
        return;
    }
    buf_append_slice(&acl, stored);
    if (S_ISDIR(inode->r.mode)) {
        store(ns, inode, ACL_DEFAULT, buf_slice(&acl));
    }
    inode->r.mode = meet_mode(&acl, inode->r.mode);
    if (says_more_than_mode(buf_slice(&acl))) {
        store(ns, inode, ACL_ACCESS, buf_slice(&acl));
    }
}

bool acl_is_name(struct slice name, enum acl_kind *out_kind)
{
    for (enum acl_kind kind = ACL_ACCESS; kind <= ACL_DEFAULT; kind++) {
        if (slice_equal(name, slice_text(acl_names[kind]))) {
            *out_kind = kind;
            return true;
        }
    }
    return false;
}

int acl_check(const struct ns *ns, const struct inode *inode, enum acl_kind kind, bool write)
{
    if (S_ISLNK(inode->r.mode)) {
        return -EOPNOTSUPP;
    }
    if (write && !is_owner(ns->request, inode)) {
        return -EPERM;
    }
    if (write && kind == ACL_DEFAULT && !S_ISDIR(inode->r.mode)) {
        return -EACCES;
    }
    return 0;
}

int acl_set(struct ns *ns, struct inode *inode, enum acl_kind kind, struct slice acl)
{
    const struct meta_request *request = ns->request;

    if (acl.size > META_ACL_MAX) {
        return -E2BIG;
    }
    if (acl.size > ACL_HEAD && !is_valid(acl)) {
        return -EINVAL;
    }
    if (acl.size <= ACL_HEAD) {
        drop(ns, inode, kind);
        return 0;
    }
    if (kind == ACL_DEFAULT) {
        store(ns, inode, kind, acl);
        return 0;
    }
    inode->r.mode = (inode->r.mode & ~(uint32_t)MODE_PERMISSIONS) | mode_of(acl);
    if (request->uid != 0 && !in_group(request, inode->r.gid)) {
        inode->r.mode &= ~(uint32_t)S_ISGID;
    }
    if (says_more_than_mode(acl)) {
        store(ns, inode, kind, acl);
    } else {
        drop(ns, inode, kind);
    }
    return 0;
}

void acl_remove(struct ns *ns, struct inode *inode, enum acl_kind kind)
{
    drop(ns, inode, kind);
}
