/* Stored messages on their way to the client.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 the mind gets every seq at most once and in order;  2 one fetch of each queue and
 * one commit are under
 * way at most. */
#include "broker/inflow_priv.h"

#include "base/mem.h"
#include "broker/deliver_priv.h"
#include "dist/index.h"

#define FETCH_COUNT_MAX 256 /* does not matter much: messages of one fetch */

static struct stores_session session_of(const struct broker_conn *c)
{
    return (struct stores_session){c->tenant->name, session_client_id(c->session),
                                   c->inflow->incarnation, c->inflow->mod};
}

static int give(struct broker_conn *c, const struct stores_delivery *in)
{
    if (!broker_conn_may_read(c, in->msg->topic))
        return SESSION_DELIVER_E_DROPPED; /* the mind takes what is left out as finished */
    struct session_delivery d = {
        .msg = in->msg,
        .qos = in->qos,
        .is_retain_as_published = (in->options & DIST_OPTION_AS_PUBLISHED) != 0,
        .is_stored = in->qos > 0,
        .is_dup = in->qos > 0 && in->seq < c->inflow->dup_seq,
        .seq = in->seq,
        .sub_id = in->sub_id,
        .sub_id_count = in->sub_id_count,
    };
    int r = session_deliver(c->session, &d, broker_conn_out(c));
    if (r == SESSION_DELIVER_E_DROPPED)
        broker_deliver_count(c, &c->loop->deliver_out);
    if (r == 0 && in->qos > 0)
        broker_conn_arm(c);
    if (r == 0)
        broker_conn_debug(c, (enum broker_event_id)(BROKER_EV_QOS0_PUSHED + in->qos),
                          in->msg->topic);
    if (r == 0 && d.is_dup)
        broker_metric_bytes(broker_loop_metrics(c->loop, c->tenant), BROKER_M_EX_RESEND,
                            in->msg->topic.n + in->msg->payload.n, 1);
    if (r != SESSION_DELIVER_E_FULL)
        broker_metric_bytes(broker_loop_metrics(c->loop, c->tenant),
                            (enum broker_metric_id)(BROKER_M_EGRESS_QOS0 + in->qos),
                            in->msg->topic.n + in->msg->payload.n, 1);
    return r;
}

static void give_qos0(struct broker_conn *c, const struct stores_delivery *d)
{
    struct broker_inflow *f = c->inflow;
    if (d->seq && d->seq < f->qos0_next_seq)
        return;
    (void)give(c, d);
    if (d->seq) {
        f->qos0_next_seq = d->seq + 1;
        f->qos0_acked_seq = d->seq;
        broker_conn_dirty(c);
    }
}

void broker_inflow_deliver(struct broker_conn *c, const struct stores_delivery *d, size_t count)
{
    struct broker_inflow *f = c->inflow;
    if (!f || !c->is_open)
        return;
    for (size_t i = 0; i < count; i++) {
        if (d[i].qos == 0 && d[i].seq > f->qos0_next_seq) { /* what is before it is fetched first */
            if (d[i].seq >= f->qos0_known_seq)
                f->qos0_known_seq = d[i].seq + 1;
            continue;
        }
        if (d[i].qos == 0) {
            give_qos0(c, &d[i]);
            continue;
        }
        if (d[i].seq >= f->known_seq)
            f->known_seq = d[i].seq + 1;
        if (d[i].seq == f->next_seq && !f->is_fetching && give(c, &d[i]) != SESSION_DELIVER_E_FULL)
            f->next_seq++;
    }
    broker_inflow_pump(c);
}

void broker_inflow_backlog(struct broker_conn *c, uint64_t next_seq)
{
    if (!c->inflow || !c->is_open)
        return;
    if (next_seq > c->inflow->known_seq)
        c->inflow->known_seq = next_seq;
    broker_inflow_pump(c);
}

static void fetched(void *arg, const struct stores_fetched *r)
{
    struct broker_conn *c = arg;
    struct broker_inflow *f = c->inflow;
    f->is_fetching = false;
    if (c->is_open && r->outcome == STORES_OK) {
        bool is_full = false;
        for (size_t i = 0; i < r->count && !is_full; i++) {
            if (r->delivery[i].seq < f->next_seq)
                continue;
            is_full = give(c, &r->delivery[i]) == SESSION_DELIVER_E_FULL;
            if (!is_full)
                f->next_seq = r->delivery[i].seq + 1;
        }
        if (r->count == 0 && f->next_seq < f->asked_seq) /* what was there is finished */
            f->next_seq = f->asked_seq;
        broker_inflow_pump(c);
    } else if (c->is_open && r->outcome != STORES_E_UNAVAILABLE && r->outcome != STORES_E_FULL) {
        broker_conn_kick(c, SESSION_END_INBOX_TRANSIENT_ERROR,
                         CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR);
    }
    broker_conn_done(c);
}

static void fetched_qos0(void *arg, const struct stores_fetched *r)
{
    struct broker_conn *c = arg;
    struct broker_inflow *f = c->inflow;
    f->is_fetching_qos0 = false;
    if (c->is_open && r->outcome == STORES_OK) {
        for (size_t i = 0; i < r->count; i++)
            give_qos0(c, &r->delivery[i]);
        if (r->count == 0 && f->qos0_next_seq < f->qos0_asked_seq)
            f->qos0_next_seq = f->qos0_asked_seq;
        broker_inflow_pump(c);
    }
    broker_conn_done(c);
}

void broker_inflow_pump(struct broker_conn *c)
{
    struct broker_inflow *f = c->inflow;
    if (!c->is_open)
        return;
    if (f->next_seq < f->known_seq && !f->is_fetching) {
        struct session_out *out = broker_conn_out(c);
        uint32_t room = session_capacity(c->session, out);
        broker_conn_owe(c, out);
        if (room > 0) {
            struct stores_session s = session_of(c);
            f->is_fetching = true;
            f->asked_seq = f->known_seq;
            broker_conn_hold(c);
            stores_fetch(c->loop->stores, &s, false, f->next_seq,
                         room < FETCH_COUNT_MAX ? room : FETCH_COUNT_MAX, fetched, c);
        }
    }
    if (f->qos0_next_seq < f->qos0_known_seq && !f->is_fetching_qos0 &&
        session_queue_count(c->session) == 0) {
        struct stores_session s = session_of(c);
        f->is_fetching_qos0 = true;
        f->qos0_asked_seq = f->qos0_known_seq;
        broker_conn_hold(c);
        stores_fetch(c->loop->stores, &s, true, f->qos0_next_seq, FETCH_COUNT_MAX, fetched_qos0, c);
    }
}

static void committed(void *arg, enum stores_outcome outcome)
{
    struct broker_conn *c = arg;
    c->inflow->is_committing = false;
    if (outcome == STORES_OK) {
        struct session_event ev = {.type = SESSION_EV_COMMITTED};
        if (c->inflow->is_committing_mind)
            broker_conn_step(c, &ev);
        broker_inflow_commit(c);
        if (c->is_open)
            broker_inflow_pump(c);
    } else if (c->is_open) {
        broker_conn_kick(c, SESSION_END_INBOX_TRANSIENT_ERROR,
                         CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR);
    }
    broker_conn_done(c);
}

void broker_inflow_commit(struct broker_conn *c)
{
    struct broker_inflow *f = c->inflow;
    struct session_commit k;
    if (f->is_committing || !session_is_persistent(c->session))
        return;
    f->is_committing_mind = session_commit_take(c->session, &k);
    if (!f->is_committing_mind && f->qos0_acked_seq == f->qos0_committed_seq)
        return;
    if (!f->is_committing_mind)
        k = (struct session_commit){.head_seq = f->head_seq};
    f->head_seq = k.head_seq;
    f->qos0_committed_seq = f->qos0_acked_seq;
    struct stores_session s = session_of(c);
    struct stores_mark *mark =
        arena_alloc(net_loop_arena(c->loop->net), (k.rec_count + 1) * sizeof(*mark));
    for (size_t i = 0; i < k.rec_count; i++)
        mark[i] = (struct stores_mark){k.rec_seq[i], STORES_PHASE_RECEIVED};
    f->is_committing = true;
    broker_conn_hold(c);
    stores_commit(c->loop->stores, &s, k.head_seq - 1, f->qos0_acked_seq, mark, k.rec_count,
                  committed, c);
}
