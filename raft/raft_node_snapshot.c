/*
 * Snapshots: the whole state of the machine, in frames, one call after the other.
 *
 * Out: one stream at a time; it ends when the member has restored everything, when a call fails,
 * or when we lead no more; the core then probes the member again. In: a stream begins with frame 0
 * and continues without gaps; another stream may begin at any time and replaces a broken one.
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
    buf_deinit(&out->frame);
    out->active = false;
    if (node->closing) {
        return;
    }
    LOG_INFO(node->env, "raft", "snapshot to=%u index=%" PRIu64 " frames=%" PRIu64 " %s",
             out->link->id, out->index, out->frame_no, restored ? "restored" : "broken off");
    (void)!raft_node_step(node, (struct raft_input){.type = RAFT_INPUT_SNAPSHOT_SENT,
                                                    .peer = out->link->id,
                                                    .index = restored ? out->index : 0});
}

/* Reads and sends one frame. */
static void send_frame(struct raft_node *node)
{
    struct raft_snapshot_out *out = &node->snapshot_out;
    cleanup(buf_deinit) struct buf body = {0};
    struct raft_snapshot_wire wire = {
        .term = node->raft.term,
        .stream_id = out->stream_id,
        .frame_no = out->frame_no,
        .index = out->index,
        .index_term = out->term,
    };
    int r;

    buf_clear(&out->frame);
    r = node->machine->snapshot_read(node->machine, out->cursor, &out->frame);
    if (r < 0 || out->frame.size > RAFT_SNAPSHOT_FRAME_MAX || node->raft.role != RAFT_LEADER) {
        end_stream(node, /* restored= */ false);
        return;
    }
    out->last = out->frame.size == 0;
    out->frame_no++;
    wire.last = out->last;
    raft_snapshot_wire_encode(&wire, &body);
    out->call = (struct rpc_call){
        .opcode = RAFT_OPCODE_SNAPSHOT,
        .body = buf_slice(&body),
        .payload = buf_slice(&out->frame),
        .timeout_ns = RAFT_SNAPSHOT_TIMEOUT_NS,
        .done = on_frame_sent,
        .data = node,
    };
    rpc_call_start(&out->link->peer, &out->call);
}

static void on_frame_sent(struct rpc_call *call, struct rpc_reply *reply)
{
    struct raft_node *node = call->data;

    if (node->closing) {
        end_stream(node, /* restored= */ false);
    } else if (reply->status == -EALREADY) {
        end_stream(node, /* restored= */ true); /* it caught up by other means */
    } else if (reply->status < 0) {
        end_stream(node, /* restored= */ false);
    } else if (node->snapshot_out.last) {
        end_stream(node, /* restored= */ true);
    } else {
        send_frame(node);
    }
}

void raft_node_snapshot_begin(struct raft_node *node)
{
    struct raft_snapshot_out *out = &node->snapshot_out;
    struct raft_link *link = raft_node_link(node, out->wanted);
    int slot = raft_members_find(&node->raft.members, out->wanted);
    int r;

    out->wanted = 0;
    if (link == NULL || slot < 0 || node->raft.role != RAFT_LEADER ||
        node->raft.progress[slot].state != RAFT_PROGRESS_SNAPSHOT) {
        return;
    }
    TRACE_MARK("a snapshot is sent");
    r = node->machine->snapshot_begin(node->machine, &out->index, &out->term, &out->cursor);
    if (r < 0) {
        LOG_WARN(node->env, "raft", "no snapshot now, the member waits for=%u error=%s", link->id,
                 err_text(r));
        return; /* asked for again by its next heartbeat */
    }
    out->active = true;
    out->link = link;
    out->stream_id = env_random(node->env);
    out->frame_no = 0;
    LOG_INFO(node->env, "raft", "snapshot begins to=%u index=%" PRIu64, link->id, out->index);
    send_frame(node);
}

/* ---- in ---- */

static int begin_restore(struct raft_node *node, uint32_t from,
                         const struct raft_snapshot_wire *wire)
{
    struct raft_snapshot_in *in = &node->snapshot_in;
    int r;

    in->active = false; /* a stream that this one replaces */
    r = node->machine->restore_begin(node->machine, wire->index, wire->index_term);
    if (r < 0) {
        return r;
    }
    *in = (struct raft_snapshot_in){
        .active = true,
        .from = from,
        .stream_id = wire->stream_id,
        .index = wire->index,
        .term = wire->index_term,
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
    node->applied = in->index;
    node->applied_term = in->term;
    LOG_INFO(node->env, "raft", "snapshot restored from=%u index=%" PRIu64, in->from, in->index);
    r = raft_node_step(node, (struct raft_input){.type = RAFT_INPUT_RESTORED,
                                                 .index = in->index,
                                                 .term = in->term,
                                                 .members = &members});
    ASSERT(r == 0);
    raft_node_compacted(node, in->index);
    raft_node_turn_soon(node);
    return 0;
}

static int take_frame(struct raft_node *node, uint32_t from, const struct raft_snapshot_wire *wire,
                      struct slice frame)
{
    struct raft_snapshot_in *in = &node->snapshot_in;
    int r = 0;

    if (wire->term < node->raft.term || node->raft.role == RAFT_LEADER ||
        node->snapshot_out.active) {
        return -ERR_STALE_EPOCH;
    }
    if (frame.size > RAFT_SNAPSHOT_FRAME_MAX || wire->index == 0) {
        return -ERR_BAD_MESSAGE;
    }
    if (wire->index <= node->applied) {
        in->active = false; /* caught up by entries meanwhile */
        return -EALREADY;
    }
    if (wire->frame_no == 0) {
        r = begin_restore(node, from, wire);
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
