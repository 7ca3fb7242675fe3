#pragma once
/* heap: a binary min-heap of intrusive nodes by a 64-bit key; equal keys leave in arrival order. */
#include "base/compiler.h"

struct heap_node {
    uint64_t key;
    uint64_t order; /* tie-breaker, set by heap_push */
    size_t slot;    /* 1-based; 0 = not in a heap */
};

struct heap {
    struct heap_node **nodes;
    size_t count;
    size_t capacity;
    uint64_t next_order;
};

void heap_deinit(struct heap *heap);
void heap_push(struct heap *heap, struct heap_node *node, uint64_t key);
/* Harmless when the node is in no heap. */
void heap_remove(struct heap *heap, struct heap_node *node);
/* The smallest, or NULL. */
static inline struct heap_node *heap_top(const struct heap *heap)
{
    return heap->count ? heap->nodes[0] : NULL;
}
