#include "raft/raft_tail.h"

#include "base/assert.h"
#include "base/mem.h"

static void drop(struct raft_tail *tail, size_t at)
{
    struct raft_entry *entry = &tail->entries[at];

    tail->bytes -= raft_tail_entry_bytes(entry);
    mem_free((void *)(uintptr_t)entry->command.data);
    *entry = (struct raft_entry){0};
}

void raft_tail_init(struct raft_tail *tail, uint64_t base_index, uint64_t base_term)
{
    *tail = (struct raft_tail){.base_index = base_index, .base_term = base_term};
}

void raft_tail_deinit(struct raft_tail *tail)
{
    raft_tail_reset(tail, 0, 0);
    mem_free(tail->entries);
    *tail = (struct raft_tail){0};
}

void raft_tail_reset(struct raft_tail *tail, uint64_t base_index, uint64_t base_term)
{
    for (size_t i = 0; i < tail->count; i++) {
        drop(tail, tail->start + i);
    }
    ASSERT(tail->bytes == 0);
    tail->start = 0;
    tail->count = 0;
    tail->base_index = base_index;
    tail->base_term = base_term;
}

static void make_room(struct raft_tail *tail)
{
    if (tail->start + tail->count < tail->capacity) {
        return;
    }
    if (tail->start > tail->capacity / 2) {
        memmove(tail->entries, tail->entries + tail->start, tail->count * sizeof(*tail->entries));
    } else {
        size_t capacity = tail->capacity == 0 ? 64 : tail->capacity * 2;
        struct raft_entry *entries = mem_alloc(capacity * sizeof(*entries));

        if (tail->count > 0) {
            memcpy(entries, tail->entries + tail->start, tail->count * sizeof(*entries));
        }
        mem_free(tail->entries);
        tail->entries = entries;
        tail->capacity = capacity;
    }
    tail->start = 0;
}

void raft_tail_append(struct raft_tail *tail, uint64_t term, struct slice command)
{
    struct raft_entry entry = {.term = term};

    if (command.size > 0) {
        uint8_t *copy = mem_alloc(command.size);

        memcpy(copy, command.data, command.size);
        entry.command = slice_make(copy, command.size);
    }
    make_room(tail);
    tail->entries[tail->start + tail->count] = entry;
    tail->count++;
    tail->bytes += raft_tail_entry_bytes(&entry);
}

void raft_tail_truncate(struct raft_tail *tail, uint64_t index)
{
    ASSERT(index > tail->base_index);
    while (raft_tail_last(tail) >= index) {
        tail->count--;
        drop(tail, tail->start + tail->count);
    }
}

void raft_tail_compact(struct raft_tail *tail, uint64_t index)
{
    ASSERT(index <= raft_tail_last(tail));
    while (tail->base_index < index) {
        tail->base_term = tail->entries[tail->start].term;
        drop(tail, tail->start);
        tail->start++;
        tail->count--;
        tail->base_index++;
    }
}

uint64_t raft_tail_last(const struct raft_tail *tail)
{
    return tail->base_index + tail->count;
}

const struct raft_entry *raft_tail_at(const struct raft_tail *tail, uint64_t index)
{
    if (index <= tail->base_index || index > raft_tail_last(tail)) {
        return NULL;
    }
    return &tail->entries[tail->start + (size_t)(index - tail->base_index - 1)];
}

bool raft_tail_term(const struct raft_tail *tail, uint64_t index, uint64_t *out_term)
{
    const struct raft_entry *entry = raft_tail_at(tail, index);

    if (entry == NULL && index != tail->base_index) {
        return false;
    }
    *out_term = entry != NULL ? entry->term : tail->base_term;
    return true;
}

uint64_t raft_tail_entry_bytes(const struct raft_entry *entry)
{
    return entry->command.size + RAFT_ENTRY_OVERHEAD;
}

uint64_t raft_tail_agree(const struct raft_tail *tail, uint64_t index, uint64_t term)
{
    uint64_t low = tail->base_index;
    uint64_t high = min_u64(index, raft_tail_last(tail));

    if (index <= low) {
        return index;
    }
    while (low < high) { /* terms grow with the index: the answer is in [low, high] */
        uint64_t middle = low + (high - low + 1) / 2;

        if (raft_tail_at(tail, middle)->term <= term) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}
