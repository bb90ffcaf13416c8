/* The readers' side of the index: matching a topic without a lock.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Invariants:
 *   1. Every pointer is read once, with acquire, and what it leads to was whole before it was
 * published.
 *   2. Nothing is written but the caller's result.
 *   3. The walk goes down at most as deep as the topic has levels, and only along prefixes that
 * exist. It never waits, allocates only when the result array grows, and never sees another
 * tenant's filters. */
#include "dist/index_priv.h"

#include "base/hash.h"
#include "base/mem.h"

uint64_t dist_edge_hash(const struct dist_index *x, const struct dist_trie *parent,
                        struct str level)
{
    return hash_u64(hash_str(level, x->conf.seed) ^
                    ((uint64_t)(uintptr_t)parent * 0x9e3779b97f4a7c15u));
}

struct dist_trie *dist_edge_find(const struct dist_edges *e, uint64_t hash,
                                 const struct dist_trie *parent, struct str level)
{
    const struct dist_table *t = atomic_load_explicit(&e->table, memory_order_acquire);
    if (t == NULL)
        return NULL;
    for (size_t i = (size_t)hash & t->mask;; i = (i + 1) & t->mask) {
        uint64_t v = atomic_load_explicit(&t->slot[i], memory_order_acquire);
        if (v == 0)
            return NULL;
        if (v >> 48 != hash >> 48 || v == DIST_SLOT_USED)
            continue;
        struct dist_trie *c = (struct dist_trie *)(uintptr_t)(v & DIST_SLOT_MASK);
        if (c->parent == parent && c->hash == (uint32_t)hash && c->len == level.n &&
            (level.n == 0 || memcmp(c->text, level.p, level.n) == 0))
            return c;
    }
}

struct dist_tenant *dist_tenant_find(const struct dist_index *x, struct str name)
{
    struct dist_trie *root = dist_edge_find(&x->tenants, dist_edge_hash(x, NULL, name), NULL, name);
    return root == NULL ? NULL : container_of(root, struct dist_tenant, root);
}

struct walk {
    const struct dist_index *x;
    const struct dist_tenant *t;
    struct dist_match *out;
    unsigned count;
    struct str level[DIST_LEVEL_MAX];
};

static void found(struct dist_match *m, struct dist_filter *f)
{
    if (f == NULL)
        return;
    if (unlikely(m->count == m->cap))
        m->filter = mem_grow(m->filter, &m->cap, m->count + 1, sizeof *m->filter);
    m->filter[m->count++] = f;
}

/* NOLINTNEXTLINE(misc-no-recursion): no deeper than DIST_LEVEL_MAX and than the trie */
static void visit(struct walk *w, const struct dist_trie *n, unsigned i)
{
    struct dist_inner *inner = atomic_load_explicit(&n->inner, memory_order_acquire);
    if (i == w->count)
        found(w->out, atomic_load_explicit(&n->filter, memory_order_acquire));
    if (inner == NULL)
        return;
    bool is_hidden = i == 0 && w->level[0].n > 0 && w->level[0].p[0] == '$'; /* [MQTT-4.7.2-1] */
    if (!is_hidden) /* a/# matches a as well [MQTT-4.7.1-2] */
        found(w->out, atomic_load_explicit(&inner->multi, memory_order_acquire));
    if (i == w->count)
        return;
    struct dist_trie *named = NULL;
    if (atomic_load_explicit(&inner->children, memory_order_relaxed) > 0)
        named = dist_edge_find(&w->t->edges, dist_edge_hash(w->x, n, w->level[i]), n, w->level[i]);
    struct dist_trie *plus = atomic_load_explicit(&inner->plus, memory_order_acquire);
    if (plus != NULL && !is_hidden)
        visit(w, plus, i + 1);
    if (named != NULL)
        visit(w, named, i + 1);
}

void dist_index_match(const struct dist_index *x, struct str tenant, struct str topic,
                      struct dist_match *out)
{
    out->count = 0;
    out->version = dist_index_version(x);
    struct walk w; /* its levels stay uninitialised: 4 KiB too many for each topic */
    w.x = x;
    w.out = out;
    w.count = 0;
    w.t = dist_tenant_find(x, tenant);
    if (w.t == NULL || topic.n == 0)
        return;
    for (const char *p = topic.p, *end = p + topic.n;;) {
        if (w.count == DIST_LEVEL_MAX)
            return;
        const char *slash = memchr(p, '/', (size_t)(end - p));
        const char *stop = slash != NULL ? slash : end;
        w.level[w.count++] = str_view(p, (size_t)(stop - p));
        if (slash == NULL)
            break;
        p = slash + 1;
    }
    visit(&w, &w.t->root, 0);
}

void dist_match_deinit(struct dist_match *m)
{
    m->filter = mem_free(m->filter);
    m->count = m->cap = 0;
}

uint64_t dist_index_version(const struct dist_index *x)
{
    return atomic_load_explicit(&x->version, memory_order_acquire);
}

struct dist_filter *dist_index_find(const struct dist_index *x, struct str tenant,
                                    struct str filter)
{
    struct dist_tenant *t = dist_tenant_find(x, tenant);
    struct dist_trie *n = t != NULL ? &t->root : NULL;
    struct str level;
    while (n != NULL && str_next(&filter, '/', &level)) {
        struct dist_inner *inner = atomic_load_explicit(&n->inner, memory_order_acquire);
        if (inner == NULL)
            return NULL;
        if (str_eq(level, STR("#")))
            return filter.p == NULL ? atomic_load_explicit(&inner->multi, memory_order_acquire)
                                    : NULL;
        if (str_eq(level, STR("+")))
            n = atomic_load_explicit(&inner->plus, memory_order_acquire);
        else
            n = dist_edge_find(&t->edges, dist_edge_hash(x, n, level), n, level);
    }
    return n != NULL ? atomic_load_explicit(&n->filter, memory_order_acquire) : NULL;
}

const struct dist_node *dist_filter_node(const struct dist_filter *f)
{
    const struct dist_node *n = atomic_load_explicit(&f->first, memory_order_acquire);
    return n != NULL && !atomic_load_explicit(&n->is_dead, memory_order_relaxed) ? n : NULL;
}

const struct dist_receiver *dist_filter_receivers(const struct dist_filter *f)
{
    const struct dist_more *m = atomic_load_explicit(&f->more, memory_order_acquire);
    return m != NULL ? atomic_load_explicit(&m->receiver, memory_order_acquire) : NULL;
}

const struct dist_group *dist_filter_groups(const struct dist_filter *f)
{
    const struct dist_more *m = atomic_load_explicit(&f->more, memory_order_acquire);
    return m != NULL ? atomic_load_explicit(&m->group, memory_order_acquire) : NULL;
}

static uint64_t member_score(const struct dist_receiver *r, uint64_t key)
{
    uint64_t h = hash_bytes(r->client, r->client_len, key);
    if (r->node != NULL)
        h ^= hash_bytes(&r->node->uuid, sizeof r->node->uuid, key ^ r->node->epoch);
    return hash_u64(h);
}

const struct dist_receiver *dist_group_pick(const struct dist_group *g, uint64_t key,
                                            bool (*can)(void *arg, const struct dist_receiver *r),
                                            void *arg)
{
    const struct dist_members *m = dist_group_members(g);
    const struct dist_receiver *best = NULL;
    uint64_t best_score = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        bool is_ordered = g->share == DIST_SHARE_ORDERED;
        const struct dist_receiver *r =
            m->member[is_ordered ? i : (uint32_t)((key + i) % m->count)];
        if (!dist_receiver_is_live(r))
            continue;
        if (is_ordered) {
            uint64_t score = member_score(r, key);
            if (best == NULL || score > best_score)
                best = r, best_score = score;
        } else {
            if (can == NULL || can(arg, r))
                return r;
            best = best != NULL ? best : r;
        }
    }
    return best;
}

/* From the filter's last level up to the root; written backwards in front of end when dst is given.
 */
static size_t text_of(const struct dist_filter *f, char *end)
{
    size_t n = 0;
    bool is_first = true;
    if (f->is_multi) {
        n = 1;
        if (end != NULL)
            *--end = '#';
        is_first = false;
    }
    for (const struct dist_trie *t = f->node; t->parent != NULL; t = t->parent) {
        size_t need = t->len + (is_first ? 0u : 1u);
        n += need;
        if (end != NULL) {
            end -= need;
            memcpy(end, t->text, t->len);
            if (!is_first)
                end[t->len] = '/';
        }
        is_first = false;
    }
    return n;
}

size_t dist_filter_text(const struct dist_filter *f, char *dst)
{
    size_t n = text_of(f, NULL);
    (void)text_of(f, dst + n);
    return n;
}

struct str dist_filter_tenant(const struct dist_filter *f)
{
    const struct dist_trie *t = f->node;
    while (t->parent != NULL)
        t = t->parent;
    return str_view(t->text, t->len);
}

void *dist_filter_host(const struct dist_filter *f)
{
    void *p = atomic_load_explicit(&f->host, memory_order_acquire);
    return p == (const void *)f ? NULL : p;
}

int dist_filter_host_set(struct dist_filter *f, void *from, void *to)
{
    void *was = from;
    if (atomic_compare_exchange_strong_explicit(&f->host, &was, to, memory_order_acq_rel,
                                                memory_order_acquire))
        return 0;
    return was == (void *)f ? DIST_E_GONE : DIST_E_CHANGED;
}
