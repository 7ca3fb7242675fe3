#include "cli/daemon.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/standin.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sys/wait.h>

#define AFTER "--after" /* the one option that users do not give: see begin_anew */

static struct env_uv *loop; /* of this process */
static char **arguments;    /* of main, behind the name of the program */

struct running {
    const struct daemon_kind *kind;
    void *server;
    struct stats_view view;
    struct admin admin;
    struct standin standin; /* instead of the server, when its disk failed */
    bool stands_in;
};

void daemon_stopped(void)
{
    env_uv_stop(loop);
}

static void on_signal(void *data)
{
    struct running *running = data;

    if (running->stands_in) {
        daemon_stopped();
        return;
    }
    admin_stop(&running->admin);
    running->kind->stop(running->server);
}

static const char settings_title[] = "What can be set, in the section of cluster.conf that is "
                                     "named after the kind of server, or for\n"
                                     "this one with --set:";

static int parse(const struct daemon_kind *kind, struct daemon_options *options, int argc,
                 char **argv)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'}, {"id", required_argument, NULL, 'i'},
        {"log", required_argument, NULL, 'l'},    {"pid-file", required_argument, NULL, 'p'},
        {"background", no_argument, NULL, 'b'},   {"verbose", no_argument, NULL, 'v'},
        {"set", required_argument, NULL, 's'},    {"bootstrap", no_argument, NULL, 'B'},
        {"join", no_argument, NULL, 'J'},         {"after", required_argument, NULL, 'A'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    char *end;
    int c;

    while ((c = getopt_long(argc, argv, "c:i:l:p:bvs:h", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            options->config_path = optarg;
            break;
        case 'i':
            options->id = (uint32_t)strtoul(optarg, &end, 10);
            if (*end != '\0' || options->id == 0) {
                cli_error("--id %s is not a server's number", optarg);
                return EXIT_USAGE;
            }
            break;
        case 'l':
            options->log_path = optarg;
            break;
        case 'p':
            options->pid_file = optarg;
            break;
        case 'b':
            options->background = true;
            break;
        case 'v':
            options->verbose = true;
            break;
        case 's':
            if (config_override(&options->set, kind->settings(), optarg) < 0) {
                return EXIT_USAGE;
            }
            break;
        case 'B':
            options->bootstrap = true;
            break;
        case 'J':
            options->join = true;
            break;
        case 'A':
            options->again = true;
            options->disk_error = -(int)strtol(optarg, &end, 10);
            break;
        case 'h':
            fputs(kind->help, stdout);
            config_print_help(kind->settings(), settings_title);
            return -1;
        default:
            return EXIT_USAGE;
        }
    }
    if ((options->bootstrap || options->join) && !kind->has_group) {
        cli_error("%s takes no --bootstrap and no --join", kind->name);
        return EXIT_USAGE;
    }
    if (options->id == 0 || optind != argc) {
        cli_error("%s needs --id N and takes no further argument; see `keelfs %s --help`",
                  kind->name, kind->name);
        return EXIT_USAGE;
    }
    return 0;
}

/*
 * The process becomes a fresh one of the same number: nothing of its memory, of its open files and
 * of what it thinks it has written is left. It stands in for the server when its disk failed.
 */
static void begin_anew(void *data, enum env_end end, int disk_error)
{
    char **next;
    char number[16];
    size_t count = 0;

    (void)data;
    while (arguments[count] != NULL && strcmp(arguments[count], AFTER) != 0) {
        count++;
    }
    next = mem_zalloc((count + 4) * sizeof(*next));
    next[0] = program_invocation_name;
    memcpy(next + 1, arguments, count * sizeof(*next));
    snprintf(number, sizeof(number), "%d", end == ENV_END_DISK ? -disk_error : 0);
    next[count + 1] = (char *)(uintptr_t)AFTER;
    next[count + 2] = number;
    execv("/proc/self/exe", next);
    mem_free(next);
}

int write_pid_file(const char *path)
{
    FILE *out = path != NULL ? fopen(path, "we") : NULL;

    if (path == NULL) {
        return 0;
    }
    if (out == NULL) {
        cli_error("cannot write %s: %s", path, strerrordesc_np(errno));
        return -errno;
    }
    fprintf(out, "%d\n", (int)getpid());
    return fclose(out) == 0 ? 0 : -errno;
}

void daemon_report(int fd, int code, const char *log_path)
{
    uint8_t byte = (uint8_t)code;
    int log;

    if (fd < 0) {
        return;
    }
    if (write(fd, &byte, 1) != 1) {
        cli_error("nobody waits for the start any more");
    }
    close(fd);
    log = open(log_path != NULL ? log_path : "/dev/null", O_WRONLY | O_APPEND | O_CLOEXEC);
    dup2(log, STDERR_FILENO); /* the terminal is not ours any more; last words go to the log */
    close(log);
}

static void serve_stats(struct running *running, const struct cluster_config *cluster,
                        const struct node_config *node)
{
    const struct daemon_kind *kind = running->kind;
    char *path = stats_server_path(node->dir);

    running->view = (struct stats_view){
        .metrics = kind->metrics(),
        .collect = kind->collect,
        .describe = kind->describe,
        .settings = kind->settings(),
        .settings_values = (const char *)cluster + kind->settings_offset,
        .server = running->server,
    };
    stats_serve(&running->admin, env_uv_env(loop), &running->view, path);
    mem_free(path);
}

/* 0 or a negative code. */
static int start(struct running *running, const struct daemon_options *options,
                 const struct cluster_config *cluster, const struct node_config *node)
{
    const struct daemon_kind *kind = running->kind;
    struct env *env = env_uv_env(loop);
    int r = options->disk_error;

    env_uv_on_end(loop, begin_anew, NULL);
    if (r == 0) {
        r = kind->start(running->server, env, cluster, node, options);
    }
    if (r < 0 && options->again && env_is_disk_error(r)) {
        running->stands_in = true;
        r = standin_start(&running->standin, env, kind, cluster, node, r);
    } else if (r == 0) {
        serve_stats(running, cluster, node);
        LOG_INFO(env, kind->name, "serving at %s, data in %s", node->address, node->dir);
    }
    return r;
}

static int serve(const struct daemon_kind *kind, const struct daemon_options *options,
                 const struct cluster_config *cluster, int report_fd)
{
    const struct node_config *node = kind->find(cluster, options->id);
    char *name = mem_printf("%s%u", kind->node, options->id);
    struct env_uv_config config = {
        .node_name = name,
        .log_level = options->verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
        .log_path = options->log_path,
    };
    struct running running = {.kind = kind, .server = mem_zalloc(kind->server_size)};
    int r;

    r = env_uv_open(&loop, &config);
    if (r < 0) {
        cli_error("cannot start %s: %s (log file %s)", name, err_text(r),
                  options->log_path ? options->log_path : "-");
        daemon_report(report_fd, 1, options->log_path);
        return 1;
    }
    r = write_pid_file(options->pid_file);
    if (r < 0 && options->again) {
        LOG_WARN(env_uv_env(loop), name, "cannot write path=%s: the file there names us already",
                 options->pid_file);
        r = 0;
    }
    if (r == 0) {
        r = start(&running, options, cluster, node);
    }
    if (r < 0) {
        cli_error("%s cannot start: %s; %s says more", name, err_text(r),
                  options->log_path ? options->log_path : "the line above");
        daemon_report(report_fd, 1, options->log_path);
        return 1;
    }
    daemon_report(report_fd, 0, options->log_path);
    env_uv_on_stop_signal(loop, on_signal, &running);
    env_uv_run(loop);
    if (options->pid_file != NULL) {
        unlink(options->pid_file);
    }
    return 0; /* the process ends: what is left of memory goes with it */
}

static int serve_in_background(const struct daemon_kind *kind, const struct daemon_options *options,
                               const struct cluster_config *cluster)
{
    uint8_t code = 1;
    int fds[2], null;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
        cli_error("cannot start a process: %s", strerrordesc_np(errno));
        return 1;
    }
    if (pid > 0) {
        close(fds[1]);
        if (read(fds[0], &code, 1) != 1) {
            cli_error("%s ended before it served; see %s", kind->name,
                      options->log_path ? options->log_path : "above");
        }
        return code;
    }
    close(fds[0]);
    setsid();
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    exit(serve(kind, options, cluster, fds[1]));
}

int daemon_main(const struct daemon_kind *kind, int argc, char **argv)
{
    struct daemon_options options = {.config_path = cli_default_config()};
    static struct cluster_config cluster;
    const struct node_config *node;
    int r;

    arguments = argv;
    r = parse(kind, &options, argc, argv);
    if (r != 0) {
        return r < 0 ? 0 : r;
    }
    if (cluster_config_read(&cluster, options.config_path) < 0) {
        return 1;
    }
    config_overrides_apply(&options.set, kind->settings(),
                           (char *)&cluster + kind->settings_offset);
    options.bootstrap = options.bootstrap && !options.again; /* the directory is made */
    node = kind->find(&cluster, options.id);
    if (node == NULL || node->dir == NULL) {
        cli_error("%s has no section [%s.%u] with a dir", options.config_path, kind->node,
                  options.id);
        return 1;
    }
    r = options.background && !options.again ? serve_in_background(kind, &options, &cluster)
                                             : serve(kind, &options, &cluster, -1);
    cluster_config_deinit(&cluster);
    return r;
}
