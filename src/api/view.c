/* Endpoints that show something.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: change anything. */
#include <stdio.h>

#include "api/api_priv.h"
#include "broker/broker.h"
#include "cluster/cluster.h"
#include "kv/kv.h"
#include "net/clock.h"
#include "net/loop.h"

static const char *state_name(enum cluster_state s)
{
    static const char *const name[] = {"alive", "suspect", "dead", "left"};
    return name[s];
}

static void put_member(const struct cluster_member *m, struct buf *b)
{
    char id[UUID_TEXT];
    uuid_format(&m->uuid, id);
    buf_printf(b, "{\"id\":\"%s\",\"address\":", id);
    api_json_put(b, str_of(m->host));
    buf_printf(b,
               ",\"port\":%u,\"pid\":%llu,\"state\":\"%s\",\"epoch\":%llu,\"ready\":%s,"
               "\"draining\":%s,\"rpc\":",
               m->port, (unsigned long long)m->pid, state_name(m->state),
               (unsigned long long)m->epoch, m->flags & CLUSTER_FLAG_READY ? "true" : "false",
               m->flags & CLUSTER_FLAG_DRAINING ? "true" : "false");
    char rpc[160];
    snprintf(rpc, sizeof rpc, "%.128s:%u", m->rpc_host, m->rpc_port);
    api_json_put(b, str_of(rpc));
    buf_put_str(b, STR(",\"api\":"));
    api_json_put(b, str_of(m->api));
    buf_put_str(b, STR(",\"release\":"));
    api_json_put(b, str_of(m->release));
    buf_put_u8(b, '}');
}

static void put_cluster(const struct api_ask *a, struct buf *b)
{
    const struct cluster_seat *seat = a->api->conf.seat;
    char self[UUID_TEXT] = "";
    if (seat)
        uuid_format(cluster_self(seat), self);
    buf_put_str(b, STR("{\"env\":"));
    api_json_put(b, str_of(a->api->conf.env));
    buf_printf(b, ",\"local\":\"%s\",\"joined\":%s,\"nodes\":[", self,
               seat && cluster_is_joined(seat) ? "true" : "false");
    const struct cluster_member *m;
    for (size_t i = 0; seat && (m = cluster_member_at(seat, i)) != NULL; i++) {
        if (i > 0)
            buf_put_u8(b, ',');
        put_member(m, b);
    }
    buf_put_str(b, STR("]}"));
}

void api_cluster(struct api_ask *a)
{
    struct buf b = {0};
    put_cluster(a, &b);
    api_reply(a, 200, "application/json", buf_str(&b));
    buf_deinit(&b);
}

void api_services(struct api_ask *a)
{
    api_reply(a, 200, "application/json",
              STR("[\"mqtt.broker\",\"dist.server\",\"inbox.server\",\"retain.server\",\"session."
                  "dict\"]"));
}

void api_stores(struct api_ask *a)
{
    api_reply(a, 200, "application/json",
              STR("[\"dist.worker\",\"inbox.store\",\"retain.store\"]"));
}

static void put_kv(const struct kv *kv, struct buf *b)
{
    struct kv_stats s;
    kv_stats_get(kv, &s);
    buf_printf(b,
               ",\"stores\":{\"ready\":%s,\"replicas\":%u,\"leaders\":%u,\"proposals\":%llu,"
               "\"entries\":%llu,"
               "\"applied\":%llu,\"forwarded\":%llu,\"pending\":%llu,\"pendingBytes\":%llu,"
               "\"elections\":%llu}",
               kv_is_ready(kv) ? "true" : "false", s.replica_count, s.leader_count,
               (unsigned long long)s.proposal_count, (unsigned long long)s.entry_count,
               (unsigned long long)s.apply_count, (unsigned long long)s.forward_count,
               (unsigned long long)s.pending_count, (unsigned long long)s.pending_bytes,
               (unsigned long long)s.elected_count);
}

void api_status(struct api_ask *a)
{
    const struct api_conf *c = &a->api->conf;
    struct buf b = {0}, why = {0};
    c->not_ready(c->arg, &why);
    buf_put_str(&b, STR("{\"version\":"));
    api_json_put(&b, str_of(c->version));
    buf_printf(&b, ",\"ready\":%s,\"reasons\":", why.n ? "false" : "true");
    while (why.n && why.p[why.n - 1] == '\n')
        why.n--;
    api_json_put(&b, buf_str(&why));
    buf_printf(&b, ",\"clients\":%llu,\"cpuSeconds\":%.2f,\"cluster\":",
               (unsigned long long)broker_connection_count(c->broker),
               (double)net_clock_cpu() / 1e6);
    put_cluster(a, &b);
    if (c->kv)
        put_kv(c->kv, &b);
    buf_put_u8(&b, '}');
    api_reply(a, 200, "application/json", buf_str(&b));
    buf_deinit(&b);
    buf_deinit(&why);
}

static void put_gauge(struct buf *b, const char *name, const char *help, const char *type, double v)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name, v);
}

void api_metrics(struct api_ask *a)
{
    const struct api_conf *c = &a->api->conf;
    struct buf b = {0};
    broker_metrics_format(c->broker, &b);
    put_gauge(&b, "process_cpu_seconds_total", "processor time used", "counter",
              (double)net_clock_cpu() / 1e6);
    put_gauge(&b, "bilrost_connections", "clients connected now", "gauge",
              (double)broker_connection_count(c->broker));
    if (c->seat)
        put_gauge(&b, "bilrost_cluster_live_members", "members that are alive or suspected",
                  "gauge", (double)cluster_live_count(c->seat));
    if (c->kv) {
        struct kv_stats s;
        kv_stats_get(c->kv, &s);
        put_gauge(&b, "bilrost_store_replicas", "replicas of ranges on this node", "gauge",
                  s.replica_count);
        put_gauge(&b, "bilrost_store_leaders", "ranges led by this node", "gauge", s.leader_count);
        put_gauge(&b, "bilrost_store_proposals_total", "commands entered here", "counter",
                  (double)s.proposal_count);
        put_gauge(&b, "bilrost_store_entries_total", "log entries made of them", "counter",
                  (double)s.entry_count);
        put_gauge(&b, "bilrost_store_applied_total", "commands applied here", "counter",
                  (double)s.apply_count);
        put_gauge(&b, "bilrost_store_pending", "proposals under way", "gauge",
                  (double)s.pending_count);
        put_gauge(&b, "bilrost_store_elections_total", "times a replica here began to lead",
                  "counter", (double)s.elected_count);
    }
    api_reply(a, 200, "text/plain; version=0.0.4", buf_str(&b));
    buf_deinit(&b);
}

void api_health(struct api_ask *a)
{
    api_text(a, 200, "ok\n"); /* this loop turns, or nobody would read it */
}

void api_ready(struct api_ask *a)
{
    struct buf why = {0};
    a->api->conf.not_ready(a->api->conf.arg, &why);
    if (why.n == 0)
        buf_put_str(&why, STR("ready\n"));
    int status = str_eq(buf_str(&why), STR("ready\n")) ? 200 : 503;
    api_reply(a, status, "text/plain", buf_str(&why));
    buf_deinit(&why);
}
