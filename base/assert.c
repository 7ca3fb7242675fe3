#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "keelfs: bug: assertion '%s' failed at %s:%d\n", condition, file, line);
    fflush(stderr);
    abort();
}
