#pragma once
/*
 * fsck_check: the state of a volume as read from the metadata service and the chunk servers, held
 * against itself: links, reachability, extents, space, chunks and their copies. Pure.
 */
#include "base/map.h"
#include "base/slice.h"
#include "meta/record.h"

struct fsck_problem {
    char text[240];
};

struct fsck {
    /* Read. */
    struct map inodes; /* ino -> struct fsck_inode */
    struct map data;   /* data id -> struct fsck_inode */
    struct map chunks; /* {session, seq} -> struct fsck_chunk */
    struct record_volume volume;
    bool has_volume;
    uint64_t records, dentries, extents, orphans, gone;
    uint64_t last_data, last_end; /* of the extent before, for overlaps */
    struct fsck_journal {
        uint64_t count, sum; /* of the places named, order does not matter */
    } journalled, journal;   /* extents that carry bytes; records that say which do */
    uint64_t journal_bytes;
    uint64_t reserved_bytes;
    /* Found. */
    struct fsck_problem *problems;
    size_t problem_count;
    uint64_t missing_copies; /* of live chunks, over all servers */
};

void fsck_init(struct fsck *fsck);
void fsck_deinit(struct fsck *fsck);
/* One pair, in key order. */
void fsck_add_record(struct fsck *fsck, struct slice key, struct slice value);
/* A chunk server holds this chunk. */
void fsck_add_copy(struct fsck *fsck, uint64_t session, uint64_t seq);
/* After all records (and copies, `copies` > 0: how many each live chunk should have). */
void fsck_finish(struct fsck *fsck, unsigned copies);
