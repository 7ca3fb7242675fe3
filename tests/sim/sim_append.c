/*
 * Appends, by what programs were told: whose fsync returned is made, whoever was told that nothing
 * was taken finds nothing. Where they lie is checked when they are committed: sim_model_append.c.
 */
#include "tests/sim/sim_world.h"

#include <errno.h>
#include <inttypes.h>

static struct model_log *log_of(const struct client *client, uint64_t ino)
{
    return model_log(&world->model, ino, client->incarnation);
}

struct model_append *append_begin(struct client *client, uint64_t ino, uint32_t cells)
{
    uint64_t first = data_next_tag(client);

    for (uint32_t i = 1; i < cells; i++) {
        (void)data_next_tag(client);
    }
    world->counts.appends++;
    return model_append_begin(&world->model, ino, first, cells);
}

static void must_be_made(const struct model_append *append, const char *what)
{
    if (append->index == 0) {
        violation("durable: %s, but append %" PRIx64 " to inode %" PRIu64 " is not made", what,
                  append->first, append->ino);
    }
}

void append_end(struct model_append *append, int error)
{
    append->told = error == 0;
    append->refused = error == -EINTR;
    append->lost |= error < 0;
    if (append->refused && append->index != 0) {
        violation("append %" PRIx64 " to inode %" PRIu64 " was interrupted, and made",
                  append->first, append->ino);
    }
}

void appends_lost(const struct client *client, uint64_t ino)
{
    struct model_log *log = log_of(client, ino);

    for (; log->sure < log->count; log->sure++) {
        log->appends[log->sure]->lost = true;
    }
}

bool appends_pending(const struct client *client, uint64_t ino)
{
    const struct model_log *log = log_of(client, ino);

    for (size_t i = 0; i < log->count; i++) {
        if (log->appends[i]->index == 0 && !log->appends[i]->refused) {
            return true;
        }
    }
    return false;
}

size_t appends_sync_begin(const struct client *client, uint64_t ino)
{
    const struct model_log *log = log_of(client, ino);
    size_t count = log->count;

    while (count > log->sure && !log->appends[count - 1]->told) {
        count--; /* still on its way */
    }
    return count;
}

void appends_sync_end(const struct client *client, uint64_t ino, size_t count)
{
    struct model_log *log = log_of(client, ino);

    for (; log->sure < count; log->sure++) {
        struct model_append *append = log->appends[log->sure];

        if (append->told && !append->lost) {
            must_be_made(append, "fsync returned");
            append->synced_ns = sim_now(world->sim);
            world->counts.appends_synced++;
        }
    }
}

bool append_may_float(const struct client *client, const struct data_read *read, uint64_t tag)
{
    const struct model_append *append = model_append(&world->model, tag);

    return append != NULL && append->ino == read->ino &&
           tag >> MODEL_TAG_BITS == client->incarnation &&
           (append->synced_ns == 0 || append->synced_ns > read->began_ns);
}

static void check_log(uint64_t ino, const struct model_log *log)
{
    const struct model_inode *inode = model_inode(&world->model, ino);
    const struct model_log *whole = map_get(&world->model.logs, (struct map_key){ino, 0});
    bool plain = whole != NULL && whole->plain;

    for (size_t i = 0; i < log->count; i++) {
        const struct model_append *append = log->appends[i];

        world->counts.appends_again += append->came_again;
        if (append->synced_ns == 0 || plain) {
            continue;
        }
        must_be_made(append, "it was synced");
        for (uint32_t k = 0; k < append->cells; k++) {
            if (model_cell(inode, append->at + k) != append->first + k) {
                violation("durable: append %" PRIx64 " to inode %" PRIu64
                          " was synced, but is gone",
                          append->first, ino);
            }
        }
    }
}

void appends_check_end(void)
{
    struct map logs = world->model.logs;
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&logs, &at)) != NULL) {
        if (slot->key.lo != 0) {
            check_log(slot->key.hi, slot->value);
        }
    }
}
