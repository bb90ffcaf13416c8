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

/* Commands in a run of fields as range_command_add writes them; UINT32_MAX when it is not such a
 * run. */
uint32_t kv_wire_count(struct str data);

struct kv_wire_reply {
    struct kv_wire_answer answer;
    struct str bytes; /* PROPOSE: per command varint length and bytes; QUERY: the reply */
    struct str end;   /* QUERY: of the range */
    bool is_last;
};
void kv_wire_reply_encode(const struct kv_wire_reply *r, struct buf *out);
must_use int kv_wire_reply_decode(struct str s, struct kv_wire_reply *out);
/* Whether the range that answered a QUERY may hold this key: its end is behind it.  Who goes on from the end would else
 * go round for ever. */
bool kv_wire_reply_is_of(const struct kv_wire_reply *r, struct str key);

/* One after the other the answers in the reply to a PROPOSE; c->bad when there are none left. */
void kv_wire_answer_put(struct buf *out, struct str bytes);
struct str kv_wire_answer_next(struct codec_cursor *c);

/* ---- between the leaders of two ranges that merge: keys and answers of commands ---- */

struct kv_wire_order { /* FREEZE and THAW: the merger, and what it takes the mergee for */
    uint64_t serial;   /* not 0 */
    struct range_id id;
    uint64_t version;
};
void kv_wire_order_encode(const struct kv_wire_order *o, struct buf *out);
must_use int kv_wire_order_decode(struct str s, struct kv_wire_order *out);

struct kv_wire_frozen { /* the mergee's answer: what it ends with */
    uint64_t serial, version, index, term, hlc;
    struct range_bounds bounds;
};
void kv_wire_frozen_encode(const struct kv_wire_frozen *f, struct buf *out);
must_use int kv_wire_frozen_decode(struct str s, struct kv_wire_frozen *out);

/* ---- frames of CLUSTER_SERVICE_RAFT: any number of pieces ---- */

enum kv_wire_frame {
    KV_WIRE_FRAME_RAFT = 1,    /* a raft message */
    KV_WIRE_FRAME_UNKNOWN = 2, /* tag is not hosted here; body: the replica id asked for, varint */
    KV_WIRE_FRAME_ENSURE =
        3, /* body: kv_wire_ensure: the leader says that this replica should be there */
    KV_WIRE_FRAME_PULSE = 4, /* the sender lives; tag: which life; body: its loop, varint */
    KV_WIRE_FRAME_FROM =
        5, /* first of those that go together; tag: the sender's loop, where answers belong */
};

size_t kv_wire_frame_open(struct buf *out, enum kv_wire_frame kind, uint64_t tag);
void kv_wire_frame_close(struct buf *out, size_t opened);
/* The next piece; false at the end or when c->bad. */
bool kv_wire_frame_next(struct codec_cursor *c, enum kv_wire_frame *out_kind, uint64_t *out_tag,
                        struct str *out_body);

/* Body of UNKNOWN and PULSE. */
must_use int kv_wire_number_decode(struct str body, uint64_t *out);

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

/* Keys of meta rows: what a row is, and the number of a group or tag. */
#define KV_WIRE_KEY 9u
enum kv_wire_key {
    KV_WIRE_KEY_REPLICA = 'r',   /* group -> kv_wire_replica */
    KV_WIRE_KEY_APPLIED = 'a',   /* group -> kv_wire_applied */
    KV_WIRE_KEY_TOMBSTONE = 't', /* tag -> kv_wire_tombstone */
};
void kv_wire_key_encode(enum kv_wire_key what, uint64_t n, char out[KV_WIRE_KEY]);
/* BAD: not such a key; of a newer version, perhaps. */
must_use int kv_wire_key_decode(struct str key, enum kv_wire_key *out_what, uint64_t *out_n);

/* The highest replica id that must not come again. */
void kv_wire_tombstone_encode(uint64_t id, struct buf *out);
must_use int kv_wire_tombstone_decode(struct str s, uint64_t *out_id);

/* What the receiver of a snapshot has of it, looked over and written: its first so many rows, up to key. */
struct kv_wire_held {
    uint64_t index, term; /* of the snapshot */
    uint64_t count;       /* of rows; 0: nothing */
    uint32_t crc;         /* of them, as in kv_wire_rows */
    struct str key;
};
void kv_wire_held_encode(const struct kv_wire_held *h, struct buf *out);
must_use int kv_wire_held_decode(struct str s, struct kv_wire_held *out);

/* Head of a snapshot stream.  A question has no rows: the last word tells what is held (kv_wire_held,
 * or nothing). */
struct kv_wire_ship {
    uint64_t store;
    struct range_id id;
    bool is_question;
    struct str range; /* range_encode; not of a question */
    struct str
        message; /* raft_message_encode of the SNAPSHOT, which names its index and term; not of a question */
    struct str
        held; /* kv_wire_held_encode, as it was answered: the stream begins behind it; or nothing */
};
void kv_wire_ship_encode(const struct kv_wire_ship *s, struct buf *out);
must_use int kv_wire_ship_decode(struct str s, struct kv_wire_ship *out);

/* Then rows, and at marks between them and at the end how many there were since the first and what they add
 * up to.  Zeros to begin with, on either side, or what is held. */
struct kv_wire_rows {
    uint64_t count;
    uint32_t crc;
    bool is_end;
};

enum kv_wire_piece {
    KV_WIRE_PIECE_ROW,
    KV_WIRE_PIECE_MARK,  /* the rows up to here are as they were sent */
    KV_WIRE_PIECE_END,   /* all rows are there, and as they were sent */
    KV_WIRE_PIECE_SHORT, /* the rest has not come yet */
    KV_WIRE_PIECE_BAD,
};

void kv_wire_row_put(struct kv_wire_rows *r, struct str key, struct str value, struct buf *out);
void kv_wire_rows_mark(const struct kv_wire_rows *r, struct buf *out);
void kv_wire_rows_end(struct kv_wire_rows *r, struct buf *out);
/* Moves c behind a ROW, a MARK or the END; views. */
enum kv_wire_piece kv_wire_row_next(struct kv_wire_rows *r, struct codec_cursor *c,
                                    struct str *out_key, struct str *out_value);
