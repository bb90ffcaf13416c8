/* A broker that loses, doubles and reorders.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/bench/rogue.h"

#include <stdio.h>
#include <string.h>

#include "codec/mqtt.h"
#include "codec/msg.h"
#include "unit/unit.h"

static void give(struct rogue_client *to, struct str payload)
{
    struct codec_mqtt_peer peer = {.version = to->version};
    struct codec_msg msg = {.topic = STR("t"), .payload = payload, .qos = to->sub_qos};
    struct codec_mqtt_delivery d = {.qos = to->sub_qos,
                                    .packet_id = to->sub_qos > 0 ? ++to->packet_id : 0};
    ck_assert_int_eq(codec_mqtt_publish_encode(net_stream_out(to->s), &peer, &msg, &d), 0);
}

static void deliver(struct rogue_client *from, struct rogue_client *to, struct str payload)
{
    struct buf *held = &from->held[to - from->rogue->client];
    unsigned what = from->rogue->is_honest ? 0 : (unsigned)(from->published % 10);
    if (from->rogue->is_refusing && what != 7)
        what = what == 3 ? 3 : 0;
    if (what == 3)
        return;
    if (what != 7)
        give(to, payload);
    if (what == 5)
        give(to, payload);
    if (held->n > 0)
        give(to, buf_str(held));
    held->n = 0;
    if (what == 1 || what == 7)
        buf_put_str(held, payload);
}

static bool matches(const char *filter, struct str topic)
{
    size_t n = strlen(filter);
    if (strncmp(filter, "$share/bench/", 13) == 0)
        return matches(filter + 13, topic);
    if (n > 0 && filter[n - 1] == '+')
        return topic.n >= n && memcmp(topic.p, filter, n - 1) == 0;
    return str_eq(topic, str_of(filter));
}

static void refuse(struct rogue_client *c, unsigned type, uint16_t packet_id)
{
    struct codec_mqtt_peer peer = {.version = c->version};
    struct codec_mqtt_ack ack = {.packet_id = packet_id,
                                 .reason = CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR};
    ck_assert_int_eq(codec_mqtt_ack_encode(net_stream_out(c->s), &peer, type, &ack), 0);
}

static void on_publish(struct rogue_client *c, struct codec_mqtt_packet *p)
{
    struct rogue *r = c->rogue;
    struct codec_mqtt_publish m;
    ck_assert_int_eq(codec_mqtt_publish_decode(p, c->version, &m), 0);
    if (r->is_mute)
        return;
    unsigned answer = m.qos == 1 ? CODEC_MQTT_PUBACK : CODEC_MQTT_PUBREC;
    unsigned what = (unsigned)(c->published % 10);
    if (m.qos > 0 && r->is_refusing && (what == 3 || what == 7))
        refuse(c, answer, m.packet_id);
    else if (m.qos > 0)
        codec_mqtt_ack_put(net_stream_out(c->s), answer, m.packet_id);
    bool is_shared = false;
    for (unsigned i = 0; i < r->count; i++) {
        struct rogue_client *to = &r->client[i];
        if (to->s == NULL || to->filter[0] == 0 || !matches(to->filter, m.topic) || is_shared)
            continue;
        deliver(c, to, m.payload);
        is_shared = to->filter[0] == '$'; /* the first of a group gets all */
    }
    c->published++;
}

static void on_connect(struct rogue_client *c, struct codec_mqtt_packet *p)
{
    static struct buf scratch;
    struct codec_mqtt_connect m;
    ck_assert_int_eq(codec_mqtt_connect_decode(p, &scratch, &m), 0);
    c->version = m.version;
    snprintf(c->id, sizeof c->id, "%.*s", STR_ARG(m.client_id));
    c->rogue->connects++;
    c->rogue->cleaned += m.is_clean;
    struct codec_mqtt_peer peer = {.version = c->version};
    struct codec_mqtt_connack ack = {0};
    if (c->rogue->receive_max > 0)
        CODEC_MQTT_SET(&ack.props, RECEIVE_MAXIMUM, receive_max, c->rogue->receive_max);
    ck_assert_int_eq(codec_mqtt_connack_encode(net_stream_out(c->s), &peer, &ack), 0);
    buf_deinit(&scratch);
}

static void on_subscribe(struct rogue_client *c, struct codec_mqtt_packet *p)
{
    struct codec_mqtt_subscribe m;
    struct codec_mqtt_sub sub;
    ck_assert_int_eq(codec_mqtt_subscribe_decode(p, c->version, &m), 0);
    ck_assert(codec_mqtt_sub_next(&m.list, CODEC_MQTT_SUBSCRIBE, &sub));
    snprintf(c->filter, sizeof c->filter, "%.*s", STR_ARG(sub.filter));
    c->sub_qos = sub.qos;
    struct codec_mqtt_peer peer = {.version = c->version};
    struct codec_mqtt_suback ack = {.packet_id = m.packet_id,
                                    .codes = str_view((const char *)&c->sub_qos, 1)};
    ck_assert_int_eq(codec_mqtt_suback_encode(net_stream_out(c->s), &peer, CODEC_MQTT_SUBACK, &ack),
                     0);
    for (unsigned i = 0; i < countof(c->rogue->stray); i++)
        if (c->rogue->stray[i].n > 0)
            give(c, c->rogue->stray[i]);
}

static void on_packet(struct rogue_client *c, struct codec_mqtt_packet *p)
{
    struct codec_mqtt_ack ack;
    switch (p->type) {
    case CODEC_MQTT_CONNECT:
        on_connect(c, p);
        break;
    case CODEC_MQTT_SUBSCRIBE:
        on_subscribe(c, p);
        break;
    case CODEC_MQTT_PUBLISH:
        on_publish(c, p);
        break;
    case CODEC_MQTT_PUBREC:
    case CODEC_MQTT_PUBREL:
        ck_assert_int_eq(codec_mqtt_ack_decode(p, c->version, &ack), 0);
        codec_mqtt_ack_put(net_stream_out(c->s), p->type + 1u, ack.packet_id);
        break;
    default:
        break;
    }
}

static size_t on_read(void *arg, struct net_stream *s, const uint8_t *p, size_t n)
{
    size_t used = 0;
    (void)s;
    for (struct codec_mqtt_packet packet; used < n; used += packet.len) {
        int r = codec_mqtt_frame(str_view((const char *)p + used, n - used), CODEC_MQTT_PACKET_MAX,
                                 &packet);
        if (r == CODEC_MQTT_E_MORE)
            break;
        ck_assert_int_eq(r, 0);
        on_packet(arg, &packet);
    }
    return used;
}

static void on_closed(void *arg, struct net_stream *s, enum net_stream_end why)
{
    (void)s;
    (void)why;
    ((struct rogue_client *)arg)->s = NULL;
}

static const struct net_stream_ops ops = {.read = on_read, .closed = on_closed};

static void on_accept(void *arg, struct net_loop *here, struct net_stream *s)
{
    struct rogue *r = arg;
    (void)here;
    ck_assert_uint_lt(r->count, ROGUE_CLIENT_MAX);
    struct rogue_client *c = &r->client[r->count++];
    *c = (struct rogue_client){.rogue = r, .s = s};
    net_stream_set(s, &ops, c);
}

void rogue_init(struct rogue *r, struct net_loop *l)
{
    char error[NET_LISTENER_ERROR_MAX];
    *r = (struct rogue){0};
    struct net_listener_conf conf = {
        .address = "127.0.0.1:0", .loop = &l, .loop_count = 1, .accepted = on_accept, .arg = r};
    ck_assert_int_eq(net_listener_new(l, &conf, error, &r->listener), 0);
}

void rogue_deinit(struct rogue *r, struct net_loop *l)
{
    net_listener_stop(r->listener);
    for (unsigned i = 0; i < r->count; i++) {
        if (r->client[i].s != NULL)
            net_stream_forget(r->client[i].s);
        for (unsigned k = 0; k < ROGUE_CLIENT_MAX; k++)
            buf_deinit(&r->client[i].held[k]);
    }
    for (unsigned i = 0; i < 4; i++)
        net_loop_turn(l, 0);
    r->listener = net_listener_free(r->listener);
    for (unsigned i = 0; i < 4; i++)
        net_loop_turn(l, 0);
}
