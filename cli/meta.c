/* keelfs meta: what an operator tells the metadata group. */
#include "cli/ask.h"
#include "cli/cli.h"

#include "base/err.h"
#include "meta/meta_proto.h"
#include "meta/meta_server_proto.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>

#define ASK_TIMEOUT  (2 * NS_PER_S)
#define OUTCOME_MS   50 /* between looks at who leads now */
#define OUTCOME_MAX  60
#define LEADER_TRIES 20 /* an election may be under way */

static const char help[] =
    "usage: keelfs meta [--config FILE] transfer [ID]\n\n"
    "transfer [ID]   the leader hands leadership to metadata server ID, or to the one that lacks\n"
    "                least. Calls of mounts wait for about a tenth of a second. A leader that is\n"
    "                stopped by SIGTERM does the same by itself.\n\n"
    "For root and the user who runs the metadata servers.\n\n"
    "  -c, --config FILE   default $KEELFS_CONFIG or /etc/keelfs/cluster.conf\n\n"
    "exit code: 0 another server leads, 1 not, 2 no leader could be reached\n";

struct group {
    struct cluster_config cluster;
    struct ask_group asks;
};

/* The server that says it leads, of the newest term; NULL: none. */
static const struct node_config *find_leader(struct group *group)
{
    const struct cluster_config *cluster = &group->cluster;
    const struct node_config *leader = NULL;
    static struct ask asks[CONFIG_META_MAX];
    uint64_t term = 0;

    for (unsigned i = 0; i < cluster->meta_count; i++) {
        ask_start(&group->asks, &asks[i], cluster->meta[i].address, META_RPC_STATUS,
                  (struct slice){0}, ASK_TIMEOUT);
    }
    ask_wait(&group->asks);
    for (unsigned i = 0; i < cluster->meta_count; i++) {
        struct meta_status status;

        if (asks[i].status == 0 && meta_status_decode(&status, buf_slice(&asks[i].body)) == 0 &&
            slice_equal(status.role, slice_text("leader")) && status.term > term) {
            leader = &cluster->meta[i];
            term = status.term;
        }
    }
    for (unsigned i = 0; i < cluster->meta_count; i++) {
        ask_free(&asks[i]);
    }
    return leader;
}

static const struct node_config *wait_for_leader(struct group *group)
{
    const struct node_config *leader = find_leader(group);

    for (unsigned i = 0; i < LEADER_TRIES && leader == NULL; i++) {
        (void)poll(NULL, 0, OUTCOME_MS);
        leader = find_leader(group);
    }
    return leader;
}

static int tell(struct group *group, const struct node_config *leader, uint32_t to)
{
    struct meta_transfer message = {.to = to};
    cleanup(buf_deinit) struct buf body = {0};
    struct ask ask;
    int r;

    meta_transfer_encode(&message, &body);
    ask_start(&group->asks, &ask, leader->address, META_RPC_TRANSFER, buf_slice(&body),
              ASK_TIMEOUT);
    ask_wait(&group->asks);
    r = ask.status;
    ask_free(&ask);
    return r;
}

/* Whoever leads when `old` does no more; NULL: it still does. */
static const struct node_config *outcome(struct group *group, const struct node_config *old)
{
    for (unsigned i = 0; i < OUTCOME_MAX; i++) {
        const struct node_config *leader = find_leader(group);

        if (leader != NULL && leader != old) {
            return leader;
        }
        (void)poll(NULL, 0, OUTCOME_MS);
    }
    return NULL;
}

static void complain(const struct node_config *leader, uint32_t to, int r)
{
    if (r == -EHOSTDOWN && to == 0) {
        cli_error("metadata server %u leads and hears no other one", leader->id);
    } else if (r == -EHOSTDOWN) {
        cli_error("metadata server %u cannot lead: %u, which leads, does not hear it", to,
                  leader->id);
    } else {
        cli_error("metadata server %u, which leads, refuses: %s", leader->id, err_text(r));
    }
}

static int transfer(struct group *group, uint32_t to)
{
    const struct node_config *leader = wait_for_leader(group), *next;
    int r;

    if (leader == NULL) {
        cli_error("no metadata server leads, or none could be reached; see `keelfs status`");
        return EXIT_UNAVAILABLE;
    }
    if (leader->id == to) {
        printf("metadata server %u leads already\n", to);
        return 0;
    }
    r = tell(group, leader, to);
    if (r < 0) {
        complain(leader, to, r);
        return 1;
    }
    next = outcome(group, leader);
    if (next == NULL || (to != 0 && next->id != to)) {
        cli_error("metadata server %u has not taken over; %u leads", to,
                  next != NULL ? next->id : leader->id);
        return 1;
    }
    printf("metadata server %u leads\n", next->id);
    return 0;
}

static int transfer_of(const char *config_path, uint32_t to)
{
    static struct group group;
    int r;

    if (cluster_config_read(&group.cluster, config_path) < 0) {
        return 1;
    }
    if (to != 0 && cluster_config_meta(&group.cluster, to) == NULL) {
        cli_error("%s has no section [meta.%u]", config_path, to);
        r = 1;
    } else if ((r = ask_group_open(&group.asks, &group.cluster)) < 0) {
        cli_error("cannot start: %s", err_text(r));
        r = 1;
    } else {
        r = transfer(&group, to);
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
    unsigned long to = 0;
    char *end = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "c:h", longs, NULL)) != -1) {
        if (c == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (c != 'c') {
            return EXIT_USAGE;
        }
        config_path = optarg;
    }
    if (argc - optind < 1 || argc - optind > 2 || strcmp(argv[optind], "transfer") != 0) {
        cli_error("meta takes `transfer [ID]`; see `keelfs meta --help`");
        return EXIT_USAGE;
    }
    if (argc - optind == 2) {
        to = strtoul(argv[optind + 1], &end, 10);
        if (*end != '\0' || to == 0 || to > CONFIG_META_MAX) {
            cli_error("'%s' is not the number of a metadata server", argv[optind + 1]);
            return EXIT_USAGE;
        }
    }
    return transfer_of(config_path, (uint32_t)to);
}
