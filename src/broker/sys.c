/* $SYS topics.  SPDX-License-Identifier: Apache-2.0
 *
 * The names are the ones that mosquitto made usual.  Clients cannot publish to them
 * (broker_conn_may_publish), only subscribe with a filter that begins with $SYS.
 *
 * 1. A cluster is one broker: each node tells its counts in its row "sys" of CLUSTER_SPACE_NODE,
 *    when they changed, and one node, the first by uuid of those that serve, publishes the sums.
 * 2. Only what changed is published: a cluster that nobody uses writes nothing but its uptime. */
#include "broker/sys_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "broker/publish_priv.h"
#include "cluster/cluster.h"
#include "codec/cursor.h"

#define ROW_KEY STR("sys")

static const char *const count_topic[] = {
    "$SYS/broker/clients/connected",        "$SYS/broker/subscriptions/count",
    "$SYS/broker/messages/received",        "$SYS/broker/messages/sent",
    "$SYS/broker/publish/messages/dropped",
};

struct sys_facts {
    uint64_t began; /* seconds of the calendar: of a sum, the first */
    uint64_t count[countof(count_topic)];
};

struct broker_sys {
    struct broker *broker;
    struct broker_tenant *tenant;
    struct net_timer timer;
    usec_t interval;
    uint64_t began;
    struct sys_facts told, published; /* the last ones */
    uint64_t put_count;               /* not what clients sent */
    bool is_publishing;               /* what was published last is ours */
    bool is_failing; /* the last one could not be kept: one topic tries, the others wait */
};

static void on_put(void *arg, uint8_t reason)
{
    struct broker *b = arg;
    bool is_failing = reason >= 0x80;
    if (!b->sys || b->sys->is_failing == is_failing)
        return;
    b->sys->is_failing = is_failing;
    b->sys->is_publishing = false; /* nobody knows which of them were kept */
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
    s->put_count++;
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

static struct sys_facts facts_of(const struct broker_sys *s)
{
    struct broker *b = s->broker;
    struct broker_metrics m = {0};
    for (size_t i = 0; broker_tenant_at(b, i); i++)
        for (unsigned j = 0; j < b->loop_count; j++)
            broker_metrics_add(&m, &broker_tenant_at(b, i)->loop[j].metrics);
    return (struct sys_facts){
        .began = s->began,
        .count = {
            broker_connection_count(b),
            total(&m, BROKER_M_TSUB_NUM) + total(&m, BROKER_M_SHARED_NUM),
            occasions(&m, BROKER_M_INGRESS_QOS0) + occasions(&m, BROKER_M_INGRESS_QOS1) +
                occasions(&m, BROKER_M_INGRESS_QOS2) - s->put_count,
            occasions(&m, BROKER_M_EGRESS_QOS0) + occasions(&m, BROKER_M_EGRESS_QOS1) +
                occasions(&m, BROKER_M_EGRESS_QOS2),
            total(&m, BROKER_M_DROP_OVERFLOW) + total(&m, BROKER_M_DROP_OVERSIZE) +
                total(&m, BROKER_M_DROP_RESOURCE) + total(&m, BROKER_M_DROP_CLOSED),
        }};
}

/* ---- the other nodes ------------------------------------------------------------------------- */

static void facts_tell(struct broker_sys *s, const struct sys_facts *f)
{
    struct buf row = {0};
    if (memcmp(f, &s->told, sizeof *f) == 0)
        return;
    s->told = *f;
    buf_put_varint(&row, f->began);
    for (size_t i = 0; i < countof(count_topic); i++)
        buf_put_varint(&row, f->count[i]);
    must(cluster_row_put(s->broker->conf.seat[0], CLUSTER_SPACE_NODE, ROW_KEY, buf_str(&row)));
    buf_deinit(&row);
}

static void facts_add(struct sys_facts *sum, struct str row)
{
    struct codec_cursor c = codec_cursor_of(row);
    struct sys_facts f = {.began = codec_cursor_varint(&c)};
    for (size_t i = 0; i < countof(count_topic); i++)
        f.count[i] = codec_cursor_varint(&c);
    if (c.bad)
        return;
    sum->began = f.began < sum->began ? f.began : sum->began;
    for (size_t i = 0; i < countof(count_topic); i++)
        sum->count[i] += f.count[i];
}

static void facts_of_others(const struct cluster_seat *seat, struct sys_facts *sum)
{
    const struct cluster_row *row;
    size_t at = 0;
    while ((row = cluster_row_next(seat, CLUSTER_SPACE_NODE, ROW_KEY, &at)))
        if (str_eq(row->key, ROW_KEY) && !uuid_eq(&row->owner, cluster_self(seat)))
            facts_add(sum, row->value);
}

/* Is it this node that publishes? */
static bool is_first(const struct cluster_seat *seat)
{
    const struct cluster_member *m;
    for (size_t i = 0; (m = cluster_member_at(seat, i)); i++)
        if (m->state == CLUSTER_ST_ALIVE &&
            (m->flags & (CLUSTER_FLAG_READY | CLUSTER_FLAG_DRAINING)) == CLUSTER_FLAG_READY)
            return uuid_eq(&m->uuid, cluster_self(seat));
    return false;
}

/* ---- every interval -------------------------------------------------------------------------- */

static uint64_t wall_seconds(const struct broker_sys *s)
{
    return net_loop_wall(s->broker->loop[0].net) / USEC_SEC;
}

static void publish(struct broker_sys *s, const struct sys_facts *f)
{
    uint64_t now = wall_seconds(s);
    bool is_new = !s->is_publishing;
    for (size_t i = 0; i < countof(count_topic) && !s->is_failing; i++)
        if (is_new || f->count[i] != s->published.count[i])
            put(s, count_topic[i], f->count[i]);
    if (!s->is_failing) {
        s->published = *f;
        s->is_publishing = true;
    }
    put(s, "$SYS/broker/uptime", now > f->began ? now - f->began : 0);
}

static void tick(void *arg, usec_t now)
{
    struct broker_sys *s = arg;
    const struct cluster_seat *seat = s->broker->conf.seat ? s->broker->conf.seat[0] : NULL;
    struct sys_facts f = facts_of(s);
    if (seat) {
        facts_tell(s, &f);
        facts_of_others(seat, &f);
    }
    if (!seat || is_first(seat))
        publish(s, &f);
    else
        s->is_publishing = false;
    net_timer_set(s->broker->loop[0].net, &s->timer, now + s->interval);
}

struct broker_sys *broker_sys_new(struct broker *b, struct broker_tenant *tenant, usec_t interval)
{
    struct broker_sys *s = mem_new(sizeof(*s));
    s->broker = b;
    s->tenant = tenant;
    s->interval = interval;
    s->began = wall_seconds(s);
    net_timer_init(&s->timer, tick, s);
    net_timer_set(b->loop[0].net, &s->timer, usec_add(net_loop_now(b->loop[0].net), interval));
    return s;
}

struct broker_sys *broker_sys_free(struct broker_sys *s)
{
    if (s)
        net_timer_del(s->broker->loop[0].net, &s->timer);
    return mem_free(s);
}
