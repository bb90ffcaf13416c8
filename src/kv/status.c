/* What is where, for people and tools.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A status walks from loop to loop, each adds what it hosts, the last one what only the
 *    landscape knows; the answer
 *    comes on the loop that asked, whole.
 * 2. Of a range that has a replica here the replica speaks; of others the leader's descriptor, as
 *    old as gossip is. */
#include "kv/kv_priv.h"

struct item {
    struct kv_range_status s;
    struct kv_store *store;
    struct buf start, end, reason;
};

struct walk {
    struct net_mail mail;
    struct kv *kv;
    struct kv_client *client;
    kv_status_cb *cb;
    void *arg;
    unsigned next;
    struct item **item;
    size_t count, cap;
};

bool kv_node_is_live(const struct kv_loop *l, const struct uuid *node)
{
    if (!l->seat)
        return uuid_eq(node, &l->kv->conf.node);
    const struct cluster_member *m = cluster_member_find(l->seat, node);
    return m && (m->state == CLUSTER_ST_ALIVE || m->state == CLUSTER_ST_SUSPECT);
}

/* During a joint change both sets vote, each by itself (Raft thesis 4.3). */
static bool votes(const struct kv_member *m, bool in_next)
{
    return in_next ? m->is_next_voter : m->is_voter;
}

/* Who is missed, as far as there is room. */
static void put_missing(const struct kv_loop *l, const struct kv_member *m, unsigned count,
                        bool in_next, struct buf *out)
{
    const char *before = "; missing: ";
    for (unsigned i = 0; i < count; i++) {
        const struct cluster_member *c = l->seat ? cluster_member_find(l->seat, &m[i].node) : NULL;
        char id[UUID_TEXT];
        if (!votes(&m[i], in_next) || m[i].is_live)
            continue;
        uuid_format(&m[i].node, id);
        buf_printf(out, "%snode %s", before, id);
        if (c && c->host && c->host[0])
            buf_printf(out, " (%s)", c->host);
        before = ", ";
    }
}

bool kv_status_no_quorum(const struct kv_loop *l, const struct kv_member *m, unsigned count,
                         struct buf *out)
{
    for (int in_next = 0; in_next < 2; in_next++) {
        unsigned voters = 0, live = 0;
        for (unsigned i = 0; i < count; i++) {
            voters += votes(&m[i], in_next);
            live += votes(&m[i], in_next) && m[i].is_live;
        }
        if (voters == 0 || live * 2 > voters)
            continue;
        buf_printf(out, "no quorum: %u of %u voters are alive", live, voters);
        put_missing(l, m, count, in_next, out);
        return true;
    }
    return false;
}

static void explain(const struct kv_loop *l, struct item *it)
{
    unsigned voters = 0, live = 0, behind = 0;
    for (unsigned i = 0; i < it->s.member_count; i++) {
        voters += it->s.member[i].is_voter;
        live += it->s.member[i].is_voter && it->s.member[i].is_live;
        behind += it->s.member[i].is_live && it->s.member[i].lag > 10000;
    }
    if (kv_status_no_quorum(l, it->s.member, it->s.member_count, &it->reason))
        return;
    if (!it->s.has_leader)
        buf_printf(&it->reason, "no leader is known");
    else if (live < voters)
        buf_printf(&it->reason, "%u of %u voters are alive", live, voters);
    else if (behind > 0)
        buf_printf(&it->reason, "%u members are more than 10,000 entries behind", behind);
}

static struct item *item_of(struct walk *w, struct kv_loop *l, struct kv_store *s,
                            const struct range_descriptor *d)
{
    struct item *it = mem_new(sizeof *it);
    w->item = mem_grow(w->item, &w->cap, w->count + 1, sizeof(struct item *));
    w->item[w->count++] = it;
    it->store = s;
    buf_put_str(&it->start, d->bounds.start);
    if (!d->bounds.is_open)
        buf_put_str(&it->end, d->bounds.end);
    it->s = (struct kv_range_status){
        .store = s->name,
        .id = {d->id.epoch, d->id.id},
        .is_open = d->bounds.is_open,
        .boundary_version = d->version.boundary,
        .config_version = d->version.config,
        .role = (enum kv_role)d->role,
        .has_leader = !uuid_is_zero(&d->leader),
        .leader = d->leader,
        .term = d->term,
        .commit = d->commit,
        .applied = d->applied,
        .bytes = d->bytes,
        .log_bytes = d->log_bytes,
        .member_count = d->member_count,
    };
    for (unsigned i = 0; i < d->member_count; i++)
        it->s.member[i] = (struct kv_member){
            .node = d->member[i].node,
            .replica = d->member[i].replica,
            .is_voter = d->member[i].is_voter,
            .is_next_voter = d->is_joint ? d->member[i].is_next_voter : d->member[i].is_voter,
            .is_live = kv_node_is_live(l, &d->member[i].node),
            .lag = d->member[i].lag,
        };
    return it;
}

unsigned kv_status_members(const struct kv_replica *r, struct kv_member out[KV_MEMBER_MAX])
{
    const struct raft_config *c = raft_config_get(&r->raft);
    unsigned n = 0;
    for (size_t i = 0; i < c->count && n < KV_MEMBER_MAX; i++)
        out[n++] = (struct kv_member){
            .node = c->member[i].store,
            .replica = c->member[i].id,
            .is_voter = c->member[i].role & RAFT_VOTER,
            .is_next_voter = c->member[i].role & (c->is_joint ? RAFT_NEXT_VOTER : RAFT_VOTER),
            .is_live = kv_node_is_live(r->loop, &c->member[i].store),
        };
    return n;
}

static void add_local(struct walk *w, struct kv_loop *l)
{
    struct buf fact = {0};
    list_each(&l->replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        struct range_descriptor d;
        if (r->is_closed)
            continue;
        kv_landscape_describe(r, &d, &fact);
        struct item *it = item_of(w, l, r->home->store, &d);
        it->s.is_local = true;
        if (it->s.member_count == 0)
            it->s.member_count = kv_status_members(r, it->s.member);
        if (r->reason)
            buf_printf(&it->reason, "%s", r->reason);
        else
            explain(l, it);
    }
    buf_deinit(&fact);
}

static struct item *item_find(const struct walk *w, const struct kv_store *s, struct range_id id)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->item[i]->store == s && w->item[i]->s.id.epoch == id.epoch &&
            w->item[i]->s.id.id == id.id)
            return w->item[i];
    return NULL;
}

/* How far the others are behind is known where the range is led: it says so in its row. */
static void lag_take(const struct kv_loop *l, struct item *it, const struct range_descriptor *d)
{
    if (it->s.role == KV_ROLE_LEADER || d->term < it->s.term)
        return;
    for (unsigned i = 0; i < it->s.member_count; i++)
        for (unsigned k = 0; k < d->member_count; k++)
            if (uuid_eq(&it->s.member[i].node, &d->member[k].node))
                it->s.member[i].lag = d->member[k].lag;
    if (it->reason.n == 0)
        explain(l, it);
}

static void add_remote(struct walk *w)
{
    struct kv_loop *l = w->client->loop;
    for (unsigned i = 0; i < w->kv->store_count && l->seat; i++) {
        char prefix[KV_STORE_NAME_MAX + 2];
        const struct cluster_row *row;
        size_t at = 0;
        snprintf(prefix, sizeof prefix, "%s/", w->kv->store[i]->name);
        while ((row = cluster_row_next(l->seat, CLUSTER_SPACE_LANDSCAPE, str_of(prefix), &at))) {
            struct range_descriptor d;
            if (range_descriptor_decode(row->value, &d) != 0 || d.role != RANGE_ROLE_LEADER)
                continue;
            struct item *known = item_find(w, w->kv->store[i], d.id);
            if (known) {
                lag_take(l, known, &d);
                continue;
            }
            d.role = RANGE_ROLE_NONE;
            explain(l, item_of(w, l, w->kv->store[i], &d));
        }
    }
}

static int by_place(const void *a, const void *b)
{
    const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
    if (x->store->index != y->store->index)
        return x->store->index < y->store->index ? -1 : 1;
    return str_cmp(buf_str(&x->start), buf_str(&y->start));
}

static void walk_end(struct walk *w)
{
    add_remote(w);
    if (w->count > 0)
        qsort(w->item, w->count, sizeof(struct item *), by_place);
    for (size_t i = 0; i < w->count; i++) {
        struct item *it = w->item[i];
        it->s.start = buf_str(&it->start);
        it->s.end = buf_str(&it->end);
        it->s.reason = buf_str(&it->reason);
        w->cb(w->arg, &it->s);
        buf_deinit(&it->start);
        buf_deinit(&it->end);
        buf_deinit(&it->reason);
        mem_free(it);
    }
    w->cb(w->arg, NULL);
    mem_free(w->item);
    mem_free(w);
}

static void walk_on(struct net_loop *here, struct net_mail *mail)
{
    struct walk *w = container_of(mail, struct walk, mail);
    if (w->next < w->kv->loop_count) {
        add_local(w, &w->kv->loop[w->next]);
        w->next++;
        struct kv_loop *to = w->next < w->kv->loop_count ? &w->kv->loop[w->next] : w->client->loop;
        net_loop_post(here, to->loop, &w->mail, walk_on);
    } else
        walk_end(w);
}

void kv_status(struct kv_client *c, kv_status_cb *cb, void *arg)
{
    struct walk *w = mem_new(sizeof *w);
    w->kv = c->store->kv;
    w->client = c;
    w->cb = cb;
    w->arg = arg;
    net_loop_post(c->loop->loop, w->kv->loop[0].loop, &w->mail, walk_on);
}
