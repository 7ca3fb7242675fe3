#pragma once
/*
 * raft_members: who belongs to the group: a set of members, the changes to it, its bytes. Pure.
 *
 * The set travels in the log as a command of the core's own, which begins with the byte 0; no
 * machine's command may. A learner is sent everything and counts for nothing. A number is never
 * used twice: who has lost its data has lost what it promised, and comes back as somebody else.
 */
#include "base/err.h"
#include "base/schema.h"
#include "raft/limits.h"

struct raft_member {
    uint32_t id; /* 1.. */
    bool voter;  /* else a learner */
    char address[RAFT_ADDRESS_MAX + 1];
};

struct raft_members {
    unsigned count; /* 0: not known yet */
    struct raft_member list[RAFT_MEMBERS_MAX];
    uint32_t last_id; /* the highest number ever used */
};

enum raft_change_type {
    RAFT_CHANGE_ADD,     /* as a learner */
    RAFT_CHANGE_PROMOTE, /* a learner that has caught up becomes a voter */
    RAFT_CHANGE_REMOVE,
    RAFT_CHANGE_RECORD, /* the set as it is: from then on it is in the log */
};

struct raft_change {
    enum raft_change_type type;
    uint32_t id;
    const char *address; /* ADD */
};

/* Slot of a member, or -1. */
int raft_members_find(const struct raft_members *members, uint32_t id);
unsigned raft_members_voters(const struct raft_members *members);
/* -EINVAL when there is no room for the address. */
int must_check raft_members_add(struct raft_members *members, uint32_t id, bool voter,
                                const char *address);
/* The set after the change. -EEXIST: the number was used before; -ENOSPC: RAFT_MEMBERS_MAX;
 * -ENOENT: no such member; -EINVAL: the address is empty or too long, or the member votes already.
 */
int must_check raft_members_change(struct raft_members *members, const struct raft_change *change);

bool raft_command_is_members(struct slice command);
void raft_members_encode(const struct raft_members *members, struct buf *out);
/* Ids are distinct and not 0, at least one votes. -ERR_BAD_MESSAGE. */
int must_check raft_members_decode(struct raft_members *out_members, struct slice command);
