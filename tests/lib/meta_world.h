#pragma once
/*
 * meta_world: three metadata servers and clients of theirs in the simulator, one program's worth.
 *
 *     meta_world_start(seed, 1);
 *     assert_int_equal(meta_world_create(0, META_ROOT_INO, "a", &attr), 0);
 *     meta_world_kill(meta_world_leader(), SIM_KILL);
 *     meta_world_stop();          replicas agree, nothing was logged as an error, clients close
 */
#include "tests/lib/test.h"

#include "meta/meta_client.h"
#include "meta/meta_server_internal.h"
#include "tests/sim/env_sim.h"

#define META_WORLD_SERVERS 3
#define META_WORLD_CLIENTS 2 /* on nodes 3 and 4 */
#define META_WORLD_LIMIT   (120 * NS_PER_S)

struct meta_world_mount {
    struct meta_client client;
    struct rpc_identity identity;
    uint64_t open_ino; /* held open */
    unsigned sessions; /* session_changed calls */
    unsigned maps;
    bool alone, closed, hold_alone;
};

struct meta_world {
    struct sim *sim;
    struct meta_server *servers[META_WORLD_SERVERS]; /* NULL: killed */
    struct rpc_identity identities[META_WORLD_SERVERS];
    struct meta_world_mount *mounts[META_WORLD_CLIENTS];
    struct meta_settings settings; /* of the next start */
    unsigned errors;               /* ERROR lines that the test wanted */
};

extern struct meta_world meta_world;

struct meta_world_call {
    struct meta_call call;
    struct meta_world_mount *mount;
    struct buf data; /* of the reply */
    struct meta_attr attr;
    uint64_t value;
    uint32_t flags;
    bool done;
};

struct meta_settings meta_world_settings(void);
void meta_world_start(uint64_t seed, unsigned mounts);
void meta_world_stop(void);
/* Replicas that have applied the same agree on the state. */
void meta_world_check(void);
void meta_world_run(uint64_t ns);
int meta_world_leader(void); /* -1: nobody */
void meta_world_kill(unsigned i, enum sim_crash_kind kind);
void meta_world_revive(unsigned i);

/* These run as the node, by sim_call. */
void meta_world_stop_server(void *data);  /* struct meta_server */
void meta_world_start_client(void *data); /* its number */
void meta_world_close_client(void *data); /* struct meta_world_mount */
void meta_world_release(void *data);      /* struct meta_world_mount: gives up being alone */

/* One operation; the last ones wait for its end, and return its status. */
void meta_world_begin(struct meta_world_call *call, unsigned mount, struct meta_request request);
int meta_world_finish(struct meta_world_call *call);
int meta_world_request(unsigned mount, struct meta_request message, struct meta_attr *out_attr);
int meta_world_create(unsigned mount, uint64_t dir, const char *name, struct meta_attr *out_attr);
int meta_world_lookup(unsigned mount, uint64_t dir, const char *name, struct meta_attr *out_attr);
