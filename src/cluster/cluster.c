/* This node among the others: carries out what the mind decides.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Everything here runs on loop 0.
 *
 * Invariant C2: cluster_step is the only caller of gossip_step and never nests. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "cluster/cluster_priv.h"
#include "net/random.h"

#define GRACE_FIRST (1 * USEC_SEC)  /* without seeds and without a past: we begin the cluster */
#define GRACE_LATER (15 * USEC_SEC) /* without seeds, but there were others once */

/* --- effects --- */

static void set_joined(struct cluster *c)
{
    if (c->is_joined)
        return;
    c->is_joined = true;
    cluster_note(c, CLUSTER_EV_JOINED, NULL, NULL);
}

static void on_skew(struct cluster *c, const struct gossip_effect *e)
{
    char what[160];
    const struct gossip_member *self = gossip_self(c->gossip);
    if (e->flags == GOSSIP_SKEW_CLOCK)
        (void)snprintf(what, sizeof what,
                       "has a clock more than 10 s ahead of ours: its time is not taken");
    else
        (void)snprintf(what, sizeof what,
                       "is not a member: it speaks protocol versions %u to %u, we %u to %u",
                       (unsigned)(e->epoch >> 16), (unsigned)(e->epoch & 0xFFFF),
                       (unsigned)self->version_min, (unsigned)self->version_max);
    cluster_log_member(c, e, LOG_LEVEL_WARN, "cluster.member.skew", what);
}

static void on_duplicate(struct cluster *c, const struct gossip_effect *e)
{
    if (c->is_twin)
        return; /* told already: the process ends */
    c->is_twin = true;
    char at[NET_ADDRESS_TEXT], why[256];
    struct net_address a;
    cluster_addr_to(&e->addr, &a);
    (void)net_address_format(&a, at);
    (void)snprintf(why, sizeof why,
                   "another process runs with our identity at %s: was the data directory copied?",
                   at);
    log_line(c->log, LOG_LEVEL_ERROR, "cluster.identity.duplicate", "%s", why);
    if (c->fatal != NULL)
        c->fatal(c->arg, why);
}

static void on_gone(struct cluster *c)
{
    void (*left)(void *arg) = c->left;
    c->left = NULL;
    if (left != NULL)
        left(c->left_arg);
}

static void on_fact(struct cluster *c, const struct gossip_effect *e)
{
    switch ((unsigned)e->kind) {
    case GOSSIP_OUT_JOINED:
        log_line(c->log, LOG_LEVEL_NOTICE, "cluster.joined", "joined: %zu members",
                 gossip_live_count(c->gossip));
        set_joined(c);
        break;
    case GOSSIP_OUT_ALONE:
        log_line(c->log, LOG_LEVEL_WARN, "cluster.alone", "no other member is left");
        break;
    case GOSSIP_OUT_ISOLATED:
    case GOSSIP_OUT_RECOVERED:
        c->is_isolated = e->kind == GOSSIP_OUT_ISOLATED;
        log_line(c->log, LOG_LEVEL_WARN, "cluster.isolated", "%s",
                 c->is_isolated ? "most others fell silent at once: this node is probably cut off"
                                : "the others answer again");
        cluster_note(c, CLUSTER_EV_ISOLATED, NULL, NULL);
        break;
    case GOSSIP_OUT_REFUTED:
        log_line(c->log, LOG_LEVEL_INFO, "cluster.refuted",
                 "somebody took us for silent: we said no");
        break;
    case GOSSIP_OUT_STALLED:
        log_line(c->log, LOG_LEVEL_WARN, "cluster.stalled", "this node stood still for %llu ms",
                 (unsigned long long)(e->epoch / USEC_MSEC));
        break;
    case GOSSIP_OUT_SKEW:
        on_skew(c, e);
        break;
    case GOSSIP_OUT_STREAM_ONLY:
        cluster_log_member(c, e, LOG_LEVEL_WARN, "cluster.member.datagrams",
                           "answers over TCP and never over UDP: is the port open for both?");
        break;
    case GOSSIP_OUT_DUPLICATE:
        on_duplicate(c, e);
        break;
    case GOSSIP_OUT_GONE:
        on_gone(c);
        break;
    default:
        break;
    }
}

static void run_effect(struct cluster *c, const struct gossip_effect *e, bool *shared)
{
    switch (e->kind) {
    case GOSSIP_OUT_PACKET:
    case GOSSIP_OUT_STREAM_OPEN:
    case GOSSIP_OUT_STREAM_SEND:
    case GOSSIP_OUT_STREAM_CLOSE:
        cluster_wire_effect(c, e, gossip_effect_bytes(&c->out, e));
        break;
    case GOSSIP_OUT_ALIVE:
    case GOSSIP_OUT_SUSPECT:
    case GOSSIP_OUT_DEAD:
    case GOSSIP_OUT_LEFT:
    case GOSSIP_OUT_UPDATED:
        cluster_mirror_fact(c, e);
        break;
    case GOSSIP_OUT_FORGOTTEN:
        (void)cluster_mirror_member(c, &e->uuid);
        c->members_changed = true;
        net_loop_defer(c->home, &c->publish);
        break;
    case GOSSIP_OUT_ROW:
        cluster_mirror_row(c, e);
        break;
    case GOSSIP_OUT_SHARED:
        *shared = true;
        break;
    case GOSSIP_OUT_JOINED:
    case GOSSIP_OUT_ALONE:
    case GOSSIP_OUT_ISOLATED:
    case GOSSIP_OUT_RECOVERED:
    case GOSSIP_OUT_REFUTED:
    case GOSSIP_OUT_STALLED:
    case GOSSIP_OUT_SKEW:
    case GOSSIP_OUT_STREAM_ONLY:
    case GOSSIP_OUT_DUPLICATE:
    case GOSSIP_OUT_GONE:
        on_fact(c, e);
        break;
    }
}

static void step_once(struct cluster *c, struct gossip_event *ev)
{
    bool shared = false;
    ev->now = net_loop_now(c->home);
    ev->wall = net_loop_wall(c->home);
    gossip_step(c->gossip, ev, &c->out);
    for (size_t i = 0; i < c->out.count; i++)
        run_effect(c, &c->out.effect[i], &shared);
    gossip_out_reset(&c->out);
    if (shared && ev->kind != GOSSIP_EV_ROW_LOAD)
        cluster_keep_shared(c);
}

void cluster_step(struct cluster *c, struct gossip_event *ev)
{
    must(!c->is_stepping); /* C2 */
    c->is_stepping = true;
    step_once(c, ev);
    while (c->unsent_count > 0) {
        struct gossip_event failed = {.kind = GOSSIP_EV_SEND_FAILED,
                                      .addr = c->unsent[--c->unsent_count]};
        step_once(c, &failed);
    }
    c->is_stepping = false;
    net_timer_set(c->home, &c->timer, gossip_deadline(c->gossip));
}

static void on_timer(void *arg, usec_t now)
{
    struct gossip_event ev = {.kind = GOSSIP_EV_TICK};
    (void)now;
    cluster_step(arg, &ev);
}

static void on_grace(void *arg, usec_t now)
{
    (void)now;
    set_joined(arg);
}

/* --- life --- */

static int parse_host(const char *host, uint16_t port, struct net_address *out, char *error)
{
    char text[NET_ADDRESS_TEXT];
    net_address_join(host, port, text, sizeof text);
    int r = net_address_parse(str_of(text), out);
    if (r != 0)
        (void)snprintf(error, CLUSTER_HOST_ERROR_MAX, "\"%.64s\" is not a numeric address", host);
    return r;
}

static bool is_any(const struct net_address *a)
{
    static const uint8_t zero[16];
    return a->sa.sa_family == AF_INET ? a->v4.sin_addr.s_addr == 0
                                      : memcmp(&a->v6.sin6_addr, zero, sizeof zero) == 0;
}

static int check_conf(const struct cluster_host_conf *conf, const struct net_address *at,
                      char *error)
{
    size_t n = conf->env != NULL ? strlen(conf->env) : 0;
    if (n == 0 || n > 63) {
        (void)snprintf(error, CLUSTER_HOST_ERROR_MAX,
                       "clusterConfig.env must be a name of 1 to 63 bytes");
        return -EINVAL;
    }
    if (is_any(at) && conf->advertise_host == NULL) {
        (void)snprintf(
            error, CLUSTER_HOST_ERROR_MAX,
            "clusterConfig.host must be the address at which the other nodes reach this one");
        return -EINVAL;
    }
    if (!net_address_is_loopback(at) && !conf->is_insecure &&
        (conf->key_count == 0 || conf->tls_server == NULL)) {
        (void)snprintf(
            error, CLUSTER_HOST_ERROR_MAX,
            "%s: an address other than loopback needs cluster keys and TLS between the nodes "
            "(or insecure = true, written down)",
            conf->host);
        return -EACCES;
    }
    if (conf->key_count > CLUSTER_KEYS_MAX) {
        (void)snprintf(error, CLUSTER_HOST_ERROR_MAX, "at most %d cluster keys", CLUSTER_KEYS_MAX);
        return -EINVAL;
    }
    return 0;
}

static int open_links(struct cluster *c, const struct cluster_host_conf *conf, char *error)
{
    char text[NET_ADDRESS_TEXT];
    c->link = mem_new(c->loop_count * sizeof *c->link);
    c->seat = mem_new(c->loop_count * sizeof *c->seat);
    for (unsigned i = 0; i < c->loop_count; i++) {
        struct link_conf lc = {
            .loop = c->loop[i],
            .index = i,
            .count = c->loop_count,
            .self = c->id.uuid,
            .epoch = c->id.epoch,
            .label = cluster_seal_label(str_of(c->env)),
            .tls = c->tls_client,
            .log = c->log,
            .find = cluster_seat_find,
            .refuses = cluster_seat_refuses,
            .lost = cluster_seat_lost,
            .arg = &c->seat[i],
        };
        c->link[i] = cluster_link_new(&lc);
        cluster_link_siblings(c->link[i], c->link);
        cluster_seat_init(&c->seat[i], c, i);
    }
    struct acceptor_conf ac = {.loop = c->home,
                               .tls = c->tls_server,
                               .link = c->link,
                               .link_count = c->loop_count,
                               .log = c->log};
    const char *host =
        conf->rpc_host != NULL && conf->rpc_host[0] != 0 ? conf->rpc_host : conf->host;
    int r = parse_host(host, conf->rpc_port, &ac.bind, error);
    if (r != 0)
        return r;
    r = cluster_acceptor_new(&ac, &c->acceptor);
    if (r != 0) {
        (void)net_address_format(&ac.bind, text);
        (void)snprintf(error, CLUSTER_HOST_ERROR_MAX, "links cannot listen at %s: %s", text,
                       strerrordesc_np(-r));
    }
    return r;
}

static int announced(struct cluster *c, const struct cluster_host_conf *conf, struct meta *meta,
                     char *error)
{
    struct net_address rpc = *cluster_acceptor_address(c->acceptor);
    if (conf->advertise_host != NULL && conf->advertise_host[0] != 0) {
        uint16_t port =
            conf->advertise_port != 0 ? conf->advertise_port : net_address_port(&c->addr);
        uint16_t rpc_port = net_address_port(&rpc);
        int r = parse_host(conf->advertise_host, port, &c->addr, error);
        if (r != 0)
            return r;
        rpc = c->addr;
        net_address_set_port(&rpc, rpc_port);
    }
    *meta = (struct meta){
        .loops = c->loop_count,
        .api = str_of(conf->api != NULL ? conf->api : ""),
        .release = str_of(conf->release != NULL ? conf->release : ""),
        .pid = (uint64_t)getpid(),
    };
    cluster_addr_of(&rpc, &meta->rpc);
    return 0;
}

static void start_mind(struct cluster *c, const struct cluster_host_conf *conf,
                       const struct meta *meta)
{
    struct buf b = {0};
    cluster_meta_put(&b, meta);
    struct gossip_conf gc = {
        .uuid = c->id.uuid,
        .epoch = c->id.epoch,
        .meta = buf_str(&b),
        .version_min = 1,
        .version_max = 1,
        .packet_max = 1400 - CLUSTER_SEAL_OVERHEAD,
    };
    cluster_addr_of(&c->addr, &gc.addr);
    c->gossip = gossip_new(&gc, net_loop_now(c->home), net_loop_wall(c->home), net_random_u64());
    buf_deinit(&b);
    net_timer_init(&c->timer, on_timer, c);
    net_defer_init(&c->publish, cluster_mirror_publish, c);
    net_timer_init(&c->refresh, cluster_mirror_refresh, c);
    net_timer_set(c->home, &c->refresh, net_loop_now(c->home));
    (void)cluster_mirror_member(c, &c->id.uuid);
    c->rows_changed = true;
    cluster_keep_load(c);
    cluster_keyring_init(c, conf->key, conf->key_count);
    cluster_seeds_init(c, conf);
    net_timer_init(&c->grace, on_grace, c);
    if (c->seeds.count == 0)
        net_timer_set(c->home, &c->grace,
                      net_loop_now(c->home) +
                          (c->seeds.cached_count > 0 ? GRACE_LATER : GRACE_FIRST));
    net_timer_set(c->home, &c->timer, gossip_deadline(c->gossip));
}

static void drop_changes(struct cluster *c)
{
    for (size_t i = 0; i < c->change_count; i++) {
        cluster_view_member_unref(c->change[i].member);
        cluster_view_row_unref(c->change[i].row);
    }
    c->change_count = 0;
}

/* The first view, for all seats, before the loops run. */
static void first_view(struct cluster *c)
{
    for (unsigned i = 0; i < c->loop_count; i++) {
        c->seat[i].members = cluster_view_list_new(c->member, c->member_count, false);
        c->seat[i].rows = cluster_view_list_new(c->row, c->row_count, true);
        c->seat[i].live_count = c->member_count;
    }
    drop_changes(c); /* watchers find all this when they come */
    c->members_changed = c->rows_changed = false;
    net_defer_del(&c->publish);
}

static struct cluster *cluster_alloc(const struct cluster_host_conf *conf)
{
    struct cluster *c = mem_new(sizeof *c);
    c->loop = mem_dup(conf->loop, conf->loop_count * sizeof *conf->loop);
    c->loop_count = conf->loop_count;
    c->home = conf->loop[0];
    c->log = conf->log;
    c->fatal = conf->fatal;
    c->arg = conf->arg;
    c->worker = conf->worker;
    c->data_path =
        conf->data_path != NULL ? mem_dup(conf->data_path, strlen(conf->data_path)) : NULL;
    c->env = mem_dup(conf->env, strlen(conf->env));
    c->tls_server = conf->tls_server != NULL ? net_tls_ref(conf->tls_server) : NULL;
    c->tls_client = conf->tls_client != NULL ? net_tls_ref(conf->tls_client) : NULL;
    c->id.lock = -1;
    return c;
}

int cluster_new(const struct cluster_host_conf *conf, char error[CLUSTER_HOST_ERROR_MAX],
                struct cluster **out)
{
    struct net_address at;
    struct meta meta;
    int r = parse_host(conf->host, conf->port, &at, error);
    if (r == 0)
        r = check_conf(conf, &at, error);
    if (r != 0)
        return r;
    struct cluster *c = cluster_alloc(conf);
    c->addr = at;
    if (conf->identity != NULL) {
        c->id = *conf->identity;
        c->id.lock = -1; /* stays the caller's */
    } else {
        r = cluster_identity_open(conf->data_path, net_loop_wall(c->home) / USEC_MSEC, &c->id,
                                  error);
    }
    if (r == 0)
        r = cluster_wire_open(c, conf, error);
    if (r == 0)
        r = open_links(c, conf, error);
    if (r == 0)
        r = announced(c, conf, &meta, error);
    if (r != 0) {
        cluster_free(c);
        return r;
    }
    c->seal = cluster_seal_new(&c->id.uuid, c->id.epoch, str_of(c->env), NULL, 0);
    start_mind(c, conf, &meta);
    first_view(c);
    *out = c;
    return 0;
}

void cluster_stop(struct cluster *c)
{
    c->acceptor = cluster_acceptor_free(c->acceptor);
    cluster_wire_close(c);
    net_timer_del(c->home, &c->timer);
    net_timer_del(c->home, &c->grace);
    net_timer_del(c->home, &c->refresh);
    net_timer_del(c->home, &c->seeds.timer);
    net_timer_del(c->home, &c->seeds.report);
    for (unsigned i = 0; i < c->loop_count; i++)
        cluster_link_stop(c->link[i]);
}

struct cluster *cluster_free(struct cluster *c)
{
    if (c == NULL)
        return NULL;
    c->acceptor = cluster_acceptor_free(c->acceptor);
    if (c->gossip != NULL) {
        net_timer_del(c->home, &c->timer);
        net_timer_del(c->home, &c->grace);
        net_timer_del(c->home, &c->refresh);
        net_defer_del(&c->publish);
        cluster_seeds_deinit(c);
        cluster_keep_deinit(c);
    }
    cluster_wire_close(c);
    for (unsigned i = 0; c->seat != NULL && i < c->loop_count; i++) {
        c->link[i] = cluster_link_free(c->link[i]);
        if (c->seat[i].c != NULL)
            cluster_seat_deinit(&c->seat[i]);
    }
    cluster_keyring_deinit(c);
    drop_changes(c);
    for (size_t i = 0; i < c->member_count; i++)
        cluster_view_member_unref(c->member[i]);
    for (size_t i = 0; i < c->row_count; i++)
        cluster_view_row_unref(c->row[i]);
    mem_free(c->change);
    mem_free(c->member);
    mem_free(c->row);
    mem_free(c->unsent);
    gossip_free(c->gossip);
    gossip_out_deinit(&c->out);
    cluster_seal_free(c->seal);
    cluster_identity_close(&c->id);
    net_tls_unref(c->tls_server);
    net_tls_unref(c->tls_client);
    buf_deinit(&c->scratch);
    buf_deinit(&c->plain);
    mem_free(c->seat);
    mem_free(c->link);
    mem_free(c->data_path);
    mem_free(c->env);
    mem_free(c->loop);
    return mem_free(c);
}

/* --- orders --- */

void cluster_leave(struct cluster *c, void (*done)(void *arg), void *arg)
{
    struct gossip_event ev = {.kind = GOSSIP_EV_LEAVE};
    c->is_leaving = true;
    c->left = done;
    c->left_arg = arg;
    cluster_step(c, &ev);
}

void cluster_keys_set(struct cluster *c, const struct cluster_host_key *key, size_t key_count)
{
    must(key_count <= CLUSTER_KEYRING_MAX);
    cluster_keyring_init(c, key, key_count);
}

struct cluster_seat *cluster_seat(struct cluster *c, unsigned loop)
{
    must(loop < c->loop_count);
    return &c->seat[loop];
}

const struct uuid *cluster_uuid(const struct cluster *c)
{
    return &c->id.uuid;
}

uint16_t cluster_port(const struct cluster *c)
{
    return net_address_port(&c->addr);
}

uint16_t cluster_rpc_port(const struct cluster *c)
{
    return net_address_port(cluster_acceptor_address(c->acceptor));
}

void cluster_stats_get(const struct cluster_seat *s, struct cluster_stats *out)
{
    const struct cluster *c = s->c;
    struct gossip_stats g;
    gossip_stats_get(c->gossip, &g);
    *out = c->stats;
    out->packets_in = g.packets_in;
    out->packets_out = g.packets_out;
    out->bytes_in = g.bytes_in;
    out->bytes_out = g.bytes_out;
    out->malformed = g.malformed;
    out->probes = g.probes;
    out->probes_failed = g.probes_failed;
    out->suspicions = g.suspicions;
    out->refutes = g.refutes;
    out->false_deaths = g.false_deaths;
    out->syncs = g.syncs;
    out->score = g.score;
    out->queue_len = g.queue_len;
    out->rows = gossip_table_count(gossip_table_of(c->gossip));
}
