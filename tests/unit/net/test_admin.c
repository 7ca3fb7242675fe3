/* The admin socket, over real sockets: who asks, how, and what a broken asker can do. */
#include "tests/lib/test.h"

#include "base/mem.h"
#include "net/admin.h"
#include "net/env_uv.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct {
    struct env_uv *uv;
    struct admin admin;
    struct env_timer stop;
    char *dir, *path, *address;
} world;

static void answer(struct admin *admin, const char *question, struct buf *out)
{
    (void)admin;
    if (strcmp(question, "big") == 0) {
        buf_append_zero(out, MiB(2));
    } else if (strcmp(question, "hello") == 0) {
        buf_printf(out, "good day\n");
    }
}

static void on_stop(struct env_timer *timer)
{
    (void)timer;
    env_uv_stop(world.uv);
}

static void run_for(uint64_t ns)
{
    world.stop.fire = on_stop;
    env_timer_start(env_uv_env(world.uv), &world.stop, env_now(env_uv_env(world.uv)) + ns);
    env_uv_run(world.uv);
}

static int setup(void **state)
{
    struct env_uv_config config = {.node_name = "test", .log_level = LOG_LEVEL_ERROR};

    (void)state;
    world.dir = test_dir_make();
    world.path = mem_printf("%s/admin.sock", world.dir);
    world.address = mem_printf("unix:%s", world.path);
    world.admin = (struct admin){.answer = answer};
    return env_uv_open(&world.uv, &config) < 0 ||
           admin_start(&world.admin, env_uv_env(world.uv), world.address) < 0;
}

static int teardown(void **state)
{
    (void)state;
    admin_stop(&world.admin);
    run_for(10 * NS_PER_MS);
    for (unsigned i = 0; i < ADMIN_CONNS_MAX; i++) {
        assert_false(world.admin.conns[i].in_use);
    }
    env_uv_close(world.uv);
    mem_free(world.path);
    mem_free(world.address);
    test_dir_remove(world.dir);
    return 0;
}

struct asking {
    const char *question;
    struct buf text;
    int result;
};

static void *ask_thread(void *data)
{
    struct asking *asking = data;

    asking->result = admin_ask(world.path, asking->question, 3000, &asking->text);
    return NULL;
}

static void ask(struct asking *asking)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, ask_thread, asking), 0);
    run_for(300 * NS_PER_MS);
    pthread_join(thread, NULL);
}

static void test_answers(void **state)
{
    struct asking hello = {.question = "hello"}, big = {.question = "big"},
                  what = {.question = "what"};
    struct stat stat_buf;

    (void)state;
    assert_int_equal(stat(world.path, &stat_buf), 0);
    assert_int_equal(stat_buf.st_mode & 07777, 0600);
    ask(&hello);
    assert_int_equal(hello.result, 0);
    assert_true(slice_equal(buf_slice(&hello.text), slice_text("good day\n")));
    ask(&big);
    assert_int_equal(big.result, 0);
    assert_int_equal(big.text.size, MiB(2));
    ask(&what);
    assert_int_equal(what.result, 0);
    assert_true(slice_equal(buf_slice(&what.text), slice_text("unknown question\n")));
    buf_deinit(&hello.text);
    buf_deinit(&big.text);
    buf_deinit(&what.text);
}

static int dial(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(un.sun_path, sizeof(un.sun_path), "%s", world.path);
    assert_int_equal(connect(fd, (const struct sockaddr *)&un, sizeof(un)), 0);
    return fd;
}

static bool is_closed(int fd)
{
    char byte;
    ssize_t r = recv(fd, &byte, 1, 0);

    return r == 0 || (r < 0 && errno == ECONNRESET);
}

/* On a busy machine it may take longer than one turn; still before the deadline. */
static bool soon_closed(int fd)
{
    for (unsigned i = 0; i < 60 && !is_closed(fd); i++) {
        run_for(50 * NS_PER_MS);
    }
    return is_closed(fd);
}

static unsigned askers(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < ADMIN_CONNS_MAX; i++) {
        count += world.admin.conns[i].in_use;
    }
    return count;
}

/* An endless line, silence, and more askers than there is room for: each is sent away. */
static void test_bad_askers(void **state)
{
    int fds[ADMIN_CONNS_MAX + 1];
    char line[ADMIN_LINE_MAX];

    (void)state;
    memset(line, 'x', sizeof(line));
    for (unsigned i = 0; i <= ADMIN_CONNS_MAX; i++) {
        fds[i] = dial();
    }
    assert_true(soon_closed(fds[ADMIN_CONNS_MAX]));
    assert_false(is_closed(fds[0]));
    assert_int_equal(send(fds[0], line, sizeof(line), MSG_NOSIGNAL), sizeof(line));
    assert_true(soon_closed(fds[0]));
    assert_false(is_closed(fds[1]));
    run_for(ADMIN_DEADLINE_NS);
    for (unsigned i = 0; i <= ADMIN_CONNS_MAX; i++) {
        assert_true(i == 0 || is_closed(fds[i]));
        close(fds[i]);
    }
}

/* Who does not take its answer is cut off too, and who leaves early does no harm. */
static void test_bad_takers(void **state)
{
    int slow = dial(), gone = dial();

    (void)state;
    assert_int_equal(send(slow, "big\n", 4, MSG_NOSIGNAL), 4);
    assert_int_equal(send(gone, "big\n", 4, MSG_NOSIGNAL), 4);
    close(gone);
    for (unsigned i = 0; i < 60 && askers() != 1; i++) {
        run_for(50 * NS_PER_MS);
    }
    assert_int_equal(askers(), 1);
    run_for(ADMIN_DEADLINE_NS);
    assert_int_equal(askers(), 0);
    close(slow);
}

/* Answers a byte now and then, until the asker has gone or has waited far too long. */
static void *dribble(void *data)
{
    int fd = accept4(*(int *)data, NULL, NULL, SOCK_CLOEXEC);
    struct pollfd gone = {.fd = fd, .events = POLLRDHUP};

    for (unsigned i = 0; i < 100 && poll(&gone, 1, 50) == 0; i++) {
        assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), 1);
    }
    close(fd);
    return NULL;
}

/* The time to answer is for the whole answer, not for each piece of it. */
static void test_answer_in_drops(void **state)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cleanup(buf_deinit) struct buf text = {0};
    pthread_t thread;

    (void)state;
    snprintf(un.sun_path, sizeof(un.sun_path), "%s/slow.sock", world.dir);
    assert_int_equal(bind(listener, (const struct sockaddr *)&un, sizeof(un)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(pthread_create(&thread, NULL, dribble, &listener), 0);
    assert_int_equal(admin_ask(un.sun_path, "hello", 300, &text), -ETIMEDOUT);
    assert_in_range(text.size, 1, 20);
    pthread_join(thread, NULL);
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_askers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_takers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answer_in_drops, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
