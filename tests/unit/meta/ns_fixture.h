#pragma once
/* ns_fixture: a formatted namespace over an array, with one session, for tests of single cases. */
#include "meta/ns.h"
#include "tests/lib/test.h"
#include "tests/model/ns_array.h"

#include <errno.h>

struct fixture {
    struct kv_array array;
    struct ns ns;
    uint64_t session, seq, index;
    const struct meta_reply *reply;
};

static inline void setup(struct fixture *f)
{
    uint8_t data[32] = {1};
    struct meta_request format = {.op = META_VOLUME_FORMAT, .data = slice_make(data, 32)};
    struct meta_request open = {.op = META_SESSION_OPEN, .offset = 9};

    *f = (struct fixture){.index = 2};
    kv_array_init(&f->array);
    ns_init(&f->ns, &f->array.kv);
    assert_int_equal(ns_apply(&f->ns, &open, 1)->error, EINVAL); /* not formatted yet */
    assert_int_equal(ns_apply(&f->ns, &format, 1)->error, 0);
    assert_int_equal(ns_apply(&f->ns, &format, 1)->error, EEXIST);
    f->session = ns_apply(&f->ns, &open, 2)->value;
}

static inline void teardown(struct fixture *f)
{
    ns_deinit(&f->ns);
    kv_array_deinit(&f->array);
}

static inline int own(struct fixture *f, struct meta_request request)
{
    request.stamp_time = 100 + ++f->index;
    f->reply = ns_apply(&f->ns, &request, f->index);
    return -(int)f->reply->error;
}

static inline int apply(struct fixture *f, struct meta_request request)
{
    request.session = f->session;
    request.seq = ++f->seq;
    return own(f, request);
}

static inline int make(struct fixture *f, uint8_t op, const char *name, uint32_t mode,
                       uint64_t *out_ino)
{
    struct meta_attr attr = {0};
    int r = apply(f, (struct meta_request){
                         .op = op, .ino = META_ROOT_INO, .name = slice_text(name), .mode = mode});

    if (r == 0) {
        assert_int_equal(meta_attr_decode(&attr, f->reply->attr), 0);
    }
    *out_ino = attr.ino;
    return r;
}

static inline struct meta_attr attr_of(struct fixture *f, uint64_t ino)
{
    struct meta_attr attr;

    assert_int_equal(
        ns_read(&f->ns, &(struct meta_request){.op = META_GETATTR, .ino = ino}, 1)->error, 0);
    assert_int_equal(meta_attr_decode(&attr, buf_slice(&f->ns.attr)), 0);
    return attr;
}
