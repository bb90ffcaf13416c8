/* Which range owns a key, and who leads it, as one loop knows it.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * 1. One route per range; its bounds are those of the highest boundary version heard of, its leader
 *    that of the highest
 *    term.
 * 2. The chain has no overlap: the oldest epoch first, then the highest boundary version wins.
 * 3. A route may be wrong; the version in a call and Raft at its end make that harmless. */
#include "kv/kv_priv.h"

struct kv_route *kv_router_of_id(struct kv_client *c, struct range_id id)
{
    for (size_t i = 0; i < c->route_count; i++)
        if (range_id_eq(c->route[i]->id, id))
            return c->route[i];
    return NULL;
}

struct kv_route *kv_router_of_tag(struct kv_client *c, uint64_t tag)
{
    for (size_t i = 0; i < c->route_count; i++)
        if (c->route[i]->tag == tag)
            return c->route[i];
    return NULL;
}

/* The number of chained routes that start at or before key. */
static size_t chain_upper(const struct kv_client *c, struct str key)
{
    size_t lo = 0, hi = c->chain_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (str_cmp(c->chain[mid]->bounds.start, key) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct kv_route *kv_router_find(struct kv_client *c, struct str key)
{
    size_t at = chain_upper(c, key);
    if (at == 0 || !range_bounds_has(&c->chain[at - 1]->bounds, key))
        return NULL;
    return c->chain[at - 1];
}

bool kv_router_is_whole(const struct kv_client *c, bool (*is_good)(const struct kv_route *r))
{
    struct str next = STR("");
    bool is_open = false;
    for (size_t i = 0; i < c->chain_count; i++) {
        const struct kv_route *r = c->chain[i];
        if (!str_eq(r->bounds.start, next) || !is_good(r))
            return false;
        next = r->bounds.end;
        is_open = r->bounds.is_open;
    }
    return is_open;
}

static int by_strength(const void *a, const void *b)
{
    const struct kv_route *x = *(struct kv_route *const *)a, *y = *(struct kv_route *const *)b;
    if (x->id.epoch != y->id.epoch)
        return x->id.epoch < y->id.epoch ? -1 : 1;
    if (x->version.boundary != y->version.boundary)
        return x->version.boundary > y->version.boundary ? -1 : 1;
    return range_id_cmp(x->id, y->id);
}

static void rebuild(struct kv_client *c)
{
    qsort(c->route, c->route_count, sizeof *c->route, by_strength);
    c->chain = mem_grow(c->chain, &c->chain_cap, c->route_count + 1, sizeof *c->chain);
    c->chain_count = 0;
    for (size_t i = 0; i < c->route_count; i++) {
        struct kv_route *r = c->route[i];
        size_t at = chain_upper(c, r->bounds.start);
        if (at > 0 && range_bounds_overlap(&c->chain[at - 1]->bounds, &r->bounds))
            continue;
        if (at < c->chain_count && range_bounds_overlap(&c->chain[at]->bounds, &r->bounds))
            continue;
        memmove(c->chain + at + 1, c->chain + at, (c->chain_count - at) * sizeof *c->chain);
        c->chain[at] = r;
        c->chain_count++;
    }
}

static void lead(struct kv_client *c, struct kv_route *r, const struct uuid *leader, uint64_t term)
{
    r->leader = *leader;
    r->term = term;
    if (!uuid_is_zero(leader))
        kv_client_recall(c, r);
}

void kv_router_learn(struct kv_client *c, const struct kv_route_news *n)
{
    struct kv_route *r = kv_router_of_id(c, n->id);
    bool is_moved = !r;
    if (!r) {
        if (n->is_gone)
            return;
        r = mem_new(sizeof *r);
        list_init(&r->link);
        r->id = n->id;
        r->tag = kv_tag(c->store, n->id);
        r->shard = kv_shard(c->store, n->id);
        kv_client_convoy(c, r);
        r->bounds = range_bounds_dup(&n->bounds);
        r->local_bounds = range_bounds_dup(&n->bounds);
        c->route = mem_grow(c->route, &c->route_cap, c->route_count + 1, sizeof *c->route);
        c->route[c->route_count++] = r;
    }
    if (n->version.boundary > r->version.boundary) {
        is_moved = true;
        range_bounds_free(&r->bounds);
        r->bounds = range_bounds_dup(&n->bounds);
        r->version = n->version;
    } else if (n->version.boundary == r->version.boundary && n->version.config > r->version.config)
        r->version = n->version;
    if (n->is_local) {
        r->is_local = !n->is_gone;
        r->is_ready = n->is_ready && !n->is_gone;
        r->machine = r->is_ready ? n->machine : NULL;
        r->local_boundary = n->version.boundary;
        range_bounds_free(&r->local_bounds);
        r->local_bounds = range_bounds_dup(&n->bounds);
    }
    if (is_moved)
        rebuild(c);
    if (!n->is_gone && (n->term > r->term || (n->term == r->term && uuid_is_zero(&r->leader)))) {
        r->avoid_until = 0;
        lead(c, r, &n->leader, n->term);
    } else if (n->is_local && n->term == r->term && uuid_is_zero(&n->leader) &&
               uuid_eq(&r->leader, &c->store->kv->conf.node))
        r->leader = n->leader; /* it stepped down: nobody leads in this term again */
    kv_client_routes_changed(c);
}

void kv_router_hint(struct kv_client *c, uint64_t tag, const struct uuid *leader, uint64_t term)
{
    struct kv_route *r = kv_router_of_tag(c, tag);
    if (!r || term < r->term)
        return;
    if (term > r->term || !uuid_is_zero(leader)) {
        if (!uuid_eq(&r->leader, leader))
            r->avoid_until = 0;
        lead(c, r, leader, term);
    }
}

void kv_router_avoid(struct kv_client *c, uint64_t tag, const struct uuid *leader)
{
    struct kv_route *r = kv_router_of_tag(c, tag);
    if (r && uuid_eq(&r->leader, leader))
        r->avoid_until = kv_loop_now(c->loop) + KV_AVOID_USEC;
}

struct uuid kv_router_leader(const struct kv_client *c, const struct kv_route *r)
{
    return kv_loop_now(c->loop) < r->avoid_until ? (struct uuid){{0}} : r->leader;
}

void kv_router_unlead(struct kv_client *c, const struct uuid *node)
{
    for (size_t i = 0; i < c->route_count; i++)
        if (uuid_eq(&c->route[i]->leader, node))
            c->route[i]->leader = (struct uuid){{0}};
}

static void route_free(struct kv_route *r)
{
    must(!r->open);
    range_bounds_free(&r->bounds);
    range_bounds_free(&r->local_bounds);
    mem_free(r);
}

void kv_router_forget(struct kv_client *c, struct range_id id)
{
    for (size_t i = 0; i < c->route_count; i++) {
        struct kv_route *r = c->route[i];
        if (!range_id_eq(r->id, id))
            continue;
        if (r->is_local || r->open)
            return;
        c->route[i] = c->route[--c->route_count];
        rebuild(c);
        route_free(r);
        return;
    }
}

void kv_router_deinit(struct kv_client *c)
{
    for (size_t i = 0; i < c->route_count; i++)
        route_free(c->route[i]);
    c->route = mem_free(c->route);
    c->chain = mem_free(c->chain);
    c->route_count = c->chain_count = 0;
}

/* ---- news from a replica to all loops of the node -------------------------------------------- */

/* Travels from loop to loop, so that it is one allocation and news keep their order. */
struct tell {
    struct net_mail mail;
    struct kv_store *store;
    struct kv_route_news news;
    unsigned home, next; /* loops */
    void (*fn)(void *machine, void *arg);
    void *machine, *arg;
};

static void tell_on(struct net_loop *here, struct net_mail *mail);

static void tell_forward(struct tell *t, struct net_loop *here)
{
    struct kv *kv = t->store->kv;
    if (t->next == t->home)
        t->next++;
    if (t->next < kv->loop_count) {
        net_loop_post(here, kv->loop[t->next].loop, &t->mail, tell_on);
        return;
    }
    if (t->fn && t->next == kv->loop_count) {
        net_loop_post(here, kv->loop[t->home].loop, &t->mail, tell_on);
        return;
    }
    if (t->fn)
        t->fn(t->machine, t->arg);
    range_bounds_free(&t->news.bounds);
    mem_free(t);
}

static void tell_on(struct net_loop *here, struct net_mail *mail)
{
    struct tell *t = container_of(mail, struct tell, mail);
    if (t->next < t->store->kv->loop_count)
        kv_router_learn(&t->store->client[t->next], &t->news);
    t->next++;
    tell_forward(t, here);
}

void kv_router_tell(struct kv_replica *r, bool is_gone, void (*fn)(void *machine, void *arg),
                    void *arg)
{
    struct kv *kv = r->loop->kv;
    struct kv_route_news n = {
        .id = r->range_id,
        .leader = kv_replica_leader(r),
        .term = raft_status_get(&r->raft).term,
        .is_local = true,
        .is_gone = is_gone,
        .is_ready = r->is_ready,
        .machine = r->machine,
        .bounds = range_bounds_all(),
    };
    if (!r->has_range && !fn)
        return;
    if (r->has_range) {
        n.version = r->range.version;
        n.bounds = r->range.bounds;
    }
    if (r->has_range)
        kv_router_learn(r->home, &n);
    if (kv->loop_count == 1 && !fn)
        return;
    struct tell *t = mem_new(sizeof *t);
    t->store = r->home->store;
    t->news = n;
    t->news.bounds = range_bounds_dup(&n.bounds);
    t->home = r->loop->index;
    t->fn = fn;
    t->machine = r->machine;
    t->arg = arg;
    tell_forward(t, r->loop->loop);
}
