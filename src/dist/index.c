/* The writer's side of the index: trie, edges, tenants, what becomes garbage.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 *   1. What is linked is whole: every field is set before the release store that publishes it.
 *   2. What is unlinked is not touched any more but by reclaim, and stays as it was for readers
 * that still hold it.
 *   3. An operation changes first, then raises the version, then reclaims: a reader that still sees
 * the version of its cached result entered its read section before anything in it was handed to
 * reclaim.
 *   4. No trie node without a filter, a # filter or a child is left linked, but a root of nothing
 * else. It never frees what a reader may see; it never blocks. */
#include "dist/index_priv.h"

#include "base/hash.h"
#include "base/mem.h"

static void free_mem(void *p)
{
    mem_free(p);
}

static void free_more(void *p)
{
    struct dist_more *m = p;
    map_deinit(&m->by_name);
    mem_free(m);
}

void dist_index_drop(struct dist_index *x, void *p, void (*fn)(void *ptr))
{
    x->garbage = mem_grow(x->garbage, &x->garbage_cap, x->garbage_count + 1, sizeof *x->garbage);
    x->garbage[x->garbage_count++] = (struct dist_garbage){p, fn != NULL ? fn : free_mem};
}

void dist_index_commit(struct dist_index *x)
{
    atomic_fetch_add_explicit(&x->version, 1, memory_order_seq_cst);
    for (size_t i = 0; i < x->garbage_count; i++)
        x->conf.reclaim(x->conf.arg, x->garbage[i].ptr, x->garbage[i].fn);
    x->garbage_count = 0;
}

/* --- edges
 * ------------------------------------------------------------------------------------------------------
 */

static struct dist_table *table_new(size_t cap)
{
    struct dist_table *t = mem_new(sizeof *t + cap * sizeof t->slot[0]);
    t->mask = cap - 1;
    return t;
}

static void table_put(struct dist_table *t, size_t low, uint64_t v, memory_order order,
                      size_t *used)
{
    size_t i = low & t->mask;
    uint64_t was;
    while ((was = atomic_load_explicit(&t->slot[i], memory_order_relaxed)) > DIST_SLOT_USED)
        i = (i + 1) & t->mask;
    *used += was == 0;
    atomic_store_explicit(&t->slot[i], v, order);
}

static void table_grow(struct dist_index *x, struct dist_edges *e)
{
    struct dist_table *old = atomic_load_explicit(&e->table, memory_order_relaxed);
    size_t cap = 8;
    while (cap < (e->live + 1) * 2)
        cap *= 2;
    struct dist_table *t = table_new(cap);
    e->used = 0;
    for (size_t i = 0; old != NULL && i <= old->mask; i++) {
        uint64_t v = atomic_load_explicit(&old->slot[i], memory_order_relaxed);
        if (v > DIST_SLOT_USED) {
            const struct dist_trie *c = (const struct dist_trie *)(uintptr_t)(v & DIST_SLOT_MASK);
            table_put(t, c->hash, v, memory_order_relaxed, &e->used);
        }
    }
    atomic_store_explicit(&e->table, t, memory_order_release);
    if (old != NULL)
        dist_index_drop(x, old, NULL);
}

void dist_edge_put(struct dist_index *x, struct dist_edges *e, uint64_t hash, struct dist_trie *c)
{
    const struct dist_table *t = atomic_load_explicit(&e->table, memory_order_relaxed);
    if (t == NULL || (e->used + 1) * 4 > (t->mask + 1) * 3)
        table_grow(x, e);
    must(((uint64_t)(uintptr_t)c & ~DIST_SLOT_MASK) == 0);
    c->hash = (uint32_t)hash;
    uint64_t v = (hash & ~DIST_SLOT_MASK) | (uint64_t)(uintptr_t)c;
    table_put(atomic_load_explicit(&e->table, memory_order_relaxed), c->hash, v,
              memory_order_release, &e->used);
    e->live++;
}

void dist_edge_del(struct dist_edges *e, const struct dist_trie *c)
{
    struct dist_table *t = atomic_load_explicit(&e->table, memory_order_relaxed);
    for (size_t i = c->hash & t->mask;; i = (i + 1) & t->mask) {
        uint64_t v = atomic_load_explicit(&t->slot[i], memory_order_relaxed);
        must(v != 0);
        if ((v & DIST_SLOT_MASK) == (uint64_t)(uintptr_t)c) {
            atomic_store_explicit(&t->slot[i], DIST_SLOT_USED, memory_order_release);
            e->live--;
            return;
        }
    }
}

/* --- paths
 * ------------------------------------------------------------------------------------------------------
 */

static void trie_init(struct dist_trie *n, struct dist_trie *parent, struct str text)
{
    n->parent = parent;
    n->len = (uint16_t)text.n;
    if (text.n > 0)
        memcpy(n->text, text.p, text.n);
}

static struct dist_trie *trie_new(struct dist_index *x, struct dist_trie *parent, struct str level)
{
    /* not mem_new(sizeof + n): the text begins inside the padding */
    size_t n = offsetof(struct dist_trie, text) + level.n;
    struct dist_trie *t = mem_new(n < sizeof *t ? sizeof *t : n);
    trie_init(t, parent, level);
    x->stat.trie_nodes++;
    return t;
}

static struct dist_inner *inner_get(struct dist_trie *n)
{
    struct dist_inner *inner = atomic_load_explicit(&n->inner, memory_order_relaxed);
    if (inner == NULL) {
        inner = mem_new(sizeof *inner);
        atomic_store_explicit(&n->inner, inner, memory_order_release);
    }
    return inner;
}

struct dist_tenant *dist_path_tenant(struct dist_index *x, struct str name)
{
    struct dist_tenant *t = dist_tenant_find(x, name);
    if (t == NULL) {
        t = mem_new(sizeof *t + name.n);
        trie_init(&t->root, NULL, name);
        dist_edge_put(x, &x->tenants, dist_edge_hash(x, NULL, name), &t->root);
        x->stat.tenants++;
    }
    return t;
}

static struct dist_trie *child_get(struct dist_index *x, struct dist_tenant *t, struct dist_trie *n,
                                   struct str level)
{
    struct dist_inner *inner = inner_get(n);
    if (str_eq(level, STR("+"))) {
        struct dist_trie *plus = atomic_load_explicit(&inner->plus, memory_order_relaxed);
        if (plus == NULL) {
            plus = trie_new(x, n, level);
            plus->is_plus = true;
            atomic_store_explicit(&inner->plus, plus, memory_order_release);
        }
        return plus;
    }
    uint64_t hash = dist_edge_hash(x, n, level);
    struct dist_trie *c = dist_edge_find(&t->edges, hash, n, level);
    if (c == NULL) {
        c = trie_new(x, n, level);
        dist_edge_put(x, &t->edges, hash, c);
        atomic_fetch_add_explicit(&inner->children, 1, memory_order_release);
    }
    return c;
}

struct dist_filter *dist_path_get(struct dist_index *x, struct dist_tenant *t, struct str filter)
{
    struct dist_trie *n = &t->root;
    struct dist_filter *_Atomic *slot = NULL;
    struct str level;
    while (slot == NULL && str_next(&filter, '/', &level)) {
        if (str_eq(level, STR("#")))
            slot = &inner_get(n)->multi;
        else
            n = child_get(x, t, n, level);
    }
    bool is_multi = slot != NULL;
    slot = is_multi ? slot : &n->filter;
    struct dist_filter *f = atomic_load_explicit(slot, memory_order_relaxed);
    if (f == NULL) {
        f = mem_new(sizeof *f);
        f->node = n;
        f->is_multi = is_multi;
        atomic_store_explicit(slot, f, memory_order_release);
        x->stat.filters++;
        t->stat.filters++;
    }
    return f;
}

/* Takes n and its ancestors out as far as nothing needs them. */
static void prune(struct dist_index *x, struct dist_tenant *t, struct dist_trie *n)
{
    for (struct dist_trie *up; n != NULL; n = up) {
        struct dist_inner *inner = atomic_load_explicit(&n->inner, memory_order_relaxed);
        if (inner != NULL && atomic_load_explicit(&inner->plus, memory_order_relaxed) == NULL &&
            atomic_load_explicit(&inner->multi, memory_order_relaxed) == NULL &&
            atomic_load_explicit(&inner->children, memory_order_relaxed) == 0) {
            atomic_store_explicit(&n->inner, NULL, memory_order_release);
            dist_index_drop(x, inner, NULL);
            inner = NULL;
        }
        if (inner != NULL || atomic_load_explicit(&n->filter, memory_order_relaxed) != NULL)
            return;
        up = n->parent;
        if (up == NULL) {
            struct dist_table *table = atomic_load_explicit(&t->edges.table, memory_order_relaxed);
            dist_edge_del(&x->tenants, n);
            if (table != NULL)
                dist_index_drop(x, table, NULL);
            dist_index_drop(x, t, NULL);
            x->stat.tenants--;
            return;
        }
        struct dist_inner *above = atomic_load_explicit(&up->inner, memory_order_relaxed);
        if (n->is_plus) {
            atomic_store_explicit(&above->plus, NULL, memory_order_release);
        } else {
            dist_edge_del(&t->edges, n);
            atomic_fetch_sub_explicit(&above->children, 1, memory_order_release);
        }
        dist_index_drop(x, n, NULL);
        x->stat.trie_nodes--;
    }
}

bool dist_path_release(struct dist_index *x, struct dist_tenant *t, struct dist_filter *f)
{
    struct dist_more *more = atomic_load_explicit(&f->more, memory_order_relaxed);
    if (more != NULL && more->receiver_count == 0 && more->group_count == 0) {
        atomic_store_explicit(&f->more, NULL, memory_order_release);
        dist_index_drop(x, more, free_more);
        more = NULL;
    }
    if (more != NULL || atomic_load_explicit(&f->first, memory_order_relaxed) != NULL)
        return false;
    void *none = NULL; /* the entry's own address in the host slot: going */
    if (!atomic_compare_exchange_strong_explicit(&f->host, &none, (void *)f, memory_order_acq_rel,
                                                 memory_order_acquire))
        return false;
    struct dist_trie *n = f->node;
    if (f->is_multi)
        atomic_store_explicit(&atomic_load_explicit(&n->inner, memory_order_relaxed)->multi, NULL,
                              memory_order_release);
    else
        atomic_store_explicit(&n->filter, NULL, memory_order_release);
    x->stat.filters--;
    t->stat.filters--;
    dist_index_drop(x, f, NULL);
    prune(x, t, n);
    return true;
}

/* --- life
 * -------------------------------------------------------------------------------------------------------
 */

struct dist_index *dist_index_new(const struct dist_index_conf *conf)
{
    must(conf->reclaim != NULL);
    struct dist_index *x = mem_new(sizeof *x);
    x->conf = *conf;
    x->owner_count = DIST_OWNER_HOST + 1;
    x->generation = mem_grow(x->generation, &x->owner_cap, x->owner_count, sizeof *x->generation);
    memset(x->generation, 0, x->owner_count * sizeof *x->generation);
    return x;
}

static void filter_free(struct dist_filter *f)
{
    if (f == NULL)
        return;
    struct dist_more *m = atomic_load_explicit(&f->more, memory_order_relaxed);
    if (m != NULL) {
        for (struct dist_receiver *r = atomic_load_explicit(&m->receiver, memory_order_relaxed),
                                  *next;
             r != NULL; r = next) {
            next = atomic_load_explicit(&r->next, memory_order_relaxed);
            mem_free(r);
        }
        for (struct dist_group *g = atomic_load_explicit(&m->group, memory_order_relaxed), *next;
             g != NULL; g = next) {
            next = atomic_load_explicit(&g->next, memory_order_relaxed);
            struct dist_members *a = atomic_load_explicit(&g->members, memory_order_relaxed);
            for (uint32_t i = 0; i < a->count; i++)
                mem_free(a->member[i]);
            mem_free(a);
            mem_free(g);
        }
        free_more(m);
    }
    mem_free(f);
}

/* A node and its chain of + children; children by name are freed through the table. */
static void trie_free(struct dist_trie *n, bool is_root)
{
    while (n != NULL) {
        struct dist_inner *inner = atomic_load_explicit(&n->inner, memory_order_relaxed);
        struct dist_trie *plus = NULL;
        filter_free(atomic_load_explicit(&n->filter, memory_order_relaxed));
        if (inner != NULL) {
            plus = atomic_load_explicit(&inner->plus, memory_order_relaxed);
            filter_free(atomic_load_explicit(&inner->multi, memory_order_relaxed));
        }
        mem_free(inner);
        if (!is_root)
            mem_free(n);
        is_root = false;
        n = plus;
    }
}

static void table_free(struct dist_table *t, void (*fn)(struct dist_trie *c))
{
    for (size_t i = 0; t != NULL && i <= t->mask; i++) {
        uint64_t v = atomic_load_explicit(&t->slot[i], memory_order_relaxed);
        if (v > DIST_SLOT_USED)
            fn((struct dist_trie *)(uintptr_t)(v & DIST_SLOT_MASK));
    }
    mem_free(t);
}

static void child_free(struct dist_trie *c)
{
    trie_free(c, false);
}

static void tenant_free(struct dist_trie *root)
{
    struct dist_tenant *t = container_of(root, struct dist_tenant, root);
    table_free(atomic_load_explicit(&t->edges.table, memory_order_relaxed), child_free);
    trie_free(root, true);
    mem_free(t);
}

void dist_index_free(struct dist_index *x)
{
    if (x == NULL)
        return;
    table_free(atomic_load_explicit(&x->tenants.table, memory_order_relaxed), tenant_free);
    size_t at = 0;
    for (struct dist_node *n; (n = map_next(&x->nodes, &at)) != NULL;)
        mem_free(n);
    map_deinit(&x->nodes);
    mem_free(x->generation);
    mem_free(x->spare_owner);
    mem_free(x->garbage);
    mem_free(x);
}

uint16_t dist_index_owner(struct dist_index *x)
{
    if (x->spare_count > 0)
        return x->spare_owner[--x->spare_count];
    must(x->owner_count < UINT16_MAX);
    x->generation =
        mem_grow(x->generation, &x->owner_cap, x->owner_count + 1, sizeof *x->generation);
    x->generation[x->owner_count] = 0;
    return (uint16_t)x->owner_count++;
}

void dist_index_stat(const struct dist_index *x, struct dist_index_stat *out)
{
    *out = x->stat;
}

void dist_index_tenant_stat(const struct dist_index *x, struct str tenant,
                            struct dist_tenant_stat *out)
{
    const struct dist_tenant *t = dist_tenant_find(x, tenant);
    *out = t != NULL ? t->stat : (struct dist_tenant_stat){0};
}
