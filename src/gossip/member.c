/* The list of members, and what may change it.  SPDX-License-Identifier: Apache-2.0
 *
 * Facts are ordered by (epoch, incarnation, state): a fact that is not greater than what we know is
 * not news (SWIM 4.2; unlike SWIM the dead stay in the list, so that nothing old can bring them
 * back).  Only a member itself raises its incarnation.  What is news is passed on.
 *
 * Invariants 1 to 3 and 5 of README.md are kept here and nowhere else. */
#include "base/hash.h"
#include "base/mem.h"
#include "gossip/gossip_priv.h"

#define HEAL_FIRST                                                                                 \
    (10 * USEC_SEC)               /* does not matter much: the first knock at a dead one's door    \
                                   */
#define ISOLATED_PROBES 3         /* so many different ones in a row do not answer: it may be us */
#define SKEW_TELL (60 * USEC_SEC) /* one line a minute about what does not fit */

static bool peer_eq(const void *item, const void *key)
{
    return uuid_eq(&((const struct gossip_peer *)item)->pub.uuid, key);
}

static uint64_t uuid_hash(const struct uuid *u)
{
    return hash_bytes(u->b, sizeof u->b, 0);
}

uint64_t gossip_member_subject(const struct uuid *u)
{
    return hash_bytes(u->b, sizeof u->b, 1);
}

uint64_t gossip_member_mix(const struct gossip_member *m)
{
    return hash_bytes(m->uuid.b, sizeof m->uuid.b, m->epoch);
}

struct gossip_peer *gossip_peer_find(const struct gossip *g, const struct uuid *uuid)
{
    return map_find(&g->peers, uuid_hash(uuid), peer_eq, uuid);
}

unsigned gossip_transmit_limit(const struct gossip *g)
{
    unsigned log = gossip_log10_milli(g->ring_count + 2);
    return 4 * ((log + 999) / 1000);
}

/* --- the ring of live members --- */

static void ring_put(struct gossip *g, struct gossip_peer *p)
{
    g->ring = mem_grow(g->ring, &g->ring_cap, g->ring_count + 1, sizeof *g->ring);
    size_t at = rng_below(&g->rng, g->ring_count + 1);
    g->member_hash += gossip_member_mix(&p->pub);
    g->ring[g->ring_count] = p;
    p->ring_at = g->ring_count++;
    if (at != p->ring_at) { /* a random place (SWIM 4.3) */
        struct gossip_peer *o = g->ring[at];
        g->ring[p->ring_at] = o;
        o->ring_at = p->ring_at;
        g->ring[at] = p;
        p->ring_at = at;
    }
}

static void ring_del(struct gossip *g, struct gossip_peer *p)
{
    must(g->ring[p->ring_at] == p);
    g->member_hash -= gossip_member_mix(&p->pub);
    struct gossip_peer *last = g->ring[--g->ring_count];
    g->ring[p->ring_at] = last;
    last->ring_at = p->ring_at;
    p->ring_at = SIZE_MAX;
}

/* --- what a member says about itself --- */

static void set_meta(struct gossip_peer *p, struct str meta)
{
    p->meta.n = 0;
    buf_put_str(&p->meta, meta);
    p->pub.meta = buf_str(&p->meta);
}

/* True when something others look at changed. */
static bool take_statement(struct gossip_peer *p, const struct gossip_msg *m)
{
    bool changed = p->pub.flags != m->flags || !gossip_addr_eq(&p->pub.addr, &m->addr) ||
                   !str_eq(p->pub.meta, m->bytes);
    p->pub.flags = m->flags;
    p->pub.addr = m->addr;
    p->pub.version_min = m->version_min;
    p->pub.version_max = m->version_max;
    set_meta(p, m->bytes);
    return changed;
}

struct gossip_peer *gossip_peer_new(struct gossip *g, const struct gossip_msg *m)
{
    struct gossip_peer *p = mem_new(sizeof *p);
    p->pub.uuid = m->uuid;
    p->pub.epoch = m->epoch;
    p->pub.inc = m->inc;
    p->pub.state = GOSSIP_ST_DEAD;
    p->pub.since = g->now;
    p->ring_at = SIZE_MAX;
    (void)take_statement(p, m);
    map_put(&g->peers, uuid_hash(&m->uuid), p);
    return p;
}

void gossip_peer_free(struct gossip *g, struct gossip_peer *p)
{
    if (p->ring_at != SIZE_MAX)
        ring_del(g, p);
    must(map_del(&g->peers, uuid_hash(&p->pub.uuid), p));
    buf_deinit(&p->meta);
    mem_free(p);
}

void gossip_msg_of_peer(const struct gossip_peer *p, uint8_t kind, struct gossip_msg *out)
{
    *out = (struct gossip_msg){
        .kind = kind,
        .uuid = p->pub.uuid,
        .epoch = p->pub.epoch,
        .inc = p->pub.inc,
        .key = STR(""),
        .bytes = STR(""),
    };
    if (kind == GOSSIP_MSG_MEMBER)
        out->state = p->pub.state;
    if (kind == GOSSIP_MSG_MEMBER || kind == GOSSIP_MSG_ALIVE) {
        out->flags = p->pub.flags;
        out->addr = p->pub.addr;
        out->version_min = p->pub.version_min;
        out->version_max = p->pub.version_max;
        out->bytes = p->pub.meta;
    }
}

/* --- effects and the queue --- */

static void tell(struct gossip_out *out, enum gossip_effect_kind kind, const struct gossip_peer *p)
{
    struct gossip_effect *e = gossip_out_add(out, kind);
    e->uuid = p->pub.uuid;
    e->epoch = p->pub.epoch;
    e->addr = p->pub.addr;
    e->flags = p->pub.flags;
}

static enum gossip_rank rank_of(const struct gossip_msg *m)
{
    switch (m->kind) {
    case GOSSIP_MSG_DEAD:
    case GOSSIP_MSG_LEFT:
        return GOSSIP_RANK_GONE;
    case GOSSIP_MSG_SUSPECT:
        return GOSSIP_RANK_SUSPECT;
    default:
        return GOSSIP_RANK_ALIVE;
    }
}

void gossip_fact_queue(struct gossip *g, const struct gossip_msg *m)
{
    if (g->ring_count == 0 && (m->kind == GOSSIP_MSG_DEAD || m->kind == GOSSIP_MSG_SUSPECT))
        return; /* as above, at the death that leaves us alone */
    g->msg.n = 0;
    gossip_msg_bare(&g->msg, m);
    gossip_spread_put(&g->spread, gossip_member_subject(&m->uuid), rank_of(m), buf_str(&g->msg));
}

static void queue_state(struct gossip *g, const struct gossip_peer *p, const struct uuid *from)
{
    static const uint8_t kind[] = {GOSSIP_MSG_ALIVE, GOSSIP_MSG_SUSPECT, GOSSIP_MSG_DEAD,
                                   GOSSIP_MSG_LEFT};
    struct gossip_msg m;
    gossip_msg_of_peer(p, kind[p->pub.state], &m);
    if (p->pub.state == GOSSIP_ST_SUSPECT || p->pub.state == GOSSIP_ST_DEAD)
        m.from = *from;
    gossip_fact_queue(g, &m);
}

void gossip_announce(struct gossip *g, bool bump, enum gossip_rank rank, struct gossip_out *out)
{
    struct gossip_msg m;
    (void)out;
    if (bump && g->self->pub.inc < UINT32_MAX)
        g->self->pub.inc++;
    gossip_msg_of_peer(g->self, GOSSIP_MSG_ALIVE, &m);
    g->msg.n = 0;
    gossip_msg_bare(&g->msg, &m);
    gossip_spread_put(&g->spread, gossip_member_subject(&m.uuid), rank, buf_str(&g->msg));
}

/* --- isolation guard --- */

/* Calls with_suspicion for each suspect and shows the new deadline. */
static void each_suspicion(struct gossip *g, void (*with_suspicion)(struct gossip_suspicion *s))
{
    for (size_t i = 0; i < g->ring_count; i++)
        if (g->ring[i]->pub.state == GOSSIP_ST_SUSPECT) {
            with_suspicion(&g->ring[i]->suspicion);
            g->ring[i]->pub.suspect_until = g->ring[i]->suspicion.deadline;
        }
}

static void set_isolated(struct gossip *g, bool isolated, struct gossip_out *out)
{
    if (g->is_isolated == isolated)
        return;
    g->is_isolated = isolated;
    gossip_out_add(out, isolated ? GOSSIP_OUT_ISOLATED : GOSSIP_OUT_RECOVERED);
    each_suspicion(g, isolated ? gossip_suspicion_stretch : gossip_suspicion_relax);
}

/* Most others fell silent within the time in which none of them can be called dead: then it is more
 * likely us. */
static void watch_isolation(struct gossip *g, struct gossip_out *out)
{
    usec_t min =
        gossip_suspicion_min(g->ring_count + 1, g->conf.suspicion_mult, g->conf.probe_interval);
    if (g->suspect_count >= 3 && g->suspect_count * 2 > g->ring_count + 1 &&
        g->now - g->suspicious_since <= min)
        set_isolated(g, true, out);
    else if (g->suspect_count * 4 <= g->ring_count && g->failed_in_row < ISOLATED_PROBES)
        set_isolated(g, false, out);
}

void gossip_isolation_watch(struct gossip *g, bool answered, struct gossip_out *out)
{
    g->failed_in_row = answered ? 0 : g->failed_in_row + 1;
    if (g->failed_in_row >= ISOLATED_PROBES && g->ring_count >= ISOLATED_PROBES)
        set_isolated(g, true, out);
    else if (answered)
        watch_isolation(g, out);
}

static void watch_company(struct gossip *g, struct gossip_out *out)
{
    if (!g->is_joined && g->ring_count > 0) {
        g->is_joined = true;
        gossip_out_add(out, GOSSIP_OUT_JOINED);
    } else if (g->is_joined && g->ring_count == 0) {
        g->is_joined = false;
        gossip_out_add(out, GOSSIP_OUT_ALONE);
        /* nobody is left to hear it, and once somebody is, it was probably us */
        gossip_spread_clear(&g->spread, GOSSIP_RANK_GONE);
        gossip_spread_clear(&g->spread, GOSSIP_RANK_SUSPECT);
    }
}

/* --- transitions: the only place where a state changes --- */

static void to_state(struct gossip *g, struct gossip_peer *p, enum gossip_state state,
                     struct gossip_out *out)
{
    enum gossip_state old = p->pub.state;
    bool was_live = gossip_is_live(p);
    p->pub.state = state;
    p->pub.since = g->now;
    g->suspect_count -= old == GOSSIP_ST_SUSPECT;
    g->suspect_count += state == GOSSIP_ST_SUSPECT;
    p->pub.suspect_until = 0;
    p->pub.accusers = 0;
    bool live = gossip_is_live(p);
    if (live && !was_live)
        ring_put(g, p);
    if (!live && was_live) {
        ring_del(g, p);
        gossip_probe_forget(g, p);
        p->heal_at = g->now + HEAL_FIRST;
    }
    if (live != was_live)
        gossip_table_show(&g->table, &p->pub.uuid, p->pub.epoch, live, out);
    watch_company(g, out);
}

static void begin_suspicion(struct gossip *g, struct gossip_peer *p, const struct uuid *from)
{
    size_t live = g->ring_count + 1;
    usec_t min = gossip_suspicion_min(live, g->conf.suspicion_mult, g->conf.probe_interval);
    gossip_suspicion_begin(&p->suspicion, g->now, min, live, from);
    if (g->is_isolated)
        gossip_suspicion_stretch(&p->suspicion);
    p->pub.suspect_until = p->suspicion.deadline;
    p->pub.accusers = 1;
    g->stats.suspicions++;
    if (g->suspect_count <= 1)
        g->suspicious_since = g->now;
}

static void suspect(struct gossip *g, struct gossip_peer *p, const struct uuid *from,
                    struct gossip_out *out)
{
    to_state(g, p, GOSSIP_ST_SUSPECT, out);
    begin_suspicion(g, p, from);
    tell(out, GOSSIP_OUT_SUSPECT, p);
    queue_state(g, p, from);
    watch_isolation(g, out);
}

/* A second opinion about one that is suspected already. */
static void accuse_again(struct gossip *g, struct gossip_peer *p, const struct uuid *from,
                         struct gossip_out *out)
{
    if (gossip_suspicion_accuse(&p->suspicion, from) != 0)
        return;
    if (g->is_isolated)
        gossip_suspicion_stretch(&p->suspicion);
    p->pub.suspect_until = p->suspicion.deadline;
    p->pub.accusers = p->suspicion.count;
    tell(out, GOSSIP_OUT_UPDATED, p);
    queue_state(g, p, from); /* the first few independent accusers are passed on (Lifeguard) */
}

static void die(struct gossip *g, struct gossip_peer *p, enum gossip_state state,
                const struct uuid *from, struct gossip_out *out)
{
    bool was_live = gossip_is_live(p);
    to_state(g, p, state, out);
    if (was_live)
        tell(out, state == GOSSIP_ST_LEFT ? GOSSIP_OUT_LEFT : GOSSIP_OUT_DEAD, p);
    else
        tell(out, GOSSIP_OUT_UPDATED, p); /* dead, and now known to have left */
    queue_state(g, p, from);
    watch_isolation(g, out);
}

static void revive(struct gossip *g, struct gossip_peer *p, const struct gossip_msg *m,
                   bool is_new_epoch, struct gossip_out *out)
{
    enum gossip_state old = p->pub.state;
    bool was_live = gossip_is_live(p);
    if (is_new_epoch && was_live) { /* the old life ends before the new one begins */
        gossip_table_show(&g->table, &p->pub.uuid, p->pub.epoch, false, out);
        tell(out, GOSSIP_OUT_DEAD, p);
    }
    if (!is_new_epoch && old == GOSSIP_ST_DEAD)
        g->stats.false_deaths++;
    p->pub.flaps = is_new_epoch ? 0 : p->pub.flaps + (old != GOSSIP_ST_ALIVE);
    if (was_live)
        g->member_hash -= gossip_member_mix(&p->pub);
    p->pub.epoch = m->epoch;
    if (was_live)
        g->member_hash += gossip_member_mix(&p->pub);
    p->pub.inc = m->inc;
    bool changed = take_statement(p, m);
    if (old != GOSSIP_ST_ALIVE)
        to_state(g, p, GOSSIP_ST_ALIVE, out);
    if (is_new_epoch) {
        p->sync_wait = 0;
        gossip_table_show(&g->table, &p->pub.uuid, p->pub.epoch, true, out);
    }
    if (is_new_epoch || !was_live || old == GOSSIP_ST_SUSPECT)
        tell(out, GOSSIP_OUT_ALIVE, p);
    else if (changed)
        tell(out, GOSSIP_OUT_UPDATED, p);
    queue_state(g, p, &p->pub.uuid);
    watch_isolation(g, out);
}

/* --- facts --- */

static void tell_skew(struct gossip *g, const struct gossip_msg *m, uint32_t what,
                      struct gossip_out *out)
{
    if (g->now < g->skew_at)
        return;
    g->skew_at = g->now + SKEW_TELL;
    struct gossip_effect *e = gossip_out_add(out, GOSSIP_OUT_SKEW);
    e->uuid = m->uuid;
    e->addr = m->addr;
    e->flags = what;
    e->epoch = (uint64_t)m->version_min << 16 | m->version_max;
}

static bool versions_fit(const struct gossip *g, const struct gossip_msg *m)
{
    return m->version_min <= g->conf.version_max && g->conf.version_min <= m->version_max;
}

/* Of two with one identity and one epoch, the one at the higher address stays. */
static bool is_above(const struct gossip_addr *a, const struct gossip_addr *b)
{
    int r = memcmp(a->ip, b->ip, sizeof a->ip);
    return r > 0 || (r == 0 && a->port > b->port);
}

/* Nobody is called dead by us before it could hear of it and refute; and what we believed while
 * nobody heard us is not passed on. */
static void spare_all(struct gossip *g)
{
    gossip_spread_clear(&g->spread, GOSSIP_RANK_GONE);
    gossip_spread_clear(&g->spread, GOSSIP_RANK_SUSPECT);
    usec_t min =
        gossip_suspicion_min(g->ring_count + 1, g->conf.suspicion_mult, g->conf.probe_interval);
    if (g->no_death_until < g->now + 2 * min) /* matters: each of few is probed within it */
        g->no_death_until = g->now + 2 * min;
}

static void about_us(struct gossip *g, const struct gossip_msg *m, enum gossip_state state,
                     struct gossip_out *out)
{
    struct gossip_member *self = &g->self->pub;
    bool elsewhere =
        m->addr.port != 0 && !gossip_addr_eq(&m->addr, &self->addr) && state == GOSSIP_ST_ALIVE;
    if (m->epoch > self->epoch ||
        (m->epoch == self->epoch && elsewhere &&
         (m->inc > self->inc || (m->inc == self->inc && is_above(&m->addr, &self->addr))))) {
        gossip_out_add(out, GOSSIP_OUT_DUPLICATE)->addr = m->addr;
        return;
    }
    if (m->epoch < self->epoch || m->inc < self->inc || g->is_leaving)
        return;
    if (state == GOSSIP_ST_ALIVE && m->inc == self->inc && !elsewhere)
        return;
    /* SWIM 4.2: only we may answer, with a higher incarnation; to be suspected is a sign of our own
     * bad health */
    self->inc = m->inc;
    g->stats.refutes++;
    if (state == GOSSIP_ST_DEAD) /* we were the one cut off: whom we doubt has had no chance yet */
        spare_all(g);
    gossip_awareness_add(&g->awareness, 1);
    gossip_announce(g, true, GOSSIP_RANK_REFUTE, out);
    gossip_out_add(out, GOSSIP_OUT_REFUTED)->uuid = m->from;
    g->gossip_at = g->now; /* at once */
}

static void about_stranger(struct gossip *g, const struct gossip_msg *m, enum gossip_state state,
                           struct gossip_out *out)
{
    bool is_full = m->kind == GOSSIP_MSG_ALIVE || m->kind == GOSSIP_MSG_MEMBER;
    if (!is_full && state < GOSSIP_ST_DEAD)
        return; /* doubts about one whose address we do not know: of no use */
    if (g->peers.count >= GOSSIP_MEMBER_MAX)
        return;
    if (is_full && !versions_fit(g, m)) {
        tell_skew(g, m, GOSSIP_SKEW_VERSION, out);
        return;
    }
    struct gossip_peer *p = gossip_peer_new(g, m);
    p->pub.state = state >= GOSSIP_ST_DEAD ? state : GOSSIP_ST_DEAD;
    if (state >= GOSSIP_ST_DEAD) { /* remembered, so that it cannot come back by an older rumour */
        p->heal_at = g->now + HEAL_FIRST;
        queue_state(g, p, &m->from);
        return;
    }
    to_state(g, p, GOSSIP_ST_ALIVE, out);
    tell(out, GOSSIP_OUT_ALIVE, p);
    queue_state(g, p, &p->pub.uuid);
    if (state == GOSSIP_ST_SUSPECT)
        suspect(g, p, &m->from, out);
}

/* A member that newly claims an address which another one holds: ask there who it is. */
static void check_address(struct gossip *g, const struct gossip_msg *m)
{
    for (size_t i = 0; i < g->ring_count; i++)
        if (gossip_addr_eq(&g->ring[i]->pub.addr, &m->addr) &&
            !uuid_eq(&g->ring[i]->pub.uuid, &m->uuid))
            g->urgent = g->ring[i]->pub.uuid;
}

static void about_known(struct gossip *g, struct gossip_peer *p, const struct gossip_msg *m,
                        enum gossip_state state, struct gossip_out *out)
{
    bool is_full = m->kind == GOSSIP_MSG_ALIVE || m->kind == GOSSIP_MSG_MEMBER;
    bool new_epoch = m->epoch > p->pub.epoch;
    if (m->epoch < p->pub.epoch || (!new_epoch && m->inc < p->pub.inc))
        return;
    bool newer = new_epoch || m->inc > p->pub.inc;
    if (!newer && state <= p->pub.state) {
        if (state == GOSSIP_ST_SUSPECT && p->pub.state == GOSSIP_ST_SUSPECT)
            accuse_again(g, p, &m->from, out);
        return;
    }
    if (new_epoch && !is_full && state < GOSSIP_ST_DEAD)
        return;
    if (state == GOSSIP_ST_ALIVE || (is_full && newer && state == GOSSIP_ST_SUSPECT)) {
        if (!versions_fit(g, m))
            return;
        revive(g, p, m, new_epoch, out);
        check_address(g, m);
        if (state == GOSSIP_ST_SUSPECT)
            suspect(g, p, &m->from, out);
        return;
    }
    if (state == GOSSIP_ST_SUSPECT && !gossip_is_live(p))
        return; /* nothing new: it is dead to us until it says otherwise itself */
    if (new_epoch && gossip_is_live(p))
        die(g, p, GOSSIP_ST_DEAD, &m->from, out);
    p->pub.epoch = m->epoch;
    p->pub.inc = m->inc;
    if (state == GOSSIP_ST_SUSPECT)
        suspect(g, p, &m->from, out);
    else
        die(g, p, state, &m->from, out);
}

void gossip_fact(struct gossip *g, const struct gossip_msg *m, bool is_sync, struct gossip_out *out)
{
    enum gossip_state state = m->kind == GOSSIP_MSG_ALIVE     ? GOSSIP_ST_ALIVE
                              : m->kind == GOSSIP_MSG_SUSPECT ? GOSSIP_ST_SUSPECT
                              : m->kind == GOSSIP_MSG_DEAD    ? GOSSIP_ST_DEAD
                              : m->kind == GOSSIP_MSG_LEFT    ? GOSSIP_ST_LEFT
                                                              : m->state;
    struct gossip_peer *p = gossip_peer_find(g, &m->uuid);
    if (p == g->self) {
        about_us(g, m, state, out);
        return;
    }
    if (p == NULL) {
        about_stranger(g, m, state, out);
        if (m->kind == GOSSIP_MSG_ALIVE || m->kind == GOSSIP_MSG_MEMBER)
            check_address(g, m);
        return;
    }
    /* a death that comes by an exchange may be old news: give it the chance to refute */
    if (is_sync && state == GOSSIP_ST_DEAD && gossip_is_live(p) && m->epoch == p->pub.epoch)
        state = GOSSIP_ST_SUSPECT;
    about_known(g, p, m, state, out);
}

/* --- our own judgement --- */

void gossip_accuse(struct gossip *g, struct gossip_peer *p, struct gossip_out *out)
{
    if (p->pub.state == GOSSIP_ST_SUSPECT)
        accuse_again(g, p, &g->self->pub.uuid, out);
    else if (p->pub.state == GOSSIP_ST_ALIVE)
        suspect(g, p, &g->self->pub.uuid, out);
}

void gossip_declare_dead(struct gossip *g, struct gossip_peer *p, struct gossip_out *out)
{
    if (gossip_is_live(p))
        die(g, p, GOSSIP_ST_DEAD, &g->self->pub.uuid, out);
}

void gossip_suspicions_tick(struct gossip *g, struct gossip_out *out)
{
    if (g->suspect_count == 0 || g->now < g->no_death_until)
        return;
    for (size_t i = g->ring_count; i-- > 0;) {
        if (i >= g->ring_count)
            continue;
        struct gossip_peer *p = g->ring[i];
        if (p->pub.state == GOSSIP_ST_SUSPECT && p->suspicion.deadline <= g->now)
            gossip_declare_dead(g, p, out);
    }
}

usec_t gossip_suspicions_deadline(const struct gossip *g)
{
    usec_t at = USEC_NEVER;
    for (size_t i = 0; g->suspect_count > 0 && i < g->ring_count; i++)
        if (g->ring[i]->pub.state == GOSSIP_ST_SUSPECT)
            at = usec_min(at, g->ring[i]->suspicion.deadline);
    return at == USEC_NEVER || at > g->no_death_until ? at : g->no_death_until;
}

void gossip_members_expire(struct gossip *g, struct gossip_out *out)
{
    size_t at = 0;
    struct gossip_peer *gone = NULL;
    for (struct gossip_peer *p; (p = map_next(&g->peers, &at)) != NULL;)
        if (!gossip_is_live(p) && p != g->self && p->pub.since + g->conf.dead_keep <= g->now)
            gone = p; /* one a minute is enough */
    if (gone == NULL)
        return;
    gossip_table_forget(&g->table, &gone->pub.uuid, out);
    tell(out, GOSSIP_OUT_FORGOTTEN, gone);
    gossip_peer_free(g, gone);
}
