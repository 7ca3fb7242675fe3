#pragma once
/* limits: every bound of raft/ and the arithmetic behind it (design values: docs/adr). */
#include "base/compiler.h"

/* A group tolerates (n-1)/2 losses; above 7 members each commit only gets slower. */
#define RAFT_MEMBERS_MAX 7
#define RAFT_ADDRESS_MAX 255
/* A learner so few entries behind becomes a voter: they are sent within one round. */
#define RAFT_PROMOTE_LAG 512

/* Timing. Heartbeats come 7 to a shortest election timeout, so five may be lost or late. The lease
 * ends well before anybody may vote for another leader (lease < suspect < election minimum). */
#define RAFT_HEARTBEAT_NS       (40 * NS_PER_MS)
#define RAFT_ELECTION_MIN_NS    (300 * NS_PER_MS)
#define RAFT_ELECTION_SPREAD_NS (300 * NS_PER_MS)
#define RAFT_LEASE_NS           (120 * NS_PER_MS)
#define RAFT_SUSPECT_NS         (130 * NS_PER_MS) /* refusal of votes when the leader is suspect */
#define RAFT_SUSPECT_SPREAD_NS  (20 * NS_PER_MS)
#define RAFT_SUSPECT_VOTE_NS    (40 * NS_PER_MS) /* a vote on suspicion is repeated after this */
#define RAFT_SUSPECT_TRIES      16 /* pre-votes on suspicion before the ordinary timeout rules */
#define RAFT_STALL_NS           (100 * NS_PER_MS)  /* an election timer this late is re-armed */
#define RAFT_STALL_TRIES        3                  /* ... this many times in a row */
#define RAFT_QUORUM_LOST_NS     (600 * NS_PER_MS)  /* a leader without a quorum this long resigns */
#define RAFT_RESEND_NS          (1000 * NS_PER_MS) /* no progress of a follower: probe it again */
#define RAFT_TRANSFER_NS        (300 * NS_PER_MS)  /* a transfer that takes longer is given up */

/* One append: as much as one frame (RPC_PAYLOAD_MAX) carries with room to spare. */
#define RAFT_APPEND_ENTRIES_MAX 512
#define RAFT_APPEND_BYTES_MAX   MiB(1)
/* In flight to one follower: 10 Gbit/s x 5 ms = 6 MiB. */
#define RAFT_INFLIGHT_MAX       64
#define RAFT_INFLIGHT_BYTES_MAX MiB(8)
/* Largest command: one metadata request with its inline data, with a wide margin. */
#define RAFT_COMMAND_MAX KiB(768)
/* Proposed, not committed: above, clients see BUSY. */
#define RAFT_UNCOMMITTED_BYTES_MAX MiB(64)
/* Entries kept in memory behind the applied index for slow followers; older ones go as soon as the
 * owner's checkpoint holds them. */
#define RAFT_TAIL_BYTES_MAX MiB(256)
/* Behind the checkpoint so many entries stay for followers that lag a little. */
#define RAFT_TAIL_KEEP_BYTES     MiB(8)
#define RAFT_READS_MAX           65536 /* waiting at one node */
#define RAFT_APPLY_SLICE         256   /* entries applied in one turn of the loop */
#define RAFT_HELD_MAX            65536 /* messages waiting for the disk; above: dropped */

#define RAFT_SNAPSHOT_FRAME_MAX  MiB(1)
#define RAFT_SNAPSHOT_TIMEOUT_NS (10 * NS_PER_S) /* one frame, its restore included */
#define RAFT_SNAPSHOT_RETRY_NS   (100 * NS_PER_MS)
#define RAFT_SNAPSHOT_BROKEN_NS                                                                    \
    (20 * NS_PER_S)                           /* the frame is sent again so long, then all of it */
#define RAFT_SNAPSHOT_PAUSE_NS (1 * NS_PER_S) /* after one that failed */
/* Half of a gigabit link, and of what a slow disk writes. */
#define RAFT_SNAPSHOT_RATE MiB(64) /* bytes in a second */

#define RAFT_GUESTS_MAX    4 /* connections to candidates that are no members for us */
#define RAFT_GUEST_NS      (10 * NS_PER_S)

/* The log on disk. 64 MiB: about 10 s of heavy metadata load; two spares hide preparation. */
#define RAFT_LOG_SEGMENT_BYTES MiB(64)
#define RAFT_LOG_SEGMENT_MIN   KiB(64)
#define RAFT_LOG_SPARES        2
#define RAFT_LOG_SEGMENTS_MAX  1024 /* listed at start */
/* One group commit (one record, one write, one sync): bounded by what recovery holds in memory. */
#define RAFT_LOG_BATCH_MAX  MiB(4)
#define RAFT_LOG_ZERO_BLOCK MiB(1) /* zeros written per io when a spare is prepared */
