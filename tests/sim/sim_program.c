/* Programs: who runs what on which client, and whether it moves. */
#include "tests/sim/sim_kernel.h"

#include "base/assert.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdarg.h>

void program_begins(struct program *program, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(program->doing, sizeof(program->doing), format, args);
    va_end(args);
    trace("c%u.%u %s ...", program->client->slot, program->number, program->doing);
    program->since_ns = sim_now(world->sim);
}

void program_ends(struct program *program, int64_t r)
{
    trace("c%u.%u %s -> %" PRId64, program->client->slot, program->number, program->doing, r);
    program->doing[0] = '\0';
}

void program_start(struct client *client, void (*main)(void *program))
{
    struct program *program = mem_zalloc(sizeof(*program));

    program->client = client;
    program->kernel = client->kernel;
    while (client->programs[program->number] != NULL) {
        program->number++;
        ASSERT(program->number < SIM_PROCESSES_MAX);
    }
    program->process = process_new(main, program);
    client->programs[program->number] = program;
}

static void drop(struct client *client, unsigned i)
{
    process_free(client->programs[i]->process);
    mem_free(client->programs[i]);
    client->programs[i] = NULL;
}

void programs_drop(struct client *client)
{
    for (unsigned i = 0; i < SIM_PROCESSES_MAX; i++) {
        if (client->programs[i] != NULL) {
            drop(client, i);
        }
    }
}

static struct program *program_at(unsigned i)
{
    return world->clients[i / SIM_PROCESSES_MAX].programs[i % SIM_PROCESSES_MAX];
}

#define PROGRAMS ((SIM_CLIENTS_MAX + 1) * SIM_PROCESSES_MAX)

bool programs_ended(void)
{
    for (unsigned i = 0; i < PROGRAMS; i++) {
        if (program_at(i) != NULL) {
            return false;
        }
    }
    return true;
}

static uint64_t wake_ns = UINT64_MAX; /* of the first that wakes up by itself, or before */

static uint64_t first_wake(void)
{
    uint64_t wake = UINT64_MAX;

    for (unsigned i = 0; i < PROGRAMS; i++) {
        if (program_at(i) != NULL) {
            wake = min_u64(wake, process_wake_ns(program_at(i)->process));
        }
    }
    return wake;
}

static bool run_once(void)
{
    bool ran = false;

    for (unsigned i = 0; i < PROGRAMS; i++) {
        struct program *program = program_at(i);

        if (program == NULL || !process_is_ready(program->process, sim_now(world->sim))) {
            continue;
        }
        ran = true;
        if (!process_run(program->process)) {
            drop(program->client, program->number);
        }
    }
    return ran;
}

void programs_run(void)
{
    if (!processes_ready() && sim_now(world->sim) < wake_ns) {
        return;
    }
    while (run_once()) {
    }
    wake_ns = first_wake();
}

uint64_t programs_wake_ns(void)
{
    return wake_ns;
}

void programs_check_alive(uint64_t within_ns)
{
    uint64_t now = sim_now(world->sim);

    for (unsigned i = 0; i < PROGRAMS; i++) {
        const struct program *program = program_at(i);

        if (program != NULL && program->doing[0] != '\0' &&
            now > max_u64(program->since_ns, world->healed_ns) + within_ns) {
            violation("alive: %s of client %u has not ended for %.1f s, %.1f s of them healed",
                      program->doing, program->client->slot,
                      (double)(now - program->since_ns) / 1e9,
                      (double)(now - world->healed_ns) / 1e9);
        }
    }
}
