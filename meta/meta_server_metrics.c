/* meta_server_metrics: what a server says of itself: figures, and its state in words. */
#include "meta/meta_server_internal.h"

#include <inttypes.h>

METRICS_IMPLEMENT(meta_metrics, "meta", META_METRICS)

const struct meta_metrics *meta_server_collect(struct meta_server *server)
{
    struct meta_metrics *metrics = &server->metrics;
    const struct record_volume *volume = &server->ns.volume;
    const struct btree *tree = server->tree;
    struct raft_node_status raft;

    raft_node_status(&server->raft, &raft);
    metrics->leader = server->leader;
    metrics->term = raft.term;
    metrics->commit_index = raft.commit;
    metrics->applied_index = raft.applied;
    metrics->proposals_waiting = server->proposal_count;
    metrics->reads_waiting = server->read_count;
    metrics->held_messages = server->raft.held_count;
    metrics->log_sync_seconds = server->raft.log.sync_seconds;
    metrics->checkpoints = tree->checkpoints;
    metrics->log_bytes = server->log_bytes;
    metrics->tree_bytes = tree->node_count * BTREE_PAGE;
    metrics->tree_dirty_bytes = btree_dirty_bytes(tree);
    metrics->page_faults = tree->faults;
    metrics->page_evictions = tree->evictions;
    metrics->sessions = volume->sessions;
    metrics->inodes = volume->inodes;
    metrics->used_bytes = volume->used_bytes;
    metrics->orphans = volume->orphans;
    metrics->delete_queue = volume->delete_queue;
    return metrics;
}

static void describe_peers(const struct meta_server *server, const struct raft_node_status *raft,
                           struct buf *out)
{
    uint64_t now = env_now(server->env);

    for (unsigned i = 0; i < raft->peer_count; i++) {
        const struct raft_peer_status *peer = &raft->peers[i];

        buf_printf(out, "peer %u %s match=%" PRIu64 " next=%" PRIu64, peer->id,
                   peer->connected ? "connected" : "lost", peer->match, peer->next);
        if (peer->heard_ns != 0) {
            buf_printf(out, " heard_ms=%" PRIu64, (now - peer->heard_ns) / NS_PER_MS);
        }
        buf_printf(out, "%s\n", peer->snapshot ? " snapshot" : "");
    }
}

static void describe_sessions(const struct meta_server *server, struct buf *out)
{
    uint64_t now = env_now(server->env);
    struct map_slot *slot;
    size_t at = 0;

    for (unsigned i = 0; i < META_DESCRIBE_MAX; i++) {
        const struct meta_session *session;

        slot = map_next(&server->sessions, &at);
        if (slot == NULL) {
            return;
        }
        session = slot->value;
        buf_printf(out, "session %" PRIu64 " heard_ms=%" PRIu64 " next_seq=%" PRIu64 " parked=%u\n",
                   session->id, (now - session->heard_ns) / NS_PER_MS, session->next_seq,
                   session->parked_count);
    }
}

void meta_server_describe(const struct meta_server *server, struct buf *out)
{
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
    struct raft_node_status raft;

    raft_node_status(&server->raft, &raft);
    buf_printf(out, "metad %u %s%s term=%" PRIu64 " leader=%u\n", server->identity.node_id,
               roles[raft.role],
               raft.repair        ? " (repairing its log)"
               : raft.rebuild     ? " (rebuilding its state)"
               : server->stopping ? " (stopping)"
               : server->leaving  ? " (leaving)"
                                  : "",
               raft.term, raft.leader_id);
    buf_printf(out,
               "log first=%" PRIu64 " last=%" PRIu64 " saved=%" PRIu64 " commit=%" PRIu64
               " applied=%" PRIu64 "\n",
               raft.first, raft.last, raft.saved, raft.commit, raft.applied);
    describe_peers(server, &raft, out);
    buf_printf(out,
               "waiting proposals=%u reads=%u opens=%u held_messages=%" PRIu64
               " checkpoint=%s deleting=%s\n",
               server->proposal_count, server->read_count, server->opens, server->raft.held_count,
               server->tree->checkpoint != NULL ? "running" : "no", server->gc_busy ? "yes" : "no");
    describe_sessions(server, out);
    op_describe(out);
}
