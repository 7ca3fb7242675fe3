#include "raft/raft_members.h"

#include <errno.h>

/* clang-format off */
/*    kind   field      max                     since */
#define RAFT_MEMBER_WIRE(F)                                 \
    F(u32,   id,        0,                      1)          \
    F(bool,  voter,     0,                      1)          \
    F(bytes, address,   RAFT_ADDRESS_MAX,       1)

#define RAFT_MEMBERS_WIRE(F)                                \
    F(u32,   last_id,   0,                      1)          \
    F(bytes, members,   KiB(4),                 1)
/* clang-format on */

SCHEMA_DEFINE(raft_member_wire, RAFT_MEMBER_WIRE);
SCHEMA_IMPLEMENT(raft_member_wire, RAFT_MEMBER_WIRE)
SCHEMA_DEFINE(raft_members_wire, RAFT_MEMBERS_WIRE);
SCHEMA_IMPLEMENT(raft_members_wire, RAFT_MEMBERS_WIRE)

int raft_members_find(const struct raft_members *members, uint32_t id)
{
    for (unsigned i = 0; i < members->count; i++) {
        if (members->list[i].id == id) {
            return (int)i;
        }
    }
    return -1;
}

unsigned raft_members_voters(const struct raft_members *members)
{
    unsigned voters = 0;

    for (unsigned i = 0; i < members->count; i++) {
        voters += members->list[i].voter;
    }
    return voters;
}

int raft_members_add(struct raft_members *members, uint32_t id, bool voter, const char *address)
{
    struct raft_member *member = &members->list[members->count];
    size_t size = strlen(address);

    if (members->count == RAFT_MEMBERS_MAX) {
        return -ENOSPC;
    }
    if (id == 0 || size > RAFT_ADDRESS_MAX || raft_members_find(members, id) >= 0) {
        return -EINVAL;
    }
    *member = (struct raft_member){.id = id, .voter = voter};
    memcpy(member->address, address, size);
    members->count++;
    members->last_id = members->last_id > id ? members->last_id : id;
    return 0;
}

static void drop(struct raft_members *members, unsigned slot)
{
    members->count--;
    memmove(&members->list[slot], &members->list[slot + 1],
            (members->count - slot) * sizeof(members->list[0]));
}

int raft_members_change(struct raft_members *members, const struct raft_change *change)
{
    int slot = raft_members_find(members, change->id);

    switch (change->type) {
    case RAFT_CHANGE_ADD:
        if (change->id <= members->last_id) {
            return -EEXIST;
        }
        return change->address[0] == '\0'
                   ? -EINVAL
                   : raft_members_add(members, change->id, /* voter= */ false, change->address);
    case RAFT_CHANGE_PROMOTE:
        if (slot < 0 || members->list[slot].voter) {
            return slot < 0 ? -ENOENT : -EINVAL;
        }
        members->list[slot].voter = true;
        return 0;
    case RAFT_CHANGE_REMOVE:
        if (slot < 0) {
            return -ENOENT;
        }
        drop(members, (unsigned)slot);
        return 0;
    case RAFT_CHANGE_RECORD:
        return 0;
    }
    return -EINVAL;
}

/* ---- bytes ---- */

bool raft_command_is_members(struct slice command)
{
    return command.size > 0 && command.data[0] == 0;
}

void raft_members_encode(const struct raft_members *members, struct buf *out)
{
    cleanup(buf_deinit) struct buf all = {0};
    cleanup(buf_deinit) struct buf one = {0};

    for (unsigned i = 0; i < members->count; i++) {
        const struct raft_member *member = &members->list[i];

        buf_clear(&one);
        raft_member_wire_encode(&(struct raft_member_wire){.id = member->id,
                                                           .voter = member->voter,
                                                           .address = slice_text(member->address)},
                                &one);
        schema_write_bytes(&all, buf_slice(&one));
    }
    buf_append_zero(out, 1);
    raft_members_wire_encode(
        &(struct raft_members_wire){.last_id = members->last_id, .members = buf_slice(&all)}, out);
}

static int take_member(struct raft_members *members, struct slice bytes)
{
    struct raft_member_wire wire;
    char address[RAFT_ADDRESS_MAX + 1] = {0};

    if (raft_member_wire_decode(&wire, bytes) < 0) {
        return -ERR_BAD_MESSAGE;
    }
    slice_copy(address, wire.address);
    return raft_members_add(members, wire.id, wire.voter, address) < 0 ? -ERR_BAD_MESSAGE : 0;
}

int raft_members_decode(struct raft_members *out_members, struct slice command)
{
    struct raft_members members = {0};
    struct raft_members_wire wire;
    struct schema_reader reader;

    if (!raft_command_is_members(command) ||
        raft_members_wire_decode(&wire, slice_make(command.data + 1, command.size - 1)) < 0) {
        return -ERR_BAD_MESSAGE;
    }
    reader = schema_reader_make(wire.members);
    while (reader.at != reader.end) {
        struct slice one = schema_read_bytes(&reader, KiB(1));

        if (reader.failed || take_member(&members, one) < 0) {
            return -ERR_BAD_MESSAGE;
        }
    }
    if (raft_members_voters(&members) == 0 || wire.last_id < members.last_id) {
        return -ERR_BAD_MESSAGE;
    }
    members.last_id = wire.last_id;
    *out_members = members;
    return 0;
}
