#pragma once
/*
 * sim_kernel: the kernel in front of one mount: what the VFS and FUSE do between a program's system
 * call and fs_call. Called from processes only; each function blocks like its system call and
 * returns 0 or a negative errno.
 *
 * A `node` is an inode that the program holds (a path resolved, or an open file): k_put gives it
 * back; the kernel then forgets it sooner or later.
 */
#include "tests/sim/sim_world.h"

struct fs_call;
struct knode;

struct kfile {
    struct knode *node;
    bool writable;
    uint64_t floor;   /* of the log, when it was opened, or a lock of it was taken */
    uint64_t handle;  /* its number: they count from 1 */
    uint64_t address; /* the owner of its flock: the next file may have the same */
    bool flocked;
    uint64_t lock_session; /* of the last lock that was taken through it */
};

struct kernel *kernel_new(struct client *client);
/* The machine has died; nothing is sent any more. */
void kernel_free(struct kernel *kernel);
/* The mount says that names and attributes are stale. */
void kernel_caches_lost(struct kernel *kernel);
/* mount.drop_pages */
void kernel_drop_pages(struct mount *mount, uint64_t ino, struct fs_call *call);
/* Gives cached names and nodes back to the mount, as memory pressure does. */
void kernel_shrink(struct kernel *kernel);

uint64_t k_ino(const struct knode *node);
struct knode *k_root(struct kernel *kernel);
void k_put(struct kernel *kernel, struct knode *node);
int k_lookup(struct kernel *kernel, struct knode *dir, const char *name, struct knode **out_node);
int k_stat(struct kernel *kernel, struct knode *node, struct meta_attr *out_attr);
int k_mkdir(struct kernel *kernel, struct knode *dir, const char *name);
int k_symlink(struct kernel *kernel, struct knode *dir, const char *name, const char *target);
int k_link(struct kernel *kernel, struct knode *node, struct knode *dir, const char *name);
int k_unlink(struct kernel *kernel, struct knode *dir, const char *name);
int k_rmdir(struct kernel *kernel, struct knode *dir, const char *name);
int k_rename(struct kernel *kernel, struct knode *dir, const char *name, struct knode *new_dir,
             const char *new_name, uint32_t flags);
int k_readdir(struct kernel *kernel, struct knode *dir, unsigned *out_count);
/* flags: O_CREAT, O_EXCL, O_TRUNC and the access mode. */
int k_open(struct kernel *kernel, struct knode *dir, const char *name, uint32_t flags,
           struct kfile *out_file);
int k_close(struct kernel *kernel, struct kfile *file);
/* Whole cells. Writes cells of one new tag. */
int k_write(struct kernel *kernel, struct kfile *file, uint64_t offset, uint64_t size);
/* One cell, under a lock that guards it (sim_lock.c). */
int k_write_guarded(struct kernel *kernel, struct kfile *file, uint64_t cell, uint64_t *out_tag);
/* Whole cells, behind the end as the kernel knows it, with O_APPEND; in pieces of at most a
 * megabyte, each of them a record of its own (sim_append.c). */
int k_append(struct kernel *kernel, struct kfile *file, uint64_t size);
#define APPEND_PARTS_MAX 4
/* The same by O_DIRECT: so many WRITEs at once, at least one cell each. */
int k_append_direct(struct kernel *kernel, struct kfile *file, uint64_t size, unsigned parts);
/* Reads and checks what comes; the number of bytes, or an error. out_bytes: appended; or NULL. */
int64_t k_read(struct kernel *kernel, struct kfile *file, uint64_t offset, uint64_t size,
               struct buf *out_bytes);
int k_fsync(struct kernel *kernel, struct knode *node);
int k_truncate(struct kernel *kernel, struct knode *node, uint64_t size);
/* mode: META_ALLOCATE_*. Whole cells. */
int k_fallocate(struct kernel *kernel, struct kfile *file, uint32_t mode, uint64_t offset,
                uint64_t size);
/* The number of bytes that the other file shares now, or an error. Whole cells. */
int64_t k_copy_range(struct kernel *kernel, struct kfile *from, uint64_t offset, struct kfile *to,
                     uint64_t offset2, uint64_t size);
/* whence: META_SEEK_*. */
int64_t k_seek(struct kernel *kernel, struct knode *node, uint64_t offset, uint32_t whence);
/* fcntl(F_SETLK, F_SETLKW): the record lock [from, to] becomes META_LOCK_*. */
int k_lock(struct kernel *kernel, struct kfile *file, uint8_t type, uint64_t from, uint64_t to,
           bool wait);
int k_flock(struct kernel *kernel, struct kfile *file, uint8_t type, bool wait);
/* fcntl(F_GETLK) */
int k_lock_test(struct kernel *kernel, struct kfile *file, uint8_t type, uint64_t from,
                uint64_t to);
/* O_TMPFILE, to read and write. */
int k_tmpfile(struct kernel *kernel, struct knode *dir, struct kfile *out_file);
int k_statfs(struct kernel *kernel);
