#pragma once
/*
 * group_view: the metadata group as its servers tell it: those of the configuration are asked, then
 * those that joined since; who was removed is left out.
 *
 *     group_view_collect(&view, &asks, &cluster);      blocks, with a deadline
 *     view.leader, view.members[i].status ...
 *     group_view_free(&view);
 */
#include "cli/ask.h"
#include "meta/meta_proto.h"

#define GROUP_VIEW_MAX (2 * CONFIG_META_MAX) /* configured, and joined since */

struct member_view {
    uint32_t id;
    char *address;
    struct ask ask;
    bool answered, learner;
    struct meta_status status; /* answered; borrows from ask */
};

struct group_view {
    struct member_view *members[GROUP_VIEW_MAX];
    unsigned count, answers;
    int leader; /* index of the newest leader that answered, -1 = none */
};

void group_view_collect(struct group_view *view, struct ask_group *asks,
                        const struct cluster_config *cluster);
/* The same, again and again while nobody leads, for a few seconds: an election may be under way.
 * Returns the leader, or NULL: none was found. `view` was collected before, or is zero. */
const struct member_view *group_view_find_leader(struct group_view *view, struct ask_group *asks,
                                                 const struct cluster_config *cluster);
void group_view_free(struct group_view *view);
/* What a request to the leader ended with: did it leave, or get lost on its way? What was asked may
 * be done all the same. */
bool group_view_lost_leader(int status);
/* What the leader knows of the member: how much of the log it holds. False: nothing. */
bool group_view_match(const struct group_view *view, uint32_t id, uint64_t *out_match,
                      uint64_t *out_last);
