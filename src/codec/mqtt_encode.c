/* MQTT packets outwards.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 * 1. A packet is measured before its first byte is written: what is over the Maximum Packet Size leaves no trace.
 * 2. An image is, byte for byte, the encoding for a receiver without alias and Subscription Identifiers. */
#include "codec/mqtt_priv.h"

#define HEAD_MAX 5 /* fixed header: type and four bytes of length */

static void head_put(struct buf *b, unsigned type, unsigned flags, size_t body)
{
    (void)buf_reserve(b, HEAD_MAX + body);
    uint8_t *at = b->p + b->n;
    *at++ = (uint8_t)(type << 4 | flags);
    at = codec_mqtt_varint_put(at, (uint32_t)body);
    b->n = (size_t)(at - b->p);
}

static size_t packet_len(size_t body)
{
    return 1 + codec_mqtt_varint_len((uint32_t)body) + body;
}

static bool is_over(const struct codec_mqtt_peer *peer, size_t body)
{
    return body > CODEC_MQTT_PACKET_MAX - HEAD_MAX ||
           (peer->packet_len_max != 0 && packet_len(body) > peer->packet_len_max);
}

/* Which properties to write, once it is known what fits. */
struct plan {
    uint64_t mask;
    bool has_user;
    size_t props; /* bytes of properties, without their length */
    size_t body;  /* of the packet */
};

static void plan_set(struct plan *plan, const struct codec_mqtt_props *p, size_t fixed, uint64_t mask, bool has_user)
{
    plan->mask = mask;
    plan->has_user = has_user;
    plan->props = codec_mqtt_props_len(p, mask, has_user);
    plan->body = fixed + codec_mqtt_varint_len((uint32_t)plan->props) + plan->props;
}

/* fixed: bytes of the body beside the properties and their length. */
static int plan_make(const struct codec_mqtt_peer *peer, const struct codec_mqtt_props *p, size_t fixed,
                     struct plan *out)
{
    if (peer->version != CODEC_MQTT_V5) {
        *out = (struct plan){.body = fixed};
        return is_over(peer, fixed) ? CODEC_MQTT_ENCODE_E_TOO_LARGE : 0;
    }
    plan_set(out, p, fixed, UINT64_MAX, true);
    if (is_over(peer, out->body))
        plan_set(out, p, fixed, ~CODEC_MQTT_BIT(REASON_STRING), true);
    if (is_over(peer, out->body))
        plan_set(out, p, fixed, ~CODEC_MQTT_BIT(REASON_STRING), false);
    return is_over(peer, out->body) ? CODEC_MQTT_ENCODE_E_TOO_LARGE : 0;
}

static void props_put(struct buf *b, const struct codec_mqtt_props *p, const struct plan *plan)
{
    uint8_t len[4];
    buf_put(b, len, (size_t)(codec_mqtt_varint_put(len, (uint32_t)plan->props) - len));
    codec_mqtt_props_put(b, p, plan->mask, plan->has_user);
}

int codec_mqtt_connack_encode(struct buf *b, const struct codec_mqtt_peer *peer, const struct codec_mqtt_connack *c)
{
    struct plan plan;
    int r = plan_make(peer, &c->props, 2, &plan);
    if (r != 0)
        return r;
    head_put(b, CODEC_MQTT_CONNACK, 0, plan.body);
    buf_put_u8(b, c->is_session_present);
    buf_put_u8(b, c->reason);
    if (peer->version == CODEC_MQTT_V5)
        props_put(b, &c->props, &plan);
    return 0;
}

static unsigned flags_of(unsigned type)
{
    return type == CODEC_MQTT_PUBREL || type == CODEC_MQTT_SUBSCRIBE || type == CODEC_MQTT_UNSUBSCRIBE ? 2 : 0;
}

static bool has_props(const struct codec_mqtt_props *p)
{
    return (p->has & ~CODEC_MQTT_BIT(USER_PROPERTY)) != 0 || p->user.n > 0;
}

int codec_mqtt_ack_encode(struct buf *b, const struct codec_mqtt_peer *peer, unsigned type,
                          const struct codec_mqtt_ack *a)
{
    struct plan plan;
    if (peer->version != CODEC_MQTT_V5 || (a->reason == 0 && !has_props(&a->props))) {
        if (is_over(peer, 2))
            return CODEC_MQTT_ENCODE_E_TOO_LARGE;
        codec_mqtt_ack_put(b, type, a->packet_id);
        return 0;
    }
    int r = plan_make(peer, &a->props, 3, &plan);
    if (plan.props == 0) { /* the property length may be left out */
        plan.body = 3;
        r = is_over(peer, 3) ? CODEC_MQTT_ENCODE_E_TOO_LARGE : 0;
    }
    if (r != 0)
        return r;
    head_put(b, type, flags_of(type), plan.body);
    buf_put_u16(b, a->packet_id);
    buf_put_u8(b, a->reason);
    if (plan.props > 0)
        props_put(b, &a->props, &plan);
    return 0;
}

int codec_mqtt_suback_encode(struct buf *b, const struct codec_mqtt_peer *peer, unsigned type,
                             const struct codec_mqtt_suback *s)
{
    struct plan plan;
    bool is_v5 = peer->version == CODEC_MQTT_V5;
    bool has_codes = is_v5 || type == CODEC_MQTT_SUBACK;
    int r = plan_make(peer, &s->props, 2 + (has_codes ? s->codes.n : 0), &plan);
    if (r != 0)
        return r;
    head_put(b, type, 0, plan.body);
    buf_put_u16(b, s->packet_id);
    if (is_v5)
        props_put(b, &s->props, &plan);
    for (size_t i = 0; has_codes && i < s->codes.n; i++) {
        uint8_t code = (uint8_t)s->codes.p[i];
        buf_put_u8(b, !is_v5 && code > 2 ? 0x80 : code);
    }
    return 0;
}

int codec_mqtt_reasoned_encode(struct buf *b, const struct codec_mqtt_peer *peer, unsigned type,
                               const struct codec_mqtt_reasoned *r)
{
    struct plan plan;
    if (peer->version != CODEC_MQTT_V5 || (r->reason == 0 && !has_props(&r->props))) {
        if (is_over(peer, 0))
            return CODEC_MQTT_ENCODE_E_TOO_LARGE;
        head_put(b, type, 0, 0);
        return 0;
    }
    int e = plan_make(peer, &r->props, 1, &plan);
    if (plan.props == 0 && type == CODEC_MQTT_DISCONNECT) { /* MQTT5 3.14.2.2.1 */
        plan.body = 1;
        e = is_over(peer, 1) ? CODEC_MQTT_ENCODE_E_TOO_LARGE : 0;
    }
    if (e != 0)
        return e;
    head_put(b, type, 0, plan.body);
    buf_put_u8(b, r->reason);
    if (plan.body > 1)
        props_put(b, &r->props, &plan);
    return 0;
}

static void str16_put(struct buf *b, struct str s)
{
    must(s.n <= UINT16_MAX);
    buf_put_u16(b, (uint16_t)s.n);
    buf_put_str(b, s);
}

/* Will properties: those that travel as they are, delay and expiry in front. */
static void will_props_put(struct buf *b, const struct codec_mqtt_will *w)
{
    uint8_t len[4];
    size_t n = w->props.n + (w->delay_sec != 0 ? 5 : 0) + (w->has_expiry ? 5 : 0);
    buf_put(b, len, (size_t)(codec_mqtt_varint_put(len, (uint32_t)n) - len));
    if (w->delay_sec != 0) {
        buf_put_u8(b, CODEC_MQTT_P_WILL_DELAY_INTERVAL);
        buf_put_u32(b, w->delay_sec);
    }
    if (w->has_expiry) {
        buf_put_u8(b, CODEC_MQTT_P_MESSAGE_EXPIRY_INTERVAL);
        buf_put_u32(b, w->expiry_sec);
    }
    buf_put_str(b, w->props);
}

static void connect_body(struct buf *b, const struct codec_mqtt_connect *c)
{
    bool is_v5 = c->version == CODEC_MQTT_V5;
    unsigned flags = (c->is_clean ? 0x02u : 0) | (c->has_username ? 0x80u : 0) | (c->has_password ? 0x40u : 0);
    if (c->has_will)
        flags |= 0x04u | (unsigned)c->will.qos << 3 | (c->will.is_retain ? 0x20u : 0);
    str16_put(b, c->version == CODEC_MQTT_V31 ? STR("MQIsdp") : STR("MQTT"));
    buf_put_u8(b, c->version);
    buf_put_u8(b, (uint8_t)flags);
    buf_put_u16(b, c->keep_alive_sec);
    if (is_v5) {
        struct plan plan;
        plan_set(&plan, &c->props, 0, UINT64_MAX, true);
        props_put(b, &c->props, &plan);
    }
    str16_put(b, c->client_id);
    if (c->has_will) {
        if (is_v5)
            will_props_put(b, &c->will);
        str16_put(b, c->will.topic);
        str16_put(b, c->will.payload);
    }
    if (c->has_username)
        str16_put(b, c->username);
    if (c->has_password)
        str16_put(b, c->password);
}

int codec_mqtt_connect_encode(struct buf *b, const struct codec_mqtt_connect *c)
{
    struct buf body = {0};
    struct codec_mqtt_peer any = {.version = c->version};
    connect_body(&body, c);
    int r = is_over(&any, body.n) ? CODEC_MQTT_ENCODE_E_TOO_LARGE : 0;
    if (r == 0) {
        head_put(b, CODEC_MQTT_CONNECT, 0, body.n);
        buf_put_str(b, buf_str(&body));
    }
    buf_deinit(&body);
    return r;
}

int codec_mqtt_subscribe_encode(struct buf *b, const struct codec_mqtt_peer *peer, unsigned type,
                                const struct codec_mqtt_subscribe *s, const struct codec_mqtt_sub *sub)
{
    struct plan plan;
    bool has_options = type == CODEC_MQTT_SUBSCRIBE, is_v5 = peer->version == CODEC_MQTT_V5;
    size_t fixed = 2;
    for (uint32_t i = 0; i < s->count; i++)
        fixed += 2 + sub[i].filter.n + has_options;
    int r = plan_make(peer, &s->props, fixed, &plan);
    if (r != 0)
        return r;
    head_put(b, type, 2, plan.body);
    buf_put_u16(b, s->packet_id);
    if (is_v5)
        props_put(b, &s->props, &plan);
    for (uint32_t i = 0; i < s->count; i++) {
        unsigned options = sub[i].qos;
        if (is_v5)
            options |= (sub[i].is_no_local ? 4u : 0) | (sub[i].is_retain_as_published ? 8u : 0) |
                       (unsigned)sub[i].retain_handling << 4;
        str16_put(b, sub[i].filter);
        if (has_options)
            buf_put_u8(b, (uint8_t)options);
    }
    return 0;
}

void codec_mqtt_ping_encode(struct buf *b, unsigned type)
{
    const uint8_t packet[2] = {(uint8_t)(type << 4), 0};
    buf_put(b, packet, sizeof packet);
}

static uint8_t *put_u16(uint8_t *at, unsigned v)
{
    *at++ = (uint8_t)(v >> 8);
    *at++ = (uint8_t)v;
    return at;
}

static uint8_t *put_str(uint8_t *at, struct str s)
{
    if (s.n > 0)
        memcpy(at, s.p, s.n);
    return at + s.n;
}

/* The properties of one hop: they differ between receivers. */
static size_t hop_len(const struct codec_mqtt_delivery *d)
{
    size_t n = (d->has_expiry ? 5u : 0u) + (d->topic_alias != 0 ? 3u : 0u);
    for (size_t i = 0; i < d->sub_id_count; i++)
        n += 1 + codec_mqtt_varint_len(d->sub_id[i]);
    return n;
}

static uint8_t *hop_put(uint8_t *at, const struct codec_mqtt_delivery *d)
{
    if (d->has_expiry) {
        *at++ = CODEC_MQTT_P_MESSAGE_EXPIRY_INTERVAL;
        at = put_u16(put_u16(at, d->expiry_sec >> 16), d->expiry_sec & 0xFFFF);
    }
    if (d->topic_alias != 0) {
        *at++ = CODEC_MQTT_P_TOPIC_ALIAS;
        at = put_u16(at, d->topic_alias);
    }
    for (size_t i = 0; i < d->sub_id_count; i++) {
        *at++ = CODEC_MQTT_P_SUBSCRIPTION_IDENTIFIER;
        at = codec_mqtt_varint_put(at, d->sub_id[i]);
    }
    return at;
}

int codec_mqtt_publish_encode(struct buf *b, const struct codec_mqtt_peer *peer, const struct codec_msg *m,
                              const struct codec_mqtt_delivery *d)
{
    bool is_v5 = peer->version == CODEC_MQTT_V5;
    struct str topic = d->is_topic_omitted ? str_view("", 0) : m->topic;
    size_t props = is_v5 ? hop_len(d) + m->props.n : 0;
    size_t body = 2 + topic.n + (d->qos > 0 ? 2 : 0) + m->payload.n;
    must(topic.n <= UINT16_MAX);
    if (is_v5)
        body += codec_mqtt_varint_len((uint32_t)props) + props;
    if (is_over(peer, body))
        return CODEC_MQTT_ENCODE_E_TOO_LARGE;
    uint8_t *at = buf_reserve(b, HEAD_MAX + body);
    *at++ = (uint8_t)(CODEC_MQTT_PUBLISH << 4 | (d->is_dup ? 8 : 0) | d->qos << 1 | d->is_retain);
    at = codec_mqtt_varint_put(at, (uint32_t)body);
    at = put_str(put_u16(at, (unsigned)topic.n), topic);
    if (d->qos > 0)
        at = put_u16(at, d->packet_id);
    if (is_v5) {
        at = codec_mqtt_varint_put(at, (uint32_t)props);
        at = put_str(hop_put(at, d), m->props);
    }
    at = put_str(at, m->payload);
    b->n = (size_t)(at - b->p);
    return 0;
}

void codec_mqtt_images_begin(struct codec_mqtt_images *s, const struct codec_msg *msg, uint64_t wall_ms)
{
    s->bytes.n = 0;
    memset(s->image, 0, sizeof s->image);
    s->msg = msg;
    s->wall_ms = wall_ms;
}

void codec_mqtt_images_deinit(struct codec_mqtt_images *s)
{
    buf_deinit(&s->bytes);
    codec_mqtt_images_begin(s, NULL, 0);
}

void codec_mqtt_images_make(struct codec_mqtt_images *s, unsigned version, unsigned qos, bool is_retain)
{
    bool is_v5 = version == CODEC_MQTT_V5;
    struct codec_mqtt_peer any = {.version = (uint8_t)version};
    struct codec_mqtt_delivery d = {.qos = (uint8_t)qos, .is_retain = is_retain};
    struct codec_mqtt_image *i = &s->image[is_v5][qos][is_retain];
    if (s->msg->has_expiry && is_v5) {
        d.has_expiry = true;
        d.expiry_sec = codec_msg_left_sec(s->msg, s->wall_ms);
    }
    size_t at = s->bytes.n;
    if (codec_mqtt_publish_encode(&s->bytes, &any, s->msg, &d) != 0 || s->bytes.n > UINT32_MAX)
        return; /* longer than any packet may be: there is no such image */
    i->at = (uint32_t)at;
    i->n = (uint32_t)(s->bytes.n - at);
    if (qos > 0) {
        size_t behind = s->msg->payload.n;
        if (is_v5) {
            size_t props = hop_len(&d) + s->msg->props.n;
            behind += codec_mqtt_varint_len((uint32_t)props) + props;
        }
        i->id_at = (uint32_t)(i->n - behind - 2);
    }
}
