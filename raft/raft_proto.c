#include "raft/raft_proto.h"

SCHEMA_IMPLEMENT(raft_wire, RAFT_WIRE)
SCHEMA_IMPLEMENT(raft_snapshot_wire, RAFT_SNAPSHOT_WIRE)

void raft_entries_encode(const struct raft_entry *entries, unsigned count, struct buf *out)
{
    for (unsigned i = 0; i < count; i++) {
        schema_write_uint(out, entries[i].term);
        schema_write_bytes(out, entries[i].command);
    }
}

int raft_entries_decode(struct raft_entry *entries, unsigned count, struct slice bytes)
{
    struct schema_reader reader = schema_reader_make(bytes);

    for (unsigned i = 0; i < count; i++) {
        entries[i].term = schema_read_uint(&reader, UINT64_MAX);
        entries[i].command = schema_read_bytes(&reader, RAFT_COMMAND_MAX);
    }
    return reader.failed || reader.at != reader.end ? -ERR_BAD_MESSAGE : 0;
}

void raft_message_encode(const struct raft_message *message, struct buf *out_body,
                         struct buf *out_payload)
{
    struct raft_wire wire = {
        .type = (uint8_t)message->type,
        .from = message->from,
        .to = message->to,
        .term = message->term,
        .index = message->index,
        .log_term = message->log_term,
        .commit = message->commit,
        .hint_index = message->hint_index,
        .hint_term = message->hint_term,
        .stamp = message->stamp,
        .reject = message->reject,
        .force = message->force,
        .entry_count = message->entry_count,
        .address = message->address,
        .repair = message->repair,
        .rebuild = message->rebuild,
        .voter = message->voter,
    };

    raft_wire_encode(&wire, out_body);
    raft_entries_encode(message->entries, message->entry_count, out_payload);
}

int raft_message_decode(struct raft_message *out_message, struct slice body, struct slice payload,
                        struct raft_entry *entries)
{
    struct raft_wire wire;
    int r;

    r = raft_wire_decode(&wire, body);
    if (r < 0) {
        return r;
    }
    if (wire.type == 0 || wire.type >= RAFT_MESSAGE_TYPE_END ||
        wire.entry_count > RAFT_APPEND_ENTRIES_MAX) {
        return -ERR_BAD_MESSAGE;
    }
    r = raft_entries_decode(entries, wire.entry_count, payload);
    if (r < 0) {
        return r;
    }
    *out_message = (struct raft_message){
        .type = (enum raft_message_type)wire.type,
        .from = wire.from,
        .to = wire.to,
        .term = wire.term,
        .index = wire.index,
        .log_term = wire.log_term,
        .commit = wire.commit,
        .hint_index = wire.hint_index,
        .hint_term = wire.hint_term,
        .stamp = wire.stamp,
        .reject = wire.reject,
        .force = wire.force,
        .entries = entries,
        .entry_count = wire.entry_count,
        .address = wire.address,
        .repair = wire.repair,
        .rebuild = wire.rebuild,
        .voter = wire.voter,
    };
    return 0;
}

const char *raft_message_type_name(enum raft_message_type type)
{
    static const char *const names[RAFT_MESSAGE_TYPE_END] = {
        [RAFT_MESSAGE_PRE_VOTE] = "pre_vote",
        [RAFT_MESSAGE_PRE_VOTE_RESPONSE] = "pre_vote_response",
        [RAFT_MESSAGE_VOTE] = "vote",
        [RAFT_MESSAGE_VOTE_RESPONSE] = "vote_response",
        [RAFT_MESSAGE_APPEND] = "append",
        [RAFT_MESSAGE_APPEND_RESPONSE] = "append_response",
        [RAFT_MESSAGE_HEARTBEAT] = "heartbeat",
        [RAFT_MESSAGE_HEARTBEAT_RESPONSE] = "heartbeat_response",
        [RAFT_MESSAGE_TIMEOUT_NOW] = "timeout_now",
    };

    return type < RAFT_MESSAGE_TYPE_END && names[type] != NULL ? names[type] : "?";
}
