#pragma once
/* meta_server_internal: what the files of the server share. */
#include "meta/meta_server.h"

#define META_TICK_NS (200 * NS_PER_MS)

/* A command on its way through the log. */
struct meta_proposal {
    struct list_node node;
    uint64_t index;
    uint64_t started_ns;
    struct rpc_request *request; /* NULL: the server's own */
    uint64_t session, seq;
    uint8_t op;
};

/* A request ahead of its turn. */
struct meta_parked {
    struct list_node node;
    uint64_t seq;
    struct rpc_request *request;
};

/* The leader's side of a session. */
struct meta_session {
    uint64_t id;
    uint64_t heard_ns;
    uint64_t next_seq; /* to be proposed */
    uint64_t chunk_low;
    uint64_t orphan_cursor;
    struct list parked; /* by seq */
    unsigned parked_count;
    struct rpc_server_conn *conn; /* the last one it used, or NULL */
    bool expiring;
    bool released; /* it has told this leader that it does not rely on being alone */
};

struct meta_read {
    struct raft_read read;
    struct meta_server *server;
    struct rpc_request *request;
    struct list_node node;
    bool decided;
};

struct meta_opener {
    struct list_node node;
    struct rpc_request *request;
    uint64_t session;
    uint64_t index;
};

struct meta_orphan {
    uint64_t ino;
    uint64_t *answered; /* session ids */
    unsigned count, capacity;
};

/* ---- meta_server.c ---- */
void server_reply(struct meta_server *server, struct rpc_request *request,
                  const struct meta_reply *reply);
/* An RPC status instead of a reply; -ERR_NOT_LEADER comes with the hint. */
void server_refuse(struct meta_server *server, struct rpc_request *request, int status);
uint64_t server_stamp(struct meta_server *server);

/* The end, without handing over. */
void server_stop_now(struct meta_server *server);

/* ---- meta_server_handover.c ---- */
void server_transfer(struct meta_server *server, struct rpc_request *request);
/* Begins to hand over leadership; server_stop_now follows. False: there is nothing to wait for. */
bool server_leave(struct meta_server *server);

/* ---- meta_server_check.c ---- */
/* A STATE_CHECK was applied: stops when its verdict is against us; notes and reports our hash. */
void server_check_applied(struct meta_server *server, const struct meta_request *request,
                          uint64_t index);
void server_check_state_replaced(struct meta_server *server);
/* A member's META_RPC_STATE_REPORT. */
void server_check_report(struct meta_server *server, const struct rpc_request *request);
void server_check_tick(struct meta_server *server);

/* ---- meta_server_log.c ---- */
extern const struct raft_machine meta_server_machine; /* the template of server->machine */
/* Stamps and proposes. The request stays the caller's on failure. */
int must_check server_propose(struct meta_server *server, struct meta_request *command,
                              struct rpc_request *request);
void server_checkpoint_if_due(struct meta_server *server);
void server_load_state(struct meta_server *server);

/* ---- meta_server_snapshot.c ---- */
int must_check server_snapshot_begin(struct raft_machine *machine,
                                     struct raft_snapshot *out_snapshot, void **out_cursor);
int must_check server_snapshot_read(struct raft_machine *machine, void *cursor,
                                    struct buf *out_frame);
void server_snapshot_end(struct raft_machine *machine, void *cursor);
int must_check server_restore_begin(struct raft_machine *machine,
                                    const struct raft_snapshot *snapshot);
int must_check server_restore_write(struct raft_machine *machine, struct slice frame);
int must_check server_restore_finish(struct raft_machine *machine);
/* What a broken restore has left. */
void server_restore_drop(struct meta_server *server);
void server_tree_damaged(struct btree *tree); /* meta_server_rebuild.c */
struct btree_config server_tree_config(const struct meta_server *server, const char *path);
/* Closes the replaced tree when nothing uses it any more. */
void server_close_retired(struct meta_server *server);

/* ---- meta_server_session.c ---- */
void server_leader_begins(struct meta_server *server);
void server_leader_ends(struct meta_server *server);
struct meta_session *server_session(struct meta_server *server, uint64_t id);
void server_session_heard(struct meta_server *server, struct rpc_request *request,
                          const struct meta_request *message);
/* A mutation takes its turn: proposed, parked, or answered. */
void server_mutate(struct meta_server *server, struct rpc_request *request,
                   const struct meta_request *message);
/* SESSION_OPEN was applied: answered now, or when the lone mount has let go. */
void server_session_opened(struct meta_server *server, struct rpc_request *request,
                           const struct meta_reply *reply);
/* Locks that were waited for are held since the last command: who waits asks. */
void server_tell_granted(struct meta_server *server);
void server_session_gone(struct meta_server *server, uint64_t id);
void server_keepalive(struct meta_server *server, struct rpc_request *request,
                      const struct meta_request *message);
void server_sessions_tick(struct meta_server *server);
void server_conn_lost(struct rpc_server *rpc, struct rpc_server_conn *conn);
void server_openers_due(struct env_timer *timer);

/* ---- meta_server_orphan.c ---- */
/* It has a name now: what sessions have said of it is old. */
void server_orphan_adopted(struct meta_server *server, uint64_t ino);
/* The session does not hold these open. */
void server_orphans_answered(struct meta_server *server, uint64_t session, struct slice inos);
/* Appends those that the session must still answer for. */
void server_orphans_ask(struct meta_server *server, struct meta_session *session,
                        struct buf *out_inos);
void server_orphans_tick(struct meta_server *server);
void server_orphans_clear(struct meta_server *server);

/* ---- meta_server_journal.c ---- */
/* Appends inodes with journalled data whose writer has not settled it in time. */
void server_settle_ask(struct meta_server *server, struct buf *out_inos);

/* ---- meta_server_rebuild.c ---- */
#define SERVER_REBUILD                                                                             \
    "rebuild" /* the file: the tree is given up, a snapshot will bring another                     \
               */
/* Opens server->tree; an empty one when the old one is damaged. A negative code after a line in the
 * log. */
int must_check server_open_state(struct meta_server *server);
/* There is a state again. */
void server_rebuild_ended(struct meta_server *server);

/* ---- meta_server_members.c ---- */
/* Files of the data directory. The path is the caller's to free. */
char *server_path(const struct meta_server *server, const char *name);
bool server_has_file(const struct meta_server *server, const char *name);
/* An empty one, durable. */
int must_check server_make_file(struct meta_server *server, const char *name);
/* Is this the directory that the start was meant for? Before anything is made in it. */
int must_check server_members_start(struct meta_server *server);
/* The group as the state knows it. */
void server_members_config(struct meta_server *server, struct raft_node_config *config);
void server_machine_members(struct raft_machine *machine, struct raft_members *out_members);
void server_machine_members_changed(struct raft_machine *machine, uint64_t index, uint64_t term,
                                    const struct raft_members *members, struct slice command);
/* The group has named us: makes that durable, when it is not yet. Before any state becomes durable
 * that may count our vote. */
void server_members_note(struct meta_server *server);
/* The leader puts the group into the log, if it is not there yet. */
void server_members_record(struct meta_server *server);
/* Where the members are, for clients: the configuration of theirs may be older. */
void server_member_addresses(const struct meta_server *server, struct buf *out);
void server_member_request(struct meta_server *server, struct rpc_request *request);

/* ---- meta_server_read.c ---- */
/* Serves the request from the applied state once that is known to be the newest. */
void server_read(struct meta_server *server, struct rpc_request *request);
/* Of file data, each byte in all its copies; free: with what is reserved. */
struct meta_space {
    uint64_t total_bytes, free_bytes;
};
/* By those chunk servers that have told. False when none has since this server leads, and may yet;
 * after META_SERVER_DOWN_NS there is no space. */
bool server_space(const struct meta_server *server, struct meta_space *out_space);
void server_reads_end(struct meta_server *server);
void server_status(struct meta_server *server, struct rpc_request *request);

/* ---- meta_server_chunks.c ---- */
void server_chunks_start(struct meta_server *server);
void server_chunk_heartbeat(struct meta_server *server, struct rpc_request *request);
void server_chunk_live(struct meta_server *server, struct rpc_request *request);
void server_map_applied(struct meta_server *server);
void server_map_reply(struct meta_server *server, struct rpc_request *request);
void server_chunks_tick(struct meta_server *server);
