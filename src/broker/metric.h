/* Counters of one tenant on one loop.  SPDX-License-Identifier: Apache-2.0
 *
 * One loop writes, any thread reads: a reader adds up the loops and may see them a moment apart. */
#pragma once

#include <stdatomic.h>

#include "base/buf.h"

enum broker_metric_id {
#define METRIC(id, name, kind, what) BROKER_M_##id,
#include "broker/metric.def"
#undef METRIC
    BROKER_METRIC_COUNT,
};

enum broker_metric_kind {
    BROKER_METRIC_COUNTER, /* sum only */
    BROKER_METRIC_GAUGE,   /* sum is signed and falls too */
    BROKER_METRIC_SUM,     /* sum of bytes and number of occasions */
};

struct broker_metrics {
    _Atomic uint64_t sum[BROKER_METRIC_COUNT];
    _Atomic uint64_t count[BROKER_METRIC_COUNT];
};

static inline void broker_metric_add(struct broker_metrics *m, enum broker_metric_id id, uint64_t n)
{
    atomic_store_explicit(&m->sum[id], atomic_load_explicit(&m->sum[id], memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void broker_metric_sub(struct broker_metrics *m, enum broker_metric_id id, uint64_t n)
{
    broker_metric_add(m, id, (uint64_t)0 - n);
}

/* One occasion (or several) of n bytes in all. */
static inline void broker_metric_bytes(struct broker_metrics *m, enum broker_metric_id id,
                                       uint64_t n, uint64_t occasions)
{
    broker_metric_add(m, id, n);
    atomic_store_explicit(&m->count[id],
                          atomic_load_explicit(&m->count[id], memory_order_relaxed) + occasions,
                          memory_order_relaxed);
}

/* BifroMQ's name ("mqtt.connect.count"). */
const char *broker_metric_name(enum broker_metric_id id);
enum broker_metric_kind broker_metric_kind(enum broker_metric_id id);
const char *broker_metric_what(enum broker_metric_id id);

/* Adds from to into. */
void broker_metrics_add(struct broker_metrics *into, const struct broker_metrics *from);

/* Appends one metric in Prometheus text with the given tenants: name "mqtt_connect_count_total" and so on. */
void broker_metric_format(enum broker_metric_id id, const struct str *tenant,
                          const struct broker_metrics *m, size_t tenant_count, struct buf *out);
