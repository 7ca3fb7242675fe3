#pragma once
/*
 * heal: what keeps every chunk on all of its owners.
 *
 *   pull   a chunk that is damaged or missing here is read from another owner and stored;
 *   hint   a chunk that another owner missed is pushed to it when it can be reached;
 *   sync   (anti-entropy) owners of a partition compare a digest of their ids, and where it differs
 *          the ids; the metadata service says which of them live: live ones are pulled, dead ones
 *          deleted. No tombstones, no clocks. A new owner compares with the one whose place it
 *          takes too, and has settled when that has nothing alive that it has not;
 *   scrub  reads everything slowly and pulls what does not verify.
 */
#include "chunkstore/chunk_client.h"
#include "chunkstore/chunk_store.h"

struct chunk_server;

struct heal {
    struct chunk_server *server;
    struct list queue; /* heal_task waiting */
    struct list hints; /* heal_task whose target cannot be reached */
    struct map tasks;  /* id -> heal_task, of pulls: no chunk twice */
    size_t queue_count, hint_count, task_count;
    unsigned running;
    struct env_timer timer;
    uint64_t sync_at_ns;
    struct heal_sync *sync;       /* running, or NULL */
    struct partition_set settled; /* by the map in use */
    struct map away;              /* id of a server -> since when it has not been reached */
    uint64_t settle_pause_ns;     /* between two syncs while a partition has not settled */
    uint64_t progress;            /* at the last one: see `progress` in heal.c */
    struct heal_scrub *scrub;     /* running, or NULL */
    bool closing;
    uint64_t repairs, hints_delivered, scrubbed_bytes, dropped, syncs, pull_failures; /* counters */
};

void heal_start(struct heal *heal, struct chunk_server *server);
/* No new work; what runs ends by itself and calls chunk_server_released. */
void heal_stop(struct heal *heal);
/* Fetch another copy. `replace`: also when the index has one. */
void heal_pull(struct heal *heal, const struct index_key *key, bool replace);
/* Give `target` our copy. */
void heal_hint(struct heal *heal, const struct index_key *key, uint32_t target);
/* `next` is about to replace `map`: partitions with other owners have to settle again. */
void heal_new_map(struct heal *heal, const struct cluster_map *map, const struct cluster_map *next);
/* Compare with the other owners soon (the map changed, a server is back). */
void heal_sync_soon(struct heal *heal);
