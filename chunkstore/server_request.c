/* server_request: one handler per opcode: decode, check, run the store's op, reply. */
#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/chunk_server.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

struct server_op {
    struct chunk_server *server;
    struct rpc_request *request;
    struct buf payload; /* of a put: outlives the request's use */
    uint64_t started_ns;
    uint64_t epoch; /* of our map then */
    union {
        struct store_put put;
        struct store_get get;
        struct store_delete del;
        struct store_scan scan;
    };
};

static void reply_status(struct rpc_request *request, int status)
{
    if (!request->oneway) {
        rpc_request_reply(request, status, (struct slice){0}, NULL);
    }
}

static struct server_op *begin(struct chunk_server *server, struct rpc_request *request)
{
    struct server_op *op = mem_zalloc(sizeof(*op));

    op->server = server;
    op->request = request;
    op->started_ns = env_now(server->env);
    op->epoch = server->peers.map.epoch;
    server->requests++;
    server->busy++;
    return op;
}

static void end(struct server_op *op)
{
    struct chunk_server *server = op->server;

    buf_deinit(&op->payload);
    mem_free(op);
    server->requests--;
    chunk_server_released(server);
}

/* seconds: may be NULL. */
static void count_end(struct server_op *op, int result, struct metrics_histogram *seconds)
{
    op->server->metrics.failed += result < 0;
    if (seconds != NULL) {
        metrics_observe(seconds, env_now(op->server->env) - op->started_ns);
    }
}

static struct index_key key_of(uint64_t session, uint64_t seq)
{
    return (struct index_key){(uint32_t)(chunk_id_hash(session, seq) % CHUNK_PARTITIONS), session,
                              seq};
}

/* Refuses clients whose map is older than ours, for partitions that moved away. */
static bool stale(struct chunk_server *server, struct rpc_request *request, uint64_t epoch,
                  uint32_t partition)
{
    cleanup(buf_deinit) struct buf map = {0};
    cleanup(buf_deinit) struct buf body = {0};
    struct chunk_heartbeat_reply answer = {.epoch = server->peers.map.epoch};

    if (epoch == 0 || epoch >= server->peers.map.epoch || chunk_server_owns(server, partition)) {
        return false;
    }
    cluster_map_encode(&server->peers.map, &map);
    answer.map = buf_slice(&map);
    chunk_heartbeat_reply_encode(&answer, &body);
    rpc_request_reply(request, -ERR_STALE_EPOCH, buf_slice(&body), NULL);
    return true;
}

/* ---- put ---- */

static void reply_put(struct server_op *op, int result)
{
    struct chunk_put_reply reply = {.room = chunk_store_room(&op->server->store) + 1};
    cleanup(buf_deinit) struct buf body = {0};

    chunk_put_reply_encode(&reply, &body);
    rpc_request_reply(op->request, result, buf_slice(&body), NULL);
}

static void put_released(struct store_put *put)
{
    struct server_op *op = container_of(put, struct server_op, put);

    op->server->puts--;
    op->server->old_puts -= op->epoch < op->server->peers.map.epoch;
    count_end(op, put->op.result, &op->server->metrics.put_seconds);
    reply_put(op, put->op.result);
    end(op);
}

static void handle_put(struct chunk_server *server, struct rpc_request *request)
{
    struct chunk_put_request message;
    struct server_op *op;
    struct index_key key;

    if (chunk_put_request_decode(&message, request->body) < 0) {
        reply_status(request, -ERR_BAD_MESSAGE);
        return;
    }
    key = key_of(message.session, message.seq);
    if (stale(server, request, message.epoch, key.partition)) {
        return;
    }
    op = begin(server, request);
    server->puts++;
    op->payload = buf_take(&request->payload);
    server->metrics.put_bytes += op->payload.size;
    op->put = (struct store_put){.key = key,
                                 .length = message.length,
                                 .flags = message.flags,
                                 .crcs = message.crcs,
                                 .data = buf_slice(&op->payload),
                                 .released = put_released};
    store_put_start(&op->put, &server->store);
}

/* ---- get ---- */

static void get_released(struct store_get *get)
{
    struct server_op *op = container_of(get, struct server_op, get);
    cleanup(buf_deinit) struct buf body = {0};
    struct chunk_get_reply answer = {get->chunk_length, get->flags, get->first,
                                     buf_slice(&get->crcs)};

    count_end(op, get->op.result, &op->server->metrics.read_seconds);
    if (get->op.result == 0) {
        op->server->metrics.read_bytes += get->payload.size;
        chunk_get_reply_encode(&answer, &body);
        rpc_request_reply(op->request, 0, buf_slice(&body), &get->payload);
    } else {
        reply_status(op->request, get->op.result);
    }
    buf_deinit(&get->crcs);
    buf_deinit(&get->payload);
    end(op);
}

static void handle_get(struct chunk_server *server, struct rpc_request *request)
{
    struct chunk_get_request message;
    struct server_op *op;
    struct index_key key;

    if (chunk_get_request_decode(&message, request->body) < 0) {
        reply_status(request, -ERR_BAD_MESSAGE);
        return;
    }
    key = key_of(message.session, message.seq);
    if (stale(server, request, message.epoch, key.partition)) {
        return;
    }
    if (server->store.get_bytes >= server->store.settings.get_queue_bytes) {
        reply_status(request, -ERR_BUSY);
        return;
    }
    op = begin(server, request);
    op->get = (struct store_get){
        .key = key, .offset = message.offset, .length = message.length, .released = get_released};
    store_get_start(&op->get, &server->store);
}

/* ---- delete ---- */

static void delete_released(struct store_delete *del)
{
    struct server_op *op = container_of(del, struct server_op, del);

    op->server->deletes--;
    count_end(op, del->op.result, NULL);
    reply_status(op->request, del->op.result);
    end(op);
}

static void handle_delete(struct chunk_server *server, struct rpc_request *request)
{
    struct chunk_delete_request message;
    struct server_op *op;
    size_t count;

    if (chunk_delete_request_decode(&message, request->body) < 0) {
        reply_status(request, -ERR_BAD_MESSAGE);
        return;
    }
    if (server->deletes >= SERVER_DELETES_MAX) {
        reply_status(request, -ERR_BUSY);
        return;
    }
    count = chunk_ids_count(message.ids);
    for (size_t i = 0; i < count; i++) {
        struct index_key key;

        chunk_ids_get(message.ids, i, &key.session, &key.seq);
        if (stale(server, request, message.epoch, key_of(key.session, key.seq).partition)) {
            return;
        }
    }
    server->deletes++;
    op = begin(server, request);
    op->del = (struct store_delete){.ids = message.ids, .released = delete_released};
    store_delete_start(&op->del, &server->store);
}

/* ---- healing and status ---- */

static void handle_hint(struct chunk_server *server, struct rpc_request *request)
{
    struct chunk_hint_request message;
    struct index_key key;
    int r = chunk_hint_request_decode(&message, request->body);

    if (r == 0) {
        key = key_of(message.session, message.seq);
        heal_hint(&server->heal, &key, message.target);
    }
    reply_status(request, r);
}

static void handle_repair(struct chunk_server *server, struct rpc_request *request)
{
    struct chunk_repair_request message;
    struct index_key key;
    int r = chunk_repair_request_decode(&message, request->body);

    if (r == 0) {
        key = key_of(message.session, message.seq);
        if (chunk_server_owns(server, key.partition)) {
            heal_pull(&server->heal, &key, /* replace= */ false);
        }
    }
    reply_status(request, r);
}

static void handle_digest(struct chunk_server *server, struct rpc_request *request)
{
    struct chunk_digest_request message;
    struct chunk_digest_reply answer;
    cleanup(buf_deinit) struct buf digests = {0};
    cleanup(buf_deinit) struct buf body = {0};
    struct slice all;

    if (chunk_digest_request_decode(&message, request->body) < 0 ||
        message.first > CHUNK_PARTITIONS || message.count > CHUNK_PARTITIONS - message.first) {
        reply_status(request, -ERR_BAD_MESSAGE);
        return;
    }
    store_totals_pack(&server->store.totals, &digests);
    all = buf_slice(&digests);
    answer.epoch = chunk_server_put_epoch(server);
    answer.digests = slice_make(all.data + message.first * 16, message.count * 16);
    chunk_digest_reply_encode(&answer, &body);
    rpc_request_reply(request, 0, buf_slice(&body), NULL);
}

static void list_released(struct store_scan *scan)
{
    struct server_op *op = container_of(scan, struct server_op, scan);
    cleanup(buf_deinit) struct buf ids = {0};
    cleanup(buf_deinit) struct buf body = {0};
    const struct index_entry *entries = (const void *)scan->entries.data;
    struct chunk_list_reply answer = {.last = scan->last};

    for (size_t i = 0; i < scan->entries.size / sizeof(*entries); i++) {
        chunk_ids_append(&ids, entries[i].key.session, entries[i].key.seq);
    }
    answer.ids = buf_slice(&ids);
    chunk_list_reply_encode(&answer, &body);
    rpc_request_reply(op->request, scan->op.result, buf_slice(&body), NULL);
    buf_deinit(&scan->entries);
    end(op);
}

static void handle_list(struct chunk_server *server, struct rpc_request *request)
{
    struct chunk_list_request message;
    struct server_op *op;

    if (chunk_list_request_decode(&message, request->body) < 0 || message.max == 0) {
        reply_status(request, -ERR_BAD_MESSAGE);
        return;
    }
    op = begin(server, request);
    op->scan = (struct store_scan){.from = {message.partition, message.session, message.seq},
                                   .last_partition = message.partition,
                                   .max = (uint32_t)min_u64(message.max, CHUNK_LIST_MAX),
                                   .released = list_released};
    store_scan_start(&op->scan, &server->store);
}

static void handle_verify(struct chunk_server *server, struct rpc_request *request)
{
    struct chunk_verify_request message;

    if (chunk_verify_request_decode(&message, request->body) < 0 ||
        message.partition >= CHUNK_PARTITIONS) {
        reply_status(request, -ERR_BAD_MESSAGE);
    } else if (server->verifies >= SERVER_VERIFIES_MAX) {
        reply_status(request, -ERR_BUSY);
    } else {
        chunk_server_verify(server, request, &message);
    }
}

static void handle_status(struct chunk_server *server, struct rpc_request *request)
{
    struct chunk_status status;
    cleanup(buf_deinit) struct buf body = {0};

    chunk_server_status(server, &status);
    chunk_status_encode(&status, &body);
    rpc_request_reply(request, 0, buf_slice(&body), NULL);
}

void chunk_server_handle(struct rpc_server *rpc, struct rpc_request *request)
{
    static const struct {
        uint16_t opcode;
        bool oneway; /* may come without wanting a reply */
        void (*handle)(struct chunk_server *server, struct rpc_request *request);
    } handlers[] = {
        {CHUNK_PUT, false, handle_put},       {CHUNK_GET, false, handle_get},
        {CHUNK_DELETE, false, handle_delete}, {CHUNK_HINT, true, handle_hint},
        {CHUNK_REPAIR, true, handle_repair},  {CHUNK_DIGEST, false, handle_digest},
        {CHUNK_LIST, false, handle_list},     {CHUNK_STATUS, false, handle_status},
        {CHUNK_VERIFY, false, handle_verify},
    };
    struct chunk_server *server = rpc->data;

    if (server->stopping || server->requests >= SERVER_REQUESTS_MAX) {
        reply_status(request, server->stopping ? -ECANCELED : -ERR_BUSY);
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(handlers); i++) {
        if (handlers[i].opcode == request->opcode && (handlers[i].oneway || !request->oneway)) {
            handlers[i].handle(server, request);
            return;
        }
    }
    reply_status(request, -ENOSYS);
}
