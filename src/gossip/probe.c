/* Failure detection: probe one member after the other (SWIM 4, Lifeguard 4).
 * SPDX-License-Identifier: Apache-2.0
 *
 * A probe succeeds only when the very identity that was asked answers: by the direct ping, through
 * one of three helpers, or over a stream.  Another identity that answers at the address of the
 * asked one is proof of its death.
 *
 * One probe at a time; its deadline is the probe interval, stretched by our own score. */
#include "gossip/gossip_priv.h"

#define HELPERS 3                      /* matters: SWIM's k */
#define INDIRECT_MIN (200 * USEC_MSEC) /* a quicker second stage would only cost packets */
#define RTT_SHARE 8                    /* as TCP's estimator (RFC 6298) */
#define STREAM_ONLY_MIN 3              /* answers in a row: fewer may be loss */
#define STREAM_ONLY_EVERY (60 * USEC_SEC)

static void add_ping(struct gossip *g, const struct uuid *uuid, uint64_t epoch, uint64_t seq)
{
    struct gossip_msg m = {.kind = GOSSIP_MSG_PING, .uuid = *uuid, .epoch = epoch, .seq = seq};
    gossip_packet_add(g, &m);
}

/* A suspect hears of it first from whoever asks it (Lifeguard, "buddy system"). */
static void add_suspicion(struct gossip *g, const struct gossip_peer *p)
{
    struct gossip_msg m;
    if (p->pub.state != GOSSIP_ST_SUSPECT && p->pub.state != GOSSIP_ST_DEAD)
        return;
    gossip_msg_of_peer(p, p->pub.state == GOSSIP_ST_DEAD ? GOSSIP_MSG_DEAD : GOSSIP_MSG_SUSPECT,
                       &m);
    m.from = g->self->pub.uuid;
    gossip_packet_add(g, &m);
}

static usec_t direct_timeout(const struct gossip *g, const struct gossip_peer *p)
{
    usec_t t = p->pub.rtt == 0 ? g->conf.probe_timeout : 4 * (p->pub.rtt + 4 * p->rtt_var);
    t = t < INDIRECT_MIN ? INDIRECT_MIN : t;
    return usec_min(t, g->conf.probe_timeout);
}

static void begin(struct gossip *g, struct gossip_peer *p, struct gossip_out *out)
{
    g->probe = (struct gossip_probe){
        .is_active = true,
        .target = p->pub.uuid,
        .epoch = p->pub.epoch,
        .seq = ++g->seq,
        .sent_at = g->now,
        .indirect_at = g->now + direct_timeout(g, p),
        .deadline = g->now + gossip_awareness_scale(&g->awareness, g->conf.probe_interval),
    };
    g->stats.probes++;
    gossip_packet_begin(g);
    add_suspicion(g, p);
    add_ping(g, &p->pub.uuid, p->pub.epoch, g->probe.seq);
    gossip_packet_send(g, &p->pub.addr, &p->pub.uuid, out);
}

static void shuffle(struct gossip *g)
{
    for (size_t i = g->ring_count; i > 1; i--) {
        size_t j = rng_below(&g->rng, i);
        struct gossip_peer *a = g->ring[i - 1], *b = g->ring[j];
        g->ring[i - 1] = b;
        b->ring_at = i - 1;
        g->ring[j] = a;
        a->ring_at = j;
    }
}

static struct gossip_peer *next_target(struct gossip *g)
{
    struct gossip_peer *p = uuid_is_zero(&g->urgent) ? NULL : gossip_peer_find(g, &g->urgent);
    g->urgent = (struct uuid){0};
    if (p != NULL && p != g->self && gossip_is_live(p))
        return p;
    if (g->ring_count == 0)
        return NULL;
    if (g->ring_at >= g->ring_count) {
        shuffle(g);
        g->ring_at = 0;
    }
    return g->ring[g->ring_at++];
}

static void ask_helpers(struct gossip *g, const struct gossip_peer *target, struct gossip_out *out)
{
    struct gossip_msg m = {
        .kind = GOSSIP_MSG_PING_REQ,
        .uuid = target->pub.uuid,
        .epoch = target->pub.epoch,
        .addr = target->pub.addr,
        .seq = g->probe.seq,
    };
    size_t from = rng_below(&g->rng, g->ring_count);
    for (size_t i = 0; i < g->ring_count && g->probe.nacks_expected < HELPERS; i++) {
        const struct gossip_peer *h = g->ring[(from + i) % g->ring_count];
        if (h == target || h->pub.state != GOSSIP_ST_ALIVE)
            continue;
        gossip_packet_begin(g);
        gossip_packet_add(g, &m);
        gossip_packet_send(g, &h->pub.addr, &h->pub.uuid, out);
        g->probe.nacks_expected++;
    }
}

static void go_indirect(struct gossip *g, struct gossip_out *out)
{
    struct gossip_peer *p = gossip_peer_find(g, &g->probe.target);
    g->probe.is_indirect = true;
    if (p == NULL || !gossip_is_live(p))
        return;
    g->stats.probes_indirect++;
    ask_helpers(g, p, out);
    /* and over a stream, in parallel: datagrams alone may be what fails */
    gossip_packet_begin(g);
    add_suspicion(g, p);
    add_ping(g, &p->pub.uuid, p->pub.epoch, g->probe.seq);
    g->probe.stream = ++g->stream;
    gossip_frame_send(g, GOSSIP_OUT_STREAM_OPEN, g->probe.stream, &p->pub.addr, out);
}

static void end_probe(struct gossip *g, struct gossip_out *out)
{
    if (g->probe.stream != 0 && out != NULL)
        gossip_stream_close(g->probe.stream, out);
    g->probe = (struct gossip_probe){0};
}

static void fail(struct gossip *g, struct gossip_out *out)
{
    struct gossip_peer *p = gossip_peer_find(g, &g->probe.target);
    unsigned expected = g->probe.nacks_expected, got = g->probe.nacks;
    /* helpers that do not even say "no" mean that it may be us (Lifeguard, LHM) */
    if (g->ring_count > 1)
        gossip_awareness_add(&g->awareness, expected > 0 ? (int)(expected - got) : 1);
    g->stats.probes_failed++;
    end_probe(g, out);
    if (p != NULL && gossip_is_live(p))
        gossip_accuse(g, p, out);
    gossip_isolation_watch(g, false, out);
}

static void relays_tick(struct gossip *g, struct gossip_out *out)
{
    for (unsigned i = 0; i < GOSSIP_RELAYS_MAX; i++) {
        struct gossip_relay *r = &g->relay[i];
        if (r->nack_at == 0 || r->nack_at > g->now)
            continue;
        r->nack_at = 0;
        const struct gossip_peer *asker = gossip_peer_find(g, &r->asker);
        if (asker == NULL)
            continue;
        struct gossip_msg m = {.kind = GOSSIP_MSG_NACK, .seq = r->theirs};
        gossip_packet_begin(g);
        gossip_packet_add(g, &m);
        gossip_packet_send(g, &asker->pub.addr, &asker->pub.uuid, out);
    }
}

void gossip_probe_tick(struct gossip *g, struct gossip_out *out)
{
    relays_tick(g, out);
    if (g->probe.is_active && !g->probe.is_indirect && g->probe.indirect_at <= g->now)
        go_indirect(g, out);
    if (g->probe.is_active && g->probe.deadline <= g->now)
        fail(g, out);
    if (g->probe_at > g->now)
        return;
    bool is_urgent = !uuid_is_zero(&g->urgent);
    g->probe_at = g->now + g->conf.probe_interval;
    if (g->probe.is_active && !is_urgent)
        return; /* our score stretches it over the next interval */
    if (g->probe.is_active)
        end_probe(g, out);
    struct gossip_peer *p = next_target(g);
    if (p != NULL)
        begin(g, p, out);
}

usec_t gossip_probe_deadline(const struct gossip *g)
{
    usec_t at = g->probe_at;
    if (g->probe.is_active)
        at = usec_min(at, g->probe.is_indirect ? g->probe.deadline : g->probe.indirect_at);
    for (unsigned i = 0; i < GOSSIP_RELAYS_MAX; i++)
        if (g->relay[i].nack_at != 0)
            at = usec_min(at, g->relay[i].nack_at);
    return at;
}

void gossip_probe_ping(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m,
                       const struct gossip_addr *from, uint64_t stream, struct gossip_out *out)
{
    const struct gossip_peer *asker = gossip_peer_find(g, &h->uuid);
    bool is_us = uuid_eq(&m->uuid, &g->self->pub.uuid) && m->epoch == g->self->pub.epoch;
    if (stream == 0 && asker == NULL)
        return; /* answers go to addresses that members have announced */
    struct gossip_msg ack, alive;
    gossip_msg_of_peer(g->self, GOSSIP_MSG_ACK, &ack);
    ack.seq = m->seq;
    ack.flags = g->self->pub.flags;
    gossip_packet_begin(g);
    if (!is_us || g->self->pub.inc != 0) { /* what it believes of us may be old */
        gossip_msg_of_peer(g->self, GOSSIP_MSG_ALIVE, &alive);
        if (g->is_leaving)
            alive.kind = GOSSIP_MSG_LEFT;
        gossip_packet_add(g, &alive);
    }
    gossip_packet_add(g, &ack);
    if (stream != 0)
        gossip_frame_send(g, GOSSIP_OUT_STREAM_SEND, stream, NULL, out);
    else
        /* an identity at another address than announced is answered where it asked from: it is
         * authenticated */
        gossip_packet_send(g, h->epoch == asker->pub.epoch ? &asker->pub.addr : from, &h->uuid,
                           out);
}

void gossip_probe_ask(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m,
                      struct gossip_out *out)
{
    if (gossip_peer_find(g, &h->uuid) == NULL || m->addr.port == 0)
        return;
    for (unsigned i = 0; i < GOSSIP_RELAYS_MAX; i++) {
        struct gossip_relay *r = &g->relay[i];
        if (r->nack_at != 0)
            continue;
        *r = (struct gossip_relay){
            .seq = ++g->seq,
            .theirs = m->seq,
            .asker = h->uuid,
            .target = m->uuid,
            .nack_at = g->now + g->conf.probe_timeout * 4 / 5,
        };
        gossip_packet_begin(g);
        const struct gossip_peer *p = gossip_peer_find(g, &m->uuid);
        if (p != NULL)
            add_suspicion(g, p);
        add_ping(g, &m->uuid, m->epoch, r->seq);
        gossip_packet_send(g, &m->addr, &m->uuid, out);
        return;
    }
}

static void learn_rtt(struct gossip *g, struct gossip_peer *p)
{
    usec_t rtt = g->now - g->probe.sent_at;
    rtt = rtt > 0 ? rtt : 1;
    if (p->pub.rtt == 0) {
        p->pub.rtt = rtt;
        p->rtt_var = rtt / 2;
        return;
    }
    usec_t diff = rtt > p->pub.rtt ? rtt - p->pub.rtt : p->pub.rtt - rtt;
    p->rtt_var = (p->rtt_var * 3 + diff) / 4;
    p->pub.rtt = (p->pub.rtt * (RTT_SHARE - 1) + rtt) / RTT_SHARE;
}

/* Datagrams to it, or from it, seem to be lost on the way, and streams are not: a firewall? */
static void watch_streams(struct gossip *g, struct gossip_peer *p, bool by_stream,
                          struct gossip_out *out)
{
    g->stats.probes_stream += by_stream;
    p->by_stream = by_stream ? p->by_stream + 1 : 0;
    if (p->by_stream < STREAM_ONLY_MIN || g->now < g->only_at)
        return;
    g->only_at = g->now + STREAM_ONLY_EVERY;
    struct gossip_effect *e = gossip_out_add(out, GOSSIP_OUT_STREAM_ONLY);
    e->uuid = p->pub.uuid;
    e->addr = p->pub.addr;
}

/* The answer to our own probe. */
static void own_ack(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m,
                    const struct gossip_event *ev, struct gossip_out *out)
{
    const struct gossip_addr *from = &ev->addr;
    struct gossip_peer *p = gossip_peer_find(g, &g->probe.target);
    if (p == NULL) {
        end_probe(g, out);
        return;
    }
    bool is_direct = uuid_eq(&h->uuid, &m->uuid);
    if (uuid_eq(&m->uuid, &g->probe.target) && m->epoch >= g->probe.epoch) {
        if (!g->probe.is_indirect && is_direct)
            learn_rtt(g, p);
        gossip_awareness_add(&g->awareness, -1);
        watch_streams(g, p, ev->kind == GOSSIP_EV_STREAM, out);
        end_probe(g, out);
        gossip_isolation_watch(g, true, out);
        return;
    }
    /* somebody else lives at its address now */
    if (is_direct && (gossip_addr_eq(from, &p->pub.addr) || g->probe.stream != 0)) {
        end_probe(g, out);
        gossip_declare_dead(g, p, out);
    }
}

static void relayed_ack(struct gossip *g, const struct gossip_msg *m, struct gossip_out *out)
{
    for (unsigned i = 0; i < GOSSIP_RELAYS_MAX; i++) {
        struct gossip_relay *r = &g->relay[i];
        if (r->nack_at == 0 || r->seq != m->seq || !uuid_eq(&r->target, &m->uuid))
            continue;
        r->nack_at = 0;
        const struct gossip_peer *asker = gossip_peer_find(g, &r->asker);
        if (asker == NULL)
            return;
        struct gossip_msg ack = *m;
        ack.seq = r->theirs;
        gossip_packet_begin(g);
        gossip_packet_add(g, &ack);
        gossip_packet_send(g, &asker->pub.addr, &asker->pub.uuid, out);
        return;
    }
}

void gossip_probe_ack(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m,
                      const struct gossip_event *ev, struct gossip_out *out)
{
    struct gossip_peer *p = gossip_peer_find(g, &m->uuid);
    if (p != NULL && p != g->self && p->pub.epoch == m->epoch && m->inc > p->pub.inc &&
        p->pub.addr.port != 0) {
        /* its own word that it lives, and a younger one than what we have */
        struct gossip_msg alive;
        gossip_msg_of_peer(p, GOSSIP_MSG_ALIVE, &alive);
        alive.inc = m->inc;
        alive.flags = m->flags;
        gossip_fact(g, &alive, false, out);
    }
    if (g->probe.is_active && m->seq == g->probe.seq)
        own_ack(g, h, m, ev, out);
    else
        relayed_ack(g, m, out);
}

void gossip_probe_nack(struct gossip *g, const struct gossip_msg *m)
{
    if (g->probe.is_active && m->seq == g->probe.seq && g->probe.nacks < g->probe.nacks_expected)
        g->probe.nacks++;
}

void gossip_probe_send_failed(struct gossip *g, const struct gossip_addr *addr)
{
    const struct gossip_peer *p = gossip_peer_find(g, &g->probe.target);
    if (g->probe.is_active && p != NULL && gossip_addr_eq(&p->pub.addr, addr) &&
        !g->probe.is_indirect)
        g->probe.indirect_at = g->now; /* the direct ping has failed already */
}

void gossip_probe_forget(struct gossip *g, const struct gossip_peer *p)
{
    if (g->probe.is_active && uuid_eq(&g->probe.target, &p->pub.uuid)) {
        g->probe.is_active = false; /* its stream, if any, is closed by the host's timeout */
        g->probe.stream = 0;
    }
}
