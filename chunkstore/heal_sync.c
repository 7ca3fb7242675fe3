/*
 * heal_sync: anti-entropy with every server that shares partitions with us.
 *
 *     PEER --> DIGEST --> PARTITION --> LIST (theirs and ours, a page each) --> LIVE --> ACT
 *       ^                    ^  ^                                                         |
 *       +--(none left)-------+  +---------------------(next page, next partition)---------+
 *
 * A page that shows nothing alive, or perhaps alive, that we miss is clean; a partition whose pages
 * all are has settled, if the peer had refused late puts before (chunk_digest_reply.epoch).
 *
 * The server whose place we take may be gone. When it has not been reached for HEAL_GIVE_UP_NS, a
 * partition has settled without it by a round in which it was clean against all its other owners:
 * what counted as written has a copy on one of these, so nothing is dropped that they do not have.
 *
 * Ids that only one side has are asked of the metadata service: LIVE and missing here: pulled; DEAD
 * and present here: deleted; UNKNOWN (being written now): left alone. The other side does the same.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/chunk_server.h"
#include "chunkstore/client_internal.h"
#include "chunkstore/heal_internal.h"

#include <errno.h>

enum { SYNC_PEER, SYNC_DIGEST, SYNC_PARTITION, SYNC_LIST, SYNC_LIVE, SYNC_DELETED };
static const char *const sync_states[] = {"PEER", "DIGEST", "PARTITION", "LIST", "LIVE", "DELETED"};

struct heal_sync {
    struct op op;
    struct heal *heal;
    uint32_t peer_at;   /* index in the map */
    uint32_t peer;      /* server id */
    uint32_t partition; /* next to look at */
    struct index_key cursor;
    bool page_last;
    bool asked_meta;
    struct rpc_call call;
    struct buf body, digests, theirs;
    uint64_t epoch; /* of our map when the peer was asked */
    uint64_t peer_epoch;
    bool clean;                       /* the partition, so far */
    uint64_t round_epoch;             /* of our map when the round began */
    uint8_t agrees[CHUNK_PARTITIONS]; /* other owners that it was clean against in this round */
    bool theirs_last;
    int status;
    struct store_scan scan;
    struct store_delete del;
    struct buf missing, extra; /* ids that only they, only we have */
    struct buf asked;          /* missing, then extra */
    struct buf liveness;
    struct buf dead;
};

static void on_reply(struct rpc_call *call, struct rpc_reply *reply)
{
    struct heal_sync *sync = call->data;
    struct chunk_digest_reply digest;
    struct chunk_list_reply list;
    struct chunk_live_reply live;
    int r = reply->status;

    if (r == 0 && call->opcode == CHUNK_DIGEST) {
        r = chunk_digest_reply_decode(&digest, reply->body);
        buf_clear(&sync->digests);
        buf_append_slice(&sync->digests, r == 0 ? digest.digests : (struct slice){0});
        sync->peer_epoch = r == 0 ? digest.epoch : 0;
    } else if (r == 0 && call->opcode == CHUNK_LIST) {
        r = chunk_list_reply_decode(&list, reply->body);
        buf_clear(&sync->theirs);
        buf_append_slice(&sync->theirs, r == 0 ? list.ids : (struct slice){0});
        sync->theirs_last = r == 0 && list.last;
    } else if (r == 0) {
        r = chunk_live_reply_decode(&live, reply->body);
        buf_clear(&sync->liveness);
        buf_append_slice(&sync->liveness, r == 0 ? live.liveness : (struct slice){0});
    }
    sync->status = r;
    op_complete(&sync->op);
}

static void call_start(struct heal_sync *sync, struct rpc_peer *peer, uint16_t opcode)
{
    sync->call = (struct rpc_call){.opcode = opcode,
                                   .body = buf_slice(&sync->body),
                                   .timeout_ns = HEAL_TIMEOUT_NS,
                                   .done = on_reply,
                                   .data = sync};
    sync->op.inflight++;
    rpc_call_start(peer, &sync->call);
}

/* Do we take the peer's place in this partition? */
static bool follows(const struct heal_sync *sync, uint32_t partition)
{
    const struct chunk_server *server = sync->heal->server;

    return cluster_map_from(&server->peers.map, partition, server->config.identity->node_id) ==
           sync->peer;
}

/* All that the peer has of the partition was looked at. */
static void note_settled(struct heal_sync *sync, uint32_t partition)
{
    const struct cluster_map *map = &sync->heal->server->peers.map;

    if (!sync->clean || sync->epoch != map->epoch || sync->peer_epoch < map->epoch) {
        return;
    }
    if (follows(sync, partition)) {
        partition_set_put(&sync->heal->settled, partition, true);
    } else if (cluster_map_owns(map, partition, sync->peer)) {
        sync->agrees[partition]++;
    }
}

static unsigned owners_of(const struct cluster_map *map, uint32_t partition)
{
    unsigned count = 0;

    for (unsigned k = 0; k < CHUNK_REPLICAS; k++) {
        count += map->owners[partition][k] != 0;
    }
    return count;
}

/* Where who was replaced is gone for long, and the other owners have nothing that we lack. */
static void settle_without(struct heal_sync *sync)
{
    struct chunk_server *server = sync->heal->server;
    const struct cluster_map *map = &server->peers.map;
    unsigned count = 0;

    for (uint32_t p = 0; p < map->partition_count && p < CHUNK_PARTITIONS; p++) {
        uint32_t from = cluster_map_from(map, p, server->config.identity->node_id);

        if (from != 0 && heal_given_up(sync->heal, from) && sync->round_epoch == map->epoch &&
            !partition_set_has(&sync->heal->settled, p) &&
            sync->agrees[p] + 1u == owners_of(map, p)) {
            partition_set_put(&sync->heal->settled, p, true);
            count++;
        }
    }
    if (count > 0) {
        LOG_WARN(server->env, "chunk",
                 "partitions are taken over without a server that is away for too long count=%u",
                 count);
    }
}

/* The next reachable server, its digests asked for. False: all were visited. */
static bool next_peer(struct heal_sync *sync)
{
    struct chunk_server *server = sync->heal->server;
    const struct cluster_map *map = &server->peers.map;
    struct chunk_digest_request request = {0, CHUNK_PARTITIONS};

    while (sync->peer_at < map->server_count) {
        uint32_t id = map->servers[sync->peer_at++].id;
        struct chunk_peer *peer = client_peer(&server->peers, id);

        if (id == server->config.identity->node_id || peer == NULL) {
            continue;
        }
        if (chunk_peer_unreachable(peer)) {
            heal_note_reached(sync->heal, id, false);
            rpc_peer_poke(&peer->rpc);
            continue;
        }
        sync->peer = id;
        sync->partition = 0;
        sync->epoch = map->epoch;
        buf_clear(&sync->body);
        chunk_digest_request_encode(&request, &sync->body);
        call_start(sync, &peer->rpc, CHUNK_DIGEST);
        return true;
    }
    return false;
}

/* The next partition whose digests differ, that both own or that we take over. False: none is left.
 */
static bool next_partition(struct heal_sync *sync)
{
    struct chunk_server *server = sync->heal->server;
    const struct cluster_map *map = &server->peers.map;
    const struct store_totals *totals = &server->store.totals;

    if (sync->status < 0 || sync->digests.size != CHUNK_PARTITIONS * 16 ||
        map->partition_count != CHUNK_PARTITIONS) {
        return false;
    }
    while (sync->partition < CHUNK_PARTITIONS) {
        uint32_t p = sync->partition++;
        const uint8_t *at = sync->digests.data + (size_t)p * 16;

        if (!chunk_server_owns(server, p) ||
            !(cluster_map_owns(map, p, sync->peer) || follows(sync, p))) {
            continue;
        }
        sync->clean = true;
        if (bytes_get_le64(at) != totals->hash[p] || bytes_get_le64(at + 8) != totals->count[p]) {
            sync->cursor = (struct index_key){.partition = p};
            return true;
        }
        note_settled(sync, p);
    }
    return false;
}

static void scan_released(struct store_scan *scan)
{
    op_complete(&container_of(scan, struct heal_sync, scan)->op);
}

static void delete_released(struct store_delete *del)
{
    op_complete(&container_of(del, struct heal_sync, del)->op);
}

/* False: the peer is gone. */
static bool list_both(struct heal_sync *sync)
{
    struct chunk_server *server = sync->heal->server;
    struct chunk_peer *peer = client_peer(&server->peers, sync->peer);
    struct chunk_list_request request = {sync->cursor.partition, sync->cursor.session,
                                         sync->cursor.seq, CHUNK_LIST_MAX};

    if (peer == NULL) {
        return false;
    }
    buf_clear(&sync->body);
    chunk_list_request_encode(&request, &sync->body);
    call_start(sync, &peer->rpc, CHUNK_LIST);
    buf_deinit(&sync->scan.entries);
    sync->scan = (struct store_scan){.from = sync->cursor,
                                     .last_partition = sync->cursor.partition,
                                     .max = CHUNK_LIST_MAX,
                                     .released = scan_released};
    sync->op.inflight++;
    store_scan_start(&sync->scan, &server->store);
    return true;
}

struct page {
    const struct index_entry *ours;
    size_t our_count;
    struct slice theirs;
    size_t their_count;
    struct index_key horizon; /* both pages are complete up to here */
    bool last;
};

static struct index_key their_key(const struct heal_sync *sync, size_t index)
{
    struct index_key key = {.partition = sync->cursor.partition};

    chunk_ids_get(buf_slice(&sync->theirs), index, &key.session, &key.seq);
    return key;
}

static struct page make_page(const struct heal_sync *sync)
{
    struct index_key end = {sync->cursor.partition, UINT64_MAX, UINT64_MAX};
    struct page page = {.ours = (const void *)sync->scan.entries.data,
                        .our_count = sync->scan.entries.size / sizeof(struct index_entry),
                        .theirs = buf_slice(&sync->theirs),
                        .their_count = chunk_ids_count(buf_slice(&sync->theirs)),
                        .horizon = end,
                        .last = true};

    if (!sync->scan.last && page.our_count > 0) {
        page.horizon = page.ours[page.our_count - 1].key;
        page.last = false;
    }
    if (!sync->theirs_last && page.their_count > 0) {
        struct index_key key = their_key(sync, page.their_count - 1);

        page.horizon = index_key_compare(&key, &page.horizon) < 0 ? key : page.horizon;
        page.last = false;
    }
    return page;
}

/* Fills `missing` and `extra` from both pages; moves the cursor behind them. */
static void compare_pages(struct heal_sync *sync)
{
    struct page page = make_page(sync);
    size_t a = 0, b = 0;

    buf_clear(&sync->missing);
    buf_clear(&sync->extra);
    while (a < page.our_count || b < page.their_count) {
        struct index_key ours = a < page.our_count ? page.ours[a].key : page.horizon;
        struct index_key theirs = b < page.their_count ? their_key(sync, b) : page.horizon;
        int order = a == page.our_count     ? 1
                    : b == page.their_count ? -1
                                            : index_key_compare(&ours, &theirs);
        const struct index_key *first = order <= 0 ? &ours : &theirs;

        if (index_key_compare(first, &page.horizon) > 0) {
            break;
        }
        if (order < 0) {
            chunk_ids_append(&sync->extra, ours.session, ours.seq);
        } else if (order > 0) {
            chunk_ids_append(&sync->missing, theirs.session, theirs.seq);
        }
        a += order <= 0;
        b += order >= 0;
    }
    sync->page_last = page.last;
    sync->cursor = page.horizon;
    sync->cursor.seq++;
    sync->cursor.session += sync->cursor.seq == 0;
}

/* False: nothing differs, or nobody can be asked. */
static bool ask_liveness(struct heal_sync *sync)
{
    struct chunk_server *server = sync->heal->server;
    struct rpc_peer *meta = chunk_server_meta(server);
    struct chunk_live_request request = {.server_id = server->config.identity->node_id};
    size_t room = CHUNK_LIVE_MAX * CHUNK_ID_BYTES;

    buf_clear(&sync->asked);
    buf_append(&sync->asked, sync->missing.data, (size_t)min_u64(sync->missing.size, room / 2));
    buf_append(&sync->asked, sync->extra.data, (size_t)min_u64(sync->extra.size, room / 2));
    sync->clean =
        sync->clean && (meta != NULL || sync->missing.size == 0) && sync->missing.size <= room / 2;
    if (meta == NULL || sync->asked.size == 0) {
        return false;
    }
    request.ids = buf_slice(&sync->asked);
    buf_clear(&sync->body);
    chunk_live_request_encode(&request, &sync->body);
    call_start(sync, meta, CHUNK_META_LIVE);
    return true;
}

/* Pulls what lives and is missing, starts to delete what is dead. True: a delete runs. */
static bool act(struct heal_sync *sync)
{
    struct chunk_server *server = sync->heal->server;
    size_t count = chunk_ids_count(buf_slice(&sync->asked));
    size_t missing = (size_t)min_u64(sync->missing.size / CHUNK_ID_BYTES, CHUNK_LIVE_MAX / 2);

    buf_clear(&sync->dead);
    if (sync->status < 0 || sync->liveness.size != count) {
        chunk_server_meta_next(server);
        sync->clean = sync->clean && missing == 0;
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct index_key key = {.partition = sync->cursor.partition};

        chunk_ids_get(buf_slice(&sync->asked), i, &key.session, &key.seq);
        key.partition = (uint32_t)(chunk_id_hash(key.session, key.seq) % CHUNK_PARTITIONS);
        sync->clean = sync->clean && (i >= missing || sync->liveness.data[i] == CHUNK_LIVE_DEAD);
        if (i < missing && sync->liveness.data[i] == CHUNK_LIVE_LIVE) {
            heal_pull(sync->heal, &key, /* replace= */ false);
        } else if (i >= missing && sync->liveness.data[i] == CHUNK_LIVE_DEAD) {
            chunk_ids_append(&sync->dead, key.session, key.seq);
        }
    }
    if (sync->dead.size == 0) {
        return false;
    }
    sync->del = (struct store_delete){.ids = buf_slice(&sync->dead), .released = delete_released};
    sync->op.inflight++;
    store_delete_start(&sync->del, &server->store);
    return true;
}

/* After a page: the next one, or the next partition. */
static void go_on(struct heal_sync *sync, struct op *op)
{
    if (sync->page_last || !list_both(sync)) {
        if (sync->page_last) {
            note_settled(sync, sync->partition - 1);
        }
        op->state = SYNC_PARTITION;
    } else {
        op->state = SYNC_LIST;
    }
}

static void sync_step(struct op *op)
{
    struct heal_sync *sync = container_of(op, struct heal_sync, op);

    while (op->inflight == 0) {
        if (sync->heal->closing) {
            op_finish(op, -ECANCELED);
            return;
        }
        switch (op->state) {
        case SYNC_PEER:
            op->state = SYNC_DIGEST;
            if (!next_peer(sync)) {
                settle_without(sync);
                op_finish(op, 0);
                return;
            }
            break;
        case SYNC_DIGEST:
            heal_note_reached(sync->heal, sync->peer, sync->status == 0);
            op->state = SYNC_PARTITION;
            break;
        case SYNC_PARTITION:
            op->state = next_partition(sync) && list_both(sync) ? SYNC_LIST : SYNC_PEER;
            break;
        case SYNC_LIST:
            if (sync->status < 0 || sync->scan.op.result < 0) {
                op->state = SYNC_PEER;
                break;
            }
            compare_pages(sync);
            op->state = SYNC_LIVE;
            if (!ask_liveness(sync)) {
                go_on(sync, op);
            }
            break;
        case SYNC_LIVE:
            op->state = SYNC_DELETED;
            if (!act(sync)) {
                sync->status = 0;
                go_on(sync, op);
            }
            break;
        default:
            go_on(sync, op);
            break;
        }
    }
}

static void sync_drained(struct op *op)
{
    struct heal_sync *sync = container_of(op, struct heal_sync, op);
    struct heal *heal = sync->heal;
    struct buf *bufs[] = {&sync->body,     &sync->digests, &sync->theirs,
                          &sync->missing,  &sync->extra,   &sync->asked,
                          &sync->liveness, &sync->dead,    &sync->scan.entries};

    for (unsigned i = 0; i < ARRAY_SIZE(bufs); i++) {
        buf_deinit(bufs[i]);
    }
    mem_free(sync);
    heal->sync = NULL;
    heal->syncs++;
    chunk_server_released(heal->server);
}

static const struct op_kind sync_kind = {.name = "heal_sync",
                                         .states = sync_states,
                                         .state_count = ARRAY_SIZE(sync_states),
                                         .step = sync_step,
                                         .drained = sync_drained};

bool heal_sync_start(struct heal *heal)
{
    struct heal_sync *sync;

    if (heal->sync != NULL || heal->server->peers.map.epoch == 0) {
        return false;
    }
    sync = mem_zalloc(sizeof(*sync));
    sync->heal = heal;
    sync->round_epoch = heal->server->peers.map.epoch;
    heal->sync = sync;
    heal->server->busy++;
    op_init(&sync->op, &sync_kind);
    op_wake(&sync->op);
    return true;
}

void heal_sync_stop(struct heal *heal)
{
    if (heal->sync != NULL && heal->sync->call.done != NULL && heal->sync->op.inflight > 0) {
        rpc_call_cancel(&heal->sync->call);
    }
}
