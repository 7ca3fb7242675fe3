#include "tests/lib/test.h"

#include "base/err.h"
#include "base/rng.h"
#include "chunkstore/placement.h"

static void make_servers(struct chunk_server_info *servers, uint32_t count, unsigned zones)
{
    for (uint32_t i = 0; i < count; i++) {
        servers[i] = (struct chunk_server_info){.id = i + 1};
        snprintf(servers[i].address, sizeof(servers[i].address), "10.0.0.%u:7000", i);
        snprintf(servers[i].zone, sizeof(servers[i].zone), "z%u", i % zones);
    }
}

static void check_map(const struct cluster_map *map, uint32_t count, unsigned zones)
{
    uint32_t loads[CHUNK_SERVERS_MAX + 1] = {0};
    uint32_t low = UINT32_MAX, high = 0;
    unsigned replicas = count < CHUNK_REPLICAS ? count : CHUNK_REPLICAS;

    for (uint32_t p = 0; p < map->partition_count; p++) {
        unsigned zone_bits = 0;

        for (unsigned i = 0; i < CHUNK_REPLICAS; i++) {
            uint32_t id = map->owners[p][i];

            assert_true((id != 0) == (i < replicas));
            for (unsigned k = 0; k < i; k++) {
                assert_true(id == 0 || map->owners[p][k] != id);
            }
            if (id != 0) {
                loads[id]++;
                zone_bits |= 1U << (id - 1) % zones;
            }
        }
        assert_true((unsigned)__builtin_popcount(zone_bits) >=
                    (zones < replicas ? zones : replicas));
    }
    for (uint32_t i = 1; i <= count; i++) {
        low = loads[i] < low ? loads[i] : low;
        high = loads[i] > high ? loads[i] : high;
    }
    assert_true(count % zones != 0 || high - low <= map->partition_count / 8);
}

static void test_balanced_and_distinct(void **state)
{
    static struct chunk_server_info servers[CHUNK_SERVERS_MAX];

    (void)state;
    for (unsigned zones = 1; zones <= 4; zones++) {
        for (uint32_t count = zones; count <= 24; count++) {
            struct cluster_map map, again;

            make_servers(servers, count, zones);
            cluster_map_build(&map, 7, servers, count);
            cluster_map_build(&again, 7, servers, count);
            check_map(&map, count, zones);
            assert_memory_equal(map.owners, again.owners,
                                map.partition_count * sizeof(*map.owners));
            cluster_map_deinit(&map);
            cluster_map_deinit(&again);
        }
    }
}

static const struct partition_set all_settled = {.bits = {[0 ... CHUNK_PARTITIONS / 8 - 1] = 0xff}};
static const struct partition_set none_settled;

static bool holds(const struct cluster_map *map, uint32_t partition, uint32_t server)
{
    for (unsigned k = 0; k < CHUNK_REPLICAS; k++) {
        if (map->owners[partition][k] == server || map->from[partition][k] == server) {
            return true;
        }
    }
    return false;
}

/* Servers that join faster than data moves: whoever had it is still asked, and two of the three are
 * owners; once the new ones have settled, the next owner may be replaced. */
static void test_quick_growth_keeps_the_holders(void **state)
{
    static struct chunk_server_info servers[CHUNK_SERVERS_MAX];
    struct cluster_map first, old;

    (void)state;
    make_servers(servers, 12, 1);
    cluster_map_build(&first, 1, servers, 3);
    cluster_map_build(&old, 1, servers, 3);
    for (uint32_t count = 4; count <= 12; count++) {
        struct cluster_map map;

        cluster_map_grow(&map, &old, servers, count, &none_settled);
        cluster_map_deinit(&old);
        old = map;
        for (uint32_t p = 0; p < map.partition_count; p++) {
            unsigned owners = 0;

            for (unsigned k = 0; k < CHUNK_REPLICAS; k++) {
                assert_true(holds(&map, p, first.owners[p][k]));
                owners += cluster_map_owns(&map, p, first.owners[p][k]);
            }
            assert_true(owners >= CHUNK_REPLICAS - 1);
        }
    }
    for (unsigned round = 0; round < 12; round++) {
        struct cluster_map map;

        cluster_map_grow(&map, &old, servers, 12, &all_settled);
        cluster_map_deinit(&old);
        old = map;
    }
    check_map(&old, 12, 1);
    for (uint32_t p = 0; p < old.partition_count; p++) {
        for (unsigned k = 0; k < CHUNK_REPLICAS; k++) {
            assert_int_equal(old.from[p][k], 0); /* balanced: nothing moves any more */
        }
    }
    cluster_map_deinit(&first);
    cluster_map_deinit(&old);
}

/* One server more at a time: a partition keeps two of its owners, or its chunks would be lost to
 * readers until somebody looked elsewhere. */
static void test_growing_moves_one_owner(void **state)
{
    static struct chunk_server_info servers[CHUNK_SERVERS_MAX];

    (void)state;
    for (unsigned zones = 1; zones <= 4; zones++) {
        struct cluster_map old = {0};

        for (uint32_t count = 1; count <= 24; count++) {
            struct cluster_map map;

            make_servers(servers, count, zones);
            cluster_map_grow(&map, &old, servers, count, &all_settled);
            assert_int_equal(map.epoch, count);
            if (zones == 1) {
                check_map(&map, count, zones);
            }
            for (uint32_t p = 0; p < old.partition_count; p++) {
                unsigned gone = 0;

                for (unsigned k = 0; k < CHUNK_REPLICAS; k++) {
                    uint32_t id = old.owners[p][k];

                    gone += id != 0 && map.owners[p][0] != id && map.owners[p][1] != id &&
                            map.owners[p][2] != id;
                }
                assert_true(gone == 0 || (gone == 1 && count > CHUNK_REPLICAS));
            }
            cluster_map_deinit(&old);
            old = map;
        }
        cluster_map_deinit(&old);
    }
}

static void test_round_trip_and_damage(void **state)
{
    static struct chunk_server_info servers[5];
    cleanup(buf_deinit) struct buf bytes = {0};
    struct cluster_map map, copy;
    struct rng rng;

    (void)state;
    rng_init(&rng, test_seed(1));
    make_servers(servers, 5, 2);
    cluster_map_build(&map, 9, servers, 5);
    cluster_map_encode(&map, &bytes);
    assert_int_equal(cluster_map_decode(&copy, buf_slice(&bytes)), 0);
    assert_int_equal(copy.epoch, 9);
    assert_memory_equal(copy.servers, map.servers, 5 * sizeof(*servers));
    assert_memory_equal(copy.owners, map.owners, map.partition_count * sizeof(*map.owners));
    assert_memory_equal(copy.from, map.from, map.partition_count * sizeof(*map.from));
    cluster_map_deinit(&copy);
    for (size_t size = 0; size < bytes.size; size++) {
        if (size == bytes.size - (size_t)CHUNK_PARTITIONS * CHUNK_REPLICAS) {
            continue; /* without the second table: a map of earlier versions */
        }
        assert_int_equal(cluster_map_decode(&copy, slice_make(bytes.data, size)), -ERR_BAD_MESSAGE);
    }
    for (unsigned i = 0; i < 20000; i++) {
        size_t at = rng_below(&rng, bytes.size);
        uint8_t before = bytes.data[at];

        bytes.data[at] = (uint8_t)rng_next(&rng);
        if (cluster_map_decode(&copy, buf_slice(&bytes)) == 0) {
            cluster_map_deinit(&copy);
        }
        bytes.data[at] = before;
    }
    cluster_map_deinit(&map);
}

/* A peer's map that names something twice is no map: who builds the next one from it relies on
 * that. */
static void test_repeated_names_are_refused(void **state)
{
    static struct chunk_server_info servers[5];
    struct cluster_map map;

    (void)state;
    make_servers(servers, 5, 2);
    for (unsigned what = 0; what < 4; what++) {
        cleanup(buf_deinit) struct buf bytes = {0};
        struct cluster_map copy;

        cluster_map_build(&map, 9, servers, 5);
        if (what == 1) {
            for (uint32_t p = 0; p < map.partition_count; p++) {
                memcpy(map.owners[p], (uint32_t[]){1, 2, 3}, sizeof(map.owners[p]));
            }
            map.servers[4].id = map.servers[3].id;
        } else if (what == 2) {
            map.owners[7][2] = map.owners[7][0];
        } else if (what == 3) {
            map.owners[7][1] = 0;
        }
        cluster_map_encode(&map, &bytes);
        assert_int_equal(cluster_map_decode(&copy, buf_slice(&bytes)),
                         what == 0 ? 0 : -ERR_BAD_MESSAGE);
        cluster_map_deinit(&map);
        if (what == 0) {
            cluster_map_deinit(&copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_balanced_and_distinct),
        cmocka_unit_test(test_growing_moves_one_owner),
        cmocka_unit_test(test_quick_growth_keeps_the_holders),
        cmocka_unit_test(test_round_trip_and_damage),
        cmocka_unit_test(test_repeated_names_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
