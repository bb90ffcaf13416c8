/* A node that goes: for a while, for good, or only out of service.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Stop, in this order: the others hear that we drain; leaderships are handed over; clients are sent
 * to other nodes; once more what we may lead by then is handed over, and quorums without us get all
 * that is committed; we say good-bye to the cluster.  Nothing is refused meanwhile: who publishes
 * is served until he is sent away.
 *
 * Out of service (a mark of an operator, cluster/mark.h): the same without the good-bye, until the
 * mark is taken away.  What the node still has is told in its row "drain".
 *
 * 1. A stop ends by drain_seconds, whatever the others do; a second one ends at once. */
#include <stdio.h>

#include "cluster/cluster.h"
#include "cluster/mark.h"
#include "node/node_priv.h"

#define LOOK_USEC (500 * USEC_MSEC)
#define HAND_OVER_PART                                                                             \
    4 /* of the time for a stop at most this part goes into the first handing over */

static void on_left(void *arg)
{
    struct node *n = arg;
    net_loop_stop(n->loop[0]);
}

static void on_settled(void *arg)
{
    struct node *n = arg;
    if (!n->is_over)
        node_cluster_leave(n, on_left, n);
}

static void on_clients_gone(void *arg)
{
    struct node *n = arg;
    if (n->is_over)
        return;
    if (n->kv)
        kv_drain(n->kv, n->drain_until, on_settled, n);
    else
        on_settled(n);
}

static void on_handed_over(void *arg)
{
    struct node *n = arg;
    if (!n->is_over)
        broker_drain(n->broker, (unsigned)n->conf->mqtt_disconn_per_sec, n->drain_until,
                     on_clients_gone, n);
}

void node_drain_stop(struct node *n)
{
    usec_t now = net_loop_now(n->loop[0]), span = (usec_t)n->conf->drain_seconds * USEC_SEC;
    node_cluster_drain(n, true);
    n->drain_until = usec_add(now, span);
    if (n->kv)
        kv_hand_over(n->kv, usec_add(now, span / HAND_OVER_PART), on_handed_over, n);
    else
        on_handed_over(n);
}

/* ---- out of service ---------------------------------------------------------------------------
 */

static void mark_follow(struct node *n, enum cluster_mark mark)
{
    bool is_on = mark != CLUSTER_MARK_NONE;
    if (is_on == n->is_marked)
        return;
    n->is_marked = is_on;
    log_line(n->log, LOG_LEVEL_NOTICE, is_on ? "node.out" : "node.in",
             is_on ? "an operator takes this node out of service (%s)"
                   : "an operator puts this node back into service",
             cluster_mark_name(mark));
    node_cluster_drain(n, is_on);
    broker_drain_set(n->broker, is_on, (unsigned)n->conf->mqtt_disconn_per_sec);
    if (is_on && n->kv)
        kv_hand_over(n->kv, usec_add(net_loop_now(n->loop[0]), 5 * USEC_SEC), NULL, NULL);
    node_health_look(n);
}

/* What is left here, for who waits for it. */
static void tell(struct node *n, enum cluster_mark mark)
{
    char text[sizeof n->drain_told];
    struct kv_stats st = {0};
    if (n->kv)
        kv_stats_get(n->kv, &st);
    snprintf(text, sizeof text, "{\"mark\":\"%s\",\"clients\":%llu,\"leaders\":%u,\"replicas\":%u}",
             cluster_mark_name(mark), (unsigned long long)broker_connection_count(n->broker),
             st.leader_count, st.replica_count);
    if (str_eq(str_of(text), str_of(n->drain_told)))
        return;
    snprintf(n->drain_told, sizeof n->drain_told, "%s", text);
    must(cluster_row_put(n->seat[0], CLUSTER_SPACE_NODE, STR("drain"), str_of(text)));
}

static void on_look(void *arg, usec_t now)
{
    struct node *n = arg;
    enum cluster_mark mark = cluster_mark_get(n->seat[0], &n->uuid);
    if (n->is_draining)
        return;
    mark_follow(n, mark);
    if (mark != CLUSTER_MARK_NONE)
        tell(n, mark);
    else if (n->drain_told[0]) {
        n->drain_told[0] = 0;
        cluster_row_del(n->seat[0], CLUSTER_SPACE_NODE, STR("drain"));
    }
    net_timer_set(n->loop[0], &n->mark_look, usec_add(now, LOOK_USEC));
}

void node_drain_start(struct node *n)
{
    if (n->seat)
        net_timer_set(n->loop[0], &n->mark_look, net_loop_now(n->loop[0]));
}

void node_drain_init(struct node *n)
{
    net_timer_init(&n->mark_look, on_look, n);
}
