/* Publishers that wait.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 a connection is in loop->slow exactly while is_slowed, and then its reading is
 * paused;  2 slow_timer is set to the earliest slow_until or before.  It never knows why somebody
 * waits. */
#include "broker/slow_priv.h"

#include "base/mem.h"

#define SLOW_USEC_MAX (100 * USEC_MSEC) /* matters: see broker_slow */

static void on_timer(void *arg, usec_t now)
{
    struct broker_loop *l = arg;
    usec_t next = USEC_NEVER;
    list_each(&l->slow, it)
    {
        struct broker_conn *c = container_of(it, struct broker_conn, slow);
        if (c->slow_until <= now)
            broker_slow_drop(c);
        else
            next = usec_min(next, c->slow_until);
    }
    net_timer_set(l->net, &l->slow_timer, next);
}

void broker_slow_init(struct broker_loop *l)
{
    list_init(&l->slow);
    net_timer_init(&l->slow_timer, on_timer, l);
}

void broker_slow_deinit(struct broker_loop *l)
{
    net_timer_del(l->net, &l->slow_timer);
}

static void wait(struct broker_conn *c, uint64_t key, usec_t span)
{
    struct broker_loop *l = c->loop;
    if (c->is_slowed || !c->is_open || !c->stream)
        return;
    c->is_slowed = true;
    c->slow_key = key;
    c->slow_until = usec_add(net_loop_now(l->net), span);
    list_push_back(&l->slow, &c->slow);
    net_stream_pause(c->stream);
    broker_metric_add(broker_loop_metrics(l, c->tenant), BROKER_M_READ_PAUSED, 1);
    if (!net_timer_is_set(&l->slow_timer) || c->slow_until < l->slow_timer.node.at)
        net_timer_set(l->net, &l->slow_timer, c->slow_until);
}

void broker_slow(struct broker_conn *c, uint64_t key)
{
    wait(c, key, SLOW_USEC_MAX);
}

void broker_slow_for(struct broker_conn *c, usec_t span)
{
    wait(c, 0, span);
}

void broker_slow_drop(struct broker_conn *c)
{
    if (!c->is_slowed)
        return;
    list_del(&c->slow);
    c->is_slowed = false;
    if (c->stream)
        net_stream_resume(c->stream);
}

struct go {
    struct net_mail mail;
    struct broker *broker;
    uint64_t key;
};

static void go_receive(struct net_loop *here, struct net_mail *mail)
{
    struct go *g = container_of(mail, struct go, mail);
    struct broker_loop *l = &g->broker->loop[net_loop_index(here)];
    list_each(&l->slow, it)
    {
        struct broker_conn *c = container_of(it, struct broker_conn, slow);
        if (c->slow_key == g->key)
            broker_slow_drop(c);
    }
    mem_free(g);
}

void broker_slow_go(struct broker_loop *l, uint64_t key, uint64_t loops)
{
    for (; loops; loops &= loops - 1) {
        struct go *g = mem_new(sizeof *g);
        *g = (struct go){.broker = l->broker, .key = key};
        net_loop_post(l->net, l->broker->loop[__builtin_ctzll(loops)].net, &g->mail, go_receive);
    }
}
