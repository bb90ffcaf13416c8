/* $SYS topics.  SPDX-License-Identifier: Apache-2.0
 *
 * The names are the ones that mosquitto made usual.  Clients cannot publish to them (the session
 * mind refuses), only subscribe with a filter that begins with $SYS. */
#include "broker/sys_priv.h"

#include <stdio.h>

#include "base/mem.h"
#include "broker/publish_priv.h"

struct broker_sys {
    struct broker *broker;
    struct broker_tenant *tenant;
    struct net_timer timer;
    usec_t interval, began;
    bool is_failing; /* the last one could not be kept: one topic tries, the others wait */
};

static void on_put(void *arg, uint8_t reason)
{
    struct broker *b = arg;
    bool is_failing = reason >= 0x80;
    if (!b->sys || b->sys->is_failing == is_failing)
        return;
    b->sys->is_failing = is_failing;
    if (is_failing)
        log_line(b->conf.log, LOG_LEVEL_WARN, "broker.sys.failing",
                 "$SYS topics are not kept: %s; one of them tries until it is",
                 reason == CODEC_MQTT_RC_QUOTA_EXCEEDED ? "a limit of their tenant is reached"
                                                        : "the store does not take them");
    else
        log_line(b->conf.log, LOG_LEVEL_NOTICE, "broker.sys.back", "$SYS topics are kept again");
}

static void put(struct broker_sys *s, const char *topic, uint64_t value)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    struct codec_msg m = {
        .topic = str_of(topic), .payload = str_view(text, (size_t)n), .is_retain = true};
    struct broker_publish_done done = {on_put, s->broker};
    broker_publish_message(&s->broker->loop[0], s->tenant, &m, &done);
}

static uint64_t total(const struct broker_metrics *m, enum broker_metric_id id)
{
    return atomic_load_explicit(&m->sum[id], memory_order_relaxed);
}

static uint64_t occasions(const struct broker_metrics *m, enum broker_metric_id id)
{
    return atomic_load_explicit(&m->count[id], memory_order_relaxed);
}

static void put_counts(struct broker_sys *s)
{
    struct broker *b = s->broker;
    struct broker_metrics m = {0};
    for (size_t i = 0; broker_tenant_at(b, i); i++)
        for (unsigned j = 0; j < b->loop_count; j++)
            broker_metrics_add(&m, &broker_tenant_at(b, i)->loop[j].metrics);
    put(s, "$SYS/broker/clients/connected", broker_connection_count(b));
    put(s, "$SYS/broker/subscriptions/count",
        total(&m, BROKER_M_TSUB_NUM) + total(&m, BROKER_M_SHARED_NUM));
    put(s, "$SYS/broker/messages/received",
        occasions(&m, BROKER_M_INGRESS_QOS0) + occasions(&m, BROKER_M_INGRESS_QOS1) +
            occasions(&m, BROKER_M_INGRESS_QOS2));
    put(s, "$SYS/broker/messages/sent",
        occasions(&m, BROKER_M_EGRESS_QOS0) + occasions(&m, BROKER_M_EGRESS_QOS1) +
            occasions(&m, BROKER_M_EGRESS_QOS2));
    put(s, "$SYS/broker/publish/messages/dropped",
        total(&m, BROKER_M_DROP_OVERFLOW) + total(&m, BROKER_M_DROP_OVERSIZE) +
            total(&m, BROKER_M_DROP_RESOURCE) + total(&m, BROKER_M_DROP_CLOSED));
}

static void tick(void *arg, usec_t now)
{
    struct broker_sys *s = arg;
    if (!s->is_failing)
        put_counts(s);
    put(s, "$SYS/broker/uptime", (now - s->began) / USEC_SEC);
    net_timer_set(s->broker->loop[0].net, &s->timer, now + s->interval);
}

struct broker_sys *broker_sys_new(struct broker *b, struct broker_tenant *tenant, usec_t interval)
{
    struct broker_sys *s = mem_new(sizeof(*s));
    s->broker = b;
    s->tenant = tenant;
    s->interval = interval;
    s->began = net_loop_now(b->loop[0].net);
    net_timer_init(&s->timer, tick, s);
    net_timer_set(b->loop[0].net, &s->timer, s->began + interval);
    return s;
}

struct broker_sys *broker_sys_free(struct broker_sys *s)
{
    if (s)
        net_timer_del(s->broker->loop[0].net, &s->timer);
    return mem_free(s);
}
