#pragma once
/*
 * sstable_format: a sorted table of index entries on disk, little endian, keys big endian.
 *
 *     block 0 | block 1 | ... | first keys | bloom | footer
 *
 * Block: 16 KiB: u32 crc32c of the rest, u32 count, entries, zeros. Entry: key 20, then segment,
 * offset8, length, stored_length, digest, flags, u32 each.
 */
#include "base/bytes.h"
#include "chunkstore/index_entry.h"
#include "chunkstore/limits.h"

#define SSTABLE_MAGIC         UINT64_C(0x31305453534b454b)
#define SSTABLE_VERSION       1
#define SSTABLE_KEY_BYTES     20
#define SSTABLE_ENTRY_BYTES   44
#define SSTABLE_BLOCK_HEAD    8
#define SSTABLE_BLOCK_ENTRIES ((SSTABLE_BLOCK_BYTES - SSTABLE_BLOCK_HEAD) / SSTABLE_ENTRY_BYTES)
/* magic u64, version u32, block count u32, entry count u64, bloom bytes u32, crc32c of first keys
 * and bloom u32, last key 20, table id u64, crc32c of the footer before it u32 */
#define SSTABLE_FOOTER_BYTES 64

static inline void sstable_key_store(uint8_t *at, const struct index_key *key)
{
    bytes_put_be32(at, key->partition);
    bytes_put_be64(at + 4, key->session);
    bytes_put_be64(at + 12, key->seq);
}

static inline struct index_key sstable_key_load(const uint8_t *at)
{
    return (struct index_key){bytes_get_be32(at), bytes_get_be64(at + 4), bytes_get_be64(at + 12)};
}
