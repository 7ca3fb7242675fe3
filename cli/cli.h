#pragma once
/* cli: what the subcommands of `keelfs` share. */
#include "cli/config.h"

struct cli_command {
    const char *name;
    const char *summary;               /* one line */
    int (*run)(int argc, char **argv); /* argv[0] = the command's name; returns the exit code */
};

/* Exit codes of `status` and `fsck`; usage errors are 64 (EX_USAGE) everywhere. */
enum { EXIT_OK = 0, EXIT_DEGRADED = 1, EXIT_UNAVAILABLE = 2, EXIT_USAGE = 64 };

int cmd_metad(int argc, char **argv);
int cmd_chunkd(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_meta(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_fsck(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_init(int argc, char **argv);

/* "keelfs: " and the text, to stderr. */
void cli_error(const char *format, ...) printf_like(1, 2);
/* $KEELFS_CONFIG, else /etc/keelfs/cluster.conf. */
const char *cli_default_config(void);
