#pragma once
/* lsm_internal: shared by the files of the index only. */
#include "chunkstore/lsm.h"

/* Borrowed until the next call that may evict; empty = not in memory. */
struct slice lsm_block_cached(struct lsm *lsm, const struct sstable *table, uint32_t number);
/* Takes over the bytes, unless another read was faster. */
void lsm_block_keep(struct lsm *lsm, const struct sstable *table, uint32_t number,
                    struct buf *bytes);
/* 1 found, 0 absent, -EAGAIN: out_read names the block to read first. */
int lsm_search(struct lsm *lsm, const struct index_key *key, struct index_entry *out_entry,
               struct lsm_block_read *out_read);
/* Starts to read `table`, `block` of *read (op->inflight++, a reference on the table). */
void lsm_block_read_start(struct lsm *lsm, struct lsm_block_read *read, struct op *op);
/* After it: count of entries in read->bytes, or an error. The reference is gone. */
int lsm_block_read_end(struct lsm *lsm, struct lsm_block_read *read);
/* Closes the file, then unlinks `path` (owned; NULL = keep the file), in the background. */
void lsm_file_retire(struct lsm *lsm, struct env_file *file, char *path);
