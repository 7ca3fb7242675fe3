/* Trouble: what goes wrong when. Everything is undone by faults_heal. */
#include "tests/sim/sim_world.h"

static struct {
    uint64_t next_ns;
    uint64_t pause_ns;               /* between two, on average */
    uint64_t back_ns[SIM_NODES_MAX]; /* when a dead node comes back */
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

static void comes_back(unsigned node)
{
    faults.back_ns[node] = sim_now(world->sim) + rng_below(&world->rng, 8 * NS_PER_S);
}

static void kill_meta(unsigned i)
{
    if (sim_up(world->sim, meta_node_of(i))) {
        meta_kill(i, any_kind());
        world->counts.meta_down++;
        comes_back(meta_node_of(i));
    }
}

static void kill_chunk(unsigned i)
{
    if (sim_up(world->sim, chunk_node_of(i))) {
        chunk_kill(i, any_kind());
        world->counts.chunk_down++;
        comes_back(chunk_node_of(i));
    }
}

static void kill_client(unsigned i)
{
    if (sim_up(world->sim, world->clients[i].node) && world->clients[i].mount != NULL) {
        client_kill(i, any_kind());
        world->counts.client_down++;
        comes_back(world->clients[i].node);
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

static void trouble(void)
{
    unsigned dice = any(100);

    if (dice < 40) {
        kill_meta(any(world->meta_count));
    } else if (dice < 75) {
        kill_chunk(any(world->chunk_count));
    } else if (dice < 90) {
        kill_client(any(world->client_count));
    } else if (dice < 95) {
        kill_all();
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

void faults_draw(void)
{
    faults.pause_ns = NS_PER_S / 2 + rng_below(&world->rng, 8 * NS_PER_S);
    faults.next_ns = sim_now(world->sim) + 2 * NS_PER_S;
}

uint64_t faults_wake_ns(void)
{
    uint64_t wake = world->healed ? UINT64_MAX : faults.next_ns;

    for (unsigned node = 0; node < SIM_NODES_MAX && !world->healed; node++) {
        wake = min_u64(wake, faults.back_ns[node] != 0 ? faults.back_ns[node] : UINT64_MAX);
    }
    return wake;
}

void faults_run(void)
{
    bring_back(/* all= */ false);
    if (sim_now(world->sim) >= faults.next_ns) {
        trouble();
        faults.next_ns = sim_now(world->sim) + 1 + rng_below(&world->rng, 2 * faults.pause_ns);
    }
}

void faults_heal(void)
{
    trace("everything is healed");
    sim_heal(world->sim);
    bring_back(/* all= */ true);
    world->healed = true;
}
