/* A house of simulated nodes: power, disks, a network that loses, cuts and delays, members that
 * notice. SPDX-License-Identifier: Apache-2.0
 *
 * kv, raft, range, balance and the engine's log and state are the real ones; net and cluster have
 * the bodies of this directory.  What runs on top, and what is asked of it, is the game's: it fills
 * struct world_game and includes this file once.  After every turn of a node each of its replicas
 * is checked: one leader per range and term, raft's and range's own invariants, its
 * rows its own (rows.h), no log cut beyond what the rows have for good. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "sim/kvsim/cluster.h"
#include "sim/kvsim/net.h"

#include "engine/fs.h"
#include "kv/kv_priv.h"
#include "sim/kvsim/rows.h"

#define SIM_STORE_MAX 4

struct sim_node {
    bool is_up;
    uint64_t life;
    struct engine_fs_mem *fs;
    struct engine_fs fs_ops;
    struct engine_mem
        *mem[SIM_STORE_MAX]; /* rows of each store, by the order they were asked for */
    char mem_name[SIM_STORE_MAX][KV_STORE_NAME_MAX + 1];
    struct net_loop *loop;
    struct net_worker worker;
    struct cluster_seat seat;
    struct cluster_link link;
    struct cluster_seat *seats[1];
    struct kv *kv;
    void *game; /* what runs on top */
    struct world_event *disk;
    uint64_t shape; /* of its replicas: which ranges there are, with which bounds */
};

struct seen { /* (tag, applied) or (tag, term) and what belongs to it */
    uint64_t a, b, value;
};

struct world_game {
    void (*stores)(struct sim_node *n);                      /* between kv_new and kv_start */
    void (*started)(struct sim_node *n);                     /* after kv_start */
    void (*ended)(struct sim_node *n);                       /* kv is gone, the loop still there */
    void (*check)(struct sim_node *n, struct kv_replica *r); /* a ready one, after a turn */
};

struct world {
    const struct world_game *game;
    usec_t now;
    struct heap events;
    struct rng rng;
    uint64_t seed;
    unsigned node_count;
    struct sim_node node[SIM_NODE_MAX];
    bool cut[SIM_NODE_MAX][SIM_NODE_MAX];
    usec_t cut_since[SIM_NODE_MAX][SIM_NODE_MAX]; /* unreachable since */
    usec_t last[SIM_NODE_MAX][SIM_NODE_MAX];
    usec_t broke[SIM_NODE_MAX][SIM_NODE_MAX]; /* what was sent until then is lost */
    uint64_t sent_count[SIM_NODE_MAX][SIM_NODE_MAX], arrived_count[SIM_NODE_MAX][SIM_NODE_MAX];
    usec_t lag[SIM_NODE_MAX][SIM_NODE_MAX];    /* a slow link */
    usec_t rumour[SIM_NODE_MAX][SIM_NODE_MAX]; /* until then the first takes the second for dead */
    usec_t rumoured_at;                        /* when the last one began */
    bool client_cut[SIM_NODE_MAX][2]; /* between clients and this node: 0 to it, 1 from it */
    bool is_indirect;                 /* who is reached by way of a third node is alive */
    bool is_patient; /* connections of clients outlive a cut: what it holds back arrives after it */
    uint32_t loss, doubling, slow; /* per million */
    bool is_chaos, is_over;
    size_t ship_bytes_per_sec, ship_part_bytes; /* of snapshots; 0: as usual */
    usec_t hibernate; /* idle time after which a range sleeps; USEC_NEVER: it does not */
    struct map hashes, leaders;
    struct map boots; /* (tag, node and life): committed as far as was known at the start */
    uint64_t trace;
    unsigned crashes;
    const char *failed;
    bool is_verbose;
    unsigned canary; /* 0, or the fault that was planted: failures are not printed then */
    bool is_fifo; /* calls and casts of a pair of nodes keep their order and are never doubled, as
                     over TCP */
};

static void fail(struct world *w, const char *why)
{
    if (!w->failed) {
        w->failed = why;
        if (!w->canary)
            printf("seed %llu at %.3f s: %s\n", (unsigned long long)w->seed, (double)w->now / 1e6,
                   why);
    }
}

/* ---- the world ------------------------------------------------------------------------------- */

static struct world_event *world_at(struct world *w, usec_t at, void (*fn)(struct world_event *),
                                    void *a, void *b)
{
    struct world_event *ev = mem_new(sizeof *ev);
    *ev = (struct world_event){.fn = fn, .a = a, .b = b};
    heap_put(&w->events, &ev->node, at > w->now ? at : w->now + 1);
    return ev;
}

static usec_t world_now(const struct world *w)
{
    return w->now;
}

static struct rng *world_rng(struct world *w)
{
    return &w->rng;
}

static struct uuid world_uuid(unsigned node)
{
    return (struct uuid){{0xb1, (uint8_t)(node + 1)}};
}

static unsigned world_node_of(struct world *w, const struct uuid *u)
{
    must(u->b[0] == 0xb1 && u->b[1] > 0 && u->b[1] <= w->node_count);
    return u->b[1] - 1u;
}

static struct cluster_link *world_link(struct world *w, unsigned node, uint32_t shard)
{
    (void)shard;
    return w->node[node].is_up ? &w->node[node].link : NULL;
}

static usec_t world_arrival(struct world *w, unsigned from, unsigned to, bool is_ordered)
{
    is_ordered = is_ordered || w->is_fifo;
    if ((w->cut[from][to] && !w->is_fifo) || !w->node[to].is_up ||
        (!is_ordered && rng_chance(&w->rng, w->loss)))
        return USEC_NEVER;
    usec_t at = w->now + 50 + rng_below(&w->rng, 500) + w->lag[from][to];
    if (rng_chance(&w->rng, w->slow))
        at += rng_below(&w->rng, 100 * USEC_MSEC);
    if (is_ordered) {
        at = at > w->last[from][to] ? at : w->last[from][to] + 1;
        w->last[from][to] = at;
    }
    return at;
}

static uint64_t world_place(struct world *w, unsigned from, unsigned to)
{
    return w->sent_count[from][to]++;
}

/* What is on its way over a cut: TCP keeps trying for a while, then the connection breaks, and all that was under
 * way on it is lost.  What was held back does not change places. */
static usec_t world_hold(struct world *w, unsigned from, unsigned to, usec_t sent, uint64_t place)
{
    if (!w->is_fifo || w->is_over)
        return 0;
    if (w->cut[from][to] && w->now > sent + 3 * USEC_SEC)
        w->broke[from][to] = w->broke[to][from] = w->now;
    if (w->cut[from][to] && sent > w->broke[from][to])
        return w->now + 50 * USEC_MSEC;
    if (place != w->arrived_count[from][to])
        return w->now + USEC_MSEC;
    w->arrived_count[from][to]++;
    return sent <= w->broke[from][to] ? USEC_NEVER : 0;
}

static bool world_is_doubled(struct world *w)
{
    return !w->is_fifo && rng_chance(&w->rng, w->doubling);
}

struct spread {
    unsigned from, to;
    uint64_t life;
    uint8_t space;
    struct buf key, value;
    bool is_gone, was_held;
};

/* What its owner says of it by now: versions keep what was held from undoing what came after it. */
static void spread_renew(struct spread *s, const struct sim_node *from)
{
    struct uuid owner = world_uuid(s->from);
    const struct cluster_row *row =
        cluster_row_find(&from->seat, s->space, buf_str(&s->key), &owner);
    s->is_gone = row == NULL;
    s->value.n = 0;
    if (row)
        buf_put_str(&s->value, row->value);
}

static void spread_arrives(struct world_event *ev)
{
    struct spread *s = ev->a;
    struct world *w = ev->b;
    struct sim_node *n = &w->node[s->to], *from = &w->node[s->from];
    if (from->is_up && from->life == s->life && s->to != s->from && w->cut[s->from][s->to]) {
        s->was_held = true;
        world_at(w, w->now + USEC_SEC, spread_arrives, s, w); /* gossip finds its way later */
        return;
    }
    if (s->was_held && from->is_up && from->life == s->life)
        spread_renew(s, from);
    if (n->is_up && from->is_up && from->life == s->life) {
        struct str value = buf_str(&s->value);
        seat_row(&n->seat, s->from, s->space, buf_str(&s->key), s->is_gone ? NULL : &value);
    }
    buf_deinit(&s->key);
    buf_deinit(&s->value);
    mem_free(s);
}

static void world_row_put(struct world *w, unsigned node, uint8_t space, struct str key,
                          const struct str *value)
{
    for (unsigned i = 0; i < w->node_count; i++) {
        struct spread *s = mem_new(sizeof *s);
        *s = (struct spread){
            .from = node, .to = i, .life = w->node[node].life, .space = space, .is_gone = !value};
        buf_put_str(&s->key, key);
        if (value)
            buf_put_str(&s->value, *value);
        /* one delay per pair, so that rows of one owner keep their order */
        world_at(w, w->now + (i == node ? 10 : 200 * USEC_MSEC), spread_arrives, s, w);
    }
}

static bool is_linked(const struct world *w, unsigned i, unsigned k)
{
    return w->node[i].is_up && w->node[k].is_up && !w->cut[i][k] && !w->cut[k][i];
}

static bool is_reached(const struct world *w, unsigned i, unsigned k)
{
    if (i == k || is_linked(w, i, k))
        return true;
    for (unsigned j = 0; w->is_indirect && j < w->node_count; j++)
        if (is_linked(w, i, j) && is_linked(w, j, k))
            return true;
    return false;
}

/* Who believes whom alive: reachability, noticed with delay, and rumours. */
static void members_tick(struct world_event *ev)
{
    struct world *w = ev->b;
    for (unsigned i = 0; i < w->node_count; i++)
        for (unsigned k = 0; k < w->node_count; k++) {
            struct sim_node *n = &w->node[i];
            bool is_rumoured = i != k && w->now < w->rumour[i][k];
            bool reach = is_reached(w, i, k) && !is_rumoured;
            if (reach)
                w->cut_since[i][k] = 0;
            else if (w->cut_since[i][k] == 0)
                w->cut_since[i][k] = w->now;
            if (!n->is_up)
                continue;
            struct cluster_member *m = &n->seat.member[k];
            bool is_live = m->state == CLUSTER_ST_ALIVE;
            if (reach && (!is_live || m->epoch != w->node[k].life)) {
                if (is_live) {
                    seat_event(&n->seat,
                               &(struct cluster_event){.kind = CLUSTER_EV_DOWN, .member = m});
                    if (i != k)
                        seat_rows_gone(&n->seat, k); /* those of its former life */
                }
                m->state = CLUSTER_ST_ALIVE;
                m->epoch = w->node[k].life;
                m->since = w->now;
                if (i != k)
                    n->seat.is_joined = true;
                seat_event(&n->seat, &(struct cluster_event){.kind = CLUSTER_EV_UP, .member = m});
                if (i != k) /* anti-entropy: its rows, as it sees them itself */
                    for (size_t r = 0; r < w->node[k].seat.row_count; r++) {
                        const struct cluster_row *row = &w->node[k].seat.row[r]->row;
                        if (uuid_eq(&row->owner, &m->uuid))
                            seat_row(&n->seat, k, row->space, row->key, &row->value);
                    }
            } else if (!reach && is_live &&
                       (is_rumoured || w->now > w->cut_since[i][k] + 3 * USEC_SEC)) {
                m->state = CLUSTER_ST_DEAD;
                m->since = w->now;
                seat_event(&n->seat, &(struct cluster_event){.kind = CLUSTER_EV_DOWN, .member = m});
                seat_rows_gone(&n->seat, k);
            }
        }
    if (!w->is_over)
        world_at(w, w->now + 500 * USEC_MSEC, members_tick, NULL, w);
}

/* ---- checks ---------------------------------------------------------------------------------- */

static bool seen_eq(const void *item, const void *key)
{
    const struct seen *x = item, *y = key;
    return x->a == y->a && x->b == y->b;
}

/* The value once seen for (a, b), or this one. */
static uint64_t seen_value(struct map *m, uint64_t a, uint64_t b, uint64_t value)
{
    struct seen key = {a, b, value};
    uint64_t h = hash_u64(a ^ hash_u64(b));
    struct seen *s = map_find(m, h, seen_eq, &key);
    if (s)
        return s->value;
    s = mem_dup(&key, sizeof key);
    map_put(m, h, s);
    return value;
}

static void check_replica(struct world *w, struct sim_node *n, struct kv_replica *r)
{
    if (r->is_closed)
        return;
    raft_check(&r->raft);
    struct raft_status st = raft_status_get(&r->raft);
    if (st.role == RAFT_LEADER &&
        seen_value(&w->leaders, r->tag, st.term, n->seat.node) != n->seat.node)
        fail(w, "two leaders of one range in one term");
    if (st.base > r->durable)
        fail(w, "the log was cut beyond what the rows have for good");
    if (!r->has_range)
        return;
    if (r->is_ready &&
        seen_value(&w->boots, r->tag, n->life * SIM_NODE_MAX + n->seat.node, 0) > r->applied)
        fail(w, "ready before what was committed at start is applied");
    range_check(&r->range);
    if (r->is_ready && !r->is_paused && w->game->check)
        w->game->check(n, r);
}

static void on_turned(void *arg)
{
    struct sim_node *n = arg;
    uint64_t shape = 0;
    list_each(&n->kv->loop[0].replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        check_replica(n->seat.world, n, r);
        shape = hash_u64(shape ^ r->tag ^ r->range.version.boundary ^ (r->is_closed ? 1u : 0u));
    }
    const char *bad = shape != n->shape ? rows_fault(&n->kv->loop[0]) : NULL;
    if (bad)
        fail(n->seat.world, bad);
    n->shape = shape;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static struct engine_mem *node_mem(void *arg, const char *store)
{
    struct sim_node *n = arg;
    for (unsigned i = 0; i < SIM_STORE_MAX; i++) {
        if (n->mem[i] == NULL) {
            n->mem[i] = engine_mem_new();
            str_copy(n->mem_name[i], sizeof n->mem_name[i], str_of(store));
        }
        if (strcmp(n->mem_name[i], store) == 0)
            return n->mem[i];
    }
    must(!"more stores than SIM_STORE_MAX");
    return NULL;
}

static void on_log(void *arg, enum log_level level, const char *event, struct str text,
                   const struct log_field *field, size_t count)
{
    struct sim_node *n = arg;
    (void)level, (void)field, (void)count;
    if (n->seat.world->is_verbose)
        printf("%10.3f node %u %s: %.*s\n", (double)n->seat.world->now / 1e6, n->seat.node, event,
               STR_ARG(text));
}

static void disk_turn(struct world_event *ev)
{
    struct sim_node *n = ev->a;
    if (!n)
        return;
    (void)kv_disk_step(n->kv);
    struct world *w = n->seat.world;
    n->disk = world_at(w, w->now + 100 + rng_below(&w->rng, 3000), disk_turn, n, NULL);
}

static struct log node_log[SIM_NODE_MAX];

static void node_up(struct world *w, unsigned i)
{
    struct sim_node *n = &w->node[i];
    n->is_up = true;
    n->life++;
    n->loop = sim_loop_new(w, 0, rng_u64(&w->rng));
    n->worker.world = w;
    list_init(&n->worker.jobs);
    n->link = (struct cluster_link){.world = w, .node = i, .life = n->life};
    list_init(&n->link.calls);
    list_init(&n->link.streams);
    n->seat = (struct cluster_seat){
        .world = w, .node = i, .loop = n->loop, .link = &n->link, .member_count = w->node_count};
    list_init(&n->seat.watches);
    for (unsigned k = 0; k < w->node_count; k++)
        n->seat.member[k] = (struct cluster_member){
            .uuid = world_uuid(k), .state = CLUSTER_ST_DEAD, .loops = 1, .since = w->now};
    n->seat.member[i].state = CLUSTER_ST_ALIVE;
    n->seat.member[i].epoch = n->life;
    n->seats[0] = &n->seat;
    n->fs_ops = engine_fs_mem_fs(n->fs);
    node_log[i] = (struct log){.level_max = LOG_LEVEL_DEBUG, .write = on_log, .arg = n};
    struct kv_conf conf = {
        .node = world_uuid(i),
        .loop = &n->loop,
        .loop_count = 1,
        .seat = n->seats,
        .worker = &n->worker,
        .log_path = "/log",
        .fs = &n->fs_ops,
        .is_founder = i == 0,
        .seed = rng_u64(&w->rng),
        .log = &node_log[i],
        .is_inline = true,
        .mem = node_mem,
        .mem_arg = n,
        .dead_usec = 20 * USEC_SEC,
        .hibernate_usec = w->hibernate,
        .limits = {.ship_bytes_per_sec = w->ship_bytes_per_sec,
                   .ship_part_bytes = w->ship_part_bytes,
                   .log_bytes_max = 64 << 10,
                   .batch_bytes_max = 4096,
                   .log_segment_bytes = 64 << 10},
    };
    int e = kv_new(&conf, &n->kv);
    must(e == 0);
    w->game->stores(n);
    e = kv_start(n->kv);
    if (e != 0)
        fail(w, "a node did not start again");
    if (e == 0)
        list_each(&n->kv->loop[0].replicas, x)
        {
            struct kv_replica *r = container_of(x, struct kv_replica, link);
            (void)seen_value(&w->boots, r->tag, n->life * SIM_NODE_MAX + i, r->raft.log.commit);
        }
    n->loop->turned = on_turned;
    n->loop->turned_arg = n;
    n->disk = world_at(w, w->now + 100, disk_turn, n, NULL);
    n->seat.member[i].since = w->now;
    world_at(w, w->now + USEC_SEC, stream_watch, &n->link, NULL)->u = n->life;
    if (w->game->started)
        w->game->started(n);
}

static void seat_end(struct cluster_seat *s)
{
    for (size_t i = 0; i < s->row_count; i++) {
        buf_deinit(&s->row[i]->key);
        buf_deinit(&s->row[i]->value);
        mem_free(s->row[i]);
    }
    mem_free(s->row);
    s->row = NULL;
    s->row_count = s->row_cap = 0;
}

static void link_end(struct cluster_link *l)
{
    for (struct list *x; (x = list_pop_front(&l->calls));) {
        struct sim_call *c = container_of(x, struct sim_call, link);
        c->timeout->a = NULL;
        mem_free(c);
    }
    for (struct list *x; (x = list_pop_front(&l->streams));)
        mem_free(container_of(x, struct cluster_stream, link));
}

/* Power off: what was not synced may be gone, in parts. */
static void node_down(struct world *w, unsigned i, bool is_clean)
{
    struct sim_node *n = &w->node[i];
    if (!n->is_up)
        return;
    n->disk->a = NULL;
    if (!is_clean)
        engine_fs_mem_set(n->fs, &(struct engine_fs_mem_fault){.power_off_at = 1});
    n->loop->turned = NULL;
    atomic_store(&n->kv->is_stopping, true);
    sim_worker_cancel(&n->worker);
    n->kv = kv_free(n->kv);
    if (w->game->ended)
        w->game->ended(n);
    link_end(&n->link);
    seat_end(&n->seat);
    sim_loop_free(n->loop);
    n->is_up = false;
    if (!is_clean) {
        engine_fs_mem_crash(n->fs, (uint32_t)rng_below(&w->rng, 1000001));
        for (unsigned k = 0; k < SIM_STORE_MAX && n->mem[k]; k++) {
            uint64_t un = engine_mem_unsynced(n->mem[k]);
            engine_mem_crash(n->mem[k], un ? rng_below(&w->rng, un + 1) : 0);
        }
        engine_fs_mem_set(n->fs, &(struct engine_fs_mem_fault){0});
    }
    w->crashes++;
}

static void restart(struct world_event *ev)
{
    struct world *w = ev->b;
    if (!w->node[ev->u].is_up)
        node_up(w, (unsigned)ev->u);
}

/* ---- trouble --------------------------------------------------------------------------------- */

static void reset_arrives(struct world_event *ev)
{
    struct cluster_link *l = world_link(ev->b, (unsigned)ev->u / SIM_NODE_MAX, 0);
    if (l)
        link_reset(l, (unsigned)ev->u % SIM_NODE_MAX);
}

/* The connection between two nodes breaks, and both hear of it. */
static void world_reset(struct world *w, unsigned i, unsigned k)
{
    world_at(w, w->now, reset_arrives, NULL, w)->u = i * SIM_NODE_MAX + k;
    world_at(w, w->now, reset_arrives, NULL, w)->u = k * SIM_NODE_MAX + i;
}

static void trouble(struct world_event *ev)
{
    struct world *w = ev->b;
    unsigned i = (unsigned)rng_below(&w->rng, w->node_count),
             k = (unsigned)rng_below(&w->rng, w->node_count);
    if (!w->is_chaos)
        return;
    switch (rng_below(&w->rng, 8)) {
    case 0:
    case 1:
        if (w->node[i].is_up) {
            node_down(w, i, rng_chance(&w->rng, 200000));
            world_at(w, w->now + 200 * USEC_MSEC + rng_below(&w->rng, 4 * USEC_SEC), restart, NULL,
                     w)
                ->u = i;
        }
        break;
    case 6: /* the power of the whole house */
        for (i = 0; i < w->node_count; i++) {
            node_down(w, i, false);
            world_at(w, w->now + 200 * USEC_MSEC + rng_below(&w->rng, 2 * USEC_SEC), restart, NULL,
                     w)
                ->u = i;
        }
        break;
    case 2:
        w->cut[i][k] = i != k;
        break;
    case 7:
        world_reset(w, i, k);
        break;
    case 3:
        w->cut[i][k] = w->cut[k][i] = i != k;
        break;
    default:
        memset(w->cut, 0, sizeof w->cut);
        break;
    }
    world_at(w, w->now + 100 * USEC_MSEC + rng_below(&w->rng, 4 * USEC_SEC), trouble, NULL, w);
}

static void world_clear(struct world *w)
{
    memset(w->cut, 0, sizeof w->cut);
    memset(w->lag, 0, sizeof w->lag);
    memset(w->rumour, 0, sizeof w->rumour);
    memset(w->client_cut, 0, sizeof w->client_cut);
}

/* All nodes are up and reach each other, and nothing gets lost. */
static void world_heal(struct world *w)
{
    w->is_chaos = false;
    w->loss = w->doubling = w->slow = 0;
    world_clear(w);
    for (unsigned i = 0; i < w->node_count; i++)
        if (!w->node[i].is_up)
            node_up(w, i);
}

static void run_until(struct world *w, usec_t until)
{
    while (!w->failed && heap_deadline(&w->events) <= until) {
        struct world_event *ev = container_of(heap_top(&w->events), struct world_event, node);
        w->now = ev->node.at;
        heap_del(&w->events, &ev->node);
        ev->fn(ev);
        mem_free(ev);
    }
    w->now = until;
}

static void drop_map(struct map *m)
{
    void *x;
    for (size_t at = 0; (x = map_next(m, &at));)
        mem_free(x);
    map_deinit(m);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* What is still on its way arrives nowhere; the disks go. */
static void world_drop(struct world *w)
{
    for (unsigned i = 0; i < w->node_count; i++)
        node_down(w, i, true);
    world_clear(w); /* what a cut holds back arrives at nodes that are down */
    while (heap_top(&w->events)) {
        struct world_event *ev = container_of(heap_top(&w->events), struct world_event, node);
        heap_del(&w->events, &ev->node);
        if (ev->fn == packet_arrives || ev->fn == reply_arrives || ev->fn == stream_arrives ||
            ev->fn == spread_arrives)
            ev->fn(ev);
        if (ev->fn == loop_turn && ev->a)
            ((struct net_loop *)ev->a)->turn = NULL; /* of clients: it outlives its world */
        mem_free(ev);
    }
    heap_deinit(&w->events);
    for (unsigned i = 0; i < w->node_count; i++) {
        for (unsigned k = 0; k < SIM_STORE_MAX; k++)
            engine_mem_free(w->node[i].mem[k]);
        engine_fs_mem_free(w->node[i].fs);
    }
    drop_map(&w->hashes);
    drop_map(&w->leaders);
    drop_map(&w->boots);
}
