#include "fs/mount.h"

#include "base/log.h"
#include "base/mem.h"
#include "fs/chunk_seq.h"
#include "fs/coherence.h"
#include "fs/fence.h"
#include "fs/flush.h"
#include "fs/local.h"
#include "fs/lock.h"
#include "fs/settle.h"
#include "fs/shutdown.h"

#include <errno.h>

static void walk(struct mount *mount);

static void on_walked(struct meta_call *call)
{
    struct mount *mount = call->data;
    struct meta_attr attr;
    int r = call->status;

    if (r == 0) {
        r = meta_attr_decode(&attr, call->reply.attr);
    }
    if (r == 0 && !S_ISDIR(attr.mode)) {
        r = -ENOTDIR;
    }
    if (r < 0) {
        mount->ready(mount, r);
        return;
    }
    mount->root_ino = attr.ino;
    walk(mount);
}

/* The next component of config.subdir; ready() behind the last. */
static void walk(struct mount *mount)
{
    const char *name = mount->start_rest;
    size_t size;

    while (*name == '/') {
        name++;
    }
    size = strcspn(name, "/");
    if (size == 0) {
        mount->started = true;
        inode_ref(mount, inode_make(mount, mount->root_ino));
        mount->ready(mount, 0);
        return;
    }
    mount->start_rest = name + size;
    mount->start_call = (struct meta_call){.done = on_walked, .data = mount};
    mount->start_call.request = (struct meta_request){
        .op = META_LOOKUP, .ino = mount->root_ino, .name = slice_make(name, size)};
    meta_call_start(&mount->meta, &mount->start_call);
}

static void on_session(struct meta_client *client, bool alive)
{
    struct mount *mount = client->data;

    if (!mount->started && alive) {
        LOG_INFO(mount->env, "mount", "session is open id=%" PRIu64, client->session);
        meta_client_fetch_map(client);
        walk(mount);
        return;
    }
    fence_raise(mount);
    local_forget_all(mount);
    chunk_seq_session_lost(mount);
    lock_session_lost(mount);
    flush_rounds_wake(mount);
    LOG_WARN(mount->env, "mount",
             "the session expired on the servers; a new one is open id=%" PRIu64
             ", caches are dropped and written data is sent again",
             client->session);
    if (mount->caches_lost != NULL) {
        mount->caches_lost(mount);
    }
}

static bool on_is_open(struct meta_client *client, uint64_t ino)
{
    const struct mount *mount = client->data;
    const struct inode *inode = inode_find(client->data, ino);

    if (mount->opening != 0) {
        return true;
    }
    return inode != NULL &&
           (inode->opens != 0 || inode_pending(inode) || inode_may_be_opened(mount, inode));
}

static uint64_t on_chunk_low(struct meta_client *client)
{
    return chunk_seq_low(client->data);
}

static void on_notified(struct meta_client *client)
{
    lock_notified(client->data);
}

static void on_settle(struct meta_client *client, uint64_t ino)
{
    settle_ask(client->data, ino);
}

static void on_map(struct meta_client *client, const struct cluster_map *map)
{
    struct mount *mount = client->data;

    chunk_client_set_map(&mount->chunks, map);
}

static void on_map_stale(struct chunk_client *client)
{
    struct mount *mount = client->data;

    meta_client_fetch_map(&mount->meta);
}

static void on_meta_closed(struct meta_client *client)
{
    struct mount *mount = client->data;

    chunk_client_deinit(&mount->chunks);
    chunk_seq_deinit(mount);
    lock_deinit(mount);
    mount->closed(mount);
}

void mount_start(struct mount *mount, struct env *env, const struct mount_config *config)
{
    struct meta_client_config meta = {
        .addresses = config->meta_addresses,
        .address_count = config->meta_address_count,
        .soft_timeout_ns = config->soft_timeout_ns,
    };

    mount->env = env;
    mount->config = *config;
    mount->settings = config->settings != NULL ? *config->settings : mount_settings_defaults();
    mount->config.settings = &mount->settings;
    meta.identity = &mount->config.identity;
    mount->root_ino = META_ROOT_INO;
    mount->start_rest = config->subdir != NULL ? config->subdir : "";
    flush_init(mount);
    settle_init(mount);
    local_init(mount);
    lock_init(mount);
    shutdown_init(mount);
    coherence_init(mount);
    ahead_init(mount);
    atime_init(mount);
    list_init(&mount->contents);
    mount->meta.data = mount;
    mount->meta.session_changed = on_session;
    mount->meta.alone_changed = coherence_alone_changed;
    mount->meta.gave_up = coherence_gave_up;
    mount->meta.is_open = on_is_open;
    mount->meta.map_told = on_map;
    mount->meta.settle = on_settle;
    mount->meta.notified = on_notified;
    mount->meta.chunk_low = on_chunk_low;
    mount->meta.closed = on_meta_closed;
    chunk_client_init(&mount->chunks, env, &mount->config.identity, config->write_quorum);
    mount->chunks.data = mount;
    mount->chunks.map_stale = on_map_stale;
    meta_client_start(&mount->meta, env, &meta);
}

static void on_all_told(struct mount *mount)
{
    env_timer_stop(mount->env, &mount->flush_timer);
    settle_deinit(mount);
    coherence_deinit(mount);
    meta_client_close(&mount->meta);
}

static void on_all_drained(struct mount *mount)
{
    atime_close(mount, on_all_told);
}

static void on_all_settled(struct mount *mount)
{
    local_drain(mount, on_all_drained);
}

static void on_all_flushed(struct mount *mount)
{
    settle_all(mount, on_all_settled);
}

void mount_close(struct mount *mount)
{
    if (!mount->closing) {
        mount->closing = true;
        flush_all(mount, on_all_flushed);
    }
}
