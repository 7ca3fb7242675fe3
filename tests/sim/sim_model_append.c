/*
 * Appends: where commits put them. Each WRITE of a file opened with O_APPEND is a record of its own
 * whose cells have consecutive tags, so that each cell says which part of which record it is.
 *
 * A record goes behind all that is there, whole, once, and behind what the same mount has appended
 * before. In a file that is written or made shorter, too (plain), parts of a record may have been
 * written over or cut off before they were committed.
 */
#include "tests/sim/sim_model.h"

#include "base/mem.h"

static struct map_key log_key(uint64_t ino, uint64_t incarnation)
{
    return (struct map_key){ino, incarnation};
}

struct model_log *model_log(struct model *model, uint64_t ino, uint64_t incarnation)
{
    struct model_log *log = map_get(&model->logs, log_key(ino, incarnation));

    if (log == NULL) {
        log = mem_zalloc(sizeof(*log));
        map_put(&model->logs, log_key(ino, incarnation), log);
    }
    return log;
}

void model_log_plain(struct model *model, uint64_t ino)
{
    model_log(model, ino, 0)->plain = true;
}

struct model_append *model_append(const struct model *model, uint64_t tag)
{
    return map_get(&model->appends, map_u64(tag));
}

struct model_append *model_append_begin(struct model *model, uint64_t ino, uint64_t first,
                                        uint32_t cells)
{
    struct model_log *log = model_log(model, ino, first >> MODEL_TAG_BITS);
    struct model_append *append = mem_zalloc(sizeof(*append));

    *append = (struct model_append){.ino = ino, .first = first, .cells = cells};
    for (uint32_t i = 0; i < cells; i++) {
        map_put(&model->appends, map_u64(first + i), append);
    }
    if ((log->count & (log->count - 1)) == 0) {
        size_t capacity = log->count == 0 ? 1 : 2 * log->count;

        log->appends = mem_realloc(log->appends, capacity * sizeof(struct model_append *));
    }
    log->appends[log->count++] = append;
    return append;
}

/* ---- commits ---- */

/* Its answer was lost together with the session, and others have written to the file since: nobody
 * can tell any more whether it was made (docs/adr/0026). */
static bool may_come_again(const struct model *model, const struct model_inode *inode,
                           const struct model_append *append)
{
    bool others = false;

    for (unsigned slot = 0; slot < MODEL_SLOTS; slot++) {
        others = others || (model->incarnations[slot] == model->writer &&
                            inode->foreign_index[slot] > append->index);
    }
    return append->session != model->session && append->synced_ns == 0 && others;
}

/* Then it may lie where this mount has committed something newer before. */
bool model_append_comes_again(const struct model *model, const struct model_inode *inode,
                              uint64_t tag)
{
    const struct model_append *append = model_append(model, tag);

    if (append == NULL || append->index == 0) {
        return false;
    }
    return append->index == model->index ? append->came_again
                                         : may_come_again(model, inode, append);
}

static const char *begin(struct model *model, const struct model_inode *inode,
                         struct model_append *append, uint64_t cell)
{
    struct model_log *log = model_log(model, inode->ino, append->first >> MODEL_TAG_BITS);

    if (append->refused) {
        return "an append is made whose program was told that it was not";
    }
    if (append->index == model->index) {
        return "an append is torn";
    }
    if (append->index != 0 && !may_come_again(model, inode, append)) {
        return "an append is made twice";
    }
    if (cell < model->append_end) {
        return "an append lies over what was there before";
    }
    if (cell > model->append_end) {
        return "an append leaves a hole";
    }
    if (append->first < log->last && append->index == 0) {
        return "appends of a mount have changed places";
    }
    append->came_again |= append->index != 0;
    append->made = 0;
    append->index = model->index;
    append->session = model->session;
    log->last = max_u64(log->last, append->first);
    return NULL;
}

/* Something that is no append, or lies there already. */
static const char *write_over(struct model *model, const struct model_inode *inode, uint64_t cell,
                              uint64_t tag)
{
    uint64_t was = model_cell(inode, cell);

    return was == tag || model_append(model, was) == NULL || model_log(model, inode->ino, 0)->plain
               ? NULL
               : "what was appended is written over";
}

const char *model_append_cell(struct model *model, const struct model_inode *inode, uint64_t cell,
                              uint64_t tag)
{
    struct model_append *append = model_append(model, tag);
    const char *why;
    uint64_t part;

    if (append == NULL || tag == model_cell(inode, cell)) {
        const char *over = write_over(model, inode, cell, tag);

        model->append_end = max_u64(model->append_end, tag != 0 ? cell + 1 : 0);
        return over;
    }
    part = tag - append->first;
    if (append->ino != inode->ino || cell < part) {
        return "an append is torn, or another file's";
    }
    if (append->index == 0 || append->at != cell - part) {
        why = model_append_commit_end(model, inode->ino);
        why = why != NULL ? why : begin(model, inode, append, cell);
        if (why != NULL) {
            return why;
        }
        append->at = cell - part;
    }
    append->made++;
    model->appending = append;
    model->append_end = max_u64(model->append_end, cell + 1);
    return NULL;
}

const char *model_append_commit_end(struct model *model, uint64_t ino)
{
    const struct model_append *append = model->appending;

    model->appending = NULL;
    return append != NULL && append->made < append->cells && !model_log(model, ino, 0)->plain
               ? "only a part of an append is made"
               : NULL;
}

void model_appends_free(struct model *model)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&model->logs, &at)) != NULL) {
        struct model_log *log = slot->value;

        for (size_t i = 0; i < log->count; i++) {
            mem_free(log->appends[i]);
        }
        mem_free(log->appends);
        mem_free(log);
    }
    map_deinit(&model->logs);
    map_deinit(&model->appends);
}
