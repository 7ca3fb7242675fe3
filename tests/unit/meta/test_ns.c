/* The namespace, case by case: what a random model does not reach. */
#include "tests/lib/test.h"

#include "base/bytes.h"
#include "chunkstore/chunk_proto.h"
#include "meta/limits.h"
#include "meta/ns.h"
#include "meta/ns_internal.h"
#include "tests/unit/meta/ns_fixture.h"

#include <errno.h>

static void append_extent(struct buf *out, uint64_t offset, uint32_t length, uint64_t session,
                          uint64_t seq, uint32_t at)
{
    cleanup(buf_deinit) struct buf one = {0};
    struct meta_extent extent = {.offset = offset,
                                 .length = length,
                                 .chunk_session = session,
                                 .chunk_seq = seq,
                                 .chunk_offset = at};

    meta_extent_encode(&extent, &one);
    schema_write_bytes(out, buf_slice(&one));
}

static int commit(struct fixture *f, struct meta_commit record)
{
    cleanup(buf_deinit) struct buf one = {0};
    cleanup(buf_deinit) struct buf all = {0};
    struct meta_commit_result result;
    struct schema_reader reader;
    int r;

    meta_commit_encode(&record, &one);
    schema_write_bytes(&all, buf_slice(&one));
    r = apply(f, (struct meta_request){.op = META_COMMIT, .data = buf_slice(&all)});
    if (r < 0) {
        return r;
    }
    reader = schema_reader_make(f->reply->data);
    assert_int_equal(meta_commit_result_decode(&result, schema_read_bytes(&reader, KiB(1))), 0);
    return -(int)result.error;
}

static int commit_extent(struct fixture *f, uint64_t ino, uint64_t offset, uint32_t length,
                         uint64_t session, uint64_t seq)
{
    cleanup(buf_deinit) struct buf extents = {0};

    append_extent(&extents, offset, length, session, seq, 0);
    return commit(f, (struct meta_commit){.ino = ino, .extents = buf_slice(&extents)});
}

static void test_sequence(void **state)
{
    struct fixture f;
    struct meta_request request = {
        .op = META_MKDIR, .ino = META_ROOT_INO, .name = slice_text("d"), .mode = 0755};
    uint64_t inodes;

    (void)state;
    setup(&f);
    request.session = f.session;
    request.seq = 2;
    assert_int_equal(own(&f, request), -ERR_SEQUENCE_GAP);
    request.seq = 1;
    assert_int_equal(own(&f, request), 0);
    inodes = f.ns.volume.inodes;
    assert_int_equal(own(&f, request), 0); /* not EEXIST: the reply given before */
    assert_int_equal(f.ns.volume.inodes, inodes);
    request.seq = 2;
    request.low_water = 2;
    assert_int_equal(own(&f, request), -EEXIST);
    assert_int_equal(own(&f, request), -EEXIST);
    request.seq = 1;
    assert_int_equal(own(&f, request), -EALREADY); /* the client said that it knows */
    assert_int_equal(own(&f, (struct meta_request){.op = META_SESSION_EXPIRE, .ino = f.session}),
                     0);
    request.seq = 3;
    assert_int_equal(own(&f, request), -ERR_SESSION_EXPIRED);
    assert_int_equal(f.ns.volume.sessions, 0);
    teardown(&f);
}

static void test_links_have_a_limit(void **state)
{
    struct inode inode = {0};
    struct fixture f;
    struct meta_request link = {.op = META_LINK, .ino = META_ROOT_INO, .name = slice_text("last")};

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &link.ino2), 0);
    assert_int_equal(inode_get(&f.ns, link.ino2, &inode), 0);
    inode.r.nlink = META_LINKS_MAX - 1; /* as if so many had been made */
    inode_put(&f.ns, &inode);
    assert_int_equal(apply(&f, link), 0);
    link.name = slice_text("one too many");
    assert_int_equal(apply(&f, link), -EMLINK);
    teardown(&f);
}

static void test_fencing(void **state)
{
    struct fixture f;
    uint64_t ino, dead = 3;
    uint8_t id[16];

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(commit_extent(&f, ino, 0, 100, f.session + 1, 1), -ERR_SESSION_EXPIRED);
    assert_int_equal(commit_extent(&f, ino, 0, 100, f.session, dead), 0);
    assert_int_equal(commit_extent(&f, ino, 0, 100, f.session, 4), 0); /* chunk 3 is dead now */
    assert_int_equal(f.ns.volume.delete_queue, 1);
    assert_int_equal(commit_extent(&f, ino, 0, 100, f.session, dead), -ESTALE);
    bytes_put_le64(id, f.session);
    bytes_put_le64(id + 8, dead);
    assert_int_equal(
        own(&f, (struct meta_request){.op = META_CHUNKS_DELETED, .data = slice_make(id, 16)}), 0);
    assert_int_equal(f.ns.volume.delete_queue, 0);
    /* A chunk that is still in use is not forgotten. */
    bytes_put_le64(id + 8, 4);
    assert_int_equal(
        own(&f, (struct meta_request){.op = META_CHUNKS_DELETED, .data = slice_make(id, 16)}), 0);
    assert_int_equal(commit_extent(&f, ino, 200, 50, f.session, 4), 0);
    assert_int_equal(f.ns.volume.used_bytes, 150);
    teardown(&f);
}

static void test_inline(void **state)
{
    static uint8_t bytes[META_INLINE_MAX];
    struct fixture f;
    uint64_t ino;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(commit(&f, (struct meta_commit){.ino = ino,
                                                     .is_inline = true,
                                                     .inline_data = slice_make(bytes, 500)}),
                     0);
    assert_int_equal(f.ns.volume.used_bytes, 500);
    /* Extents that would lose inline data are refused. */
    assert_int_equal(commit_extent(&f, ino, 100, 1000, f.session, 1), -ERR_CHANGED);
    assert_int_equal(commit_extent(&f, ino, 0, 499, f.session, 1), -ERR_CHANGED);
    assert_int_equal(commit_extent(&f, ino, 0, 500, f.session, 1), 0);
    assert_int_equal(f.ns.volume.used_bytes, 500);
    assert_int_equal(commit(&f, (struct meta_commit){.ino = ino,
                                                     .is_inline = true,
                                                     .inline_data = slice_make(bytes, 8192)}),
                     0);
    assert_int_equal(f.ns.volume.used_bytes, 8192);
    assert_int_equal(f.ns.volume.delete_queue, 1);
    teardown(&f);
}

/* A file of many extents is freed in bounded steps, cut off or unlinked. */
/* What rests on contents that have changed since they were read is refused, and changes nothing. */
static void test_commit_on_a_base(void **state)
{
    struct meta_commit inlined = {
        .is_inline = true, .inline_data = slice_text("new contents"), .base = 1};
    struct fixture f;
    struct meta_attr attr;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &inlined.ino), 0);
    assert_int_equal(meta_attr_decode(&attr, f.reply->attr), 0);
    inlined.base = attr.change;
    assert_int_equal(commit(&f, inlined), 0);
    assert_int_equal(commit(&f, inlined), -ERR_CHANGED);
    inlined.inline_data = slice_text("short");
    assert_int_equal(commit(&f, inlined), -ERR_CHANGED);
    assert_int_equal(f.ns.volume.used_bytes, 12);
    inlined.base++;
    assert_int_equal(commit(&f, inlined), 0);
    inlined.base = 0;
    assert_int_equal(commit(&f, inlined), 0);
    assert_int_equal(f.ns.volume.used_bytes, 5);
    teardown(&f);
}

/* What was appended rests on where the file ended, and on nothing else of it. */
static void test_commit_behind_the_old_end(void **state)
{
    struct meta_commit append = {
        .is_inline = true, .inline_data = slice_text("line"), .old_end = 1};
    struct fixture f;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &append.ino), 0);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETATTR,
                                                     .ino = append.ino,
                                                     .valid = META_SET_MODE,
                                                     .mode = 0600}),
                     0);
    assert_int_equal(commit(&f, append), 0);
    assert_int_equal(commit(&f, append), -ERR_CHANGED);
    assert_int_equal(attr_of(&f, append.ino).size, 4);
    append.inline_data = slice_text("lineline");
    append.old_end = 5;
    assert_int_equal(commit(&f, append), 0);
    assert_int_equal(attr_of(&f, append.ino).size, 8);
    teardown(&f);
}

/* A mount takes the next change of a file for its own when its operation made one: what made none
 * says so. */
static void test_unchanged(void **state)
{
    struct meta_request rename = {.op = META_RENAME,
                                  .ino = META_ROOT_INO,
                                  .ino2 = META_ROOT_INO,
                                  .name = slice_text("f"),
                                  .name2 = slice_text("f")};
    struct fixture f;
    uint64_t ino;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(f.reply->flags & META_UNCHANGED, 0);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(f.reply->flags & META_UNCHANGED, META_UNCHANGED);
    assert_int_equal(apply(&f, rename), 0);
    assert_int_equal(f.reply->flags & META_UNCHANGED, META_UNCHANGED);
    rename.name2 = slice_text("g");
    assert_int_equal(apply(&f, rename), 0);
    assert_int_equal(f.reply->flags & META_UNCHANGED, 0);
    teardown(&f);
}

static void test_steps(void **state)
{
    enum { EXTENTS = 5000 };
    struct fixture f;
    uint64_t ino, orphan;
    bool detached;
    unsigned steps = 0;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < EXTENTS; i += 1000) {
            cleanup(buf_deinit) struct buf extents = {0};

            for (unsigned j = i; j < i + 1000; j++) {
                append_extent(&extents, j * 10, 5, f.session, 1 + round, j * 5);
            }
            assert_int_equal(
                commit(&f, (struct meta_commit){.ino = ino, .extents = buf_slice(&extents)}), 0);
        }
        assert_int_equal(f.ns.volume.used_bytes, EXTENTS * 5);
        if (round == 0) {
            assert_int_equal(apply(&f, (struct meta_request){.op = META_SETATTR,
                                                             .ino = ino,
                                                             .valid = META_SET_SIZE}),
                             0);
        } else {
            assert_int_equal(apply(&f, (struct meta_request){.op = META_UNLINK,
                                                             .ino = META_ROOT_INO,
                                                             .flags = META_SOLE_SESSION,
                                                             .name = slice_text("f")}),
                             0);
        }
        while (ns_next_orphan(&f.ns, 0, &orphan, &detached)) {
            uint8_t data[8];

            assert_true(detached && ++steps < 10);
            bytes_put_le64(data, orphan);
            assert_int_equal(
                own(&f, (struct meta_request){.op = META_ORPHAN_FREE, .data = slice_make(data, 8)}),
                0);
        }
        assert_int_equal(f.ns.volume.used_bytes, 0);
        assert_int_equal(f.ns.volume.orphans, 0);
        assert_int_equal(f.ns.volume.delete_queue, 1 + round);
    }
    assert_int_equal(f.ns.volume.inodes, 1);
    assert_true(steps >= 3);
    teardown(&f);
}

static void test_rights(void **state)
{
    struct meta_attr attr;
    struct fixture f;
    uint64_t file;
    uint8_t group[4];

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 06755, &file), 0);
    /* Only the owner changes the mode, only root the owner; chown drops suid and sgid. */
    assert_int_equal(
        apply(&f,
              (struct meta_request){
                  .op = META_SETATTR, .uid = 1, .gid = 1, .ino = file, .valid = META_SET_MODE}),
        -EPERM);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETATTR,
                                                     .ino = file,
                                                     .valid = META_SET_UID,
                                                     .new_uid = 5}),
                     0);
    assert_int_equal(meta_attr_decode(&attr, f.reply->attr), 0);
    assert_int_equal(attr.mode & 07777, 0755);
    assert_int_equal(attr.uid, 5);
    /* The owner may give the file to a group of his, no other. */
    bytes_put_le32(group, 77);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETATTR,
                                                     .uid = 5,
                                                     .gid = 5,
                                                     .groups = slice_make(group, 4),
                                                     .ino = file,
                                                     .valid = META_SET_GID,
                                                     .new_gid = 77}),
                     0);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETATTR,
                                                     .uid = 5,
                                                     .gid = 5,
                                                     .ino = file,
                                                     .valid = META_SET_GID,
                                                     .new_gid = 78}),
                     -EPERM);
    /* chmod by an owner outside the group drops sgid. */
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETATTR,
                                                     .uid = 5,
                                                     .gid = 5,
                                                     .ino = file,
                                                     .valid = META_SET_MODE,
                                                     .mode = 02755}),
                     0);
    assert_int_equal(meta_attr_decode(&attr, f.reply->attr), 0);
    assert_int_equal(attr.mode & 07777, 0755);
    teardown(&f);
}

/* What makes an inode by way of an idmapped mount: the kernel has checked the directory, and knows
 * more of the caller than the request says. What is no directory is checked as ever. */
static void test_skip_access(void **state)
{
    struct meta_request create = {.op = META_CREATE, .uid = 5, .gid = 5, .mode = 02771};
    struct meta_attr attr = {0};
    struct fixture f;
    uint64_t dir;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_MKDIR, "root", 02700, &dir), 0);
    create.ino = dir;
    create.name = slice_text("x");
    assert_int_equal(apply(&f, create), -EACCES);
    create.flags = META_SKIP_ACCESS;
    assert_int_equal(apply(&f, create), 0);
    assert_int_equal(meta_attr_decode(&attr, f.reply->attr), 0);
    assert_int_equal(attr.uid, 5);
    assert_int_equal(attr.mode & 07777, 02771); /* the kernel has cleared what is to be cleared */
    create.uid = 6;
    create.flags |= META_OPEN_READ;
    assert_int_equal(apply(&f, create), -EACCES); /* it is there, and somebody else's */
    assert_int_equal(apply(&f, (struct meta_request){.op = META_MKNOD,
                                                     .flags = META_SKIP_ACCESS,
                                                     .uid = 5,
                                                     .ino = dir,
                                                     .name = slice_text("device"),
                                                     .mode = S_IFBLK | 0600,
                                                     .rdev = 7}),
                     0);
    teardown(&f);
}

static void test_sticky(void **state)
{
    struct fixture f;
    uint64_t dir;

    (void)state;
    setup(&f);
    /* Sticky: in a directory for all, only owners remove. */
    assert_int_equal(make(&f, META_MKDIR, "tmp", 01777, &dir), 0);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_CREATE,
                                                     .uid = 5,
                                                     .gid = 5,
                                                     .ino = dir,
                                                     .name = slice_text("x"),
                                                     .mode = 0666}),
                     0);
    assert_int_equal(
        apply(&f,
              (struct meta_request){
                  .op = META_UNLINK, .uid = 6, .gid = 6, .ino = dir, .name = slice_text("x")}),
        -EPERM);
    assert_int_equal(
        apply(&f,
              (struct meta_request){
                  .op = META_UNLINK, .uid = 5, .gid = 5, .ino = dir, .name = slice_text("x")}),
        0);
    /* Devices are root's. */
    assert_int_equal(apply(&f, (struct meta_request){.op = META_MKNOD,
                                                     .uid = 5,
                                                     .gid = 5,
                                                     .ino = dir,
                                                     .name = slice_text("n"),
                                                     .mode = S_IFCHR | 0600,
                                                     .rdev = 259}),
                     -EPERM);
    /* But a whiteout is none. */
    assert_int_equal(apply(&f, (struct meta_request){.op = META_MKNOD,
                                                     .uid = 5,
                                                     .gid = 5,
                                                     .ino = dir,
                                                     .name = slice_text("n"),
                                                     .mode = S_IFCHR | 0600}),
                     0);
    teardown(&f);
}

static void test_names(void **state)
{
    static const char bad[][4] = {"", ".", "..", "a/b"};
    static const int errors[] = {-ENOENT, -EINVAL, -EINVAL, -EINVAL};
    struct fixture f;
    uint64_t ino;

    (void)state;
    setup(&f);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(make(&f, META_MKDIR, bad[i], 0755, &ino), errors[i]);
    }
    assert_int_equal(make(&f, META_MKDIR, "d", 0755, &ino), 0);
    assert_int_equal(
        apply(&f, (struct meta_request){.op = META_CREATE, .ino = 12345, .name = slice_text("x")}),
        -ESTALE);
    /* A removed directory that is still open takes no new names. */
    assert_int_equal(apply(&f, (struct meta_request){.op = META_RMDIR,
                                                     .ino = META_ROOT_INO,
                                                     .flags = META_STILL_OPEN,
                                                     .name = slice_text("d")}),
                     0);
    assert_int_equal(
        apply(&f, (struct meta_request){.op = META_CREATE, .ino = ino, .name = slice_text("x")}),
        -ENOENT);
    teardown(&f);
}

static void test_xattrs(void **state)
{
    static uint8_t large[META_XATTR_VALUE_MAX];
    struct fixture f;
    struct meta_request get = {.op = META_GETXATTR, .name = slice_text("user.a")};
    uint64_t ino;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    get.ino = ino;
    assert_int_equal(ns_read(&f.ns, &get, 1)->error, ENODATA);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETXATTR,
                                                     .ino = ino,
                                                     .flags = META_REPLACE,
                                                     .name = slice_text("user.a")}),
                     -ENODATA);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETXATTR,
                                                     .ino = ino,
                                                     .name = slice_text("user.a"),
                                                     .data = slice_make(large, sizeof(large))}),
                     0);
    assert_int_equal(ns_read(&f.ns, &get, 1)->data.size, sizeof(large));
    assert_int_equal(attr_of(&f, ino).flags, 0); /* not META_ATTR_NO_XATTRS any more */
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETXATTR,
                                                     .ino = ino,
                                                     .name = slice_text("system.other")}),
                     -EOPNOTSUPP);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETXATTR,
                                                     .ino = ino,
                                                     .uid = 9,
                                                     .name = slice_text("security.x")}),
                     -EPERM);
    get.op = META_LISTXATTR;
    assert_int_equal(ns_read(&f.ns, &get, 1)->data.size, sizeof("user.a"));
    teardown(&f);
}

/* A client may number a chunk as it likes: the delete queue goes on behind it. */
static int make_as(struct fixture *f, uint8_t op, const char *name, uint64_t ino,
                   struct meta_attr *out_attr)
{
    int r = apply(f, (struct meta_request){.op = op,
                                           .ino = META_ROOT_INO,
                                           .ino2 = ino,
                                           .name = slice_text(name),
                                           .data = slice_text("target"),
                                           .mode = op == META_MKNOD ? S_IFIFO | 0600 : 0700});

    *out_attr = (struct meta_attr){0};
    if (r == 0) {
        assert_int_equal(meta_attr_decode(out_attr, f->reply->attr), 0);
    }
    return r;
}

static uint64_t reserve(struct fixture *f, uint32_t count)
{
    assert_int_equal(apply(f, (struct meta_request){.op = META_RESERVE_INOS, .count = count}), 0);
    return f->reply->value;
}

/* RESERVE_INOS: the session may name the inodes that it makes, with its own numbers, each once. */
static void test_reserved_inos(void **state)
{
    static const uint8_t ops[] = {META_CREATE, META_MKDIR, META_MKNOD, META_SYMLINK};
    struct meta_request open = {.op = META_SESSION_OPEN, .offset = 10};
    struct fixture f;
    struct meta_attr attr;
    uint64_t first, second, inodes, before;
    char name[2] = "a";

    (void)state;
    setup(&f);
    before = f.ns.volume.next_ino;
    assert_int_equal(apply(&f, (struct meta_request){.op = META_RESERVE_INOS}), -EINVAL);
    assert_int_equal(
        apply(&f, (struct meta_request){.op = META_RESERVE_INOS, .count = META_RESERVE_MAX + 1}),
        -EINVAL);
    assert_int_equal(f.ns.volume.next_ino, before);

    first = reserve(&f, 6);
    assert_int_equal(first, before);
    assert_int_equal(f.ns.volume.next_ino, before + 6);
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++, name[0]++) {
        assert_int_equal(make_as(&f, ops[i], name, first + i, &attr), 0);
        assert_int_equal(attr.ino, first + i);
    }
    inodes = f.ns.volume.inodes;
    assert_int_equal(make_as(&f, META_CREATE, "x", first, &attr), -EINVAL);     /* in use */
    assert_int_equal(make_as(&f, META_CREATE, "x", first - 1, &attr), -EINVAL); /* not ours */
    assert_int_equal(make_as(&f, META_MKDIR, "x", first + 6, &attr), -EINVAL);
    assert_int_equal(f.ns.volume.inodes, inodes);
    assert_int_equal(make_as(&f, META_CREATE, "x", 0, &attr), 0); /* none was used up by failing */
    assert_int_equal(attr.ino, first + 6);

    second = reserve(&f, META_RESERVE_MAX); /* in place of the first block */
    assert_int_equal(second, first + 7);
    assert_int_equal(make_as(&f, META_CREATE, "y", first + 5, &attr), -EINVAL);
    assert_int_equal(make_as(&f, META_CREATE, "y", second + META_RESERVE_MAX - 1, &attr), 0);

    f.session = ns_apply(&f.ns, &open, ++f.index)->value; /* another session has none */
    f.seq = 0;
    assert_int_equal(make_as(&f, META_CREATE, "z", second, &attr), -EINVAL);
    assert_int_equal(make_as(&f, META_CREATE, "z", 0, &attr), 0);
    assert_int_equal(attr.ino, second + META_RESERVE_MAX);
    teardown(&f);
}

/* Sent again, a reservation gives the same numbers and not others. */
static void test_reserved_once(void **state)
{
    struct meta_request request = {.op = META_RESERVE_INOS, .count = 10};
    struct fixture f;
    uint64_t first, next;

    (void)state;
    setup(&f);
    request.session = f.session;
    request.seq = ++f.seq;
    assert_int_equal(own(&f, request), 0);
    first = f.reply->value;
    next = f.ns.volume.next_ino;
    assert_int_equal(own(&f, request), 0);
    assert_int_equal(f.reply->value, first);
    assert_int_equal(f.ns.volume.next_ino, next);
    teardown(&f);
}

static void test_delete_queue_of_any_number(void **state)
{
    static const uint64_t seqs[] = {UINT64_MAX, UINT64_MAX - 1, 7};
    cleanup(buf_deinit) struct buf ids = {0};
    struct fixture f;
    uint64_t ino;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(seqs); i++) {
        assert_int_equal(commit_extent(&f, ino, i * 4096, 4096, f.session, seqs[i]), 0);
    }
    assert_int_equal(
        apply(&f, (struct meta_request){.op = META_SETATTR, .ino = ino, .valid = META_SET_SIZE}),
        0);
    assert_int_equal(ns_dead_chunks(&f.ns, UINT64_MAX, 10, &ids), 3);
    teardown(&f);
}

/* A chunk that the session has given up may be deleted at any moment: a COMMIT of it that comes
 * late, or comes with the news, is refused. */
static void test_given_up_chunk(void **state)
{
    cleanup(buf_deinit) struct buf extents = {0};
    cleanup(buf_deinit) struct buf one = {0};
    cleanup(buf_deinit) struct buf all = {0};
    struct meta_commit record = {0};
    struct meta_commit_result result;
    struct schema_reader reader;
    struct fixture f;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &record.ino), 0);
    append_extent(&extents, 0, 4096, f.session, 5, 0);
    record.extents = buf_slice(&extents);
    meta_commit_encode(&record, &one);
    schema_write_bytes(&all, buf_slice(&one));
    for (uint64_t low = 6; low >= 5; low--) {
        assert_int_equal(apply(&f, (struct meta_request){.op = META_COMMIT,
                                                         .chunk_low = low,
                                                         .data = buf_slice(&all)}),
                         0);
        reader = schema_reader_make(f.reply->data);
        assert_int_equal(meta_commit_result_decode(&result, schema_read_bytes(&reader, KiB(1))), 0);
        assert_int_equal(result.error, ESTALE); /* what was given up once stays so */
    }
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence),         cmocka_unit_test(test_links_have_a_limit),
        cmocka_unit_test(test_fencing),          cmocka_unit_test(test_inline),
        cmocka_unit_test(test_commit_on_a_base), cmocka_unit_test(test_commit_behind_the_old_end),
        cmocka_unit_test(test_unchanged),        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_rights),           cmocka_unit_test(test_names),
        cmocka_unit_test(test_xattrs),           cmocka_unit_test(test_skip_access),
        cmocka_unit_test(test_sticky),           cmocka_unit_test(test_delete_queue_of_any_number),
        cmocka_unit_test(test_reserved_inos),    cmocka_unit_test(test_reserved_once),
        cmocka_unit_test(test_given_up_chunk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
