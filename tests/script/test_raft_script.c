/*
 * Scripts of the pure Raft core: the files in tests/data/raft. A block is a command, `----`, what
 * it must print, an empty line. `--rewrite` writes what it prints now: read the diff.
 *
 *     cluster nodes=3 [log=1:1,1;2:1,2] [first=4]   terms of each node's log; nodes are 1..n
 *     timeout N            time moves to N's deadline, N ticks
 *     wait MS              time moves
 *     tick N               N ticks now
 *     run MS               time passes as it does in life; heartbeats are not printed
 *     settle               delivers everything until nothing is under way
 *     deliver A B          everything under way from A to B, not what that causes
 *     cut A B | heal       what A sends to B is lost (one way)
 *     disk N off|on        what N saves is not durable until it is on again
 *     propose N TEXT | read N | suspect N P | transfer N [TO] | compact N INDEX
 *     restored N INDEX TERM | snapshot N PEER INDEX
 *     join N               a new node that is in no group yet, the next number; or an old one whose
 *                          disk is empty
 *     damage N LAST        N starts again, its log cut behind LAST, and is to be repaired
 *     add N ID | promote N ID | remove N ID    the group changes, N leads
 *     status               role, term, leader, log of every node
 *     members              the group as every node has it; * = learner
 */
#include "tests/lib/raft_group.h"
#include "tests/lib/test.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "raft/raft.h"
#include "raft/raft_proto.h"

#include <dirent.h>
#include <inttypes.h>

#define NODES_MAX 7
#define QUEUE_MAX 4096

struct letter {
    struct raft_message message;
    struct buf payload;
    struct raft_entry entries[RAFT_APPEND_ENTRIES_MAX];
};

struct node {
    struct raft raft;
    bool disk_off;
    uint64_t unsaved; /* last index waiting for the disk; 0 = none */
    enum raft_role role;
    uint64_t term, commit;
    uint64_t deadline_ns;
    struct letter *held[QUEUE_MAX]; /* wait for the disk */
    unsigned held_count;
};

struct world {
    struct node nodes[NODES_MAX + 1];
    unsigned count;
    uint64_t now;
    bool cut[NODES_MAX + 1][NODES_MAX + 1];
    struct letter *queue[QUEUE_MAX];
    unsigned queued;
    uint64_t next_read;
    bool quiet; /* no heartbeats in the output */
    struct buf out;
};

static const char *const role_names[] = {"follower", "pre_candidate", "candidate", "leader"};

static void letter_free(struct letter *letter)
{
    buf_deinit(&letter->payload);
    mem_free(letter);
}

static void world_clear(struct world *world)
{
    for (unsigned i = 0; i < world->queued; i++) {
        letter_free(world->queue[i]);
    }
    for (unsigned n = 1; n <= world->count; n++) {
        for (unsigned i = 0; i < world->nodes[n].held_count; i++) {
            letter_free(world->nodes[n].held[i]);
        }
        raft_deinit(&world->nodes[n].raft);
    }
    buf_deinit(&world->out);
    *world = (struct world){0};
}

static void show_message(struct world *world, const struct raft_message *m)
{
    struct buf *out = &world->out;

    if (world->quiet &&
        (m->type == RAFT_MESSAGE_HEARTBEAT || m->type == RAFT_MESSAGE_HEARTBEAT_RESPONSE)) {
        return;
    }
    buf_printf(out, "  %u -> %u %s term=%" PRIu64, m->from, m->to, raft_message_type_name(m->type),
               m->term);
    switch (m->type) {
    case RAFT_MESSAGE_PRE_VOTE:
    case RAFT_MESSAGE_VOTE:
        buf_printf(out, " last=%" PRIu64 "@%" PRIu64 "%s", m->index, m->log_term,
                   m->force ? " force" : "");
        break;
    case RAFT_MESSAGE_APPEND:
        buf_printf(out, " prev=%" PRIu64 "@%" PRIu64 " commit=%" PRIu64 " entries=[", m->index,
                   m->log_term, m->commit);
        for (unsigned i = 0; i < m->entry_count; i++) {
            buf_printf(out, "%s%" PRIu64, i > 0 ? "," : "", m->entries[i].term);
        }
        buf_printf(out, "]");
        break;
    case RAFT_MESSAGE_APPEND_RESPONSE:
        buf_printf(out, " index=%" PRIu64, m->index);
        if (m->reject) {
            buf_printf(out, " hint=%" PRIu64 "@%" PRIu64, m->hint_index, m->hint_term);
        }
        buf_printf(out, "%s", m->repair ? " repair" : "");
        break;
    case RAFT_MESSAGE_HEARTBEAT:
        buf_printf(out, " commit=%" PRIu64, m->commit);
        break;
    case RAFT_MESSAGE_PRE_VOTE_RESPONSE:
    case RAFT_MESSAGE_VOTE_RESPONSE:
    case RAFT_MESSAGE_HEARTBEAT_RESPONSE:
    case RAFT_MESSAGE_TIMEOUT_NOW:
    case RAFT_MESSAGE_TYPE_END:
        break;
    }
    buf_printf(out, "%s\n", m->reject ? " reject" : "");
}

/* Through the codec, as on the wire. */
static struct letter *letter_make(const struct raft_message *message)
{
    cleanup(buf_deinit) struct buf body = {0};
    struct letter *letter = mem_zalloc(sizeof(*letter));
    int r;

    raft_message_encode(message, &body, &letter->payload);
    r = raft_message_decode(&letter->message, buf_slice(&body), buf_slice(&letter->payload),
                            letter->entries);
    assert_int_equal(r, 0);
    return letter;
}

static void post(struct world *world, struct letter *letter)
{
    if (world->cut[letter->message.from][letter->message.to]) {
        letter_free(letter);
        return;
    }
    assert_true(world->queued < QUEUE_MAX);
    world->queue[world->queued++] = letter;
}

static int step(struct world *world, unsigned n, struct raft_input input);

static void flush_disk(struct world *world, unsigned n)
{
    struct node *node = &world->nodes[n];
    uint64_t index = node->unsaved;
    uint64_t term = 0;
    unsigned held = node->held_count;

    node->unsaved = 0;
    node->held_count = 0;
    for (unsigned i = 0; i < held; i++) {
        post(world, node->held[i]);
    }
    if (index != 0) {
        index = min_u64(index, raft_last(&node->raft));
        assert_true(raft_tail_term(&node->raft.tail, index, &term));
        step(world, n, (struct raft_input){.type = RAFT_INPUT_SAVED, .index = index, .term = term});
    }
}

static void print_changes(struct world *world, unsigned n, const struct raft_output *output)
{
    struct node *node = &world->nodes[n];

    if (node->raft.role != node->role || node->raft.term != node->term) {
        buf_printf(&world->out, "%u %s -> %s term=%" PRIu64 "\n", n, role_names[node->role],
                   role_names[node->raft.role], node->raft.term);
        node->role = node->raft.role;
        node->term = node->raft.term;
    }
    if (output->commit != node->commit) {
        buf_printf(&world->out, "%u commit=%" PRIu64 "\n", n, output->commit);
        node->commit = output->commit;
    }
    if (output->snapshot_to != 0) {
        buf_printf(&world->out, "%u snapshot to %u\n", n, output->snapshot_to);
    }
    for (unsigned i = 0; i < output->read_count; i++) {
        buf_printf(&world->out, "%u read %" PRIu64 " %s index=%" PRIu64 "\n", n,
                   output->reads[i].id, output->reads[i].status == 0 ? "ready" : "refused",
                   output->reads[i].index);
    }
}

static int step(struct world *world, unsigned n, struct raft_input input)
{
    struct node *node = &world->nodes[n];
    struct raft_output output;
    int r;

    input.now_ns = world->now;
    r = raft_step(&node->raft, &input, &output);
    node->deadline_ns = output.deadline_ns;
    print_changes(world, n, &output);
    if (output.append_count > 0) {
        node->unsaved = output.append_first + output.append_count - 1;
    }
    for (unsigned i = 0; i < output.send_count; i++) {
        show_message(world, &output.send[i]);
        if (output.send[i].after_save && node->disk_off) {
            node->held[node->held_count++] = letter_make(&output.send[i]);
        } else {
            post(world, letter_make(&output.send[i]));
        }
    }
    if (!node->disk_off) {
        flush_disk(world, n);
    }
    raft_check(&node->raft);
    return r;
}

static void deliver_at(struct world *world, unsigned at)
{
    struct letter *letter = world->queue[at];

    memmove(&world->queue[at], &world->queue[at + 1],
            (world->queued - at - 1) * sizeof(*world->queue));
    world->queued--;
    step(world, letter->message.to,
         (struct raft_input){.type = RAFT_INPUT_RECEIVE, .message = &letter->message});
    letter_free(letter);
}

static void settle(struct world *world)
{
    for (unsigned i = 0; world->queued > 0; i++) {
        assert_true(i < 10000);
        world->now += 100 * NS_PER_US;
        deliver_at(world, 0);
    }
}

static void run(struct world *world, unsigned ms)
{
    world->quiet = true;
    for (unsigned i = 0; i < ms; i++) {
        world->now += NS_PER_MS;
        for (unsigned n = 1; n <= world->count; n++) {
            if (world->now >= world->nodes[n].deadline_ns) {
                step(world, n, (struct raft_input){.type = RAFT_INPUT_TICK});
            }
        }
        for (unsigned left = world->queued; left > 0 && world->queued > 0; left--) {
            deliver_at(world, 0);
        }
    }
    world->quiet = false;
}

static void deliver(struct world *world, unsigned from, unsigned to)
{
    unsigned count = world->queued;
    unsigned at = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct raft_message *message = &world->queue[at]->message;

        if (message->from == from && message->to == to) {
            deliver_at(world, at);
        } else {
            at++;
        }
    }
}

/* log=1:1,1,2;2:1 : terms of the entries of nodes 1 and 2. */
static void load_log(struct world *world, const char *log, unsigned n, uint64_t *out_term)
{
    char tag[8];
    const char *at;

    (void)world;
    snprintf(tag, sizeof(tag), "%u:", n);
    for (at = log; at != NULL && strncmp(at, tag, strlen(tag)) != 0; at = strchr(at, ';')) {
        at += *at == ';';
        if (strncmp(at, tag, strlen(tag)) == 0) {
            break;
        }
    }
    *out_term = 0;
    for (at = at != NULL ? at + strlen(tag) : NULL; at != NULL && *at >= '0' && *at <= '9';) {
        char *end;

        *out_term = strtoull(at, &end, 10);
        raft_load(&world->nodes[n].raft, *out_term, slice_text("x"));
        at = *end == ',' ? end + 1 : NULL;
    }
}

static void cluster(struct world *world, const char *line)
{
    const char *log = strstr(line, "log=");
    struct raft_members members;
    struct buf out = world->out;

    world->out = (struct buf){0};
    world_clear(world);
    world->out = out;
    world->now = NS_PER_S;
    sscanf(strstr(line, "nodes="), "nodes=%u", &world->count);
    assert_true(world->count >= 1 && world->count <= NODES_MAX);
    members = raft_group(world->count);
    for (unsigned n = 1; n <= world->count; n++) {
        struct node *node = &world->nodes[n];
        struct raft_config config = {.id = n, .members = &members, .seed = n, .now_ns = world->now};

        raft_init(&node->raft, &config);
        load_log(world, log != NULL ? log + 4 : NULL, n, &node->raft.term);
        node->term = node->raft.term;
        node->deadline_ns = node->raft.election_ns;
    }
}

static void print_status(struct world *world)
{
    for (unsigned n = 1; n <= world->count; n++) {
        const struct raft *raft = &world->nodes[n].raft;

        buf_printf(&world->out, "%u %s term=%" PRIu64 " leader=%u commit=%" PRIu64 " log=", n,
                   role_names[raft->role], raft->term, raft->leader, raft->commit);
        if (raft->tail.base_index > 0) {
            buf_printf(&world->out, "(%" PRIu64 "@%" PRIu64 ")", raft->tail.base_index,
                       raft->tail.base_term);
        }
        for (uint64_t i = raft->tail.base_index + 1; i <= raft_last(raft); i++) {
            buf_printf(&world->out, "%s%" PRIu64, i > raft->tail.base_index + 1 ? "," : "",
                       raft_entry_at(raft, i)->term);
        }
        buf_printf(&world->out, "%s\n", raft->repair ? " repair" : "");
    }
}

static void print_members(struct world *world)
{
    for (unsigned n = 1; n <= world->count; n++) {
        const struct raft *raft = &world->nodes[n].raft;

        buf_printf(&world->out, "%u members=", n);
        for (unsigned i = 0; i < raft->members.count; i++) {
            buf_printf(&world->out, "%s%u%s", i > 0 ? "," : "", raft->members.list[i].id,
                       raft->members.list[i].voter ? "" : "*");
        }
        buf_printf(&world->out, "%s%s\n", raft->joining ? " joining" : "",
                   raft->lost ? " lost" : "");
    }
}

static void join(struct world *world, unsigned n)
{
    struct raft_members nobody = {0};
    struct node *node = &world->nodes[n];

    if (n <= world->count) {
        raft_deinit(&node->raft);
    }
    *node = (struct node){0};
    world->count = n > world->count ? n : world->count;
    raft_init(&node->raft,
              &(struct raft_config){
                  .id = n, .members = &nobody, .joining = true, .seed = n, .now_ns = world->now});
    node->deadline_ns = node->raft.election_ns;
}

/* What the log does when it opens a damaged one: everything it had is promised. */
static void damage(struct world *world, unsigned n, uint64_t last)
{
    struct node *node = &world->nodes[n];
    struct raft *old = mem_alloc(sizeof(*old));
    struct raft_members members = node->raft.base_members;

    *old = node->raft;
    *node = (struct node){.role = RAFT_FOLLOWER, .term = old->term};
    raft_init(&node->raft, &(struct raft_config){.id = n,
                                                 .members = &members,
                                                 .seed = n,
                                                 .now_ns = world->now,
                                                 .term = old->term,
                                                 .vote = old->vote,
                                                 .base_index = old->tail.base_index,
                                                 .base_term = old->tail.base_term,
                                                 .repair = true,
                                                 .repair_index = raft_last(old),
                                                 .repair_term = old->term});
    for (uint64_t i = old->tail.base_index + 1; i <= last; i++) {
        raft_load(&node->raft, raft_entry_at(old, i)->term, raft_entry_at(old, i)->command);
    }
    node->deadline_ns = node->raft.election_ns;
    raft_deinit(old);
    mem_free(old);
}

static bool change_command(const char *verb, struct raft_change *out_change)
{
    if (strcmp(verb, "add") == 0) {
        out_change->type = RAFT_CHANGE_ADD;
    } else if (strcmp(verb, "promote") == 0) {
        out_change->type = RAFT_CHANGE_PROMOTE;
    } else if (strcmp(verb, "remove") == 0) {
        out_change->type = RAFT_CHANGE_REMOVE;
    } else {
        return false;
    }
    return true;
}

static void print_result(struct world *world, int r)
{
    if (r < 0) {
        buf_printf(&world->out, "%s\n", err_name(r));
    }
}

/* Commands of one node. False: none of them. */
static bool node_command(struct world *world, const char *verb, const unsigned *arg,
                         const char *text)
{
    unsigned n = arg[0];
    struct raft_change change = {.id = arg[1], .address = "unix:/there"};
    struct raft_input input = {.peer = arg[1]};

    if (change_command(verb, &change)) {
        input = (struct raft_input){.type = RAFT_INPUT_CHANGE, .change = &change};
    } else if (strcmp(verb, "timeout") == 0) {
        world->now = max_u64(world->now, world->nodes[n].deadline_ns);
        input.type = RAFT_INPUT_TICK;
    } else if (strcmp(verb, "tick") == 0) {
        input.type = RAFT_INPUT_TICK;
    } else if (strcmp(verb, "propose") == 0) {
        input.type = RAFT_INPUT_PROPOSE;
        input.command = slice_text(text);
    } else if (strcmp(verb, "read") == 0) {
        input.type = RAFT_INPUT_READ;
        input.read_id = ++world->next_read;
    } else if (strcmp(verb, "suspect") == 0) {
        input.type = RAFT_INPUT_SUSPECT;
    } else if (strcmp(verb, "unreachable") == 0) {
        input.type = RAFT_INPUT_UNREACHABLE;
    } else if (strcmp(verb, "transfer") == 0) {
        input.type = RAFT_INPUT_TRANSFER;
    } else if (strcmp(verb, "restored") == 0) {
        input =
            (struct raft_input){RAFT_INPUT_RESTORED, .members = &world->nodes[n].raft.base_members,
                                .index = arg[1], .term = arg[2]};
    } else if (strcmp(verb, "snapshot") == 0) {
        input.type = RAFT_INPUT_SNAPSHOT_SENT;
        input.index = arg[2];
    } else {
        return false;
    }
    print_result(world, step(world, n, input));
    return true;
}

static void run_command(struct world *world, const char *line)
{
    char verb[16] = "";
    char text[64] = "";
    unsigned arg[3] = {0};

    sscanf(line, "%15s %u %u %u", verb, &arg[0], &arg[1], &arg[2]);
    sscanf(line, "%*s %*s %63s", text);
    if (strcmp(verb, "cluster") == 0) {
        cluster(world, line);
        return;
    }
    if (strcmp(verb, "join") == 0) {
        assert_true(arg[0] >= 1 && arg[0] <= world->count + 1 && arg[0] <= NODES_MAX);
        join(world, arg[0]);
        return;
    }
    if (strcmp(verb, "damage") == 0) {
        damage(world, arg[0], arg[1]);
        return;
    }
    assert_true(arg[0] <= world->count || strcmp(verb, "wait") == 0 || strcmp(verb, "run") == 0);
    if (strcmp(verb, "wait") == 0) {
        world->now += arg[0] * NS_PER_MS;
    } else if (strcmp(verb, "run") == 0) {
        run(world, arg[0]);
    } else if (strcmp(verb, "settle") == 0) {
        settle(world);
    } else if (strcmp(verb, "deliver") == 0) {
        deliver(world, arg[0], arg[1]);
    } else if (strcmp(verb, "cut") == 0) {
        world->cut[arg[0]][arg[1]] = true;
    } else if (strcmp(verb, "heal") == 0) {
        memset(world->cut, 0, sizeof(world->cut));
    } else if (strcmp(verb, "disk") == 0) {
        world->nodes[arg[0]].disk_off = strcmp(text, "off") == 0;
        if (!world->nodes[arg[0]].disk_off) {
            flush_disk(world, arg[0]);
        }
    } else if (strcmp(verb, "compact") == 0) {
        raft_compact(&world->nodes[arg[0]].raft, arg[1], 0);
    } else if (strcmp(verb, "status") == 0) {
        print_status(world);
    } else if (strcmp(verb, "members") == 0) {
        print_members(world);
    } else if (!node_command(world, verb, arg, text)) {
        buf_printf(&world->out, "unknown command\n");
    }
}

/* Runs a script; returns what the file would be with the actual answers. */
static struct buf run_script(const char *bytes)
{
    struct world *world = mem_zalloc(sizeof(*world));
    struct buf result = {0};
    bool answer = false; /* inside an expected answer, which is skipped */

    for (const char *at = bytes; *at != '\0';) {
        size_t length = strcspn(at, "\n");
        char line[256];

        assert_true(length < sizeof(line));
        memcpy(line, at, length);
        line[length] = '\0';
        at += length + (at[length] == '\n');
        if (answer && length > 0) {
            continue;
        }
        answer = false;
        buf_printf(&result, "%s\n", line);
        if (strcmp(line, "----") == 0) {
            answer = true;
            if (world->out.size == 0) {
                buf_printf(&world->out, "ok\n");
            }
            buf_append_slice(&result, buf_slice(&world->out));
            buf_clear(&world->out);
        } else if (length > 0 && line[0] != '#') {
            run_command(world, line);
        }
    }
    world_clear(world);
    mem_free(world);
    buf_append(&result, "", 1);
    return result;
}

static char *read_text(const char *path)
{
    struct buf bytes = {0};
    FILE *file = fopen(path, "r");
    size_t got;

    assert_non_null(file);
    do {
        got = fread(buf_reserve(&bytes, 4096), 1, 4096, file);
        bytes.size += got;
    } while (got > 0);
    fclose(file);
    buf_append(&bytes, "", 1);
    return (char *)bytes.data;
}

static bool rewrite;

static void test_scripts(void **state)
{
    DIR *dir = opendir(TEST_DATA_DIR "/raft");
    unsigned count = 0;
    unsigned failed = 0;

    (void)state;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char *path = mem_printf(TEST_DATA_DIR "/raft/%s", entry->d_name);

        if (strstr(entry->d_name, ".txt") != NULL) {
            char *expected = read_text(path);
            struct buf actual = run_script(expected);

            count++;
            if (rewrite) {
                FILE *file = fopen(path, "w");

                assert_non_null(file);
                fputs((const char *)actual.data, file);
                fclose(file);
            } else if (strcmp(expected, (const char *)actual.data) != 0) {
                printf("%s prints now:\n%s\n", path, (const char *)actual.data);
                failed++;
            }
            mem_free(expected);
            buf_deinit(&actual);
        }
        mem_free(path);
    }
    closedir(dir);
    assert_true(count > 0);
    assert_int_equal(failed, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scripts)};

    rewrite = argc > 1 && strcmp(argv[1], "--rewrite") == 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
