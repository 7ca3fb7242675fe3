/* keelfs metad: one metadata server. */
#include "cli/daemon.h"

#include "meta/meta_server.h"

struct metad {
    struct meta_server server;
    struct rpc_identity identity;
    struct raft_peer_config peers[CONFIG_META_MAX];
};

static const char help[] =
    "usage: keelfs metad --id N [--bootstrap | --join] [--config FILE] [--log FILE]\n"
    "                    [--pid-file FILE] [--background]\n\n"
    "Runs metadata server N of the cluster: [meta.N] of the configuration says where it listens\n"
    "and where its data is.\n\n"
    "  -c, --config FILE    default $KEELFS_CONFIG or /etc/keelfs/cluster.conf\n"
    "  -i, --id N           the server's number\n"
    "  -l, --log FILE       default stderr\n"
    "  -p, --pid-file FILE  write the process id there, remove it at a clean end\n"
    "  -b, --background     return when the server listens, or say why not\n"
    "  -s, --set NAME=VALUE overrides the configuration, may be repeated\n"
    "  -v, --verbose        log every move\n"
    "      --bootstrap      the first start of a new cluster: makes the directory; never again\n"
    "      --join           the first start of a server that joins a running cluster, with an "
    "empty\n"
    "                       directory and a number that was never used; then `keelfs meta add "
    "N`\n\n"
    "Without either, an empty directory is an error: a member whose data is lost has forgotten "
    "what\n"
    "it promised, and must not come back under its number. See `keelfs meta --help`.\n";

static void on_stopped(struct meta_server *server)
{
    (void)server;
    daemon_stopped();
}

static int metad_start(void *data, struct env *env, const struct cluster_config *cluster,
                       const struct node_config *node, const struct daemon_options *options)
{
    struct metad *metad = data;
    struct meta_server_config config = {
        .identity = &metad->identity,
        .dir = node->dir,
        .address = node->address,
        .peers = metad->peers,
        .peer_count = cluster->meta_count,
        .write_quorum = cluster->settings.write_quorum,
        .chunk_servers_min = (unsigned)min_u64(cluster->chunk_count, CHUNK_REPLICAS),
        .settings = &cluster->meta_settings,
        .owner_uid = geteuid(),
        .insecure_test_network = cluster->settings.insecure_test_network != 0,
        .start = options->bootstrap ? META_START_CREATE
                 : options->join    ? META_START_JOIN
                                    : META_START_EXISTING,
    };

    metad->identity = (struct rpc_identity){.role = RPC_ROLE_META, .node_id = node->id};
    memcpy(metad->identity.cluster_uuid, cluster->uuid, 16);
    for (unsigned i = 0; i < cluster->meta_count; i++) {
        metad->peers[i] = (struct raft_peer_config){cluster->meta[i].id, cluster->meta[i].address};
    }
    metad->server.stopped = on_stopped;
    return meta_server_start(&metad->server, env, &config);
}

static void metad_stop(void *data)
{
    struct metad *metad = data;

    meta_server_stop(&metad->server);
}

static const void *metad_collect(void *data)
{
    struct metad *metad = data;

    return meta_server_collect(&metad->server);
}

static void metad_describe(const void *data, struct buf *out)
{
    const struct metad *metad = data;

    meta_server_describe(&metad->server, out);
}

int cmd_metad(int argc, char **argv)
{
    static const struct daemon_kind kind = {
        .name = "metad",
        .node = "meta",
        .help = help,
        .has_group = true,
        .start = metad_start,
        .stop = metad_stop,
        .find = cluster_config_meta,
        .settings = meta_settings_table,
        .settings_offset = offsetof(struct cluster_config, meta_settings),
        .metrics = meta_metrics_table,
        .collect = metad_collect,
        .describe = metad_describe,
        .server_size = sizeof(struct metad),
    };

    return daemon_main(&kind, argc, argv);
}
