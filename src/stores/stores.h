/* The three stores as the broker sees them, and the session dict.  SPDX-License-Identifier: Apache-2.0
 *
 * Subscriptions (dist), persistent sessions (inbox) and retained messages (retain) live in ranges that
 * may be anywhere; this door finds them, batches what one loop turn asks, repeats what is safe to repeat
 * and joins what has several parts.
 *
 * Threads: a client belongs to one loop; its functions are called there and its callbacks come there,
 * never before the asking function has returned.  stores_match may be called on every loop.
 * Lifetime: views in requests are copied (or the message is referenced) before the call returns; views
 * in replies are good until the callback returns. */
#pragma once

#include "base/log.h"
#include "base/usec.h"
#include "base/uuid.h"
#include "stores/outcome.h"

struct codec_msg;
struct dist_index;
struct kv;
struct cluster_seat;
struct net_loop;

struct stores;        /* of one node */
struct stores_client; /* seen from one loop */

/* ---- assembling ------------------------------------------------------------------------------ */

/* Who holds a live session: a node in one of its lives, and there a loop and a name that the broker chose. */
struct stores_owner {
    struct uuid node;
    uint64_t epoch;
    uint32_t loop;
    uint64_t cookie; /* unique in (node, epoch); 0: nobody */
};

/* One session of a tenant's client. */
struct stores_session {
    struct str tenant;
    struct str client;
    uint64_t incarnation; /* of the session: new at each birth */
    uint64_t mod;         /* of its ownership: grows with every attach and detach */
};

/* One message on its way to a persistent session that is attached here. */
struct stores_delivery {
    uint64_t seq;                /* QoS 1 and 2: dense from 1; packet id = seq % 65535 + 1.  QoS 0: 0 */
    const struct codec_msg *msg; /* borrowed: ref it to keep it */
    uint8_t qos;                 /* the granted one applied: min(message, subscription) */
    bool retain_as_published;
    bool is_sent_before;         /* may have been sent to the client: DUP=1 */
    bool is_received;            /* QoS 2: PUBREC is recorded, PUBREL is due; msg is NULL */
    const uint32_t *sub_id;      /* subscription identifiers of all filters that matched */
    size_t sub_id_count;
};

enum stores_quit_why {
    STORES_QUIT_TAKEOVER, /* the same client connected elsewhere */
    STORES_QUIT_KILL,     /* an operator */
    STORES_QUIT_GONE,     /* its inbox was deleted, expired or fenced away */
};

/* The broker's ears; each on the loop that it names or that owns the session. */
struct stores_host {
    void *arg;
    /* Messages for the session that attached with this cookie, in order. */
    void (*deliver)(void *arg, unsigned loop, uint64_t cookie, const struct stores_delivery *d, size_t count);
    /* There is more in the inbox than was pushed: fetch from after_seq on when the window has room. */
    void (*backlog)(void *arg, unsigned loop, uint64_t cookie);
    /* The session must end; call stores_dict_release when it has. */
    void (*quit)(void *arg, unsigned loop, uint64_t cookie, enum stores_quit_why why);
    /* A will is due: publish it with this dedup key, then call stores_will_done.  May come again (another
     * leader) until that is committed. */
    void (*will)(void *arg, unsigned loop, const struct stores_session *s, const struct codec_msg *will,
                 uint64_t will_id);
};

struct stores_conf {
    struct uuid node;
    uint64_t epoch;
    struct net_loop **loop;
    unsigned loop_count;
    struct kv *kv;                /* NULL: the tables run in this process, in memory only */
    struct cluster_seat **seat;   /* one per loop; NULL: alone */
    struct stores_host host;
    uint64_t seed;
    const struct log *log;
    unsigned dist_voter_count, inbox_voter_count, retain_voter_count; /* 0: 3 */
    usec_t timeout_usec;          /* of one store operation; 0: 5 s */
};

/* 0 or -errno.  With kv: before kv_start. */
must_use int stores_new(const struct stores_conf *conf, struct stores **out);

/* The loops have stopped. */
struct stores *stores_free(struct stores *s);

struct stores_client *stores_client_get(struct stores *s, unsigned loop);

/* How an operation ended, without a reply. */
typedef void stores_done(void *arg, enum stores_outcome outcome);

/* ---- session dict: who holds a client's live session --------------------------------------------- */

/* Makes this loop's `cookie` the one owner of (tenant, client) in the whole cluster.  Whoever held it is told to quit,
 * and done(OK) comes when it has confirmed, or its node is dead.  E_CONFLICT: a yet newer claim won.  E_UNAVAILABLE:
 * the former owner did not confirm in time.  A claim that is not OK must not be released. */
void stores_dict_claim(struct stores_client *c, struct str tenant, struct str client, uint64_t cookie,
                       stores_done *done, void *arg);

/* The session of this cookie has ended: it sends nothing any more. */
void stores_dict_release(struct stores_client *c, struct str tenant, struct str client, uint64_t cookie);

/* Tells the owner to quit; done(OK) when it has, E_NO_SESSION when there is none. */
void stores_dict_kill(struct stores_client *c, struct str tenant, struct str client, stores_done *done, void *arg);

/* owner is NULL when nobody holds it. */
typedef void stores_dict_found(void *arg, enum stores_outcome outcome, const struct stores_owner *owner);
void stores_dict_find(struct stores_client *c, struct str tenant, struct str client, stores_dict_found *cb,
                      void *arg);

/* ---- dist: who wants a topic ----------------------------------------------------------------- */

/* The local match index; read in place by every loop (dist/index.h).  The same for the life of the node. */
struct dist_index *stores_index(struct stores *s);

/* A route to live sessions of this node: with group empty, one per filter however many sessions (the hub
 * fans out); else one per member, named by its cookie. */
struct stores_route {
    struct str tenant;
    struct str filter;  /* without $share/group */
    struct str group;   /* empty: not shared */
    bool is_ordered;    /* $oshare */
    uint64_t cookie;    /* of a member; 0 for the node itself */
    uint32_t member_max; /* MaxSharedGroupMembers */
    uint8_t qos;        /* of a member */
    uint32_t sub_id;    /* of a member; 0: none */
};

/* done(OK) when the route is committed and this node's index matches it.  E_LIMIT: the group is full. */
void stores_route_add(struct stores_client *c, const struct stores_route *r, stores_done *done, void *arg);
void stores_route_del(struct stores_client *c, const struct stores_route *r, stores_done *done, void *arg);

/* ---- inbox: what waits for a client ---------------------------------------------------------- */

struct stores_attach {
    struct str tenant, client;
    uint64_t cookie;             /* of the new owner on this loop */
    bool is_clean;               /* Clean Start: what was there is discarded (its will fires first) */
    bool is_transient;           /* ends with its connection: only a will and its owner are kept */
    uint32_t expiry_sec;         /* UINT32_MAX: never */
    const struct codec_msg *will; /* NULL: none */
    uint32_t will_delay_sec;
    uint32_t receive_max;        /* the client's Receive Maximum: how far pushes may run ahead */
    uint32_t inbox_len_max;      /* SessionInboxSize */
    bool is_drop_oldest;         /* QoS0DropOldest */
};

/* Views are good until the callback returns. */
struct stores_attached {
    enum stores_outcome outcome;
    struct stores_session session; /* with its incarnation and mod; tenant and client as asked */
    bool is_present;               /* Session Present */
    const uint16_t *received;      /* packet ids of QoS 2 messages that came in and are not released */
    size_t received_count;
    uint64_t acked_seq;            /* all up to here is acknowledged */
    uint64_t next_seq;             /* the next message will have this one */
    bool has_backlog;              /* there is something to fetch */
};
typedef void stores_attached_cb(void *arg, const struct stores_attached *a);

void stores_attach(struct stores_client *c, const struct stores_attach *a, stores_attached_cb *cb, void *arg);

struct stores_detach {
    struct stores_session session;
    uint32_t expiry_sec;   /* as the client left it */
    bool is_will_discarded; /* DISCONNECT 0x00 */
};
/* E_CONFLICT: another attach came first; E_NO_SESSION. */
void stores_detach(struct stores_client *c, const struct stores_detach *d, stores_done *done, void *arg);

struct stores_sub {
    struct stores_session session;
    struct str filter;     /* the real filter */
    struct str group;      /* empty: not shared */
    bool is_ordered;
    uint8_t qos;
    bool no_local, retain_as_published;
    uint32_t sub_id;
    uint32_t sub_max;      /* MaxTopicFiltersPerInbox */
    uint32_t member_max;
};
/* OK: new; E_EXISTS: was there, options replaced.  Either way committed in the inbox, routed, and matched by
 * this node's index.  E_LIMIT, E_CONFLICT, E_NO_SESSION. */
void stores_sub(struct stores_client *c, const struct stores_sub *s, stores_done *done, void *arg);
/* E_NO_SUB: was not there. */
void stores_unsub(struct stores_client *c, const struct stores_sub *s, stores_done *done, void *arg);

/* One matched persistent receiver of a message. */
struct stores_target {
    struct str client;
    uint64_t incarnation;
    const uint32_t *filter_ref; /* see dist/index.h: which of its subscriptions matched */
    size_t filter_count;
};

struct stores_dedup { /* of a QoS 2 exchange or a will; incarnation 0: none */
    uint64_t incarnation;
    uint64_t number;
};

/* ---- retain ---------------------------------------------------------------------------------- */

/* An empty payload clears.  OK, or E_LIMIT. */
void stores_retain_put(struct stores_client *c, struct codec_msg *msg, stores_done *done, void *arg);

struct stores_retained {
    enum stores_outcome outcome;
    struct codec_msg *const *msg; /* borrowed */
    size_t msg_count;
    struct str cursor;            /* empty: that was all; else ask again with it */
};
typedef void stores_retained_cb(void *arg, const struct stores_retained *r);

/* At most count_max messages per page, in no promised order, without expired ones. */
void stores_retain_match(struct stores_client *c, struct str tenant, struct str filter, struct str cursor,
                         uint32_t count_max, stores_retained_cb *cb, void *arg);
