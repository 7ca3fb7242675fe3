#pragma once
/* daemon: what metad and chunkd share: options, background start that reports, pid file, signals.
 */
#include "cli/cli.h"
#include "cli/stats.h"
#include "net/env_uv.h"

struct daemon_options {
    const char *config_path, *log_path, *pid_file;
    uint32_t id;
    bool background, verbose;
    bool bootstrap, join; /* metad: the first start, of a new cluster or into a running one */
    /* The process was another one's and began anew (docs/adr/0021): */
    bool again;
    int disk_error; /* why: the disk said this negative code; 0 = something else */
    struct config_overrides set;
};

struct daemon_kind {
    const char *name; /* "metad" */
    const char *node; /* "meta": prefix of names in logs */
    const char *help;
    bool has_group; /* takes --bootstrap and --join */
    /* Starts the server in env; 0 or a negative code after an ERROR line. */
    int (*start)(void *server, struct env *env, const struct cluster_config *cluster,
                 const struct node_config *node, const struct daemon_options *options);
    /* Begins a graceful stop; daemon_stopped ends the process. */
    void (*stop)(void *server);
    const struct node_config *(*find)(const struct cluster_config *config, uint32_t id);
    const struct config_table *(*settings)(void);
    size_t settings_offset; /* of their values in struct cluster_config */
    const struct metrics_table *(*metrics)(void);
    const void *(*collect)(void *server);
    void (*describe)(const void *server, struct buf *out);
    size_t server_size;
};

int daemon_main(const struct daemon_kind *kind, int argc, char **argv);
/* The graceful stop has ended. */
void daemon_stopped(void);
/* 0, or a negative code after a line on stderr; NULL = nothing to write. */
int write_pid_file(const char *path);
/* Tells the waiting parent the verdict (fd < 0: nobody waits) and turns stderr to the log. */
void daemon_report(int fd, int code, const char *log_path);
