#pragma once
/*
 * config: cluster.conf, the one file that servers and clients share.
 *
 *     [cluster]
 *     uuid = 0123456789abcdef0123456789abcdef
 *     write_quorum = 2
 *     [meta.1]
 *     address = unix:/run/keelfs/meta1.sock
 *     dir = /var/lib/keelfs/meta1
 *     [chunk.1]
 *     address = 127.0.0.1:7101
 *     dir = /var/lib/keelfs/chunk1
 *     zone = rack1
 */
#include "base/compiler.h"

#define CONFIG_META_MAX  7
#define CONFIG_CHUNK_MAX 256

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
    uint32_t write_quorum;
    uint32_t gc_grace_ms; /* dead chunks stay so long for readers with older maps */
    struct node_config meta[CONFIG_META_MAX];
    unsigned meta_count;
    struct node_config chunk[CONFIG_CHUNK_MAX];
    unsigned chunk_count;
    unsigned error_line; /* while reading */
    char error[256];
};

/* 0, or -EINVAL / -errno after a line on stderr that names file, line and what is wrong. */
int must_check cluster_config_read(struct cluster_config *out_config, const char *path);
void cluster_config_deinit(struct cluster_config *config);
const struct node_config *cluster_config_meta(const struct cluster_config *config, uint32_t id);
const struct node_config *cluster_config_chunk(const struct cluster_config *config, uint32_t id);
