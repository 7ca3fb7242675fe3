/* manifest: magic u64 | crc32c u32 of the rest | length-prefixed head, tables, segments. */
#include "chunkstore/manifest.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "chunkstore/limits.h"

#define MANIFEST_MAGIC       UINT64_C(0x31304e4d4b45454b)
#define MANIFEST_PREFIX      12
#define MANIFEST_SEGMENT_MAX (1U << 20)
#define MANIFEST_RECORD_MAX  128

SCHEMA_IMPLEMENT(manifest_head, MANIFEST_HEAD)
SCHEMA_IMPLEMENT(manifest_table, MANIFEST_TABLE)
SCHEMA_IMPLEMENT(manifest_segment, MANIFEST_SEGMENT)

void manifest_deinit(struct manifest *manifest)
{
    mem_free(manifest->tables);
    mem_free(manifest->segments);
    buf_deinit(&manifest->digests);
    *manifest = (struct manifest){0};
}

void manifest_add_table(struct manifest *manifest, const struct manifest_table *table)
{
    manifest->tables =
        mem_realloc(manifest->tables, (manifest->head.table_count + 1) * sizeof(*manifest->tables));
    manifest->tables[manifest->head.table_count++] = *table;
}

void manifest_add_segment(struct manifest *manifest, const struct manifest_segment *segment)
{
    manifest->segments = mem_realloc(manifest->segments, (manifest->head.segment_count + 1) *
                                                             sizeof(*manifest->segments));
    manifest->segments[manifest->head.segment_count++] = *segment;
}

void manifest_encode(const struct manifest *manifest, struct buf *out)
{
    cleanup(buf_deinit) struct buf part = {0};
    size_t start = out->size;
    uint8_t *at;

    buf_append_zero(out, MANIFEST_PREFIX);
    manifest_head_encode(&manifest->head, &part);
    schema_write_bytes(out, buf_slice(&part));
    for (uint32_t i = 0; i < manifest->head.table_count; i++) {
        buf_clear(&part);
        manifest_table_encode(&manifest->tables[i], &part);
        schema_write_bytes(out, buf_slice(&part));
    }
    for (uint32_t i = 0; i < manifest->head.segment_count; i++) {
        buf_clear(&part);
        manifest_segment_encode(&manifest->segments[i], &part);
        schema_write_bytes(out, buf_slice(&part));
    }
    at = out->data + start;
    bytes_put_le64(at, MANIFEST_MAGIC);
    bytes_put_le32(
        at + 8, crc32c(0, slice_make(at + MANIFEST_PREFIX, out->size - start - MANIFEST_PREFIX)));
}

static int decode_records(struct manifest *manifest, struct schema_reader *reader, uint32_t tables,
                          uint32_t segments)
{
    for (uint32_t i = 0; i < tables; i++) {
        struct manifest_table table;
        int r = manifest_table_decode(&table, schema_read_bytes(reader, MANIFEST_RECORD_MAX));

        if (r < 0 || reader->failed || table.level >= LSM_LEVELS) {
            return -ERR_CORRUPT;
        }
        manifest_add_table(manifest, &table);
    }
    for (uint32_t i = 0; i < segments; i++) {
        struct manifest_segment segment;
        int r = manifest_segment_decode(&segment, schema_read_bytes(reader, MANIFEST_RECORD_MAX));

        if (r < 0 || reader->failed || segment.id == 0 || segment.id == UINT32_MAX ||
            segment.class > 1) {
            return -ERR_CORRUPT;
        }
        manifest_add_segment(manifest, &segment);
    }
    return 0;
}

int manifest_decode(struct manifest *out_manifest, struct slice bytes)
{
    struct manifest manifest = {0};
    struct schema_reader reader;
    uint32_t tables, segments;
    int r;

    if (bytes.size < MANIFEST_PREFIX || bytes_get_le64(bytes.data) != MANIFEST_MAGIC ||
        bytes_get_le32(bytes.data + 8) !=
            crc32c(0, slice_make(bytes.data + MANIFEST_PREFIX, bytes.size - MANIFEST_PREFIX))) {
        return -ERR_CORRUPT;
    }
    reader =
        schema_reader_make(slice_make(bytes.data + MANIFEST_PREFIX, bytes.size - MANIFEST_PREFIX));
    r = manifest_head_decode(&manifest.head, schema_read_bytes(&reader, MANIFEST_BYTES_MAX));
    if (r < 0 || reader.failed) {
        return -ERR_CORRUPT;
    }
    if (manifest.head.version != MANIFEST_VERSION) {
        return -ERR_BAD_FORMAT;
    }
    tables = manifest.head.table_count;
    segments = manifest.head.segment_count;
    if (tables > LSM_TABLES_MAX || segments > MANIFEST_SEGMENT_MAX) {
        return -ERR_CORRUPT;
    }
    manifest.head.table_count = manifest.head.segment_count = 0;
    buf_append_slice(&manifest.digests, manifest.head.digests);
    manifest.head.digests = buf_slice(&manifest.digests);
    r = decode_records(&manifest, &reader, tables, segments);
    if (r < 0) {
        manifest_deinit(&manifest);
        return r;
    }
    *out_manifest = manifest;
    return 0;
}
