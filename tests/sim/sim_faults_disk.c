/* Trouble with disks, and its atlas. */
#include "tests/sim/sim_world.h"

static unsigned any(unsigned count)
{
    return (unsigned)rng_below(&world->rng, count);
}

static struct sim_disk_faults *disk_of(unsigned node)
{
    return sim_disk_faults(world->sim, node);
}

/* The atlas: one chunk server may lose or spoil what it holds, at any time; no other ever does. So
 * of two durable copies one is good. Metadata servers and the others only fail loudly. */
void disks_draw(void)
{
    world->bad_chunk = world->chunk_count;
    if (rng_percent(&world->rng, 50)) {
        return;
    }
    for (unsigned node = 0; node < world->meta_count + world->chunk_count; node++) {
        struct sim_disk_faults *disk = disk_of(node);

        if (rng_percent(&world->rng, 50)) {
            disk->write_errors = any(300);
            disk->sync_errors = any(1000);
            disk->failed_sync_cleans = 50;
        }
        if (node >= world->meta_count && rng_percent(&world->rng, 50)) {
            disk->read_errors = any(2000);
        }
    }
    if (rng_percent(&world->rng, 60)) {
        struct sim_disk_faults *disk;

        world->bad_chunk = any(world->chunk_count);
        disk = disk_of(chunk_node_of(world->bad_chunk));
        disk->spoil_prefix = "/segment-";
        disk->lost_writes = any(10000);
        disk->misdirected_writes = any(10000);
    }
}

bool faults_excuse(unsigned node)
{
    const struct sim_disk_faults *disk;

    if (node >= SIM_NODES_MAX) {
        return false;
    }
    disk = disk_of(node);
    return disk->read_errors_met + disk->write_errors_met + disk->sync_errors_met + disk->lost_met +
               disk->misdirected_met + disk->no_space_met + disk->rotted >
           0;
}

static void rot(void)
{
    unsigned bits = 1 + any(20);

    while (world->bad_chunk < world->chunk_count && bits-- > 0 &&
           sim_rot(world->sim, chunk_node_of(world->bad_chunk), "/segment-")) {
        trace("a bit rots on chunk %u", world->bad_chunk + 1);
    }
}

static void wipe(void)
{
    unsigned node = chunk_node_of(world->bad_chunk);

    if (world->bad_chunk == world->chunk_count || !sim_up(world->sim, node)) {
        return;
    }
    chunk_kill(world->bad_chunk, SIM_POWER);
    sim_wipe(world->sim, node);
    faults_comes_back(node);
    world->counts.wipes++;
    trace("the disk of chunk %u is replaced", world->bad_chunk + 1);
}

/* A chunk server's disk has no room for a while, or soon has not. */
static void fill_one(unsigned node)
{
    uint64_t used = sim_disk_used(world->sim, node);

    disk_of(node)->bytes_max = used + 1 + rng_below(&world->rng, used / 2 + KiB(64));
    world->lossy = true;
    world->counts.full_disks++;
    trace("the disk of node %u is full", node);
}

/* One, or all of them: programs are told ENOSPC. */
static void fill(void)
{
    unsigned first = any(world->chunk_count);
    unsigned count = rng_percent(&world->rng, 50) ? world->chunk_count : 1;
    bool full = disk_of(chunk_node_of(first))->bytes_max != 0;

    for (unsigned i = 0; i < count; i++) {
        unsigned node = chunk_node_of((first + i) % world->chunk_count);

        if (full) {
            disk_of(node)->bytes_max = 0;
            trace("the disk of node %u has room again", node);
        } else {
            fill_one(node);
        }
    }
}

void disks_trouble(void)
{
    unsigned dice = any(100);

    if (dice < 45) {
        rot();
    } else if (dice < 65) {
        wipe();
    } else {
        fill();
    }
}

void disks_heal(void)
{
    for (unsigned node = 0; node < SIM_NODES_MAX; node++) {
        struct sim_disk_faults *disk = disk_of(node);

        world->counts.read_errors += disk->read_errors_met;
        world->counts.write_errors += disk->write_errors_met;
        world->counts.sync_errors += disk->sync_errors_met;
        world->counts.no_space += disk->no_space_met;
        world->counts.torn_files += disk->torn_files;
        world->counts.lost_names += disk->lost_names;
        world->counts.rot += disk->rotted;
        world->counts.lost_writes += disk->lost_met;
        world->counts.misdirected_writes += disk->misdirected_met;
        disk->read_errors = disk->write_errors = disk->sync_errors = 0;
        disk->lost_writes = disk->misdirected_writes = 0;
        disk->bytes_max = 0;
    }
}
