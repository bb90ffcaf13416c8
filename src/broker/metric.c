/* The metric table and its Prometheus spelling.  SPDX-License-Identifier: Apache-2.0
 *
 * It never resets a counter. */
#include "broker/metric.h"

enum {
    KIND_COUNT = BROKER_METRIC_COUNTER,
    KIND_GAUGE = BROKER_METRIC_GAUGE,
    KIND_SUM = BROKER_METRIC_SUM
};

static const struct {
    const char *name, *what;
    int kind;
} table[BROKER_METRIC_COUNT] = {
#define METRIC(id, name, kind, what) {name, what, KIND_##kind},
#include "broker/metric.def"
#undef METRIC
};

const char *broker_metric_name(enum broker_metric_id id)
{
    return table[id].name;
}

enum broker_metric_kind broker_metric_kind(enum broker_metric_id id)
{
    return (enum broker_metric_kind)table[id].kind;
}

const char *broker_metric_what(enum broker_metric_id id)
{
    return table[id].what;
}

void broker_metrics_add(struct broker_metrics *into, const struct broker_metrics *from)
{
    for (int i = 0; i < BROKER_METRIC_COUNT; i++)
        broker_metric_bytes(into, (enum broker_metric_id)i,
                            atomic_load_explicit(&from->sum[i], memory_order_relaxed),
                            atomic_load_explicit(&from->count[i], memory_order_relaxed));
}

static void put_name(struct buf *out, const char *name, const char *end)
{
    for (; *name; name++)
        buf_put_u8(out, *name == '.' ? '_' : (uint8_t)*name);
    buf_put_str(out, str_of(end));
}

static void put_label(struct buf *out, struct str tenant)
{
    buf_put_str(out, STR("{tenantId=\""));
    for (size_t i = 0; i < tenant.n; i++) {
        if (tenant.p[i] == '"' || tenant.p[i] == '\\')
            buf_put_u8(out, '\\');
        buf_put_u8(out, tenant.p[i] == '\n' ? ' ' : (uint8_t)tenant.p[i]);
    }
    buf_put_str(out, STR("\"} "));
}

static void put_series(enum broker_metric_id id, const char *end, const struct str *tenant,
                       const _Atomic uint64_t *value, size_t stride, size_t tenant_count,
                       struct buf *out) /* NOLINT(size): one line of one series each */
{
    for (size_t i = 0; i < tenant_count; i++) {
        uint64_t v = atomic_load_explicit(
            (const _Atomic uint64_t *)(const void *)((const char *)value + i * stride),
            memory_order_relaxed);
        put_name(out, table[id].name, end);
        put_label(out, tenant[i]);
        if (table[id].kind == BROKER_METRIC_GAUGE)
            buf_printf(out, "%lld\n", (long long)v);
        else
            buf_printf(out, "%llu\n", (unsigned long long)v);
    }
}

void broker_metric_format(enum broker_metric_id id, const struct str *tenant,
                          const struct broker_metrics *m, size_t tenant_count, struct buf *out)
{
    static const char *const type[] = {"counter", "gauge", "summary"};
    static const char *const end[] = {"_total", "", "_sum"};
    int kind = table[id].kind;
    buf_put_str(out, STR("# HELP "));
    put_name(out, table[id].name, kind == BROKER_METRIC_COUNTER ? "_total " : " ");
    buf_printf(out, "%s\n# TYPE ", table[id].what);
    put_name(out, table[id].name, kind == BROKER_METRIC_COUNTER ? "_total " : " ");
    buf_printf(out, "%s\n", type[kind]);
    put_series(id, end[kind], tenant, &m[0].sum[id], sizeof(*m), tenant_count, out);
    if (kind == BROKER_METRIC_SUM)
        put_series(id, "_count", tenant, &m[0].count[id], sizeof(*m), tenant_count, out);
}
