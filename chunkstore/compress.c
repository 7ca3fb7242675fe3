#include "chunkstore/compress.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/mem.h"
#include "chunkstore/chunk_proto.h"

#include <zstd.h>

#define COMPRESS_LEVEL        1
#define COMPRESS_SAVE_PERCENT 12
#define COMPRESS_SAMPLE       KiB(4)

/* Copies [offset, offset + size) of the scattered bytes. */
static void gather(const struct iovec *iov, unsigned iov_count, uint32_t offset, size_t size,
                   uint8_t *out)
{
    for (unsigned i = 0; i < iov_count && size > 0; i++) {
        size_t part;

        if (offset >= iov[i].iov_len) {
            offset -= (uint32_t)iov[i].iov_len;
            continue;
        }
        part = (size_t)min_u64(size, iov[i].iov_len - offset);
        memcpy(out, (const uint8_t *)iov[i].iov_base + offset, part);
        out += part;
        size -= part;
        offset = 0;
    }
}

static bool saves_enough(size_t stored, size_t plain)
{
    return stored <= plain / 100 * (100 - COMPRESS_SAVE_PERCENT);
}

static void free_context(ZSTD_CCtx **context)
{
    ZSTD_freeCCtx(*context);
}

bool compress_worth_it(const struct iovec *iov, unsigned iov_count, uint32_t length)
{
    uint8_t sample[COMPRESS_SAMPLE];
    uint8_t out[COMPRESS_SAMPLE + 1024];
    size_t r;

    if (length < COMPRESS_SAMPLE) {
        return false;
    }
    gather(iov, iov_count, (uint32_t)((length - COMPRESS_SAMPLE) / 2), COMPRESS_SAMPLE, sample);
    r = ZSTD_compress(out, sizeof(out), sample, sizeof(sample), COMPRESS_LEVEL);
    return !ZSTD_isError(r) && saves_enough(r, sizeof(sample));
}

bool compress_chunk(const struct iovec *iov, unsigned iov_count, uint32_t length,
                    struct buf *out_stored, struct buf *out_crcs)
{
    cleanup(free_context) ZSTD_CCtx *context = ZSTD_createCCtx();
    cleanup(buf_deinit) struct buf plain = {0};
    size_t bound = ZSTD_compressBound(CHUNK_FRAME_BYTES);
    bool good = context != NULL;

    if (good) {
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, COMPRESS_LEVEL);
        ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
        buf_reserve(&plain, CHUNK_FRAME_BYTES);
    }
    for (uint32_t offset = 0; good && offset < length; offset += (uint32_t)CHUNK_FRAME_BYTES) {
        size_t size = (size_t)min_u64(CHUNK_FRAME_BYTES, length - offset);
        uint8_t *at = buf_reserve(out_stored, bound);
        uint8_t *entry;
        size_t r;

        gather(iov, iov_count, offset, size, plain.data);
        r = ZSTD_compress2(context, at, bound, plain.data, size);
        good = !ZSTD_isError(r);
        if (good) {
            entry = buf_reserve(out_crcs, 8);
            bytes_put_le32(entry, (uint32_t)r);
            bytes_put_le32(entry + 4, crc32c(0, slice_make(at, r)));
            out_crcs->size += 8;
            out_stored->size += r;
        }
    }
    if (!good || !saves_enough(out_stored->size, length)) {
        buf_clear(out_stored);
        buf_clear(out_crcs);
        return false;
    }
    return true;
}

int compress_restore(uint32_t length, uint32_t first, struct slice crcs, struct slice stored,
                     struct buf *out_plain)
{
    size_t at = 0;

    for (size_t i = 0; i < crcs.size / 8; i++) {
        uint64_t start = (first + i) * CHUNK_FRAME_BYTES;
        uint32_t size = bytes_get_le32(crcs.data + i * 8);
        size_t want, r;

        if (start >= length || size > stored.size - at) {
            return -ERR_CORRUPT;
        }
        want = (size_t)min_u64(CHUNK_FRAME_BYTES, length - start);
        r = ZSTD_decompress(buf_reserve(out_plain, want), want, stored.data + at, size);
        if (ZSTD_isError(r) || r != want) {
            return -ERR_CORRUPT;
        }
        out_plain->size += want;
        at += size;
    }
    return at == stored.size ? 0 : -ERR_CORRUPT;
}
