#pragma once
/*
 * raft_proto: Raft on the wire. A message is a one-way frame: the fields as body, entries as
 * payload. A snapshot is a series of calls: each body names stream and frame, the payload is the
 * machine's.
 */
#include "base/schema.h"
#include "raft/raft.h"

enum raft_opcode {
    RAFT_OPCODE_FIRST = 0x0001,
    RAFT_OPCODE_MESSAGE = 0x0001,  /* one way */
    RAFT_OPCODE_SNAPSHOT = 0x0002, /* call */
    RAFT_OPCODE_LAST = 0x00ff,
};

/*    kind  field        max  since */
#define RAFT_WIRE(F)                                                                               \
    F(u8, type, 0, 1)                                                                              \
    F(u32, from, 0, 1)                                                                             \
    F(u32, to, 0, 1)                                                                               \
    F(u64, term, 0, 1)                                                                             \
    F(u64, index, 0, 1)                                                                            \
    F(u64, log_term, 0, 1)                                                                         \
    F(u64, commit, 0, 1)                                                                           \
    F(u64, hint_index, 0, 1)                                                                       \
    F(u64, hint_term, 0, 1)                                                                        \
    F(u64, stamp, 0, 1)                                                                            \
    F(bool, reject, 0, 1)                                                                          \
    F(bool, force, 0, 1)                                                                           \
    F(u32, entry_count, 0, 1)                                                                      \
    F(bytes, address, RAFT_ADDRESS_MAX, 2)                                                         \
    F(bool, repair, 0, 3)                                                                          \
    F(bool, voter, 0, 4)                                                                           \
    F(bool, rebuild, 0, 5)

SCHEMA_DEFINE(raft_wire, RAFT_WIRE);

/* `last`: the end of the stream; its payload is empty. */
#define RAFT_SNAPSHOT_WIRE(F)                                                                      \
    F(u64, term, 0, 1)                                                                             \
    F(u64, stream_id, 0, 1)                                                                        \
    F(u64, frame_no, 0, 1)                                                                         \
    F(u64, index, 0, 1)                                                                            \
    F(u64, index_term, 0, 1)                                                                       \
    F(bool, last, 0, 1)                                                                            \
    F(u64, bytes, 0, 2)
/* bytes: about so much room the whole state takes. */

SCHEMA_DEFINE(raft_snapshot_wire, RAFT_SNAPSHOT_WIRE);

/* Appends to both. */
void raft_message_encode(const struct raft_message *message, struct buf *out_body,
                         struct buf *out_payload);
/* `entries` has room for RAFT_APPEND_ENTRIES_MAX; commands borrow from `payload`. Everything that
 * raft_step relies on is checked; -ERR_BAD_MESSAGE. */
int must_check raft_message_decode(struct raft_message *out_message, struct slice body,
                                   struct slice payload, struct raft_entry *entries);
/* Entries as in the payload and in the log: term, size, bytes. */
void raft_entries_encode(const struct raft_entry *entries, unsigned count, struct buf *out);
int must_check raft_entries_decode(struct raft_entry *entries, unsigned count, struct slice bytes);
const char *raft_message_type_name(enum raft_message_type type);
