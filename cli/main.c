/* keelfs: one binary, its subcommands. */
#include "base/mem.h"
#include "cli/cli.h"

#include <stdarg.h>

static const struct cli_command commands[] = {
    {"demo", "start a whole cluster on this machine and mount it; --stop ends it", cmd_demo},
    {"mount", "mount a KeelFS volume at a directory", cmd_mount},
    {"status", "show the cluster: members, leader, chunk servers, health", cmd_status},
    {"stats", "ask one server or mount of this machine for its state and figures", cmd_stats},
    {"fsck", "check the volume: links, orphans, extents, copies of chunks", cmd_fsck},
    {"meta", "tell the metadata group what to do: transfer leadership", cmd_meta},
    {"init", "write a cluster.conf for a new cluster", cmd_init},
    {"metad", "run a metadata server", cmd_metad},
    {"chunkd", "run a chunk server", cmd_chunkd},
};

void cli_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("keelfs: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

const char *cli_default_config(void)
{
    const char *path = getenv("KEELFS_CONFIG");

    return path != NULL ? path : "/etc/keelfs/cluster.conf";
}

/* Called by mount.fuse for the type fuse.keelfs (as which the kernel shows our mounts, and which a
 * remount names): keelfs SOURCE DIRECTORY -o OPTIONS. */
static bool is_mount_helper(int argc, char **argv)
{
    return argc >= 5 && strcmp(argv[3], "-o") == 0;
}

static void usage(FILE *out)
{
    fputs("usage: keelfs COMMAND [OPTIONS]\n\n"
          "A replicated POSIX filesystem that you mount as a directory.\n\ncommands:\n",
          out);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
    }
    fputs("\n`keelfs COMMAND --help` tells more of each.\n", out);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("keelfs 0.1.0");
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    if (is_mount_helper(argc, argv)) {
        return cmd_mount(argc, argv);
    }
    cli_error("unknown command '%s'; `keelfs --help` lists them", argv[1]);
    return EXIT_USAGE;
}
