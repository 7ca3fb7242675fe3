/*
 * The namespace against a naive model in memory: random operations of two users, the same errno
 * each time, the same tree, contents and counters afterwards. Replays and a second replica give
 * the same state.
 */
#include "tests/lib/test.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/rng.h"
#include "chunkstore/chunk_proto.h"
#include "meta/limits.h"
#include "meta/ns.h"
#include "tests/model/ns_more.h"
#include "tests/model/ns_world.h"

#include <errno.h>
#include <stdio.h>

static int model_parent(struct world *world, const struct node *dir, unsigned name)
{
    int r = dir_error(dir);

    if (r == 0 && !allowed(world->user, dir, 1)) {
        r = -EACCES;
    }
    if (r == 0 && dir->entries[name] != NULL) {
        return -EEXIST;
    }
    return r < 0 ? r : may_change(world->user, dir);
}

/* A number that the session has reserved, or 0: the service chooses. */
static uint64_t any_reserved(struct world *world)
{
    struct model *model = world->model;

    if (rng_percent(&world->rng, 60)) {
        return 0;
    }
    if (world->reserved_from == world->reserved_to) {
        uint32_t count = (uint32_t)(1 + rng_below(&world->rng, 20));

        world->request = (struct meta_request){.op = META_RESERVE_INOS, .count = count};
        assert_int_equal(apply(world), 0);
        assert_int_equal(world->reply->value, model->next_ino);
        world->reserved_from = model->next_ino;
        model->next_ino += count;
        world->reserved_to = model->next_ino;
    }
    return world->reserved_from;
}

static void do_make(struct world *world)
{
    static const struct {
        uint8_t op;
        uint32_t type;
    } kinds[] = {{META_CREATE, S_IFREG},
                 {META_MKDIR, S_IFDIR},
                 {META_MKNOD, S_IFIFO},
                 {META_SYMLINK, S_IFLNK}};
    struct node *dir = any_dir(world);
    unsigned name = (unsigned)rng_below(&world->rng, NAMES);
    unsigned kind = (unsigned)rng_below(&world->rng, 4);
    uint32_t mode = (uint32_t)rng_below(&world->rng, 01000) | 0500;
    uint64_t ino = any_reserved(world);
    int expected;

    mode |= rng_below(&world->rng, 8) == 0 ? S_ISVTX : 0;
    mode |= kinds[kind].type == S_IFDIR && rng_below(&world->rng, 8) == 0 ? S_ISGID : 0;
    world->request = (struct meta_request){.op = kinds[kind].op,
                                           .ino = dir->ino,
                                           .ino2 = ino,
                                           .name = slice_text(names[name]),
                                           .flags = META_NOREPLACE,
                                           .mode = mode};
    if (kinds[kind].type == S_IFIFO) {
        world->request.mode |= S_IFIFO;
    }
    if (kinds[kind].type == S_IFLNK) {
        world->request.data = slice_text("target");
        mode = 0777;
    }
    expected = model_parent(world, dir, name);
    assert_int_equal(apply(world), expected);
    if (expected == 0) {
        struct node *node =
            model_make(world->model, dir, name, world->user, mode | kinds[kind].type);

        if (ino != 0) {
            node->ino = world->reserved_from++;
        } else {
            world->model->next_ino++;
        }

        node->size = kinds[kind].type == S_IFLNK ? 6 : 0;
        struct meta_attr attr;
        assert_int_equal(meta_attr_decode(&attr, world->reply->attr), 0);
        assert_int_equal(attr.ino, node->ino);
        assert_int_equal(attr.mode, node->mode);
        assert_int_equal(attr.gid, node->gid);
    }
}

static void do_link(struct world *world)
{
    struct node *file = any_node(world);
    struct node *dir = any_dir(world);
    unsigned name = (unsigned)rng_below(&world->rng, NAMES);
    int expected = file->gone ? -ESTALE : model_parent(world, dir, name);

    if (expected == 0) {
        expected = S_ISDIR(file->mode) ? -EPERM : file->nlink == 0 && !file->linkable ? -ENOENT : 0;
    }
    world->request = (struct meta_request){
        .op = META_LINK, .ino = dir->ino, .ino2 = file->ino, .name = slice_text(names[name])};
    assert_int_equal(apply(world), expected);
    if (expected == 0) {
        dir->entries[name] = file;
        file->nlink++;
        file->linkable = false;
        file->ctime = world->model->now;
        model_touch(world->model, dir);
    }
}

static int model_victim(struct world *world, const struct node *dir, unsigned name)
{
    int r = dir_error(dir);

    if (r == 0 && !allowed(world->user, dir, 1)) {
        r = -EACCES;
    }
    if (r == 0 && dir->entries[name] == NULL) {
        r = -ENOENT;
    }
    if (r == 0) {
        r = may_change(world->user, dir);
    }
    return r < 0 ? r : may_drop(world->user, dir, dir->entries[name]);
}

static void do_remove(struct world *world)
{
    struct node *dir = any_dir(world);
    unsigned name = any_name(world, dir);
    bool rmdir = rng_percent(&world->rng, 40);
    bool still_open = rng_percent(&world->rng, 20);
    int expected = model_victim(world, dir, name);
    struct node *victim = expected == 0 ? dir->entries[name] : NULL;

    if (expected == 0 && rmdir) {
        expected = !S_ISDIR(victim->mode) ? -ENOTDIR : !model_empty(victim) ? -ENOTEMPTY : 0;
    } else if (expected == 0) {
        expected = S_ISDIR(victim->mode) ? -EISDIR : 0;
    }
    world->request = (struct meta_request){.op = rmdir ? META_RMDIR : META_UNLINK,
                                           .ino = dir->ino,
                                           .flags = still_open ? META_STILL_OPEN : 0,
                                           .name = slice_text(names[name])};
    assert_int_equal(apply(world), expected);
    if (expected == 0) {
        dir->entries[name] = NULL;
        dir->nlink -= rmdir ? 1 : 0;
        model_touch(world->model, dir);
        model_drop(world->model, victim, world->sole && !still_open);
    }
}

static int rename_expected(struct world *world, struct node *from_dir, struct node *to_dir,
                           const unsigned name[2], uint32_t flags)
{
    bool exchange = (flags & META_EXCHANGE) != 0;
    struct node *moved, *victim;
    int r = dir_error(from_dir);

    r = r < 0 ? r : dir_error(to_dir);
    if (r == 0 && (!allowed(world->user, from_dir, 1) || !allowed(world->user, to_dir, 1))) {
        r = -EACCES;
    }
    if (r < 0) {
        return r;
    }
    moved = from_dir->entries[name[0]];
    victim = to_dir->entries[name[1]];
    if (moved == NULL) {
        return -ENOENT;
    }
    if (victim != NULL && (flags & META_NOREPLACE) != 0) {
        return -EEXIST;
    }
    if (victim == NULL && exchange) {
        return -ENOENT;
    }
    if (moved == victim) {
        return 1;
    }
    if (from_dir != to_dir && S_ISDIR(moved->mode) && model_below(to_dir, moved)) {
        return -EINVAL;
    }
    if (from_dir != to_dir && victim != NULL && S_ISDIR(victim->mode) &&
        model_below(from_dir, victim)) {
        return exchange ? -EINVAL : -ENOTEMPTY;
    }
    r = may_change(world->user, from_dir);
    r = r < 0 ? r : may_drop(world->user, from_dir, moved);
    r = r < 0 ? r : may_change(world->user, to_dir);
    r = r < 0 || victim == NULL ? r : may_drop(world->user, to_dir, victim);
    if (r == 0 && from_dir != to_dir) {
        bool bad = S_ISDIR(moved->mode) && !allowed(world->user, moved, 2);

        bad |= exchange && S_ISDIR(victim->mode) && !allowed(world->user, victim, 2);
        r = bad ? -EACCES : 0;
    }
    if (r < 0 || victim == NULL || exchange) {
        return r;
    }
    if (S_ISDIR(moved->mode) != S_ISDIR(victim->mode)) {
        return S_ISDIR(moved->mode) ? -ENOTDIR : -EISDIR;
    }
    return S_ISDIR(victim->mode) && !model_empty(victim) ? -ENOTEMPTY : 0;
}

static void rename_model(struct world *world, struct node *from_dir, struct node *to_dir,
                         const unsigned name[2], bool exchange)
{
    struct node *moved = from_dir->entries[name[0]];
    struct node *victim = to_dir->entries[name[1]];

    model_touch(world->model, from_dir);
    model_touch(world->model, to_dir);
    moved->ctime = world->model->now;
    from_dir->entries[name[0]] = exchange ? victim : NULL;
    to_dir->entries[name[1]] = moved;
    if (S_ISDIR(moved->mode)) {
        from_dir->nlink--;
        to_dir->nlink++;
        moved->parent = to_dir;
    }
    if (victim != NULL && S_ISDIR(victim->mode)) {
        to_dir->nlink--;
        from_dir->nlink += exchange ? 1 : 0;
        victim->parent = exchange ? from_dir : victim->parent;
    }
    if (victim != NULL && exchange) {
        victim->ctime = world->model->now;
    } else if (victim != NULL) {
        model_drop(world->model, victim, world->sole);
    }
}

static void do_rename(struct world *world)
{
    struct node *from_dir = any_dir(world);
    struct node *to_dir = rng_percent(&world->rng, 40) ? from_dir : any_dir(world);
    unsigned name[2] = {any_name(world, from_dir), any_name(world, to_dir)};
    uint64_t kind = rng_below(&world->rng, 5);
    uint32_t flags = kind == 0   ? META_NOREPLACE
                     : kind == 1 ? META_EXCHANGE
                     : kind == 2 ? META_WHITEOUT
                                 : 0;
    int expected = rename_expected(world, from_dir, to_dir, name, flags);

    world->request = (struct meta_request){.op = META_RENAME,
                                           .flags = flags,
                                           .ino = from_dir->ino,
                                           .ino2 = to_dir->ino,
                                           .name = slice_text(names[name[0]]),
                                           .name2 = slice_text(names[name[1]])};
    assert_int_equal(apply(world), expected > 0 ? 0 : expected);
    if (expected == 0) {
        rename_model(world, from_dir, to_dir, name, flags == META_EXCHANGE);
        if (flags == META_WHITEOUT) {
            model_whiteout(world->model, from_dir, name[0], world->user);
        }
    }
}

static void model_truncate(struct node *node, uint64_t size)
{
    for (uint64_t i = size; i < FILE_MAX; i++) {
        node->cells[i] = (struct cell){0};
    }
    node->size = size;
    node->is_inline |= size == 0;
}

/* The whole contents are replaced by `length` bytes; what is reserved behind them stays. */
static void model_replace(struct node *node, uint32_t length)
{
    for (uint32_t i = 0; i < FILE_MAX; i++) {
        node->cells[i] = (struct cell){.reserved = i >= length && node->cells[i].reserved};
    }
}

static void do_setattr(struct world *world)
{
    struct node *node = any_node(world);
    bool chmod = rng_percent(&world->rng, 40);
    uint32_t mode = (uint32_t)rng_below(&world->rng, 01000) | 0500;
    uint64_t size = rng_below(&world->rng, FILE_MAX);
    int expected = node->gone ? -ESTALE : 0;

    size = rng_percent(&world->rng, 20) ? 0 : size;
    if (expected == 0 && chmod) {
        expected = owns(world->user, node) ? 0 : -EPERM;
    } else if (expected == 0) {
        expected = S_ISDIR(node->mode)              ? -EISDIR
                   : !S_ISREG(node->mode)           ? -EINVAL
                   : !allowed(world->user, node, 2) ? -EACCES
                                                    : 0;
    }
    world->request = (struct meta_request){.op = META_SETATTR,
                                           .ino = node->ino,
                                           .valid = chmod ? META_SET_MODE : META_SET_SIZE,
                                           .mode = mode,
                                           .size = size};
    assert_int_equal(apply(world), expected);
    if (expected == 0 && chmod) {
        node->mode = (node->mode & S_IFMT) | mode;
        node->ctime = world->model->now;
    } else if (expected == 0) {
        model_truncate(node, size);
        model_touch(world->model, node);
    }
}

/* ---- data ---- */

static void add_extent(struct buf *out, uint64_t offset, uint32_t length, uint64_t seq,
                       uint32_t chunk_offset)
{
    cleanup(buf_deinit) struct buf one = {0};
    struct meta_extent extent = {.offset = offset,
                                 .length = length,
                                 .chunk_session = SESSION,
                                 .chunk_seq = seq,
                                 .chunk_offset = chunk_offset};

    meta_extent_encode(&extent, &one);
    schema_write_bytes(out, buf_slice(&one));
}

static void model_write(struct node *node, uint64_t offset, uint32_t length, uint64_t seq,
                        uint32_t chunk_offset)
{
    for (uint32_t i = 0; i < length; i++) {
        node->cells[offset + i] = (struct cell){.seq = seq, .off = chunk_offset + i};
    }
    node->size = node->size > offset + length ? node->size : offset + length;
}

/* An extent whose bytes are in the commit; `bytes` has to live until that is sent. */
static void add_journalled(struct world *world, struct buf *out, uint64_t offset, uint32_t length,
                           uint8_t *bytes)
{
    cleanup(buf_deinit) struct buf one = {0};
    struct meta_extent extent = {
        .offset = offset, .length = length, .data = slice_make(bytes, length)};

    for (uint32_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)rng_below(&world->rng, 256);
    }
    meta_extent_encode(&extent, &one);
    schema_write_bytes(out, buf_slice(&one));
}

static void model_journal(struct world *world, struct node *node, uint64_t offset, uint32_t length,
                          const uint8_t *bytes)
{
    model_write(node, offset, length, 0, 0);
    for (uint32_t i = 0; i < length; i++) {
        node->cells[offset + i] =
            (struct cell){.seq = JOURNALLED | (world->seq + 1), .off = bytes[i]};
    }
}

static void send_commit(struct world *world, struct meta_commit *commit, int expected)
{
    cleanup(buf_deinit) struct buf one = {0};
    cleanup(buf_deinit) struct buf all = {0};
    struct meta_commit_result result;
    struct schema_reader reader;

    meta_commit_encode(commit, &one);
    schema_write_bytes(&all, buf_slice(&one));
    world->request = (struct meta_request){.op = META_COMMIT, .data = buf_slice(&all)};
    assert_int_equal(apply(world), 0);
    reader = schema_reader_make(world->reply->data);
    assert_int_equal(meta_commit_result_decode(&result, schema_read_bytes(&reader, KiB(4))), 0);
    assert_int_equal(-(int)result.error, expected);
}

static void do_commit(struct world *world)
{
    cleanup(buf_deinit) struct buf extents = {0};
    uint8_t bytes[FILE_MAX];
    struct node *node = any_node(world);
    struct meta_commit commit = {.ino = node->ino};
    bool as_inline = rng_percent(&world->rng, 40);
    int expected = node->gone                       ? -ESTALE
                   : S_ISDIR(node->mode)            ? -EISDIR
                   : !S_ISREG(node->mode)           ? -EINVAL
                   : !allowed(world->user, node, 2) ? -EACCES
                                                    : 0;
    uint64_t offset = rng_below(&world->rng, FILE_MAX / 2);
    uint32_t length = (uint32_t)(1 + rng_below(&world->rng, FILE_MAX / 2 - 1));
    unsigned parts = (unsigned)(1 + rng_below(&world->rng, 3));

    if (as_inline) {
        memset(bytes, (int)(1 + world->seq % 200), sizeof(bytes));
        commit.is_inline = true;
        commit.inline_data = slice_make(bytes, length);
        send_commit(world, &commit, expected);
        if (expected == 0) {
            model_replace(node, length);
            node->is_inline = true;
            for (uint32_t i = 0; i < length; i++) {
                node->cells[i].off = bytes[0];
            }
            node->size = length;
            model_touch(world->model, node);
        }
        return;
    }
    if (node->is_inline) { /* must cover what was inline */
        offset = 0;
        length = (uint32_t)(node->size > length ? node->size : length);
    }
    for (unsigned i = 0; i < parts; i++) { /* later parts lie upon the first */
        uint32_t skip = i == 0 ? 0 : (uint32_t)rng_below(&world->rng, length);
        uint32_t part = i == 0 ? length : (uint32_t)(1 + rng_below(&world->rng, length - skip));
        uint64_t seq = world->chunk + i % 2;

        if (rng_percent(&world->rng, 40)) {
            add_journalled(world, &extents, offset + skip, part, bytes);
            if (expected == 0) {
                model_journal(world, node, offset + skip, part, bytes);
            }
            continue;
        }
        add_extent(&extents, offset + skip, part, seq, skip);
        if (expected == 0) {
            model_write(node, offset + skip, part, seq, skip);
        }
    }
    world->chunk += 2;
    commit.extents = buf_slice(&extents);
    send_commit(world, &commit, expected);
    if (expected == 0) {
        node->is_inline = false;
        model_touch(world->model, node);
    }
}

/* What of the file is journalled goes into a chunk, unless something has come in between. */
static void do_settle(struct world *world)
{
    struct node *node = any_node(world);
    struct meta_request request = {.op = META_EXTENTS, .ino = node->ino, .flags = META_JOURNALLED};
    const struct meta_reply *reply = ns_read(&world->ns, &request, world->index);
    cleanup(buf_deinit) struct buf extents = {0};
    cleanup(buf_deinit) struct buf body = {0};
    struct schema_reader reader;
    uint32_t at = 0;

    if (reply->error != 0 || node->is_inline) {
        return;
    }
    buf_append_slice(&extents, reply->extents);
    if (rng_percent(&world->rng, 50)) {
        rng_percent(&world->rng, 50) ? do_commit(world) : do_setattr(world);
    }
    reader = schema_reader_make(buf_slice(&extents));
    while (reader.at < reader.end) {
        cleanup(buf_deinit) struct buf one = {0};
        struct meta_extent extent;
        struct meta_settle settle;

        assert_int_equal(meta_extent_decode(&extent, schema_read_bytes(&reader, KiB(20))), 0);
        assert_int_equal(extent.data.size, extent.length);
        settle = (struct meta_settle){.offset = extent.offset,
                                      .length = extent.length,
                                      .from_session = extent.chunk_session,
                                      .from_seq = extent.chunk_seq,
                                      .chunk_session = SESSION,
                                      .chunk_seq = world->chunk,
                                      .chunk_offset = at};
        meta_settle_encode(&settle, &one);
        schema_write_bytes(&body, buf_slice(&one));
        for (uint32_t i = 0; i < extent.length; i++) {
            struct cell *cell = &node->cells[extent.offset + i];

            if (!node->is_inline && cell->seq == (JOURNALLED | extent.chunk_seq)) {
                *cell = (struct cell){.seq = world->chunk, .off = at + i};
            }
        }
        at += extent.length;
    }
    world->request =
        (struct meta_request){.op = META_SETTLE, .ino = node->ino, .data = buf_slice(&body)};
    assert_int_equal(apply(world), node->gone ? -ESTALE : 0);
    world->chunk++;
}

/* ---- attributes ---- */

static void do_xattr(struct world *world)
{
    static const char *const xattr_names[2] = {"user.one", "trusted.two"};
    struct node *node = any_node(world);
    unsigned which = (unsigned)rng_below(&world->rng, 2);
    bool set = rng_percent(&world->rng, 60);
    bool creates = rng_percent(&world->rng, 30);
    char value[16];
    int expected = node->gone ? -ESTALE : 0;

    snprintf(value, sizeof(value), "v%u", (unsigned)(world->seq % 100000));
    if (expected == 0 && which == 0) {
        expected = !S_ISREG(node->mode) && !S_ISDIR(node->mode) ? -EPERM : 0;
        if (expected == 0 && S_ISDIR(node->mode) && (node->mode & S_ISVTX) != 0 &&
            !owns(world->user, node)) {
            expected = -EPERM;
        }
        expected = expected < 0 ? expected : allowed(world->user, node, 2) ? 0 : -EACCES;
    } else if (expected == 0) {
        expected = world->user->uid == 0 ? 0 : -EPERM;
    }
    if (expected == 0 && set && creates && node->xattrs[which].set) {
        expected = -EEXIST;
    }
    if (expected == 0 && !set && !node->xattrs[which].set) {
        expected = -ENODATA;
    }
    world->request = (struct meta_request){.op = set ? META_SETXATTR : META_REMOVEXATTR,
                                           .ino = node->ino,
                                           .flags = set && creates ? META_NOREPLACE : 0,
                                           .name = slice_text(xattr_names[which]),
                                           .data = slice_text(value)};
    assert_int_equal(apply(world), expected);
    if (expected == 0) {
        node->xattrs[which].set = set;
        node->ctime = world->model->now;
        memcpy(node->xattrs[which].value, value, sizeof(value));
    }
}

/* All orphans are let go. */
static void free_orphans(struct world *world)
{
    uint64_t ino = 0;
    bool detached;

    while (ns_next_orphan(&world->ns, 0, &ino, &detached)) {
        uint8_t bytes[8];
        struct meta_request request = {.op = META_ORPHAN_FREE, .data = slice_make(bytes, 8)};

        bytes_put_le64(bytes, ino);
        request.stamp_time = 1000 + ++world->index;
        assert_int_equal(ns_apply(&world->twin, &request, world->index)->error, 0);
        assert_int_equal(ns_apply(&world->ns, &request, world->index)->error, 0);
    }
    for (unsigned i = 0; i < world->model->count; i++) {
        world->model->nodes[i].gone |= world->model->nodes[i].nlink == 0;
    }
}

static void do_read(struct world *world)
{
    struct node *dir = any_dir(world);
    unsigned name = any_name(world, dir);
    struct meta_request request = {.op = META_LOOKUP,
                                   .ino = dir->ino,
                                   .uid = world->user->uid,
                                   .gid = world->user->gid,
                                   .name = slice_text(names[name])};
    int expected = dir_error(dir);
    const struct meta_reply *reply;

    if (expected == 0 && !allowed(world->user, dir, 1)) {
        expected = -EACCES;
    }
    if (expected == 0 && dir->entries[name] == NULL) {
        expected = -ENOENT;
    }
    reply = ns_read(&world->ns, &request, world->index);
    assert_int_equal(-(int)reply->error, expected);
    if (expected == 0) {
        const struct node *node = dir->entries[name];
        struct meta_attr attr;

        assert_int_equal(meta_attr_decode(&attr, reply->attr), 0);
        assert_int_equal(attr.ino, node->ino);
        assert_int_equal(attr.nlink, node->nlink);
        assert_int_equal(attr.size, node->size);
        assert_int_equal(attr.mode, node->mode);
    }
}

/* ---- the whole ---- */

static void check_dir(struct world *world, const struct node *dir)
{
    struct meta_request request = {.op = META_READDIR, .ino = dir->ino, .count = 3};
    unsigned seen = 0, expected = 0;
    bool end = false;

    while (!end) {
        const struct meta_reply *reply = ns_read(&world->ns, &request, world->index);
        struct schema_reader reader = schema_reader_make(reply->data);

        assert_int_equal(reply->error, 0);
        end = reply->value == 1;
        while (reader.at < reader.end) {
            struct meta_dirent entry;

            assert_int_equal(meta_dirent_decode(&entry, schema_read_bytes(&reader, KiB(1))), 0);
            assert_true(entry.cookie > request.offset && entry.name.size == 1);
            assert_int_equal(dir->entries[entry.name.data[0] - 'a']->ino, entry.ino);
            request.offset = entry.cookie;
            seen++;
        }
    }
    for (int i = 0; i < NAMES; i++) {
        expected += dir->entries[i] != NULL;
    }
    assert_int_equal(seen, expected);
}

static uint64_t check_file(struct world *world, const struct node *node)
{
    struct meta_request request = {.op = META_EXTENTS, .ino = node->ino};
    const struct meta_reply *reply = ns_read(&world->ns, &request, world->index);
    struct schema_reader reader = schema_reader_make(reply->extents);
    uint64_t at = 0, bytes = 0;
    struct meta_attr attr;

    assert_int_equal(reply->error, 0);
    assert_int_equal(meta_attr_decode(&attr, reply->attr), 0);
    if (node->is_inline) {
        assert_int_equal(reply->flags & META_DATA_INLINE, META_DATA_INLINE);
        for (size_t i = 0; i < FILE_MAX; i++) {
            assert_int_equal(i < reply->data.size ? reply->data.data[i] : 0, node->cells[i].off);
        }
        assert_int_equal(attr.blocks, (reply->data.size + model_reserved(node) + 511) / 512);
        return reply->data.size;
    }
    while (reader.at < reader.end) {
        struct meta_extent extent;

        assert_int_equal(meta_extent_decode(&extent, schema_read_bytes(&reader, KiB(20))), 0);
        for (; at < extent.offset; at++) {
            assert_int_equal(node->cells[at].seq, 0);
        }
        for (uint32_t i = 0; i < extent.length; i++, at++) {
            bool journalled = extent.data.size != 0;

            assert_int_equal(node->cells[at].seq, extent.chunk_seq | (journalled ? JOURNALLED : 0));
            assert_int_equal(node->cells[at].off,
                             journalled ? extent.data.data[i] : extent.chunk_offset + i);
        }
        bytes += extent.length;
    }
    for (; at < FILE_MAX; at++) {
        assert_int_equal(node->cells[at].seq, 0);
    }
    assert_int_equal(attr.blocks, (bytes + model_reserved(node) + 511) / 512);
    check_seek(world, node);
    return bytes;
}

/* Chunks in use have exactly the live bytes that files name; the others are in the queue. */
static void check_chunks(struct world *world)
{
    uint64_t *live = mem_zalloc((world->chunk + 2) * sizeof(*live));
    uint64_t dead = 0, journalled = 0;

    for (unsigned i = 0; i < world->model->count; i++) {
        const struct node *node = &world->model->nodes[i];

        for (size_t j = 0; !node->gone && S_ISREG(node->mode) && !node->is_inline && j < FILE_MAX;
             j++) {
            if ((node->cells[j].seq & JOURNALLED) != 0) {
                journalled++;
            } else {
                live[node->cells[j].seq]++;
            }
        }
    }
    for (uint64_t seq = 1; seq < world->chunk; seq++) {
        struct record_chunk record = {0};

        ns_get_chunk(&world->ns, SESSION, seq, &record);
        assert_int_equal(record.live, live[seq]);
        dead += record.dead_since != 0;
    }
    assert_int_equal(world->ns.volume.delete_queue, dead);
    assert_int_equal(world->ns.volume.journal_bytes, journalled);
    mem_free(live);
}

/* A file in a reply to INODES is what GETATTR says of it. */
static void check_ahead(struct world *world, struct slice bytes)
{
    struct meta_request request = {.op = META_GETATTR, .flags = META_WANT_DATA};
    const struct meta_reply *reply;
    struct meta_attr attr;
    struct meta_file file;

    assert_int_equal(meta_file_decode(&file, bytes), 0);
    assert_int_equal(meta_attr_decode(&attr, file.attr), 0);
    request.ino = attr.ino;
    reply = ns_read(&world->ns, &request, world->index);
    assert_int_equal(reply->error, 0);
    assert_true(slice_equal(reply->attr, file.attr));
    assert_int_equal(file.is_inline, (reply->flags & META_DATA_INLINE) != 0);
    assert_true(slice_equal(reply->data, file.inline_data));
    assert_true(slice_equal(reply->extents, file.extents));
    assert_int_equal(reply->value, file.extents_to);
}

/* INODES over all numbers finds each file that has a name, once. */
static void check_inodes(struct world *world, unsigned files)
{
    struct meta_request request = {.op = META_INODES, .ino2 = UINT64_MAX};
    cleanup(buf_deinit) struct buf data = {0};
    unsigned seen = 0;

    while (request.ino < request.ino2) {
        const struct meta_reply *reply = ns_read(&world->ns, &request, world->index);
        struct schema_reader reader;

        assert_int_equal(reply->error, 0);
        assert_true(reply->value > request.ino);
        request.ino = reply->value;
        buf_clear(&data);
        buf_append_slice(&data, reply->data);
        reader = schema_reader_make(buf_slice(&data));
        for (; reader.at < reader.end; seen++) {
            check_ahead(world, schema_read_bytes(&reader, META_BODY_MAX));
        }
    }
    assert_int_equal(seen, files);
}

static void check_all(struct world *world)
{
    uint64_t bytes = 0, inodes = 0, orphans = 0, reserved = 0;
    unsigned files = 0;

    for (unsigned i = 0; i < world->model->count; i++) {
        const struct node *node = &world->model->nodes[i];
        struct meta_request request = {.op = META_GETATTR, .ino = node->ino};

        const struct meta_reply *reply = ns_read(&world->ns, &request, world->index);
        struct meta_attr attr;

        assert_int_equal(reply->error, node->gone ? ESTALE : 0);
        if (node->gone) {
            continue;
        }
        assert_int_equal(meta_attr_decode(&attr, reply->attr), 0);
        assert_int_equal(attr.nlink, node->nlink);
        assert_int_equal(attr.mode, node->mode);
        assert_int_equal(attr.size, node->size);
        assert_int_equal(attr.uid, node->uid);
        assert_int_equal(attr.gid, node->gid);
        assert_int_equal(attr.ctime, node->ctime);
        assert_int_equal(attr.mtime, node->mtime);
        assert_int_equal(attr.atime, node->atime);
        if (S_ISDIR(node->mode) && node->nlink > 0) {
            assert_int_equal(attr.parent, node->parent->ino);
        }
        inodes++;
        orphans += node->nlink == 0;
        if (S_ISDIR(node->mode)) {
            check_dir(world, node);
        } else if (S_ISREG(node->mode)) {
            bytes += check_file(world, node);
            reserved += model_reserved(node);
            files += node->nlink > 0;
        }
    }
    assert_int_equal(world->ns.volume.inodes, inodes);
    assert_int_equal(world->ns.volume.orphans, orphans);
    assert_int_equal(world->ns.volume.used_bytes, bytes);
    assert_int_equal(world->ns.volume.reserved_bytes, reserved);
    check_chunks(world);
    check_inodes(world, files);
    assert_int_equal(world->array.count, world->replica.count);
    for (size_t i = 0; i < world->array.count; i++) {
        assert_true(slice_equal(buf_slice(&world->array.pairs[i].key),
                                buf_slice(&world->replica.pairs[i].key)));
        assert_true(slice_equal(buf_slice(&world->array.pairs[i].value),
                                buf_slice(&world->replica.pairs[i].value)));
    }
}

static void world_init(struct world *world, uint64_t seed)
{
    uint8_t data[32] = {7};
    struct meta_request format = {
        .op = META_VOLUME_FORMAT, .data = slice_make(data, 32), .stamp_time = 1};
    struct meta_request open = {.op = META_SESSION_OPEN, .offset = 5, .stamp_time = 2};
    struct ns *both[] = {&world->ns, &world->twin};

    *world = (struct world){.chunk = 1};
    rng_init(&world->rng, seed);
    kv_array_init(&world->array);
    kv_array_init(&world->replica);
    ns_init(&world->ns, &world->array.kv);
    ns_init(&world->twin, &world->replica.kv);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ns_apply(both[i], &format, 1)->error, 0);
        assert_int_equal(ns_apply(both[i], &open, 2)->value, SESSION);
        assert_int_equal(ns_apply(both[i], &open, 3)->value, SESSION); /* its reply was lost */
    }
    world->index = 3;
    world->model = mem_zalloc(sizeof(*world->model));
    world->model->nodes[0] = (struct node){.ino = META_ROOT_INO,
                                           .mode = S_IFDIR | 0755,
                                           .nlink = 2,
                                           .atime = 1,
                                           .mtime = 1,
                                           .ctime = 1};
    world->model->nodes[0].parent = &world->model->nodes[0];
    world->model->count = 1;
}

static void world_deinit(struct world *world)
{
    for (unsigned i = 0; i < world->model->count; i++) {
        mem_free(world->model->nodes[i].cells);
    }
    mem_free(world->model);
    ns_deinit(&world->ns);
    ns_deinit(&world->twin);
    kv_array_deinit(&world->array);
    kv_array_deinit(&world->replica);
}

static void one_op(struct world *world)
{
    world->user =
        &users[rng_below(&world->rng, 2) == 0 ? 0 : rng_below(&world->rng, ARRAY_SIZE(users))];
    world->model->next_ino = world->ns.volume.next_ino;
    switch (rng_below(&world->rng, 24)) {
    case 0:
    case 1:
    case 2:
        do_make(world);
        break;
    case 3:
        do_link(world);
        break;
    case 4:
    case 5:
        do_remove(world);
        break;
    case 6:
    case 7:
    case 8:
        do_rename(world);
        break;
    case 9:
        do_setattr(world);
        break;
    case 10:
    case 11:
    case 12:
        do_commit(world);
        break;
    case 13:
        do_xattr(world);
        break;
    case 14:
    case 15:
        do_settle(world);
        break;
    case 16:
    case 17:
        do_fallocate(world);
        break;
    case 18:
    case 19:
        do_copy_range(world);
        break;
    case 20:
        do_tmpfile(world);
        break;
    default:
        do_read(world);
        break;
    }
}

static void test_random(void **state)
{
    uint64_t seed = test_seed(1);

    (void)state;
    for (uint64_t round = 0; round < 8; round++) {
        struct world world;

        world_init(&world, seed + round);
        for (int i = 0; i < 6000; i++) {
            world.sole = round % 2 == 1;
            one_op(&world);
            if (rng_below(&world.rng, 1500) == 0) {
                free_orphans(&world);
            }
            if (i % 500 == 0) {
                check_all(&world);
            }
        }
        check_all(&world);
        free_orphans(&world);
        check_all(&world);
        world_deinit(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
