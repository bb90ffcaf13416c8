/* Limits that many connections share.  SPDX-License-Identifier: Apache-2.0
 *
 * A rate is counted in windows shared by all loops; the last one to see an old window opens the next.  Counting is
 * relaxed: a limit may be passed by what two loops add in the same moment, never lastingly.
 *
 * It never closes a connection: the caller does. */
#include "broker/limit_priv.h"

#define MEMORY_SLOW_EIGHTHS 6          /* matters: from here on publishers are slowed */
#define MEMORY_FULL_EIGHTHS 7          /* matters: from here on newcomers are refused */
#define BYTES_WINDOW (100 * USEC_MSEC) /* does not matter much: how even the rate is */

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

static bool is_over(const struct budget *b, unsigned eighths)
{
    uint64_t limit = atomic_load_explicit(&b->limit, memory_order_relaxed);
    return limit != UINT64_MAX && budget_used(b) / eighths >= limit / 8;
}

bool broker_limit_connect(struct broker_conn *c, usec_t now)
{
    struct broker *b = c->loop->broker;
    struct broker_tenant *t = c->tenant;
    const struct broker_tenant_limits *max = &t->limits;
    uint64_t n = atomic_fetch_add_explicit(&b->connection_count, 1, memory_order_relaxed);
    uint64_t k = atomic_fetch_add_explicit(&t->connection_count, 1, memory_order_relaxed);
    c->is_counted = true;
    if ((b->conf.connection_max > 0 && n >= b->conf.connection_max) ||
        (max->connection_max > 0 && k >= max->connection_max))
        return false;
    if (is_over(&t->memory, MEMORY_FULL_EIGHTHS) || is_over(&b->memory, MEMORY_FULL_EIGHTHS))
        return false;
    return max->connect_per_sec_max == 0 ||
           rate_take(&t->connects, now, USEC_SEC, 1, max->connect_per_sec_max);
}

void broker_limit_bytes(struct broker_conn *c, size_t n)
{
    struct broker_tenant *t = c->tenant;
    uint64_t max = t->limits.in_bytes_per_sec_max;
    usec_t now = broker_loop_now(c->loop);
    bool is_slow = is_over(&t->memory, MEMORY_SLOW_EIGHTHS) ||
                   is_over(&c->loop->broker->memory, MEMORY_SLOW_EIGHTHS);
    if (max > 0 && !rate_take(&t->bytes, now, BYTES_WINDOW, n, max / (USEC_SEC / BYTES_WINDOW) + 1))
        is_slow = true;
    if (unlikely(is_slow))
        broker_conn_slow(c, 0);
}
