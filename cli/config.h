#pragma once
/*
 * config: cluster.conf, the one file that servers and clients share.
 *
 *     [cluster]
 *     uuid = 0123456789abcdef0123456789abcdef
 *     write_quorum = 2
 *     [meta]
 *     cache_bytes = 64M
 *     [meta.1]
 *     address = unix:/run/keelfs/meta1.sock
 *     dir = /var/lib/keelfs/meta1
 *     [chunk.1]
 *     address = 127.0.0.1:7101
 *     dir = /var/lib/keelfs/chunk1
 *     zone = rack1
 *
 * [meta], [chunk] and [mount] hold what is set for all servers of a kind, and all mounts
 * (meta/meta_settings.h and so on); `--set NAME=VALUE` of a daemon and `-o NAME=VALUE` of a mount
 * override it.
 */
#include "chunkstore/chunk_settings.h"
#include "fs/mount_settings.h"
#include "meta/meta_settings.h"

#define CONFIG_META_MAX  7
#define CONFIG_CHUNK_MAX 256
#define CONFIG_SET_MAX   64 /* overrides on one command line */

/* What servers and mounts must agree on. */
#define CLUSTER_SETTINGS(X)                                                                        \
    X(uint32_t, write_quorum, 2, 1, 3, "durable copies before a chunk counts")                     \
    X(uint32_t, insecure_test_network, 0, 0, 1,                                                    \
      "1: servers of a test may listen without TLS in a network namespace without a way out")

CONFIG_DEFINE(cluster_settings, CLUSTER_SETTINGS);

struct node_config {
    uint32_t id;
    char *address;
    char *dir;
    char *zone;
};

struct cluster_config {
    char *path;
    uint8_t uuid[16];
    bool has_uuid;
    struct cluster_settings settings;
    struct meta_settings meta_settings;
    struct chunk_settings chunk_settings;
    struct mount_settings mount_settings;
    struct node_config meta[CONFIG_META_MAX];
    unsigned meta_count;
    struct node_config chunk[CONFIG_CHUNK_MAX];
    unsigned chunk_count;
    unsigned error_line; /* while reading */
    char error[640];
};

/* 0, or -EINVAL / -errno after a line on stderr that names file, line and what is wrong. */
int must_check cluster_config_read(struct cluster_config *out_config, const char *path);
void cluster_config_deinit(struct cluster_config *config);
const struct node_config *cluster_config_meta(const struct cluster_config *config, uint32_t id);
const struct node_config *cluster_config_chunk(const struct cluster_config *config, uint32_t id);

/* Overrides from a command line, checked when they are added and applied when the file is read. */
struct config_overrides {
    const char *pairs[CONFIG_SET_MAX]; /* NAME=VALUE, borrowed */
    unsigned count;
};

/* 0, or -EINVAL after a line on stderr. */
int must_check config_override(struct config_overrides *overrides, const struct config_table *table,
                               const char *pair);
void config_overrides_apply(const struct config_overrides *overrides,
                            const struct config_table *table, void *values);
/* Title and table of what can be set, as `--help` shows it. */
void config_print_help(const struct config_table *table, const char *title);
