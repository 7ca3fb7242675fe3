/*
 * heal_scrub: reads every chunk, slowly, for ever; what does not verify is reported by store_get to
 * the store's `corrupt`, which pulls another copy.
 *
 *     PAGE --> READ (one chunk) --> PAUSE (as long as its bytes cost) --> READ ...
 *      ^                                                                    |
 *      +----------------------------(end of the page)-----------------------+
 */
#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/chunk_server.h"
#include "chunkstore/heal_internal.h"

#include <errno.h>

#define SCRUB_PAGE      64
#define SCRUB_ROUND_NS  (60 * NS_PER_S) /* between two rounds over everything, at least */
#define SCRUB_CHUNK_MIN KiB(16)         /* what the smallest read costs */

enum { SCRUB_PAGE_READ, SCRUB_PAGED, SCRUB_CHUNK, SCRUB_PAUSE };
static const char *const scrub_states[] = {"PAGE_READ", "PAGED", "CHUNK", "PAUSE"};

struct heal_scrub {
    struct op op;
    struct heal *heal;
    struct index_key cursor;
    size_t at; /* in the page */
    struct store_scan scan;
    struct store_get get;
    struct env_timer timer;
    bool waiting;
    uint64_t rate;
};

static void scan_released(struct store_scan *scan)
{
    op_complete(&container_of(scan, struct heal_scrub, scan)->op);
}

static void get_released(struct store_get *get)
{
    op_complete(&container_of(get, struct heal_scrub, get)->op);
}

static void on_timer(struct env_timer *timer)
{
    struct heal_scrub *scrub = container_of(timer, struct heal_scrub, timer);

    scrub->waiting = false;
    op_complete(&scrub->op);
}

static void pause_for(struct heal_scrub *scrub, uint64_t ns)
{
    struct env *env = scrub->heal->server->env;

    scrub->waiting = true;
    scrub->op.inflight++;
    env_timer_start(env, &scrub->timer, env_now(env) + ns);
}

static void read_page(struct heal_scrub *scrub)
{
    buf_deinit(&scrub->scan.entries);
    scrub->at = 0;
    scrub->scan = (struct store_scan){.from = scrub->cursor,
                                      .last_partition = CHUNK_PARTITIONS,
                                      .max = SCRUB_PAGE,
                                      .released = scan_released};
    scrub->op.inflight++;
    store_scan_start(&scrub->scan, &scrub->heal->server->store);
}

static void read_chunk(struct heal_scrub *scrub)
{
    const struct index_entry *entries = (const void *)scrub->scan.entries.data;

    scrub->cursor = entries[scrub->at].key;
    scrub->cursor.seq++;
    scrub->cursor.session += scrub->cursor.seq == 0;
    scrub->get = (struct store_get){.key = entries[scrub->at].key, .released = get_released};
    scrub->at++;
    scrub->op.inflight++;
    store_get_start(&scrub->get, &scrub->heal->server->store);
}

/* After a page or a chunk: the next chunk, the next page, or a new round. */
static void go_on(struct heal_scrub *scrub, struct op *op)
{
    size_t count = scrub->scan.entries.size / sizeof(struct index_entry);

    if (scrub->at < count) {
        op->state = SCRUB_CHUNK;
        read_chunk(scrub);
        return;
    }
    op->state = SCRUB_PAGE_READ;
    if (scrub->scan.last || scrub->scan.op.result < 0) {
        scrub->cursor = (struct index_key){0};
        pause_for(scrub, SCRUB_ROUND_NS);
    }
}

static void scrub_step(struct op *op)
{
    struct heal_scrub *scrub = container_of(op, struct heal_scrub, op);
    uint64_t bytes;

    while (op->inflight == 0) {
        if (scrub->heal->closing) {
            op_finish(op, -ECANCELED);
            return;
        }
        switch (op->state) {
        case SCRUB_PAGE_READ:
            op->state = SCRUB_PAGED;
            read_page(scrub);
            break;
        case SCRUB_CHUNK:
            bytes = max_u64(scrub->get.payload.size, SCRUB_CHUNK_MIN);
            scrub->heal->scrubbed_bytes += scrub->get.payload.size;
            buf_deinit(&scrub->get.crcs);
            buf_deinit(&scrub->get.payload);
            op->state = SCRUB_PAUSE;
            pause_for(scrub, bytes * NS_PER_S / scrub->rate);
            break;
        default:
            go_on(scrub, op);
            break;
        }
    }
}

static void scrub_drained(struct op *op)
{
    struct heal_scrub *scrub = container_of(op, struct heal_scrub, op);
    struct heal *heal = scrub->heal;

    buf_deinit(&scrub->scan.entries);
    buf_deinit(&scrub->get.crcs);
    buf_deinit(&scrub->get.payload);
    mem_free(scrub);
    heal->scrub = NULL;
    chunk_server_released(heal->server);
}

static const struct op_kind scrub_kind = {.name = "heal_scrub",
                                          .states = scrub_states,
                                          .state_count = ARRAY_SIZE(scrub_states),
                                          .step = scrub_step,
                                          .drained = scrub_drained};

void heal_scrub_start(struct heal *heal)
{
    uint64_t rate = heal->server->store.settings.scrub_bytes_second;
    struct heal_scrub *scrub;

    if (rate == 0) {
        return;
    }
    scrub = mem_zalloc(sizeof(*scrub));
    scrub->heal = heal;
    scrub->rate = rate;
    scrub->timer.fire = on_timer;
    heal->scrub = scrub;
    heal->server->busy++;
    op_init(&scrub->op, &scrub_kind);
    op_wake(&scrub->op);
}

void heal_scrub_stop(struct heal *heal)
{
    struct heal_scrub *scrub = heal->scrub;

    if (scrub != NULL && scrub->waiting) {
        env_timer_start(heal->server->env, &scrub->timer, env_now(heal->server->env));
    }
}
