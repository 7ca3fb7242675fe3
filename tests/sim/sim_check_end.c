/*
 * The end of a run: trouble stops, everything comes back; every call must end, the replicas agree,
 * mounts close, and a mount that has seen nothing reads the whole volume: it is what the log says.
 */
#include "tests/sim/sim_kernel.h"

#include "base/assert.h"
#include "base/mem.h"
#include "cli/fsck_check.h"
#include "fs/mount.h"
#include "meta/kv.h"
#include "meta/record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

/* ---- replicas ---- */

static bool replicas_agree(void)
{
    const struct meta_server *first = cluster_leader();

    for (unsigned i = 0; first != NULL && i < world->meta_count; i++) {
        const struct meta_server *server = world->metas[i].server;

        if (world->metas[i].id == 0) {
            continue;
        }
        if (server->tree->applied_index != first->tree->applied_index) {
            return false;
        }
        if (server->tree->hash != first->tree->hash) {
            violation("state hash: replicas differ at index %" PRIu64, first->tree->applied_index);
        }
    }
    return first != NULL;
}

/* Whoever leads hears this chunk server. */
static bool is_heard(const struct meta_server *leader, unsigned chunk)
{
    for (unsigned i = 0; i < leader->server_count; i++) {
        if (leader->servers[i].info.id == chunk + 1) {
            return leader->servers[i].heard_ns + 15 * NS_PER_S >= env_now(leader->env);
        }
    }
    return false;
}

static bool chunks_heard(void)
{
    const struct meta_server *leader = cluster_leader();

    for (unsigned i = 0; leader != NULL && i < world->chunk_count; i++) {
        if (!is_heard(leader, i)) {
            return false;
        }
    }
    return leader != NULL;
}

/* ---- the whole volume ---- */

static void verify_file(struct program *program, struct knode *dir, const char *name,
                        const struct model_inode *inode)
{
    struct kfile file;
    int r = k_open(program->kernel, dir, name, O_RDONLY, &file);

    if (r < 0) {
        violation("durable: %s of directory %" PRIu64 " cannot be opened: %d", name, k_ino(dir), r);
    }
    for (uint64_t at = 0; at < inode->size;) {
        cleanup(buf_deinit) struct buf bytes = {0};
        int64_t got = k_read(program->kernel, &file, at, min_u64(MiB(1), inode->size - at), &bytes);

        if (got <= 0) {
            violation("durable: inode %" PRIu64 " cannot be read at %" PRIu64 " of %" PRIu64
                      ": %" PRId64,
                      inode->ino, at, inode->size, got);
        }
        for (size_t i = 0; i + SIM_CELL <= bytes.size; i += SIM_CELL) {
            uint64_t tag = model_tag(bytes.data + i);

            if (tag != model_cell(inode, (at + i) / SIM_CELL)) {
                violation("durable: inode %" PRIu64 " has %" PRIx64 " at %" PRIu64
                          ", the log says %" PRIx64,
                          inode->ino, tag, at + i, model_cell(inode, (at + i) / SIM_CELL));
            }
        }
        at += (uint64_t)got;
    }
    (void)k_close(program->kernel, &file);
}

static void verify_entry(struct program *program, struct knode *dir,
                         const struct model_entry *entry, struct buf *queue)
{
    const struct model_inode *inode = model_inode(&world->model, entry->ino);
    struct knode *node;
    struct meta_attr attr;
    int r = k_lookup(program->kernel, dir, entry->name, &node);

    if (r < 0 || k_ino(node) != entry->ino) {
        violation("durable: %s of directory %" PRIu64 " is gone: %d", entry->name, k_ino(dir), r);
    }
    r = k_stat(program->kernel, node, &attr);
    if (r < 0 || attr.mode != inode->mode || attr.nlink != inode->nlink ||
        attr.size != inode->size) {
        violation("durable: inode %" PRIu64 " has other attributes than the log says", inode->ino);
    }
    if (S_ISREG(inode->mode)) {
        verify_file(program, dir, entry->name, inode);
    }
    if (S_ISDIR(inode->mode)) {
        buf_append(queue, &node, sizeof(node)); /* held until it is walked */
    } else {
        k_put(program->kernel, node);
    }
}

static void verify_volume(void *data)
{
    struct program *program = data;
    cleanup(buf_deinit) struct buf queue = {0};
    struct knode *dir = k_root(program->kernel);
    size_t at = 0;

    program_begins(program, "verify");
    buf_append(&queue, &dir, sizeof(dir));
    while (at < queue.size) {
        const struct model_inode *inode;
        unsigned count;
        int r;

        memcpy(&dir, queue.data + at, sizeof(dir));
        at += sizeof(dir);
        inode = model_inode(&world->model, k_ino(dir));
        for (size_t i = 0; i < inode->entry_count; i++) {
            verify_entry(program, dir, &inode->entries[i], &queue);
        }
        r = k_readdir(program->kernel, dir, &count);
        if (r < 0 || count != inode->entry_count) {
            violation("durable: directory %" PRIu64 " lists %u names, the log says %zu", inode->ino,
                      count, inode->entry_count);
        }
        k_put(program->kernel, dir);
    }
    program_ends(program, 0);
}

/* ---- fsck ---- */

struct scan {
    struct store_scan scan;
    struct chunk_store *store;
    bool done;
};

static void on_scanned(struct store_scan *scan)
{
    container_of(scan, struct scan, scan)->done = true;
}

static void start_scan(void *data)
{
    struct scan *scan = data;

    store_scan_start(&scan->scan, scan->store);
}

static struct scan *scanning;

static bool scan_done(void)
{
    return scanning->done;
}

static void add_copies(struct fsck *fsck, struct chunk_node *node)
{
    struct scan scan = {.store = &node->server->store};

    scan.scan =
        (struct store_scan){.last_partition = UINT32_MAX, .max = 1000000, .released = on_scanned};
    scanning = &scan;
    sim_call(world->sim, chunk_node_of((unsigned)(node - world->chunks)), start_scan, &scan);
    world_run_until(scan_done, 60 * NS_PER_S, "alive: a chunk server does not list its chunks");
    if (scan.scan.op.result < 0 || !scan.scan.last) {
        violation("a chunk server cannot list its chunks: %d", scan.scan.op.result);
    }
    for (size_t at = 0; at < scan.scan.entries.size; at += sizeof(struct index_entry)) {
        struct index_entry entry;

        memcpy(&entry, scan.scan.entries.data + at, sizeof(entry));
        fsck_add_copy(fsck, entry.key.session, entry.key.seq);
    }
    buf_deinit(&scan.scan.entries);
}

static void read_records(struct fsck *fsck, struct meta_server *server)
{
    cleanup(buf_deinit) struct buf from = {0};
    struct slice key, value;

    buf_append_zero(&from, 1);
    while (kv_seek(server->ns.kv, buf_slice(&from), &key, &value)) {
        fsck_add_record(fsck, key, value);
        buf_clear(&from);
        buf_append_slice(&from, key);
        buf_append_zero(&from, 1);
    }
}

/* Returns the copies that are missing. */
static uint64_t fsck_once(bool final)
{
    struct fsck fsck;
    uint64_t missing;

    fsck_init(&fsck);
    for (unsigned i = 0; i < 2 && i < 1; i++) {
        read_records(&fsck, cluster_leader());
    }
    for (unsigned i = 0; i < world->chunk_count; i++) {
        add_copies(&fsck, &world->chunks[i]);
    }
    fsck_finish(&fsck, 3);
    if (fsck.problem_count > 0) {
        violation("fsck: %s (%zu problems)", fsck.problems[0].text, fsck.problem_count);
    }
    if (final && fsck.orphans > 0) {
        violation("fsck: %" PRIu64 " orphans are left on a volume that nobody uses", fsck.orphans);
    }
    missing = fsck.missing_copies;
    fsck_deinit(&fsck);
    return missing;
}

/* ---- locks ---- */

static bool has_record(const struct meta_server *server, struct record_key from)
{
    struct slice key, value;

    return kv_seek(server->ns.kv, record_slice(&from), &key, &value) &&
           record_key_is(key, (char)from.bytes[0]);
}

/* All files are closed: nobody has a lock, or waits for one, here or there. */
static bool no_locks(void)
{
    const struct meta_server *leader = cluster_leader();

    for (unsigned i = 0; i < world->client_count; i++) {
        const struct mount *mount = world->clients[i].mount;

        if (mount != NULL &&
            (mount->locks.files.count != 0 || !list_empty(&mount->locks.queue) ||
             !list_empty(&mount->locks.in_line) || !list_empty(&mount->locks.later))) {
            return false;
        }
    }
    return leader != NULL && !has_record(leader, record_key_locks(0)) &&
           !has_record(leader, record_key_locked(0, 0)) &&
           !has_record(leader, record_key_lock_wait(0, 0, 0));
}

/* ---- all ---- */

static bool client_ready(void)
{
    return world->clients[SIM_CLIENTS_MAX].ready;
}

static bool has_leader(void)
{
    return cluster_leader() != NULL;
}

void check_end(void)
{
    uint64_t missing = UINT64_MAX;

    faults_heal();
    world->stopping = true;
    world_run_until(programs_ended, SIM_ALIVE_NS + 10 * NS_PER_S, "alive: a program does not end");
    world_run_until(members_ended, 2 * SIM_ALIVE_NS, "alive: the metadata group does not change");
    world_run_until(no_locks, SIM_ALIVE_NS, "locks: one is left that nobody has");
    clients_close();
    client_start(SIM_CLIENTS_MAX);
    world_run_until(client_ready, SIM_ALIVE_NS, "alive: a new mount does not start");
    program_start(&world->clients[SIM_CLIENTS_MAX], verify_volume);
    world_run_until(programs_ended, 10 * SIM_ALIVE_NS, "alive: the volume cannot be read");
    appends_check_end();
    clients_close();
    world_run(sim_now(world->sim) + 15 * NS_PER_S); /* sessions of the dead expire */
    world_run_until(has_leader, SIM_ALIVE_NS, "alive: no leader");
    for (unsigned tries = 0; tries < 20 && missing > 0; tries++) {
        world_run(sim_now(world->sim) + 15 * NS_PER_S);
        missing = fsck_once(/* final= */ tries > 0);
    }
    if (missing > 0) {
        violation("fsck: %" PRIu64 " copies of chunks are still missing after quiet", missing);
    }
    world_run_until(chunks_heard, SIM_ALIVE_NS, "alive: a chunk server is not heard");
    world_run_until(replicas_agree, SIM_ALIVE_NS, "alive: a replica stays behind");
    for (unsigned i = 0; i < world->chunk_count; i++) {
        chunk_gone(i);
    }
}
