/* The cluster as one loop sees it.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 *   V1  members and rows are what the last news said; old lists live until the next turn.
 *   V2  a watcher hears of everything once: first all there is, then every change, in order.
 * Never: writes anything but by a mail to loop 0. */
#include "base/mem.h"
#include "cluster/cluster_priv.h"
#include "cluster/mark.h"

#define LOST_EVERY (1 * USEC_SEC)

struct cluster_watch {
    struct list link;
    struct cluster_seat *s;
    uint64_t spaces;
    cluster_watch_cb *cb;
    void *arg;
    bool is_new, is_dead;
};

struct delivery { /* news on their way to one seat */
    struct net_mail mail;
    struct cluster_seat *to;
    struct view_news *news;
};

struct order { /* something a seat wants of loop 0 */
    struct net_mail mail;
    struct cluster *c;
    enum gossip_event_kind kind;
    uint8_t space;
    struct uuid uuid;
    uint32_t set, clear;
    size_t key_n, value_n;
    char bytes[];
};

/* --- watchers --- */

static bool wants(const struct cluster_watch *w, const struct cluster_event *ev)
{
    return ev->row == NULL || w->spaces & cluster_space_bit(ev->row->space);
}

static void tell(struct cluster_watch *w, const struct cluster_event *ev)
{
    if (!w->is_dead && wants(w, ev))
        w->cb(w->arg, w->s, ev);
}

static void bury(struct cluster_seat *s)
{
    list_each(&s->watchers, it)
    {
        struct cluster_watch *w = container_of(it, struct cluster_watch, link);
        if (!w->is_dead)
            continue;
        list_del(it);
        mem_free(w);
    }
}

static void prime_one(struct cluster_seat *s, struct cluster_watch *w)
{
    struct view_list *members = s->members, *rows = s->rows;
    w->is_new = false;
    for (size_t i = 0; members != NULL && i < members->count; i++) {
        const struct view_member *m = members->item[i];
        struct cluster_event ev = {.kind = CLUSTER_EV_UP, .member = &m->pub};
        if (m->pub.state <= CLUSTER_ST_SUSPECT)
            tell(w, &ev);
    }
    for (size_t i = 0; rows != NULL && i < rows->count; i++) {
        const struct view_row *r = rows->item[i];
        struct cluster_event ev = {.kind = CLUSTER_EV_ROW, .row = &r->pub};
        tell(w, &ev);
    }
    struct cluster_event joined = {.kind = CLUSTER_EV_JOINED};
    if (s->is_joined)
        tell(w, &joined);
}

static void prime(void *arg)
{
    struct cluster_seat *s = arg;
    list_each(&s->watchers, it)
    {
        struct cluster_watch *w = container_of(it, struct cluster_watch, link);
        if (w->is_new && !w->is_dead)
            prime_one(s, w);
    }
    bury(s);
}

struct cluster_watch *cluster_watch_new(struct cluster_seat *s, uint64_t space_mask,
                                        cluster_watch_cb *cb, void *arg)
{
    struct cluster_watch *w = mem_new(sizeof *w);
    w->s = s;
    w->spaces = space_mask;
    w->cb = cb;
    w->arg = arg;
    w->is_new = true;
    list_push_back(&s->watchers, &w->link);
    net_loop_defer(s->loop, &s->prime);
    return w;
}

struct cluster_watch *cluster_watch_free(struct cluster_watch *w)
{
    if (w == NULL)
        return NULL;
    w->is_dead = true; /* a callback of it may be running */
    net_loop_defer(w->s->loop, &w->s->prime);
    return NULL;
}

/* --- news --- */

static void sweep(void *arg, usec_t now)
{
    struct cluster_seat *s = arg;
    (void)now;
    for (size_t i = 0; i < s->old_count; i++)
        cluster_view_list_unref(s->old[i]);
    s->old_count = 0;
}

static void swap(struct cluster_seat *s, struct view_list **place, struct view_list *l)
{
    if (l == NULL)
        return;
    if (*place != NULL) {
        s->old = mem_grow(s->old, &s->old_cap, s->old_count + 1, sizeof *s->old);
        s->old[s->old_count++] = *place;
        net_timer_set(s->loop, &s->sweep, net_loop_now(s->loop));
    }
    atomic_fetch_add(&l->refs, 1);
    *place = l;
}

/* An operator has revoked a node: what is open to it ends. */
static void take_revoked(struct cluster_seat *s, const struct cluster_row *row)
{
    struct uuid node;
    if (row->space != CLUSTER_SPACE_SETTING || !cluster_revoked_key(row->key, &node))
        return;
    if (!uuid_eq(&node, &s->c->id.uuid))
        cluster_link_down(s->link, &node);
    else if (s->index == 0)
        log_line(s->c->log, LOG_LEVEL_ERROR, "cluster.node.revoked",
                 "this node was revoked: the others take no link of it; bilrost-setup leave, then "
                 "join anew");
}

static void take_news(struct cluster_seat *s, const struct view_news *n)
{
    swap(s, &s->members, n->members);
    swap(s, &s->rows, n->rows);
    s->is_joined = n->is_joined;
    s->is_isolated = n->is_isolated;
    s->is_named_first = n->is_named_first;
    s->live_count = 0;
    for (size_t i = 0; i < s->members->count; i++)
        s->live_count +=
            ((const struct view_member *)s->members->item[i])->pub.state <= CLUSTER_ST_SUSPECT;
    for (size_t i = 0; i < n->count; i++) {
        const struct view_change *x = &n->change[i];
        struct cluster_event ev = {
            .kind = x->kind,
            .member = x->member != NULL ? &x->member->pub : NULL,
            .row = x->row != NULL ? &x->row->pub : NULL,
        };
        if (x->kind == CLUSTER_EV_DOWN)
            cluster_link_down(s->link, &x->member->pub.uuid);
        if (x->kind == CLUSTER_EV_ROW)
            take_revoked(s, &x->row->pub);
        list_each(&s->watchers, it)
        {
            struct cluster_watch *w = container_of(it, struct cluster_watch, link);
            if (!w->is_new)
                tell(w, &ev);
        }
    }
    bury(s);
}

static void deliver(struct net_loop *here, struct net_mail *mail)
{
    struct delivery *d = container_of(mail, struct delivery, mail);
    (void)here;
    take_news(d->to, d->news);
    cluster_view_news_unref(d->news);
    mem_free(d);
}

void cluster_seat_publish(struct cluster *c, struct view_news *n)
{
    atomic_fetch_add(&n->refs, c->loop_count - 1);
    for (unsigned i = 1; i < c->loop_count; i++) {
        struct delivery *d = mem_new(sizeof *d);
        d->to = &c->seat[i];
        d->news = n;
        net_loop_post(c->home, d->to->loop, &d->mail, deliver);
    }
    take_news(&c->seat[0], n);
    cluster_view_news_unref(n);
}

/* --- life --- */

void cluster_seat_init(struct cluster_seat *s, struct cluster *c, unsigned index)
{
    *s = (struct cluster_seat){
        .c = c, .index = index, .loop = c->loop[index], .link = c->link[index]};
    list_init(&s->watchers);
    net_defer_init(&s->prime, prime, s);
    net_timer_init(&s->sweep, sweep, s);
}

void cluster_seat_deinit(struct cluster_seat *s)
{
    net_defer_del(&s->prime);
    net_timer_del(s->loop, &s->sweep);
    sweep(s, 0);
    mem_free(s->old);
    for (struct list *it; (it = list_pop_front(&s->watchers)) != NULL;)
        mem_free(container_of(it, struct cluster_watch, link));
    cluster_view_list_unref(s->members);
    cluster_view_list_unref(s->rows);
}

/* --- reading --- */

const struct uuid *cluster_self(const struct cluster_seat *s)
{
    return &s->c->id.uuid;
}

uint64_t cluster_epoch(const struct cluster_seat *s)
{
    return s->c->id.epoch;
}

const struct cluster_member *cluster_member_find(const struct cluster_seat *s,
                                                 const struct uuid *uuid)
{
    const struct view_member *m = cluster_view_find(s->members, uuid);
    return m != NULL ? &m->pub : NULL;
}

bool cluster_is_live(const struct cluster_seat *s, const struct uuid *uuid, uint64_t epoch)
{
    const struct view_member *m = cluster_view_find(s->members, uuid);
    return m != NULL && m->pub.state <= CLUSTER_ST_SUSPECT && (epoch == 0 || m->pub.epoch == epoch);
}

const struct cluster_member *cluster_member_at(const struct cluster_seat *s, size_t i)
{
    return i < s->members->count ? &((const struct view_member *)s->members->item[i])->pub : NULL;
}

size_t cluster_live_count(const struct cluster_seat *s)
{
    return s->live_count;
}

bool cluster_is_joined(const struct cluster_seat *s)
{
    return s->is_joined;
}

bool cluster_is_named_first(const struct cluster_seat *s)
{
    return s->is_named_first;
}

bool cluster_is_isolated(const struct cluster_seat *s)
{
    return s->is_isolated;
}

const struct cluster_row *cluster_row_next(const struct cluster_seat *s, uint8_t space,
                                           struct str prefix, size_t *at)
{
    const struct view_list *l = s->rows;
    size_t i = *at > 0 ? *at : cluster_view_lower(l->item, l->count, space, prefix, NULL);
    if (i < l->count) {
        const struct view_row *r = l->item[i];
        if (r->pub.space == space && str_has_prefix(r->pub.key, prefix)) {
            *at = i + 1;
            return &r->pub;
        }
    }
    *at = l->count + 1;
    return NULL;
}

const struct cluster_row *cluster_row_find(const struct cluster_seat *s, uint8_t space,
                                           struct str key, const struct uuid *owner)
{
    const struct view_list *l = s->rows;
    size_t i = cluster_view_lower(l->item, l->count, space, key, owner);
    if (i >= l->count)
        return NULL;
    const struct view_row *r = l->item[i];
    return cluster_view_row_cmp(&r->pub, space, key, owner) == 0 ? &r->pub : NULL;
}

struct cluster_link *cluster_seat_link(struct cluster_seat *s)
{
    return s->link;
}

struct net_loop *cluster_seat_loop(struct cluster_seat *s)
{
    return s->loop;
}

static void put_seconds(struct buf *out, usec_t t)
{
    buf_printf(out, "%llu.%llu s", (unsigned long long)(t / USEC_SEC),
               (unsigned long long)(t / (USEC_SEC / 10) % 10));
}

static void put_accusers(const struct cluster_seat *s, const struct cluster_member *m,
                         struct buf *out)
{
    for (unsigned i = 0; i < m->accusers && i < CLUSTER_ACCUSERS_MAX; i++) {
        char uuid[UUID_TEXT];
        uuid_format(&m->accuser[i], uuid);
        buf_printf(out, "%s%s%s", i > 0 ? ", " : "", uuid,
                   uuid_eq(&m->accuser[i], cluster_self(s)) ? " (this node)" : "");
    }
}

void cluster_member_why(const struct cluster_seat *s, const struct cluster_member *m,
                        struct buf *out)
{
    usec_t now = net_loop_now(s->loop);
    switch (m->state) {
    case CLUSTER_ST_ALIVE:
        buf_printf(out, "answers%s%s%s%s", m->flags & CLUSTER_FLAG_READY ? "" : ", does not serve",
                   m->flags & CLUSTER_FLAG_DRAINING ? ", is about to leave" : "",
                   m->flags & CLUSTER_FLAG_DEGRADED
                       ? ", is slow: a loop of it stalls or others answer it late"
                       : "",
                   m->flags & CLUSTER_FLAG_STORAGE_FAILED ? ", cannot write to its disk" : "");
        return;
    case CLUSTER_ST_SUSPECT:
        buf_put_str(out, STR("does not answer "));
        put_accusers(s, m, out);
        buf_put_str(out, STR(" for "));
        put_seconds(out, usec_until(m->since, now));
        buf_put_str(out, STR(", is called dead in "));
        put_seconds(out, usec_until(now, m->suspect_until));
        return;
    case CLUSTER_ST_DEAD:
        buf_put_str(out, STR("did not answer, is dead for "));
        put_seconds(out, usec_until(m->since, now));
        return;
    case CLUSTER_ST_LEFT:
        buf_put_str(out, STR("said good-bye, or was given up by an operator, "));
        put_seconds(out, usec_until(m->since, now));
        buf_put_str(out, STR(" ago"));
        return;
    }
}

/* --- orders to loop 0 --- */

static void obey(struct net_loop *here, struct net_mail *mail)
{
    struct order *o = container_of(mail, struct order, mail);
    struct cluster *c = o->c;
    struct gossip_event ev = {
        .kind = o->kind,
        .space = o->space,
        .uuid = o->uuid,
        .key = str_view(o->bytes, o->key_n),
        .bytes = str_view(o->bytes + o->key_n, o->value_n),
    };
    (void)here;
    if (o->kind == GOSSIP_EV_FLAGS)
        ev.flags = c->flags = (c->flags | o->set) & ~o->clear;
    cluster_step(c, &ev);
    mem_free(o);
}

static struct order *order_new(struct cluster_seat *s, enum gossip_event_kind kind, struct str key,
                               struct str value)
{
    struct order *o = mem_new(sizeof *o + key.n + value.n);
    o->c = s->c;
    o->kind = kind;
    o->key_n = key.n;
    o->value_n = value.n;
    if (key.n > 0)
        memcpy(o->bytes, key.p, key.n);
    if (value.n > 0)
        memcpy(o->bytes + key.n, value.p, value.n);
    return o;
}

static void order_send(struct cluster_seat *s, struct order *o)
{
    net_loop_post(s->loop, s->c->home, &o->mail, obey);
}

bool cluster_row_put(struct cluster_seat *s, uint8_t space, struct str key, struct str value)
{
    if (key.n == 0 || key.n > GOSSIP_KEY_MAX || value.n > GOSSIP_VALUE_MAX)
        return false;
    struct order *o = order_new(s, GOSSIP_EV_ROW_PUT, key, value);
    o->space = space;
    order_send(s, o);
    return true;
}

void cluster_row_del(struct cluster_seat *s, uint8_t space, struct str key)
{
    struct order *o = order_new(s, GOSSIP_EV_ROW_DEL, key, STR(""));
    o->space = space;
    order_send(s, o);
}

void cluster_flags_set(struct cluster_seat *s, uint32_t set, uint32_t clear)
{
    struct order *o = order_new(s, GOSSIP_EV_FLAGS, STR(""), STR(""));
    o->set = set;
    o->clear = clear;
    order_send(s, o);
}

bool cluster_member_forget(struct cluster_seat *s, const struct uuid *uuid)
{
    const struct view_member *m = cluster_view_find(s->members, uuid);
    if (m == NULL || m->pub.state != CLUSTER_ST_DEAD)
        return false;
    struct order *o = order_new(s, GOSSIP_EV_FORGET, STR(""), STR(""));
    o->uuid = *uuid;
    order_send(s, o);
    return true;
}

/* --- what the link asks --- */

bool cluster_seat_find(void *seat, const struct uuid *peer, struct link_peer *out)
{
    struct cluster_seat *s = seat;
    const struct view_member *m = cluster_view_find(s->members, peer);
    if (m == NULL || m->pub.state > CLUSTER_ST_SUSPECT || m->pub.rpc_port == 0 ||
        cluster_is_revoked(s, peer))
        return false;
    *out = (struct link_peer){.addr = m->rpc, .epoch = m->pub.epoch, .loops = m->pub.loops};
    return true;
}

bool cluster_seat_refuses(void *seat, const struct uuid *peer)
{
    return cluster_is_revoked(seat, peer);
}

void cluster_seat_lost(void *seat, const struct uuid *peer)
{
    struct cluster_seat *s = seat;
    usec_t now = net_loop_now(s->loop);
    if (now < s->lost_at)
        return;
    s->lost_at = now + LOST_EVERY;
    struct order *o = order_new(s, GOSSIP_EV_UNREACHABLE, STR(""), STR(""));
    o->uuid = *peer;
    order_send(s, o);
}
