#include "meta/ns.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/trace_mark.h"
#include "meta/ns_internal.h"

/* ---- the volume ---- */

static void load_volume(struct ns *ns)
{
    struct record_key key = record_key_volume();
    struct record_volume volume;
    struct slice value;

    if (!kv_get(ns->kv, record_slice(&key), &value) || record_volume_decode(&volume, value) < 0 ||
        volume.uuid.size != sizeof(ns->uuid)) {
        return;
    }
    memcpy(ns->uuid, volume.uuid.data, sizeof(ns->uuid));
    volume.uuid = slice_make(ns->uuid, sizeof(ns->uuid));
    ns->volume = volume;
    ns->formatted = true;
}

static void save_volume(struct ns *ns)
{
    struct record_key key = record_key_volume();

    ns->volume.time = max_u64(ns->volume.time, ns->stamp);
    ns->volume.uuid = slice_make(ns->uuid, sizeof(ns->uuid));
    buf_clear(&ns->scratch);
    record_volume_encode(&ns->volume, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

/* data: uuid (16 bytes), salt (16 bytes). The root belongs to root. */
static int volume_format(struct ns *ns)
{
    struct slice data = ns->request->data;
    struct inode root = {.ino = META_ROOT_INO,
                         .r = {.mode = S_IFDIR | 0755,
                               .nlink = 2,
                               .atime = ns->now,
                               .mtime = ns->now,
                               .ctime = ns->now,
                               .btime = ns->now,
                               .parent = META_ROOT_INO}};

    if (ns->formatted) {
        return -EEXIST;
    }
    if (data.size != 32) {
        return -EINVAL;
    }
    memcpy(ns->uuid, data.data, sizeof(ns->uuid));
    ns->volume = (struct record_volume){.version = RECORD_VERSION,
                                        .salt0 = bytes_get_le64(data.data + 16),
                                        .salt1 = bytes_get_le64(data.data + 24),
                                        .next_ino = META_ROOT_INO + 1,
                                        .next_session = 1,
                                        .inodes = 1};
    ns->formatted = true;
    inode_put(ns, &root);
    return 0;
}

/* data: the encoded map; size: its epoch. */
static int set_cluster_map(struct ns *ns)
{
    struct record_key key = record_key_map();

    if (ns->request->size <= ns->volume.map_epoch) {
        return -EEXIST;
    }
    ns->volume.map_epoch = ns->request->size;
    kv_put(ns->kv, record_slice(&key), ns->request->data);
    return 0;
}

static int session_expire(struct ns *ns)
{
    return ns_session_close(ns, ns->request->ino);
}

static int session_close(struct ns *ns)
{
    return ns_session_close(ns, ns->request->session);
}

static int state_check(struct ns *ns)
{
    (void)ns; /* the server compares; the state does not change */
    return 0;
}

/* ---- dispatch ---- */

struct handler {
    int (*run)(struct ns *ns);
    bool sequenced; /* of a session, in its order, exactly once */
};

static const struct handler handlers[META_OP_END] = {
    [META_SESSION_OPEN] = {ns_session_open, false},
    [META_SESSION_CLOSE] = {session_close, false},
    [META_LOOKUP] = {ns_lookup, false},
    [META_GETATTR] = {ns_getattr, false},
    [META_READLINK] = {ns_readlink, false},
    [META_READDIR] = {ns_readdir, false},
    [META_EXTENTS] = {ns_extents, false},
    [META_INODES] = {ns_inodes, false},
    [META_GETXATTR] = {ns_getxattr, false},
    [META_LISTXATTR] = {ns_listxattr, false},
    [META_STATFS] = {ns_statfs, false},
    [META_SETATTR] = {ns_setattr, true},
    [META_CREATE] = {ns_create, true},
    [META_MKDIR] = {ns_mkdir, true},
    [META_MKNOD] = {ns_mknod, true},
    [META_SYMLINK] = {ns_symlink, true},
    [META_LINK] = {ns_link, true},
    [META_UNLINK] = {ns_unlink, true},
    [META_RMDIR] = {ns_rmdir, true},
    [META_RENAME] = {ns_rename, true},
    [META_SETXATTR] = {ns_setxattr, true},
    [META_REMOVEXATTR] = {ns_removexattr, true},
    [META_COMMIT] = {ns_commit, true},
    [META_SETTLE] = {ns_settle, true},
    [META_RESERVE_INOS] = {ns_reserve_inos, true},
    [META_FALLOCATE] = {ns_fallocate, true},
    [META_SEEK] = {ns_seek, false},
    [META_COPY_RANGE] = {ns_copy_range, true},
    [META_TMPFILE] = {ns_tmpfile, true},
    [META_ACCESSED] = {ns_accessed, true},
    [META_LOCK] = {ns_lock, true},
    [META_LOCK_CANCEL] = {ns_lock_cancel, true},
    [META_LOCK_LOCAL] = {ns_lock_local, true},
    [META_LOCK_TEST] = {ns_lock_test, false},
    [META_LOCK_STATE] = {ns_lock_state, false},
    [META_ORPHAN_FREE] = {ns_orphan_free, false},
    [META_SESSION_EXPIRE] = {session_expire, false},
    [META_CHUNKS_DELETED] = {ns_chunks_deleted, false},
    [META_CLUSTER_MAP] = {set_cluster_map, false},
    [META_STATE_CHECK] = {state_check, false},
    [META_VOLUME_FORMAT] = {volume_format, false},
};

static void begin(struct ns *ns, const struct meta_request *request, uint64_t index)
{
    ns->request = request;
    ns->stamp = max_u64(request->stamp_time, ns->volume.time);
    ns->now = (request->flags & META_CLIENT_TIME) != 0 ? request->ctime : ns->stamp;
    ns->reply = (struct meta_reply){.index = index};
    arena_reset(&ns->arena);
    buf_clear(&ns->attr);
    buf_clear(&ns->data);
    buf_clear(&ns->extents);
    buf_clear(&ns->granted);
}

static void run(struct ns *ns)
{
    const struct handler *handler = &handlers[ns->request->op];
    int r = -EINVAL;

    if (ns->formatted || ns->request->op == META_VOLUME_FORMAT) {
        r = handler->run(ns);
    }
    if (r < 0) {
        ns->reply = (struct meta_reply){.index = ns->reply.index, .error = (uint32_t)-r};
        buf_clear(&ns->attr);
        buf_clear(&ns->data);
        buf_clear(&ns->extents);
    }
    ns->reply.attr = buf_slice(&ns->attr);
    ns->reply.data = buf_slice(&ns->data);
    ns->reply.extents = buf_slice(&ns->extents);
}

static const struct meta_reply *refuse(struct ns *ns, int code)
{
    ns->reply = (struct meta_reply){.index = ns->reply.index, .error = (uint32_t)-code};
    return &ns->reply;
}

/* ---- exactly once ---- */

/* The reply that was given before. */
static const struct meta_reply *repeat(struct ns *ns)
{
    struct record_key key = record_key_reply(ns->request->session, ns->request->seq);
    struct slice value;

    if (!kv_get(ns->kv, record_slice(&key), &value)) {
        TRACE_MARK("resent although its answer was known");
        return refuse(ns, -EALREADY); /* below the low water: the client has said it knows */
    }
    buf_clear(&ns->stored);
    TRACE_MARK("a resent operation is answered as before");
    buf_append_slice(&ns->stored, value);
    if (meta_reply_decode(&ns->reply, buf_slice(&ns->stored)) < 0) {
        return refuse(ns, -ERR_CORRUPT);
    }
    return &ns->reply;
}

/* Keeps the reply, forgets those that the client has, and moves the session on. */
static void remember(struct ns *ns, struct record_session *session)
{
    const struct meta_request *request = ns->request;
    uint64_t least = request->seq > META_REPLIES_MAX ? request->seq - META_REPLIES_MAX : 0;
    uint64_t low = max_u64(least, min_u64(request->low_water, request->seq));
    struct record_key key = record_key_reply(request->session, request->seq);

    buf_clear(&ns->scratch);
    meta_reply_encode(&ns->reply, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
    for (uint64_t seq = session->low_water; seq < low; seq++) {
        key = record_key_reply(request->session, seq);
        kv_del(ns->kv, record_slice(&key));
    }
    session->last_seq = request->seq;
    session->low_water = max_u64(session->low_water, low);
    session->chunk_low = max_u64(session->chunk_low, request->chunk_low);
    key = record_key_session(request->session);
    buf_clear(&ns->scratch);
    record_session_encode(session, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

static const struct meta_reply *apply_sequenced(struct ns *ns)
{
    const struct meta_request *request = ns->request;
    struct record_session session;

    if (!ns_get_session(ns, request->session, &session)) {
        TRACE_MARK("an operation of a session that is gone");
        return refuse(ns, -ERR_SESSION_EXPIRED);
    }
    if (request->seq <= session.last_seq) {
        return repeat(ns);
    }
    if (request->seq != session.last_seq + 1) {
        TRACE_MARK("an operation before its turn");
        return refuse(ns, -ERR_SEQUENCE_GAP);
    }
    ns->session = &session;
    run(ns);
    ns->session = NULL;
    remember(ns, &session);
    save_volume(ns);
    return &ns->reply;
}

/* ---- public ---- */

void ns_init(struct ns *ns, struct kv *kv)
{
    *ns = (struct ns){.kv = kv};
    load_volume(ns);
}

void ns_deinit(struct ns *ns)
{
    arena_deinit(&ns->arena);
    buf_deinit(&ns->attr);
    buf_deinit(&ns->data);
    buf_deinit(&ns->extents);
    buf_deinit(&ns->granted);
    buf_deinit(&ns->scratch);
    buf_deinit(&ns->stored);
}

const struct meta_reply *ns_apply(struct ns *ns, const struct meta_request *request, uint64_t index)
{
    begin(ns, request, index);
    if (!meta_op_mutates(request->op)) {
        return refuse(ns, -EINVAL);
    }
    if (handlers[request->op].sequenced) {
        return apply_sequenced(ns);
    }
    run(ns);
    if (ns->formatted) {
        save_volume(ns);
    }
    return &ns->reply;
}

const struct meta_reply *ns_read(struct ns *ns, const struct meta_request *request, uint64_t index)
{
    begin(ns, request, index);
    if (request->op >= META_OP_END || meta_op_mutates(request->op) ||
        handlers[request->op].run == NULL) {
        return refuse(ns, -EINVAL);
    }
    run(ns);
    return &ns->reply;
}

bool ns_op_sequenced(unsigned op)
{
    return op < META_OP_END && handlers[op].sequenced;
}
