/*
 * fuzz_ns: hostile records are put into a small state, then requests are executed on it that an
 * authenticated client could send. A reply always fits a frame and can be decoded.
 */
#include "base/assert.h"
#include "base/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/ns_requests.h"

#define RECORDS_MAX  32
#define REQUESTS_MAX 64
#define STATE_MAX    3000 /* pairs */

static struct fuzz_input input;
static uint8_t plenty[KiB(128)]; /* bytes that an input need not spell */

/* ---- the input as the source of ns_requests.h ---- */

static uint64_t any_number(uint64_t max)
{
    uint64_t value = fuzz_number(&input, 1);

    value = value < 200 ? value : fuzz_number(&input, 8);
    return value <= max ? value : value % (max + 1);
}

static struct slice any_bytes(uint64_t max)
{
    uint64_t size = fuzz_number(&input, 1);

    if (size < 240) {
        return fuzz_bytes(&input, (size_t)min_u64(size, max));
    }
    return slice_make(plenty, min_u64(min_u64(fuzz_number(&input, 3), max), sizeof(plenty)));
}

static uint64_t any_below(uint64_t limit)
{
    return fuzz_below(&input, limit);
}

static const struct fuzz_source source = {any_number, any_bytes, any_below};

/* ---- records ---- */

static const char letters[] = "CDEFGIJKLMORSUVWX";

/* Keys as long as those of their letter, mostly. */
static void put_record(struct fuzz_ns *world)
{
    uint64_t shape = fuzz_number(&input, 1);
    uint8_t key[RECORD_KEY_MAX + 4] = {(uint8_t)letters[shape % (sizeof(letters) - 1)]};
    size_t numbers = (size_t)(shape / 16 % 4);
    size_t size = 1;

    for (size_t i = 0; i < numbers; i++, size += 8) {
        bytes_put_be64(key + size, fuzz_number(&input, (shape & 1) != 0 ? 8 : 1));
    }
    if ((shape & 128) != 0) {
        key[size++] = (uint8_t)fuzz_number(&input, 1);
    }
    array_put(&world->array.kv, slice_make(key, size),
              fuzz_bytes(&input, (size_t)fuzz_number(&input, 1)));
}

/* The volume may have been replaced by something hostile. */
static void reload(struct fuzz_ns *world)
{
    ns_deinit(&world->ns);
    ns_init(&world->ns, &world->array.kv);
}

static void execute(struct fuzz_ns *world)
{
    cleanup(buf_deinit) struct buf body = {0};
    cleanup(buf_deinit) struct buf out = {0};
    struct meta_request request = fuzz_request(world, &source, &body);
    struct meta_reply again;
    const struct meta_reply *reply;
    int r;

    reply = meta_op_mutates(request.op) ? ns_apply(&world->ns, &request, ++world->index)
                                        : ns_read(&world->ns, &request, world->index);
    meta_reply_encode(reply, &out);
    ASSERT(out.size <= RPC_BODY_MAX);
    r = meta_reply_decode(&again, buf_slice(&out));
    ASSERT(r == 0);
}

/* What the leader asks of the state by itself. */
static void ask(struct fuzz_ns *world)
{
    cleanup(buf_deinit) struct buf ids = {0};
    struct record_session session;
    struct record_journal journal;
    struct record_chunk chunk;
    struct slice map;
    uint64_t found;
    bool detached;

    (void)ns_dead_chunks(&world->ns, UINT64_MAX, META_GC_BATCH, &ids);
    ASSERT(chunk_ids_count(buf_slice(&ids)) <= META_GC_BATCH);
    (void)ns_next_orphan(&world->ns, 0, &found, &detached);
    (void)ns_next_journal(&world->ns, 0, &found, &journal);
    (void)ns_next_session(&world->ns, 0, &found);
    (void)ns_get_session(&world->ns, 1, &session);
    (void)ns_get_chunk(&world->ns, 1, 1, &chunk);
    (void)ns_get_map(&world->ns, &map);
}

/* u8 requests before the records, u8 records, records, requests. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_ns world;
    uint64_t before, records;

    input = fuzz_input_make(data, size);
    before = fuzz_number(&input, 1) % 16;
    records = fuzz_number(&input, 1) % RECORDS_MAX;
    fuzz_ns_begin(&world);
    for (uint64_t i = 0; i < before; i++) {
        execute(&world);
    }
    for (uint64_t i = 0; i < records; i++) {
        put_record(&world);
    }
    reload(&world);
    for (unsigned i = 0; i < REQUESTS_MAX && input.left > 0 && world.array.count < STATE_MAX; i++) {
        execute(&world);
        ask(&world);
    }
    fuzz_ns_end(&world);
    return 0;
}

/* Requests by dice: most of them make sense to ns_requests.h. */
void fuzz_seeds(void)
{
    uint64_t dice = 1;

    for (unsigned i = 0; i < 40; i++) {
        uint8_t bytes[600];
        char name[16];

        for (size_t at = 0; at < sizeof(bytes); at++) {
            dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407;
            bytes[at] = (uint8_t)(dice >> (i % 2 == 0 ? 56 : 58));
        }
        bytes[1] = i % 4 == 0 ? 3 : 0;
        snprintf(name, sizeof(name), "%02u", i);
        fuzz_seed(name, slice_make(bytes, sizeof(bytes)));
    }
}
