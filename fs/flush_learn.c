/* What the files of a round are now, where others may have changed them. */
#include "fs/coherence.h"
#include "fs/fence.h"
#include "fs/flush_internal.h"

/* Is this what a commit has left behind that has had no answer? Its time and size tell, for an
 * append has made the file longer; of one that is fenced, the change number, too. Other data is
 * just sent again. */
static bool is_own_commit(const struct round_inode *entry, const struct meta_attr *attr)
{
    const struct inode *inode = entry->inode;

    if (!entry->unsure || attr->size != entry->new_size || attr->mtime != entry->mtime) {
        return false;
    }
    return inode->fenced ? inode->told_change != 0 && attr->change == inode->told_change + 1
                         : inode->flushing.floating != 0;
}

static void on_learned(struct meta_call *call)
{
    struct round_inode *entry = container_of(call, struct round_inode, learn);
    struct flush_round *round = entry->round;
    struct inode *inode = entry->inode;
    struct meta_attr attr;
    uint64_t change;
    int r = call->status;

    if (r == 0) {
        r = meta_attr_decode(&attr, call->reply.attr);
    }
    if (r == 0 && attr.change == 0) {
        r = -ERR_BAD_MESSAGE;
    }
    if (r == 0) {
        change = attr.change;
        entry->found = is_own_commit(entry, &attr);
        if (entry->found) {
            fence_told(round->mount, inode, change, true);
        }
        entry->lost |= fence_refuses(inode, change);
        inode_update(round->mount, inode, &attr, false);
        entry->learned = inode->attr.change == change;
        if (call->request.flags & META_WANT_DATA && inode->contents == CONTENTS_UNKNOWN &&
            entry->learned) {
            r = inode_take_contents(round->mount, inode, &call->reply, 0);
        }
    }
    entry->learn_error = r;
    op_complete(&round->op);
}

/* A commit rests on contents that nobody else can change, or on a known change of the file. What we
 * counted ourselves ends with the trust (local_forget_all): 0 is no change to rest on. */
static bool must_learn(const struct round_inode *entry)
{
    const struct inode *inode = entry->inode;

    if (inode == NULL || entry->learn_error != 0) {
        return false;
    }
    if (inode->contents == CONTENTS_UNKNOWN || inode->attr.change == 0 ||
        ((entry->unsure || inode->fenced) && !entry->learned)) {
        return true;
    }
    return !entry->learned && !coherence_trusts(entry->round->mount, inode);
}

bool round_is_behind(const struct flush_round *round)
{
    for (unsigned i = 0; i < round->inode_count; i++) {
        const struct round_inode *entry = &round->inodes[i];

        if (must_learn(entry) && entry->inode->local_ops != 0) {
            return true;
        }
    }
    return false;
}

bool round_learn(struct flush_round *round)
{
    for (unsigned i = 0; i < round->inode_count; i++) {
        struct round_inode *entry = &round->inodes[i];

        if (!must_learn(entry)) {
            continue;
        }
        entry->learn = (struct meta_call){.done = on_learned};
        entry->learn.request = (struct meta_request){
            .op = META_GETATTR,
            .ino = entry->inode->ino,
            .flags = entry->inode->contents == CONTENTS_UNKNOWN ? META_WANT_DATA : 0};
        round->op.inflight++;
        meta_call_start(&round->mount->meta, &entry->learn);
    }
    return round->op.inflight > 0;
}
