/*
 * keelfs stats: asks the admin socket of one server or mount of this machine. Needs neither the
 * cluster nor the mount to work, and touches no path below a mount point.
 */
#include "cli/stats.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>

#define ASK_TIMEOUT_MS 5000
#define NAME_TAIL      48 /* of a mount point's path in the socket's name; a hash tells the rest */

/* ---- serving ---- */

void stats_answer(struct admin *admin, const char *question, struct buf *out)
{
    const struct stats_view *view = admin->data;

    if (strcmp(question, "status") == 0) {
        view->describe(view->server, out);
    } else if (strcmp(question, "metrics") == 0) {
        metrics_text(view->metrics, view->collect(view->server), out);
    } else if (strcmp(question, "metrics json") == 0) {
        metrics_json(view->metrics, view->collect(view->server), out);
    } else if (strcmp(question, "settings") == 0) {
        config_print(view->settings, view->settings_values, out);
    }
}

void stats_serve(struct admin *admin, struct env *env, struct stats_view *view, const char *path)
{
    char *address;
    int r;

    if (path == NULL) {
        LOG_INFO(env, "stats", "no admin socket: there is no runtime directory to put it in");
        return;
    }
    address = mem_printf("unix:%s", path);
    admin->answer = stats_answer;
    admin->data = view;
    r = admin_start(admin, env, address);
    if (r < 0) {
        LOG_WARN(env, "stats", "no admin socket, `keelfs stats` cannot ask us path=%s error=%s",
                 path, err_text(r));
    }
    mem_free(address);
}

char *stats_server_path(const char *dir)
{
    return mem_printf("%s/admin.sock", dir);
}

char *stats_mount_path(const char *mountpoint)
{
    const char *runtime = geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR");
    size_t size = strlen(mountpoint), skip = size > NAME_TAIL ? size - NAME_TAIL : 0;
    uint64_t hash = hash_bytes((struct hash_key){0}, slice_text(mountpoint));
    char *path, *name;

    if (runtime == NULL) {
        return NULL;
    }
    path = mem_printf("%s/keelfs/mount%s-%08x.sock", runtime, mountpoint + skip, (uint32_t)hash);
    name = path + strlen(runtime) + strlen("/keelfs/");
    while ((name = strchr(name, '/')) != NULL) {
        *name = '-';
    }
    return path;
}

/* ---- asking ---- */

static const char help[] =
    "usage: keelfs stats [--config FILE] TARGET [status | metrics | json | settings]\n\n"
    "Asks one server or mount of this machine how it is, on its own socket: works while the\n"
    "cluster does not. For root and the user who runs it.\n\n"
    "TARGET is meta.N or chunk.N of the configuration, a mount point, a server's data directory,\n"
    "or a socket.\n\n"
    "  status     role, queues, and operations by what they wait for (default)\n"
    "  metrics    all figures, as Prometheus reads them\n"
    "  json       all figures as one JSON object\n"
    "  settings   what is set\n\n"
    "  -c, --config FILE   default $KEELFS_CONFIG or /etc/keelfs/cluster.conf\n";

static const char *question_of(const char *word)
{
    static const char *const words[][2] = {{"status", "status"},
                                           {"metrics", "metrics"},
                                           {"json", "metrics json"},
                                           {"settings", "settings"}};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(word, words[i][0]) == 0) {
            return words[i][1];
        }
    }
    return NULL;
}

static bool is_absence(int r)
{
    return r == -ENOENT || r == -ENOTDIR || r == -ECONNREFUSED;
}

/* The target as the mount's command line had it: absolute, no slash at the end. Without realpath,
 * which looks at the mount itself. */
static char *absolute(const char *target)
{
    char cwd[PATH_MAX] = "";
    char *path;
    size_t size;

    while (strncmp(target, "./", 2) == 0) {
        target += 2;
    }
    if (target[0] != '/' && getcwd(cwd, sizeof(cwd)) == NULL) {
        cwd[0] = '\0';
    }
    path = target[0] == '/' ? mem_strdup(target) : mem_printf("%s/%s", cwd, target);
    size = strlen(path);
    while (size > 1 && path[size - 1] == '/') {
        path[--size] = '\0';
    }
    return path;
}

static int ask_one(char *path, const char *question, struct buf *out)
{
    int r = path != NULL ? admin_ask(path, question, ASK_TIMEOUT_MS, out) : -ENOENT;

    mem_free(path);
    return r;
}

/* As a mount point first: when it is one, nothing below it is touched, which might hang. */
static int ask_path(const char *target, const char *question, struct buf *out)
{
    char *path = absolute(target);
    int r = ask_one(stats_mount_path(path), question, out);

    if (is_absence(r)) {
        r = ask_one(stats_server_path(path), question, out);
    }
    if (is_absence(r)) {
        r = ask_one(mem_strdup(path), question, out);
    }
    mem_free(path);
    return r;
}

/* meta.N, chunk.N: its data directory, to be freed; NULL: another word, or after a complaint. */
static char *dir_of(const char *target, const char *config_path)
{
    bool meta = strncmp(target, "meta.", 5) == 0;
    static struct cluster_config cluster;
    const struct node_config *node;
    uint32_t id = (uint32_t)strtoul(target + (meta ? 5 : 6), NULL, 10);
    char *dir = NULL;

    if (cluster_config_read(&cluster, config_path) < 0) {
        return NULL;
    }
    node = meta ? cluster_config_meta(&cluster, id) : cluster_config_chunk(&cluster, id);
    if (node == NULL || node->dir == NULL) {
        cli_error("%s has no section [%s] with a dir", config_path, target);
    } else {
        dir = mem_strdup(node->dir);
    }
    cluster_config_deinit(&cluster);
    return dir;
}

static int ask(const char *config_path, const char *target, const char *question)
{
    cleanup(buf_deinit) struct buf out = {0};
    bool server = strncmp(target, "meta.", 5) == 0 || strncmp(target, "chunk.", 6) == 0;
    char *dir = server ? dir_of(target, config_path) : NULL;
    int r;

    if (server && dir == NULL) {
        return 1;
    }
    r = server ? ask_one(stats_server_path(dir), question, &out) : ask_path(target, question, &out);
    mem_free(dir);
    if (r < 0) {
        cli_error("cannot ask %s: %s; does it run on this machine, and are you root or its user?",
                  target, err_text(r));
        return 1;
    }
    return fwrite(out.data, 1, out.size, stdout) == out.size && fflush(stdout) == 0 ? 0 : 1;
}

int cmd_stats(int argc, char **argv)
{
    static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *config_path = cli_default_config(), *question;
    int c;

    while ((c = getopt_long(argc, argv, "c:h", longs, NULL)) != -1) {
        if (c == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (c != 'c') {
            return EXIT_USAGE;
        }
        config_path = optarg;
    }
    if (argc - optind < 1 || argc - optind > 2) {
        cli_error("stats takes a target, and what to ask; see `keelfs stats --help`");
        return EXIT_USAGE;
    }
    question = question_of(argc - optind == 2 ? argv[optind + 1] : "status");
    if (question == NULL) {
        cli_error("cannot ask for '%s'; known: status, metrics, json, settings", argv[optind + 1]);
        return EXIT_USAGE;
    }
    return ask(config_path, argv[optind], question);
}
