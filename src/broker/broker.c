/* The broker of one node: puts the parts together.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 tenants are only added while the node runs, never freed;  2 what all loops must
 * hear (settings, access rules, drain) goes to each by mail and is theirs from then on.  It decides
 * nothing about a message. */
#include "broker/broker.h"

#include <errno.h>

#include "base/err.h"
#include "base/mem.h"
#include "broker/conn_priv.h"
#include "broker/drain_priv.h"
#include "broker/durability_priv.h"
#include "broker/hold_priv.h"
#include "broker/inflow_priv.h"
#include "broker/lookup_priv.h"
#include "broker/peer_priv.h"
#include "broker/publish_priv.h"
#include "broker/renew_priv.h"
#include "broker/restore_priv.h"
#include "broker/roster_priv.h"
#include "broker/slow_priv.h"
#include "broker/sys_priv.h"
#include "broker/limit_priv.h"
#include "dist/index.h"

#define OUT_BYTES_MAX                                                                              \
    ((size_t)1 << 20) /* matters: waiting for one client before deliveries to it stop */
#define KEEP_BYTES_MAX ((size_t)1 << 20) /* matters: a packet and a turn's input behind it fit */
#define CONNECT_USEC_MAX (20 * USEC_SEC) /* does not matter much: for CONNECT to arrive */
#define CONNECT_LEN_MAX                                                                            \
    ((uint32_t)512 << 10) /* matters: a CONNECT with a will and a password fits */
#define QUEUE_BYTES_MAX ((uint32_t)16 << 20) /* matters: bytes queued for one clean session */

/* A mail to one loop about something that all hear. */
struct news {
    struct net_mail mail;
    struct broker *broker;
    struct broker_tenant *tenant;
    struct broker_settings *settings;
    struct broker_auth_files *files;
};

/* ---- what the stores call back ---- */

static void host_deliver(void *arg, unsigned loop, uint64_t cookie, const struct stores_delivery *d,
                         size_t count)
{
    struct broker *b = arg;
    struct broker_conn *c = broker_conn_find(&b->loop[loop], cookie);
    if (c)
        broker_inflow_deliver(c, d, count);
}

static void host_backlog(void *arg, unsigned loop, uint64_t cookie, uint64_t next_seq)
{
    struct broker *b = arg;
    struct broker_conn *c = broker_conn_find(&b->loop[loop], cookie);
    if (c)
        broker_inflow_backlog(c, next_seq);
}

static void host_quit(void *arg, unsigned loop, uint64_t cookie, enum stores_quit_why why)
{
    struct broker *b = arg;
    struct broker_conn *c = broker_conn_find(&b->loop[loop], cookie);
    if (!c)
        return;
    switch (why) {
    case STORES_QUIT_TAKEOVER:
        broker_conn_kick(c, SESSION_END_KICKED, CODEC_MQTT_RC_SESSION_TAKEN_OVER);
        break;
    case STORES_QUIT_KILL:
        broker_conn_kick(c, SESSION_END_KICKED, CODEC_MQTT_RC_ADMINISTRATIVE_ACTION);
        break;
    case STORES_QUIT_GONE:
        broker_conn_kick(c, SESSION_END_INBOX_TRANSIENT_ERROR,
                         CODEC_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR);
        break;
    }
}

/* A will that is being published. */
struct will {
    struct broker_loop *loop;
    struct broker_tenant *tenant;
    struct str client;
    uint64_t id;
};

static void will_done(void *arg, uint8_t reason)
{
    struct will *w = arg;
    struct broker_event_who who = {.tenant = w->tenant->name, .client_id = w->client};
    bool is_done = reason < 0x80;
    broker_event_report(&w->loop->broker->events,
                        is_done ? BROKER_EV_WILL_DISTED : BROKER_EV_WILL_DIST_ERROR, &who, "%s",
                        is_done ? "" : codec_mqtt_reason_text(reason));
    if (is_done) /* else the store brings it again */
        stores_will_done(w->loop->stores, w->tenant->name, w->client, w->id);
    mem_free((void *)(uintptr_t)w->client.p);
    mem_free(w);
}

static void host_will(void *arg, unsigned loop, const struct stores_session *s,
                      const struct codec_msg *msg, uint64_t will_id)
{
    struct broker *b = arg;
    struct broker_tenant *tenant = broker_tenant_find(b, s->tenant);
    if (!tenant)
        return;
    struct will *w = mem_new(sizeof(*w));
    *w = (struct will){&b->loop[loop], tenant, str_dup(s->client), will_id};
    struct broker_publish_done done = {will_done, w};
    broker_publish_message(w->loop, tenant, msg, &done);
}

const struct stores_host *broker_stores_host(struct broker *b)
{
    return b->host;
}

/* ---- loops ---- */

static void loop_turn_end(void *arg)
{
    struct broker_loop *l = arg;
    broker_conn_turn_end(l);
    broker_cross_flush(l);
    broker_peer_flush(l);
    broker_lookup_flush(l);
}

static void loop_shed(void *arg, usec_t now)
{
    (void)now;
    broker_limit_shed(arg);
}

static void loop_init(struct broker *b, unsigned i)
{
    struct broker_loop *l = &b->loop[i];
    l->broker = b;
    l->net = b->conf.loop[i];
    l->index = i;
    l->auth_files = b->conf.auth_files ? broker_auth_files_ref(b->conf.auth_files) : NULL;
    list_init(&l->conns);
    list_init(&l->dirty);
    net_defer_init(&l->turn_end, loop_turn_end, l);
    broker_slow_init(l);
    broker_hold_init(l);
    net_timer_init(&l->shed_timer, loop_shed, l);
    net_timer_init(&l->drain.timer, broker_drain_tick, l);
    net_timer_init(&l->renew.timer, broker_renew_tick, l);
    list_init(&l->restore);
    broker_targets_init(l);
    broker_cross_init(l);
}

static void loop_deinit(struct broker_loop *l)
{
    while (!list_empty(&l->conns))
        broker_conn_drop(container_of(l->conns.next, struct broker_conn, link));
    broker_hold_deinit(l);
    broker_restore_drop(l);
    net_timer_del(l->net, &l->renew.timer);
    broker_slow_deinit(l);
    net_timer_del(l->net, &l->shed_timer);
    net_defer_del(&l->turn_end);
    broker_targets_deinit(l);
    broker_cross_deinit(l);
    broker_peer_deinit(l);
    map_deinit(&l->by_cookie);
    map_deinit(&l->transit);
    codec_mqtt_images_deinit(&l->images);
    for (size_t i = 0; i < BROKER_STEP_DEPTH; i++)
        session_out_deinit(&l->out[i]);
    session_out_deinit(&l->deliver_out);
    buf_deinit(&l->scratch);
    mem_free(l->seen);
    broker_auth_files_unref(l->auth_files);
}

struct broker *broker_new(const struct broker_conf *conf)
{
    must(conf->loop_count >= 1);
    must(conf->loop_count <= BROKER_LOOP_MAX);
    struct broker *b = mem_new(sizeof(*b));
    b->conf = *conf;
    b->conf.loop = mem_dup(conf->loop, conf->loop_count * sizeof(*conf->loop));
    b->loop_count = conf->loop_count;
    b->seed = conf->seed;
    b->events.log = conf->log;
    b->events.plugins = conf->plugins;
    list_init(&b->roster);
    list_init(&b->drains);
    list_init(&b->asked);
    budget_init(&b->memory, NULL, conf->memory_max ? conf->memory_max : UINT64_MAX);
    b->host = mem_new(sizeof(*b->host));
    *b->host = (struct stores_host){b,         host_deliver, host_backlog,
                                    host_quit, host_will,    broker_restore_lost};
    b->loop = mem_new(b->loop_count * sizeof(*b->loop));
    for (unsigned i = 0; i < b->loop_count; i++)
        loop_init(b, i);
    return b;
}

void broker_start(struct broker *b, struct stores *s)
{
    b->stores = s;
    for (unsigned i = 0; i < b->loop_count; i++) {
        b->loop[i].stores = stores_client_get(s, i);
        b->loop[i].routes = stores_index(s);
        broker_peer_init(&b->loop[i]);
    }
    if (!broker_tenant_find(b, STR("default"))) {
        struct session_settings value;
        session_settings_init(&value);
        struct broker_settings *set = broker_settings_new(&value);
        broker_tenant_set(b, STR("default"), set, NULL);
        broker_settings_unref(set);
    }
    if (b->conf.sys_interval_usec) {
        const char *name = b->conf.sys_interval_tenant;
        struct broker_tenant *t = broker_tenant_find(b, name ? str_of(name) : STR("default"));
        if (t)
            b->sys = broker_sys_new(b, t, b->conf.sys_interval_usec);
    }
}

struct broker *broker_free(struct broker *b)
{
    if (!b)
        return NULL;
    b->is_over = true;
    broker_drain_free(b);
    b->sys = broker_sys_free(b->sys);
    broker_roster_stop(b);
    for (size_t i = 0; i < b->listener_count; i++)
        net_listener_free(b->listener[i]->net);
    for (unsigned i = 0; i < b->loop_count; i++)
        loop_deinit(&b->loop[i]);
    for (size_t i = 0; i < b->listener_count; i++) {
        broker_settings_unref(b->listener[i]->settings);
        mem_free(b->listener[i]->name);
        mem_free(b->listener[i]);
    }
    for (size_t i = 0; i < b->tenant_count; i++)
        broker_tenant_free(b->tenant[i]);
    mem_free(b->listener);
    mem_free(b->loop);
    mem_free((void *)(uintptr_t)b->conf.loop);
    mem_free(b->host);
    return mem_free(b);
}

/* ---- news for all loops ---- */

static void news_receive(struct net_loop *here, struct net_mail *mail)
{
    struct news *n = container_of(mail, struct news, mail);
    struct broker_loop *l = &n->broker->loop[net_loop_index(here)];
    if (n->settings) {
        broker_tenant_settings_set(n->tenant, l->index, n->settings);
        broker_renew_begin(l);
    }
    broker_settings_unref(n->settings);
    if (n->files) {
        broker_auth_files_unref(l->auth_files);
        l->auth_files = n->files;
        l->member_version++; /* who may read what is part of the targets */
    }
    mem_free(n);
}

static void news_send(struct broker *b, unsigned to, struct broker_tenant *t,
                      struct broker_settings *s, struct broker_auth_files *files)
{
    struct news *n = mem_new(sizeof(*n));
    *n = (struct news){.broker = b, .tenant = t};
    n->settings = s ? broker_settings_ref(s) : NULL;
    n->files = files ? broker_auth_files_ref(files) : NULL;
    net_loop_post(NULL, b->loop[to].net, &n->mail, news_receive);
}

void broker_auth_set(struct broker *b, struct broker_auth_files *files)
{
    for (unsigned i = 0; i < b->loop_count; i++)
        news_send(b, i, NULL, NULL, files);
}

struct broker_tenant *broker_tenant_at(struct broker *b, size_t i)
{
    return i < atomic_load_explicit(&b->tenant_count, memory_order_acquire) ? b->tenant[i] : NULL;
}

struct broker_tenant *broker_tenant_find(struct broker *b, struct str name)
{
    struct broker_tenant *t;
    for (size_t i = 0; (t = broker_tenant_at(b, i)) != NULL; i++)
        if (str_eq(t->name, name))
            return t;
    return NULL;
}

void broker_tenant_set(struct broker *b, struct str name, struct broker_settings *settings,
                       const struct broker_tenant_limits *limits)
{
    struct broker_tenant *t = broker_tenant_find(b, name);
    if (t) {
        for (unsigned i = 0; i < b->loop_count; i++)
            news_send(b, i, t, settings, NULL);
    } else {
        size_t n = b->tenant_count;
        must(n < countof(b->tenant));
        t = broker_tenant_new(name, (uint32_t)n, settings, b->loop_count, &b->memory);
        b->tenant[n] = t;
        atomic_store_explicit(&b->tenant_count, n + 1, memory_order_release);
    }
    int level = (int)broker_durability_of(b, &settings->value);
    if (atomic_exchange_explicit(&t->durability, level, memory_order_relaxed) != level ||
        !b->stores)
        broker_durability_tell(b, name, &settings->value);
    if (!limits)
        return;
    t->limits = *limits;
    atomic_store_explicit(&t->memory.limit, limits->memory_max ? limits->memory_max : UINT64_MAX,
                          memory_order_relaxed);
}

/* ---- listeners ---- */

int broker_listen(struct broker *b, const struct broker_listen_conf *conf,
                  char out_error[NET_LISTENER_ERROR_MAX])
{
    struct broker_listener *n = mem_new(sizeof(*n));
    n->broker = b;
    n->tenant = broker_tenant_find(b, conf->tenant ? str_of(conf->tenant) : STR("default"));
    must(n->tenant);
    n->auth = conf->auth;
    n->name = mem_dup(conf->name, strlen(conf->name) + 1);
    n->settings = broker_settings_ref(n->tenant->loop[0].settings);
    n->session_conf = (struct session_conf){
        .settings = &n->settings->value,
        .budget = &n->tenant->memory,
        .connect_timeout_usec = conf->connect_usec_max ? conf->connect_usec_max : CONNECT_USEC_MAX,
        .connect_len_max = CONNECT_LEN_MAX,
        .queue_bytes_max = QUEUE_BYTES_MAX,
        .mqtt3_client_id_len_max = 65535,
        .mqtt5_client_id_len_max = 65535,
    };
    struct net_listener_conf net = conf->net;
    net.loop = b->conf.loop;
    net.loop_count = b->loop_count;
    net.accepted = broker_conn_accept;
    net.arg = n;
    net.log = b->conf.log;
    n->out_bytes_max = conf->out_bytes_max ? conf->out_bytes_max : OUT_BYTES_MAX;
    net.limits.out_high_bytes = n->out_bytes_max;
    net.limits.budget = &n->tenant->memory;
    if (net.limits.keep_bytes_max == 0)
        net.limits.keep_bytes_max =
            KEEP_BYTES_MAX + (size_t)n->settings->value.max_user_payload_bytes;
    b->listener = mem_grow(b->listener, &b->listener_cap, b->listener_count + 1, sizeof(n));
    int r = net_listener_new(b->loop[0].net, &net, out_error, &n->net);
    if (r) {
        broker_settings_unref(n->settings);
        mem_free(n->name);
        mem_free(n);
        return err_trace(r);
    }
    b->listener[b->listener_count++] = n;
    broker_refer_tell(b, n);
    return 0;
}

size_t broker_listen_count(const struct broker *b)
{
    return b->listener_count;
}

void broker_listen_begin(struct broker *b)
{
    for (size_t i = 0; i < b->listener_count; i++)
        net_listener_begin(b->listener[i]->net);
}

void broker_listen_stop(struct broker *b, size_t i)
{
    must(i < b->listener_count);
    struct broker_listener *n = b->listener[i];
    net_listener_stop(n->net);
    n->is_stopped = true;
    broker_refer_forget(b, n);
}

const struct net_address *broker_listen_address(const struct broker *b, size_t i)
{
    return i < b->listener_count ? net_listener_address(b->listener[i]->net) : NULL;
}

/* ---- asking and telling ---- */

void broker_node_dead(struct broker *b, const struct uuid *node, uint64_t epoch)
{
    dist_index_node_mark(stores_index(b->stores), node, epoch, true);
}

static void killed(void *arg, enum stores_outcome outcome)
{
    (void)arg;
    (void)outcome;
}

void broker_kill(struct broker *b, struct str tenant, struct str client_id)
{
    for (unsigned i = 0; i < b->loop_count; i++)
        if (net_loop_is_here(b->loop[i].net)) {
            stores_dict_kill(b->loop[i].stores, tenant, client_id, killed, NULL);
            return;
        }
}

void broker_publish_inject(struct broker *b, unsigned here, struct str tenant,
                           const struct codec_msg *msg)
{
    struct broker_tenant *t = broker_tenant_find(b, tenant);
    if (t)
        broker_publish_message(&b->loop[here], t, msg, NULL);
}

bool broker_publish_ask(struct broker *b, unsigned here, struct str tenant,
                        const struct codec_msg *msg, void (*done)(void *arg, uint8_t reason),
                        void *arg)
{
    struct broker_tenant *t = broker_tenant_find(b, tenant);
    struct broker_publish_done end = {done, arg};
    if (t)
        broker_publish_message(&b->loop[here], t, msg, &end);
    return t != NULL;
}

const struct broker_events *broker_events(const struct broker *b)
{
    return &b->events;
}

uint64_t broker_connection_count(const struct broker *b)
{
    return atomic_load_explicit(&b->connection_count, memory_order_relaxed);
}

uint64_t broker_memory_used(const struct broker *b)
{
    return budget_used(&b->memory);
}

void broker_metrics_format(struct broker *b, struct buf *out)
{
    size_t n = atomic_load_explicit(&b->tenant_count, memory_order_acquire);
    struct broker_metrics *sum = mem_new((n + 1) * sizeof(*sum));
    struct str *name = mem_new((n + 1) * sizeof(*name));
    for (size_t i = 0; i < n; i++) {
        name[i] = b->tenant[i]->name;
        for (unsigned j = 0; j < b->loop_count; j++)
            broker_metrics_add(&sum[i], &b->tenant[i]->loop[j].metrics);
        broker_metric_add(
            &sum[i], BROKER_M_DURABILITY,
            (uint64_t)atomic_load_explicit(&b->tenant[i]->durability, memory_order_relaxed));
        broker_metric_add(&sum[i], BROKER_M_SESSION_MEM, budget_used(&b->tenant[i]->memory));
    }
    for (int id = 0; id < BROKER_METRIC_COUNT; id++)
        broker_metric_format((enum broker_metric_id)id, name, sum, n, out);
    buf_put_str(out, STR("# HELP mqtt_event_count_total events by name\n"
                         "# TYPE mqtt_event_count_total counter\n"));
    for (int id = 0; id < BROKER_EVENT_COUNT; id++)
        buf_printf(
            out, "mqtt_event_count_total{event=\"%s\"} %llu\n",
            broker_event_name((enum broker_event_id)id),
            (unsigned long long)atomic_load_explicit(&b->events.count[id], memory_order_relaxed));
    mem_free(name);
    mem_free(sum);
}
