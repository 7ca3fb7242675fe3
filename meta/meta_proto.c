#include "meta/meta_proto.h"

SCHEMA_IMPLEMENT(meta_request, META_REQUEST)
SCHEMA_IMPLEMENT(meta_attr, META_ATTR)
SCHEMA_IMPLEMENT(meta_reply, META_REPLY)
SCHEMA_IMPLEMENT(meta_extent, META_EXTENT)
SCHEMA_IMPLEMENT(meta_settle, META_SETTLE_RECORD)
SCHEMA_IMPLEMENT(meta_dirent, META_DIRENT)
SCHEMA_IMPLEMENT(meta_file, META_FILE_RECORD)
SCHEMA_IMPLEMENT(meta_commit, META_COMMIT_RECORD)
SCHEMA_IMPLEMENT(meta_commit_result, META_COMMIT_RESULT)
SCHEMA_IMPLEMENT(meta_lock, META_LOCK_RECORD)
SCHEMA_IMPLEMENT(meta_statfs, META_STATFS_RECORD)
SCHEMA_IMPLEMENT(meta_status, META_STATUS)
SCHEMA_IMPLEMENT(meta_status_member, META_STATUS_MEMBER)
SCHEMA_IMPLEMENT(meta_status_server, META_STATUS_SERVER)

static const struct {
    const char *name;
    bool mutates;
} op_table[META_OP_END] = {[META_OP_NONE] = {"NONE", false},
#define META_OP_ROW(name, mutates) [META_##name] = {#name, mutates},
                           META_OPS(META_OP_ROW)
#undef META_OP_ROW
};

const char *meta_op_name(unsigned op)
{
    return op < META_OP_END ? op_table[op].name : "?";
}

bool meta_op_mutates(unsigned op)
{
    return op < META_OP_END && op_table[op].mutates;
}
