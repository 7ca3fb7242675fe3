#include "tests/lib/raft_group.h"
#include "tests/lib/test.h"

#include "base/err.h"
#include "base/mem.h"
#include "raft/quorum.h"
#include "raft/raft.h"
#include "raft/raft_proto.h"

#include <errno.h>

static struct raft_output step(struct raft *raft, struct raft_input input)
{
    struct raft_output output;
    int r = raft_step(raft, &input, &output);

    assert_int_equal(r, 0);
    return output;
}

static struct raft_output receive(struct raft *raft, struct raft_message message)
{
    message.to = raft->id;
    return step(raft, (struct raft_input){
                          .type = RAFT_INPUT_RECEIVE, .now_ns = raft->now_ns, .message = &message});
}

/* Node 1 of five with entries of terms 1 and 2 that leads in term 3; its no-op is entry 3. */
static void lead(struct raft *raft)
{
    struct raft_members members = raft_group(5);
    struct raft_config config = {.id = 1, .members = &members, .now_ns = NS_PER_S, .term = 2};

    raft_init(raft, &config);
    raft_load(raft, 1, slice_text("a"));
    raft_load(raft, 2, slice_text("b"));
    step(raft, (struct raft_input){.type = RAFT_INPUT_TICK, .now_ns = raft->election_ns});
    for (uint32_t from = 2; from <= 3; from++) {
        receive(raft, (struct raft_message){
                          .type = RAFT_MESSAGE_PRE_VOTE_RESPONSE, .from = from, .term = 3});
    }
    for (uint32_t from = 2; from <= 3; from++) {
        receive(raft,
                (struct raft_message){.type = RAFT_MESSAGE_VOTE_RESPONSE, .from = from, .term = 3});
    }
    assert_int_equal(raft->role, RAFT_LEADER);
    assert_int_equal(raft_last(raft), 3);
    step(raft, (struct raft_input){.type = RAFT_INPUT_SAVED, .index = 3, .term = 3});
}

static void acknowledge(struct raft *raft, uint32_t from, uint64_t index)
{
    receive(raft,
            (struct raft_message){
                .type = RAFT_MESSAGE_APPEND_RESPONSE, .from = from, .term = 3, .index = index});
}

/* Figure 8: entry 2 of term 2 on a majority is not committed; the no-op of term 3 commits it. */
static void test_only_own_term_is_counted(void **state)
{
    struct raft raft;

    (void)state;
    lead(&raft);
    acknowledge(&raft, 2, 2);
    acknowledge(&raft, 3, 2);
    acknowledge(&raft, 4, 2);
    assert_int_equal(raft.commit, 0);
    acknowledge(&raft, 2, 3);
    assert_int_equal(raft.commit, 0);
    acknowledge(&raft, 3, 3);
    assert_int_equal(raft.commit, 3);
    raft_deinit(&raft);
}

static void test_one_vote_a_term(void **state)
{
    struct raft raft;
    struct raft_members members = raft_group(5);
    struct raft_config config = {.id = 1, .members = &members, .now_ns = NS_PER_S};
    struct raft_message ask = {.type = RAFT_MESSAGE_VOTE, .from = 2, .term = 5};
    struct raft_output output;

    (void)state;
    raft_init(&raft, &config);
    step(&raft, (struct raft_input){.type = RAFT_INPUT_TICK, .now_ns = NS_PER_S + NS_PER_S / 4});
    output = receive(&raft, ask);
    assert_true(output.save_state);
    assert_false(output.send[0].reject);
    assert_true(output.send[0].after_save);
    ask.from = 3;
    output = receive(&raft, ask);
    assert_true(output.send[0].reject);
    ask.from = 2; /* asked again, the answer is the same and nothing is to be saved */
    output = receive(&raft, ask);
    assert_false(output.send[0].reject);
    assert_false(output.save_state);
    raft_deinit(&raft);
}

/* After a restart nobody gets a vote for longer than a lease that we may have granted. */
static void test_no_vote_right_after_a_restart(void **state)
{
    struct raft raft;
    struct raft_members members = raft_group(5);
    struct raft_config config = {.id = 1, .members = &members, .now_ns = NS_PER_S};

    (void)state;
    raft_init(&raft, &config);
    receive(&raft, (struct raft_message){.type = RAFT_MESSAGE_VOTE, .from = 2, .term = 5});
    assert_int_equal(raft.vote, 0);
    assert_int_equal(raft.term, 0);
    raft_deinit(&raft);
}

/* A member becomes a voter only when its log holds the set that names it. */
static void test_promoted_by_what_it_holds(void **state)
{
    struct raft_change change = {.type = RAFT_CHANGE_ADD, .id = 6, .address = "unix:/there"};
    struct raft_output output;
    struct raft raft;

    (void)state;
    lead(&raft);
    acknowledge(&raft, 2, 3);
    acknowledge(&raft, 3, 3);
    step(&raft, (struct raft_input){.type = RAFT_INPUT_CHANGE, .change = &change});
    assert_int_equal(raft.members_index, 4);
    acknowledge(&raft, 2, 4);
    acknowledge(&raft, 3, 4);
    acknowledge(&raft, 4, 4);
    assert_int_equal(raft.commit, 4);
    change.type = RAFT_CHANGE_PROMOTE;
    for (uint64_t index = 2; index <= 4; index++) {
        acknowledge(&raft, 6, index);
        assert_int_equal(raft_step(&raft,
                                   &(struct raft_input){.type = RAFT_INPUT_CHANGE,
                                                        .now_ns = raft.now_ns,
                                                        .change = &change},
                                   &output),
                         index < 4 ? -EAGAIN : 0);
    }
    raft_deinit(&raft);
}

/* A write of a suffix that was replaced meanwhile says nothing about the new one. */
static void test_saved_of_a_replaced_suffix(void **state)
{
    struct raft_entry entry = {.term = 4, .command = slice_text("c")};
    struct raft raft;

    (void)state;
    lead(&raft);
    raft.saved = 2;
    receive(&raft, (struct raft_message){.type = RAFT_MESSAGE_APPEND,
                                         .from = 2,
                                         .term = 4,
                                         .index = 2,
                                         .log_term = 2,
                                         .entries = &entry,
                                         .entry_count = 1});
    assert_int_equal(raft.role, RAFT_FOLLOWER);
    step(&raft, (struct raft_input){.type = RAFT_INPUT_SAVED, .index = 3, .term = 3});
    assert_int_equal(raft.saved, 2);
    step(&raft, (struct raft_input){.type = RAFT_INPUT_SAVED, .index = 3, .term = 4});
    assert_int_equal(raft.saved, 3);
    raft_deinit(&raft);
}

/* A late timer is no reason to campaign; again and again late it is. */
static void test_stalled_timer_is_armed_again(void **state)
{
    struct raft raft;
    struct raft_members members = raft_group(5);
    struct raft_config config = {.id = 1, .members = &members, .now_ns = NS_PER_S};

    (void)state;
    raft_init(&raft, &config);
    for (unsigned i = 0; i < RAFT_STALL_TRIES; i++) {
        step(&raft, (struct raft_input){.type = RAFT_INPUT_TICK,
                                        .now_ns = raft.election_ns + 2 * RAFT_STALL_NS});
        assert_int_equal(raft.role, RAFT_FOLLOWER);
    }
    step(&raft, (struct raft_input){.type = RAFT_INPUT_TICK,
                                    .now_ns = raft.election_ns + 2 * RAFT_STALL_NS});
    assert_int_equal(raft.role, RAFT_PRE_CANDIDATE);
    raft_deinit(&raft);
}

static void test_uncommitted_is_bounded(void **state)
{
    uint8_t *command = mem_zalloc(RAFT_COMMAND_MAX);
    struct raft_input input = {.type = RAFT_INPUT_PROPOSE,
                               .command = slice_make(command, RAFT_COMMAND_MAX)};
    struct raft_output output;
    struct raft raft;
    unsigned count = 0;
    int r;

    (void)state;
    lead(&raft);
    input.now_ns = raft.now_ns;
    do {
        r = raft_step(&raft, &input, &output);
        count += r == 0;
    } while (r == 0);
    assert_int_equal(r, -ERR_BUSY);
    assert_true(count <= RAFT_UNCOMMITTED_BYTES_MAX / RAFT_COMMAND_MAX + 2);
    raft_deinit(&raft);
    mem_free(command);
}

static void test_strangers_and_nonsense_change_nothing(void **state)
{
    struct raft_entry entries[2] = {{.term = 9}, {.term = 3}};
    struct raft raft;

    (void)state;
    lead(&raft);
    for (enum raft_message_type type = 1; type < RAFT_MESSAGE_TYPE_END; type++) {
        bool asks = type == RAFT_MESSAGE_VOTE || type == RAFT_MESSAGE_APPEND ||
                    type == RAFT_MESSAGE_HEARTBEAT || type == RAFT_MESSAGE_TIMEOUT_NOW;

        if (!asks) { /* who asks may be a member that we do not know yet */
            receive(&raft, (struct raft_message){.type = type, .from = 77, .term = 99});
        }
    }
    receive(&raft, (struct raft_message){.type = RAFT_MESSAGE_VOTE, .from = 1, .term = 99});
    acknowledge(&raft, 2, UINT64_MAX);
    acknowledge(&raft, 3, 4);
    assert_int_equal(raft.term, 3);
    assert_int_equal(raft.commit, 0);
    receive(&raft, (struct raft_message){.type = RAFT_MESSAGE_APPEND,
                                         .from = 2,
                                         .term = 9,
                                         .index = 2,
                                         .log_term = 2,
                                         .entries = entries,
                                         .entry_count = 2});
    assert_int_equal(raft_last(&raft), 3); /* terms must not go back */
    receive(&raft, (struct raft_message){.type = RAFT_MESSAGE_APPEND,
                                         .from = 2,
                                         .term = 9,
                                         .index = UINT64_MAX,
                                         .log_term = 9,
                                         .commit = UINT64_MAX});
    receive(&raft, (struct raft_message){
                       .type = RAFT_MESSAGE_HEARTBEAT, .from = 2, .term = 9, .commit = UINT64_MAX});
    assert_true(raft.commit <= raft_last(&raft));
    raft_check(&raft);
    raft_deinit(&raft);
}

static void test_message_codec(void **state)
{
    struct raft_entry in[2] = {{3, slice_text("hello")}, {4, {0}}};
    struct raft_message message = {.type = RAFT_MESSAGE_APPEND,
                                   .from = 1,
                                   .to = 2,
                                   .term = 4,
                                   .index = 17,
                                   .entries = in,
                                   .entry_count = 2};
    struct raft_entry out[RAFT_APPEND_ENTRIES_MAX];
    cleanup(buf_deinit) struct buf body = {0};
    cleanup(buf_deinit) struct buf payload = {0};
    struct raft_message back;

    (void)state;
    raft_message_encode(&message, &body, &payload);
    assert_int_equal(raft_message_decode(&back, buf_slice(&body), buf_slice(&payload), out), 0);
    assert_int_equal(back.index, 17);
    assert_int_equal(back.entry_count, 2);
    assert_true(slice_equal(out[0].command, in[0].command));
    assert_int_equal(out[1].term, 4);
    for (size_t cut = 0; cut < payload.size; cut++) {
        assert_int_equal(
            raft_message_decode(&back, buf_slice(&body), slice_make(payload.data, cut), out),
            -ERR_BAD_MESSAGE);
    }
    message.type = RAFT_MESSAGE_TYPE_END;
    message.entry_count = 0;
    buf_clear(&body);
    raft_message_encode(&message, &body, &payload);
    assert_int_equal(raft_message_decode(&back, buf_slice(&body), (struct slice){0}, out),
                     -ERR_BAD_MESSAGE);
}

static void test_quorum(void **state)
{
    struct quorum quorum = quorum_majority(3);
    uint64_t five[] = {9, 2, 7, 4, 5};
    uint64_t four[] = {1, 8, 3, 6};

    (void)state;
    quorum_vote(&quorum, false);
    assert_int_equal(quorum_verdict(&quorum), QUORUM_PENDING);
    quorum_vote(&quorum, false);
    assert_int_equal(quorum_verdict(&quorum), QUORUM_LOST);
    quorum = quorum_majority(4);
    assert_int_equal(quorum.need, 3);
    assert_int_equal(quorum_reached(five, 5), 5);
    assert_int_equal(quorum_reached(four, 4), 3);
}

static void test_tail(void **state)
{
    struct raft_tail tail;
    uint64_t term;

    (void)state;
    raft_tail_init(&tail, 10, 2);
    for (unsigned i = 0; i < 300; i++) {
        raft_tail_append(&tail, 2 + i / 100, slice_text("x"));
    }
    assert_int_equal(raft_tail_last(&tail), 310);
    assert_int_equal(raft_tail_agree(&tail, 310, 3), 210);
    assert_int_equal(raft_tail_agree(&tail, 150, 3), 150);
    assert_int_equal(raft_tail_agree(&tail, 310, 1), 10);
    assert_int_equal(raft_tail_agree(&tail, 5, 1), 5);
    raft_tail_compact(&tail, 200);
    assert_true(raft_tail_term(&tail, 200, &term));
    assert_int_equal(term, 3);
    assert_false(raft_tail_term(&tail, 199, &term));
    assert_null(raft_tail_at(&tail, 200));
    raft_tail_truncate(&tail, 201);
    assert_int_equal(tail.bytes, 0);
    raft_tail_deinit(&tail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_own_term_is_counted),
        cmocka_unit_test(test_one_vote_a_term),
        cmocka_unit_test(test_no_vote_right_after_a_restart),
        cmocka_unit_test(test_promoted_by_what_it_holds),
        cmocka_unit_test(test_saved_of_a_replaced_suffix),
        cmocka_unit_test(test_stalled_timer_is_armed_again),
        cmocka_unit_test(test_uncommitted_is_bounded),
        cmocka_unit_test(test_strangers_and_nonsense_change_nothing),
        cmocka_unit_test(test_message_codec),
        cmocka_unit_test(test_quorum),
        cmocka_unit_test(test_tail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
