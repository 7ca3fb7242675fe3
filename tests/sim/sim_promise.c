/*
 * Promises: what a mount that is alone answers by itself is what the log says once everything that
 * the mount has sent before is applied. An answer is kept until then. When another session's
 * operation got in between, the mount was no longer alone, and nothing is checked.
 */
#include "tests/sim/sim_world.h"

#include "base/list.h"
#include "base/mem.h"
#include "fs/mount.h"

#include <errno.h>
#include <inttypes.h>

struct promise {
    struct list_node node;
    uint64_t session, seq; /* of the last mutation before it */
    uint64_t foreign;      /* operations of others at that time */
    int error;
    uint64_t dir; /* LOOKUP; 0 = GETATTR */
    char name[MODEL_NAME_MAX];
    struct meta_attr attr;
};

static struct {
    struct list promises;
    bool ready;
    uint64_t others[SIM_CLIENTS_MAX + 1]; /* operations of anybody else, by slot */
    uint64_t started[SIM_CLIENTS_MAX + 1];
    uint64_t session[SIM_CLIENTS_MAX + 1];
} state;

static struct list *promises(void)
{
    if (!state.ready) {
        list_init(&state.promises);
        state.ready = true;
    }
    return &state.promises;
}

static void check(const struct promise *promise)
{
    const struct model_inode *dir = model_inode(&world->model, promise->dir);
    const struct model_inode *inode = model_inode(&world->model, promise->attr.ino);
    const struct model_entry *entry =
        dir != NULL && S_ISDIR(dir->mode) ? model_entry(dir, slice_text(promise->name)) : NULL;

    world->counts.promises++;
    if (promise->dir != 0 && promise->error != 0 && entry != NULL) {
        violation("coherent: a mount alone says that %s is not in directory %" PRIu64
                  ", but it is inode %" PRIu64,
                  promise->name, promise->dir, entry->ino);
    }
    if (promise->error != 0) {
        return;
    }
    if (promise->dir != 0 && (entry == NULL || entry->ino != promise->attr.ino)) {
        violation("coherent: a mount alone says that %s in directory %" PRIu64 " is inode %" PRIu64
                  ", the log says %" PRIu64,
                  promise->name, promise->dir, promise->attr.ino, entry != NULL ? entry->ino : 0);
    }
    if (inode == NULL || inode->mode != promise->attr.mode || inode->nlink != promise->attr.nlink) {
        violation("coherent: a mount alone says that inode %" PRIu64 " has mode %o and %u links, "
                  "the log says %o and %u",
                  promise->attr.ino, promise->attr.mode, promise->attr.nlink,
                  inode != NULL ? inode->mode : 0, inode != NULL ? inode->nlink : 0);
    }
}

static bool is_due(const struct promise *promise)
{
    const struct model_session *session = model_session(&world->model, promise->session);

    return session != NULL && session->last_seq >= promise->seq;
}

/* Has anybody else done anything since? */
static bool is_void(const struct promise *promise)
{
    const struct model_session *session = model_session(&world->model, promise->session);

    return session == NULL || !session->open || session->slot > SIM_CLIENTS_MAX ||
           state.others[session->slot] != promise->foreign;
}

void promise_applied(const struct meta_request *request)
{
    const struct model_session *session = model_session(&world->model, request->session);

    for (unsigned i = 0; i <= SIM_CLIENTS_MAX; i++) {
        state.others[i] += session == NULL || session->slot != i;
    }
    list_for_each (node, promises()) {
        struct promise *promise = list_entry(node, struct promise, node);

        if (is_void(promise) || is_due(promise)) {
            if (!is_void(promise)) {
                check(promise);
            }
            list_remove(node);
            mem_free(promise);
        }
    }
}

/* Nothing that the client has done is on its way, and nobody was told of a newer state. */
static bool is_settled(const struct client *client, const struct model_inode *inode, uint64_t floor)
{
    return inode != NULL && inode->changed <= floor && !witness_asking(client) &&
           client->returning == 0 && witness_ops_started(client) == witness_ops_told(client);
}

void check_cached_name(const struct client *client, uint64_t dir, const char *name, uint64_t ino)
{
    const struct model_inode *inode = model_inode(&world->model, dir);
    const struct model_entry *entry;

    if (!is_settled(client, inode, witness_known()) || !S_ISDIR(inode->mode)) {
        return;
    }
    entry = model_entry(inode, slice_text(name));
    if ((entry != NULL ? entry->ino : 0) != ino) {
        violation("coherent: the kernel of client %u believes that %s in directory %" PRIu64
                  " is inode %" PRIu64 ", but it is %" PRIu64 " and somebody knows",
                  client->slot, name, dir, ino, entry != NULL ? entry->ino : 0);
    }
}

void check_cached_attr(const struct client *client, const struct meta_attr *attr, uint64_t floor)
{
    const struct model_inode *inode = model_inode(&world->model, attr->ino);
    bool sized;

    if (!is_settled(client, inode, floor) || inode->going) {
        return;
    }
    sized = S_ISREG(inode->mode) && !data_pending(client, attr->ino);
    if (attr->mode != inode->mode || attr->nlink != inode->nlink ||
        (sized && attr->size != inode->size)) {
        violation("coherent: the kernel of client %u believes that inode %" PRIu64
                  " has %u links and %" PRIu64 " bytes, but it has %u and %" PRIu64
                  " and somebody knows",
                  client->slot, attr->ino, attr->nlink, attr->size, inode->nlink, inode->size);
    }
}

uint64_t promise_others(const struct client *client)
{
    return state.others[client->slot];
}

void promise_started(const struct client *client, uint64_t session)
{
    if (state.session[client->slot] != session) {
        state.session[client->slot] = session;
        state.started[client->slot] = 0;
    }
    state.started[client->slot]++;
}

void promise_made(const struct client *client, uint64_t dir, const char *name, int error,
                  const struct meta_attr *attr)
{
    const struct mount *mount = client->mount;
    struct promise *promise;

    if (mount->meta.session == 0 || state.session[client->slot] != mount->meta.session ||
        mount->meta.sessions_lost != 0 || witness_asking(client)) {
        return; /* its sequence numbers are not known, or it need not see a change under way yet */
    }
    promise = mem_zalloc(sizeof(*promise));
    promise->session = mount->meta.session;
    promise->seq = state.started[client->slot];
    promise->foreign = state.others[client->slot];
    promise->error = error;
    promise->dir = dir;
    promise->attr = *attr;
    if (name != NULL) {
        snprintf(promise->name, sizeof(promise->name), "%s", name);
    }
    if (is_due(promise) && !is_void(promise)) {
        check(promise);
        mem_free(promise);
        return;
    }
    list_push_back(promises(), &promise->node);
}
