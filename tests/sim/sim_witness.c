/*
 * The witness: what the committed log says is what happened. The linker puts this file between the
 * servers and their namespace, and between mounts and their metadata client (-Wl,--wrap):
 *
 *   - every replica applies the same command at the same index (raft), gives the same reply, and
 *     has the same state hash afterwards;
 *   - the first to apply an index is compared with the model (sim_model.h), errno for errno;
 *   - a read that a server answers is what the model says at that index;
 *   - what a client is told is what a server said, and its index is not older than what any client
 *     had been told before the call began: real time and log order agree.
 */
#include "tests/sim/sim_world.h"

#include "base/hash.h"
#include "base/mem.h"
#include "fs/mount.h"
#include "meta/meta_client_internal.h"
#include "meta/meta_server_internal.h"

#include <errno.h>
#include <inttypes.h>

struct applied {
    uint64_t command; /* hash, with the term */
    uint64_t reply;   /* hash; 0 = none (a no-op) */
    uint64_t state;   /* hash of all pairs afterwards */
    bool has_state;
};

static struct {
    struct applied *log;
    uint64_t size; /* indexes below have been applied by somebody */
    uint64_t floor;
    uint64_t known;
    struct cluster_map map; /* the newest */
    struct map replies;     /* {hash of the question, index} -> hash of the answer + 1 */
    struct {
        uint64_t started, told, asked;
    } ops[SIM_CLIENTS_MAX + 1];
} witness;

static uint64_t hash_text(struct slice bytes)
{
    return hash_bytes((struct hash_key){7, 11}, bytes);
}

static uint64_t hash_reply(const struct meta_reply *reply)
{
    cleanup(buf_deinit) struct buf bytes = {0};

    meta_reply_encode(reply, &bytes);
    return hash_text(buf_slice(&bytes)) | 1;
}

static uint64_t hash_command(struct slice command, uint64_t term)
{
    return hash_mix64(hash_text(command) ^ term) | 1;
}

uint64_t witness_floor(void)
{
    return witness.floor;
}

void witness_returned(uint64_t index)
{
    witness.known = max_u64(witness.known, index);
}

uint64_t witness_known(void)
{
    return witness.known;
}

static struct applied *at_index(uint64_t index)
{
    if (index >= witness.size) {
        uint64_t size = round_up(index + 1, 4096);

        witness.log = mem_realloc(witness.log, size * sizeof(*witness.log));
        memset(witness.log + witness.size, 0, (size - witness.size) * sizeof(*witness.log));
        witness.size = size;
    }
    return &witness.log[index];
}

/* ---- applying ---- */

static void (*real_apply)(struct raft_machine *machine, uint64_t index, uint64_t term,
                          struct slice command);
static void (*real_members_changed)(struct raft_machine *machine, uint64_t index, uint64_t term,
                                    const struct raft_members *members, struct slice command);

/* One command at an index, whoever applies it. */
static void note_applied(uint64_t index, uint64_t term, struct slice command)
{
    struct applied *applied = at_index(index);
    uint64_t hash = hash_command(command, term);

    if (applied->command != 0 && applied->command != hash) {
        violation("state machine safety: two servers applied different commands at index %" PRIu64,
                  index);
    }
    world->counts.applied += applied->command == 0 ? 1 : 0;
    applied->command = hash;
}

static void check_state(uint64_t index, const struct meta_server *server)
{
    struct applied *applied = at_index(index);

    if (applied->has_state && applied->state != server->tree->hash) {
        violation("state hash: replicas differ after index %" PRIu64, index);
    }
    applied->state = server->tree->hash;
    applied->has_state = true;
}

static void on_apply(struct raft_machine *machine, uint64_t index, uint64_t term,
                     struct slice command)
{
    struct meta_server *server = container_of(machine, struct meta_server, machine);

    note_applied(index, term, command);
    real_apply(machine, index, term, command);
    check_state(index, server);
}

/* The set of members is a command of the log like any other. */
static void on_members(struct raft_machine *machine, uint64_t index, uint64_t term,
                       const struct raft_members *members, struct slice command)
{
    struct meta_server *server = container_of(machine, struct meta_server, machine);

    note_applied(index, term, command);
    real_members_changed(machine, index, term, members, command);
    check_state(index, server);
}

void witness_watch_meta(struct meta_server *server)
{
    real_apply = meta_server_machine.apply;
    server->machine.apply = on_apply;
    real_members_changed = meta_server_machine.members_changed;
    server->machine.members_changed = on_members;
}

void witness_check_complete(const struct raft *raft)
{
    for (uint64_t i = raft->tail.base_index + 1; i < witness.size && witness.log[i].command != 0;
         i++) {
        const struct raft_entry *entry = raft_entry_at(raft, i);

        if (entry == NULL || hash_command(entry->command, entry->term) != witness.log[i].command) {
            violation("leader completeness: the log of %u lacks index %" PRIu64
                      ", which was committed",
                      raft->id, i);
        }
    }
}

static void check_attr(const struct meta_request *request, const struct meta_reply *reply,
                       const struct model_inode *inode, uint64_t index)
{
    struct meta_attr attr;

    if (meta_attr_decode(&attr, reply->attr) < 0) {
        violation("%s at index %" PRIu64 " has no attributes", meta_op_name(request->op), index);
    }
    if (attr.ino != inode->ino || attr.mode != inode->mode || attr.nlink != inode->nlink ||
        attr.size != inode->size || attr.uid != inode->uid || attr.gid != inode->gid ||
        attr.parent != inode->parent) {
        violation("%s at index %" PRIu64 ": attributes ino=%" PRIu64
                  " mode=%o nlink=%u size=%" PRIu64 ", the model says ino=%" PRIu64
                  " mode=%o nlink=%u size=%" PRIu64,
                  meta_op_name(request->op), index, attr.ino, attr.mode, attr.nlink, attr.size,
                  inode->ino, inode->mode, inode->nlink, inode->size);
    }
}

static void compare(const struct meta_request *request, const struct meta_reply *reply,
                    const struct model_answer *answer, uint64_t index)
{
    if (answer->broken != NULL) {
        const struct model_bad *bad = &world->model.bad;

        violation("%s at index %" PRIu64 ": %s (cell %" PRIu64 ": %" PRIx64 " over %" PRIx64
                  " by client %u)",
                  meta_op_name(request->op), index, answer->broken, bad->cell, bad->tag, bad->was,
                  bad->slot);
    }
    if ((int)reply->error != answer->error) {
        violation("%s at index %" PRIu64 " ino=%" PRIu64 " name=%.*s: error %u, the model says %d",
                  meta_op_name(request->op), index, request->ino, (int)request->name.size,
                  request->name.size > 0 ? (const char *)request->name.data : "", reply->error,
                  answer->error);
    }
    if (answer->has_attr) {
        check_attr(request, reply, answer->inode, index);
    }
    if (answer->has_value && reply->value != answer->value) {
        violation("%s at index %" PRIu64 ": value %" PRIu64 ", the model says %" PRIu64,
                  meta_op_name(request->op), index, reply->value, answer->value);
    }
}

static void trace_extents(struct slice extents)
{
    struct schema_reader reader = schema_reader_make(extents);

    while (reader.at < reader.end) {
        struct meta_extent extent;

        if (meta_extent_decode(&extent, schema_read_bytes(&reader, META_BODY_MAX)) == 0) {
            trace("        at %" PRIu64 "+%u chunk %" PRIx64 ".%" PRIx64 " at %u", extent.offset,
                  extent.length, extent.chunk_session, extent.chunk_seq, extent.chunk_offset);
        }
    }
}

static void trace_commit(const struct meta_request *request, const struct meta_reply *reply)
{
    struct schema_reader results = schema_reader_make(reply->data);
    struct schema_reader reader = schema_reader_make(request->data);

    while (reader.at < reader.end) {
        struct meta_commit_result result = {0};
        struct meta_commit commit;

        (void)!meta_commit_result_decode(&result, schema_read_bytes(&results, META_BODY_MAX));
        if (meta_commit_decode(&commit, schema_read_bytes(&reader, META_BODY_MAX)) == 0) {
            trace("    commit of %" PRIu64 " base=%" PRIu64 " -> %u size=%" PRIu64
                  " inline=%zu extents=%zu",
                  commit.ino, commit.base, result.error, commit.size, commit.inline_data.size,
                  commit.extents.size);
            trace_extents(commit.extents);
        }
    }
}

static void trace_applied(const struct meta_request *request, const struct meta_reply *reply,
                          uint64_t index)
{
    trace("log %" PRIu64 " %s session=%" PRIu64 ".%" PRIu64 " ino=%" PRIu64 " %.*s ino2=%" PRIu64
          " %.*s flags=%x -> %u",
          index, meta_op_name(request->op), request->session, request->seq, request->ino,
          (int)request->name.size, request->name.size > 0 ? (const char *)request->name.data : "",
          request->ino2, (int)request->name2.size,
          request->name2.size > 0 ? (const char *)request->name2.data : "", request->flags,
          reply->error);
    if (request->op == META_COMMIT) {
        trace_commit(request, reply);
    }
    if (request->op == META_LOCK) {
        trace("    lock type %u [%" PRIu64 ", %" PRIu64 "] -> %s", request->mode, request->offset,
              request->offset2, reply->value == 0 ? "it is so" : "in line");
    }
}

/* Which client opened this session? */
static void note_session(const struct meta_request *request, const struct meta_reply *reply)
{
    struct model_session *session = model_session(&world->model, reply->value);

    for (unsigned i = 0; session != NULL && i <= SIM_CLIENTS_MAX; i++) {
        const struct client *client = &world->clients[i];

        if (client->mount != NULL && client->mount->meta.nonce == request->offset) {
            session->slot = i;
            session->incarnation = client->incarnation;
        }
    }
}

/* Owners that took another's place and have settled. */
static void count_settled(const struct meta_request *request)
{
    struct cluster_map map;

    if (cluster_map_decode(&map, request->data) < 0) {
        violation("a cluster map in the log cannot be decoded");
    }
    for (uint32_t p = 0; p < witness.map.partition_count && p < map.partition_count; p++) {
        world->counts.owners_settled +=
            cluster_map_moves(&witness.map, p) && !cluster_map_moves(&map, p);
    }
    cluster_map_deinit(&witness.map);
    witness.map = map;
}

const struct meta_reply *__real_ns_apply(struct ns *ns, const struct meta_request *request,
                                         uint64_t index);
const struct meta_reply *__wrap_ns_apply(struct ns *ns, const struct meta_request *request,
                                         uint64_t index);

const struct meta_reply *__wrap_ns_apply(struct ns *ns, const struct meta_request *request,
                                         uint64_t index)
{
    const struct meta_reply *reply = __real_ns_apply(ns, request, index);
    uint64_t hash = hash_reply(reply);
    struct model_answer answer;

    if (at_index(index)->reply != 0) {
        if (at_index(index)->reply != hash) {
            violation("replicas answer differently at index %" PRIu64, index);
        }
        return reply;
    }
    at_index(index)->reply = hash;
    trace_applied(request, reply, index);
    answer = model_apply(&world->model, request, reply, index);
    compare(request, reply, &answer, index);
    if (request->op == META_SESSION_OPEN) {
        note_session(request, reply);
    }
    if (request->op == META_SESSION_CLOSE || request->op == META_SESSION_EXPIRE) {
        locks_session_ended(request->op == META_SESSION_CLOSE ? request->session : request->ino);
    }
    if (request->op == META_CLUSTER_MAP && reply->error == 0) {
        count_settled(request);
    }
    promise_applied(request);
    return reply;
}

/* ---- reads ---- */

/* What a client asks, without what the metadata client adds. */
static uint64_t hash_question(const struct meta_request *request)
{
    struct meta_request plain = *request;
    cleanup(buf_deinit) struct buf bytes = {0};

    plain.session = plain.seq = plain.low_water = plain.chunk_low = 0;
    meta_request_encode(&plain, &bytes);
    return hash_text(buf_slice(&bytes));
}

const struct meta_reply *__real_ns_read(struct ns *ns, const struct meta_request *request,
                                        uint64_t index);
const struct meta_reply *__wrap_ns_read(struct ns *ns, const struct meta_request *request,
                                        uint64_t index);

const struct meta_reply *__wrap_ns_read(struct ns *ns, const struct meta_request *request,
                                        uint64_t index)
{
    const struct meta_reply *reply = __real_ns_read(ns, request, index);
    struct map_key key = {hash_question(request), index};

    map_put(&witness.replies, key, (void *)(uintptr_t)hash_reply(reply));
    if (world->model.index > index) {
        world->counts.reads_skipped++; /* the model is ahead of this server */
    } else if (request->op == META_LOOKUP || request->op == META_GETATTR ||
               request->op == META_SEEK) {
        struct model_answer answer = model_read(&world->model, request, reply);

        compare(request, reply, &answer, index);
        world->counts.reads_checked++;
    }
    return reply;
}

/* ---- what clients are told ---- */

struct watched {
    struct meta_call *call;
    void (*done)(struct meta_call *call);
    struct client *client;
    uint64_t floor;
    uint64_t others; /* operations of anybody else when it began */
};

static struct map watched; /* meta_call -> struct watched, by address: only ever looked up */

static struct map_key key_of(const struct meta_call *call)
{
    return map_u64((uint64_t)(uintptr_t)call);
}

static void check_told(const struct watched *watch, const struct meta_call *call)
{
    const struct meta_request *request = &call->request;
    const struct meta_reply *reply = &call->reply;
    bool mutates = meta_op_mutates(request->op);

    if (reply->index == 0 || request->op == META_STATFS) {
        return; /* refused before it got into the log */
    }
    if (reply->index < watch->floor) {
        violation("real time: %s answers as of index %" PRIu64 ", but %" PRIu64
                  " had been told before it began",
                  meta_op_name(request->op), reply->index, watch->floor);
    }
    if (mutates && at_index(reply->index)->reply != hash_reply(reply)) {
        violation("%s: the client is told something else than the log says at index %" PRIu64,
                  meta_op_name(request->op), reply->index);
    }
    if (!mutates) {
        struct map_key key = {hash_question(request), reply->index};

        if ((uint64_t)(uintptr_t)map_get(&witness.replies, key) != hash_reply(reply)) {
            violation("%s: the client is told something that no server said at index %" PRIu64,
                      meta_op_name(request->op), reply->index);
        }
    }
    witness.floor = max_u64(witness.floor, reply->index);
}

static struct client *client_of(const struct meta_client *meta)
{
    for (unsigned i = 0; i <= SIM_CLIENTS_MAX; i++) {
        if (world->clients[i].mount != NULL && &world->clients[i].mount->meta == meta) {
            return &world->clients[i];
        }
    }
    violation("a metadata client that belongs to no mount");
}

void witness_client_gone(const struct client *client)
{
    memset(&witness.ops[client->slot], 0, sizeof(witness.ops[0]));
}

uint64_t witness_ops_started(const struct client *client)
{
    return witness.ops[client->slot].started;
}

uint64_t witness_ops_told(const struct client *client)
{
    return witness.ops[client->slot].told;
}

/* Answered by the mount before it was sent. */
static bool is_promise(const struct meta_call *call)
{
    return (call->request.flags & META_CLIENT_TIME) != 0;
}

/* A change of names or attributes whose outcome the mount does not know yet. */
static bool is_asked(const struct meta_call *call)
{
    unsigned op = call->request.op;

    return meta_op_mutates(op) && !is_promise(call) && op != META_COMMIT &&
           op != META_RESERVE_INOS && op != META_SETTLE && op != META_LOCK &&
           op != META_LOCK_CANCEL && op != META_LOCK_LOCAL && op != META_ACCESSED;
}

bool witness_asking(const struct client *client)
{
    return witness.ops[client->slot].asked != 0;
}

static void on_told(struct meta_call *call)
{
    struct watched *watch = map_remove(&watched, key_of(call));
    void (*done)(struct meta_call * call) = watch->done;

    if (call->status != -EINTR && call->status != -ECANCELED) {
        check_told(watch, call);
    }
    witness.ops[watch->client->slot].told += is_promise(call);
    witness.ops[watch->client->slot].asked -= is_asked(call);
    if (is_promise(call) && call->status < 0 && call->reply.index != 0 &&
        watch->others == promise_others(watch->client)) {
        violation("coherent: %s was answered by a mount alone, the log refuses it: %d",
                  meta_op_name(call->request.op), call->status);
    }
    world->counts.promises_kept += is_promise(call);
    mem_free(watch);
    call->done = done;
    done(call);
}

void __real_meta_call_start(struct meta_client *client, struct meta_call *call);
void __wrap_meta_call_start(struct meta_client *client, struct meta_call *call);

void __wrap_meta_call_start(struct meta_client *client, struct meta_call *call)
{
    struct watched *watch = mem_zalloc(sizeof(*watch));

    watch->call = call;
    watch->done = call->done;
    watch->floor = witness.floor;
    watch->client = client_of(client);
    witness.ops[watch->client->slot].started += is_promise(call);
    watch->others = promise_others(watch->client);
    if (meta_op_mutates(call->request.op)) {
        promise_started(watch->client, client->session);
        witness.ops[watch->client->slot].asked += is_asked(call);
    }
    call->done = on_told;
    mem_free(map_put(&watched, key_of(call), watch)); /* of a client that died */
    __real_meta_call_start(client, call);
}

/* ---- chunks ---- */

void __real_chunk_put_start(struct chunk_put *put, struct chunk_client *client);
void __wrap_chunk_put_start(struct chunk_put *put, struct chunk_client *client);

void __wrap_chunk_put_start(struct chunk_put *put, struct chunk_client *client)
{
    cleanup(buf_deinit) struct buf bytes = {0};

    for (unsigned i = 0; i < put->iov_count; i++) {
        buf_append(&bytes, put->iov[i].iov_base, put->iov[i].iov_len);
    }
    if (!model_chunk_put(&world->model, put->id.session, put->id.seq, buf_slice(&bytes))) {
        violation("chunk %" PRIx64 ".%" PRIx64 " is written twice with different bytes",
                  put->id.session, put->id.seq);
    }
    trace("put chunk %" PRIx64 ".%" PRIx64 " by the map of epoch %" PRIu64, put->id.session,
          put->id.seq, client->map.epoch);
    __real_chunk_put_start(put, client);
}

struct stored {
    struct store_put *put;
    void (*released)(struct store_put *put);
    unsigned chunk_node;
};

static struct map stored; /* store_put -> struct stored, by address: only ever looked up */

static void on_stored(struct store_put *put)
{
    struct stored *entry = map_remove(&stored, map_u64((uint64_t)(uintptr_t)put));
    struct model_chunk *chunk = model_chunk(&world->model, put->key.session, put->key.seq);

    trace("chunk %" PRIx64 ".%" PRIx64 " on chunk server %u: %d", put->key.session, put->key.seq,
          entry->chunk_node + 1, put->op.result);
    if (put->op.result == 0 && chunk != NULL) {
        chunk->holders |= 1u << entry->chunk_node;
    }
    world->counts.no_space += put->op.result == -ENOSPC;
    put->released = entry->released;
    mem_free(entry);
    put->released(put);
}

void __real_store_put_start(struct store_put *put, struct chunk_store *store);
void __wrap_store_put_start(struct store_put *put, struct chunk_store *store);

void __wrap_store_put_start(struct store_put *put, struct chunk_store *store)
{
    struct chunk_server *server = container_of(store, struct chunk_server, store);
    struct stored *entry = mem_zalloc(sizeof(*entry));

    for (unsigned i = 0; i < world->chunk_count; i++) {
        entry->chunk_node = world->chunks[i].server == server ? i : entry->chunk_node;
    }
    entry->put = put;
    entry->released = put->released;
    put->released = on_stored;
    mem_free(map_put(&stored, map_u64((uint64_t)(uintptr_t)put), entry));
    __real_store_put_start(put, store);
}
