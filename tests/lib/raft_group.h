#pragma once
/* raft_group: members 1 .. count, all voters, for tests of the core. */
#include "base/assert.h"
#include "raft/raft_members.h"

static inline struct raft_members raft_group(unsigned count)
{
    struct raft_members members = {0};

    for (unsigned i = 1; i <= count; i++) {
        int r = raft_members_add(&members, i, /* voter= */ true, "unix:/nowhere");

        ASSERT(r == 0);
    }
    return members;
}
