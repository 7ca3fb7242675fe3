/* env_sim_disk: files in memory, with what a crash leaves of them. */
#include "tests/sim/env_sim_internal.h"

#define SECTOR 512

static struct sim_inode *inode_ref(struct sim_inode *inode)
{
    inode->refs++;
    return inode;
}

static void inode_unref(struct sim_inode *inode)
{
    if (--inode->refs == 0) {
        buf_deinit(&inode->live);
        buf_deinit(&inode->durable);
        mem_free(inode);
    }
}

static struct sim_name *find(struct sim_names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->names[i].path, path) == 0) {
            return &names->names[i];
        }
    }
    return NULL;
}

static void names_put(struct sim_names *names, const char *path, struct sim_inode *inode)
{
    struct sim_name *name = find(names, path);

    inode_ref(inode);
    if (name != NULL) {
        inode_unref(name->inode);
        name->inode = inode;
        return;
    }
    names->names = mem_realloc(names->names, (names->count + 1) * sizeof(*names->names));
    names->names[names->count++] = (struct sim_name){mem_strdup(path), inode};
}

static void names_remove(struct sim_names *names, const char *path)
{
    struct sim_name *name = find(names, path);

    if (name != NULL) {
        mem_free(name->path);
        inode_unref(name->inode);
        *name = names->names[--names->count];
    }
}

static void names_clear(struct sim_names *names)
{
    while (names->count > 0) {
        names_remove(names, names->names[0].path);
    }
    mem_free(names->names);
    *names = (struct sim_names){0};
}

static void apply_change(struct sim_names *names, const struct sim_change *change)
{
    if (change->new_path != NULL) {
        struct sim_name *name = find(names, change->path);
        struct sim_inode *inode = name != NULL ? inode_ref(name->inode) : NULL;

        if (inode != NULL) {
            names_remove(names, change->path);
            names_put(names, change->new_path, inode);
            inode_unref(inode);
        }
    } else if (change->inode != NULL) {
        names_put(names, change->path, change->inode);
    } else {
        names_remove(names, change->path);
    }
}

static void add_change(struct sim_disk *disk, const char *path, const char *new_path,
                       struct sim_inode *inode)
{
    struct sim_change change = {
        .path = mem_strdup(path),
        .new_path = new_path != NULL ? mem_strdup(new_path) : NULL,
        .inode = inode != NULL ? inode_ref(inode) : NULL,
    };

    apply_change(&disk->live, &change);
    disk->changes = mem_realloc(disk->changes, (disk->change_count + 1) * sizeof(*disk->changes));
    disk->changes[disk->change_count++] = change;
}

/* The first `count` changes become durable; all are forgotten. */
static void settle_changes(struct sim_disk *disk, size_t count)
{
    for (size_t i = 0; i < disk->change_count; i++) {
        struct sim_change *change = &disk->changes[i];

        if (i < count) {
            apply_change(&disk->durable, change);
        }
        mem_free(change->path);
        mem_free(change->new_path);
        if (change->inode != NULL) {
            inode_unref(change->inode);
        }
    }
    mem_free(disk->changes);
    disk->changes = NULL;
    disk->change_count = 0;
}

void sim_disk_init(struct sim_disk *disk)
{
    *disk = (struct sim_disk){0};
    list_init(&disk->files);
}

static void close_file(struct env_file *file)
{
    list_remove(&file->node);
    if (file->lock) {
        file->inode->locked = false;
    }
    inode_unref(file->inode);
    mem_free(file);
}

static void close_files(struct sim_disk *disk)
{
    while (!list_empty(&disk->files)) {
        close_file(list_entry(list_first(&disk->files), struct env_file, node));
    }
}

void sim_disk_deinit(struct sim_disk *disk)
{
    close_files(disk);
    settle_changes(disk, 0);
    names_clear(&disk->live);
    names_clear(&disk->durable);
}

/* ---- contents ---- */

static void touch(struct sim_inode *inode, size_t from, size_t to)
{
    if (inode->dirty_to == 0) {
        inode->dirty_from = from;
    }
    inode->dirty_from = from < inode->dirty_from ? from : inode->dirty_from;
    inode->dirty_to = to > inode->dirty_to ? to : inode->dirty_to;
}

static void resize(struct buf *buf, size_t size)
{
    if (size > buf->size) {
        buf_append_zero(buf, size - buf->size);
    }
    buf->size = size;
}

static void write_bytes(struct sim_inode *inode, const struct env_io *io)
{
    size_t at = (size_t)io->offset;

    for (unsigned i = 0; i < io->iov_count; i++) {
        size_t size = io->iov[i].iov_len;

        if (at + size > inode->live.size) {
            resize(&inode->live, at + size);
        }
        if (size > 0) {
            memcpy(inode->live.data + at, io->iov[i].iov_base, size);
        }
        touch(inode, at, at + size);
        at += size;
    }
}

static void make_durable(struct sim_inode *inode)
{
    size_t to = inode->dirty_to < inode->live.size ? inode->dirty_to : inode->live.size;

    resize(&inode->durable, inode->live.size);
    if (inode->dirty_from < to) {
        memcpy(inode->durable.data + inode->dirty_from, inode->live.data + inode->dirty_from,
               to - inode->dirty_from);
    }
    inode->dirty_from = inode->dirty_to = 0;
}

/* After power is lost: each unsynced sector is old or new. Is something lost? */
static bool tear(struct sim_inode *inode, struct rng *rng)
{
    unsigned keep_percent = (unsigned)rng_below(rng, 3) * 50;
    size_t size = rng_percent(rng, keep_percent) ? inode->live.size : inode->durable.size;
    bool lost = size != inode->live.size || (inode->dirty_to > 0 && keep_percent < 100);

    resize(&inode->durable, size);
    for (size_t at = round_down(inode->dirty_from, SECTOR);
         at < inode->dirty_to && at < inode->live.size; at += SECTOR) {
        if (rng_percent(rng, keep_percent) && at < size) {
            size_t end = min_u64(min_u64(at + SECTOR, size), inode->live.size);

            memcpy(inode->durable.data + at, inode->live.data + at, end - at);
        }
    }
    resize(&inode->live, size);
    if (size > 0) {
        memcpy(inode->live.data, inode->durable.data, size);
    }
    inode->dirty_from = inode->dirty_to = 0;
    return lost;
}

void sim_disk_crash(struct sim_node *node, enum sim_crash_kind kind)
{
    struct sim_disk *disk = &node->disk;
    struct rng *rng = &node->sim->rng;
    size_t kept;

    /* Writes under way: some have reached the page cache. */
    list_for_each (at, &node->in_io) {
        struct env_io *io = list_entry(at, struct env_io, node);

        if (io->type != ENV_IO_WRITE || rng_percent(rng, 50)) {
            break;
        }
        write_bytes(io->file->inode, io);
    }
    close_files(disk);
    disk->crash_at_io = 0;
    disk->path_ns = 0;
    if (kind == SIM_KILL) {
        return; /* the kernel lives on */
    }
    kept = (size_t)rng_below(rng, disk->change_count + 1);
    disk->faults.lost_names += disk->change_count - kept;
    settle_changes(disk, kept);
    names_clear(&disk->live);
    for (size_t i = 0; i < disk->durable.count; i++) {
        disk->faults.torn_files += tear(disk->durable.names[i].inode, rng);
        names_put(&disk->live, disk->durable.names[i].path, disk->durable.names[i].inode);
    }
}

/* ---- operations ---- */

static uint64_t used_bytes(const struct sim_disk *disk)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < disk->live.count; i++) {
        bytes += disk->live.names[i].inode->live.size;
    }
    return bytes;
}

uint64_t sim_disk_used(const struct sim *sim, unsigned node)
{
    return used_bytes(&sim->nodes[node].disk);
}

static bool happens(struct sim_node *node, unsigned per_million, uint64_t *met)
{
    if (per_million == 0 || rng_below(&node->sim->rng, 1000000) >= per_million) {
        return false;
    }
    ++*met;
    return true;
}

static uint64_t disk_size(const struct sim_node *node)
{
    return node->disk.faults.bytes_max != 0 ? node->disk.faults.bytes_max
                                            : node->sim->faults.disk_bytes_max;
}

static bool full(struct sim_node *node, const struct sim_inode *inode, uint64_t end)
{
    uint64_t max = disk_size(node);
    bool is_full = max != 0 && end > inode->live.size &&
                   used_bytes(&node->disk) + end - inode->live.size > max;

    node->disk.faults.no_space_met += is_full;
    return is_full;
}

static int64_t do_open(struct sim_node *node, struct env_io *io)
{
    struct sim_name *name = find(&node->disk.live, io->path);
    struct env_file *file;

    if (name == NULL && !(io->flags & ENV_OPEN_CREATE)) {
        return -ENOENT;
    }
    if (name != NULL && (io->flags & ENV_OPEN_EXCLUSIVE)) {
        return -EEXIST;
    }
    if (name == NULL) {
        struct sim_inode *inode = mem_zalloc(sizeof(*inode));

        inode->spoils = node->disk.faults.spoil_prefix != NULL &&
                        strstr(io->path, node->disk.faults.spoil_prefix) != NULL;
        inode_ref(inode);
        add_change(&node->disk, io->path, NULL, inode);
        inode_unref(inode);
        name = find(&node->disk.live, io->path);
    }
    if ((io->flags & ENV_OPEN_LOCK) && name->inode->locked) {
        return -EBUSY;
    }
    file = mem_zalloc(sizeof(*file));
    file->inode = inode_ref(name->inode);
    file->lock = io->flags & ENV_OPEN_LOCK;
    file->inode->locked = file->inode->locked || file->lock;
    list_push_back(&node->disk.files, &file->node);
    io->file = file;
    return 0;
}

static int64_t do_read(const struct sim_inode *inode, const struct env_io *io)
{
    size_t at = (size_t)io->offset;
    size_t got = 0;

    for (unsigned i = 0; i < io->iov_count && at < inode->live.size; i++) {
        size_t size = min_u64(io->iov[i].iov_len, inode->live.size - at);

        if (size > 0) {
            memcpy(io->iov[i].iov_base, inode->live.data + at, size);
        }
        at += size;
        got += size;
    }
    return (int64_t)got;
}

/* A sync that fails: the data stays dirty, or it counts as clean and never gets to the disk. */
static int64_t do_sync(struct sim_node *node, struct sim_inode *inode)
{
    struct sim_disk_faults *faults = &node->disk.faults;

    if (!happens(node, faults->sync_errors, &faults->sync_errors_met)) {
        make_durable(inode);
        return 0;
    }
    if (rng_percent(&node->sim->rng, faults->failed_sync_cleans)) {
        inode->dirty_from = inode->dirty_to = 0;
    }
    return -EIO;
}

static int64_t do_write(struct sim_node *node, const struct env_io *io)
{
    struct sim_disk_faults *faults = &node->disk.faults;
    uint64_t size = 0;

    for (unsigned i = 0; i < io->iov_count; i++) {
        size += io->iov[i].iov_len;
    }
    if (full(node, io->file->inode, io->offset + size)) {
        return -ENOSPC;
    }
    if (happens(node, faults->write_errors, &faults->write_errors_met)) {
        return -EIO;
    }
    if (io->file->inode->spoils && happens(node, faults->lost_writes, &faults->lost_met)) {
        return (int64_t)size;
    }
    if (io->file->inode->spoils && io->offset >= 2 * SECTOR &&
        happens(node, faults->misdirected_writes, &faults->misdirected_met)) {
        struct env_io elsewhere = *io;

        elsewhere.offset = round_down(rng_below(&node->sim->rng, io->offset - SECTOR), SECTOR);
        write_bytes(io->file->inode, &elsewhere);
        return (int64_t)size;
    }
    write_bytes(io->file->inode, io);
    return (int64_t)size;
}

static int64_t do_stat(struct sim_node *node, struct env_io *io)
{
    struct sim_name *name = find(&node->disk.live, io->path);
    uint64_t max = disk_size(node);

    io->total_bytes = max != 0 ? max : GiB(100);
    io->free_bytes = io->total_bytes - min_u64(used_bytes(&node->disk), io->total_bytes);
    if (name == NULL) {
        size_t length = strlen(io->path); /* a directory exists when a file in it does */

        for (size_t i = 0; i < node->disk.live.count; i++) {
            const char *path = node->disk.live.names[i].path;

            if (strncmp(path, io->path, length) == 0 && path[length] == '/') {
                return 0;
            }
        }
        return -ENOENT;
    }
    io->size = name->inode->live.size;
    return 0;
}

static int64_t do_range(struct sim_node *node, const struct env_io *io)
{
    struct sim_inode *inode = io->file->inode;
    size_t end = (size_t)(io->offset + io->size);

    switch ((unsigned)io->type) {
    case ENV_IO_TRUNCATE:
        touch(inode, min_u64(io->size, inode->live.size), inode->live.size);
        resize(&inode->live, (size_t)io->size);
        return 0;
    case ENV_IO_ALLOCATE:
        if (full(node, inode, end)) {
            return -ENOSPC;
        }
        if (end > inode->live.size) {
            resize(&inode->live, end);
        }
        return 0;
    default: /* ENV_IO_PUNCH */
        end = min_u64(end, inode->live.size);
        if (io->offset < end) {
            memset(inode->live.data + io->offset, 0, end - io->offset);
            touch(inode, (size_t)io->offset, end);
        }
        return 0;
    }
}

static int64_t do_path(struct sim_node *node, const struct env_io *io)
{
    switch ((unsigned)io->type) {
    case ENV_IO_RENAME:
        if (find(&node->disk.live, io->path) == NULL) {
            return -ENOENT;
        }
        add_change(&node->disk, io->path, io->new_path, NULL);
        return 0;
    case ENV_IO_UNLINK:
        if (find(&node->disk.live, io->path) == NULL) {
            return -ENOENT;
        }
        add_change(&node->disk, io->path, NULL, NULL);
        return 0;
    case ENV_IO_SYNC_DIR:
        settle_changes(&node->disk, node->disk.change_count);
        return 0;
    default: /* ENV_IO_MKDIR: directories are implied by the names in them */
        return 0;
    }
}

static void perform(struct sim_node *node, struct env_io *io)
{
    struct sim_disk_faults *faults = &node->disk.faults;

    switch (io->type) {
    case ENV_IO_OPEN:
        io->result = do_open(node, io);
        return;
    case ENV_IO_CLOSE:
        close_file(io->file);
        io->result = 0;
        return;
    case ENV_IO_READ:
        io->result = happens(node, faults->read_errors, &faults->read_errors_met)
                         ? -EIO
                         : do_read(io->file->inode, io);
        return;
    case ENV_IO_WRITE:
        io->result = do_write(node, io);
        return;
    case ENV_IO_SYNC:
        io->result = do_sync(node, io->file->inode);
        return;
    case ENV_IO_TRUNCATE:
    case ENV_IO_ALLOCATE:
    case ENV_IO_PUNCH:
        io->result = do_range(node, io);
        return;
    case ENV_IO_STAT:
        io->result = do_stat(node, io);
        return;
    case ENV_IO_RENAME:
    case ENV_IO_UNLINK:
    case ENV_IO_MKDIR:
    case ENV_IO_SYNC_DIR:
        io->result = do_path(node, io);
        return;
    }
    UNREACHABLE();
}

/* The n-th io of a node that is to crash there. */
static void count_io(struct sim_node *node, const struct env_io *io)
{
    bool counts = io->type != ENV_IO_READ && io->type != ENV_IO_STAT && io->type != ENV_IO_CLOSE;

    if (counts && node->disk.crash_at_io > 0 && --node->disk.crash_at_io == 0) {
        ASSERT(node->sim->running == node);
        node->died = true;
        node->sim->deaths++;
        sim_kill(node, SIM_POWER);
        longjmp(node->sim->escape, 1);
    }
}

/* Start-up, page faults, a state from another server: errors there are for tests of their own. */
void sim_disk_io_now(struct env *env, struct env_io *io)
{
    struct sim_disk_faults *faults = &sim_node_of(env)->disk.faults;
    struct sim_disk_faults kept = *faults;

    count_io(sim_node_of(env), io);
    if (faults->blocking_too) {
        perform(sim_node_of(env), io);
        return;
    }
    faults->read_errors = faults->write_errors = faults->sync_errors = 0;
    faults->lost_writes = faults->misdirected_writes = 0;
    perform(sim_node_of(env), io);
    faults->read_errors = kept.read_errors;
    faults->write_errors = kept.write_errors;
    faults->sync_errors = kept.sync_errors;
    faults->lost_writes = kept.lost_writes;
    faults->misdirected_writes = kept.misdirected_writes;
}

static void io_done(struct sim_event *event)
{
    struct env_io *io = event->object;

    list_remove(&io->node);
    perform(event->node, io);
    io->done(io);
}

void sim_disk_io(struct env *env, struct env_io *io)
{
    struct sim_node *node = sim_node_of(env);
    struct sim_faults *faults = &node->sim->faults;
    uint64_t *last;
    uint64_t at = node->sim->now + sim_delay(node->sim, faults->disk_min_ns, faults->disk_max_ns,
                                             faults->disk_slow_percent);

    io->node = (struct list_node){0};
    list_push_back(&node->in_io, &io->node);
    count_io(node, io);
    last = io->file != NULL && io->type != ENV_IO_OPEN ? &io->file->last_ns : &node->disk.path_ns;
    *last = max_u64(at, *last + 1);
    sim_schedule(node, *last, io_done, io);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int sim_disk_list(struct env *env, const char *path, struct buf *out_names)
{
    struct sim_names *names = &sim_node_of(env)->disk.live;
    const char **found = mem_alloc((names->count + 1) * sizeof(*found));
    size_t length = strlen(path);
    size_t count = 0;

    for (size_t i = 0; i < names->count; i++) {
        const char *name = names->names[i].path;

        if (strncmp(name, path, length) == 0 && name[length] == '/' &&
            strchr(name + length + 1, '/') == NULL) {
            found[count++] = name + length + 1;
        }
    }
    qsort(found, count, sizeof(*found), compare_names);
    for (size_t i = 0; i < count; i++) {
        buf_append(out_names, found[i], strlen(found[i]) + 1);
    }
    mem_free(found);
    return 0;
}

struct sim_disk_faults *sim_disk_faults(struct sim *sim, unsigned node)
{
    return &sim->nodes[node].disk.faults;
}

bool sim_rot(struct sim *sim, unsigned node, const char *prefix)
{
    struct sim_disk *disk = &sim->nodes[node].disk;
    size_t first = disk->live.count > 0 ? (size_t)rng_below(&sim->rng, disk->live.count) : 0;

    for (size_t i = 0; i < disk->live.count; i++) {
        struct sim_name *name = &disk->live.names[(first + i) % disk->live.count];
        size_t size = min_u64(name->inode->live.size, name->inode->durable.size);
        size_t at;

        if (strstr(name->path, prefix) == NULL || size == 0) {
            continue;
        }
        at = (size_t)rng_below(&sim->rng, size);
        name->inode->live.data[at] ^= (uint8_t)(1u << rng_below(&sim->rng, 8));
        name->inode->durable.data[at] = name->inode->live.data[at];
        disk->faults.rotted++;
        return true;
    }
    return false;
}

bool sim_rot_at(struct sim *sim, unsigned node, const char *path, uint64_t offset)
{
    struct sim_disk *disk = &sim->nodes[node].disk;
    struct sim_name *name = find(&disk->live, path);

    if (name == NULL || offset >= min_u64(name->inode->live.size, name->inode->durable.size)) {
        return false;
    }
    name->inode->live.data[offset] ^= (uint8_t)(1u << rng_below(&sim->rng, 8));
    name->inode->durable.data[offset] = name->inode->live.data[offset];
    disk->faults.rotted++;
    return true;
}

void sim_wipe(struct sim *sim, unsigned node)
{
    struct sim_disk *disk = &sim->nodes[node].disk;
    struct sim_disk_faults faults = disk->faults;

    ASSERT(!sim->nodes[node].up);
    sim_disk_deinit(disk);
    sim_disk_init(disk);
    disk->faults = faults;
    sim->nodes[node].died = false; /* whoever did has gone with it */
}

void sim_crash_at_io(struct sim *sim, unsigned node, uint64_t n)
{
    sim->nodes[node].disk.crash_at_io = n;
}

uint8_t *sim_file(struct sim *sim, unsigned node, const char *path, size_t *out_size)
{
    struct sim_name *name = find(&sim->nodes[node].disk.live, path);

    if (name == NULL) {
        return NULL;
    }
    *out_size = name->inode->live.size;
    return name->inode->live.data;
}
