/* Delivery to connected sessions.  SPDX-License-Identifier: Apache-2.0
 *
 * A session that cannot take a message now queues it, within its limits.  Then a publisher of QoS 1
 * or 2 waits (slow.c) until the receiver has caught up.  The publishers of all loops are told so in
 * one moment: else those of one loop fill what the others wait for.
 *
 * Invariants: 1 broker.stalled counts exactly the connections with is_stalled; is_crowded only with
 * is_stalled;  2 who waits for a connection is on a loop in its crowd_loops.  It never matches and
 * never closes. */
#include "broker/deliver_priv.h"

#include "base/hash.h"
#include "base/mem.h"
#include "broker/slow_priv.h"

#define SLOW_SHARE 4 /* matters: publishers wait from a quarter of SessionInboxSize on */
#define GO_SHARE 8   /* and go on below an eighth */

bool broker_deliver_is_stalled(const struct broker *b, uint64_t cookie)
{
    return atomic_load_explicit(&b->stalled[hash_u64(cookie) % BROKER_STALLED_SLOTS],
                                memory_order_relaxed) != 0;
}

static void stalled_set(struct broker_conn *c, bool is_stalled)
{
    if (c->is_stalled == is_stalled)
        return;
    c->is_stalled = is_stalled;
    _Atomic uint8_t *slot = &c->loop->broker->stalled[hash_u64(c->cookie) % BROKER_STALLED_SLOTS];
    if (is_stalled)
        atomic_fetch_add_explicit(slot, 1, memory_order_relaxed);
    else
        atomic_fetch_sub_explicit(slot, 1, memory_order_relaxed);
}

static size_t share_of_inbox(const struct broker_conn *to, size_t share)
{
    return (size_t)to->settings->value.session_inbox_size / share + 1;
}

void broker_deliver_resumed(struct broker_conn *to)
{
    if (likely(!to->is_stalled))
        return;
    size_t count = session_queue_count(to->session);
    if (count == 0)
        stalled_set(to, false);
    if (to->is_crowded && count < share_of_inbox(to, GO_SHARE)) {
        to->is_crowded = false;
        broker_slow_go(to->loop, to->cookie, to->crowd_loops);
        to->crowd_loops = 0;
    }
}

struct slow_mail {
    struct net_mail mail;
    struct broker *broker;
    uint64_t from_cookie, to_cookie;
};

static void slow_receive(struct net_loop *here, struct net_mail *mail)
{
    struct slow_mail *m = container_of(mail, struct slow_mail, mail);
    struct broker_loop *l = &m->broker->loop[net_loop_index(here)];
    struct broker_conn *from = broker_conn_find(l, m->from_cookie);
    if (from)
        broker_slow(from, m->to_cookie);
    mem_free(m);
}

void broker_deliver_held(struct broker_conn *to, uint8_t qos, struct broker_conn *from,
                         uint64_t from_cookie)
{
    stalled_set(to, true);
    if (qos == 0 || session_queue_count(to->session) < share_of_inbox(to, SLOW_SHARE))
        return;
    to->is_crowded = true;
    if (from_cookie == 0 || from_cookie == to->cookie)
        return;
    to->crowd_loops |= (uint64_t)1 << broker_cookie_loop(from_cookie);
    if (from) {
        broker_slow(from, to->cookie);
        return;
    }
    struct broker_loop *l = to->loop;
    if (l->slow_from == from_cookie && l->slow_at == broker_loop_now(l))
        return; /* told in this turn */
    l->slow_from = from_cookie;
    l->slow_at = broker_loop_now(l);
    struct slow_mail *m = mem_new(sizeof(*m));
    *m = (struct slow_mail){
        .broker = to->loop->broker, .from_cookie = from_cookie, .to_cookie = to->cookie};
    net_loop_post(to->loop->net, to->loop->broker->loop[broker_cookie_loop(from_cookie)].net,
                  &m->mail, slow_receive);
}

static void count_drops(struct broker_metrics *m, enum broker_metric_id id, uint64_t n[3])
{
    if (n[0] | n[1] | n[2])
        broker_metric_add(m, id, n[0] + n[1] + n[2]);
    n[0] = n[1] = n[2] = 0;
}

/* One by one, where the tenant asks for it. */
static void tell(struct broker_conn *c, enum broker_event_id id, uint64_t n)
{
    for (; n > 0 && c->settings && c->settings->value.debug_mode_enabled; n--)
        broker_conn_report(c, id, "");
}

static void count_news(struct broker_conn *c, struct broker_metrics *m,
                       const struct session_counts *k)
{
    for (unsigned q = 1; q < 3; q++)
        if (k->confirmed[q])
            broker_metric_bytes(m, (enum broker_metric_id)(BROKER_M_DELIVER_QOS1 + q - 1),
                                k->confirmed_bytes[q], k->confirmed[q]);
    tell(c, BROKER_EV_QOS1_CONFIRMED, k->confirmed[1]);
    tell(c, BROKER_EV_QOS2_CONFIRMED, k->confirmed[2]);
    tell(c, BROKER_EV_QOS2_RECEIVED, k->received);
    tell(c, BROKER_EV_PUB_ACKED, k->acked[1]);
    tell(c, BROKER_EV_PUB_RECED, k->acked[2]);
    tell(c, BROKER_EV_PING_REQ, k->pings);
}

void broker_deliver_count(struct broker_conn *to, struct session_out *out)
{
    struct session_counts *k = &out->counts;
    struct broker_metrics *m = broker_loop_metrics(to->loop, to->tenant);
    static const enum broker_event_id dropped[3] = {BROKER_EV_QOS0_DROPPED, BROKER_EV_QOS1_DROPPED,
                                                    BROKER_EV_QOS2_DROPPED};
    for (int q = 0; q < 3; q++)
        if (k->dropped_overflow[q] + k->dropped_budget[q] + k->dropped_oversize[q])
            broker_conn_report(to, dropped[q],
                               k->dropped_overflow[q] ? "Overflow"
                               : k->dropped_budget[q] ? "ResourceExhausted"
                                                      : "Oversize");
    count_drops(m, BROKER_M_DROP_OVERFLOW, k->dropped_overflow);
    count_drops(m, BROKER_M_DROP_EXPIRED, k->dropped_expired);
    count_drops(m, BROKER_M_DROP_OVERSIZE, k->dropped_oversize);
    count_drops(m, BROKER_M_DROP_RESOURCE, k->dropped_budget);
    count_drops(m, BROKER_M_DROP_CLOSED, k->dropped_closed);
    count_news(to, m, k);
    memset(k, 0, sizeof(*k));
}

static void delivered(struct broker_conn *to, const struct session_delivery *d, int outcome,
                      struct broker_conn *from, uint64_t from_cookie)
{
    struct session_out *out = &to->loop->deliver_out;
    broker_conn_owe(to, out);
    if (outcome == SESSION_DELIVER_E_DROPPED || out->effect_count)
        broker_deliver_count(to, out);
    broker_deliver_held(to, d->msg->qos < d->qos ? d->msg->qos : d->qos, from, from_cookie);
}

static void pushed(struct broker_conn *to, const struct session_delivery *d)
{
    uint8_t qos = d->msg->qos < d->qos ? d->msg->qos : d->qos;
    if (qos > 0) /* its acknowledgement may stay away */
        broker_conn_arm(to);
    broker_conn_debug(to, (enum broker_event_id)(BROKER_EV_QOS0_PUSHED + qos), d->msg->topic);
}

/* A persistent publisher that comes back may send a QoS 2 message again that was routed, but not
 * yet acknowledged. Inboxes know it by its exchange; for live sessions each loop remembers the
 * latest.  which: 0, or a cookie. */
static bool is_repeat(struct broker_loop *l, const struct codec_msg *msg, uint64_t which)
{
    if (likely(msg->exchange == 0))
        return false;
    if (!l->seen)
        l->seen = mem_new(BROKER_SEEN_MAX * sizeof(*l->seen));
    uint64_t h = hash_u64(hash_u64(hash_u64(msg->incarnation) + msg->exchange) + which) | 1;
    uint64_t *slot = &l->seen[(h >> 1) % BROKER_SEEN_MAX];
    bool is_seen = *slot == h;
    *slot = h;
    return is_seen;
}

void broker_deliver_local(struct broker_loop *l, const struct broker_targets *t,
                          const struct codec_msg *msg, struct broker_conn *from,
                          uint64_t from_cookie)
{
    if (t->local_count == 0 || is_repeat(l, msg, 0))
        return;
    struct session_delivery d = {.msg = msg, .images = &l->images};
    codec_mqtt_images_begin(&l->images, msg, broker_loop_wall_ms(l));
    uint64_t count[3] = {0};
    for (size_t i = 0; i < t->local_count; i++) {
        const struct broker_target *x = &t->local[i];
        struct broker_conn *to = x->conn;
        if (unlikely(x->flags & BROKER_TARGET_NO_LOCAL) && to == from)
            continue;
        d.qos = x->qos;
        d.is_retain_as_published = (x->flags & BROKER_TARGET_AS_PUBLISHED) != 0;
        d.sub_id = t->sub_id + x->sub_id_at;
        d.sub_id_count = x->sub_id_count;
        count[x->qos]++;
        int r = session_deliver(to->session, &d, broker_conn_out(to));
        if (unlikely(r))
            delivered(to, &d, r, from, from_cookie);
        else
            pushed(to, &d);
    }
    struct broker_metrics *m = broker_loop_metrics(l, t->tenant);
    size_t len = msg->topic.n + msg->payload.n;
    for (unsigned q = 0; q < 3; q++)
        if (count[q])
            broker_metric_bytes(
                m, (enum broker_metric_id)(BROKER_M_EGRESS_QOS0 + (q < msg->qos ? q : msg->qos)),
                len * count[q], count[q]);
    broker_metric_bytes(m, BROKER_M_TFANOUT, len * t->local_count, t->local_count);
}

bool broker_deliver_one(struct broker_loop *l, const struct broker_cross_send *send)
{
    struct broker_conn *to = broker_conn_find(l, send->cookie);
    if (!to)
        return false;
    if ((send->flags & BROKER_TARGET_NO_LOCAL) && send->from_cookie == send->cookie)
        return true;
    if (!send->is_retained && is_repeat(l, send->msg, send->cookie))
        return true;
    struct session_delivery d = {
        .msg = send->msg,
        .images = &l->images,
        .qos = send->qos,
        .is_retained = send->is_retained,
        .is_retain_as_published = (send->flags & BROKER_TARGET_AS_PUBLISHED) != 0,
        .sub_id = &send->sub_id,
        .sub_id_count = send->sub_id ? 1 : 0,
    };
    codec_mqtt_images_begin(&l->images, send->msg, broker_loop_wall_ms(l));
    int r = session_deliver(to->session, &d, broker_conn_out(to));
    struct broker_conn *from = broker_cookie_loop(send->from_cookie) == l->index
                                   ? broker_conn_find(l, send->from_cookie)
                                   : NULL;
    if (r)
        delivered(to, &d, r, from, send->from_cookie);
    else
        pushed(to, &d);
    uint8_t qos = send->qos < send->msg->qos ? send->qos : send->msg->qos;
    broker_metric_bytes(broker_loop_metrics(l, to->tenant),
                        (enum broker_metric_id)(BROKER_M_EGRESS_QOS0 + qos),
                        send->msg->topic.n + send->msg->payload.n, 1);
    return true;
}

void broker_deliver_cross(struct broker_loop *l, const struct broker_cross_send *send)
{
    if (send->cookie) {
        if (!broker_deliver_one(l, send))
            broker_metric_add(broker_loop_metrics(l, send->tenant), BROKER_M_DROP_CLOSED, 1);
        return;
    }
    const struct broker_targets *t = broker_targets_get(l, send->tenant, send->msg->topic);
    broker_deliver_local(l, t, send->msg, NULL, send->from_cookie);
}
