#pragma once
/* raft_log_internal: what the files of the log share. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "raft/raft_log.h"
#include "raft/raft_log_format.h"

#include <errno.h>

/* To be written, never written to: so the pages are the kernel's zero page. */
extern uint8_t raft_log_zeros[RAFT_LOG_ZERO_BLOCK];

/* raft_log.c */
void raft_log_header_encode(const struct raft_log *log, uint64_t seq, uint64_t prev_end,
                            uint8_t *out_block);
uint32_t raft_log_head_crc(struct raft_log_record record, uint64_t seq);
void raft_log_put_record(struct buf *out, struct raft_log_record record, struct slice data);
struct raft_log_segment *raft_log_segment_new(struct raft_log *log, uint64_t seq);
void raft_log_segment_free(struct raft_log_segment *segment);
/* Goes on with whatever can go on. */
void raft_log_pump(struct raft_log *log);

/* raft_log_scan.c */
int raft_log_recover(struct raft_log *log, struct raft_log_recovered *out);

/* raft_log_repair.c */
/* What the records of the segments from `from` on have promised, and an earlier repair that did not
 * end. False: it cannot be known. */
bool must_check raft_log_promises(struct raft_log *log, struct raft_log_segment *from,
                                  struct raft_hard_state *state, uint64_t *out_index);
/* Keeps it durably, before anything is cut. */
int must_check raft_log_keep_promises(struct raft_log *log, struct raft_hard_state state,
                                      uint64_t index);
/* Segments behind `last` go, the newest first. */
int must_check raft_log_drop_behind(struct raft_log *log, struct raft_log_segment *last);
/* A repair that has not ended: 1, or 0 when there is none. */
int must_check raft_log_repair_read(struct raft_log *log, struct raft_hard_state *out_state,
                                    uint64_t *out_index);

/* raft_log_spare.c */
/* Makes spares up to the number wanted. */
void raft_log_spares_fill(struct raft_log *log);
/* Old segment: becomes a spare, or goes. Takes over the segment. */
void raft_log_spare_recycle(struct raft_log *log, struct raft_log_segment *segment);
/* A ready one, out of the list, or NULL. */
struct raft_log_spare *raft_log_spare_take(struct raft_log *log);
void raft_log_spare_free(struct raft_log_spare *spare);
