/* Which places misbehave in this seed, and which rare paths were taken. */
#include "base/buggify.h"
#include "base/hash.h"
#include "base/trace_mark.h"
#include "tests/sim/sim_world.h"

#include <inttypes.h>
#include <string.h>

extern struct trace_mark __start_trace_marks[];
extern struct trace_mark __stop_trace_marks[];

/* Without its directory: that is where the tree lies on this machine, and a seed must be the same
 * run everywhere. */
static struct slice base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slice_text(slash != NULL ? slash + 1 : path);
}

/* A quarter of the places in half of the seeds; never while everything is to heal. */
bool buggify(struct env *env, const char *file, int line, unsigned percent)
{
    uint64_t place;

    (void)env;
    if (world == NULL || world->healed || world->options.seed % 2 == 0) {
        return false;
    }
    place = hash_mix64(
        hash_bytes((struct hash_key){world->options.seed, (uint64_t)line}, base_name(file)));
    if (place % 4 != 0 || !rng_percent(&world->buggify_rng, percent)) {
        return false;
    }
    world->counts.buggified++;
    return true;
}

unsigned marks_count(void)
{
    return (unsigned)(__stop_trace_marks - __start_trace_marks);
}

void marks_add(uint64_t *hits)
{
    for (unsigned i = 0; i < marks_count(); i++) {
        hits[i] += __start_trace_marks[i].hits;
    }
}

void marks_print(const uint64_t *hits)
{
    unsigned reached = 0;

    for (unsigned i = 0; i < marks_count(); i++) {
        reached += hits[i] > 0;
    }
    printf("%u of %u marks reached\n", reached, marks_count());
    for (unsigned i = 0; i < marks_count(); i++) {
        if (hits[i] == 0) {
            printf("    never: %s (%s:%" PRIu64 ")\n", __start_trace_marks[i].name,
                   __start_trace_marks[i].file, __start_trace_marks[i].line);
        }
    }
}
