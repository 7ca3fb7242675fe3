#include "raft/quorum.h"

#include "base/assert.h"

struct quorum quorum_majority(unsigned total)
{
    ASSERT(total > 0);
    return (struct quorum){.total = total, .need = total / 2 + 1};
}

void quorum_vote(struct quorum *quorum, bool yes)
{
    ASSERT(quorum->yes + quorum->no < quorum->total);
    if (yes) {
        quorum->yes++;
    } else {
        quorum->no++;
    }
}

enum quorum_verdict quorum_verdict(const struct quorum *quorum)
{
    if (quorum->yes >= quorum->need) {
        return QUORUM_WON;
    }
    return quorum->total - quorum->no < quorum->need ? QUORUM_LOST : QUORUM_PENDING;
}

uint64_t quorum_reached(uint64_t *values, unsigned count)
{
    ASSERT(count > 0);
    for (unsigned i = 1; i < count; i++) {
        uint64_t value = values[i];
        unsigned at = i;

        for (; at > 0 && values[at - 1] < value; at--) {
            values[at] = values[at - 1];
        }
        values[at] = value;
    }
    return values[count / 2]; /* descending: count / 2 + 1 values are at least this one */
}
