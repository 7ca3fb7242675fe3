#pragma once
/*
 * chunk_crcs: the checksums of a chunk (chunk_proto.h): made by the writing client, checked by each
 * server before it acknowledges and by the reader. Pure.
 */
#include "base/buf.h"
#include "chunkstore/chunk_proto.h"

#include <sys/uio.h>

/* Appends one u32 per 4 KiB of plain bytes. */
void chunk_crcs_make(const struct iovec *iov, unsigned iov_count, struct buf *out);
uint32_t chunk_crcs_bytes(uint32_t length, uint32_t flags);
/*
 * `stored` are the bytes of the blocks (frames) from number `first` on, `crcs` theirs. 0, or
 * -ERR_CORRUPT: sizes do not fit or a checksum differs.
 */
int must_check chunk_crcs_check(uint32_t length, uint32_t flags, uint32_t first, struct slice crcs,
                                struct slice stored);

/* Which part of a chunk a read of [offset, offset + length) needs. */
struct chunk_span {
    uint32_t first;         /* block or frame */
    uint32_t count;         /* of them */
    uint32_t stored_offset; /* bytes */
    uint32_t stored_length;
};
/* `crcs`: of the whole chunk (used for compressed ones only). -EINVAL when outside the chunk,
 * -ERR_CORRUPT when the frames' sizes do not add up to `stored`. */
int must_check chunk_span_find(struct chunk_span *out_span, uint32_t length, uint32_t flags,
                               struct slice crcs, uint32_t stored, struct chunk_span want);
