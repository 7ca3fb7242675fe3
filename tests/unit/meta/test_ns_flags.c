/* Inode flags in the namespace: who may set them, what they forbid, what new entries inherit. */
#include "tests/unit/meta/ns_fixture.h"

#include "meta/inode_flags.h"

#define USER 1000

static int set_as(struct fixture *f, uint32_t uid, uint64_t ino, uint32_t mask, uint32_t flags)
{
    return apply(f, (struct meta_request){.op = META_SETATTR,
                                          .uid = uid,
                                          .gid = uid,
                                          .ino = ino,
                                          .valid = META_SET_FLAGS,
                                          .mode = mask,
                                          .count = flags});
}

static int set(struct fixture *f, uint64_t ino, uint32_t flags)
{
    return set_as(f, 0, ino, META_ATTR_SETTABLE, flags);
}

static uint32_t flags_of(struct fixture *f, uint64_t ino)
{
    return attr_of(f, ino).flags & META_ATTR_SETTABLE;
}

static int open_with(struct fixture *f, uint64_t ino, uint32_t flags)
{
    struct meta_request request = {.op = META_GETATTR, .ino = ino, .flags = flags};

    return -(int)ns_read(&f->ns, &request, 1)->error;
}

static int setattr(struct fixture *f, uint64_t ino, uint32_t valid)
{
    return apply(f, (struct meta_request){.op = META_SETATTR,
                                          .flags = META_SKIP_ACCESS, /* through a descriptor */
                                          .ino = ino,
                                          .valid = valid,
                                          .mode = 0600,
                                          .size = 1});
}

static int on_name(struct fixture *f, uint8_t op, uint64_t dir, const char *name)
{
    return apply(
        f, (struct meta_request){.op = op, .ino = dir, .name = slice_text(name), .mode = 0644});
}

static int rename_to(struct fixture *f, uint64_t from, const char *name, uint64_t to,
                     const char *name2)
{
    return apply(f, (struct meta_request){.op = META_RENAME,
                                          .ino = from,
                                          .name = slice_text(name),
                                          .ino2 = to,
                                          .name2 = slice_text(name2)});
}

static int link_to(struct fixture *f, uint64_t ino, const char *name)
{
    return apply(f,
                 (struct meta_request){
                     .op = META_LINK, .ino = META_ROOT_INO, .ino2 = ino, .name = slice_text(name)});
}

static int set_xattr(struct fixture *f, uint64_t ino, const char *name)
{
    return apply(
        f, (struct meta_request){
               .op = META_SETXATTR, .ino = ino, .name = slice_text(name), .data = slice_text("v")});
}

static int allocate(struct fixture *f, uint64_t ino, uint32_t mode)
{
    return apply(f, (struct meta_request){.op = META_FALLOCATE,
                                          .flags = META_SKIP_ACCESS,
                                          .ino = ino,
                                          .mode = mode,
                                          .size = 4096});
}

static void test_who_may_set(void **state)
{
    struct fixture f;
    uint64_t ino, dir, link;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(make(&f, META_MKDIR, "d", 0755, &dir), 0);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETATTR,
                                                     .ino = ino,
                                                     .valid = META_SET_UID,
                                                     .new_uid = USER}),
                     0);
    assert_int_equal(set_as(&f, USER, ino, META_ATTR_NODUMP, META_ATTR_NODUMP), 0);
    assert_int_equal(set_as(&f, USER + 1, ino, META_ATTR_NODUMP, 0), -EPERM);
    assert_int_equal(set_as(&f, USER, ino, META_ATTR_APPEND, META_ATTR_APPEND), -EPERM);
    assert_int_equal(set_as(&f, 0, ino, META_ATTR_IMMUTABLE, META_ATTR_IMMUTABLE), 0);
    assert_int_equal(flags_of(&f, ino), META_ATTR_NODUMP | META_ATTR_IMMUTABLE);
    assert_int_equal(set_as(&f, USER, ino, META_ATTR_IMMUTABLE, 0), -EPERM);
    /* The others do not change as long as it is immutable; with it they may. */
    assert_int_equal(set_as(&f, 0, ino, META_ATTR_NODUMP, 0), -EPERM);
    assert_int_equal(set(&f, ino, META_ATTR_NODUMP | META_ATTR_IMMUTABLE), 0);
    assert_int_equal(set(&f, ino, 0), 0);
    assert_int_equal(flags_of(&f, ino), 0);
    /* What does not exist, what a file can not have, and more than flags at a time. */
    assert_int_equal(set_as(&f, 0, ino, META_ATTR_NO_XATTRS, 0), -EINVAL);
    assert_int_equal(set_as(&f, 0, ino, META_ATTR_SYNC, META_ATTR_NODUMP), -EINVAL);
    assert_int_equal(set(&f, ino, META_ATTR_DIRSYNC), -EOPNOTSUPP);
    assert_int_equal(set(&f, dir, META_ATTR_DIRSYNC), 0);
    assert_int_equal(make(&f, META_MKNOD, "fifo", S_IFIFO | 0644, &link), 0);
    assert_int_equal(set(&f, link, META_ATTR_NODUMP), -EOPNOTSUPP);
    assert_int_equal(setattr(&f, ino, META_SET_FLAGS | META_SET_MODE), -EINVAL);
    teardown(&f);
}

static void test_immutable_file(void **state)
{
    struct fixture f;
    struct meta_attr before;
    uint64_t ino;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(set(&f, ino, META_ATTR_IMMUTABLE), 0);
    before = attr_of(&f, ino);
    assert_int_equal(open_with(&f, ino, META_OPEN_READ), 0);
    assert_int_equal(open_with(&f, ino, META_OPEN_WRITE), -EPERM);
    assert_int_equal(open_with(&f, ino, META_OPEN_WRITE | META_APPEND), -EPERM);
    assert_int_equal(setattr(&f, ino, META_SET_SIZE), -EPERM);
    assert_int_equal(setattr(&f, ino, META_SET_MODE), -EPERM);
    assert_int_equal(setattr(&f, ino, META_SET_UID), -EPERM);
    assert_int_equal(setattr(&f, ino, META_SET_ATIME_NOW | META_SET_MTIME_NOW), -EPERM);
    assert_int_equal(set_xattr(&f, ino, "user.a"), -EPERM);
    assert_int_equal(set_xattr(&f, ino, "trusted.a"), -EPERM);
    assert_int_equal(set_xattr(&f, ino, "system.posix_acl_access"), -EPERM);
    assert_int_equal(allocate(&f, ino, 0), -EPERM);
    assert_int_equal(link_to(&f, ino, "g"), -EPERM);
    assert_int_equal(on_name(&f, META_UNLINK, META_ROOT_INO, "f"), -EPERM);
    assert_int_equal(rename_to(&f, META_ROOT_INO, "f", META_ROOT_INO, "g"), -EPERM);
    assert_int_equal(make(&f, META_CREATE, "h", 0644, &(uint64_t){0}), 0);
    assert_int_equal(rename_to(&f, META_ROOT_INO, "h", META_ROOT_INO, "f"), -EPERM);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_CREATE,
                                                     .flags = META_TRUNCATE,
                                                     .ino = META_ROOT_INO,
                                                     .name = slice_text("f")}),
                     -EPERM);
    assert_int_equal(attr_of(&f, ino).change, before.change);
    assert_int_equal(set(&f, ino, 0), 0);
    assert_int_equal(on_name(&f, META_UNLINK, META_ROOT_INO, "f"), 0);
    teardown(&f);
}

static void test_append_only_file(void **state)
{
    struct fixture f;
    uint64_t ino;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(set(&f, ino, META_ATTR_APPEND), 0);
    assert_int_equal(open_with(&f, ino, META_OPEN_READ), 0);
    assert_int_equal(open_with(&f, ino, META_OPEN_WRITE), -EPERM);
    assert_int_equal(open_with(&f, ino, META_OPEN_WRITE | META_APPEND), 0);
    assert_int_equal(setattr(&f, ino, META_SET_SIZE), -EPERM);
    assert_int_equal(setattr(&f, ino, META_SET_MTIME), -EPERM);
    assert_int_equal(setattr(&f, ino, META_SET_ATIME_NOW | META_SET_MTIME_NOW), 0);
    assert_int_equal(set_xattr(&f, ino, "user.a"), -EPERM);
    assert_int_equal(allocate(&f, ino, META_ALLOCATE_KEEP_SIZE), 0);
    assert_int_equal(allocate(&f, ino, 0), 0);
    assert_int_equal(allocate(&f, ino, META_ALLOCATE_ZERO), -EPERM);
    assert_int_equal(allocate(&f, ino, META_ALLOCATE_PUNCH | META_ALLOCATE_KEEP_SIZE), -EPERM);
    assert_int_equal(link_to(&f, ino, "g"), -EPERM);
    assert_int_equal(on_name(&f, META_UNLINK, META_ROOT_INO, "f"), -EPERM);
    assert_int_equal(
        apply(&f, (struct meta_request){.op = META_CREATE,
                                        .flags = META_TRUNCATE | META_OPEN_WRITE | META_APPEND,
                                        .ino = META_ROOT_INO,
                                        .name = slice_text("f")}),
        -EPERM);
    teardown(&f);
}

/* What a mount has acknowledged before it could know of the flag arrives all the same. */
static void test_commit_behind_flag(void **state)
{
    cleanup(buf_deinit) struct buf one = {0};
    cleanup(buf_deinit) struct buf all = {0};
    struct meta_request commit = {.op = META_COMMIT};
    struct fixture f;
    uint64_t ino;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(set(&f, ino, META_ATTR_IMMUTABLE), 0);
    meta_commit_encode(
        &(struct meta_commit){.ino = ino, .is_inline = true, .inline_data = slice_text("kept")},
        &one);
    schema_write_bytes(&all, buf_slice(&one));
    commit.data = buf_slice(&all);
    assert_int_equal(apply(&f, commit), 0);
    assert_int_equal(attr_of(&f, ino).size, 0); /* not of one that asks for permission */
    commit.flags = META_SKIP_ACCESS;
    assert_int_equal(apply(&f, commit), 0);
    assert_int_equal(attr_of(&f, ino).size, 4);
    teardown(&f);
}

static void test_directories(void **state)
{
    struct fixture f;
    uint64_t dir, ino;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_MKDIR, "d", 0755, &dir), 0);
    assert_int_equal(on_name(&f, META_CREATE, dir, "old"), 0);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(set(&f, dir, META_ATTR_APPEND), 0);
    assert_int_equal(on_name(&f, META_CREATE, dir, "new"), 0);
    assert_int_equal(on_name(&f, META_UNLINK, dir, "old"), -EPERM);
    assert_int_equal(rename_to(&f, dir, "old", META_ROOT_INO, "moved"), -EPERM);
    assert_int_equal(rename_to(&f, META_ROOT_INO, "f", dir, "old"), -EPERM);
    assert_int_equal(rename_to(&f, META_ROOT_INO, "f", dir, "f"), 0);
    assert_int_equal(set(&f, dir, META_ATTR_IMMUTABLE), 0);
    assert_int_equal(on_name(&f, META_CREATE, dir, "more"), -EPERM);
    assert_int_equal(on_name(&f, META_TMPFILE, dir, ""), -EPERM);
    assert_int_equal(on_name(&f, META_UNLINK, dir, "old"), -EPERM);
    assert_int_equal(rename_to(&f, dir, "old", META_ROOT_INO, "moved"), -EPERM);
    assert_int_equal(on_name(&f, META_RMDIR, META_ROOT_INO, "d"), -EPERM);
    /* It is the directory that does not change: its files do. */
    assert_int_equal(setattr(&f, ino, META_SET_MODE), 0);
    teardown(&f);
}

static void test_inherited(void **state)
{
    const uint32_t passed_on = META_ATTR_NODUMP | META_ATTR_NOATIME | META_ATTR_SYNC;
    struct fixture f;
    uint64_t dir;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_MKDIR, "d", 0755, &dir), 0);
    assert_int_equal(set(&f, dir, passed_on | META_ATTR_DIRSYNC | META_ATTR_APPEND), 0);
    assert_int_equal(on_name(&f, META_CREATE, dir, "f"), 0);
    assert_int_equal(flags_of(&f, f.ns.volume.next_ino - 1), passed_on);
    assert_int_equal(on_name(&f, META_MKDIR, dir, "sub"), 0);
    assert_int_equal(flags_of(&f, f.ns.volume.next_ino - 1), passed_on | META_ATTR_DIRSYNC);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SYMLINK,
                                                     .ino = dir,
                                                     .name = slice_text("s"),
                                                     .data = slice_text("f")}),
                     0);
    assert_int_equal(flags_of(&f, f.ns.volume.next_ino - 1), 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_may_set),      cmocka_unit_test(test_immutable_file),
        cmocka_unit_test(test_append_only_file), cmocka_unit_test(test_commit_behind_flag),
        cmocka_unit_test(test_directories),      cmocka_unit_test(test_inherited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
