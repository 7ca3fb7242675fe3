#include "tests/fuzz/fuzz.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/env.h"
#include "base/mem.h"

uint32_t fuzz_crc;

static volatile uint8_t touched;

uint32_t __wrap_crc32c(uint32_t seed, struct slice bytes);
uint32_t __wrap_crc32c(uint32_t seed, struct slice bytes)
{
    if (bytes.size == 0) {
        return seed;
    }
    touched = bytes.data[0]; /* the sanitizer does not see what ISA-L's assembly reads */
    touched = bytes.data[bytes.size - 1];
    return fuzz_crc;
}

uint64_t fuzz_number(struct fuzz_input *input, unsigned size)
{
    uint64_t value = 0;
    struct slice bytes = fuzz_bytes(input, size);

    for (unsigned i = 0; i < bytes.size; i++) {
        value |= (uint64_t)bytes.data[i] << (8 * i);
    }
    return value;
}

struct slice fuzz_bytes(struct fuzz_input *input, size_t max)
{
    struct slice bytes = {input->at, input->left < max ? input->left : max};

    if (bytes.size > 0) {
        input->at += bytes.size;
        input->left -= bytes.size;
    }
    return bytes;
}

#ifndef KEELFS_LIBFUZZER

#include <dirent.h>

static const char *seed_dir;

void fuzz_seed(const char *name, struct slice bytes)
{
    char *path = mem_printf("%s/seed-%s", seed_dir, name);
    FILE *file = fopen(path, "wb");

    ASSERT(file != NULL);
    ASSERT(bytes.size == 0 || fwrite(bytes.data, 1, bytes.size, file) == bytes.size);
    ASSERT(fclose(file) == 0);
    mem_free(path);
}

/* The bytes of a file, in memory of exactly their size: what reads behind them is caught. */
static void run_file(const char *path)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    FILE *file = fopen(path, "rb");
    uint8_t *copy;
    size_t got;

    if (file == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    do {
        got = fread(buf_reserve(&bytes, KiB(64)), 1, KiB(64), file);
        bytes.size += got;
    } while (got > 0);
    fclose(file);
    copy = mem_alloc(bytes.size);
    if (bytes.size > 0) {
        memcpy(copy, bytes.data, bytes.size);
    }
    fprintf(stderr, "%s\n", path); /* a crash is of the last one named */
    LLVMFuzzerTestOneInput(copy, bytes.size);
    mem_free(copy);
}

static unsigned run_dir(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    unsigned count = 0;

    if (dir == NULL) {
        run_file(path);
        return 1;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            char *file = mem_printf("%s/%s", path, entry->d_name);

            run_file(file);
            mem_free(file);
            count++;
        }
    }
    closedir(dir);
    return count;
}

/* fuzz_NAME FILE|DIRECTORY ... | fuzz_NAME --seeds DIRECTORY */
int main(int argc, char **argv)
{
    unsigned count = 0;

    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        seed_dir = argv[2];
        fuzz_seeds();
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        count += run_dir(argv[i]);
    }
    printf("%u inputs\n", count);
    return count > 0 ? 0 : 1; /* nothing was tested */
}

#else

void fuzz_seed(const char *name, struct slice bytes)
{
    (void)name;
    (void)bytes;
}

#endif
