#pragma once
/*
 * compress: zstd level 1 in frames of 64 KiB of plain bytes. Pure; the only user of zstd.
 */
#include "base/buf.h"

#include <sys/uio.h>

/* Is it worth it? Tries 4 KiB from the middle; chunks below 4 KiB never are. */
bool compress_worth_it(const struct iovec *iov, unsigned iov_count, uint32_t length);
/* Appends the frames to out_stored and {stored size, crc32c} of each to out_crcs. False, with both
 * empty, when less than 12 % is saved. */
bool compress_chunk(const struct iovec *iov, unsigned iov_count, uint32_t length,
                    struct buf *out_stored, struct buf *out_crcs);
/*
 * `stored` are whole frames from number `first` on, `crcs` theirs (checked already); `length` is
 * that of the whole chunk. Appends their plain bytes. -ERR_CORRUPT when they are not what was
 * compressed.
 */
int must_check compress_restore(uint32_t length, uint32_t first, struct slice crcs,
                                struct slice stored, struct buf *out_plain);
