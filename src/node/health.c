/* How the node is: ready, alive, and one line about it.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. ready is told at most once: when nothing is in the way, or after READY_USEC_MAX with what is.
 * 2. A beat is on its way to a loop at most once; a loop that does not send it back in time is not
 *    alive.
 *
 * Never: decides what follows from it; whoever runs the node does. */
#include <stdio.h>

#include "cluster/cluster.h"
#include "net/clock.h"
#include "node/node_priv.h"

#define LOOK_USEC (100 * USEC_MSEC) /* matters little: how late a ready node may say so */
/* matters: a node whose companions are down must come up too, so that they find it when they come;
 * a rolling upgrade waits this long for a node that does not find its cluster again. */
#define READY_USEC_MAX (30 * USEC_SEC)
#define STATUS_USEC (20 * USEC_SEC)
#define SOON_USEC USEC_SEC /* while it starts or drains, and as long as something is wrong */

void node_health_reasons(const struct node *n, struct buf *why)
{
    if (n->is_draining)
        buf_put_str(why, STR("draining\n"));
    if (n->is_marked && !n->is_draining)
        buf_put_str(why, STR("out of service: an operator has it drained (bilrostctl undrain)\n"));
    if (n->kv && !kv_is_ready(n->kv))
        buf_put_str(
            why,
            STR("some ranges have no leader: persistent sessions and retained messages wait\n"));
    if (n->seat && !cluster_is_joined(n->seat[0]))
        buf_put_str(why, STR("not joined: no other node of the cluster was reached yet\n"));
    if (n->seat && cluster_is_isolated(n->seat[0]))
        buf_put_str(why, STR("isolated: the others cannot be reached\n"));
}

static void put_joined(struct buf *out, const struct buf *reasons)
{
    struct str rest = buf_str(reasons), line;
    while (rest.n && str_next(&rest, '\n', &line))
        if (line.n)
            buf_printf(out, "; %.*s", STR_ARG(line));
}

static void tell(struct node *n, void (*to)(void *arg, const char *text), const char *what,
                 const struct buf *reasons)
{
    struct buf text = {0};
    unsigned long long clients = broker_connection_count(n->broker);
    buf_printf(&text, "%s %llu client%s", what, clients, clients == 1 ? "" : "s");
    put_joined(&text, reasons);
    buf_put_u8(&text, 0);
    if (to)
        to(n->events.arg, (const char *)text.p);
    buf_deinit(&text);
}

static void on_look(void *arg, usec_t now)
{
    struct node *n = arg;
    struct buf reasons = {0};
    node_health_reasons(n, &reasons);
    usec_t pause = reasons.n == 0 ? STATUS_USEC : SOON_USEC;
    if (!n->is_ready && !n->is_draining && (reasons.n == 0 || n->is_marked || now >= n->ready_by)) {
        n->is_ready = true;
        n->told_at = now;
        tell(n, n->events.ready, "serving", &reasons);
    } else if (now >= usec_add(n->told_at, pause)) {
        n->told_at = now;
        tell(n, n->events.status,
             n->is_draining ? "draining:"
             : n->is_ready  ? "serving"
                            : "starting:",
             &reasons);
    }
    buf_deinit(&reasons);
    net_timer_set(n->loop[0], &n->look, usec_add(now, n->is_ready ? SOON_USEC : LOOK_USEC));
}

void node_health_init(struct node *n)
{
    net_timer_init(&n->look, on_look, n);
}

void node_health_start(struct node *n)
{
    usec_t now = net_clock_now();
    for (unsigned i = 0; i < n->loop_count; i++)
        atomic_store(&n->beat[i].at, now);
    n->ready_by = usec_add(now, READY_USEC_MAX);
    net_timer_set(n->loop[0], &n->look, now);
}

void node_health_look(struct node *n)
{
    n->told_at = 0;
    net_timer_set(n->loop[0], &n->look, net_loop_now(n->loop[0]));
}

/* Beats. */

static void beat_receive(struct net_loop *here, struct net_mail *mail)
{
    struct node_beat *b = container_of(mail, struct node_beat, mail);
    atomic_store(&b->at, net_loop_now(here));
    atomic_store(&b->is_out, false);
}

bool node_is_alive(struct node *n, uint64_t span_usec)
{
    usec_t now = net_loop_now(n->loop[0]);
    bool is_alive = true;
    for (unsigned i = 1; i < n->running_count; i++) {
        struct node_beat *b = &n->beat[i];
        if (usec_until(atomic_load(&b->at), now) > span_usec)
            is_alive = false;
        if (!atomic_exchange(&b->is_out, true))
            net_loop_post(n->loop[0], n->loop[i], &b->mail, beat_receive);
    }
    return is_alive;
}
