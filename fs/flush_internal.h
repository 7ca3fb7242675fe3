#pragma once
/* flush_internal: what flush.c (which inodes, when), flush_round.c (one round), flush_learn.c (what
 * the files are) and flush_pack.c (data into chunks and commit records) share. */
#include "fs/chunk_seq.h"
#include "fs/flush.h"
#include "fs/mount.h"

struct round_chunk {
    struct chunk_put put;
    struct flush_round *round;
    struct chunk_seq *seq; /* NULL: settled */
    struct iovec *iov;
    unsigned iov_count, iov_capacity;
    uint32_t length;
};

struct round_inode {
    struct inode *inode;
    struct meta_call learn;
    struct flush_round *round;
    bool learned;       /* the server has told what its contents are; see must_learn() */
    bool lost;          /* it must not be committed any more */
    int learn_error;    /* the server does not know it any more, or does not answer (soft) */
    struct buf extents; /* encoded for the commit */
    struct buf image;   /* the whole contents, when they stay inline */
    bool is_inline;
    bool moved;         /* what was appended goes elsewhere than the kernel thinks */
    struct dirty whole; /* the pieces with the inline bytes that move along into chunks */
    bool on_trust;      /* nobody else could change it when it was packed */
    bool unsure;        /* its commit was sent and has had no answer */
    bool found;         /* but it was made */
    uint64_t mtime;     /* sent with it */
    uint64_t base;      /* the commit rests on contents as of this change; 0 = on none */
    uint64_t old_end;   /* and on this size, + 1; 0 = on none */
    bool committed;
    uint64_t size;       /* to commit */
    uint64_t new_size;   /* of the file, when that is done */
    uint64_t journalled; /* bytes that the commit carries, and their records */
    struct dirty sent;   /* the pieces, once the round has ended */
};

struct flush_round {
    struct op op;
    struct list_node node; /* in mount.round_list */
    struct mount *mount;
    enum round_kind kind;
    bool journal; /* extents are carried in the commit; false again when the server refuses */
    bool alone;   /* of one file: if its chunk does not fit, nobody else's commit is lost with it */
    struct env_timer give_up; /* soft: no session for so long */
    struct round_inode *inodes;
    unsigned inode_count, inode_capacity;
    unsigned commit_from, commit_to; /* those that the COMMIT on its way is about */
    struct round_chunk **chunks;
    unsigned chunk_count;
    uint64_t session;
    struct buf body;
    struct meta_call commit;
    bool committed; /* the commit has its answer */
    int status;
};

/* ---- flush.c ---- */
/* The inode is out of its round: tells those that waited, lets the next ones go on. */
void flush_inode_done(struct mount *mount, struct inode *inode);

/* ---- flush_round.c ---- */
struct flush_round *round_new(struct mount *mount, enum round_kind kind);
void round_add(struct flush_round *round, struct inode *inode);
/* Sets off; a round without inodes just goes. Returns whether it had any. */
bool round_start(struct flush_round *round);

/* ---- flush_learn.c ---- */
/* What this mount has answered before it was sent must be there before anybody is asked about it:
 * the service would not know a new file yet. */
bool round_is_behind(const struct flush_round *round);
/* Asks what must be known before anything is packed; returns whether there is something to wait
 * for. */
bool round_learn(struct flush_round *round);

/* ---- flush_pack.c ---- */
/* The inode's pieces into chunks of the round, or into its commit record. */
void round_pack(struct flush_round *round, struct round_inode *entry);
/* The body of the next COMMIT: the inodes from commit_to on, as many as one request holds. */
void round_encode_commit(struct flush_round *round);
