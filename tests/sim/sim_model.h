#pragma once
/*
 * sim_model: what a POSIX file system is, in plain memory: the specification that the committed log
 * is replayed against. Pure. One user (root), no times: those have their own tests (model_test_ns).
 *
 * Contents are cells of SIM_CELL bytes. Programs write whole cells, each filled with one tag that
 * names its write; 0 is a hole.
 */
#include "base/map.h"
#include "meta/meta_proto.h"

#define SIM_CELL       64
#define MODEL_SLOTS    5
#define MODEL_PAST_MAX 4096 /* cells of a file whose past is kept */
#define MODEL_NAME_MAX 16
#define MODEL_TAG_BITS 40

struct model_entry {
    char name[MODEL_NAME_MAX];
    uint64_t ino;
};

/* A cell's tag that was replaced at an index. */
struct model_past {
    uint64_t index;
    uint64_t tag;
    uint32_t cell;
};

struct model_inode {
    uint64_t ino;
    uint32_t mode, nlink, uid, gid;
    uint64_t size, parent;
    uint64_t changed; /* index of its last change */
    bool going;       /* nlink is 0 and it may be freed already */
    bool linkable;    /* nlink is 0 and it may get a name: O_TMPFILE */
    struct model_entry *entries;
    size_t entry_count;
    char *target; /* of a symbolic link */
    uint64_t *cells;
    size_t cell_count; /* behind them all are holes */
    struct model_past *past;
    size_t past_count;
    uint64_t past_from;                  /* older than this is forgotten */
    uint64_t foreign_index[MODEL_SLOTS]; /* last change of contents by anybody but this slot */
    /* The newest of a slot's own writes that was committed, by cell: the low 32 bits of its tag. */
    uint32_t *committed[MODEL_SLOTS];
    size_t committed_count[MODEL_SLOTS];
};

struct model_session {
    uint64_t id;
    unsigned slot;        /* of the client that opened it; MODEL_SLOTS = unknown */
    uint64_t incarnation; /* of that client */
    uint64_t last_seq;
    uint64_t *indexes; /* at which each seq was executed first, by seq */
    size_t index_count;
    bool open;
};

struct model_chunk {
    uint64_t session, seq;
    uint64_t *cells;
    uint32_t cell_count;
    uint32_t holders; /* chunk servers that have said it is durable there, a bit each */
    bool deleted;
};

/* One WRITE of a file opened with O_APPEND: cells with consecutive tags. */
struct model_append {
    uint64_t ino;
    uint64_t first; /* tag */
    uint32_t cells;
    uint32_t made;    /* of them, by its commit */
    uint64_t at;      /* the cell where it begins, once it is made */
    uint64_t index;   /* of its commit; 0 = it is not made */
    uint64_t session; /* that this came under */
    bool came_again;
    bool told;          /* its program, that it was taken */
    bool refused;       /* its program was told that it was not */
    bool lost;          /* it need not be made: its program was told so, or it was cut off */
    uint64_t synced_ns; /* its program was told that it is durable; 0 = it was not */
};

/* What one client has appended to a file, in its order. The one of client 0 is about the file. */
struct model_log {
    struct model_append **appends;
    size_t count;
    size_t sure;   /* of those: the ones before are synced or lost */
    uint64_t last; /* tag of the last that was made */
    bool plain;    /* the file is written otherwise, too, or made shorter */
};

/* For the message. */
struct model_bad {
    uint64_t cell, tag, was;
    unsigned slot;
};

struct model {
    struct model_bad bad;
    struct map inodes;              /* ino -> model_inode */
    struct map sessions;            /* id -> model_session */
    struct map chunks;              /* {session, seq} -> model_chunk */
    struct map appends;             /* tag of each cell -> model_append */
    struct map logs;                /* {ino, incarnation} -> model_log */
    struct model_append *appending; /* by the commit in hand, the last one */
    uint64_t append_end;            /* the cell behind all that is there */
    uint64_t index;                 /* of the last operation */
    uint64_t open_sessions;
    uint64_t session; /* whose operation it is */
    unsigned write_quorum;
    uint64_t writer;                    /* whose operation it is: an incarnation */
    uint64_t incarnations[MODEL_SLOTS]; /* of the client in each slot: the high bits of its tags */
};

/* What an operation must answer. */
struct model_answer {
    int error; /* 0 or positive */
    bool has_attr;
    struct model_inode *inode; /* whose attributes the reply carries */
    bool has_value;
    uint64_t value;
    const char *broken; /* the operation itself must not have happened: why */
};

void model_init(struct model *model, unsigned write_quorum);
void model_deinit(struct model *model);
/* The operation at `index`, newer than all before. `reply`: what a server answered; inode and
 * session numbers are taken from it, for who allocates them is the server's affair. */
struct model_answer model_apply(struct model *model, const struct meta_request *request,
                                const struct meta_reply *reply, uint64_t index);
struct model_answer model_read(struct model *model, const struct meta_request *request,
                               const struct meta_reply *reply);

struct model_inode *model_inode(const struct model *model, uint64_t ino);
struct model_session *model_session(const struct model *model, uint64_t id);
struct model_entry *model_entry(const struct model_inode *dir, struct slice name);
/* Another client has this slot now; what the one before had committed is not its own. */
void model_new_client(struct model *model, unsigned slot, uint64_t incarnation);
/* A chunk was given out with these bytes. False: its id was used before with others. */
bool model_chunk_put(struct model *model, uint64_t session, uint64_t seq, struct slice bytes);
struct model_chunk *model_chunk(const struct model *model, uint64_t session, uint64_t seq);
uint64_t model_cell(const struct model_inode *inode, uint64_t cell);
/* The newest of the slot's own writes to the cell that was committed; 0 = none. */
uint32_t model_committed(const struct model_inode *inode, unsigned slot, uint64_t cell);

/* ---- sim_model_data.c, for sim_model.c ---- */
void model_truncate(struct model *model, struct model_inode *inode, uint64_t size, unsigned slot);
/* One record of a COMMIT; NULL, or what is wrong with it. */
const char *model_commit(struct model *model, struct model_inode *inode,
                         const struct meta_commit *commit, unsigned slot);
/* NULL, or what is wrong with it. Contents stay what they are. */
const char *model_settle(struct model *model, const struct meta_settle *settle);
/* [from, to) are holes. */
void model_zero(struct model *model, struct model_inode *inode, uint64_t from, uint64_t to,
                unsigned slot);
void model_copy(struct model *model, const struct model_inode *from, uint64_t offset,
                struct model_inode *to, uint64_t offset2, uint64_t length, unsigned slot);
void model_inode_free(struct model_inode *inode);

/* ---- sim_model_append.c ---- */
/* A program sets out to append; `first`: tag of the first cell. */
struct model_append *model_append_begin(struct model *model, uint64_t ino, uint64_t first,
                                        uint32_t cells);
/* That this tag is of; or NULL. */
struct model_append *model_append(const struct model *model, uint64_t tag);
struct model_log *model_log(struct model *model, uint64_t ino, uint64_t incarnation);
/* From now on the file is written otherwise, too, or made shorter. */
void model_log_plain(struct model *model, uint64_t ino);
/* Is it of an append whose mount cannot tell that it was made? */
bool model_append_comes_again(const struct model *model, const struct model_inode *inode,
                              uint64_t tag);
/* A commit puts this into a cell; NULL, or what is wrong with it. */
const char *model_append_cell(struct model *model, const struct model_inode *inode, uint64_t cell,
                              uint64_t tag);
const char *model_append_commit_end(struct model *model, uint64_t ino);
void model_appends_free(struct model *model);

/* ---- sim_model_commit.c, for sim_model.c ---- */
struct model_answer model_commits(struct model *model, const struct meta_request *request,
                                  const struct meta_reply *reply, unsigned slot);
struct model_answer model_settles(struct model *model, const struct meta_request *request,
                                  const struct meta_reply *reply);

/* ---- sim_model_space.c, for sim_model.c ---- */
struct model_answer model_fallocate(struct model *model, const struct meta_request *request,
                                    const struct meta_reply *reply, unsigned slot);
struct model_answer model_copy_range(struct model *model, const struct meta_request *request,
                                     const struct meta_reply *reply, unsigned slot);
struct model_answer model_tmpfile(struct model *model, const struct meta_request *request,
                                  const struct meta_reply *reply);
struct model_answer model_seek(const struct model *model, const struct meta_request *request,
                               const struct meta_reply *reply);

/* The tag of a cell's bytes; UINT64_MAX when they are torn. */
uint64_t model_tag(const uint8_t *bytes);
/* Fills cells with the tag. */
void model_fill(uint8_t *bytes, size_t size, uint64_t tag);
/* Was this the cell's tag at some index >= floor? */
bool model_was(const struct model_inode *inode, uint64_t cell, uint64_t tag, uint64_t floor);
