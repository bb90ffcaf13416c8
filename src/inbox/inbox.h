/* Persistent sessions and their queues, as a machine: nothing acked is lost.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A session is found by (tenant, client), where client is the inbox id (user and client id, as the
 * broker made it).  Its rows share the prefix tenant 00 bucket client 00, bucket = one byte of a
 * CRC of the client; a range ends only where the upper four bits of the bucket change (a shelf), so
 * that a body stored once for many sessions stays with all of them: at most 16 copies of a payload
 * in a tenant, whatever the fan-out.
 *
 * A session lives from the attach that made it to its end; this life is its incarnation, a number
 * that no other life of any session has.  Every attach increments mod.  Commands of its owner carry
 * both and are refused when they are stale (INBOX_E_NONE: another life; INBOX_E_CONFLICT: another
 * owner, or none), which fences a connection that was taken over.  Inserts carry the incarnation
 * alone.
 *
 * QoS 1 and 2 messages get a dense seq from 1; packet id = seq % 65535 + 1, so it survives every
 * failover.  acked is cumulative: all seqs up to it are finished.  Above it a seq is queued, or has
 * a phase.
 *
 * Time is the hlc of the applied command.  Seconds of 0xFFFFFFFF never pass. */
#pragma once

#include "base/uuid.h"
#include "range/machine.h"

#define INBOX_NEVER UINT32_MAX /* session expiry: never [MQTT5 3.1.2.11.2] */
#define INBOX_LIMIT_MAX 65534u /* messages in a queue: packet ids never clash */
#define INBOX_INLINE_MAX 128u  /* a message up to this many bytes is stored with each session */
#define INBOX_SHARE_MIN                                                                            \
    4u /* a longer one is stored once when so many sessions of a shelf get it                      \
        */
#define INBOX_SUB_IDS_MAX 16u     /* Subscription Identifiers kept with one queued message */
#define INBOX_SUBS_MAX 65535u     /* subscriptions of a session, whatever the tenant's limit says */
#define INBOX_RECEIVED_MAX 65535u /* unreleased inbound QoS 2 ids of a session */
#define INBOX_DEDUP_MAX 1024u     /* exchanges of publishers remembered behind a queue */
#define INBOX_NUDGE_MS                                                                             \
    3000u /* an owner is told again of a queue that did not move for this long                     \
           */
#define INBOX_WILL_RETRY_MS                                                                        \
    5000u /* a taken will that nobody confirmed is offered again after this */

enum inbox_outcome { /* first byte of every reply, and one byte per receiver of an insert */
                     INBOX_OK = 0,
                     INBOX_E_NONE,      /* no such session in this incarnation */
                     INBOX_E_CONFLICT,  /* mod is not the one: somebody else owns it */
                     INBOX_E_EXISTS,    /* sub: this filter was there; its options are replaced */
                     INBOX_E_NO_SUB,    /* unsub: no such filter */
                     INBOX_E_FULL,      /* sub, receive: the limit is reached */
                     INBOX_E_INVALID,   /* cannot be decoded, or against a limit of this header */
                     INBOX_E_MOVED,     /* not in the bounds of this range */
                     INBOX_E_DROPPED,   /* insert: the queue is full, this message was dropped */
                     INBOX_E_DISPLACED, /* insert: stored, and the oldest QoS 0 message dropped for
                                           it */
                     INBOX_E_DUPLICATE, /* insert: this exchange of this publisher was stored before
                                         */
                     INBOX_E_PUSHED, /* insert of QoS 0: the session is online, handed over without
                                        being stored */
                     INBOX_E_AWAY,   /* insert for those who are connected only: nobody is */
};

enum inbox_phase {
    INBOX_PHASE_QUEUED =
        0, /* to be sent, or sent and not acknowledged: PUBLISH (DUP) again after a resume */
    INBOX_PHASE_RECEIVED, /* PUBREC came: PUBREL is owed, never PUBLISH again */
    INBOX_PHASE_DONE,     /* finished, but an older one is not */
};

const struct range_machine_ops *inbox_machine(void);

/* Asserts the invariants of README.md on what inbox_machine()->new gave: for tests. */
void inbox_machine_check(const void *m);

/* --- keys
 * ------------------------------------------------------------------------------------------------------------
 */

/* Of a session: what its commands and queries are routed by. */
void inbox_key(struct buf *out, struct str tenant, struct str client);
/* Of all that is in the same shelf as this client: inserts for several sessions may share a command
 * when all their keys are in the bounds of one range. */
void inbox_key_tenant(struct buf *from, struct buf *to, struct str tenant);

/* --- commands: one operation each; buffers are appended to
 * --------------------------------------------------------------- */

struct inbox_ref {
    struct str tenant, client;
    uint64_t incarnation;
    uint64_t mod;
};

struct inbox_owner {
    struct uuid node;
    uint64_t epoch;
    uint32_t shard; /* the loop of that node that has the connection: stored and handed back in
                       effects; no part of the identity (queries for a dead process ignore it) */
};

struct inbox_attach {
    struct str tenant, client;
    bool clean_start;    /* ends a session that is there (its will is published first) */
    uint32_t expiry_sec; /* 0: the session ends with the connection (kept here for its will and its
                            queue) */
    uint32_t limit;      /* messages in each queue, 1 .. INBOX_LIMIT_MAX */
    uint64_t byte_max;   /* bytes in both queues together, 0 no limit */
    uint32_t window;     /* messages pushed ahead of acked: the client's Receive Maximum, >= 1 */
    bool qos0_drop_oldest;
    struct inbox_owner owner;
    struct str info; /* about the client, opaque, for queries */
    struct str will; /* the message to publish (opaque), empty: none */
    uint32_t will_delay_sec;
};
void inbox_command_attach(struct buf *out, const struct inbox_attach *a);

struct inbox_detach {
    struct inbox_ref ref;
    uint32_t expiry_sec;
    bool keep_will; /* false: a normal DISCONNECT, the will is discarded */
    uint64_t sent;  /* messages of QoS 1 and 2 up to, not including, this seq were sent to the
                       client,  ever; 0: nobody knows */
};
void inbox_command_detach(struct buf *out, const struct inbox_detach *d);

struct inbox_sub {
    struct str filter; /* with its $share prefix, as the client wrote it */
    uint8_t options;   /* opaque: QoS, NL, RAP, RH as in SUBSCRIBE */
    uint32_t sub_id;
};
/* The reply's hlc is the incarnation to put the route with (dist): it orders all routes of this
 * session and filter. */
void inbox_command_sub(struct buf *out, const struct inbox_ref *ref, const struct inbox_sub *s,
                       uint32_t sub_max);
void inbox_command_unsub(struct buf *out, const struct inbox_ref *ref, struct str filter);

/* Inserts: begin, then for each message: message, then its receivers.  All receivers in one range.
 */
struct inbox_message {
    struct str tenant;
    struct str bytes;   /* the encoded message, opaque */
    uint64_t publisher; /* for duplicates: incarnation of the publishing session (or a will's), 0:
                           not checked */
    uint64_t exchange;  /* its number n from receive, or of the will */
    uint64_t floor;     /* all its exchanges below this are released and never come again */
    bool is_for_held;   /* a session that nobody is connected for is passed by: INBOX_E_AWAY */
};
struct inbox_receiver {
    struct str client;
    uint64_t incarnation;
    uint8_t qos;     /* effective: min(published, granted) */
    uint8_t options; /* opaque, handed on (retain flag) */
    uint32_t sub_id_count;
    const uint32_t *sub_id;
};
void inbox_command_insert(struct buf *out);
void inbox_command_insert_message(struct buf *out, const struct inbox_message *m);
void inbox_command_insert_receiver(struct buf *out, const struct inbox_receiver *r);
/* Reply: INBOX_OK, then one byte per receiver in order. */

struct inbox_commit {
    struct inbox_ref ref;
    uint64_t acked;      /* all seqs <= this are finished; lower than what is stored: nothing */
    uint64_t qos0_acked; /* the same for the QoS 0 queue */
    const struct inbox_mark {
        uint64_t seq;
        uint8_t phase; /* RECEIVED or DONE */
    } * mark;          /* of seqs above acked, only what changed */
    size_t mark_count;
};
void inbox_command_commit(struct buf *out, const struct inbox_commit *c);

/* An inbound QoS 2 PUBLISH: the reply's exchange is n, the same for the same packet id until it is
 * released. */
void inbox_command_receive(struct buf *out, const struct inbox_ref *ref, uint16_t packet_id);
/* PUBREL came: OK also when the id was not there (reply.is_present says). */
void inbox_command_release(struct buf *out, const struct inbox_ref *ref, uint16_t packet_id);

/* Ends a session (admin, kill of a stored session).  mod 0: whoever owns it; incarnation 0:
 * whichever lives. */
void inbox_command_delete(struct buf *out, const struct inbox_ref *ref);

/* The will was published everywhere it matched. */
void inbox_command_will_done(struct buf *out, struct str tenant, struct str client,
                             uint64_t will_id);

/* --- replies
 * -------------------------------------------------------------------------------------------------------------
 */

struct inbox_reply {
    uint8_t outcome;      /* enum inbox_outcome */
    bool is_present;      /* attach: Session Present; release: the id was there */
    uint64_t incarnation; /* attach */
    uint64_t mod;
    uint64_t acked; /* attach, commit */
    uint64_t next;  /* the next seq to be given: (acked, next) may hold messages to fetch */
    uint64_t qos0_acked;
    uint64_t qos0_next;
    uint64_t sent;     /* attach: as the last detach said; 0: nobody knows */
    uint64_t exchange; /* receive */
    uint64_t floor;    /* receive, release: lowest exchange that is not released */
    uint64_t hlc;      /* attach, sub, unsub: time of the command; order of routes */
    uint8_t options;   /* unsub: of what was removed; sub: of what was replaced */
    uint32_t sub_id;
    struct inbox_owner old; /* attach: whom it was taken from; zero uuid: nobody */
    struct str marks;       /* attach: phases above acked; read with inbox_reply_mark */
    struct str received;    /* attach: unreleased inbound ids; inbox_reply_received */
    struct str results;     /* insert: a byte per receiver */
};
must_use bool inbox_reply_decode(struct str bytes, struct inbox_reply *out);
must_use bool inbox_reply_mark(struct str *rest, struct inbox_mark *out);
must_use bool inbox_reply_received(struct str *rest, uint16_t *out_packet_id,
                                   uint64_t *out_exchange);

/* --- effects: of the leader's machine, for its host; may be lost with the leader
 * ----------------------------------------- */

enum inbox_effect_kind {
    INBOX_EFFECT_PUSH = 1, /* to owner: a message for its sessions; queue numbers follow */
    /* to owner: there are messages up to `next` that were not pushed, or whose push may be lost:
     * fetch from where you are when there is room.  Comes when a queue outgrows the window, with
     * every commit until it fits again, from a new leader, and again and again while nothing moves.
     */
    INBOX_EFFECT_MORE,  /* to owner: the session has messages beyond its window: fetch when there is
                           room */
    INBOX_EFFECT_WILL,  /* publish this (retain too if it says so), then inbox_command_will_done;
                           repeated until then */
    INBOX_EFFECT_GONE,  /* a session ended: remove these routes */
    INBOX_EFFECT_TAKEN, /* to owner: this session is no longer yours (mod is the new one) */
};

struct inbox_effect {
    enum inbox_effect_kind kind;
    struct inbox_owner owner; /* PUSH, MORE, TAKEN: the node to tell */
    struct str tenant;
    struct str client; /* all but PUSH */
    uint64_t incarnation;
    uint64_t mod;
    uint64_t next; /* MORE */
    uint64_t hlc;  /* GONE: when it ended, by the clock that gave its routes their incarnations */
    uint64_t will_id;   /* WILL: with incarnation, its exchange number for duplicates */
    struct str message; /* PUSH, WILL */
    struct str rest;    /* PUSH: inbox_effect_push; GONE: inbox_effect_filter */
};
must_use bool inbox_effect_decode(struct str bytes, struct inbox_effect *out);

struct inbox_push {
    struct str client;
    uint64_t incarnation, mod;
    uint64_t seq; /* QoS 0: of its own queue, behind a backlog; 0: not stored */
    uint8_t qos, options;
    uint32_t sub_id_count;
    uint32_t sub_id[INBOX_SUB_IDS_MAX];
};
must_use bool inbox_effect_push(struct str *rest, struct inbox_push *out);
must_use bool inbox_effect_filter(struct str *rest, struct inbox_sub *out);

/* --- queries
 * ----------------------------------------------------------------------------------------------------------------
 */

/* Messages from seq on (is_qos0: of the QoS 0 queue), of one session: a scan; the reply is rows for
 * inbox_fetch_next. */
void inbox_query_fetch(struct buf *out, const struct inbox_ref *ref, bool is_qos0, uint64_t seq,
                       uint32_t row_max, uint32_t byte_max);
struct inbox_fetched {
    struct inbox_push head; /* client, incarnation and mod are not filled */
    struct str message;     /* empty when body is not */
    struct str body;        /* name of the body: inbox_query_body gives the message */
};
struct inbox_fetch {
    uint8_t outcome; /* INBOX_OK, _E_NONE, _E_MOVED */
    struct str rest;
    bool is_bad;
};
must_use bool inbox_fetch_begin(struct str reply, struct inbox_fetch *out);
must_use bool inbox_fetch_next(struct inbox_fetch *f, struct inbox_fetched *out);
/* A body by its name (routed by the session's key, as all of a shelf is in one range). */
void inbox_query_body(struct buf *out, struct str tenant, struct str client, struct str body);
must_use bool inbox_reply_body(struct str reply, struct str *out_message);

/* What is known of a session; client info follows as rows of the reply. */
struct inbox_state {
    uint8_t outcome;
    uint64_t incarnation, mod, created_hlc, detached_hlc; /* detached 0: attached */
    uint64_t acked, next, qos0_acked, qos0_next, bytes;
    uint32_t expiry_sec, limit, sub_count, received_count;
    bool has_will;
    struct inbox_owner owner;
    struct str filters; /* inbox_effect_filter */
    struct str info;
};
void inbox_query_state(struct buf *out, struct str tenant, struct str client);
must_use bool inbox_reply_state(struct str reply, struct inbox_state *out);

/* The sessions of a tenant that are in this range, in order of client identifiers: those with this
 * prefix behind `after`, at most count_max (1 .. INBOX_LIST_MAX).  One pass over the range's sessions: for people. */
#define INBOX_LIST_MAX 1000u
void inbox_query_list(struct buf *out, struct str tenant, struct str prefix, struct str after,
                      uint32_t count_max);
struct inbox_list {
    bool is_more; /* there are others behind the last one */
    struct str rest;
    bool is_bad;
};
must_use bool inbox_list_begin(struct str reply, struct inbox_list *out);
/* Views into the reply; info is not filled. */
must_use bool inbox_list_next(struct inbox_list *l, struct str *out_client,
                              struct inbox_state *out);

/* A command that detaches sessions of a dead process (at most max), to be proposed; an empty reply:
 * none is left. */
void inbox_query_dead(struct buf *out, const struct inbox_owner *owner, uint32_t max);
/* The processes that own sessions here, for a new leader to compare with the living:
 * inbox_reply_owner until false. */
void inbox_query_owners(struct buf *out);
must_use bool inbox_reply_owner(struct str *rest, struct inbox_owner *out, uint64_t *out_sessions);
/* A command that ends at most max detached sessions of a tenant whose detachment is older than
 * age_sec; empty: none. */
void inbox_query_expire(struct buf *out, struct str tenant, uint32_t age_sec, uint32_t max);
/* How many sessions such a command names. */
uint64_t inbox_expire_count(struct str command);

struct inbox_stat {
    uint64_t sessions, attached, subs, messages, bytes, bodies;
};
/* Of one tenant, or of all in this range (empty). */
void inbox_query_stat(struct buf *out, struct str tenant);
must_use bool inbox_reply_stat(struct str reply, struct inbox_stat *out);
