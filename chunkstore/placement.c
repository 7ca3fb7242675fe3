/*
 * placement: each partition chooses its owners one after the other: the server that owns the
 * fewest partitions so far, in a zone that the partition does not use yet; ties go by a hash of
 * partition and server, so that neighbours spread. Greedy by load, so no server owns more than one
 * partition above another of its zone's share. No library order or randomness takes part: every
 * node builds the same table.
 */
#include "chunkstore/placement.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "chunkstore/chunk_proto.h"

#include <string.h>

/* clang-format off */
#define MAP_HEAD(F)                                         \
    F(u64,   epoch,       0,                       1)       \
    F(u32,   partitions,  0,                       1)       \
    F(u32,   servers,     0,                       1)
#define MAP_SERVER(F)                                       \
    F(u32,   id,          0,                       1)       \
    F(bytes, address,     255,                     1)       \
    F(bytes, zone,        31,                      1)
/* clang-format on */
SCHEMA_DEFINE(map_head, MAP_HEAD);
SCHEMA_DEFINE(map_server, MAP_SERVER);
SCHEMA_IMPLEMENT(map_head, MAP_HEAD)
SCHEMA_IMPLEMENT(map_server, MAP_SERVER)

#define MAP_PARTITIONS_MAX 65536

void cluster_map_deinit(struct cluster_map *map)
{
    mem_free(map->servers);
    mem_free(map->owners);
    mem_free(map->from);
    *map = (struct cluster_map){0};
}

struct build {
    struct cluster_map *map;
    uint32_t *loads; /* partitions owned, by server index */
    uint32_t partition;
    unsigned chosen; /* replicas of `partition` so far */
};

static bool uses_server(const struct build *build, uint32_t id)
{
    for (unsigned i = 0; i < build->chosen; i++) {
        if (build->map->owners[build->partition][i] == id) {
            return true;
        }
    }
    return false;
}

static bool uses_zone(const struct build *build, const char *zone)
{
    for (unsigned i = 0; i < build->chosen; i++) {
        uint32_t id = build->map->owners[build->partition][i];

        if (strcmp(cluster_map_server(build->map, id)->zone, zone) == 0) {
            return true;
        }
    }
    return false;
}

static bool better(const struct build *build, uint32_t a, uint32_t b)
{
    const struct chunk_server_info *servers = build->map->servers;
    bool zone_a = uses_zone(build, servers[a].zone);
    bool zone_b = uses_zone(build, servers[b].zone);

    if (zone_a != zone_b) {
        return !zone_a;
    }
    if (build->loads[a] != build->loads[b]) {
        return build->loads[a] < build->loads[b];
    }
    return chunk_id_hash(build->partition, servers[a].id) <
           chunk_id_hash(build->partition, servers[b].id);
}

static uint32_t choose(const struct build *build)
{
    uint32_t best = UINT32_MAX;

    for (uint32_t i = 0; i < build->map->server_count; i++) {
        if (!uses_server(build, build->map->servers[i].id) &&
            (best == UINT32_MAX || better(build, i, best))) {
            best = i;
        }
    }
    return best;
}

/* A map of these servers whose partitions have no owners yet. */
static struct build begin_build(struct cluster_map *map, uint64_t epoch,
                                const struct chunk_server_info *servers, uint32_t server_count)
{
    struct build build = {.map = map};

    ASSERT(server_count <= CHUNK_SERVERS_MAX);
    *map = (struct cluster_map){
        .epoch = epoch, .server_count = server_count, .partition_count = CHUNK_PARTITIONS};
    map->servers = mem_zalloc(server_count * sizeof(*map->servers));
    map->owners = mem_zalloc(CHUNK_PARTITIONS * sizeof(*map->owners));
    map->from = mem_zalloc(CHUNK_PARTITIONS * sizeof(*map->from));
    if (server_count > 0) {
        memcpy(map->servers, servers, server_count * sizeof(*servers));
    }
    build.loads = mem_zalloc(server_count * sizeof(*build.loads));
    return build;
}

static void add_owner(struct build *build, uint32_t i)
{
    build->map->owners[build->partition][build->chosen++] = build->map->servers[i].id;
    build->loads[i]++;
}

void cluster_map_build(struct cluster_map *map, uint64_t epoch,
                       const struct chunk_server_info *servers, uint32_t server_count)
{
    struct build build = begin_build(map, epoch, servers, server_count);
    unsigned replicas = (unsigned)min_u64(CHUNK_REPLICAS, server_count);

    for (build.partition = 0; build.partition < CHUNK_PARTITIONS; build.partition++) {
        build.chosen = 0;
        while (build.chosen < replicas) {
            add_owner(&build, choose(&build));
        }
    }
    mem_free(build.loads);
}

static uint32_t server_index(const struct cluster_map *map, uint32_t id)
{
    uint32_t i = 0;

    while (i < map->server_count && map->servers[i].id != id) {
        i++;
    }
    return i;
}

/* The owners that the partition had, and whose data they still need. */
static void keep_owners(struct build *build, const struct cluster_map *old, bool settled)
{
    build->chosen = 0;
    for (unsigned k = 0; k < CHUNK_REPLICAS; k++) {
        uint32_t i = server_index(build->map, old->owners[build->partition][k]);

        if (i < build->map->server_count) {
            build->map->from[build->partition][build->chosen] =
                settled ? 0 : old->from[build->partition][k];
            add_owner(build, i);
        }
    }
}

/* Replaces the owner that has most to do, where another has less or a zone of its own. */
static void move_one(struct build *build)
{
    uint32_t *owners = build->map->owners[build->partition];
    unsigned most = 0;
    uint32_t from, to;
    bool better_zone;

    for (unsigned k = 1; k < build->chosen; k++) {
        if (build->loads[server_index(build->map, owners[k])] >
            build->loads[server_index(build->map, owners[most])]) {
            most = k;
        }
    }
    from = server_index(build->map, owners[most]);
    owners[most] = owners[--build->chosen]; /* the others are what `choose` heeds */
    build->loads[from]--;
    to = choose(build);
    better_zone = uses_zone(build, build->map->servers[from].zone) &&
                  !uses_zone(build, build->map->servers[to].zone);
    if (better_zone || build->loads[to] < build->loads[from]) {
        build->map->from[build->partition][build->chosen] = build->map->servers[from].id;
        from = to;
    }
    add_owner(build, from);
}

void cluster_map_grow(struct cluster_map *map, const struct cluster_map *old,
                      const struct chunk_server_info *servers, uint32_t server_count,
                      const struct partition_set *settled)
{
    struct build build;
    unsigned replicas = (unsigned)min_u64(CHUNK_REPLICAS, server_count);

    if (old->partition_count != CHUNK_PARTITIONS) {
        cluster_map_build(map, old->epoch + 1, servers, server_count);
        return;
    }
    build = begin_build(map, old->epoch + 1, servers, server_count);
    for (build.partition = 0; build.partition < CHUNK_PARTITIONS; build.partition++) {
        keep_owners(&build, old, partition_set_has(settled, build.partition));
    }
    for (build.partition = 0; build.partition < CHUNK_PARTITIONS; build.partition++) {
        build.chosen = 0;
        while (build.chosen < CHUNK_REPLICAS && map->owners[build.partition][build.chosen] != 0) {
            build.chosen++;
        }
        if (build.chosen == replicas && replicas > 0 && !cluster_map_moves(map, build.partition)) {
            move_one(&build);
        }
        while (build.chosen < replicas) {
            add_owner(&build, choose(&build));
        }
    }
    mem_free(build.loads);
}

static struct slice text_slice(const char *text, size_t capacity)
{
    return slice_make(text, strnlen(text, capacity));
}

static void write_table(const struct cluster_map *map, uint32_t (*table)[CHUNK_REPLICAS],
                        struct buf *out)
{
    for (uint32_t p = 0; p < map->partition_count; p++) {
        for (unsigned i = 0; i < CHUNK_REPLICAS; i++) {
            schema_write_uint(out, table[p][i]);
        }
    }
}

/* Wire: length-prefixed head, length-prefixed servers, then the owners and those they follow as
 * integers. */
void cluster_map_encode(const struct cluster_map *map, struct buf *out)
{
    struct map_head head = {map->epoch, map->partition_count, map->server_count};
    cleanup(buf_deinit) struct buf part = {0};

    map_head_encode(&head, &part);
    schema_write_bytes(out, buf_slice(&part));
    for (uint32_t i = 0; i < map->server_count; i++) {
        const struct chunk_server_info *info = &map->servers[i];
        struct map_server server = {info->id, text_slice(info->address, sizeof(info->address) - 1),
                                    text_slice(info->zone, sizeof(info->zone) - 1)};

        buf_clear(&part);
        map_server_encode(&server, &part);
        schema_write_bytes(out, buf_slice(&part));
    }
    write_table(map, map->owners, out);
    write_table(map, map->from, out);
}

static int decode_server(const struct cluster_map *map, struct chunk_server_info *out_info,
                         struct schema_reader *reader)
{
    struct map_server server;
    int r;

    r = map_server_decode(&server, schema_read_bytes(reader, 512));
    if (r < 0 || reader->failed || server.id == 0 || cluster_map_server(map, server.id) != NULL) {
        return -ERR_BAD_MESSAGE;
    }
    out_info->id = server.id;
    if (server.address.size > 0) {
        memcpy(out_info->address, server.address.data, server.address.size);
    }
    if (server.zone.size > 0) {
        memcpy(out_info->zone, server.zone.data, server.zone.size);
    }
    return 0;
}

static int decode_table(const struct cluster_map *map, uint32_t (*table)[CHUNK_REPLICAS],
                        struct schema_reader *reader)
{
    for (uint32_t p = 0; p < map->partition_count && !reader->failed; p++) {
        for (unsigned i = 0; i < CHUNK_REPLICAS; i++) {
            uint32_t id = (uint32_t)schema_read_uint(reader, UINT32_MAX);

            if (id != 0 && cluster_map_server(map, id) == NULL) {
                return -ERR_BAD_MESSAGE;
            }
            table[p][i] = id;
        }
    }
    return reader->failed ? -ERR_BAD_MESSAGE : 0;
}

/* Distinct ones, and none behind a gap. */
static bool owners_are_sound(const struct cluster_map *map)
{
    bool sound = true;

    for (uint32_t p = 0; p < map->partition_count; p++) {
        const uint32_t *owners = map->owners[p];

        for (unsigned i = 1; i < CHUNK_REPLICAS; i++) {
            for (unsigned k = 0; k < i; k++) {
                sound &= owners[i] == 0 || (owners[k] != 0 && owners[k] != owners[i]);
            }
        }
    }
    return sound;
}

static int decode_body(struct cluster_map *map, struct schema_reader *reader)
{
    int r;

    for (uint32_t i = 0; i < map->server_count; i++) {
        r = decode_server(map, &map->servers[i], reader);
        if (r < 0) {
            return r;
        }
    }
    r = decode_table(map, map->owners, reader);
    if (r == 0 && !owners_are_sound(map)) {
        r = -ERR_BAD_MESSAGE;
    }
    if (r == 0 && reader->at != reader->end) { /* maps of earlier versions end here */
        r = decode_table(map, map->from, reader);
    }
    return r;
}

int cluster_map_decode(struct cluster_map *out_map, struct slice bytes)
{
    struct schema_reader reader = schema_reader_make(bytes);
    struct cluster_map map = {0};
    struct map_head head;
    int r;

    r = map_head_decode(&head, schema_read_bytes(&reader, 64));
    if (r < 0 || reader.failed || head.servers > CHUNK_SERVERS_MAX || head.partitions == 0 ||
        head.partitions > MAP_PARTITIONS_MAX) {
        return -ERR_BAD_MESSAGE;
    }
    map = (struct cluster_map){
        .epoch = head.epoch, .server_count = head.servers, .partition_count = head.partitions};
    map.servers = mem_zalloc(head.servers * sizeof(*map.servers));
    map.owners = mem_zalloc(head.partitions * sizeof(*map.owners));
    map.from = mem_zalloc(head.partitions * sizeof(*map.from));
    r = decode_body(&map, &reader);
    if (r < 0) {
        cluster_map_deinit(&map);
        return r;
    }
    *out_map = map;
    return 0;
}

uint32_t placement_partition(const struct cluster_map *map, uint64_t chunk_session,
                             uint64_t chunk_seq)
{
    return map->partition_count == 0
               ? 0
               : (uint32_t)(chunk_id_hash(chunk_session, chunk_seq) % map->partition_count);
}

const struct chunk_server_info *cluster_map_server(const struct cluster_map *map, uint32_t id)
{
    for (uint32_t i = 0; i < map->server_count; i++) {
        if (map->servers[i].id == id) {
            return &map->servers[i];
        }
    }
    return NULL;
}

bool cluster_map_owns(const struct cluster_map *map, uint32_t partition, uint32_t server)
{
    for (unsigned k = 0; partition < map->partition_count && k < CHUNK_REPLICAS; k++) {
        if (map->owners[partition][k] == server) {
            return true;
        }
    }
    return false;
}

bool cluster_map_moves(const struct cluster_map *map, uint32_t partition)
{
    for (unsigned k = 0; partition < map->partition_count && k < CHUNK_REPLICAS; k++) {
        if (map->from[partition][k] != 0) {
            return true;
        }
    }
    return false;
}

uint32_t cluster_map_from(const struct cluster_map *map, uint32_t partition, uint32_t server)
{
    for (unsigned k = 0; partition < map->partition_count && k < CHUNK_REPLICAS; k++) {
        if (map->owners[partition][k] == server) {
            return map->from[partition][k];
        }
    }
    return 0;
}

void partition_set_put(struct partition_set *set, uint32_t partition, bool is_in)
{
    uint8_t bit = (uint8_t)(1u << (partition % 8));

    ASSERT(partition < CHUNK_PARTITIONS);
    set->bits[partition / 8] =
        (uint8_t)(is_in ? set->bits[partition / 8] | bit : set->bits[partition / 8] & ~bit);
}

bool partition_set_has(const struct partition_set *set, uint32_t partition)
{
    return partition < CHUNK_PARTITIONS && (set->bits[partition / 8] >> (partition % 8) & 1) != 0;
}
