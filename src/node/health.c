/* How the node is: ready, alive, well, and one line about it.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. ready is told at most once: when nothing is in the way, or after READY_USEC_MAX with what is.
 *    Not before, other nodes send clients here and sockets that were handed over are served.
 * 2. A beat is on its way to a loop at most once; a loop that does not send it back in time is not
 *    alive.
 *
 * 3. The disk is bad as soon as it is full, or when more has waited for it than may wait for
 *    DISK_BUSY_USEC_MAX; it is good again as soon as it takes what it is given.
 * 4. The node is slow while a loop stalls, or gossip finds that its own probes come late, and for
 *    SLOW_KEPT_USEC afterwards.
 * 5. The others are told of 3 and 4 when they change.
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
#define DISK_BUSY_USEC_MAX (5 * USEC_SEC) /* matters: longer than a burst takes */
#define STALL_USEC                                                                                 \
    (2 *                                                                                           \
     USEC_SEC) /* matters: a loop that turns so slowly is felt by its clients                  \
                    */
#define SLOW_KEPT_USEC (10 * USEC_SEC) /* does not matter much: that it does not flap */
#define SCORE_SLOW 4       /* of 7 (Lifeguard's local health): some late probes in a row */
#define SOON_USEC USEC_SEC /* while it starts or drains, and as long as something is wrong */

/* api/status.c knows by their first words what to do about them. */
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
    if (n->is_disk_bad)
        buf_put_str(why, STR("the disk is full or does not keep up: what is new is refused\n"));
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

static void look_at_disk(struct node *n, usec_t now)
{
    enum kv_disk disk = n->kv ? kv_disk_get(n->kv) : KV_DISK_GOOD;
    if (disk == KV_DISK_GOOD)
        n->disk_good_at = now;
    n->is_disk_bad = disk == KV_DISK_FULL || usec_until(n->disk_good_at, now) >= DISK_BUSY_USEC_MAX;
}

static void look_at_pace(struct node *n, usec_t now)
{
    struct cluster_stats gossip = {0};
    for (unsigned i = 0; i < n->running_count; i++) {
        struct net_loop_pulse p = net_loop_pulse(n->loop[i]);
        if (p.turn_longest_usec >= STALL_USEC ||
            (p.turn_began != 0 && !p.is_asleep && usec_until(p.turn_began, now) >= STALL_USEC))
            n->slow_at = now;
    }
    if (n->seat)
        cluster_stats_get(n->seat[0], &gossip);
    if (gossip.score >= SCORE_SLOW)
        n->slow_at = now;
    n->is_slow = n->slow_at != 0 && usec_until(n->slow_at, now) < SLOW_KEPT_USEC;
}

/* Invariants 3 to 5. */
static void look_at_self(struct node *n, usec_t now)
{
    bool was_bad = n->is_disk_bad, was_slow = n->is_slow;
    look_at_disk(n, now);
    look_at_pace(n, now);
    if (n->is_disk_bad != was_bad)
        log_line(n->log, n->is_disk_bad ? LOG_LEVEL_ERROR : LOG_LEVEL_NOTICE, "node.disk", "%s",
                 n->is_disk_bad ? "no space on the disk, or it does not keep up: what is new is "
                                  "refused, the other nodes take over"
                                : "the disk takes what is written again");
    if (n->is_slow != was_slow)
        log_line(n->log, LOG_LEVEL_NOTICE, "node.pace", "%s",
                 n->is_slow ? "this node is slow: a loop stalled, or answers come late"
                            : "this node is as fast as usual again");
    if (n->is_disk_bad != was_bad || n->is_slow != was_slow)
        node_cluster_health(n, n->is_disk_bad, n->is_slow);
}

static void on_look(void *arg, usec_t now)
{
    struct node *n = arg;
    struct buf reasons = {0};
    look_at_self(n, now);
    node_health_reasons(n, &reasons);
    usec_t pause = reasons.n == 0 ? STATUS_USEC : SOON_USEC;
    if (!n->is_ready && !n->is_draining && (reasons.n == 0 || n->is_marked || now >= n->ready_by)) {
        n->is_ready = true;
        n->told_at = now;
        if (!n->is_marked)
            node_cluster_ready(n);
        broker_listen_begin(n->broker);
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
    n->disk_good_at = now;
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
