#include "tests/sim/sim_world.h"

#include "base/hash.h"

#include <inttypes.h>
#include <stdarg.h>

static void put_line(struct world *w, unsigned node, const char *text)
{
    w->trace_digest = hash_mix64(
        w->trace_digest ^ hash_bytes((struct hash_key){sim_now(w->sim), node}, slice_text(text)));
    if (w->options.trace) {
        printf("%12.6f n%-2u %s\n", (double)sim_now(w->sim) / 1e9, node, text);
    }
}

void trace(const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    put_line(world, 99, text);
}

void violation(const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    printf("seed %" PRIu64 ": VIOLATION at %.6f s: %s\n", world->options.seed,
           (double)sim_now(world->sim) / 1e9, text);
    printf("again: keelfs-sim --seed %" PRIu64 " --trace\n", world->options.seed);
    fflush(stdout);
    _exit(3);
}

static void on_log(void *data, unsigned node, enum log_level level, const char *line)
{
    struct world *w = data;

    put_line(w, node, line);
    if (level == LOG_LEVEL_ERROR && !faults_excuse(node)) {
        violation("an ERROR in the log of node %u: %s", node, line);
    }
}

void trace_attach(struct world *w)
{
    sim_set_log(w->sim, on_log, w);
}
