/* Records between the kv of two nodes, and on our own disk.  SPDX-License-Identifier: Apache-2.0
 *
 * Pure: no room but base, codec and range.  Every decoder checks before it believes; views into the
 * input. */
#pragma once

#include "base/uuid.h"
#include "range/descriptor.h"
#include "range/range.h"

enum kv_wire_outcome {
    KV_WIRE_E_BAD = 1,
};

/* How a replica answered.  Only UNKNOWN may have been executed. */
enum kv_wire_status {
    KV_WIRE_OK = 0,
    KV_WIRE_UNKNOWN = 1,
    KV_WIRE_NO_RANGE = 2,   /* not here */
    KV_WIRE_NOT_LEADER = 3, /* leader and term say who, if known */
    KV_WIRE_VERSION = 4,    /* the bounds have moved */
    KV_WIRE_FULL = 5,
    KV_WIRE_LOST = 6, /* another leader overwrote it */
    KV_WIRE_INVALID = 7,
    KV_WIRE_CONFLICT = 8, /* commands: not in this state */
    KV_WIRE_STOPPED = 9,
    KV_WIRE_STATUS_COUNT
};

struct kv_wire_answer {
    enum kv_wire_status status;
    struct uuid leader; /* NOT_LEADER; zero: unknown */
    uint64_t term;
};

/* ---- requests of CLUSTER_SERVICE_KV ---- */

enum kv_wire_request_kind {
    KV_WIRE_PROPOSE = 1,
    KV_WIRE_QUERY = 2,
    KV_WIRE_COMMAND = 3,
};

/* Whose bundle, and where in the row of those that must not overtake each other (convoy.c). */
struct kv_convoy {
    uint64_t sender; /* 0: in no order */
    uint64_t id, place;
};

struct kv_wire_propose {
    uint64_t store, tag;
    uint32_t boundary;
    uint32_t count;
    struct kv_convoy convoy;
    struct str data; /* count fields as range_command_add writes them */
};
void kv_wire_propose_encode(const struct kv_wire_propose *p, struct buf *out);

struct kv_wire_query {
    uint64_t store, tag;
    bool is_stale;
    struct str key, request;
};
void kv_wire_query_encode(const struct kv_wire_query *q, struct buf *out);

struct kv_wire_command {
    uint64_t store, tag;
    uint8_t kind; /* kv_command_kind */
    uint64_t version;
    struct uuid node[RANGE_MEMBER_MAX];
    unsigned node_count, voter_count;
    struct str key;
};
void kv_wire_command_encode(const struct kv_wire_command *c, struct buf *out);

struct kv_wire_request {
    enum kv_wire_request_kind kind;
    union {
        struct kv_wire_propose propose;
        struct kv_wire_query query;
        struct kv_wire_command command;
    };
};
must_use int kv_wire_request_decode(struct str s, struct kv_wire_request *out);

/* Commands in a run of fields as range_command_add writes them; UINT32_MAX when it is not such a run. */
uint32_t kv_wire_count(struct str data);

struct kv_wire_reply {
    struct kv_wire_answer answer;
    struct str bytes; /* PROPOSE: per command varint length and bytes; QUERY: the reply */
    struct str end;   /* QUERY: of the range */
    bool is_last;
};
void kv_wire_reply_encode(const struct kv_wire_reply *r, struct buf *out);
must_use int kv_wire_reply_decode(struct str s, struct kv_wire_reply *out);

/* ---- frames of CLUSTER_SERVICE_RAFT: any number of pieces ---- */

enum kv_wire_frame {
    KV_WIRE_FRAME_RAFT = 1,    /* a raft message */
    KV_WIRE_FRAME_UNKNOWN = 2, /* tag is not hosted here; body: the replica id asked for, varint */
    KV_WIRE_FRAME_ENSURE =
        3, /* body: kv_wire_ensure: the leader says that this replica should be there */
    KV_WIRE_FRAME_PULSE = 4, /* the sender lives; tag: which life; body: its loop, varint */
};

size_t kv_wire_frame_open(struct buf *out, enum kv_wire_frame kind, uint64_t tag);
void kv_wire_frame_close(struct buf *out, size_t opened);
/* The next piece; false at the end or when c->bad. */
bool kv_wire_frame_next(struct codec_cursor *c, enum kv_wire_frame *out_kind, uint64_t *out_tag,
                        struct str *out_body);

struct kv_wire_ensure {
    uint64_t store;
    struct range_id id;
    uint64_t replica;
    struct range_bounds bounds;
};
void kv_wire_ensure_encode(const struct kv_wire_ensure *e, struct buf *out);
must_use int kv_wire_ensure_decode(struct str s, struct kv_wire_ensure *out);

/* ---- what lies on the disk ---- */

/* Description of a group in the log, and of a replica in the rows. */
struct kv_wire_replica {
    struct str store;
    struct range_id id;
    uint64_t replica;
    bool is_founded; /* the first replica of its store, by decree */
    uint64_t space;  /* rows only, as what follows */
    uint64_t snapshot_index;
    bool is_split_born;
    struct str config; /* raft_config_encode */
    struct str range;  /* range_encode */
    struct str parts;  /* kv_parts_encode: the other spaces */
};
void kv_wire_replica_encode(const struct kv_wire_replica *r, struct buf *out);
must_use int kv_wire_replica_decode(struct str s, struct kv_wire_replica *out);

struct kv_wire_applied {
    uint64_t index, term, hlc;
};
void kv_wire_applied_encode(const struct kv_wire_applied *a, struct buf *out);
must_use int kv_wire_applied_decode(struct str s, struct kv_wire_applied *out);

/* Head of a snapshot stream. */
struct kv_wire_ship {
    uint64_t store;
    struct range_id id;
    uint64_t index, term;
    struct str range;   /* range_encode */
    struct str message; /* raft_message_encode of the SNAPSHOT */
};
void kv_wire_ship_encode(const struct kv_wire_ship *s, struct buf *out);
must_use int kv_wire_ship_decode(struct str s, struct kv_wire_ship *out);
