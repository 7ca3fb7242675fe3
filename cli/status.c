/*
 * keelfs status: asks every metadata server at once, takes the leader's word
 * on the cluster, or says why there is none. Works without a mount; no wait without a deadline.
 */
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/group_view.h"

#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/chunk_proto.h"
#include "meta/meta_proto.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>

#define ASK_TIMEOUT   (2 * NS_PER_S)
#define HEARD_DOWN_MS 5000 /* unheard of for so long = down */
#define SERVERS_MAX   4096 /* chunk servers: more records do not fit a status */

struct view {
    struct cluster_config cluster;
    struct ask_group asks;
    struct group_view group;
};

static const char help[] =
    "usage: keelfs status [--config FILE] [--json]\n\n"
    "Shows the metadata group, the chunk servers, the volume and what is wrong. Any one reachable\n"
    "metadata server is enough; the mount is not needed.\n\n"
    "  -c, --config FILE   default $KEELFS_CONFIG or /etc/keelfs/cluster.conf\n"
    "  -j, --json          one JSON object\n\n"
    "exit code: 0 healthy, 1 degraded, 2 unavailable\n";

static const char *health_text(const char *code)
{
    static const char *const table[][2] = {
#define HEALTH_ROW(name, text) {#name, text},
        META_HEALTH_TABLE(HEALTH_ROW)
#undef HEALTH_ROW
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        if (strcmp(table[i][0], code) == 0) {
            return table[i][1];
        }
    }
    return "unknown to this version";
}

static const struct meta_status *leader_of(const struct view *view)
{
    return view->group.leader >= 0 ? &view->group.members[view->group.leader]->status : NULL;
}

static json_t *text_of(struct slice bytes)
{
    return json_stringn((const char *)bytes.data, bytes.size);
}

static json_t *members_of(const struct view *view)
{
    json_t *members = json_array();

    for (unsigned i = 0; i < view->group.count; i++) {
        const struct member_view *node = view->group.members[i];
        const struct meta_status *status = &node->status;
        json_t *member =
            json_pack("{s:i, s:s, s:b, s:b}", "id", (int)node->id, "address", node->address,
                      "reachable", node->answered, "learner", node->learner);

        if (node->answered) {
            json_object_set_new(member, "role", text_of(status->role));
            json_object_set_new(member, "term", json_integer((json_int_t)status->term));
            json_object_set_new(member, "commit", json_integer((json_int_t)status->commit));
            json_object_set_new(member, "applied", json_integer((json_int_t)status->applied));
            json_object_set_new(member, "last", json_integer((json_int_t)status->last));
        } else {
            json_object_set_new(member, "error", json_string(err_text(node->ask.status)));
        }
        json_array_append_new(members, member);
    }
    return members;
}

/* The server's own counters and health, as it has told; none when it did not answer. */
static void add_counters(json_t *object, const struct ask *ask)
{
    struct chunk_status status;

    if (ask->status < 0 || chunk_status_decode(&status, buf_slice(&ask->body)) < 0) {
        return;
    }
    json_object_set_new(object, "health", json_string(chunk_health_name(status.health)));
    json_object_set_new(object, "chunks", json_integer((json_int_t)status.chunks));
    json_object_set_new(object, "stored_bytes", json_integer((json_int_t)status.stored_bytes));
    json_object_set_new(object, "dead_bytes", json_integer((json_int_t)status.dead_bytes));
    json_object_set_new(object, "corrupt_found", json_integer((json_int_t)status.corrupt_found));
    json_object_set_new(object, "repairs", json_integer((json_int_t)status.repairs));
    json_object_set_new(object, "hints_waiting", json_integer((json_int_t)status.hints_waiting));
    json_object_set_new(object, "torn_tails", json_integer((json_int_t)status.torn_tails));
}

static bool next_server(struct schema_reader *reader, struct meta_status_server *out_server)
{
    struct slice record;

    if (reader->at == reader->end) {
        return false;
    }
    record = schema_read_bytes(reader, KiB(1));
    return !reader->failed && meta_status_server_decode(out_server, record) == 0;
}

static json_t *server_of(const struct meta_status_server *server)
{
    json_t *object = json_pack("{s:i, s:o, s:o}", "id", (int)server->id, "address",
                               text_of(server->address), "zone", text_of(server->zone));

    json_object_set_new(object, "up", json_boolean(server->heard_ms <= HEARD_DOWN_MS));
    json_object_set_new(object, "total_bytes", json_integer((json_int_t)server->total_bytes));
    json_object_set_new(object, "free_bytes", json_integer((json_int_t)server->free_bytes));
    return object;
}

/* Asks all of them at once, also those that the leader has not heard: one whose disk failed says
 * so. */
static json_t *servers_of(struct view *view, const struct meta_status *status)
{
    struct schema_reader reader = schema_reader_make(status->servers);
    struct ask *asks = mem_zalloc(SERVERS_MAX * sizeof(*asks));
    json_t *servers = json_array();
    struct meta_status_server server;

    while (json_array_size(servers) < SERVERS_MAX && next_server(&reader, &server)) {
        char address[256];

        snprintf(address, sizeof(address), "%.*s", (int)server.address.size,
                 (const char *)server.address.data);
        ask_start(&view->asks, &asks[json_array_size(servers)], address, CHUNK_STATUS,
                  (struct slice){0}, ASK_TIMEOUT);
        json_array_append_new(servers, server_of(&server));
    }
    ask_wait(&view->asks);
    for (size_t i = 0; i < json_array_size(servers); i++) {
        add_counters(json_array_get(servers, i), &asks[i]);
        ask_free(&asks[i]);
    }
    mem_free(asks);
    return servers;
}

static void add_health(json_t *health, const char *code)
{
    size_t i;
    json_t *value;

    json_array_foreach(health, i, value)
    {
        if (strcmp(json_string_value(value), code) == 0) {
            return;
        }
    }
    json_array_append_new(health, json_string(code));
}

/* Those that begin with `prefix`. */
static void add_codes(json_t *health, struct slice codes, const char *prefix)
{
    size_t at = 0;

    while (at < codes.size) {
        size_t size = strnlen((const char *)codes.data + at, codes.size - at);
        char code[64];

        snprintf(code, sizeof(code), "%.*s", (int)size, (const char *)codes.data + at);
        if (strncmp(code, prefix, strlen(prefix)) == 0) {
            add_health(health, code);
        }
        at += size + 1;
    }
}

/* What a metadata server says of itself, and the leader may not know. */
static void add_own_codes(json_t *health, struct slice codes)
{
    add_codes(health, codes, "META_");
}

/* What the chunk servers have said of themselves. */
static void add_chunk_codes(json_t *health, const json_t *servers)
{
    size_t i;
    json_t *server;

    json_array_foreach(servers, i, server)
    {
        const char *own = json_string_value(json_object_get(server, "health"));

        if (own != NULL && strcmp(own, chunk_health_name(CHUNK_HEALTH_FAILED)) == 0) {
            add_health(health, "CHUNK_DISK_FAILED");
        } else if (own != NULL && strcmp(own, chunk_health_name(CHUNK_HEALTH_FULL)) == 0) {
            add_health(health, "CHUNK_DISK_FULL");
        }
    }
}

static json_t *health_of(const struct view *view, const json_t *servers)
{
    json_t *health = json_array();

    if (leader_of(view) == NULL) {
        add_health(health, "NO_LEADER");
    } else {
        add_codes(health, leader_of(view)->health, "");
    }
    for (unsigned i = 0; i < view->group.count; i++) {
        if (view->group.members[i]->answered) {
            add_own_codes(health, view->group.members[i]->status.health);
        }
    }
    if (view->group.answers < view->group.count) {
        add_health(health, "META_SERVER_DOWN");
    }
    add_chunk_codes(health, servers);
    return health;
}

static json_t *report_of(struct view *view)
{
    const struct meta_status *leader = leader_of(view);
    json_t *report = json_object();
    json_t *servers = leader != NULL ? servers_of(view, leader) : NULL;
    json_t *health = health_of(view, servers);
    const char *state = leader == NULL                 ? "unavailable"
                        : json_array_size(health) == 0 ? "healthy"
                                                       : "degraded";

    json_object_set_new(report, "state", json_string(state));
    json_object_set_new(report, "health", health);
    json_object_set_new(report, "meta", members_of(view));
    if (leader != NULL) {
        json_object_set_new(report, "leader", json_integer(leader->id));
        json_object_set_new(report, "term", json_integer((json_int_t)leader->term));
        json_object_set_new(report, "sessions", json_integer(leader->sessions));
        json_object_set_new(report, "chunk", servers);
        json_object_set_new(report, "map_epoch", json_integer((json_int_t)leader->map_epoch));
        json_object_set_new(report, "inodes", json_integer((json_int_t)leader->inodes));
        json_object_set_new(report, "used_bytes", json_integer((json_int_t)leader->used_bytes));
        json_object_set_new(report, "orphans", json_integer((json_int_t)leader->orphans));
        json_object_set_new(report, "delete_queue", json_integer((json_int_t)leader->delete_queue));
        json_object_set_new(report, "journal_bytes",
                            json_integer((json_int_t)leader->journal_bytes));
    }
    return report;
}

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_text(const json_t *report)
{
    size_t i;
    json_t *item;

    printf("cluster is %s\n", json_string_value(json_object_get(report, "state")));
    json_array_foreach(json_object_get(report, "health"), i, item)
    {
        printf("  %s: %s\n", json_string_value(item), health_text(json_string_value(item)));
    }
    puts("metadata servers");
    json_array_foreach(json_object_get(report, "meta"), i, item)
    {
        const char *role = json_string_value(json_object_get(item, "role"));

        if (role == NULL) {
            printf("  %" PRId64 "  DOWN      %s: %s\n", (int64_t)integer(item, "id"),
                   json_string_value(json_object_get(item, "address")),
                   json_string_value(json_object_get(item, "error")));
            continue;
        }
        printf("  %" PRId64 "  %-9s term %" PRId64 "  applied %" PRId64 "  %s\n",
               (int64_t)integer(item, "id"),
               json_is_true(json_object_get(item, "learner")) ? "learner" : role,
               (int64_t)integer(item, "term"), (int64_t)integer(item, "applied"),
               json_string_value(json_object_get(item, "address")));
    }
    if (json_object_get(report, "leader") == NULL) {
        return;
    }
    puts("chunk servers");
    json_array_foreach(json_object_get(report, "chunk"), i, item)
    {
        const char *health = json_string_value(json_object_get(item, "health"));

        printf("  %" PRId64 "  %-8s %.1f of %.1f GiB free  %" PRId64 " chunks  %" PRId64
               " repaired  %s\n",
               (int64_t)integer(item, "id"),
               health != NULL                              ? health
               : json_is_true(json_object_get(item, "up")) ? "up"
                                                           : "DOWN",
               (double)integer(item, "free_bytes") / (double)GiB(1),
               (double)integer(item, "total_bytes") / (double)GiB(1),
               (int64_t)integer(item, "chunks"), (int64_t)integer(item, "repairs"),
               json_string_value(json_object_get(item, "address")));
    }
    printf("volume: %" PRId64 " inodes, %.1f MiB used, %" PRId64 " orphans, %" PRId64
           " chunks to delete, %" PRId64 " sessions\n",
           (int64_t)integer(report, "inodes"), (double)integer(report, "used_bytes") / (1 << 20),
           (int64_t)integer(report, "orphans"), (int64_t)integer(report, "delete_queue"),
           (int64_t)integer(report, "sessions"));
}

static int show(struct view *view, bool as_json)
{
    json_t *report;
    int code;

    group_view_collect(&view->group, &view->asks, &view->cluster);
    report = report_of(view);
    if (as_json) {
        json_dumpf(report, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_text(report);
    }
    code = leader_of(view) == NULL                                   ? EXIT_UNAVAILABLE
           : json_array_size(json_object_get(report, "health")) != 0 ? EXIT_DEGRADED
                                                                     : EXIT_OK;
    json_decref(report);
    group_view_free(&view->group);
    return code;
}

int cmd_status(int argc, char **argv)
{
    static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    static struct view view;
    const char *path = cli_default_config();
    bool as_json = false;
    int c, code;

    while ((c = getopt_long(argc, argv, "c:jh", longs, NULL)) != -1) {
        if (c == 'c') {
            path = optarg;
        } else if (c == 'j') {
            as_json = true;
        } else if (c == 'h') {
            fputs(help, stdout);
            return 0;
        } else {
            return EXIT_USAGE;
        }
    }
    if (optind != argc) {
        cli_error("status takes no argument '%s'; the configuration is named by --config",
                  argv[optind]);
        return EXIT_USAGE;
    }
    if (cluster_config_read(&view.cluster, path) < 0 ||
        ask_group_open(&view.asks, &view.cluster) < 0) {
        return EXIT_UNAVAILABLE;
    }
    code = show(&view, as_json);
    ask_group_close(&view.asks);
    cluster_config_deinit(&view.cluster);
    return code;
}
