#pragma once
/*
 * meta_server: one metadata server: the Raft node, the B+tree that it replicates, and the clients'
 * and chunk servers' requests.
 *
 * Mutations: checked, stamped with the time, put into their session's order, proposed; every
 * replica applies them (meta/ns.h) and the leader answers. Reads: from the applied state of the
 * leader, under its lease or confirmed by a majority. What only the leader knows (who was heard
 * when, who may be alone, who has answered for which orphan) is made anew by each leader.
 *
 *     r = meta_server_start(&server, env, &config);     blocks while it recovers
 *     meta_server_stop(&server);                        server.stopped(&server) follows
 */
#include "chunkstore/chunk_client.h"
#include "meta/btree.h"
#include "meta/limits.h"
#include "meta/meta_metrics.h"
#include "meta/meta_settings.h"
#include "meta/ns.h"
#include "net/rpc.h"
#include "raft/raft_node.h"

enum meta_start {
    META_START_CREATE,   /* what is not there is made */
    META_START_EXISTING, /* an empty directory is an error */
    META_START_JOIN,     /* into a group that runs: waits until it is added */
};

struct meta_server_config {
    const struct rpc_identity *identity;  /* role META, our node id; outlives the server */
    const char *dir;                      /* created when missing (its parent exists) */
    const char *address;                  /* where to listen */
    const struct raft_peer_config *peers; /* the group at its beginning, ours included; later their
                                             addresses; copied */
    unsigned peer_count;
    unsigned write_quorum;      /* of chunk copies; 0 = 2 */
    unsigned chunk_servers_min; /* make the first cluster map at so many; 0 = CHUNK_REPLICAS */
    uint32_t owner_uid;         /* besides root, who may SCAN and change the group */
    enum meta_start start;
    bool insecure_test_network;           /* see rpc_server */
    const struct meta_settings *settings; /* NULL = the defaults; copied */
};

/* What the leader knows of a chunk server. */
struct meta_chunk_server {
    struct chunk_server_info info;
    uint64_t total_bytes, free_bytes;
    uint64_t heard_ns; /* 0 = only known from the map */
    uint32_t health;
    struct partition_set settled; /* by the map of epoch settled_epoch: it has what it took over */
    uint64_t settled_epoch;
};

struct meta_server {
    struct env *env;
    struct rpc_identity identity;
    struct meta_server_config config; /* strings and peers are ours */
    struct meta_settings settings;
    struct meta_metrics metrics;
    void (*stopped)(struct meta_server *server);
    void *data;

    /* The replicated state. */
    struct btree *tree;
    struct btree *retired; /* replaced by a snapshot, its checkpoint still runs; or NULL */
    struct kv_tree view;
    struct ns ns;
    char *tree_path, *new_path, *log_dir;
    uint64_t log_bytes; /* applied since the last checkpoint */
    uint64_t checkpoint_started_ns;
    uint64_t check_index, check_hash; /* of the last STATE_CHECK applied; 0 = none */
    struct meta_server_report {
        uint32_t node;
        uint64_t index, hash;
    } reports[RAFT_MEMBERS_MAX]; /* of STATE_CHECKs: the newest of each member */

    struct raft_machine machine;
    struct raft_members members; /* as applied; count 0: never recorded */
    bool joining;                /* we were not in the group's configuration */
    bool noted;                  /* the file `member` is there */
    bool rebuild;                /* the file `rebuild` is there */
    struct raft_node raft;
    bool raft_open;
    struct rpc_server rpc;
    bool rpc_open;

    /* Snapshots. */
    struct btree *restoring; /* being filled, or NULL */
    uint64_t restore_index, restore_term;

    /* The leader's. */
    bool leader;
    uint64_t term;
    uint32_t leader_id;
    uint64_t leader_since_ns;
    uint64_t ticked_ns; /* sessions were looked at then */
    uint64_t last_stamp;
    struct list proposals; /* meta_proposal by index */
    unsigned proposal_count;
    struct list reads; /* meta_read waiting for confirmation */
    unsigned read_count;
    struct map sessions; /* id -> meta_session */
    unsigned opens;      /* SESSION_OPENs proposed, not applied */
    struct list openers; /* meta_opener: newcomers waiting for the lone one */
    uint64_t alone_session;
    uint64_t alone_until_ns; /* it may rely on being alone until then */
    struct map orphans;      /* ino -> meta_orphan: who has answered */
    uint64_t orphan_cursor;  /* of the tick */
    uint64_t settle_cursor;  /* data id of the file that a session was asked to settle last */
    bool freeing;            /* an ORPHAN_FREE is proposed */
    bool formatting;         /* a VOLUME_FORMAT is */
    uint64_t state_check_ns, state_check_index;

    struct meta_chunk_server servers[CHUNK_SERVERS_MAX];
    unsigned server_count;
    struct cluster_map map;
    bool map_proposed;
    uint64_t map_made_ns; /* when this leader last proposed one */
    struct chunk_client chunks;
    bool chunks_open;
    struct chunk_delete gc;
    struct chunk_id *gc_ids;
    struct buf gc_bytes;
    bool gc_busy, gc_proposed;
    uint64_t gc_retry_ns;

    struct env_timer tick;
    struct env_timer openers_timer;
    struct buf body; /* a message being encoded */
    struct env_timer leaving_timer;
    uint64_t leaving_since_ns;
    bool leaving;  /* told to stop, hands leadership over first */
    bool stopping; /* refuses everything */
};

int must_check meta_server_start(struct meta_server *server, struct env *env,
                                 const struct meta_server_config *config);
/* A leader hands over first (handover_ms), unless told again. Then requests are refused; stopped()
 * (may be NULL) runs when all is closed. */
void meta_server_stop(struct meta_server *server);
/* The figures as they are now, and the state in lines of words; for the admin socket. Between start
 * and stopped(). */
const struct meta_metrics *meta_server_collect(struct meta_server *server);
void meta_server_describe(const struct meta_server *server, struct buf *out);
