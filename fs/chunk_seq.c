#include "fs/chunk_seq.h"

#include "base/mem.h"
#include "fs/mount.h"

struct chunk_seq *chunk_seq_take(struct mount *mount)
{
    struct chunk_seq *seq = mem_zalloc(sizeof(*seq));

    seq->seq = mount->next_chunk_seq++;
    list_push_back(&mount->chunk_seqs, &seq->node);
    return seq;
}

void chunk_seq_settle(struct mount *mount, struct chunk_seq **io_seq)
{
    if (*io_seq != NULL) {
        (*io_seq)->settled = true;
        (*io_seq)->until = mount->meta.next_seq;
        *io_seq = NULL;
    }
}

uint64_t chunk_seq_low(struct mount *mount)
{
    list_for_each (node, &mount->chunk_seqs) {
        struct chunk_seq *seq = container_of(node, struct chunk_seq, node);

        if (!seq->settled || seq->until > mount->meta.low_water) {
            return seq->seq;
        }
        list_remove(node);
        mem_free(seq);
    }
    return mount->next_chunk_seq;
}

void chunk_seq_session_lost(struct mount *mount)
{
    list_for_each (node, &mount->chunk_seqs) {
        container_of(node, struct chunk_seq, node)->until = 0;
    }
}

void chunk_seq_deinit(struct mount *mount)
{
    struct list_node *node;

    while ((node = list_pop_front(&mount->chunk_seqs)) != NULL) {
        mem_free(container_of(node, struct chunk_seq, node));
    }
}
