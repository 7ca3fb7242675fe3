/* keelfs meta: what an operator tells the metadata group. */
#include "cli/cli.h"
#include "cli/group_view.h"

#include "base/err.h"
#include "base/mem.h"
#include "meta/meta_proto.h"
#include "meta/meta_server_proto.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <unistd.h>

#define CHANGE_TIMEOUT (10 * NS_PER_S)
#define OUTCOME_MS     50 /* between looks at who leads now */
#define OUTCOME_MAX    60
#define CHANGE_TRIES   20  /* while another change is under way, or the learner is behind */
#define CATCH_UP_TRIES 600 /* each CHANGE_TRIES looks: ten minutes */

static const char help[] =
    "usage: keelfs meta [--config FILE] COMMAND\n\n"
    "transfer [ID]         the leader hands leadership to metadata server ID, or to the one that\n"
    "                      lacks least. Calls of mounts wait for about a tenth of a second. A "
    "leader\n"
    "                      that is stopped by SIGTERM does the same by itself.\n"
    "add ID [ADDRESS]      a server that was started with `keelfs metad --join` becomes a member: "
    "it\n"
    "                      is sent everything, then it votes. ID was never used before; ADDRESS "
    "is\n"
    "                      that of [meta.ID] in the configuration, unless given.\n"
    "remove ID             it is no member any more; stop it then. A leader hands over first.\n"
    "replace OLD NEW [ADDRESS]   add NEW, remove OLD: for a server whose data is lost, too.\n\n"
    "For root and the user who runs the metadata servers.\n\n"
    "  -c, --config FILE   default $KEELFS_CONFIG or /etc/keelfs/cluster.conf\n\n"
    "exit code: 0 done, 1 not, 2 no leader could be reached\n";

struct group {
    struct cluster_config cluster;
    struct ask_group asks;
    struct group_view view;
};

/* The leader, or NULL: none answers. Good until the next look. */
static const struct member_view *find_leader(struct group *group)
{
    group_view_free(&group->view);
    group_view_collect(&group->view, &group->asks, &group->cluster);
    return group->view.leader >= 0 ? group->view.members[group->view.leader] : NULL;
}

static const struct member_view *wait_for_leader(struct group *group)
{
    return group_view_find_leader(&group->view, &group->asks, &group->cluster);
}

/* Consumes the body. */
static int tell(struct group *group, const struct member_view *leader, uint16_t opcode,
                struct buf *body)
{
    struct ask ask;
    int r;

    ask_start(&group->asks, &ask, leader->address, opcode, buf_slice(body), CHANGE_TIMEOUT);
    ask_wait(&group->asks);
    r = ask.status;
    ask_free(&ask);
    buf_deinit(body);
    return r;
}

static int tell_transfer(struct group *group, const struct member_view *leader, uint32_t to)
{
    struct buf body = {0};

    meta_transfer_encode(&(struct meta_transfer){.to = to}, &body);
    return tell(group, leader, META_RPC_TRANSFER, &body);
}

/* Whoever leads when that server does no more; NULL: it still does. */
static const struct member_view *outcome(struct group *group, uint32_t old_id)
{
    for (unsigned i = 0; i < OUTCOME_MAX; i++) {
        const struct member_view *leader = find_leader(group);

        if (leader != NULL && leader->id != old_id) {
            return leader;
        }
        (void)poll(NULL, 0, OUTCOME_MS);
    }
    return NULL;
}

static void complain(const struct member_view *leader, uint32_t to, int r)
{
    if (r == -EHOSTDOWN && to == 0) {
        cli_error("metadata server %u leads and hears no other one", leader->id);
    } else if (r == -EHOSTDOWN) {
        cli_error("metadata server %u cannot lead: %u, which leads, does not hear it", to,
                  leader->id);
    } else if (r == -EINVAL) {
        cli_error("metadata server %u is no other voting member of the group; see `keelfs status`",
                  to);
    } else {
        cli_error("metadata server %u, which leads, refuses: %s", leader->id, err_text(r));
    }
}

static int transfer(struct group *group, uint32_t to)
{
    const struct member_view *leader = wait_for_leader(group), *next;
    uint32_t leader_id;
    int r;

    if (leader == NULL) {
        cli_error("no metadata server leads, or none could be reached; see `keelfs status`");
        return EXIT_UNAVAILABLE;
    }
    if (leader->id == to) {
        printf("metadata server %u leads already\n", to);
        return 0;
    }
    r = tell_transfer(group, leader, to);
    if (r < 0) {
        complain(leader, to, r);
        return 1;
    }
    leader_id = leader->id;
    next = outcome(group, leader_id);
    if (next == NULL || (to != 0 && next->id != to)) {
        cli_error("metadata server %u has not taken over; %u leads", to,
                  next != NULL ? next->id : leader_id);
        return 1;
    }
    printf("metadata server %u leads\n", next->id);
    return 0;
}

/* ---- members ---- */

/* What a leader says when the group is as it was asked to be. An ADD that was done is told from a
 * number that was used before by whoever asks. */
static int already(enum meta_member_op op)
{
    return op == META_MEMBER_PROMOTE ? -EINVAL : op == META_MEMBER_REMOVE ? -ENOENT : -EEXIST;
}

/* One change, asked of whoever leads until it is done or refused for good. */
static int change(struct group *group, enum meta_member_op op, uint32_t id, const char *address)
{
    bool open = false; /* an earlier try may have done it */
    int r = -ERR_NO_LEADER;

    for (unsigned i = 0; i < CHANGE_TRIES; i++) {
        const struct member_view *leader = wait_for_leader(group);
        struct buf body = {0};

        if (leader == NULL) {
            return open ? -ERR_DISCONNECTED : -ERR_NO_LEADER;
        }
        meta_member_request_encode(
            &(struct meta_member_request){
                .op = (uint8_t)op, .id = id, .address = slice_text(address != NULL ? address : "")},
            &body);
        r = tell(group, leader, META_RPC_MEMBER, &body);
        if (r == -EDEADLK && transfer(group, 0) == 0) {
            continue;
        }
        if (open && r == already(op) && op != META_MEMBER_ADD) {
            return 0;
        }
        open = open || group_view_lost_leader(r);
        if (r != -ERR_BUSY && r != -EAGAIN && !group_view_lost_leader(r)) {
            return r;
        }
        (void)poll(NULL, 0, OUTCOME_MS);
    }
    return r;
}

static int refused(uint32_t id, const char *what, int r)
{
    switch (r) {
    case -ERR_NO_LEADER:
        cli_error("no metadata server leads, or none could be reached; see `keelfs status`");
        return EXIT_UNAVAILABLE;
    case -ETIMEDOUT:
    case -ERR_DISCONNECTED:
    case -ERR_NOT_LEADER:
        cli_error("no answer to `%s %u`, which may be done all the same; see `keelfs status`", what,
                  id);
        return EXIT_UNAVAILABLE;
    case -EEXIST:
        cli_error("the number %u was used before; take one above all that were", id);
        return 1;
    case -ENOENT:
        cli_error("the group has no member %u; see `keelfs status`", id);
        return 1;
    case -ERR_NO_QUORUM:
        cli_error("too few of the other voters can be reached: without %u the group would stop. "
                  "Bring them back first",
                  id);
        return 1;
    case -EAGAIN:
        cli_error("server %u is a learner and has not caught up: does it run, with --join? Its log "
                  "says more. Try again later, or remove it",
                  id);
        return 1;
    default:
        cli_error("cannot %s %u: %s", what, id, err_text(r));
        return 1;
    }
}

/* How far the learner is behind, on a terminal that somebody looks at. */
static void show_progress(struct group *group, uint32_t id)
{
    if (isatty(STDERR_FILENO)) {
        uint64_t match = 0, last = 0;

        if (find_leader(group) != NULL && group_view_match(&group->view, id, &match, &last)) {
            fprintf(stderr, "\rserver %u holds %" PRIu64 " of %" PRIu64 " entries ", id, match,
                    last);
        }
    }
}

static bool is_learner(struct group *group, uint32_t id)
{
    (void)find_leader(group);
    for (unsigned i = 0; i < group->view.count; i++) {
        if (group->view.members[i]->id == id) {
            return group->view.members[i]->learner;
        }
    }
    return false;
}

static int add(struct group *group, uint32_t id, const char *address)
{
    const struct node_config *node = cluster_config_meta(&group->cluster, id);
    int r;

    if (address == NULL && node == NULL) {
        cli_error("%s has no section [meta.%u]: give its address", group->cluster.path, id);
        return 1;
    }
    r = change(group, META_MEMBER_ADD, id, address != NULL ? address : node->address);
    if (r == -EEXIST && is_learner(group, id)) {
        r = 0; /* asked for before: goes on from there */
    }
    if (r < 0) {
        return refused(id, "add", r);
    }
    for (unsigned i = 0; i < CATCH_UP_TRIES; i++) {
        r = change(group, META_MEMBER_PROMOTE, id, NULL);
        if (r != -EAGAIN) {
            break;
        }
        show_progress(group, id);
    }
    if (r < 0) {
        return refused(id, "promote", r);
    }
    printf("metadata server %u is a member and votes\n", id);
    return 0;
}

static int remove_member(struct group *group, uint32_t id)
{
    int r = change(group, META_MEMBER_REMOVE, id, NULL);

    if (r < 0) {
        return refused(id, "remove", r);
    }
    printf("metadata server %u is no member any more; stop it\n", id);
    return 0;
}

/* ---- the command line ---- */

static bool parse_id(const char *text, uint32_t *out_id)
{
    char *end = NULL;
    unsigned long id = strtoul(text, &end, 10);

    *out_id = (uint32_t)id;
    if (*end != '\0' || *text == '\0' || id == 0 || id > UINT32_MAX) {
        cli_error("'%s' is not the number of a metadata server", text);
        return false;
    }
    return true;
}

/* words: the command and its arguments. */
static int run(struct group *group, char **words, int count)
{
    uint32_t first = 0, second = 0;
    int r;

    if (count > 1 && !parse_id(words[1], &first)) {
        return EXIT_USAGE;
    }
    if (strcmp(words[0], "transfer") == 0 && count <= 2) {
        return transfer(group, first);
    }
    if (strcmp(words[0], "add") == 0 && (count == 2 || count == 3)) {
        return add(group, first, count == 3 ? words[2] : NULL);
    }
    if (strcmp(words[0], "remove") == 0 && count == 2) {
        return remove_member(group, first);
    }
    if (strcmp(words[0], "replace") == 0 && (count == 3 || count == 4)) {
        if (!parse_id(words[2], &second)) {
            return EXIT_USAGE;
        }
        r = add(group, second, count == 4 ? words[3] : NULL);
        return r == 0 ? remove_member(group, first) : r;
    }
    cli_error("meta takes transfer, add, remove or replace; see `keelfs meta --help`");
    return EXIT_USAGE;
}

static int run_with(const char *config_path, char **words, int count)
{
    static struct group group;
    int r;

    if (cluster_config_read(&group.cluster, config_path) < 0) {
        return 1;
    }
    r = ask_group_open(&group.asks, &group.cluster);
    if (r < 0) {
        cli_error("cannot start: %s", err_text(r));
        r = 1;
    } else {
        r = run(&group, words, count);
        group_view_free(&group.view);
        ask_group_close(&group.asks);
    }
    cluster_config_deinit(&group.cluster);
    return r;
}

int cmd_meta(int argc, char **argv)
{
    static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *config_path = cli_default_config();
    int c;

    while ((c = getopt_long(argc, argv, "+c:h", longs, NULL)) != -1) {
        if (c == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (c != 'c') {
            return EXIT_USAGE;
        }
        config_path = optarg;
    }
    if (argc == optind) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    return run_with(config_path, argv + optind, argc - optind);
}
