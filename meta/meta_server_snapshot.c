/*
 * meta_server_snapshot: the whole state as a stream of pairs, read from a view of the last
 * checkpoint; the receiver fills a new file and puts it in place of the old one.
 */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "meta/meta_server_internal.h"

#include <errno.h>

#define FRAME_FULL    (RAFT_SNAPSHOT_FRAME_MAX - BTREE_VALUE_MAX - KiB(1)) /* one more pair fits */
#define RESTORE_DIRTY MiB(16) /* written out at so much */

struct snapshot_cursor {
    struct btree view;
    struct buf next; /* the first key not sent */
    bool ended;
};

static struct meta_server *server_of(struct raft_machine *machine)
{
    return container_of(machine, struct meta_server, machine);
}

struct btree_config server_tree_config(const struct meta_server *server, const char *path)
{
    struct btree_config config = {.dir = server->config.dir,
                                  .path = path,
                                  .node_id = server->identity.node_id,
                                  .cache_bytes = server->settings.cache_bytes,
                                  .owner = (void *)(uintptr_t)server,
                                  .damaged = server_tree_damaged};

    memcpy(config.cluster_uuid, server->identity.cluster_uuid, 16);
    return config;
}

int server_snapshot_begin(struct raft_machine *machine, struct raft_snapshot *out_snapshot,
                          void **out_cursor)
{
    struct meta_server *server = server_of(machine);
    struct snapshot_cursor *cursor = mem_zalloc(sizeof(*cursor));
    int r;

    r = btree_open_view(&cursor->view, server->tree, META_SNAPSHOT_PAGES * BTREE_PAGE);
    if (r < 0) {
        mem_free(cursor);
        return r;
    }
    *out_snapshot = (struct raft_snapshot){cursor->view.applied_index, cursor->view.applied_term,
                                           cursor->view.space.blocks * BTREE_BLOCK};
    *out_cursor = cursor;
    return 0;
}

int server_snapshot_read(struct raft_machine *machine, void *cursor_pointer, struct buf *out_frame)
{
    struct snapshot_cursor *cursor = cursor_pointer;
    struct slice key, value;

    (void)machine;
    buf_clear(out_frame);
    while (!cursor->ended && out_frame->size < FRAME_FULL) {
        if (!btree_seek(&cursor->view, buf_slice(&cursor->next), &key, &value)) {
            cursor->ended = true;
            break;
        }
        schema_write_bytes(out_frame, key);
        schema_write_bytes(out_frame, value);
        buf_clear(&cursor->next);
        buf_append_slice(&cursor->next, key);
        buf_append_zero(&cursor->next, 1); /* the next possible key */
    }
    btree_trim(&cursor->view);
    return 0;
}

void server_snapshot_end(struct raft_machine *machine, void *cursor_pointer)
{
    struct snapshot_cursor *cursor = cursor_pointer;

    (void)machine;
    btree_close(&cursor->view);
    buf_deinit(&cursor->next);
    mem_free(cursor);
}

void server_restore_drop(struct meta_server *server)
{
    if (server->restoring != NULL) {
        btree_close(server->restoring);
        mem_free(server->restoring);
        server->restoring = NULL;
    }
}

/* The old state stays until the new one is whole: both must fit. */
static int check_room(struct meta_server *server, uint64_t bytes)
{
    struct env_io io = {.type = ENV_IO_STAT, .path = server->config.dir};
    int64_t r = env_io_now(server->env, &io);

    if (r < 0 || io.free_bytes >= bytes + META_DISK_RESERVE) {
        return 0; /* when it cannot be told, the write tells */
    }
    LOG_ERROR(server->env, "meta",
              "no room for the whole state from another server, this one stays behind dir=%s "
              "free=%" PRIu64 " needed=%" PRIu64,
              server->config.dir, io.free_bytes, bytes + META_DISK_RESERVE);
    return -ENOSPC;
}

/* A disk that fails meanwhile would fail at the next try too, and a failed sync may not be tried
 * again: the server ends itself. */
static int check_disk(struct meta_server *server, int result)
{
    if (env_is_disk_error(result)) {
        env_disk_failed(server->env, result, "meta",
                        "cannot keep the state that another server sends dir=%s error=%s",
                        server->config.dir, err_text(result));
    }
    return result;
}

int server_restore_begin(struct raft_machine *machine, const struct raft_snapshot *snapshot)
{
    struct meta_server *server = server_of(machine);
    struct btree_config config = server_tree_config(server, server->new_path);
    int r;

    server_restore_drop(server);
    r = check_room(server, snapshot->bytes);
    if (r < 0) {
        return r;
    }
    r = env_path_now(server->env, ENV_IO_UNLINK, server->new_path, NULL);
    if (r < 0 && r != -ENOENT) {
        return check_disk(server, r);
    }
    server->restoring = mem_zalloc(sizeof(*server->restoring));
    r = btree_open(server->restoring, server->env, &config);
    if (r < 0) {
        mem_free(server->restoring);
        server->restoring = NULL;
        return check_disk(server, r);
    }
    server->restore_index = snapshot->index;
    server->restore_term = snapshot->term;
    LOG_INFO(server->env, "meta", "receiving the whole state index=%" PRIu64, snapshot->index);
    return 0;
}

int server_restore_write(struct raft_machine *machine, struct slice frame)
{
    struct meta_server *server = server_of(machine);
    struct schema_reader reader = schema_reader_make(frame);

    if (server->restoring == NULL) {
        return -EINVAL;
    }
    while (reader.at < reader.end) {
        struct slice key = schema_read_bytes(&reader, BTREE_KEY_MAX);
        struct slice value = schema_read_bytes(&reader, BTREE_VALUE_MAX);

        if (reader.failed) {
            return -ERR_BAD_MESSAGE;
        }
        btree_put(server->restoring, key, value);
    }
    if (btree_dirty_bytes(server->restoring) > RESTORE_DIRTY) {
        btree_checkpoint_now(server->restoring);
    }
    btree_trim(server->restoring);
    return 0;
}

void server_close_retired(struct meta_server *server)
{
    struct btree *tree = server->retired;

    if (tree != NULL && tree->checkpoint == NULL && tree->views == 0) {
        btree_close(tree);
        mem_free(tree);
        server->retired = NULL;
    }
}

int server_restore_finish(struct raft_machine *machine)
{
    struct meta_server *server = server_of(machine);
    struct btree_config config = server_tree_config(server, server->tree_path);
    struct btree *tree;
    int r;

    server_close_retired(server);
    if (server->restoring == NULL || server->retired != NULL) {
        return -EBUSY; /* the one replaced before is still being written: again later */
    }
    server_members_note(server);
    btree_set_applied(server->restoring, server->restore_index, server->restore_term);
    btree_checkpoint_now(server->restoring);
    server_restore_drop(server);
    r = env_path_now(server->env, ENV_IO_RENAME, server->new_path, server->tree_path);
    if (r == 0) {
        r = env_path_now(server->env, ENV_IO_SYNC_DIR, server->config.dir, NULL);
    }
    if (r < 0) {
        return check_disk(server, r);
    }
    tree = mem_zalloc(sizeof(*tree));
    r = btree_open(tree, server->env, &config);
    if (r < 0) {
        env_disk_failed(server->env, r, "meta", "cannot open the received state error=%s",
                        err_text(r));
    }
    server->retired = server->tree;
    server->tree = tree;
    server->check_index = 0;
    server->log_bytes = 0;
    server_load_state(server);
    server_machine_members(machine, &server->members);
    server_map_applied(server);
    server_close_retired(server);
    server_rebuild_ended(server);
    LOG_INFO(server->env, "meta", "has received the whole state index=%" PRIu64,
             server->restore_index);
    return 0;
}
