/* MQTT packets inwards, all but PUBLISH.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: a decoder reads its body whole or refuses it; nothing behind the last field is ignored; every reason code
 * is one that its packet may carry (MQTT5 2.4). */
#include "codec/mqtt_priv.h"

static int refuse(struct codec_mqtt_packet *p, int reason, const char *why)
{
    p->why = why;
    return reason;
}

static int malformed(struct codec_mqtt_packet *p)
{
    const char *why = p->is_padded ? "MQTT-1.5.5-1: padded length" : "cut short or too long";
    return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, why);
}

static unsigned where_of(const struct codec_mqtt_packet *p)
{
    return 1u << p->type;
}

/* A property length and its block. */
static int props_decode(struct codec_mqtt_packet *p, struct codec_cursor *c, unsigned where,
                        struct codec_mqtt_props *out, size_t *out_travel_len)
{
    uint32_t n = codec_mqtt_varint_get(c);
    struct str block = codec_cursor_bytes(c, n);
    if (c->bad || p->is_padded)
        return malformed(p);
    return codec_mqtt_props_decode(block, where, out, out_travel_len, &p->why);
}

static void no_props(struct codec_mqtt_props *out)
{
    out->has = 0;
    out->user = str_view("", 0);
    out->user_count = 0;
}

static int will_decode(struct codec_mqtt_packet *p, struct codec_cursor *c, struct buf *scratch, unsigned flags,
                       struct codec_mqtt_connect *out)
{
    struct codec_mqtt_will *w = &out->will;
    const uint8_t *at = c->p;
    w->qos = flags >> 3 & 3;
    w->is_retain = (flags & 0x20) != 0;
    w->props = str_view("", 0);
    if (out->version == CODEC_MQTT_V5) {
        struct codec_mqtt_props props;
        size_t travel_len;
        int r = props_decode(p, c, WILL, &props, &travel_len);
        if (r != 0)
            return r;
        w->props = codec_mqtt_props_travel(props.user, travel_len, scratch);
        if (CODEC_MQTT_HAS(&props, WILL_DELAY_INTERVAL))
            w->delay_sec = props.will_delay_sec;
        w->has_expiry = CODEC_MQTT_HAS(&props, MESSAGE_EXPIRY_INTERVAL);
        w->expiry_sec = w->has_expiry ? props.message_expiry_sec : 0;
        w->is_utf8 = CODEC_MQTT_HAS(&props, PAYLOAD_FORMAT_INDICATOR) && props.payload_format == 1;
        if (CODEC_MQTT_HAS(&props, RESPONSE_TOPIC))
            w->response_topic = props.response_topic;
    }
    w->topic = codec_cursor_str16(c);
    w->payload = codec_cursor_str16(c);
    w->len = (size_t)(c->p - at);
    return c->bad ? malformed(p) : 0;
}

/* Protocol name and level.  Versions that do not exist leave their number in out->version. */
static int version_decode(struct codec_mqtt_packet *p, struct codec_cursor *c, struct codec_mqtt_connect *out)
{
    struct str name = codec_cursor_str16(c);
    uint8_t level = codec_cursor_u8(c);
    if (c->bad)
        return malformed(p);
    bool is_old = str_eq(name, STR("MQIsdp")), is_new = str_eq(name, STR("MQTT"));
    if (!is_old && !is_new)
        return refuse(p, CODEC_MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION, "MQTT-3.1.2-1: protocol name");
    out->version = level;
    if (is_old ? level != CODEC_MQTT_V31 : level != CODEC_MQTT_V311 && level != CODEC_MQTT_V5)
        return refuse(p, CODEC_MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION, "MQTT-3.1.2-2: protocol level");
    return 0;
}

static int flags_check(struct codec_mqtt_packet *p, unsigned version, unsigned flags)
{
    if ((flags & 0x01) != 0)
        return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "MQTT-3.1.2-3: reserved connect flag");
    if ((flags & 0x04) == 0 && (flags & 0x38) != 0)
        return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "MQTT-3.1.2-11: will flags without a will");
    if ((flags & 0x18) == 0x18)
        return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "MQTT-3.1.2-12: will QoS 3");
    if (version < CODEC_MQTT_V5 && (flags & 0xC0) == 0x40)
        return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "MQTT-3.1.2-22: password without user name");
    return 0;
}

int codec_mqtt_connect_decode(struct codec_mqtt_packet *p, struct buf *scratch, struct codec_mqtt_connect *out)
{
    struct codec_cursor c = codec_cursor_of(p->body);
    size_t travel_len;
    memset(out, 0, sizeof *out);
    int r = version_decode(p, &c, out);
    if (r != 0)
        return r;
    unsigned flags = codec_cursor_u8(&c);
    out->keep_alive_sec = codec_cursor_u16(&c);
    if (c.bad)
        return malformed(p);
    r = flags_check(p, out->version, flags);
    if (r != 0)
        return r;
    out->is_clean = (flags & 0x02) != 0;
    out->has_will = (flags & 0x04) != 0;
    no_props(&out->props);
    if (out->version == CODEC_MQTT_V5) {
        r = props_decode(p, &c, IN(CONNECT), &out->props, &travel_len);
        if (r != 0)
            return r;
    }
    out->client_id = codec_cursor_str16(&c);
    if (out->has_will) {
        r = will_decode(p, &c, scratch, flags, out);
        if (r != 0)
            return r;
    }
    /* MQTT 3.1: the remaining length wins over the user name and password flags. */
    bool is_lax = out->version == CODEC_MQTT_V31;
    out->has_username = (flags & 0x80) != 0 && !(is_lax && c.p == c.end && !c.bad);
    if (out->has_username)
        out->username = codec_cursor_str16(&c);
    out->has_password = (flags & 0x40) != 0 && !(is_lax && c.p == c.end && !c.bad);
    if (out->has_password)
        out->password = codec_cursor_str16(&c);
    return c.bad || c.p != c.end ? malformed(p) : 0;
}

int codec_mqtt_connack_decode(struct codec_mqtt_packet *p, unsigned version, struct codec_mqtt_connack *out)
{
    struct codec_cursor c = codec_cursor_of(p->body);
    size_t travel_len;
    int r = 0;
    unsigned flags = codec_cursor_u8(&c);
    out->reason = codec_cursor_u8(&c);
    out->is_session_present = (flags & 1) != 0;
    no_props(&out->props);
    if (c.bad || (flags & ~1u) != 0)
        return malformed(p);
    if (version == CODEC_MQTT_V5)
        r = props_decode(p, &c, where_of(p), &out->props, &travel_len);
    if (r != 0)
        return r;
    bool is_known = version == CODEC_MQTT_V5 ? codec_mqtt_reason_fits(out->reason, p->type) : out->reason <= 5;
    if (!is_known)
        return refuse(p, CODEC_MQTT_RC_PROTOCOL_ERROR, "MQTT-3.2.2-8: reason code");
    return c.p != c.end ? malformed(p) : 0;
}

int codec_mqtt_ack_decode(struct codec_mqtt_packet *p, unsigned version, struct codec_mqtt_ack *out)
{
    struct codec_cursor c = codec_cursor_of(p->body);
    size_t travel_len;
    out->reason = 0;
    no_props(&out->props);
    out->packet_id = codec_cursor_u16(&c);
    if (c.bad || (version == CODEC_MQTT_V5 ? p->is_padded : c.p != c.end))
        return malformed(p);
    if (out->packet_id == 0)
        return refuse(p, CODEC_MQTT_RC_PROTOCOL_ERROR, "MQTT-2.2.1-3: packet identifier 0");
    if (c.p == c.end)
        return 0;
    out->reason = codec_cursor_u8(&c);
    if (!codec_mqtt_reason_fits(out->reason, p->type))
        return refuse(p, CODEC_MQTT_RC_PROTOCOL_ERROR, "MQTT-3.4.2-1: reason code");
    if (c.p == c.end)
        return 0;
    int r = props_decode(p, &c, where_of(p), &out->props, &travel_len);
    return r != 0 ? r : c.p != c.end ? malformed(p) : 0;
}

/* Subscription options of one filter; the three versions differ in what is reserved. */
static int options_check(struct codec_mqtt_packet *p, unsigned version, unsigned options)
{
    if ((options & 3) == 3)
        return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "MQTT-3.8.3-4: QoS 3");
    if ((options & (version == CODEC_MQTT_V5 ? 0xC0u : 0xFCu)) != 0)
        return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "MQTT-3.8.3-5: reserved subscription options");
    if ((options >> 4 & 3) == 3)
        return refuse(p, CODEC_MQTT_RC_PROTOCOL_ERROR, "MQTT5 3.8.3.1: Retain Handling 3");
    return 0;
}

int codec_mqtt_subscribe_decode(struct codec_mqtt_packet *p, unsigned version, struct codec_mqtt_subscribe *out)
{
    struct codec_cursor c = codec_cursor_of(p->body);
    size_t travel_len;
    int r = 0;
    out->count = 0;
    no_props(&out->props);
    out->packet_id = codec_cursor_u16(&c);
    if (c.bad)
        return malformed(p);
    if (out->packet_id == 0)
        return refuse(p, CODEC_MQTT_RC_PROTOCOL_ERROR, "MQTT-2.2.1-3: packet identifier 0");
    if (version == CODEC_MQTT_V5)
        r = props_decode(p, &c, where_of(p), &out->props, &travel_len);
    if (r != 0)
        return r;
    out->list = str_view(c.p, codec_cursor_left(&c));
    for (; c.p != c.end; out->count++) {
        (void)codec_cursor_str16(&c);
        if (p->type == CODEC_MQTT_SUBSCRIBE) {
            unsigned options = codec_cursor_u8(&c);
            r = c.bad ? 0 : options_check(p, version, options);
        }
        if (c.bad)
            return malformed(p);
        if (r != 0)
            return r;
    }
    if (out->count == 0)
        return refuse(p, CODEC_MQTT_RC_PROTOCOL_ERROR, "MQTT-3.8.3-2: no topic filter");
    return 0;
}

bool codec_mqtt_sub_next(struct str *rest, unsigned type, struct codec_mqtt_sub *out)
{
    struct codec_cursor c = codec_cursor_of(*rest);
    if (c.p == c.end)
        return false;
    *out = (struct codec_mqtt_sub){.filter = codec_cursor_str16(&c)};
    if (type == CODEC_MQTT_SUBSCRIBE) {
        unsigned options = codec_cursor_u8(&c);
        out->qos = options & 3;
        out->is_no_local = (options & 0x04) != 0;
        out->is_retain_as_published = (options & 0x08) != 0;
        out->retain_handling = options >> 4 & 3;
    }
    *rest = str_view(c.p, codec_cursor_left(&c));
    return !c.bad;
}

int codec_mqtt_suback_decode(struct codec_mqtt_packet *p, unsigned version, struct codec_mqtt_suback *out)
{
    struct codec_cursor c = codec_cursor_of(p->body);
    size_t travel_len;
    int r = 0;
    no_props(&out->props);
    out->packet_id = codec_cursor_u16(&c);
    if (version == CODEC_MQTT_V5)
        r = props_decode(p, &c, where_of(p), &out->props, &travel_len);
    if (r != 0)
        return r;
    out->codes = str_view(c.p, codec_cursor_left(&c));
    if (c.bad || out->packet_id == 0)
        return malformed(p);
    bool has_codes = version == CODEC_MQTT_V5 || p->type == CODEC_MQTT_SUBACK;
    if (has_codes != (out->codes.n > 0))
        return malformed(p);
    for (size_t i = 0; i < out->codes.n; i++) {
        unsigned code = (uint8_t)out->codes.p[i];
        if (version == CODEC_MQTT_V5 ? !codec_mqtt_reason_fits(code, p->type) : code > 2 && code != 0x80)
            return refuse(p, CODEC_MQTT_RC_PROTOCOL_ERROR, "MQTT-3.9.3-2: reason code");
    }
    return 0;
}

int codec_mqtt_reasoned_decode(struct codec_mqtt_packet *p, unsigned version, struct codec_mqtt_reasoned *out)
{
    struct codec_cursor c = codec_cursor_of(p->body);
    size_t travel_len;
    out->reason = 0;
    no_props(&out->props);
    if (version != CODEC_MQTT_V5) {
        if (p->type == CODEC_MQTT_AUTH)
            return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "AUTH before MQTT 5.0");
        return c.p != c.end ? malformed(p) : 0;
    }
    if (p->is_padded)
        return malformed(p);
    if (c.p == c.end)
        return 0;
    out->reason = codec_cursor_u8(&c);
    if (!codec_mqtt_reason_fits(out->reason, p->type))
        return refuse(p, CODEC_MQTT_RC_PROTOCOL_ERROR, "MQTT-3.14.2-1: reason code");
    if (c.p == c.end)
        return 0;
    int r = props_decode(p, &c, where_of(p), &out->props, &travel_len);
    return r != 0 ? r : c.p != c.end ? malformed(p) : 0;
}

int codec_mqtt_ping_decode(struct codec_mqtt_packet *p)
{
    return p->body.n != 0 ? malformed(p) : 0;
}
