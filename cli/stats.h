#pragma once
/* stats: what a server or mount of this machine says of itself on its admin socket, and where that
 * is. Shared by `keelfs stats` and those that serve. */
#include "base/config.h"
#include "base/metrics.h"
#include "cli/config.h"
#include "net/admin.h"

/* What the questions are about; admin.data of the socket. */
struct stats_view {
    const struct metrics_table *metrics;
    const void *(*collect)(void *server); /* the values of `metrics`, as they are now */
    void (*describe)(const void *server, struct buf *out);
    const struct config_table *settings;
    const void *settings_values;
    void *server;
};

/* Answers "status", "metrics", "metrics json" and "settings": admin.answer. */
void stats_answer(struct admin *admin, const char *question, struct buf *out);
/* Serves `view` at the path. A line in the log when that cannot be: it is no reason not to run. */
void stats_serve(struct admin *admin, struct env *env, struct stats_view *view, const char *path);
/* Where the server with this data directory has its socket; freed by the caller. */
char *stats_server_path(const char *dir);
/* Where the mount at this absolute path has it; NULL: nowhere, the user has no runtime directory.
 * Asks no file system that may hang. */
char *stats_mount_path(const char *mountpoint);
