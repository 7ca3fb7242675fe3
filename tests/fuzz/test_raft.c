/*
 * The Raft core is told anything that can be decoded: messages near what it holds and far from it,
 * with its own ticks, proposals and compactions in between. Its invariants hold after each step.
 */
#include "tests/fuzz/dice.h"
#include "tests/lib/raft_group.h"

#include "base/buf.h"
#include "raft/raft_proto.h"

#include <inttypes.h>
#include <stdio.h>

#define BATCH 1000 /* messages before the clock is read */

static struct raft raft; /* takes what it is told, for ever */

static struct raft_message any_message(struct raft_entry *entries)
{
    uint64_t last = raft_last(&raft);
    uint64_t near = last < 5 ? 0 : last - 5;
    struct raft_message message = {
        .type = (enum raft_message_type)(1 + rng_below(&rng, RAFT_MESSAGE_TYPE_END - 1)),
        .from = (uint32_t)(2 + rng_below(&rng, 3)),
        .to = 1,
        .term = raft.term + rng_below(&rng, 3) - (raft.term > 0 && rng_percent(&rng, 20)),
        .index = rng_percent(&rng, 80) ? near + rng_below(&rng, 8) : any_number(UINT64_MAX),
        .log_term = rng_percent(&rng, 80) ? raft.term : any_number(UINT64_MAX),
        .commit = rng_percent(&rng, 80) ? near + rng_below(&rng, 8) : any_number(UINT64_MAX),
        .hint_index = any_number(UINT64_MAX),
        .hint_term = any_number(UINT64_MAX),
        .stamp = any_number(UINT64_MAX),
        .reject = rng_percent(&rng, 30),
        .force = rng_percent(&rng, 10),
        .entries = entries,
        .entry_count = (unsigned)rng_below(&rng, 4),
    };

    for (unsigned i = 0; i < message.entry_count; i++) {
        entries[i] = (struct raft_entry){raft.term + rng_below(&rng, 2), any_bytes(100)};
    }
    return message;
}

/* A message, one in five with a byte of its encoding changed. */
static void make_message(struct buf *body, struct buf *payload)
{
    struct raft_entry entries[4];
    struct raft_message message = any_message(entries);
    struct buf *damaged = rng_percent(&rng, 50) ? body : payload;

    raft_message_encode(&message, body, payload);
    if (damaged->size > 0 && rng_percent(&rng, 20)) {
        damaged->data[rng_below(&rng, damaged->size)] = (uint8_t)any_number(UINT8_MAX);
    }
}

/* Steps the core; what it appends is durable at once, mostly. */
static void feed(struct raft_input input)
{
    struct raft_output output;
    bool again = true;

    while (again) {
        input.now_ns = raft.now_ns + rng_below(&rng, 50 * NS_PER_MS);
        (void)!raft_step(&raft, &input, &output);
        raft_check(&raft);
        again = output.append_count > 0 && rng_percent(&rng, 90);
        if (again) {
            input = (struct raft_input){.type = RAFT_INPUT_SAVED,
                                        .index = output.append_first + output.append_count - 1,
                                        .term = output.append[output.append_count - 1].term};
        }
    }
}

static void begin(void)
{
    struct raft_members members = raft_group(3);

    raft_deinit(&raft);
    raft_init(&raft, &(struct raft_config){.id = 1, .members = &members, .seed = 1, .now_ns = 1});
}

/* False: it could not be decoded. */
static bool tell(struct slice body, struct slice payload)
{
    static struct raft_entry entries[RAFT_APPEND_ENTRIES_MAX];
    struct raft_message message;

    if (raft_message_decode(&message, body, payload, entries) < 0) {
        return false;
    }
    if (raft.tail.count > 5000 || raft.term > UINT64_MAX / 2) {
        begin();
    }
    message.to = 1;
    feed((struct raft_input){.type = RAFT_INPUT_RECEIVE, .message = &message});
    if (rng_percent(&rng, 30)) {
        feed((struct raft_input){.type = RAFT_INPUT_TICK});
    }
    if (rng_percent(&rng, 10)) {
        feed((struct raft_input){.type = RAFT_INPUT_PROPOSE, .command = any_bytes(50)});
    }
    if (rng_percent(&rng, 10)) {
        raft_compact(&raft, raft.commit, rng_below(&rng, 1000));
    }
    return true;
}

static void test_hostile_messages(void **state)
{
    uint64_t end = dice_now_ms() + dice_seconds() * 1000;
    uint64_t told = 0;

    (void)state;
    dice_begin();
    begin();
    do {
        for (unsigned i = 0; i < BATCH; i++) {
            cleanup(buf_deinit) struct buf body = {0};
            cleanup(buf_deinit) struct buf payload = {0};

            make_message(&body, &payload);
            told += tell(buf_slice(&body), buf_slice(&payload));
        }
    } while (dice_now_ms() < end);
    printf("%" PRIu64 " messages\n", told);
    assert_true(told > BATCH / 2 && raft.term > 0);
    raft_deinit(&raft);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hostile_messages)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
