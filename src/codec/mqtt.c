/* MQTT packets: frames, names of numbers, PUBLISH inwards.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 * 1. A frame is judged by its first bytes: type, flags and length are refused before the body is there.
 * 2. PUBLISH without properties is decoded without a loop or a call: it is the road of every message. */
#include "codec/mqtt_priv.h"

const char *codec_mqtt_type_name(unsigned type)
{
    static const char *const name[16] = {
#define X(NAME, number, flags) [number] = #NAME,
#include "codec/packet.def"
#undef X
    };
    return type < 16 && name[type] != NULL ? name[type] : "?";
}

const char *codec_mqtt_reason_text(unsigned reason)
{
    switch (reason) {
#define X(NAME, code, text, packets) \
    case code: \
        return text;
#include "codec/reason.def"
#undef X
    default:
        return "?";
    }
}

bool codec_mqtt_reason_fits(unsigned reason, unsigned type)
{
    static const uint16_t fits[256] = {
#define X(NAME, code, text, packets) [code] = (packets),
#include "codec/reason.def"
#undef X
    };
    return reason < 256 && type < 16 && (fits[reason] & 1u << type) != 0;
}

/* Flags that a first byte must have, 0xFF for PUBLISH, 0xFE for a type that does not exist. */
static uint8_t flags_of(unsigned type)
{
    static const uint8_t flags[16] = {
        [0] = 0xFE,
#define X(NAME, number, flags_) [number] = flags_,
#include "codec/packet.def"
#undef X
    };
    return flags[type];
}

int codec_mqtt_frame(struct str in, size_t len_max, struct codec_mqtt_packet *out)
{
    const uint8_t *p = (const uint8_t *)in.p;
    out->len = 0;
    out->why = "";
    if (in.n == 0)
        return CODEC_MQTT_E_MORE;
    out->type = p[0] >> 4;
    out->flags = p[0] & 0x0F;
    uint8_t want = flags_of(out->type);
    if (want != 0xFF && want != out->flags) {
        out->why = out->type == 0 ? "packet type 0" : "MQTT-2.1.3-1: reserved flags";
        return CODEC_MQTT_E_MALFORMED;
    }
    size_t body = 0, at = 1;
    for (unsigned shift = 0;; shift += 7) {
        if (at == 5) {
            out->why = "MQTT5 1.5.5: length longer than 4 bytes";
            return CODEC_MQTT_E_MALFORMED;
        }
        if (at == in.n)
            return CODEC_MQTT_E_MORE;
        uint8_t b = p[at++];
        body |= (size_t)(b & 0x7F) << shift;
        if (b < 0x80) {
            out->is_padded = b == 0 && at > 2;
            break;
        }
    }
    out->len = at + body;
    if (out->len > len_max) {
        out->why = "longer than the Maximum Packet Size";
        return CODEC_MQTT_E_TOO_LARGE;
    }
    if (out->len > in.n)
        return CODEC_MQTT_E_MORE;
    out->body = str_view(p + at, body);
    return 0;
}

bool codec_mqtt_has_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i], d = i + 1 < s.n ? (uint8_t)s.p[i + 1] : 0;
        if (c < 0x20 || c == 0x7F || (c == 0xC2 && d < 0xA0))
            return true;
        if (c == 0xEF && i + 2 < s.n) { /* U+FDD0..U+FDEF, U+FFFE, U+FFFF */
            uint8_t e = (uint8_t)s.p[i + 2];
            if ((d == 0xB7 && e >= 0x90 && e <= 0xAF) || (d == 0xBF && e >= 0xBE))
                return true;
        }
        if (c >= 0xF0 && i + 3 < s.n && (d & 0x0F) == 0x0F && (uint8_t)s.p[i + 2] == 0xBF &&
            (uint8_t)s.p[i + 3] >= 0xBE)
            return true; /* U+nFFFE, U+nFFFF */
    }
    return false;
}

static int refuse(struct codec_mqtt_packet *p, int reason, const char *why)
{
    p->why = why;
    return reason;
}

/* The properties of a PUBLISH; c stands behind the packet identifier. */
static int publish_props(struct codec_mqtt_packet *p, struct codec_cursor *c, struct codec_mqtt_publish *out)
{
    uint32_t n = codec_mqtt_varint_get(c);
    out->block = codec_cursor_bytes(c, n);
    if (c->bad)
        return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "property length");
    if (n == 0)
        return 0;
    struct codec_mqtt_props props;
    int r = codec_mqtt_props_decode(out->block, IN(PUBLISH), &props, &out->travel_len, &p->why);
    if (r != 0)
        return r;
    out->has_props = true;
    if (CODEC_MQTT_HAS(&props, TOPIC_ALIAS)) {
        out->has_alias = true;
        out->topic_alias = props.topic_alias;
    }
    if (CODEC_MQTT_HAS(&props, MESSAGE_EXPIRY_INTERVAL)) {
        out->has_expiry = true;
        out->expiry_sec = props.message_expiry_sec;
    }
    out->is_utf8 = CODEC_MQTT_HAS(&props, PAYLOAD_FORMAT_INDICATOR) && props.payload_format == 1;
    if (CODEC_MQTT_HAS(&props, RESPONSE_TOPIC))
        out->response_topic = props.response_topic;
    if (CODEC_MQTT_HAS(&props, SUBSCRIPTION_IDENTIFIER))
        out->sub_id = props.subscription_id;
    return 0;
}

int codec_mqtt_publish_decode(struct codec_mqtt_packet *p, unsigned version, struct codec_mqtt_publish *out)
{
    const uint8_t *at = (const uint8_t *)p->body.p, *end = at + p->body.n;
    *out = (struct codec_mqtt_publish){
        .qos = p->flags >> 1 & 3, .is_dup = (p->flags & 8) != 0, .is_retain = (p->flags & 1) != 0};
    if (unlikely(out->qos == 3))
        return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "MQTT-3.3.1-4: QoS 3");
    if (unlikely(out->is_dup && out->qos == 0))
        return refuse(p, CODEC_MQTT_RC_PROTOCOL_ERROR, "MQTT-3.3.1-2: DUP with QoS 0");
    if (unlikely(end - at < 2))
        return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "topic length");
    size_t n = (size_t)at[0] << 8 | at[1], head = n + (out->qos > 0 ? 4 : 2);
    if (unlikely((size_t)(end - at) < head))
        return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "shorter than its topic");
    out->topic = str_view(at + 2, n);
    if (out->qos > 0) {
        out->packet_id = (uint16_t)(at[head - 2] << 8 | at[head - 1]);
        if (unlikely(out->packet_id == 0))
            return refuse(p, CODEC_MQTT_RC_PROTOCOL_ERROR, "MQTT-2.2.1-3: packet identifier 0");
    }
    at += head;
    if (version == CODEC_MQTT_V5) {
        if (unlikely(p->is_padded || at == end))
            return refuse(p, CODEC_MQTT_RC_MALFORMED_PACKET, "property length");
        if (likely(*at == 0)) {
            at++;
        } else {
            struct codec_cursor c = {at, end, false};
            int r = publish_props(p, &c, out);
            if (r != 0)
                return r;
            at = c.p;
        }
    }
    out->payload = str_view(at, (size_t)(end - at));
    return 0;
}

struct str codec_mqtt_publish_props(const struct codec_mqtt_publish *p, struct buf *scratch)
{
    return codec_mqtt_props_travel(p->block, p->travel_len, scratch);
}
