#pragma once
/* index_entry: what the index knows of one chunk; the key is partition, session, seq. */
#include "base/compiler.h"

struct index_key {
    uint32_t partition;
    uint64_t session;
    uint64_t seq;
};

struct index_entry {
    struct index_key key;
    uint32_t segment; /* 0 = deleted: hides what older tables say */
    uint32_t offset8; /* of the record in the segment, in units of 8 bytes */
    uint32_t length;  /* plain bytes */
    uint32_t stored_length;
    uint32_t digest; /* crc32c of the checksums: tells equal chunks from different ones */
    uint32_t flags;  /* enum chunk_flag */
};

static inline int index_key_compare(const struct index_key *a, const struct index_key *b)
{
    if (a->partition != b->partition) {
        return a->partition < b->partition ? -1 : 1;
    }
    if (a->session != b->session) {
        return a->session < b->session ? -1 : 1;
    }
    return (a->seq > b->seq) - (a->seq < b->seq);
}
