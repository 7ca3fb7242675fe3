/* store_scan: READ (a block, when one is missing) ... --> finish. */
#include "base/err.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

enum { STORE_SCAN_READ };
static const char *const scan_states[] = {"READ"};

static void scan_step(struct op *op)
{
    struct store_scan *scan = container_of(op, struct store_scan, op);
    struct index_entry entry;

    while (op->inflight == 0) {
        int r = lsm_merge_next(&scan->merge, &entry);

        if (r == -EAGAIN) {
            lsm_merge_read(&scan->merge, op);
            continue;
        }
        if (r > 0 && entry.key.partition > scan->last_partition) {
            r = 0;
        }
        if (r > 0 && !entry_live(&entry)) {
            continue;
        }
        if (r <= 0 || scan->entries.size / sizeof(entry) == scan->max) {
            scan->last = r == 0;
            op_finish(op, r < 0 ? r : 0);
            return;
        }
        buf_append(&scan->entries, &entry, sizeof(entry));
    }
}

static void scan_drained(struct op *op)
{
    struct store_scan *scan = container_of(op, struct store_scan, op);
    struct chunk_store *store = scan->store;

    lsm_merge_deinit(&scan->merge);
    scan->released(scan);
    store_released(store);
}

static const struct op_kind scan_kind = {.name = "store_scan",
                                         .states = scan_states,
                                         .state_count = ARRAY_SIZE(scan_states),
                                         .step = scan_step,
                                         .drained = scan_drained};

void store_scan_start(struct store_scan *scan, struct chunk_store *store)
{
    op_init(&scan->op, &scan_kind);
    scan->store = store;
    scan->entries = (struct buf){0};
    scan->last = false;
    lsm_merge_init(&scan->merge, &store->lsm, &scan->from);
    lsm_merge_add_all(&scan->merge, scan->last_partition);
    store->busy++;
    op_wake(&scan->op);
}
