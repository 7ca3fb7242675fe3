#include "tests/lib/test.h"

#include "base/mem.h"

#include <ftw.h>
#include <inttypes.h>

char *test_dir_make(void)
{
    const char *parent = getenv("TMPDIR");
    char *path = mem_printf("%s/keelfs-test.XXXXXX", parent != NULL ? parent : "/tmp");

    assert_non_null(mkdtemp(path));
    return path;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

void test_dir_remove(char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    mem_free(path);
}

uint64_t test_seed(uint64_t otherwise)
{
    const char *text = getenv("SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : otherwise;

    printf("seed %" PRIu64 "\n", seed);
    return seed;
}
