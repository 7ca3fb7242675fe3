#pragma once
/*
 * ns_requests: requests that a hostile client could send, half of them with sense enough to come
 * far: names and inodes that exist, commits of extents at all edges.
 */
#include "chunkstore/chunk_proto.h"
#include "meta/limits.h"
#include "meta/meta_proto.h"
#include "meta/ns.h"
#include "net/rpc.h"
#include "tests/model/ns_array.h"

/* Numbers and bytes of the fuzzer. */
struct fuzz_source {
    uint64_t (*number)(uint64_t max);
    struct slice (*bytes)(uint64_t max);
    uint64_t (*below)(uint64_t limit);
};

struct fuzz_ns {
    struct kv_array array;
    struct ns ns;
    uint64_t index;
    uint64_t nonce;
};

static inline void fuzz_ns_end(struct fuzz_ns *world)
{
    ns_deinit(&world->ns);
    kv_array_deinit(&world->array);
}

static inline void fuzz_ns_begin(struct fuzz_ns *world)
{
    uint8_t data[32] = {1};
    struct meta_request format = {
        .op = META_VOLUME_FORMAT, .data = slice_make(data, sizeof(data)), .stamp_time = 1};

    *world = (struct fuzz_ns){0};
    kv_array_init(&world->array);
    ns_init(&world->ns, &world->array.kv);
    ns_apply(&world->ns, &format, ++world->index);
    world->nonce = UINT64_C(1) << 40;
}

static inline struct slice fuzz_name(const struct fuzz_source *from)
{
    static const char *const names[] = {
        "a", "b", "c", "d", ".", "..", "", "a/b", "user.x", "user.y", "security.capability"};

    return from->below(20) == 0 ? from->bytes(META_NAME_MAX)
                                : slice_text(names[from->below(ARRAY_SIZE(names))]);
}

static inline void fuzz_extents(const struct fuzz_source *from, uint64_t session, struct buf *out)
{
    cleanup(buf_deinit) struct buf bytes = {0};

    for (uint64_t i = from->below(5); i > 0; i--) {
        struct meta_extent extent = {
            .offset = from->below(4) == 0 ? from->number(UINT64_MAX) : from->below(64) * 4096,
            .length = from->below(4) == 0 ? (uint32_t)from->number(UINT32_MAX)
                                          : (uint32_t)(from->below(8) + 1) * 4096,
            .chunk_session = from->below(8) == 0 ? from->below(5) : session,
            .chunk_seq = from->below(8) == 0 ? from->number(UINT64_MAX) : from->below(40),
            .chunk_offset = from->below(4) == 0 ? (uint32_t)from->number(UINT32_MAX) : 4096,
        };

        if (from->below(3) == 0) { /* journalled, mostly as it should be */
            extent.data = from->bytes(META_JOURNAL_EXTENT_MAX);
            if (from->below(8) != 0) {
                extent.length = (uint32_t)extent.data.size;
                extent.chunk_session = extent.chunk_seq = extent.chunk_offset = 0;
            }
        }

        buf_clear(&bytes);
        meta_extent_encode(&extent, &bytes);
        schema_write_bytes(out, buf_slice(&bytes));
    }
}

/* One that exists, mostly. */
static inline uint64_t fuzz_ino(struct fuzz_ns *world, const struct fuzz_source *from)
{
    for (unsigned i = 0; i < 20 && world->array.count > 0 && from->below(20) != 0; i++) {
        struct slice key = buf_slice(&world->array.pairs[from->below(world->array.count)].key);

        if (record_key_is(key, 'I')) {
            return record_key_number(key, 0);
        }
    }
    return from->number(UINT64_MAX);
}

/* The records of a COMMIT. */
static inline void fuzz_commits(struct fuzz_ns *world, const struct fuzz_source *from,
                                uint64_t session, struct buf *out)
{
    for (uint64_t i = from->below(4) + 1; i > 0; i--) {
        cleanup(buf_deinit) struct buf extents = {0};
        cleanup(buf_deinit) struct buf bytes = {0};
        struct meta_commit commit = {.ino = fuzz_ino(world, from),
                                     .valid = (uint32_t)from->below(1024),
                                     .size = from->number(UINT64_MAX),
                                     .is_inline = from->below(4) == 0};

        if (commit.is_inline) {
            commit.inline_data = from->bytes(META_INLINE_MAX);
        } else {
            fuzz_extents(from, session, &extents);
            commit.extents = buf_slice(&extents);
        }
        meta_commit_encode(&commit, &bytes);
        schema_write_bytes(out, buf_slice(&bytes));
    }
}

/* The records of a SETTLE: what is journalled, mostly. */
static inline void fuzz_settles(struct fuzz_ns *world, const struct fuzz_source *from,
                                uint64_t session, struct buf *out)
{
    for (size_t i = 0; i < world->array.count && out->size < KiB(4); i++) {
        struct slice key = buf_slice(&world->array.pairs[i].key);
        struct record_extent extent;
        cleanup(buf_deinit) struct buf bytes = {0};
        struct meta_settle settle;

        if (!record_key_is(key, 'E') || from->below(2) == 0 ||
            record_extent_decode(&extent, buf_slice(&world->array.pairs[i].value)) < 0) {
            continue;
        }
        settle = (struct meta_settle){
            .offset = record_key_number(key, 1) + from->below(2) * 100,
            .length = from->below(8) == 0 ? (uint32_t)from->number(UINT32_MAX) : extent.length,
            .from_session = extent.session,
            .from_seq = extent.seq,
            .chunk_session = session,
            .chunk_seq = from->below(8) == 0 ? from->number(UINT64_MAX) : from->below(40),
            .chunk_offset = from->below(8) == 0 ? (uint32_t)from->number(UINT32_MAX) : 0,
        };
        meta_settle_encode(&settle, &bytes);
        schema_write_bytes(out, buf_slice(&bytes));
    }
}

/* One that lives; opens another when few are left. */
static inline uint64_t fuzz_session(struct fuzz_ns *world, const struct fuzz_source *from)
{
    uint64_t skip = from->below(3);
    uint64_t session = 0;

    if (world->ns.volume.sessions < 3) {
        ns_apply(&world->ns,
                 &(struct meta_request){.op = META_SESSION_OPEN, .offset = ++world->nonce},
                 ++world->index);
    }
    while (ns_next_session(&world->ns, session, &session) && skip > 0) {
        skip--;
    }
    return session;
}

/* `body` keeps what the request borrows. */
static inline struct meta_request fuzz_request(struct fuzz_ns *world,
                                               const struct fuzz_source *from, struct buf *body)
{
    static const uint8_t often[] = {META_COMMIT, META_COMMIT,    META_CREATE,     META_MKDIR,
                                    META_RENAME, META_SETTLE,    META_SETATTR,    META_UNLINK,
                                    META_LINK,   META_FALLOCATE, META_COPY_RANGE, META_TMPFILE};
    struct record_session record = {0};
    struct meta_request request = {
        .op = from->below(2) ? often[from->below(ARRAY_SIZE(often))]
                             : (uint8_t)from->below(META_OP_END + 2),
        .session = from->below(10) == 0 ? from->number(UINT64_MAX) : fuzz_session(world, from),
        .low_water = from->number(UINT64_MAX),
        .chunk_low = from->below(300) == 0 ? from->number(UINT64_MAX) : from->below(10),
        .flags = (uint32_t)from->number(UINT32_MAX),
        .uid = from->below(8) == 0 ? 7 : 0,
        .ino = from->below(2) ? META_ROOT_INO : fuzz_ino(world, from),
        .ino2 = from->below(2)   ? 0
                : from->below(2) ? META_ROOT_INO
                                 : from->below(30),
        .name = fuzz_name(from),
        .name2 = fuzz_name(from),
        .mode = (uint32_t)from->number(UINT32_MAX),
        .valid = (uint32_t)from->below(2048),
        .size = from->number(UINT64_MAX),
        .offset = from->number(UINT64_MAX),
        .count = (uint32_t)from->number(UINT32_MAX),
        .offset2 = from->below(2) ? from->below(64) * 4096 : from->number(UINT64_MAX),
        .data = from->bytes(KiB(70)),
        .stamp_time = world->ns.volume.time + from->below(1000),
    };

    request.seq = ns_get_session(&world->ns, request.session, &record) && from->below(10) != 0
                      ? record.last_seq + 1
                      : from->number(UINT64_MAX);
    if (request.op == META_COMMIT && from->below(10) != 0) {
        fuzz_commits(world, from, request.session, body);
        request.data = buf_slice(body);
    } else if (request.op == META_SETTLE && from->below(10) != 0) {
        fuzz_settles(world, from, request.session, body);
        request.ino = fuzz_ino(world, from);
        request.data = buf_slice(body);
    } else if ((request.op == META_FALLOCATE || request.op == META_COPY_RANGE) &&
               from->below(5) != 0) { /* where files have data */
        request.ino = fuzz_ino(world, from);
        request.ino2 = from->below(4) == 0 ? request.ino : fuzz_ino(world, from);
        request.mode = (uint32_t)from->below(32);
        request.offset = from->below(64) * 2048;
        request.size = from->below(64) * 2048;
    } else if (request.op == META_SETATTR && (request.valid & META_SET_FLAGS) != 0 &&
               from->below(5) != 0) { /* that can be set */
        request.valid = META_SET_FLAGS;
        request.mode = META_ATTR_SETTABLE;
        request.count &= META_ATTR_SETTABLE;
    } else if (request.op == META_ORPHAN_FREE || request.op == META_CHUNKS_DELETED ||
               request.op == META_ACCESSED) {
        for (uint64_t i = from->below(4); i > 0; i--) {
            chunk_ids_append(body, fuzz_ino(world, from), from->below(40));
        }
        request.data = buf_slice(body);
    }
    return request;
}
