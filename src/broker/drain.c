/* The way down, and back up: clients are sent elsewhere, at a pace.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * A client of MQTT 5.0 hears where else it may go (0x9C with a server reference), or that this
 * server goes (0x8B) when there is nowhere; one of 3.x is disconnected.  Each loop closes its own
 * clients, a few at a time and at uneven times, so that they do not knock elsewhere all at once.
 *
 * 1. While a loop drains a CONNECT is refused with the same words.  But when the node stops, and
 * there is nowhere to send its client, it gets in: it came before the listeners were stopped, so it
 * was promised to be served, and is sent away in its turn.
 * 2. `done` is called once per broker_drain, when the last client of the last loop has gone. */
#include "base/mem.h"
#include "broker/broker.h"
#include "broker/conn_priv.h"
#include "broker/drain_priv.h"
#include "broker/refer_priv.h"

#define DRAIN_TICK (50 * USEC_MSEC) /* does not matter: how finely the pace is kept */
#define NEW_USEC                                                                                   \
    USEC_SEC /* matters: for those on their way in: what they came for may be done by then */

struct drain_order { /* from loop 0 to one loop and back */
    struct net_mail mail;
    struct broker_loop *loop;
    struct broker_drain_all *all;
    unsigned per_sec;
    usec_t deadline; /* 0: be open again */
};

struct broker_drain_all {
    struct list link;
    struct broker *broker;   /* NULL: it has gone, orders on their way do nothing */
    void (*done)(void *arg); /* NULL: nobody waits */
    void *arg;
    unsigned left;
};

struct session_refused broker_drain_words(struct broker_conn *c,
                                          char reference[BROKER_REFERENCE_MAX])
{
    bool is_in = session_state_get(c->session) == SESSION_ST_OPEN; /* a CONNACK has other words */
    struct session_refused how = {.cause = SESSION_END_BY_SERVER,
                                  .reason = is_in ? CODEC_MQTT_RC_SERVER_SHUTTING_DOWN
                                                  : CODEC_MQTT_RC_SERVER_UNAVAILABLE};
    if (session_version(c->session) == CODEC_MQTT_V5 &&
        broker_refer_find(c->loop, c->listener, reference)) {
        how.reason = CODEC_MQTT_RC_USE_ANOTHER_SERVER;
        how.server_reference = str_of(reference);
    }
    return how;
}

bool broker_drain_refuses(struct broker_conn *c, struct session_refused *out,
                          char reference[BROKER_REFERENCE_MAX])
{
    struct broker_loop *l = c->loop;
    if (!l->is_draining)
        return false;
    *out = broker_drain_words(c, reference);
    c->is_newcomer = l->drain.deadline != USEC_NEVER && out->server_reference.n == 0;
    return !c->is_newcomer;
}

static void send_away(struct broker_conn *c)
{
    char reference[BROKER_REFERENCE_MAX];
    struct session_event ev = {.type = SESSION_EV_KICK, .kick = broker_drain_words(c, reference)};
    broker_conn_step(c, &ev);
}

static void order_end(struct drain_order *o)
{
    struct broker_drain_all *all = o->all;
    mem_free(o);
    if (--all->left > 0)
        return;
    if (all->done && all->broker)
        all->done(all->arg);
    list_del(&all->link);
    mem_free(all);
}

static void loop_done(struct net_loop *here, struct net_mail *mail)
{
    (void)here;
    order_end(container_of(mail, struct drain_order, mail));
}

/* Nobody is left, or nobody is waited for: loop 0 hears of it. */
static void finish(struct broker_loop *l)
{
    struct drain_order *o = l->drain.order;
    l->drain.order = NULL;
    if (o)
        net_loop_post(l->net, l->broker->loop[0].net, &o->mail, loop_done);
}

void broker_drain_tick(void *arg, usec_t now)
{
    struct broker_loop *l = arg;
    struct broker_drain *d = &l->drain;
    uint64_t most = d->per_sec * DRAIN_TICK / USEC_SEC / l->broker->loop_count + 1, told = 0;
    bool is_late = now >= d->deadline;
    list_each(&l->conns, it)
    {
        struct broker_conn *c = container_of(it, struct broker_conn, link);
        enum session_state st = session_state_get(c->session);
        c->is_newcomer |= st != SESSION_ST_OPEN;
        bool is_new = (c->is_newcomer && now < d->began + NEW_USEC) ||
                      (st == SESSION_ST_WAIT_CONNECT && d->deadline == USEC_NEVER);
        if (st == SESSION_ST_ENDED || (is_new && !is_late))
            continue; /* who is silent while the listeners are open hears at its CONNECT */
        if (d->per_sec && told++ >= most && !is_late)
            break;
        send_away(c);
    }
    if (l->conn_count == 0 || is_late)
        finish(l);
    else
        net_timer_set(l->net, &d->timer,
                      usec_min(now + DRAIN_TICK / 2 + rng_below(net_loop_rng(l->net), DRAIN_TICK),
                               d->deadline));
}

static void on_order(struct net_loop *here, struct net_mail *mail)
{
    struct drain_order *o = container_of(mail, struct drain_order, mail);
    struct broker_loop *l = o->loop;
    if (!o->all->broker) {
        order_end(o);
        return;
    }
    struct broker_drain *d = &l->drain;
    usec_t now = net_loop_now(here);
    net_timer_del(l->net, &d->timer);
    finish(l); /* who waited for what is now overruled */
    d->order = o;
    l->is_draining = o->deadline != 0;
    if (!l->is_draining) {
        finish(l);
        return;
    }
    *d = (struct broker_drain){.timer = d->timer,
                               .order = o,
                               .per_sec = o->per_sec,
                               .deadline = o->deadline,
                               .began = now};
    broker_drain_tick(l, now);
}

static void order_all(struct broker *b, const struct drain_order *as, void (*done)(void *arg),
                      void *arg)
{
    struct broker_drain_all *all = mem_new(sizeof *all);
    all->broker = b;
    all->done = done;
    all->arg = arg;
    all->left = b->loop_count;
    list_push_back(&b->drains, &all->link);
    for (unsigned i = 0; i < b->loop_count; i++) {
        struct drain_order *o = mem_new(sizeof *o);
        o->loop = &b->loop[i];
        o->all = all;
        o->per_sec = as->per_sec;
        o->deadline = as->deadline;
        net_loop_post(b->loop[0].net, o->loop->net, &o->mail, on_order);
    }
}

void broker_drain(struct broker *b, unsigned disconnect_per_sec_max, usec_t deadline,
                  void (*done)(void *arg), void *arg)
{
    for (size_t i = 0; i < b->listener_count; i++)
        net_listener_stop(b->listener[i]->net);
    struct drain_order o = {.per_sec = disconnect_per_sec_max, .deadline = deadline};
    order_all(b, &o, done, arg);
}

void broker_drain_set(struct broker *b, bool is_on, unsigned disconnect_per_sec_max)
{
    struct drain_order o = {.per_sec = disconnect_per_sec_max, .deadline = is_on ? USEC_NEVER : 0};
    order_all(b, &o, NULL, NULL);
}

void broker_drain_free(struct broker *b)
{
    for (struct list *x; (x = list_pop_front(&b->drains));)
        container_of(x, struct broker_drain_all, link)->broker = NULL;
    for (unsigned i = 0; i < b->loop_count; i++) {
        struct broker_loop *l = &b->loop[i];
        net_timer_del(l->net, &l->drain.timer);
        if (l->drain.order)
            order_end(l->drain.order);
        l->drain.order = NULL;
    }
}
