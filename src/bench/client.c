/* One MQTT client: connects, subscribes, answers.  SPDX-License-Identifier: Apache-2.0 */
#include "bench/client.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define SUBSCRIBE_MAX 100u /* filters in one SUBSCRIBE; brokers limit it */

static void client_lost(struct bench_client *c, const char *why)
{
    bool was_wanted = c->is_leaving, was_cleaning = c->state == BENCH_CLIENT_ST_CLEANING;
    c->state = BENCH_CLIENT_ST_CLOSED;
    if (was_cleaning)
        bench_client_connect(c);
    else if (was_wanted)
        c->ops->left(c->arg, c);
    else
        c->ops->lost(c->arg, c, why);
}

static void fail(struct bench_client *c, const char *why)
{
    struct net_stream *s = c->stream;
    c->stream = NULL;
    if (s != NULL)
        net_stream_forget(s);
    client_lost(c, why);
}

static struct codec_mqtt_peer peer(const struct bench_client *c)
{
    return (struct codec_mqtt_peer){.version = c->conf->version};
}

static void send_connect(struct bench_client *c)
{
    const struct bench_conf *conf = c->conf;
    char id[128];
    snprintf(id, sizeof id, "%s-%s%u", conf->prefix, c->is_publisher ? "p" : "s", c->index);
    struct codec_mqtt_connect m = {.version = conf->version,
                                   .is_clean = c->is_clean || !c->is_cleaned,
                                   .keep_alive_sec = (uint16_t)conf->keep_alive_sec,
                                   .client_id = str_of(id),
                                   .has_username = conf->username != NULL,
                                   .has_password = conf->password != NULL,
                                   .username = str_of(conf->username),
                                   .password = str_of(conf->password)};
    if (conf->version == CODEC_MQTT_V5 && !c->is_clean)
        CODEC_MQTT_SET(&m.props, SESSION_EXPIRY_INTERVAL, session_expiry_sec, 3600);
    if (codec_mqtt_connect_encode(net_stream_out(c->stream), &m) != 0)
        fail(c, "the CONNECT packet would be too large");
}

void bench_client_subscribe(struct bench_client *c)
{
    struct codec_mqtt_peer to = peer(c);
    struct buf text = {0};
    c->state = BENCH_CLIENT_ST_SUBSCRIBING;
    for (uint32_t from = 0; from < c->filter_count; from += SUBSCRIBE_MAX) {
        uint32_t n =
            c->filter_count - from < SUBSCRIBE_MAX ? c->filter_count - from : SUBSCRIBE_MAX;
        struct codec_mqtt_sub sub[SUBSCRIBE_MAX] = {0};
        size_t at[SUBSCRIBE_MAX + 1];
        text.n = 0;
        for (uint32_t i = 0; i < n; i++) {
            at[i] = text.n;
            c->filter(c, from + i, &text);
        }
        at[n] = text.n;
        for (uint32_t i = 0; i < n; i++)
            sub[i] = (struct codec_mqtt_sub){.filter = str_view(text.p + at[i], at[i + 1] - at[i]),
                                             .qos = c->conf->sub_qos};
        struct codec_mqtt_subscribe m = {.packet_id = (uint16_t)(1 + from / SUBSCRIBE_MAX % 65535),
                                         .count = n};
        if (codec_mqtt_subscribe_encode(net_stream_out(c->stream), &to, CODEC_MQTT_SUBSCRIBE, &m,
                                        sub) == 0)
            c->subacks++;
    }
    buf_deinit(&text);
}

static void become_ready(struct bench_client *c)
{
    c->state = BENCH_CLIENT_ST_READY;
    c->ops->ready(c->arg, c);
    c->was_ready = true;
}

/* The broker took a clean CONNECT of a client that keeps its session: what an earlier run left
 * there is gone.  True when it has to come again for one that stays: before 5.0 Clean Session says
 * both. */
static bool clean_up(struct bench_client *c)
{
    if (c->is_clean || c->is_cleaned)
        return false;
    c->is_cleaned = true;
    if (c->conf->version >= CODEC_MQTT_V5)
        return false;
    c->connects--; /* the same host: no other need know yet that the session is gone */
    bench_client_leave(c);
    c->state = BENCH_CLIENT_ST_CLEANING;
    return true;
}

static const char *on_connack(struct bench_client *c, struct codec_mqtt_packet *p)
{
    struct codec_mqtt_connack m;
    if (c->state != BENCH_CLIENT_ST_CONNECTING ||
        codec_mqtt_connack_decode(p, c->conf->version, &m) != 0)
        return "a CONNACK that makes no sense";
    if (m.reason != 0)
        return "the broker refused the connection";
    if (clean_up(c))
        return NULL;
    c->receive_max = CODEC_MQTT_HAS(&m.props, RECEIVE_MAXIMUM) ? m.props.receive_max : UINT16_MAX;
    c->is_session_kept = m.is_session_present;
    if (!m.is_session_present && c->received != NULL)
        memset(c->received, 0, BENCH_PACKET_IDS / 8);
    if (c->filter_count > 0 && !c->is_subscribed)
        bench_client_subscribe(c);
    else
        become_ready(c);
    return NULL;
}

static const char *on_suback(struct bench_client *c, struct codec_mqtt_packet *p)
{
    struct codec_mqtt_suback m;
    if (c->state != BENCH_CLIENT_ST_SUBSCRIBING ||
        codec_mqtt_suback_decode(p, c->conf->version, &m) != 0)
        return "a SUBACK that makes no sense";
    for (size_t i = 0; i < m.codes.n; i++)
        if ((uint8_t)m.codes.p[i] >= 0x80)
            return "the broker refused a subscription";
    if (--c->subacks == 0) {
        c->is_subscribed = true;
        become_ready(c);
    }
    return NULL;
}

/* True when this QoS 2 message came before and is not released: it must not be taken again
 * [MQTT-4.3.3-10]. */
static bool is_repeated(struct bench_client *c, uint16_t packet_id)
{
    if (c->received == NULL)
        c->received = mem_new(BENCH_PACKET_IDS / 8);
    uint8_t *at = &c->received[packet_id / 8], bit = (uint8_t)(1u << packet_id % 8);
    bool was = (*at & bit) != 0;
    *at |= bit;
    return was;
}

static const char *on_publish(struct bench_client *c, struct codec_mqtt_packet *p)
{
    struct codec_mqtt_publish m;
    if (codec_mqtt_publish_decode(p, c->conf->version, &m) != 0)
        return "a PUBLISH that makes no sense";
    if (m.qos == 1)
        codec_mqtt_ack_put(net_stream_out(c->stream), CODEC_MQTT_PUBACK, m.packet_id);
    else if (m.qos == 2)
        codec_mqtt_ack_put(net_stream_out(c->stream), CODEC_MQTT_PUBREC, m.packet_id);
    if (m.qos < 2 || !is_repeated(c, m.packet_id))
        c->ops->message(c->arg, c, &m);
    return NULL;
}

/* This identifier is free; false: it was before, on another connection. */
static bool answered(struct bench_client *c, uint16_t packet_id, uint64_t *out_seq)
{
    if (c->phase[packet_id] == BENCH_OUT_NONE)
        return false;
    unsigned behind = packet_id + BENCH_PACKET_IDS - 1 - bench_client_packet_id(c->oldest);
    *out_seq = c->oldest + behind % (BENCH_PACKET_IDS - 1);
    c->phase[packet_id] = BENCH_OUT_NONE;
    while (c->oldest < c->seq && c->phase[bench_client_packet_id(c->oldest)] == BENCH_OUT_NONE)
        c->oldest++;
    return true;
}

static void acknowledged(struct bench_client *c, uint16_t packet_id)
{
    uint64_t seq;
    if (c->phase != NULL && !answered(c, packet_id, &seq))
        return;
    c->acked++;
    c->ops->acked(c->arg, c);
}

/* That was its end [MQTT-4.4.0-2]: sent again it would be another message, behind those sent since. */
static void refused(struct bench_client *c, uint16_t packet_id)
{
    uint64_t seq;
    if (!answered(c, packet_id, &seq))
        return;
    c->refused++;
    c->ops->refused(c->arg, c, seq);
}

static const char *on_ack(struct bench_client *c, struct codec_mqtt_packet *p)
{
    struct codec_mqtt_ack m;
    if (codec_mqtt_ack_decode(p, c->conf->version, &m) != 0)
        return "an acknowledgement that makes no sense";
    bool is_refused =
        m.reason >= 0x80 && p->type != CODEC_MQTT_PUBCOMP && p->type != CODEC_MQTT_PUBREL;
    if (is_refused && c->phase == NULL)
        return "the broker refused a message";
    if (is_refused) {
        refused(c, m.packet_id);
        return NULL;
    }
    if (p->type == CODEC_MQTT_PUBREC) {
        if (c->phase != NULL && c->phase[m.packet_id] != BENCH_OUT_NONE)
            c->phase[m.packet_id] = BENCH_OUT_RECEIVED;
        codec_mqtt_ack_put(net_stream_out(c->stream), CODEC_MQTT_PUBREL, m.packet_id);
    } else if (p->type == CODEC_MQTT_PUBREL) {
        if (c->received != NULL)
            c->received[m.packet_id / 8] &= (uint8_t) ~(1u << m.packet_id % 8);
        codec_mqtt_ack_put(net_stream_out(c->stream), CODEC_MQTT_PUBCOMP, m.packet_id);
    } else {
        acknowledged(c, m.packet_id);
    }
    return NULL;
}

static const char *on_packet(struct bench_client *c, struct codec_mqtt_packet *p)
{
    switch (p->type) {
    case CODEC_MQTT_PUBLISH:
        return on_publish(c, p);
    case CODEC_MQTT_PUBACK:
    case CODEC_MQTT_PUBREC:
    case CODEC_MQTT_PUBREL:
    case CODEC_MQTT_PUBCOMP:
        return on_ack(c, p);
    case CODEC_MQTT_CONNACK:
        return on_connack(c, p);
    case CODEC_MQTT_SUBACK:
        return on_suback(c, p);
    case CODEC_MQTT_PINGRESP:
        return NULL;
    case CODEC_MQTT_DISCONNECT:
        return "the broker sent DISCONNECT";
    default:
        return "a packet that only clients send";
    }
}

static size_t on_read(void *arg, struct net_stream *s, const uint8_t *p, size_t n)
{
    struct bench_client *c = arg;
    size_t used = 0;
    (void)s;
    while (used < n) {
        struct codec_mqtt_packet packet;
        int r = codec_mqtt_frame(str_view(p + used, n - used), CODEC_MQTT_PACKET_MAX, &packet);
        if (r == CODEC_MQTT_E_MORE)
            break;
        const char *why = r != 0 ? "bytes that are no packet" : on_packet(c, &packet);
        if (why != NULL) {
            fail(c, why);
            return n;
        }
        if (c->stream == NULL) /* left while it was reading */
            return n;
        used += packet.len;
    }
    return used;
}

static void on_drained(void *arg, struct net_stream *s)
{
    struct bench_client *c = arg;
    (void)s;
    c->ops->writable(c->arg, c);
}

static void on_closed(void *arg, struct net_stream *s, enum net_stream_end why)
{
    struct bench_client *c = arg;
    const char *text = why == NET_STREAM_END_PEER      ? "the broker closed the connection"
                       : why == NET_STREAM_END_TIMEOUT ? "connecting took too long"
                                                       : net_stream_error_text(s);
    c->stream = NULL;
    client_lost(c, text);
}

static const struct net_stream_ops stream_ops = {
    .read = on_read, .drained = on_drained, .closed = on_closed};

void bench_client_connect(struct bench_client *c)
{
    const struct bench_conf *conf = c->conf;
    const struct bench_host *host = &conf->host[(c->index + c->connects++) % conf->host_count];
    struct net_stream_conf sc = {.ops = &stream_ops,
                                 .arg = c,
                                 .tls = c->tls,
                                 .tls_name = !conf->is_tls            ? NULL
                                             : conf->tls_name != NULL ? conf->tls_name
                                                                      : host->name,
                                 .ws_path = conf->ws_path,
                                 .ws_protocol = conf->ws_path != NULL ? "mqtt" : NULL};
    c->state = BENCH_CLIENT_ST_CONNECTING;
    c->is_leaving = false;
    if (net_stream_connect(c->loop, &host->address, &sc, &c->stream) != 0) {
        c->stream = NULL;
        client_lost(c, "no socket could be opened");
        return;
    }
    send_connect(c);
}

uint16_t bench_client_packet_id(uint64_t seq)
{
    return (uint16_t)(seq % 65535 + 1);
}

void bench_client_publish(struct bench_client *c, const struct bench_message *m)
{
    struct codec_mqtt_peer to = peer(c);
    struct codec_msg msg = {
        .topic = m->topic, .payload = m->payload, .qos = m->qos, .is_retain = m->is_retain};
    struct codec_mqtt_delivery d = {.qos = m->qos,
                                    .is_dup = m->is_dup,
                                    .is_retain = m->is_retain,
                                    .packet_id = m->qos > 0 ? bench_client_packet_id(m->seq) : 0};
    if (codec_mqtt_publish_encode(net_stream_out(c->stream), &to, &msg, &d) == 0 &&
        c->phase != NULL)
        c->phase[d.packet_id] = BENCH_OUT_SENT;
}

void bench_client_release(struct bench_client *c, uint64_t seq)
{
    codec_mqtt_ack_put(net_stream_out(c->stream), CODEC_MQTT_PUBREL, bench_client_packet_id(seq));
}

void bench_client_ping(struct bench_client *c)
{
    if (c->stream == NULL || c->state != BENCH_CLIENT_ST_READY || c->is_leaving)
        return;
    buf_put_u8(net_stream_out(c->stream), CODEC_MQTT_PINGREQ << 4);
    buf_put_u8(net_stream_out(c->stream), 0);
}

void bench_client_deinit(struct bench_client *c)
{
    if (c->stream != NULL)
        net_stream_forget(c->stream);
    c->stream = NULL;
    c->received = mem_free(c->received);
    c->phase = mem_free(c->phase);
}

void bench_client_leave(struct bench_client *c)
{
    if (c->stream == NULL)
        return;
    struct codec_mqtt_peer to = peer(c);
    struct codec_mqtt_reasoned m = {0};
    c->is_leaving = true;
    if (codec_mqtt_reasoned_encode(net_stream_out(c->stream), &to, CODEC_MQTT_DISCONNECT, &m) == 0)
        net_stream_close(c->stream);
}

bool bench_client_is_writable(const struct bench_client *c)
{
    return c->stream != NULL && c->state == BENCH_CLIENT_ST_READY && !net_stream_is_high(c->stream);
}
