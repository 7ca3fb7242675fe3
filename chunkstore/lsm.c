#include "chunkstore/lsm.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/lsm_internal.h"
#include "chunkstore/sstable_format.h"

#include <errno.h>

void lsm_init(struct lsm *lsm, struct env *env, const char *dir)
{
    *lsm = (struct lsm){.env = env, .dir = dir, .next_table = 1};
    list_init(&lsm->block_lru);
    lsm->active = memtable_new(1);
}

char *lsm_table_path(const struct lsm *lsm, uint64_t id)
{
    return mem_printf("%s/table-%016" PRIx64, lsm->dir, id);
}

/* ---- blocks in memory ---- */

static void block_free(struct lsm *lsm, struct lsm_block *block)
{
    map_remove(&lsm->blocks, block->key);
    list_remove(&block->node);
    buf_deinit(&block->bytes);
    mem_free(block);
}

static struct map_key block_key(const struct sstable *table, uint32_t block)
{
    return (struct map_key){table->id, block};
}

struct slice lsm_block_cached(struct lsm *lsm, const struct sstable *table, uint32_t number)
{
    struct lsm_block *block = map_get(&lsm->blocks, block_key(table, number));

    if (block == NULL) {
        return (struct slice){0};
    }
    list_remove(&block->node);
    list_push_back(&lsm->block_lru, &block->node);
    return buf_slice(&block->bytes);
}

void lsm_block_keep(struct lsm *lsm, const struct sstable *table, uint32_t number,
                    struct buf *bytes)
{
    struct lsm_block *block;

    if (map_get(&lsm->blocks, block_key(table, number)) != NULL) {
        return;
    }
    if (lsm->blocks.count >= lsm->blocks_max) {
        block_free(lsm, list_entry(list_first(&lsm->block_lru), struct lsm_block, node));
    }
    block = mem_zalloc(sizeof(*block));
    block->key = block_key(table, number);
    block->bytes = buf_take(bytes);
    list_push_back(&lsm->block_lru, &block->node);
    map_put(&lsm->blocks, block->key, block);
}

/* ---- tables ---- */

struct sstable *sstable_ref(struct sstable *table)
{
    table->refs++;
    return table;
}

void lsm_table_unref(struct lsm *lsm, struct sstable *table)
{
    if (--table->refs > 0) {
        return;
    }
    lsm_file_retire(lsm, table->file, table->doomed ? lsm_table_path(lsm, table->id) : NULL);
    for (uint32_t i = 0; i < table->block_count; i++) {
        struct lsm_block *block = map_get(&lsm->blocks, block_key(table, i));

        if (block != NULL) {
            block_free(lsm, block);
        }
    }
    sstable_deinit(table);
    mem_free(table);
}

void lsm_add_table(struct lsm *lsm, struct sstable *table)
{
    struct level *level = &lsm->levels[table->level];
    size_t at = level->count;

    ASSERT(table->level < LSM_LEVELS);
    level->tables = mem_realloc(level->tables, (level->count + 1) * sizeof(*level->tables));
    while (table->level > 0 && at > 0 &&
           index_key_compare(&table->min, &level->tables[at - 1]->min) < 0) {
        level->tables[at] = level->tables[at - 1];
        at--;
    }
    level->tables[at] = table;
    level->count++;
    level->bytes += table->size;
    if (lsm->next_table <= table->id) {
        lsm->next_table = table->id + 1;
    }
}

void lsm_drop_table(struct lsm *lsm, struct sstable *table)
{
    struct level *level = &lsm->levels[table->level];
    size_t at = 0;

    while (level->tables[at] != table) {
        at++;
        ASSERT(at < level->count);
    }
    level->count--;
    level->bytes -= table->size;
    memmove(&level->tables[at], &level->tables[at + 1],
            (level->count - at) * sizeof(*level->tables));
    table->doomed = true;
    lsm_table_unref(lsm, table);
}

static void drop_all(struct lsm *lsm)
{
    for (unsigned i = 0; i < LSM_LEVELS; i++) {
        struct level *level = &lsm->levels[i];

        for (size_t t = 0; t < level->count; t++) {
            struct sstable *table = level->tables[t];

            ASSERT(table->refs == 1);
            env_close_now(lsm->env, table->file);
            sstable_deinit(table);
            mem_free(table);
        }
        mem_free(level->tables);
        *level = (struct level){0};
    }
}

void lsm_deinit(struct lsm *lsm)
{
    struct list_node *node;

    while ((node = list_first(&lsm->block_lru)) != NULL) {
        block_free(lsm, list_entry(node, struct lsm_block, node));
    }
    map_deinit(&lsm->blocks);
    drop_all(lsm);
    memtable_unref(lsm->active);
    memtable_unref(lsm->frozen);
    memtable_unref(lsm->previous);
    lsm->active = lsm->frozen = lsm->previous = NULL;
}

/* ---- loading, blocking ---- */

static int verify_blocks(struct lsm *lsm, const struct sstable *table, struct buf *scratch)
{
    uint8_t *at;

    buf_clear(scratch);
    at = buf_reserve(scratch, SSTABLE_BLOCK_BYTES);
    for (uint32_t i = 0; i < table->block_count; i++) {
        int64_t got = env_read_at(lsm->env, table->file, at, SSTABLE_BLOCK_BYTES,
                                  (uint64_t)i * SSTABLE_BLOCK_BYTES);
        int r;

        if (got < 0) {
            return (int)got;
        }
        r = sstable_block_check(slice_make(at, (size_t)got));
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int load_file(struct lsm *lsm, struct sstable *table, const struct manifest_table *record,
                     struct env_file *file)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    uint8_t footer[SSTABLE_FOOTER_BYTES];
    uint64_t offset;
    int64_t got;
    int r;

    if (record->size < SSTABLE_FOOTER_BYTES || record->size > SSTABLE_FILE_MAX) {
        return -ERR_CORRUPT;
    }
    got = env_read_at(lsm->env, file, footer, sizeof(footer), record->size - sizeof(footer));
    if (got != (int64_t)sizeof(footer)) {
        return got < 0 ? (int)got : -ERR_CORRUPT;
    }
    r = sstable_tail_offset(slice_make(footer, sizeof(footer)), record->size, &offset);
    if (r < 0) {
        return r;
    }
    got = env_read_at(lsm->env, file, buf_reserve(&bytes, record->size - offset),
                      record->size - offset, offset);
    if (got < 0) {
        return (int)got;
    }
    r = sstable_load(table, record->id, slice_make(bytes.data, (size_t)got), record->size);
    if (r < 0) {
        return r;
    }
    table->level = record->level;
    table->file = file;
    table->refs = 1;
    return verify_blocks(lsm, table, &bytes);
}

static int load_table(struct lsm *lsm, const struct manifest_table *record)
{
    struct sstable *table = mem_zalloc(sizeof(*table));
    char *path = lsm_table_path(lsm, record->id);
    struct env_file *file = NULL;
    int r;

    r = env_open_now(lsm->env, path, ENV_OPEN_READ_ONLY, &file);
    if (r == 0) {
        r = load_file(lsm, table, record, file);
    }
    if (r == 0) {
        lsm_add_table(lsm, table);
    } else {
        LOG_WARN(lsm->env, "chunk", "index table is damaged path=%s error=%s", path, err_name(r));
        env_close_now(lsm->env, file);
        sstable_deinit(table);
        mem_free(table);
    }
    mem_free(path);
    return r == -ENOENT ? -ERR_CORRUPT : r;
}

int lsm_load(struct lsm *lsm, const struct manifest *manifest)
{
    for (uint32_t i = 0; i < manifest->head.table_count; i++) {
        int r = load_table(lsm, &manifest->tables[i]);

        if (r < 0) {
            drop_all(lsm);
            return r;
        }
    }
    lsm->next_table = max_u64(lsm->next_table, manifest->head.next_table);
    return 0;
}

void lsm_describe(const struct lsm *lsm, struct manifest *manifest)
{
    manifest->head.next_table = lsm->next_table;
    for (unsigned i = 0; i < LSM_LEVELS; i++) {
        for (size_t t = 0; t < lsm->levels[i].count; t++) {
            const struct sstable *table = lsm->levels[i].tables[t];
            struct manifest_table record = {table->id, i, table->size};

            manifest_add_table(manifest, &record);
        }
    }
}

/* ---- keys ---- */

void lsm_put(struct lsm *lsm, const struct index_entry *entry)
{
    memtable_put(lsm->active, entry);
}

const struct index_entry *lsm_recent(const struct lsm *lsm, const struct index_key *key)
{
    const struct memtable *memtables[] = {lsm->active, lsm->frozen, lsm->previous};

    for (unsigned i = 0; i < ARRAY_SIZE(memtables); i++) {
        const struct index_entry *entry =
            memtables[i] != NULL ? memtable_get(memtables[i], key) : NULL;

        if (entry != NULL) {
            return entry;
        }
    }
    return NULL;
}

void lsm_freeze(struct lsm *lsm, uint64_t seed)
{
    ASSERT(lsm->frozen == NULL);
    memtable_unref(lsm->previous);
    lsm->previous = NULL;
    lsm->frozen = lsm->active;
    lsm->active = memtable_new(seed);
}

/* 1 found, 0 not in this table, -EAGAIN: its block is not in memory. */
static int search_table(struct lsm *lsm, struct sstable *table, const struct index_key *key,
                        struct index_entry *out_entry, uint32_t *out_block)
{
    struct index_entry entry;
    struct slice block;
    uint32_t at;

    if (!sstable_may_have(table, key)) {
        return 0;
    }
    *out_block = sstable_block_of(table, key);
    block = lsm_block_cached(lsm, table, *out_block);
    if (block.size == 0) {
        return -EAGAIN;
    }
    at = sstable_block_seek(block, key);
    if (at == bytes_get_le32(block.data + 4)) {
        return 0;
    }
    entry = sstable_block_entry(block, at);
    if (index_key_compare(&entry.key, key) != 0) {
        return 0;
    }
    *out_entry = entry;
    return 1;
}

/* The table of a level >= 1 whose range holds the key, or NULL. */
static struct sstable *table_for(const struct level *level, const struct index_key *key)
{
    size_t low = 0, high = level->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (index_key_compare(&level->tables[middle]->max, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < level->count ? level->tables[low] : NULL;
}

int lsm_search(struct lsm *lsm, const struct index_key *key, struct index_entry *out_entry,
               struct lsm_block_read *out_read)
{
    const struct index_entry *recent = lsm_recent(lsm, key);

    if (recent != NULL) {
        *out_entry = *recent;
        return 1;
    }
    for (unsigned i = 0; i < LSM_LEVELS; i++) {
        const struct level *level = &lsm->levels[i];
        size_t count = i == 0 ? level->count : 1;

        for (size_t t = count; t-- > 0;) {
            struct sstable *table = i == 0 ? level->tables[t] : table_for(level, key);
            int r = 0;

            if (table != NULL) {
                r = search_table(lsm, table, key, out_entry, &out_read->block);
            }
            if (r != 0) {
                out_read->table = table;
                return r;
            }
        }
    }
    return 0;
}

int lsm_get_now(struct lsm *lsm, const struct index_key *key, struct index_entry *out_entry)
{
    for (;;) {
        struct lsm_block_read read = {0};
        cleanup(buf_deinit) struct buf bytes = {0};
        int r = lsm_search(lsm, key, out_entry, &read);
        int64_t got;

        if (r != -EAGAIN) {
            return r;
        }
        got = env_read_at(lsm->env, read.table->file, buf_reserve(&bytes, SSTABLE_BLOCK_BYTES),
                          SSTABLE_BLOCK_BYTES, (uint64_t)read.block * SSTABLE_BLOCK_BYTES);
        if (got < 0) {
            return (int)got;
        }
        bytes.size = (size_t)got;
        r = sstable_block_check(buf_slice(&bytes));
        if (r < 0) {
            return r;
        }
        lsm_block_keep(lsm, read.table, read.block, &bytes);
    }
}
