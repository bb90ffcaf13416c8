/* Routes of the index: adding, removing, reloading, walking.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 *   1. Of one identity (dist_route) an entry has one route; its incarnation never goes down while
 * it is there.
 *   2. Receivers and members are never changed in place where a reader looks: a new one takes the
 * old one's place.
 *   3. A route belongs to one owner; owner 0 has the orphans.
 * It never unlinks an entry that the host holds. */
#include "dist/index_priv.h"

#include "base/hash.h"
#include "base/mem.h"

#define NAMES_MIN 16 /* receivers of one filter from which on a map finds them */

static bool is_filter(struct str f)
{
    if (f.n == 0 || f.n > DIST_TEXT_MAX || memchr(f.p, '\0', f.n) != NULL)
        return false;
    struct str level;
    for (unsigned n = 0; str_next(&f, '/', &level); n++) {
        bool is_wild =
            level.n > 0 && (memchr(level.p, '#', level.n) || memchr(level.p, '+', level.n));
        if (n == DIST_LEVEL_MAX || (is_wild && level.n > 1))
            return false;
        if (is_wild && level.p[0] == '#' && f.p != NULL) /* [MQTT-4.7.1-1] */
            return false;
    }
    return true;
}

static bool is_route(const struct dist_route *r)
{
    bool is_shared = r->share == DIST_SHARE_UNORDERED || r->share == DIST_SHARE_ORDERED;
    if (!is_shared && (r->share != DIST_SHARE_NONE || r->group.n > 0))
        return false;
    if (is_shared &&
        (r->group.n == 0 || r->group.n > UINT16_MAX || memchr(r->group.p, '\0', r->group.n)))
        return false;
    if (r->kind == DIST_KIND_NODE ? is_shared || r->client.n > 0 : r->client.n == 0)
        return false;
    if (r->kind != DIST_KIND_NODE && r->kind != DIST_KIND_INBOX &&
        (r->kind != DIST_KIND_MEMBER || !is_shared))
        return false;
    if (r->client.n > 0 && (r->client.n > UINT16_MAX || memchr(r->client.p, '\0', r->client.n)))
        return false;
    return (r->options & DIST_OPTION_QOS) < 3 && r->options < 16 && r->sub_id <= DIST_SUB_ID_MAX &&
           r->tenant.n <= UINT16_MAX &&
           (r->tenant.n == 0 || !memchr(r->tenant.p, '\0', r->tenant.n)) && is_filter(r->filter);
}

/* --- processes of the cluster
 * ----------------------------------------------------------------------------------- */

struct node_key {
    struct uuid uuid;
    uint64_t epoch;
};

static bool node_eq(const void *item, const void *key)
{
    const struct dist_node *n = item;
    const struct node_key *k = key;
    return n->epoch == k->epoch && uuid_eq(&n->uuid, &k->uuid);
}

static struct dist_node *node_get(struct dist_index *x, const struct uuid *uuid, uint64_t epoch,
                                  bool is_wanted)
{
    struct node_key k = {*uuid, epoch};
    uint64_t hash = hash_bytes(uuid, sizeof *uuid, x->conf.seed ^ epoch);
    struct dist_node *n = map_find(&x->nodes, hash, node_eq, &k);
    if (n == NULL && is_wanted) {
        n = mem_new(sizeof *n);
        n->uuid = *uuid;
        n->epoch = epoch;
        atomic_init(&n->is_local, epoch == x->local_epoch && uuid_eq(uuid, &x->local_node));
        map_put(&x->nodes, hash, n);
    }
    return n;
}

void dist_index_node_local(struct dist_index *x, const struct uuid *node, uint64_t epoch)
{
    struct dist_node *was = node_get(x, &x->local_node, x->local_epoch, false);
    if (was != NULL)
        atomic_store_explicit(&was->is_local, false, memory_order_relaxed);
    x->local_node = *node;
    x->local_epoch = epoch;
    atomic_store_explicit(&node_get(x, node, epoch, true)->is_local, true, memory_order_relaxed);
    dist_index_commit(x);
}

void dist_index_node_mark(struct dist_index *x, const struct uuid *node, uint64_t epoch,
                          bool is_dead)
{
    atomic_store_explicit(&node_get(x, node, epoch, true)->is_dead, is_dead, memory_order_release);
    dist_index_commit(x);
}

const struct dist_node *dist_index_node_next(const struct dist_index *x, size_t *at)
{
    return map_next(&x->nodes, at);
}

/* --- one route
 * --------------------------------------------------------------------------------------------------
 */

struct identity {
    uint8_t kind;
    const struct dist_node *node; /* NULL: not bound to one */
    struct str client;
};

static bool receiver_eq(const void *item, const void *key)
{
    const struct dist_receiver *r = item;
    const struct identity *k = key;
    return r->kind == k->kind && r->node == k->node && r->client_len == k->client.n &&
           memcmp(r->client, k->client.p != NULL ? k->client.p : "", k->client.n) == 0;
}

static uint64_t receiver_hash(const struct dist_index *x, const struct identity *k)
{
    return hash_str(k->client, x->conf.seed) ^ hash_u64((uint64_t)(uintptr_t)k->node + k->kind);
}

static uint64_t receiver_hash_of(const struct dist_index *x, const struct dist_receiver *r)
{
    return receiver_hash(x,
                         &(struct identity){r->kind, r->node, str_view(r->client, r->client_len)});
}

static struct dist_receiver *receiver_new(const struct dist_route *r, struct dist_node *node,
                                          uint16_t owner, uint16_t generation)
{
    struct dist_receiver *v = mem_new(sizeof *v + r->client.n);
    v->node = node;
    v->session = r->session;
    v->incarnation = r->incarnation;
    v->sub_id = r->sub_id;
    v->owner = owner;
    v->generation = generation;
    v->client_len = (uint16_t)r->client.n;
    v->kind = (uint8_t)r->kind;
    v->options = r->options;
    if (r->client.n > 0)
        memcpy(v->client, r->client.p, r->client.n);
    return v;
}

static struct dist_receiver *receiver_find(const struct dist_index *x, const struct dist_more *m,
                                           const struct identity *k)
{
    if (m == NULL)
        return NULL;
    if (m->by_name.cap > 0)
        return map_find(&m->by_name, receiver_hash(x, k), receiver_eq, k);
    struct dist_receiver *r = atomic_load_explicit(&m->receiver, memory_order_relaxed);
    while (r != NULL && !receiver_eq(r, k))
        r = atomic_load_explicit(&r->next, memory_order_relaxed);
    return r;
}

static void receiver_link(const struct dist_index *x, struct dist_more *m, struct dist_receiver *r)
{
    struct dist_receiver *head = atomic_load_explicit(&m->receiver, memory_order_relaxed);
    atomic_store_explicit(&r->next, head, memory_order_relaxed);
    if (head != NULL)
        head->prev = r;
    atomic_store_explicit(&m->receiver, r, memory_order_release);
    m->receiver_count++;
    if (m->by_name.cap > 0) {
        map_put(&m->by_name, receiver_hash_of(x, r), r);
    } else if (m->receiver_count > NAMES_MIN) {
        for (; r != NULL; r = atomic_load_explicit(&r->next, memory_order_relaxed))
            map_put(&m->by_name, receiver_hash_of(x, r), r);
    }
}

static void receiver_unlink(struct dist_index *x, struct dist_more *m, struct dist_receiver *r)
{
    struct dist_receiver *next = atomic_load_explicit(&r->next, memory_order_relaxed);
    if (next != NULL)
        next->prev = r->prev;
    atomic_store_explicit(r->prev != NULL ? &r->prev->next : &m->receiver, next,
                          memory_order_release);
    m->receiver_count--;
    if (m->by_name.cap > 0)
        must(map_del(&m->by_name, receiver_hash_of(x, r), r));
    dist_index_drop(x, r, NULL);
}

/* A reader meets the one or the other, once. */
static void receiver_replace(struct dist_index *x, struct dist_more *m, struct dist_receiver *old,
                             struct dist_receiver *by)
{
    struct dist_receiver *next = atomic_load_explicit(&old->next, memory_order_relaxed);
    by->prev = old->prev;
    atomic_store_explicit(&by->next, next, memory_order_relaxed);
    if (next != NULL)
        next->prev = by;
    atomic_store_explicit(old->prev != NULL ? &old->prev->next : &m->receiver, by,
                          memory_order_release);
    if (m->by_name.cap > 0) {
        uint64_t hash = receiver_hash_of(x, old);
        must(map_del(&m->by_name, hash, old));
        map_put(&m->by_name, hash, by);
    }
    dist_index_drop(x, old, NULL);
}

static struct dist_more *more_get(struct dist_filter *f)
{
    struct dist_more *m = atomic_load_explicit(&f->more, memory_order_relaxed);
    if (m == NULL) {
        m = mem_new(sizeof *m);
        atomic_store_explicit(&f->more, m, memory_order_release);
    }
    return m;
}

static void count_route(struct dist_index *x, struct dist_tenant *t, uint8_t kind,
                        struct dist_node *node, int by)
{
    t->stat.routes += (uint64_t)(int64_t)by;
    if (node != NULL)
        node->route_count += (uint64_t)(int64_t)by;
    *(kind == DIST_KIND_NODE ? &x->stat.node_routes : &x->stat.inbox_routes) +=
        (uint64_t)(int64_t)by;
}

/* Where the route is now: the first node route, or a receiver, or nowhere. */
struct place {
    struct dist_filter *f;
    struct dist_receiver *receiver;
    bool is_first;
    uint64_t incarnation;
    uint16_t owner;
};

/* The host's routes and the tables' do not know of each other. */
static bool is_strange(uint16_t owner, uint16_t to)
{
    return (owner == DIST_OWNER_HOST) != (to == DIST_OWNER_HOST);
}

static bool find_plain(const struct dist_index *x, struct dist_filter *f, const struct identity *k,
                       struct place *out)
{
    *out = (struct place){.f = f};
    if (k->kind == DIST_KIND_NODE &&
        atomic_load_explicit(&f->first, memory_order_relaxed) == k->node) {
        out->is_first = true;
        out->incarnation = f->first_incarnation;
        out->owner = f->first_owner;
        return true;
    }
    out->receiver = receiver_find(x, atomic_load_explicit(&f->more, memory_order_relaxed), k);
    if (out->receiver == NULL)
        return false;
    out->incarnation = out->receiver->incarnation;
    out->owner = out->receiver->owner;
    return true;
}

static void adopt(struct dist_index *x, const struct place *at, uint16_t owner)
{
    *(at->is_first ? &at->f->first_owner : &at->receiver->owner) = owner;
    *(at->is_first ? &at->f->first_generation : &at->receiver->generation) = x->generation[owner];
}

static int add_plain(struct dist_index *x, struct dist_tenant *t, struct dist_filter *f,
                     uint16_t owner, const struct dist_route *r, struct dist_node *node)
{
    struct identity k = {(uint8_t)r->kind, node, r->client};
    struct place at;
    bool is_there = find_plain(x, f, &k, &at);
    bool is_other = is_there && is_strange(at.owner, owner);
    if (is_other && owner == DIST_OWNER_HOST)
        return DIST_E_OLD;
    if (is_there && !is_other && r->incarnation <= at.incarnation) {
        adopt(x, &at, owner);
        return DIST_E_OLD;
    }
    if (is_there && at.is_first) {
        f->first_incarnation = r->incarnation;
        adopt(x, &at, owner);
        return 0;
    }
    if (!is_there)
        count_route(x, t, k.kind, node, 1);
    if (!is_there && k.kind == DIST_KIND_NODE &&
        atomic_load_explicit(&f->first, memory_order_relaxed) == NULL) {
        f->first_incarnation = r->incarnation;
        f->first_owner = owner;
        f->first_generation = x->generation[owner];
        atomic_store_explicit(&f->first, node, memory_order_release);
        return 0;
    }
    struct dist_receiver *v = receiver_new(r, node, owner, x->generation[owner]);
    if (is_there)
        receiver_replace(x, more_get(f), at.receiver, v);
    else
        receiver_link(x, more_get(f), v);
    return 0;
}

static int del_plain(struct dist_index *x, struct dist_tenant *t, struct dist_filter *f,
                     uint16_t owner, const struct dist_route *r, struct dist_node *node)
{
    struct identity k = {(uint8_t)r->kind, node, r->client};
    struct place at;
    if (!find_plain(x, f, &k, &at) || is_strange(at.owner, owner))
        return DIST_E_NONE;
    if (at.incarnation > r->incarnation)
        return DIST_E_OLD;
    count_route(x, t, k.kind, node, -1);
    if (at.is_first)
        atomic_store_explicit(&f->first, NULL, memory_order_release);
    else
        receiver_unlink(x, atomic_load_explicit(&f->more, memory_order_relaxed), at.receiver);
    return 0;
}

/* --- groups
 * -----------------------------------------------------------------------------------------------------
 */

static struct dist_group *group_find(const struct dist_filter *f, const struct dist_route *r)
{
    const struct dist_more *m = atomic_load_explicit(&f->more, memory_order_relaxed);
    struct dist_group *g = m != NULL ? atomic_load_explicit(&m->group, memory_order_relaxed) : NULL;
    while (g != NULL && (g->share != r->share || !str_eq(str_view(g->name, g->name_len), r->group)))
        g = atomic_load_explicit(&g->next, memory_order_relaxed);
    return g;
}

/* A copy of the members, one of them (count: none) replaced, or taken out when by is NULL; by
 * behind the last is added. */
static struct dist_members *members_with(const struct dist_members *old, uint32_t at,
                                         struct dist_receiver *by)
{
    uint32_t count = old != NULL ? old->count : 0;
    struct dist_members *m = mem_alloc(sizeof *m + (count + 1) * sizeof m->member[0]);
    m->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i != at)
            m->member[m->count++] = old->member[i];
        else if (by != NULL)
            m->member[m->count++] = by;
    }
    if (at == count && by != NULL)
        m->member[m->count++] = by;
    return m;
}

static uint32_t member_find(const struct dist_members *m, const struct identity *k)
{
    uint32_t i = 0;
    while (i < m->count && !receiver_eq(m->member[i], k))
        i++;
    return i;
}

/* Those that count for its limit. */
static uint32_t members_of_tables(const struct dist_members *m)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->count; i++)
        count += m->member[i]->owner != DIST_OWNER_HOST;
    return count;
}

static void count_member(struct dist_index *x, struct dist_tenant *t, struct dist_node *node,
                         int by)
{
    x->stat.members += (uint64_t)(int64_t)by;
    t->stat.members += (uint64_t)(int64_t)by;
    if (node != NULL)
        node->route_count += (uint64_t)(int64_t)by;
}

static void count_group(struct dist_index *x, struct dist_tenant *t, struct dist_more *m, int by)
{
    x->stat.groups += (uint64_t)(int64_t)by;
    t->stat.groups += (uint64_t)(int64_t)by;
    m->group_count += (uint32_t)by;
}

static int add_member(struct dist_index *x, struct dist_tenant *t, struct dist_filter *f,
                      uint16_t owner, const struct dist_route *r, struct dist_node *node,
                      uint32_t member_max)
{
    struct identity k = {(uint8_t)r->kind, node, r->client};
    struct dist_group *g = group_find(f, r);
    if (g == NULL) {
        struct dist_more *m = more_get(f);
        g = mem_new(sizeof *g + r->group.n);
        g->share = (uint8_t)r->share;
        g->name_len = (uint16_t)r->group.n;
        memcpy(g->name, r->group.p, r->group.n);
        struct dist_receiver *v = receiver_new(r, node, owner, x->generation[owner]);
        atomic_init(&g->members, members_with(NULL, 0, v));
        atomic_init(&g->next, atomic_load_explicit(&m->group, memory_order_relaxed));
        atomic_store_explicit(&m->group, g, memory_order_release);
        count_group(x, t, m, 1);
        count_member(x, t, node, 1);
        return 0;
    }
    struct dist_members *old = atomic_load_explicit(&g->members, memory_order_relaxed);
    uint32_t i = member_find(old, &k);
    struct dist_receiver *was = i < old->count ? old->member[i] : NULL;
    bool is_other = was != NULL && is_strange(was->owner, owner);
    if (is_other && owner == DIST_OWNER_HOST)
        return DIST_E_OLD;
    if (was != NULL && !is_other && r->incarnation <= was->incarnation) {
        adopt(x, &(struct place){.f = f, .receiver = was}, owner);
        return DIST_E_OLD;
    }
    if ((was == NULL || is_other) && member_max > 0 && members_of_tables(old) >= member_max)
        return DIST_E_FULL;
    struct dist_members *m =
        members_with(old, i, receiver_new(r, node, owner, x->generation[owner]));
    atomic_store_explicit(&g->members, m, memory_order_release);
    dist_index_drop(x, old, NULL);
    if (was != NULL)
        dist_index_drop(x, was, NULL);
    else
        count_member(x, t, node, 1);
    return 0;
}

static int del_member(struct dist_index *x, struct dist_tenant *t, struct dist_filter *f,
                      uint16_t owner, const struct dist_route *r, struct dist_node *node)
{
    struct identity k = {(uint8_t)r->kind, node, r->client};
    struct dist_group *g = group_find(f, r);
    struct dist_members *old =
        g != NULL ? atomic_load_explicit(&g->members, memory_order_relaxed) : NULL;
    uint32_t i = old != NULL ? member_find(old, &k) : 0;
    if (old == NULL || i == old->count || is_strange(old->member[i]->owner, owner))
        return DIST_E_NONE;
    if (old->member[i]->incarnation > r->incarnation)
        return DIST_E_OLD;
    count_member(x, t, node, -1);
    dist_index_drop(x, old->member[i], NULL);
    if (old->count > 1) {
        atomic_store_explicit(&g->members, members_with(old, i, NULL), memory_order_release);
        dist_index_drop(x, old, NULL);
        return 0;
    }
    struct dist_more *m = atomic_load_explicit(&f->more, memory_order_relaxed);
    struct dist_group *_Atomic *link = &m->group;
    while (atomic_load_explicit(link, memory_order_relaxed) != g)
        link = &atomic_load_explicit(link, memory_order_relaxed)->next;
    atomic_store_explicit(link, atomic_load_explicit(&g->next, memory_order_relaxed),
                          memory_order_release);
    count_group(x, t, m, -1);
    dist_index_drop(x, old, NULL);
    dist_index_drop(x, g, NULL);
    return 0;
}

/* --- the writer's verbs
 * ----------------------------------------------------------------------------------------- */

int dist_index_add(struct dist_index *x, uint16_t owner, const struct dist_route *r,
                   uint32_t member_max)
{
    must(owner < x->owner_count);
    if (!is_route(r))
        return DIST_E_INVALID;
    struct dist_node *node =
        r->kind == DIST_KIND_INBOX ? NULL : node_get(x, &r->node, r->epoch, true);
    struct dist_tenant *t = dist_path_tenant(x, r->tenant);
    struct dist_filter *f = dist_path_get(x, t, r->filter);
    int got = r->share == DIST_SHARE_NONE ? add_plain(x, t, f, owner, r, node)
                                          : add_member(x, t, f, owner, r, node, member_max);
    if (got == 0)
        dist_index_commit(x);
    return got;
}

bool dist_route_is_local(const struct dist_index *x, const struct dist_route *r)
{
    return r->kind != DIST_KIND_INBOX && r->epoch == x->local_epoch &&
           uuid_eq(&r->node, &x->local_node);
}

int dist_index_del(struct dist_index *x, uint16_t owner, const struct dist_route *r)
{
    int got = dist_index_take(x, owner, r);
    if (got == 0 && x->conf.lost != NULL && dist_route_is_local(x, r))
        x->conf.lost(x->conf.arg, r);
    return got;
}

int dist_index_take(struct dist_index *x, uint16_t owner, const struct dist_route *r)
{
    if (!is_route(r))
        return DIST_E_INVALID;
    struct dist_node *node =
        r->kind == DIST_KIND_INBOX ? NULL : node_get(x, &r->node, r->epoch, false);
    struct dist_tenant *t = dist_tenant_find(x, r->tenant);
    struct dist_filter *f = t != NULL ? dist_index_find(x, r->tenant, r->filter) : NULL;
    if (f == NULL || (node == NULL && r->kind != DIST_KIND_INBOX))
        return DIST_E_NONE;
    int got = r->share == DIST_SHARE_NONE ? del_plain(x, t, f, owner, r, node)
                                          : del_member(x, t, f, owner, r, node);
    if (got == 0) {
        (void)dist_path_release(x, t, f);
        dist_index_commit(x);
    }
    return got;
}

void dist_index_release(struct dist_index *x, struct str tenant, struct str filter)
{
    struct dist_filter *f = dist_index_find(x, tenant, filter);
    if (f != NULL && dist_path_release(x, dist_tenant_find(x, tenant), f))
        dist_index_commit(x);
}
