/* Limits that many connections share.  SPDX-License-Identifier: Apache-2.0
 *
 * A rate is counted in windows shared by all loops; the last one to see an old window opens the
 * next.  Counting is relaxed: a limit may be passed by what two loops add in the same moment, never
 * lastingly.
 *
 * Memory: what waits for clients, in queues and in the buffers of their connections, is charged to
 * the tenant and the process.  As it fills up, publishers are slowed more and more (SLOWED); who
 * has most waiting loses its QoS 0 (SHED); newcomers are refused (FULL); and ever less may wait in
 * a connection's buffer, so that what remains is for those who read.  Invariants: 1 qos0_bytes_max
 * is 0 (no limit) while the loop's pressure is below SHED.
 *
 * It never closes a connection: the caller does. */
#include "broker/limit_priv.h"

#include "broker/deliver_priv.h"
#include "broker/slow_priv.h"

#define BYTES_WINDOW (100 * USEC_MSEC) /* does not matter much: how even the rate is */
#define OVER_RATE_USEC (2 * USEC_MSEC) /* does not matter: until the rate is looked at again */
#define SHED_USEC (50 * USEC_MSEC) /* matters: how soon the largest queues are looked for again */

/* Takes n from this window; false: it is used up. */
static bool rate_take(struct broker_rate *r, usec_t now, usec_t window, uint64_t n, uint64_t max)
{
    uint64_t began = atomic_load_explicit(&r->began, memory_order_relaxed);
    if (now - began >= window &&
        atomic_compare_exchange_strong_explicit(&r->began, &began, now, memory_order_relaxed,
                                                memory_order_relaxed))
        atomic_store_explicit(&r->used, 0, memory_order_relaxed);
    return atomic_fetch_add_explicit(&r->used, n, memory_order_relaxed) + n <= max;
}

enum broker_pressure broker_limit_pressure(const struct budget *b)
{
    uint64_t limit = atomic_load_explicit(&b->limit, memory_order_relaxed);
    if (likely(limit == UINT64_MAX))
        return BROKER_PRESSURE_NONE;
    uint64_t sixteenth = limit / 16, used = budget_used(b);
    return used < 12 * sixteenth   ? BROKER_PRESSURE_NONE
           : used < 13 * sixteenth ? BROKER_PRESSURE_SLOWED
           : used < 14 * sixteenth ? BROKER_PRESSURE_SHED
                                   : BROKER_PRESSURE_FULL;
}

static enum broker_pressure pressure_of(const struct broker_conn *c)
{
    enum broker_pressure own = broker_limit_pressure(&c->tenant->memory);
    return own > c->loop->pressure ? own : c->loop->pressure;
}

void broker_limit_turn(struct broker_loop *l)
{
    l->pressure = broker_limit_pressure(&l->broker->memory);
    if (l->pressure >= BROKER_PRESSURE_SHED && !net_timer_is_set(&l->shed_timer))
        net_timer_set(l->net, &l->shed_timer, broker_loop_now(l));
}

/* The largest queues lose their QoS 0, and nobody gets one of half that length while it lasts. */
void broker_limit_shed(struct broker_loop *l)
{
    l->pressure = broker_limit_pressure(&l->broker->memory);
    if (l->pressure < BROKER_PRESSURE_SHED) {
        l->qos0_bytes_max = 0;
        return;
    }
    size_t largest = 0;
    list_each(&l->conns, it)
    {
        struct broker_conn *c = container_of(it, struct broker_conn, link);
        size_t n = session_queue_bytes(c->session);
        largest = n > largest ? n : largest;
    }
    l->qos0_bytes_max = l->pressure == BROKER_PRESSURE_FULL ? 1 : largest / 2 + 1;
    list_each(&l->conns, it)
    {
        struct broker_conn *c = container_of(it, struct broker_conn, link);
        if (largest == 0 || session_queue_bytes(c->session) < largest / 2 ||
            session_queue_shed(c->session, &l->deliver_out) == 0)
            continue;
        broker_metric_add(broker_loop_metrics(l, c->tenant), BROKER_M_MEMORY_SHED, 1);
        broker_deliver_count(c, &l->deliver_out);
        broker_deliver_resumed(c);
    }
    net_timer_set(l->net, &l->shed_timer, usec_add(broker_loop_now(l), SHED_USEC));
}

const char *broker_limit_connect(struct broker_conn *c, usec_t now)
{
    struct broker *b = c->loop->broker;
    struct broker_tenant *t = c->tenant;
    const struct broker_tenant_limits *max = &t->limits;
    uint64_t n = atomic_fetch_add_explicit(&b->connection_count, 1, memory_order_relaxed);
    uint64_t k = atomic_fetch_add_explicit(&t->connection_count, 1, memory_order_relaxed);
    c->is_counted = true;
    if ((b->conf.connection_max > 0 && n >= b->conf.connection_max) ||
        (max->connection_max > 0 && k >= max->connection_max))
        return "too many connections";
    if (broker_limit_pressure(&t->memory) == BROKER_PRESSURE_FULL ||
        broker_limit_pressure(&b->memory) == BROKER_PRESSURE_FULL) {
        broker_metric_add(broker_loop_metrics(c->loop, t), BROKER_M_MEMORY_REFUSED, 1);
        return "memory is short";
    }
    bool is_fine = max->connect_per_sec_max == 0 ||
                   rate_take(&t->connects, now, USEC_SEC, 1, max->connect_per_sec_max);
    return is_fine ? NULL : "too many connections a second";
}

void broker_limit_bytes(struct broker_conn *c, size_t n, bool has_published)
{
    static const usec_t wait[] = {[BROKER_PRESSURE_SLOWED] = 2 * USEC_MSEC,
                                  [BROKER_PRESSURE_SHED] = 20 * USEC_MSEC,
                                  [BROKER_PRESSURE_FULL] = 100 * USEC_MSEC};
    struct broker_tenant *t = c->tenant;
    uint64_t max = t->limits.in_bytes_per_sec_max;
    enum broker_pressure p = has_published ? pressure_of(c) : BROKER_PRESSURE_NONE;
    if (unlikely(p > BROKER_PRESSURE_NONE)) {
        broker_metric_add(broker_loop_metrics(c->loop, t), BROKER_M_MEMORY_SLOWED, 1);
        broker_slow_for(c, wait[p]);
    } else if (max > 0 && !rate_take(&t->bytes, broker_loop_now(c->loop), BYTES_WINDOW, n,
                                     max / (USEC_SEC / BYTES_WINDOW) + 1)) {
        broker_slow_for(c, OVER_RATE_USEC);
    }
}
