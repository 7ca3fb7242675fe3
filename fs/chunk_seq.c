#include "fs/chunk_seq.h"

#include "fs/mount.h"

void chunk_seq_take(struct mount *mount, struct chunk_seq *out_seq)
{
    out_seq->seq = mount->next_chunk_seq++;
    list_push_back(&mount->chunk_seqs, &out_seq->node);
}

void chunk_seq_settle(struct mount *mount, struct chunk_seq *seq)
{
    struct list_node *first;

    list_remove(&seq->node);
    first = list_first(&mount->chunk_seqs);
    mount->meta.chunk_low =
        first != NULL ? container_of(first, struct chunk_seq, node)->seq : mount->next_chunk_seq;
}
