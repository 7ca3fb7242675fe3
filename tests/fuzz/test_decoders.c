/*
 * Hostile bytes: every decoder that the wire or the disk reaches is given random bytes and valid
 * encodings with damage, some with their checksums made right again. Nothing may crash (run it with
 * the sanitizers); what decodes must encode to something that decodes to the same.
 *
 *     FUZZ_SECONDS=600 SEED=7 fuzz_test_decoders
 */
#include "tests/lib/raft_group.h"
#include "tests/lib/test.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/rng.h"
#include "chunkstore/chunk_crcs.h"
#include "chunkstore/chunk_proto.h"
#include "chunkstore/compress.h"
#include "chunkstore/manifest.h"
#include "chunkstore/sstable.h"
#include "chunkstore/sstable_format.h"
#include "chunkstore/vlog_format.h"
#include "meta/btree_internal.h"
#include "meta/meta_proto.h"
#include "meta/meta_server_proto.h"
#include "net/frame.h"
#include "raft/raft_proto.h"
#include "tests/fuzz/ns_requests.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SECONDS_DEFAULT 30
#define BATCH           64 /* inputs of one target before the next one's turn */

static struct rng rng;
static uint8_t noise[KiB(300)]; /* what byte fields are filled from */

/* A valid encoding; what it does with any bytes; and, if any, how its checksums are made right. */
struct target {
    const char *name;
    void (*make)(struct buf *out);
    void (*run)(struct slice bytes);
    void (*fix)(struct buf *bytes);
};

/* ---- values ---- */

/* Small numbers, edges, and anything. */
static uint64_t any_number(uint64_t max)
{
    static const uint64_t edges[] = {0,         1,          127,       128,        255,
                                     4096,      65535,      65536,     KiB(8),     MiB(4),
                                     INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX - 1};
    uint64_t value;

    switch (rng_below(&rng, 4)) {
    case 0:
        value = edges[rng_below(&rng, ARRAY_SIZE(edges))];
        break;
    case 1:
        value = rng_next(&rng) >> rng_below(&rng, 64);
        break;
    default:
        value = rng_below(&rng, 20);
        break;
    }
    return value <= max ? value : value % (max + 1);
}

static struct slice any_bytes(uint64_t max)
{
    uint64_t limit = rng_below(&rng, 50) == 0 ? max : min_u64(max, 60);
    uint64_t size = rng_below(&rng, min_u64(limit, sizeof(noise)) + 1);

    return slice_make(noise + rng_below(&rng, sizeof(noise) - size + 1), size);
}

#define FILL_u8(max)                  (uint8_t) any_number(UINT8_MAX)
#define FILL_u16(max)                 (uint16_t) any_number(UINT16_MAX)
#define FILL_u32(max)                 (uint32_t) any_number(UINT32_MAX)
#define FILL_u64(max)                 any_number(UINT64_MAX)
#define FILL_bool(max)                rng_percent(&rng, 50)
#define FILL_bytes(max)               any_bytes(max)
#define FILL(kind, field, max, since) message.field = FILL_##kind(max);

/* ---- messages and records: one table line each ---- */

/*  name, table, what is done with it besides */
#define MESSAGES(X)                                                                                \
    X(meta_request, META_REQUEST)                                                                  \
    X(meta_attr, META_ATTR)                                                                        \
    X(meta_reply, META_REPLY)                                                                      \
    X(meta_extent, META_EXTENT)                                                                    \
    X(meta_settle, META_SETTLE_RECORD)                                                             \
    X(meta_dirent, META_DIRENT)                                                                    \
    X(meta_commit, META_COMMIT_RECORD)                                                             \
    X(meta_commit_result, META_COMMIT_RESULT)                                                      \
    X(meta_file, META_FILE_RECORD)                                                                 \
    X(meta_statfs, META_STATFS_RECORD)                                                             \
    X(meta_status, META_STATUS)                                                                    \
    X(meta_status_member, META_STATUS_MEMBER)                                                      \
    X(meta_status_server, META_STATUS_SERVER)                                                      \
    X(meta_transfer, META_TRANSFER)                                                                \
    X(meta_state_report, META_STATE_REPORT)                                                        \
    X(record_volume, RECORD_VOLUME)                                                                \
    X(record_inode, RECORD_INODE)                                                                  \
    X(record_dentry, RECORD_DENTRY)                                                                \
    X(record_extent, RECORD_EXTENT)                                                                \
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
    X(raft_snapshot_wire, RAFT_SNAPSHOT_WIRE)

#define MESSAGE_TARGET(message_name, TABLE)                                                        \
    static void make_##message_name(struct buf *out)                                               \
    {                                                                                              \
        struct message_name message = {0};                                                         \
                                                                                                   \
        TABLE(FILL)                                                                                \
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
        assert_int_equal(r, 0);                                                                    \
        message_name##_encode(&message, &twice);                                                   \
        assert_true(slice_equal(buf_slice(&once), buf_slice(&twice)));                             \
        buf_clear(&twice);                                                                         \
        message_name##_format(&message, &twice);                                                   \
    }
MESSAGES(MESSAGE_TARGET)

/* ---- lists of ids ---- */

static void make_ids(struct buf *out)
{
    for (uint64_t i = rng_below(&rng, 20); i > 0; i--) {
        chunk_ids_append(out, any_number(UINT64_MAX), any_number(UINT64_MAX));
    }
}

static void run_ids(struct slice bytes)
{
    uint64_t session, seq;

    for (size_t i = 0; i < chunk_ids_count(bytes); i++) {
        chunk_ids_get(bytes, i, &session, &seq);
        (void)chunk_id_hash(session, seq);
    }
}

/* ---- frames ---- */

static void make_frames(struct buf *out)
{
    for (uint64_t i = rng_below(&rng, 4) + 1; i > 0; i--) {
        struct slice payload = any_bytes(KiB(200));
        struct frame frame = {.type = (uint8_t)(1 + rng_below(&rng, FRAME_TYPE_END - 1)),
                              .opcode = (uint16_t)any_number(UINT16_MAX),
                              .id = any_number(UINT64_MAX)};

        frame_encode(frame, any_bytes(KiB(20)), payload, out);
        buf_append_slice(out, payload);
    }
}

/* The first header's checksum. */
static void fix_frames(struct buf *bytes)
{
    uint32_t body;

    if (bytes->size >= FRAME_HEADER_SIZE) {
        body = bytes_get_le32(bytes->data + 8);
        body = (uint32_t)min_u64(body, bytes->size - FRAME_HEADER_SIZE);
        bytes_put_le32(bytes->data + 36, crc32c(crc32c(0, slice_make(bytes->data, 36)),
                                                slice_make(bytes->data + FRAME_HEADER_SIZE, body)));
    }
}

/* In pieces, as they come from a socket. */
static void run_frames(struct slice bytes)
{
    struct frame_reader reader;
    struct frame frame;
    struct slice body;
    struct buf *payload;
    int r = 0;

    frame_reader_init(&reader);
    while (bytes.size > 0 && r >= 0) {
        struct iovec want = frame_reader_want(&reader);
        size_t size = (size_t)min_u64(min_u64(want.iov_len, bytes.size), rng_below(&rng, 5000) + 1);

        assert_true(want.iov_len > 0);
        memcpy(want.iov_base, bytes.data, size);
        frame_reader_received(&reader, size);
        bytes = slice_make(bytes.data + size, bytes.size - size);
        while ((r = frame_reader_next(&reader, &frame, &body, &payload)) > 0) {
            assert_int_equal(body.size, frame.body_size);
            assert_int_equal(payload->size, frame.payload_size);
            if (rng_percent(&rng, 50)) {
                cleanup(buf_deinit) struct buf taken = buf_take(payload);
            }
        }
    }
    frame_reader_deinit(&reader);
}

/* ---- the cluster map ---- */

static void make_map(struct buf *out)
{
    struct chunk_server_info infos[6] = {0};
    uint32_t count = (uint32_t)rng_below(&rng, ARRAY_SIZE(infos) + 1);
    struct cluster_map map = {0};

    for (uint32_t i = 0; i < count; i++) {
        infos[i].id = i + 1;
        snprintf(infos[i].address, sizeof(infos[i].address), "unix:chunk%u", i);
        snprintf(infos[i].zone, sizeof(infos[i].zone), "z%u", i % 3);
    }
    cluster_map_build(&map, any_number(UINT64_MAX), infos, count);
    cluster_map_encode(&map, out);
    cluster_map_deinit(&map);
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
    (void)placement_partition(&map, any_number(UINT64_MAX), any_number(UINT64_MAX));
    cluster_map_encode(&map, &once);
    cluster_map_deinit(&map);
    r = cluster_map_decode(&map, buf_slice(&once));
    assert_int_equal(r, 0);
    cluster_map_encode(&map, &twice);
    assert_true(slice_equal(buf_slice(&once), buf_slice(&twice)));
    cluster_map_deinit(&map);
}

/* ---- Raft ---- */

static struct raft raft; /* takes what it is told, for ever */

static struct raft_message any_raft_message(struct raft_entry *entries)
{
    uint64_t last = raft_last(&raft);
    uint64_t near = last < 5 ? 0 : last - 5;
    struct raft_message message = {
        .type = (enum raft_message_type)(1 + rng_below(&rng, RAFT_MESSAGE_TYPE_END - 1)),
        .from = (uint32_t)(2 + rng_below(&rng, 3)),
        .to = 1,
        .term = raft.term + rng_below(&rng, 3) - (raft.term > 0 && rng_percent(&rng, 20)),
        .index = rng_percent(&rng, 80) ? near + rng_below(&rng, 8) : any_number(UINT64_MAX),
        .log_term = rng_percent(&rng, 80) ? raft.term : any_number(UINT64_MAX),
        .commit = rng_percent(&rng, 80) ? near + rng_below(&rng, 8) : any_number(UINT64_MAX),
        .hint_index = any_number(UINT64_MAX),
        .hint_term = any_number(UINT64_MAX),
        .stamp = any_number(UINT64_MAX),
        .reject = rng_percent(&rng, 30),
        .force = rng_percent(&rng, 10),
        .entries = entries,
        .entry_count = (unsigned)rng_below(&rng, 4),
    };

    for (unsigned i = 0; i < message.entry_count; i++) {
        entries[i] = (struct raft_entry){raft.term + rng_below(&rng, 2), any_bytes(100)};
    }
    return message;
}

static void make_raft(struct buf *out)
{
    struct raft_entry entries[4];
    struct raft_message message = any_raft_message(entries);
    cleanup(buf_deinit) struct buf body = {0};
    cleanup(buf_deinit) struct buf payload = {0};

    raft_message_encode(&message, &body, &payload);
    schema_write_bytes(out, buf_slice(&body));
    buf_append_slice(out, buf_slice(&payload));
}

/* Steps the core; what it appends is durable at once, mostly. */
static void feed(struct raft_input input)
{
    struct raft_output output;
    bool again = true;

    while (again) {
        input.now_ns = raft.now_ns + rng_below(&rng, 50 * NS_PER_MS);
        (void)!raft_step(&raft, &input, &output);
        raft_check(&raft);
        again = output.append_count > 0 && rng_percent(&rng, 90);
        if (again) {
            input = (struct raft_input){.type = RAFT_INPUT_SAVED,
                                        .index = output.append_first + output.append_count - 1,
                                        .term = output.append[output.append_count - 1].term};
        }
    }
}

static void raft_begin(void)
{
    struct raft_members members = raft_group(3);

    raft_deinit(&raft);
    raft_init(&raft, &(struct raft_config){.id = 1, .members = &members, .seed = 1, .now_ns = 1});
}

static void run_raft(struct slice bytes)
{
    static struct raft_entry entries[RAFT_APPEND_ENTRIES_MAX];
    struct schema_reader reader = schema_reader_make(bytes);
    struct slice body = schema_read_bytes(&reader, KiB(1));
    struct raft_message message;

    if (reader.failed ||
        raft_message_decode(&message, body, slice_make(reader.at, (size_t)(reader.end - reader.at)),
                            entries) < 0) {
        return;
    }
    if (raft.tail.count > 5000 || raft.term > UINT64_MAX / 2) {
        raft_begin();
    }
    message.to = 1;
    feed((struct raft_input){.type = RAFT_INPUT_RECEIVE, .message = &message});
    if (rng_percent(&rng, 30)) {
        feed((struct raft_input){.type = RAFT_INPUT_TICK});
    }
    if (rng_percent(&rng, 10)) {
        feed((struct raft_input){.type = RAFT_INPUT_PROPOSE, .command = any_bytes(50)});
    }
    if (rng_percent(&rng, 10)) {
        raft_compact(&raft, raft.commit, rng_below(&rng, 1000));
    }
}

/* ---- the B+tree's pages and superblocks ---- */

static void make_page(struct buf *out)
{
    uint8_t *page = buf_reserve(out, BTREE_PAGE);
    unsigned level = (unsigned)rng_below(&rng, 3);

    page_init(page, level);
    for (uint64_t i = rng_below(&rng, 200) + 1; i > 0; i--) {
        struct slice key = any_bytes(BTREE_KEY_MAX);
        bool overflow = level == 0 && rng_percent(&rng, 5);
        size_t size = level > 0 ? CHILD_REF : overflow ? OVERFLOW_REF : rng_below(&rng, 100);
        bool exact;
        unsigned at = page_find(page, key, &exact);

        if (!exact) {
            (void)page_insert(page, at, key, slice_make(noise, size), overflow);
        } else if (level == 0 && rng_percent(&rng, 50)) {
            page_remove(page, at);
        }
    }
    out->size += BTREE_PAGE;
}

static void run_page(struct slice bytes)
{
    static uint8_t page[BTREE_PAGE];
    struct slice key = any_bytes(BTREE_KEY_MAX);
    bool exact;
    unsigned at;

    if (bytes.size != BTREE_PAGE) {
        return;
    }
    memcpy(page, bytes.data, BTREE_PAGE);
    if (page_check(page) < 0) {
        return;
    }
    if (page_level(page) > 0) {
        (void)page_find_child(page, key);
    }
    at = page_find(page, key, &exact);
    if (!exact) {
        (void)page_insert(page, at, key, slice_make(noise, CHILD_REF), false);
    }
    while (page_count(page) > 1) {
        assert_int_equal(page_check(page), 0);
        page_remove(page, (unsigned)rng_below(&rng, page_count(page)));
    }
}

static void make_super(struct buf *out)
{
    struct btree_super super = {.node_id = (uint32_t)any_number(UINT32_MAX),
                                .generation = any_number(UINT64_MAX),
                                .root = any_number(UINT64_MAX),
                                .bitmap = any_number(UINT64_MAX),
                                .blocks = any_number(UINT64_MAX),
                                .applied_index = any_number(UINT64_MAX)};

    super_encode(&super, buf_reserve(out, BTREE_BLOCK));
    out->size += BTREE_BLOCK;
}

static void fix_super(struct buf *bytes)
{
    if (bytes->size == BTREE_BLOCK) {
        bytes_put_le32(bytes->data + SUPER_CRC_AT,
                       crc32c(0, slice_make(bytes->data, SUPER_CRC_AT)));
    }
}

static void run_super(struct slice bytes)
{
    struct btree_super super, again;
    uint8_t block[BTREE_BLOCK];

    if (bytes.size == BTREE_BLOCK && super_decode(&super, bytes.data) == 0) {
        super_encode(&super, block);
        assert_int_equal(super_decode(&again, block), 0);
        assert_memory_equal(&super, &again, sizeof(super));
    }
}

/* ---- the chunk store's files ---- */

static void make_manifest(struct buf *out)
{
    struct manifest manifest = {
        .head = {.version = MANIFEST_VERSION, .digests = any_bytes(KiB(8))}};

    for (uint64_t i = rng_below(&rng, 6); i > 0; i--) {
        manifest_add_table(&manifest, &(struct manifest_table){any_number(UINT64_MAX), 1, 4096});
        manifest_add_segment(&manifest, &(struct manifest_segment){.id = (uint32_t)i});
    }
    manifest_encode(&manifest, out);
    manifest_deinit(&manifest);
}

static void fix_manifest(struct buf *bytes)
{
    if (bytes->size >= 12) {
        bytes_put_le32(bytes->data + 8, crc32c(0, slice_make(bytes->data + 12, bytes->size - 12)));
    }
}

static void run_manifest(struct slice bytes)
{
    cleanup(buf_deinit) struct buf once = {0};
    cleanup(buf_deinit) struct buf twice = {0};
    struct manifest manifest = {0};

    if (manifest_decode(&manifest, bytes) < 0) {
        return;
    }
    manifest_encode(&manifest, &once);
    manifest_deinit(&manifest);
    assert_int_equal(manifest_decode(&manifest, buf_slice(&once)), 0);
    manifest_encode(&manifest, &twice);
    assert_true(slice_equal(buf_slice(&once), buf_slice(&twice)));
    manifest_deinit(&manifest);
}

static void make_table(struct buf *out)
{
    struct sstable_builder builder;
    uint64_t seq = 0;

    sstable_builder_init(&builder, 1);
    for (uint64_t i = rng_below(&rng, 500) + 1; i > 0; i--) {
        struct index_entry entry = {.key = {3, 1, ++seq}, .segment = 1, .length = 1};

        sstable_builder_add(&builder, &entry);
    }
    sstable_builder_finish(&builder);
    buf_append_slice(out, buf_slice(&builder.bytes));
    sstable_builder_deinit(&builder);
}

/* The footer's checksum and that of the first block. */
static void fix_table(struct buf *bytes)
{
    if (bytes->size >= SSTABLE_BLOCK_BYTES + SSTABLE_FOOTER_BYTES) {
        uint8_t *footer = bytes->data + bytes->size - SSTABLE_FOOTER_BYTES;

        bytes_put_le32(bytes->data,
                       crc32c(0, slice_make(bytes->data + 4, SSTABLE_BLOCK_BYTES - 4)));
        bytes_put_le32(footer + 60, crc32c(0, slice_make(footer, SSTABLE_FOOTER_BYTES - 4)));
    }
}

static void run_table(struct slice bytes)
{
    struct index_key key = {3, 1, rng_below(&rng, 600)};
    struct sstable table = {0};
    uint64_t offset = 0;

    if (bytes.size >= SSTABLE_BLOCK_BYTES) {
        struct slice block = slice_make(bytes.data, SSTABLE_BLOCK_BYTES);
        int count = sstable_block_check(block);

        for (int i = 0; i < count; i++) {
            (void)sstable_block_entry(block, (uint32_t)i);
        }
        if (count > 0) {
            assert_true(sstable_block_seek(block, &key) <= (uint32_t)count);
        }
    }
    if (bytes.size < SSTABLE_FOOTER_BYTES ||
        sstable_tail_offset(
            slice_make(bytes.data + bytes.size - SSTABLE_FOOTER_BYTES, SSTABLE_FOOTER_BYTES),
            bytes.size, &offset) < 0) {
        return;
    }
    assert_true(offset <= bytes.size);
    if (sstable_load(&table, 1, slice_make(bytes.data + offset, bytes.size - offset), bytes.size) ==
        0) {
        assert_true(sstable_block_of(&table, &key) < table.block_count);
        (void)sstable_may_have(&table, &key);
    }
    sstable_deinit(&table);
}

/* A chunk: u32 length, u32 flags, u32 bytes of checksums, checksums, stored bytes. */
static void make_chunk(struct buf *out)
{
    struct slice plain = any_bytes(KiB(200));
    struct iovec iov = {(void *)(uintptr_t)plain.data, plain.size};
    cleanup(buf_deinit) struct buf crcs = {0};
    cleanup(buf_deinit) struct buf stored = {0};
    bool packed =
        rng_percent(&rng, 50) && compress_chunk(&iov, 1, (uint32_t)plain.size, &stored, &crcs);
    uint8_t *at = buf_reserve(out, 12);

    if (!packed) {
        chunk_crcs_make(&iov, 1, &crcs);
        buf_append_slice(&stored, plain);
    }
    bytes_put_le32(at, (uint32_t)plain.size);
    bytes_put_le32(at + 4, packed ? CHUNK_COMPRESSED : 0);
    bytes_put_le32(at + 8, (uint32_t)crcs.size);
    out->size += 12;
    buf_append_slice(out, buf_slice(&crcs));
    buf_append_slice(out, buf_slice(&stored));
}

static void run_chunk(struct slice bytes)
{
    cleanup(buf_deinit) struct buf plain = {0};
    struct chunk_span want = {.stored_offset = (uint32_t)any_number(UINT32_MAX),
                              .stored_length = (uint32_t)any_number(UINT32_MAX)};
    struct chunk_span span;
    struct slice crcs, stored;
    uint32_t length, flags, size;

    if (bytes.size < 12) {
        return;
    }
    length = bytes_get_le32(bytes.data);
    flags = bytes_get_le32(bytes.data + 4);
    size = (uint32_t)min_u64(bytes_get_le32(bytes.data + 8), bytes.size - 12);
    crcs = slice_make(bytes.data + 12, size);
    stored = slice_make(bytes.data + 12 + size, bytes.size - 12 - size);
    if (chunk_crcs_check(length, flags, 0, crcs, stored) < 0) {
        return;
    }
    assert_true(stored.size > 0);
    if (crcs.size == chunk_crcs_bytes(length, flags) &&
        chunk_span_find(&span, length, flags, crcs, (uint32_t)stored.size, want) == 0) {
        assert_true((uint64_t)span.stored_offset + span.stored_length <= stored.size);
    }
    if ((flags & CHUNK_COMPRESSED) != 0) {
        (void)!compress_restore(length, 0, crcs, stored, &plain);
    }
}

#define SALT 77

static void make_record(struct buf *out)
{
    uint32_t length = (uint32_t)rng_below(&rng, KiB(40)) + 1;
    struct record_head head = {.lsn = 1,
                               .key = {1, 2, 3},
                               .length = length,
                               .stored_length = length,
                               .crcs_bytes = record_crcs_bytes(length, 0),
                               .type = RECORD_PUT};

    buf_append_zero(out, RECORD_HEAD_BYTES);
    buf_append(out, noise, head.crcs_bytes);
    record_head_encode(&head, SALT, 0, out->data);
}

static void fix_record(struct buf *bytes)
{
    uint8_t place[16] = {SALT};
    uint64_t size = RECORD_HEAD_BYTES;

    if (bytes->size >= RECORD_HEAD_BYTES) {
        size = min_u64(size + bytes_get_le32(bytes->data + 40), bytes->size);
        bytes_put_le32(bytes->data + 4, crc32c(crc32c(0, slice_make(place, sizeof(place))),
                                               slice_make(bytes->data + 8, (size_t)size - 8)));
    }
}

static void run_record(struct slice bytes)
{
    struct segment_head segment;
    struct record_head head;

    (void)!segment_head_decode(&segment, bytes);
    if (record_head_decode(&head, SALT, 0, bytes) == 0) {
        assert_true(head.crcs_bytes <= bytes.size - RECORD_HEAD_BYTES);
        assert_true(head.type == RECORD_DELETE || head.stored_length > 0);
        assert_true(head.crcs_bytes <= CHUNK_CRCS_MAX);
    }
}

static void make_segment(struct buf *out)
{
    struct segment_head head = {1, SEGMENT_SMALL, SALT};

    segment_head_encode(&head, buf_reserve(out, SEGMENT_HEAD_BYTES));
    out->size += 64;
}

static void fix_segment(struct buf *bytes)
{
    if (bytes->size >= 36) {
        bytes_put_le32(bytes->data + 32, crc32c(0, slice_make(bytes->data, 32)));
    }
}

/* ---- the namespace: requests of any kind ---- */

static struct fuzz_ns world;
static uint64_t succeeded[META_OP_END];

static uint64_t any_below(uint64_t limit)
{
    return rng_below(&rng, limit);
}

static const struct fuzz_source source = {any_number, any_bytes, any_below};

static void make_ns(struct buf *out)
{
    cleanup(buf_deinit) struct buf body = {0};
    struct meta_request request = fuzz_request(&world, &source, &body);

    meta_request_encode(&request, out);
}

static void run_ns(struct slice bytes)
{
    cleanup(buf_deinit) struct buf out = {0};
    struct meta_request request;
    struct meta_reply again;
    const struct meta_reply *reply;

    if (meta_request_decode(&request, bytes) < 0) {
        return;
    }
    if (world.array.count > 3000 || rng_below(&rng, 2000) == 0) {
        fuzz_ns_end(&world);
        fuzz_ns_begin(&world);
    }
    request.stamp_time = min_u64(request.stamp_time, world.ns.volume.time + 1000);
    reply = meta_op_mutates(request.op) ? ns_apply(&world.ns, &request, ++world.index)
                                        : ns_read(&world.ns, &request, world.index);
    succeeded[request.op < META_OP_END ? request.op : 0] += reply->error == 0;
    meta_reply_encode(reply, &out);
    assert_true(out.size <= RPC_BODY_MAX);
    assert_int_equal(meta_reply_decode(&again, buf_slice(&out)), 0);
    if (rng_percent(&rng, 20)) {
        buf_clear(&out);
        (void)ns_dead_chunks(&world.ns, UINT64_MAX, META_GC_BATCH, &out);
        assert_int_equal(chunk_ids_count(buf_slice(&out)),
                         min_u64(world.ns.volume.delete_queue, META_GC_BATCH));
    }
}

/* ---- damage ---- */

static void damage(struct buf *bytes)
{
    for (uint64_t i = rng_below(&rng, 4); i > 0 && bytes->size > 0; i--) {
        size_t at = (size_t)rng_below(&rng, bytes->size);

        switch (rng_below(&rng, 5)) {
        case 0:
            bytes->data[at] ^= (uint8_t)(1U << rng_below(&rng, 8));
            break;
        case 1:
            bytes->data[at] = (uint8_t)any_number(UINT8_MAX);
            break;
        case 2:
            bytes->size = at; /* cut off */
            break;
        case 3: { /* a number somewhere near the front, where lengths are */
            size_t size = (size_t)min_u64(1 + rng_below(&rng, 8), bytes->size);
            uint64_t value = any_number(UINT64_MAX);

            at = (size_t)rng_below(&rng, min_u64(bytes->size - size + 1, 128));
            memcpy(bytes->data + at, &value, size);
            break;
        }
        default:
            buf_append_slice(bytes, any_bytes(40));
            break;
        }
    }
}

#define MESSAGE_ROW(message_name, TABLE)                                                           \
    {#message_name, make_##message_name, run_##message_name, NULL},

static const struct target targets[] = {
    MESSAGES(MESSAGE_ROW){"ids", make_ids, run_ids, NULL},
    {"frames", make_frames, run_frames, fix_frames},
    {"cluster map", make_map, run_map, NULL},
    {"raft", make_raft, run_raft, NULL},
    {"page", make_page, run_page, NULL},
    {"superblock", make_super, run_super, fix_super},
    {"manifest", make_manifest, run_manifest, fix_manifest},
    {"table", make_table, run_table, fix_table},
    {"chunk", make_chunk, run_chunk, NULL},
    {"record", make_record, run_record, fix_record},
    {"segment", make_segment, run_record, fix_segment},
    {"namespace", make_ns, run_ns, NULL},
};

static void run_target(const struct target *target)
{
    for (unsigned i = 0; i < BATCH; i++) {
        cleanup(buf_deinit) struct buf bytes = {0};

        if (rng_percent(&rng, 5)) {
            buf_append_slice(&bytes, any_bytes(KiB(4)));
        } else {
            target->make(&bytes);
            if (rng_percent(&rng, target->run == run_ns ? 10 : 80)) {
                damage(&bytes);
            }
            if (target->fix != NULL && rng_percent(&rng, 70)) {
                target->fix(&bytes);
            }
        }
        if (bytes.size > 0) { /* of its own size: what reads behind it is caught */
            uint8_t *copy = mem_alloc(bytes.size);

            memcpy(copy, bytes.data, bytes.size);
            target->run(slice_make(copy, bytes.size));
            mem_free(copy);
        } else {
            target->run((struct slice){0});
        }
    }
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void test_all(void **state)
{
    const char *text = getenv("FUZZ_SECONDS");
    uint64_t seconds = text != NULL ? strtoull(text, NULL, 10) : SECONDS_DEFAULT;
    uint64_t end = now_ms() + seconds * 1000;
    uint64_t rounds = 0;

    (void)state;
    rng_init(&rng, test_seed(now_ms()));
    for (size_t i = 0; i < sizeof(noise); i++) {
        /* Half of it looks like text and packs well. */
        noise[i] = i < sizeof(noise) / 2 ? (uint8_t)rng_next(&rng) : (uint8_t)('a' + i % 7);
    }
    raft_begin();
    fuzz_ns_begin(&world);
    do {
        for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
            run_target(&targets[i]);
        }
        for (unsigned i = 0; i < 10; i++) { /* the one with the most to go wrong */
            run_target(&targets[ARRAY_SIZE(targets) - 1]);
        }
        rounds++;
    } while (now_ms() < end);
    printf("%" PRIu64 " inputs for each of %zu decoders\n", rounds * BATCH, ARRAY_SIZE(targets));
    for (unsigned op = META_OP_NONE + 1; op < META_OP_END; op++) {
        printf("%s %" PRIu64 "\n", meta_op_name(op), succeeded[op]);
    }
    assert_true(seconds < 5 || succeeded[META_COMMIT] > 0); /* else it tests nothing */
    fuzz_ns_end(&world);
    raft_deinit(&raft);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
