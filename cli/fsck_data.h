#pragma once
/*
 * fsck_data: has every chunk server read the chunks that it holds and hold them against their
 * checksums, all servers side by side, each no faster than `rate`.
 *
 *     struct data_check check = {.group = &group, .map = &map, .rate = MiB(64)};
 *     data_check_run(&check);
 *     ... check.damages ...
 *     data_check_free(&check);
 */
#include "base/map.h"
#include "chunkstore/chunk_proto.h"
#include "cli/ask.h"

struct data_damage {
    uint32_t server;
    uint64_t session, seq;
    bool repaired;   /* a later look found it whole */
    struct buf inos; /* u64 each, of the files that use it */
};

struct data_check {
    struct ask_group *group;
    const struct cluster_map *map; /* borrowed */
    uint64_t rate;                 /* bytes a second and server; 0 = as fast as it goes */
    bool repair;                   /* have damaged copies replaced, and wait for it */
    bool progress;                 /* a bar on stderr */
    /* Found. */
    struct data_damage *damages;
    size_t damage_count;
    uint64_t chunks, bytes;      /* read, over all servers */
    unsigned servers_incomplete; /* did not answer, or know no CHUNK_VERIFY */
};

void data_check_run(struct data_check *check);
void data_check_free(struct data_check *check);
/* Damaged copies that are still there. */
size_t data_check_left(const struct data_check *check);

/* ---- which files use the damaged chunks: every pair of the state, in key order ---- */

struct data_use {
    uint64_t data_id, session, seq;
};

struct data_users {
    struct data_check *check;
    struct map damaged; /* id: is it? */
    struct map data;    /* data id: has it to do with them? */
    struct buf uses;    /* data_use */
};

void data_users_begin(struct data_users *users, struct data_check *check);
/* Extents come before inodes. */
void data_users_add(struct data_users *users, struct slice key, struct slice value);
void data_users_end(struct data_users *users);
