/* mount_metrics: what a mount says of itself: figures, and its state in words. */
#include "fs/mount_metrics.h"

#include "fs/mount.h"

#include <inttypes.h>

METRICS_IMPLEMENT(mount_metrics, "mount", MOUNT_METRICS)

const char *fs_op_name(unsigned op)
{
    static const char *const names[] = {
        "lookup",    "getattr",   "setattr",     "readlink",  "create",  "mkdir",      "mknod",
        "symlink",   "link",      "unlink",      "rmdir",     "rename",  "open",       "read",
        "write",     "flush",     "release",     "fsync",     "readdir", "statfs",     "getxattr",
        "listxattr", "setxattr",  "removexattr", "fallocate", "seek",    "copy_range", "tmpfile",
        "lock",      "lock_test", "shutdown"};

    _Static_assert(ARRAY_SIZE(names) == FS_OP_COUNT, "a name for each enum fs_op");
    return op < ARRAY_SIZE(names) ? names[op] : "?";
}

void mount_call_begins(struct fs_call *call)
{
    struct mount_metrics *metrics = &call->mount->metrics;

    if (call->started_ns == 0) {
        call->started_ns = env_now(call->mount->env);
        metrics->calls_waiting[call->op]++;
    }
}

void mount_call_ends(struct fs_call *call)
{
    struct mount_metrics *metrics = &call->mount->metrics;

    metrics->calls_waiting[call->op]--;
    metrics->call_errors += call->error != 0;
    metrics_observe(&metrics->call_seconds[call->op], env_now(call->mount->env) - call->started_ns);
}

static void collect_clients(const struct mount *mount, struct mount_metrics *metrics)
{
    const struct meta_client *meta = &mount->meta;
    const struct chunk_client *chunks = &mount->chunks;

    metrics->session = meta->session;
    metrics->alone = meta->alone;
    metrics->meta_mutations = meta->mutation_count;
    metrics->meta_reads = meta->read_count;
    metrics->meta_resends = meta->resends;
    metrics->leader_changes = meta->leader_changes;
    metrics->sessions_lost = meta->sessions_lost;
    metrics->chunk_puts = chunks->put_count;
    metrics->chunk_gets = chunks->get_count;
    metrics->degraded_puts = chunks->degraded_puts;
    metrics->read_fallbacks = chunks->read_fallbacks;
    metrics->read_repairs = chunks->read_repairs;
}

static unsigned flushes_running(const struct mount *mount)
{
    return mount->rounds[ROUND_CHUNKS] + mount->rounds[ROUND_JOURNAL];
}

const struct mount_metrics *mount_collect(struct mount *mount)
{
    struct mount_metrics *metrics = &mount->metrics;

    collect_clients(mount, metrics);
    metrics->read_bytes = mount->counters.read_bytes;
    metrics->written_bytes = mount->counters.written_bytes;
    metrics->read_retries = mount->counters.read_retries;
    metrics->dirty_bytes = mount->dirty_bytes;
    metrics->flush_rounds = mount->counters.rounds;
    metrics->flushes_running = flushes_running(mount);
    metrics->journal_bytes = mount->settle.bytes;
    metrics->inodes = mount->inodes.count;
    metrics->contents_bytes = mount->contents_bytes;
    metrics->open_files = mount->open_count;
    metrics->local_waiting = mount->local.in_flight;
    return metrics;
}

static void describe_servers(const struct mount *mount, struct buf *out)
{
    const struct meta_client *meta = &mount->meta;

    for (unsigned i = 0; i < meta->peer_count; i++) {
        buf_printf(out, "metadata %s %s%s\n", meta->peers[i].address,
                   meta->peers[i].stats.connected ? "connected" : "lost",
                   meta->leader == i ? " asked" : "");
    }
}

void mount_describe(const struct mount *mount, struct buf *out)
{
    const struct meta_client *meta = &mount->meta;
    uint64_t now = env_now(mount->env);

    buf_printf(out, "mount %s session=%" PRIu64 " alone=%s\n",
               mount->closing                ? "closing"
               : mount->shutdown.down        ? "shut down"
               : !mount->started             ? "starting"
               : meta->session == 0          ? "without a session"
               : now >= meta->lease_until_ns ? "waiting for the metadata service"
                                             : "ok",
               meta->session, meta->alone ? "yes" : "no");
    describe_servers(mount, out);
    buf_printf(out, "data dirty_bytes=%" PRIu64 " flushes=%u no_space=%s open_files=%u",
               mount->dirty_bytes, flushes_running(mount), mount->no_space ? "yes" : "no",
               mount->open_count);
    buf_printf(out, mount->chunks.room == UINT64_MAX ? " room=unknown\n" : " room=%" PRIu64 "\n",
               mount->chunks.room);
    buf_printf(out, "waiting mutations=%u reads=%u local=%u\n", meta->mutation_count,
               meta->read_count, mount->local.in_flight);
    for (unsigned i = 0; i < FS_OP_COUNT; i++) {
        if (mount->metrics.calls_waiting[i] != 0) {
            buf_printf(out, "call %s %" PRIu64 "\n", fs_op_name(i),
                       mount->metrics.calls_waiting[i]);
        }
    }
    op_describe(out);
}
