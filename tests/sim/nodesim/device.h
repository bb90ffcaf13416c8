/* One MQTT 5 client with a memory of its own, over connections that come and go.
 * SPDX-License-Identifier: Apache-2.0
 *
 * What outlives a connection is here: messages that are not acknowledged (sent again with DUP, or
 * PUBREL), ids of QoS 2 that came and are not released, what was subscribed to.  A new connection
 * may be opened while an older one is still there: from its CONNACK on nothing of the older one
 * counts any more, and when it fails the older one goes with it. */
#pragma once

#include "codec/mqtt.h"
#include "sim/kvsim/stream.h"

#define DEVICE_KEEP_ALIVE_SEC 4
#define DEVICE_PING_USEC USEC_SEC
#define DEVICE_DEAF_USEC (4 * USEC_SEC) /* without an answer to PINGREQ it gives up */

struct device;

struct device_will {
    char topic[24];
    uint32_t id; /* its payload; 0: none */
    uint32_t delay_sec;
};

struct device_sub {
    const char *filter;
    uint8_t qos;
};

/* One message of ours on its way. */
struct device_out {
    struct list link; /* device.outbox, in order */
    uint32_t id;
    uint16_t packet_id;
    char topic[24];
    bool is_retain, is_empty, is_received, was_sent;
    uint32_t expiry_sec; /* 0: none */
    uint8_t qos;
};

struct device_ops {
    void (*ready)(struct device *d, bool is_present); /* CONNACK, and SUBACK if it was owed */
    void (*message)(struct device *d, const struct codec_mqtt_publish *p, uint32_t id);
    void (*sent)(struct device *d, const struct device_out *o); /* (again) */
    void (*acked)(struct device *d, const struct device_out *o);
    /* The server did not take it.  False: it comes again, with DUP, on another connection; that is no more what its
     * order is judged by. */
    bool (*refused)(struct device *d, const struct device_out *o);
    void (*lost)(struct device *d); /* the connection of now is gone, or was refused */
};

struct line {
    struct list link; /* device.lines */
    struct device *device;
    struct net_stream *stream;
    unsigned node;
    usec_t opened, pinged;                  /* pinged: PINGREQ that has no answer yet; 0: none */
    bool is_confirmed, is_present, is_mute; /* is_mute: says nothing more, keeps its socket */
};

struct device {
    struct world *world;
    struct net_loop *loop;
    void *arg;
    const struct device_ops *ops;
    char id[24];
    unsigned role, index;
    bool is_clean, is_subscribed;
    uint32_t expiry_sec;
    struct device_will will;
    struct device_sub sub;
    struct line *line;  /* the newest; NULL: none */
    struct list lines;  /* all whose socket is open */
    struct list outbox; /* struct device_out */
    unsigned out_count;
    uint16_t packet_id_last;
    bool received[65536];
    usec_t alive_at; /* the server proved that it knew of the connection then, or later */
};

static void device_init(struct device *d, struct net_loop *loop, const struct device_ops *ops)
{
    d->world = sim_world;
    d->loop = loop;
    d->ops = ops;
    list_init(&d->lines);
    list_init(&d->outbox);
}

static struct buf *line_out(struct line *l)
{
    return net_stream_out(l->stream);
}

static const struct codec_mqtt_peer device_peer = {.version = CODEC_MQTT_V5};

/* ---- what it says ---------------------------------------------------------------------------- */

static void line_connect(struct line *l)
{
    struct device *d = l->device;
    struct buf payload = {0};
    struct codec_mqtt_connect m = {.version = CODEC_MQTT_V5,
                                   .is_clean = d->is_clean,
                                   .keep_alive_sec = DEVICE_KEEP_ALIVE_SEC,
                                   .client_id = str_of(d->id)};
    CODEC_MQTT_SET(&m.props, SESSION_EXPIRY_INTERVAL, session_expiry_sec, d->expiry_sec);
    if (d->will.id) {
        buf_put_u32(&payload, d->will.id);
        m.has_will = true;
        m.will = (struct codec_mqtt_will){.topic = str_of(d->will.topic),
                                          .payload = buf_str(&payload),
                                          .qos = 2,
                                          .delay_sec = d->will.delay_sec};
    }
    int e = codec_mqtt_connect_encode(line_out(l), &m);
    must(e == 0);
    buf_deinit(&payload);
}

static void line_subscribe(struct line *l)
{
    struct device *d = l->device;
    struct codec_mqtt_sub sub = {.filter = str_of(d->sub.filter), .qos = d->sub.qos};
    struct codec_mqtt_subscribe m = {.packet_id = 1, .count = 1};
    int e = codec_mqtt_subscribe_encode(line_out(l), &device_peer, CODEC_MQTT_SUBSCRIBE, &m, &sub);
    must(e == 0);
}

static void device_send(struct device *d, struct device_out *o)
{
    struct line *l = d->line;
    struct buf payload = {0};
    if (!l || !l->is_confirmed || l->is_mute || (d->sub.filter && !d->is_subscribed))
        return;
    if (o->is_received) {
        codec_mqtt_ack_put(line_out(l), CODEC_MQTT_PUBREL, o->packet_id);
        return;
    }
    if (!o->is_empty)
        buf_put_u32(&payload, o->id);
    struct codec_msg msg = {.topic = str_of(o->topic),
                            .payload = buf_str(&payload),
                            .qos = o->qos,
                            .is_retain = o->is_retain};
    struct codec_mqtt_delivery how = {.qos = o->qos,
                                      .is_dup = o->was_sent,
                                      .is_retain = o->is_retain,
                                      .packet_id = o->packet_id,
                                      .has_expiry = o->expiry_sec > 0,
                                      .expiry_sec = o->expiry_sec};
    int e = codec_mqtt_publish_encode(line_out(l), &device_peer, &msg, &how);
    must(e == 0);
    o->was_sent = true;
    if (d->ops->sent)
        d->ops->sent(d, o);
    buf_deinit(&payload);
}

/* Kept until it is acknowledged; what is filled of o but its packet id is taken. */
static void device_publish(struct device *d, const struct device_out *o)
{
    struct device_out *n = mem_dup(o, sizeof *o);
    list_init(&n->link);
    d->packet_id_last = (uint16_t)(d->packet_id_last % 65535 + 1);
    n->packet_id = d->packet_id_last;
    list_push_back(&d->outbox, &n->link);
    d->out_count++;
    device_send(d, n);
}

/* ---- its connections ------------------------------------------------------------------------- */

static void line_break(struct line *l);

static void line_free(struct line *l)
{
    struct device *d = l->device;
    bool was = d->line == l;
    list_del(&l->link);
    mem_free(l);
    if (!was)
        return;
    d->line = NULL;
    while (!list_empty(&d->lines)) /* older ones count no more */
        line_break(container_of(d->lines.next, struct line, link));
    if (d->ops->lost)
        d->ops->lost(d);
}

static void line_break(struct line *l)
{
    struct net_stream *s = l->stream;
    l->stream = NULL;
    net_stream_out(s)->n = 0;
    net_stream_forget(s);
    line_free(l);
}

static void line_ready(struct line *l)
{
    struct device *d = l->device;
    d->ops->ready(d, l->is_present);
    for (struct list *x = d->outbox.next, *next; x != &d->outbox && d->line == l; x = next) {
        next = x->next;
        device_send(d, container_of(x, struct device_out, link));
    }
}

static bool line_connacked(struct line *l, struct codec_mqtt_packet *p)
{
    struct device *d = l->device;
    struct codec_mqtt_connack m;
    if (codec_mqtt_connack_decode(p, CODEC_MQTT_V5, &m) != 0)
        return false;
    if (d->world->is_verbose)
        printf("%10.3f %s at node %u: CONNACK %02x present %d, clean %d expiry %u will %u\n",
               (double)d->world->now / 1e6, d->id, l->node, m.reason, m.is_session_present,
               d->is_clean, d->expiry_sec, d->will.id);
    if (m.reason != 0 || d->line != l)
        return m.reason == 0;
    l->is_confirmed = true;
    list_each(&d->lines, x) /* older ones count no more, also when a third one comes */
    {
        struct line *older = container_of(x, struct line, link);
        older->is_mute = older->is_mute || older != l;
    }
    l->is_present = m.is_session_present;
    d->alive_at = l->opened;
    if (!m.is_session_present) {
        memset(d->received, 0, sizeof d->received);
        d->is_subscribed = false;
    }
    if (d->sub.filter && !d->is_subscribed)
        line_subscribe(l);
    else
        line_ready(l);
    return true;
}

static bool line_subacked(struct line *l, struct codec_mqtt_packet *p)
{
    struct codec_mqtt_suback m;
    if (codec_mqtt_suback_decode(p, CODEC_MQTT_V5, &m) != 0 || (uint8_t)m.codes.p[0] >= 0x80)
        return false;
    l->device->is_subscribed = true;
    line_ready(l);
    return true;
}

static bool line_published(struct line *l, struct codec_mqtt_packet *p)
{
    struct device *d = l->device;
    struct codec_mqtt_publish m;
    uint32_t id = 0;
    if (codec_mqtt_publish_decode(p, CODEC_MQTT_V5, &m) != 0)
        return false;
    if (d->world->is_verbose)
        printf("%10.3f %s at node %u: %.*s id %u dup %d from a connection of %.3f\n",
               (double)d->world->now / 1e6, d->id, l->node, STR_ARG(m.topic), m.packet_id, m.is_dup,
               (double)l->opened / 1e6);
    bool is_repeated = m.qos == 2 && d->received[m.packet_id];
    if (m.qos == 2)
        d->received[m.packet_id] = true;
    if (m.qos > 0)
        codec_mqtt_ack_put(line_out(l), m.qos == 1 ? CODEC_MQTT_PUBACK : CODEC_MQTT_PUBREC,
                           m.packet_id);
    if (m.payload.n == 4) {
        struct codec_cursor c = codec_cursor_of(m.payload);
        id = codec_cursor_u32(&c);
    }
    if (!is_repeated && d->ops->message)
        d->ops->message(d, &m, id);
    return true;
}

static struct device_out *device_out_find(struct device *d, uint16_t packet_id)
{
    list_each(&d->outbox, x)
    {
        struct device_out *o = container_of(x, struct device_out, link);
        if (o->packet_id == packet_id)
            return o;
    }
    return NULL;
}

static bool line_acked(struct line *l, struct codec_mqtt_packet *p)
{
    struct device *d = l->device;
    struct codec_mqtt_ack m;
    if (codec_mqtt_ack_decode(p, CODEC_MQTT_V5, &m) != 0)
        return false;
    struct device_out *o = device_out_find(d, m.packet_id);
    if (p->type == CODEC_MQTT_PUBREL) {
        d->received[m.packet_id] = false;
        codec_mqtt_ack_put(line_out(l), CODEC_MQTT_PUBCOMP, m.packet_id);
        return true;
    }
    bool is_refused = m.reason >= 0x80 && p->type != CODEC_MQTT_PUBCOMP;
    if (is_refused && o && !d->ops->refused(d, o))
        return false;
    if (p->type == CODEC_MQTT_PUBREC && !is_refused) {
        if (o)
            o->is_received = true;
        codec_mqtt_ack_put(line_out(l), CODEC_MQTT_PUBREL, m.packet_id);
        return true;
    }
    if (o) {
        list_del(&o->link);
        d->out_count--;
        if (!is_refused && d->ops->acked)
            d->ops->acked(d, o);
        mem_free(o);
    }
    return true;
}

static bool line_packet(struct line *l, struct codec_mqtt_packet *p)
{
    if (p->type != CODEC_MQTT_CONNACK && !l->is_confirmed)
        return false;
    switch (p->type) {
    case CODEC_MQTT_CONNACK:
        return line_connacked(l, p);
    case CODEC_MQTT_SUBACK:
        return line_subacked(l, p);
    case CODEC_MQTT_PUBLISH:
        return line_published(l, p);
    case CODEC_MQTT_PUBACK:
    case CODEC_MQTT_PUBREC:
    case CODEC_MQTT_PUBREL:
    case CODEC_MQTT_PUBCOMP:
        return line_acked(l, p);
    case CODEC_MQTT_PINGRESP:
        l->device->alive_at = l->pinged ? l->pinged : l->device->alive_at;
        l->pinged = 0;
        return true;
    default:
        return false; /* DISCONNECT too: the broker closes */
    }
}

/* While a newer connection waits for its CONNACK the old one is still the one that counts. */
static bool line_counts(const struct line *l)
{
    const struct device *d = l->device;
    return !l->is_mute && (d->line == l || (l->is_confirmed && d->line && !d->line->is_confirmed));
}

static size_t line_read(void *arg, struct net_stream *s, const uint8_t *p, size_t n)
{
    struct line *l = arg;
    struct world *w = l->device->world;
    size_t used = 0;
    (void)s, (void)w;
    while (used < n) {
        struct codec_mqtt_packet packet;
        int r = codec_mqtt_frame(str_view(p + used, n - used), CODEC_MQTT_PACKET_MAX, &packet);
        if (r == CODEC_MQTT_E_MORE)
            break;
        if (!line_counts(l))
            return n;
        struct device *d = l->device;
        bool is_good = r == 0 && line_packet(l, &packet);
        bool is_there = false; /* what was called may have ended it */
        list_each(&d->lines, x) is_there = is_there || container_of(x, struct line, link) == l;
        if (is_there && !is_good)
            line_break(l);
        if (!is_there || !is_good)
            return n;
        used += packet.len;
    }
    return used;
}

static void line_drained(void *arg, struct net_stream *s)
{
    (void)arg, (void)s;
}

static void line_closed(void *arg, struct net_stream *s, enum net_stream_end why)
{
    struct line *l = arg;
    (void)s, (void)why;
    line_free(l);
}

static const struct net_stream_ops line_ops = {
    .read = line_read, .drained = line_drained, .closed = line_closed};

/* A new connection, whatever there is. */
static void device_connect(struct device *d, unsigned node)
{
    struct line *l = mem_new(sizeof *l);
    struct net_address to;
    char text[32];
    snprintf(text, sizeof text, "127.0.0.1:%u", node + 1);
    int e = net_address_parse(str_of(text), &to);
    must(e == 0);
    l->device = d;
    l->node = node;
    l->opened = d->world->now;
    list_init(&l->link);
    list_push_back(&d->lines, &l->link);
    d->line = l;
    e = net_stream_connect(d->loop, &to, &(struct net_stream_conf){.ops = &line_ops, .arg = l},
                           &l->stream);
    must(e == 0);
    line_connect(l);
}

/* The socket goes, without a word. */
static void device_break(struct device *d)
{
    while (!list_empty(&d->lines))
        line_break(container_of(d->lines.next, struct line, link));
}

/* DISCONNECT, then the socket goes. */
static void device_leave(struct device *d, uint8_t reason)
{
    struct codec_mqtt_reasoned m = {.reason = reason};
    struct line *l = d->line;
    if (l && l->is_confirmed && !l->is_mute) {
        int e = codec_mqtt_reasoned_encode(line_out(l), &device_peer, CODEC_MQTT_DISCONNECT, &m);
        must(e == 0);
        stream_put(l->stream, false);
    }
    device_break(d);
}

static void device_mute(struct device *d)
{
    if (d->line)
        d->line->is_mute = true;
}

/* About every DEVICE_PING_USEC. */
static void device_ping(struct device *d)
{
    struct line *l = d->line;
    if (!l || l->is_mute)
        return;
    usec_t since = l->is_confirmed ? l->pinged : l->opened;
    if (since && d->world->now > since + DEVICE_DEAF_USEC) {
        line_break(l);
        return;
    }
    if (!l->is_confirmed || l->pinged)
        return;
    l->pinged = d->world->now;
    codec_mqtt_ping_encode(line_out(l), CODEC_MQTT_PINGREQ);
}

static bool device_is_on(const struct device *d)
{
    return d->line && d->line->is_confirmed && (!d->sub.filter || d->is_subscribed);
}

static void device_deinit(struct device *d)
{
    static const struct device_ops silent;
    d->ops = &silent;
    device_break(d);
    for (struct list *x; (x = list_pop_front(&d->outbox));)
        mem_free(container_of(x, struct device_out, link));
}
