#pragma once
/* meta_server_proto: what operators' tools ask of a metadata server, beside META_RPC_STATUS. */
#include "base/schema.h"

/* Hand leadership over. Reply: 0 = it is on its way, see the servers' status; -ERR_NOT_LEADER (with
 * the hint), -ERR_BUSY: one is on its way; -EINVAL: not another member; -EHOSTDOWN: not heard of;
 * -EPERM: only for root and the user who runs the server. */
#define META_RPC_TRANSFER 0x0104

/* clang-format off */
#define META_TRANSFER(F)                                    \
    F(u32,   to,          0,                       1)
/* to: the member; 0 = whoever lacks least */
/* clang-format on */

SCHEMA_DEFINE(meta_transfer, META_TRANSFER);
