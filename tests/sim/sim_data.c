/*
 * What programs wrote and were told, cell by cell: fsync makes it part of the log, reads see it.
 *
 * A client's own acknowledged write to a cell is `written`; what the log has of the client's writes
 * is the model's `committed`. So a write that an fsync covers must be committed when that returns,
 * whatever others have written over it since; and a read must see the own write until it is
 * committed, and then that or something newer.
 */
#include "tests/sim/sim_world.h"

#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>

struct written {
    uint64_t ino;
    uint32_t *seqs; /* by cell; 0 = nothing of ours */
    uint64_t count;
    uint64_t changes; /* begun and ended writes and truncates */
    unsigned changing;
    bool unsure;
    struct list marks; /* data_mark: fsyncs under way */
};

struct data_mark {
    struct list_node node;
    uint64_t ino;
    uint32_t *seqs;
    uint64_t count;
    uint64_t ops;
    size_t appends;
};

static struct map files[SIM_CLIENTS_MAX + 1]; /* ino -> struct written */

static struct written *written_of(const struct client *client, uint64_t ino)
{
    struct written *written = map_get(&files[client->slot], map_u64(ino));

    if (written == NULL) {
        written = mem_zalloc(sizeof(*written));
        written->ino = ino;
        list_init(&written->marks);
        map_put(&files[client->slot], map_u64(ino), written);
    }
    return written;
}

uint64_t data_next_tag(struct client *client)
{
    return (uint64_t)client->incarnation << MODEL_TAG_BITS | ++client->next_tag;
}

bool data_pending(const struct client *client, uint64_t ino)
{
    const struct model_inode *inode = model_inode(&world->model, ino);
    const struct written *written = written_of(client, ino);

    for (uint64_t cell = 0; cell < written->count; cell++) {
        if (written->seqs[cell] != 0 &&
            (inode == NULL || model_committed(inode, client->slot, cell) < written->seqs[cell])) {
            return true;
        }
    }
    return written->changing > 0 || appends_pending(client, ino);
}

void data_change_begin(struct client *client, uint64_t ino)
{
    written_of(client, ino)->changes++;
    written_of(client, ino)->changing++;
}

void data_change_end(struct client *client, uint64_t ino)
{
    written_of(client, ino)->changes++;
    written_of(client, ino)->changing--;
}

void data_wrote(struct client *client, uint64_t ino, uint64_t offset, uint64_t size, uint64_t tag)
{
    struct written *written = written_of(client, ino);
    uint64_t end = (offset + size) / SIM_CELL;

    if (end > written->count) {
        written->seqs = mem_realloc(written->seqs, end * sizeof(*written->seqs));
        memset(written->seqs + written->count, 0, (end - written->count) * sizeof(*written->seqs));
        written->count = end;
    }
    for (uint64_t cell = offset / SIM_CELL; cell < end; cell++) {
        written->seqs[cell] = (uint32_t)tag;
    }
}

void data_truncated(struct client *client, uint64_t ino, uint64_t size)
{
    struct written *written = written_of(client, ino);

    appends_lost(client, ino);
    for (uint64_t cell = size / SIM_CELL; cell < written->count; cell++) {
        written->seqs[cell] = 0;
    }
    list_for_each (node, &written->marks) { /* what is cut off need not be made durable */
        struct data_mark *mark = list_entry(node, struct data_mark, node);

        mark->count = min_u64(mark->count, size / SIM_CELL);
    }
}

void data_replaced(struct client *client, uint64_t ino, uint64_t from, uint64_t to)
{
    struct written *written = written_of(client, ino);
    uint64_t first = from / SIM_CELL, end = to / SIM_CELL;

    model_log_plain(&world->model, ino);
    for (uint64_t cell = first; cell < min_u64(end, written->count); cell++) {
        written->seqs[cell] = 0;
    }
    list_for_each (node, &written->marks) {
        struct data_mark *mark = list_entry(node, struct data_mark, node);

        for (uint64_t cell = first; cell < min_u64(end, mark->count); cell++) {
            mark->seqs[cell] = 0;
        }
    }
}

void data_unsure(struct client *client, uint64_t ino, int error)
{
    written_of(client, ino)->unsure |= error == -EINTR;
}

void data_error(struct client *client, uint64_t ino, int error)
{
    if (error == -ENOSPC || error == -EIO) {
        data_truncated(client, ino, 0);
        written_of(client, ino)->unsure = true;
    }
}

struct data_mark *data_sync_begin(struct client *client, uint64_t ino)
{
    struct written *written = written_of(client, ino);
    struct data_mark *mark = mem_zalloc(sizeof(*mark));

    list_push_back(&written->marks, &mark->node);

    mark->ino = ino;
    mark->count = written->count;
    mark->seqs = mem_alloc(written->count * sizeof(*mark->seqs) + 1);
    if (written->count > 0) {
        memcpy(mark->seqs, written->seqs, written->count * sizeof(*mark->seqs));
    }
    mark->ops = witness_ops_started(client);
    mark->appends = appends_sync_begin(client, ino);
    return mark;
}

void data_sync_end(struct client *client, struct data_mark *mark, int error)
{
    const struct model_inode *inode = model_inode(&world->model, mark->ino);

    if (error == 0 && inode == NULL) {
        violation("durable: fsync returned, but the log has no inode %" PRIu64, mark->ino);
    }
    if (error == 0 && S_ISDIR(inode->mode) && witness_ops_told(client) < mark->ops) {
        violation("durable: fsync of a directory returned before what was done in it");
    }
    for (uint64_t cell = 0; error == 0 && inode->nlink > 0 && cell < mark->count; cell++) {
        if (mark->seqs[cell] != 0 &&
            model_committed(inode, client->slot, cell) < mark->seqs[cell]) {
            violation("durable: fsync returned, but cell %" PRIu64 " of inode %" PRIu64
                      " is not committed: write %u of client %u",
                      cell, mark->ino, mark->seqs[cell], client->slot);
        }
    }
    if (error == 0) {
        appends_sync_end(client, mark->ino, mark->appends);
    }
    world->counts.fsyncs += error == 0;
    data_error(client, mark->ino, error);
    list_remove(&mark->node);
    mem_free(mark->seqs);
    mem_free(mark);
}

void data_client_gone(struct client *client)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&files[client->slot], &at)) != NULL) {
        struct written *written = slot->value;

        mem_free(written->seqs);
        mem_free(written);
    }
    map_deinit(&files[client->slot]);
    files[client->slot] = (struct map){0};
}

struct data_read data_read_begin(const struct client *client, uint64_t ino, uint64_t floor)
{
    const struct written *written = written_of(client, ino);

    return (struct data_read){.ino = ino,
                              .floor = floor,
                              .began_ns = sim_now(world->sim),
                              .changes = written->changing > 0 ? UINT64_MAX : written->changes};
}

static void bad_cell(const struct client *client, const struct data_read *read, uint64_t cell,
                     uint64_t tag, const char *what)
{
    const struct model_inode *inode = model_inode(&world->model, read->ino);

    violation(
        "coherent: client %u reads %s in cell %" PRIu64 " of inode %" PRIu64 ": %" PRIx64
        "; its own last is %x, committed %x; the log has %" PRIx64 "; floor %" PRIu64,
        client->slot, what, cell, read->ino, tag,
        cell < written_of(client, read->ino)->count ? written_of(client, read->ino)->seqs[cell] : 0,
        inode != NULL ? model_committed(inode, client->slot, cell) : 0,
        inode != NULL ? model_cell(inode, cell) : 0, read->floor);
}

static void check_cell(const struct client *client, const struct data_read *read, uint64_t cell,
                       uint64_t tag)
{
    const struct model_inode *inode = model_inode(&world->model, read->ino);
    const struct written *written = written_of(client, read->ino);
    uint32_t own = cell < written->count ? written->seqs[cell] : 0;
    uint32_t committed = inode != NULL ? model_committed(inode, client->slot, cell) : 0;

    if (tag == UINT64_MAX) {
        bad_cell(client, read, cell, tag, "torn bytes");
    }
    if (tag != 0 && tag >> MODEL_TAG_BITS == client->incarnation &&
        ((uint32_t)tag == own || append_may_float(client, read, tag))) {
        return;
    }
    if (own != 0 && committed < own && !world->lossy && !locks_may_be_lost(client, read->ino)) {
        bad_cell(client, read, cell, tag, "not what it has written");
    }
    if (inode == NULL ? tag != 0 : !model_was(inode, cell, tag, read->floor)) {
        bad_cell(client, read, cell, tag, "what is not there any more, or never was");
    }
}

void data_read_end(const struct client *client, const struct data_read *read, uint64_t offset,
                   struct slice bytes)
{
    if (written_of(client, read->ino)->changes != read->changes ||
        written_of(client, read->ino)->unsure) {
        return; /* a write or truncate of this client ran beside it */
    }
    for (size_t at = 0; at + SIM_CELL <= bytes.size; at += SIM_CELL) {
        check_cell(client, read, (offset + at) / SIM_CELL, model_tag(bytes.data + at));
        world->counts.cells_checked++;
    }
}
