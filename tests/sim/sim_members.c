/*
 * The operator of the metadata group: under load, servers lose their disks and are replaced under a
 * new number, others are added, removed, or told to hand over, one after the other, in the steps of
 * `keelfs meta` (cli/meta.c) and by its messages: answers get lost, leaders change.
 *
 * At most one disk is lost at a time: the next one only when the set of members no longer has who
 * lost it. So every committed entry is on a majority of those that are left. And none goes before
 * each mount and chunk server has heard of one that stays.
 */
#include "tests/sim/sim_world.h"

#include "base/err.h"
#include "base/mem.h"
#include "fs/mount.h"
#include "meta/meta_server_proto.h"
#include "net/rpc.h"

#include <errno.h>
#include <inttypes.h>

#define OPERATOR_NODE                                                                              \
    (SIM_NODES_MAX - 1) /* of the mount that looks at the end; idle until then                     \
                         */
#define ANSWER_NS (3 * NS_PER_S)
#define AGAIN_NS  (50 * NS_PER_MS)

static struct {
    struct process *process; /* NULL: nobody changes anything in this seed */
    uint64_t pause_ns;       /* between two changes, on average */
    uint32_t last_id;
    bool ended;
    struct rpc_identity identity;
    struct rng rng; /* of its own: without it a seed is the same run as before there was any */
} group;

static unsigned any(unsigned count)
{
    return (unsigned)rng_below(&group.rng, count);
}

static void wait_ns(uint64_t ns)
{
    process_wait_until(sim_now(world->sim) + ns);
}

/* ---- messages ---- */

struct tell {
    struct rpc_peer peer;
    struct rpc_call call;
    struct buf body;
    struct process *process;
    const char *address;
    uint16_t opcode;
    int status;
    bool done;
};

static void on_closed(struct rpc_peer *peer)
{
    struct tell *tell = peer->data;

    buf_deinit(&tell->body);
    mem_free(tell);
}

static void on_answer(struct rpc_call *call, struct rpc_reply *reply)
{
    struct tell *tell = call->data;

    tell->status = reply->status;
    tell->done = true;
    process_ready(tell->process);
}

static void begin_tell(void *data)
{
    struct tell *tell = data;

    rpc_peer_init(&tell->peer, sim_env(world->sim, OPERATOR_NODE), &group.identity, tell->address);
    tell->peer.data = tell;
    tell->peer.closed = on_closed;
    tell->call = (struct rpc_call){.opcode = tell->opcode,
                                   .body = buf_slice(&tell->body),
                                   .timeout_ns = ANSWER_NS,
                                   .done = on_answer,
                                   .data = tell};
    rpc_call_start(&tell->peer, &tell->call);
}

static void end_tell(void *data)
{
    rpc_peer_close(&((struct tell *)data)->peer);
}

/* One message to a server, and its status. Consumes the body. */
static int tell_server(const struct meta_node *node, uint16_t opcode, struct buf *body)
{
    struct tell *tell = mem_zalloc(sizeof(*tell));
    int status;

    tell->process = process_self();
    tell->address = node->address;
    tell->opcode = opcode;
    tell->body = *body;
    *body = (struct buf){0};
    sim_call(world->sim, OPERATOR_NODE, begin_tell, tell);
    while (!tell->done) {
        process_wait();
    }
    status = tell->status;
    sim_call(world->sim, OPERATOR_NODE, end_tell, tell);
    return status;
}

/* Whom the operator takes for the leader: who says so, now and then somebody else. NULL: nobody. */
static const struct meta_node *leader_node(void)
{
    const struct meta_server *leader = cluster_leader();

    if (rng_percent(&group.rng, 10)) {
        return &world->metas[any(world->meta_count)];
    }
    for (unsigned i = 0; i < world->meta_count; i++) {
        if (leader != NULL && world->metas[i].server == leader) {
            return &world->metas[i];
        }
    }
    return NULL;
}

static int tell_leader(uint16_t opcode, struct buf *body)
{
    const struct meta_node *node = leader_node();

    if (node == NULL || node->id == 0) {
        buf_deinit(body);
        return -EAGAIN;
    }
    return tell_server(node, opcode, body);
}

static int transfer(void)
{
    struct buf body = {0};

    meta_transfer_encode(&(struct meta_transfer){.to = 0}, &body);
    return tell_leader(META_RPC_TRANSFER, &body);
}

/* ---- changes ---- */

static int ask_change(enum meta_member_op op, uint32_t id, const char *address)
{
    struct buf body = {0};
    int r;

    meta_member_request_encode(
        &(struct meta_member_request){.op = (uint8_t)op, .id = id, .address = slice_text(address)},
        &body);
    r = tell_leader(META_RPC_MEMBER, &body);
    trace("members: op %d of %u -> %d", op, id, r);
    return r;
}

/* What a leader says when it is done already: by a try whose answer was lost. */
static int already(enum meta_member_op op)
{
    return op == META_MEMBER_ADD ? -EEXIST : op == META_MEMBER_PROMOTE ? -EINVAL : -ENOENT;
}

/* The answer is lost, or the leader left before it had one: it may be done all the same. */
static bool is_open(int r)
{
    return r == -ETIMEDOUT || r == -ERR_DISCONNECTED || r == -ERR_NOT_LEADER || r == -ERR_NO_LEADER;
}

static bool is_passing(int r)
{
    return is_open(r) || r == -ERR_BUSY || r == -EAGAIN || r == -ERR_NO_QUORUM || r == -EDEADLK;
}

/* One change, asked of whoever leads until it is done. */
static void change(enum meta_member_op op, uint32_t id, const char *address)
{
    bool open = false; /* an earlier try may have done it */

    for (;;) {
        int r = ask_change(op, id, address);

        if (r == 0 || (open && r == already(op))) {
            return;
        }
        if (!is_passing(r)) {
            violation("members: op %d of server %u is refused: %d", op, id, r);
        }
        open = open || is_open(r);
        if (r == -EDEADLK) {
            (void)transfer();
            world->counts.transfers++;
        }
        wait_ns(AGAIN_NS);
    }
}

/* ---- what an operator does ---- */

static unsigned members(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < world->meta_count; i++) {
        count += world->metas[i].id != 0;
    }
    return count;
}

static unsigned any_slot(bool taken)
{
    unsigned slot = any(world->meta_count);

    while ((world->metas[slot].id != 0) != taken) {
        slot = (slot + 1) % world->meta_count;
    }
    return slot;
}

/* The slot's machine with an empty disk: a server under a number that was never used, at an address
 * of its own, or at the one of the server before. */
static void join(unsigned slot, bool same_address)
{
    struct meta_node *node = &world->metas[slot];

    node->id = ++group.last_id;
    node->joins = true;
    if (!same_address) {
        snprintf(node->address, sizeof(node->address), "unix:meta%u", node->id);
    }
    sim_restart(world->sim, meta_node_of(slot));
    meta_start(slot);
}

static void add(unsigned slot)
{
    const struct meta_node *node = &world->metas[slot];

    change(META_MEMBER_ADD, node->id, node->address);
    wait_ns(rng_below(&group.rng, NS_PER_S / 2));
    change(META_MEMBER_PROMOTE, node->id, "");
}

/* ---- who would be lost without a server ---- */

/* Is this the address of a member, but not of this slot? */
static bool stays(const char *address, unsigned slot)
{
    for (unsigned i = 0; i < world->meta_count; i++) {
        if (i != slot && world->metas[i].id != 0 && strcmp(world->metas[i].address, address) == 0) {
            return true;
        }
    }
    return false;
}

static bool mount_knows_another(const struct mount *mount, unsigned slot)
{
    for (unsigned i = 0; i < mount->meta.peer_count; i++) {
        if (stays(mount->meta.peers[i].address, slot)) {
            return true;
        }
    }
    return false;
}

static bool chunk_knows_another(const struct chunk_server *server, unsigned slot)
{
    for (unsigned i = 0; i < server->meta_count; i++) {
        if (stays(server->meta[i]->address, slot)) {
            return true;
        }
    }
    return false;
}

/* Who does not hear of the others before all that it knows have gone can only be started again. */
static bool can_be_spared(unsigned slot)
{
    for (unsigned i = 0; i < world->client_count; i++) {
        if (world->clients[i].mount != NULL &&
            !mount_knows_another(world->clients[i].mount, slot)) {
            return false;
        }
    }
    for (unsigned i = 0; i < world->chunk_count; i++) {
        if (world->chunks[i].server != NULL &&
            !chunk_knows_another(world->chunks[i].server, slot)) {
            return false;
        }
    }
    return true;
}

static void wait_until_spared(unsigned slot)
{
    while (!can_be_spared(slot)) {
        wait_ns(NS_PER_S / 10);
    }
}

/* It stops, for good, and its disk is taken out. */
static void lose(unsigned slot)
{
    unsigned node = meta_node_of(slot);

    faults_stays_down(node);
    if (sim_up(world->sim, node)) {
        meta_kill(slot, SIM_POWER);
    }
    sim_wipe(world->sim, node);
}

static void replace_lost(unsigned slot)
{
    uint32_t old = world->metas[slot].id;

    wait_until_spared(slot);
    trace("meta %u loses its disk", old);
    lose(slot);
    wait_ns(rng_below(&group.rng, 5 * NS_PER_S));
    join(slot, rng_percent(&group.rng, 50));
    add(slot);
    change(META_MEMBER_REMOVE, old, "");
    world->counts.meta_replaced++;
    trace("meta %u has taken the place of %u", world->metas[slot].id, old);
}

static void add_server(void)
{
    unsigned slot = any_slot(/* taken= */ false);

    join(slot, /* same_address= */ false);
    add(slot);
    world->counts.meta_added++;
}

/* Not a member any more, it goes on for a while, as it does not know. */
static void remove_server(void)
{
    unsigned slot = any_slot(/* taken= */ true);
    struct meta_node *node = &world->metas[slot];

    wait_until_spared(slot);
    change(META_MEMBER_REMOVE, node->id, "");
    wait_ns(rng_below(&group.rng, 3 * NS_PER_S));
    lose(slot);
    trace("meta %u is removed", node->id);
    node->id = 0;
    world->counts.meta_removed++;
}

static void change_group(void)
{
    unsigned dice = any(100);

    if (dice < 15) {
        world->counts.transfers += transfer() == 0;
    } else if (dice < 60 && members() < world->meta_count) {
        add_server();
    } else if (dice < 60 && members() > 3) {
        remove_server();
    } else {
        replace_lost(any_slot(/* taken= */ true));
    }
}

static void operate(void *data)
{
    (void)data;
    while (!world->healed) {
        wait_ns(1 + rng_below(&group.rng, 2 * group.pause_ns));
        if (!world->healed) {
            change_group();
        }
    }
}

/* ---- its place in the run ---- */

void members_draw(void)
{
    rng_init(&group.rng, world->options.seed ^ UINT64_C(0x9809));
    group.last_id = world->meta_count;
    if (!rng_percent(&group.rng, 50)) {
        return;
    }
    world->meta_count += any(SIM_METAS_MAX - world->meta_count + 1); /* places that are free */
    group.identity = (struct rpc_identity){.role = RPC_ROLE_ADMIN};
    memcpy(group.identity.cluster_uuid, cluster_uuid, sizeof(cluster_uuid));
    group.pause_ns = NS_PER_S + rng_below(&group.rng, 15 * NS_PER_S);
    group.process = process_new(operate, NULL);
}

void members_run(void)
{
    if (group.process != NULL && !group.ended &&
        process_is_ready(group.process, sim_now(world->sim))) {
        group.ended = !process_run(group.process);
    }
}

uint64_t members_wake_ns(void)
{
    return group.process != NULL && !group.ended ? process_wake_ns(group.process) : UINT64_MAX;
}

bool members_ended(void)
{
    return group.process == NULL || group.ended;
}
