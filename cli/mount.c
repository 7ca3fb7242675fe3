/*
 * keelfs mount: in the background by default. The parent waits until the mount answers, or fails
 * with the reason, so that scripts and mount(8) can rely on it.
 */
#include "cli/cli.h"
#include "cli/daemon.h"

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "fs/flush.h"
#include "fs/fuse_bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define START_TIMEOUT_S  30 /* to find a leader and open a session; then the caller is told */
#define UNMOUNT_PATIENCE (10 * NS_PER_S)

struct mount_options {
    const char *source; /* cluster.conf */
    char target[PATH_MAX];
    char subdir[PATH_MAX];
    const char *fsname, *subtype; /* what df and /proc/mounts show */
    const char *log_path, *pid_file;
    bool foreground, verbose, remount, read_only;
    bool nosuid, nodev, noexec, no_dir_atime, no_allow_other, no_default_permissions;
    enum atime_policy atime;
    uint64_t soft_timeout_ns;
    bool soft, idmap;
    struct config_overrides set;
    char *lists[16]; /* of -o: the overrides are in there */
    unsigned list_count;
};

struct mounted {
    struct env_uv *uv;
    struct mount mount;
    struct fuse_bridge *bridge;
    struct mount_options *options;
    int report_fd; /* to the waiting parent; -1 when told */
    int exit_code;
    struct env_timer patience;
    bool closing;
    struct stats_view view;
    struct admin admin;
};

static const char help[] =
    "usage: keelfs mount [-f] [-v] [-o OPTIONS] [--log FILE] CLUSTER_CONF DIRECTORY\n"
    "       mount -t keelfs [-o OPTIONS] CLUSTER_CONF DIRECTORY\n\n"
    "  -f, --foreground   stay in the foreground, log to stderr\n"
    "  -v, --verbose      log every move\n"
    "      --log FILE     log there (default: syslog-like lines to /var/log/keelfs-mount.log\n"
    "                     when that can be written, else none)\n"
    "      --pid-file F   write the process id there\n"
    "  -o OPTIONS         comma-separated:\n"
    "       ro rw nosuid nodev noexec _netdev defaults remount\n"
    "       relatime strictatime noatime nodiratime\n"
    "                      when access times are kept (default noatime)\n"
    "       allow_other default_permissions   (both are on when root mounts)\n"
    "       fsname=NAME    the source that df and /proc/mounts show (default keelfs)\n"
    "       subtype=NAME   the type there is fuse.NAME, or fuse when empty (default keelfs)\n"
    "       subdir=PATH    mount this directory of the volume as the root\n"
    "       hard           wait for servers as long as it takes; signals interrupt (default)\n"
    "       idmap          the mount may be idmapped; the kernel alone checks permission\n"
    "       soft           give up with EIO after timeo seconds\n"
    "       timeo=SECONDS  for soft, default 30\n"
    "       NAME=VALUE     see below\n\n"
    "Unmount with umount DIRECTORY.\n";

/* ---- options ---- */

static const char *const ignored[] = {
    "rw",     "_netdev", "defaults", "hard",        "suid",
    "dev",    "exec",    "auto",     "noauto",      "nofail",
    "nouser", "async",   "lazytime", "allow_other", "default_permissions",
    "users",  "user",    "owner",    "group"};

static bool is_ignored(const char *option)
{
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++) {
        if (strcmp(option, ignored[i]) == 0) {
            return true;
        }
    }
    /* The kernel's own words come back from /proc/mounts at a remount. */
    return strncmp(option, "x-", 2) == 0 || strncmp(option, "comment=", 8) == 0 ||
           strncmp(option, "user_id=", 8) == 0 || strncmp(option, "group_id=", 9) == 0 ||
           strncmp(option, "max_read=", 9) == 0;
}

static bool set_flag(struct mount_options *options, const char *option)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {
        {"ro", &options->read_only},    {"nosuid", &options->nosuid},
        {"nodev", &options->nodev},     {"noexec", &options->noexec},
        {"remount", &options->remount}, {"nodiratime", &options->no_dir_atime},
        {"soft", &options->soft},       {"idmap", &options->idmap},
    };

    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        if (strcmp(option, flags[i].name) == 0) {
            *flags[i].flag = true;
            return true;
        }
    }
    return false;
}

static bool set_atime(struct mount_options *options, const char *option)
{
    static const struct {
        const char *name;
        enum atime_policy policy;
    } policies[] = {{"noatime", ATIME_NEVER},
                    {"relatime", ATIME_RELATIVE},
                    {"atime", ATIME_RELATIVE},
                    {"strictatime", ATIME_STRICT}};

    for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
        if (strcmp(option, policies[i].name) == 0) {
            options->atime = policies[i].policy;
            return true;
        }
    }
    return false;
}

static int parse_option(struct mount_options *options, const char *option)
{
    char *end;
    double seconds;

    if (strncmp(option, "subdir=", 7) == 0) {
        snprintf(options->subdir, sizeof(options->subdir), "%s", option + 7);
        return 0;
    }
    if (strncmp(option, "fsname=", 7) == 0) {
        options->fsname = option + 7;
        return 0;
    }
    if (strncmp(option, "subtype=", 8) == 0) {
        options->subtype = option + 8;
        return 0;
    }
    if (strncmp(option, "timeo=", 6) == 0) {
        seconds = strtod(option + 6, &end);
        if (end == option + 6 || *end != '\0' || seconds < 0.1 || seconds > 86400) {
            cli_error("option timeo=%s is not a number of seconds in 0.1..86400", option + 6);
            return -EINVAL;
        }
        options->soft_timeout_ns = (uint64_t)(seconds * (double)NS_PER_S);
        return 0;
    }
    if (strcmp(option, "rw") == 0) {
        options->read_only = false;
        return 0;
    }
    if (strcmp(option, "diratime") == 0) {
        options->no_dir_atime = false;
        return 0;
    }
    if (set_flag(options, option) || set_atime(options, option) || is_ignored(option) ||
        option[0] == '\0') {
        return 0;
    }
    if (config_find(mount_settings_table(), option, strcspn(option, "=")) != NULL) {
        return config_override(&options->set, mount_settings_table(), option);
    }
    cli_error("unknown mount option '%s'; `keelfs mount --help` lists them", option);
    return -EINVAL;
}

static int parse_list(struct mount_options *options, const char *list)
{
    char *rest = mem_strdup(list), *option;
    int r = 0;

    if (options->list_count == ARRAY_SIZE(options->lists)) {
        cli_error("too many -o: give all options in one, with commas");
        mem_free(rest);
        return -EINVAL;
    }
    options->lists[options->list_count++] = rest;
    while (r == 0 && (option = strsep(&rest, ",")) != NULL) {
        r = parse_option(options, option);
    }
    return r;
}

static int parse(struct mount_options *options, int argc, char **argv)
{
    static const struct option longs[] = {
        {"foreground", no_argument, NULL, 'f'}, {"verbose", no_argument, NULL, 'v'},
        {"log", required_argument, NULL, 'l'},  {"pid-file", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "fvo:nsht:N:", longs, NULL)) != -1) {
        switch (c) {
        case 'f':
            options->foreground = true;
            break;
        case 'v':
            options->verbose = true;
            break;
        case 'l':
            options->log_path = optarg;
            break;
        case 'p':
            options->pid_file = optarg;
            break;
        case 'n': /* mount(8): no mtab */
        case 's': /* mount(8): sloppy */
        case 't': /* mount(8): the type with its subtype */
        case 'N': /* mount(8): a namespace that it has entered already */
            break;
        case 'o':
            if (parse_list(options, optarg) < 0) {
                return EXIT_USAGE;
            }
            break;
        case 'h':
            fputs(help, stdout);
            config_print_help(mount_settings_table(),
                              "What can be set, in [mount] of cluster.conf or with -o NAME=VALUE:");
            return -1;
        default:
            return EXIT_USAGE;
        }
    }
    if (argc - optind != 2) {
        cli_error("mount takes a cluster.conf and a directory; see `keelfs mount --help`");
        return EXIT_USAGE;
    }
    options->source = argv[optind];
    if (realpath(argv[optind + 1], options->target) == NULL) {
        cli_error("cannot mount at %s: %s", argv[optind + 1], strerrordesc_np(errno));
        return 1;
    }
    if (options->soft && options->soft_timeout_ns == 0) {
        options->soft_timeout_ns = 30 * NS_PER_S;
    }
    if (!options->soft) {
        options->soft_timeout_ns = 0;
    }
    return 0;
}

static int do_remount(const struct mount_options *options)
{
    unsigned long flags = MS_REMOUNT;

    flags |= options->read_only ? MS_RDONLY : 0;
    flags |= options->nosuid ? MS_NOSUID : 0;
    flags |= options->nodev ? MS_NODEV : 0;
    flags |= options->noexec ? MS_NOEXEC : 0;
    flags |= options->atime == ATIME_NEVER ? MS_NOATIME : 0;
    if (mount("keelfs", options->target, NULL, flags, NULL) < 0) {
        cli_error("cannot remount %s: %s", options->target, strerrordesc_np(errno));
        return 1;
    }
    return 0;
}

static char *kernel_options(const struct mount_options *options)
{
    bool root = geteuid() == 0;
    const char *subtype = options->subtype != NULL ? options->subtype : "keelfs";

    return mem_printf(
        "fsname=%s%s%s%s%s%s%s%s%s", options->fsname != NULL ? options->fsname : "keelfs",
        subtype[0] != '\0' ? ",subtype=" : "", subtype,
        root ? ",allow_other,default_permissions" : ",default_permissions",
        options->read_only ? ",ro" : "", root ? (options->nosuid ? ",nosuid" : ",suid") : "",
        root ? (options->nodev ? ",nodev" : ",dev") : "", options->noexec ? ",noexec" : "",
        options->atime == ATIME_NEVER ? ",noatime" : "");
}

/* ---- running ---- */

static void tell_parent(struct mounted *m, int code)
{
    m->exit_code = code;
    daemon_report(m->report_fd, code, m->options->log_path);
    m->report_fd = -1;
}

static void on_closed(struct mount *mount)
{
    struct mounted *m = container_of(mount, struct mounted, mount);

    admin_stop(&m->admin);
    env_uv_stop(m->uv);
}

static void on_patience_over(struct env_timer *timer)
{
    struct mounted *m = container_of(timer, struct mounted, patience);
    struct env *env = env_uv_env(m->uv);

    if (!m->options->soft && flush_busy(&m->mount)) {
        LOG_WARN(env, "mount",
                 "unmounted, but the servers have not taken the last written data "
                 "yet: waiting for them; a second signal gives it up");
        env_timer_start(env, timer, env_now(env) + UNMOUNT_PATIENCE);
        return;
    }
    LOG_ERROR(env_uv_env(m->uv), "mount",
              "the servers did not take the last written data in time: it is lost; exiting");
    m->exit_code = 1;
    env_uv_stop(m->uv);
}

static void begin_close(struct mounted *m)
{
    struct env *env = env_uv_env(m->uv);

    if (!m->closing) {
        m->closing = true;
        m->patience.fire = on_patience_over;
        env_timer_start(env, &m->patience, env_now(env) + UNMOUNT_PATIENCE);
        mount_close(&m->mount);
    }
}

static void on_ended(void *data)
{
    begin_close(data);
}

static void on_ready(struct mount *mount, int status)
{
    struct mounted *m = container_of(mount, struct mounted, mount);
    char *kernel = kernel_options(m->options);
    struct fuse_bridge_config config = {
        .mountpoint = m->options->target,
        .options = kernel,
        .idmap = m->options->idmap,
        .ended = on_ended,
        .data = m,
    };
    int r = status;

    if (r < 0) {
        cli_error("cannot mount: the volume has no directory '%s': %s", m->options->subdir,
                  err_text(r));
    } else {
        r = fuse_bridge_start(&m->bridge, m->uv, mount, &config);
        if (r < 0) {
            cli_error("cannot mount at %s: %s; is FUSE there (/dev/fuse), and are you allowed to?",
                      m->options->target, err_text(r));
        }
    }
    mem_free(kernel);
    if (r < 0) {
        tell_parent(m, 1);
        begin_close(m);
        return;
    }
    LOG_INFO(env_uv_env(m->uv), "mount", "mounted at %s", m->options->target);
    tell_parent(m, 0);
}

static void on_signal(void *data)
{
    struct mounted *m = data;

    if (m->bridge != NULL && !m->closing) {
        fuse_bridge_unmount(m->bridge);
        return;
    }
    if (m->bridge != NULL && flush_busy(&m->mount)) {
        LOG_ERROR(env_uv_env(m->uv), "mount", "told to stop: the last written data is lost");
        m->exit_code = 1;
        env_uv_stop(m->uv);
    }
    if (m->bridge == NULL) {
        m->exit_code = 1;
        env_uv_stop(m->uv);
    }
}

static const void *collect(void *mount)
{
    return mount_collect(mount);
}

static void describe(const void *mount, struct buf *out)
{
    mount_describe(mount, out);
}

/* Before anything that waits for servers: it is for then. Freed by the caller, who unlinks it. */
static char *serve_stats(struct mounted *m, const struct cluster_config *cluster)
{
    char *path = stats_mount_path(m->options->target);

    m->view = (struct stats_view){
        .metrics = mount_metrics_table(),
        .collect = collect,
        .describe = describe,
        .settings = mount_settings_table(),
        .settings_values = &cluster->mount_settings,
        .server = &m->mount,
    };
    if (path != NULL) {
        char *end = strrchr(path, '/');

        *end = '\0';
        (void)mkdir(path, 0755); /* there from the second mount on; if not, listening fails */
        *end = '/';
    }
    stats_serve(&m->admin, env_uv_env(m->uv), &m->view, path);
    return path;
}

static int serve(struct mount_options *options, const struct cluster_config *cluster, int report_fd)
{
    struct env_uv_config uv_config = {
        .node_name = "mount",
        .log_level = options->verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
        .log_path = options->log_path,
    };
    const char *addresses[CONFIG_META_MAX];
    struct mount_config config = {
        .identity = {.role = RPC_ROLE_CLIENT},
        .meta_addresses = addresses,
        .meta_address_count = cluster->meta_count,
        .write_quorum = cluster->settings.write_quorum,
        .soft_timeout_ns = options->soft_timeout_ns,
        .read_only = options->read_only,
        .atime = options->atime,
        .no_dir_atime = options->no_dir_atime,
        .subdir = options->subdir,
        .settings = &cluster->mount_settings,
    };
    struct mounted *m = mem_zalloc(sizeof(*m));
    char *admin_path;
    int r;

    m->options = options;
    m->report_fd = report_fd;
    r = env_uv_open(&m->uv, &uv_config);
    if (r < 0) {
        cli_error("cannot start: %s (log file %s)", err_text(r),
                  options->log_path ? options->log_path : "-");
        return 1;
    }
    if (write_pid_file(options->pid_file) < 0) {
        return 1;
    }
    memcpy(config.identity.cluster_uuid, cluster->uuid, 16);
    for (unsigned i = 0; i < cluster->meta_count; i++) {
        addresses[i] = cluster->meta[i].address;
    }
    m->mount.ready = on_ready;
    m->mount.closed = on_closed;
    env_uv_on_stop_signal(m->uv, on_signal, m);
    mount_start(&m->mount, env_uv_env(m->uv), &config);
    admin_path = serve_stats(m, cluster);
    env_uv_run(m->uv);
    if (admin_path != NULL) {
        unlink(admin_path);
    }
    mem_free(admin_path);
    if (options->pid_file != NULL) {
        unlink(options->pid_file);
    }
    r = m->exit_code;
    if (m->bridge != NULL) {
        fuse_bridge_stop(m->bridge);
    }
    return r; /* the process ends here: what is left of memory goes with it */
}

/* The child's verdict: 0..255, or a time-out. */
static int wait_for_child(int fd, pid_t child)
{
    struct timeval patience = {.tv_sec = START_TIMEOUT_S};
    fd_set set;
    uint8_t code = 1;

    FD_ZERO(&set);
    FD_SET(fd, &set);
    if (select(fd + 1, &set, NULL, NULL, &patience) == 0) {
        cli_error("no metadata server answered for %d s; not mounted. Is the cluster up? See "
                  "`keelfs status`.",
                  START_TIMEOUT_S);
        kill(child, SIGKILL);
        return 1;
    }
    if (read(fd, &code, 1) != 1) {
        cli_error("the mount process ended before it was ready; see its log");
        return 1;
    }
    return code;
}

static void detach(struct mount_options *options)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    setsid();
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (options->log_path == NULL) {
        options->log_path =
            access("/var/log", W_OK) == 0 ? "/var/log/keelfs-mount.log" : "/dev/null";
    }
    if (chdir("/") < 0) {
        cli_error("cannot change to /: %s", strerrordesc_np(errno));
    }
}

static int serve_in_background(struct mount_options *options, const struct cluster_config *cluster)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
        cli_error("cannot start a process: %s", strerrordesc_np(errno));
        return 1;
    }
    if (pid > 0) {
        close(fds[1]);
        return wait_for_child(fds[0], pid);
    }
    close(fds[0]);
    detach(options);
    exit(serve(options, cluster, fds[1]));
}

static int run(struct mount_options *options, int argc, char **argv)
{
    struct cluster_config cluster;
    int r;

    r = parse(options, argc, argv);
    if (r != 0) {
        return r < 0 ? 0 : r;
    }
    if (options->remount) {
        return do_remount(options);
    }
    if (cluster_config_read(&cluster, options->source) < 0) {
        return 1;
    }
    config_overrides_apply(&options->set, mount_settings_table(), &cluster.mount_settings);
    r = options->foreground ? serve(options, &cluster, -1) : serve_in_background(options, &cluster);
    cluster_config_deinit(&cluster);
    return r;
}

int cmd_mount(int argc, char **argv)
{
    struct mount_options *options = mem_zalloc(sizeof(*options));
    int r;

    options->atime = ATIME_NEVER;
    r = run(options, argc, argv);

    for (unsigned i = 0; i < options->list_count; i++) {
        mem_free(options->lists[i]);
    }
    mem_free(options);
    return r;
}
