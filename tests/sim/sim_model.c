/*
 * The namespace: names, links, sizes, sessions. Each operation is checked as POSIX says, then done
 * to plain structs. An inode whose last name is gone is kept until it is known to be freed; between
 * these two both answers are right (`going`).
 */
#include "tests/sim/sim_model.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"

#include <errno.h>

struct model_inode *model_inode(const struct model *model, uint64_t ino)
{
    return map_get(&model->inodes, map_u64(ino));
}

struct model_session *model_session(const struct model *model, uint64_t id)
{
    return map_get(&model->sessions, map_u64(id));
}

struct model_entry *model_entry(const struct model_inode *dir, struct slice name)
{
    for (size_t i = 0; i < dir->entry_count; i++) {
        if (slice_equal(slice_text(dir->entries[i].name), name)) {
            return &dir->entries[i];
        }
    }
    return NULL;
}

static void entry_add(const struct model *model, struct model_inode *dir, struct slice name,
                      uint64_t ino)
{
    struct model_entry *entry;

    ASSERT(name.size < MODEL_NAME_MAX);
    dir->entries = mem_realloc(dir->entries, (dir->entry_count + 1) * sizeof(*dir->entries));
    dir->changed = model->index;
    entry = &dir->entries[dir->entry_count++];
    *entry = (struct model_entry){.ino = ino};
    memcpy(entry->name, name.data, name.size);
}

static void entry_remove(const struct model *model, struct model_inode *dir,
                         struct model_entry *entry)
{
    dir->changed = model->index;
    *entry = dir->entries[--dir->entry_count];
}

static struct model_answer fail(int error)
{
    return (struct model_answer){.error = error};
}

static struct model_answer broken(const char *why)
{
    return (struct model_answer){.broken = why};
}

/* It is what the operation changes. */
static struct model_answer changed(const struct model *model, struct model_inode *inode)
{
    inode->changed = model->index;
    return (struct model_answer){.has_attr = true, .inode = inode};
}

static struct model_answer with_attr(struct model_inode *inode)
{
    return (struct model_answer){.has_attr = true, .inode = inode};
}

static uint64_t ino_of(const struct meta_reply *reply)
{
    struct meta_attr attr;

    return reply->attr.size > 0 && meta_attr_decode(&attr, reply->attr) == 0 ? attr.ino : 0;
}

static unsigned slot_of(const struct model *model, const struct meta_request *request)
{
    const struct model_session *session = model_session(model, request->session);

    return session != NULL ? session->slot : MODEL_SLOTS;
}

/* A directory that names are looked up in: its errno, 0 = fine. */
static int dir_error(const struct model_inode *dir)
{
    return dir == NULL ? ESTALE : !S_ISDIR(dir->mode) ? ENOTDIR : 0;
}

/* ---- making ---- */

static struct model_answer make_new(struct model *model, const struct meta_request *request,
                                    const struct meta_reply *reply, uint32_t mode)
{
    struct model_inode *dir = model_inode(model, request->ino);
    struct model_inode *inode;
    uint64_t ino = ino_of(reply);

    if (dir->nlink == 0) {
        return fail(ENOENT);
    }
    if (reply->error != 0) {
        return (struct model_answer){0}; /* differs: the caller says so */
    }
    if (ino == 0 || model_inode(model, ino) != NULL) {
        return broken("a new inode has a number that was used before");
    }
    inode = mem_zalloc(sizeof(*inode));
    inode->ino = ino;
    inode->mode = mode;
    inode->nlink = S_ISDIR(mode) ? 2 : 1;
    inode->uid = request->uid;
    inode->gid = request->gid;
    inode->parent = S_ISDIR(mode) ? dir->ino : 0;
    map_put(&model->inodes, map_u64(ino), inode);
    if (S_ISLNK(mode)) {
        inode->target = mem_zalloc(request->data.size + 1);
        memcpy(inode->target, request->data.data, request->data.size);
        inode->size = request->data.size;
    }
    entry_add(model, dir, request->name, ino);
    dir->nlink += S_ISDIR(mode) ? 1 : 0;
    return changed(model, inode);
}

static struct model_answer do_make(struct model *model, const struct meta_request *request,
                                   const struct meta_reply *reply, uint32_t type)
{
    struct model_inode *dir = model_inode(model, request->ino);
    int error = dir_error(dir);
    struct model_entry *entry;
    struct model_inode *there;
    uint32_t bits = S_ISLNK(type) ? 0777 : request->mode & 07777;

    if (error != 0) {
        return fail(error);
    }
    entry = model_entry(dir, request->name);
    if (entry == NULL) {
        return make_new(model, request, reply, type | bits);
    }
    if (request->op != META_CREATE || (request->flags & META_NOREPLACE) != 0) {
        return fail(EEXIST);
    }
    there = model_inode(model, entry->ino);
    if (S_ISDIR(there->mode) || S_ISLNK(there->mode)) {
        return fail(S_ISDIR(there->mode) ? EISDIR : ELOOP);
    }
    if ((request->flags & META_TRUNCATE) != 0 && S_ISREG(there->mode)) {
        model_truncate(model, there, 0, slot_of(model, request));
    }
    return with_attr(there);
}

static struct model_answer do_link(struct model *model, const struct meta_request *request)
{
    struct model_inode *inode = model_inode(model, request->ino2);
    struct model_inode *dir = model_inode(model, request->ino);
    int error = inode == NULL ? ESTALE : dir_error(dir);

    if (error == 0 && model_entry(dir, request->name) != NULL) {
        error = EEXIST;
    }
    if (error == 0 && dir->nlink == 0) {
        error = ENOENT;
    }
    if (error == 0 && S_ISDIR(inode->mode)) {
        error = EPERM;
    }
    if (error == 0 && inode->nlink == 0 && !inode->linkable) {
        error = ENOENT;
    }
    if (error != 0) {
        return fail(error);
    }
    inode->linkable = false;
    inode->nlink++;
    entry_add(model, dir, request->name, inode->ino);
    return changed(model, inode);
}

/* ---- removing ---- */

static void drop_link(const struct meta_request *request, struct model_inode *inode)
{
    bool at_once =
        (request->flags & META_SOLE_SESSION) != 0 && (request->flags & META_STILL_OPEN) == 0;

    inode->nlink = S_ISDIR(inode->mode) ? 0 : inode->nlink - 1;
    inode->going = inode->nlink == 0 && at_once;
}

static struct model_answer do_remove(struct model *model, const struct meta_request *request)
{
    struct model_inode *dir = model_inode(model, request->ino);
    bool rmdir = request->op == META_RMDIR;
    int error = dir_error(dir);
    struct model_entry *entry = error == 0 ? model_entry(dir, request->name) : NULL;
    struct model_inode *victim;

    if (error != 0 || entry == NULL) {
        return fail(error != 0 ? error : ENOENT);
    }
    victim = model_inode(model, entry->ino);
    if (rmdir != !!S_ISDIR(victim->mode)) {
        return fail(rmdir ? ENOTDIR : EISDIR);
    }
    if (rmdir && victim->entry_count != 0) {
        return fail(ENOTEMPTY);
    }
    entry_remove(model, dir, entry);
    dir->nlink -= rmdir ? 1 : 0;
    drop_link(request, victim);
    return changed(model, victim);
}

/* ---- rename ---- */

static bool is_below(const struct model *model, const struct model_inode *dir, uint64_t top)
{
    while (dir->ino != top && dir->ino != META_ROOT_INO) {
        dir = model_inode(model, dir->parent);
    }
    return dir->ino == top;
}

static int rename_error(const struct model *model, const struct meta_request *request,
                        const struct model_inode *from_dir, const struct model_inode *to_dir)
{
    const struct model_entry *from = model_entry(from_dir, request->name);
    const struct model_entry *to = model_entry(to_dir, request->name2);
    bool exchange = (request->flags & META_EXCHANGE) != 0;
    const struct model_inode *moved, *victim;

    if (from == NULL) {
        return ENOENT;
    }
    if (to != NULL && (request->flags & META_NOREPLACE) != 0) {
        return EEXIST;
    }
    if (to == NULL && exchange) {
        return ENOENT;
    }
    moved = model_inode(model, from->ino);
    victim = to != NULL ? model_inode(model, to->ino) : NULL;
    if (moved == victim) {
        return 0;
    }
    if (from_dir != to_dir && S_ISDIR(moved->mode) && is_below(model, to_dir, moved->ino)) {
        return EINVAL;
    }
    if (from_dir != to_dir && victim != NULL && S_ISDIR(victim->mode) &&
        is_below(model, from_dir, victim->ino)) {
        return exchange ? EINVAL : ENOTEMPTY;
    }
    if (to_dir->nlink == 0) {
        return ENOENT;
    }
    if (victim == NULL || exchange) {
        return 0;
    }
    if (!!S_ISDIR(moved->mode) != !!S_ISDIR(victim->mode)) {
        return S_ISDIR(moved->mode) ? ENOTDIR : EISDIR;
    }
    return S_ISDIR(victim->mode) && victim->entry_count != 0 ? ENOTEMPTY : 0;
}

static void swap_parents(struct model_inode *from_dir, struct model_inode *to_dir,
                         struct model_inode *moved)
{
    if (S_ISDIR(moved->mode)) {
        from_dir->nlink--;
        to_dir->nlink++;
        moved->parent = to_dir->ino;
    }
}

static struct model_answer do_rename(struct model *model, const struct meta_request *request)
{
    struct model_inode *from_dir = model_inode(model, request->ino);
    struct model_inode *to_dir = model_inode(model, request->ino2);
    int error = dir_error(from_dir) != 0 ? dir_error(from_dir) : dir_error(to_dir);
    struct model_inode *moved, *victim;
    struct model_entry *to;
    struct model_answer answer;

    error = error != 0 ? error : rename_error(model, request, from_dir, to_dir);
    if (error != 0) {
        return fail(error);
    }
    moved = model_inode(model, model_entry(from_dir, request->name)->ino);
    to = model_entry(to_dir, request->name2);
    victim = to != NULL ? model_inode(model, to->ino) : NULL;
    answer = with_attr(moved);
    answer.has_value = moved != victim;
    answer.value = victim != NULL ? victim->ino : 0;
    if (moved == victim) {
        return answer;
    }
    moved->changed = from_dir->changed = to_dir->changed = model->index;
    if (victim != NULL) {
        victim->changed = model->index;
    }
    if (victim != NULL && (request->flags & META_EXCHANGE) != 0) {
        to->ino = moved->ino;
        model_entry(from_dir, request->name)->ino = victim->ino;
        swap_parents(from_dir, to_dir, moved);
        swap_parents(to_dir, from_dir, victim);
        return answer;
    }
    if (victim != NULL) {
        to->ino = moved->ino;
        to_dir->nlink -= S_ISDIR(victim->mode) ? 1 : 0;
        drop_link(request, victim);
    } else {
        entry_add(model, to_dir, request->name2, moved->ino);
    }
    entry_remove(model, from_dir, model_entry(from_dir, request->name));
    swap_parents(from_dir, to_dir, moved);
    return answer;
}

/* ---- attributes, contents ---- */

static struct model_answer do_setattr(struct model *model, const struct meta_request *request)
{
    struct model_inode *inode = model_inode(model, request->ino);

    if (inode == NULL) {
        return fail(ESTALE);
    }
    if ((request->valid & META_SET_SIZE) != 0 && !S_ISREG(inode->mode)) {
        return fail(S_ISDIR(inode->mode) ? EISDIR : EINVAL);
    }
    if ((request->valid & META_SET_SIZE) != 0) {
        model_truncate(model, inode, request->size, slot_of(model, request));
    }
    inode->uid = (request->valid & META_SET_UID) != 0 ? request->new_uid : inode->uid;
    inode->gid = (request->valid & META_SET_GID) != 0 ? request->new_gid : inode->gid;
    if ((request->valid & META_SET_MODE) != 0) {
        inode->mode = (inode->mode & S_IFMT) | (request->mode & 07777);
    }
    return changed(model, inode);
}

/* ---- sessions, the leader's own ---- */

static struct model_answer session_open(struct model *model, const struct meta_reply *reply)
{
    struct model_session *session = model_session(model, reply->value);

    if (session != NULL && !session->open) {
        return broken("a session number is given out twice");
    }
    if (session == NULL) {
        session = mem_zalloc(sizeof(*session));
        session->id = reply->value;
        session->slot = MODEL_SLOTS;
        session->open = true;
        map_put(&model->sessions, map_u64(session->id), session);
        model->open_sessions++;
    }
    return (struct model_answer){0};
}

static struct model_answer session_close(struct model *model, uint64_t id)
{
    struct model_session *session = model_session(model, id);

    if (session != NULL && session->open) {
        session->open = false;
        model->open_sessions--;
    }
    return (struct model_answer){0};
}

static struct model_answer orphan_free(struct model *model, const struct meta_request *request)
{
    for (size_t i = 0; i + 8 <= request->data.size; i += 8) {
        struct model_inode *inode = model_inode(model, bytes_get_le64(request->data.data + i));

        if (inode != NULL && inode->nlink == 0) {
            inode->going = true;
        }
    }
    return (struct model_answer){0};
}

static struct model_answer format(struct model *model, const struct meta_reply *reply)
{
    struct model_inode *root;

    if (reply->error != 0 || model_inode(model, META_ROOT_INO) != NULL) {
        return fail(EEXIST);
    }
    root = mem_zalloc(sizeof(*root));
    root->ino = root->parent = META_ROOT_INO;
    root->mode = S_IFDIR | 0755;
    root->nlink = 2;
    map_put(&model->inodes, map_u64(root->ino), root);
    return (struct model_answer){0};
}

/* The reply says that an inode is gone which may be: both answers are right. */
static bool may_be_stale(const struct model *model, const struct meta_request *request,
                         const struct meta_reply *reply)
{
    const struct model_inode *inode = model_inode(model, request->ino);
    const struct model_inode *inode2 = model_inode(model, request->ino2);

    return reply->error == ESTALE &&
           ((inode != NULL && inode->going) || (inode2 != NULL && inode2->going));
}

static struct model_answer run(struct model *model, const struct meta_request *request,
                               const struct meta_reply *reply)
{
    if (may_be_stale(model, request, reply)) {
        return fail(ESTALE);
    }
    switch (request->op) {
    case META_CREATE:
        return do_make(model, request, reply, S_IFREG);
    case META_MKDIR:
        return do_make(model, request, reply, S_IFDIR);
    case META_SYMLINK:
        return do_make(model, request, reply, S_IFLNK);
    case META_MKNOD:
        return do_make(model, request, reply, request->mode & S_IFMT);
    case META_LINK:
        return do_link(model, request);
    case META_UNLINK:
    case META_RMDIR:
        return do_remove(model, request);
    case META_RENAME:
        return do_rename(model, request);
    case META_SETATTR:
        return do_setattr(model, request);
    case META_FALLOCATE:
        return model_fallocate(model, request, reply, slot_of(model, request));
    case META_COPY_RANGE:
        return model_copy_range(model, request, reply, slot_of(model, request));
    case META_TMPFILE:
        return model_tmpfile(model, request, reply);
    case META_COMMIT:
        return model_commits(model, request, reply, slot_of(model, request));
    case META_SETTLE:
        return model_settles(model, request, reply);
    case META_LOCK: /* what it says of the file; who gets it: sim_lock.c */
        return reply->error == 0 && request->mode != META_LOCK_NONE
                   ? with_attr(model_inode(model, request->ino))
                   : (struct model_answer){.error = (int)reply->error};
    case META_SESSION_OPEN:
        return session_open(model, reply);
    case META_SESSION_CLOSE:
        return session_close(model, request->session);
    case META_SESSION_EXPIRE:
        return session_close(model, request->ino);
    case META_ORPHAN_FREE:
        return orphan_free(model, request);
    case META_VOLUME_FORMAT:
        return format(model, reply);
    default: /* answered as the server likes */
        return (struct model_answer){.error = (int)reply->error};
    }
}

static bool is_sequenced(unsigned op)
{
    return (op >= META_SETATTR && op <= META_COMMIT) || op == META_RESERVE_INOS ||
           op == META_SETTLE || op == META_FALLOCATE || op == META_COPY_RANGE ||
           op == META_TMPFILE || op == META_LOCK || op == META_LOCK_CANCEL ||
           op == META_LOCK_LOCAL || op == META_ACCESSED;
}

/* Executed before: the same answer, no effect. */
static struct model_answer repeated(const struct model_session *session,
                                    const struct meta_request *request,
                                    const struct meta_reply *reply)
{
    if (reply->error == EALREADY) {
        return fail(EALREADY);
    }
    if (reply->index != session->indexes[request->seq]) {
        return broken("a resent operation is not answered by its first execution");
    }
    return (struct model_answer){.error = (int)reply->error};
}

struct model_answer model_apply(struct model *model, const struct meta_request *request,
                                const struct meta_reply *reply, uint64_t index)
{
    struct model_session *session = model_session(model, request->session);

    model->index = index;
    model->session = request->session;
    model->writer = session != NULL ? session->incarnation : 0;
    if (!is_sequenced(request->op)) {
        return run(model, request, reply);
    }
    if (session == NULL || !session->open) {
        return fail(ERR_SESSION_EXPIRED);
    }
    if (request->seq <= session->last_seq) {
        return repeated(session, request, reply);
    }
    if (request->seq != session->last_seq + 1) {
        return fail(ERR_SEQUENCE_GAP);
    }
    session->last_seq = request->seq;
    session->indexes =
        mem_realloc(session->indexes, (request->seq + 1) * sizeof(*session->indexes));
    session->indexes[request->seq] = index;
    return run(model, request, reply);
}

/* ---- reads ---- */

struct model_answer model_read(struct model *model, const struct meta_request *request,
                               const struct meta_reply *reply)
{
    struct model_inode *inode = model_inode(model, request->ino);
    struct model_entry *entry;

    if (inode == NULL || may_be_stale(model, request, reply)) {
        return fail(ESTALE);
    }
    if (request->op == META_SEEK) {
        return model_seek(model, request, reply);
    }
    if (request->op != META_LOOKUP) {
        return with_attr(inode);
    }
    if (!S_ISDIR(inode->mode)) {
        return fail(ENOTDIR);
    }
    entry = model_entry(inode, request->name);
    if (entry == NULL) {
        return fail(ENOENT);
    }
    return with_attr(model_inode(model, entry->ino));
}

void model_init(struct model *model, unsigned write_quorum)
{
    *model = (struct model){.write_quorum = write_quorum};
}

void model_deinit(struct model *model)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&model->inodes, &at)) != NULL) {
        model_inode_free(slot->value);
    }
    for (at = 0; (slot = map_next(&model->sessions, &at)) != NULL;) {
        struct model_session *session = slot->value;

        mem_free(session->indexes);
        mem_free(session);
    }
    for (at = 0; (slot = map_next(&model->chunks, &at)) != NULL;) {
        struct model_chunk *chunk = slot->value;

        mem_free(chunk->cells);
        mem_free(chunk);
    }
    model_appends_free(model);
    map_deinit(&model->inodes);
    map_deinit(&model->sessions);
    map_deinit(&model->chunks);
}
