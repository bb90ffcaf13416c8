/* Decodes one MQTT packet and encodes what it says again.  SPDX-License-Identifier: Apache-2.0
 *
 * For fuzzers and tests: what comes out is the packet in our own spelling, so a second time changes nothing. */
#pragma once

#include "base/mem.h"
#include "codec/mqtt.h"

struct echo {
    struct buf out, user, scratch;
};

static inline void echo_deinit(struct echo *e)
{
    buf_deinit(&e->out);
    buf_deinit(&e->user);
    buf_deinit(&e->scratch);
}

/* Leaves only the User Properties in .user, as encoders want them. */
static inline void echo_props(struct echo *e, struct codec_mqtt_props *p)
{
    struct str rest = p->user, name, value;
    uint32_t count = 0;
    e->user.n = 0;
    while (codec_mqtt_user_next(&rest, &name, &value)) {
        codec_mqtt_user_put(&e->user, name, value);
        count++;
    }
    must(count == p->user_count);
    p->user = buf_str(&e->user);
}

static inline int echo_publish(struct echo *e, struct codec_mqtt_packet *p, unsigned version)
{
    struct codec_mqtt_peer peer = {.version = (uint8_t)version};
    struct codec_mqtt_publish pub;
    int r = codec_mqtt_publish_decode(p, version, &pub);
    if (r != 0)
        return r;
    struct codec_msg m = {.topic = pub.topic, .payload = pub.payload, .qos = pub.qos};
    m.props = codec_mqtt_publish_props(&pub, &e->scratch);
    struct codec_mqtt_delivery d = {.qos = pub.qos, .is_dup = pub.is_dup, .is_retain = pub.is_retain,
                                    .packet_id = pub.packet_id, .topic_alias = pub.topic_alias,
                                    .has_expiry = pub.has_expiry, .expiry_sec = pub.expiry_sec};
    if (pub.sub_id != 0) {
        d.sub_id = &pub.sub_id;
        d.sub_id_count = 1;
    }
    return codec_mqtt_publish_encode(&e->out, &peer, &m, &d);
}

static inline int echo_subscribe(struct echo *e, struct codec_mqtt_packet *p, unsigned version)
{
    struct codec_mqtt_peer peer = {.version = (uint8_t)version};
    struct codec_mqtt_subscribe s;
    int r = codec_mqtt_subscribe_decode(p, version, &s);
    if (r != 0)
        return r;
    struct codec_mqtt_sub *sub = mem_alloc(s.count * sizeof *sub);
    uint32_t n = 0;
    for (struct str rest = s.list; n < s.count && codec_mqtt_sub_next(&rest, p->type, &sub[n]);)
        n++;
    must(n == s.count);
    echo_props(e, &s.props);
    r = codec_mqtt_subscribe_encode(&e->out, &peer, p->type, &s, sub);
    mem_free(sub);
    return r;
}

static inline int echo_ack(struct echo *e, struct codec_mqtt_packet *p, unsigned version)
{
    struct codec_mqtt_peer peer = {.version = (uint8_t)version};
    if (p->type == CODEC_MQTT_SUBACK || p->type == CODEC_MQTT_UNSUBACK) {
        struct codec_mqtt_suback s;
        int r = codec_mqtt_suback_decode(p, version, &s);
        if (r != 0)
            return r;
        echo_props(e, &s.props);
        return codec_mqtt_suback_encode(&e->out, &peer, p->type, &s);
    }
    struct codec_mqtt_ack a;
    int r = codec_mqtt_ack_decode(p, version, &a);
    if (r != 0)
        return r;
    echo_props(e, &a.props);
    return codec_mqtt_ack_encode(&e->out, &peer, p->type, &a);
}

static inline int echo_connect(struct echo *e, struct codec_mqtt_packet *p)
{
    struct codec_mqtt_connect c;
    int r = codec_mqtt_connect_decode(p, &e->scratch, &c);
    if (r != 0)
        return r;
    echo_props(e, &c.props);
    return codec_mqtt_connect_encode(&e->out, &c);
}

/* 0 and the packet in e->out, or what the decoder said. */
static inline int echo(struct echo *e, struct codec_mqtt_packet *p, unsigned version)
{
    struct codec_mqtt_peer peer = {.version = (uint8_t)version};
    struct codec_mqtt_connack c;
    struct codec_mqtt_reasoned d;
    int r;
    e->out.n = e->scratch.n = 0;
    switch ((enum codec_mqtt_type)p->type) {
    case CODEC_MQTT_CONNECT:
        return echo_connect(e, p);
    case CODEC_MQTT_CONNACK:
        r = codec_mqtt_connack_decode(p, version, &c);
        if (r != 0)
            return r;
        echo_props(e, &c.props);
        return codec_mqtt_connack_encode(&e->out, &peer, &c);
    case CODEC_MQTT_PUBLISH:
        return echo_publish(e, p, version);
    case CODEC_MQTT_PUBACK:
    case CODEC_MQTT_PUBREC:
    case CODEC_MQTT_PUBREL:
    case CODEC_MQTT_PUBCOMP:
    case CODEC_MQTT_SUBACK:
    case CODEC_MQTT_UNSUBACK:
        return echo_ack(e, p, version);
    case CODEC_MQTT_SUBSCRIBE:
    case CODEC_MQTT_UNSUBSCRIBE:
        return echo_subscribe(e, p, version);
    case CODEC_MQTT_PINGREQ:
    case CODEC_MQTT_PINGRESP:
        r = codec_mqtt_ping_decode(p);
        if (r == 0)
            codec_mqtt_ping_encode(&e->out, p->type);
        return r;
    case CODEC_MQTT_DISCONNECT:
    case CODEC_MQTT_AUTH:
        r = codec_mqtt_reasoned_decode(p, version, &d);
        if (r != 0)
            return r;
        echo_props(e, &d.props);
        return codec_mqtt_reasoned_encode(&e->out, &peer, p->type, &d);
    }
    return CODEC_MQTT_RC_MALFORMED_PACKET;
}
