/*
 * Requests that a hostile client could send, by dice, on a state that grows: every reply fits a
 * frame and can be decoded, and each kind of change succeeds now and then (else it tests nothing).
 */
#include "tests/fuzz/dice.h"
#include "tests/fuzz/ns_requests.h"

#include <inttypes.h>
#include <stdio.h>

#define BATCH     1000 /* requests before the clock is read */
#define STATE_MAX 3000 /* pairs; then it begins anew */

static struct fuzz_ns world;
static uint64_t succeeded[META_OP_END];

static uint64_t any_below(uint64_t limit)
{
    return rng_below(&rng, limit);
}

static const struct fuzz_source source = {any_number, any_bytes, any_below};

/* As it comes from the wire; one in twenty with a byte changed. False: it cannot be decoded. */
static bool make_request(struct buf *bytes, struct meta_request *out_request)
{
    cleanup(buf_deinit) struct buf body = {0};
    struct meta_request request = fuzz_request(&world, &source, &body);

    meta_request_encode(&request, bytes);
    if (rng_percent(&rng, 5)) {
        bytes->data[rng_below(&rng, bytes->size)] = (uint8_t)any_number(UINT8_MAX);
    }
    return meta_request_decode(out_request, buf_slice(bytes)) == 0;
}

static void execute(void)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    cleanup(buf_deinit) struct buf out = {0};
    struct meta_request request;
    const struct meta_reply *reply;
    struct meta_reply again;

    if (!make_request(&bytes, &request)) {
        return;
    }
    request.stamp_time = min_u64(request.stamp_time, world.ns.volume.time + 1000);
    reply = meta_op_mutates(request.op) ? ns_apply(&world.ns, &request, ++world.index)
                                        : ns_read(&world.ns, &request, world.index);
    succeeded[request.op < META_OP_END ? request.op : 0] += reply->error == 0;
    meta_reply_encode(reply, &out);
    assert_true(out.size <= RPC_BODY_MAX);
    assert_int_equal(meta_reply_decode(&again, buf_slice(&out)), 0);
}

static void check_dead_chunks(void)
{
    cleanup(buf_deinit) struct buf ids = {0};

    (void)ns_dead_chunks(&world.ns, UINT64_MAX, META_GC_BATCH, &ids);
    assert_int_equal(chunk_ids_count(buf_slice(&ids)),
                     min_u64(world.ns.volume.delete_queue, META_GC_BATCH));
}

static void test_hostile_requests(void **state)
{
    uint64_t end = dice_now_ms() + dice_seconds() * 1000;

    (void)state;
    dice_begin();
    fuzz_ns_begin(&world);
    do {
        for (unsigned i = 0; i < BATCH; i++) {
            if (world.array.count > STATE_MAX || rng_below(&rng, 2000) == 0) {
                fuzz_ns_end(&world);
                fuzz_ns_begin(&world);
            }
            execute();
            if (rng_percent(&rng, 20)) {
                check_dead_chunks();
            }
        }
    } while (dice_now_ms() < end);
    for (unsigned op = META_OP_NONE + 1; op < META_OP_END; op++) {
        printf("%s %" PRIu64 "\n", meta_op_name(op), succeeded[op]);
    }
    assert_true(dice_seconds() < 5 || succeeded[META_COMMIT] > 0);
    fuzz_ns_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hostile_requests)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
