/*
 * server_verify: CHUNK_VERIFY: chunks of a partition are read one after the other and held against
 * their checksums.
 *
 *     LIST --> LISTED --> CHUNK (read one) ... --> finish (the reply goes out)
 *
 * With `repair`, a damaged one is reported by store_get to the store's `corrupt` as when a reader
 * or the scrub finds it, and heal.c pulls another copy.
 */
#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/chunk_server.h"

#include <errno.h>

enum { VERIFY_LIST, VERIFY_LISTED, VERIFY_CHUNK };
static const char *const verify_states[] = {"LIST", "LISTED", "CHUNK"};

struct server_verify {
    struct op op;
    struct chunk_server *server;
    struct rpc_request *request;
    struct chunk_verify_request asked;
    struct chunk_verify_reply reply;
    struct buf damaged;
    struct store_scan scan;
    struct store_get get;
    size_t at; /* in what was listed */
};

static void scan_released(struct store_scan *scan)
{
    op_complete(&container_of(scan, struct server_verify, scan)->op);
}

static void get_released(struct store_get *get)
{
    op_complete(&container_of(get, struct server_verify, get)->op);
}

static void list(struct server_verify *verify)
{
    const struct chunk_verify_request *asked = &verify->asked;
    uint64_t max = asked->max != 0 ? asked->max : CHUNK_VERIFY_MAX;

    verify->scan = (struct store_scan){.from = {asked->partition, asked->session, asked->seq},
                                       .last_partition = asked->partition,
                                       .max = (uint32_t)min_u64(max, CHUNK_VERIFY_MAX),
                                       .released = scan_released};
    verify->op.inflight++;
    store_scan_start(&verify->scan, &verify->server->store);
}

static size_t listed(const struct server_verify *verify)
{
    return verify->scan.entries.size / sizeof(struct index_entry);
}

static void read_next(struct server_verify *verify)
{
    const struct index_entry *entries = (const void *)verify->scan.entries.data;

    verify->get = (struct store_get){
        .key = entries[verify->at++].key, .quiet = !verify->asked.repair, .released = get_released};
    verify->op.inflight++;
    store_get_start(&verify->get, &verify->server->store);
}

/* What the read of a chunk says; one that was deleted meanwhile says nothing. */
static void count_chunk(struct server_verify *verify)
{
    const struct index_key *key = &verify->get.key;
    int r = verify->get.op.result;

    if (r == 0) {
        verify->reply.bytes += verify->get.payload.size;
    } else if (r != -ERR_NOT_FOUND) {
        chunk_ids_append(&verify->damaged, key->session, key->seq);
    }
    verify->reply.chunks += r != -ERR_NOT_FOUND;
    verify->reply.session = key->session + (key->seq == UINT64_MAX);
    verify->reply.seq = key->seq + 1;
    buf_deinit(&verify->get.crcs);
    buf_deinit(&verify->get.payload);
}

static void verify_step(struct op *op)
{
    struct server_verify *verify = container_of(op, struct server_verify, op);

    while (op->inflight == 0) {
        if (op->state == VERIFY_LIST) {
            op->state = VERIFY_LISTED;
            list(verify);
            continue;
        }
        if (op->state == VERIFY_LISTED && verify->scan.op.result < 0) {
            op_finish(op, verify->scan.op.result);
            return;
        }
        if (op->state == VERIFY_CHUNK) {
            count_chunk(verify);
        }
        if (verify->server->stopping || verify->at == listed(verify) ||
            verify->reply.bytes >= SERVER_VERIFY_BYTES) {
            op_finish(op, verify->server->stopping ? -ECANCELED : 0);
            return;
        }
        op->state = VERIFY_CHUNK;
        read_next(verify);
    }
}

static void send_reply(struct server_verify *verify)
{
    cleanup(buf_deinit) struct buf body = {0};

    verify->reply.last = verify->scan.last && verify->at == listed(verify);
    verify->reply.damaged = buf_slice(&verify->damaged);
    if (verify->op.result == 0) {
        chunk_verify_reply_encode(&verify->reply, &body);
    }
    rpc_request_reply(verify->request, verify->op.result, buf_slice(&body), NULL);
}

static void verify_drained(struct op *op)
{
    struct server_verify *verify = container_of(op, struct server_verify, op);
    struct chunk_server *server = verify->server;

    send_reply(verify);
    buf_deinit(&verify->scan.entries);
    buf_deinit(&verify->damaged);
    mem_free(verify);
    server->verifies--;
    server->requests--;
    chunk_server_released(server);
}

static const struct op_kind verify_kind = {.name = "server_verify",
                                           .states = verify_states,
                                           .state_count = ARRAY_SIZE(verify_states),
                                           .step = verify_step,
                                           .drained = verify_drained};

void chunk_server_verify(struct chunk_server *server, struct rpc_request *request,
                         const struct chunk_verify_request *message)
{
    struct server_verify *verify = mem_zalloc(sizeof(*verify));

    verify->server = server;
    verify->request = request;
    verify->asked = *message;
    server->verifies++;
    server->requests++;
    server->busy++;
    op_init(&verify->op, &verify_kind);
    op_wake(&verify->op);
}
