/*
 * load: writers whose acknowledged work can be checked afterwards, for tests that kill things.
 *
 *   load append FILE ACK      append 4 KiB + fsync in a loop; ACK (a local file) holds how many
 *                             blocks were acknowledged
 *   load overwrite FILE ACK   4 KiB at random places of 64 blocks + fsync; ACK holds each block's
 *                             acknowledged version
 *   load names DIR ACK        create, rename, stat, unlink; ACK holds how many were acknowledged
 *   load verify-append|verify-overwrite|verify-names PATH ACK
 *
 * --times FILE appends of each acknowledged operation when it began and ended, two u64 of
 * CLOCK_MONOTONIC in ns: tests/e2e/pauses reads them.
 *
 * The writers end at SIGTERM (or when the mount is gone: ENOTCONN, EIO after --expect-death) and
 * print "pause_ms N ops N errors N"; exit 1 when an error reached them. verify prints what is wrong
 * and exits 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK      4096
#define BLOCKS     64
#define NAMES_KEPT 300

static volatile sig_atomic_t stopping;
static unsigned long ops, errors;
static double longest_pause;
static bool death_expected;
static int times = -1;

struct block {
    uint64_t number; /* its place */
    uint64_t version;
    uint64_t words[BLOCK / 8 - 2];
};

static void on_term(int number)
{
    (void)number;
    stopping = 1;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fill(struct block *block, uint64_t number, uint64_t version)
{
    uint64_t x = number * UINT64_C(0x9e3779b97f4a7c15) + version;

    block->number = number;
    block->version = version;
    for (size_t i = 0; i < sizeof(block->words) / 8; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        block->words[i] = x;
    }
}

/* Is it wholly what some write of this place made? */
static bool intact(const struct block *block, uint64_t number)
{
    struct block want;

    fill(&want, number, block->version);
    return memcmp(block, &want, sizeof(want)) == 0;
}

static void failed(const char *what)
{
    if (death_expected &&
        (errno == ENOTCONN || errno == EIO || errno == ENOENT || errno == EBADF)) {
        stopping = 1;
        return;
    }
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    errors++;
    if (errors > 20) {
        stopping = 1;
    }
}

static void did(double since)
{
    double end = now();
    double pause = end - since;
    uint64_t record[2] = {(uint64_t)(since * 1e9), (uint64_t)(end * 1e9)};

    if (times >= 0 && write(times, record, sizeof(record)) != (ssize_t)sizeof(record)) {
        perror("times");
        exit(2);
    }
    ops++;
    longest_pause = pause > longest_pause ? pause : longest_pause;
}

static int open_ack(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);

    if (fd < 0) {
        perror(path);
        exit(2);
    }
    return fd;
}

static uint64_t ack_get(int fd, uint64_t slot)
{
    uint64_t value = 0;

    if (pread(fd, &value, 8, (off_t)(slot * 8)) < 0) {
        perror("ack");
    }
    return value;
}

static void ack_put(int fd, uint64_t slot, uint64_t value)
{
    if (pwrite(fd, &value, 8, (off_t)(slot * 8)) != 8) {
        perror("ack");
        exit(2);
    }
}

/* ---- append ---- */

static void append(const char *path, int ack)
{
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    struct block block;
    struct stat info;
    uint64_t number;

    if (fd < 0 || fstat(fd, &info) < 0) {
        failed("open");
        return;
    }
    number = (uint64_t)info.st_size / BLOCK; /* a torn last block is written again */
    while (!stopping) {
        double since = now();

        fill(&block, number, 1);
        if (pwrite(fd, &block, BLOCK, (off_t)(number * BLOCK)) != BLOCK) {
            failed("append");
        } else if (fsync(fd) != 0) {
            failed("fsync");
        } else {
            did(since);
            ack_put(ack, 0, ++number);
        }
    }
}

static int verify_append(const char *path, int ack)
{
    int fd = open(path, O_RDONLY);
    uint64_t acked = ack_get(ack, 0), number;
    struct block block;
    ssize_t size = 0;

    for (number = 0; fd >= 0; number++) {
        size = pread(fd, &block, BLOCK, (off_t)(number * BLOCK));
        if (size != BLOCK) {
            break;
        }
        if (!intact(&block, number)) {
            printf("block %" PRIu64 " of %s is damaged (acknowledged: %" PRIu64 ")\n", number, path,
                   acked);
            return 1;
        }
    }
    if (number < acked || size < 0) {
        printf("%s: %" PRIu64 " blocks acknowledged, %" PRIu64 " there: %s\n", path, acked, number,
               size < 0 || fd < 0 ? strerror(errno) : "lost");
        return 1;
    }
    return 0;
}

/* ---- overwrite ---- */

static void overwrite(const char *path, int ack)
{
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    uint64_t version[BLOCKS];
    struct block block;

    if (fd < 0) {
        failed("open");
        return;
    }
    for (uint64_t i = 0; i < BLOCKS; i++) {
        version[i] = ack_get(ack, i) + 1000000; /* above whatever was in flight at a crash */
    }
    while (!stopping) {
        uint64_t number = (uint64_t)random() % BLOCKS;
        double since = now();

        fill(&block, number, ++version[number]);
        if (pwrite(fd, &block, BLOCK, (off_t)(number * BLOCK)) != BLOCK) {
            failed("overwrite");
        } else if (fsync(fd) != 0) {
            failed("fsync");
        } else {
            did(since);
            ack_put(ack, number, version[number]);
        }
    }
}

static int verify_overwrite(const char *path, int ack)
{
    int fd = open(path, O_RDONLY);
    int bad = 0;

    for (uint64_t i = 0; i < BLOCKS; i++) {
        static const struct block zero;
        struct block block = {0};
        uint64_t acked = ack_get(ack, i);
        ssize_t size = fd < 0 ? -1 : pread(fd, &block, BLOCK, (off_t)(i * BLOCK));

        if (acked == 0 && (size <= 0 || memcmp(&block, &zero, BLOCK) == 0)) {
            continue;
        }
        if (size != BLOCK || !intact(&block, i) || block.version < acked) {
            printf("%s block %" PRIu64 ": size %zd version %" PRIu64 " acknowledged %" PRIu64
                   " %s\n",
                   path, i, size, block.version, acked, intact(&block, i) ? "old" : "mixed");
            bad = 1;
        }
    }
    return bad;
}

/* ---- names ---- */

static int make_name(const char *dir, uint64_t number)
{
    char temporary[4096], name[4096], text[32];
    int size = snprintf(text, sizeof(text), "%" PRIu64 "\n", number);
    struct stat info;
    int fd;

    snprintf(temporary, sizeof(temporary), "%s/t.%" PRIu64, dir, number);
    snprintf(name, sizeof(name), "%s/n.%" PRIu64, dir, number);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) {
        return -1;
    }
    if (write(fd, text, (size_t)size) != size || close(fd) != 0) {
        return -1;
    }
    if (rename(temporary, name) != 0 || stat(name, &info) != 0) {
        return -1;
    }
    return info.st_size == size ? 0 : -1;
}

static void names(const char *dir, int ack)
{
    uint64_t number = ack_get(ack, 0);
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY);

    while (!stopping) {
        char old[4096];
        double since = now();

        if (make_name(dir, number) != 0) {
            failed("create, rename, stat");
            continue;
        }
        if (fsync(dir_fd) != 0) { /* names are promised then, as by a local file system */
            failed("fsync of the directory");
            continue;
        }
        ack_put(ack, 0, number + 1);
        if (number >= NAMES_KEPT) {
            snprintf(old, sizeof(old), "%s/n.%" PRIu64, dir, number - NAMES_KEPT);
            if (unlink(old) != 0 && !(death_expected && errno == ENOENT)) {
                failed("unlink");
            }
        }
        did(since);
        number++;
    }
}

static int verify_names(const char *dir, int ack)
{
    uint64_t acked = ack_get(ack, 0);
    uint64_t first = acked > NAMES_KEPT ? acked - NAMES_KEPT : 0;
    int bad = 0;

    for (uint64_t i = first; i < acked; i++) {
        char name[4096];
        struct stat info;

        snprintf(name, sizeof(name), "%s/n.%" PRIu64, dir, i);
        if (stat(name, &info) != 0) {
            printf("%s: %s\n", name, strerror(errno));
            bad = 1;
        }
    }
    return bad;
}

/* Takes the options behind the three arguments. */
static bool parse(int argc, char **argv)
{
    int at = 4;

    while (at < argc) {
        if (strcmp(argv[at], "--expect-death") == 0) {
            death_expected = true;
            at++;
        } else if (strcmp(argv[at], "--times") == 0 && at + 1 < argc) {
            times = open(argv[at + 1], O_WRONLY | O_CREAT | O_APPEND, 0600);
            if (times < 0) {
                perror(argv[at + 1]);
                return false;
            }
            at += 2;
        } else {
            return false;
        }
    }
    return argc >= 4;
}

int main(int argc, char **argv)
{
    int ack;

    if (!parse(argc, argv)) {
        fprintf(stderr, "usage: load MODE PATH ACK [--expect-death] [--times FILE]\n");
        return 2;
    }
    ack = open_ack(argv[3]);
    if (strcmp(argv[1], "verify-append") == 0) {
        return verify_append(argv[2], ack);
    }
    if (strcmp(argv[1], "verify-overwrite") == 0) {
        return verify_overwrite(argv[2], ack);
    }
    if (strcmp(argv[1], "verify-names") == 0) {
        return verify_names(argv[2], ack);
    }
    signal(SIGTERM, on_term);
    srandom((unsigned)getpid());
    if (strcmp(argv[1], "append") == 0) {
        append(argv[2], ack);
    } else if (strcmp(argv[1], "overwrite") == 0) {
        overwrite(argv[2], ack);
    } else if (strcmp(argv[1], "names") == 0) {
        names(argv[2], ack);
    } else {
        fprintf(stderr, "load: unknown mode %s\n", argv[1]);
        return 2;
    }
    printf("pause_ms %.0f ops %lu errors %lu\n", longest_pause * 1000, ops, errors);
    return errors != 0;
}
