/*
 * Advisory locks, by what programs were told. A lock is held from when its grant was told until its
 * program begins to give it up, or the log says that its session has ended: from then on it is
 * fenced and may believe what it likes. No two owners hold what excludes each other. What was
 * written under a lock, and followed by giving it up, is read under the next one.
 */
#include "tests/sim/sim_world.h"

#include "base/list.h"
#include "base/mem.h"
#include "fs/call.h"
#include "fs/mount.h"
#include "meta/lock_table.h"

#include <inttypes.h>

#define PLACES      64 /* of SIM_CELL bytes; the last one stands for all behind it */
#define GUESSES_MAX 8

/* One owner's locks of one file. */
struct holding {
    struct list_node node;
    const struct client *client;
    uint64_t session; /* of the last grant */
    uint64_t ino, owner;
    bool flock;
    uint8_t types[PLACES];
    uint64_t changed; /* state.changes then */
};

/* A cell that is written under locks only: what it may hold. */
struct guarded {
    uint64_t tags[GUESSES_MAX];
    unsigned count;
    bool anything; /* too many whose fate is not known */
};

static struct {
    struct list holdings;
    bool ready;
    uint64_t changes;
    struct map guarded; /* {ino, cell} -> struct guarded */
    struct map asked;   /* {incarnation of the client, ino}: locks of it were asked for */
} state;

static struct list *holdings(void)
{
    if (!state.ready) {
        list_init(&state.holdings);
        state.ready = true;
    }
    return &state.holdings;
}

static uint64_t place_of(uint64_t offset)
{
    return min_u64(offset / SIM_CELL, PLACES - 1);
}

static struct holding *holding_of(const struct client *client, uint64_t ino,
                                  const struct meta_lock *lock)
{
    list_for_each (node, holdings()) {
        struct holding *holding = list_entry(node, struct holding, node);

        if (holding->client == client && holding->ino == ino && holding->owner == lock->owner &&
            holding->flock == lock->flock) {
            return holding;
        }
    }
    return NULL;
}

static void drop(struct holding *holding)
{
    list_remove(&holding->node);
    mem_free(holding);
}

/* The first place where it excludes that lock; PLACES: none. */
static uint64_t excludes(const struct holding *holding, const struct client *client, uint64_t ino,
                         const struct meta_lock *lock)
{
    if (holding->ino != ino || holding->flock != lock->flock ||
        (holding->client == client && holding->owner == lock->owner)) {
        return PLACES;
    }
    for (uint64_t place = place_of(lock->from); place <= place_of(lock->to); place++) {
        if (holding->types[place] + lock->type > META_LOCK_WRITE &&
            holding->types[place] != META_LOCK_NONE) {
            return place;
        }
    }
    return PLACES;
}

/* ---- what is held ---- */

/* What it would give up counts as given up from now on. To change a flock is to give it up first.
 */
void locks_asked(const struct client *client, uint64_t ino, const struct meta_lock *lock)
{
    struct holding *holding = holding_of(client, ino, lock);

    map_put(&state.asked, (struct map_key){client->incarnation, ino}, &state);
    if (holding == NULL) {
        return;
    }
    if (lock->flock) {
        drop(holding);
        return;
    }
    for (uint64_t place = place_of(lock->from); place <= place_of(lock->to); place++) {
        holding->types[place] =
            holding->types[place] < lock->type ? holding->types[place] : lock->type;
    }
    holding->changed = ++state.changes;
}

static void check_alone(const struct client *client, uint64_t ino, const struct meta_lock *lock)
{
    list_for_each (node, holdings()) {
        const struct holding *holding = list_entry(node, struct holding, node);
        uint64_t place = excludes(holding, client, ino, lock);

        if (place != PLACES) {
            violation("locks: client %u owner %" PRIu64 " is granted %s lock %u of inode %" PRIu64
                      " [%" PRIu64 ", %" PRIu64 "], but at %" PRIu64 " client %u owner %" PRIu64
                      " holds %u",
                      client->slot, lock->owner, lock->flock ? "flock" : "record", lock->type, ino,
                      lock->from, lock->to, place * SIM_CELL, holding->client->slot, holding->owner,
                      holding->types[place]);
        }
    }
}

bool locks_kept(uint64_t session)
{
    const struct model_session *opened = model_session(&world->model, session);

    return opened != NULL && opened->open;
}

uint64_t locks_granted(const struct client *client, uint64_t ino, const struct meta_lock *lock)
{
    struct holding *holding = holding_of(client, ino, lock);
    uint64_t session = client->mount->meta.session;

    if (lock->type == META_LOCK_NONE) {
        return session;
    }
    if (!locks_kept(session)) {
        if (client->mount->locks.mode == LOCKS_OWN) {
            violation("locks: client %u grants itself a lock of inode %" PRIu64
                      ", but its session %" PRIu64 " has ended",
                      client->slot, ino, session);
        }
        return 0;
    }
    check_alone(client, ino, lock);
    if (holding == NULL) {
        holding = mem_zalloc(sizeof(*holding));
        list_push_back(holdings(), &holding->node);
    }
    holding->client = client;
    holding->session = session;
    holding->ino = ino;
    holding->owner = lock->owner;
    holding->flock = lock->flock;
    holding->changed = ++state.changes;
    memset(&holding->types[place_of(lock->from)], lock->type,
           place_of(lock->to) - place_of(lock->from) + 1);
    world->counts.locks_granted++;
    return session;
}

void locks_closed(const struct client *client, uint64_t ino, uint64_t owner, bool flock)
{
    struct holding *holding =
        holding_of(client, ino, &(struct meta_lock){.owner = owner, .flock = flock});

    if (holding != NULL) {
        drop(holding);
    }
}

/* What a mount that is alone has not committed goes with it, locked or not. */
static void lose_written(unsigned slot, uint64_t incarnation)
{
    struct map_slot *entry;
    size_t at = 0;

    while ((entry = map_next(&state.guarded, &at)) != NULL) {
        const struct model_inode *inode = model_inode(&world->model, entry->key.hi);
        struct guarded *guarded = entry->value;
        uint64_t tag = guarded->tags[guarded->count - 1];

        guarded->anything |= tag >> MODEL_TAG_BITS == incarnation && inode != NULL &&
                             model_committed(inode, slot, entry->key.lo) < (uint32_t)tag;
    }
}

void locks_session_ended(uint64_t session)
{
    const struct model_session *ended = model_session(&world->model, session);

    if (ended != NULL && ended->slot <= SIM_CLIENTS_MAX) {
        lose_written(ended->slot, ended->incarnation);
    }
    list_for_each (node, holdings()) {
        struct holding *holding = list_entry(node, struct holding, node);

        if (holding->session == session) {
            world->counts.locks_lost++;
            drop(holding);
        }
    }
}

void locks_client_gone(const struct client *client)
{
    lose_written(client->slot, client->incarnation);
    list_for_each (node, holdings()) {
        struct holding *holding = list_entry(node, struct holding, node);

        if (holding->client == client) {
            drop(holding);
        }
    }
}

bool locks_may_be_lost(const struct client *client, uint64_t ino)
{
    return client->mount->meta.sessions_lost > 0 &&
           map_get(&state.asked, (struct map_key){client->incarnation, ino}) != NULL;
}

/* ---- F_GETLK ---- */

uint64_t locks_test_begin(void)
{
    return state.changes;
}

void locks_test_free(const struct client *client, uint64_t ino, const struct meta_lock *lock,
                     uint64_t begun)
{
    list_for_each (node, holdings()) {
        const struct holding *holding = list_entry(node, struct holding, node);

        if (holding->changed <= begun && excludes(holding, client, ino, lock) != PLACES) {
            violation("locks: client %u is told that a lock of inode %" PRIu64
                      " is free, but client %u has held it all the time",
                      client->slot, ino, holding->client->slot);
        }
    }
}

/* ---- what is written under locks ---- */

static struct guarded *guarded_of(uint64_t ino, uint64_t cell)
{
    struct map_key key = {ino, cell};
    struct guarded *guarded = map_get(&state.guarded, key);

    if (guarded == NULL) {
        guarded = mem_zalloc(sizeof(*guarded));
        guarded->count = 1; /* a hole */
        map_put(&state.guarded, key, guarded);
    }
    return guarded;
}

static bool may_hold(const struct guarded *guarded, uint64_t tag)
{
    for (unsigned i = 0; i < guarded->count; i++) {
        if (guarded->tags[i] == tag) {
            return true;
        }
    }
    return guarded->anything || world->lossy;
}

void guarded_read(const struct client *client, uint64_t ino, uint64_t cell, uint64_t tag)
{
    struct guarded *guarded = guarded_of(ino, cell);

    if (!may_hold(guarded, tag)) {
        violation("locks: client %u reads %" PRIx64 " in cell %" PRIu64 " of inode %" PRIu64
                  ", but %" PRIx64 " was written under the lock before (or %u others)",
                  client->slot, tag, cell, ino, guarded->tags[guarded->count - 1],
                  guarded->count - 1);
    }
    world->counts.guarded_reads++;
    *guarded = (struct guarded){.tags = {tag}, .count = 1};
}

void guarded_writing(uint64_t ino, uint64_t cell, uint64_t tag)
{
    struct guarded *guarded = guarded_of(ino, cell);

    guarded->anything |= guarded->count == GUESSES_MAX;
    guarded->count -= guarded->count == GUESSES_MAX;
    guarded->tags[guarded->count++] = tag;
}

/* The answer may come late: what others have written since goes on counting. */
void guarded_written(uint64_t ino, uint64_t cell, uint64_t tag)
{
    struct guarded *guarded = guarded_of(ino, cell);

    if (guarded->tags[guarded->count - 1] == tag) {
        *guarded = (struct guarded){.tags = {tag}, .count = 1};
    }
}
