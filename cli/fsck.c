/*
 * keelfs fsck: reads the whole metadata state through the leader and the lists of chunks of every
 * server, and holds them against each other. Read-only. On a volume in use, what was true at no
 * single instant may look wrong: problems count only when a second look shows them too.
 */
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/fsck_check.h"
#include "cli/fsck_data.h"
#include "cli/group_view.h"

#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/chunk_proto.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>

#define ASK_TIMEOUT  (10 * NS_PER_S)
#define SCAN_BATCH   2000
#define LOOKS        2
#define POLL_MS      500
#define LEADER_TRIES 10 /* leadership that moves while the volume is read */

struct look {
    struct cluster_config cluster;
    struct ask_group group;
    struct group_view view;
    const struct member_view *leader; /* of the view; NULL: look for it */
    struct cluster_map map;
    unsigned servers_down;
    bool progress;
    bool verify; /* data too */
    struct data_check data;
    int status;
};

static const char help[] =
    "usage: keelfs fsck [--config FILE] [--json] [--wait SECONDS] [--no-chunks]\n"
    "                   [--data [--repair] [--rate MIB]]\n\n"
    "Checks link counts, reachability, orphans, extents, space counters, and that each chunk has\n"
    "its copies; with --data, that each copy can be read and matches its checksums. Reads only,\n"
    "without --repair; the volume may be in use.\n\n"
    "  -c, --config FILE   default $KEELFS_CONFIG or /etc/keelfs/cluster.conf\n"
    "  -j, --json          one JSON object\n"
    "  -w, --wait SECONDS  let missing copies be completed for so long before they count\n"
    "  -n, --no-chunks     metadata only\n"
    "  -d, --data          have the chunk servers read all that they hold\n"
    "  -r, --repair        with --data: replace damaged copies by whole ones of other servers\n"
    "  -R, --rate MIB      with --data: at most so much a second and server, default 64; 0 = "
    "all\n\n"
    "exit code: 0 clean, or all is repaired; 1 problems, missing copies, or damaged ones that are\n"
    "left; 2 the cluster cannot be read\n";

static void pause_ms(unsigned ms)
{
    const struct timespec span = {.tv_nsec = (long)ms * 1000000};

    nanosleep(&span, NULL);
}

/* Asks whoever leads, again while leadership moves. */
static int ask_leader(struct look *look, uint16_t opcode, struct slice body, struct buf *out_body)
{
    int r = -ERR_NO_LEADER;

    for (unsigned i = 0; i < LEADER_TRIES; i++) {
        const struct member_view *leader = look->leader;
        struct ask ask;

        if (leader == NULL) {
            leader = group_view_find_leader(&look->view, &look->group, &look->cluster);
        }
        if (leader == NULL) {
            return r;
        }
        ask_start(&look->group, &ask, leader->address, opcode, body, ASK_TIMEOUT);
        ask_wait(&look->group);
        r = ask.status;
        *out_body = buf_take(&ask.body);
        ask_free(&ask);
        look->leader = r == 0 ? leader : NULL;
        if (!group_view_lost_leader(r)) {
            return r;
        }
        buf_deinit(out_body);
        pause_ms(POLL_MS);
    }
    return r;
}

/* ---- metadata ---- */

/* Who wants the records. */
typedef void each_record(void *data, struct slice key, struct slice value);

static int take_pairs(each_record *each, void *each_data, struct slice data, struct buf *last_key)
{
    struct schema_reader reader = schema_reader_make(data);

    while (reader.at != reader.end) {
        struct slice key = schema_read_bytes(&reader, META_BODY_MAX);
        struct slice value = schema_read_bytes(&reader, META_BODY_MAX);

        if (reader.failed || key.size == 0) {
            return -ERR_BAD_MESSAGE;
        }
        each(each_data, key, value);
        buf_clear(last_key);
        buf_append_slice(last_key, key);
    }
    buf_append_zero(last_key, 1); /* the next key there can be */
    return 0;
}

/* From the key `first` on. */
static int read_records(struct look *look, struct slice first, each_record *each, void *data)
{
    cleanup(buf_deinit) struct buf next = {0};
    struct meta_reply reply = {0};
    uint64_t batches = 0;

    buf_append_slice(&next, first);

    while (reply.value == 0) {
        cleanup(buf_deinit) struct buf body = {0}, out = {0};
        struct meta_request request = {
            .op = META_SCAN, .count = SCAN_BATCH, .data = buf_slice(&next)};
        int r;

        meta_request_encode(&request, &body);
        r = ask_leader(look, META_RPC_REQUEST, buf_slice(&body), &out);
        if (r == 0) {
            r = meta_reply_decode(&reply, buf_slice(&out));
        }
        if (r == 0 && reply.error != 0) {
            r = -(int)reply.error;
        }
        if (r == 0) {
            r = take_pairs(each, data, reply.data, &next);
        }
        if (r < 0) {
            return r;
        }
        if (look->progress) {
            fprintf(stderr, "\rread %" PRIu64 " batches of records", ++batches);
        }
    }
    if (look->progress) {
        fputc('\n', stderr);
    }
    return 0;
}

static void add_record(void *data, struct slice key, struct slice value)
{
    fsck_add_record(data, key, value);
}

static void add_user(void *data, struct slice key, struct slice value)
{
    data_users_add(data, key, value);
}

/* ---- chunks ---- */

static int read_partition(struct look *look, struct fsck *fsck, const char *address, uint32_t part)
{
    struct chunk_list_request request = {.partition = part, .max = CHUNK_LIST_MAX};
    struct chunk_list_reply reply = {0};

    do {
        cleanup(buf_deinit) struct buf body = {0};
        struct ask ask;
        size_t count = 0;
        int r;

        chunk_list_request_encode(&request, &body);
        ask_start(&look->group, &ask, address, CHUNK_LIST, buf_slice(&body), ASK_TIMEOUT);
        ask_wait(&look->group);
        r = ask.status;
        if (r == 0) {
            r = chunk_list_reply_decode(&reply, buf_slice(&ask.body));
        }
        if (r == 0) {
            count = chunk_ids_count(reply.ids);
            for (size_t i = 0; i < count; i++) {
                chunk_ids_get(reply.ids, i, &request.session, &request.seq);
                fsck_add_copy(fsck, request.session, request.seq);
            }
            request.seq++;
        }
        ask_free(&ask);
        if (r < 0 || (count == 0 && !reply.last)) {
            return r < 0 ? r : -ERR_BAD_MESSAGE;
        }
    } while (!reply.last);
    return 0;
}

static void read_chunks(struct look *look, struct fsck *fsck)
{
    look->servers_down = 0;
    for (uint32_t s = 0; s < look->map.server_count; s++) {
        const struct chunk_server_info *server = &look->map.servers[s];

        for (uint32_t part = 0; part < look->map.partition_count; part++) {
            if (cluster_map_owns(&look->map, part, server->id) &&
                read_partition(look, fsck, server->address, part) < 0) {
                look->servers_down++;
                break;
            }
        }
        if (look->progress) {
            fprintf(stderr, "read the chunk list of server %u\n", server->id);
        }
    }
}

static int read_map(struct look *look)
{
    cleanup(buf_deinit) struct buf body = {0};
    int r = ask_leader(look, META_RPC_MAP, (struct slice){0}, &body);

    if (r < 0 || body.size == 0) {
        return r;
    }
    cluster_map_deinit(&look->map);
    return cluster_map_decode(&look->map, buf_slice(&body));
}

static int look_once(struct look *look, struct fsck *fsck, bool chunks)
{
    unsigned copies;
    int r;

    fsck_init(fsck);
    r = read_records(look, (struct slice){0}, add_record, fsck);
    if (r == 0 && chunks) {
        r = read_map(look);
    }
    if (r < 0) {
        return r;
    }
    if (chunks) {
        read_chunks(look, fsck);
    }
    copies = (unsigned)min_u64(CHUNK_REPLICAS, look->map.server_count);
    fsck_finish(fsck, chunks ? copies : 0);
    return 0;
}

/* Reads all chunks, and says which files use the damaged ones. */
static int verify_data(struct look *look)
{
    struct data_users users;
    int r = read_map(look);

    if (r < 0) {
        return r;
    }
    look->data.group = &look->group;
    look->data.map = &look->map;
    look->data.progress = look->progress;
    data_check_run(&look->data);
    if (look->data.damage_count > 0) {
        data_users_begin(&users, &look->data);
        r = read_records(look, slice_text("E"), add_user, &users);
        data_users_end(&users);
    }
    return r;
}

static void report_damage(const struct data_damage *damage)
{
    const uint64_t *inos = (const void *)damage->inos.data;

    printf("damaged: chunk %" PRIx64 ".%" PRIx64 " on server %u%s, used by", damage->session,
           damage->seq, damage->server, damage->repaired ? " (repaired)" : "");
    for (size_t i = 0; i < damage->inos.size / sizeof(*inos); i++) {
        printf(" %" PRIu64, inos[i]);
    }
    puts(damage->inos.size > 0 ? "" : " no file");
}

static void report_data(const struct data_check *data)
{
    for (size_t i = 0; i < data->damage_count; i++) {
        report_damage(&data->damages[i]);
    }
    printf("%" PRIu64 " copies read (%" PRIu64 " MiB), %zu damaged, %zu repaired, %u chunk servers "
           "not read to the end\n",
           data->chunks, data->bytes >> 20, data->damage_count,
           data->damage_count - data_check_left(data), data->servers_incomplete);
}

static json_t *damage_json(const struct data_damage *damage)
{
    const uint64_t *inos = (const void *)damage->inos.data;
    json_t *list = json_array();
    char chunk[40];

    for (size_t i = 0; i < damage->inos.size / sizeof(*inos); i++) {
        json_array_append_new(list, json_integer((json_int_t)inos[i]));
    }
    snprintf(chunk, sizeof(chunk), "%" PRIx64 ".%" PRIx64, damage->session, damage->seq);
    return json_pack("{s:i, s:s, s:b, s:o}", "server", (int)damage->server, "chunk", chunk,
                     "repaired", damage->repaired, "inodes", list);
}

static void add_data_json(json_t *object, const struct data_check *data)
{
    json_t *damaged = json_array();

    for (size_t i = 0; i < data->damage_count; i++) {
        json_array_append_new(damaged, damage_json(&data->damages[i]));
    }
    json_object_set_new(object, "copies_read", json_integer((json_int_t)data->chunks));
    json_object_set_new(object, "bytes_read", json_integer((json_int_t)data->bytes));
    json_object_set_new(object, "damaged", damaged);
    json_object_set_new(object, "servers_not_read", json_integer(data->servers_incomplete));
}

/* Problems of `now` that `before` had too. */
static void keep_repeated(struct fsck *now, const struct fsck *before)
{
    size_t kept = 0;

    for (size_t i = 0; i < now->problem_count; i++) {
        for (size_t k = 0; k < before->problem_count; k++) {
            if (strcmp(now->problems[i].text, before->problems[k].text) == 0) {
                now->problems[kept++] = now->problems[i];
                break;
            }
        }
    }
    now->problem_count = kept;
}

static void report(const struct look *look, const struct fsck *fsck, bool as_json)
{
    json_t *object, *problems = json_array();

    if (!as_json) {
        for (size_t i = 0; i < fsck->problem_count; i++) {
            printf("problem: %s\n", fsck->problems[i].text);
        }
        printf("%zu inodes, %" PRIu64 " names, %" PRIu64 " extents, %zu chunks, %" PRIu64
               " orphans, %" PRIu64 " chunks to delete\n",
               fsck->inodes.count, fsck->dentries, fsck->extents, fsck->chunks.count, fsck->orphans,
               fsck->gone);
        printf("%zu problems, %" PRIu64 " copies missing, %u chunk servers did not answer\n",
               fsck->problem_count, fsck->missing_copies, look->servers_down);
        if (look->verify) {
            report_data(&look->data);
        }
        json_decref(problems);
        return;
    }
    for (size_t i = 0; i < fsck->problem_count; i++) {
        json_array_append_new(problems, json_string(fsck->problems[i].text));
    }
    object = json_pack("{s:o, s:I, s:I, s:I, s:i}", "problems", problems, "inodes",
                       (json_int_t)fsck->inodes.count, "chunks", (json_int_t)fsck->chunks.count,
                       "copies_missing", (json_int_t)fsck->missing_copies, "servers_down",
                       (int)look->servers_down);
    if (look->verify) {
        add_data_json(object, &look->data);
    }
    json_dumpf(object, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(object);
}

static int run(struct look *look, double wait_s, bool chunks, bool as_json)
{
    uint64_t deadline = env_now(env_uv_env(look->group.uv)) + (uint64_t)(wait_s * (double)NS_PER_S);
    struct fsck fsck, again;
    int r = look_once(look, &fsck, chunks);

    for (unsigned looks = 1; r == 0; looks++) {
        bool waiting = fsck.missing_copies != 0 || look->servers_down != 0;

        if (fsck.problem_count == 0 ? !waiting : looks >= LOOKS && !waiting) {
            break;
        }
        if (waiting && env_now(env_uv_env(look->group.uv)) >= deadline && looks >= LOOKS) {
            break;
        }
        pause_ms(POLL_MS);
        r = look_once(look, &again, chunks);
        if (r == 0) {
            keep_repeated(&again, &fsck);
            fsck_deinit(&fsck);
            fsck = again;
        }
    }
    r = r < 0 || !look->verify ? r : verify_data(look);
    if (r < 0) {
        cli_error("cannot read the volume: %s; see `keelfs status`", err_text(r));
        return EXIT_UNAVAILABLE;
    }
    report(look, &fsck, as_json);
    r = fsck.problem_count != 0 || fsck.missing_copies != 0 || look->servers_down != 0 ||
        data_check_left(&look->data) > 0 || look->data.servers_incomplete > 0;
    data_check_free(&look->data);
    fsck_deinit(&fsck);
    return r ? EXIT_DEGRADED : EXIT_OK;
}

int cmd_fsck(int argc, char **argv)
{
    static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"wait", required_argument, NULL, 'w'},
                                          {"no-chunks", no_argument, NULL, 'n'},
                                          {"data", no_argument, NULL, 'd'},
                                          {"repair", no_argument, NULL, 'r'},
                                          {"rate", required_argument, NULL, 'R'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    static struct look look = {.data.rate = MiB(64)};
    const char *path = cli_default_config();
    bool as_json = false, chunks = true;
    double wait_s = 0;
    int c, code;

    while ((c = getopt_long(argc, argv, "c:jw:ndrR:h", longs, NULL)) != -1) {
        if (c == 'c') {
            path = optarg;
        } else if (c == 'j') {
            as_json = true;
        } else if (c == 'w') {
            wait_s = strtod(optarg, NULL);
        } else if (c == 'n') {
            chunks = false;
        } else if (c == 'd') {
            look.verify = true;
        } else if (c == 'r') {
            look.data.repair = true;
        } else if (c == 'R') {
            look.data.rate = (uint64_t)(strtod(optarg, NULL) * (double)MiB(1));
        } else if (c == 'h') {
            fputs(help, stdout);
            return 0;
        } else {
            return EXIT_USAGE;
        }
    }
    if (look.data.repair && !look.verify) {
        cli_error("--repair needs --data");
        return EXIT_USAGE;
    }
    if (cluster_config_read(&look.cluster, path) < 0 ||
        ask_group_open(&look.group, &look.cluster) < 0) {
        return EXIT_UNAVAILABLE;
    }
    look.progress = isatty(STDERR_FILENO) && !as_json;
    code = run(&look, wait_s, chunks, as_json);
    cluster_map_deinit(&look.map);
    group_view_free(&look.view);
    ask_group_close(&look.group);
    cluster_config_deinit(&look.cluster);
    return code;
}
