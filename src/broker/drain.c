/* The way down: everybody is told to go, at a pace.  SPDX-License-Identifier: Apache-2.0
 *
 * Loop 0 stops the listeners and counts the loops that are done; each loop closes its own clients. */
#include "base/mem.h"
#include "broker/broker.h"
#include "broker/conn_priv.h"

#define DRAIN_TICK (50 * USEC_MSEC) /* does not matter: how finely the pace is kept */

struct drain_loop {
    struct net_mail mail;
    struct broker_loop *loop;
    struct net_timer timer;
    struct broker_drain_state *all;
    usec_t deadline;
    uint64_t per_tick;
};

struct broker_drain_state {
    struct broker *broker;
    void (*done)(void *arg);
    void *arg;
    unsigned left;
    struct drain_loop loop[];
};

static void loop_done(struct net_loop *here, struct net_mail *mail)
{
    struct drain_loop *d = container_of(mail, struct drain_loop, mail);
    (void)here;
    if (--d->all->left == 0)
        d->all->done(d->all->arg);
}

static void drain_tick(void *arg, usec_t now)
{
    struct drain_loop *d = arg;
    struct broker_loop *l = d->loop;
    uint64_t told = 0;
    list_each(&l->conns, it)
    {
        struct broker_conn *c = container_of(it, struct broker_conn, link);
        if (session_state_get(c->session) == SESSION_ST_ENDED)
            continue;
        if (told++ >= d->per_tick && now < d->deadline)
            break;
        broker_conn_kick(c, SESSION_END_BY_SERVER, CODEC_MQTT_RC_SERVER_SHUTTING_DOWN);
    }
    if (l->conn_count == 0 || now >= d->deadline)
        net_loop_post(l->net, l->broker->loop[0].net, &d->mail, loop_done);
    else
        net_timer_set(l->net, &d->timer, usec_min(now + DRAIN_TICK, d->deadline));
}

static void drain_begin(struct net_loop *here, struct net_mail *mail)
{
    struct drain_loop *d = container_of(mail, struct drain_loop, mail);
    d->loop->is_draining = true;
    net_timer_init(&d->timer, drain_tick, d);
    drain_tick(d, net_loop_now(here));
}

void broker_drain(struct broker *b, unsigned disconnect_per_sec_max, usec_t deadline,
                  void (*done)(void *arg), void *arg)
{
    must(!b->drain);
    for (size_t i = 0; i < b->listener_count; i++)
        net_listener_stop(b->listener[i]->net);
    struct broker_drain_state *s = mem_new(sizeof(*s) + b->loop_count * sizeof(struct drain_loop));
    *s = (struct broker_drain_state){.broker = b, .done = done, .arg = arg, .left = b->loop_count};
    b->drain = s;
    uint64_t per_tick = disconnect_per_sec_max * DRAIN_TICK / USEC_SEC / b->loop_count;
    for (unsigned i = 0; i < b->loop_count; i++) {
        struct drain_loop *d = &s->loop[i];
        d->loop = &b->loop[i];
        d->all = s;
        d->deadline = deadline;
        d->per_tick = disconnect_per_sec_max ? per_tick + 1 : UINT64_MAX;
        net_loop_post(b->loop[0].net, d->loop->net, &d->mail, drain_begin);
    }
}

void broker_drain_free(struct broker *b)
{
    for (unsigned i = 0; b->drain && i < b->loop_count; i++)
        net_timer_del(b->loop[i].net, &b->drain->loop[i].timer);
    b->drain = mem_free(b->drain);
}
