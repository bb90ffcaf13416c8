/* The machine: one event in, its effects out.  SPDX-License-Identifier: Apache-2.0
 *
 * The numbered invariants of README.md are asserted by gossip_check.  It never calls out, never
 * waits, and takes time and chance as arguments. */
#include "gossip/gossip_priv.h"

#include "base/mem.h"

#define STALL_MIN                                                                                  \
    (1 * USEC_SEC) /* our own timer is later than this: it is our fault, not theirs                \
                    */
#define EXPIRE_EVERY (60 * USEC_SEC)
#define TELL_SILENT_EVERY (1 * USEC_SEC) /* to one that we think silent and that speaks */
#define GREET_EVERY (200 * USEC_MSEC)    /* exchanges with strangers that speak to us */
#define LEAVE_MAX (2 * USEC_SEC)         /* the longest good-bye */
#define LEAVE_DIRECT_MAX 64              /* so many hear it from us directly */
#define SKEW_EVERY (60 * USEC_SEC)

static void conf_defaults(struct gossip_conf *c)
{
    c->packet_max = c->packet_max ? c->packet_max : 1360;
    c->probe_interval = c->probe_interval ? c->probe_interval : USEC_SEC;
    c->probe_timeout = c->probe_timeout ? c->probe_timeout : 500 * USEC_MSEC;
    c->suspicion_mult = c->suspicion_mult ? c->suspicion_mult : 4;
    c->fanout = c->fanout ? c->fanout : 4;
    c->gossip_interval = c->gossip_interval ? c->gossip_interval : 200 * USEC_MSEC;
    c->sync_interval = c->sync_interval ? c->sync_interval : 10 * USEC_SEC;
    c->dead_keep = c->dead_keep ? c->dead_keep : 86400 * USEC_SEC;
}

struct gossip *gossip_new(const struct gossip_conf *c, usec_t now, usec_t wall, uint64_t seed)
{
    struct gossip *g = mem_new(sizeof *g);
    must(c->epoch > 0);
    g->conf = *c;
    conf_defaults(&g->conf);
    g->now = now;
    g->wall = wall;
    rng_init(&g->rng, seed);
    gossip_spread_init(&g->spread);
    gossip_table_init(&g->table, &c->uuid, c->epoch);
    struct gossip_msg m = {
        .uuid = c->uuid,
        .epoch = c->epoch,
        .flags = c->flags,
        .addr = c->addr,
        .version_min = c->version_min,
        .version_max = c->version_max,
        .bytes = c->meta,
    };
    g->self = gossip_peer_new(g, &m);
    g->self->pub.state = GOSSIP_ST_ALIVE;
    g->member_hash = gossip_member_mix(&g->self->pub);
    g->conf.meta = g->self->pub.meta;
    g->seq = rng_u64(&g->rng) >> 16;
    /* a random phase, so that nodes started together do not beat together */
    g->probe_at = now + rng_below(&g->rng, g->conf.probe_interval);
    g->gossip_at = now + rng_below(&g->rng, g->conf.gossip_interval);
    g->sync_at = now + rng_below(&g->rng, g->conf.sync_interval);
    g->heal_at = now + g->conf.sync_interval + rng_below(&g->rng, g->conf.sync_interval);
    g->seed_at = now;
    g->expire_at = now + EXPIRE_EVERY;
    return g;
}

struct gossip *gossip_free(struct gossip *g)
{
    size_t at = 0;
    if (g == NULL)
        return NULL;
    for (struct gossip_peer *p; (p = map_next(&g->peers, &at)) != NULL;) {
        buf_deinit(&p->meta);
        mem_free(p);
    }
    map_deinit(&g->peers);
    mem_free(g->ring);
    gossip_table_deinit(&g->table);
    gossip_spread_deinit(&g->spread);
    buf_deinit(&g->pkt);
    buf_deinit(&g->msg);
    return mem_free(g);
}

/* --- time --- */

static usec_t next_deadline(const struct gossip *g)
{
    usec_t at = usec_min(gossip_probe_deadline(g), gossip_sync_deadline(g));
    at = usec_min(at, usec_min(gossip_suspicions_deadline(g), g->expire_at));
    if (gossip_spread_len(&g->spread) > 0 && g->ring_count > 0)
        at = usec_min(at, g->gossip_at);
    if (g->is_leaving && !g->is_gone)
        at = usec_min(at, g->leave_until);
    return at;
}

usec_t gossip_deadline(const struct gossip *g)
{
    return next_deadline(g);
}

/* Our timer came late: whatever was silent meanwhile may have spoken to a deaf one. */
static void watch_stall(struct gossip *g, usec_t late, struct gossip_out *out)
{
    gossip_awareness_add(&g->awareness, (int)(late / USEC_SEC > 7 ? 7 : late / USEC_SEC));
    gossip_out_add(out, GOSSIP_OUT_STALLED)->epoch = late;
    for (size_t i = 0; i < g->ring_count; i++)
        if (g->ring[i]->pub.state == GOSSIP_ST_SUSPECT) {
            gossip_suspicion_extend(&g->ring[i]->suspicion, late);
            g->ring[i]->pub.suspect_until = g->ring[i]->suspicion.deadline;
        }
    if (g->probe.is_active) {
        if (g->probe.stream != 0)
            gossip_stream_close(g->probe.stream, out);
        g->probe = (struct gossip_probe){0};
    }
    for (unsigned i = 0; i < GOSSIP_RELAYS_MAX; i++)
        g->relay[i].nack_at = 0;
    g->no_death_until = g->now + gossip_suspicion_min(g->ring_count + 1, g->conf.suspicion_mult,
                                                      g->conf.probe_interval);
}

static void leave_tick(struct gossip *g, struct gossip_out *out)
{
    if (!g->is_leaving || g->is_gone)
        return;
    bool is_out = !gossip_spread_has(&g->spread, gossip_member_subject(&g->self->pub.uuid));
    if (is_out || g->ring_count == 0 || g->leave_until <= g->now) {
        g->is_gone = true;
        gossip_out_add(out, GOSSIP_OUT_GONE);
    }
}

static void tick(struct gossip *g, struct gossip_out *out)
{
    gossip_suspicions_tick(g, out);
    if (!g->is_leaving) {
        gossip_probe_tick(g, out);
        gossip_sync_tick(g, out);
    } else {
        g->probe_at = g->now + g->conf.probe_interval;
        g->sync_at = g->seed_at = g->heal_at = g->now + g->conf.sync_interval;
        g->probe.is_active = false;
        g->hinted = (struct uuid){0};
        for (unsigned i = 0; i < GOSSIP_SYNCS_MAX; i++)
            g->sync[i].stream = 0;
        for (unsigned i = 0; i < GOSSIP_RELAYS_MAX; i++)
            g->relay[i].nack_at = 0;
    }
    gossip_spread_tick(g, out);
    leave_tick(g, out);
    if (g->expire_at <= g->now) {
        g->expire_at = g->now + EXPIRE_EVERY;
        gossip_table_expire(&g->table, g->now, g->wall);
        gossip_members_expire(g, out);
    }
}

/* --- packets --- */

/* A voice that we took for silent: tell it, so that it may refute; one of an older life than we
 * know: tell it of the younger, so that it may stop; a stranger: get to know it. */
static void hear_sender(struct gossip *g, const struct gossip_head *h,
                        const struct gossip_addr *from, struct gossip_out *out)
{
    struct gossip_peer *p = gossip_peer_find(g, &h->uuid);
    if (g->is_leaving || p == g->self)
        return;
    if (p == NULL || h->epoch > p->pub.epoch) {
        if (g->now >= g->stranger_at && from->port != 0) {
            g->stranger_at = g->now + GREET_EVERY;
            gossip_sync_open(g, from, NULL, 0, out);
        }
        return;
    }
    bool is_in_doubt = p->pub.state == GOSSIP_ST_SUSPECT || p->pub.state == GOSSIP_ST_DEAD;
    if (is_in_doubt && h->epoch == p->pub.epoch && h->inc > p->pub.inc &&
        g->now >= p->told_at + TELL_SILENT_EVERY) {
        p->told_at = g->now; /* it has refuted, and we missed it: the exchange brings it */
        gossip_sync_open(g, from, &p->pub.uuid, 0, out);
        return;
    }
    bool is_old_life = h->epoch < p->pub.epoch; /* two processes with one identity */
    bool is_silent =
        p->pub.state != GOSSIP_ST_ALIVE && h->epoch == p->pub.epoch && h->inc <= p->pub.inc;
    if ((!is_old_life && !is_silent) || g->now < p->told_at + TELL_SILENT_EVERY)
        return;
    p->told_at = g->now;
    static const uint8_t kind[] = {GOSSIP_MSG_ALIVE, GOSSIP_MSG_SUSPECT, GOSSIP_MSG_DEAD,
                                   GOSSIP_MSG_LEFT};
    struct gossip_msg m;
    gossip_msg_of_peer(p, kind[p->pub.state], &m);
    m.from = g->self->pub.uuid;
    gossip_packet_begin(g);
    gossip_packet_add(g, &m);
    gossip_packet_send(g, is_old_life ? from : &p->pub.addr, &p->pub.uuid, out);
}

static void hear_clock(struct gossip *g, const struct gossip_head *h,
                       const struct gossip_addr *from, struct gossip_out *out)
{
    if (hlc_update(&g->hlc, g->wall, h->hlc) == 0 || g->now < g->skew_at)
        return;
    g->skew_at = g->now + SKEW_EVERY;
    struct gossip_effect *e = gossip_out_add(out, GOSSIP_OUT_SKEW);
    e->uuid = h->uuid;
    e->addr = *from;
    e->flags = GOSSIP_SKEW_CLOCK;
}

/* Somebody whom we took for silent, or do not know, may be the one who was cut off: the deaths that
 * he tells of are doubted first, as in an exchange.  So are those of a packet that he sent before
 * he refuted, and that came later. */
static bool is_doubted(const struct gossip *g, const struct gossip_head *h)
{
    const struct gossip_peer *p = gossip_peer_find(g, &h->uuid);
    return p == NULL || p->pub.state != GOSSIP_ST_ALIVE || h->epoch != p->pub.epoch ||
           h->inc < p->pub.inc;
}

static void hear_msg(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m,
                     const struct gossip_event *ev, struct gossip_out *out)
{
    uint64_t stream = ev->kind == GOSSIP_EV_STREAM ? ev->stream : 0;
    switch (m->kind) {
    case GOSSIP_MSG_PING:
        if (stream == 0 || stream & GOSSIP_STREAM_THEIRS)
            gossip_probe_ping(g, h, m, &ev->addr, stream, out);
        break;
    case GOSSIP_MSG_PING_REQ:
        gossip_probe_ask(g, h, m, out);
        break;
    case GOSSIP_MSG_ACK:
        if (uuid_eq(&h->uuid, &m->uuid))
            gossip_sync_hash(g, h);
        gossip_probe_ack(g, h, m, ev, out);
        break;
    case GOSSIP_MSG_NACK:
        gossip_probe_nack(g, m);
        break;
    case GOSSIP_MSG_ALIVE:
    case GOSSIP_MSG_SUSPECT:
    case GOSSIP_MSG_DEAD:
    case GOSSIP_MSG_LEFT:
        gossip_fact(g, m, g->hears_doubted, out);
        break;
    case GOSSIP_MSG_ROW:
    case GOSSIP_MSG_HINT:
        gossip_row_heard(g, h, m, out);
        break;
    default:
        break; /* of a later version */
    }
}

static void hear(struct gossip *g, const struct gossip_event *ev, struct gossip_out *out)
{
    struct codec_cursor c = codec_cursor_of(ev->bytes);
    struct gossip_head h;
    g->stats.packets_in += ev->kind == GOSSIP_EV_PACKET;
    g->stats.bytes_in += ev->bytes.n;
    if (!gossip_head_decode(&c, &h)) {
        g->stats.malformed++;
        return;
    }
    bool is_self = uuid_eq(&h.uuid, &g->self->pub.uuid);
    if (is_self && ev->kind == GOSSIP_EV_PACKET) {
        if (h.epoch > g->self->pub.epoch)
            gossip_out_add(out, GOSSIP_OUT_DUPLICATE)->addr = ev->addr;
        return; /* our own echo */
    }
    hear_clock(g, &h, &ev->addr, out);
    g->hears_doubted = is_doubted(g, &h);
    for (struct gossip_msg m; gossip_msg_next(&c, &m);) {
        if (m.kind == GOSSIP_MSG_SYNC) {
            if (ev->kind == GOSSIP_EV_STREAM && !g->is_leaving)
                gossip_sync_frame(g, &h, &c, ev->stream, &m, out);
            break;
        }
        hear_msg(g, &h, &m, ev, out);
    }
    g->stats.malformed += c.bad;
    if (ev->kind == GOSSIP_EV_PACKET && !is_self)
        hear_sender(g, &h, &ev->addr, out);
}

/* --- what the host tells us --- */

static void set_seeds(struct gossip *g, const struct gossip_event *ev)
{
    g->seed_count = ev->seed_count < GOSSIP_SEEDS_MAX ? ev->seed_count : GOSSIP_SEEDS_MAX;
    if (g->seed_count > 0)
        memcpy(g->seed, ev->seed, g->seed_count * sizeof *g->seed);
    if (g->ring_count == 0)
        g->seed_at = g->now;
}

static void set_self(struct gossip *g, const struct gossip_event *ev, struct gossip_out *out)
{
    struct gossip_peer *s = g->self;
    if (ev->kind == GOSSIP_EV_FLAGS) {
        if (s->pub.flags == ev->flags)
            return;
        s->pub.flags = ev->flags;
    } else {
        s->meta.n = 0;
        buf_put(&s->meta, ev->bytes.p,
                ev->bytes.n < GOSSIP_META_MAX ? ev->bytes.n : GOSSIP_META_MAX);
        s->pub.meta = buf_str(&s->meta);
        if (ev->addr.port != 0)
            s->pub.addr = ev->addr;
    }
    gossip_announce(g, true, GOSSIP_RANK_REFUTE, out);
    struct gossip_effect *e = gossip_out_add(out, GOSSIP_OUT_UPDATED);
    e->uuid = s->pub.uuid;
    e->epoch = s->pub.epoch;
    e->flags = s->pub.flags;
}

static void write_row(struct gossip *g, const struct gossip_event *ev, struct gossip_out *out)
{
    const struct gossip_row *written;
    struct gossip_row r = {
        .space = ev->space,
        .is_tombstone = ev->kind == GOSSIP_EV_ROW_DEL,
        .version = hlc_now(&g->hlc, g->wall),
        .key = ev->key,
        .value = ev->kind == GOSSIP_EV_ROW_DEL ? STR("") : ev->bytes,
    };
    if (gossip_table_write(&g->table, &r, g->now, out, &written) == 0 && written != NULL)
        gossip_row_queue(g, written);
}

static void load_row(struct gossip *g, const struct gossip_event *ev, struct gossip_out *out)
{
    struct gossip_row r = {
        .owner = ev->uuid,
        .space = ev->space,
        .is_tombstone = ev->flags & 1,
        .version = ev->version,
        .key = ev->key,
        .value = ev->bytes,
    };
    if (ev->space >= GOSSIP_SPACE_SHARED)
        (void)(gossip_table_apply(&g->table, &r, g->now, out) == 0);
}

static void leave(struct gossip *g, struct gossip_out *out)
{
    struct gossip_msg m;
    if (g->is_leaving)
        return;
    g->is_leaving = true;
    g->leave_until = g->now + LEAVE_MAX;
    g->self->pub.inc += g->self->pub.inc < UINT32_MAX;
    g->self->pub.state = GOSSIP_ST_LEFT;
    gossip_msg_of_peer(g->self, GOSSIP_MSG_LEFT, &m);
    gossip_fact_queue(g, &m);
    for (size_t i = 0; i < g->ring_count && i < LEAVE_DIRECT_MAX; i++) {
        gossip_packet_begin(g);
        gossip_packet_add(g, &m);
        gossip_packet_send(g, &g->ring[i]->pub.addr, &g->ring[i]->pub.uuid, out);
    }
    g->gossip_at = g->now;
    tick(g, out);
}

/* An operator says that it never comes back: as if it had said good-bye itself. */
static void forget(struct gossip *g, const struct uuid *uuid, struct gossip_out *out)
{
    struct gossip_peer *p = gossip_peer_find(g, uuid);
    if (p == NULL || p->pub.state != GOSSIP_ST_DEAD)
        return;
    struct gossip_msg m;
    gossip_msg_of_peer(p, GOSSIP_MSG_LEFT, &m);
    gossip_fact(g, &m, false, out);
}

void gossip_step(struct gossip *g, const struct gossip_event *ev, struct gossip_out *out)
{
    usec_t due = next_deadline(g);
    gossip_table_sweep(&g->table);
    must(ev->now >= g->now);
    g->now = ev->now;
    g->wall = ev->wall;
    if (due < g->now && g->now - due > STALL_MIN && !g->is_leaving)
        watch_stall(g, g->now - due, out);
    switch (ev->kind) {
    case GOSSIP_EV_TICK:
        break;
    case GOSSIP_EV_PACKET:
    case GOSSIP_EV_STREAM:
        hear(g, ev, out);
        break;
    case GOSSIP_EV_SEND_FAILED:
        gossip_probe_send_failed(g, &ev->addr);
        break;
    case GOSSIP_EV_STREAM_FAILED:
        gossip_sync_failed(g, ev->stream);
        if (g->probe.stream == ev->stream)
            g->probe.stream = 0;
        break;
    case GOSSIP_EV_SEEDS:
        set_seeds(g, ev);
        break;
    case GOSSIP_EV_FLAGS:
    case GOSSIP_EV_META:
        set_self(g, ev, out);
        break;
    case GOSSIP_EV_ROW_PUT:
    case GOSSIP_EV_ROW_DEL:
        write_row(g, ev, out);
        break;
    case GOSSIP_EV_ROW_LOAD:
        load_row(g, ev, out);
        break;
    case GOSSIP_EV_UNREACHABLE:
        g->urgent = ev->uuid;
        break;
    case GOSSIP_EV_FORGET:
        forget(g, &ev->uuid, out);
        break;
    case GOSSIP_EV_LEAVE:
        leave(g, out);
        break;
    }
    if (!uuid_is_zero(&g->urgent) && !g->is_leaving && !g->probe.is_active)
        g->probe_at = g->now;
    if (next_deadline(g) <= g->now)
        tick(g, out);
}

/* --- reading --- */

const struct gossip_member *gossip_self(const struct gossip *g)
{
    return &g->self->pub;
}

const struct gossip_member *gossip_member_find(const struct gossip *g, const struct uuid *uuid)
{
    const struct gossip_peer *p = gossip_peer_find(g, uuid);
    return p != NULL ? &p->pub : NULL;
}

const struct gossip_suspicion *gossip_member_suspicion(const struct gossip *g,
                                                       const struct uuid *uuid)
{
    const struct gossip_peer *p = gossip_peer_find(g, uuid);
    return p != NULL && p->pub.state == GOSSIP_ST_SUSPECT ? &p->suspicion : NULL;
}

const struct gossip_member *gossip_member_next(const struct gossip *g, size_t *at)
{
    const struct gossip_peer *p = map_next(&g->peers, at);
    return p != NULL ? &p->pub : NULL;
}

size_t gossip_live_count(const struct gossip *g)
{
    return g->ring_count + !g->is_leaving;
}

const struct gossip_table *gossip_table_of(const struct gossip *g)
{
    return &g->table;
}

void gossip_stats_get(const struct gossip *g, struct gossip_stats *out)
{
    *out = g->stats;
    out->score = g->awareness.score;
    out->queue_len = gossip_spread_len(&g->spread);
    out->is_isolated = g->is_isolated;
}

void gossip_check(const struct gossip *g)
{
    size_t at = 0, live = 0, suspects = 0;
    uint64_t mix = 0;
    for (const struct gossip_peer *p; (p = map_next(&g->peers, &at)) != NULL;) {
        mix += p == g->self || gossip_is_live(p) ? gossip_member_mix(&p->pub) : 0;
        if (p == g->self) {
            must(p->pub.state == (g->is_leaving ? GOSSIP_ST_LEFT : GOSSIP_ST_ALIVE)); /* 2 */
            continue;
        }
        must(gossip_is_live(p) == (p->ring_at != SIZE_MAX));  /* 5 */
        must(!gossip_is_live(p) || g->ring[p->ring_at] == p); /* 5 */
        live += gossip_is_live(p);
        if (p->pub.state == GOSSIP_ST_SUSPECT) {
            suspects++;
            gossip_suspicion_check(&p->suspicion); /* 3 */
        }
        const struct table_owner *o = gossip_table_owner(&g->table, &p->pub.uuid);
        must(o == NULL || !o->is_visible ||
             (gossip_is_live(p) && o->epoch == p->pub.epoch)); /* 6 */
    }
    must(live == g->ring_count);                  /* 5 */
    must(mix == g->member_hash);                  /* 8 */
    must(suspects == g->suspect_count);           /* 3 */
    gossip_spread_check(&g->spread);              /* 4 */
    gossip_table_check(&g->table);                /* 6, 8 */
    must(g->awareness.score <= GOSSIP_SCORE_MAX); /* 7 */
}
