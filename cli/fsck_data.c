#include "cli/fsck_data.h"

#include "base/err.h"
#include "base/mem.h"
#include "meta/record.h"

#include <errno.h>
#include <inttypes.h>

#define VERIFY_TIMEOUT  (60 * NS_PER_S) /* 8 MiB of a disk that others use too */
#define FIRST_TIMEOUT   (10 * NS_PER_S) /* is there anybody? The others wait meanwhile */
#define VERIFY_TRIES    20              /* while a server is busy with others */
#define BUSY_PAUSE_MS   500
#define REPAIR_WAIT_NS  (60 * NS_PER_S) /* for all that is to be repaired */
#define REPAIR_PAUSE_MS 300
#define DAMAGES_MAX     10000 /* then the disk is to be replaced, not listed */
#define BAR_WIDTH       30

/* Where the reading of one server is. */
struct reader {
    const struct chunk_server_info *info;
    struct chunk_verify_request next;
    struct ask ask;
    struct buf body;
    uint64_t ready_ns; /* not before: the rate */
    unsigned tries;
    bool heard; /* it has answered */
    bool done;
};

static void pause_ms(uint64_t ms)
{
    const struct timespec span = {.tv_sec = (time_t)(ms / 1000),
                                  .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&span, NULL);
}

static uint64_t now(const struct data_check *check)
{
    return env_now(env_uv_env(check->group->uv));
}

static void add_damage(struct data_check *check, uint32_t server, uint64_t session, uint64_t seq)
{
    if (check->damage_count == DAMAGES_MAX) {
        return;
    }
    check->damages =
        mem_realloc(check->damages, (check->damage_count + 1) * sizeof(*check->damages));
    check->damages[check->damage_count++] =
        (struct data_damage){.server = server, .session = session, .seq = seq};
}

/* ---- one request to one server ---- */

static void start(struct data_check *check, struct reader *reader)
{
    buf_clear(&reader->body);
    chunk_verify_request_encode(&reader->next, &reader->body);
    ask_start(check->group, &reader->ask, reader->info->address, CHUNK_VERIFY,
              buf_slice(&reader->body), reader->heard ? VERIFY_TIMEOUT : FIRST_TIMEOUT);
}

/* Also of partitions that it does not own (any more): it may be the only one that has a chunk. */
static void begin_partition(const struct data_check *check, struct reader *reader, uint32_t at)
{
    reader->done = at >= CHUNK_PARTITIONS;
    reader->next = (struct chunk_verify_request){.partition = at, .repair = check->repair};
}

static void take_reply(struct data_check *check, struct reader *reader,
                       const struct chunk_verify_reply *reply)
{
    for (size_t i = 0; i < chunk_ids_count(reply->damaged); i++) {
        uint64_t session, seq;

        chunk_ids_get(reply->damaged, i, &session, &seq);
        add_damage(check, reader->info->id, session, seq);
    }
    check->chunks += reply->chunks;
    check->bytes += reply->bytes;
    if (check->rate > 0) {
        reader->ready_ns = now(check) + reply->bytes * NS_PER_S / check->rate;
    }
    if (reply->last) {
        begin_partition(check, reader, reader->next.partition + 1);
    } else {
        reader->next.session = reply->session;
        reader->next.seq = reply->seq;
    }
}

/* A reply that does not go on would be asked for without end. */
static bool goes_on(const struct reader *reader, const struct chunk_verify_reply *reply)
{
    return reply->last || reply->session > reader->next.session ||
           (reply->session == reader->next.session && reply->seq > reader->next.seq);
}

static int finish(struct data_check *check, struct reader *reader)
{
    struct chunk_verify_reply reply;
    int r = reader->ask.status;

    if (r == 0) {
        r = chunk_verify_reply_decode(&reply, buf_slice(&reader->ask.body));
    }
    if (r == 0 && !goes_on(reader, &reply)) {
        r = -ERR_BAD_MESSAGE;
    }
    if (r == 0) {
        reader->tries = 0;
        reader->heard = true;
        take_reply(check, reader, &reply);
    }
    ask_free(&reader->ask);
    return r;
}

/* ---- all servers ---- */

static void show(const struct data_check *check, const struct reader *readers)
{
    uint64_t at = 0, all = (uint64_t)check->map->server_count * CHUNK_PARTITIONS;
    char bar[BAR_WIDTH + 1] = {0};

    if (!check->progress || all == 0) {
        return;
    }
    for (uint32_t i = 0; i < check->map->server_count; i++) {
        at += readers[i].done ? CHUNK_PARTITIONS : readers[i].next.partition;
    }
    for (unsigned i = 0; i < BAR_WIDTH; i++) {
        bar[i] = i < at * BAR_WIDTH / all ? '#' : '.';
    }
    fprintf(stderr, "\r[%s] %3u %%  %" PRIu64 " copies, %" PRIu64 " MiB read, %zu damaged", bar,
            (unsigned)(at * 100 / all), check->chunks, check->bytes >> 20, check->damage_count);
}

/* The server does not answer, or cannot: the rest of it is not read. False: once more. */
static bool give_up(struct data_check *check, struct reader *reader, int r)
{
    if (r == -ERR_BUSY && ++reader->tries < VERIFY_TRIES) {
        reader->ready_ns = now(check) + BUSY_PAUSE_MS * NS_PER_MS;
        return false;
    }
    fprintf(stderr, "%schunk server %u: its chunks cannot be verified: %s\n",
            check->progress ? "\n" : "", reader->info->id,
            r == -ENOSYS ? "it is of an older version" : err_text(r));
    check->servers_incomplete++;
    return true;
}

/* One request to each server whose turn it is. False: all have ended. */
static bool one_round(struct data_check *check, struct reader *readers)
{
    uint64_t soonest = UINT64_MAX, at = now(check);
    bool *asked = mem_zalloc(check->map->server_count * sizeof(*asked));
    bool any = false;

    for (uint32_t i = 0; i < check->map->server_count; i++) {
        struct reader *reader = &readers[i];

        if (reader->done) {
            continue;
        }
        soonest = min_u64(soonest, reader->ready_ns);
        asked[i] = reader->ready_ns <= at;
        any = any || asked[i];
        if (asked[i]) {
            start(check, reader);
        }
    }
    ask_wait(check->group);
    for (uint32_t i = 0; i < check->map->server_count; i++) {
        int r = asked[i] ? finish(check, &readers[i]) : 0;

        if (r < 0) {
            readers[i].done = give_up(check, &readers[i], r);
        }
    }
    mem_free(asked);
    if (!any && soonest != UINT64_MAX) {
        pause_ms((soonest - at) / NS_PER_MS + 1);
    }
    return any || soonest != UINT64_MAX;
}

/* ---- after a repair ---- */

/* Does the reply say that this one is damaged? (It may be about the next one: ours is gone.) */
static bool names(const struct chunk_verify_reply *reply, const struct data_damage *damage)
{
    uint64_t session, seq;

    for (size_t i = 0; i < chunk_ids_count(reply->damaged); i++) {
        chunk_ids_get(reply->damaged, i, &session, &seq);
        if (session == damage->session && seq == damage->seq) {
            return true;
        }
    }
    return false;
}

static bool is_whole(struct data_check *check, const struct data_damage *damage)
{
    const struct chunk_server_info *info = cluster_map_server(check->map, damage->server);
    struct reader reader = {.info = info};
    struct chunk_verify_reply reply;
    bool whole;

    reader.next = (struct chunk_verify_request){
        .partition = (uint32_t)(chunk_id_hash(damage->session, damage->seq) % CHUNK_PARTITIONS),
        .session = damage->session,
        .seq = damage->seq,
        .max = 1,
        .repair = true};
    start(check, &reader);
    ask_wait(check->group);
    whole = reader.ask.status == 0 &&
            chunk_verify_reply_decode(&reply, buf_slice(&reader.ask.body)) == 0 &&
            !names(&reply, damage);
    ask_free(&reader.ask);
    buf_deinit(&reader.body);
    return whole;
}

static void await_repairs(struct data_check *check)
{
    uint64_t deadline = now(check) + REPAIR_WAIT_NS;

    while (data_check_left(check) > 0 && now(check) < deadline) {
        pause_ms(REPAIR_PAUSE_MS);
        for (size_t i = 0; i < check->damage_count && now(check) < deadline; i++) {
            struct data_damage *damage = &check->damages[i];

            damage->repaired = damage->repaired || is_whole(check, damage);
        }
    }
}

size_t data_check_left(const struct data_check *check)
{
    size_t left = 0;

    for (size_t i = 0; i < check->damage_count; i++) {
        left += !check->damages[i].repaired;
    }
    return left;
}

void data_check_run(struct data_check *check)
{
    struct reader *readers = mem_zalloc((check->map->server_count + 1) * sizeof(*readers));

    for (uint32_t i = 0; i < check->map->server_count; i++) {
        readers[i].info = &check->map->servers[i];
        begin_partition(check, &readers[i], 0);
    }
    do {
        show(check, readers);
    } while (one_round(check, readers));
    if (check->progress) {
        fputc('\n', stderr);
    }
    for (uint32_t i = 0; i < check->map->server_count; i++) {
        buf_deinit(&readers[i].body);
    }
    mem_free(readers);
    if (check->repair) {
        await_repairs(check);
    }
}

void data_check_free(struct data_check *check)
{
    for (size_t i = 0; i < check->damage_count; i++) {
        buf_deinit(&check->damages[i].inos);
    }
    mem_free(check->damages);
    check->damages = NULL;
    check->damage_count = 0;
}

/* ---- who uses them ---- */

void data_users_begin(struct data_users *users, struct data_check *check)
{
    *users = (struct data_users){.check = check};
    for (size_t i = 0; i < check->damage_count; i++) {
        map_put(&users->damaged, (struct map_key){check->damages[i].session, check->damages[i].seq},
                users);
    }
}

static void add_ino(struct data_check *check, const struct data_use *use, uint64_t ino)
{
    for (size_t i = 0; i < check->damage_count; i++) { /* on two servers, perhaps */
        struct data_damage *damage = &check->damages[i];

        if (damage->session == use->session && damage->seq == use->seq) {
            buf_append(&damage->inos, &ino, sizeof(ino));
        }
    }
}

/* Extents of one file in one chunk may be many: the last one added is the same then. */
static void add_use(struct data_users *users, struct data_use use)
{
    const struct data_use *uses = (const void *)users->uses.data;
    size_t count = users->uses.size / sizeof(use);

    if (count == 0 || memcmp(&uses[count - 1], &use, sizeof(use)) != 0) {
        buf_append(&users->uses, &use, sizeof(use));
    }
    map_put(&users->data, map_u64(use.data_id), users);
}

static void add_inode(struct data_users *users, uint64_t ino, uint64_t data_id)
{
    const struct data_use *uses = (const void *)users->uses.data;

    if (map_get(&users->data, map_u64(data_id)) == NULL) {
        return;
    }
    for (size_t i = 0; i < users->uses.size / sizeof(*uses); i++) {
        if (uses[i].data_id == data_id) {
            add_ino(users->check, &uses[i], ino);
        }
    }
}

void data_users_add(struct data_users *users, struct slice key, struct slice value)
{
    struct record_extent extent;
    struct record_inode inode;

    if (record_key_is(key, 'E') && record_extent_decode(&extent, value) == 0 &&
        extent.data.size == 0 &&
        map_get(&users->damaged, (struct map_key){extent.session, extent.seq}) != NULL) {
        add_use(users, (struct data_use){record_key_number(key, 0), extent.session, extent.seq});
    } else if (record_key_is(key, 'I') && record_inode_decode(&inode, value) == 0) {
        add_inode(users, record_key_number(key, 0), inode.data_id);
    }
}

void data_users_end(struct data_users *users)
{
    map_deinit(&users->damaged);
    map_deinit(&users->data);
    buf_deinit(&users->uses);
}
