/*
 * meta_server_rebuild: a damaged state is given up, and comes back as a snapshot of the leader's.
 *
 * Log, vote and identity are intact and stay what they are (raft/raft_rebuild.c says what this
 * server may do meanwhile). Pages of the tree are borrowed all the way up the stack when one turns
 * out to be damaged, and who leads could not answer: so the file `rebuild` is made and the process
 * starts again. The start puts the damaged tree aside and opens an empty one. The snapshot takes
 * its place (durably), then `rebuild` goes. A crash before that begins the same again.
 */
#include "base/log.h"
#include "base/mem.h"
#include "base/trace_mark.h"
#include "meta/meta_server_internal.h"

#include <errno.h>

#define DAMAGED "tree.damaged"

/* Does anybody else have what is damaged here? */
static bool others_have_it(const struct meta_server *server)
{
    return server->raft_open ? raft_members_voters(&server->raft.raft.members) > 1
                             : server->config.peer_count > 1 || server->joining;
}

void server_tree_damaged(struct btree *tree)
{
    struct meta_server *server = tree->owner;
    int r;

    if (tree != server->tree) {
        env_start_again(server->env, "meta", "what was received is damaged, it is asked for again");
    }
    if (!others_have_it(server)) {
        return;
    }
    r = server_make_file(server, SERVER_REBUILD);
    if (r < 0) {
        env_disk_failed(server->env, r, "meta", "cannot give up a damaged state error=%s",
                        err_text(r));
    }
    env_start_again(server->env, "meta",
                    "the state is damaged: it is given up and comes from another server");
}

/* Without the log nobody would know what this server has promised. */
static bool has_log(const struct meta_server *server)
{
    cleanup(buf_deinit) struct buf names = {0};

    if (env_list(server->env, server->log_dir, &names) < 0) {
        return false;
    }
    for (size_t at = 0; at < names.size; at += strlen((const char *)names.data + at) + 1) {
        if (strncmp((const char *)names.data + at, "log-", 4) == 0) {
            return true;
        }
    }
    return false;
}

/* The tree is kept for whoever wants to know, until there is a new one. What a rebuild that was
 * broken off has begun is worth nothing. */
static int put_aside(struct meta_server *server)
{
    char *damaged = server_path(server, DAMAGED);
    int r = server_has_file(server, DAMAGED)
                ? env_path_now(server->env, ENV_IO_UNLINK, server->tree_path, NULL)
                : env_path_now(server->env, ENV_IO_RENAME, server->tree_path, damaged);

    mem_free(damaged);
    r = r == -ENOENT ? 0 : r;
    return r < 0 ? r : env_path_now(server->env, ENV_IO_SYNC_DIR, server->config.dir, NULL);
}

static int begin(struct meta_server *server)
{
    int r;

    if (!has_log(server)) {
        LOG_ERROR(server->env, "meta",
                  "the state is damaged and the log is gone; to replace this server, give its "
                  "machine a new number and `keelfs meta replace` dir=%s",
                  server->config.dir);
        return -ERR_CORRUPT;
    }
    TRACE_MARK("a damaged state is given up");
    r = put_aside(server);
    if (r < 0) {
        LOG_ERROR(server->env, "meta", "cannot put the damaged state aside path=%s error=%s",
                  server->tree_path, err_text(r));
    }
    server->rebuild = r == 0;
    return r;
}

static int open_tree(struct meta_server *server)
{
    struct btree_config config = server_tree_config(server, server->tree_path);
    int r;

    server->tree = mem_zalloc(sizeof(*server->tree));
    r = btree_open(server->tree, server->env, &config);
    if (r < 0) {
        mem_free(server->tree);
        server->tree = NULL;
    }
    return r;
}

int server_open_state(struct meta_server *server)
{
    int r = server_has_file(server, SERVER_REBUILD) ? begin(server) : 0;

    r = r < 0 ? r : open_tree(server);
    if (r != -ERR_CORRUPT || server->rebuild || !others_have_it(server)) {
        return r;
    }
    LOG_WARN(server->env, "meta",
             "the state is damaged: it is given up and comes from another server path=%s",
             server->tree_path);
    r = server_make_file(server, SERVER_REBUILD);
    r = r < 0 ? r : begin(server);
    return r < 0 ? r : open_tree(server);
}

void server_rebuild_ended(struct meta_server *server)
{
    static const char *const names[] = {DAMAGED, SERVER_REBUILD};
    int r = 0;

    if (!server->rebuild) {
        return;
    }
    server->rebuild = false;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        char *path = server_path(server, names[i]);
        int removed = env_path_now(server->env, ENV_IO_UNLINK, path, NULL);

        r = removed < 0 && removed != -ENOENT ? removed : r;
        mem_free(path);
    }
    r = r < 0 ? r : env_path_now(server->env, ENV_IO_SYNC_DIR, server->config.dir, NULL);
    if (r < 0) { /* harmless: the next start does all of it once more */
        LOG_WARN(server->env, "meta", "cannot remove path=%s/%s error=%s", server->config.dir,
                 SERVER_REBUILD, err_text(r));
    }
    LOG_WARN(server->env, "meta", "the state is whole again");
}
