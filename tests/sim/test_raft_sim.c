/*
 * Raft groups of 3 and 5 real nodes (raft_node, raft_log, rpc) in the simulator, under kills, power
 * losses, cuts, resets and slow disks, while members are added, promoted and removed, and some come
 * back with an empty disk. After every event the paper's five safety properties hold:
 * election safety, leader append-only, log matching, leader completeness, state machine safety.
 * Reads are linearizable. After healing, the group makes progress.
 *
 *     SEED=17 tests_sim_test_raft_sim       one seed, with SIM_LOG=1 its log
 */
#include "tests/lib/test.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "raft/raft_log_format.h"
#include "raft/raft_node.h"
#include "tests/sim/env_sim.h"

#define NODES_MAX    10
#define INDEX_MAX    200000
#define TERM_MAX     4096
#define SEEDS        200
#define CHECKPOINT   64
#define COMMAND_SIZE 40

struct world;

/* What a node's machine is: everything it applied, folded into one hash. */
struct state {
    uint64_t index;
    uint64_t term;
    uint64_t hash;
    struct raft_members members;
};

struct member {
    struct world *world;
    unsigned number; /* simulator node; its raft id is number + 1 */
    struct raft_node *node;
    struct rpc_server *server;
    struct rpc_identity identity;
    struct raft_machine machine;
    struct state state;
    struct state checkpoint; /* durable */
    struct state incoming;
    uint64_t leader_term; /* while it leads: its log may only grow */
    uint64_t leader_last;
    struct env_timer client;
    const struct raft_peer_config *peers;
    bool joins;     /* it was not in the group at the beginning */
    bool named;     /* durable: the group has named it since */
    unsigned wipes; /* it lost its disk so often */
    bool rotten;    /* bits of its log have turned over, and it is not whole again */
    bool repairing; /* seen */
};

struct world {
    struct sim *sim;
    uint64_t seed;
    unsigned initial;  /* members at the beginning */
    unsigned count;    /* nodes that were ever started */
    unsigned to_start; /* nodes that were added and do not run yet */
    bool changes;      /* the group changes on the way */
    struct member members[NODES_MAX];
    struct {
        uint64_t term;
        uint64_t command; /* hash */
    } * committed;        /* by index, as first applied anywhere */
    uint64_t committed_last;
    uint32_t leaders[TERM_MAX];
    uint64_t proposals, reads, lease_reads, elections, snapshots, restarts;
    uint64_t added, promoted, removed, wiped, rotten, repaired;
};

static void start_member(struct world *world, unsigned number);
static struct member *leader_of(struct world *world);

static void check(const struct world *world, bool good, const char *what)
{
    if (!good) {
        printf("seed %llu at %.6f s: %s\n", (unsigned long long)world->seed,
               (double)sim_now(world->sim) / 1e9, what);
        fflush(stdout);
        abort();
    }
}

/* ---- the machine ---- */

static struct member *member_of(struct raft_machine *machine)
{
    return container_of(machine, struct member, machine);
}

static void apply_any(struct member *member, uint64_t index, uint64_t term, struct slice command)
{
    struct world *world = member->world;
    uint64_t hash = hash_bytes((struct hash_key){1, 2}, command);

    check(world, index == member->state.index + 1, "applied out of order");
    ASSERT(index < INDEX_MAX);
    if (index > world->committed_last) {
        check(world, index == world->committed_last + 1, "applied ahead of everything known");
        world->committed[index].term = term;
        world->committed[index].command = hash;
        world->committed_last = index;
    }
    check(world, world->committed[index].term == term && world->committed[index].command == hash,
          "state machine safety: two nodes applied different entries at one index");
    member->state.index = index;
    member->state.term = term;
    member->state.hash = hash_mix64(member->state.hash ^ hash ^ index);
    if (index % CHECKPOINT == 0) {
        member->checkpoint = member->state;
        raft_node_compacted(member->node, index - 1);
    }
}

static void apply(struct raft_machine *machine, uint64_t index, uint64_t term, struct slice command)
{
    apply_any(member_of(machine), index, term, command);
}

static void members_changed(struct raft_machine *machine, uint64_t index, uint64_t term,
                            const struct raft_members *members, struct slice command)
{
    struct member *member = member_of(machine);
    struct raft *raft = &member->node->raft;

    member->state.members = *members;
    member->named |= !raft->joining && raft_members_find(members, raft->id) >= 0;
    apply_any(member, index, term, command);
}

static void members(struct raft_machine *machine, struct raft_members *out_members)
{
    *out_members = member_of(machine)->state.members;
}

static void role_changed(struct raft_machine *machine, bool is_leader, uint64_t term,
                         uint32_t leader_id)
{
    struct member *member = member_of(machine);

    (void)term;
    (void)leader_id;
    member->world->elections += is_leader;
}

static int snapshot_begin(struct raft_machine *machine, struct raft_snapshot *out_snapshot,
                          void **out_cursor)
{
    struct member *member = member_of(machine);
    struct state *copy = mem_alloc(2 * sizeof(*copy));

    copy[0] = member->state;
    copy[1] = (struct state){0}; /* its index counts frames */
    *out_snapshot = (struct raft_snapshot){member->state.index, member->state.term, 0};
    *out_cursor = copy;
    return 0;
}

/* The same frame many times, so that connections break in between, then the end. */
static int snapshot_read(struct raft_machine *machine, void *cursor, struct buf *out_frame)
{
    struct state *copy = cursor;

    (void)machine;
    if (copy[1].index < 20) {
        buf_append(out_frame, &copy[0], sizeof(copy[0]));
        copy[1].index++;
    }
    return 0;
}

static void snapshot_end(struct raft_machine *machine, void *cursor)
{
    (void)machine;
    mem_free(cursor);
}

static int restore_begin(struct raft_machine *machine, const struct raft_snapshot *snapshot)
{
    struct member *member = member_of(machine);

    member->incoming = (struct state){snapshot->index, snapshot->term, 0, {0}};
    return 0;
}

static int restore_write(struct raft_machine *machine, struct slice frame)
{
    struct member *member = member_of(machine);

    memcpy(&member->incoming, frame.data, sizeof(member->incoming));
    return 0;
}

static int restore_finish(struct raft_machine *machine)
{
    struct member *member = member_of(machine);

    member->state = member->incoming;
    member->checkpoint = member->state;
    member->world->snapshots++;
    return 0;
}

/* ---- clients ---- */

struct read_op {
    struct raft_read read;
    struct member *member;
    uint64_t must_see;
};

static void read_done(struct raft_read *read, int status)
{
    struct read_op *op = container_of(read, struct read_op, read);

    check(op->member->world, status != 0 || op->member->state.index >= op->must_see,
          "a confirmed read misses what was committed before it began");
    op->member->world->reads += status == 0;
    mem_free(op);
}

static void begin_read(struct member *member)
{
    struct read_op *op = mem_zalloc(sizeof(*op));
    int r;

    op->member = member;
    op->read.done = read_done;
    op->must_see = member->world->committed_last;
    r = raft_node_read(member->node, &op->read);
    if (r == 1) {
        check(member->world, member->state.index >= op->must_see,
              "a lease read misses what was committed before it began");
        member->world->lease_reads++;
    }
    if (r != 0) {
        mem_free(op);
    }
}

static int change_one(struct member *leader, enum raft_change_type type, uint32_t id)
{
    struct raft_change change = {.type = type, .id = id, .address = "unix:elsewhere"};
    char address[24];
    uint64_t index;

    snprintf(address, sizeof(address), "unix:node%u", id - 1);
    change.address = address;
    return raft_node_change(leader->node, &change, &index);
}

/* What an operator, or a careless one, asks the leader for. */
static void change_group(struct member *member)
{
    struct world *world = member->world;
    struct rng *rng = sim_rng(world->sim);
    const struct raft_members *group = &member->node->raft.members;
    const struct raft_member *any;

    if (group->count == 0) {
        return;
    }
    any = &group->list[rng_below(rng, group->count)];
    if (!any->voter && rng_percent(rng, 80)) {
        world->promoted += change_one(member, RAFT_CHANGE_PROMOTE, any->id) == 0;
    } else if (rng_percent(rng, 50) && raft_members_voters(group) > 3) {
        world->removed += change_one(member, RAFT_CHANGE_REMOVE, any->id) == 0;
    } else if (world->count < NODES_MAX && world->to_start == 0 &&
               change_one(member, RAFT_CHANGE_ADD, world->count + 1) == 0) {
        world->added++;
        world->members[world->count].joins = true;
        world->to_start++; /* not from inside another node's event */
    }
}

static void on_client(struct env_timer *timer)
{
    struct member *member = container_of(timer, struct member, client);
    struct rng *rng = sim_rng(member->world->sim);
    uint8_t command[COMMAND_SIZE];
    uint64_t index;

    env_timer_start(member->node->env, timer,
                    env_now(member->node->env) + NS_PER_MS + rng_below(rng, 16 * NS_PER_MS));
    begin_read(member);
    for (unsigned i = (unsigned)rng_below(rng, 4); i > 0; i--) {
        for (unsigned k = 0; k < sizeof(command); k++) {
            command[k] = (uint8_t)rng_next(rng);
        }
        command[0] |= 1; /* 0 is the core's own */
        member->world->proposals +=
            raft_node_propose(member->node, slice_make(command, sizeof(command)), &index) == 0;
    }
    if (rng_below(rng, 2000) == 0) {
        (void)!raft_node_transfer(member->node, 0); /* whatever the outcome */
    }
    if (member->world->changes && rng_below(rng, 40) == 0) {
        change_group(member);
    }
}

/* ---- nodes ---- */

static void handle(struct rpc_server *server, struct rpc_request *request)
{
    struct member *member = server->data;

    check(member->world, raft_node_is_raft_opcode(request->opcode), "a foreign opcode");
    raft_node_receive(member->node, request);
}

static void open_member(void *data)
{
    struct member *member = data;
    struct env *env = sim_env(member->world->sim, member->number);
    struct raft_peer_config *peers = mem_zalloc(NODES_MAX * sizeof(*peers)); /* outlives the node */
    char addresses[NODES_MAX][24];
    char dir[24];
    int r;

    snprintf(dir, sizeof(dir), "/raft%u", member->wipes);
    for (unsigned i = 0; i < NODES_MAX; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "unix:node%u", i);
        peers[i] = (struct raft_peer_config){i + 1, mem_strdup(addresses[i])};
    }
    member->peers = peers;
    /* Those of the node that died are left behind: other nodes' events may still see them. */
    member->node = mem_zalloc(sizeof(*member->node));
    member->server = mem_zalloc(sizeof(*member->server));
    member->state = member->checkpoint;
    member->leader_term = 0;
    member->client = (struct env_timer){.fire = on_client};
    member->server->handle = handle;
    member->server->data = member;
    r = rpc_server_start(member->server, env, &member->identity, addresses[member->number]);
    check(member->world, r == 0, "cannot listen");
    r = raft_node_open(member->node, env,
                       &(struct raft_node_config){
                           .identity = &member->identity,
                           .dir = dir,
                           .peers = member->peers,
                           .peer_count = member->joins ? 0 : member->world->initial,
                           .members = member->joins || member->state.members.count > 0
                                          ? &member->state.members
                                          : NULL,
                           .joining = member->joins && !member->named,
                           .applied_index = member->checkpoint.index,
                           .applied_term = member->checkpoint.term,
                           .log_segment_bytes = KiB(64),
                       },
                       &member->machine);
    check(member->world, r == 0, "a node does not open its log");
    env_timer_start(env, &member->client, env_now(env) + NS_PER_MS);
}

static void start_member(struct world *world, unsigned number)
{
    struct member *member = &world->members[number];

    member->world = world;
    member->number = number;
    member->identity = (struct rpc_identity){.role = RPC_ROLE_META, .node_id = number + 1};
    member->machine = (struct raft_machine){
        .apply = apply,
        .members_changed = members_changed,
        .members = members,
        .role_changed = role_changed,
        .snapshot_begin = snapshot_begin,
        .snapshot_read = snapshot_read,
        .snapshot_end = snapshot_end,
        .restore_begin = restore_begin,
        .restore_write = restore_write,
        .restore_finish = restore_finish,
    };
    sim_call(world->sim, number, open_member, member);
}

/* ---- the properties ---- */

static void check_leader(struct world *world, struct member *member)
{
    const struct raft *raft = &member->node->raft;
    uint64_t term;

    if (raft->role != RAFT_LEADER) {
        member->leader_term = 0;
        return;
    }
    ASSERT(raft->term < TERM_MAX);
    check(world, world->leaders[raft->term] == 0 || world->leaders[raft->term] == raft->id,
          "election safety: two leaders in one term");
    world->leaders[raft->term] = raft->id;
    if (member->leader_term != raft->term) {
        for (uint64_t i = raft->tail.base_index + 1; i <= world->committed_last; i++) {
            check(world, raft_tail_term(&raft->tail, i, &term) && term == world->committed[i].term,
                  "leader completeness: a new leader lacks a committed entry");
        }
    } else {
        check(world, raft_last(raft) >= member->leader_last,
              "leader append-only: a leader's log shrank");
    }
    member->leader_term = raft->term;
    member->leader_last = raft_last(raft);
}

static void check_matching(const struct world *world, const struct raft *a, const struct raft *b)
{
    uint64_t at = min_u64(raft_last(a), raft_last(b));
    const struct raft_entry *x;
    const struct raft_entry *y;
    bool same = false;

    while ((x = raft_entry_at(a, at)) != NULL && (y = raft_entry_at(b, at)) != NULL) {
        same = same || x->term == y->term;
        check(world, !same || (x->term == y->term && slice_equal(x->command, y->command)),
              "log matching: equal index and term, different logs before");
        at--;
    }
}

/* Has it noticed, and is it whole again? */
static void check_repair(struct world *world, struct member *member)
{
    const struct raft *raft = &member->node->raft;

    check(world, !raft->repair || raft->role == RAFT_FOLLOWER, "a damaged member campaigns");
    member->repairing |= raft->repair;
    if (!raft->repair) {
        world->repaired += member->repairing;
        member->repairing = member->rotten = false;
    }
}

static void check_all(struct world *world, bool thorough)
{
    for (unsigned i = 0; i < world->count; i++) {
        if (!sim_up(world->sim, i)) {
            continue;
        }
        check_repair(world, &world->members[i]);
        check_leader(world, &world->members[i]);
        for (unsigned k = 0; thorough && k < i; k++) {
            if (sim_up(world->sim, k)) {
                check_matching(world, &world->members[i].node->raft, &world->members[k].node->raft);
            }
        }
    }
}

static void run(struct world *world, uint64_t duration_ns)
{
    uint64_t until = sim_now(world->sim) + duration_ns;
    unsigned steps = 0;

    while (sim_now(world->sim) < until && sim_step(world->sim)) {
        check_all(world, ++steps % 1024 == 0);
        for (; world->to_start > 0; world->to_start--) {
            start_member(world, world->count++);
        }
    }
    check_all(world, /* thorough= */ true);
    check(world,
          sim_errors(world->sim) == 0 ||
              (world->wiped > 0 && strstr(sim_last_error(world->sim), "data is gone") != NULL),
          sim_last_error(world->sim));
}

/* ---- trouble ---- */

static void cut_some(struct world *world)
{
    struct rng *rng = sim_rng(world->sim);
    unsigned side = (unsigned)rng_below(rng, 1u << world->count);
    bool one_way = rng_percent(rng, 40);

    for (unsigned i = 0; i < world->count; i++) {
        for (unsigned k = 0; k < world->count; k++) {
            if ((side >> i & 1) && !(side >> k & 1)) {
                sim_cut(world->sim, i, k, true);
                sim_cut(world->sim, k, i, !one_way);
            }
        }
    }
}

static unsigned count_up(const struct world *world)
{
    unsigned up = 0;

    for (unsigned i = 0; i < world->count; i++) {
        up += sim_up(world->sim, i);
    }
    return up;
}

static bool is_lost(const struct world *world, unsigned number)
{
    return world->members[number].wipes > 0;
}

/* Can the group go on without one more of its voters? */
static bool may_spoil(struct world *world, unsigned victim)
{
    struct member *leader = leader_of(world);
    const struct raft_members *group;
    unsigned voters, lost = 0;

    if (leader == NULL || !sim_up(world->sim, victim)) {
        return false;
    }
    group = &leader->node->raft.members;
    voters = raft_members_voters(group);
    for (unsigned i = 0; i < group->count; i++) {
        const struct member *member = &world->members[group->list[i].id - 1];

        lost += group->list[i].voter && (is_lost(world, member->number) || member->rotten);
    }
    return leader->node->raft.members_index <= leader->node->raft.commit &&
           lost + 1 <= (voters - 1) / 2 && !is_lost(world, victim) &&
           !world->members[victim].rotten;
}

/* A bit turns over in what the log has said to be durable; the node starts again. */
static void rot(struct world *world, unsigned victim)
{
    struct rng *rng = sim_rng(world->sim);
    struct member *member = &world->members[victim];
    struct raft_log *log = &member->node->log;
    struct raft_log_segment *segment;
    unsigned count = 0, at;
    uint64_t from, size;
    char path[64];

    if (!may_spoil(world, victim)) {
        return;
    }
    list_for_each (node, &log->segments) {
        (void)node;
        count++;
    }
    at = (unsigned)rng_below(rng, count);
    segment = list_entry(list_first(&log->segments), struct raft_log_segment, node);
    from = at == 0 ? RAFT_LOG_HEADER_BYTES : 16; /* the first header says whose log it is */
    for (unsigned i = 0; i < at; i++) {
        segment = list_entry(segment->node.next, struct raft_log_segment, node);
    }
    size = at + 1 == count ? log->vouched : KiB(64);
    snprintf(path, sizeof(path), "%s", segment->path);
    if (size <= RAFT_LOG_HEADER_BYTES + sizeof(struct raft_log_record)) {
        return; /* nothing behind it that vouches */
    }
    sim_crash(world->sim, victim, rng_percent(rng, 50) ? SIM_KILL : SIM_POWER);
    if (sim_rot_at(world->sim, victim, path, from + rng_below(rng, size - from))) {
        member->rotten = true;
        world->rotten++;
    }
}

/* A disk is replaced, and the server comes back under its old number; as long as the group can go
 * on without it. */
static void wipe(struct world *world, unsigned victim)
{
    struct member *leader = leader_of(world);
    struct member *member = &world->members[victim];

    if (!world->changes || leader == member || !may_spoil(world, victim)) {
        return;
    }
    sim_crash(world->sim, victim, SIM_POWER);
    member->wipes++;
    member->joins = true;
    member->named = false;
    member->checkpoint = (struct state){0};
    world->wiped++;
}

static void trouble(struct world *world)
{
    struct rng *rng = sim_rng(world->sim);
    unsigned victim = (unsigned)rng_below(rng, world->count);

    switch (rng_below(rng, 8)) {
    case 7:
        rot(world, victim);
        return;
    case 0:
        cut_some(world);
        return;
    case 6:
        if (rng_percent(rng, 30)) {
            wipe(world, victim);
        }
        return;
    case 1:
        sim_heal(world->sim);
        return;
    case 2:
        if (sim_up(world->sim, victim) && count_up(world) > 1) {
            sim_crash(world->sim, victim, rng_percent(rng, 50) ? SIM_KILL : SIM_POWER);
        }
        return;
    case 3: /* everybody at once */
        if (rng_percent(rng, 20)) {
            for (unsigned i = 0; i < world->count; i++) {
                sim_crash(world->sim, i, SIM_POWER);
            }
        }
        return;
    default:
        if (!sim_up(world->sim, victim)) {
            world->restarts++;
            sim_restart(world->sim, victim);
            start_member(world, victim);
        }
        return;
    }
}

static void configure(struct world *world)
{
    struct rng *rng = sim_rng(world->sim);
    struct sim_faults *faults = sim_faults(world->sim);

    world->count = world->initial = rng_percent(rng, 50) ? 3 : 5;
    world->changes = rng_percent(rng, 60);
    if (rng_percent(rng, 50)) {
        faults->net_max_ns = NS_PER_MS + rng_below(rng, 20 * NS_PER_MS);
        faults->reset_per_million = (unsigned)rng_below(rng, rng_percent(rng, 30) ? 20000 : 2000);
        faults->disk_max_ns = NS_PER_MS + rng_below(rng, 10 * NS_PER_MS);
    }
}

/* All healed: one leader, everybody applies the same, and new entries go through. */
static void check_liveness(struct world *world)
{
    struct raft_members group;
    struct member *leader;
    uint64_t before;

    sim_heal(world->sim);
    sim_faults(world->sim)->reset_per_million = 0;
    for (unsigned i = 0; i < world->count; i++) {
        if (!sim_up(world->sim, i)) {
            sim_restart(world->sim, i);
            start_member(world, i);
        }
    }
    run(world, 4 * NS_PER_S);
    world->changes = false;
    run(world, NS_PER_S);
    before = world->committed_last;
    run(world, NS_PER_S);
    check(world, world->committed_last > before, "liveness: a healed group commits nothing");
    leader = leader_of(world);
    check(world, leader != NULL, "liveness: a healed group has no leader");
    group = leader->node->raft.members;
    for (unsigned i = 0; i < group.count; i++) {
        unsigned number = group.list[i].id - 1;

        check(world, is_lost(world, number) || world->members[number].state.index >= before,
              "liveness: a member of a healed group stays behind");
    }
}

static void run_seed(uint64_t seed, struct world *totals)
{
    struct world *world = mem_zalloc(sizeof(*world));

    world->seed = seed;
    world->sim = sim_new(seed);
    world->committed = mem_zalloc(INDEX_MAX * sizeof(*world->committed));
    configure(world);
    for (unsigned i = 0; i < world->count; i++) {
        start_member(world, i);
    }
    run(world, NS_PER_S);
    for (unsigned i = 0; i < 20; i++) {
        trouble(world);
        run(world, rng_below(sim_rng(world->sim), 400 * NS_PER_MS));
    }
    check_liveness(world);
    totals->proposals += world->proposals;
    totals->reads += world->reads;
    totals->lease_reads += world->lease_reads;
    totals->elections += world->elections;
    totals->snapshots += world->snapshots;
    totals->restarts += world->restarts;
    totals->added += world->added;
    totals->promoted += world->promoted;
    totals->removed += world->removed;
    totals->wiped += world->wiped;
    totals->rotten += world->rotten;
    totals->repaired += world->repaired;
    sim_free(world->sim);
    mem_free(world->committed);
    mem_free(world);
}

static struct member *leader_of(struct world *world)
{
    for (unsigned i = 0; i < world->count; i++) {
        struct member *member = &world->members[i];

        if (sim_up(world->sim, i) && member->node->told_leader) {
            return member;
        }
    }
    return NULL;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* The leader's process is killed: how long until the others commit again? */
static void test_failover(void **state)
{
    uint64_t took[20];

    (void)state;
    for (unsigned n = 0; n < ARRAY_SIZE(took); n++) {
        struct world *world = mem_zalloc(sizeof(*world));
        uint64_t killed;
        uint64_t before;

        world->seed = n;
        world->sim = sim_new(1000 + n);
        world->count = world->initial = 3;
        world->committed = mem_zalloc(INDEX_MAX * sizeof(*world->committed));
        for (unsigned i = 0; i < world->count; i++) {
            start_member(world, i);
        }
        run(world, 2 * NS_PER_S + n * NS_PER_MS);
        assert_non_null(leader_of(world));
        sim_crash(world->sim, leader_of(world)->number, SIM_KILL);
        killed = sim_now(world->sim);
        run(world, 10 * NS_PER_MS); /* what was under way */
        before = world->committed_last;
        while (world->committed_last < before + 2) { /* the no-op, and a client's */
            run(world, NS_PER_MS);
            check(world, sim_now(world->sim) < killed + 5 * NS_PER_S, "no failover");
        }
        took[n] = sim_now(world->sim) - killed;
        sim_free(world->sim);
        mem_free(world->committed);
        mem_free(world);
    }
    qsort(took, ARRAY_SIZE(took), sizeof(took[0]), compare_u64);
    printf("failover median %.0f ms, worst %.0f ms\n", (double)took[ARRAY_SIZE(took) / 2] / 1e6,
           (double)took[ARRAY_SIZE(took) - 1] / 1e6);
    assert_true(took[ARRAY_SIZE(took) / 2] < 200 * NS_PER_MS);
}

/* Connections break all the time while a member gets the whole state: the stream goes on where it
 * was. */
static void test_snapshot_resumes(void **state)
{
    struct world *world = mem_zalloc(sizeof(*world));
    struct member *leader;

    (void)state;
    world->sim = sim_new(77);
    world->count = world->initial = 3;
    world->committed = mem_zalloc(INDEX_MAX * sizeof(*world->committed));
    for (unsigned i = 0; i < world->count; i++) {
        start_member(world, i);
    }
    run(world, 2 * NS_PER_S);
    assert_int_equal(change_one(leader_of(world), RAFT_CHANGE_ADD, 4), 0);
    run(world, NS_PER_S);
    for (unsigned i = 0; i < world->count; i++) { /* what they keep in memory begins anew */
        sim_crash(world->sim, i, SIM_KILL);
        sim_restart(world->sim, i);
        start_member(world, i);
    }
    run(world, 2 * NS_PER_S);
    world->members[world->count].joins = true;
    start_member(world, world->count++);
    sim_faults(world->sim)->reset_per_million = 20000;
    leader = leader_of(world);
    while (world->snapshots == 0 && leader == leader_of(world)) {
        run(world, NS_PER_MS);
        check(world, sim_now(world->sim) < 60 * NS_PER_S, "the snapshot does not arrive");
    }
    assert_true(leader->node->snapshot_out.resumed > 0);
    sim_free(world->sim);
    mem_free(world->committed);
    mem_free(world);
}

static void test_seeds(void **state)
{
    struct world totals = {0};
    const char *only = getenv("SEED");

    (void)state;
    if (only != NULL) {
        run_seed(test_seed(0), &totals);
    }
    for (uint64_t seed = 1; only == NULL && seed <= SEEDS; seed++) {
        run_seed(seed, &totals);
    }
    printf(
        "proposals %llu reads %llu lease reads %llu elections %llu snapshots %llu restarts %llu\n",
        (unsigned long long)totals.proposals, (unsigned long long)totals.reads,
        (unsigned long long)totals.lease_reads, (unsigned long long)totals.elections,
        (unsigned long long)totals.snapshots, (unsigned long long)totals.restarts);
    printf("members added %llu promoted %llu removed %llu, disks lost %llu, logs damaged %llu, "
           "repaired %llu\n",
           (unsigned long long)totals.added, (unsigned long long)totals.promoted,
           (unsigned long long)totals.removed, (unsigned long long)totals.wiped,
           (unsigned long long)totals.rotten, (unsigned long long)totals.repaired);
    if (only == NULL) { /* the faults really happened */
        assert_true(totals.elections > SEEDS);
        assert_true(totals.restarts > SEEDS);
        assert_true(totals.reads > SEEDS && totals.lease_reads > SEEDS);
        assert_true(totals.added > SEEDS / 2 && totals.promoted > SEEDS / 4);
        assert_true(totals.removed > SEEDS / 8 && totals.wiped > SEEDS / 16);
        assert_true(totals.rotten > SEEDS / 2 && totals.repaired > SEEDS / 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_failover),
                                       cmocka_unit_test(test_snapshot_resumes),
                                       cmocka_unit_test(test_seeds)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
