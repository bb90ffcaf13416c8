/* The publish cache of a loop.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 an entry whose three versions are the present ones names only connections that live;
 * 2 each connection is named once;  3 at most BROKER_TARGETS_MAX entries.
 * It never sends anything. */
#include "broker/target_priv.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "broker/conn_priv.h"
#include "broker/hub_priv.h"
#include "dist/index.h"

struct topic_key {
    struct broker_tenant *tenant;
    struct str topic;
};

static bool targets_eq(const void *item, const void *key)
{
    const struct broker_targets *t = item;
    const struct topic_key *k = key;
    return t->tenant == k->tenant && str_eq(t->topic, k->topic);
}

static struct broker_targets *targets_free(struct broker_targets *t)
{
    mem_free(t->local);
    mem_free(t->sub_id);
    mem_free(t->node);
    mem_free(t->inbox);
    mem_free(t->group);
    return mem_free(t);
}

static void cache_clear(struct broker_target_cache *c)
{
    size_t at = 0;
    for (struct broker_targets *t; (t = map_next(&c->by_topic, &at)) != NULL;)
        targets_free(t);
    map_deinit(&c->by_topic);
}

void broker_targets_init(struct broker_loop *l)
{
    l->targets.match = mem_new(sizeof(*l->targets.match));
    l->targets.elsewhere = mem_new(sizeof(*l->targets.elsewhere));
}

void broker_targets_deinit(struct broker_loop *l)
{
    cache_clear(&l->targets);
    l->targets.elsewhere = targets_free(l->targets.elsewhere);
    if (l->targets.match)
        dist_match_deinit(l->targets.match);
    l->targets.match = mem_free(l->targets.match);
}

/* ---- making an entry ---- */

static void add_members(struct broker_targets *t, const struct broker_members *m)
{
    t->local = mem_grow(t->local, &t->local_cap, t->local_count + m->count, sizeof(*t->local));
    for (uint32_t i = 0; i < m->count; i++) {
        const struct broker_sub *s = m->sub[i];
        if (s->is_checked && !broker_conn_may_read(s->conn, t->topic))
            continue;
        struct broker_target *x = &t->local[t->local_count++];
        *x = (struct broker_target){.conn = s->conn, .qos = (uint8_t)s->qos};
        x->flags = (uint8_t)((s->no_local ? BROKER_TARGET_NO_LOCAL : 0) |
                             (s->as_published ? BROKER_TARGET_AS_PUBLISHED : 0));
        if (s->sub_id) {
            t->sub_id =
                mem_grow(t->sub_id, &t->sub_id_cap, t->sub_id_count + 1, sizeof(*t->sub_id));
            x->sub_id_at = (uint32_t)t->sub_id_count;
            x->sub_id_count = 1;
            t->sub_id[t->sub_id_count++] = s->sub_id;
        }
    }
}

static void add_node(struct broker_loop *l, struct broker_targets *t, const struct dist_filter *f,
                     const struct dist_node *n)
{
    if (atomic_load_explicit(&n->is_dead, memory_order_relaxed))
        return;
    if (atomic_load_explicit(&n->is_local, memory_order_relaxed)) {
        const struct broker_filter *hub = dist_filter_host(f);
        if (!hub)
            return;
        uint64_t mask = atomic_load_explicit(&hub->mask, memory_order_acquire);
        t->loops |= mask & ~((uint64_t)1 << l->index);
        if (mask >> l->index & 1)
            add_members(t, &hub->loop[l->index]);
        return;
    }
    for (size_t i = 0; i < t->node_count; i++)
        if (t->node[i] == n)
            return;
    t->node = mem_grow(t->node, &t->node_cap, t->node_count + 1, sizeof(struct dist_node *));
    t->node[t->node_count++] = n;
}

static void add_filter(struct broker_loop *l, struct broker_targets *t, const struct dist_filter *f)
{
    const struct dist_node *n = dist_filter_node(f);
    if (n)
        add_node(l, t, f, n);
    for (const struct dist_receiver *r = dist_filter_receivers(f); r; r = dist_receiver_next(r)) {
        if (r->kind == DIST_KIND_NODE) {
            add_node(l, t, f, r->node);
            continue;
        }
        t->inbox =
            mem_grow(t->inbox, &t->inbox_cap, t->inbox_count + 1, sizeof(struct dist_receiver *));
        t->inbox[t->inbox_count++] = r;
    }
    for (const struct dist_group *g = dist_filter_groups(f); g; g = dist_group_next(g)) {
        t->group = mem_grow(t->group, &t->group_cap, t->group_count + 1, sizeof(*t->group));
        t->group[t->group_count++] = (struct broker_target_group){g, f};
    }
}

static int target_cmp(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct broker_target *)a)->conn;
    uintptr_t y = (uintptr_t)((const struct broker_target *)b)->conn;
    return x < y ? -1 : x > y;
}

/* Puts b's subscription into a's: one copy for the client, with the largest QoS and all identifiers.  no_local stays
 * only if all have it: another subscription that allows it is enough to get the message. */
static void target_merge(struct broker_targets *t, struct broker_target *a,
                         const struct broker_target *b)
{
    a->qos = a->qos > b->qos ? a->qos : b->qos;
    a->flags = (uint8_t)((a->flags & b->flags & BROKER_TARGET_NO_LOCAL) |
                         ((a->flags | b->flags) & BROKER_TARGET_AS_PUBLISHED));
    if (b->sub_id_count == 0)
        return;
    size_t n = a->sub_id_count + (size_t)b->sub_id_count;
    t->sub_id = mem_grow(t->sub_id, &t->sub_id_cap, t->sub_id_count + n, sizeof(*t->sub_id));
    uint32_t at = (uint32_t)t->sub_id_count;
    memcpy(t->sub_id + at, t->sub_id + a->sub_id_at, a->sub_id_count * sizeof(uint32_t));
    memcpy(t->sub_id + at + a->sub_id_count, t->sub_id + b->sub_id_at,
           b->sub_id_count * sizeof(uint32_t));
    t->sub_id_count += n;
    a->sub_id_at = at;
    a->sub_id_count = (uint16_t)n;
}

static void merge_local(struct broker_targets *t)
{
    if (t->local_count < 2)
        return;
    qsort(t->local, t->local_count, sizeof(*t->local), target_cmp);
    size_t n = 0;
    for (size_t i = 1; i < t->local_count; i++)
        if (t->local[i].conn == t->local[n].conn)
            target_merge(t, &t->local[n], &t->local[i]);
        else
            t->local[++n] = t->local[i];
    t->local_count = n + 1;
}

static int receiver_cmp(const void *a, const void *b)
{
    const struct dist_receiver *x = *(const struct dist_receiver *const *)a;
    const struct dist_receiver *y = *(const struct dist_receiver *const *)b;
    return str_cmp(str_view(x->client, x->client_len), str_view(y->client, y->client_len));
}

static void resolve_begin(struct broker_loop *l, struct broker_targets *t)
{
    t->hub_version = atomic_load_explicit(&l->broker->hub_version, memory_order_acquire);
    t->member_version = l->member_version;
    t->loops = 0;
    t->local_count = t->sub_id_count = t->node_count = t->inbox_count = t->group_count = 0;
}

static void resolve_end(struct broker_targets *t, size_t filters)
{
    if (filters > 1)
        merge_local(t);
    if (t->inbox_count > 1)
        qsort(t->inbox, t->inbox_count, sizeof(struct dist_receiver *), receiver_cmp);
}

static void resolve(struct broker_loop *l, struct broker_targets *t)
{
    struct dist_match *m = l->targets.match;
    resolve_begin(l, t);
    dist_index_match(l->routes, t->tenant->name, t->topic, m);
    t->index_version = m->version;
    for (size_t i = 0; i < m->count; i++)
        add_filter(l, t, m->filter[i]);
    resolve_end(t, m->count);
}

static void add_here(struct broker_loop *l, struct broker_targets *t, const struct dist_filter *f)
{
    const struct dist_node *n = dist_filter_node(f);
    if (n && atomic_load_explicit(&n->is_local, memory_order_relaxed))
        add_node(l, t, f, n);
    for (const struct dist_receiver *r = dist_filter_receivers(f); r; r = dist_receiver_next(r))
        if (r->kind == DIST_KIND_NODE &&
            atomic_load_explicit(&r->node->is_local, memory_order_relaxed))
            add_node(l, t, f, r->node);
}

/* The other index has no subscribers of ours hanging on its filters. */
const struct broker_targets *broker_targets_of(struct broker_loop *l, struct broker_tenant *tenant,
                                               struct str topic, const struct dist_index *index)
{
    struct broker_targets *t = l->targets.elsewhere;
    struct dist_match *m = l->targets.match;
    t->tenant = tenant;
    t->topic = topic;
    resolve_begin(l, t);
    dist_index_match(l->routes, tenant->name, topic, m);
    for (size_t i = 0; i < m->count; i++)
        add_here(l, t, m->filter[i]);
    size_t filters = m->count;
    dist_index_match(index, tenant->name, topic, m);
    for (size_t i = 0; i < m->count; i++)
        add_filter(l, t, m->filter[i]);
    resolve_end(t, filters);
    return t;
}

static struct broker_targets *targets_new(struct broker_loop *l, const struct topic_key *key,
                                          uint64_t hash)
{
    struct broker_target_cache *c = &l->targets;
    if (c->by_topic.count >= BROKER_TARGETS_MAX) {
        broker_metric_add(broker_loop_metrics(l, key->tenant), BROKER_M_ROUTE_CACHE_EVICT,
                          c->by_topic.count);
        cache_clear(c);
    }
    struct broker_targets *t = mem_new(sizeof(*t) + key->topic.n);
    memcpy(t->text, key->topic.p, key->topic.n);
    t->topic = str_view(t->text, key->topic.n);
    t->tenant = key->tenant;
    t->hash = hash;
    map_put(&c->by_topic, hash, t);
    return t;
}

const struct broker_targets *broker_targets_get(struct broker_loop *l, struct broker_tenant *tenant,
                                                struct str topic)
{
    struct topic_key key = {tenant, topic};
    uint64_t hash = hash_str(topic, l->broker->seed + tenant->index);
    struct broker_targets *t = map_find(&l->targets.by_topic, hash, targets_eq, &key);
    bool is_fresh =
        t && t->member_version == l->member_version &&
        t->index_version == dist_index_version(l->routes) &&
        t->hub_version == atomic_load_explicit(&l->broker->hub_version, memory_order_acquire);
    struct broker_metrics *m = broker_loop_metrics(l, tenant);
    broker_metric_add(m, is_fresh ? BROKER_M_ROUTE_CACHE_HIT : BROKER_M_ROUTE_CACHE_MISS, 1);
    if (likely(is_fresh))
        return t;
    if (!t)
        t = targets_new(l, &key, hash);
    resolve(l, t);
    return t;
}
