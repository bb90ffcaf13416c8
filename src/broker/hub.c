/* The hub: local subscribers by filter.  SPDX-License-Identifier: Apache-2.0
 *
 * A filter's life on its home loop:
 *
 *   (none) --JOIN--> ADDING --route_done--> ON --last LEAVE--> REMOVING --route_done--> (none), or ADDING again
 *
 * ON is not remembered here: it is a broker_filter in the index's host slot.  ADDING and REMOVING are struct transit.
 *
 * Invariants: 1 only the home loop sets bits of mask, only loop j clears bit j;  2 list j is empty
 * when bit j is clear;
 * 3 sub->filter->loop[j].sub[sub->place] == sub;  4 a filter is freed only with all bits clear,
 * after every loop ended
 * its turn.  It never looks at a message. */
#include "broker/hub_priv.h"

#include "base/hash.h"
#include "base/mem.h"
#include "dist/index.h"

enum transit_state { ADDING, REMOVING };

/* JOIN travels home and back; LEAVE only home. */
struct hub_mail {
    struct net_mail mail;
    struct broker_loop *from, *home;
    struct hub_mail *next; /* waiting in a transit */
    struct broker_tenant *tenant;
    struct broker_sub *sub;
    broker_hub_done *done;
    void *arg;
    uint64_t hash;
    int outcome;
    bool is_leave;
    struct str text;
    char bytes[];
};

struct transit {
    struct broker_loop *home;
    struct broker_tenant *tenant;
    enum transit_state state;
    uint64_t hash;
    struct hub_mail *first, **last; /* JOINs that wait */
    struct str text;
    char bytes[];
};

struct reclaimed {
    struct net_reclaim reclaim;
    struct broker_filter *filter;
};

struct filter_key {
    struct broker_tenant *tenant;
    struct str text;
};

struct str broker_filter_text(const struct broker *b, const struct broker_filter *f)
{
    return str_view(&f->loop[b->loop_count], f->text_len);
}

static uint64_t hash_of(const struct broker *b, const struct broker_tenant *t, struct str text)
{
    return hash_str(text, b->seed + t->index);
}

static bool transit_eq(const void *item, const void *key)
{
    const struct transit *t = item;
    const struct filter_key *k = key;
    return t->tenant == k->tenant && str_eq(t->text, k->text);
}

/* The filter's entry in the index and what hangs there. */
static struct broker_filter *filter_find(const struct broker_loop *l, struct str tenant,
                                         struct str text, struct dist_filter **out_entry)
{
    *out_entry = dist_index_find(l->routes, tenant, text);
    return *out_entry ? dist_filter_host(*out_entry) : NULL;
}

static struct broker_filter *filter_new(const struct broker *b, struct broker_tenant *t,
                                        struct str text)
{
    size_t lists = b->loop_count * sizeof(struct broker_members);
    struct broker_filter *f = mem_new(sizeof(*f) + lists + text.n);
    f->tenant = t;
    f->text_len = (uint32_t)text.n;
    memcpy(&f->loop[b->loop_count], text.p, text.n);
    return f;
}

static void filter_reclaim(struct net_reclaim *item, void *arg)
{
    struct reclaimed *r = container_of(item, struct reclaimed, reclaim);
    const struct broker *b = arg;
    for (unsigned i = 0; i < b->loop_count; i++)
        mem_free(r->filter->loop[i].sub);
    mem_free(r->filter);
    mem_free(r);
}

void broker_hub_check(const struct broker_loop *l, const struct broker_filter *f)
{
    const struct broker_members *m = &f->loop[l->index];
    uint64_t mask = atomic_load_explicit(&f->mask, memory_order_acquire);
    must((mask >> l->index & 1) || m->count == 0); /* 2 */
    for (uint32_t i = 0; i < m->count; i++)
        must(m->sub[i]->place == i && m->sub[i]->filter == f); /* 3 */
}

static void member_add(struct broker_loop *l, struct broker_filter *f, struct broker_sub *sub)
{
    struct broker_members *m = &f->loop[l->index];
    if (m->count == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 1;
        m->sub = mem_resize(m->sub, m->cap * sizeof(struct broker_sub *));
    }
    sub->filter = f;
    sub->place = m->count & 0x7fffffffu;
    m->sub[m->count++] = sub;
    l->member_version++;
}

/* ---- on the home loop ---- */

static void answer(struct hub_mail *m, int outcome);
static void route_done(void *arg, enum stores_outcome outcome);

static void route_start(struct transit *t, enum transit_state state)
{
    struct stores_route r = {.tenant = t->tenant->name, .filter = t->text};
    t->state = state;
    if (state == ADDING)
        stores_route_add(t->home->stores, &r, route_done, t);
    else
        stores_route_del(t->home->stores, &r, route_done, t);
}

static struct transit *transit_new(struct broker_loop *home, struct broker_tenant *tenant,
                                   struct str text, uint64_t hash)
{
    struct transit *t = mem_new(sizeof(*t) + text.n);
    t->home = home;
    t->tenant = tenant;
    t->hash = hash;
    t->last = &t->first;
    memcpy(t->bytes, text.p, text.n);
    t->text = str_view(t->bytes, text.n);
    map_put(&home->transit, hash, t);
    return t;
}

static void transit_free(struct transit *t)
{
    must(map_del(&t->home->transit, t->hash, t));
    mem_free(t);
}

/* The route is in the index: hang a filter there and let those who waited in. */
static void transit_on(struct transit *t)
{
    struct broker *b = t->home->broker;
    struct dist_filter *entry;
    struct broker_filter *f = filter_find(t->home, t->tenant->name, t->text, &entry);
    must(f == NULL);
    if (entry) {
        f = filter_new(b, t->tenant, t->text);
        if (dist_filter_host_set(entry, NULL, f)) {
            mem_free(f);
            f = NULL;
        }
    }
    if (!f) { /* somebody swept it away meanwhile: ask again */
        route_start(t, ADDING);
        return;
    }
    while (t->first) {
        struct hub_mail *m = t->first;
        t->first = m->next;
        atomic_fetch_or_explicit(&f->mask, (uint64_t)1 << m->from->index, memory_order_release);
        answer(m, 0);
    }
    atomic_fetch_add_explicit(&b->hub_version, 1, memory_order_release);
    transit_free(t);
}

static void route_done(void *arg, enum stores_outcome outcome)
{
    struct transit *t = arg;
    if (t->state == REMOVING && t->first) {
        route_start(t, ADDING);
    } else if (t->state == ADDING && outcome == STORES_OK) {
        transit_on(t);
    } else {
        while (t->first) {
            struct hub_mail *m = t->first;
            t->first = m->next;
            answer(m, (int)outcome);
        }
        transit_free(t);
    }
}

static void home_join(struct broker_loop *home, struct hub_mail *m)
{
    struct filter_key key = {m->tenant, m->text};
    struct transit *t = map_find(&home->transit, m->hash, transit_eq, &key);
    if (!t) {
        struct dist_filter *entry;
        struct broker_filter *f = filter_find(home, m->tenant->name, m->text, &entry);
        if (f) {
            atomic_fetch_or_explicit(&f->mask, (uint64_t)1 << m->from->index, memory_order_release);
            atomic_fetch_add_explicit(&home->broker->hub_version, 1, memory_order_release);
            answer(m, 0);
            return;
        }
        t = transit_new(home, m->tenant, m->text, m->hash);
        route_start(t, ADDING);
    }
    m->next = NULL;
    *t->last = m;
    t->last = &m->next;
}

static void home_leave(struct broker_loop *home, struct hub_mail *m)
{
    struct filter_key key = {m->tenant, m->text};
    struct dist_filter *entry;
    struct broker_filter *f = filter_find(home, m->tenant->name, m->text, &entry);
    bool is_moving = map_find(&home->transit, m->hash, transit_eq, &key) != NULL;
    /* Several loops may have left before the first LEAVE came: then it is gone already, or back again. */
    if (f && !is_moving && atomic_load_explicit(&f->mask, memory_order_acquire) == 0) {
        must(dist_filter_host_set(entry, f, NULL) == 0);
        struct reclaimed *r = mem_new(sizeof(*r));
        r->filter = f;
        net_loop_reclaim(home->net, &r->reclaim, filter_reclaim, home->broker);
        if (!home->broker->is_over) /* else the others forget all routes of this process */
            route_start(transit_new(home, m->tenant, m->text, m->hash), REMOVING);
    }
    mem_free(m);
}

static void home_receive(struct net_loop *here, struct net_mail *mail)
{
    struct hub_mail *m = container_of(mail, struct hub_mail, mail);
    (void)here;
    if (m->is_leave)
        home_leave(m->home, m);
    else
        home_join(m->home, m);
}

/* ---- on the subscriber's loop ---- */

static void mail_send(struct hub_mail *m);

/* The filter is looked up again: while the answer travelled, another subscriber of this loop may
 * have come and gone as
 * its last one, and the filter with it.  Then we ask once more, behind that one's LEAVE. */
static void finish(struct hub_mail *m)
{
    struct broker_loop *l = m->from;
    if (m->outcome == 0) {
        struct dist_filter *entry;
        struct broker_filter *f = filter_find(l, m->tenant->name, m->text, &entry);
        if (!f || !(atomic_load_explicit(&f->mask, memory_order_acquire) >> l->index & 1)) {
            mail_send(m);
            return;
        }
        member_add(l, f, m->sub);
    }
    m->done(l, m->sub, m->outcome, m->arg);
    mem_free(m);
}

static void answer_receive(struct net_loop *here, struct net_mail *mail)
{
    (void)here;
    finish(container_of(mail, struct hub_mail, mail));
}

static void answer(struct hub_mail *m, int outcome)
{
    m->outcome = outcome;
    if (m->from == m->home)
        finish(m);
    else
        net_loop_post(m->home->net, m->from->net, &m->mail, answer_receive);
}

static struct hub_mail *mail_new(struct broker_loop *l, struct broker_tenant *tenant,
                                 struct str text)
{
    struct hub_mail *m = mem_new(sizeof(*m) + text.n);
    m->hash = hash_of(l->broker, tenant, text);
    m->from = l;
    m->home = &l->broker->loop[m->hash % l->broker->loop_count];
    m->tenant = tenant;
    memcpy(m->bytes, text.p, text.n);
    m->text = str_view(m->bytes, text.n);
    return m;
}

/* A LEAVE of this loop may still be on its way: what follows takes the same road, so that it comes after it. */
static void mail_send(struct hub_mail *m)
{
    if (m->from == m->home)
        home_receive(m->home->net, &m->mail);
    else
        net_loop_post(m->from->net, m->home->net, &m->mail, home_receive);
}

void broker_hub_join(struct broker_loop *l, struct broker_tenant *tenant, struct str filter,
                     struct broker_sub *sub, broker_hub_done *done, void *arg)
{
    struct dist_filter *entry;
    struct broker_filter *f = filter_find(l, tenant->name, filter, &entry);
    if (f && (atomic_load_explicit(&f->mask, memory_order_acquire) >> l->index & 1)) {
        member_add(l, f, sub);
        done(l, sub, 0, arg);
        return;
    }
    struct hub_mail *m = mail_new(l, tenant, filter);
    m->sub = sub;
    m->done = done;
    m->arg = arg;
    mail_send(m);
}

struct broker_loop *broker_hub_home(struct broker *b, const struct broker_tenant *tenant,
                                    struct str filter)
{
    return &b->loop[hash_of(b, tenant, filter) % b->loop_count];
}

bool broker_hub_wants(struct broker_loop *home, struct broker_tenant *tenant, struct str filter)
{
    struct filter_key key = {tenant, filter};
    struct dist_filter *entry;
    const struct transit *t =
        map_find(&home->transit, hash_of(home->broker, tenant, filter), transit_eq, &key);
    return (t && t->state == ADDING) || filter_find(home, tenant->name, filter, &entry) != NULL;
}

void broker_hub_leave(struct broker_loop *l, struct broker_sub *sub)
{
    struct broker_filter *f = sub->filter;
    struct broker_members *m = &f->loop[l->index];
    must(sub->place < m->count && m->sub[sub->place] == sub);
    struct broker_sub *moved = m->sub[--m->count];
    m->sub[sub->place] = moved;
    moved->place = sub->place;
    sub->filter = NULL;
    l->member_version++;
    if (m->count > 0)
        return;
    m->sub = mem_free(m->sub);
    m->cap = 0;
    struct hub_mail *mail = mail_new(l, f->tenant, broker_filter_text(l->broker, f));
    mail->is_leave = true;
    atomic_fetch_and_explicit(&f->mask, ~((uint64_t)1 << l->index), memory_order_release);
    atomic_fetch_add_explicit(&l->broker->hub_version, 1, memory_order_release);
    mail_send(mail); /* f may be gone from here on */
}
