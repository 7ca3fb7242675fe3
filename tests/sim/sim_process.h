#pragma once
/*
 * sim_process: a simulated program: code that blocks in system calls, on a stack of its own. It
 * runs between two events of the simulator, until it waits again; never inside a node's code.
 */
#include "base/compiler.h"

struct process;

/* Starts when process_run is called first. `main` returns to end it. */
struct process *process_new(void (*main)(void *data), void *data);
/* Also while it waits: what is on its stack is forgotten. Not from inside it. */
void process_free(struct process *process);
/* Runs it until it waits or ends. False: it has ended. */
bool process_run(struct process *process);

/* From inside a process. */
struct process *process_self(void);
/* Waits until somebody calls process_ready. */
void process_wait(void);
/* Waits until then at most. */
void process_wait_until(uint64_t wake_ns);

/* It may run. */
void process_ready(struct process *process);
/* Has this been said to anybody since the last call? */
bool processes_ready(void);
bool process_is_ready(const struct process *process, uint64_t now_ns);
/* When it wakes up by itself; UINT64_MAX = never. */
uint64_t process_wake_ns(const struct process *process);
