/* The three stores as the broker sees them, and the session dict.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Subscriptions (dist), persistent sessions (inbox) and retained messages (retain) live in ranges
 * that may be anywhere; this door finds them, batches what one loop turn asks, repeats what is safe
 * to repeat and joins what has several parts.
 *
 * Threads: a client belongs to one loop; its functions are called there and its callbacks come
 * there, never before the asking function has returned.  stores_match may be called on every loop.
 * Lifetime: views in requests are copied (or the message is referenced) before the call returns;
 * views in replies are good until the callback returns. */
#pragma once

#include "base/log.h"
#include "base/usec.h"
#include "base/uuid.h"
#include "codec/topic.h"
#include "stores/outcome.h"

struct codec_msg;
struct dist_index;
struct kv;
struct cluster_seat;
struct net_loop;

struct stores;        /* of one node */
struct stores_client; /* seen from one loop */

/* ---- assembling ------------------------------------------------------------------------------ */

/* Who holds a live session: a node in one of its lives, and there a loop and a name that the broker
 * chose. */
struct stores_owner {
    struct uuid node;
    uint64_t epoch;
    uint32_t loop;
    uint64_t cookie; /* unique in (node, epoch); 0: nobody */
};

struct stores_session;

/* One message on its way to a session that is attached here.  Deliveries of one session come in
 * order of seq, but some may be missing (lost on the way) or come twice: whoever sees a gap fetches
 * from there. */
struct stores_delivery {
    uint64_t seq; /* QoS 1 and 2: dense from 1, packet id = seq % 65535 + 1.  QoS 0: of its own
                     queue, or 0: not stored */
    const struct codec_msg *msg; /* borrowed for the call: codec_msg_keep to keep it */
    uint8_t qos;
    uint8_t options;        /* enum dist_option bits of the subscription */
    const uint32_t *sub_id; /* subscription identifiers of all filters that matched */
    size_t sub_id_count;
};

enum stores_quit_why {
    STORES_QUIT_TAKEOVER, /* the same client connected elsewhere */
    STORES_QUIT_KILL,     /* an operator */
    STORES_QUIT_GONE,     /* its inbox was deleted, expired or fenced away */
};

struct stores_route;

/* The broker's ears; each on the loop that it names or that owns the session. */
struct stores_host {
    void *arg;
    /* Messages for the session that attached with this cookie, in order. */
    void (*deliver)(void *arg, unsigned loop, uint64_t cookie, const struct stores_delivery *d,
                    size_t count);
    /* The inbox has messages that were not pushed (up to, not including, next_seq): fetch when the
     * window has room. */
    void (*backlog)(void *arg, unsigned loop, uint64_t cookie, uint64_t next_seq);
    /* The session must end; call stores_dict_release when it has. */
    void (*quit)(void *arg, unsigned loop, uint64_t cookie, enum stores_quit_why why);
    /* A will is due: publish it (will->incarnation and will->exchange are its key against
     * duplicates), then call stores_will_done.  May come again, from another leader, until that is
     * committed. */
    void (*will)(void *arg, unsigned loop, const struct stores_session *s,
                 const struct codec_msg *will, uint64_t will_id);
    /* A route of this process is gone from the table: it was taken back here, or the others thought us
     * dead.  r has what identifies it.  Put it again when it is still wanted.  loop: who calls; may be NULL. */
    void (*route_lost)(void *arg, unsigned loop, const struct stores_route *r);
};

struct stores_conf {
    struct uuid node;
    uint64_t epoch;
    struct net_loop **loop;
    unsigned loop_count;
    struct kv *kv;              /* NULL: the tables run in this process, in memory only */
    struct cluster_seat **seat; /* one per loop; NULL: alone */
    struct stores_host host;
    uint64_t seed;
    const struct log *log;
    unsigned dist_voter_count, inbox_voter_count, retain_voter_count; /* 0: 3 */
    usec_t timeout_usec; /* of one store operation; 0: 5 s */
    unsigned durability; /* with kv: enum kv_durability of all three stores */
};

/* 0 or -errno.  With kv: before kv_start. */
must_use int stores_new(const struct stores_conf *conf, struct stores **out);

/* The loops have stopped, kv is gone and the host goes next: it is not called back any more.  NULL is fine. */
void stores_stop(struct stores *s);

/* The loops have stopped. */
struct stores *stores_free(struct stores *s);

struct stores_client *stores_client_get(struct stores *s, unsigned loop);

/* How an operation ended, without a reply. */
typedef void stores_done(void *arg, enum stores_outcome outcome);

/* ---- session dict: who holds a client's live session
 * --------------------------------------------- */

/* Makes this loop's `cookie` the one owner of (tenant, client) in the whole cluster.  Whoever held
 * it is told to quit, and done(OK) comes when it has confirmed, or its node is dead.  E_CONFLICT: a
 * yet newer claim won.  E_UNAVAILABLE: the former owner did not confirm in time.  A claim that is
 * not OK must not be released. */
void stores_dict_claim(struct stores_client *c, struct str tenant, struct str client,
                       uint64_t cookie, stores_done *done, void *arg);

/* The session of this cookie has ended: it sends nothing any more. */
void stores_dict_release(struct stores_client *c, struct str tenant, struct str client,
                         uint64_t cookie);

/* Tells the owner to quit; done(OK) when it has, E_NO_SESSION when there is none. */
void stores_dict_kill(struct stores_client *c, struct str tenant, struct str client,
                      stores_done *done, void *arg);

/* owner is NULL when nobody holds it. */
typedef void stores_dict_found(void *arg, enum stores_outcome outcome,
                               const struct stores_owner *owner);
void stores_dict_find(struct stores_client *c, struct str tenant, struct str client,
                      stores_dict_found *cb, void *arg);

/* ---- dist: who wants a topic ----------------------------------------------------------------- */

/* The local match index; read in place by every loop (dist/index.h).  The same for the life of the
 * node. */
struct dist_index *stores_index(struct stores *s);

enum stores_index_state {
    STORES_INDEX_CURRENT, /* it has every route that was put before half a second ago, at the least
                           */
    STORES_INDEX_BEHIND,  /* it was complete once; since then nobody could be asked what is new */
    STORES_INDEX_PART,    /* ranges of the table are missing here: still loading, or never seen */
};
/* May a match be relied on?  Ask after matching: an index that was being replaced meanwhile is then
 * seen. */
enum stores_index_state stores_index_state_get(const struct stores_client *c);

/* What matches this topic, asked of the leaders: for a node whose own index is STORES_INDEX_PART.  index has all routes
 * that match, and nothing else; it is the caller's (dist_index_free), nobody else reads or writes it, and it changes no
 * more; NULL unless STORES_OK.  It has every route that was put before the call.  deadline: of net_loop_now. */
typedef void stores_match_cb(void *arg, enum stores_outcome outcome, struct dist_index *index);
void stores_match(struct stores_client *c, struct str tenant, struct str topic, usec_t deadline,
                  stores_match_cb *cb, void *arg);

/* A route to live sessions of this node: with group empty, one per filter however many sessions
 * (the hub fans out); else one per member, named by its cookie (16 lower-case hexadecimal
 * digits, as dist's client). */
struct stores_route {
    struct str tenant;
    struct str filter;   /* without $share/group/ */
    struct str group;    /* empty: not shared */
    bool is_ordered;     /* $oshare */
    uint64_t cookie;     /* of a member; unused for the node itself */
    uint8_t options;     /* of a member: enum dist_option bits */
    uint32_t sub_id;     /* of a member; 0: none */
    uint32_t member_max; /* MaxSharedGroupMembers; 0: no limit */
};

/* done(OK) when the route is committed and this node's index matches it, also one that is STORES_INDEX_PART.
 * E_LIMIT: the group is
 * full.  Adds and dels of one route take effect in the order they were asked for on one loop. */
void stores_route_add(struct stores_client *c, const struct stores_route *r, stores_done *done,
                      void *arg);
void stores_route_del(struct stores_client *c, const struct stores_route *r, stores_done *done,
                      void *arg);

/* ---- inbox: what waits for a client ---------------------------------------------------------- */

/* One session of a tenant's client, in one of its lives and under one of its owners. */
struct stores_session {
    struct str tenant;
    struct str client;
    uint64_t incarnation; /* new at each birth */
    uint64_t mod;         /* grows with every attach */
};

struct stores_attach {
    struct str tenant, client;
    uint64_t cookie;         /* of the owner on this loop: what deliver() and quit() name */
    bool is_clean;           /* Clean Start: what was there ends (its will is published first) */
    uint32_t expiry_sec;     /* 0: ends with the connection; UINT32_MAX: never */
    uint32_t receive_max;    /* the client's Receive Maximum: how far pushes run ahead of acks */
    uint32_t queue_len_max;  /* SessionInboxSize; more than INBOX_LIMIT_MAX is taken for that */
    uint64_t queue_byte_max; /* 0: no limit */
    bool is_drop_oldest;     /* QoS0DropOldest */
    struct str info;         /* about the client, opaque */
    const struct codec_msg *will; /* NULL: none */
    uint32_t will_delay_sec;
};

enum stores_phase {
    STORES_PHASE_QUEUED = 0, /* to be sent or resent */
    STORES_PHASE_RECEIVED,   /* PUBREC came: PUBREL is owed */
    STORES_PHASE_DONE,       /* finished, an older one is not */
};

struct stores_mark {
    uint64_t seq;
    enum stores_phase phase;
};

struct stores_received { /* an inbound QoS 2 exchange that is not released */
    uint16_t packet_id;
    uint64_t exchange;
};

struct stores_attached {
    enum stores_outcome outcome;
    uint64_t incarnation, mod;
    bool is_present;    /* Session Present */
    uint64_t acked_seq; /* all up to here is finished */
    uint64_t next_seq;  /* the next message will have this one; fetch what lies between */
    uint64_t qos0_acked_seq, qos0_next_seq; /* the same of the QoS 0 queue */
    uint64_t sent_seq; /* below it the client may have been sent them before; 0: nobody knows */
    uint64_t floor;    /* lowest exchange of its own that is not released */
    const struct stores_mark *mark; /* phases above acked_seq that are not QUEUED */
    size_t mark_count;
    const struct stores_received *received;
    size_t received_count;
};
typedef void stores_attached_cb(void *arg, const struct stores_attached *a);

/* Makes this loop the owner of the session; deliveries may come from the callback on (not before).
 */
void stores_attach(struct stores_client *c, const struct stores_attach *a, stores_attached_cb *cb,
                   void *arg);

struct stores_detach {
    uint32_t expiry_sec;
    bool is_will_discarded; /* DISCONNECT 0x00 */
    uint64_t sent_seq;      /* all that the client was sent lies below it; 0: nobody knows */
};
/* The owner leaves.  No deliveries from now on.  E_CONFLICT, E_NO_SESSION. */
void stores_detach(struct stores_client *c, const struct stores_session *s,
                   const struct stores_detach *d, stores_done *done, void *arg);

struct stores_sub {
    struct codec_topic_filter filter; /* parsed; views */
    uint8_t options;                  /* enum dist_option bits */
    uint32_t sub_id;
    uint32_t sub_max;    /* MaxTopicFiltersPerInbox */
    uint32_t member_max; /* MaxSharedGroupMembers */
};
/* OK: new; E_EXISTS: was there, options replaced.  Either way committed, routed, and matched by
 * this node's index. E_LIMIT, E_CONFLICT, E_NO_SESSION. */
void stores_sub(struct stores_client *c, const struct stores_session *s,
                const struct stores_sub *sub, stores_done *done, void *arg);
/* E_NO_SUB: was not there. */
void stores_unsub(struct stores_client *c, const struct stores_session *s,
                  const struct stores_sub *sub, stores_done *done, void *arg);

/* One persistent receiver of a message, each session once. */
struct stores_receiver {
    struct str client;
    uint64_t incarnation;
    uint8_t qos;     /* min(published, granted) */
    uint8_t options; /* handed on with the delivery */
    uint32_t sub_id_count;
    const uint32_t *sub_id;
};

struct stores_inserted {
    enum stores_outcome
        outcome; /* OK: each receiver has it, dropped it by its limits, or is no more */
    uint32_t stored, pushed, dropped, displaced, duplicate, gone, away; /* receivers by fate */
};
typedef void stores_inserted_cb(void *arg, const struct stores_inserted *r);

/* Where a message comes from. */
struct stores_origin {
    uint64_t floor; /* as in inbox_message */
    uint64_t lane;  /* messages of one connection end together (kv_proposal.lane); 0: none */
    bool
        is_for_held; /* only for receivers that are connected somewhere; the others count as away */
};
/* Puts a message into inboxes; OK only when every part is committed as durably as the store is set
 * to.  Duplicates are told by msg->incarnation and msg->exchange. */
void stores_insert(struct stores_client *c, struct str tenant, const struct codec_msg *msg,
                   const struct stores_origin *from, const struct stores_receiver *r, size_t count,
                   stores_inserted_cb *cb, void *arg);

/* Acknowledges: all up to acked_seq is finished, and these marks above it.  Batches of one turn go
 * together. */
void stores_commit(struct stores_client *c, const struct stores_session *s, uint64_t acked_seq,
                   uint64_t qos0_acked_seq, const struct stores_mark *mark, size_t mark_count,
                   stores_done *done, void *arg);

/* Inbound QoS 2.  receive: the exchange number of this packet id, the same until it is released. */
struct stores_exchange {
    enum stores_outcome outcome;
    uint64_t exchange;
    uint64_t floor;
};
typedef void stores_exchange_cb(void *arg, const struct stores_exchange *x);
void stores_receive(struct stores_client *c, const struct stores_session *s, uint16_t packet_id,
                    uint64_t lane, stores_exchange_cb *cb, void *arg);
/* The connection is gone: what it has under way in this lane ends with E_UNKNOWN and is not tried again, as its client
 * brings it anew, in order. */
void stores_cancel(struct stores_client *c, uint64_t lane);
/* E_NO_SUB: the id was not there. */
void stores_release(struct stores_client *c, const struct stores_session *s, uint16_t packet_id,
                    stores_done *done, void *arg);

struct stores_fetched {
    enum stores_outcome outcome;
    const struct stores_delivery *delivery; /* in order of seq; maybe fewer than there are */
    size_t count;
};
typedef void stores_fetched_cb(void *arg, const struct stores_fetched *f);
/* Queued messages from seq on, of the QoS 0 queue when is_qos0. */
void stores_fetch(struct stores_client *c, const struct stores_session *s, bool is_qos0,
                  uint64_t seq, uint32_t count_max, stores_fetched_cb *cb, void *arg);

/* The will was published. */
void stores_will_done(struct stores_client *c, struct str tenant, struct str client,
                      uint64_t will_id);

/* A client that begins anew has no session left: OK when that is so, or when nobody can be asked and
 * this node knew of none. */
void stores_clear(struct stores_client *c, struct str tenant, struct str client, stores_done *done,
                  void *arg);

/* Ends a session, whoever owns it. */
void stores_delete(struct stores_client *c, struct str tenant, struct str client, stores_done *done,
                   void *arg);

/* ---- retain ---------------------------------------------------------------------------------- */

/* An empty payload clears.  topic_max and byte_max: the tenant's limits, 0 none; E_LIMIT. */
void stores_retain_put(struct stores_client *c, struct str tenant, const struct codec_msg *msg,
                       uint64_t topic_max, uint64_t byte_max, stores_done *done, void *arg);

struct stores_retained {
    enum stores_outcome outcome;
    const struct codec_msg *msg; /* borrowed, valid during the callback */
    size_t msg_count;
    struct str after; /* empty: that was all; else ask again with it */
};
typedef void stores_retained_cb(void *arg, const struct stores_retained *r);

/* One page, at most count_max messages, without expired ones; a page may be empty and yet not be
 * the last. */
void stores_retain_match(struct stores_client *c, struct str tenant, struct str filter,
                         struct str after, uint32_t count_max, stores_retained_cb *cb, void *arg);
