/* MQTT 3.1, 3.1.1 and 5.0 packets: frames, views, bytes.  SPDX-License-Identifier: Apache-2.0
 *
 * The way in: codec_mqtt_frame cuts one packet off the front of what arrived (cheap, no copy, the length limit is
 * looked at before the body is there); codec_mqtt_<packet>_decode checks it whole and fills a struct of views into the
 * input.  The way out: codec_mqtt_<packet>_encode appends to a buf.  Both directions of every packet are here, so the
 * same room serves a server, a client and the tests.
 *
 * Outcomes of decoders are reason codes of MQTT 5.0 (all >= 0x80): the one to answer with, where the version has
 * answers.  The packet then also says `why` in a few fixed words, with the number of the statement that was broken. */
#pragma once

#include "codec/cursor.h"
#include "codec/msg.h"

enum codec_mqtt_version {
    CODEC_MQTT_V31 = 3,  /* MQIsdp */
    CODEC_MQTT_V311 = 4,
    CODEC_MQTT_V5 = 5,
};

enum codec_mqtt_type {
#define X(NAME, number, flags) CODEC_MQTT_##NAME = number,
#include "codec/packet.def"
#undef X
};

enum codec_mqtt_reason {
#define X(NAME, code, text, packets) CODEC_MQTT_RC_##NAME = code,
#include "codec/reason.def"
#undef X
    CODEC_MQTT_RC_NORMAL_DISCONNECTION = 0x00,
    CODEC_MQTT_RC_GRANTED_QOS_0 = 0x00,
};

enum {
    CODEC_MQTT_PACKET_MAX = 268435455 + 5, /* bytes of the longest packet there is: remaining length and its header */
    CODEC_MQTT_SUB_ID_MAX = 268435455,     /* largest Subscription Identifier */
};

/* The name of a type ("PUBLISH"), of a reason code ("Not authorized"), or "?" for a number that has none. */
const char *codec_mqtt_type_name(unsigned type);
const char *codec_mqtt_reason_text(unsigned reason);

/* May this reason code stand in a packet of this type (MQTT5 table 2-6)? */
bool codec_mqtt_reason_fits(unsigned reason, unsigned type);

/* ---- Frames ---------------------------------------------------------------------------------------------------- */

struct codec_mqtt_packet {
    uint8_t type;     /* codec_mqtt_type */
    uint8_t flags;    /* low nibble of the first byte */
    struct str body;  /* what follows the fixed header: a view into the input */
    bool is_padded;   /* the remaining length was not in its shortest form [MQTT-1.5.5-1]: 5.0 decoders refuse that */
    size_t len;       /* of the whole packet */
    const char *why;  /* set by a decoder that refuses it; a literal */
};

enum codec_mqtt_frame_outcome {
    CODEC_MQTT_E_MORE = 1,                                   /* no whole packet yet */
    CODEC_MQTT_E_MALFORMED = CODEC_MQTT_RC_MALFORMED_PACKET, /* bad type, flags or length: nothing can follow */
    CODEC_MQTT_E_TOO_LARGE = CODEC_MQTT_RC_PACKET_TOO_LARGE, /* longer than len_max, known from its header alone */
};

/* Cuts the first packet off `in`.  len_max bounds the whole packet (MQTT5 3.1.2.11.4 counts the same way).  0: *out is
 * filled, go on at in + out->len.  MORE: out->len is the length of the packet when its header is complete, else 0, so
 * that the caller can make room.  Bad types and flags are told from the first byte on. */
must_use int codec_mqtt_frame(struct str in, size_t len_max, struct codec_mqtt_packet *out);

/* ---- Properties ------------------------------------------------------------------------------------------------ */

enum codec_mqtt_prop {
#define X(NAME, field, id, KIND, packets) CODEC_MQTT_P_##NAME = id,
#include "codec/prop.def"
#undef X
    CODEC_MQTT_P_USER_PROPERTY = 0x26,
};

/* Which are there (bit = identifier) and their values; a value without its bit means nothing (it is not cleared). */
struct codec_mqtt_props {
    uint64_t has;
    struct str user;      /* encoded User Properties, to be walked with codec_mqtt_user_next.  Decoded: the whole
                             property block, which the walk picks them from.  To encode: User Properties only */
    uint32_t user_count;
#define CODEC_MQTT_FIELD_BYTE uint8_t
#define CODEC_MQTT_FIELD_U16 uint16_t
#define CODEC_MQTT_FIELD_U32 uint32_t
#define CODEC_MQTT_FIELD_VARINT uint32_t
#define CODEC_MQTT_FIELD_STR struct str
#define CODEC_MQTT_FIELD_BIN struct str
#define X(NAME, field, id, KIND, packets) CODEC_MQTT_FIELD_##KIND field;
#include "codec/prop.def"
#undef X
};

#define CODEC_MQTT_BIT(NAME) ((uint64_t)1 << CODEC_MQTT_P_##NAME)
#define CODEC_MQTT_HAS(props, NAME) (((props)->has & CODEC_MQTT_BIT(NAME)) != 0)
/* Sets one property for an encoder. */
#define CODEC_MQTT_SET(props, NAME, field_, value) \
    ((props)->field_ = (value), (void)((props)->has |= CODEC_MQTT_BIT(NAME)))

/* Walks the User Properties of decoded or encoded ones: start with *rest = props.user; false at the end. */
bool codec_mqtt_user_next(struct str *rest, struct str *out_name, struct str *out_value);

/* Appends one User Property to a block for codec_mqtt_props.user. */
void codec_mqtt_user_put(struct buf *b, struct str name, struct str value);

/* Control characters and non-characters, which strings SHOULD NOT hold (MQTT5 1.5.4); s is UTF-8. */
bool codec_mqtt_has_control(struct str s);

/* ---- Packets, as views ----------------------------------------------------------------------------------------- */

/* PUBLISH.  Without has_props (3.x, or an empty block) what comes from properties is zero. */
struct codec_mqtt_publish {
    struct str topic;        /* not checked: that is codec_topic_name_check's matter; may be empty with an alias */
    struct str payload;
    uint16_t packet_id;      /* 0 for QoS 0 */
    uint8_t qos;
    bool is_dup;
    bool is_retain;
    bool has_props;
    bool has_expiry;
    bool has_alias;
    bool is_utf8;            /* Payload Format Indicator 1 */
    uint16_t topic_alias;    /* when has_alias; 0 is refused by the decoder (0x94) */
    uint32_t expiry_sec;     /* when has_expiry */
    struct str block;        /* the property block */
    size_t travel_len;       /* bytes of the block that travel on with the message */
    struct str response_topic; /* empty: none; not checked beyond UTF-8 */
    uint32_t sub_id;         /* the first Subscription Identifier, 0: none (only servers send them) */
};

/* The properties that travel on as one view: the block itself when it is whole, else put together in *scratch. */
struct str codec_mqtt_publish_props(const struct codec_mqtt_publish *p, struct buf *scratch);

struct codec_mqtt_will {
    struct str topic, payload;
    struct str props;        /* what goes with the will message, as codec_msg.props; whole by decode via *scratch */
    uint8_t qos;
    bool is_retain;
    bool has_expiry;
    bool is_utf8;
    uint32_t expiry_sec;
    uint32_t delay_sec;
    struct str response_topic;
    size_t len;              /* bytes of topic, payload and properties: what MaxLastWillBytes counts */
};

struct codec_mqtt_connect {
    uint8_t version;         /* codec_mqtt_version, also when it is refused as unsupported: then the number sent */
    bool is_clean;           /* Clean Session, Clean Start */
    bool has_will, has_username, has_password;
    uint16_t keep_alive_sec;
    struct str client_id, username, password; /* like will.topic not yet checked to be UTF-8: the answers differ */
    struct codec_mqtt_will will;
    struct codec_mqtt_props props;
};

struct codec_mqtt_connack {
    bool is_session_present;
    uint8_t reason;          /* 5.0: reason code; 3.x: return code 0..5 */
    struct codec_mqtt_props props;
};

/* PUBACK, PUBREC, PUBREL, PUBCOMP */
struct codec_mqtt_ack {
    uint16_t packet_id;
    uint8_t reason;
    struct codec_mqtt_props props;
};

/* SUBSCRIBE, UNSUBSCRIBE: a checked list to be walked with codec_mqtt_sub_next. */
struct codec_mqtt_subscribe {
    uint16_t packet_id;
    uint32_t count;          /* of filters, >= 1 */
    struct str list;
    struct codec_mqtt_props props;
};

struct codec_mqtt_sub {
    struct str filter;       /* not checked: codec_topic_filter_parse does */
    uint8_t qos;
    bool is_no_local;
    bool is_retain_as_published;
    uint8_t retain_handling; /* 0 send, 1 send when new, 2 do not send */
};

/* SUBACK, UNSUBACK */
struct codec_mqtt_suback {
    uint16_t packet_id;
    struct str codes;        /* one byte a filter; empty in UNSUBACK of 3.x */
    struct codec_mqtt_props props;
};

/* DISCONNECT, AUTH */
struct codec_mqtt_reasoned {
    uint8_t reason;
    struct codec_mqtt_props props;
};

/* The first packet tells its version itself.  CODEC_MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION: out->version is what was
 * asked for (0: not MQTT at all, close silently).  scratch: a turn's buffer for will properties that are not whole. */
must_use int codec_mqtt_connect_decode(struct codec_mqtt_packet *p, struct buf *scratch,
                                       struct codec_mqtt_connect *out);

/* How one reads a packet that only servers may send is the same as for the others: direction is the caller's matter,
 * except that properties and flags that do not fit the type are refused. */
must_use int codec_mqtt_connack_decode(struct codec_mqtt_packet *p, unsigned version, struct codec_mqtt_connack *out);
must_use int codec_mqtt_publish_decode(struct codec_mqtt_packet *p, unsigned version, struct codec_mqtt_publish *out);
must_use int codec_mqtt_ack_decode(struct codec_mqtt_packet *p, unsigned version, struct codec_mqtt_ack *out);
must_use int codec_mqtt_subscribe_decode(struct codec_mqtt_packet *p, unsigned version,
                                         struct codec_mqtt_subscribe *out);
must_use int codec_mqtt_suback_decode(struct codec_mqtt_packet *p, unsigned version, struct codec_mqtt_suback *out);
must_use int codec_mqtt_reasoned_decode(struct codec_mqtt_packet *p, unsigned version,
                                        struct codec_mqtt_reasoned *out);
/* PINGREQ, PINGRESP: no body. */
must_use int codec_mqtt_ping_decode(struct codec_mqtt_packet *p);

/* The next filter; start with *rest = subscribe.list.  UNSUBSCRIBE fills only .filter. */
bool codec_mqtt_sub_next(struct str *rest, unsigned type, struct codec_mqtt_sub *out);

/* ---- Bytes ----------------------------------------------------------------------------------------------------- */

/* Whom we write to. */
struct codec_mqtt_peer {
    uint8_t version;
    uint32_t packet_len_max; /* its Maximum Packet Size; 0: none */
};

enum codec_mqtt_encode_outcome {
    CODEC_MQTT_ENCODE_E_TOO_LARGE = CODEC_MQTT_RC_PACKET_TOO_LARGE, /* over peer.packet_len_max: nothing was appended */
};

/* Encoders append one packet.  A Reason String, then User Properties, are left out when only that makes the packet
 * fit (MQTT-3.2.2-19, -20 and their like); still too large: the outcome.  For 3.x, properties and reason codes that
 * do not exist there are left out. */
must_use int codec_mqtt_connack_encode(struct buf *b, const struct codec_mqtt_peer *peer,
                                       const struct codec_mqtt_connack *c);
must_use int codec_mqtt_ack_encode(struct buf *b, const struct codec_mqtt_peer *peer, unsigned type,
                                   const struct codec_mqtt_ack *a);
must_use int codec_mqtt_suback_encode(struct buf *b, const struct codec_mqtt_peer *peer, unsigned type,
                                      const struct codec_mqtt_suback *s);
must_use int codec_mqtt_reasoned_encode(struct buf *b, const struct codec_mqtt_peer *peer, unsigned type,
                                        const struct codec_mqtt_reasoned *r);
/* CONNECT for clients: c->will.props and .delay_sec, .expiry_sec make the will properties. */
must_use int codec_mqtt_connect_encode(struct buf *b, const struct codec_mqtt_connect *c);
/* SUBSCRIBE or UNSUBSCRIBE for clients; sub[0..count). */
must_use int codec_mqtt_subscribe_encode(struct buf *b, const struct codec_mqtt_peer *peer, unsigned type,
                                         const struct codec_mqtt_subscribe *s, const struct codec_mqtt_sub *sub);
void codec_mqtt_ping_encode(struct buf *b, unsigned type);

/* An acknowledgement with reason 0 and no properties: four bytes, the same in every version. */
static inline void codec_mqtt_ack_put(struct buf *b, unsigned type, uint16_t packet_id)
{
    const uint8_t head[4] = {(uint8_t)(type << 4 | (type == CODEC_MQTT_PUBREL ? 2 : 0)), 2,
                             (uint8_t)(packet_id >> 8), (uint8_t)packet_id};
    buf_put(b, head, sizeof head);
}

/* How one receiver gets a message. */
struct codec_mqtt_delivery {
    uint8_t qos;
    bool is_dup, is_retain;
    bool is_topic_omitted;     /* the alias stands for it */
    bool has_expiry;
    uint16_t packet_id;        /* when qos > 0 */
    uint16_t topic_alias;      /* 0: none */
    uint32_t expiry_sec;       /* what is left, when has_expiry */
    const uint32_t *sub_id;    /* Subscription Identifiers */
    size_t sub_id_count;
};

must_use int codec_mqtt_publish_encode(struct buf *b, const struct codec_mqtt_peer *peer, const struct codec_msg *m,
                                       const struct codec_mqtt_delivery *d);

/* One message encoded once for all receivers that get the same bytes: per version (3.x, 5.0), QoS and RETAIN, made when
 * first asked for.  A loop keeps one set and resets it for each message.  Receivers with a topic alias or Subscription
 * Identifiers get their own encoding instead. */
struct codec_mqtt_image {
    uint32_t at, n;    /* where in the set's bytes; n 0: not made yet */
    uint32_t id_at;    /* offset of the packet identifier in the packet; 0: QoS 0 */
};

struct codec_mqtt_images {
    struct buf bytes;
    struct codec_mqtt_image image[2][3][2]; /* [is 5.0][QoS][RETAIN] */
    const struct codec_msg *msg;
    uint64_t wall_ms;
};

/* Begins a new message; keeps the memory of the last one.  msg must stay while the set is used. */
void codec_mqtt_images_begin(struct codec_mqtt_images *s, const struct codec_msg *msg, uint64_t wall_ms);
void codec_mqtt_images_deinit(struct codec_mqtt_images *s);

/* Makes the image that is not there yet (out of the way of the fast path).  Its n stays 0 when no packet can be that
 * long.  For a single receiver codec_mqtt_publish_encode saves a copy. */
void codec_mqtt_images_make(struct codec_mqtt_images *s, unsigned version, unsigned qos, bool is_retain);

static inline struct codec_mqtt_image codec_mqtt_images_get(struct codec_mqtt_images *s, unsigned version, unsigned qos,
                                                            bool is_retain)
{
    struct codec_mqtt_image *i = &s->image[version == CODEC_MQTT_V5][qos][is_retain];
    if (unlikely(i->n == 0))
        codec_mqtt_images_make(s, version, qos, is_retain);
    return *i;
}

/* Appends an image; packet_id is put in place when its QoS has one. */
static inline void codec_mqtt_images_put(struct buf *b, const struct codec_mqtt_images *s, struct codec_mqtt_image i,
                                         uint16_t packet_id)
{
    buf_put(b, s->bytes.p + i.at, i.n);
    if (i.id_at != 0) {
        b->p[b->n - i.n + i.id_at] = (uint8_t)(packet_id >> 8);
        b->p[b->n - i.n + i.id_at + 1] = (uint8_t)packet_id;
    }
}
