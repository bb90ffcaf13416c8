/* MQTT packets as lines of text.  SPDX-License-Identifier: Apache-2.0 */
#include "golden/lib/packet_text.h"

void packet_text_str(struct buf *t, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if (c > 0x20 && c < 0x7F && c != '\\')
            buf_put_u8(t, c);
        else
            buf_printf(t, "\\%02X", c);
    }
}

static void field_BYTE(struct buf *t, uint8_t v)
{
    buf_printf(t, "%u", v);
}
#define field_U16 field_U32
#define field_VARINT field_U32
static void field_U32(struct buf *t, uint32_t v)
{
    buf_printf(t, "%u", v);
}
#define field_BIN field_STR
static void field_STR(struct buf *t, struct str s)
{
    packet_text_str(t, s);
}

static void props_text(struct buf *t, const struct codec_mqtt_props *p)
{
    struct str rest = p->user, name, value;
#define X(NAME, field, id, KIND, packets)                                                          \
    if (CODEC_MQTT_HAS(p, NAME)) {                                                                 \
        buf_printf(t, " " #field "=");                                                             \
        field_##KIND(t, p->field);                                                                 \
    }
#include "codec/prop.def"
#undef X
    while (codec_mqtt_user_next(&rest, &name, &value)) {
        buf_printf(t, " user=");
        packet_text_str(t, name);
        buf_put_u8(t, ':');
        packet_text_str(t, value);
    }
}

static int publish_text(struct buf *t, struct codec_mqtt_packet *p, unsigned version)
{
    struct codec_mqtt_publish pub;
    int r = codec_mqtt_publish_decode(p, version, &pub);
    if (r != 0)
        return r;
    buf_printf(t, " qos=%u", pub.qos);
    if (pub.qos > 0)
        buf_printf(t, " id=%u", pub.packet_id);
    buf_printf(t, "%s%s topic=", pub.is_dup ? " dup" : "", pub.is_retain ? " retain" : "");
    packet_text_str(t, pub.topic);
    buf_printf(t, " payload=");
    packet_text_str(t, pub.payload);
    if (pub.has_alias)
        buf_printf(t, " alias=%u", pub.topic_alias);
    if (pub.has_expiry)
        buf_printf(t, " expiry=%u", pub.expiry_sec);
    if (pub.sub_id != 0)
        buf_printf(t, " sub_id=%u", pub.sub_id);
    struct str rest = pub.block, name, value;
    while (codec_mqtt_user_next(&rest, &name, &value))
        buf_printf(t, " user=%.*s:%.*s", STR_ARG(name), STR_ARG(value));
    return 0;
}

static int suback_text(struct buf *t, struct codec_mqtt_packet *p, unsigned version)
{
    struct codec_mqtt_suback s;
    int r = codec_mqtt_suback_decode(p, version, &s);
    if (r != 0)
        return r;
    buf_printf(t, " id=%u codes=", s.packet_id);
    for (size_t i = 0; i < s.codes.n; i++)
        buf_printf(t, "%s%02X", i > 0 ? "," : "", (uint8_t)s.codes.p[i]);
    props_text(t, &s.props);
    return 0;
}

static int ack_text(struct buf *t, struct codec_mqtt_packet *p, unsigned version)
{
    struct codec_mqtt_ack a;
    int r = codec_mqtt_ack_decode(p, version, &a);
    if (r != 0)
        return r;
    buf_printf(t, " id=%u", a.packet_id);
    if (a.reason != 0)
        buf_printf(t, " reason=%02X", a.reason);
    props_text(t, &a.props);
    return 0;
}

static int one(struct buf *t, struct codec_mqtt_packet *p, unsigned version)
{
    struct codec_mqtt_connack c;
    struct codec_mqtt_reasoned d;
    int r;
    switch (p->type) {
    case CODEC_MQTT_CONNACK:
        r = codec_mqtt_connack_decode(p, version, &c);
        if (r == 0) {
            buf_printf(t, " present=%u reason=%02X", c.is_session_present, c.reason);
            props_text(t, &c.props);
        }
        return r;
    case CODEC_MQTT_PUBLISH:
        return publish_text(t, p, version);
    case CODEC_MQTT_PUBACK:
    case CODEC_MQTT_PUBREC:
    case CODEC_MQTT_PUBREL:
    case CODEC_MQTT_PUBCOMP:
        return ack_text(t, p, version);
    case CODEC_MQTT_SUBACK:
    case CODEC_MQTT_UNSUBACK:
        return suback_text(t, p, version);
    case CODEC_MQTT_PINGRESP:
        return codec_mqtt_ping_decode(p);
    case CODEC_MQTT_DISCONNECT:
    case CODEC_MQTT_AUTH:
        r = codec_mqtt_reasoned_decode(p, version, &d);
        if (r == 0) {
            buf_printf(t, " reason=%02X", d.reason);
            props_text(t, &d.props);
        }
        return r;
    default:
        return 1;
    }
}

void packet_text(struct buf *t, struct str bytes, unsigned version)
{
    while (bytes.n > 0) {
        struct codec_mqtt_packet p;
        int r = codec_mqtt_frame(bytes, CODEC_MQTT_PACKET_MAX, &p);
        buf_printf(t, "< %s", r == 0 ? codec_mqtt_type_name(p.type) : "??");
        if (r == 0 && one(t, &p, version) != 0)
            buf_printf(t, " ?? %s", p.why);
        buf_put_u8(t, '\n');
        if (r != 0)
            return;
        bytes = str_view(bytes.p + p.len, bytes.n - p.len);
    }
}
