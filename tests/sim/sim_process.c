#include "tests/sim/sim_process.h"

#include "base/assert.h"
#include "base/mem.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK_BYTES KiB(512) /* a sanitizer's frames are large; untouched pages cost nothing */

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define STACK_SWITCH(save, bottom, size)    __sanitizer_start_switch_fiber(save, bottom, size)
#define STACK_SWITCHED(saved, bottom, size) __sanitizer_finish_switch_fiber(saved, bottom, size)
#else
#define STACK_SWITCH(save, bottom, size)    ((void)(save), (void)(bottom), (void)(size))
#define STACK_SWITCHED(saved, bottom, size) ((void)(saved), (void)(bottom), (void)(size))
#endif

/* Where somebody goes on. swapcontext asks the kernel for the signal mask each time; nobody has
 * one. */
struct place {
    jmp_buf jump;
    ucontext_t context; /* before the first time; always under a sanitizer, which must be told */
    bool jumped;
};

struct process {
    void (*main)(void *data);
    void *data;
    void *stack;
    struct place place;
    void *fake_stack;
    uint64_t wake_ns;
    bool started, ready, ended;
};

static struct process *current;
static bool somebody_ready;
static struct place main_place;
static const void *main_bottom;
static size_t main_size;
static void *main_fake_stack;

static void go(struct place *from, struct place *to)
{
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&from->context, &to->context);
#else
    if (_setjmp(from->jump) == 0) {
        from->jumped = true;
        if (to->jumped) {
            _longjmp(to->jump, 1);
        }
        setcontext(&to->context);
    }
#endif
}

static void on_start(void)
{
    struct process *self = current;

    STACK_SWITCHED(NULL, &main_bottom, &main_size);
    self->main(self->data);
    self->ended = true;
    STACK_SWITCH(NULL, main_bottom, main_size);
    go(&self->place, &main_place);
    UNREACHABLE();
}

void process_ready(struct process *process)
{
    process->ready = true;
    somebody_ready = true;
}

struct process *process_new(void (*main)(void *data), void *data)
{
    struct process *process = mem_zalloc(sizeof(*process));

    process->main = main;
    process->data = data;
    process_ready(process);
    process->wake_ns = UINT64_MAX;
    process->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT(process->stack != MAP_FAILED);
    getcontext(&process->place.context);
    process->place.context.uc_stack.ss_sp = process->stack;
    process->place.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&process->place.context, on_start, 0);
    return process;
}

void process_free(struct process *process)
{
    ASSERT(current != process);
    munmap(process->stack, STACK_BYTES);
    mem_free(process);
}

bool process_run(struct process *process)
{
    ASSERT(current == NULL && !process->ended);
    process->ready = false;
    process->wake_ns = UINT64_MAX;
    current = process;
    STACK_SWITCH(&main_fake_stack, process->stack, STACK_BYTES);
    go(&main_place, &process->place);
    STACK_SWITCHED(main_fake_stack, &main_bottom, &main_size);
    current = NULL;
    return !process->ended;
}

struct process *process_self(void)
{
    ASSERT(current != NULL);
    return current;
}

void process_wait_until(uint64_t wake_ns)
{
    struct process *self = process_self();

    if (self->ready) {
        self->ready = false;
        return;
    }
    self->wake_ns = wake_ns;
    STACK_SWITCH(&self->fake_stack, main_bottom, main_size);
    go(&self->place, &main_place);
    STACK_SWITCHED(self->fake_stack, &main_bottom, &main_size);
}

void process_wait(void)
{
    process_wait_until(UINT64_MAX);
}

bool processes_ready(void)
{
    bool ready = somebody_ready;

    somebody_ready = false;
    return ready;
}

bool process_is_ready(const struct process *process, uint64_t now_ns)
{
    return process->ready || process->wake_ns <= now_ns;
}

uint64_t process_wake_ns(const struct process *process)
{
    return process->wake_ns;
}
