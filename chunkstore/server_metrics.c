/* server_metrics: what a chunk server says of itself: figures, and its state in words. */
#include "chunkstore/chunk_server.h"

#include <inttypes.h>

METRICS_IMPLEMENT(chunk_metrics, "chunk", CHUNK_METRICS)

static void collect_heal(const struct heal *heal, struct chunk_metrics *metrics)
{
    metrics->repairs = heal->repairs;
    metrics->repair_failures = heal->pull_failures;
    metrics->repairs_waiting = heal->queue_count;
    metrics->hints_waiting = heal->hint_count;
    metrics->hints_delivered = heal->hints_delivered;
    metrics->comparisons = heal->syncs;
    metrics->scrubbed_bytes = heal->scrubbed_bytes;
}

const struct chunk_metrics *chunk_server_collect(struct chunk_server *server)
{
    struct chunk_metrics *metrics = &server->metrics;
    const struct chunk_store *store = &server->store;

    collect_heal(&server->heal, metrics);
    metrics->puts = store->put_count;
    metrics->reads = store->get_count;
    metrics->deletes = store->delete_count;
    metrics->syncs = store->groups;
    metrics->requests_running = server->requests;
    metrics->put_queue_bytes = store->queue_bytes;
    metrics->get_queue_bytes = store->get_bytes;
    metrics->chunks = store->totals.chunks;
    metrics->stored_bytes = store->totals.stored_bytes;
    metrics->dead_bytes = chunk_store_dead_bytes(store);
    metrics->disk_total_bytes = store->disk_total;
    metrics->disk_free_bytes = store->disk_free;
    metrics->full = store->full;
    metrics->cleaned_bytes = store->cleaned_bytes;
    metrics->corrupt_found = store->corrupt_found;
    metrics->torn_tails = store->torn_tails;
    metrics->map_epoch = server->peers.map.epoch;
    return metrics;
}

static void describe_index(const struct lsm *lsm, struct buf *out)
{
    buf_printf(out, "index memtable=%zu frozen=%s blocks=%zu levels=", lsm->active->bytes,
               lsm->frozen != NULL ? "yes" : "no", lsm->blocks.count);
    for (unsigned i = 0; i < LSM_LEVELS; i++) {
        buf_printf(out, "%s%zu", i > 0 ? "," : "", lsm->levels[i].count);
    }
    buf_printf(out, "\n");
}

void chunk_server_describe(const struct chunk_server *server, struct buf *out)
{
    const struct chunk_store *store = &server->store;
    const struct heal *heal = &server->heal;

    buf_printf(out, "chunkd %u %s%s epoch=%" PRIu64 " meta=%u\n", server->config.identity->node_id,
               chunk_health_name(chunk_server_health(server)),
               server->stopping ? " (stopping)" : "", server->peers.map.epoch, server->meta_now);
    buf_printf(out,
               "store chunks=%" PRIu64 " segments=%zu queue=%zu queue_bytes=%" PRIu64
               " get_bytes=%" PRIu64 " group=%s job=%s full=%s\n",
               store->totals.chunks, store->segments.count, store->queue_count, store->queue_bytes,
               store->get_bytes, store->group.active ? "writing" : "no",
               store->job != NULL ? "running" : "no", store->full ? "yes" : "no");
    describe_index(&store->lsm, out);
    buf_printf(out, "waiting requests=%u deletes=%u\n", server->requests, server->deletes);
    buf_printf(out, "heal running=%u queue=%zu hints=%zu sync=%s scrub=%s\n", heal->running,
               heal->queue_count, heal->hint_count, heal->sync != NULL ? "running" : "no",
               heal->scrub != NULL ? "running" : "no");
    op_describe(out);
}
