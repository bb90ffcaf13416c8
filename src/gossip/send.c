/* Packets and frames on their way out, and the tick that spreads rumours.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * What room a packet has left is filled with rumours, whatever it is for (SWIM 4.1). */
#include "gossip/gossip_priv.h"

#define MSG_OVERHEAD 6 /* the field key and length around a message */

static void begin(struct gossip *g)
{
    struct gossip_head h = {
        .uuid = g->self->pub.uuid,
        .epoch = g->self->pub.epoch,
        .inc = g->self->pub.inc,
        .hlc = hlc_now(&g->hlc, g->wall),
        .table_hash = gossip_table_hash(&g->table),
        .member_hash = g->member_hash,
    };
    g->pkt.n = 0;
    gossip_head_encode(&g->pkt, &h);
}

void gossip_packet_begin(struct gossip *g)
{
    begin(g);
}

void gossip_packet_add(struct gossip *g, const struct gossip_msg *m)
{
    gossip_msg_encode(&g->pkt, m);
}

static void put_rumour(void *arg, struct str msg)
{
    gossip_msg_put(arg, msg);
}

static void emit(struct gossip *g, struct gossip_effect *e, struct gossip_out *out)
{
    e->at = out->bytes.n;
    e->n = g->pkt.n;
    buf_put(&out->bytes, g->pkt.p, g->pkt.n);
    g->stats.bytes_out += g->pkt.n;
}

void gossip_packet_send(struct gossip *g, const struct gossip_addr *to, const struct uuid *uuid,
                        struct gossip_out *out)
{
    size_t used = g->pkt.n + MSG_OVERHEAD;
    if (used < g->conf.packet_max)
        gossip_spread_take(&g->spread, gossip_transmit_limit(g), g->conf.packet_max - used,
                           put_rumour, &g->pkt);
    struct gossip_effect *e = gossip_out_add(out, GOSSIP_OUT_PACKET);
    e->addr = *to;
    if (uuid != NULL)
        e->uuid = *uuid;
    emit(g, e, out);
    g->stats.packets_out++;
}

void gossip_frame_send(struct gossip *g, enum gossip_effect_kind how, uint64_t stream,
                       const struct gossip_addr *to, struct gossip_out *out)
{
    struct gossip_effect *e = gossip_out_add(out, how);
    e->stream = stream;
    if (to != NULL)
        e->addr = *to;
    emit(g, e, out);
}

void gossip_stream_close(uint64_t stream, struct gossip_out *out)
{
    gossip_out_add(out, GOSSIP_OUT_STREAM_CLOSE)->stream = stream;
}

void gossip_spread_tick(struct gossip *g, struct gossip_out *out)
{
    if (g->now < g->gossip_at)
        return;
    g->gossip_at = g->now + g->conf.gossip_interval;
    /* fanout different members: a window of the ring, which is in random order, from a random place
     */
    size_t n = g->ring_count < g->conf.fanout ? g->ring_count : g->conf.fanout;
    size_t from = n > 0 ? rng_below(&g->rng, g->ring_count) : 0;
    size_t step = g->ring_count > n ? 1 + rng_below(&g->rng, g->ring_count / n) : 1;
    for (size_t i = 0; i < n && gossip_spread_len(&g->spread) > 0; i++) {
        const struct gossip_peer *p = g->ring[(from + i * step) % g->ring_count];
        begin(g);
        gossip_packet_send(g, &p->pub.addr, &p->pub.uuid, out);
    }
}
