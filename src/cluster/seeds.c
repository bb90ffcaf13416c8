/* Where the others may be: configured seeds, a domain name, and those we knew.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Seeds are for ever: names are asked again every 30 s, every 5 s while we are alone; nothing is
 * final, and an answer that only holds ourselves is no success.  While alone it says every 30 s
 * what came of each seed. */
#include <stdio.h>

#include "base/mem.h"
#include "cluster/cluster_priv.h"

#define ASK_EVERY (30 * USEC_SEC)
#define ASK_EVERY_ALONE (5 * USEC_SEC)
#define REPORT_FIRST (3 * USEC_SEC)
#define REPORT_EVERY (30 * USEC_SEC)
#define SEEDS_MAX 256

static bool is_alone(const struct cluster *c)
{
    return gossip_live_count(c->gossip) <= 1;
}

/* Everything we have, to the mind. */
static void give(struct cluster *c)
{
    struct gossip_addr all[SEEDS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < c->seeds.count; i++)
        for (unsigned k = 0; k < c->seeds.seed[i].addr_count && n < SEEDS_MAX; k++)
            all[n++] = c->seeds.seed[i].addr[k];
    for (size_t i = 0; i < c->seeds.cached_count && n < SEEDS_MAX; i++)
        all[n++] = c->seeds.cached[i];
    struct gossip_event ev = {.kind = GOSSIP_EV_SEEDS, .seed = all, .seed_count = n};
    cluster_step(c, &ev);
}

/* By their bytes: the same on all nodes. */
static int addr_cmp(const struct gossip_addr *a, const struct gossip_addr *b)
{
    int r = memcmp(a->ip, b->ip, sizeof a->ip);
    return r != 0 ? r : (a->port > b->port) - (a->port < b->port);
}

static bool has(const struct gossip_addr *all, size_t n, const struct gossip_addr *x)
{
    for (size_t i = 0; i < n; i++)
        if (gossip_addr_eq(&all[i], x))
            return true;
    return false;
}

bool cluster_seeds_are_led(const struct gossip_addr *named, size_t n,
                           const struct gossip_addr *self, const struct gossip_addr *met,
                           size_t met_n)
{
    size_t count = 0, live = 0;
    if (!has(named, n, self))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (addr_cmp(&named[i], self) < 0)
            return false;
        if (has(named, i, &named[i]))
            continue; /* a name may say it twice */
        count++;
        live += gossip_addr_eq(&named[i], self) || has(met, met_n, &named[i]);
    }
    return live > count / 2;
}

bool cluster_seeds_first(const struct cluster *c)
{
    struct gossip_addr self, met[SEEDS_MAX];
    const struct gossip_member *m;
    size_t n = 0, at = 0;
    if (c->seeds.domain == NULL)
        return false;
    cluster_addr_of(&c->addr, &self);
    while (n < SEEDS_MAX && (m = gossip_member_next(c->gossip, &at)) != NULL)
        if (m->state == GOSSIP_ST_ALIVE)
            met[n++] = m->addr;
    return cluster_seeds_are_led(c->seeds.domain->addr, c->seeds.domain->addr_count, &self, met, n);
}

static void on_answer(void *arg, int status, const struct net_address *address, size_t count)
{
    struct seed *s = arg;
    struct cluster *c = s->c;
    s->query = NULL;
    if (status != 0) { /* what we knew stays */
        (void)snprintf(s->state, sizeof s->state, "no address (%s)", strerrordesc_np(-status));
        return;
    }
    s->addr_count = 0;
    for (size_t i = 0; i < count && s->addr_count < countof(s->addr); i++)
        cluster_addr_of(&address[i], &s->addr[s->addr_count++]);
    if (s == c->seeds.domain && cluster_seeds_first(c) != c->is_named_first)
        net_loop_defer(c->home, &c->publish);
    if (is_alone(c) && s->state[0] == 0)
        (void)snprintf(s->state, sizeof s->state, "no answer yet");
    give(c);
}

static void ask(struct cluster *c, struct seed *s)
{
    if (s->query != NULL)
        return;
    if (s->is_srv && c->worker != NULL)
        s->query = net_resolve_srv(c->home, c->worker, s->host, NULL, on_answer, s);
    else
        s->query = net_resolve_host(c->home, s->host, s->port, 0, on_answer, s);
}

static void on_timer(void *arg, usec_t now)
{
    struct cluster *c = arg;
    for (size_t i = 0; i < c->seeds.count; i++)
        ask(c, &c->seeds.seed[i]);
    if (c->seeds.cached_count > 0 && is_alone(c))
        give(c);
    net_timer_set(c->home, &c->seeds.timer, now + (is_alone(c) ? ASK_EVERY_ALONE : ASK_EVERY));
}

static void on_report(void *arg, usec_t now)
{
    struct cluster *c = arg;
    struct buf b = {0};
    net_timer_set(c->home, &c->seeds.report, now + REPORT_EVERY);
    if (!is_alone(c) || c->seeds.count == 0 || c->is_leaving)
        return;
    for (size_t i = 0; i < c->seeds.count; i++)
        buf_printf(&b, "%s%s %s", i > 0 ? "; " : "", c->seeds.seed[i].text,
                   c->seeds.seed[i].state[0] != 0 ? c->seeds.seed[i].state : "no answer yet");
    log_line(c->log, LOG_LEVEL_WARN, "cluster.alone", "joined 0 of %zu seeds: %.*s", c->seeds.count,
             (int)b.n, (const char *)b.p);
    buf_deinit(&b);
}

void cluster_seeds_note(struct cluster *c, const struct gossip_addr *addr, const char *what)
{
    for (size_t i = 0; i < c->seeds.count; i++)
        for (unsigned k = 0; k < c->seeds.seed[i].addr_count; k++)
            if (gossip_addr_eq(&c->seeds.seed[i].addr[k], addr))
                (void)snprintf(c->seeds.seed[i].state, sizeof c->seeds.seed[i].state, "%.190s",
                               what);
}

static void add(struct cluster *c, const char *text, uint16_t default_port, bool is_domain)
{
    struct seed *s = &c->seeds.seed[c->seeds.count];
    s->c = c;
    s->text = mem_dup(text, strlen(text));
    s->host = str_of(s->text);
    s->port = default_port;
    s->is_srv = is_domain && text[0] == '_'; /* RFC 2782: _service._proto.name */
    if (!is_domain && net_address_split(str_of(s->text), &s->host, &s->port) != 0) {
        s->host = str_of(s->text);
        s->port = default_port;
    }
    c->seeds.count++;
}

void cluster_seeds_init(struct cluster *c, const struct cluster_host_conf *conf)
{
    size_t max = conf->seed_count + 1;
    c->seeds.seed = mem_new(max * sizeof *c->seeds.seed);
    for (size_t i = 0; i < conf->seed_count; i++)
        add(c, conf->seed[i], net_address_port(&c->addr), false);
    if (conf->domain_name != NULL && conf->domain_name[0] != 0) {
        c->seeds.domain = &c->seeds.seed[c->seeds.count];
        add(c, conf->domain_name, net_address_port(&c->addr), true);
    }
    net_timer_init(&c->seeds.timer, on_timer, c);
    net_timer_init(&c->seeds.report, on_report, c);
    net_timer_set(c->home, &c->seeds.timer, net_loop_now(c->home));
    net_timer_set(c->home, &c->seeds.report, net_loop_now(c->home) + REPORT_FIRST);
}

void cluster_seeds_deinit(struct cluster *c)
{
    net_timer_del(c->home, &c->seeds.timer);
    net_timer_del(c->home, &c->seeds.report);
    for (size_t i = 0; i < c->seeds.count; i++) {
        if (c->seeds.seed[i].query != NULL)
            net_resolve_cancel(c->seeds.seed[i].query);
        mem_free(c->seeds.seed[i].text);
    }
    mem_free(c->seeds.seed);
    mem_free(c->seeds.cached);
}
