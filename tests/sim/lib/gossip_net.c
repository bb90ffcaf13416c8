/* A network of gossip machines.  SPDX-License-Identifier: Apache-2.0 */
#include "sim/lib/gossip_net.h"

#include "base/mem.h"

#define DELAY_MIN (100) /* usec */
#define DELAY_MAX (2 * USEC_MSEC)
#define WALL_START ((usec_t)1700000000 * USEC_SEC)

#define KNOCK_MAX 3 /* at a door that nobody hears: after 1, 3 and 7 s, as TCP */

enum { CARRY_PACKET, CARRY_FRAME, CARRY_FAILED, CARRY_KNOCK };

struct carry { /* something on its way to a node */
    struct world_event ev;
    struct gossip_net *net;
    unsigned kind, to, life;
    unsigned door, knocks; /* CARRY_KNOCK: whom node `to` wants to reach, and how often it tried */
    uint64_t stream;
    struct gossip_addr from;
    size_t n;
    char bytes[];
};

static void timer_fires(void *arg, struct world_event *ev);
static void run_effects(struct gossip_net *n, unsigned i);

void gossip_net_init(struct gossip_net *n, struct world *w, unsigned count)
{
    bool is_one_host = n->is_one_host;
    must(count <= NET_NODES_MAX);
    memset(n, 0, sizeof *n);
    n->is_one_host = is_one_host;
    n->w = w;
    n->count = count;
    n->check_every = 64;
    for (unsigned i = 0; i < count; i++) {
        struct net_node *x = &n->node[i];
        uint8_t random[16];
        for (unsigned k = 0; k < 16; k += 8) {
            uint64_t r = rng_u64(&w->rng);
            memcpy(random + k, &r, 8);
        }
        x->uuid = uuid_from_random(random);
        x->addr.ip[10] = x->addr.ip[11] = 0xFF;
        x->addr.ip[12] = 10;
        x->addr.ip[14] = is_one_host ? 0 : (uint8_t)(i >> 8);
        x->addr.ip[15] = is_one_host ? 1 : (uint8_t)i;
        x->addr.port = is_one_host ? (uint16_t)(20000 + i) : 8899;
    }
}

static void free_carry(struct world_event *ev)
{
    if (ev->happen != timer_fires)
        mem_free(container_of(ev, struct carry, ev));
}

void gossip_net_deinit(struct gossip_net *n)
{
    world_deinit(n->w, free_carry);
    for (unsigned i = 0; i < n->count; i++)
        n->node[i].g = gossip_free(n->node[i].g);
    gossip_out_deinit(&n->out);
    mem_free(n->stream);
}

static usec_t wall_of(const struct gossip_net *n, unsigned i)
{
    return (usec_t)((int64_t)(WALL_START + n->w->now) + n->node[i].skew);
}

static int node_at(const struct gossip_net *n, const struct gossip_addr *a)
{
    for (unsigned i = 0; i < n->count; i++)
        if (gossip_addr_eq(&n->node[i].addr, a))
            return (int)i;
    return -1;
}

static bool is_cut(const struct gossip_net *n, unsigned from, unsigned to, bool is_stream)
{
    const struct net_node *a = &n->node[from], *b = &n->node[to];
    if (a->group != b->group || a->is_mute || b->is_deaf)
        return true;
    if (is_stream && (a->is_deaf || b->is_mute))
        return true; /* a connection needs both ways */
    if (n->cut[0] && ((from == n->cut_a && to == n->cut_b) || (from == n->cut_b && to == n->cut_a)))
        return true;
    return n->udp_blocked && !is_stream && (from == n->cut_a || to == n->cut_a);
}

static void arm(struct gossip_net *n, unsigned i)
{
    struct net_node *x = &n->node[i];
    world_unplan(n->w, &x->timer);
    if (x->g == NULL)
        return;
    usec_t at = gossip_deadline(x->g);
    at = at < x->stalled_until ? x->stalled_until : at;
    must(at != USEC_NEVER);
    world_plan(n->w, &x->timer, at > n->w->now ? at - n->w->now : 0, timer_fires);
}

void gossip_net_step(struct gossip_net *n, unsigned i, struct gossip_event *ev)
{
    struct net_node *x = &n->node[i];
    if (x->g == NULL)
        return;
    ev->now = n->w->now;
    ev->wall = wall_of(n, i);
    gossip_step(x->g, ev, &n->out);
    if (++n->steps % n->check_every == 0)
        gossip_check(x->g);
    run_effects(n, i);
    if (x->g != NULL)
        arm(n, i);
}

static void timer_fires(void *arg, struct world_event *ev)
{
    struct net_node *x = container_of(ev, struct net_node, timer);
    struct gossip_net *n = arg;
    struct gossip_event tick = {.kind = GOSSIP_EV_TICK};
    gossip_net_step(n, (unsigned)(x - n->node), &tick);
}

static bool knock(struct gossip_net *n, struct carry *c);

static void arrives(void *arg, struct world_event *ev)
{
    struct carry *c = container_of(ev, struct carry, ev);
    struct gossip_net *n = arg;
    struct net_node *x = &n->node[c->to];
    if (c->kind == CARRY_KNOCK && x->g != NULL && x->life == c->life && knock(n, c))
        return;
    if (x->g == NULL || x->life != c->life || c->kind == CARRY_KNOCK) {
        mem_free(c);
        return;
    }
    if (x->stalled_until > n->w->now) { /* it lies in the socket buffer */
        world_plan(n->w, &c->ev, x->stalled_until - n->w->now, arrives);
        return;
    }
    struct gossip_event e = {
        .kind = c->kind == CARRY_PACKET  ? GOSSIP_EV_PACKET
                : c->kind == CARRY_FRAME ? GOSSIP_EV_STREAM
                                         : GOSSIP_EV_STREAM_FAILED,
        .addr = c->from,
        .stream = c->stream,
        .bytes = str_view(c->bytes, c->n),
    };
    gossip_net_step(n, c->to, &e);
    mem_free(c);
}

static void carry(struct gossip_net *n, unsigned kind, unsigned from, unsigned to, uint64_t stream,
                  struct str s, usec_t delay)
{
    struct carry *c = mem_new(sizeof *c + s.n);
    c->net = n;
    c->kind = kind;
    c->to = to;
    c->life = n->node[to].life;
    c->stream = stream;
    c->from = n->node[from].addr;
    c->n = s.n;
    memcpy(c->bytes, s.p, s.n);
    world_plan(n->w, &c->ev, delay, arrives);
}

static usec_t delay(struct gossip_net *n)
{
    return rng_between(&n->w->rng, DELAY_MIN, DELAY_MAX);
}

static void send_packet(struct gossip_net *n, unsigned from, const struct gossip_addr *addr,
                        struct str s)
{
    int to = node_at(n, addr);
    n->packets++;
    must(s.n <= 1400);
    if (to < 0 || is_cut(n, from, (unsigned)to, false) || n->node[to].g == NULL)
        return;
    uint32_t loss = n->loss_million;
    loss = n->node[from].loss_million > loss ? n->node[from].loss_million : loss;
    loss = n->node[to].loss_million > loss ? n->node[to].loss_million : loss;
    if (rng_chance(&n->w->rng, loss))
        return;
    carry(n, CARRY_PACKET, from, (unsigned)to, 0, s, delay(n));
}

/* The stream that node i has begun and not given up; stream_count: none. */
static size_t begun(const struct gossip_net *n, unsigned i, uint64_t id)
{
    size_t k = n->stream_count;
    while (k > 0 && !(n->stream[k - 1].a.node == i && n->stream[k - 1].a.id == id &&
                      n->stream[k - 1].life_a == n->node[i].life))
        k--;
    return k > 0 ? k - 1 : n->stream_count;
}

/* Tries once more to reach that door; true when c lives on. */
static bool knock(struct gossip_net *n, struct carry *c)
{
    size_t k = begun(n, c->to, c->stream);
    if (k == n->stream_count)
        return false; /* given up meanwhile */
    if (is_cut(n, c->to, c->door, true)) {
        if (++c->knocks > KNOCK_MAX) {
            n->stream[k] = n->stream[--n->stream_count];
            carry(n, CARRY_FAILED, c->to, c->to, c->stream, STR(""), 0);
            return false;
        }
        world_plan(n->w, &c->ev, USEC_SEC << (c->knocks - 1), arrives);
        return true;
    }
    if (n->node[c->door].g == NULL) {
        n->stream[k] = n->stream[--n->stream_count];
        carry(n, CARRY_FAILED, c->to, c->to, c->stream, STR(""), delay(n)); /* refused */
        return false;
    }
    uint64_t theirs = GOSSIP_STREAM_THEIRS | ++n->node[c->door].streams;
    n->stream[k].b = (struct net_stream_end){c->door, theirs};
    n->stream[k].life_b = n->node[c->door].life;
    n->stream[k].is_open = true;
    carry(n, CARRY_FRAME, c->to, c->door, theirs, str_view(c->bytes, c->n), 2 * delay(n));
    return false;
}

static void open_stream(struct gossip_net *n, unsigned from, const struct gossip_effect *e,
                        struct str s)
{
    int to = node_at(n, &e->addr);
    if (to < 0) {
        carry(n, CARRY_FAILED, from, from, e->stream, STR(""), 5 * USEC_SEC); /* times out */
        return;
    }
    n->stream = mem_grow(n->stream, &n->stream_cap, n->stream_count + 1, sizeof *n->stream);
    size_t k = n->stream_count++;
    n->stream[k].a = n->stream[k].b = (struct net_stream_end){from, e->stream};
    n->stream[k].life_a = n->stream[k].life_b = n->node[from].life;
    n->stream[k].is_open = false;
    struct carry *c = mem_new(sizeof *c + s.n);
    *c = (struct carry){.net = n, .kind = CARRY_KNOCK, .to = from, .life = n->node[from].life};
    c->door = (unsigned)to;
    c->stream = e->stream;
    c->n = s.n;
    memcpy(c->bytes, s.p, s.n);
    if (!knock(n, c))
        mem_free(c);
}

/* The other end of a stream; false: none. */
static bool other_end(struct gossip_net *n, unsigned i, uint64_t id, struct net_stream_end *out,
                      size_t *at)
{
    for (size_t k = n->stream_count; k-- > 0;) {
        bool is_a = n->stream[k].a.node == i && n->stream[k].a.id == id &&
                    n->stream[k].life_a == n->node[i].life;
        bool is_b = n->stream[k].b.node == i && n->stream[k].b.id == id &&
                    n->stream[k].life_b == n->node[i].life;
        if (!is_a && !is_b)
            continue;
        *at = k;
        if (!n->stream[k].is_open)
            return false;
        *out = is_a ? n->stream[k].b : n->stream[k].a;
        return n->node[out->node].life == (is_a ? n->stream[k].life_b : n->stream[k].life_a);
    }
    return false;
}

static void send_stream(struct gossip_net *n, unsigned i, const struct gossip_effect *e,
                        struct str s)
{
    struct net_stream_end to;
    size_t at;
    if (!other_end(n, i, e->stream, &to, &at))
        return;
    if (is_cut(n, i, to.node, true) || n->node[to.node].g == NULL)
        carry(n, CARRY_FAILED, i, i, e->stream, STR(""), 5 * USEC_SEC);
    else
        carry(n, CARRY_FRAME, i, to.node, to.id, s, 2 * DELAY_MAX); /* in order */
}

static void close_stream(struct gossip_net *n, unsigned i, uint64_t id)
{
    struct net_stream_end to;
    size_t at = n->stream_count;
    if (other_end(n, i, id, &to, &at) && !is_cut(n, i, to.node, true) && n->node[to.node].g != NULL)
        carry(n, CARRY_FAILED, i, to.node, to.id, STR(""), 3 * DELAY_MAX);
    if (at < n->stream_count)
        n->stream[at] = n->stream[--n->stream_count];
}

static int node_of(const struct gossip_net *n, const struct uuid *u)
{
    for (unsigned i = 0; i < n->count; i++)
        if (uuid_eq(&n->node[i].uuid, u))
            return (int)i;
    return -1;
}

/* Invariant 1 of the machine, watched from outside: (epoch, incarnation, state) only grows. */
static void check_belief(struct gossip_net *n, unsigned i, unsigned who)
{
    struct net_belief *b = &n->belief[i][who];
    const struct gossip_member *m =
        n->node[i].g != NULL ? gossip_member_find(n->node[i].g, &n->node[who].uuid) : NULL;
    if (m == NULL || i == who)
        return;
    struct net_belief now = {m->epoch, m->inc, m->state, n->node[i].life};
    bool is_back = b->life == now.life &&
                   (now.epoch < b->epoch ||
                    (now.epoch == b->epoch &&
                     (now.inc < b->inc || (now.inc == b->inc && now.state < b->state))));
    if (is_back)
        world_fail(n->w, "node %u goes back on node %u: inc %u state %u, was inc %u state %u", i,
                   who, (unsigned)now.inc, now.state, (unsigned)b->inc, b->state);
    *b = now;
}

static void note(struct gossip_net *n, unsigned i, const struct gossip_effect *e)
{
    struct net_node *x = &n->node[i];
    int who = node_of(n, &e->uuid);
    if (who < 0)
        return;
    check_belief(n, i, (unsigned)who);
    if (n->w->is_loud || e->kind == GOSSIP_OUT_DEAD)
        world_trace(n->w, "%u: %d %s", i, who,
                    e->kind == GOSSIP_OUT_DEAD      ? "dead"
                    : e->kind == GOSSIP_OUT_SUSPECT ? "suspect"
                    : e->kind == GOSSIP_OUT_LEFT    ? "left"
                    : e->kind == GOSSIP_OUT_ALIVE   ? "alive"
                                                    : "changed");
    if (e->kind == GOSSIP_OUT_ALIVE)
        x->alive_seen++;
    if (e->kind == GOSSIP_OUT_LEFT)
        x->left_seen++;
    if (e->kind != GOSSIP_OUT_DEAD)
        return;
    x->dead_seen++;
    if (n->node[who].g != NULL && n->node[who].epoch == e->epoch) {
        n->false_deaths++;
        if (n->expect_quiet)
            world_fail(n->w, "node %u took the living node %d for dead", i, who);
    }
}

static void run_effects(struct gossip_net *n, unsigned i)
{
    for (size_t k = 0; k < n->out.count; k++) {
        const struct gossip_effect *e = &n->out.effect[k];
        struct str s = gossip_effect_bytes(&n->out, e);
        if (n->watch != NULL)
            n->watch(n, i, e);
        switch (e->kind) {
        case GOSSIP_OUT_PACKET:
            send_packet(n, i, &e->addr, s);
            break;
        case GOSSIP_OUT_STREAM_OPEN:
            open_stream(n, i, e, s);
            break;
        case GOSSIP_OUT_STREAM_SEND:
            send_stream(n, i, e, s);
            break;
        case GOSSIP_OUT_STREAM_CLOSE:
            close_stream(n, i, e->stream);
            break;
        case GOSSIP_OUT_ALIVE:
        case GOSSIP_OUT_SUSPECT:
        case GOSSIP_OUT_DEAD:
        case GOSSIP_OUT_LEFT:
        case GOSSIP_OUT_UPDATED:
            note(n, i, e);
            break;
        case GOSSIP_OUT_ISOLATED:
            n->node[i].isolated_seen++;
            break;
        case GOSSIP_OUT_DUPLICATE:
            n->node[i].duplicate_seen++;
            break;
        case GOSSIP_OUT_GONE:
            n->node[i].gone_seen++;
            break;
        case GOSSIP_OUT_FORGOTTEN:
        case GOSSIP_OUT_ROW:
        case GOSSIP_OUT_SHARED:
        case GOSSIP_OUT_JOINED:
        case GOSSIP_OUT_ALONE:
        case GOSSIP_OUT_RECOVERED:
        case GOSSIP_OUT_REFUTED:
        case GOSSIP_OUT_STALLED:
        case GOSSIP_OUT_SKEW:
        case GOSSIP_OUT_STREAM_ONLY:
            break;
        }
    }
    gossip_out_reset(&n->out);
}

void gossip_net_start(struct gossip_net *n, unsigned i, unsigned seed_from, unsigned seed_count)
{
    struct net_node *x = &n->node[i];
    struct gossip_addr seed[100];
    must(x->g == NULL && seed_count <= countof(seed));
    usec_t wall_ms = wall_of(n, i) / USEC_MSEC;
    x->epoch = x->epoch + 1 > wall_ms ? x->epoch + 1 : wall_ms;
    x->life++;
    struct gossip_conf c = {
        .uuid = x->uuid,
        .epoch = x->epoch,
        .addr = x->addr,
        .meta = STR("facts about this node, as long as they usually are: loops, rpc, api"),
        .version_min = x->version_min ? x->version_min : 1,
        .version_max = x->version_max ? x->version_max : 1,
        .flags = GOSSIP_FLAG_READY,
    };
    x->g = gossip_new(&c, n->w->now, wall_of(n, i), rng_u64(&n->w->rng));
    for (unsigned k = 0; k < seed_count; k++)
        seed[k] = n->node[seed_from + k].addr;
    struct gossip_event ev = {.kind = GOSSIP_EV_SEEDS, .seed = seed, .seed_count = seed_count};
    gossip_net_step(n, i, &ev);
}

void gossip_net_kill(struct gossip_net *n, unsigned i)
{
    n->node[i].g = gossip_free(n->node[i].g);
    world_unplan(n->w, &n->node[i].timer);
}

void gossip_net_put(struct gossip_net *n, unsigned i, uint8_t space, const char *key,
                    struct str value)
{
    struct gossip_event ev = {
        .kind = GOSSIP_EV_ROW_PUT, .space = space, .key = str_of(key), .bytes = value};
    gossip_net_step(n, i, &ev);
}

void gossip_net_del(struct gossip_net *n, unsigned i, uint8_t space, const char *key)
{
    struct gossip_event ev = {
        .kind = GOSSIP_EV_ROW_DEL, .space = space, .key = str_of(key), .bytes = STR("")};
    gossip_net_step(n, i, &ev);
}

enum gossip_state gossip_net_view(const struct gossip_net *n, unsigned a, unsigned b,
                                  bool *out_known)
{
    const struct gossip_member *m = gossip_member_find(n->node[a].g, &n->node[b].uuid);
    *out_known = m != NULL;
    return m != NULL ? m->state : GOSSIP_ST_DEAD;
}

bool gossip_net_agrees(const struct gossip_net *n)
{
    for (unsigned i = 0; i < n->count; i++) {
        size_t running = 0;
        if (n->node[i].g == NULL)
            continue;
        for (unsigned j = 0; j < n->count; j++)
            running += n->node[j].g != NULL && n->node[j].group == n->node[i].group;
        if (gossip_live_count(n->node[i].g) != running)
            return false;
        for (unsigned j = 0; j < n->count; j++) {
            const struct gossip_member *m = gossip_member_find(n->node[i].g, &n->node[j].uuid);
            bool here = n->node[j].g != NULL && n->node[j].group == n->node[i].group;
            bool seen = m != NULL && m->state <= GOSSIP_ST_SUSPECT;
            if (here != seen || (here && m->epoch != n->node[j].epoch))
                return false;
        }
    }
    return true;
}

bool gossip_net_same_table(const struct gossip_net *n)
{
    uint64_t hash = 0;
    bool first = true;
    for (unsigned i = 0; i < n->count; i++) {
        if (n->node[i].g == NULL)
            continue;
        uint64_t h = gossip_table_hash(gossip_table_of(n->node[i].g));
        if (!first && h != hash)
            return false;
        hash = h;
        first = false;
    }
    return true;
}
