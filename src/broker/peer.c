/* The way to other nodes and from them.  SPDX-License-Identifier: Apache-2.0
 *
 * A batch is a row of records: tenant (16 bit length), cookie, sub_id, qos, flags, and the message
 * as a record of its own (32 bit length).  The receiving node matches topics against its own live
 * subscriptions, so a message goes over the link once however many of them match.  Batches of one
 * loop go to the loop of the same number there, in order.
 *
 * Invariants: 1 done comes exactly once for each message taken with it;  2 a batch is at most
 * BATCH_BYTES_MAX long. */
#include "broker/peer_priv.h"

#include "base/mem.h"
#include "broker/deliver_priv.h"
#include "broker/publish_priv.h"
#include "cluster/cluster.h"
#include "cluster/link.h"
#include "codec/cursor.h"
#include "dist/index.h"

#define BATCH_BYTES_MAX                                                                            \
    ((size_t)8 << 20) /* matters: below CLUSTER_PAYLOAD_MAX; more in one turn is refused */
#define CALL_USEC_MAX (5 * USEC_SEC) /* matters: then the publisher hears that it failed */

struct leg {
    broker_peer_done *done;
    void *arg;
};

/* What one loop sends one node in this turn, or has sent and waits for. */
struct broker_peer {
    struct broker_peer *next;
    struct uuid node;
    struct buf bytes;
    struct leg *leg;
    size_t leg_count, leg_cap;
};

static struct cluster_link *link_of(const struct broker_loop *l)
{
    return l->broker->conf.seat ? cluster_seat_link(l->broker->conf.seat[l->index]) : NULL;
}

static struct broker_peer *peer_free(struct broker_peer *p)
{
    buf_deinit(&p->bytes);
    mem_free(p->leg);
    return mem_free(p);
}

static struct broker_peer *peer_get(struct broker_loop *l, const struct uuid *node)
{
    for (struct broker_peer *p = l->peer; p; p = p->next)
        if (uuid_eq(&p->node, node))
            return p;
    struct broker_peer *p = mem_new(sizeof(*p));
    p->node = *node;
    p->next = l->peer;
    l->peer = p;
    net_loop_defer(l->net, &l->turn_end);
    return p;
}

void broker_peer_record_put(struct buf *b, const struct broker_peer_record *r)
{
    buf_put_u16(b, (uint16_t)r->tenant.n);
    buf_put_str(b, r->tenant);
    buf_put_u64(b, r->cookie);
    buf_put_u32(b, r->sub_id);
    buf_put_u8(b, r->qos);
    buf_put_u8(b, r->flags);
    size_t at = b->n;
    buf_put_u32(b, 0);
    codec_msg_encode(b, r->msg);
    size_t n = b->n - at - 4;
    for (int i = 0; i < 4; i++)
        b->p[at + (size_t)i] = (uint8_t)(n >> (24 - 8 * i));
}

bool broker_peer_send(struct broker_loop *l, const struct dist_node *to,
                      const struct broker_cross_send *send, broker_peer_done *done, void *arg)
{
    if (!link_of(l))
        return false;
    struct broker_peer *p = peer_get(l, &to->uuid);
    if (p->bytes.n + codec_msg_cost(send->msg) > BATCH_BYTES_MAX)
        return false;
    broker_peer_record_put(&p->bytes, &(struct broker_peer_record){send->tenant->name, send->cookie,
                                                                   send->sub_id, send->qos,
                                                                   send->flags, send->msg});
    if (done) {
        p->leg = mem_grow(p->leg, &p->leg_cap, p->leg_count + 1, sizeof(*p->leg));
        p->leg[p->leg_count++] = (struct leg){done, arg};
    }
    return true;
}

static void replied(void *arg, int outcome, struct str reply)
{
    struct broker_peer *p = arg;
    (void)reply;
    for (size_t i = 0; i < p->leg_count; i++)
        p->leg[i].done(p->leg[i].arg, outcome ? CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR : 0);
    peer_free(p);
}

void broker_peer_flush(struct broker_loop *l)
{
    struct broker_peer *p = l->peer;
    l->peer = NULL;
    while (p) {
        struct broker_peer *next = p->next;
        struct cluster_call call = {.peer = p->node,
                                    .service = CLUSTER_SERVICE_DELIVER,
                                    .lane = CLUSTER_LANE_BULK,
                                    .shard = l->index,
                                    .timeout = CALL_USEC_MAX,
                                    .payload = buf_str(&p->bytes)};
        if (p->leg_count == 0) {
            (void)!cluster_link_cast(link_of(l), &call);
            peer_free(p);
        } else if (cluster_link_call(link_of(l), &call, replied, p, NULL)) {
            replied(p, CLUSTER_LINK_E_OVERLOADED, str_view("", 0));
        }
        p = next;
    }
}

/* ---- from them ---- */

bool broker_peer_record_next(struct codec_cursor *c, struct broker_peer_record *out,
                             struct codec_msg *out_msg)
{
    out->tenant = codec_cursor_str16(c);
    out->cookie = codec_cursor_u64(c);
    out->sub_id = codec_cursor_u32(c);
    out->qos = codec_cursor_u8(c);
    out->flags = codec_cursor_u8(c);
    out->msg = out_msg;
    struct str record = codec_cursor_bytes(c, codec_cursor_u32(c));
    return !c->bad && out->qos <= 2 && codec_msg_decode(record, out_msg) == 0;
}

static bool take_record(struct broker_loop *l, struct codec_cursor *c)
{
    struct broker_peer_record r;
    struct codec_msg msg;
    if (!broker_peer_record_next(c, &r, &msg))
        return false;
    struct broker_cross_send s = {
        .cookie = r.cookie, .sub_id = r.sub_id, .qos = r.qos, .flags = r.flags, .msg = &msg};
    s.tenant = broker_tenant_find(l->broker, r.tenant);
    if (!s.tenant)
        return true; /* a tenant that is not configured here has no sessions here */
    unsigned to = broker_cookie_loop(s.cookie);
    if (s.cookie == 0)
        broker_publish_live(l, s.tenant, &msg);
    else if (to == l->index)
        broker_deliver_cross(l, &s);
    else if (to >= l->broker->loop_count || broker_cross_put(l, to, &s))
        broker_metric_add(broker_loop_metrics(l, s.tenant), BROKER_M_DROP_OVERFLOW, 1);
    return true;
}

static void received(void *arg, struct cluster_request *rq, const struct cluster_from *from,
                     struct str payload)
{
    struct broker_loop *l = arg;
    struct codec_cursor c = codec_cursor_of(payload);
    (void)from;
    while (codec_cursor_left(&c) > 0)
        if (!take_record(l, &c)) {
            if (rq)
                cluster_request_refuse(rq);
            return;
        }
    if (rq)
        cluster_request_reply(rq, str_view("", 0));
}

void broker_peer_init(struct broker_loop *l)
{
    if (link_of(l))
        cluster_link_serve(link_of(l), CLUSTER_SERVICE_DELIVER, received, l);
}

void broker_peer_deinit(struct broker_loop *l)
{
    while (l->peer) {
        struct broker_peer *p = l->peer;
        l->peer = p->next;
        peer_free(p);
    }
}
