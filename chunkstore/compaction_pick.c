#include "chunkstore/compaction_pick.h"

#include "base/mem.h"
#include "chunkstore/limits.h"

static bool overlap(const struct sstable *table, const struct index_key *min,
                    const struct index_key *max)
{
    return index_key_compare(&table->min, max) <= 0 && index_key_compare(min, &table->max) <= 0;
}

static uint64_t level_target(unsigned level)
{
    uint64_t target = LSM_L1_BYTES;

    for (unsigned i = 1; i < level; i++) {
        target *= LSM_FANOUT;
    }
    return target;
}

/* The level that is most over its target, or LSM_LEVELS. */
static unsigned fullest(const struct level *levels)
{
    unsigned best = LSM_LEVELS;
    uint64_t best_score = 100; /* percent of the target */

    if (levels[0].count >= LSM_L0_TRIGGER) {
        return 0;
    }
    for (unsigned i = 1; i + 1 < LSM_LEVELS; i++) {
        uint64_t score = levels[i].bytes * 100 / level_target(i);

        if (score > best_score) {
            best = i;
            best_score = score;
        }
    }
    return best;
}

static void add_input(struct compaction *compaction, struct sstable *table)
{
    compaction->inputs = mem_realloc(compaction->inputs,
                                     (compaction->input_count + 1) * sizeof(*compaction->inputs));
    compaction->inputs[compaction->input_count++] = table;
}

static void widen(const struct sstable *table, struct index_key *min, struct index_key *max)
{
    if (index_key_compare(&table->min, min) < 0) {
        *min = table->min;
    }
    if (index_key_compare(&table->max, max) > 0) {
        *max = table->max;
    }
}

static bool below_is_empty(const struct level *levels, unsigned level, const struct index_key *min,
                           const struct index_key *max)
{
    for (unsigned i = level + 1; i < LSM_LEVELS; i++) {
        for (size_t t = 0; t < levels[i].count; t++) {
            if (overlap(levels[i].tables[t], min, max)) {
                return false;
            }
        }
    }
    return true;
}

bool compaction_pick(struct compaction *out_compaction, const struct level *levels)
{
    unsigned from = fullest(levels);
    struct compaction compaction = {.from_level = from};
    struct index_key min, max;
    const struct level *next;

    if (from == LSM_LEVELS) {
        return false;
    }
    if (from == 0) {
        for (size_t i = levels[0].count; i-- > 0;) {
            add_input(&compaction, levels[0].tables[i]);
        }
    } else {
        size_t oldest = 0; /* moves through the level: ids only grow */

        for (size_t i = 1; i < levels[from].count; i++) {
            oldest = levels[from].tables[i]->id < levels[from].tables[oldest]->id ? i : oldest;
        }
        add_input(&compaction, levels[from].tables[oldest]);
    }
    min = compaction.inputs[0]->min;
    max = compaction.inputs[0]->max;
    for (size_t i = 1; i < compaction.input_count; i++) {
        widen(compaction.inputs[i], &min, &max);
    }
    next = &levels[from + 1];
    for (size_t i = 0; i < next->count; i++) {
        if (overlap(next->tables[i], &min, &max)) {
            add_input(&compaction, next->tables[i]);
        }
    }
    compaction.drop_deleted = below_is_empty(levels, from + 1, &min, &max);
    *out_compaction = compaction;
    return true;
}

void compaction_deinit(struct compaction *compaction)
{
    mem_free(compaction->inputs);
    *compaction = (struct compaction){0};
}
