/* POSIX ACLs in the namespace: who may, the mode in step, what new entries inherit. */
#include "tests/unit/meta/ns_fixture.h"

#include "base/bytes.h"

#define ACCESS  "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct entry {
    unsigned tag, perm;
    uint32_t id;
};

#define NO_ID UINT32_MAX

/* Up to a tag of 0. */
static void encode(const struct entry *entries, struct buf *out)
{
    buf_clear(out);
    bytes_put_le32(buf_reserve(out, 4), 2);
    out->size += 4;
    for (; entries->tag != 0; entries++) {
        uint8_t *at = buf_reserve(out, 8);

        at[0] = (uint8_t)entries->tag;
        at[1] = 0;
        at[2] = (uint8_t)entries->perm;
        at[3] = 0;
        bytes_put_le32(at + 4, entries->id);
        out->size += 8;
    }
}

static int set_as(struct fixture *f, uint32_t uid, uint64_t ino, const char *name,
                  const struct entry *entries)
{
    cleanup(buf_deinit) struct buf acl = {0};

    encode(entries, &acl);
    return apply(f, (struct meta_request){.op = META_SETXATTR,
                                          .uid = uid,
                                          .gid = uid,
                                          .ino = ino,
                                          .name = slice_text(name),
                                          .data = buf_slice(&acl)});
}

static int read_as(struct fixture *f, uint32_t uid, uint32_t gid, uint64_t ino, uint32_t flags)
{
    struct meta_request request = {
        .op = META_GETATTR, .uid = uid, .gid = gid, .ino = ino, .flags = flags};

    return -(int)ns_read(&f->ns, &request, 1)->error;
}

static bool has(struct fixture *f, uint64_t ino, const char *name)
{
    struct meta_request request = {.op = META_GETXATTR, .ino = ino, .name = slice_text(name)};

    return ns_read(&f->ns, &request, 1)->error == 0;
}

static const struct entry named[] = {{USER_OBJ, 7, NO_ID},  {USER, 6, 20},  {USER, 7, 21},
                                     {GROUP_OBJ, 4, NO_ID}, {GROUP, 2, 30}, {MASK, 6, NO_ID},
                                     {OTHER, 1, NO_ID},     {0, 0, 0}};

/* The list decides about everybody but the owner and root, bounded by its mask. */
static void test_access(void **state)
{
    struct fixture f;
    uint64_t ino;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0640, &ino), 0);
    assert_int_equal(set_as(&f, 20, ino, ACCESS, named), -EPERM); /* not the owner */
    assert_int_equal(set_as(&f, 0, ino, ACCESS, named), 0);
    assert_int_equal(attr_of(&f, ino).mode & 07777, 0761); /* the group's bits are the mask's */
    assert_int_equal(attr_of(&f, ino).flags, META_ATTR_ACL | META_ATTR_NO_XATTRS);
    assert_int_equal(read_as(&f, 20, 1, ino, META_OPEN_READ | META_OPEN_WRITE), 0);
    assert_int_equal(read_as(&f, 22, 0, ino, META_OPEN_READ), 0); /* of the owning group */
    assert_int_equal(read_as(&f, 22, 0, ino, META_OPEN_WRITE), -EACCES);
    assert_int_equal(read_as(&f, 22, 30, ino, META_OPEN_WRITE), 0);
    assert_int_equal(read_as(&f, 22, 30, ino, META_OPEN_READ), -EACCES); /* not as "other" */
    assert_int_equal(read_as(&f, 22, 31, ino, META_OPEN_READ), -EACCES);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETATTR,
                                                     .ino = ino,
                                                     .valid = META_SET_MODE,
                                                     .mode = 0744}),
                     0);
    assert_int_equal(read_as(&f, 20, 1, ino, META_OPEN_READ), 0); /* the mask follows the mode */
    assert_int_equal(read_as(&f, 20, 1, ino, META_OPEN_WRITE), -EACCES);
    assert_int_equal(read_as(&f, 22, 31, ino, META_OPEN_READ), 0); /* and so does "other" */
    assert_int_equal(read_as(&f, 22, 31, ino, META_OPEN_EXEC), -EACCES);
    assert_int_equal(read_as(&f, 0, 0, ino, META_OPEN_EXEC), 0); /* somebody may */
    teardown(&f);
}

/* A list that says no more than a mode is the mode; an empty one is none. */
static void test_minimal(void **state)
{
    static const struct entry three[] = {
        {USER_OBJ, 6, NO_ID}, {GROUP_OBJ, 5, NO_ID}, {OTHER, 4, NO_ID}, {0, 0, 0}};
    static const struct entry none[] = {{0, 0, 0}};
    struct fixture f;
    uint64_t ino, dir;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 04640, &ino), 0);
    assert_int_equal(make(&f, META_MKDIR, "d", 0755, &dir), 0);
    assert_int_equal(set_as(&f, 0, ino, ACCESS, named), 0);
    assert_true(has(&f, ino, ACCESS));
    assert_int_equal(set_as(&f, 0, ino, ACCESS, three), 0);
    assert_false(has(&f, ino, ACCESS));
    assert_int_equal(attr_of(&f, ino).mode & 07777, 04654);
    assert_int_equal(attr_of(&f, ino).flags, META_ATTR_NO_XATTRS);
    assert_int_equal(set_as(&f, 0, ino, DEFAULT, three), -EACCES); /* of a directory only */
    assert_int_equal(set_as(&f, 0, dir, DEFAULT, three), 0);
    assert_int_equal(attr_of(&f, dir).flags, META_ATTR_DEFAULT_ACL | META_ATTR_NO_XATTRS);
    assert_int_equal(set_as(&f, 0, dir, DEFAULT, none), 0);
    assert_int_equal(attr_of(&f, dir).flags, META_ATTR_NO_XATTRS);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_REMOVEXATTR,
                                                     .ino = dir,
                                                     .name = slice_text(DEFAULT)}),
                     0); /* none is there: as asked for */
    teardown(&f);
}

static void test_malformed(void **state)
{
    static const struct entry bad[][5] = {
        {{USER_OBJ, 7, 0}, {OTHER, 1, 0}},                                      /* no group */
        {{USER_OBJ, 7, 0}, {USER, 7, 5}, {GROUP_OBJ, 7, 0}, {OTHER, 1, 0}},     /* no mask */
        {{USER_OBJ, 7, 0}, {GROUP_OBJ, 7, 0}, {USER, 7, 5}, {OTHER, 1, 0}},     /* order */
        {{USER_OBJ, 7, 0}, {USER_OBJ, 7, 0}, {GROUP_OBJ, 7, 0}, {OTHER, 1, 0}}, /* twice */
        {{USER_OBJ, 8, 0}, {GROUP_OBJ, 7, 0}, {OTHER, 1, 0}},                   /* no permission */
        {{USER_OBJ, 7, 0}, {3, 7, 0}, {GROUP_OBJ, 7, 0}, {OTHER, 1, 0}},        /* no tag */
    };
    struct entry many[513] = {0}; /* one more than fit, and the end */
    struct fixture f;
    uint64_t ino;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_CREATE, "f", 0640, &ino), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(set_as(&f, 0, ino, ACCESS, bad[i]), -EINVAL);
    }
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SETXATTR,
                                                     .ino = ino,
                                                     .name = slice_text(ACCESS),
                                                     .data = slice_text("longer than a head")}),
                     -EINVAL);
    assert_int_equal(attr_of(&f, ino).mode & 07777, 0640);
    for (uint32_t i = 0; i + 1 < ARRAY_SIZE(many); i++) {
        many[i] = (struct entry){USER, 7, i};
    }
    assert_int_equal(set_as(&f, 0, ino, ACCESS, many), -E2BIG);
    teardown(&f);
}

static uint64_t make_in(struct fixture *f, uint64_t dir, uint8_t op, const char *name,
                        uint32_t mode)
{
    struct meta_attr attr;

    assert_int_equal(
        apply(f,
              (struct meta_request){
                  .op = op, .ino = dir, .name = slice_text(name), .mode = mode, .umask = 077}),
        0);
    assert_int_equal(meta_attr_decode(&attr, f->reply->attr), 0);
    return attr.ino;
}

/* A directory's default list takes the umask's place; only what the creator asks for stays. */
static void test_inherit(void **state)
{
    struct fixture f;
    uint64_t dir, plain, file, below;

    (void)state;
    setup(&f);
    assert_int_equal(make(&f, META_MKDIR, "plain", 0755, &plain), 0);
    assert_int_equal(make(&f, META_MKDIR, "dir", 0755, &dir), 0);
    assert_int_equal(set_as(&f, 0, dir, DEFAULT, named), 0);
    file = make_in(&f, plain, META_CREATE, "f", 0666);
    assert_int_equal(attr_of(&f, file).mode & 07777, 0600);
    file = make_in(&f, dir, META_CREATE, "f", 0644);
    assert_int_equal(attr_of(&f, file).mode & 07777, 0640); /* 0761 met with 0644 */
    assert_int_equal(attr_of(&f, file).flags, META_ATTR_ACL | META_ATTR_NO_XATTRS);
    assert_int_equal(read_as(&f, 20, 1, file, META_OPEN_READ), 0);
    assert_int_equal(read_as(&f, 20, 1, file, META_OPEN_WRITE), -EACCES);
    below = make_in(&f, dir, META_MKDIR, "d", 0777);
    assert_int_equal(attr_of(&f, below).flags,
                     META_ATTR_ACL | META_ATTR_DEFAULT_ACL | META_ATTR_NO_XATTRS);
    file = make_in(&f, below, META_MKNOD, "p", S_IFIFO | 0666);
    assert_int_equal(attr_of(&f, file).mode & 07777, 0660);
    assert_int_equal(apply(&f, (struct meta_request){.op = META_SYMLINK,
                                                     .ino = below,
                                                     .name = slice_text("l"),
                                                     .data = slice_text("x")}),
                     0); /* a link has none */
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_access),
        cmocka_unit_test(test_minimal),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_inherit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
