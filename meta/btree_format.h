#pragma once
/*
 * btree_format: the bytes of a B+tree file. All integers little endian.
 *
 * The file is an array of 4 KiB blocks. Blocks 0..7 hold superblocks: generation g has four copies
 * in blocks 4 (g mod 2) .. + 3. Everything else is pages (4 blocks), overflow runs and the bitmap
 * of used blocks (as many blocks as needed each).
 *
 * Page: header, slots (u16 offset of each cell, in key order), free space, cells to the end.
 * Cell: u16 key size, u16 value size (bit 15: the value is an overflow reference), key, value.
 * Value in an inner page: u64 block of the child, u32 crc32c of the child. Slot 0 of an inner page
 * stands for every smaller key, whatever key it has.
 * Overflow reference: u64 first block, u32 size in bytes, u32 crc32c.
 */
#include "base/compiler.h"

#define BTREE_BLOCK        KiB(4)
#define BTREE_PAGE         KiB(16)
#define BTREE_PAGE_BLOCKS  4
#define BTREE_SUPER_COPIES 4
#define BTREE_SUPER_GOOD   2 /* copies that must agree */
#define BTREE_SUPER_BLOCKS 8
#define BTREE_MAGIC        UINT64_C(0x316565727462666b) /* "kfbtree1" */
#define BTREE_VERSION      1

#define PAGE_HEADER        16
#define PAGE_COUNT_AT      0 /* u16 cells */
#define PAGE_HEAP_AT       2 /* u16 lowest byte of a cell; BTREE_PAGE when empty */
#define PAGE_DEAD_AT       4 /* u16 bytes between heap and end that no cell uses */
#define PAGE_LEVEL_AT      6 /* u16 0 = leaf */
#define PAGE_CAPACITY      (BTREE_PAGE - PAGE_HEADER)
#define CELL_HEADER        4
#define CELL_OVERFLOW      0x8000
#define CHILD_REF          12
#define OVERFLOW_REF       16

#define BTREE_KEY_MAX      512
#define BTREE_VALUE_INLINE KiB(2) /* larger ones go to overflow runs */
#define BTREE_VALUE_MAX    KiB(256)
#define BTREE_FANOUT_MAX   (PAGE_CAPACITY / (2 + CELL_HEADER + CHILD_REF))
#define BTREE_DEPTH_MAX    16 /* 4 keys a page at the very least: 4^16 pages */

/* Superblock fields by offset; the rest of the block is zero. */
#define SUPER_MAGIC_AT      0
#define SUPER_VERSION_AT    8  /* u32 */
#define SUPER_NODE_AT       12 /* u32 */
#define SUPER_UUID_AT       16 /* 16 bytes */
#define SUPER_GENERATION_AT 32
#define SUPER_ROOT_AT       40 /* u64 block, 0 = empty tree */
#define SUPER_ROOT_CRC_AT   48 /* u32 */
#define SUPER_BITMAP_CRC_AT 52 /* u32 */
#define SUPER_BITMAP_AT     56 /* u64 block, 0 = none */
#define SUPER_BLOCKS_AT     64 /* u64 blocks of the file: the bitmap has a bit for each */
#define SUPER_INDEX_AT      72 /* applied */
#define SUPER_TERM_AT       80
#define SUPER_HASH_AT       88 /* rolling state hash */
#define SUPER_PAIRS_AT      96
#define SUPER_CRC_AT        104 /* u32 of the bytes before */
#define SUPER_SIZE          108
