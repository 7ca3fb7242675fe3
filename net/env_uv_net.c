/*
 * Stream sockets of env_uv on uv_poll. Sends of one turn of the loop leave in one sendmsg; reads go
 * straight into the memory that the owner names.
 *
 *     connecting --> open --> (error | our wish) --> failed: sends end, then closed()
 */
#include "base/assert.h"
#include "base/mem.h"
#include "net/address.h"
#include "net/env_uv_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define SEND_IOV_MAX   64
#define READS_PER_TURN 16 /* fairness between connections */
#define SOCKET_BUFFER  MiB(1)
#define BACKLOG        128
#define ACCEPT_REST    (100 * NS_PER_MS)

struct uv_conn {
    uv_poll_t poll;
    struct env_uv *uv;
    struct env_conn *conn;
    struct list sends;
    struct list_node dirty; /* in env_uv.dirty */
    struct deferred deferred;
    int fd; /* -1 = never opened */
    int status;
    bool connecting;
    bool failed;
    bool want_write;
};

struct uv_listener {
    uv_poll_t poll;
    struct env_timer rest; /* no descriptors: asking again at once would spin */
    struct env_uv *uv;
    struct env_listener *listener;
    int fd;
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void set_events(struct uv_conn *c)
{
    int events = 0;

    if (c->failed) {
        return;
    }
    if (!c->conn->paused && !c->connecting) {
        events |= UV_READABLE;
    }
    if (c->want_write || c->connecting) {
        events |= UV_WRITABLE;
    }
    if (events != 0) {
        uv_poll_start(&c->poll, events, on_poll);
    } else {
        uv_poll_stop(&c->poll);
    }
}

static void free_conn(uv_handle_t *handle)
{
    mem_free(handle->data);
}

/* All sends end, then the owner is told; nothing of ours touches the connection afterwards. */
static void finish(struct deferred *deferred)
{
    struct uv_conn *c = container_of(deferred, struct uv_conn, deferred);
    struct env_conn *conn = c->conn;
    struct list_node *node;

    while ((node = list_pop_front(&c->sends)) != NULL) {
        struct env_send *send = container_of(node, struct env_send, node);

        send->done(send, c->status != 0 ? c->status : -ECANCELED);
    }
    list_remove(&c->dirty);
    conn->impl = NULL;
    conn->closed(conn, c->status);
    if (c->fd >= 0) {
        uv_close((uv_handle_t *)&c->poll, free_conn);
        close(c->fd);
    } else {
        mem_free(c);
    }
}

static void fail(struct uv_conn *c, int status)
{
    if (c->failed) {
        return;
    }
    if (c->fd >= 0) {
        uv_poll_stop(&c->poll);
    }
    c->failed = true;
    c->status = status;
    c->deferred.run = finish;
    env_uv_defer(c->uv, &c->deferred);
}

static struct uv_conn *conn_new(struct env_uv *uv, struct env_conn *conn)
{
    struct uv_conn *c = mem_zalloc(sizeof(*c));

    c->uv = uv;
    c->conn = conn;
    c->fd = -1;
    c->poll.data = c;
    list_init(&c->sends);
    conn->impl = c;
    conn->paused = false;
    conn->peer_uid = UINT32_MAX;
    return c;
}

static void adopt_fd(struct uv_conn *c, int fd)
{
    int on = 1, size = (int)SOCKET_BUFFER, idle = 5, interval = 1, count = 3;
    unsigned timeout_ms = 10000;
    struct ucred peer;
    socklen_t peer_size = sizeof(peer);
    int r;

    c->fd = fd;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) == 0 && peer.pid != 0) {
        c->conn->peer_uid = peer.uid;
    }
    r = uv_poll_init(&c->uv->loop, &c->poll, fd);
    ASSERT(r == 0);
    c->poll.data = c;
}

/* ---- sending ---- */

static unsigned gather(struct uv_conn *c, struct iovec iov[SEND_IOV_MAX])
{
    unsigned count = 0;

    list_for_each (node, &c->sends) {
        struct env_send *send = container_of(node, struct env_send, node);
        size_t skip = send->sent;

        for (unsigned i = 0; i < send->iov_count; i++) {
            if (skip >= send->iov[i].iov_len) {
                skip -= send->iov[i].iov_len;
                continue;
            }
            if (count == SEND_IOV_MAX) {
                return count;
            }
            iov[count].iov_base = (char *)send->iov[i].iov_base + skip;
            iov[count++].iov_len = send->iov[i].iov_len - skip;
            skip = 0;
        }
    }
    return count;
}

static size_t send_left(const struct env_send *send)
{
    size_t size = 0;

    for (unsigned i = 0; i < send->iov_count; i++) {
        size += send->iov[i].iov_len;
    }
    return size - send->sent;
}

/* The kernel took `size` bytes: whole sends are done. */
static void account(struct uv_conn *c, size_t size)
{
    struct list_node *node;

    while ((node = list_first(&c->sends)) != NULL) {
        struct env_send *send = container_of(node, struct env_send, node);
        size_t left = send_left(send);

        if (size < left) {
            send->sent += size;
            return;
        }
        size -= left;
        list_remove(node);
        send->done(send, 0);
    }
}

static void flush(struct uv_conn *c)
{
    while (!c->failed && !c->connecting && !list_empty(&c->sends)) {
        struct iovec iov[SEND_IOV_MAX];
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = gather(c, iov)};
        ssize_t r = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
            if (!c->want_write) {
                c->want_write = true;
                set_events(c);
            }
            return;
        }
        if (r < 0) {
            fail(c, -errno);
            return;
        }
        account(c, (size_t)r);
    }
    if (c->want_write) {
        c->want_write = false;
        set_events(c);
    }
}

void env_uv_net_flush(struct env_uv *uv)
{
    struct list_node *node;

    while ((node = list_pop_front(&uv->dirty)) != NULL) {
        flush(container_of(node, struct uv_conn, dirty));
    }
}

void env_uv_send(struct env *env, struct env_conn *conn, struct env_send *send)
{
    struct uv_conn *c = conn->impl;

    (void)env;
    ASSERT(c != NULL);
    send->sent = 0;
    list_push_back(&c->sends, &send->node);
    if (!c->failed && !c->connecting && !c->want_write && !list_linked(&c->dirty)) {
        list_push_back(&c->uv->dirty, &c->dirty);
    }
}

/* ---- receiving ---- */

static void receive(struct uv_conn *c)
{
    for (unsigned i = 0; i < READS_PER_TURN && !c->failed && !c->conn->paused; i++) {
        struct iovec want = c->conn->want(c->conn);
        ssize_t r;

        ASSERT(want.iov_len > 0);
        r = recv(c->fd, want.iov_base, want.iov_len, MSG_DONTWAIT);
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0 && errno == EAGAIN) {
            return;
        }
        if (r <= 0) {
            fail(c, r < 0 ? -errno : 0);
            return;
        }
        c->conn->received(c->conn, (size_t)r);
        if ((size_t)r < want.iov_len) {
            return;
        }
    }
}

static void connected(struct uv_conn *c)
{
    int error = 0;
    socklen_t size = sizeof(error);

    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        fail(c, -error);
        return;
    }
    c->connecting = false;
    set_events(c);
    c->conn->opened(c->conn);
    flush(c);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct uv_conn *c = poll->data;

    if (c->failed) {
        return;
    }
    if (c->connecting) {
        connected(c);
        return;
    }
    if (events & UV_WRITABLE) {
        flush(c);
    }
    if (events & UV_READABLE || status < 0) {
        receive(c);
    }
}

/* ---- connecting, listening ---- */

static void opened_later(struct deferred *deferred)
{
    connected(container_of(deferred, struct uv_conn, deferred));
}

static int try_connect(struct uv_conn *c, const struct address *address)
{
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return -errno;
    }
    c->connecting = true;
    if (connect(fd, (const struct sockaddr *)&address->storage, address->size) == 0) {
        adopt_fd(c, fd);
        c->deferred.run = opened_later;
        env_uv_defer(c->uv, &c->deferred);
        return 0;
    }
    if (errno != EINPROGRESS) {
        int r = -errno;

        close(fd);
        return r;
    }
    adopt_fd(c, fd);
    set_events(c);
    return 0;
}

void env_uv_connect(struct env *env, struct env_conn *conn, const char *text)
{
    struct uv_conn *c = conn_new(env_uv_of(env), conn);
    struct address address;
    int r;

    r = address_parse(&address, text);
    if (r == 0) {
        r = try_connect(c, &address);
        address_deinit(&address);
    }
    if (r < 0) {
        fail(c, r);
    }
}

void env_uv_conn_pause(struct env *env, struct env_conn *conn, bool paused)
{
    (void)env;
    if (conn->paused != paused) {
        conn->paused = paused;
        if (conn->impl != NULL) {
            set_events(conn->impl);
        }
    }
}

void env_uv_conn_close(struct env *env, struct env_conn *conn)
{
    struct uv_conn *c = conn->impl;

    (void)env;
    if (c == NULL || c->failed) {
        return;
    }
    if (list_linked(&c->deferred.node)) {
        list_remove(&c->deferred.node); /* opened_later */
    }
    flush(c);
    fail(c, 0);
}

static void on_accept(uv_poll_t *poll, int status, int events)
{
    struct uv_listener *l = poll->data;
    int fd;

    (void)status;
    (void)events;
    while ((fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct env_conn *conn = l->listener->accept(l->listener);
        struct uv_conn *c;

        if (conn == NULL) {
            close(fd);
            continue;
        }
        c = conn_new(l->uv, conn);
        c->connecting = true;
        adopt_fd(c, fd);
        c->deferred.run = opened_later;
        env_uv_defer(l->uv, &c->deferred);
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        uv_poll_stop(poll);
        env_timer_start(&l->uv->env, &l->rest, env_now(&l->uv->env) + ACCEPT_REST);
    }
}

static void on_rested(struct env_timer *timer)
{
    struct uv_listener *l = container_of(timer, struct uv_listener, rest);

    uv_poll_start(&l->poll, UV_READABLE, on_accept);
}

/* A socket file that nobody answers on is left over from a killed process. */
static int remove_stale(const struct address *address)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&address->storage;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r;

    if (fd < 0) {
        return -errno;
    }
    r = connect(fd, (const struct sockaddr *)un, address->size);
    if (r < 0 && errno == ECONNREFUSED) {
        unlink(un->sun_path);
    }
    close(fd);
    return r == 0 ? -EADDRINUSE : 0;
}

/* Before the bind, which makes the file with the socket's mode (unix(7) says fchmod has no portable
 * meaning; on Linux it has this one). */
static int restrict_mode(int fd, const struct env_listener *listener)
{
    return listener->owner_only && fchmod(fd, 0600) < 0 ? -errno : 0;
}

static int listen_fd(const struct address *address, const struct env_listener *listener)
{
    int on = 1, r = 0;
    int fd;

    if (address->storage.ss_family == AF_UNIX) {
        r = remove_stale(address);
    }
    if (r < 0) {
        return r;
    }
    fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    r = restrict_mode(fd, listener);
    if (r < 0) {
        close(fd);
        return r;
    }
    if (bind(fd, (const struct sockaddr *)&address->storage, address->size) < 0 ||
        listen(fd, BACKLOG) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

int env_uv_listen(struct env *env, struct env_listener *listener, const char *text)
{
    struct uv_listener *l;
    struct address address;
    int fd, r;

    r = address_parse(&address, text);
    if (r < 0) {
        return r;
    }
    fd = listen_fd(&address, listener);
    address_deinit(&address);
    if (fd < 0) {
        return fd;
    }
    l = mem_zalloc(sizeof(*l));
    *l = (struct uv_listener){.uv = env_uv_of(env), .listener = listener, .fd = fd};
    l->rest.fire = on_rested;
    listener->impl = l;
    r = uv_poll_init(&l->uv->loop, &l->poll, fd);
    ASSERT(r == 0);
    l->poll.data = l;
    return uv_poll_start(&l->poll, UV_READABLE, on_accept);
}

void env_uv_listen_stop(struct env *env, struct env_listener *listener)
{
    struct uv_listener *l = listener->impl;

    (void)env;
    if (l != NULL) {
        listener->impl = NULL;
        env_timer_stop(env, &l->rest);
        uv_poll_stop(&l->poll);
        close(l->fd);
        uv_close((uv_handle_t *)&l->poll, free_conn);
    }
}
