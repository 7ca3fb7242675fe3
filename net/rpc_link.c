#include "net/rpc_link.h"

#include "base/buggify.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

SCHEMA_IMPLEMENT(rpc_hello, RPC_HELLO)

struct link_send {
    struct env_send send;
    struct rpc_link *link;
    bool oneway;
    struct buf head;
    struct buf payload;
};

static void link_send_done(struct env_send *send, int status)
{
    struct link_send *out = container_of(send, struct link_send, send);

    struct rpc_link *link = out->link;
    size_t size = out->head.size + out->payload.size;

    (void)status;
    *(out->oneway ? &link->oneway_queued : &link->reply_queued) -= size;
    if (!out->oneway && link->sent != NULL) {
        link->sent(link);
    }
    buf_deinit(&out->head);
    buf_deinit(&out->payload);
    mem_free(out);
}

static void queue(struct rpc_link *link, struct frame frame, struct slice body, struct buf *payload)
{
    struct link_send *out = mem_zalloc(sizeof(*out));

    if (payload != NULL) {
        out->payload = buf_take(payload);
    }
    frame_encode(frame, body, buf_slice(&out->payload), &out->head);
    out->send.iov[0] = (struct iovec){out->head.data, out->head.size};
    out->send.iov[1] = (struct iovec){out->payload.data, out->payload.size};
    out->send.iov_count = out->payload.size ? 2 : 1;
    out->send.done = link_send_done;
    out->link = link;
    out->oneway = frame.type == FRAME_ONEWAY;
    *(out->oneway ? &link->oneway_queued : &link->reply_queued) +=
        out->head.size + out->payload.size;
    env_send(link->env, &link->conn, &out->send);
}

void rpc_link_send(struct rpc_link *link, struct frame frame, struct slice body,
                   struct buf *payload)
{
    queue(link, frame, body, payload);
}

void rpc_link_oneway(struct rpc_link *link, uint16_t opcode, struct slice body,
                     struct slice payload)
{
    struct frame frame = {.type = FRAME_ONEWAY, .opcode = opcode};
    struct buf copy = {0};

    if (link->oneway_queued + body.size + payload.size > RPC_ONEWAY_QUEUE_MAX) {
        return;
    }
    buf_append_slice(&copy, payload);
    queue(link, frame, body, &copy);
}

static void on_opened(struct env_conn *conn)
{
    struct rpc_link *link = container_of(conn, struct rpc_link, conn);
    struct rpc_hello hello = {
        .cluster_uuid = slice_make(link->identity->cluster_uuid, 16),
        .role = (uint8_t)link->identity->role,
        .node_id = link->identity->node_id,
    };
    cleanup(buf_deinit) struct buf body = {0};

    rpc_hello_encode(&hello, &body);
    rpc_link_send(link, (struct frame){.type = FRAME_HELLO}, buf_slice(&body), NULL);
}

static struct iovec on_want(struct env_conn *conn)
{
    struct rpc_link *link = container_of(conn, struct rpc_link, conn);
    struct iovec want = frame_reader_want(&link->reader);

    if (BUGGIFY(link->env, 10)) {
        want.iov_len = 1 + env_random(link->env) % want.iov_len; /* a short read */
    }
    return want;
}

static void log_foreign(struct rpc_link *link, const struct rpc_identity *peer)
{
    char ours[33], theirs[33];

    for (unsigned i = 0; i < 16; i++) {
        snprintf(ours + 2 * i, 3, "%02x", link->identity->cluster_uuid[i]);
        snprintf(theirs + 2 * i, 3, "%02x", peer->cluster_uuid[i]);
    }
    LOG_WARN(link->env, "rpc",
             "refused a peer of another cluster: ours=%s theirs=%s; check the addresses and the "
             "uuid in its cluster.conf",
             ours, theirs);
}

static int accept_hello(struct rpc_link *link, const struct frame *frame, struct slice body)
{
    struct rpc_hello hello;
    int r;

    if (frame->type != FRAME_HELLO) {
        return -ERR_BAD_MESSAGE;
    }
    r = rpc_hello_decode(&hello, body);
    if (r < 0) {
        return r;
    }
    if (hello.cluster_uuid.size != 16 || hello.role > RPC_ROLE_ADMIN) {
        return -ERR_BAD_MESSAGE;
    }
    memcpy(link->peer.cluster_uuid, hello.cluster_uuid.data, 16);
    link->peer.role = (enum rpc_role)hello.role;
    link->peer.node_id = hello.node_id;
    if (memcmp(link->peer.cluster_uuid, link->identity->cluster_uuid, 16) != 0) {
        log_foreign(link, &link->peer);
        return -ERR_WRONG_CLUSTER;
    }
    link->ready = true;
    return link->hello(link);
}

static void on_received(struct env_conn *conn, size_t size)
{
    struct rpc_link *link = container_of(conn, struct rpc_link, conn);
    struct buf *payload;
    struct frame frame;
    struct slice body;
    int r;

    frame_reader_received(&link->reader, size);
    while (!link->failing && (r = frame_reader_next(&link->reader, &frame, &body, &payload)) != 0) {
        if (r > 0 && link->ready) {
            link->frame(link, &frame, body, payload);
            continue;
        }
        if (r > 0) {
            r = accept_hello(link, &frame, body);
        }
        if (r < 0) {
            rpc_link_fail(link, r);
        }
    }
}

static void on_closed(struct env_conn *conn, int status)
{
    struct rpc_link *link = container_of(conn, struct rpc_link, conn);

    link->failing = true;
    link->lost(link, link->status != 0 ? link->status : status);
}

void rpc_link_init(struct rpc_link *link, struct env *env, const struct rpc_identity *identity)
{
    *link = (struct rpc_link){.env = env, .identity = identity};
    link->conn = (struct env_conn){
        .opened = on_opened, .want = on_want, .received = on_received, .closed = on_closed};
    frame_reader_init(&link->reader);
}

void rpc_link_deinit(struct rpc_link *link)
{
    frame_reader_deinit(&link->reader);
}

void rpc_link_fail(struct rpc_link *link, int status)
{
    if (!link->failing) {
        link->failing = true;
        link->status = status;
        env_conn_close(link->env, &link->conn);
    }
}
