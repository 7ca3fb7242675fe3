#pragma once
/*
 * ns: the namespace: what each operation of meta_proto.h does to the state. Pure functions over a
 * kv view: no clock, no randomness, so every replica that applies the same requests in the same
 * order has the same state and gives the same answers.
 *
 *     ns_init(&ns, kv);
 *     reply = ns_apply(&ns, &request, index);      mutations, from the log
 *     reply = ns_read(&ns, &request, index);       the rest
 *
 * A reply and all it points to is good until the next call.
 */
#include "base/arena.h"
#include "meta/kv.h"
#include "meta/record.h"

struct ns {
    struct kv *kv;
    struct record_volume volume; /* written back at the end of each mutation */
    uint8_t uuid[16];
    bool formatted;

    /* Of the request being executed. */
    const struct meta_request *request;
    struct record_session *session; /* of a sequenced request; written back at its end */
    uint64_t stamp;                 /* the leader's time of the request: never runs backwards */
    uint64_t now; /* for times of inodes: the stamp, or the client's (META_CLIENT_TIME) */
    struct meta_reply reply;
    struct arena arena;             /* copies of records until the next request: one each of up to
                                       META_COMMITS_MAX inodes with inline data, 4 MiB */
    struct buf attr, data, extents; /* of the reply */
    struct buf granted;             /* sessions with locks that were waited for, u64 LE each */
    struct buf scratch;             /* a value being encoded */
    struct buf stored;              /* a reply given before */
};

void ns_init(struct ns *ns, struct kv *kv);
void ns_deinit(struct ns *ns);
const struct meta_reply *ns_apply(struct ns *ns, const struct meta_request *request,
                                  uint64_t index);
const struct meta_reply *ns_read(struct ns *ns, const struct meta_request *request, uint64_t index);

/* ---- what the leader asks of the state ---- */

/* The orphan behind `after`; false at the end. */
bool ns_next_orphan(struct ns *ns, uint64_t after, uint64_t *out_ino, bool *out_detached);
/* The open session behind `after`; false at the end. */
bool ns_next_session(struct ns *ns, uint64_t after, uint64_t *out_session);
bool ns_get_session(struct ns *ns, uint64_t session, struct record_session *out_record);
/* Chunks dead since before `before`, at most `max`, appended as ids (chunk_proto.h). */
unsigned ns_dead_chunks(struct ns *ns, uint64_t before, unsigned max, struct buf *out_ids);
bool ns_get_chunk(struct ns *ns, uint64_t session, uint64_t seq, struct record_chunk *out_record);
/* The first journalled extent of the first data id behind `after`; false at the end. */
bool ns_next_journal(struct ns *ns, uint64_t after, uint64_t *out_data, struct record_journal *out);
/* Does the operation take its turn in its session (meta_request.seq)? */
bool ns_op_sequenced(unsigned op);
/* The encoded cluster map; false when there is none. Good until the next call. */
bool ns_get_map(struct ns *ns, struct slice *out_map);
