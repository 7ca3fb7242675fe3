/* lsm_read: everything of the index that waits for blocks: lookups, merges, retired files. */
#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/lsm_internal.h"
#include "chunkstore/sstable_format.h"

#include <errno.h>

static void block_read_done(struct env_io *io)
{
    struct lsm_block_read *read = container_of(io, struct lsm_block_read, io);

    op_complete(read->op);
}

void lsm_block_read_start(struct lsm *lsm, struct lsm_block_read *read, struct op *op)
{
    sstable_ref(read->table);
    read->op = op;
    read->active = true;
    buf_clear(&read->bytes);
    read->iov = (struct iovec){buf_reserve(&read->bytes, SSTABLE_BLOCK_BYTES), SSTABLE_BLOCK_BYTES};
    read->io = (struct env_io){.type = ENV_IO_READ,
                               .file = read->table->file,
                               .iov = &read->iov,
                               .iov_count = 1,
                               .offset = (uint64_t)read->block * SSTABLE_BLOCK_BYTES,
                               .done = block_read_done};
    op->inflight++;
    env_io(lsm->env, &read->io);
}

int lsm_block_read_end(struct lsm *lsm, struct lsm_block_read *read)
{
    struct sstable *table = read->table;
    int r;

    read->active = false;
    if (read->io.result < 0) {
        r = (int)read->io.result;
    } else {
        read->bytes.size = (size_t)read->io.result;
        r = sstable_block_check(buf_slice(&read->bytes));
    }
    lsm_table_unref(lsm, table);
    return r;
}

/* ---- retired files ---- */

struct retired {
    struct lsm *lsm;
    struct env_io io;
    char *path;
};

static void retired_end(struct env_io *io)
{
    struct retired *retired = container_of(io, struct retired, io);
    struct lsm *lsm = retired->lsm;

    mem_free(retired->path);
    mem_free(retired);
    lsm->hold(lsm, -1);
}

static void retired_closed(struct env_io *io)
{
    struct retired *retired = container_of(io, struct retired, io);

    if (retired->path == NULL) {
        retired_end(io);
        return;
    }
    /* If the unlink fails, the next start finds a file that no manifest lists and removes it. */
    retired->io =
        (struct env_io){.type = ENV_IO_UNLINK, .path = retired->path, .done = retired_end};
    env_io(retired->lsm->env, &retired->io);
}

void lsm_file_retire(struct lsm *lsm, struct env_file *file, char *path)
{
    struct retired *retired = mem_zalloc(sizeof(*retired));

    retired->lsm = lsm;
    retired->path = path;
    retired->io = (struct env_io){.type = ENV_IO_CLOSE, .file = file, .done = retired_closed};
    lsm->hold(lsm, 1);
    env_io(lsm->env, &retired->io);
}

/* ---- lookup ---- */

/*
 *     SEARCH --> (block missing) READ --> SEARCH ... --> finish
 *
 * The search starts anew after each read: tables may have been merged meanwhile.
 */
enum lsm_find_state { LSM_FIND_SEARCH, LSM_FIND_READ };
static const char *const find_states[] = {"SEARCH", "READ"};

static void find_drained(struct op *op)
{
    struct lsm_find *find = container_of(op, struct lsm_find, op);

    buf_deinit(&find->read.bytes);
    op_complete(find->parent);
}

static void find_step(struct op *op)
{
    struct lsm_find *find = container_of(op, struct lsm_find, op);
    int r;

    for (;;) {
        if (op->state == LSM_FIND_SEARCH) {
            r = lsm_search(find->lsm, &find->key, &find->entry, &find->read);
            if (r != -EAGAIN) {
                op_finish(op, r);
                return;
            }
            op->state = LSM_FIND_READ;
            lsm_block_read_start(find->lsm, &find->read, op);
            return;
        }
        if (op->inflight > 0) {
            return;
        }
        {
            struct sstable *table = sstable_ref(find->read.table);

            r = lsm_block_read_end(find->lsm, &find->read);
            if (r > 0) {
                lsm_block_keep(find->lsm, table, find->read.block, &find->read.bytes);
            }
            lsm_table_unref(find->lsm, table);
        }
        if (r < 0) {
            op_finish(op, r);
            return;
        }
        op->state = LSM_FIND_SEARCH;
    }
}

static const struct op_kind find_kind = {.name = "lsm_find",
                                         .states = find_states,
                                         .state_count = ARRAY_SIZE(find_states),
                                         .step = find_step,
                                         .drained = find_drained};

void lsm_find_start(struct lsm_find *find, struct lsm *lsm, const struct index_key *key,
                    struct op *parent)
{
    *find = (struct lsm_find){.lsm = lsm, .key = *key, .parent = parent};
    op_init(&find->op, &find_kind);
    parent->inflight++;
    op_wake(&find->op);
}

/* ---- merge ---- */

void lsm_merge_init(struct lsm_merge *merge, struct lsm *lsm, const struct index_key *start)
{
    *merge = (struct lsm_merge){.lsm = lsm, .start = *start};
}

void lsm_merge_deinit(struct lsm_merge *merge)
{
    if (merge->read.active) { /* read, and nobody wants it any more */
        ASSERT(merge->read.op->inflight == 0);
        lsm_table_unref(merge->lsm, merge->read.table);
    }
    for (size_t i = 0; i < merge->count; i++) {
        struct lsm_source *source = &merge->sources[i];

        memtable_unref(source->memtable);
        if (source->table != NULL) {
            lsm_table_unref(merge->lsm, source->table);
        }
        buf_deinit(&source->bytes);
    }
    mem_free(merge->sources);
    buf_deinit(&merge->read.bytes);
    *merge = (struct lsm_merge){0};
}

static struct lsm_source *add_source(struct lsm_merge *merge)
{
    merge->sources = mem_realloc(merge->sources, (merge->count + 1) * sizeof(*merge->sources));
    merge->sources[merge->count] = (struct lsm_source){.bound = merge->start};
    return &merge->sources[merge->count++];
}

void lsm_merge_add_memtable(struct lsm_merge *merge, struct memtable *memtable)
{
    struct lsm_source *source = add_source(merge);

    source->memtable = memtable_ref(memtable);
    source->at = memtable_seek(memtable, &merge->start);
}

void lsm_merge_add_table(struct lsm_merge *merge, struct sstable *table)
{
    struct lsm_source *source = add_source(merge);

    source->table = sstable_ref(table);
    source->block = sstable_block_of(table, &merge->start);
    if (index_key_compare(&table->min, &source->bound) > 0) {
        source->bound = table->min;
    }
    source->ended = index_key_compare(&table->max, &merge->start) < 0;
}

void lsm_merge_add_all(struct lsm_merge *merge, uint32_t last_partition)
{
    struct lsm *lsm = merge->lsm;

    lsm_merge_add_memtable(merge, lsm->active);
    if (lsm->frozen != NULL) {
        lsm_merge_add_memtable(merge, lsm->frozen);
    }
    for (unsigned i = 0; i < LSM_LEVELS; i++) {
        for (size_t t = lsm->levels[i].count; t-- > 0;) {
            struct sstable *table = lsm->levels[i].tables[t];

            if (table->min.partition <= last_partition &&
                index_key_compare(&table->max, &merge->start) >= 0) {
                lsm_merge_add_table(merge, table);
            }
        }
    }
}

/* The key that the source stands at, or its lower bound while its block is not loaded. */
static bool source_key(struct lsm_source *source, struct index_key *out_key)
{
    if (source->memtable != NULL) {
        if (source->at == NULL) {
            return false;
        }
        *out_key = source->at->entry.key;
        return true;
    }
    if (source->ended) {
        return false;
    }
    *out_key = source->loaded ? sstable_block_entry(buf_slice(&source->bytes), source->index).key
                              : source->bound;
    return true;
}

static void source_advance(struct lsm_source *source)
{
    if (source->memtable != NULL) {
        source->at = source->at->next[0];
        return;
    }
    source->index++;
    if (source->index < source->count) {
        return;
    }
    source->block++;
    source->loaded = false;
    source->ended = source->block == source->table->block_count;
    if (!source->ended) {
        source->bound =
            sstable_key_load(source->table->first_keys.data + source->block * SSTABLE_KEY_BYTES);
    }
}

static struct index_entry source_entry(const struct lsm_source *source)
{
    return source->memtable != NULL ? source->at->entry
                                    : sstable_block_entry(buf_slice(&source->bytes), source->index);
}

static int take_block(struct lsm_merge *merge)
{
    struct lsm_source *source = &merge->sources[merge->reading];
    int r = lsm_block_read_end(merge->lsm, &merge->read);

    if (r < 0) {
        return r;
    }
    buf_deinit(&source->bytes);
    source->bytes = buf_take(&merge->read.bytes);
    source->count = (uint32_t)r;
    source->index = sstable_block_seek(buf_slice(&source->bytes), &merge->start);
    source->loaded = true;
    if (source->index == source->count) {
        source->index--; /* the last entry is before the start: step over it */
        source_advance(source);
    }
    return 0;
}

int lsm_merge_next(struct lsm_merge *merge, struct index_entry *out_entry)
{
    if (merge->read.active) {
        int r = take_block(merge);

        if (r < 0) {
            return r;
        }
    }
    for (;;) {
        struct lsm_source *best = NULL;
        struct index_key best_key = {0}, key;

        for (size_t i = 0; i < merge->count; i++) {
            if (source_key(&merge->sources[i], &key) &&
                (best == NULL || index_key_compare(&key, &best_key) < 0)) {
                best = &merge->sources[i];
                best_key = key;
            }
        }
        if (best == NULL) {
            return 0;
        }
        if (best->table != NULL && !best->loaded) {
            merge->reading = (size_t)(best - merge->sources);
            return -EAGAIN;
        }
        *out_entry = source_entry(best);
        source_advance(best);
        if (!merge->has_last || index_key_compare(&merge->last, &out_entry->key) != 0) {
            merge->has_last = true;
            merge->last = out_entry->key;
            return 1;
        } /* an older version of the same key */
    }
}

void lsm_merge_read(struct lsm_merge *merge, struct op *op)
{
    const struct lsm_source *source = &merge->sources[merge->reading];

    merge->read.table = source->table;
    merge->read.block = source->block;
    lsm_block_read_start(merge->lsm, &merge->read, op);
}
