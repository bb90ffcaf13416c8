/* Puts routes of live sessions again that others have removed.  SPDX-License-Identifier: Apache-2.0
 *
 * Whoever was cut off for so long that the others gave its routes up still has its clients.  When
 * it hears of the table again it also hears that its routes are gone, one by one, and asks for each
 * at the place that knows whether it is wanted: the filter's home loop, or the loop of the group's
 * member.
 *
 * 1. A route is put again only while somebody here wants it, and asked for on the loop that also
 * asks for its end: so a later end comes after it.
 * 2. It is asked for until that has worked, or nobody wants it.
 *
 * Never: looks at what was removed on our own wish longer than to see that nobody wants it. */
#include "broker/restore_priv.h"

#include "base/mem.h"
#include "broker/hub_priv.h"
#include "broker/subscribe_priv.h"

#define AGAIN_USEC USEC_SEC /* does not matter much: between two tries */

struct restore {
    struct net_mail mail;
    struct list link; /* loop->restore */
    struct net_timer timer;
    struct broker_loop *loop;
    struct broker_tenant *tenant;
    struct stores_route route;
    bool is_asked;   /* the stores answer, also when the loop has ended */
    bool is_dropped; /* ... which it has */
    char bytes[];
};

static void restore_free(struct restore *r)
{
    net_timer_del(r->loop->net, &r->timer);
    list_del(&r->link);
    mem_free(r);
}

static void on_done(void *arg, enum stores_outcome outcome)
{
    struct restore *r = arg;
    r->is_asked = false;
    if (r->is_dropped)
        mem_free(r);
    else if (outcome == STORES_OK)
        restore_free(r);
    else
        net_timer_set(r->loop->net, &r->timer, usec_add(net_loop_now(r->loop->net), AGAIN_USEC));
}

static void look(void *arg, usec_t now)
{
    struct restore *r = arg;
    (void)now;
    if (r->route.group.n > 0) {
        struct broker_conn *c = broker_conn_find(r->loop, r->route.cookie);
        r->is_asked = c && broker_subscribe_restore(c, &r->route, on_done, r);
    } else if (broker_hub_wants(r->loop, r->tenant, r->route.filter)) {
        r->is_asked = true;
        stores_route_add(r->loop->stores, &r->route, on_done, r);
    }
    if (!r->is_asked)
        restore_free(r);
}

static void receive(struct net_loop *here, struct net_mail *mail)
{
    struct restore *r = container_of(mail, struct restore, mail);
    list_push_back(&r->loop->restore, &r->link);
    look(r, net_loop_now(here));
}

void broker_restore_lost(void *arg, unsigned loop, const struct stores_route *lost)
{
    struct broker *b = arg;
    struct broker_tenant *t = broker_tenant_find(b, lost->tenant);
    bool is_member = lost->group.n > 0;
    if (!t || (is_member && broker_cookie_loop(lost->cookie) >= b->loop_count))
        return;
    struct restore *r = mem_new(sizeof(*r) + lost->filter.n + lost->group.n);
    memcpy(r->bytes, lost->filter.p, lost->filter.n);
    if (is_member)
        memcpy(r->bytes + lost->filter.n, lost->group.p, lost->group.n);
    r->tenant = t;
    r->loop = is_member ? &b->loop[broker_cookie_loop(lost->cookie)]
                        : broker_hub_home(b, t, lost->filter);
    r->route = *lost;
    r->route.tenant = t->name;
    r->route.filter = str_view(r->bytes, lost->filter.n);
    r->route.group = str_view(r->bytes + lost->filter.n, lost->group.n);
    list_init(&r->link);
    net_timer_init(&r->timer, look, r);
    net_loop_post(b->loop[loop].net, r->loop->net, &r->mail, receive);
}

void broker_restore_drop(struct broker_loop *l)
{
    list_each(&l->restore, it)
    {
        struct restore *r = container_of(it, struct restore, link);
        if (r->is_asked) {
            r->is_dropped = true;
            list_del(&r->link);
        } else {
            restore_free(r);
        }
    }
}
