#include "base/heap.h"

#include "base/assert.h"
#include "base/mem.h"

static bool before(const struct heap_node *a, const struct heap_node *b)
{
    return a->key != b->key ? a->key < b->key : a->order < b->order;
}

static void place(struct heap *heap, struct heap_node *node, size_t slot)
{
    heap->nodes[slot - 1] = node;
    node->slot = slot;
}

static void sift_up(struct heap *heap, struct heap_node *node)
{
    size_t slot = node->slot;

    while (slot > 1 && before(node, heap->nodes[slot / 2 - 1])) {
        place(heap, heap->nodes[slot / 2 - 1], slot);
        slot /= 2;
    }
    place(heap, node, slot);
}

static void sift_down(struct heap *heap, struct heap_node *node)
{
    size_t slot = node->slot;

    for (;;) {
        size_t child = slot * 2;

        if (child > heap->count) {
            break;
        }
        if (child < heap->count && before(heap->nodes[child], heap->nodes[child - 1])) {
            child++;
        }
        if (before(node, heap->nodes[child - 1])) {
            break;
        }
        place(heap, heap->nodes[child - 1], slot);
        slot = child;
    }
    place(heap, node, slot);
}

void heap_deinit(struct heap *heap)
{
    mem_free(heap->nodes);
    *heap = (struct heap){0};
}

void heap_push(struct heap *heap, struct heap_node *node, uint64_t key)
{
    ASSERT(node->slot == 0);
    if (heap->count == heap->capacity) {
        heap->capacity = heap->capacity ? heap->capacity * 2 : 16;
        heap->nodes = mem_realloc(heap->nodes, heap->capacity * sizeof(*heap->nodes));
    }
    node->key = key;
    node->order = heap->next_order++;
    heap->count++;
    place(heap, node, heap->count);
    sift_up(heap, node);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    struct heap_node *last;
    size_t slot = node->slot;

    if (slot == 0) {
        return;
    }
    ASSERT(heap->nodes[slot - 1] == node);
    last = heap->nodes[heap->count - 1];
    heap->count--;
    node->slot = 0;
    if (last != node) {
        place(heap, last, slot);
        sift_up(heap, last);
        sift_down(heap, last);
    }
}
