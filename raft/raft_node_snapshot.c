/*
 * Snapshots: the whole state of the machine, in frames, one call after the other.
 *
 * Out: one stream at a time, not faster than RAFT_SNAPSHOT_RATE. A frame that was lost with its
 * connection is sent again: the stream goes on where it was. It ends when the member has restored
 * everything, refuses, is away for long, or when we lead no more; the core then probes the member
 * again. In: a stream begins with frame 0 and continues without gaps; another stream may begin at
 * any time and replaces a broken one.
 */
#include "raft/raft_node_internal.h"

#include "base/trace_mark.h"

#include <errno.h>

/* ---- out ---- */

static void on_frame_sent(struct rpc_call *call, struct rpc_reply *reply);

static void end_stream(struct raft_node *node, bool restored)
{
    struct raft_snapshot_out *out = &node->snapshot_out;

    node->machine->snapshot_end(node->machine, out->cursor);
    env_timer_stop(node->env, &out->pace);
    buf_deinit(&out->frame);
    out->active = false;
    if (node->closing) {
        return;
    }
    out->pause_until_ns = restored ? 0 : env_now(node->env) + RAFT_SNAPSHOT_PAUSE_NS;
    LOG_INFO(node->env, "raft", "snapshot to=%u index=%" PRIu64 " frames=%" PRIu64 " %s", out->to,
             out->what.index, out->frame_no + 1, restored ? "restored" : "broken off");
    (void)!raft_node_step(node, (struct raft_input){.type = RAFT_INPUT_SNAPSHOT_SENT,
                                                    .peer = out->to,
                                                    .index = restored ? out->what.index : 0});
}

/* The frame that was read last; again, when it was lost. */
static void send_frame(struct raft_node *node)
{
    struct raft_snapshot_out *out = &node->snapshot_out;
    struct raft_link *link = raft_node_link(node, out->to);
    cleanup(buf_deinit) struct buf body = {0};
    struct raft_snapshot_wire wire = {.term = out->leader_term,
                                      .stream_id = out->stream_id,
                                      .frame_no = out->frame_no,
                                      .index = out->what.index,
                                      .index_term = out->what.term,
                                      .last = out->last,
                                      .bytes = out->what.bytes};

    if (link == NULL || node->raft.role != RAFT_LEADER || node->raft.term != out->leader_term) {
        end_stream(node, /* restored= */ false);
        return;
    }
    raft_snapshot_wire_encode(&wire, &body);
    out->call = (struct rpc_call){
        .opcode = RAFT_OPCODE_SNAPSHOT,
        .body = buf_slice(&body),
        .payload = buf_slice(&out->frame),
        .timeout_ns = RAFT_SNAPSHOT_TIMEOUT_NS,
        .done = on_frame_sent,
        .data = node,
    };
    rpc_call_start(&link->peer, &out->call);
}

static void next_frame(struct raft_node *node)
{
    struct raft_snapshot_out *out = &node->snapshot_out;
    int r;

    buf_clear(&out->frame);
    r = node->machine->snapshot_read(node->machine, out->cursor, &out->frame);
    if (r < 0 || out->frame.size > RAFT_SNAPSHOT_FRAME_MAX) {
        end_stream(node, /* restored= */ false);
        return;
    }
    out->last = out->frame.size == 0;
    send_frame(node);
}

/* Its turn has come: the next frame, or the lost one again. */
static void on_pace(struct env_timer *timer)
{
    struct raft_node *node = container_of(timer, struct raft_node, snapshot_out.pace);

    if (node->snapshot_out.broken_since_ns != 0) {
        send_frame(node);
    } else {
        next_frame(node);
    }
}

static void frame_arrived(struct raft_node *node)
{
    struct raft_snapshot_out *out = &node->snapshot_out;

    if (out->last) {
        end_stream(node, /* restored= */ true);
        return;
    }
    out->resumed += out->broken_since_ns != 0;
    out->broken_since_ns = 0;
    out->frame_no++;
    out->sent_bytes += out->frame.size;
    env_timer_start(node->env, &out->pace,
                    out->began_ns +
                        out->sent_bytes * (NS_PER_S / KiB(1)) / (RAFT_SNAPSHOT_RATE / KiB(1)));
}

/* The connection broke: the other side knows the frames that it has. */
static void frame_lost(struct raft_node *node)
{
    struct raft_snapshot_out *out = &node->snapshot_out;
    uint64_t now = env_now(node->env);

    if (out->broken_since_ns == 0) {
        out->broken_since_ns = now;
    }
    if (now - out->broken_since_ns >= RAFT_SNAPSHOT_BROKEN_NS) {
        end_stream(node, /* restored= */ false);
        return;
    }
    env_timer_start(node->env, &out->pace, now + RAFT_SNAPSHOT_RETRY_NS);
}

static void on_frame_sent(struct rpc_call *call, struct rpc_reply *reply)
{
    struct raft_node *node = call->data;
    int status = reply->status;

    if (node->closing) {
        end_stream(node, /* restored= */ false);
    } else if (status == 0) {
        frame_arrived(node);
    } else if (status == -EALREADY) {
        end_stream(node, /* restored= */ true); /* it caught up by other means */
    } else if (status == -ERR_DISCONNECTED || status == -ETIMEDOUT || status == -ERR_BUSY) {
        frame_lost(node);
    } else {
        end_stream(node, /* restored= */ false);
    }
}

void raft_node_snapshot_begin(struct raft_node *node)
{
    struct raft_snapshot_out *out = &node->snapshot_out;
    int slot = raft_members_find(&node->raft.members, out->wanted);
    uint32_t to = out->wanted;
    int r;

    out->wanted = 0;
    if (slot < 0 || node->raft.role != RAFT_LEADER || env_now(node->env) < out->pause_until_ns ||
        node->raft.progress[slot].state != RAFT_PROGRESS_SNAPSHOT) {
        return; /* asked for again by its next heartbeat */
    }
    TRACE_MARK("a snapshot is sent");
    r = node->machine->snapshot_begin(node->machine, &out->what, &out->cursor);
    if (r < 0) {
        LOG_WARN(node->env, "raft", "no snapshot now, the member waits for=%u error=%s", to,
                 err_text(r));
        out->pause_until_ns = env_now(node->env) + RAFT_SNAPSHOT_PAUSE_NS;
        return;
    }
    out->active = true;
    out->to = to;
    out->leader_term = node->raft.term;
    out->stream_id = env_random(node->env);
    out->frame_no = out->sent_bytes = out->broken_since_ns = 0;
    out->began_ns = env_now(node->env);
    out->pace.fire = on_pace;
    LOG_INFO(node->env, "raft", "snapshot begins to=%u index=%" PRIu64 " bytes=%" PRIu64, to,
             out->what.index, out->what.bytes);
    next_frame(node);
}

void raft_node_snapshot_close(struct raft_node *node)
{
    if (node->snapshot_out.active && env_timer_running(&node->snapshot_out.pace)) {
        end_stream(node, /* restored= */ false); /* nothing in flight that would end it */
    }
}

/* ---- in ---- */

static int begin_restore(struct raft_node *node, uint32_t from,
                         const struct raft_snapshot_wire *wire)
{
    struct raft_snapshot_in *in = &node->snapshot_in;
    struct raft_snapshot what = {wire->index, wire->index_term, wire->bytes};
    int r;

    in->active = false; /* a stream that this one replaces */
    r = node->machine->restore_begin(node->machine, &what);
    if (r < 0) {
        return r;
    }
    *in = (struct raft_snapshot_in){
        .active = true,
        .from = from,
        .stream_id = wire->stream_id,
        .what = what,
    };
    return 0;
}

static int finish_restore(struct raft_node *node)
{
    struct raft_snapshot_in *in = &node->snapshot_in;
    struct raft_members members;
    int r;

    r = node->machine->restore_finish(node->machine);
    if (r < 0) {
        return r;
    }
    node->machine->members(node->machine, &members);
    if (members.count == 0) {
        members = node->raft.base_members; /* it was never changed */
    }
    in->active = false;
    node->applied = in->what.index;
    node->applied_term = in->what.term;
    LOG_INFO(node->env, "raft", "snapshot restored from=%u index=%" PRIu64, in->from,
             in->what.index);
    r = raft_node_step(node, (struct raft_input){.type = RAFT_INPUT_RESTORED,
                                                 .index = in->what.index,
                                                 .term = in->what.term,
                                                 .members = &members});
    ASSERT(r == 0);
    raft_node_compacted(node, in->what.index);
    raft_node_turn_soon(node);
    return 0;
}

static int take_frame(struct raft_node *node, uint32_t from, const struct raft_snapshot_wire *wire,
                      struct slice frame)
{
    struct raft_snapshot_in *in = &node->snapshot_in;
    int r = 0;

    if (wire->term < node->raft.term || node->raft.role == RAFT_LEADER || node->raft.lost ||
        node->snapshot_out.active) {
        return -ERR_STALE_EPOCH;
    }
    if (node->raft.rebuild && wire->index < node->raft.tail.base_index) {
        return -ERR_STALE_EPOCH; /* raft_rebuild.c; the sender's next checkpoint is newer */
    }
    if (frame.size > RAFT_SNAPSHOT_FRAME_MAX || wire->index == 0) {
        return -ERR_BAD_MESSAGE;
    }
    if (wire->index <= node->applied) {
        in->active = false; /* caught up by entries meanwhile */
        return -EALREADY;
    }
    if (wire->frame_no == 0 && !(in->active && in->stream_id == wire->stream_id)) {
        r = begin_restore(node, from, wire);
    } else if (in->active && in->from == from && in->stream_id == wire->stream_id &&
               in->next_frame == wire->frame_no + 1) {
        return 0; /* the answer was lost */
    } else if (!in->active || in->from != from || in->stream_id != wire->stream_id ||
               in->next_frame != wire->frame_no) {
        return -ERR_SEQUENCE_GAP;
    }
    if (r < 0) {
        return r;
    }
    in->next_frame++;
    if (frame.size > 0) {
        r = node->machine->restore_write(node->machine, frame);
    }
    return r == 0 && wire->last ? finish_restore(node) : r;
}

void raft_node_snapshot_receive(struct raft_node *node, struct rpc_request *request)
{
    struct raft_snapshot_wire wire;
    int r;

    r = raft_snapshot_wire_decode(&wire, request->body);
    if (r == 0 && request->conn->peer_role != RPC_ROLE_META) {
        r = -EACCES;
    }
    if (r == 0) {
        r = take_frame(node, request->conn->peer_node, &wire, buf_slice(&request->payload));
    }
    rpc_request_reply(request, r, (struct slice){0}, NULL);
}
