#pragma once
/* meta_server_proto: what metadata servers say to each other besides Raft, and what tools ask of
 * them beside META_RPC_STATUS. */
#include "base/schema.h"

/* Hand leadership over. Reply: 0 = it is on its way, see the servers' status; -ERR_NOT_LEADER (with
 * the hint), -ERR_BUSY: one is on its way; -EINVAL: not another member; -EHOSTDOWN: not heard of;
 * -EPERM: only for root and the user who runs the server. */
#define META_RPC_TRANSFER 0x0104

/* A change of the metadata group, for the same people; answered when it is committed. -EAGAIN: the
 * learner has not caught up yet; -ERR_BUSY: another change is under way; -EDEADLK: not the leader
 * itself; -ERR_NO_QUORUM: the others could not go on; -EEXIST: the number was used before. */
#define META_RPC_MEMBER 0x0105

/* One way, from each member to the leader: the hash of its state behind the STATE_CHECK at `index`
 * of the log (meta_server_check.c). */
#define META_RPC_STATE_REPORT 0x0106

enum meta_member_op {
    META_MEMBER_ADD = 1, /* as a learner, at `address` */
    META_MEMBER_PROMOTE,
    META_MEMBER_REMOVE,
};

/* clang-format off */
#define META_TRANSFER(F)                                    \
    F(u32,   to,          0,                       1)
/* to: the member; 0 = whoever lacks least */

#define META_MEMBER_REQUEST(F)                              \
    F(u8,    op,          0,                       1)       \
    F(u32,   id,          0,                       1)       \
    F(bytes, address,     255,                     1)

#define META_STATE_REPORT(F)                                \
    F(u64,   index,       0,                       1)       \
    F(u64,   hash,        0,                       1)
/* clang-format on */

SCHEMA_DEFINE(meta_transfer, META_TRANSFER);
SCHEMA_DEFINE(meta_member_request, META_MEMBER_REQUEST);
SCHEMA_DEFINE(meta_state_report, META_STATE_REPORT);
