#include "net/admin.h"

#include "base/assert.h"
#include "net/address.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

/* ---- serving ---- */

static struct admin_conn *of(struct env_conn *conn)
{
    return container_of(conn, struct admin_conn, conn);
}

static void arm(struct admin_conn *c)
{
    struct env *env = c->admin->env;

    env_timer_start(env, &c->deadline, env_now(env) + ADMIN_DEADLINE_NS);
}

static void on_deadline(struct env_timer *timer)
{
    struct admin_conn *c = container_of(timer, struct admin_conn, deadline);

    env_conn_close(c->admin->env, &c->conn);
}

static void on_opened(struct env_conn *conn)
{
    if (conn->peer_uid != 0 && conn->peer_uid != geteuid()) {
        env_conn_close(of(conn)->admin->env, conn);
    }
}

static struct iovec on_want(struct env_conn *conn)
{
    struct admin_conn *c = of(conn);

    return (struct iovec){c->line + c->size, sizeof(c->line) - c->size};
}

static void on_sent(struct env_send *send, int status)
{
    struct admin_conn *c = container_of(send, struct admin_conn, send);

    (void)status;
    env_conn_close(c->admin->env, &c->conn);
}

static void reply(struct admin_conn *c)
{
    struct admin *admin = c->admin;

    env_conn_pause(admin->env, &c->conn, true); /* one question a connection */
    admin->answer(admin, c->line, &c->answer);
    if (c->answer.size == 0) {
        buf_printf(&c->answer, "unknown question\n");
    }
    c->send = (struct env_send){
        .iov = {{c->answer.data, c->answer.size}}, .iov_count = 1, .done = on_sent};
    arm(c);
    env_send(admin->env, &c->conn, &c->send);
}

static void on_received(struct env_conn *conn, size_t size)
{
    struct admin_conn *c = of(conn);
    char *end = memchr(c->line + c->size, '\n', size);

    c->size += size;
    if (end != NULL) {
        *end = '\0';
        reply(c);
    } else if (c->size == sizeof(c->line)) {
        env_conn_close(c->admin->env, conn);
    }
}

static void on_closed(struct env_conn *conn, int status)
{
    struct admin_conn *c = of(conn);

    (void)status;
    env_timer_stop(c->admin->env, &c->deadline);
    buf_deinit(&c->answer);
    c->in_use = false;
}

static struct env_conn *on_accept(struct env_listener *listener)
{
    struct admin *admin = container_of(listener, struct admin, listener);

    for (unsigned i = 0; i < ADMIN_CONNS_MAX; i++) {
        struct admin_conn *c = &admin->conns[i];

        if (!c->in_use) {
            *c = (struct admin_conn){.admin = admin, .in_use = true};
            c->conn.opened = on_opened;
            c->conn.want = on_want;
            c->conn.received = on_received;
            c->conn.closed = on_closed;
            c->deadline.fire = on_deadline;
            arm(c);
            return &c->conn;
        }
    }
    return NULL;
}

int admin_start(struct admin *admin, struct env *env, const char *address)
{
    ASSERT(admin->answer != NULL);
    admin->env = env;
    admin->listener = (struct env_listener){.accept = on_accept, .owner_only = true};
    return env_listen(env, &admin->listener, address);
}

void admin_stop(struct admin *admin)
{
    if (admin->env == NULL) {
        return;
    }
    env_listen_stop(admin->env, &admin->listener);
    for (unsigned i = 0; i < ADMIN_CONNS_MAX; i++) {
        if (admin->conns[i].in_use) {
            env_conn_close(admin->env, &admin->conns[i].conn);
        }
    }
}

/* ---- asking ---- */

static int dial(const char *path)
{
    cleanup(buf_deinit) struct buf text = {0};
    struct address address;
    int fd, r;

    buf_printf(&text, "unix:%s", path);
    buf_append(&text, "", 1);
    r = address_parse(&address, (const char *)text.data);
    if (r < 0) {
        return r;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    r = fd < 0 ? -errno : 0;
    if (r == 0 && connect(fd, (const struct sockaddr *)&address.storage, address.size) < 0) {
        r = -errno;
        close(fd);
    }
    address_deinit(&address);
    return r < 0 ? r : fd;
}

/* Until `timer` has run out. */
static int read_all(int fd, int timer, struct buf *out)
{
    while (out->size < ADMIN_ANSWER_MAX) {
        struct pollfd wait[] = {{.fd = fd, .events = POLLIN}, {.fd = timer, .events = POLLIN}};
        ssize_t r;

        if (poll(wait, 2, -1) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        if (wait[1].revents != 0) {
            return -ETIMEDOUT;
        }
        r = recv(fd, buf_reserve(out, KiB(64)), KiB(64), 0);
        if (r <= 0) {
            return r < 0 ? -errno : out->size > 0 ? 0 : -ECONNRESET;
        }
        out->size += (size_t)r;
    }
    return -EMSGSIZE;
}

/* The whole answer within the time, however many pieces it comes in. */
static int read_within(int fd, unsigned timeout_ms, struct buf *out)
{
    struct itimerspec spec = {.it_value = {.tv_sec = timeout_ms / 1000,
                                           .tv_nsec = (long)(timeout_ms % 1000) * NS_PER_MS}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    int r;

    if (timer < 0) {
        return -errno;
    }
    r = timerfd_settime(timer, 0, &spec, NULL) < 0 ? -errno : read_all(fd, timer, out);
    close(timer);
    return r;
}

int admin_ask(const char *path, const char *question, unsigned timeout_ms, struct buf *out_answer)
{
    cleanup(buf_deinit) struct buf line = {0};
    int fd = dial(path);
    int r = 0;

    if (fd < 0) {
        return fd;
    }
    buf_printf(&line, "%s\n", question);
    if (line.size > ADMIN_LINE_MAX) {
        r = -EINVAL;
    } else if (send(fd, line.data, line.size, MSG_NOSIGNAL) != (ssize_t)line.size) {
        r = -EPIPE;
    }
    if (r == 0) {
        r = read_within(fd, timeout_ms, out_answer);
    }
    close(fd);
    return r;
}
