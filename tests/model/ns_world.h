#pragma once
/*
 * ns_world: the namespace, a second replica of it and the naive model of both, with the dice that
 * choose operations; shared by the files of model_test_ns.
 */
#include "tests/lib/test.h"

#include "base/rng.h"
#include "meta/ns.h"
#include "tests/model/ns_array.h"
#include "tests/model/ns_model.h"

#define SESSION 1

struct world {
    struct rng rng;
    struct kv_array array, replica;
    struct ns ns, twin;
    struct model *model;
    const struct user *user;
    struct meta_request request;
    uint64_t seq, index, chunk;
    uint64_t reserved_from, reserved_to; /* inode numbers of ours */
    const struct meta_reply *reply;
    bool sole;
};

static const char names[NAMES][4] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};

/* The leader's stamp, or half of the time the client's, which may be earlier or later. */
static inline void take_time(struct world *world, struct meta_request *request)
{
    request->stamp_time = 1000 + world->index;
    world->model->now = request->stamp_time;
    if (rng_percent(&world->rng, 50)) {
        request->flags |= META_CLIENT_TIME;
        request->ctime = 1 + rng_below(&world->rng, 2 * request->stamp_time);
        world->model->now = request->ctime;
    }
}

static inline int apply(struct world *world)
{
    struct meta_request *request = &world->request;

    world->index++;
    request->session = SESSION;
    request->seq = ++world->seq;
    request->low_water = world->seq > 5 ? world->seq - 5 : 1;
    request->uid = world->user->uid;
    request->gid = world->user->gid;
    take_time(world, request);
    request->flags |= world->sole ? META_SOLE_SESSION : 0;
    world->reply = ns_apply(&world->twin, request, world->index);
    world->reply = ns_apply(&world->ns, request, world->index);
    if (rng_below(&world->rng, 8) == 0) { /* sent again: the same answer, no other effect */
        cleanup(buf_deinit) struct buf first = {0};
        cleanup(buf_deinit) struct buf second = {0};

        meta_reply_encode(world->reply, &first);
        world->reply = ns_apply(&world->ns, request, world->index);
        meta_reply_encode(world->reply, &second);
        assert_true(slice_equal(buf_slice(&first), buf_slice(&second)));
    }
    return -(int)world->reply->error;
}

static inline struct node *any_node(struct world *world)
{
    unsigned recent = world->model->count < 40 ? world->model->count : 40;

    if (rng_below(&world->rng, 3) == 0) {
        return &world->model->nodes[rng_below(&world->rng, world->model->count)];
    }
    return &world->model->nodes[world->model->count - 1 - rng_below(&world->rng, recent)];
}

static inline struct node *any_dir(struct world *world)
{
    for (int i = 0; i < 20; i++) {
        struct node *node = any_node(world);

        if (S_ISDIR(node->mode) || rng_below(&world->rng, 30) == 0) {
            return node;
        }
    }
    return &world->model->nodes[0];
}

/* Mostly a name that is there. */
static inline unsigned any_name(struct world *world, const struct node *dir)
{
    unsigned name = (unsigned)rng_below(&world->rng, NAMES);

    for (int i = 0; i < 6 && dir->entries[name] == NULL && i != 5; i++) {
        name = (unsigned)rng_below(&world->rng, NAMES);
    }
    return name;
}

static inline int dir_error(const struct node *dir)
{
    return dir->gone ? -ESTALE : !S_ISDIR(dir->mode) ? -ENOTDIR : 0;
}
