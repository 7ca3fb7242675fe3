/* COMMIT and SETTLE: their records and results. What each does to contents: sim_model_data.c. */
#include "tests/sim/sim_model.h"

#include "base/err.h"

#include <errno.h>

static struct model_answer broken(const char *why)
{
    return (struct model_answer){.broken = why};
}

/* Does it name a chunk of a session that the mount has lost before the commit came? */
static bool names_lost_chunk(const struct model *model, const struct meta_commit *commit)
{
    struct schema_reader reader = schema_reader_make(commit->extents);
    struct meta_extent extent;

    while (reader.at < reader.end &&
           meta_extent_decode(&extent, schema_read_bytes(&reader, META_BODY_MAX)) == 0) {
        if (extent.data.size == 0 && extent.chunk_session != model->session) {
            return true;
        }
    }
    return false;
}

static const char *commit_record(struct model *model, struct slice bytes,
                                 const struct meta_commit_result *result, unsigned slot)
{
    struct model_inode *inode;
    struct meta_commit commit;

    if (meta_commit_decode(&commit, bytes) < 0 || commit.ino != result->ino) {
        return "a commit's results are not those of its records";
    }
    inode = model_inode(model, commit.ino);
    if (inode == NULL) {
        return result->error == ESTALE ? NULL : "a commit to an inode that is not there";
    }
    if ((result->error == ESTALE && inode->going) || result->error == ERR_CHANGED ||
        result->error == ERR_JOURNAL_FULL ||
        (result->error == ERR_SESSION_EXPIRED && names_lost_chunk(model, &commit))) {
        return NULL; /* nothing happened: the mount does it again */
    }
    if (result->error != 0) {
        return "a commit is refused";
    }
    return model_commit(model, inode, &commit, slot);
}

struct model_answer model_commits(struct model *model, const struct meta_request *request,
                                  const struct meta_reply *reply, unsigned slot)
{
    struct schema_reader records = schema_reader_make(request->data);
    struct schema_reader results = schema_reader_make(reply->data);

    while (records.at < records.end) {
        struct slice bytes = schema_read_bytes(&records, META_BODY_MAX);
        struct slice result_bytes = schema_read_bytes(&results, META_BODY_MAX);
        struct meta_commit_result result;
        const char *why;

        if (records.failed || results.failed ||
            meta_commit_result_decode(&result, result_bytes) < 0) {
            return broken("a commit's reply lacks results");
        }
        why = commit_record(model, bytes, &result, slot);
        if (why != NULL) {
            return broken(why);
        }
    }
    return (struct model_answer){0};
}

struct model_answer model_settles(struct model *model, const struct meta_request *request,
                                  const struct meta_reply *reply)
{
    struct schema_reader reader = schema_reader_make(request->data);
    struct meta_settle settle;

    if (model_inode(model, request->ino) == NULL) {
        return (struct model_answer){.error = ESTALE};
    }
    while (reply->error == 0 && reader.at < reader.end &&
           meta_settle_decode(&settle, schema_read_bytes(&reader, META_BODY_MAX)) == 0) {
        const char *why = model_settle(model, &settle);

        if (why != NULL) {
            return broken(why);
        }
    }
    return (struct model_answer){.error = (int)reply->error};
}
