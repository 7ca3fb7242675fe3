#pragma once
/* sim_kernel_internal: what sim_kernel.c (calls, nodes, names), sim_kernel_lock.c,
 * sim_kernel_advisory.c (locks of programs) and sim_kernel_file.c (contents) share. */
#include "fs/call.h"
#include "tests/sim/sim_kernel.h"

#define PAGE 4096

struct knode {
    uint64_t ino;
    uint32_t mode;
    uint64_t lookups; /* that the mount counts for us */
    unsigned refs;
    unsigned opens;
    struct process *lock_owner; /* i_rwsem, exclusive */
    unsigned lock_shared;
    struct lock_wait *lock_queue[SIM_PROCESSES_MAX];
    unsigned lock_waiting;
    struct meta_attr attr;
    uint64_t attr_until_ns;    /* of the client's clock */
    uint64_t attr_version;     /* changed here: replies to older questions are not taken */
    struct map pages;          /* number -> PAGE bytes, up to date */
    unsigned reading, writing; /* READs and WRITEs in flight: their folios are locked */
    uint64_t drop_ns;          /* by then its pages are dropped; 0 = nobody has asked for it */
};

struct kdentry {
    uint64_t dir;
    char name[MODEL_NAME_MAX];
    uint64_t ino; /* 0: the name is known not to be there */
    uint64_t until_ns;
    uint64_t epoch;
};

struct kernel {
    struct client *client;
    struct map nodes;   /* ino -> struct knode */
    struct map entries; /* {dir, hash of name} -> struct kdentry */
    uint64_t epoch;
    uint64_t version;   /* counts local changes of attributes */
    uint64_t addresses; /* of open files, a bit each */
    uint64_t last_handle;
};

struct waiting {
    struct fs_call call;
    struct kernel *kernel;
    struct process *process;
    bool done;
    struct buf out;
    uint64_t epoch, version; /* the kernel's, when it began */
    uint64_t timeout_ns;     /* the mount's word about names and attributes */
    struct buf pages;        /* OPEN: contents pushed along */
    bool dropping;           /* LOCK: the mount wants the pages dropped */
    uint64_t lock_session;   /* LOCK: of the grant; 0 = it had ended already */
};

/* Sends the call and waits; 0 or a negative errno. */
int ask(struct waiting *waiting, struct kernel *kernel);
/* The two halves, for several calls at once. No signal comes. */
void ask_begin(struct waiting *waiting, struct kernel *kernel);
int ask_end(struct waiting *waiting);
uint64_t kernel_now(const struct kernel *kernel);
struct knode *node_get(struct kernel *kernel, uint64_t ino);
/* A reply has made the inode known. */
struct knode *node_known(struct kernel *kernel, const struct waiting *waiting);
/* Takes the attributes of a reply, unless something has changed here meanwhile. */
void node_take_attr(struct kernel *kernel, struct knode *node, const struct waiting *waiting);
/* They were changed here, or may be anything now. */
void node_forget_attr(struct kernel *kernel, struct knode *node);
int create_known(struct kernel *kernel, struct knode *dir, const char *name, uint32_t flags,
                 struct knode **out_node);

/* ---- sim_kernel_lock.c ---- */
#define LOCKS_MAX 4
void node_lock(struct knode *node);
void node_unlock(struct knode *node);
void node_lock_shared(struct knode *node);
void node_unlock_shared(struct knode *node);
/* Directories and what is removed from them; NULLs are left out, and who is there twice becomes
 * NULL. */
void nodes_lock(struct knode *nodes[LOCKS_MAX]);
void nodes_unlock(struct knode *nodes[LOCKS_MAX]);

/* ---- sim_kernel_advisory.c ---- */
void drop_pages(struct waiting *waiting);
struct kfile open_file(struct kernel *kernel, struct knode *node, bool writable, uint64_t floor);
/* What close(2) of the descriptor does; and what follows the last one of the open file. */
int flush_file(struct kernel *kernel, const struct kfile *file);
void release_file(struct kernel *kernel, const struct kfile *file);

/* ---- sim_kernel_append.c ---- */
/* Pages whose drop is due go; to be called before they, or the attributes, are used. */
void pages_drop_due(struct kernel *kernel, struct knode *node);
/* FSYNC, FLUSH: the bridge has them dropped before it answers, if the mount wants it. */
void pages_drop_told(struct waiting *waiting);
/* The mount's thread drops them sooner or later. */
void pages_drop_later(struct knode *node);

/* ---- sim_kernel_file.c ---- */
/* One WRITE of a file that is locked: 0 or a negative errno. */
int write_part(struct kernel *kernel, struct knode *node, uint64_t offset, struct slice bytes,
               bool append);
void pages_drop(struct knode *node, uint64_t from);
/* Waits for READs under way, as invalidate_inode_pages2 waits for folios. */
void pages_invalidate(struct knode *node);
/* NOTIFY_STORE: runs in the mount's thread, which must not wait for a folio. */
void pages_store(struct knode *node, struct slice contents);
