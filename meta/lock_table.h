#pragma once
/*
 * lock_table: the advisory locks of one file: what is held, and who waits in which order. Pure: the
 * metadata service keeps one for each file in its state, a mount that is alone one in memory.
 *
 * Two kinds that do not see each other: POSIX record locks (fcntl(2), with their ranges) and
 * flock(2) locks (of the whole file). An owner is {session, owner}; its own locks never conflict.
 *
 * Order: a lock that has to wait, waits behind those that came before it, unless its owner has
 * locks of the file already, or waiting would close a circle that granting would not. One that does
 * not want to wait looks at locks that are held only.
 */
#include "meta/meta_proto.h"

#define LOCK_TABLE_MAX  4096 /* entries of one file: 256 KiB of a record are 60 bytes each */
#define LOCK_TO_THE_END UINT64_MAX

enum { LOCK_WAITS = 1 }; /* beside 0 and negative codes */

/* Zero is valid and empty. Held ones have ticket 0; those that wait are in their order. */
struct lock_table {
    struct meta_lock *items;
    size_t count, capacity;
};

/* Who waits for what, over all files: what a search for a deadlock asks. */
struct lock_graph {
    /* The next lock that {session, owner} waits for, and the table that it waits in. *io_cursor
     * begins with 0. Good until the next call. */
    bool (*next_wait)(struct lock_graph *graph, uint64_t session, uint64_t owner,
                      uint64_t *io_cursor, struct meta_lock *out_wait,
                      const struct lock_table **out_table);
};

void lock_table_deinit(struct lock_table *table);
/* 0 or -ERR_CORRUPT. */
int must_check lock_table_decode(struct lock_table *table, struct slice bytes);
void lock_table_encode(const struct lock_table *table, struct buf *out);

/* `want->ticket` is its place in the order if it waits: larger than all before. Returns 0: it is
 * held now; LOCK_WAITS: it stands in line; -EAGAIN: somebody holds it, and it would not wait;
 * -EDEADLK: who holds it waits for this owner; -ENOLCK: the table is full. META_LOCK_NONE gives up
 * the range. Call lock_table_grant behind it. */
int must_check lock_table_request(struct lock_table *table, const struct meta_lock *want, bool wait,
                                  struct lock_graph *graph);
/* What the owner holds in the range of `want` is that from now on, and nothing else, whoever may be
 * in its way. */
void lock_table_set(struct lock_table *table, const struct meta_lock *want);
/* The first lock that is held and keeps `want` from being; NULL: none. */
const struct meta_lock *lock_table_holder(const struct lock_table *table,
                                          const struct meta_lock *want);
/* Those whose turn has come hold their locks from now on. `granted` hears of each (with its
 * ticket).
 */
void lock_table_grant(struct lock_table *table,
                      void (*granted)(void *data, const struct meta_lock *lock), void *data);
/* The one that waits with that ticket; NULL: none does. */
const struct meta_lock *lock_table_waiter(const struct lock_table *table, uint64_t ticket);
/* It waits no more. */
void lock_table_cancel(struct lock_table *table, uint64_t ticket);
/* All of a session go, held or not. */
void lock_table_drop_session(struct lock_table *table, uint64_t session);
/* Does the owner hold anything of that kind? */
bool lock_table_holds(const struct lock_table *table, const struct meta_lock *owner);
/* Is there any entry of the session? */
bool lock_table_has_session(const struct lock_table *table, uint64_t session);
