/* The MQTT brain of one client: CONNECT to DISCONNECT over one connection.  SPDX-License-Identifier: Apache-2.0
 *
 * A pure machine.  It decides and writes bytes; it owns no socket and reads no clock.  The host feeds it packets and
 * completions and carries out the effects.  One session lives exactly as long as its connection: a persistent session's
 * memory is the inbox, which the host attaches (SESSION_FX_ATTACH) and which gives back what a reconnect needs.
 *
 *   WAIT_CONNECT -> AUTH -> ATTACH -> OPEN -> ENDED       (any state may go to ENDED; README.md draws it)
 *
 * Reading: while session_is_ready the host cuts packets (codec/mqtt.h, limit session_packet_len_max) and gives each to
 * session_packet.  When it is not ready the host leaves the bytes where they are until SESSION_FX_RESUME.
 *
 * Writing: bytes of replies and deliveries are appended to out->bytes, the connection's output buffer.  Replies always
 * fit (a client gets at most one per packet it sends, so it is bounded by reading); deliveries stop at out->bytes_max
 * and go on after SESSION_EV_WRITABLE.
 *
 * All calls are made on the loop that owns the connection. */
#pragma once

#include "base/budget.h"
#include "base/usec.h"
#include "codec/mqtt.h"
#include "codec/topic.h"
#include "session/settings.h"

struct session;

enum session_state {
    SESSION_ST_WAIT_CONNECT, /* nothing but a CONNECT may come */
    SESSION_ST_AUTH,         /* the host authenticates, or the client owes an AUTH */
    SESSION_ST_ATTACH,       /* the host registers the client and attaches its session */
    SESSION_ST_OPEN,         /* CONNACK 0 is written */
    SESSION_ST_ENDED,        /* SESSION_FX_END was given; every further call does nothing */
};

enum session_end_cause {
#define X(NAME, meaning) SESSION_END_##NAME,
#include "session/end.def"
#undef X
    SESSION_END_COUNT,
};

const char *session_end_name(enum session_end_cause cause); /* "PROTOCOL_VIOLATION" */

struct session_conf {
    const struct session_settings *settings; /* until AUTHENTICATED brings the tenant's; borrowed */
    struct budget *budget;            /* pays for queued messages, aliases and kept packets; may be NULL */
    usec_t connect_timeout_usec;      /* from session_new to CONNACK */
    uint32_t connect_len_max;         /* bytes of a CONNECT or AUTH packet before the session is open */
    uint32_t queue_bytes_max;         /* bytes of the messages queued for one transient session */
    uint32_t mqtt3_client_id_len_max; /* bytes; 3.1 and 3.1.1 */
    uint32_t mqtt5_client_id_len_max;
    bool is_utf8_strict;              /* refuse control and non-characters in strings (MQTT5 1.5.4, a SHOULD) */
};

/* ---- What the host carries out --------------------------------------------------------------------------------- */

enum session_effect_type {
    SESSION_FX_AUTHENTICATE, /* a sane CONNECT: may it connect?  -> AUTHENTICATED, AUTH_CONTINUE, REFUSED */
    SESSION_FX_AUTH,         /* the client's next AUTH, at connect or for re-authentication -> the same three */
    SESSION_FX_ATTACH,       /* register it (ends its older connection), attach its session -> ATTACHED, REFUSED */
    SESSION_FX_CONNECTED,    /* CONNACK 0 is written: the session is open */
    SESSION_FX_PUBLISH,      /* route this message -> PUBLISHED when its token is not 0 */
    SESSION_FX_RELEASE,      /* persistent: forget this received QoS 2 id -> RELEASED */
    SESSION_FX_SUBSCRIBE,    /* -> SUBSCRIBED */
    SESSION_FX_UNSUBSCRIBE,  /* -> UNSUBSCRIBED */
    SESSION_FX_COMMIT,       /* persistent: session_commit_take has something; the end of the turn is fine */
    SESSION_FX_RESUME,       /* session_is_ready became true by itself: look at the bytes that wait */
    SESSION_FX_NOTE,         /* something to count or report */
    SESSION_FX_END,          /* the last one: write what is in out->bytes, then close */
};

/* Routing a message.  The host stamps msg.hlc (and may replace msg.publisher). */
struct session_publish {
    struct codec_msg msg;  /* borrowed: to keep it longer than this call, codec_msg_keep */
    uint64_t token;        /* for SESSION_EV_PUBLISHED; 0: QoS 0, nothing is answered */
    uint16_t packet_id;
    bool is_dup;
    bool is_stored;        /* QoS 2 of a persistent session: first have the inbox receive packet_id, which gives
                              msg.exchange, so that a repeated routing is known as such; then route */
};

/* One filter of SUBSCRIBE or UNSUBSCRIBE. */
struct session_sub {
    struct codec_topic_filter filter;
    uint8_t reason;        /* SESSION_SUB_PERFORM, or already refused: pass it on in the codes */
    uint8_t qos;           /* at most MaximumQoS */
    bool is_no_local;
    bool is_retain_as_published;
    uint8_t retain_handling; /* v3: 0 */
};
#define SESSION_SUB_PERFORM 0xFF

struct session_subscribe {
    uint16_t packet_id;
    uint32_t sub_id;             /* Subscription Identifier; 0: none */
    struct session_sub *sub;     /* views into the packet, good until the next call with this out */
    uint32_t count;
};

struct session_attach {
    struct str client_id;        /* also session_client_id; stable while the session lives */
    bool is_clean_start;
    bool is_persistent;          /* expiry_sec > 0: the session outlives the connection */
    uint32_t expiry_sec;         /* as granted; UINT32_MAX: never */
    const struct codec_msg *will;/* NULL: none; also session_will.  hlc 0: stamp it when it is published */
    uint32_t will_delay_sec;
    uint16_t keep_alive_sec;     /* as granted */
};

enum session_will_verdict {
    SESSION_WILL_NONE,     /* there is none, or it was discarded by a proper DISCONNECT */
    SESSION_WILL_DUE,      /* publish it after will_delay_sec unless the session is taken up again before */
    SESSION_WILL_SUPPRESS, /* the server stops and NoLWTWhenServerShuttingDown says to drop it */
};

struct session_end {
    enum session_end_cause cause;
    uint8_t reason;              /* the reason code sent or received; 0 for a connection that just broke */
    bool is_by_client;           /* DISCONNECT came, or the peer closed */
    bool was_open;               /* CONNACK 0 had been written: detach the session */
    enum session_will_verdict will;
    uint32_t will_delay_sec;     /* min(Will Delay Interval, expiry_sec) */
    uint32_t expiry_sec;         /* final: DISCONNECT may have changed it; 0: the session is over */
    const char *why;             /* literal, may be NULL */
};

enum session_note_type {
    SESSION_NOTE_INVALID_TOPIC,         /* a publish was refused with PUBACK or PUBREC; text: the topic */
    SESSION_NOTE_INVALID_TOPIC_FILTER,  /* text: the filter */
    SESSION_NOTE_OVERSIZE_PACKET_DROPPED, /* a reply over the client's Maximum Packet Size; text: the packet's type */
    SESSION_NOTE_STALLED,               /* nothing acknowledged for MaxResendTimes x ResendTimeoutSeconds */
    SESSION_NOTE_THROTTLED,             /* MsgPubPerSec reached: reading pauses */
};

struct session_effect {
    enum session_effect_type type;
    union {
        const struct codec_mqtt_connect *connect;          /* AUTHENTICATE: stable until CONNECTED or END */
        struct { struct str method, data; bool is_reauth; } auth;
        struct session_attach attach;
        struct session_publish publish;
        struct session_subscribe subscribe;                /* and UNSUBSCRIBE */
        struct { uint16_t packet_id; } release;
        struct { bool is_session_present; uint16_t keep_alive_sec; } connected;
        struct session_end end;
        struct { enum session_note_type type; struct str text; } note;
    };
};

/* Messages that were not delivered, by QoS; the host adds them to its metrics and clears them when it likes. */
struct session_counts {
    uint64_t sent[3];
    uint64_t dropped_overflow[3]; /* queue full, by count or bytes */
    uint64_t dropped_expired[3];
    uint64_t dropped_oversize[3]; /* larger than the client's Maximum Packet Size */
    uint64_t dropped_budget[3];
    uint64_t dropped_closed[3];   /* still queued when the session ended */
    uint64_t confirmed[3];        /* [1], [2]: deliveries that the client has acknowledged for good */
    uint64_t confirmed_bytes[3];  /* of topics and payloads: each the average of what is in flight */
    uint64_t acked[3];            /* PUBACKs [1] and PUBRECs [2] written */
    uint64_t received;            /* PUBRECs that came */
    uint64_t pings;               /* PINGREQs that came */
    bool is_news;                 /* something here but `sent` has changed since it was cleared */
};

/* Given to every call.  One per loop is enough: set bytes and bytes_max per connection, the times once per turn. */
struct session_out {
    struct buf *bytes;        /* the connection's output buffer */
    size_t bytes_max;         /* deliveries are written only while bytes->n is below this */
    size_t qos0_bytes_max;    /* a message of QoS 0 is queued only while less than this waits already; 0: no limit */
    usec_t now;               /* monotonic */
    uint64_t wall_ms;         /* milliseconds since 1970, for message expiry */
    struct session_effect *effect; /* of the last call, in order; they and their views are good until the next call */
    size_t effect_count, effect_cap;
    struct session_counts counts;
    struct buf scratch;       /* backing of views in effects */
    struct session_sub *sub;
    size_t sub_cap;
};

void session_out_deinit(struct session_out *out);

/* ---- What happens to it ---------------------------------------------------------------------------------------- */

enum session_event_type {
    SESSION_EV_PACKET,        /* .packet */
    SESSION_EV_BAD_FRAME,     /* .bad_frame: what codec_mqtt_frame said */
    SESSION_EV_AUTH_CONTINUE, /* .auth: send the client a challenge */
    SESSION_EV_AUTHENTICATED, /* .authenticated */
    SESSION_EV_REFUSED,       /* .refused: at connect, attach or re-authentication */
    SESSION_EV_ATTACHED,      /* .attached */
    SESSION_EV_PUBLISHED,     /* .published */
    SESSION_EV_RELEASED,      /* .released */
    SESSION_EV_SUBSCRIBED,    /* .subscribed */
    SESSION_EV_UNSUBSCRIBED,  /* .subscribed */
    SESSION_EV_COMMITTED,     /* what session_commit_take gave is durable */
    SESSION_EV_WRITABLE,      /* bytes->n fell below bytes_max */
    SESSION_EV_TICK,          /* session_deadline passed */
    SESSION_EV_LOST,          /* .lost: the connection ended */
    SESSION_EV_KICK,          /* .kick: the host ends it */
    SESSION_EV_SETTINGS,      /* .renewed: the tenant's changed, as session_settings_renew has it */
};

struct session_authenticated {
    const struct session_settings *settings; /* borrowed while the session lives */
    struct str assigned_client_id; /* for a client that sent none; must not be empty then */
    struct str response_info;      /* sent if the client asked for it; empty: none */
    struct str auth_data;          /* last step of enhanced authentication */
    struct str user;               /* encoded User Properties for CONNACK or AUTH */
    struct str ack_user;           /* the same for every PUBACK and PUBREC that has none of its own */
    bool is_transient;             /* this client may not have a persistent session */
};

struct session_refused {
    enum session_end_cause cause;
    uint8_t reason;                /* 5.0 reason code; 3.x gets the nearest return code or just a close */
    struct str reason_string;      /* empty: none; sent only if the client wants problem information */
    struct str server_reference;   /* with 0x9C and 0x9D */
    struct str user;
};

struct session_attached {
    bool is_session_present;
    uint64_t incarnation;          /* of the persistent session */
    /* Persistent: outgoing messages are numbered by the inbox, packet id = seq % 65535 + 1. */
    uint64_t head_seq;             /* first that is not acknowledged */
    const uint64_t *rec_seq;       /* acknowledged by PUBREC and committed: PUBREL is owed, in order of PUBREC */
    size_t rec_count;
    const uint16_t *received;      /* incoming QoS 2 packet ids that are received and not released */
    size_t received_count;
};

struct session_published {
    uint64_t token;
    uint8_t reason;                /* 0, 0x10, or >= 0x80 */
    struct str reason_string, user;
    uint32_t dropped;              /* stored sessions that did not get it as their queue is full: MQTT 5 is told, as
                                      the User Property queue_full */
};

struct session_subscribed {
    uint16_t packet_id;
    const uint8_t *codes;          /* one per filter of the request: 0..2 or a 5.0 reason code */
    uint32_t count;
    struct str reason_string, user;
};

struct session_event {
    enum session_event_type type;
    union {
        struct codec_mqtt_packet *packet;
        int bad_frame;
        struct { struct str data, reason_string, user; } auth;
        struct session_authenticated authenticated;
        struct session_refused refused;
        struct session_attached attached;
        struct session_published published;
        struct { uint16_t packet_id; } released;
        struct session_subscribed subscribed;
        struct { bool is_by_client; } lost;
        struct session_refused kick;
        struct {
            const struct session_settings *settings; /* instead of those of AUTHENTICATED, as these are */
            struct str ack_user;
        } renewed;
    };
};

/* A session that waits for CONNECT.  Yours: session_free. */
struct session *session_new(const struct session_conf *conf, usec_t now) must_use;

/* One event.  Fills out->effect. */
void session_step(struct session *s, const struct session_event *ev, struct session_out *out);

/* SESSION_EV_PACKET without the detour: the road of every publish and acknowledgement. */
void session_packet(struct session *s, struct codec_mqtt_packet *p, struct session_out *out);

/* SESSION_EV_PUBLISHED with reason 0 or 0x10 and nothing to say. */
void session_published(struct session *s, uint64_t token, uint8_t reason, struct session_out *out);

/* Gives all queued messages back to where they were charged, and returns NULL.  NULL is fine. */
struct session *session_free(struct session *s);

/* When it next wants SESSION_EV_TICK, or USEC_NEVER.  It moves later by itself as packets come: arm one timer, ask
 * again when it fires; ask also after an effect, for it may have moved earlier. */
usec_t session_deadline(const struct session *s);

/* The host did not read for a while by its own will: the client is not to blame for the silence until now, keep alive
 * begins anew.  (A session that is not ready excuses its client by itself.) */
void session_excuse(struct session *s, usec_t now);

/* Every numbered invariant of README.md. */
void session_check(const struct session *s);

/* ---- Delivery -------------------------------------------------------------------------------------------------- */

struct session_delivery {
    const struct codec_msg *msg;
    struct codec_mqtt_images *images; /* begun for this msg, shared by all receivers of the loop; may be NULL */
    uint8_t qos;                      /* granted to the subscription: the lower of this and msg->qos is sent */
    bool is_retained;                 /* comes from the store of retained messages: RETAIN 1 [MQTT-3.3.1-8] */
    bool is_retain_as_published;      /* keep the publisher's RETAIN [MQTT-3.3.1-13] */
    bool is_stored;                   /* from the inbox, with its seq; QoS 1 or 2 of a persistent session */
    bool is_dup;                      /* stored: it may have been sent before */
    uint64_t seq;                     /* stored */
    const uint32_t *sub_id;           /* Subscription Identifiers of the matching subscriptions */
    size_t sub_id_count;
};

enum session_deliver_outcome {
    SESSION_DELIVER_E_QUEUED = 1, /* kept (a reference to the message) until the client takes it */
    SESSION_DELIVER_E_DROPPED,    /* counted in out->counts */
    SESSION_DELIVER_E_FULL,       /* stored: nothing done, offer it again when session_capacity allows */
};

/* Packet ids in flight at once, at most: also what may have been sent and not recorded as sent when a node dies.  After
 * such a death redeliver the first SESSION_WINDOW_MAX messages with is_dup: they might have been sent. */
#define SESSION_WINDOW_MAX 1024

/* Sends or queues one message; appends to out->bytes and adds to out->counts, but leaves the effects of the call before
 * as they are, so it may be made while they are carried out.  0: its bytes are written (or a stored one needs nothing
 * more).  The no-local rule and permissions are the host's matter. */
int session_deliver(struct session *s, const struct session_delivery *d, struct session_out *out);

/* How many more stored messages it takes now; 0 while the output is blocked. */
uint32_t session_capacity(const struct session *s, const struct session_out *out);

/* Progress of a persistent session, to be written to its inbox.  */
struct session_commit {
    uint64_t head_seq;         /* every seq below is acknowledged */
    uint64_t sent_seq;         /* every seq below may have been sent: redeliver those with is_dup */
    const uint64_t *rec_seq;   /* newly acknowledged by PUBREC, in order; good until the next call on this session */
    size_t rec_count;
};

/* Takes what there is to commit.  Ask on SESSION_FX_COMMIT and after deliveries of stored messages (one that had to be
 * dropped is done).  false: nothing new or one is still under way (SESSION_EV_COMMITTED ends it).  Also
 * works after SESSION_FX_END, for the last commit with the detach. */
bool session_commit_take(struct session *s, struct session_commit *out_commit);

/* ---- Questions ------------------------------------------------------------------------------------------------- */

enum session_state session_state_get(const struct session *s);
bool session_is_ready(const struct session *s);       /* may be given a packet */
size_t session_packet_len_max(const struct session *s); /* for codec_mqtt_frame */
struct str session_client_id(const struct session *s);
unsigned session_version(const struct session *s);    /* codec_mqtt_version, 0 before CONNECT */
bool session_is_persistent(const struct session *s);
const struct codec_msg *session_will(const struct session *s);
uint32_t session_expiry_sec(const struct session *s);
uint16_t session_keep_alive_sec(const struct session *s);
size_t session_queue_bytes(const struct session *s);  /* what they take */
/* Drops the waiting messages of QoS 0, counted as dropped for want of budget; how many. */
size_t session_queue_shed(struct session *s, struct session_out *out);
size_t session_queue_count(const struct session *s);  /* messages waiting, not counting those in flight */
size_t session_inflight_count(const struct session *s);
size_t session_memory(const struct session *s);       /* bytes it holds */

/* A member of a shared subscription that should not be picked while another can take the message: not open, its output
 * blocked, or its queue no longer empty. */
bool session_is_stalled(const struct session *s, const struct session_out *out);
