/* Trouble: what goes wrong when. Everything is undone by faults_heal. */
#include "tests/sim/sim_world.h"

static struct {
    uint64_t next_ns;
    uint64_t pause_ns;               /* between two, on average */
    uint64_t back_ns[SIM_NODES_MAX]; /* when a dead node comes back */
    uint64_t join_ns;                /* when cut and slow links are good again */
    unsigned kinds;                  /* of trouble: the first so many hundredths */
    bool elections;                  /* only the metadata servers, and often */
} faults;

static unsigned any(unsigned count)
{
    return (unsigned)rng_below(&world->rng, count);
}

static enum sim_crash_kind any_kind(void)
{
    bool power = rng_percent(&world->rng, 50);

    world->counts.powers += power;
    world->counts.kills += !power;
    return power ? SIM_POWER : SIM_KILL;
}

void faults_comes_back(unsigned node)
{
    faults.back_ns[node] = sim_now(world->sim) +
                           rng_below(&world->rng, faults.elections ? NS_PER_S / 2 : 8 * NS_PER_S);
}

void faults_stays_down(unsigned node)
{
    faults.back_ns[node] = 0;
}

static void kill_meta(unsigned i)
{
    if (sim_up(world->sim, meta_node_of(i))) {
        meta_kill(i, any_kind());
        world->counts.meta_down++;
        faults_comes_back(meta_node_of(i));
    }
}

static void kill_chunk(unsigned i)
{
    if (sim_up(world->sim, chunk_node_of(i))) {
        chunk_kill(i, any_kind());
        world->counts.chunk_down++;
        faults_comes_back(chunk_node_of(i));
    }
}

static void kill_client(unsigned i)
{
    if (sim_up(world->sim, world->clients[i].node) && world->clients[i].mount != NULL) {
        client_kill(i, any_kind());
        world->counts.client_down++;
        faults_comes_back(world->clients[i].node);
    }
}

static void kill_all(void)
{
    for (unsigned i = 0; i < world->meta_count; i++) {
        kill_meta(i);
    }
    for (unsigned i = 0; i < world->chunk_count; i++) {
        kill_chunk(i);
    }
}

/* ---- the network ---- */

static unsigned nodes_used(void)
{
    return world->meta_count + world->chunk_count + world->client_count;
}

/* Some on one side, the others on the other; also within one kind of server, and one way. */
static void partition(unsigned nodes)
{
    uint64_t side = rng_next(&world->rng);
    bool one_way = rng_percent(&world->rng, 40);
    unsigned percent = rng_percent(&world->rng, 50) ? 100 : 30; /* or only some of the links */

    for (unsigned i = 0; i < nodes; i++) {
        for (unsigned k = 0; k < nodes; k++) {
            if ((side >> i & 1) && !(side >> k & 1) && rng_percent(&world->rng, percent)) {
                sim_cut(world->sim, i, k, true);
                sim_cut(world->sim, k, i, !one_way);
            }
        }
    }
    world->counts.cuts++;
    world->counts.one_way_cuts += one_way;
    trace("partition side=%x one_way=%d percent=%u", (unsigned)side & ((1u << nodes) - 1), one_way,
          percent);
    faults.join_ns = sim_now(world->sim) +
                     rng_below(&world->rng, faults.elections ? 2 * NS_PER_S : 15 * NS_PER_S);
}

static void join(void)
{
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        for (unsigned k = 0; k < SIM_NODES_MAX; k++) {
            sim_cut(world->sim, i, k, false);
            sim_slow(world->sim, i, k, 0);
        }
    }
    faults.join_ns = 0;
    trace("partition ends");
}

static void slow_link(void)
{
    unsigned from = any(nodes_used()), to = any(nodes_used());
    uint64_t extra = rng_below(&world->rng, NS_PER_S);

    sim_slow(world->sim, from, to, extra);
    world->counts.slow_links++;
    trace("slow link %u to %u by %u ms", from, to, (unsigned)(extra / NS_PER_MS));
    faults.join_ns = sim_now(world->sim) + rng_below(&world->rng, 15 * NS_PER_S);
}

/* ---- time ---- */

static void pause_one(void)
{
    static const uint64_t most[] = {10 * NS_PER_MS, 300 * NS_PER_MS, 2 * NS_PER_S, 60 * NS_PER_S};
    unsigned node = any(nodes_used());
    uint64_t length = NS_PER_MS + rng_below(&world->rng, most[any(ARRAY_SIZE(most))]);

    if (rng_percent(&world->rng, 30)) { /* a mount, for longer than its session lasts */
        node = world->meta_count + world->chunk_count + any(world->client_count);
        length = META_LEASE_NS + META_LEASE_GRACE_NS + rng_below(&world->rng, 20 * NS_PER_S);
    }
    if (sim_up(world->sim, node)) {
        sim_pause(world->sim, node, sim_now(world->sim) + length);
        world->counts.pauses++;
        world->counts.long_pauses += length > 10 * NS_PER_S;
        trace("pause node %u for %u ms", node, (unsigned)(length / NS_PER_MS));
    }
}

static void jump_wall(void)
{
    unsigned node = any(nodes_used());
    int64_t by = (int64_t)rng_below(&world->rng, 7200 * NS_PER_S) - (int64_t)(3600 * NS_PER_S);

    sim_jump_wall(world->sim, node, by);
    world->counts.wall_jumps++;
    trace("wall clock of node %u jumps by %d s", node, (int)(by / (int64_t)NS_PER_S));
}

static void draw_clocks(void)
{
    int most = rng_percent(&world->rng, 50) ? 500 : 50000; /* ppm: ordinary ones, broken ones */

    for (unsigned node = 0; node < SIM_NODES_MAX; node++) {
        if (rng_percent(&world->rng, 70)) {
            sim_set_clock(world->sim, node, rng_below(&world->rng, 1000 * NS_PER_S),
                          (int)any(2 * (unsigned)most + 1) - most);
            world->counts.clocks_off++;
        }
    }
}

/* ---- what comes when ---- */

/* Servers that ended themselves, because their disk failed. */
static void notice_dead(void)
{
    for (unsigned node = 0; node < world->meta_count + world->chunk_count; node++) {
        if (!sim_died(world->sim, node) || faults.back_ns[node] != 0) {
            continue;
        }
        if (!faults_excuse(node)) {
            violation("node %u has ended itself", node);
        }
        world->counts.died++;
        trace("node %u has ended itself", node);
        if (node < world->meta_count) {
            world->metas[node].server = NULL;
        } else {
            chunk_gone(node - world->meta_count);
        }
        faults_comes_back(node);
    }
}

/* Leaders fall before they are settled; votes are split; everybody forgets what is not on disk. */
static void election_trouble(void)
{
    unsigned dice = any(100);

    if (dice < 60) {
        kill_meta(any(world->meta_count));
    } else if (dice < 70) {
        for (unsigned i = 0; i < world->meta_count; i++) {
            kill_meta(i);
        }
    } else if (dice < 90) {
        partition(world->meta_count);
    } else {
        join();
    }
}

static void trouble(void)
{
    unsigned dice = any(faults.kinds);

    if (faults.elections) {
        election_trouble();
        return;
    }

    if (dice < 30) {
        kill_meta(any(world->meta_count));
    } else if (dice < 55) {
        kill_chunk(any(world->chunk_count));
    } else if (dice < 65) {
        kill_client(any(world->client_count));
    } else if (dice < 70) {
        kill_all();
    } else if (dice < 85) {
        partition(nodes_used());
    } else if (dice < 90) {
        slow_link();
    } else if (dice < 105) {
        pause_one();
    } else if (dice < 110) {
        jump_wall();
    } else {
        disks_trouble();
    }
}

static void bring_back(bool all)
{
    for (unsigned node = 0; node < SIM_NODES_MAX; node++) {
        unsigned first_client = world->meta_count + world->chunk_count;

        if (faults.back_ns[node] == 0 || (!all && faults.back_ns[node] > sim_now(world->sim))) {
            continue;
        }
        faults.back_ns[node] = 0;
        sim_restart(world->sim, node);
        world->counts.restarts++;
        if (node < world->meta_count) {
            meta_start(node);
        } else if (node < first_client) {
            chunk_start(node - world->meta_count);
        } else if (!all) {
            client_start(node - first_client);
        }
    }
}

/* Chunk servers that are not there at the start come in quick succession, in a cluster in use. */
static void draw_joins(void)
{
    uint64_t at = sim_now(world->sim) + rng_below(&world->rng, 60 * NS_PER_S);
    bool late = rng_percent(&world->rng, 50);

    for (unsigned i = world->map_servers; late && i < world->chunk_count; i++) {
        sim_crash(world->sim, chunk_node_of(i), SIM_KILL);
        at += rng_below(&world->rng, 5 * NS_PER_S);
        faults.back_ns[chunk_node_of(i)] = at;
        world->counts.joins++;
    }
}

void faults_draw(void)
{
    faults.pause_ns = NS_PER_S / 2 + rng_below(&world->rng, 8 * NS_PER_S);
    faults.next_ns = sim_now(world->sim) + 2 * NS_PER_S;
    faults.kinds = rng_percent(&world->rng, 30) ? 70 : 125;
    faults.elections = rng_percent(&world->rng, 15);
    if (faults.elections) {
        faults.pause_ns = 50 * NS_PER_MS + rng_below(&world->rng, 400 * NS_PER_MS);
    }
    draw_clocks();
    disks_draw();
    draw_joins();
    if (rng_percent(&world->rng, 60)) {
        sim_faults(world->sim)->reset_per_million = any(500);
        sim_faults(world->sim)->net_slow_percent = any(5);
        sim_faults(world->sim)->disk_slow_percent = any(5);
    }
}

uint64_t faults_wake_ns(void)
{
    uint64_t wake = world->healed ? UINT64_MAX : faults.next_ns;

    if (!world->healed && faults.join_ns != 0) {
        wake = min_u64(wake, faults.join_ns);
    }

    for (unsigned node = 0; node < SIM_NODES_MAX && !world->healed; node++) {
        wake = min_u64(wake, faults.back_ns[node] != 0 ? faults.back_ns[node] : UINT64_MAX);
    }
    return wake;
}

void faults_notice(void)
{
    static uint64_t noticed;

    if (!world->healed && sim_deaths(world->sim) != noticed) {
        noticed = sim_deaths(world->sim);
        notice_dead();
    }
}

void faults_run(void)
{
    bring_back(/* all= */ false);
    if (faults.join_ns != 0 && sim_now(world->sim) >= faults.join_ns) {
        join();
    }
    if (sim_now(world->sim) >= faults.next_ns) {
        trouble();
        faults.next_ns = sim_now(world->sim) + 1 + rng_below(&world->rng, 2 * faults.pause_ns);
    }
}

void faults_heal(void)
{
    trace("everything is healed");
    sim_heal(world->sim);
    world->counts.resets += sim_faults(world->sim)->resets_met;
    sim_faults(world->sim)->reset_per_million = 0;
    disks_heal();
    notice_dead();
    bring_back(/* all= */ true);
    world->healed = true;
    world->healed_ns = sim_now(world->sim);
}
