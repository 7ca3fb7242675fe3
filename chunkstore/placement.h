#pragma once
/*
 * placement: which servers hold a chunk. A fixed number of partitions and an explicit table
 * partition -> servers, owned by the metadata service, versioned by epoch. Pure.
 *
 * An owner that takes another's place (docs/adr/0019) begins with nothing: until it has all that
 * the other had (it has "settled"), readers and repair ask the other as well, and no further owner
 * of the partition is replaced.
 */
#include "base/schema.h"

#define CHUNK_BYTES_MAX   MiB(4)
#define CHUNK_DELETE_MAX  4096
#define CHUNK_SERVERS_MAX 256
#define CHUNK_REPLICAS    3
#define CHUNK_PARTITIONS  256
#define CHUNK_HOLDERS_MAX (2 * CHUNK_REPLICAS)

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
    /* owned; from[p][k] != 0: owners[p][k] takes the place of this server, and has not settled */
    uint32_t (*from)[CHUNK_REPLICAS];
};

void cluster_map_deinit(struct cluster_map *map);
/* A balanced table for these servers: each partition on min(3, server_count) distinct ones, in
 * distinct zones where there are enough; deterministic. */
void cluster_map_build(struct cluster_map *map, uint64_t epoch,
                       const struct chunk_server_info *servers, uint32_t server_count);
struct partition_set {
    uint8_t bits[CHUNK_PARTITIONS / 8];
};
void partition_set_put(struct partition_set *set, uint32_t partition, bool is_in);
bool partition_set_has(const struct partition_set *set, uint32_t partition);
/* The map that follows `old` when servers have come (or moved), or new owners have settled: of each
 * partition at most one owner is replaced, and none while an earlier one is on its way. settled:
 * partitions whose new owners have all that they need. */
void cluster_map_grow(struct cluster_map *map, const struct cluster_map *old,
                      const struct chunk_server_info *servers, uint32_t server_count,
                      const struct partition_set *settled);
/* Whose data `server` takes over in this partition and has not got yet; 0 = nobody's. */
uint32_t cluster_map_from(const struct cluster_map *map, uint32_t partition, uint32_t server);
/* Does some owner of the partition still take another's place? */
bool cluster_map_moves(const struct cluster_map *map, uint32_t partition);
bool cluster_map_owns(const struct cluster_map *map, uint32_t partition, uint32_t server);
void cluster_map_encode(const struct cluster_map *map, struct buf *out);
int must_check cluster_map_decode(struct cluster_map *out_map, struct slice bytes);
uint32_t placement_partition(const struct cluster_map *map, uint64_t chunk_session,
                             uint64_t chunk_seq);
const struct chunk_server_info *cluster_map_server(const struct cluster_map *map, uint32_t id);
