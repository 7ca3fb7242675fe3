/*
 * ns_lock: advisory locks in the state: one table for each file that has any (meta/lock_table.h),
 * beside it which files a session has locks of, and what each owner waits for. So they outlive a
 * leader, and go with their session.
 *
 * A mount that is alone grants locks itself: its session says so first (LOCK_LOCAL), and until it
 * has told all of them, or is gone, nobody else gets any.
 */
#include "meta/ns_internal.h"

#include "base/bytes.h"
#include "base/trace_mark.h"
#include "meta/lock_table.h"

struct ns_graph {
    struct lock_graph graph;
    struct ns *ns;
    struct lock_table table; /* of the last answer */
};

/* ---- records ---- */

static bool load_table(struct ns *ns, uint64_t ino, struct lock_table *table)
{
    struct record_key key = record_key_locks(ino);
    struct slice value;

    table->count = 0;
    return kv_get(ns->kv, record_slice(&key), &value) && lock_table_decode(table, value) == 0;
}

static void save_table(struct ns *ns, uint64_t ino, const struct lock_table *table)
{
    struct record_key key = record_key_locks(ino);

    if (table->count == 0) {
        kv_del(ns->kv, record_slice(&key));
        return;
    }
    buf_clear(&ns->scratch);
    lock_table_encode(table, &ns->scratch);
    kv_put(ns->kv, record_slice(&key), buf_slice(&ns->scratch));
}

/* Notes whether the session of the request has a part in the table. */
static void save_locked(struct ns *ns, uint64_t ino, const struct lock_table *table)
{
    struct record_key key = record_key_locked(ns->request->session, ino);
    struct slice value;
    bool was = kv_get(ns->kv, record_slice(&key), &value);
    bool is = lock_table_has_session(table, ns->request->session);

    if (is && !was) {
        kv_put(ns->kv, record_slice(&key), (struct slice){0});
        ns->session->locked++;
    } else if (was && !is) {
        kv_del(ns->kv, record_slice(&key));
        ns->session->locked--;
    }
}

static void put_wait(struct ns *ns, const struct meta_lock *lock, uint64_t ino)
{
    struct record_key key = record_key_lock_wait(lock->session, lock->owner, lock->ticket);
    uint8_t bytes[8];

    bytes_put_le64(bytes, ino);
    kv_put(ns->kv, record_slice(&key), slice_make(bytes, sizeof(bytes)));
}

static void drop_wait(struct ns *ns, const struct meta_lock *lock)
{
    struct record_key key = record_key_lock_wait(lock->session, lock->owner, lock->ticket);

    kv_del(ns->kv, record_slice(&key));
}

/* *io_cursor: behind the ticket of the last answer. */
static bool next_wait(struct lock_graph *graph, uint64_t session, uint64_t owner,
                      uint64_t *io_cursor, struct meta_lock *out_wait,
                      const struct lock_table **out_table)
{
    struct ns_graph *of = container_of(graph, struct ns_graph, graph);
    struct record_key from = record_key_lock_wait(session, owner, *io_cursor);
    const struct meta_lock *wait;
    struct slice key, value;

    if (!kv_seek(of->ns->kv, record_slice(&from), &key, &value) ||
        !record_key_same_group(key, 'W', session) || record_key_number(key, 1) != owner ||
        value.size != 8) {
        return false;
    }
    *io_cursor = record_key_number(key, 2) + 1;
    if (!load_table(of->ns, bytes_get_le64(value.data), &of->table)) {
        return false;
    }
    wait = lock_table_waiter(&of->table, *io_cursor - 1);
    if (wait == NULL) {
        return false;
    }
    *out_wait = *wait;
    *out_table = &of->table;
    return true;
}

/* ---- granting ---- */

static void on_granted(void *data, const struct meta_lock *lock)
{
    struct ns *ns = data;
    uint8_t bytes[8];

    TRACE_MARK("a lock that was waited for is granted");
    drop_wait(ns, lock);
    bytes_put_le64(bytes, lock->session);
    buf_append(&ns->granted, bytes, sizeof(bytes));
}

static void grant_and_save(struct ns *ns, uint64_t ino, struct lock_table *table)
{
    lock_table_grant(table, on_granted, ns);
    save_table(ns, ino, table);
}

/* ---- the operations ---- */

static int lock_of(const struct ns *ns, struct meta_lock *out_lock)
{
    const struct meta_request *request = ns->request;

    if (request->mode > META_LOCK_WRITE || request->offset > request->offset2) {
        return -EINVAL;
    }
    *out_lock = (struct meta_lock){
        .session = request->session,
        .owner = request->ino2,
        .from = request->offset,
        .to = request->offset2,
        .ticket = ns->reply.index,
        .pid = request->count,
        .flock = (request->flags & META_LOCK_FLOCK) != 0,
        .type = (uint8_t)request->mode,
    };
    return 0;
}

/* Is a mount that granted locks itself still to tell them? */
static int check_told(struct ns *ns)
{
    struct record_session session = {0};

    if (ns->volume.local_locks == 0 ||
        (ns_get_session(ns, ns->request->session, &session) && session.local_locks)) {
        return 0;
    }
    TRACE_MARK("a lock waits for a mount that granted some itself");
    return -ERR_BUSY;
}

static int check_lock(struct ns *ns, const struct meta_lock *want)
{
    struct record_key key = record_key_locked(want->session, ns->request->ino);
    struct slice value;
    int r = want->type == META_LOCK_NONE || ns->session->local_locks ? 0 : check_told(ns);

    if (r < 0 || want->type == META_LOCK_NONE) {
        return r;
    }
    if (ns->session->locked >= META_LOCKED_FILES_MAX &&
        !kv_get(ns->kv, record_slice(&key), &value)) {
        return -ENOLCK;
    }
    return 0;
}

static void reply_attr_of(struct ns *ns, uint64_t ino)
{
    struct inode inode = {0};

    if (inode_get(ns, ino, &inode) == 0) {
        reply_attr(ns, &inode);
    }
}

int ns_lock(struct ns *ns)
{
    uint64_t ino = ns->request->ino;
    struct ns_graph graph = {.graph = {next_wait}, .ns = ns};
    struct lock_table table = {0};
    struct meta_lock want;
    struct inode inode = {0};
    int r = lock_of(ns, &want);

    if (r == 0 && want.type != META_LOCK_NONE) {
        r = inode_get(ns, ino, &inode);
    }
    if (r == 0) {
        r = check_lock(ns, &want);
    }
    if (r < 0) {
        return r;
    }
    load_table(ns, ino, &table);
    r = lock_table_request(&table, &want, (ns->request->flags & META_LOCK_WAIT) != 0, &graph.graph);
    if (r == LOCK_WAITS) {
        put_wait(ns, &want, ino);
        ns->reply.value = 1;
        ns->reply.value2 = want.ticket;
    }
    if (r >= 0) {
        grant_and_save(ns, ino, &table);
        save_locked(ns, ino, &table);
        ns->reply.flags |= META_UNCHANGED;
        reply_attr_of(ns, ino);
    }
    lock_table_deinit(&table);
    lock_table_deinit(&graph.table);
    return r < 0 ? r : 0;
}

int ns_lock_cancel(struct ns *ns)
{
    uint64_t ino = ns->request->ino;
    struct lock_table table = {0};
    const struct meta_lock *waiter;

    load_table(ns, ino, &table);
    waiter = lock_table_waiter(&table, ns->request->size);
    if (waiter != NULL && waiter->session == ns->request->session) {
        drop_wait(ns, waiter);
        lock_table_cancel(&table, ns->request->size);
        grant_and_save(ns, ino, &table);
        save_locked(ns, ino, &table);
        ns->reply.value = 1;
    }
    lock_table_deinit(&table);
    return 0;
}

int ns_lock_local(struct ns *ns)
{
    bool on = ns->request->count != 0;

    if (on && ns->volume.sessions != 1) {
        return -EAGAIN;
    }
    if (on != ns->session->local_locks) {
        ns->session->local_locks = on;
        ns->volume.local_locks += on ? 1U : UINT32_MAX;
    }
    return 0;
}

int ns_lock_test(struct ns *ns)
{
    const struct meta_lock *holder;
    struct lock_table table = {0};
    struct meta_lock want;
    int r = lock_of(ns, &want);

    if (r == 0) {
        r = check_told(ns);
    }
    if (r < 0) {
        return r;
    }
    load_table(ns, ns->request->ino, &table);
    holder = lock_table_holder(&table, &want);
    if (holder != NULL) {
        meta_lock_encode(holder, &ns->data);
    }
    lock_table_deinit(&table);
    return 0;
}

int ns_lock_state(struct ns *ns)
{
    struct record_session session = {0};
    struct lock_table table = {0};

    if (!ns_get_session(ns, ns->request->session, &session)) {
        return -ERR_SESSION_EXPIRED; /* not in line for another reason than its turn */
    }
    load_table(ns, ns->request->ino, &table);
    ns->reply.value = lock_table_waiter(&table, ns->request->size) != NULL ? 1 : 0;
    reply_attr_of(ns, ns->request->ino);
    lock_table_deinit(&table);
    return 0;
}

/* ---- the end of a session ---- */

static void drop_waits(struct ns *ns, uint64_t session)
{
    struct record_key from = record_key_lock_wait(session, 0, 0);
    struct slice key, value;

    while (kv_seek(ns->kv, record_slice(&from), &key, &value) &&
           record_key_same_group(key, 'W', session)) {
        struct record_key wait =
            record_key_lock_wait(session, record_key_number(key, 1), record_key_number(key, 2));

        kv_del(ns->kv, record_slice(&wait));
    }
}

void locks_end(struct ns *ns, uint64_t session, const struct record_session *record)
{
    struct record_key from = record_key_locked(session, 0);
    struct lock_table table = {0};
    struct slice key, value;

    ns->volume.local_locks -= record->local_locks ? 1 : 0;
    drop_waits(ns, session);
    while (kv_seek(ns->kv, record_slice(&from), &key, &value) &&
           record_key_same_group(key, 'K', session)) {
        uint64_t ino = record_key_number(key, 1);
        struct record_key locked = record_key_locked(session, ino);

        kv_del(ns->kv, record_slice(&locked));
        load_table(ns, ino, &table);
        lock_table_drop_session(&table, session);
        grant_and_save(ns, ino, &table);
    }
    lock_table_deinit(&table);
}
