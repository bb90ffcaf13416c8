/* One Raft group under everything that can go wrong, by the seed.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * First the safety phase: crashes, wiped disks, partitions, loss, duplicates, late and
 * reordered messages, slow disks, stopped processes, drifting clocks, changes of membership,
 * transfers, compaction; which of them, and how much, is drawn from the seed.  Then all is
 * healed and the group must serve everybody within a bound.  The calls of the clients must be
 * linearizable throughout. */
#include "base/mem.h"
#include "sim/lib/group_play.h"

#define CLIENTS 5
#define OPS_PER_KEY 48
#define CHAOS_MAX (20 * USEC_SEC)
#define HEAL_MAX (15 * USEC_SEC)
/* matters: a follower that is sent one append per heartbeat needs longer */
#define CATCH_UP_MAX (3 * USEC_SEC)
#define SEARCH_STEPS 300000

struct swarm {
    bool crash, wipe, split, pause, conf, transfer, unreachable, slow_disk, backlog;
    usec_t chaos;
    uint32_t read_ppm;
};

struct client {
    struct world_event ev;
    struct play *p;
    uint64_t op;  /* under way, 0: none */
    struct group_node *stuck; /* its next call waits until this one runs again */
};

struct play {
    struct group g;
    struct swarm s;
    struct client client[CLIENTS];
    struct linear_op *op; /* by number - 1 */
    uint8_t *key;
    size_t op_count, op_cap, key_cap;
    uint8_t key_now;
    size_t key_ops;
    bool is_healed;
    struct world_event fault, operate;
    uint64_t probe; /* write of the liveness phase */
    bool probe_done;
};

static struct play *play_of(struct group *g)
{
    return container_of(g, struct play, g);
}

/* ---- clients ---- */

static void client_plan(struct client *c, usec_t in);

static uint64_t op_new(struct play *p, enum linear_kind kind, uint8_t key)
{
    size_t n = p->op_count;
    p->op = mem_grow(p->op, &p->op_cap, n + 1, sizeof *p->op);
    p->key = mem_grow(p->key, &p->key_cap, n + 1, sizeof *p->key);
    p->op[n] = (struct linear_op){kind, n + 1, p->g.w.now, USEC_NEVER};
    p->key[n] = key;
    p->op_count++;
    return n + 1;
}

static void op_done(struct group *g, uint64_t op, bool ok, uint64_t value)
{
    struct play *p = play_of(g);
    struct linear_op *o = &p->op[op - 1];
    if (op == p->probe)
        p->probe_done = ok;
    if (ok) {
        o->ret = g->w.now;
        if (o->kind == LINEAR_READ)
            o->arg = value;
        world_trace(&g->w, "op %llu done %llx", (unsigned long long)op, (unsigned long long)value);
    } else if (o->kind != LINEAR_READ) {
        o->kind = LINEAR_READ; /* certainly never took effect: as if nobody had asked */
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        struct client *c = &p->client[i];
        if (c->op != op)
            continue;
        c->op = 0;
        world_unplan(&g->w, &c->ev);
        client_plan(c, rng_below(&g->w.rng, 20 * USEC_MSEC));
    }
}

static void client_acts(void *arg, struct world_event *ev)
{
    struct client *c = container_of(ev, struct client, ev);
    struct play *p = c->p;
    struct group *g = &p->g;
    (void)arg;
    c->op = 0; /* what was under way took too long: nobody knows */
    if (p->is_healed)
        return;
    if (p->key_ops >= OPS_PER_KEY && p->key_now + 1 < GROUP_KEYS) {
        p->key_now++;
        p->key_ops = 0;
    } else if (p->key_ops >= OPS_PER_KEY) {
        return;
    }
    struct group_node *n = group_leader(g);
    if (n == NULL || rng_chance(&g->w.rng, 300000))
        n = &g->node[rng_below(&g->w.rng, g->count)];
    if (c->stuck != NULL)
        n = c->stuck;
    c->stuck = NULL;
    if (n->is_up && g->w.now < n->paused_until) {
        if (rng_chance(&g->w.rng, 800000)) {
            client_plan(c, 20 * USEC_MSEC); /* not here */
            return;
        }
        c->stuck = n; /* the call waits in its socket */
        client_plan(c, usec_until(g->w.now, n->paused_until));
        return;
    }
    enum linear_kind kind = rng_chance(&g->w.rng, p->s.read_ppm) ? LINEAR_READ
                            : (p->key_now & 1)                   ? LINEAR_APPEND
                                                                 : LINEAR_WRITE;
    if (!n->is_up || (kind != LINEAR_READ && n->raft.role != RAFT_LEADER)) {
        client_plan(c, rng_between(&g->w.rng, 10 * USEC_MSEC, 200 * USEC_MSEC));
        return;
    }
    c->op = op_new(p, kind, p->key_now);
    p->key_ops++;
    client_plan(c, 2 * USEC_SEC);
    uint64_t op = c->op;
    if (!group_call(n, op, kind, p->key_now, op))
        op_done(g, op, false, 0);
}

static void client_plan(struct client *c, usec_t in)
{
    world_plan(&c->p->g.w, &c->ev, in, client_acts);
}

/* ---- faults ---- */

/* May one disk be lost?  Not when another is, and only of three: the protocol promises no more. */
static bool may_wipe(struct group *g)
{
    const struct raft_config *c = g->truth.config;
    const struct group_node *l = group_leader(g);
    size_t voters = 0;
    if (l == NULL || !raft_config_eq(c, raft_config_get(&l->raft)))
        return false;
    for (size_t i = 0; i < c->count; i++) {
        if (group_by_id(g, c->member[i].id) == NULL)
            return false;
        voters += raft_config_is_voter(c, c->member[i].id);
    }
    for (size_t i = 0; i < g->count; i++)
        if (!g->node[i].is_up)
            return false;
    return !c->is_joint && voters >= 3;
}

static void fault_node(struct play *p, struct group_node *n)
{
    struct group *g = &p->g;
    if (!n->is_up) {
        if (rng_chance(&g->w.rng, 500000))
            group_start(n);
        return;
    }
    uint64_t what = rng_below(&g->w.rng, 4);
    if (what == 0 && p->s.crash) {
        group_crash(n);
    } else if (what == 1 && p->s.wipe && may_wipe(g) && rng_chance(&g->w.rng, 300000)) {
        group_wipe(n);
        group_start(n);
    } else if (what == 2 && p->s.pause) {
        n->paused_until = g->w.now + rng_below(&g->w.rng, 3 * USEC_SEC);
    } else if (what == 3 && p->s.unreachable) {
        struct raft_event ev = {.kind = RAFT_EV_UNREACHABLE};
        ev.peer = g->node[rng_below(&g->w.rng, g->count)].id;
        group_step(n, ev);
    }
}

static void wake_quiet(struct group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        struct group_node *n = &g->node[i];
        if (!n->is_up || !n->raft.is_quiet || n->raft.role == RAFT_LEADER)
            continue;
        struct group_node *l = group_by_id(g, n->raft.leader);
        if (l == NULL || !l->is_up || l->life != n->leader_life || g->net.cut[l->place][n->place])
            group_step(n, (struct raft_event){.kind = RAFT_EV_WAKE});
    }
}

static void fault_happens(void *arg, struct world_event *ev)
{
    struct play *p = container_of(ev, struct play, fault);
    struct group *g = &p->g;
    struct rng *rng = &g->w.rng;
    (void)arg;
    if (p->is_healed)
        return;
    switch (rng_below(rng, 4)) {
    case 0:
    case 1:
        fault_node(p, &g->node[rng_below(rng, g->count)]);
        break;
    case 2:
        if (p->s.split && rng_chance(rng, 500000))
            sim_net_split(&g->net, rng);
        else
            memset(g->net.cut, 0, sizeof g->net.cut);
        break;
    default:
        if (p->s.slow_disk)
            g->o.disk_max = rng_chance(rng, 300000) ? 400 * USEC_MSEC : 3 * USEC_MSEC;
        break;
    }
    world_plan(&g->w, &p->fault, rng_between(rng, 10 * USEC_MSEC, 800 * USEC_MSEC), fault_happens);
}

/* ---- the operator: members are replaced, promoted, taken away; leadership moves ---- */

static void change_members(struct play *p, struct group_node *leader)
{
    struct group *g = &p->g;
    const struct raft_config *c = raft_config_get(&leader->raft);
    struct raft_member want[SIM_NODE_MAX * 2];
    size_t n = 0, voters = 0;
    bool random = p->s.conf && !p->is_healed;
    if (c->is_joint)
        return;
    for (size_t i = 0; i < g->count; i++) {
        const struct raft_member *m = raft_config_find(c, g->node[i].id);
        struct raft_member x = {.id = g->node[i].id, .store.b[0] = (uint8_t)i};
        if (m != NULL)
            x.role =
                m->role == RAFT_LEARNER && rng_chance(&g->w.rng, 500000) ? RAFT_VOTER : m->role;
        else
            x.role = RAFT_LEARNER;
        if (x.role == RAFT_LEARNER && i >= g->o.voters && !random)
            x.role = m != NULL ? m->role : RAFT_LEARNER;
        if (random && rng_chance(&g->w.rng, 100000))
            x.role = x.role == RAFT_VOTER ? RAFT_LEARNER : RAFT_VOTER;
        if (random && rng_chance(&g->w.rng, 100000) && &g->node[i] != leader && may_wipe(g)) {
            group_wipe(&g->node[i]); /* its disk is cleared and it comes again, as another */
            group_start(&g->node[i]);
            return;
        }
        voters += x.role == RAFT_VOTER;
        want[n++] = x;
    }
    struct raft_config *now = raft_config_new(want, n, c->id_max);
    if (now != NULL && !raft_config_eq(now, c)) {
        struct raft_event ev = {.kind = RAFT_EV_CONF};
        ev.conf = (struct raft_conf_change){want, n};
        group_step(leader, ev);
    }
    mem_free(now);
}

static void operate(void *arg, struct world_event *ev)
{
    struct play *p = container_of(ev, struct play, operate);
    struct group *g = &p->g;
    (void)arg;
    wake_quiet(g);
    struct group_node *l = group_leader(g);
    if (l != NULL && g->w.now >= l->paused_until) {
        if (p->s.transfer && !p->is_healed && rng_chance(&g->w.rng, 150000)) {
            struct raft_event t = {.kind = RAFT_EV_TRANSFER};
            t.peer = g->node[rng_below(&g->w.rng, g->count)].id;
            group_step(l, t);
        }
        bool whole = true;
        const struct raft_config *c = raft_config_get(&l->raft);
        for (size_t i = 0; i < c->count; i++)
            whole = whole && group_by_id(g, c->member[i].id) != NULL;
        if (p->is_healed || !whole || (p->s.conf && rng_chance(&g->w.rng, 300000)))
            change_members(p, l);
    }
    world_plan(&g->w, &p->operate, rng_between(&g->w.rng, 100 * USEC_MSEC, 400 * USEC_MSEC),
               operate);
}

/* ---- one seed ---- */

static void draw(struct play *p)
{
    struct rng *r = &p->g.w.rng;
    struct group_options o = {0};
    static const size_t nodes[] = {1, 2, 3, 3, 3, 4, 5, 5};
    o.nodes = nodes[rng_below(r, countof(nodes))];
    o.voters = o.nodes > 3 && rng_chance(r, 300000) ? 3 : o.nodes;
    o.disk_min = 100;
    o.disk_max = rng_chance(r, 500000) ? 3 * USEC_MSEC : 30 * USEC_MSEC;
    o.has_late_apply = rng_chance(r, 300000);
    o.keep_app_ppm = rng_chance(r, 500000) ? 300000 : 5000;
    o.stream_fail_ppm = rng_chance(r, 300000) ? 300000 : 0;
    o.stream_max = rng_chance(r, 300000) ? 500 * USEC_MSEC : 20 * USEC_MSEC;
    o.compact_ppm = rng_chance(r, 500000) ? 50000 : rng_chance(r, 500000) ? 2000 : 0;
    raft_conf_default(&o.conf);
    o.conf.read_timeout_usec = USEC_SEC;
    o.conf.has_lease = !rng_chance(r, 200000);
    o.conf.hibernate_usec = rng_chance(r, 400000) ? USEC_SEC : 0;
    if (rng_chance(r, 300000))
        o.conf.append_entry_max = 1 + (uint32_t)rng_below(r, 4);
    if (rng_chance(r, 300000))
        o.conf.append_bytes_max = 64;
    if (rng_chance(r, 300000))
        o.conf.inflight_max = 1 + (uint32_t)rng_below(r, 3);
    if (rng_chance(r, 200000))
        o.conf.inflight_bytes_max = 100;
    if (rng_chance(r, 300000))
        o.conf.tail_bytes_max = 1;
    if (rng_chance(r, 200000))
        o.conf.apply_bytes_max = 1;
    if (rng_chance(r, 200000))
        o.conf.uncommitted_bytes_max = 200;
    p->g.net.delay_min = 50;
    p->g.net.delay_max = rng_chance(r, 500000) ? USEC_MSEC : 40 * USEC_MSEC;
    p->g.net.slow_max = 2 * USEC_SEC;
    p->g.net.loss_ppm = rng_chance(r, 500000) ? (uint32_t)rng_below(r, 100000) : 0;
    p->g.net.dup_ppm = rng_chance(r, 500000) ? (uint32_t)rng_below(r, 100000) : 0;
    p->g.net.slow_ppm = rng_chance(r, 500000) ? (uint32_t)rng_below(r, 50000) : 0;
    p->s = (struct swarm){
        .crash = rng_chance(r, 700000),
        .wipe = rng_chance(r, 300000),
        .split = rng_chance(r, 700000),
        .pause = rng_chance(r, 500000),
        .conf = rng_chance(r, 400000),
        .transfer = rng_chance(r, 400000),
        .unreachable = rng_chance(r, 300000),
        .slow_disk = rng_chance(r, 300000),
        .backlog = rng_chance(r, 300000),
        .chaos = rng_between(r, 2 * USEC_SEC, CHAOS_MAX),
        .read_ppm = 500000,
    };
    bool drift = rng_chance(r, 500000);
    group_init(&p->g, &o);
    for (size_t i = 0; drift && i < o.nodes; i++)
        p->g.node[i].clock.ppm =
            (int32_t)rng_below(r, 2 * o.conf.drift_ppm) - (int32_t)o.conf.drift_ppm;
}

static void heal(struct play *p)
{
    struct group *g = &p->g;
    world_trace(&g->w, "heal");
    p->is_healed = true;
    sim_net_heal(&g->net);
    g->net.delay_max = USEC_MSEC;
    g->o.disk_max = USEC_MSEC;
    g->o.stream_fail_ppm = 0;
    g->o.stream_max = 20 * USEC_MSEC;
    for (size_t i = 0; i < g->count; i++) {
        g->node[i].paused_until = 0;
        if (!g->node[i].is_up)
            group_start(&g->node[i]);
    }
    wake_quiet(g);
}

static bool settled(void *arg)
{
    struct play *p = arg;
    struct group *g = &p->g;
    struct group_node *l = group_leader(g);
    if (l == NULL || l->raft.log.commit != l->raft.log.last)
        return false;
    const struct raft_config *c = raft_config_get(&l->raft);
    if (c->is_joint || c->count != g->count)
        return false;
    for (size_t i = 0; i < g->count; i++)
        if (raft_config_find(c, g->node[i].id) == NULL ||
            g->node[i].app.applied != l->raft.log.last)
            return false;
    return true;
}

static bool probed(void *arg)
{
    struct play *p = arg;
    if (p->probe_done)
        return true;
    struct group_node *l = group_leader(&p->g);
    if (p->probe == 0 && l != NULL && l->raft.transfer == 0 && l->raft.uncommitted_bytes == 0) {
        p->probe = op_new(p, LINEAR_WRITE, GROUP_KEYS - 1);
        if (!group_call(l, p->probe, LINEAR_WRITE, GROUP_KEYS - 1, p->probe))
            p->probe = 0;
    }
    return p->probe_done;
}

static bool reads_done(void *arg)
{
    struct play *p = arg;
    for (size_t i = p->op_count - p->g.count; i < p->op_count; i++)
        if (p->op[i].ret == USEC_NEVER)
            return false;
    return true;
}

/* A follower that missed a lot must be brought up by acks, not by heartbeats. */
static void backlog(struct play *p)
{
    struct group *g = &p->g;
    struct group_node *l = group_leader(g), *f = NULL;
    g->o.conf.append_entry_max = 4;
    g->o.conf.apply_bytes_max = 1 << 20; /* what is measured is the way there */
    g->o.has_late_apply = false;
    g->o.compact_ppm = 0;
    for (size_t i = 0; i < g->count && l != NULL; i++)
        if (&g->node[i] != l && raft_config_is_voter(raft_config_get(&l->raft), g->node[i].id))
            f = &g->node[i];
    if (f == NULL || g->count < 3)
        return;
    for (size_t i = 0; i < g->count; i++)
        g->net.cut[f->place][i] = g->net.cut[i][f->place] = i != f->place;
    for (int i = 0; i < 60 && g->w.failure[0] == 0; i++) {
        struct str payload[16];
        struct group_node *n = group_leader(g);
        for (size_t k = 0; k < countof(payload); k++)
            payload[k] = STR("0123456789");
        struct raft_event ev = {.kind = RAFT_EV_PROPOSE};
        ev.propose = (struct raft_propose){payload, countof(payload)};
        if (n != NULL)
            group_step(n, ev);
        world_run(&g->w, g->w.now + 5 * USEC_MSEC, NULL);
    }
    memset(g->net.cut, 0, sizeof g->net.cut);
    if (!world_run(&g->w, g->w.now + CATCH_UP_MAX, settled))
        world_fail(&g->w, "a follower that was away does not catch up in time");
}

static void liveness(struct play *p)
{
    struct group *g = &p->g;
    heal(p);
    if (!world_run(&g->w, g->w.now + HEAL_MAX, settled)) {
        world_fail(&g->w, "not settled %d s after all is well", (int)(HEAL_MAX / USEC_SEC));
        return;
    }
    if (!world_run(&g->w, g->w.now + HEAL_MAX, probed)) {
        world_fail(&g->w, "no write succeeds after all is well");
        return;
    }
    for (size_t i = 0; i < g->count; i++) {
        uint64_t op = op_new(p, LINEAR_READ, GROUP_KEYS - 1);
        group_call(&g->node[i], op, LINEAR_READ, GROUP_KEYS - 1, 0);
    }
    if (!world_run(&g->w, g->w.now + 3 * USEC_SEC, reads_done)) {
        world_fail(&g->w, "a replica cannot read after all is well");
        return;
    }
    struct group_node *l = group_leader(g);
    for (uint8_t k = 0; k < GROUP_KEYS && l != NULL; k++) {
        uint64_t op = op_new(p, LINEAR_READ, k);
        group_call(l, op, LINEAR_READ, k, 0);
    }
    world_run(&g->w, g->w.now + USEC_SEC, NULL);
    if (p->s.backlog)
        backlog(p);
}

static void check_history(struct play *p)
{
    struct linear_op *op = mem_new((p->op_count + 1) * sizeof *op);
    for (unsigned k = 0; k < GROUP_KEYS; k++) {
        size_t n = 0;
        for (size_t i = 0; i < p->op_count; i++)
            if (p->key[i] == k)
                op[n++] = p->op[i];
        if (linear_check(op, n, SEARCH_STEPS) == LINEAR_E_VIOLATION)
            world_fail(&p->g.w, "the history of key %u is not linearizable", k);
    }
    mem_free(op);
}

void group_play(struct world *w, uint64_t seed)
{
    struct play *p = mem_new(sizeof *p);
    struct group *g = &p->g;
    g->w.is_loud = w->is_loud;
    world_init(&g->w, seed, p);
    g->done = op_done;
    draw(p);
    const struct group_play_options *po = w->arg;
    g->has_lying_disk = po != NULL && po->has_lying_disk;
    for (size_t i = 0; i < g->count; i++)
        group_start(&g->node[i]);
    for (size_t i = 0; i < CLIENTS; i++) {
        p->client[i].p = p;
        client_plan(&p->client[i], USEC_SEC + rng_below(&g->w.rng, USEC_SEC));
    }
    world_plan(&g->w, &p->fault, USEC_SEC, fault_happens);
    world_plan(&g->w, &p->operate, USEC_SEC, operate);
    world_run(&g->w, g->w.now + p->s.chaos, NULL);
    if (g->w.failure[0] == 0)
        liveness(p);
    if (g->w.failure[0] == 0)
        check_history(p);
    world_trace(&g->w, "end: %llu messages, %llu committed, %llu snapshots, %zu calls",
                (unsigned long long)g->messages, (unsigned long long)g->truth.committed,
                (unsigned long long)g->snapshots, p->op_count);
    w->now = g->w.now;
    w->hash = g->w.hash;
    memcpy(w->failure, g->w.failure, sizeof w->failure);
    for (size_t i = 0; i < CLIENTS; i++)
        world_unplan(&g->w, &p->client[i].ev);
    world_unplan(&g->w, &p->fault);
    world_unplan(&g->w, &p->operate);
    g->w.failure[0] = 0;
    group_deinit(g);
    mem_free(p->op);
    mem_free(p->key);
    mem_free(p);
}
