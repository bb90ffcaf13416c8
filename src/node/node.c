/* Assembles one node.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. What node_new has built is taken down by node_free in the opposite order, from whatever point
 * it had reached.
 * 2. Loops 1.. run in threads exactly while loop 0 is within node_run.
 *
 * Never: holds state outside struct node; knows what the parts do. */
#include "node/node.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/clock.h"
#include "net/random.h"
#include "net/worker.h"
#include "node/node_priv.h"
#include "stores/stores.h"

#define LOOPS_MAX 64
#define JOBS_MAX 100000

static int say(char error[NODE_ERROR_MAX], int r, const char *what)
{
    snprintf(error, NODE_ERROR_MAX, "%s: %s", what, strerrordesc_np(-r));
    return NODE_E_SYSTEM;
}

static unsigned loops_wanted(const struct node_conf *c)
{
    long n = c->workers ? (long)c->workers : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > LOOPS_MAX ? LOOPS_MAX : (unsigned)n;
}

static int threads_new(struct node *n, char error[NODE_ERROR_MAX])
{
    unsigned count = loops_wanted(n->conf);
    n->grace = net_grace_new();
    n->loop = mem_new(count * sizeof(struct net_loop *));
    n->beat = mem_new(count * sizeof *n->beat);
    for (; n->loop_count < count; n->loop_count++) {
        struct net_loop_conf conf = {
            .index = n->loop_count, .log = n->log, .seed = net_random_u64(), .grace = n->grace};
        int r = net_loop_new(&conf, &n->loop[n->loop_count]);
        if (r)
            return say(error, r, "cannot make an event loop");
    }
    int r = net_worker_new((unsigned)n->conf->worker_threads, JOBS_MAX, "bilrost-work", &n->worker);
    return r ? say(error, r, "cannot start threads") : 0;
}

/* The rest of the limit is for connections, tables and the libraries. */
static uint64_t memory_max(const struct node *n)
{
    if (n->conf->memory_max || !n->memory_limit)
        return (uint64_t)n->conf->memory_max;
    uint64_t share = n->memory_limit / 4 * 3;
    log_line(n->log, LOG_LEVEL_NOTICE, "node.memory",
             "memory_max is %llu bytes: three quarters of what the system lets this service have",
             (unsigned long long)share);
    return share;
}

/* Without fsync on any node what is acknowledged has reached a quorum's memory, with rows on disk
 * or not. */
static enum broker_durability node_durability(const struct node_conf *c)
{
    return node_conf_durability(c) == 0 ? BROKER_DURABILITY_QUORUM_FSYNC : BROKER_DURABILITY_QUORUM;
}

static int broker_make(struct node *n, char error[NODE_ERROR_MAX])
{
    const struct node_conf *c = n->conf;
    n->memory_max = memory_max(n);
    struct broker_conf conf = {
        .node = n->uuid,
        .epoch = n->epoch,
        .loop = n->loop,
        .loop_count = n->loop_count,
        .seat = n->seat,
        .worker = n->worker,
        .seed = net_random_u64(),
        .log = n->log,
        .reference_host = c->cluster_host,
        .memory_max = n->memory_max,
        .connection_max = (uint64_t)c->connection_max,
        .auth_files = n->auth,
        .plugins = n->plugins,
        .sys_interval_tenant = c->sys_tenant,
        .durability = node_durability(c),
        .sys_interval_usec = (usec_t)c->sys_interval_seconds * USEC_SEC,
    };
    n->broker = broker_new(&conf);
    return node_stores_open(n, error);
}

int node_new(const struct node_conf_run *run, char out_error[NODE_ERROR_MAX],
             struct node **out_node)
{
    struct node *n = mem_new(sizeof *n);
    n->conf = run->conf;
    n->log = run->log;
    n->events = run->events;
    n->version = run->version;
    n->began = net_clock_now();
    net_random_bytes(n->auth_secret, sizeof n->auth_secret);
    n->memory_limit = run->memory_limit;
    node_health_init(n);
    node_drain_init(n);
    int r = node_tls_open(n, out_error);
    n->plugins = broker_plugins_new(&(struct broker_plugins_conf){
        .loop_count = loops_wanted(n->conf), .version = n->version, .log = n->log});
    if (r == 0)
        r = node_plugins_open(n->conf, n->plugins, false, out_error);
    if (r == 0)
        r = node_auth_open(n, n->conf, out_error, &n->auth);
    if (r == 0)
        r = node_data_open(n, out_error);
    if (r == 0)
        r = threads_new(n, out_error);
    if (r == 0)
        r = node_cluster_open(n, out_error);
    if (r == 0)
        r = broker_make(n, out_error);
    if (r == 0)
        r = node_listen(n, run, out_error);
    if (r == 0)
        r = node_admin_open(n, out_error);
    if (r) {
        node_free(n);
        return r;
    }
    *out_node = n;
    return 0;
}

/* The loops do not run any more: the mails between them are received here. */
static void loops_settle(struct node *n)
{
    for (unsigned round = 0; round < 4; round++)
        for (unsigned i = 0; i < n->loop_count; i++)
            net_loop_turn(n->loop[i], 0);
}

struct node *node_free(struct node *n)
{
    if (!n)
        return NULL;
    n->is_over = true;
    if (n->loop_count)
        net_timer_del(n->loop[0], &n->look);
    if (n->running_count)
        loops_settle(n); /* a drain that was cut short has nothing under way any more */
    node_admin_close(n);
    node_cluster_stop(n);
    n->kv = kv_free(n->kv); /* what is under way ends, and tells the broker */
    stores_stop(n->stores);
    if (n->running_count) { /* no password is being checked any more when its connection is freed */
        net_worker_stop(n->worker);
        loops_settle(n);
    }
    broker_free(n->broker);
    loops_settle(n); /* what the broker said last to the stores arrives */
    stores_free(n->stores);
    net_worker_free(n->worker);
    broker_plugins_close(n->plugins);
    /* What came back from the threads is received, so that nothing is left behind. */
    for (unsigned i = 0; i < n->loop_count; i++)
        net_loop_turn(n->loop[i], 0);
    node_cluster_free(n);
    node_tls_close(n);
    broker_auth_files_unref(n->auth);
    broker_plugins_free(n->plugins);
    for (unsigned i = 0; i < n->loop_count; i++)
        net_loop_free(n->loop[i]);
    mem_free(n->loop);
    mem_free(n->beat);
    net_grace_free(n->grace);
    node_data_close(n);
    node_conf_free(n->conf);
    return mem_free(n);
}

void node_run(struct node *n)
{
    char text[128];
    for (n->running_count = 1; n->running_count < n->loop_count; n->running_count++) {
        int r = net_loop_start(n->loop[n->running_count]);
        if (r) {
            snprintf(text, sizeof text, "cannot start a thread: %s", strerrordesc_np(-r));
            if (n->events.failed)
                n->events.failed(n->events.arg, text);
            break;
        }
    }
    if (n->running_count == n->loop_count) {
        node_health_start(n);
        node_drain_start(n);
        int r = net_loop_run(n->loop[0]);
        must(r == 0);
    }
    for (unsigned i = 1; i < n->running_count; i++)
        net_loop_stop(n->loop[i]);
    for (unsigned i = 1; i < n->running_count; i++)
        net_loop_join(n->loop[i]);
}

void node_stop(struct node *n)
{
    if (n->is_draining) {
        log_line(n->log, LOG_LEVEL_WARN, "node.stop.now", "stopping at once: asked twice");
        net_loop_stop(n->loop[0]);
        return;
    }
    n->is_draining = true;
    log_line(n->log, LOG_LEVEL_NOTICE, "node.drain", "draining: at most %lld s",
             (long long)n->conf->drain_seconds);
    node_health_look(n);
    node_drain_stop(n);
}

/* Names what differs but waits for a restart. */
static void tell_restart(const struct node *n, const struct node_conf *c, struct buf *say_to)
{
    const struct node_conf *o = n->conf;
    if (strcmp(o->data_dir, c->data_dir) || o->workers != c->workers ||
        o->worker_threads != c->worker_threads)
        buf_printf(say_to, "data_dir, workers and blocking_threads change with the next restart\n");
    if (strcmp(o->durability, c->durability))
        buf_printf(say_to, "durability changes with the next restart\n");
    if (strcmp(o->plugins, c->plugins))
        buf_printf(say_to, "plugins change with the next restart\n");
}

/* Nothing is in effect yet. */
static int reload_try(struct node *n, struct node_conf *conf, struct buf *say_to,
                      struct broker_auth_files **out_auth)
{
    char error[NODE_ERROR_MAX];
    node_conf_durability_settle(conf, n->conf);
    if (conf->error_count) {
        buf_put_str(say_to, buf_str(&conf->errors));
        return NODE_E_CONFIG;
    }
    int r = node_try(conf, error);
    if (r == 0)
        r = node_auth_open(n, conf, error, out_auth);
    if (r)
        buf_printf(say_to, "%s\n", error);
    return r;
}

int node_reload(struct node *n, struct node_conf *conf, struct buf *say_to)
{
    struct broker_auth_files *auth = NULL;
    int r = reload_try(n, conf, say_to, &auth);
    if (r == 0)
        r = node_tls_reload(n, say_to);
    if (r == 0)
        r = node_admin_reload(n, say_to);
    if (r == 0)
        r = node_cluster_reload(n, conf, say_to);
    if (r == 0)
        r = node_listen_again(n, conf, say_to);
    if (r) {
        broker_auth_files_unref(auth);
        node_conf_free(conf);
        return NODE_E_CONFIG;
    }
    broker_auth_set(n->broker, auth);
    broker_auth_files_unref(n->auth);
    n->auth = auth;
    node_tenants_put(n, conf);
    tell_restart(n, conf, say_to);
    node_conf_free(conf);
    return 0;
}

struct net_loop *node_loop(struct node *n)
{
    return n->loop[0];
}
