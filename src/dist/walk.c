/* Walks over all routes: reload, orphans, collection, check.  SPDX-License-Identifier: Apache-2.0
 *
 * A position is a slot of the hash of tenants and a slot of the tenant's hash of edges; a tenant's
 * root is visited before its first edge, the + children of a node with it.  Removing a route moves
 * no slot, so a walk that removes what it met goes on where it was. */
#include "dist/index_priv.h"

#include "base/buf.h"
#include "base/mem.h"
#include "dist/wire_priv.h"

#define EDGE_BITS 40 /* of a position; the rest is the tenant's slot */
#define STEP_FILTERS 4096
#define TAG_ROUTE 1

/* One route and whose it is; the two may be written. */
typedef void visit_fn(void *arg, const struct dist_route *r, uint16_t *owner, uint16_t *generation);

struct visitor {
    visit_fn *fn;
    void *arg;
    size_t filters; /* inspected */
    char *text;     /* DIST_TEXT_MAX bytes */
};

static void visit_receiver(const struct visitor *v, struct dist_receiver *c, struct dist_route *r)
{
    dist_receiver_route(c, r);
    v->fn(v->arg, r, &c->owner, &c->generation);
}

static void visit_filter(struct visitor *v, struct dist_filter *f)
{
    if (f == NULL)
        return;
    v->filters++;
    struct str text = {v->text, dist_filter_text(f, v->text)};
    struct dist_route r = {.tenant = dist_filter_tenant(f), .filter = text};
    const struct dist_node *n = atomic_load_explicit(&f->first, memory_order_relaxed);
    if (n != NULL) {
        struct dist_route first = r;
        first.kind = DIST_KIND_NODE;
        first.node = n->uuid;
        first.epoch = n->epoch;
        first.incarnation = f->first_incarnation;
        v->fn(v->arg, &first, &f->first_owner, &f->first_generation);
    }
    const struct dist_more *more = atomic_load_explicit(&f->more, memory_order_relaxed);
    if (more == NULL)
        return;
    struct dist_receiver *c = atomic_load_explicit(&more->receiver, memory_order_relaxed);
    for (; c != NULL; c = atomic_load_explicit(&c->next, memory_order_relaxed))
        visit_receiver(v, c, &r);
    const struct dist_group *g = atomic_load_explicit(&more->group, memory_order_relaxed);
    for (; g != NULL; g = dist_group_next(g)) {
        const struct dist_members *m = dist_group_members(g);
        r.share = (enum dist_share)g->share;
        r.group = str_view(g->name, g->name_len);
        for (uint32_t i = 0; i < m->count; i++)
            visit_receiver(v, m->member[i], &r);
    }
}

/* A node with its + child, that one's + child and so on. */
static void visit_node(struct visitor *v, const struct dist_trie *n)
{
    while (n != NULL) {
        const struct dist_inner *inner = atomic_load_explicit(&n->inner, memory_order_relaxed);
        visit_filter(v, atomic_load_explicit(&n->filter, memory_order_relaxed));
        n = NULL;
        if (inner != NULL) {
            visit_filter(v, atomic_load_explicit(&inner->multi, memory_order_relaxed));
            n = atomic_load_explicit(&inner->plus, memory_order_relaxed);
        }
    }
}

static const struct dist_trie *slot_get(const struct dist_table *t, uint64_t i)
{
    uint64_t v = atomic_load_explicit(&t->slot[i], memory_order_relaxed);
    return v > DIST_SLOT_USED ? (const struct dist_trie *)(uintptr_t)(v & DIST_SLOT_MASK) : NULL;
}

/* From *at until max filters were seen; *at is 0 at the end.  In a position the edge counts from 1,
 * 0 is the root. */
static void walk(const struct dist_index *x, struct visitor *v, uint64_t *at, size_t max)
{
    const struct dist_table *roots = atomic_load_explicit(&x->tenants.table, memory_order_relaxed);
    uint64_t i = *at >> EDGE_BITS, k = *at & ((UINT64_C(1) << EDGE_BITS) - 1);
    char *text = mem_alloc(DIST_TEXT_MAX);
    v->text = text;
    *at = 0;
    for (; roots != NULL && i <= roots->mask; i++, k = 0) {
        const struct dist_trie *root = slot_get(roots, i);
        if (root == NULL)
            continue;
        const struct dist_tenant *t = container_of(root, const struct dist_tenant, root);
        const struct dist_table *edges =
            atomic_load_explicit(&t->edges.table, memory_order_relaxed);
        uint64_t count = edges != NULL ? edges->mask + 1 : 0;
        for (; k <= count && v->filters < max; k++)
            visit_node(v, k == 0 ? root : slot_get(edges, k - 1));
        if (v->filters >= max) {
            *at = i << EDGE_BITS | k;
            break;
        }
    }
    mem_free(text);
}

struct public_walk {
    uint16_t owner;
    void (*fn)(void *arg, const struct dist_route *r);
    void *arg;
};

static void visit_public(void *arg, const struct dist_route *r, uint16_t *owner,
                         uint16_t *generation)
{
    const struct public_walk *w = arg;
    (void)generation;
    if (*owner == w->owner)
        w->fn(w->arg, r);
}

void dist_index_walk(const struct dist_index *x, uint16_t owner, uint64_t *at, size_t max,
                     void (*fn)(void *arg, const struct dist_route *r), void *arg)
{
    struct public_walk w = {owner, fn, arg};
    walk(x, &(struct visitor){.fn = visit_public, .arg = &w}, at, max);
}

/* --- reload -------------------------------------------------------------------------------------
 */

struct sweep {
    const struct dist_index *x;
    uint16_t owner;
    bool is_all; /* of any generation */
    bool
        is_over; /* of ranges that are not here any more: nobody has lost them, and ours become the host's */
    bool has_orphaned;
    bool (*is_ours)(void *arg, struct str tenant, struct str filter);
    void *arg;
    struct buf gone; /* routes to remove behind the walk, which must not lose its ground */
};

static void visit_sweep(void *arg, const struct dist_route *r, uint16_t *owner,
                        uint16_t *generation)
{
    struct sweep *s = arg;
    if (*owner != s->owner || (!s->is_all && *generation == s->x->generation[s->owner]))
        return;
    if (s->is_over && dist_route_is_local(s->x, r)) {
        *owner = DIST_OWNER_HOST;
        *generation = s->x->generation[DIST_OWNER_HOST];
        return;
    }
    if (s->is_ours != NULL && !s->is_ours(s->arg, r->tenant, r->filter)) {
        *owner = 0;
        s->has_orphaned = true;
    } else {
        dist_wire_put(&s->gone, TAG_ROUTE, r, 0);
    }
}

static void sweep(struct dist_index *x, struct sweep *s)
{
    uint64_t at = 0;
    do {
        walk(x, &(struct visitor){.fn = visit_sweep, .arg = s}, &at, STEP_FILTERS);
        struct codec_cursor c = codec_cursor_of(buf_str(&s->gone));
        struct codec_field f;
        while (codec_record_next(&c, &f)) {
            struct dist_route r;
            uint32_t member_max;
            must(dist_wire_get(f.bytes, &r, &member_max));
            must((s->is_over ? dist_index_take : dist_index_del)(x, s->owner, &r) == 0);
        }
        s->gone.n = 0;
    } while (at != 0);
    x->has_orphans |= s->has_orphaned;
    buf_deinit(&s->gone);
}

void dist_index_reload_begin(struct dist_index *x, uint16_t owner)
{
    must(owner > DIST_OWNER_HOST && owner < x->owner_count);
    x->generation[owner]++;
}

void dist_index_reload_end(struct dist_index *x, uint16_t owner,
                           bool (*is_ours)(void *arg, struct str tenant, struct str filter),
                           void *arg)
{
    sweep(x, &(struct sweep){.x = x, .owner = owner, .is_ours = is_ours, .arg = arg});
}

struct cut {
    const struct dist_index *x;
    uint16_t owner, to;
    bool (*is_cut)(void *arg, struct str tenant, struct str filter);
    void *arg;
};

static void visit_cut(void *arg, const struct dist_route *r, uint16_t *owner, uint16_t *generation)
{
    const struct cut *c = arg;
    if (*owner != c->owner || !c->is_cut(c->arg, r->tenant, r->filter))
        return;
    *owner = c->to;
    *generation = c->x->generation[c->to];
}

void dist_index_cut(struct dist_index *x, uint16_t owner, uint16_t to,
                    bool (*is_cut)(void *arg, struct str tenant, struct str filter), void *arg)
{
    uint64_t at = 0;
    struct cut c = {x, owner, to, is_cut, arg};
    must(owner > DIST_OWNER_HOST && owner < x->owner_count && to > DIST_OWNER_HOST &&
         to < x->owner_count && owner != to);
    walk(x, &(struct visitor){.fn = visit_cut, .arg = &c}, &at, SIZE_MAX);
}

void dist_index_sweep_orphans(struct dist_index *x)
{
    if (x->has_orphans)
        sweep(x, &(struct sweep){.x = x, .owner = 0, .is_all = true, .is_over = true});
    x->has_orphans = false;
}

void dist_index_owner_end(struct dist_index *x, uint16_t owner)
{
    must(owner > DIST_OWNER_HOST && owner < x->owner_count);
    sweep(x, &(struct sweep){.x = x, .owner = owner, .is_all = true, .is_over = true});
    x->spare_owner =
        mem_grow(x->spare_owner, &x->spare_cap, x->spare_count + 1, sizeof *x->spare_owner);
    x->spare_owner[x->spare_count++] = owner;
}

void dist_index_host_settle(struct dist_index *x)
{
    sweep(x, &(struct sweep){.x = x, .owner = DIST_OWNER_HOST, .is_all = true});
}

/* --- check --------------------------------------------------------------------------------------
 */

static void visit_count(void *arg, const struct dist_route *r, uint16_t *owner,
                        uint16_t *generation)
{
    struct dist_index_stat *s = arg;
    (void)generation;
    (void)owner;
    if (r->share != DIST_SHARE_NONE)
        s->members++;
    else if (r->kind == DIST_KIND_NODE)
        s->node_routes++;
    else
        s->inbox_routes++;
}

static void check_node(const struct dist_trie *n, struct dist_index_stat *seen)
{
    for (; n != NULL; seen->trie_nodes++) {
        const struct dist_inner *inner = atomic_load_explicit(&n->inner, memory_order_relaxed);
        const struct dist_filter *f = atomic_load_explicit(&n->filter, memory_order_relaxed);
        must(inner != NULL || f != NULL); /* 1 */
        must(f == NULL || (f->node == n && !f->is_multi));
        n = NULL;
        if (inner != NULL) {
            const struct dist_filter *m = atomic_load_explicit(&inner->multi, memory_order_relaxed);
            n = atomic_load_explicit(&inner->plus, memory_order_relaxed);
            must(n != NULL || m != NULL ||
                 atomic_load_explicit(&inner->children, memory_order_relaxed) > 0); /* 1 */
            must(m == NULL || m->is_multi);
        }
    }
}

void dist_index_check(const struct dist_index *x)
{
    const struct dist_table *roots = atomic_load_explicit(&x->tenants.table, memory_order_relaxed);
    struct dist_index_stat seen = {0};
    for (uint64_t i = 0; roots != NULL && i <= roots->mask; i++) {
        const struct dist_trie *root = slot_get(roots, i);
        if (root == NULL)
            continue;
        const struct dist_tenant *t = container_of(root, const struct dist_tenant, root);
        const struct dist_table *edges =
            atomic_load_explicit(&t->edges.table, memory_order_relaxed);
        size_t live = 0;
        seen.tenants++;
        check_node(root, &seen);
        seen.trie_nodes--; /* the root is part of the tenant */
        for (uint64_t k = 0; edges != NULL && k <= edges->mask; k++) {
            const struct dist_trie *n = slot_get(edges, k);
            if (n != NULL) {
                live++;
                check_node(n, &seen);
            }
        }
        must(live == t->edges.live);
    }
    uint64_t at = 0;
    struct visitor v = {.fn = visit_count, .arg = &seen};
    walk(x, &v, &at, SIZE_MAX);
    must(v.filters == x->stat.filters); /* 5 */
    must(seen.tenants == x->stat.tenants);
    must(seen.trie_nodes == x->stat.trie_nodes);
    must(seen.node_routes == x->stat.node_routes);
    must(seen.inbox_routes == x->stat.inbox_routes);
    must(seen.members == x->stat.members);
    must(x->garbage_count == 0);
}
