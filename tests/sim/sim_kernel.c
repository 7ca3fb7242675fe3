/*
 * Calls, nodes, names. A name or attributes may be used for as long as the mount has said, by the
 * client's own clock; INC_EPOCH makes all names stale, also those whose lookup is on its way.
 */
#include "tests/sim/sim_kernel_internal.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "fs/coherence.h"
#include "fs/local.h"
#include "fs/mount.h"

#include <errno.h>
#include <fcntl.h>

/* ---- calls ---- */

uint64_t kernel_now(const struct kernel *kernel)
{
    return env_now(sim_env(world->sim, kernel->client->node));
}

static void on_done(struct fs_call *call)
{
    struct waiting *waiting = container_of(call, struct waiting, call);

    waiting->done = true;
    waiting->kernel->client->returning++;
    waiting->timeout_ns = coherence_timeout(call->mount);
    buf_append_slice(&waiting->out, call->out);
    if (call->op == FS_OPEN && call->error == 0 && call->pages.size != 0) {
        pages_store(map_get(&waiting->kernel->nodes, map_u64(call->ino)), call->pages);
        call->keep_cache = true;
    }
    if (call->op == FS_READDIR && call->error == 0 && waiting->timeout_ns > 0) {
        struct inode *inode = inode_find(call->mount, call->ino);

        if (inode != NULL) {
            local_note_entries(call->mount, inode, call->meta.request.offset, call->out, call->end);
        }
    }
    if (call->op == FS_LOCK && call->error == 0) {
        waiting->lock_session = locks_granted(waiting->kernel->client, call->ino, &call->lock);
    }
    process_ready(waiting->process);
}

static void start_call(void *data)
{
    fs_call_start(&((struct waiting *)data)->call);
}

static void cancel_call(void *data)
{
    fs_call_cancel(&((struct waiting *)data)->call);
}

/* A signal that kills: the call is to end at once. */
static void interrupt(struct waiting *waiting)
{
    world->counts.interrupts++;
    sim_call(world->sim, waiting->kernel->client->node, cancel_call, waiting);
}

/* The client's node code runs between two events, as everything of a node does. */
void ask_begin(struct waiting *waiting, struct kernel *kernel)
{
    waiting->kernel = kernel;
    waiting->process = process_self();
    waiting->epoch = kernel->epoch;
    waiting->version = kernel->version;
    waiting->call.mount = kernel->client->mount;
    waiting->call.done = on_done;
    sim_call(world->sim, kernel->client->node, start_call, waiting);
}

int ask_end(struct waiting *waiting)
{
    while (!waiting->done) {
        if (waiting->dropping) {
            drop_pages(waiting);
        } else {
            process_wait();
        }
    }
    waiting->kernel->client->returning--;
    witness_returned(waiting->call.meta.reply.index);
    world->counts.calls++;
    world->counts.errors += waiting->call.error != 0;
    return -waiting->call.error;
}

int ask(struct waiting *waiting, struct kernel *kernel)
{
    bool interrupts = !world->healed && rng_percent(&world->rng, waiting->call.lock_wait ? 10 : 1);

    ask_begin(waiting, kernel);
    if (interrupts && !waiting->done) {
        process_wait_until(sim_now(world->sim) + rng_below(&world->rng, NS_PER_S));
        if (!waiting->done) {
            interrupt(waiting);
        }
    }
    return ask_end(waiting);
}

/* ---- nodes ---- */

struct knode *node_get(struct kernel *kernel, uint64_t ino)
{
    struct knode *node = map_get(&kernel->nodes, map_u64(ino));

    if (node == NULL) {
        node = mem_zalloc(sizeof(*node));
        node->ino = ino;
        map_put(&kernel->nodes, map_u64(ino), node);
    }
    node->refs++;
    return node;
}

void node_take_attr(struct kernel *kernel, struct knode *node, const struct waiting *waiting)
{
    if (node->attr_version > waiting->version) {
        return;
    }
    node->attr = waiting->call.attr;
    node->attr_until_ns = kernel_now(kernel) + waiting->timeout_ns;
}

void node_forget_attr(struct kernel *kernel, struct knode *node)
{
    node->attr_version = ++kernel->version;
    node->attr_until_ns = 0;
}

struct knode *node_known(struct kernel *kernel, const struct waiting *waiting)
{
    struct knode *node = node_get(kernel, waiting->call.attr.ino);

    node->lookups++;
    node->mode = waiting->call.attr.mode;
    node_take_attr(kernel, node, waiting);
    return node;
}

struct forgetting {
    struct mount *mount;
    uint64_t ino, count;
};

static void forget(void *data)
{
    struct forgetting *forgetting = data;
    struct inode *inode = inode_find(forgetting->mount, forgetting->ino);

    if (inode != NULL) {
        inode->lookups -= min_u64(inode->lookups, forgetting->count);
        inode_release(forgetting->mount, inode);
    }
}

static void node_evict(struct kernel *kernel, struct knode *node)
{
    struct forgetting forgetting = {kernel->client->mount, node->ino, node->lookups};

    map_remove(&kernel->nodes, map_u64(node->ino));
    pages_drop(node, 0);
    map_deinit(&node->pages);
    mem_free(node);
    sim_call(world->sim, kernel->client->node, forget, &forgetting);
}

void k_put(struct kernel *kernel, struct knode *node)
{
    ASSERT(node->refs > 0);
    node->refs--;
    if (node->refs == 0 && node->ino != META_ROOT_INO && rng_percent(&world->rng, 5)) {
        node_evict(kernel, node);
    }
}

struct knode *k_root(struct kernel *kernel)
{
    return node_get(kernel, META_ROOT_INO);
}

uint64_t k_ino(const struct knode *node)
{
    return node->ino;
}

/* ---- names ---- */

static struct map_key key_of(uint64_t dir, const char *name)
{
    return (struct map_key){dir, hash_bytes((struct hash_key){3, 5}, slice_text(name))};
}

static void entry_drop(struct kernel *kernel, const struct knode *dir, const char *name)
{
    mem_free(map_remove(&kernel->entries, key_of(dir->ino, name)));
}

/* ino 0: it is not there. */
static void entry_set(struct kernel *kernel, const struct knode *dir, const char *name,
                      uint64_t ino, const struct waiting *waiting)
{
    struct kdentry *entry = mem_zalloc(sizeof(*entry));

    entry->dir = dir->ino;
    snprintf(entry->name, sizeof(entry->name), "%s", name);
    entry->ino = ino;
    entry->until_ns = kernel_now(kernel) + waiting->timeout_ns;
    entry->epoch = waiting->epoch;
    mem_free(map_put(&kernel->entries, key_of(dir->ino, name), entry));
}

/* A name that may be used without asking. */
static const struct kdentry *entry_valid(const struct kernel *kernel, const struct knode *dir,
                                         const char *name)
{
    const struct kdentry *entry = map_get(&kernel->entries, key_of(dir->ino, name));

    if (entry == NULL || entry->epoch != kernel->epoch || kernel_now(kernel) >= entry->until_ns ||
        (entry->ino != 0 && map_get(&kernel->nodes, map_u64(entry->ino)) == NULL)) {
        return NULL;
    }
    return entry;
}

static int lookup_cached(struct kernel *kernel, const struct knode *dir,
                         const struct kdentry *entry, struct knode **out_node)
{
    struct knode *node = entry->ino != 0 ? node_get(kernel, entry->ino) : NULL;

    world->counts.cached_names++;
    check_cached_name(kernel->client, dir->ino, entry->name, entry->ino);
    if (node == NULL) {
        return -ENOENT;
    }
    *out_node = node;
    return 0;
}

static int lookup(struct kernel *kernel, struct knode *dir, const char *name,
                  struct knode **out_node)
{
    struct waiting waiting = {.call = {.op = FS_LOOKUP, .ino = dir->ino, .name = slice_text(name)}};
    int r;

    node_lock_shared(dir); /* no name comes or goes meanwhile */
    r = ask(&waiting, kernel);
    buf_deinit(&waiting.out);
    if (waiting.call.meta.request.op == META_OP_NONE && (r == 0 || r == -ENOENT)) {
        promise_made(kernel->client, dir->ino, name, r, &waiting.call.attr);
    }
    if (r == 0) {
        *out_node = node_known(kernel, &waiting);
        entry_set(kernel, dir, name, (*out_node)->ino, &waiting);
    } else if (r == -ENOENT) {
        entry_set(kernel, dir, name, 0, &waiting);
    }
    node_unlock_shared(dir);
    return r;
}

int k_lookup(struct kernel *kernel, struct knode *dir, const char *name, struct knode **out_node)
{
    const struct kdentry *entry = entry_valid(kernel, dir, name);

    return entry != NULL ? lookup_cached(kernel, dir, entry, out_node)
                         : lookup(kernel, dir, name, out_node);
}

int k_stat(struct kernel *kernel, struct knode *node, struct meta_attr *out_attr)
{
    struct waiting waiting = {.call = {.op = FS_GETATTR, .ino = node->ino}};
    uint64_t floor = witness_known();
    int r;

    pages_drop_due(kernel, node);
    if (kernel_now(kernel) < node->attr_until_ns) {
        world->counts.cached_attrs++;
        check_cached_attr(kernel->client, &node->attr, floor);
        *out_attr = node->attr;
        return 0;
    }
    r = ask(&waiting, kernel);
    if (r == 0) {
        node_take_attr(kernel, node, &waiting);
    }
    if (r == 0 && waiting.call.meta.request.op == META_OP_NONE) {
        promise_made(kernel->client, /* dir= */ 0, /* name= */ NULL, r, &waiting.call.attr);
    }
    buf_deinit(&waiting.out);
    *out_attr = waiting.call.attr;
    return r;
}

/* A new name in one directory. Whatever comes of it, what was known of the name is not any more. */
static int make_name(struct kernel *kernel, struct knode *dir, struct waiting *waiting,
                     const char *name)
{
    int r;

    node_lock(dir);
    waiting->call.ino = dir->ino;
    waiting->call.name = slice_text(name);
    r = ask(waiting, kernel);
    entry_drop(kernel, dir, name);
    node_forget_attr(kernel, dir);
    if (r == 0) {
        struct knode *node = node_known(kernel, waiting);

        entry_set(kernel, dir, name, node->ino, waiting);
        k_put(kernel, node);
    }
    node_unlock(dir);
    buf_deinit(&waiting->out);
    return r;
}

/* Does the name still lead to the node (NULL: to nothing)? Asked with the directory locked, where
 * the kernel looks names up. */
static bool still_leads(const struct kernel *kernel, const struct knode *dir, const char *name,
                        const struct knode *node)
{
    const struct kdentry *entry = map_get(&kernel->entries, key_of(dir->ino, name));

    return entry != NULL && entry->ino == (node != NULL ? node->ino : 0);
}

/* Locks the directory and what the name leads to, as vfs_unlink and vfs_rmdir do. */
static int remove_name(struct kernel *kernel, struct knode *dir, struct waiting *waiting,
                       const char *name)
{
    struct knode *victim;
    struct knode *nodes[LOCKS_MAX] = {dir};
    int r = k_lookup(kernel, dir, name, &victim);

    if (r < 0) {
        return r;
    }
    nodes[1] = victim;
    nodes_lock(nodes);
    r = -EAGAIN; /* the program may try again */
    if (still_leads(kernel, dir, name, victim)) {
        waiting->call.ino = dir->ino;
        waiting->call.name = slice_text(name);
        r = ask(waiting, kernel);
        entry_drop(kernel, dir, name);
        node_forget_attr(kernel, dir);
        node_forget_attr(kernel, victim);
    }
    nodes_unlock(nodes);
    k_put(kernel, victim);
    buf_deinit(&waiting->out);
    return r;
}

int k_mkdir(struct kernel *kernel, struct knode *dir, const char *name)
{
    struct waiting waiting = {.call = {.op = FS_MKDIR, .mode = 0755}};

    return make_name(kernel, dir, &waiting, name);
}

int k_symlink(struct kernel *kernel, struct knode *dir, const char *name, const char *target)
{
    struct waiting waiting = {.call = {.op = FS_SYMLINK, .name2 = slice_text(target)}};

    return make_name(kernel, dir, &waiting, name);
}

int k_link(struct kernel *kernel, struct knode *node, struct knode *dir, const char *name)
{
    struct waiting waiting = {.call = {.op = FS_LINK, .ino2 = node->ino}};
    int r = make_name(kernel, dir, &waiting, name);

    if (r < 0) {
        node_forget_attr(kernel, node);
    }
    return r;
}

int k_unlink(struct kernel *kernel, struct knode *dir, const char *name)
{
    struct waiting waiting = {.call = {.op = FS_UNLINK}};

    return remove_name(kernel, dir, &waiting, name);
}

int k_rmdir(struct kernel *kernel, struct knode *dir, const char *name)
{
    struct waiting waiting = {.call = {.op = FS_RMDIR}};

    return remove_name(kernel, dir, &waiting, name);
}

static void forget_named(struct kernel *kernel, const struct knode *dir, const char *name)
{
    const struct kdentry *entry = map_get(&kernel->entries, key_of(dir->ino, name));
    struct knode *node = entry != NULL ? map_get(&kernel->nodes, map_u64(entry->ino)) : NULL;

    if (node != NULL) {
        node_forget_attr(kernel, node);
    }
    entry_drop(kernel, dir, name);
}

int k_rename(struct kernel *kernel, struct knode *dir, const char *name, struct knode *new_dir,
             const char *new_name, uint32_t flags)
{
    struct waiting waiting = {.call = {.op = FS_RENAME,
                                       .ino = dir->ino,
                                       .name = slice_text(name),
                                       .ino2 = new_dir->ino,
                                       .name2 = slice_text(new_name),
                                       .flags = flags}};
    struct knode *moved = NULL, *victim = NULL;
    struct knode *nodes[LOCKS_MAX] = {dir, new_dir};
    int r = k_lookup(kernel, dir, name, &moved);

    if (r < 0) {
        return r;
    }
    r = k_lookup(kernel, new_dir, new_name, &victim);
    nodes[2] = moved;
    nodes[3] = victim;
    if (r == 0 || r == -ENOENT) {
        nodes_lock(nodes);
        r = -EAGAIN;
        if (still_leads(kernel, dir, name, moved) &&
            still_leads(kernel, new_dir, new_name, victim)) {
            r = ask(&waiting, kernel);
            forget_named(kernel, dir, name);
            forget_named(kernel, new_dir, new_name);
            node_forget_attr(kernel, dir);
            node_forget_attr(kernel, new_dir);
        }
        nodes_unlock(nodes);
    }
    k_put(kernel, moved);
    if (victim != NULL) {
        k_put(kernel, victim);
    }
    buf_deinit(&waiting.out);
    return r;
}

/* READDIRPLUS: each entry is a lookup. */
struct listing {
    struct kernel *kernel;
    struct knode *dir;
    const struct waiting *waiting;
    struct meta_dirent dirent;
};

static void take_listed(void *data)
{
    struct listing *listing = data;
    struct mount *mount = listing->kernel->client->mount;
    struct waiting reply = *listing->waiting;
    struct inode *inode;

    if (listing->dirent.attr.size == 0 ||
        meta_attr_decode(&reply.call.attr, listing->dirent.attr) < 0) {
        return;
    }
    inode = inode_make(mount, reply.call.attr.ino);
    inode_ref(mount, inode);
    inode_update(mount, inode, &reply.call.attr, false);
    (void)node_known(listing->kernel, &reply);
}

static void list_entry_found(struct listing *listing)
{
    char name[MODEL_NAME_MAX] = {0};
    struct knode *node;

    memcpy(name, listing->dirent.name.data, min_u64(listing->dirent.name.size, sizeof(name) - 1));
    sim_call(world->sim, listing->kernel->client->node, take_listed, listing);
    node = map_get(&listing->kernel->nodes, map_u64(listing->dirent.ino));
    if (node != NULL && listing->dirent.attr.size != 0) {
        entry_set(listing->kernel, listing->dir, name, node->ino, listing->waiting);
        k_put(listing->kernel, node);
    }
}

int k_readdir(struct kernel *kernel, struct knode *dir, unsigned *out_count)
{
    uint64_t cookie = 0;
    bool end = false;
    int r = 0;

    *out_count = 0;
    while (r == 0 && !end) {
        struct waiting waiting = {
            .call = {.op = FS_READDIR, .ino = dir->ino, .offset = cookie, .size = 256}};
        struct listing listing = {.kernel = kernel, .dir = dir, .waiting = &waiting};
        struct schema_reader reader;

        node_lock_shared(dir);
        r = ask(&waiting, kernel);
        end = waiting.call.end;
        reader = schema_reader_make(buf_slice(&waiting.out));
        while (r == 0 && reader.at < reader.end) {
            if (meta_dirent_decode(&listing.dirent, schema_read_bytes(&reader, META_BODY_MAX)) <
                0) {
                violation("a directory entry cannot be decoded");
            }
            cookie = listing.dirent.cookie;
            list_entry_found(&listing);
            ++*out_count;
        }
        node_unlock_shared(dir);
        buf_deinit(&waiting.out);
    }
    return r;
}

int create_known(struct kernel *kernel, struct knode *dir, const char *name, uint32_t flags,
                 struct knode **out_node)
{
    struct waiting waiting = {
        .call = {.op = FS_CREATE, .mode = 0644, .open_flags = flags & ~(uint32_t)O_TRUNC}};
    int r;

    node_lock(dir);
    waiting.call.ino = dir->ino;
    waiting.call.name = slice_text(name);
    r = ask(&waiting, kernel);
    entry_drop(kernel, dir, name);
    node_forget_attr(kernel, dir);
    if (r == 0) {
        *out_node = node_known(kernel, &waiting);
        entry_set(kernel, dir, name, (*out_node)->ino, &waiting);
    }
    node_unlock(dir);
    buf_deinit(&waiting.out);
    if (r == 0 && !waiting.call.keep_cache) {
        pages_invalidate(*out_node);
    }
    return r;
}

int k_statfs(struct kernel *kernel)
{
    struct waiting waiting = {.call = {.op = FS_STATFS, .ino = META_ROOT_INO}};
    int r = ask(&waiting, kernel);

    buf_deinit(&waiting.out);
    return r;
}

/* ---- the whole ---- */

struct kernel *kernel_new(struct client *client)
{
    struct kernel *kernel = mem_zalloc(sizeof(*kernel));

    kernel->client = client;
    return kernel;
}

void kernel_free(struct kernel *kernel)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&kernel->nodes, &at)) != NULL) {
        struct knode *node = slot->value;

        pages_drop(node, 0);
        map_deinit(&node->pages);
        mem_free(node);
    }
    for (at = 0; (slot = map_next(&kernel->entries, &at)) != NULL;) {
        mem_free(slot->value);
    }
    map_deinit(&kernel->nodes);
    map_deinit(&kernel->entries);
    mem_free(kernel);
}

void kernel_caches_lost(struct kernel *kernel)
{
    kernel->epoch++; /* INC_EPOCH: names only; attributes have their time */
}
