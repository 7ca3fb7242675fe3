/*
 * keelfs demo: a whole cluster on this machine: three metadata and three chunk servers as processes
 * of their own, and a mount. Started again on the same directory it brings the same files back.
 */
#include "cli/cli.h"

#include "base/mem.h"
#include "cli/init.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define STOP_PATIENCE_MS    15000
#define POLL_MS             20
#define HEALTHY_PATIENCE_MS 10000

extern char **environ;

struct demo {
    char dir[PATH_MAX];
    char self[PATH_MAX];
    char *conf, *mnt;
    char *starting; /* exists until the servers have run once */
    bool is_new;
    struct cluster_config cluster;
};

static const char help[] =
    "usage: keelfs demo [DIR]\n"
    "       keelfs demo --stop DIR\n\n"
    "Starts three metadata and three chunk servers with their data under DIR (default ./demo),\n"
    "mounts the volume at DIR/mnt and says what to try. On a DIR that was used before, the same\n"
    "files are back; servers that still run are left alone.\n\n"
    "      --stop     unmount and stop all servers; data stays\n"
    "      --servers  start the servers, do not mount\n";

static int run_self(struct demo *demo, char *const argv[])
{
    pid_t pid;
    int status;

    if (posix_spawn(&pid, demo->self, NULL, NULL, argv, environ) != 0) {
        cli_error("cannot run %s", demo->self);
        return -1;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Is this process one of ours: was it told our cluster.conf? (Pids are used again.) */
static bool is_ours(const struct demo *demo, pid_t pid)
{
    char path[64], line[4 * PATH_MAX];
    size_t size, at = 0;
    FILE *in;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    in = fopen(path, "re");
    if (in == NULL) {
        return false;
    }
    size = fread(line, 1, sizeof(line) - 1, in);
    fclose(in);
    line[size] = '\0';
    while (at < size && strcmp(line + at, demo->conf) != 0) {
        at += strlen(line + at) + 1;
    }
    return at < size;
}

/* The pid in DIR/run/NAME.pid if that process is alive and ours; else 0. */
static pid_t pid_of(const struct demo *demo, const char *name)
{
    char *path = mem_printf("%s/run/%s.pid", demo->dir, name);
    FILE *in = fopen(path, "re");
    int pid = 0;

    mem_free(path);
    if (in == NULL) {
        return 0;
    }
    if (fscanf(in, "%d", &pid) != 1 || pid <= 1 || kill(pid, 0) < 0) {
        pid = 0;
    }
    fclose(in);
    return pid != 0 && is_ours(demo, pid) ? pid : 0;
}

static int start_server(struct demo *demo, const char *command, const char *kind, uint32_t id)
{
    char *name = mem_printf("%s%u", kind, id);
    char *number = mem_printf("%u", id);
    char *log = mem_printf("%s/log/%s.log", demo->dir, name);
    char *pid_file = mem_printf("%s/run/%s.pid", demo->dir, name);
    char *const argv[] = {demo->self,
                          (char *)(uintptr_t)command,
                          "--config",
                          demo->conf,
                          "--id",
                          number,
                          "--log",
                          log,
                          "--pid-file",
                          pid_file,
                          "--background",
                          demo->is_new && strcmp(kind, "meta") == 0 ? "--bootstrap" : NULL,
                          NULL};
    int r = 0;

    if (pid_of(demo, name) == 0) {
        r = run_self(demo, argv);
        if (r != 0) {
            cli_error("%s did not start; see %s", name, log);
        }
    }
    mem_free(name);
    mem_free(number);
    mem_free(log);
    mem_free(pid_file);
    return r;
}

/* Without touching the mount: a dead one would hang. */
static bool is_mounted(const struct demo *demo)
{
    FILE *in = fopen("/proc/self/mounts", "re");
    char line[2 * PATH_MAX], target[PATH_MAX];
    bool found = false;

    while (in != NULL && fgets(line, sizeof(line), in) != NULL) {
        found |= sscanf(line, "%*s %4095s", target) == 1 && strcmp(target, demo->mnt) == 0;
    }
    if (in != NULL) {
        fclose(in);
    }
    return found;
}

static int mount_demo(struct demo *demo)
{
    char *log = mem_printf("%s/log/mount.log", demo->dir);
    char *pid_file = mem_printf("%s/run/mount.pid", demo->dir);
    char *const argv[] = {demo->self, "mount",    "--log",   log, "--pid-file",
                          pid_file,   demo->conf, demo->mnt, NULL};
    int r;

    if (is_mounted(demo) && pid_of(demo, "mount") == 0) {
        umount2(demo->mnt, MNT_DETACH); /* its process was killed: nobody answers there */
    }
    if (is_mounted(demo)) {
        mem_free(log);
        mem_free(pid_file);
        return 0;
    }
    if (mkdir(demo->mnt, 0755) < 0 && errno != EEXIST) {
        cli_error("cannot create %s: %s", demo->mnt, strerrordesc_np(errno));
        return 1;
    }
    r = run_self(demo, argv);
    mem_free(log);
    mem_free(pid_file);
    return r;
}

/* No metadata server has ever run: the configuration may be older, but the cluster is new. */
static bool no_metadata(const struct cluster_config *cluster)
{
    for (unsigned i = 0; i < cluster->meta_count; i++) {
        if (cluster->meta[i].dir != NULL && access(cluster->meta[i].dir, F_OK) == 0) {
            return false;
        }
    }
    return true;
}

static int prepare(struct demo *demo)
{
    static const char *const subdirs[] = {"run", "log"};
    struct init_options three = {.meta_count = 3, .chunk_count = 3};
    bool wrote;
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(subdirs); i++) {
        char *path = mem_printf("%s/%s", demo->dir, subdirs[i]);

        r = mkdir(path, 0700);
        if (r < 0 && errno != EEXIST) {
            cli_error("cannot create %s: %s", path, strerrordesc_np(errno));
            return 1;
        }
        mem_free(path);
    }
    r = init_write_config(demo->conf, demo->dir, &three);
    if (r == 0) {
        int fd = open(demo->starting, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        if (fd >= 0) {
            close(fd);
        }
    }
    wrote = r == 0;
    if (r < 0 && r != -EEXIST) {
        cli_error("cannot write %s: %s", demo->conf, strerrordesc_np(-r));
        return 1;
    }
    if (cluster_config_read(&demo->cluster, demo->conf) < 0) {
        return 1;
    }
    demo->is_new = wrote || access(demo->starting, F_OK) == 0 || no_metadata(&demo->cluster);
    return 0;
}

static void tell(const struct demo *demo)
{
    printf("\nKeelFS is mounted at %s\n\n", demo->mnt);
    printf("work in it, and meanwhile:\n"
           "  kill the metadata leader:  kill -9 $(cat %s/run/meta$(%s status -c %s --json | "
           "sed -n 's/.*\"leader\": \\([0-9]*\\).*/\\1/p').pid)\n",
           demo->dir, demo->self, demo->conf);
    printf("  kill a chunk server:       kill -9 $(cat %s/run/chunk1.pid)\n", demo->dir);
    printf("  kill everything:           kill -9 $(cat %s/run/*.pid)\n\n", demo->dir);
    printf("look:        %s status -c %s\n", demo->self, demo->conf);
    printf("start again: %s demo %s\n", demo->self, demo->dir);
    printf("stop:        %s demo --stop %s\n\n", demo->self, demo->dir);
    fflush(stdout);
}

static int show_status(struct demo *demo)
{
    char *const argv[] = {demo->self, "status", "-c", demo->conf, NULL};

    return run_self(demo, argv);
}

static void pause_ms(unsigned ms)
{
    const struct timespec span = {.tv_nsec = (long)ms * 1000000};

    nanosleep(&span, NULL);
}

static bool is_healthy(struct demo *demo)
{
    char *const argv[] = {demo->self, "status", "-c", demo->conf, NULL};
    posix_spawn_file_actions_t quiet;
    int status = -1;
    pid_t pid;

    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (posix_spawn(&pid, demo->self, &quiet, NULL, argv, environ) == 0) {
        waitpid(pid, &status, 0);
    }
    posix_spawn_file_actions_destroy(&quiet);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The servers have found each other; a degraded cluster is mounted too, a little later. */
static void wait_healthy(struct demo *demo)
{
    for (unsigned waited = 0; waited < HEALTHY_PATIENCE_MS && !is_healthy(demo);
         waited += 5 * POLL_MS) {
        pause_ms(5 * POLL_MS);
    }
}

static int start(struct demo *demo, bool mount_too)
{
    if (prepare(demo) != 0) {
        return 1;
    }
    for (unsigned i = 0; i < demo->cluster.meta_count; i++) {
        if (start_server(demo, "metad", "meta", demo->cluster.meta[i].id) != 0) {
            return 1;
        }
    }
    for (unsigned i = 0; i < demo->cluster.chunk_count; i++) {
        if (start_server(demo, "chunkd", "chunk", demo->cluster.chunk[i].id) != 0) {
            return 1;
        }
    }
    unlink(demo->starting);
    if (!mount_too) {
        return 0;
    }
    wait_healthy(demo);
    if (mount_demo(demo) != 0) {
        cli_error("the servers run, but the mount failed; logs are in %s/log", demo->dir);
        return 1;
    }
    tell(demo);
    show_status(demo);
    return 0;
}

/* ---- stopping ---- */

static void stop_process(const struct demo *demo, const char *name)
{
    pid_t pid = pid_of(demo, name);
    char *path;

    if (pid != 0) {
        kill(pid, SIGTERM);
        for (unsigned waited = 0; pid_of(demo, name) == pid; waited += POLL_MS) {
            if (waited >= STOP_PATIENCE_MS) {
                cli_error("%s did not stop in %d s: killed", name, STOP_PATIENCE_MS / 1000);
                kill(pid, SIGKILL);
            }
            pause_ms(POLL_MS);
        }
    }
    path = mem_printf("%s/run/%s.pid", demo->dir, name);
    unlink(path);
    mem_free(path);
}

static void unmount_demo(const struct demo *demo)
{
    for (unsigned waited = 0; is_mounted(demo) && waited < STOP_PATIENCE_MS; waited += POLL_MS) {
        if (umount2(demo->mnt, 0) == 0) {
            break;
        }
        if (errno == EBUSY) {
            cli_error("%s is in use: detached, it ends when the last user leaves", demo->mnt);
            umount2(demo->mnt, MNT_DETACH);
            break;
        }
        pause_ms(POLL_MS);
    }
    for (unsigned waited = 0; pid_of(demo, "mount") != 0 && waited < STOP_PATIENCE_MS;
         waited += POLL_MS) {
        pause_ms(POLL_MS); /* it brings its last data home */
    }
}

static int stop(struct demo *demo)
{
    if (cluster_config_read(&demo->cluster, demo->conf) < 0) {
        return 1;
    }
    unmount_demo(demo);
    for (unsigned i = 0; i < demo->cluster.chunk_count; i++) {
        char *name = mem_printf("chunk%u", demo->cluster.chunk[i].id);

        stop_process(demo, name);
        mem_free(name);
    }
    for (unsigned i = 0; i < demo->cluster.meta_count; i++) {
        char *name = mem_printf("meta%u", demo->cluster.meta[i].id);

        stop_process(demo, name);
        mem_free(name);
    }
    return 0;
}

static int find_dir(struct demo *demo, const char *dir)
{
    ssize_t size = readlink("/proc/self/exe", demo->self, sizeof(demo->self) - 1);

    if (size < 0) {
        return 1;
    }
    demo->self[size] = '\0';
    if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
        cli_error("cannot create %s: %s", dir, strerrordesc_np(errno));
        return 1;
    }
    if (realpath(dir, demo->dir) == NULL) {
        cli_error("cannot use %s: %s", dir, strerrordesc_np(errno));
        return 1;
    }
    demo->conf = mem_printf("%s/cluster.conf", demo->dir);
    demo->mnt = mem_printf("%s/mnt", demo->dir);
    demo->starting = mem_printf("%s/run/first-start", demo->dir);
    return 0;
}

int cmd_demo(int argc, char **argv)
{
    static const struct option longs[] = {{"stop", no_argument, NULL, 's'},
                                          {"servers", no_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    static struct demo demo;
    bool stopping = false, mount_too = true;
    int c;

    while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (c == 's') {
            stopping = true;
        } else if (c == 'n') {
            mount_too = false;
        } else if (c == 'h') {
            fputs(help, stdout);
            return 0;
        } else {
            return EXIT_USAGE;
        }
    }
    if (argc - optind > 1 || (stopping && argc - optind != 1)) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    if (find_dir(&demo, optind < argc ? argv[optind] : "demo") != 0) {
        return 1;
    }
    return stopping ? stop(&demo) : start(&demo, mount_too);
}
