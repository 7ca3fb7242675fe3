#include "tests/lib/test.h"

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"

struct item {
    uint64_t key;
    struct list_node node;
    struct heap_node heap;
};

static void test_list(void **state)
{
    struct item items[3] = {{.key = 1}, {.key = 2}, {.key = 3}};
    struct list list;
    struct list other;
    uint64_t sum = 0;

    (void)state;
    list_init(&list);
    list_init(&other);
    assert_true(list_empty(&list));
    assert_null(list_pop_front(&list));
    list_remove(&items[0].node); /* harmless on a zeroed node */
    assert_false(list_linked(&items[0].node));
    list_push_back(&list, &items[1].node);
    list_push_back(&list, &items[2].node);
    list_push_front(&list, &items[0].node);
    assert_ptr_equal(list_first(&list), &items[0].node);
    assert_ptr_equal(list_last(&list), &items[2].node);
    list_for_each (node, &list) { /* the body may remove the node it is at */
        struct item *item = list_entry(node, struct item, node);

        sum += item->key;
        if (item->key == 2) {
            list_remove(node);
        }
    }
    assert_int_equal(sum, 6);
    assert_false(list_linked(&items[1].node));
    list_push_back(&other, &items[1].node);
    list_splice(&list, &other);
    assert_true(list_empty(&other));
    assert_ptr_equal(list_last(&list), &items[1].node);
}

static void test_heap_sorts_and_keeps_ties_in_order(void **state)
{
    static struct item items[500];
    struct heap heap = {0};
    struct heap_node *top;
    uint64_t last_key = 0;
    uint64_t last_order = 0;
    unsigned count = 0;
    struct rng rng;

    (void)state;
    rng_init(&rng, 1);
    for (unsigned i = 0; i < 500; i++) {
        items[i] = (struct item){.key = rng_below(&rng, 50)};
        heap_push(&heap, &items[i].heap, items[i].key);
    }
    for (unsigned i = 0; i < 500; i += 5) {
        heap_remove(&heap, &items[i].heap);
        heap_remove(&heap, &items[i].heap); /* harmless */
    }
    while ((top = heap_top(&heap)) != NULL) {
        assert_true(top->key > last_key || (top->key == last_key && top->order >= last_order));
        last_key = top->key;
        last_order = top->order;
        heap_remove(&heap, top);
        assert_int_equal(top->slot, 0);
        count++;
    }
    assert_int_equal(count, 400);
    heap_deinit(&heap);
}

/* Against an array, with many collisions and removals. */
static void test_map_equals_an_array(void **state)
{
    static char values[200];
    void *model[200] = {NULL};
    struct map map = {0};
    struct rng rng;
    size_t position = 0;
    size_t used = 0;

    (void)state;
    rng_init(&rng, 2);
    assert_null(map_get(&map, map_u64(1)));
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t at = rng_below(&rng, 200);
        struct map_key key = {at % 3, at};

        if (rng_percent(&rng, 50)) {
            assert_ptr_equal(map_put(&map, key, &values[at]), model[at]);
            model[at] = &values[at];
        } else {
            assert_ptr_equal(map_remove(&map, key), model[at]);
            model[at] = NULL;
        }
        at = rng_below(&rng, 200);
        assert_ptr_equal(map_get(&map, (struct map_key){at % 3, at}), model[at]);
    }
    for (unsigned i = 0; i < 200; i++) {
        used += model[i] != NULL;
    }
    assert_int_equal(map.count, used);
    for (struct map_slot *slot; (slot = map_next(&map, &position)) != NULL; used--) {
        assert_ptr_equal(slot->value, model[slot->key.lo]);
    }
    assert_int_equal(used, 0);
    map_deinit(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_heap_sorts_and_keeps_ties_in_order),
        cmocka_unit_test(test_map_equals_an_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
