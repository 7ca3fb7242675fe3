#include "cli/group_view.h"

#include "base/err.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>

#define ASK_TIMEOUT  (2 * NS_PER_S)
#define LEADER_TRIES 200
#define LEADER_MS    50

static void add(struct group_view *view, struct ask_group *asks, uint32_t id, struct slice address)
{
    struct member_view *member;

    if (view->count == GROUP_VIEW_MAX) {
        return;
    }
    member = mem_zalloc(sizeof(*member));
    member->id = id;
    member->address = mem_printf("%.*s", (int)address.size, (const char *)address.data);
    ask_start(asks, &member->ask, member->address, META_RPC_STATUS, (struct slice){0}, ASK_TIMEOUT);
    view->members[view->count++] = member;
}

static void take_answers(struct group_view *view)
{
    for (unsigned i = 0; i < view->count; i++) {
        struct member_view *member = view->members[i];

        member->answered = member->ask.status == 0 &&
                           meta_status_decode(&member->status, buf_slice(&member->ask.body)) == 0;
    }
}

/* The newest word on who belongs to the group; empty: nobody says. */
static struct slice newest_members(const struct group_view *view)
{
    struct slice newest = {0};
    uint64_t term = 0, applied = 0;

    for (unsigned i = 0; i < view->count; i++) {
        const struct meta_status *status = &view->members[i]->status;

        if (view->members[i]->answered && status->members.size > 0 &&
            (status->term > term || (status->term == term && status->applied >= applied))) {
            newest = status->members;
            term = status->term;
            applied = status->applied;
        }
    }
    return newest;
}

static bool next_member(struct schema_reader *reader, struct meta_status_member *out_member)
{
    struct slice record;

    if (reader->at == reader->end) {
        return false;
    }
    record = schema_read_bytes(reader, KiB(1));
    return !reader->failed && meta_status_member_decode(out_member, record) == 0;
}

static bool find(struct slice members, uint32_t id, struct meta_status_member *out_member)
{
    struct schema_reader reader = schema_reader_make(members);

    while (next_member(&reader, out_member)) {
        if (out_member->id == id) {
            return true;
        }
    }
    return false;
}

static struct member_view *view_of(struct group_view *view, uint32_t id)
{
    for (unsigned i = 0; i < view->count; i++) {
        if (view->members[i]->id == id) {
            return view->members[i];
        }
    }
    return NULL;
}

static void member_free(struct member_view *member)
{
    ask_free(&member->ask);
    mem_free(member->address);
    mem_free(member);
}

static void drop_removed(struct group_view *view, struct slice members)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < view->count; i++) {
        struct meta_status_member member;

        if (find(members, view->members[i]->id, &member)) {
            view->members[i]->learner = member.learner;
            view->members[kept++] = view->members[i];
        } else {
            member_free(view->members[i]);
        }
    }
    view->count = kept;
}

/* The members as the group has them instead of as they were configured. */
static void correct(struct group_view *view, struct ask_group *asks)
{
    cleanup(buf_deinit) struct buf copy = {0};
    struct meta_status_member member;
    struct schema_reader reader;

    buf_append_slice(&copy, newest_members(view));
    if (copy.size == 0) {
        return;
    }
    drop_removed(view, buf_slice(&copy));
    reader = schema_reader_make(buf_slice(&copy));
    while (next_member(&reader, &member)) {
        if (view->count < GROUP_VIEW_MAX && view_of(view, member.id) == NULL) {
            add(view, asks, member.id, member.address);
            view->members[view->count - 1]->learner = member.learner;
        }
    }
    ask_wait(asks);
    take_answers(view);
}

void group_view_collect(struct group_view *view, struct ask_group *asks,
                        const struct cluster_config *cluster)
{
    *view = (struct group_view){.leader = -1};
    for (unsigned i = 0; i < cluster->meta_count; i++) {
        add(view, asks, cluster->meta[i].id, slice_text(cluster->meta[i].address));
    }
    ask_wait(asks);
    take_answers(view);
    correct(view, asks);
    for (unsigned i = 0; i < view->count; i++) {
        const struct member_view *member = view->members[i];

        view->answers += member->answered;
        if (member->answered && slice_equal(member->status.role, slice_text("leader")) &&
            (view->leader < 0 || member->status.term > view->members[view->leader]->status.term)) {
            view->leader = (int)i;
        }
    }
}

const struct member_view *group_view_find_leader(struct group_view *view, struct ask_group *asks,
                                                 const struct cluster_config *cluster)
{
    for (unsigned i = 0; i < LEADER_TRIES; i++) {
        group_view_free(view);
        group_view_collect(view, asks, cluster);
        if (view->leader >= 0) {
            return view->members[view->leader];
        }
        if (view->answers == 0) {
            return NULL;
        }
        (void)poll(NULL, 0, LEADER_MS);
    }
    return NULL;
}

bool group_view_lost_leader(int status)
{
    return status == -ETIMEDOUT || status == -ERR_DISCONNECTED || status == -ERR_NOT_LEADER ||
           status == -ERR_NO_LEADER;
}

void group_view_free(struct group_view *view)
{
    for (unsigned i = 0; i < view->count; i++) {
        member_free(view->members[i]);
    }
    view->count = 0;
}

bool group_view_match(const struct group_view *view, uint32_t id, uint64_t *out_match,
                      uint64_t *out_last)
{
    struct meta_status_member member;

    if (view->leader < 0 || !find(view->members[view->leader]->status.members, id, &member)) {
        return false;
    }
    *out_match = member.match;
    *out_last = view->members[view->leader]->status.last;
    return true;
}
