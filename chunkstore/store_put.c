/*
 * store_put:
 *
 *     FIND --> QUEUE --> finish (durable)
 *       |
 *       +--> JOIN (the same chunk is on its way) --> finish
 *
 * Idempotent: the same id with the same checksums is success, with others -ERR_CORRUPT.
 */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/log.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

enum { STORE_PUT_FIND, STORE_PUT_FOUND, STORE_PUT_QUEUE, STORE_PUT_JOIN };
static const char *const put_states[] = {"FIND", "FOUND", "QUEUE", "JOIN"};

static struct map_key id_key(const struct index_key *key)
{
    return (struct map_key){key->session, key->seq};
}

/* 0 = go on, or the verdict. */
static int admit(const struct store_put *put)
{
    struct chunk_store *store = put->store;
    int r;

    if (store->closing) {
        return -ECANCELED;
    }
    if (put->length == 0 || put->length > CHUNK_BYTES_MAX || put->data.size > CHUNK_BYTES_MAX ||
        put->key.partition >= CHUNK_PARTITIONS || (put->flags & ~(unsigned)CHUNK_COMPRESSED) != 0 ||
        put->crcs.size != chunk_crcs_bytes(put->length, put->flags)) {
        return -EINVAL;
    }
    r = chunk_crcs_check(put->length, put->flags, 0, put->crcs, put->data);
    if (r < 0) {
        return r;
    }
    return store->queue_bytes + put->data.size > store->settings.put_queue_bytes &&
                   store->queue_bytes > 0
               ? -ERR_BUSY
               : 0;
}

static int refuse_other(struct store_put *put)
{
    put->store->corrupt_found++;
    LOG_WARN(put->store->env, "chunk",
             "refused: another chunk has this id session=%" PRIu64 " seq=%" PRIu64,
             put->key.session, put->key.seq);
    return -ERR_CORRUPT;
}

/* 1 = wait, 0 = exists already, or an error. */
static int judge_found(struct store_put *put, struct op *op)
{
    struct index_entry none = {0};
    struct index_entry now =
        store_current(put->store, &put->key, put->find.op.result > 0 ? &put->find.entry : &none);
    uint32_t digest = crc32c(0, put->crcs);
    struct store_put *other = map_get(&put->store->pending, id_key(&put->key));

    if (entry_live(&now) && now.digest != digest) {
        return refuse_other(put);
    }
    if (entry_live(&now) && !put->replace) {
        return 0;
    }
    if (other != NULL && crc32c(0, other->crcs) != digest) {
        return refuse_other(put);
    }
    if (other != NULL) {
        op->state = STORE_PUT_JOIN;
        op->inflight++;
        list_push_back(&other->joined, &put->node);
        return 1;
    }
    if (put->data.size > chunk_store_room(put->store)) {
        return -ENOSPC;
    }
    put->store->room -= min_u64(put->store->room, put->data.size);
    op->state = STORE_PUT_QUEUE;
    put->pending = true;
    map_put(&put->store->pending, id_key(&put->key), put);
    put->item = (struct store_item){.type = RECORD_PUT,
                                    .key = put->key,
                                    .length = put->length,
                                    .flags = put->flags,
                                    .crcs = put->crcs,
                                    .data = put->data,
                                    .known = now,
                                    .op = op};
    store_submit(put->store, &put->item);
    return 1;
}

static void answer_joined(struct store_put *put)
{
    struct list_node *node;

    map_remove(&put->store->pending, id_key(&put->key));
    put->pending = false;
    while ((node = list_pop_front(&put->joined)) != NULL) {
        struct store_put *other = list_entry(node, struct store_put, node);

        other->joined_result = put->item.result;
        op_complete(&other->op);
    }
}

static void put_step(struct op *op)
{
    struct store_put *put = container_of(op, struct store_put, op);
    int r;

    if (op->state == STORE_PUT_FIND) {
        r = admit(put);
        if (r < 0) {
            op_finish(op, r);
            return;
        }
        put->store->queue_bytes += put->data.size;
        put->item.length = 1; /* charged */
        op->state = STORE_PUT_FOUND;
        lsm_find_start(&put->find, &put->store->lsm, &put->key, op);
    }
    if (op->inflight > 0) {
        return;
    }
    switch (op->state) {
    case STORE_PUT_FOUND:
        r = put->find.op.result < 0 ? put->find.op.result : judge_found(put, op);
        if (r <= 0) {
            op_finish(op, r);
        }
        return;
    case STORE_PUT_QUEUE:
        answer_joined(put);
        op_finish(op, put->item.result);
        return;
    default:
        op_finish(op, put->joined_result);
        return;
    }
}

static void put_drained(struct op *op)
{
    struct store_put *put = container_of(op, struct store_put, op);
    struct chunk_store *store = put->store;

    ASSERT(!put->pending);
    if (put->item.length != 0) {
        store->queue_bytes -= put->data.size;
    }
    store->put_count += op->result == 0;
    put->released(put);
    store_released(store);
}

static const struct op_kind put_kind = {.name = "store_put",
                                        .states = put_states,
                                        .state_count = ARRAY_SIZE(put_states),
                                        .step = put_step,
                                        .drained = put_drained};

void store_put_start(struct store_put *put, struct chunk_store *store)
{
    op_init(&put->op, &put_kind);
    put->store = store;
    put->item = (struct store_item){0};
    put->pending = false;
    list_init(&put->joined);
    store->busy++;
    store_check_space(store);
    op_wake(&put->op);
}
