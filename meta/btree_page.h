#pragma once
/*
 * btree_page: one 16 KiB slotted page (meta/btree_format.h). Pure.
 *
 *     page_init(page, 0);
 *     i = page_find(page, key, &exact);
 *     if (!page_insert(page, i, key, value, false)) ... split
 */
#include "base/slice.h"
#include "meta/btree_format.h"

void page_init(uint8_t *page, unsigned level);
unsigned page_count(const uint8_t *page);
unsigned page_level(const uint8_t *page);
struct slice page_key(const uint8_t *page, unsigned i);
struct slice page_value(const uint8_t *page, unsigned i);
bool page_overflows(const uint8_t *page, unsigned i);
/* The first cell whose key is not less than `key`. */
unsigned page_find(const uint8_t *page, struct slice key, bool *out_exact);
/* The child that a key belongs to, in an inner page with at least one cell. */
unsigned page_find_child(const uint8_t *page, struct slice key);
/* Bytes in use by cells and their slots. */
size_t page_used(const uint8_t *page);
size_t page_cell_size(struct slice key, struct slice value); /* slot included */
/* False when there is no room; then nothing has changed. key and value are not in the page. */
bool page_insert(uint8_t *page, unsigned i, struct slice key, struct slice value, bool overflow);
void page_remove(uint8_t *page, unsigned i);
/* Overwrites a value by another of the same size. */
void page_set_value(uint8_t *page, unsigned i, struct slice value);
/* Where to split so that both halves are about equal; 1 .. count - 1 (count >= 2). */
unsigned page_split_point(const uint8_t *page);
/* Moves cells first.. to the end of `to`, which has room. */
void page_move_tail(uint8_t *page, unsigned first, uint8_t *to);
/* 0, or -ERR_CORRUPT: offsets, sizes and order of a page from disk. */
int must_check page_check(const uint8_t *page);
