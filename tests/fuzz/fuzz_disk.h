#pragma once
/*
 * fuzz_disk: an env with files in memory and a clock that stands still until something waits for
 * it; nothing on it fails. What an input says is on the disk is laid out by fuzz_disk_load.
 */
#include "base/env.h"
#include "tests/fuzz/fuzz.h"

#include <setjmp.h>

#define FUZZ_FILES_MAX 32
#define FUZZ_FILE_MAX  MiB(16) /* writes behind it fail: -EFBIG */

struct env_file {
    char name[64];
    struct buf bytes;
    bool exists;
    unsigned opens;
};

struct fuzz_disk {
    struct env env;
    struct env_file files[FUZZ_FILES_MAX];
    struct list queue; /* env_io submitted, in order */
    struct heap timers;
    uint64_t now;
    uint64_t dice;
    jmp_buf escape;
};

void fuzz_disk_init(struct fuzz_disk *disk);
void fuzz_disk_deinit(struct fuzz_disk *disk);
/* Runs fn; false: env_fatal ended it. */
bool fuzz_disk_guard(struct fuzz_disk *disk, void (*fn)(void *data), void *data);
/* Runs what was submitted, and timers up to `ns` from now. */
void fuzz_disk_run(struct fuzz_disk *disk, uint64_t ns);
/* NULL: there is none. */
struct env_file *fuzz_disk_file(struct fuzz_disk *disk, const char *name);

/*
 * The rest of the input: records of u8 file (a number in `names`), u32 offset, u16 size, bytes to
 * be written there; a size of 0 makes the file at least `offset` long.
 */
void fuzz_disk_load(struct fuzz_disk *disk, struct fuzz_input *input, const char *const *names,
                    unsigned count);
/* The other way round; zeros are left out. */
void fuzz_disk_save(struct fuzz_disk *disk, const char *const *names, unsigned count,
                    struct buf *out);
