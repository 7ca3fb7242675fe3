#pragma once
/*
 * mount: one mounted KeelFS: its connections, its inodes, what is written and not yet committed.
 *
 * The kernel comes in through fs_call (fs/call.h); policy about what may be cached for how long is
 * in fs/coherence.c alone.
 */
#include "chunkstore/chunk_client.h"
#include "fs/ahead.h"
#include "fs/atime.h"
#include "fs/inode.h"
#include "fs/mount_metrics.h"
#include "fs/mount_settings.h"
#include "meta/lock_table.h"
#include "meta/meta_client.h"

/* Who decides about locks: see fs/lock.h. */
enum lock_mode {
    LOCKS_SENT,      /* the service */
    LOCKS_BEGINNING, /* it is being told that we do */
    LOCKS_OWN,       /* we */
    LOCKS_TELLING,   /* it is being told what we granted */
};

/* Of flush rounds: data into chunks first, or carried in the commit. */
enum round_kind { ROUND_JOURNAL, ROUND_CHUNKS, ROUND_KINDS };

struct fs_call;

struct mount_config {
    struct rpc_identity identity;
    const char *const *meta_addresses;
    unsigned meta_address_count;
    unsigned write_quorum;
    uint64_t soft_timeout_ns; /* 0 = hard */
    bool read_only;
    enum atime_policy atime;
    bool no_dir_atime;
    const char *subdir;                    /* "/" or NULL = the whole volume */
    const struct mount_settings *settings; /* NULL = the defaults; copied */
};

struct mount {
    struct env *env;
    struct mount_config config;
    struct mount_settings settings;
    struct mount_metrics metrics;
    struct meta_client meta;
    struct chunk_client chunks;
    struct map inodes; /* ino -> struct inode */
    uint64_t root_ino;
    uint64_t next_chunk_seq;
    struct list chunk_seqs;    /* of struct chunk_seq, oldest first */
    uint64_t dirty_bytes;      /* of all inodes, dirty and flushing */
    struct list flush_queue;   /* inodes with dirty data, oldest first */
    struct list flush_hurried; /* those that need not wait for age: first come, first served */
    struct local_state {
        unsigned in_flight;
        struct list ops;            /* in flight, oldest first */
        uint64_t last_number;       /* of an operation: they count from 1 */
        uint64_t next_ino, end_ino; /* reserved for us */
        bool reserving;
        struct list waiters; /* calls that wait for what is in flight since before them */
        void (*drained)(struct mount *mount);
        struct meta_call reserve;
        int error; /* of an operation answered before: told by the next fsync of a directory */
    } local;
    struct lock_state {
        enum lock_mode mode;
        struct map files;    /* ino -> struct file_locks: what is held here; OWN: who waits, too */
        struct list ops;     /* of struct lock_op: asked of the service, not answered */
        struct list queue;   /* calls that begin again when the mode has changed, or in a moment */
        struct list in_line; /* calls with a ticket */
        unsigned syncing;    /* TELLING: files whose data is being committed first */
        struct list later;   /* of struct lock_later: given up when what was written is committed */
        struct list taken;   /* of struct lock_taken: record locks, by the open file */
        uint64_t next_ticket;   /* OWN */
        uint64_t refused_epoch; /* while which we are not let to decide; 0: when not alone */
        void (*told)(struct mount *mount);
        struct env_timer ask_timer, retry_timer;
    } locks;
    struct ahead ahead;
    struct list contents; /* inodes with known contents, used last in front */
    uint64_t contents_bytes;
    struct list space_queue;      /* writes that wait for dirty_bytes to fall */
    unsigned rounds[ROUND_KINDS]; /* flush rounds in flight */
    struct settle_state {
        struct map files;    /* ino -> struct settle_file */
        struct list queue;   /* of those that no op works on, oldest first */
        uint64_t bytes;      /* journalled by us, not settled */
        uint64_t refused_ns; /* the service had no room for more then */
        unsigned running;
        struct env_timer timer;
        void (*done)(struct mount *mount); /* of settle_all */
    } settle;
    struct shutdown_state {
        bool down;
        struct list waiters; /* calls that wait for what was written to be committed */
    } shutdown;
    struct atime_state {
        struct list inodes; /* accessed, and the service has not been told */
        unsigned count;     /* of them */
        unsigned in_flight; /* ACCESSED on their way */
        struct env_timer timer;
        void (*closed)(struct mount *mount); /* of atime_close */
    } atime;
    struct env_timer flush_timer;
    void (*all_flushed)(struct mount *mount); /* of flush_all; NULL = nobody waits */
    unsigned open_count;                      /* handles of regular files */
    unsigned opening;                         /* OPEN and CREATE calls on their way */
    unsigned removing;                        /* removals on their way that free a file at once */
    unsigned renaming;                        /* RENAME calls on their way */
    struct list open_queue;                   /* OPEN calls that wait for those */
    uint64_t alone_epoch;   /* what was learned in an earlier one is not trusted */
    uint64_t kept_until_ns; /* the kernel may use names and attributes until then */
    struct env_timer release_timer;
    struct list round_list; /* flush rounds in flight */
    bool no_space;          /* the last flush met ENOSPC: writes go through at once */
    uint64_t no_space_ns;   /* when it did */
    void (*ready)(struct mount *mount, int status); /* root found, or why not */
    void (*caches_lost)(struct mount *mount); /* the kernel's names and attributes are stale now */
    /* Drop the pages that the kernel has of the file, and with a lock tell it the size;
     * lock_pages_dropped(call) follows, if there is a call. NULL: it has none. */
    void (*drop_pages)(struct mount *mount, uint64_t ino, struct fs_call *call);
    void (*closed)(struct mount *mount);
    void *data;
    struct meta_call start_call; /* walks config.subdir */
    const char *start_rest;
    bool started, closing;
    struct mount_counters {
        uint64_t read_bytes, written_bytes, rounds, commits, read_retries;
    } counters;
};

/* Connects; ready() follows. */
void mount_start(struct mount *mount, struct env *env, const struct mount_config *config);
/* Flushes, closes the session; closed() follows. */
void mount_close(struct mount *mount);
/* The figures as they are now, and the state in lines of words; for the admin socket. */
const struct mount_metrics *mount_collect(struct mount *mount);
void mount_describe(const struct mount *mount, struct buf *out);
