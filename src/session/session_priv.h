/* The back room of the session.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/hash.h"
#include "base/mem.h"
#include "session/session.h"

#define SUBS_PENDING_MAX 16     /* SUBSCRIBEs and UNSUBSCRIBEs under way before reading pauses */
#define PACKET_HEADROOM 81920   /* bytes of a PUBLISH beside its payload: a longest topic and 16 KiB of properties */
#define ID_COUNT 65535          /* packet identifiers there are */

/* Adds to one field of struct session_counts. */
#define COUNT(counts, field, n) ((counts)->is_news = true, (counts)->field += (n))

/* ---- Towards us ------------------------------------------------------------------------------------------------- */

/* One publish under way; its place in the ring is its token. */
struct session_incoming {
    uint16_t packet_id;
    uint8_t qos;
    uint8_t reason;
    bool is_done;
    uint32_t dropped; /* as in session_published */
};

enum received_state {
    RECEIVED_ROUTING = 1, /* not yet answered */
    RECEIVED_DONE,        /* PUBREC sent */
    RECEIVED_RESTORED,    /* from before this connection: whether it was routed is for the inbox to say */
    RECEIVED_RELEASING,   /* PUBREL came, its commit is under way */
};

struct session_in {
    struct session_incoming *ring;
    uint32_t ring_cap;        /* 0 or a power of two */
    uint64_t head, next;      /* tokens, from 1 */
    uint32_t *received;       /* open addressing: packet id | state << 16 | is_counted << 24; 0: free */
    uint32_t received_cap, received_count;
    uint32_t quota_used;      /* of ReceivingMaximum: this connection's publishes without a final acknowledgement */
    uint16_t sub_pending[SUBS_PENDING_MAX];
    uint16_t sub_pending_count;
    uint32_t rate_count;      /* publishes since rate_at */
    usec_t rate_at;
    usec_t paused_until;      /* 0: not paused */
};

/* ---- From us ---------------------------------------------------------------------------------------------------- */

enum phase {
    PHASE_DONE,
    PHASE_UNSENT,    /* stored, known only to lie between others */
    PHASE_WAIT_ACK,  /* QoS 1 */
    PHASE_WAIT_REC,  /* QoS 2 */
    PHASE_REC,       /* PUBREC came, its commit is under way */
    PHASE_WAIT_COMP, /* PUBREL sent */
};

struct session_queued {
    struct codec_msg *msg;
    union {
        uint32_t one;
        uint32_t *many;  /* heap */
    } sub_id;
    uint16_t sub_id_count;
    uint8_t qos;
    bool is_retain;
};

struct session_queue {
    struct session_queued *ring;
    uint32_t cap, at, count; /* cap: 0 or a power of two */
};

/* window.c */
struct session_window {
    uint64_t seq;            /* the message that is watched */
    usec_t sent_at;          /* when its bytes were written */
    usec_t base;             /* the quickest acknowledgement of this period and the last; 0: none yet */
    usec_t base_next;        /* the quickest of this period */
    usec_t base_at;          /* when the period began */
    uint16_t size;           /* 0: as large as it may be */
    uint16_t ahead;          /* in flight with the watched one when it was sent */
    bool is_watching;
    bool was_full;           /* since the last look: the client could have had more */
};

struct session_flow {
    uint64_t head, next;     /* sequence numbers in flight: [head, next) */
    uint8_t *phase;          /* ring, indexed by sequence number */
    uint32_t phase_cap;      /* 0 or a power of two */
    uint32_t inflight;       /* phases from WAIT_ACK on */
    uint64_t inflight_bytes; /* of their topics and payloads, as far as they were sent on this connection */
    struct session_queue queue[2]; /* [0] QoS 0; [1] QoS 1 and 2 of a transient session */
    uint64_t queue_bytes;
    uint64_t *rec;           /* persistent: sequence numbers with PUBREC, not yet committed */
    size_t rec_count, rec_cap, rec_taken;
    usec_t progress_at;
    struct session_window window;
    bool is_dirty, is_announced, is_committing, is_stalled;
};

/* ---- Aliases ---------------------------------------------------------------------------------------------------- */

#define ALIAS_OUT_MAX 64 /* matters a little: they are looked for one by one */

struct session_alias {
    struct str *in;          /* by alias; p NULL: not set */
    uint32_t in_cap;
    struct alias_out {
        uint64_t hash;
        struct str topic;
        uint64_t used_at;
    } *out;                  /* alias = index + 1 */
    uint32_t out_count, out_max;
    uint64_t tick;
};

/* What is only needed until CONNACK. */
struct session_pending {
    struct buf body;         /* of CONNECT, which the views of connect point into */
    struct buf scratch;
    struct codec_mqtt_connect connect;
    struct buf answer;       /* response information, authentication data, user properties, one after the other */
    size_t response_info_len, auth_data_len;
    usec_t deadline;
    uint32_t len_max, id3_len_max, id5_len_max;
};

struct session {
    const struct session_settings *settings;
    struct budget *budget;
    uint64_t charged;
    struct session_pending *pending;
    struct session_in *in;
    struct session_flow *flow;
    struct session_alias *alias;
    struct codec_msg *will;
    struct str client_id;      /* heap */
    struct str auth_method;    /* heap; empty: none */
    usec_t last_in;
    uint64_t incarnation;
    uint32_t expiry_sec;
    uint32_t will_delay_sec;
    uint32_t packet_len_max;   /* the client's; 0: none */
    uint32_t queue_bytes_max;
    uint16_t keep_alive_sec;
    uint16_t receive_max;      /* the client's */
    uint16_t alias_max;        /* the client's */
    uint8_t version;
    uint8_t state;
    bool is_assigned_id;
    bool is_clean;
    struct str ack_user;       /* ours; User Properties of every PUBACK and PUBREC */
    bool is_problem_info;      /* Request Problem Information */
    bool is_utf8_strict;
    bool wants_auth;           /* the client owes an AUTH */
    bool is_auth_running;      /* the host owes an answer to one */
    bool has_settings;         /* of its tenant */
};

/* ---- session.c */
struct session_effect *session_effect_put(struct session_out *out, enum session_effect_type type);
void session_note(struct session_out *out, enum session_note_type type, struct str text);
struct codec_mqtt_peer session_peer(const struct session *s);
must_use int session_charge(struct session *s, uint64_t n);
void session_uncharge(struct session *s, uint64_t n);
/* Reason Strings only for those who want them [MQTT-3.1.2-29]; User Properties likewise where it is no CONNACK,
 * PUBLISH or DISCONNECT. */
void session_problem(const struct session *s, struct codec_mqtt_props *p, struct str reason_string, struct str user);

/* ---- end.c */
void session_end(struct session *s, struct session_out *out, enum session_end_cause cause, uint8_t reason,
                 const char *why);
void session_end_with(struct session *s, struct session_out *out, const struct session_refused *how, const char *why);
void session_end_by_client(struct session *s, struct session_out *out, enum session_end_cause cause, uint8_t reason,
                           bool has_disconnect);
/* A packet that its decoder refused. */
void session_end_bad(struct session *s, struct session_out *out, int reason, const char *why);

/* ---- connect.c */
void session_connect(struct session *s, struct codec_mqtt_packet *p, struct session_out *out);
void session_connect_auth(struct session *s, struct codec_mqtt_packet *p, struct session_out *out);
void session_connect_continue(struct session *s, const struct session_event *ev, struct session_out *out);
void session_connect_authenticated(struct session *s, const struct session_authenticated *a,
                                   struct session_out *out);
/* User Properties of every PUBACK and PUBREC from now on: copied; empty: none. */
void session_connect_ack_user(struct session *s, struct str user);
void session_connect_refused(struct session *s, const struct session_refused *r, struct session_out *out);
void session_connect_attached(struct session *s, const struct session_attached *a, struct session_out *out);
void session_pending_free(struct session *s);
/* The CONNACK that refuses; nothing where 3.x has no code for it. */
void session_connack_refuse(struct session *s, struct session_out *out, const struct session_refused *r);

/* ---- incoming.c */
void session_incoming_publish(struct session *s, struct codec_mqtt_packet *p, struct session_out *out);
void session_incoming_done(struct session *s, const struct session_published *p, struct session_out *out);
void session_incoming_pubrel(struct session *s, struct codec_mqtt_packet *p, struct session_out *out);
void session_incoming_released(struct session *s, uint16_t packet_id, struct session_out *out);
void session_incoming_restore(struct session *s, const uint16_t *id, size_t count);
struct session_in *session_incoming_get(struct session *s); /* made on first use */
void session_incoming_free(struct session *s);
bool session_incoming_is_full(const struct session *s);
void session_incoming_check(const struct session *s);

/* ---- outgoing.c */
void session_outgoing_ack(struct session *s, struct codec_mqtt_packet *p, struct session_out *out);
void session_outgoing_pump(struct session *s, struct session_out *out);
void session_outgoing_committed(struct session *s, struct session_out *out);
void session_outgoing_restore(struct session *s, const struct session_attached *a, struct session_out *out);
void session_outgoing_close(struct session *s, struct session_counts *counts);
void session_outgoing_free(struct session *s);
void session_outgoing_check(const struct session *s);

/* ---- window.c */
uint32_t session_window_size(const struct session *s); /* at least 1 */
/* The flow's message seq has been written and counts as in flight; it has been acknowledged (PUBACK, PUBREC). */
void session_window_sent(struct session *s, uint64_t seq, usec_t now);
void session_window_acked(struct session *s, uint64_t seq, usec_t now);
void session_window_check(const struct session *s);

/* ---- subscribe.c */
void session_subscribe(struct session *s, struct codec_mqtt_packet *p, struct session_out *out);
void session_subscribed(struct session *s, unsigned type, const struct session_subscribed *d,
                        struct session_out *out);

/* ---- alias.c */
/* 0, or a reason code to end with. */
must_use int session_alias_in(struct session *s, const struct codec_mqtt_publish *p, struct str *out_topic,
                              const char **why);
must_use int session_alias_set(struct session *s, uint16_t alias, struct str topic);
/* Encodes with an alias where one helps. */
must_use int session_alias_publish(struct session *s, struct buf *b, const struct codec_msg *m,
                                   struct codec_mqtt_delivery *d);
void session_alias_free(struct session *s);
