#pragma once
/*
 * quorum: count votes towards a threshold, and find what a majority has reached.
 *
 * Pure. A verdict never changes once it is not PENDING.
 *
 *     struct quorum quorum = quorum_majority(3);
 *     quorum_vote(&quorum, true);
 */
#include "base/compiler.h"

struct quorum {
    unsigned total; /* voters */
    unsigned need;  /* yes votes that win */
    unsigned yes;
    unsigned no; /* yes + no <= total */
};

enum quorum_verdict { QUORUM_PENDING, QUORUM_WON, QUORUM_LOST };

struct quorum quorum_majority(unsigned total);
void quorum_vote(struct quorum *quorum, bool yes);
enum quorum_verdict quorum_verdict(const struct quorum *quorum);
/* The largest value that a majority of `values` has reached; sorts `values`. */
uint64_t quorum_reached(uint64_t *values, unsigned count);
