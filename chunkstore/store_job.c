/*
 * store_job: background work, one job at a time: write the frozen memtable out as tables, merge
 * tables, or clean a segment.
 *
 *     MERGE -> (table full) CREATE -> WRITE -> MERGE ...     flush, merge
 *     CLEAN                                                  clean
 *     then: DIRECTORY -> install -> MANIFEST_OPEN -> CUT -> SAVE -> RENAME -> MANIFEST_DIRECTORY
 *
 * What the old manifest names is unlinked only when the new one is durable: the job holds a
 * reference on it until then. Memory may be ahead of the manifest, never behind.
 */
#include "base/assert.h"
#include "base/buggify.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/lsm_internal.h"
#include "chunkstore/sstable_format.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

#define JOB_TURN_ENTRIES 4096
#define JOB_RETRY_NS     NS_PER_S

enum job_state {
    JOB_MERGE,
    JOB_CREATE,
    JOB_WRITE,
    JOB_CLEAN,
    JOB_DIRECTORY,
    JOB_MANIFEST_OPEN,
    JOB_CUT,
    JOB_SAVE,
    JOB_RENAME,
    JOB_MANIFEST_DIRECTORY,
};
static const char *const job_states[] = {
    "MERGE",         "CREATE", "WRITE", "CLEAN",  "DIRECTORY",
    "MANIFEST_OPEN", "CUT",    "SAVE",  "RENAME", "MANIFEST_DIRECTORY"};

static void on_io(struct env_io *io)
{
    op_complete(io->data);
}

static void submit(struct store_job *job, struct env_io io)
{
    job->io = io;
    job->io.done = on_io;
    job->io.data = &job->op;
    job->op.inflight++;
    env_io(job->store->env, &job->io);
}

static void on_pause(struct env_timer *timer)
{
    op_complete(&container_of(timer, struct store_job, pause)->op);
}

static void pause_job(struct store_job *job, uint64_t ns)
{
    job->pause.fire = on_pause;
    job->op.inflight++;
    env_timer_start(job->store->env, &job->pause, env_now(job->store->env) + ns);
}

/* 1 = a table is full or the end is reached (job->more tells), 0 = waits, or an error. */
static int merge_some(struct store_job *job)
{
    struct index_entry entry;

    for (;;) {
        int r;

        if (job->merged >= JOB_TURN_ENTRIES) {
            job->merged = 0;
            pause_job(job, 0);
            return 0;
        }
        r = lsm_merge_next(&job->merge, &entry);
        if (r == -EAGAIN) {
            lsm_merge_read(&job->merge, &job->op);
            return 0;
        }
        if (r <= 0) {
            job->more = false;
            return r < 0 ? r : 1;
        }
        job->merged++;
        if (!entry_live(&entry) && job->compaction.drop_deleted) {
            continue;
        }
        sstable_builder_add(&job->builder, &entry);
        if (job->builder.bytes.size >= SSTABLE_BYTES) {
            job->more = true;
            return 1;
        }
    }
}

static int keep_output(struct store_job *job)
{
    struct buf *bytes = &job->builder.bytes;
    struct sstable *table = mem_zalloc(sizeof(*table));
    size_t tail = (size_t)job->builder.block_count * SSTABLE_BLOCK_BYTES;
    int r = sstable_load(table, job->builder.id, slice_make(bytes->data + tail, bytes->size - tail),
                         bytes->size);

    ASSERT(r == 0);
    table->level = job->level;
    table->file = job->file;
    table->refs = 1;
    job->file = NULL;
    job->outputs = mem_realloc(job->outputs, (job->output_count + 1) * sizeof(*job->outputs));
    job->outputs[job->output_count++] = table;
    mem_free(job->path);
    job->path = NULL;
    sstable_builder_deinit(&job->builder);
    sstable_builder_init(&job->builder, job->store->lsm.next_table++);
    return r;
}

/* The new tables count from now on; the old ones live on in job->compaction.inputs. */
static void install(struct store_job *job)
{
    struct chunk_store *store = job->store;
    struct lsm *lsm = &store->lsm;
    size_t position = 0;
    struct map_slot *slot;

    for (size_t i = 0; i < job->compaction.input_count; i++) {
        lsm_drop_table(lsm, job->compaction.inputs[i]);
    }
    for (size_t i = 0; i < job->output_count; i++) {
        lsm_add_table(lsm, job->outputs[i]);
    }
    job->output_count = 0;
    if (job->flush) {
        lsm->previous = lsm->frozen;
        lsm->frozen = NULL;
        store->totals_saved = store->totals_frozen;
        while ((slot = map_next(&store->segments, &position)) != NULL) {
            struct segment *segment = slot->value;

            segment->indexed = segment->indexed_frozen;
            segment->dead_saved = segment->dead_frozen;
        }
    }
    if (job->cleaning) {
        segment_doom(store, job->segment);
    }
}

static void write_table(struct store_job *job)
{
    job->iov = (struct iovec){job->builder.bytes.data, job->builder.bytes.size};
    submit(job, (struct env_io){
                    .type = ENV_IO_WRITE, .file = job->file, .iov = &job->iov, .iov_count = 1});
}

static void encode_manifest(struct store_job *job)
{
    struct manifest manifest = {0};

    store_describe(job->store, &manifest);
    buf_clear(&job->bytes);
    manifest_encode(&manifest, &job->bytes);
    manifest_deinit(&manifest);
    job->iov = (struct iovec){job->bytes.data, job->bytes.size};
}

static void check_sync(struct store_job *job, const char *what)
{
    if (job->io.result < 0) {
        env_disk_failed(job->store->env, (int)job->io.result, "chunk",
                        "sync failed %s dir=%s error=%s", what, job->store->dir,
                        err_name((int)job->io.result));
    }
}

/* From the table's states. Returns 0, or an error that ends the job. */
static int step_table(struct store_job *job, struct op *op)
{
    struct chunk_store *store = job->store;
    int r;

    switch (op->state) {
    case JOB_MERGE:
        r = merge_some(job);
        if (r <= 0) {
            return r;
        }
        if (job->builder.entry_count == 0) {
            op->state = JOB_DIRECTORY;
            submit(job, (struct env_io){.type = ENV_IO_SYNC_DIR, .path = store->dir});
            return 0;
        }
        sstable_builder_finish(&job->builder);
        job->path = lsm_table_path(&store->lsm, job->builder.id);
        op->state = JOB_CREATE;
        submit(job, (struct env_io){.type = ENV_IO_OPEN,
                                    .path = job->path,
                                    .flags = ENV_OPEN_CREATE | ENV_OPEN_BULK});
        return 0;
    case JOB_CREATE:
        if (job->io.result < 0) {
            return (int)job->io.result;
        }
        job->file = job->io.file;
        op->state = JOB_WRITE;
        write_table(job);
        return 0;
    default:
        if (job->io.type == ENV_IO_WRITE) {
            if (job->io.result < 0) {
                return (int)job->io.result;
            }
            submit(job, (struct env_io){.type = ENV_IO_SYNC, .file = job->file});
            return 0;
        }
        check_sync(job, "table");
        r = keep_output(job);
        op->state = JOB_MERGE;
        return r;
    }
}

/* Saving goes on until it succeeds: memory is ahead of the manifest. */
static void save_again(struct store_job *job, struct op *op)
{
    LOG_WARN(job->store->env, "chunk", "cannot save the manifest, trying again dir=%s error=%s",
             job->store->dir, err_name((int)job->io.result));
    store_failed(job->store, (int)job->io.result);
    if (job->file != NULL) {
        lsm_file_retire(&job->store->lsm, job->file, NULL);
        job->file = NULL;
    }
    op->state = JOB_DIRECTORY;
    job->io.result = 0;
    job->more = true; /* installed already */
    pause_job(job, JOB_RETRY_NS);
}

static void step_manifest(struct store_job *job, struct op *op)
{
    struct chunk_store *store = job->store;

    if (op->state != JOB_DIRECTORY && job->io.type != ENV_IO_SYNC && job->io.result < 0) {
        save_again(job, op);
        return;
    }
    switch (op->state) {
    case JOB_DIRECTORY:
        check_sync(job, "directory");
        if (!job->more) {
            install(job);
        }
        mem_free(job->path);
        mem_free(job->new_path);
        job->path = mem_printf("%s/MANIFEST.new", store->dir);
        job->new_path = mem_printf("%s/MANIFEST", store->dir);
        op->state = JOB_MANIFEST_OPEN;
        submit(job, (struct env_io){.type = ENV_IO_OPEN,
                                    .path = job->path,
                                    .flags = ENV_OPEN_CREATE | ENV_OPEN_BULK});
        return;
    case JOB_MANIFEST_OPEN:
        job->file = job->io.file;
        op->state = JOB_CUT;
        submit(job, (struct env_io){.type = ENV_IO_TRUNCATE, .file = job->file, .size = 0});
        return;
    case JOB_CUT:
        encode_manifest(job);
        op->state = JOB_SAVE;
        submit(job, (struct env_io){
                        .type = ENV_IO_WRITE, .file = job->file, .iov = &job->iov, .iov_count = 1});
        return;
    case JOB_SAVE:
        if (job->io.type == ENV_IO_WRITE) {
            submit(job, (struct env_io){.type = ENV_IO_SYNC, .file = job->file});
            return;
        }
        check_sync(job, "manifest");
        lsm_file_retire(&store->lsm, job->file, NULL);
        job->file = NULL;
        op->state = JOB_RENAME;
        submit(job, (struct env_io){
                        .type = ENV_IO_RENAME, .path = job->path, .new_path = job->new_path});
        return;
    case JOB_RENAME:
        op->state = JOB_MANIFEST_DIRECTORY;
        submit(job, (struct env_io){.type = ENV_IO_SYNC_DIR, .path = store->dir});
        return;
    default:
        check_sync(job, "manifest directory");
        op_finish(op, 0);
        return;
    }
}

static void job_step(struct op *op)
{
    struct store_job *job = container_of(op, struct store_job, op);
    int r = 0;

    while (op->inflight == 0 && !op->decided) {
        if (op->state < JOB_CLEAN) {
            r = step_table(job, op);
        } else if (op->state == JOB_CLEAN) {
            r = store_clean_step(job);
            if (r == 0) {
                op->state = JOB_DIRECTORY;
                submit(job, (struct env_io){.type = ENV_IO_SYNC_DIR, .path = job->store->dir});
            }
            r = r > 0 ? 0 : r;
        } else {
            step_manifest(job, op);
        }
        if (r < 0 || (job->store->closing && op->state <= JOB_CLEAN && op->inflight == 0)) {
            op_finish(op, r < 0 ? r : -ECANCELED);
        }
    }
}

static void on_retry(struct env_timer *timer)
{
    store_job_kick(container_of(timer, struct chunk_store, retry));
}

static void free_job(struct store_job *job)
{
    struct chunk_store *store = job->store;

    lsm_merge_deinit(&job->merge);
    for (size_t i = 0; i < job->output_count; i++) { /* never installed */
        job->outputs[i]->doomed = true;
        lsm_table_unref(&store->lsm, job->outputs[i]);
    }
    for (size_t i = 0; i < job->compaction.input_count; i++) {
        lsm_table_unref(&store->lsm, job->compaction.inputs[i]);
    }
    compaction_deinit(&job->compaction);
    sstable_builder_deinit(&job->builder);
    if (job->file != NULL) {
        lsm_file_retire(&store->lsm, job->file, NULL);
    }
    if (job->segment != NULL) {
        segment_unref(store, job->segment);
    }
    mem_free(job->outputs);
    mem_free(job->path);
    mem_free(job->new_path);
    mem_free(job->items);
    buf_deinit(&job->bytes);
    buf_deinit(&job->window);
    buf_deinit(&job->moved);
    mem_free(job);
}

static void job_drained(struct op *op)
{
    struct store_job *job = container_of(op, struct store_job, op);
    struct chunk_store *store = job->store;

    if (op->result < 0 && op->result != -ECANCELED) {
        LOG_WARN(store->env, "chunk", "background job failed, again later job=%s error=%s",
                 job->cleaning ? "clean"
                 : job->flush  ? "flush"
                               : "merge",
                 err_name(op->result));
        if (job->io.type != ENV_IO_READ && job->io.result == op->result) {
            store_failed(store,
                         op->result); /* what cannot be read is repaired by who asks for it */
        }
    }
    store->job = NULL;
    if (!store->closing) {
        store->retry.fire = on_retry;
        if (op->result < 0) {
            env_timer_start(store->env, &store->retry, env_now(store->env) + JOB_RETRY_NS);
        }
    }
    free_job(job);
    if (!env_timer_running(&store->retry)) {
        store_job_kick(store);
    }
    store_group_kick(store);
    store_released(store);
}

static const struct op_kind job_kind = {.name = "store_job",
                                        .states = job_states,
                                        .state_count = ARRAY_SIZE(job_states),
                                        .step = job_step,
                                        .drained = job_drained};

static struct store_job *new_job(struct chunk_store *store)
{
    struct index_key first = {0};
    struct store_job *job = mem_zalloc(sizeof(*job));

    job->store = store;
    op_init(&job->op, &job_kind);
    lsm_merge_init(&job->merge, &store->lsm, &first);
    store->job = job;
    store->busy++;
    return job;
}

static void freeze(struct chunk_store *store)
{
    size_t position = 0;
    struct map_slot *slot;

    store->totals_frozen = store->totals;
    while ((slot = map_next(&store->segments, &position)) != NULL) {
        struct segment *segment = slot->value;

        segment->indexed_frozen = max_u64(segment->end, SEGMENT_HEAD_BYTES);
        segment->dead_frozen = segment->dead;
    }
    lsm_freeze(&store->lsm, env_random(store->env));
}

static void start_flush(struct chunk_store *store)
{
    struct store_job *job = new_job(store);

    job->flush = true;
    lsm_merge_add_memtable(&job->merge, store->lsm.frozen);
    sstable_builder_init(&job->builder, store->lsm.next_table++);
    op_wake(&job->op);
}

static void start_merge(struct chunk_store *store, struct compaction *compaction)
{
    struct store_job *job = new_job(store);

    job->compaction = *compaction;
    job->level = compaction->from_level + 1;
    for (size_t i = 0; i < compaction->input_count; i++) {
        sstable_ref(compaction->inputs[i]);
        lsm_merge_add_table(&job->merge, compaction->inputs[i]);
    }
    sstable_builder_init(&job->builder, store->lsm.next_table++);
    op_wake(&job->op);
}

void store_job_kick(struct chunk_store *store)
{
    struct compaction compaction;
    struct segment *segment;

    if (store->lsm.frozen == NULL && (store->lsm.active->bytes >= store->settings.memtable_bytes ||
                                      (store->lsm.active->bytes > 0 && BUGGIFY(store->env, 2)))) {
        freeze(store);
    }
    if (store->job != NULL || store->closing || env_timer_running(&store->retry)) {
        return;
    }
    if (store->lsm.frozen != NULL && store->lsm.levels[0].count < LSM_L0_STALL) {
        start_flush(store);
    } else if (compaction_pick(&compaction, store->lsm.levels)) {
        start_merge(store, &compaction);
    } else if ((segment = store_clean_pick(store)) != NULL) {
        struct store_job *job = new_job(store);

        job->cleaning = true;
        job->segment = segment_ref(segment);
        job->op.state = JOB_CLEAN;
        op_wake(&job->op);
    }
}
