/* The room assembled: tables in kv or in this process, the index, the clients of the loops.
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/err.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "dist/dist.h"
#include "retain/retain.h"
#include "stores/stores_priv.h"

#define CURRENT_USEC                                                                               \
    (500 *                                                                                         \
     USEC_MSEC) /* matters: how old an index may be that a publish is acknowledged by; the   \
                         leaders are asked ten times as often */
#define TIMEOUT_USEC (5 * USEC_SEC) /* of one operation */

uint64_t stores_hlc(struct stores_client *c)
{
    uint64_t phys = hlc_of_ms(net_loop_wall(c->net) / USEC_MSEC);
    uint64_t last = atomic_load_explicit(&c->stores->hlc, memory_order_relaxed), next;
    do
        next = phys > last ? phys : last + 1;
    while (!atomic_compare_exchange_weak_explicit(&c->stores->hlc, &last, next,
                                                  memory_order_relaxed, memory_order_relaxed));
    return next;
}

/* ---- the index: what it unlinks is freed when no loop reads it any more -----------------------
 */

struct unlinked {
    struct net_reclaim item;
    void *ptr;
    void (*fn)(void *ptr);
};

static void reclaimed(struct net_reclaim *item, void *arg)
{
    struct unlinked *u = container_of(item, struct unlinked, item);
    (void)arg;
    u->fn(u->ptr);
    mem_free(u);
}

/* The writer is the loop that has the table's range, or whoever assembles the node before the loops
 * run. */
static struct net_loop *loop_here(const struct stores *s)
{
    for (unsigned i = 0; i < s->conf.loop_count; i++)
        if (net_loop_is_here(s->conf.loop[i]))
            return s->conf.loop[i];
    return NULL;
}

static void reclaim(void *arg, void *ptr, void (*fn)(void *ptr))
{
    struct stores *s = arg;
    struct net_loop *here = loop_here(s);
    if (here == NULL) { /* no loop runs yet or any more: nobody reads */
        fn(ptr);
        return;
    }
    struct unlinked *u = mem_new(sizeof *u);
    u->ptr = ptr;
    u->fn = fn;
    net_loop_reclaim(here, &u->item, reclaimed, NULL);
}

void stores_route_lost(struct stores *s, const struct dist_route *r)
{
    uint64_t cookie = 0;
    for (size_t i = 0; i < r->client.n; i++) { /* as route.c wrote it */
        unsigned x = (unsigned char)r->client.p[i];
        cookie = cookie << 4 | (x >= 'a' ? x - 'a' + 10u : x - '0') % 16u;
    }
    const struct net_loop *here = loop_here(s);
    if (s->conf.host.route_lost != NULL && here != NULL)
        s->conf.host.route_lost(s->conf.host.arg, net_loop_index(here),
                                &(struct stores_route){.tenant = r->tenant,
                                                       .filter = r->filter,
                                                       .group = r->group,
                                                       .is_ordered = r->share == DIST_SHARE_ORDERED,
                                                       .cookie = cookie});
}

static void route_lost(void *arg, const struct dist_route *r)
{
    stores_route_lost(arg, r);
}

/* ---- the cluster ----------------------------------------------------------------------------- */

static void session_message(void *arg, struct cluster_request *rq, const struct cluster_from *from,
                            struct str payload)
{
    if (rq != NULL)
        cluster_request_reply(rq, STR("")); /* got it; what it leads to comes as messages */
    (void)from;
    stores_dict_receive(arg, payload);
}

static void delivery_message(void *arg, struct cluster_request *rq, const struct cluster_from *from,
                             struct str payload)
{
    (void)rq;
    (void)from;
    stores_push_receive(arg, payload);
}

static void cluster_event(void *arg, struct cluster_seat *seat, const struct cluster_event *ev)
{
    struct stores_client *c = arg;
    (void)seat;
    if (ev->row != NULL) { /* another node may be the home of some clients now */
        stores_dict_members_changed(c);
        return;
    }
    if (ev->kind != CLUSTER_EV_UP && ev->kind != CLUSTER_EV_DOWN)
        return;
    if (c->loop == c->stores->dist_loop)
        dist_index_node_mark(c->stores->index, &ev->member->uuid, ev->member->epoch,
                             ev->kind == CLUSTER_EV_DOWN);
    stores_dict_members_changed(c);
    stores_orphans_look(c);
    if (ev->kind == CLUSTER_EV_UP) {
        stores_verify_all(c);
        stores_own_doubt(c);
    }
}

static void client_join(struct stores_client *c)
{
    struct cluster_seat *seat = c->stores->conf.seat[c->loop];
    struct cluster_link *link = cluster_seat_link(seat);
    cluster_link_serve(link, CLUSTER_SERVICE_SESSION, session_message, c);
    cluster_link_serve(link, CLUSTER_SERVICE_STORES, delivery_message, c);
    c->watch = cluster_watch_new(
        seat, cluster_space_bit(CLUSTER_SPACE_TRAFFIC) | cluster_space_bit(CLUSTER_SPACE_GROUP),
        cluster_event, c);
}

static void client_leave(struct stores_client *c)
{
    struct cluster_link *link = cluster_seat_link(c->stores->conf.seat[c->loop]);
    cluster_link_serve(link, CLUSTER_SERVICE_SESSION, NULL, NULL);
    cluster_link_serve(link, CLUSTER_SERVICE_STORES, NULL, NULL);
    c->watch = cluster_watch_free(c->watch);
}

/* ---- who leads ------------------------------------------------------------------------------- */

/* The table of routes is complete on this loop, which from now on is the index's writer: what it
 * says of dead processes is marked before anybody matches them. */
static void dist_ready(void *arg, const struct kv_range_view *r, bool is_ready)
{
    struct stores *s = arg;
    if (!is_ready)
        return;
    must(r->loop == s->dist_loop);
    size_t at = 0;
    for (const struct dist_node *n; (n = dist_index_node_next(s->index, &at)) != NULL;)
        if (stores_orphans_is_dead(&s->client[r->loop], &n->uuid, n->epoch))
            dist_index_node_mark(s->index, &n->uuid, n->epoch, true);
    stores_orphans_sweep(&s->client[r->loop]);
}

static void dist_leader(void *arg, const struct kv_range_view *r, bool is_leader)
{
    struct stores *s = arg;
    stores_orphans_leader(&s->client[r->loop], STORES_TABLE_DIST, r, is_leader);
}

static void inbox_leader(void *arg, const struct kv_range_view *r, bool is_leader)
{
    struct stores *s = arg;
    stores_orphans_leader(&s->client[r->loop], STORES_TABLE_INBOX, r, is_leader);
}

/* ---- the tables ------------------------------------------------------------------------------ */

static int table_open(struct stores *s, enum stores_table table, const struct kv_store_conf *conf)
{
    if (s->conf.kv == NULL) {
        struct stores_solo_conf solo = {.ops = conf->ops,
                                        .machine_conf = conf->machine_conf,
                                        .host = conf->host,
                                        .loop = s->conf.loop,
                                        .loop_count = s->conf.loop_count,
                                        .seed = s->conf.seed};
        s->solo[table] = stores_solo_new(&solo);
        return 0;
    }
    int r = kv_store_add(s->conf.kv, conf, &s->store[table]);
    if (r == 0 && conf->is_one_loop)
        s->dist_loop = kv_store_loop(s->store[table]);
    for (unsigned i = 0; r == 0 && i < s->conf.loop_count; i++)
        s->client[i].kv[table] = kv_client_get(s->store[table], i);
    return err_trace(r);
}

static int tables_open(struct stores *s)
{
    static const struct retain_conf retain;
    struct dist_conf dist = {s->index};
    s->dist = dist;
    const struct stores_conf *c = &s->conf;
    struct kv_store_conf conf[STORES_TABLE_COUNT] = {
        [STORES_TABLE_DIST] = {.name = "dist.worker",
                               .ops = dist_machine(),
                               .machine_conf = &s->dist,
                               .host = {.arg = s, .leader = dist_leader, .ready = dist_ready},
                               .voter_count = c->dist_voter_count,
                               .learner_count = -1,
                               .is_fresh_kept = true,
                               .is_one_loop = true}, /* the index has one writer */
        [STORES_TABLE_INBOX] = {.name = "inbox.store",
                                .ops = inbox_machine(),
                                .host = {.arg = s,
                                         .effect = stores_push_effect,
                                         .leader = inbox_leader},
                                .voter_count = c->inbox_voter_count},
        [STORES_TABLE_RETAIN] = {.name = "retain.store",
                                 .ops = retain_machine(),
                                 .machine_conf = (void *)(uintptr_t)&retain,
                                 .voter_count = c->retain_voter_count,
                                 .learner_count = -1},
    };
    for (enum stores_table t = 0; t < STORES_TABLE_COUNT; t++) {
        conf[t].durability = (enum kv_durability)c->durability;
        int r = table_open(s, t, &conf[t]);
        if (r != 0)
            return err_trace(r);
    }
    return 0;
}

int stores_new(const struct stores_conf *conf, struct stores **out)
{
    struct stores *s = mem_new(sizeof *s);
    s->conf = *conf;
    if (s->conf.timeout_usec == 0)
        s->conf.timeout_usec = TIMEOUT_USEC;
    struct dist_index_conf index = {
        .seed = conf->seed, .reclaim = reclaim, .lost = route_lost, .arg = s};
    s->index = dist_index_new(&index);
    dist_index_node_local(s->index, &conf->node, conf->epoch);
    s->client = mem_new(conf->loop_count * sizeof *s->client);
    for (unsigned i = 0; i < conf->loop_count; i++) {
        struct stores_client *c = &s->client[i];
        c->stores = s;
        c->loop = i;
        c->net = conf->loop[i];
        stores_dict_init(c);
        stores_orphans_init(c);
        stores_verify_init(c);
        stores_own_init(c);
        if (conf->seat != NULL) {
            client_join(c);
            stores_verify_start(c);
        }
    }
    int r = tables_open(s);
    if (r != 0)
        s = stores_free(s);
    *out = s;
    return err_trace(r);
}

void stores_stop(struct stores *s)
{
    for (unsigned i = 0; s != NULL && i < s->conf.loop_count; i++)
        stores_dict_stop(&s->client[i]);
}

struct stores *stores_free(struct stores *s)
{
    if (s == NULL)
        return NULL;
    for (unsigned i = 0; i < s->conf.loop_count; i++) {
        struct stores_client *c = &s->client[i];
        if (s->conf.seat != NULL)
            client_leave(c);
        stores_dict_deinit(c);
        stores_orphans_deinit(c);
        stores_verify_deinit(c);
        stores_own_deinit(c);
        size_t at = 0;
        for (struct stores_held *h; (h = map_next(&c->held, &at)) != NULL; at = 0)
            stores_held_free(c, h);
        map_deinit(&c->held);
        buf_deinit(&c->command);
    }
    for (enum stores_table t = 0; t < STORES_TABLE_COUNT; t++)
        s->solo[t] = stores_solo_free(s->solo[t]);
    s->client = mem_free(s->client);
    dist_index_free(s->index);
    return mem_free(s);
}

struct stores_client *stores_client_get(struct stores *s, unsigned loop)
{
    must(loop < s->conf.loop_count);
    return &s->client[loop];
}

enum stores_index_state stores_index_state_get(const struct stores_client *c)
{
    const struct kv_store *dist = c->stores->store[STORES_TABLE_DIST];
    if (dist == NULL)
        return STORES_INDEX_CURRENT; /* in this process */
    usec_t since = kv_fresh_since(dist);
    if (since == 0)
        return STORES_INDEX_PART;
    return usec_until(since, net_loop_now(c->net)) <= CURRENT_USEC ? STORES_INDEX_CURRENT
                                                                   : STORES_INDEX_BEHIND;
}

struct dist_index *stores_index(struct stores *s)
{
    return s->index;
}
