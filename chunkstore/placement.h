#pragma once
/*
 * placement: which servers hold a chunk. A fixed number of partitions and an explicit table
 * partition
 * -> servers, owned by the metadata service, versioned by epoch. Pure.
 */
#include "base/schema.h"

#define CHUNK_BYTES_MAX   MiB(4)
#define CHUNK_DELETE_MAX  4096
#define CHUNK_SERVERS_MAX 256
#define CHUNK_REPLICAS    3
#define CHUNK_PARTITIONS  256

struct chunk_server_info {
    uint32_t id;       /* >= 1 */
    char address[256]; /* host:port or unix:path */
    char zone[32];
};

struct cluster_map {
    uint64_t epoch; /* 0 = none yet */
    uint32_t server_count;
    uint32_t partition_count;
    struct chunk_server_info *servers;  /* owned */
    uint32_t (*owners)[CHUNK_REPLICAS]; /* owned; by partition; 0 = none */
};

void cluster_map_deinit(struct cluster_map *map);
/* A balanced table for these servers: each partition on min(3, server_count) distinct ones, in
 * distinct zones where there are enough; deterministic. */
void cluster_map_build(struct cluster_map *map, uint64_t epoch,
                       const struct chunk_server_info *servers, uint32_t server_count);
/* The map that follows `old` when servers have come (or moved): of each partition at most one owner
 * is replaced, so that what it holds stays where it is read; anti-entropy fills the new one. */
void cluster_map_grow(struct cluster_map *map, const struct cluster_map *old,
                      const struct chunk_server_info *servers, uint32_t server_count);
void cluster_map_encode(const struct cluster_map *map, struct buf *out);
int must_check cluster_map_decode(struct cluster_map *out_map, struct slice bytes);
uint32_t placement_partition(const struct cluster_map *map, uint64_t chunk_session,
                             uint64_t chunk_seq);
const struct chunk_server_info *cluster_map_server(const struct cluster_map *map, uint32_t id);
