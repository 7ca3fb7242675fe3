/* Checks after each event: cheap ones always, whole logs now and then. */
#include "tests/sim/sim_world.h"

#include <inttypes.h>

#define TERM_MAX 4096

static struct {
    uint32_t leaders[TERM_MAX];
    uint64_t leader_term[SIM_METAS_MAX], leader_last[SIM_METAS_MAX];
    uint64_t steps;
} raft_seen;

static struct raft *raft_of(unsigned i)
{
    return world->metas[i].server != NULL && sim_up(world->sim, meta_node_of(i))
               ? &world->metas[i].server->raft.raft
               : NULL;
}

static void check_leader(unsigned i, const struct raft *raft)
{
    if (raft->role != RAFT_LEADER) {
        raft_seen.leader_term[i] = 0;
        return;
    }
    if (raft->term < TERM_MAX) {
        uint32_t *leader = &raft_seen.leaders[raft->term];

        if (*leader != 0 && *leader != raft->id) {
            violation("election safety: %u and %u lead in term %" PRIu64, *leader, raft->id,
                      raft->term);
        }
        world->counts.elections += *leader == 0;
        *leader = raft->id;
    }
    if (raft_seen.leader_term[i] == raft->term && raft_last(raft) < raft_seen.leader_last[i]) {
        violation("leader append-only: the log of %u shrank in term %" PRIu64, raft->id,
                  raft->term);
    }
    if (raft_seen.leader_term[i] != raft->term) {
        witness_check_complete(raft);
    }
    raft_seen.leader_term[i] = raft->term;
    raft_seen.leader_last[i] = raft_last(raft);
}

static void check_matching(const struct raft *a, const struct raft *b)
{
    const struct raft_entry *x, *y;
    bool same = false;

    for (uint64_t at = min_u64(raft_last(a), raft_last(b));
         (x = raft_entry_at(a, at)) != NULL && (y = raft_entry_at(b, at)) != NULL; at--) {
        same = same || x->term == y->term;
        if (same && (x->term != y->term || !slice_equal(x->command, y->command))) {
            violation("log matching: %u and %u differ at index %" PRIu64
                      " before one where they agree",
                      a->id, b->id, at);
        }
    }
}

static void check_logs(void)
{
    for (unsigned i = 0; i < world->meta_count; i++) {
        for (unsigned k = 0; k < i; k++) {
            if (raft_of(i) != NULL && raft_of(k) != NULL) {
                check_matching(raft_of(i), raft_of(k));
            }
        }
    }
}

void check_event(void)
{
    for (unsigned i = 0; i < world->meta_count; i++) {
        const struct raft *raft = raft_of(i);

        if (raft != NULL) {
            check_leader(i, raft);
        } else {
            raft_seen.leader_term[i] = 0;
        }
    }
    if (++raft_seen.steps % 65536 == 0) {
        check_logs();
        if (world->healed) {
            programs_check_alive(SIM_ALIVE_NS);
        }
    }
}
