/*
 * fuzz_message: the first byte chooses a decoder of messages, records or lists, the rest is what it
 * is given. What decodes encodes to something that decodes to the same.
 */
#include "base/assert.h"
#include "base/mem.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/chunk_proto.h"
#include "chunkstore/compress.h"
#include "chunkstore/manifest.h"
#include "meta/meta_proto.h"
#include "meta/meta_server_proto.h"
#include "meta/record.h"
#include "net/rpc_link.h"
#include "raft/raft_members.h"
#include "raft/raft_proto.h"
#include "tests/fuzz/fuzz.h"

/* ---- messages and records: one line each ---- */

/*  name, table */
#define MESSAGES(X)                                                                                \
    X(meta_request, META_REQUEST)                                                                  \
    X(meta_attr, META_ATTR)                                                                        \
    X(meta_reply, META_REPLY)                                                                      \
    X(meta_extent, META_EXTENT)                                                                    \
    X(meta_settle, META_SETTLE_RECORD)                                                             \
    X(meta_dirent, META_DIRENT)                                                                    \
    X(meta_file, META_FILE_RECORD)                                                                 \
    X(meta_commit, META_COMMIT_RECORD)                                                             \
    X(meta_commit_result, META_COMMIT_RESULT)                                                      \
    X(meta_statfs, META_STATFS_RECORD)                                                             \
    X(meta_status, META_STATUS)                                                                    \
    X(meta_status_member, META_STATUS_MEMBER)                                                      \
    X(meta_status_server, META_STATUS_SERVER)                                                      \
    X(meta_transfer, META_TRANSFER)                                                                \
    X(meta_member_request, META_MEMBER_REQUEST)                                                    \
    X(meta_state_report, META_STATE_REPORT)                                                        \
    X(record_volume, RECORD_VOLUME)                                                                \
    X(record_inode, RECORD_INODE)                                                                  \
    X(record_dentry, RECORD_DENTRY)                                                                \
    X(record_extent, RECORD_EXTENT)                                                                \
    X(record_reservation, RECORD_RESERVATION)                                                      \
    X(record_journal, RECORD_JOURNAL)                                                              \
    X(record_xattr, RECORD_XATTR)                                                                  \
    X(record_session, RECORD_SESSION)                                                              \
    X(record_chunk, RECORD_CHUNK)                                                                  \
    X(record_orphan, RECORD_ORPHAN)                                                                \
    X(chunk_put_request, CHUNK_PUT_REQUEST)                                                        \
    X(chunk_get_request, CHUNK_GET_REQUEST)                                                        \
    X(chunk_get_reply, CHUNK_GET_REPLY)                                                            \
    X(chunk_delete_request, CHUNK_DELETE_REQUEST)                                                  \
    X(chunk_hint_request, CHUNK_HINT_REQUEST)                                                      \
    X(chunk_repair_request, CHUNK_REPAIR_REQUEST)                                                  \
    X(chunk_digest_request, CHUNK_DIGEST_REQUEST)                                                  \
    X(chunk_digest_reply, CHUNK_DIGEST_REPLY)                                                      \
    X(chunk_list_request, CHUNK_LIST_REQUEST)                                                      \
    X(chunk_list_reply, CHUNK_LIST_REPLY)                                                          \
    X(chunk_status, CHUNK_STATUS_RECORD)                                                           \
    X(chunk_heartbeat, CHUNK_HEARTBEAT)                                                            \
    X(chunk_heartbeat_reply, CHUNK_HEARTBEAT_REPLY)                                                \
    X(chunk_live_request, CHUNK_LIVE_REQUEST)                                                      \
    X(chunk_live_reply, CHUNK_LIVE_REPLY)                                                          \
    X(manifest_head, MANIFEST_HEAD)                                                                \
    X(manifest_table, MANIFEST_TABLE)                                                              \
    X(manifest_segment, MANIFEST_SEGMENT)                                                          \
    X(raft_wire, RAFT_WIRE)                                                                        \
    X(raft_snapshot_wire, RAFT_SNAPSHOT_WIRE)                                                      \
    X(chunk_verify_request, CHUNK_VERIFY_REQUEST)                                                  \
    X(chunk_verify_reply, CHUNK_VERIFY_REPLY)                                                      \
    X(meta_lock, META_LOCK_RECORD)                                                                 \
    X(rpc_hello, RPC_HELLO)                                                                        \
    X(chunk_put_reply, CHUNK_PUT_REPLY)

#define FILL_u8(i)                    (uint8_t)(i)
#define FILL_u16(i)                   (uint16_t)((i)*300)
#define FILL_u32(i)                   (uint32_t)((i)*70000)
#define FILL_u64(i)                   ((i)*UINT64_C(5000000000))
#define FILL_bool(i)                  true
#define FILL_bytes(i)                 slice_make("what it is", 10)
#define FILL(kind, field, max, since) message.field = FILL_##kind(++i);

#define MESSAGE(message_name, TABLE)                                                               \
    static void make_##message_name(struct buf *out)                                               \
    {                                                                                              \
        struct message_name message = {0};                                                         \
        uint64_t i = 0;                                                                            \
                                                                                                   \
        TABLE(FILL)                                                                                \
        (void)i;                                                                                   \
        message_name##_encode(&message, out);                                                      \
    }                                                                                              \
    static void run_##message_name(struct slice bytes)                                             \
    {                                                                                              \
        cleanup(buf_deinit) struct buf once = {0};                                                 \
        cleanup(buf_deinit) struct buf twice = {0};                                                \
        struct message_name message;                                                               \
        int r = message_name##_decode(&message, bytes);                                            \
                                                                                                   \
        if (r < 0) {                                                                               \
            return;                                                                                \
        }                                                                                          \
        message_name##_encode(&message, &once);                                                    \
        r = message_name##_decode(&message, buf_slice(&once));                                     \
        ASSERT(r == 0);                                                                            \
        message_name##_encode(&message, &twice);                                                   \
        ASSERT(slice_equal(buf_slice(&once), buf_slice(&twice)));                                  \
        buf_clear(&twice);                                                                         \
        message_name##_format(&message, &twice);                                                   \
    }
MESSAGES(MESSAGE)

/* ---- the rest ---- */

static void make_ids(struct buf *out)
{
    chunk_ids_append(out, 1, 2);
    chunk_ids_append(out, UINT64_MAX, 0);
}

static void run_ids(struct slice bytes)
{
    uint64_t session, seq;

    for (size_t i = 0; i < chunk_ids_count(bytes); i++) {
        chunk_ids_get(bytes, i, &session, &seq);
        (void)chunk_id_hash(session, seq);
    }
}

static void make_map(struct buf *out)
{
    struct chunk_server_info infos[] = {
        {1, "unix:a", "x"}, {2, "unix:b", "y"}, {3, "[::1]:7", "z"}, {9, "unix:d", ""}};
    struct cluster_map map = {0};

    cluster_map_build(&map, 7, infos, ARRAY_SIZE(infos));
    cluster_map_encode(&map, out);
    cluster_map_deinit(&map);
}

/* What servers and clients do with a map. */
static void use_map(const struct cluster_map *map)
{
    struct partition_set settled = {0};
    struct cluster_map grown = {0};

    (void)placement_partition(map, 1, 2);
    for (uint32_t p = 0; p < map->partition_count; p++) {
        (void)cluster_map_moves(map, p);
        for (unsigned k = 0; k < CHUNK_REPLICAS; k++) {
            (void)cluster_map_server(map, map->owners[p][k]);
            (void)cluster_map_from(map, p, map->owners[p][k]);
        }
    }
    cluster_map_grow(&grown, map, map->servers, map->server_count, &settled);
    cluster_map_deinit(&grown);
}

static void run_map(struct slice bytes)
{
    cleanup(buf_deinit) struct buf once = {0};
    cleanup(buf_deinit) struct buf twice = {0};
    struct cluster_map map = {0};
    int r = cluster_map_decode(&map, bytes);

    if (r < 0) {
        return;
    }
    use_map(&map);
    cluster_map_encode(&map, &once);
    cluster_map_deinit(&map);
    r = cluster_map_decode(&map, buf_slice(&once));
    ASSERT(r == 0);
    cluster_map_encode(&map, &twice);
    ASSERT(slice_equal(buf_slice(&once), buf_slice(&twice)));
    cluster_map_deinit(&map);
}

static void make_raft(struct buf *out)
{
    struct raft_entry entries[] = {{3, slice_text("one")}, {4, {0}}};
    struct raft_message message = {.type = RAFT_MESSAGE_APPEND,
                                   .from = 2,
                                   .to = 1,
                                   .term = 4,
                                   .index = 9,
                                   .log_term = 3,
                                   .entries = entries,
                                   .entry_count = ARRAY_SIZE(entries)};
    cleanup(buf_deinit) struct buf body = {0};
    cleanup(buf_deinit) struct buf payload = {0};

    raft_message_encode(&message, &body, &payload);
    schema_write_bytes(out, buf_slice(&body));
    buf_append_slice(out, buf_slice(&payload));
}

static void run_raft(struct slice bytes)
{
    static struct raft_entry entries[RAFT_APPEND_ENTRIES_MAX];
    struct schema_reader reader = schema_reader_make(bytes);
    struct slice body = schema_read_bytes(&reader, KiB(1));
    struct raft_message message;
    cleanup(buf_deinit) struct buf once = {0};
    cleanup(buf_deinit) struct buf twice = {0};

    if (reader.failed ||
        raft_message_decode(&message, body, schema_reader_rest(&reader), entries) < 0) {
        return;
    }
    raft_message_encode(&message, &once, &twice);
    (void)raft_message_type_name(message.type);
}

static void make_members(struct buf *out)
{
    struct raft_members members = {0};
    int r = raft_members_add(&members, 1, /* voter= */ true, "unix:/a");

    ASSERT(r == 0);
    r = raft_members_add(&members, 2, /* voter= */ false, "host:7");
    ASSERT(r == 0);
    raft_members_encode(&members, out);
}

static void run_members(struct slice bytes)
{
    struct raft_members members;
    cleanup(buf_deinit) struct buf once = {0};

    if (!raft_command_is_members(bytes) || raft_members_decode(&members, bytes) < 0) {
        return;
    }
    ASSERT(raft_members_voters(&members) > 0);
    raft_members_encode(&members, &once);
    ASSERT(raft_command_is_members(buf_slice(&once)));
}

/* A chunk as a reader gets it: u32 length, u8 flags, u8 first, u16 bytes of checksums, checksums,
 * stored bytes. */
static void make_chunk(struct buf *out)
{
    uint8_t plain[9000] = "it packs well";
    struct iovec iov = {plain, sizeof(plain)};
    cleanup(buf_deinit) struct buf crcs = {0};
    cleanup(buf_deinit) struct buf stored = {0};
    uint8_t head[8] = {0x28, 0x23, 0, 0, CHUNK_COMPRESSED};
    bool packed = compress_chunk(&iov, 1, sizeof(plain), &stored, &crcs);

    ASSERT(packed);
    head[6] = (uint8_t)crcs.size;
    buf_append(out, head, sizeof(head));
    buf_append_slice(out, buf_slice(&crcs));
    buf_append_slice(out, buf_slice(&stored));
}

static void run_chunk(struct slice bytes)
{
    struct fuzz_input input = {bytes.data, bytes.size};
    uint32_t length = (uint32_t)fuzz_number(&input, 4);
    uint32_t flags = (uint32_t)fuzz_number(&input, 1);
    uint32_t first = (uint32_t)fuzz_number(&input, 1);
    struct slice crcs = fuzz_bytes(&input, (size_t)fuzz_number(&input, 2));
    struct slice stored = fuzz_bytes(&input, SIZE_MAX);
    struct chunk_span want = {.stored_offset = first, .stored_length = length / 2 + 1};
    cleanup(buf_deinit) struct buf plain = {0};
    struct chunk_span span;

    if (chunk_crcs_check(length, flags, first, crcs, stored) < 0) {
        return;
    }
    ASSERT(stored.size > 0);
    if (crcs.size == chunk_crcs_bytes(length, flags) &&
        chunk_span_find(&span, length, flags, crcs, (uint32_t)stored.size, want) == 0) {
        ASSERT((uint64_t)span.stored_offset + span.stored_length <= stored.size);
    }
    if ((flags & CHUNK_COMPRESSED) != 0 && length <= CHUNK_BYTES_MAX) {
        (void)!compress_restore(length, first, crcs, stored, &plain);
        ASSERT(plain.size <= length);
    }
}

static void make_manifest(struct buf *out)
{
    struct manifest manifest = {
        .head = {.version = MANIFEST_VERSION, .digests = slice_text("0123456789abcdef")}};

    manifest_add_table(&manifest, &(struct manifest_table){1, 1, 4096});
    manifest_add_segment(&manifest, &(struct manifest_segment){.id = 1, .indexed = 4096});
    manifest_encode(&manifest, out);
    manifest_deinit(&manifest);
}

static void run_manifest(struct slice bytes)
{
    cleanup(buf_deinit) struct buf once = {0};
    cleanup(buf_deinit) struct buf twice = {0};
    struct manifest manifest = {0};
    int r = manifest_decode(&manifest, bytes);

    if (r < 0) {
        return;
    }
    manifest_encode(&manifest, &once);
    manifest_deinit(&manifest);
    r = manifest_decode(&manifest, buf_slice(&once));
    ASSERT(r == 0);
    manifest_encode(&manifest, &twice);
    ASSERT(slice_equal(buf_slice(&once), buf_slice(&twice)));
    manifest_deinit(&manifest);
}

#define ROW(message_name, TABLE) {#message_name, make_##message_name, run_##message_name},

static const struct decoder {
    const char *name;
    void (*make)(struct buf *out);
    void (*run)(struct slice bytes);
} decoders[] = {
    {"ids", make_ids, run_ids},
    {"map", make_map, run_map},
    {"raft", make_raft, run_raft},
    {"members", make_members, run_members},
    {"chunk", make_chunk, run_chunk},
    {"manifest", make_manifest, run_manifest},
    MESSAGES(ROW) /* new ones behind: the corpus knows them by number */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        /* An empty message has no bytes, and no address. */
        decoders[data[0] % ARRAY_SIZE(decoders)].run(size > 1 ? slice_make(data + 1, size - 1)
                                                              : (struct slice){0});
    }
    return 0;
}

void fuzz_seeds(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(decoders); i++) {
        cleanup(buf_deinit) struct buf bytes = {0};

        buf_append(&bytes, &(uint8_t){(uint8_t)i}, 1);
        decoders[i].make(&bytes);
        fuzz_seed(decoders[i].name, buf_slice(&bytes));
    }
}
