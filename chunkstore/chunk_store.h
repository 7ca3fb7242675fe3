#pragma once
/*
 * chunk_store: chunks on one data directory: a log of records in segments, an index over them.
 *
 * What a put or delete answers is durable: everything that arrived during one fdatasync is written
 * with the next (store_group.c). A failed sync ends the process. Reads verify before they answer.
 *
 *     chunk_store_open(&store, env, &config)          blocking, replays the log
 *     put.released = on_put; store_put_start(&put, &store)
 */
#include "chunkstore/chunk_proto.h"
#include "chunkstore/chunk_settings.h"
#include "chunkstore/limits.h"
#include "chunkstore/lsm.h"
#include "chunkstore/vlog_format.h"

struct chunk_store_config {
    const char *dir;
    uint8_t cluster_uuid[16];
    uint32_t server_id;
    const struct chunk_settings *settings; /* NULL = the defaults; copied */
};

struct segment {
    uint32_t id;
    unsigned class;
    uint64_t salt;
    uint64_t end; /* durable bytes */
    uint64_t indexed, indexed_frozen;
    uint64_t dead, dead_frozen, dead_saved; /* bytes: now, at the freeze, in the manifest */
    struct env_file *file;                  /* NULL = missing */
    unsigned refs;
    bool sealed;
    bool doomed; /* cleaned: unlinked when its last reader is gone */
};

/* What the index holds, kept exactly. */
struct store_totals {
    uint64_t lsn;
    uint64_t chunks;
    uint64_t stored_bytes;
    uint64_t hash[CHUNK_PARTITIONS];
    uint64_t count[CHUNK_PARTITIONS];
};

/* One record to be written with the next group. op is completed once `result` is set. */
struct store_item {
    struct list_node node;
    unsigned type; /* enum record_type */
    struct index_key key;
    uint32_t length, flags;
    struct slice crcs, data;
    struct index_entry known; /* what the index said when it was asked; segment 0 = nothing */
    struct index_entry entry; /* where it went */
    int result;
    struct op *op;
};

struct store_group {
    struct op op;
    struct list items;
    size_t count;
    struct store_group_file {
        struct segment *segment;
        struct buf scratch;
        struct iovec *iov;
        unsigned iov_count;
        uint64_t bytes;
        struct env_io write, sync, repair;
    } files[SEGMENT_CLASSES];
    unsigned class; /* being opened */
    struct segment *fresh;
    struct env_io io;
    struct iovec io_iov;
    uint8_t *head;
    char *path;
    bool active;
};

struct store_job;

struct chunk_store {
    struct env *env;
    struct chunk_store_config config;
    struct chunk_settings settings;
    char *dir;
    struct env_file *lock;
    struct lsm lsm;
    struct map segments;
    uint32_t next_segment;
    struct segment *open[SEGMENT_CLASSES];
    struct store_totals totals, totals_frozen, totals_saved;
    struct list queue; /* store_item, not in a group yet */
    size_t queue_count;
    uint64_t queue_bytes; /* of puts accepted and not answered */
    uint64_t get_bytes;
    struct map pending; /* id -> store_put not durable yet */
    struct store_group group;
    struct store_job *job;  /* flush, merge or clean; one at a time */
    struct env_timer retry; /* a job failed: again in a second */
    struct env_io stat;
    bool stat_running;
    uint64_t stat_at_ns;
    uint64_t disk_total, disk_free;
    uint64_t reserve; /* of the disk, for cleaning; 0 = not looked yet */
    uint64_t room;    /* free above the reserve, less what was put since */
    bool full;        /* for a chunk of the largest size; smaller ones may still fit */
    bool closing;
    unsigned busy; /* ops, groups, jobs that use the store */
    void (*closed)(struct chunk_store *store);
    /* A copy here is damaged and wants to be pulled from a peer; may be NULL. */
    void (*corrupt)(struct chunk_store *store, const struct index_key *key);
    void *data;
    uint64_t put_count, get_count, delete_count, groups, corrupt_found, torn_tails, cleaned_bytes;
};

/* Blocking. -ERR_WRONG_CLUSTER, -ERR_WRONG_NODE, -ERR_BAD_FORMAT, -EBUSY (another process has the
 * directory): logged with what to do. */
int must_check chunk_store_open(struct chunk_store *store, struct env *env,
                                const struct chunk_store_config *config);
/* Blocking, in place of chunk_store_close when nothing was started yet. */
void chunk_store_discard(struct chunk_store *store);
/* Lets what is running end; then closed() runs, from the loop. No op is started after it. */
void chunk_store_close(struct chunk_store *store, void (*closed)(struct chunk_store *store));
/* Bytes that it still takes before puts are refused, about; UINT64_MAX = not known yet. */
uint64_t chunk_store_room(const struct chunk_store *store);
uint64_t chunk_store_dead_bytes(const struct chunk_store *store);

/* crcs and data are borrowed until released. result: 0 = durable; -ERR_CORRUPT: the bytes do not
 * match the checksums, or another chunk has this id; -ENOSPC; -ERR_BUSY. */
struct store_put {
    struct op op;
    struct index_key key;
    uint32_t length, flags;
    struct slice crcs, data;
    bool replace; /* write also when the index has it: the copy here is damaged */
    void (*released)(struct store_put *put);
    void *data_owner;
    /* private */
    struct chunk_store *store;
    struct lsm_find find;
    struct store_item item;
    struct list joined; /* puts of the same chunk that wait for this one */
    struct list_node node;
    int joined_result;
    bool pending;
};
void store_put_start(struct store_put *put, struct chunk_store *store);

/* length 0 = all. result: 0, -ERR_NOT_FOUND, -ERR_CORRUPT (reported to store->corrupt), -EINVAL. */
struct store_get {
    struct op op;
    struct index_key key;
    uint32_t offset, length;
    bool quiet; /* damage is the caller's matter: it is neither counted nor reported */
    void (*released)(struct store_get *get);
    void *data_owner;
    uint32_t chunk_length, flags, first; /* as in chunk_get_reply */
    struct buf crcs, payload;            /* the owner's: free or take them in released */
    /* private */
    struct chunk_store *store;
    struct lsm_find find;
    struct segment *segment;
    struct buf head;
    struct env_io io_head, io_data;
    struct iovec iov_head, iov_data;
    uint64_t charged;
    unsigned tries;
};
void store_get_start(struct store_get *get, struct chunk_store *store);

/* Ids as in chunk_delete_request. result: 0 = all of them are gone for good. */
struct store_delete {
    struct op op;
    struct slice ids; /* borrowed */
    void (*released)(struct store_delete *del);
    void *data_owner;
    /* private */
    struct chunk_store *store;
    struct lsm_find find;
    struct store_item *items;
    struct index_entry *dead; /* to be punched out */
    size_t next, item_count, dead_count;
};
void store_delete_start(struct store_delete *del, struct chunk_store *store);

/* Live entries of [from, end of partition `last_partition`], at most `max`, in key order. */
struct store_scan {
    struct op op;
    struct index_key from;
    uint32_t last_partition;
    uint32_t max;
    struct buf entries; /* struct index_entry; the owner's */
    bool last;          /* nothing behind them */
    void (*released)(struct store_scan *scan);
    void *data_owner;
    /* private */
    struct chunk_store *store;
    struct lsm_merge merge;
};
void store_scan_start(struct store_scan *scan, struct chunk_store *store);
