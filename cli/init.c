/* keelfs init: a cluster.conf for a new cluster, everything below one directory, Unix sockets. */
#include "cli/cli.h"

#include "base/mem.h"
#include "cli/init.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <sys/random.h>
#include <sys/stat.h>

static int write_servers(FILE *out, const char *dir, const char *kind, unsigned count)
{
    for (unsigned i = 1; i <= count; i++) {
        fprintf(out, "\n[%s.%u]\naddress = unix:%s/run/%s%u.sock\ndir = %s/%s%u\n", kind, i, dir,
                kind, i, dir, kind, i);
    }
    return ferror(out) ? -EIO : 0;
}

int init_write_config(const char *path, const char *dir, const struct init_options *options)
{
    uint8_t uuid[16];
    FILE *out;
    int r;

    if (getrandom(uuid, sizeof(uuid), 0) != sizeof(uuid)) {
        return -EIO;
    }
    out = fopen(path, "wxe");
    if (out == NULL) {
        return -errno;
    }
    fputs("# KeelFS cluster: servers and clients share this file.\n[cluster]\nuuid = ", out);
    for (unsigned i = 0; i < sizeof(uuid); i++) {
        fprintf(out, "%02x", uuid[i]);
    }
    fputs("\nwrite_quorum = 2\n", out);
    r = write_servers(out, dir, "meta", options->meta_count);
    if (r == 0) {
        r = write_servers(out, dir, "chunk", options->chunk_count);
    }
    if (fclose(out) != 0 && r == 0) {
        r = -errno;
    }
    return r;
}

static const char help[] =
    "usage: keelfs init [--meta N] [--chunk N] [--dir DIR] CLUSTER_CONF\n\n"
    "Writes a configuration with a new cluster uuid. Servers listen on Unix sockets below DIR and\n"
    "keep their data there; edit addresses and directories to taste before the first start.\n\n"
    "      --meta N    metadata servers, 1, 3, 5 or 7 (default 3)\n"
    "      --chunk N   chunk servers, 1..256 (default 3)\n"
    "      --dir DIR   default /var/lib/keelfs\n";

int cmd_init(int argc, char **argv)
{
    static const struct option longs[] = {{"meta", required_argument, NULL, 'm'},
                                          {"chunk", required_argument, NULL, 'c'},
                                          {"dir", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct init_options options = {.meta_count = 3, .chunk_count = 3};
    const char *dir = "/var/lib/keelfs";
    int c, r;

    while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (c == 'm') {
            options.meta_count = (unsigned)strtoul(optarg, NULL, 10);
        } else if (c == 'c') {
            options.chunk_count = (unsigned)strtoul(optarg, NULL, 10);
        } else if (c == 'd') {
            dir = optarg;
        } else if (c == 'h') {
            fputs(help, stdout);
            return 0;
        } else {
            return EXIT_USAGE;
        }
    }
    if (argc - optind != 1 || options.meta_count < 1 || options.meta_count > CONFIG_META_MAX ||
        options.chunk_count < 1 || options.chunk_count > CONFIG_CHUNK_MAX) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    r = init_write_config(argv[optind], dir, &options);
    if (r < 0) {
        cli_error("cannot write %s: %s", argv[optind], strerrordesc_np(-r));
        return 1;
    }
    printf("wrote %s\n", argv[optind]);
    return 0;
}
