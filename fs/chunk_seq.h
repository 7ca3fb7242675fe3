#pragma once
/*
 * chunk_seq: the numbers that a mount gives to its chunks. Numbers that are handed out and neither
 * committed nor given up hold back meta.chunk_low, below which the servers may collect what no
 * file names.
 */
#include "base/list.h"

#include <stdint.h>

struct mount;

struct chunk_seq {
    struct list_node node; /* in mount.chunk_seqs, oldest first */
    uint64_t seq;
};

void chunk_seq_take(struct mount *mount, struct chunk_seq *out_seq);
/* The chunk is committed, or never will be. Harmless when told already. */
void chunk_seq_settle(struct mount *mount, struct chunk_seq *seq);
