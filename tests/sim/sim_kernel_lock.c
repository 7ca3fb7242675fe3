/*
 * i_rwsem: shared by lookups and lists of a directory, exclusive for what changes it. First come,
 * first served.
 */
#include "tests/sim/sim_kernel_internal.h"

#include "base/assert.h"

struct lock_wait {
    struct process *process;
    bool shared, granted;
};

static bool is_free(const struct knode *node, bool shared)
{
    return node->lock_owner == NULL && (shared || node->lock_shared == 0);
}

static void take_lock(struct knode *node, struct process *process, bool shared)
{
    if (shared) {
        node->lock_shared++;
    } else {
        node->lock_owner = process;
    }
}

static bool try_lock(struct knode *node, bool shared)
{
    if (node->lock_waiting > 0 || !is_free(node, shared)) {
        return false;
    }
    take_lock(node, process_self(), shared);
    return true;
}

static void lock(struct knode *node, bool shared)
{
    struct lock_wait wait = {.process = process_self(), .shared = shared};

    ASSERT(node->lock_owner != wait.process);
    if (try_lock(node, shared)) {
        return;
    }
    ASSERT(node->lock_waiting < SIM_PROCESSES_MAX);
    node->lock_queue[node->lock_waiting++] = &wait;
    while (!wait.granted) {
        process_wait();
    }
}

/* Whoever waits longest, and those behind that can share with it. */
static void grant(struct knode *node)
{
    while (node->lock_waiting > 0 && is_free(node, node->lock_queue[0]->shared)) {
        struct lock_wait *wait = node->lock_queue[0];

        take_lock(node, wait->process, wait->shared);
        node->lock_waiting--;
        memmove(node->lock_queue, node->lock_queue + 1,
                node->lock_waiting * sizeof(node->lock_queue[0]));
        wait->granted = true;
        process_ready(wait->process);
    }
}

void node_lock(struct knode *node)
{
    lock(node, /* shared= */ false);
}

void node_unlock(struct knode *node)
{
    ASSERT(node->lock_owner == process_self());
    node->lock_owner = NULL;
    grant(node);
}

void node_lock_shared(struct knode *node)
{
    lock(node, /* shared= */ true);
}

void node_unlock_shared(struct knode *node)
{
    ASSERT(node->lock_shared > 0);
    node->lock_shared--;
    grant(node);
}

static void drop_repeated(struct knode *nodes[LOCKS_MAX])
{
    for (unsigned i = 0; i < LOCKS_MAX; i++) {
        for (unsigned k = 0; k < i && nodes[i] != NULL; k++) {
            nodes[i] = nodes[k] == nodes[i] ? NULL : nodes[i];
        }
    }
}

/* The kernel has an order for them; here whoever does not get all begins again. */
void nodes_lock(struct knode *nodes[LOCKS_MAX])
{
    drop_repeated(nodes);
    for (unsigned i = 0; i < LOCKS_MAX; i++) {
        if (nodes[i] == NULL || try_lock(nodes[i], /* shared= */ false)) {
            continue;
        }
        while (i-- > 0) {
            if (nodes[i] != NULL) {
                node_unlock(nodes[i]);
            }
        }
        process_wait_until(sim_now(world->sim) + NS_PER_MS / 4);
    }
}

void nodes_unlock(struct knode *nodes[LOCKS_MAX])
{
    for (unsigned i = 0; i < LOCKS_MAX; i++) {
        if (nodes[i] != NULL) {
            node_unlock(nodes[i]);
        }
    }
}
