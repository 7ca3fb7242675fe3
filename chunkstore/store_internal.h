#pragma once
/* store_internal: shared by the files of the chunk store only. */
#include "chunkstore/chunk_store.h"

/* A background job: flush, merge or clean; store_job.c starts one after the other. */
struct store_job {
    struct op op;
    struct chunk_store *store;
    struct lsm_merge merge;
    struct compaction compaction;
    struct sstable_builder builder;
    struct sstable **outputs;
    size_t output_count;
    unsigned level; /* of the outputs */
    bool flush;
    struct env_io io;
    struct iovec iov;
    struct env_file *file;
    char *path, *new_path;
    struct buf bytes;       /* the manifest */
    struct env_timer pause; /* gives others a turn; waits before another try */
    unsigned merged;        /* entries since the last pause */
    bool more;
    int result;
    /* cleaning */
    bool cleaning;
    struct segment *segment;
    struct buf window;
    uint64_t position;
    struct store_item *items;
    size_t item_count;
    struct buf moved; /* bytes of the records being moved */
    struct lsm_find find;
    struct record_head head;
};

static inline uint64_t entry_offset(const struct index_entry *entry)
{
    return (uint64_t)entry->offset8 * 8;
}

static inline bool entry_live(const struct index_entry *entry)
{
    return entry->segment != 0;
}

/* Its size says of which class it is; in a segment of the other it would end elsewhere. */
static inline bool segment_may_hold(const struct segment *segment, const struct record_head *head)
{
    return record_class(head->stored_length) == segment->class;
}

/* Does a record with this head belong to the entry? */
bool record_head_is(const struct record_head *head, const struct index_entry *entry);
/* A change of the disk failed. Lack of space refuses puts until there is some
 * again; whatever else a disk says ends the server. */
void store_failed(struct chunk_store *store, int result);
uint64_t entry_record_bytes(const struct index_entry *entry);
char *segment_path(const struct chunk_store *store, uint32_t id);
struct segment *segment_find(const struct chunk_store *store, uint32_t id);
struct segment *segment_add(struct chunk_store *store, const struct segment_head *head);
struct segment *segment_ref(struct segment *segment);
void segment_unref(struct chunk_store *store, struct segment *segment);
/* Takes a cleaned segment out of the store. */
void segment_doom(struct chunk_store *store, struct segment *segment);
void store_add_dead(struct chunk_store *store, const struct index_entry *entry);
/* Counts a chunk in (+1) or out (-1). */
void store_count(struct chunk_store *store, const struct index_entry *entry, int direction);
/* One record that is durable now: index, totals, dead bytes. `known`: what the index says. */
void store_apply(struct chunk_store *store, unsigned type, const struct index_entry *entry,
                 const struct index_entry *known);
/* What is known now, given what a lookup found a moment ago. */
struct index_entry store_current(const struct chunk_store *store, const struct index_key *key,
                                 const struct index_entry *looked_up);
void store_submit(struct chunk_store *store, struct store_item *item);
void store_group_kick(struct chunk_store *store);
void store_job_kick(struct chunk_store *store);
bool store_stalled(const struct chunk_store *store);
/* Something that kept the store open has ended. */
void store_released(struct chunk_store *store);
void store_hold(struct lsm *lsm, int change);
void store_check_space(struct chunk_store *store);
void store_describe(const struct chunk_store *store, struct manifest *manifest);
void store_totals_pack(const struct store_totals *totals, struct buf *out);
/* Blocking. Writes IDENTITY into an empty directory; refuses a foreign one, logged. */
int must_check store_check_identity(struct chunk_store *store);
int must_check store_recover(struct chunk_store *store);
struct segment *store_clean_pick(const struct chunk_store *store);
/* Steps of a cleaning job. 0 = all live records are moved, 1 = waits, or an error. */
int store_clean_step(struct store_job *job);
