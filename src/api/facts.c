/* About this node: what its operator asks first, and metrics.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: asks another node. */
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "api/peer_priv.h"
#include "broker/broker.h"
#include "cluster/cluster.h"
#include "codec/json.h"
#include "kv/kv.h"
#include "net/clock.h"
#include "net/loop.h"

/* Bytes of this process in memory, 0 when the kernel does not say. */
static uint64_t memory_used(void)
{
    unsigned long long total, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%llu %llu", &total, &resident) != 2)
        resident = 0;
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void put_disk(const struct api *api, struct buf *b)
{
    struct statvfs fs;
    if (!api->conf.data_path || statvfs(api->conf.data_path, &fs) < 0)
        return;
    api_put_number(b, "diskFreeBytes", (uint64_t)fs.f_bavail * fs.f_frsize);
    api_put_number(b, "diskBytes", (uint64_t)fs.f_blocks * fs.f_frsize);
}

static void put_kv(const struct kv *kv, struct buf *b)
{
    struct kv_stats s;
    kv_stats_get(kv, &s);
    api_key(b, "stores");
    buf_put_u8(b, '{');
    api_put_bool(b, "ready", kv_is_ready(kv));
    api_put_number(b, "replicas", s.replica_count);
    api_put_number(b, "leaders", s.leader_count);
    api_put_number(b, "proposals", s.proposal_count);
    api_put_number(b, "entries", s.entry_count);
    api_put_number(b, "applied", s.apply_count);
    api_put_number(b, "forwarded", s.forward_count);
    api_put_number(b, "pending", s.pending_count);
    api_put_number(b, "pendingBytes", s.pending_bytes);
    api_put_number(b, "elections", s.elected_count);
    api_put_number(b, "snapshotsReceived", s.snapshot_in);
    api_put_number(b, "snapshotBytesReceived", s.snapshot_bytes_in);
    api_put_number(b, "snapshotsSent", s.snapshot_out);
    api_put_number(b, "snapshotBytesSent", s.snapshot_bytes_out);
    buf_put_u8(b, '}');
}

static void put_reasons(const struct api_conf *c, struct buf *b)
{
    struct buf why = {0};
    struct str rest, line;
    c->not_ready(c->arg, &why);
    api_put_bool(b, "ready", why.n == 0);
    api_key(b, "reasons");
    buf_put_u8(b, '[');
    for (rest = buf_str(&why); rest.n && str_next(&rest, '\n', &line);)
        if (line.n)
            api_put_text(b, NULL, line);
    buf_put_u8(b, ']');
    buf_deinit(&why);
}

void api_put_facts(const struct api *api, struct buf *b)
{
    const struct api_conf *c = &api->conf;
    usec_t now = net_clock_now();
    buf_put_u8(b, '{');
    api_put_uuid(b, "id", &c->node);
    api_put_text(b, "version", str_of(c->version));
    api_put_text(b, "durability", str_of(c->durability));
    put_reasons(c, b);
    api_put_number(b, "pid", (uint64_t)getpid());
    api_put_number(b, "uptimeSeconds", now > api->began ? (now - api->began) / USEC_SEC : 0);
    api_put_number(b, "clients", broker_connection_count(c->broker));
    api_key(b, "cpuSeconds");
    buf_printf(b, "%.2f", (double)net_clock_cpu() / 1e6);
    api_put_number(b, "memoryBytes", memory_used());
    api_put_number(b, "memoryLimitBytes", c->memory_limit);
    api_put_number(b, "queuedBytes", broker_memory_used(c->broker));
    api_put_number(b, "memoryMaxBytes", c->memory_max);
    put_disk(api, b);
    if (c->kv)
        put_kv(c->kv, b);
    buf_put_u8(b, '}');
}

/* ---- metrics, health ---- */

static void put_gauge(struct buf *b, const char *name, const char *help, const char *type, double v)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name, v);
}

static void put_kv_metrics(const struct kv *kv, struct buf *b)
{
    struct kv_stats s;
    kv_stats_get(kv, &s);
    put_gauge(b, "bilrost_store_replicas", "replicas of ranges on this node", "gauge",
              s.replica_count);
    put_gauge(b, "bilrost_store_leaders", "ranges led by this node", "gauge", s.leader_count);
    put_gauge(b, "bilrost_store_proposals_total", "commands entered here", "counter",
              (double)s.proposal_count);
    put_gauge(b, "bilrost_store_entries_total", "log entries made of them", "counter",
              (double)s.entry_count);
    put_gauge(b, "bilrost_store_applied_total", "commands applied here", "counter",
              (double)s.apply_count);
    put_gauge(b, "bilrost_store_pending", "proposals under way", "gauge", (double)s.pending_count);
    put_gauge(b, "bilrost_store_snapshots_received_total", "snapshots of ranges installed here",
              "counter", (double)s.snapshot_in);
    put_gauge(b, "bilrost_store_snapshot_received_bytes_total", "bytes of snapshots received",
              "counter", (double)s.snapshot_bytes_in);
    put_gauge(b, "bilrost_store_snapshots_sent_total", "snapshots of ranges begun to be sent",
              "counter", (double)s.snapshot_out);
    put_gauge(b, "bilrost_store_snapshots_resumed_total",
              "of those, went on where a broken link had cut them off", "counter",
              (double)s.snapshot_resumed);
    put_gauge(b, "bilrost_store_snapshot_sent_bytes_total", "bytes of snapshots sent", "counter",
              (double)s.snapshot_bytes_out);
    put_gauge(b, "bilrost_store_elections_total", "times a replica here began to lead", "counter",
              (double)s.elected_count);
}

static void put_http_metrics(const struct api *a, struct buf *b)
{
    struct net_http_stat tcp = {0}, local = {0};
    if (a->tcp)
        tcp = net_http_stat(a->tcp);
    if (a->local)
        local = net_http_stat(a->local);
    put_gauge(b, "bilrost_api_connections", "connections to the admin API now", "gauge",
              (double)(tcp.connection_count + local.connection_count));
    put_gauge(b, "bilrost_api_closed_full_total",
              "connections to the admin API that made room for others", "counter",
              (double)(tcp.closed_full + local.closed_full));
    put_gauge(b, "bilrost_api_closed_slow_total",
              "connections to the admin API that asked nothing more, or sent or took too slowly",
              "counter", (double)(tcp.closed_slow + local.closed_slow));
}

/* One name, a value for each label. */
static void put_labelled(struct buf *b, const char *name, const char *label, const char *value,
                         double v)
{
    buf_printf(b, "%s{%s=\"%s\"} %.17g\n", name, label, value, v);
}

static void put_members(const struct cluster_seat *seat, struct buf *b)
{
    static const char *const state[] = {"alive", "suspect", "dead", "left"};
    unsigned count[countof(state)] = {0};
    const struct cluster_member *m;
    put_gauge(b, "bilrost_cluster_live_members", "members that are alive or suspected", "gauge",
              (double)cluster_live_count(seat));
    for (size_t i = 0; (m = cluster_member_at(seat, i)) != NULL; i++)
        count[m->state]++;
    buf_printf(b, "# HELP bilrost_cluster_members members by what this node takes them for\n"
                  "# TYPE bilrost_cluster_members gauge\n");
    for (unsigned i = 0; i < countof(state); i++)
        put_labelled(b, "bilrost_cluster_members", "state", state[i], count[i]);
}

static void put_gossip_metrics(const struct cluster_seat *seat, struct buf *b)
{
    struct cluster_stats s;
    cluster_stats_get(seat, &s);
    const struct {
        const char *why;
        uint64_t count;
    } dropped[] = {
        {"junk", s.junk},           {"foreign", s.foreign},   {"unkeyed", s.unkeyed},
        {"forged", s.forged},       {"replayed", s.replayed}, {"flooded", s.flooded},
        {"malformed", s.malformed},
    };
    put_gauge(b, "bilrost_gossip_packets_received_total", "packets of gossip taken", "counter",
              (double)s.packets_in);
    put_gauge(b, "bilrost_gossip_packets_sent_total", "packets of gossip sent", "counter",
              (double)s.packets_out);
    put_gauge(b, "bilrost_gossip_received_bytes_total", "bytes in packets and exchanges taken",
              "counter", (double)s.bytes_in);
    put_gauge(b, "bilrost_gossip_sent_bytes_total", "bytes in packets and exchanges sent",
              "counter", (double)s.bytes_out);
    buf_printf(b, "# HELP bilrost_gossip_dropped_total packets that changed nothing, by why\n"
                  "# TYPE bilrost_gossip_dropped_total counter\n");
    for (size_t i = 0; i < countof(dropped); i++)
        put_labelled(b, "bilrost_gossip_dropped_total", "reason", dropped[i].why,
                     (double)dropped[i].count);
    put_gauge(b, "bilrost_gossip_probes_total", "members that were asked whether they live",
              "counter", (double)s.probes);
    put_gauge(b, "bilrost_gossip_probes_failed_total", "probes without an answer", "counter",
              (double)s.probes_failed);
    put_gauge(b, "bilrost_gossip_suspicions_total", "times a member was suspected here", "counter",
              (double)s.suspicions);
    put_gauge(b, "bilrost_gossip_refutes_total", "times others suspected this node", "counter",
              (double)s.refutes);
    put_gauge(b, "bilrost_gossip_false_deaths_total", "members called dead that came back alive",
              "counter", (double)s.false_deaths);
    put_gauge(b, "bilrost_gossip_exchanges_total", "exchanges of members and rows begun here",
              "counter", (double)s.syncs);
    put_gauge(b, "bilrost_gossip_health_score", "doubt of its own health, 0 none to 7", "gauge",
              s.score);
    put_gauge(b, "bilrost_gossip_rumours", "rumours that wait to be spread", "gauge",
              (double)s.queue_len);
    put_gauge(b, "bilrost_gossip_rows", "rows of the overlay table", "gauge", (double)s.rows);
}

void api_metrics(struct api_ask *a)
{
    const struct api_conf *c = &a->api->conf;
    struct buf b = {0};
    broker_metrics_format(c->broker, &b);
    put_gauge(&b, "process_cpu_seconds_total", "processor time used", "counter",
              (double)net_clock_cpu() / 1e6);
    put_gauge(&b, "process_resident_memory_bytes", "memory in use", "gauge", (double)memory_used());
    put_gauge(&b, "bilrost_connections", "clients connected now", "gauge",
              (double)broker_connection_count(c->broker));
    put_http_metrics(a->api, &b);
    if (c->seat) {
        put_members(c->seat, &b);
        put_gossip_metrics(c->seat, &b);
    }
    if (c->kv)
        put_kv_metrics(c->kv, &b);
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
    bool is_ready = why.n == 0;
    api_reply(a, is_ready ? 200 : 503, "text/plain", is_ready ? STR("ready\n") : buf_str(&why));
    buf_deinit(&why);
}
