#pragma once
/*
 * compaction_pick: which tables to merge next (leveled, fan-out 10). Pure.
 *
 * Level 0 holds whole memtables, which overlap; from level 1 on the tables of a level do not.
 */
#include "base/compiler.h"
#include "chunkstore/sstable.h"

struct level {
    struct sstable **tables; /* L0: oldest first; else by key */
    size_t count;
    uint64_t bytes;
};

struct compaction {
    unsigned from_level;     /* inputs come from it and from from_level + 1 */
    struct sstable **inputs; /* owned array, borrowed tables; newest data first */
    size_t input_count;
    bool drop_deleted; /* nothing below can still hold what a tombstone hides */
};

/* False: nothing to do. Else free with compaction_deinit. */
bool compaction_pick(struct compaction *out_compaction, const struct level *levels);
void compaction_deinit(struct compaction *compaction);
