/* The back room of inbox: what a machine remembers.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/heap.h"
#include "base/hlc.h"
#include "base/list.h"
#include "base/map.h"
#include "codec/record.h"
#include "inbox/inbox.h"

#define INBOX_SHELVES 16
#define INBOX_SUBS_BYTES_MAX (16u << 20) /* of filters in one session */
#define INBOX_BODY_ID 20                 /* bytes: hlc, index, sub of the command that stored it */

struct inbox_tenant {
    struct inbox_stat stat;
    uint64_t hold; /* sessions, bodies, wills that point here */
    uint16_t len;
    char name[];
};

/* One loop of one process that owns sessions, interned. */
struct inbox_holder {
    struct inbox_owner who;
    struct list sessions;
    uint64_t count;
    struct buf push;       /* receivers of the message being inserted */
    struct list push_link; /* in machine.pushing */
};

/* A message stored once for several sessions of a shelf. */
struct inbox_body {
    struct inbox_tenant *tenant;
    uint64_t refs;
    uint32_t size;
    uint8_t shelf;
    uint8_t id[INBOX_BODY_ID];
};

/* One queued message. */
struct inbox_item {
    struct inbox_body *body; /* NULL: in its own row, or finished */
    uint64_t publisher, exchange, floor;
    uint32_t size; /* counted against byte_max */
    uint8_t phase; /* enum inbox_phase */
};

/* Items of consecutive seqs; a power of two of places. */
struct inbox_ring {
    struct inbox_item *item;
    size_t head, count, cap;
};

struct inbox_seen {
    uint64_t publisher, exchange, floor;
};

struct inbox_inbound {
    uint64_t exchange;
    uint16_t packet_id;
};

/* What an idle session without anything queued does not have. */
struct inbox_live {
    struct list waiting; /* in machine.waiting: attached, and something is queued */
    struct inbox_session *session;
    uint64_t nudged_acked; /* of no replica's state: acked at the last nudge, UINT64_MAX none yet */
    struct inbox_ring queue, qos0;
    uint64_t bytes;
    struct inbox_seen *seen; /* exchanges that left the queue, oldest first */
    size_t seen_count, seen_cap;
    struct inbox_inbound *inbound;
    size_t inbound_count, inbound_cap; /* by packet id */
};

struct inbox_will {
    uint32_t delay_sec;
    uint32_t len;
    char message[];
};

/* A will whose publishing has begun; it may outlive its session. */
struct inbox_taken {
    struct heap_node retry; /* of no replica's state: when this one would offer it again, ms */
    struct inbox_tenant *tenant;
    uint64_t id;
    uint64_t incarnation;
    struct str client, message; /* owned */
};

struct inbox_session {
    struct heap_node due; /* ms */
    struct list owned;    /* in holder->sessions */
    struct inbox_tenant *tenant;
    struct inbox_holder *holder; /* NULL: detached */
    struct inbox_live *live;
    struct inbox_will *will;
    char *subs; /* filter by filter: varint length, filter, options, varint sub id */
    uint64_t incarnation, mod;
    uint64_t created_hlc, detached_hlc;
    uint64_t sent; /* detached: what the client has been sent is below it; 0: nobody knows */
    uint64_t acked, next, qos0_acked, qos0_next;
    uint64_t exchange_next;
    uint64_t byte_max;
    uint32_t expiry_sec, limit, window, subs_len, sub_count;
    uint16_t client_len;
    uint8_t bucket;
    bool qos0_drop_oldest;
    char client[];
};

struct inbox_machine {
    struct map sessions, tenants, holders, bodies, wills;
    struct heap due, retry;
    struct list pushing;
    struct list waiting; /* lives of attached sessions with a queue */
    struct buf start, end;
    bool is_open;
    uint64_t nudge_ms; /* of no replica's state: when to tell owners of their queues again */
    bool is_hosted;    /* of no replica's state: they were told by this leader */
    uint64_t asked_ms; /* of no replica's state: when tick last asked for what is due */
    struct buf key, value, text; /* scratch */
};

/* One command being applied. */
struct inbox_step {
    struct inbox_machine *m;
    const struct range_apply *in;
    struct range_out *out;
};

/* --- fields: every record of this room is read into one of these ---------------------------------
 */

enum inbox_tag {
    INBOX_T_TENANT = 1,
    INBOX_T_CLIENT,
    INBOX_T_INCARNATION,
    INBOX_T_MOD,
    INBOX_T_FLAGS,
    INBOX_T_EXPIRY,
    INBOX_T_LIMIT,
    INBOX_T_BYTE_MAX,
    INBOX_T_WINDOW,
    INBOX_T_NODE,
    INBOX_T_EPOCH,
    INBOX_T_SHARD,
    INBOX_T_INFO,
    INBOX_T_WILL,
    INBOX_T_DELAY,
    INBOX_T_FILTER,
    INBOX_T_OPTIONS,
    INBOX_T_SUB_ID,
    INBOX_T_MESSAGE,
    INBOX_T_PUBLISHER,
    INBOX_T_EXCHANGE,
    INBOX_T_FLOOR,
    INBOX_T_ACKED,
    INBOX_T_NEXT,
    INBOX_T_QOS0_ACKED,
    INBOX_T_QOS0_NEXT,
    INBOX_T_MARKS,
    INBOX_T_PACKET_ID,
    INBOX_T_LIST,
    INBOX_T_BODY,
    INBOX_T_QOS,
    INBOX_T_HLC,
    INBOX_T_OUTCOME,
    INBOX_T_WILL_ID,
    INBOX_T_SEQ,
    INBOX_T_BYTES,
    INBOX_T_RECEIVED,
    INBOX_T_CREATED,
    INBOX_T_SENT,
    INBOX_T_COUNT,
};

enum inbox_flag {
    INBOX_FLAG_CLEAN = 1,
    INBOX_FLAG_DROP_OLDEST = 2,
    INBOX_FLAG_KEEP_WILL = 4,
    INBOX_FLAG_PRESENT = 8,
    INBOX_FLAG_FOR_HELD = 16,
};

enum inbox_kind { /* of records */
                  INBOX_K_ATTACH = 0xB0,
                  INBOX_K_DETACH,
                  INBOX_K_SUB,
                  INBOX_K_UNSUB,
                  INBOX_K_INSERT,
                  INBOX_K_COMMIT,
                  INBOX_K_RECEIVE,
                  INBOX_K_RELEASE,
                  INBOX_K_DELETE,
                  INBOX_K_WILL_DONE,
                  INBOX_K_DUE,    /* LIST: sessions and wills that are due */
                  INBOX_K_ORPHAN, /* LIST: sessions whose owner died */
                  INBOX_K_EXPIRE, /* LIST: sessions to end */
                  INBOX_K_REPLY,
                  INBOX_K_EFFECT,
                  INBOX_K_ROW,
                  INBOX_K_Q_FETCH,
                  INBOX_K_Q_BODY,
                  INBOX_K_Q_STATE,
                  INBOX_K_Q_DEAD,
                  INBOX_K_Q_OWNERS,
                  INBOX_K_Q_EXPIRE,
                  INBOX_K_Q_STAT,
                  INBOX_K_Q_LIST,
};
#define INBOX_VERSION 1

struct inbox_fields {
    uint64_t u[INBOX_T_COUNT];
    struct str s[INBOX_T_COUNT];
};

/* False when it is no record of this version or cut short; a repeated tag: the last counts. */
must_use bool inbox_fields_get(struct str record, uint8_t *out_kind, struct inbox_fields *out);
/* The same without a head. */
must_use bool inbox_fields_rest(struct codec_cursor *c, struct inbox_fields *out);

void inbox_put_u64(struct buf *b, uint32_t tag, uint64_t v);   /* left out when 0 */
void inbox_put_str(struct buf *b, uint32_t tag, struct str v); /* left out when empty */
void inbox_put_owner(struct buf *b, const struct inbox_owner *o);
must_use bool inbox_fields_owner(const struct inbox_fields *f, struct inbox_owner *out);

/* Elements of a LIST: tenant, client, incarnation, mod; for a will id instead of mod and a mark. */
struct inbox_element {
    struct str tenant, client;
    uint64_t incarnation, mod;
    bool is_will;
};
void inbox_element_put(struct buf *b, const struct inbox_element *e);
must_use bool inbox_element_get(struct codec_cursor *c, struct inbox_element *out);

/* A receiver of an insert in the bytes of its field. */
must_use bool inbox_receiver_get(struct str bytes, struct inbox_receiver *out,
                                 uint32_t sub_id[INBOX_SUB_IDS_MAX]);
/* qos, options, sub ids: as receivers, pushes and rows have them. */
void inbox_grant_put(struct buf *b, uint8_t qos, uint8_t options, const uint32_t *sub_id,
                     uint32_t count);
must_use bool inbox_grant_get(struct codec_cursor *c, struct inbox_push *out);

/* What a session is like, as fields and back: census.c. */
void inbox_state_put(struct buf *v, const struct inbox_session *s);
must_use bool inbox_state_get(const struct inbox_fields *f, struct inbox_state *out);
/* Answers inbox_query_list. */
void inbox_census(const struct inbox_machine *m, const struct inbox_fields *f, struct buf *reply);

/* --- keys
 * ------------------------------------------------------------------------------------------ */

uint8_t inbox_bucket(struct str client);
static inline uint8_t inbox_shelf(uint8_t bucket)
{
    return bucket >> 4;
}
void inbox_key_body(struct buf *out, struct str tenant, uint8_t shelf, struct str id);
/* The prefix of a session's rows and a letter. */
void inbox_key_row(struct buf *out, struct str tenant, struct str client, char letter);

/* --- life of sessions: session.c
 * ---------------------------------------------------------------------- */

static inline struct str inbox_session_client(const struct inbox_session *s)
{
    return str_view(s->client, s->client_len);
}
static inline struct str inbox_session_tenant(const struct inbox_session *s)
{
    return str_view(s->tenant->name, s->tenant->len);
}
struct inbox_tenant *inbox_tenant_get(struct inbox_machine *m, struct str name);
struct inbox_tenant *inbox_tenant_find(const struct inbox_machine *m, struct str name);
void inbox_tenant_drop(struct inbox_machine *m, struct inbox_tenant *t);
struct inbox_session *inbox_session_find(const struct inbox_machine *m, struct str tenant,
                                         struct str client);
struct inbox_session *inbox_session_new(struct inbox_machine *m, struct str tenant,
                                        struct str client);
void inbox_session_own(struct inbox_machine *m, struct inbox_session *s,
                       const struct inbox_owner *o);
void inbox_session_disown(struct inbox_machine *m, struct inbox_session *s);
/* Memory only. */
void inbox_session_forget(struct inbox_machine *m, struct inbox_session *s);
void inbox_session_forget_all(struct inbox_machine *m);
/* Puts it where it belongs in the heap of what is due. */
void inbox_session_arm(struct inbox_machine *m, struct inbox_session *s);
/* When its will is due, its end; ms, USEC_NEVER. */
uint64_t inbox_session_will_ms(const struct inbox_session *s);
uint64_t inbox_session_end_ms(const struct inbox_session *s);
/* Its row of identity, owner and limits. */
void inbox_session_write(struct inbox_step *st, const struct inbox_session *s);
/* Ends it: rows, routes (effect), will (taken). */
void inbox_session_end(struct inbox_step *st, struct inbox_session *s);
/* The owner is gone. */
void inbox_session_detach(struct inbox_step *st, struct inbox_session *s);
void inbox_session_take_will(struct inbox_step *st, struct inbox_session *s);
void inbox_session_drop_will(struct inbox_step *st, struct inbox_session *s);

/* Wills in memory. */
struct inbox_taken *inbox_taken_new(struct inbox_machine *m, struct str tenant,
                                    const struct inbox_fields *f, struct str client, uint64_t id);
struct inbox_taken *inbox_taken_find(const struct inbox_machine *m, struct str tenant,
                                     struct str client, uint64_t id);
/* As inbox_body_move. */
void inbox_taken_move(struct inbox_machine *from, struct inbox_machine *to, struct inbox_taken *w,
                      struct inbox_tenant *t);
void inbox_taken_forget(struct inbox_machine *m, struct inbox_taken *w);
void inbox_taken_offer(struct inbox_step *st, struct inbox_taken *w);

/* Scratch keys: the machine's, good until the next one. */
struct str inbox_row_key(struct inbox_machine *m, const struct inbox_session *s, char letter);
struct str inbox_row_key_seq(struct inbox_machine *m, const struct inbox_session *s, char letter,
                             uint64_t seq);

/* --- queues: queue.c
 * ----------------------------------------------------------------------------------- */

struct inbox_live *inbox_live_get(struct inbox_session *s);
/* Puts it among those that wait, or takes it out. */
void inbox_live_wait(struct inbox_machine *m, struct inbox_session *s);
/* Tells owners again whose sessions have not moved since the last time: a push may be lost with a
 * link or a leader. */
void inbox_nudge(struct inbox_step *st);
/* The effect MORE for an attached session. */
void inbox_tell_more(struct inbox_step *st, const struct inbox_session *s);
/* Frees what is empty. */
void inbox_live_trim(struct inbox_session *s);
struct inbox_item *inbox_ring_push(struct inbox_ring *r);
struct inbox_item *inbox_ring_at(const struct inbox_ring *r, size_t i);
void inbox_ring_shift(struct inbox_ring *r);
struct inbox_body *inbox_body_new(struct inbox_machine *m, struct str tenant, uint8_t shelf,
                                  struct str id, uint32_t size);
struct inbox_body *inbox_body_find(const struct inbox_machine *m, struct str tenant, uint8_t shelf,
                                   struct str id);
/* Into another machine, whose tenant is held for it; what its own had of it the caller drops. */
void inbox_body_move(struct inbox_machine *from, struct inbox_machine *to, struct inbox_body *b,
                     struct inbox_tenant *t);
void inbox_body_forget(struct inbox_machine *m, struct inbox_body *b);
/* The oldest QoS 0 message leaves. */
void inbox_qos0_drop(struct inbox_step *st, struct inbox_session *s);
void inbox_counters_write(struct inbox_step *st, const struct inbox_session *s);
/* Remembers an exchange that went by without being queued. */
void inbox_seen_note(struct inbox_step *st, struct inbox_session *s, const struct inbox_fields *f);
/* Deletes the rows of both queues and lets go of the bodies. */
void inbox_queue_clear(struct inbox_step *st, struct inbox_session *s);

void inbox_apply_insert(struct inbox_step *st);
void inbox_apply_commit(struct inbox_step *st, const struct inbox_fields *f);
void inbox_apply_receive(struct inbox_step *st, const struct inbox_fields *f);
void inbox_apply_release(struct inbox_step *st, const struct inbox_fields *f);

/* --- the rest
 * --------------------------------------------------------------------------------------------- */

/* The session that a command names and owns, or NULL: the reply then says why. */
struct inbox_session *inbox_owned(struct inbox_step *st, const struct inbox_fields *f);
/* 0, INBOX_E_MOVED, or INBOX_E_INVALID when these can name no session. */
uint8_t inbox_place(struct inbox_machine *m, struct str tenant, struct str client);
void inbox_reply_outcome(struct inbox_step *st, uint8_t outcome);
/* Reads one subscription off a list; subs.c. */
must_use bool inbox_sub_next(struct str *rest, struct inbox_sub *out);
void inbox_sub_put(struct buf *b, const struct inbox_sub *s);
void inbox_apply_sub(struct inbox_step *st, const struct inbox_fields *f);
void inbox_apply_unsub(struct inbox_step *st, const struct inbox_fields *f);

int inbox_query(void *arg, uint64_t hlc, struct str request, struct buf *reply,
                struct range_scan *scan);
void inbox_subs_add(struct inbox_session *s, const struct inbox_sub *sub);
struct inbox_will *inbox_will_new(uint32_t delay_sec, struct str message);
void inbox_inbound_put(struct inbox_live *l, uint16_t packet_id, uint64_t exchange);
uint64_t inbox_inbound_floor(const struct inbox_session *s);
void inbox_loaded(void *arg);
void *inbox_machine_new(void *conf);
void inbox_machine_bound(struct inbox_machine *m, const struct range_bounds *b);
void *inbox_split(void *arg, const struct range_bounds *left, const struct range_bounds *right);
uint64_t inbox_tick(void *arg, uint64_t hlc, struct buf *out_command);
void inbox_load(void *arg, struct str key, struct str value);
uint64_t inbox_state_hash(void *arg);
