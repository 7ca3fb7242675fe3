/*
 * keelfs-sim: a whole KeelFS cluster under a seed: servers, mounts, programs and trouble in one
 * thread and in virtual time (docs/TESTING.md). Each seed runs in a process of its own.
 */
#include "tests/sim/sim_world.h"

#include "base/mem.h"

#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

struct world *world;

static const char help[] =
    "usage: keelfs-sim [--seed N | --seeds A..B | --list] [--minutes M] [--small] [--trace]\n\n"
    "Runs clusters of 3 or 5 metadata servers, 3 to 6 chunk servers and 1 to 4 clients in virtual\n"
    "time. Topology, settings, programs and faults come from the seed; the same seed is the same\n"
    "run, event by event.\n\n"
    "  -s, --seed N       one seed (default 1)\n"
    "  -S, --seeds A..B   these, one after the other; goes on after a failure\n"
    "  -l, --list         those on standard input, one a line, each with its minutes if it has "
    "any;\n"
    "                     fails also when a kind of trouble was met by none of them\n"
    "  -2, --small        3 metadata servers, 3 chunk servers, 1 client, whatever the seed says\n"
    "  -m, --minutes M    of trouble in virtual time (default: 20 s to 2 minutes, by the seed)\n"
    "  -t, --trace        print every log line, call and fault\n\n"
    "exit code: 0 all is well, 1 a seed failed, 2 usage\n";

/* Shared with the children: what they have done. */
struct totals {
    struct sim_counts counts;
    uint64_t seeds, virtual_ns, steps;
    uint64_t small_seeds, small_ns; /* of 3 metadata servers, 3 chunk servers, 1 client */
    double small_cpu_s;
    uint64_t marks[SIM_MARKS_MAX];
};

static struct totals *totals;

static void add_counts(const struct sim_counts *counts)
{
#define SIM_COUNT_ADD(name) totals->counts.name += counts->name;
    SIM_COUNTS(SIM_COUNT_ADD)
#undef SIM_COUNT_ADD
}

static void print_counts(void)
{
    const char *gap = "";

#define SIM_COUNT_PRINT(name)                                                                      \
    printf("%s%s=%" PRIu64, gap, #name, totals->counts.name);                                      \
    gap = " ";
    SIM_WORK(SIM_COUNT_PRINT)
    gap = "\ntrouble: ";
    SIM_TROUBLE(SIM_COUNT_PRINT)
#undef SIM_COUNT_PRINT
    printf("\n");
}

/* A checker that meets no trouble shows nothing. */
static unsigned kinds_missed(void)
{
    unsigned missed = 0;

#define SIM_COUNT_MISSED(name)                                                                     \
    if (totals->counts.name == 0) {                                                                \
        printf("VIOLATION: no seed has met this kind of trouble: %s\n", #name);                    \
        missed++;                                                                                  \
    }
    SIM_TROUBLE(SIM_COUNT_MISSED)
#undef SIM_COUNT_MISSED
    return missed;
}

/* The machine may be busy with other things: what this took of it. */
static double cpu_s(int whose)
{
    struct rusage usage;

    getrusage(whose, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Dead nodes leave their memory behind, and the world ends soon: nothing goes back to the kernel.
 */
static void keep_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, MiB(32));
    mallopt(M_TRIM_THRESHOLD, INT32_MAX);
    mallopt(M_TOP_PAD, MiB(16));
}

/* Not drawn: what else is drawn for a seed stays. */
static enum atime_policy atime_policy(uint64_t seed)
{
    static const enum atime_policy policies[] = {ATIME_NEVER, ATIME_RELATIVE, ATIME_NEVER,
                                                 ATIME_STRICT};

    return policies[seed % ARRAY_SIZE(policies)];
}

static void run_seed(const struct sim_options *options)
{
    uint64_t length;

    world = mem_zalloc(sizeof(*world));
    world->options = *options;
    world->sim = sim_new(options->seed);
    world->atime = atime_policy(options->seed);
    rng_init(&world->rng, options->seed ^ UINT64_C(0x5eed));
    rng_init(&world->buggify_rng, options->seed ^ UINT64_C(0xb66f));
    trace_attach(world);
    model_init(&world->model, 2);
    cluster_draw();
    faults_draw();
    cluster_start();
    length = options->minutes != 0 ? options->minutes * 60 * NS_PER_S
                                   : 20 * NS_PER_S + rng_below(&world->rng, 100 * NS_PER_S);
    world_run(sim_now(world->sim) + length);
    check_end();
    add_counts(&world->counts);
    marks_add(totals->marks);
    totals->virtual_ns += sim_now(world->sim);
    totals->steps += sim_steps(world->sim);
    if (world->meta_count == 3 && world->chunk_count == 3 && world->client_count == 1) {
        totals->small_seeds++;
        totals->small_ns += sim_now(world->sim);
        totals->small_cpu_s += cpu_s(RUSAGE_SELF);
    }
    printf("seed %" PRIu64 ": ok, %.0f s, %" PRIu64 " events, %" PRIu64 " calls, digest %016" PRIx64
           "\n",
           options->seed, (double)sim_now(world->sim) / 1e9, sim_steps(world->sim),
           world->counts.calls, sim_digest(world->sim) ^ world->trace_digest);
}

/* In a child: a world leaks what its dead nodes leave, and a failed assertion ends only this one.
 */
static bool run_child(const struct sim_options *options)
{
    int status = 0;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        run_seed(options);
        fflush(stdout);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        perror("keelfs-sim");
        exit(2);
    }
    if (WIFSIGNALED(status)) {
        printf("seed %" PRIu64 ": VIOLATION: ended by signal %d\n", options->seed,
               WTERMSIG(status));
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static double now_s(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static unsigned run_range(struct sim_options *options, uint64_t from, uint64_t to)
{
    unsigned failed = 0;

    for (uint64_t seed = from; seed <= to; seed++) {
        options->seed = seed;
        totals->seeds++;
        failed += !run_child(options);
    }
    return failed;
}

static unsigned run_listed(struct sim_options *options)
{
    char line[256];
    unsigned failed = 0;

    while (fgets(line, sizeof(line), stdin) != NULL) {
        options->minutes = 0;
        if (sscanf(line, "%" SCNu64 " %" SCNu64, &options->seed, &options->minutes) > 0) {
            totals->seeds++;
            failed += !run_child(options);
        }
    }
    return failed + kinds_missed();
}

static void print_small(void)
{
    if (totals->small_seeds > 0) {
        fprintf(stderr,
                "%" PRIu64 " of them with 3 + 3 servers and 1 client: %.0f times real time\n",
                totals->small_seeds, (double)totals->small_ns / 1e9 / totals->small_cpu_s);
    }
}

static void print_totals(unsigned failed, double took)
{
    double cpu = cpu_s(RUSAGE_CHILDREN);

    print_counts();
    marks_print(totals->marks);
    fflush(stdout);
    fprintf(stderr,
            "%" PRIu64
            " seeds, %u failed, %.2f simulated hours in %.1f s (%.1f s of CPU): %.0f times "
            "real time, %.0f events/s\n",
            totals->seeds, failed, (double)totals->virtual_ns / 3.6e12, took, cpu,
            (double)totals->virtual_ns / 1e9 / cpu, (double)totals->steps / cpu);
    print_small();
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"seed", required_argument, NULL, 's'},    {"seeds", required_argument, NULL, 'S'},
        {"minutes", required_argument, NULL, 'm'}, {"trace", no_argument, NULL, 't'},
        {"small", no_argument, NULL, '2'},         {"list", no_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    struct sim_options options = {0};
    uint64_t from = 1, to = 1;
    bool listed = false;
    double began = now_s();
    unsigned failed;
    int c;

    while ((c = getopt_long(argc, argv, "s:S:m:lt2h", longs, NULL)) != -1) {
        switch (c) {
        case 's':
            from = to = strtoull(optarg, NULL, 0);
            break;
        case 'S':
            if (sscanf(optarg, "%" SCNu64 "..%" SCNu64, &from, &to) != 2 || to < from) {
                fputs(help, stderr);
                return 2;
            }
            break;
        case 'm':
            options.minutes = strtoull(optarg, NULL, 0);
            break;
        case 'l':
            listed = true;
            break;
        case 't':
            options.trace = true;
            break;
        case '2':
            options.small = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            fputs(help, stderr);
            return 2;
        }
    }
    keep_memory();
    totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (totals == MAP_FAILED) {
        perror("keelfs-sim");
        return 2;
    }
    failed = listed ? run_listed(&options) : run_range(&options, from, to);
    print_totals(failed, now_s() - began);
    return failed > 0;
}
