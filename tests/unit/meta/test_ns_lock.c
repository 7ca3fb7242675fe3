/* Locks in the namespace: who has them when sessions come and go, and who is told. */
#include "tests/unit/meta/ns_fixture.h"

#include "base/bytes.h"
#include "base/err.h"

struct session {
    uint64_t id, seq;
};

static struct session open_session(struct fixture *f, uint64_t nonce)
{
    assert_int_equal(own(f, (struct meta_request){.op = META_SESSION_OPEN, .offset = nonce}), 0);
    return (struct session){.id = f->reply->value};
}

static int as(struct fixture *f, struct session *session, struct meta_request request)
{
    request.session = session->id;
    request.seq = ++session->seq;
    return own(f, request);
}

static int lock(struct fixture *f, struct session *session, uint64_t ino, uint32_t type,
                uint32_t flags)
{
    return as(f, session,
              (struct meta_request){.op = META_LOCK,
                                    .ino = ino,
                                    .ino2 = 5,
                                    .mode = type,
                                    .flags = flags,
                                    .offset2 = UINT64_MAX});
}

static int state(struct fixture *f, const struct session *session, uint64_t ino, uint64_t ticket)
{
    struct meta_request request = {
        .op = META_LOCK_STATE, .session = session->id, .ino = ino, .size = ticket};
    const struct meta_reply *reply = ns_read(&f->ns, &request, 1);

    return reply->error != 0 ? -(int)reply->error : (int)reply->value;
}

static bool told(const struct fixture *f, const struct session *session)
{
    return f->ns.granted.size == 8 && bytes_get_le64(f->ns.granted.data) == session->id;
}

/* Keys of that letter. */
static unsigned count_keys(struct fixture *f, char letter)
{
    struct slice from = slice_make(&letter, 1), key, value;
    cleanup(buf_deinit) struct buf at = {0};
    unsigned count = 0;

    buf_append_slice(&at, from);
    while (kv_seek(f->ns.kv, buf_slice(&at), &key, &value) && record_key_is(key, letter)) {
        count++;
        buf_clear(&at);
        buf_append_slice(&at, key);
        buf_append_zero(&at, 1);
    }
    return count;
}

static void test_turns(void **context)
{
    struct fixture f;
    struct session a, b;
    uint64_t ino, ticket;

    (void)context;
    setup(&f);
    a = open_session(&f, 20);
    b = open_session(&f, 21);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(lock(&f, &a, ino, META_LOCK_WRITE, 0), 0);
    assert_int_equal(f.reply->value, 0);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_READ, 0), -EAGAIN);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_READ, META_LOCK_WAIT), 0);
    assert_int_equal(f.reply->value, 1);
    ticket = f.reply->value2;
    assert_int_equal(state(&f, &b, ino, ticket), 1);
    assert_int_equal(lock(&f, &a, ino, META_LOCK_NONE, 0), 0);
    assert_true(told(&f, &b));
    assert_int_equal(state(&f, &b, ino, ticket), 0);
    assert_int_equal(lock(&f, &a, ino, META_LOCK_WRITE, 0), -EAGAIN);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_NONE, 0), 0);
    assert_int_equal(count_keys(&f, 'L') + count_keys(&f, 'K') + count_keys(&f, 'W'), 0);
    assert_int_equal(lock(&f, &a, 999, META_LOCK_WRITE, 0), -ESTALE);
    assert_int_equal(lock(&f, &a, 999, META_LOCK_NONE, 0), 0);
    assert_int_equal(lock(&f, &a, ino, 3, 0), -EINVAL);
    teardown(&f);
}

/* A session ends: its locks and its place in line with it, and the next one is told. */
static void test_session_ends(void **context)
{
    struct fixture f;
    struct session a, b, c;
    uint64_t ino, b_ticket, c_ticket;

    (void)context;
    setup(&f);
    a = open_session(&f, 20);
    b = open_session(&f, 21);
    c = open_session(&f, 22);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(lock(&f, &a, ino, META_LOCK_WRITE, 0), 0);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_WRITE, META_LOCK_WAIT), 0);
    b_ticket = f.reply->value2;
    assert_int_equal(lock(&f, &c, ino, META_LOCK_WRITE, META_LOCK_WAIT), 0);
    c_ticket = f.reply->value2;
    assert_int_equal(own(&f, (struct meta_request){.op = META_SESSION_EXPIRE, .ino = b.id}), 0);
    assert_int_equal(state(&f, &b, ino, b_ticket), -ERR_SESSION_EXPIRED); /* not: its turn */
    assert_int_equal(state(&f, &c, ino, c_ticket), 1);
    assert_int_equal(own(&f, (struct meta_request){.op = META_SESSION_EXPIRE, .ino = a.id}), 0);
    assert_true(told(&f, &c));
    assert_int_equal(state(&f, &c, ino, c_ticket), 0);
    assert_int_equal(own(&f, (struct meta_request){.op = META_SESSION_EXPIRE, .ino = c.id}), 0);
    assert_int_equal(count_keys(&f, 'L') + count_keys(&f, 'K') + count_keys(&f, 'W'), 0);
    teardown(&f);
}

static void test_cancel(void **context)
{
    struct fixture f;
    struct session a, b;
    uint64_t ino, ticket;

    (void)context;
    setup(&f);
    a = open_session(&f, 20);
    b = open_session(&f, 21);
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    assert_int_equal(lock(&f, &a, ino, META_LOCK_WRITE, 0), 0);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_WRITE, META_LOCK_WAIT), 0);
    ticket = f.reply->value2;
    assert_int_equal(/* not another session's */
                     as(&f, &a,
                        (struct meta_request){.op = META_LOCK_CANCEL, .ino = ino, .size = ticket}),
                     0);
    assert_int_equal(f.reply->value, 0);
    assert_int_equal(
        as(&f, &b, (struct meta_request){.op = META_LOCK_CANCEL, .ino = ino, .size = ticket}), 0);
    assert_int_equal(f.reply->value, 1);
    assert_int_equal(lock(&f, &a, ino, META_LOCK_NONE, 0), 0);
    assert_int_equal(f.ns.granted.size, 0);
    assert_int_equal(count_keys(&f, 'L') + count_keys(&f, 'K') + count_keys(&f, 'W'), 0);
    teardown(&f);
}

static int local(struct fixture *f, struct session *session, uint32_t on)
{
    return as(f, session, (struct meta_request){.op = META_LOCK_LOCAL, .count = on});
}

/* A mount that was alone has granted locks itself: nobody gets any before it has told them all. */
static void test_local(void **context)
{
    struct fixture f;
    struct session a = {0}, b;
    uint64_t ino;

    (void)context;
    setup(&f);
    a.id = f.session;
    assert_int_equal(local(&f, &a, 1), 0);
    f.seq = a.seq;
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    a.seq = f.seq;
    b = open_session(&f, 21);
    assert_int_equal(local(&f, &b, 1), -EAGAIN);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_READ, META_LOCK_WAIT), -ERR_BUSY);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_NONE, 0), 0);
    assert_int_equal(lock(&f, &a, ino, META_LOCK_WRITE, 0), 0); /* tells */
    assert_int_equal(local(&f, &a, 0), 0);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_READ, 0), -EAGAIN);
    assert_int_equal(lock(&f, &a, ino, META_LOCK_NONE, 0), 0);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_READ, 0), 0);
    teardown(&f);
}

/* Or is gone, without having told any. */
static void test_local_ends(void **context)
{
    struct fixture f;
    struct session a = {0}, b;
    uint64_t ino;

    (void)context;
    setup(&f);
    a.id = f.session;
    assert_int_equal(make(&f, META_CREATE, "f", 0644, &ino), 0);
    a.seq = f.seq;
    assert_int_equal(local(&f, &a, 1), 0);
    b = open_session(&f, 21);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_READ, 0), -ERR_BUSY);
    assert_int_equal(own(&f, (struct meta_request){.op = META_SESSION_EXPIRE, .ino = a.id}), 0);
    assert_int_equal(lock(&f, &b, ino, META_LOCK_READ, 0), 0);
    teardown(&f);
}

/* Two files, two sessions: a circle is found in the records, over the files that it goes through.
 */
static void test_deadlock(void **context)
{
    struct fixture f;
    struct session a, b;
    uint64_t one, two;

    (void)context;
    setup(&f);
    a = open_session(&f, 20);
    b = open_session(&f, 21);
    assert_int_equal(make(&f, META_CREATE, "one", 0644, &one), 0);
    assert_int_equal(make(&f, META_CREATE, "two", 0644, &two), 0);
    assert_int_equal(lock(&f, &a, one, META_LOCK_WRITE, 0), 0);
    assert_int_equal(lock(&f, &b, two, META_LOCK_WRITE, 0), 0);
    assert_int_equal(lock(&f, &a, two, META_LOCK_WRITE, META_LOCK_WAIT), 0);
    assert_int_equal(lock(&f, &b, one, META_LOCK_WRITE, META_LOCK_WAIT), -EDEADLK);
    assert_int_equal(lock(&f, &b, one, META_LOCK_WRITE, META_LOCK_WAIT | META_LOCK_FLOCK), 0);
    assert_int_equal(f.reply->value, 0); /* of another kind */
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),      cmocka_unit_test(test_session_ends),
        cmocka_unit_test(test_cancel),     cmocka_unit_test(test_local),
        cmocka_unit_test(test_local_ends), cmocka_unit_test(test_deadlock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
