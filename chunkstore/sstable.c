#include "chunkstore/sstable.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/bloom.h"
#include "chunkstore/chunk_proto.h"
#include "chunkstore/sstable_format.h"

_Static_assert(SSTABLE_BLOCK_ENTRIES > 300, "a block holds hundreds of entries");

void sstable_builder_init(struct sstable_builder *builder, uint64_t id)
{
    *builder = (struct sstable_builder){.id = id};
}

void sstable_builder_deinit(struct sstable_builder *builder)
{
    buf_deinit(&builder->bytes);
    buf_deinit(&builder->first_keys);
    buf_deinit(&builder->hashes);
}

static void close_block(struct sstable_builder *builder)
{
    size_t used = SSTABLE_BLOCK_HEAD + builder->in_block * SSTABLE_ENTRY_BYTES;
    uint8_t *block;

    if (builder->in_block == 0) {
        return;
    }
    buf_append_zero(&builder->bytes, SSTABLE_BLOCK_BYTES - used);
    block = builder->bytes.data + builder->bytes.size - SSTABLE_BLOCK_BYTES;
    bytes_put_le32(block + 4, builder->in_block);
    bytes_put_le32(block, crc32c(0, slice_make(block + 4, SSTABLE_BLOCK_BYTES - 4)));
    builder->in_block = 0;
}

static void open_block(struct sstable_builder *builder, const struct index_key *key)
{
    uint8_t *at = buf_reserve(&builder->first_keys, SSTABLE_KEY_BYTES);

    sstable_key_store(at, key);
    builder->first_keys.size += SSTABLE_KEY_BYTES;
    buf_append_zero(&builder->bytes, SSTABLE_BLOCK_HEAD);
    builder->block_count++;
}

void sstable_builder_add(struct sstable_builder *builder, const struct index_entry *entry)
{
    uint64_t hash = chunk_id_hash(entry->key.session, entry->key.seq);
    uint8_t *at;

    ASSERT(builder->entry_count == 0 || index_key_compare(&builder->last, &entry->key) < 0);
    if (builder->in_block == SSTABLE_BLOCK_ENTRIES) {
        close_block(builder);
    }
    if (builder->in_block == 0) {
        open_block(builder, &entry->key);
    }
    at = buf_reserve(&builder->bytes, SSTABLE_ENTRY_BYTES);
    sstable_key_store(at, &entry->key);
    bytes_put_le32(at + 20, entry->segment);
    bytes_put_le32(at + 24, entry->offset8);
    bytes_put_le32(at + 28, entry->length);
    bytes_put_le32(at + 32, entry->stored_length);
    bytes_put_le32(at + 36, entry->digest);
    bytes_put_le32(at + 40, entry->flags);
    builder->bytes.size += SSTABLE_ENTRY_BYTES;
    buf_append(&builder->hashes, &hash, sizeof(hash));
    builder->last = entry->key;
    builder->in_block++;
    builder->entry_count++;
}

void sstable_builder_finish(struct sstable_builder *builder)
{
    size_t bloom_size = bloom_bytes(builder->entry_count);
    size_t tail;
    uint8_t *bloom, *footer;

    ASSERT(builder->entry_count > 0);
    close_block(builder);
    tail = builder->bytes.size;
    buf_append_slice(&builder->bytes, buf_slice(&builder->first_keys));
    buf_append_zero(&builder->bytes, bloom_size);
    bloom = builder->bytes.data + builder->bytes.size - bloom_size;
    for (size_t i = 0; i < builder->entry_count; i++) {
        uint64_t hash;

        memcpy(&hash, builder->hashes.data + i * sizeof(hash), sizeof(hash));
        bloom_add(bloom, bloom_size, hash);
    }
    buf_append_zero(&builder->bytes, SSTABLE_FOOTER_BYTES);
    footer = builder->bytes.data + builder->bytes.size - SSTABLE_FOOTER_BYTES;
    bytes_put_le64(footer, SSTABLE_MAGIC);
    bytes_put_le32(footer + 8, SSTABLE_VERSION);
    bytes_put_le32(footer + 12, builder->block_count);
    bytes_put_le64(footer + 16, builder->entry_count);
    bytes_put_le32(footer + 24, (uint32_t)bloom_size);
    bytes_put_le32(footer + 28,
                   crc32c(0, slice_make(builder->bytes.data + tail,
                                        (size_t)(footer - builder->bytes.data) - tail)));
    sstable_key_store(footer + 32, &builder->last);
    bytes_put_le64(footer + 52, builder->id);
    bytes_put_le32(footer + 60, crc32c(0, slice_make(footer, SSTABLE_FOOTER_BYTES - 4)));
}

static bool footer_ok(struct slice footer)
{
    return footer.size == SSTABLE_FOOTER_BYTES && bytes_get_le64(footer.data) == SSTABLE_MAGIC &&
           bytes_get_le32(footer.data + 8) == SSTABLE_VERSION &&
           bytes_get_le32(footer.data + 60) ==
               crc32c(0, slice_make(footer.data, SSTABLE_FOOTER_BYTES - 4));
}

int sstable_tail_offset(struct slice footer, uint64_t file_size, uint64_t *out_offset)
{
    uint64_t blocks, need;

    if (!footer_ok(footer)) {
        return -ERR_CORRUPT;
    }
    blocks = bytes_get_le32(footer.data + 12);
    need = blocks * (SSTABLE_BLOCK_BYTES + SSTABLE_KEY_BYTES) + bytes_get_le32(footer.data + 24) +
           SSTABLE_FOOTER_BYTES;
    if (blocks == 0 || need != file_size) {
        return -ERR_CORRUPT;
    }
    *out_offset = blocks * SSTABLE_BLOCK_BYTES;
    return 0;
}

int sstable_load(struct sstable *table, uint64_t id, struct slice tail, uint64_t file_size)
{
    struct slice footer;
    uint64_t offset;
    size_t keys_size;
    int r;

    if (tail.size < SSTABLE_FOOTER_BYTES) {
        return -ERR_CORRUPT;
    }
    footer = slice_make(tail.data + tail.size - SSTABLE_FOOTER_BYTES, SSTABLE_FOOTER_BYTES);
    r = sstable_tail_offset(footer, file_size, &offset);
    if (r < 0 || tail.size != file_size - offset || bytes_get_le64(footer.data + 52) != id) {
        return -ERR_CORRUPT;
    }
    if (bytes_get_le32(footer.data + 28) !=
        crc32c(0, slice_make(tail.data, tail.size - SSTABLE_FOOTER_BYTES))) {
        return -ERR_CORRUPT;
    }
    *table = (struct sstable){.id = id, .size = file_size};
    table->block_count = bytes_get_le32(footer.data + 12);
    table->entry_count = bytes_get_le64(footer.data + 16);
    keys_size = (size_t)table->block_count * SSTABLE_KEY_BYTES;
    buf_append(&table->first_keys, tail.data, keys_size);
    buf_append(&table->bloom, tail.data + keys_size, bytes_get_le32(footer.data + 24));
    table->min = sstable_key_load(tail.data);
    table->max = sstable_key_load(footer.data + 32);
    return 0;
}

void sstable_deinit(struct sstable *table)
{
    buf_deinit(&table->first_keys);
    buf_deinit(&table->bloom);
}

uint32_t sstable_block_of(const struct sstable *table, const struct index_key *key)
{
    uint32_t low = 0, high = table->block_count;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        struct index_key first =
            sstable_key_load(table->first_keys.data + (size_t)middle * SSTABLE_KEY_BYTES);

        if (index_key_compare(&first, key) <= 0) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

bool sstable_may_have(const struct sstable *table, const struct index_key *key)
{
    return index_key_compare(&table->min, key) <= 0 && index_key_compare(key, &table->max) <= 0 &&
           bloom_may_have(buf_slice(&table->bloom), chunk_id_hash(key->session, key->seq));
}

int sstable_block_check(struct slice block)
{
    uint32_t count;

    if (block.size != SSTABLE_BLOCK_BYTES ||
        bytes_get_le32(block.data) !=
            crc32c(0, slice_make(block.data + 4, SSTABLE_BLOCK_BYTES - 4))) {
        return -ERR_CORRUPT;
    }
    count = bytes_get_le32(block.data + 4);
    return count == 0 || count > SSTABLE_BLOCK_ENTRIES ? -ERR_CORRUPT : (int)count;
}

struct index_entry sstable_block_entry(struct slice block, uint32_t index)
{
    const uint8_t *at = block.data + SSTABLE_BLOCK_HEAD + (size_t)index * SSTABLE_ENTRY_BYTES;

    ASSERT(index < bytes_get_le32(block.data + 4));
    return (struct index_entry){
        .key = sstable_key_load(at),
        .segment = bytes_get_le32(at + 20),
        .offset8 = bytes_get_le32(at + 24),
        .length = bytes_get_le32(at + 28),
        .stored_length = bytes_get_le32(at + 32),
        .digest = bytes_get_le32(at + 36),
        .flags = bytes_get_le32(at + 40),
    };
}

uint32_t sstable_block_seek(struct slice block, const struct index_key *key)
{
    uint32_t low = 0, high = bytes_get_le32(block.data + 4);

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct index_entry entry = sstable_block_entry(block, middle);

        if (index_key_compare(&entry.key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}
