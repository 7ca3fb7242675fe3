/* keelfs chunkd: one chunk server. */
#include "cli/daemon.h"

#include "chunkstore/chunk_server.h"

struct chunkd {
    struct chunk_server server;
    struct rpc_identity identity;
    char *addresses[CONFIG_META_MAX];
};

static const char help[] =
    "usage: keelfs chunkd --id N [--config FILE] [--log FILE] [--pid-file FILE] [--background]\n\n"
    "Runs chunk server N of the cluster: [chunk.N] of the configuration says where it listens,\n"
    "where its data is and in which zone it stands.\n\n"
    "  -c, --config FILE    default $KEELFS_CONFIG or /etc/keelfs/cluster.conf\n"
    "  -i, --id N           the server's number\n"
    "  -l, --log FILE       default stderr\n"
    "  -p, --pid-file FILE  write the process id there, remove it at a clean end\n"
    "  -b, --background     return when the server listens, or say why not\n"
    "  -s, --set NAME=VALUE overrides the configuration, may be repeated\n"
    "  -v, --verbose        log every move\n";

static void on_stopped(struct chunk_server *server)
{
    (void)server;
    daemon_stopped();
}

static int chunkd_start(void *data, struct env *env, const struct cluster_config *cluster,
                        const struct node_config *node, const struct daemon_options *options)
{
    struct chunkd *chunkd = data;
    struct chunk_server_config config = {
        .dir = node->dir,
        .listen = node->address,
        .zone = node->zone != NULL ? node->zone : "",
        .identity = &chunkd->identity,
        .meta_addresses = (const char *const *)chunkd->addresses,
        .meta_count = cluster->meta_count,
        .insecure_test_network = cluster->settings.insecure_test_network != 0,
        .settings = &cluster->chunk_settings,
    };

    (void)options;
    chunkd->identity = (struct rpc_identity){.role = RPC_ROLE_CHUNK, .node_id = node->id};
    memcpy(chunkd->identity.cluster_uuid, cluster->uuid, 16);
    for (unsigned i = 0; i < cluster->meta_count; i++) {
        chunkd->addresses[i] = cluster->meta[i].address;
    }
    return chunk_server_start(&chunkd->server, env, &config);
}

static void chunkd_stop(void *data)
{
    struct chunkd *chunkd = data;

    chunk_server_stop(&chunkd->server, on_stopped);
}

static const void *chunkd_collect(void *data)
{
    struct chunkd *chunkd = data;

    return chunk_server_collect(&chunkd->server);
}

static void chunkd_describe(const void *data, struct buf *out)
{
    const struct chunkd *chunkd = data;

    chunk_server_describe(&chunkd->server, out);
}

int cmd_chunkd(int argc, char **argv)
{
    static const struct daemon_kind kind = {
        .name = "chunkd",
        .node = "chunk",
        .help = help,
        .start = chunkd_start,
        .stop = chunkd_stop,
        .find = cluster_config_chunk,
        .settings = chunk_settings_table,
        .settings_offset = offsetof(struct cluster_config, chunk_settings),
        .metrics = chunk_metrics_table,
        .collect = chunkd_collect,
        .describe = chunkd_describe,
        .server_size = sizeof(struct chunkd),
    };

    return daemon_main(&kind, argc, argv);
}
