/* Routes of this process without their range.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. Only the index's writer (stores.dist_loop) adds and removes; who asks is answered on its own loop.
 * 2. A route that is the host's is in the table, or about to be said to be lost. */
#include "stores/own_priv.h"

#include "stores/stores_priv.h"

#define DOUBT_USEC USEC_SEC /* does not matter much: members come back one after the other */

static void answer(struct net_loop *here, struct net_mail *mail)
{
    struct stores_own *o = container_of(mail, struct stores_own, mail);
    (void)here;
    o->done(o);
}

static void write_route(struct stores_own *o)
{
    struct dist_index *x = o->client->stores->index;
    int ignored = o->is_add ? dist_index_add(x, DIST_OWNER_HOST, o->route, 0)
                            : dist_index_del(x, DIST_OWNER_HOST, o->route);
    (void)ignored; /* a table has it meanwhile, or has had it removed */
}

static void receive(struct net_loop *here, struct net_mail *mail)
{
    struct stores_own *o = container_of(mail, struct stores_own, mail);
    write_route(o);
    net_loop_post(here, o->client->net, mail, answer);
}

void stores_own_send(struct stores_own *o)
{
    struct stores *s = o->client->stores;
    if (o->client->loop != s->dist_loop) {
        net_loop_post(o->client->net, s->conf.loop[s->dist_loop], &o->mail, receive);
        return;
    }
    write_route(o);
    o->done(o);
}

static void lost(void *arg, const struct dist_route *r)
{
    stores_route_lost(arg, r);
}

static void doubt(void *arg, usec_t now)
{
    struct stores_client *c = arg;
    uint64_t at = 0;
    (void)now;
    if (stores_index_state_get(c) == STORES_INDEX_PART)
        dist_index_walk(c->stores->index, DIST_OWNER_HOST, &at, SIZE_MAX, lost, c->stores);
}

void stores_own_doubt(struct stores_client *c)
{
    if (c->loop == c->stores->dist_loop)
        net_timer_set(c->net, &c->own_doubt, usec_add(net_loop_now(c->net), DOUBT_USEC));
}

bool stores_own_settle(struct stores_client *c)
{
    if (stores_index_state_get(c) != STORES_INDEX_CURRENT)
        return false;
    dist_index_host_settle(c->stores->index);
    return true;
}

void stores_own_init(struct stores_client *c)
{
    net_timer_init(&c->own_doubt, doubt, c);
}

void stores_own_deinit(struct stores_client *c)
{
    net_timer_del(c->net, &c->own_doubt);
}
