/* Name lookups through libevent's resolver, which knows no SRV: those through the system's.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1. A query is answered once, from the loop's top level, or cancelled; then it is freed.
 * 2. `pending` counts the lookups of libevent, and of the worker, that still hold the query; a
 * cancelled query lives until it is 0.
 *
 * Never: calls back before the asking function has returned. */
#include "net/resolve_priv.h"

#include <errno.h>
#include <arpa/nameser.h>
#include <event2/dns.h>
#include <event2/util.h>
#include <netdb.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "net/loop_priv.h"

#define TIMEOUT_USEC (5 * USEC_SEC)
#define SRV_TIMEOUT_USEC (10 * USEC_SEC) /* matters: longer than the worker waits for a server */
#define SRV_WAIT_SEC 2                   /* matters: with SRV_TRIES, how long it holds a thread */
#define SRV_TRIES 2
#define SRV_ANSWER_MAX 8192 /* bytes; matters little: room for far more than TARGETS_MAX records   \
                             */
#define TARGETS_MAX 16

struct net_resolve {
    struct net_loop *loop;
    net_resolve_fn *fn;
    void *arg;
    struct net_timer timer;
    struct net_defer answer;
    struct net_address found[NET_RESOLVE_COUNT_MAX];
    size_t count;
    unsigned pending;
    int status;
    bool is_over;
};

static void query_free(struct net_resolve *r)
{
    net_timer_del(r->loop, &r->timer);
    net_defer_del(&r->answer);
    mem_free(r);
}

static void on_answer(void *arg)
{
    struct net_resolve *r = arg;
    if (!r->is_over) {
        r->is_over = true;
        net_timer_del(r->loop, &r->timer);
        r->fn(r->arg, r->count ? 0 : r->status, r->found, r->count);
    }
    if (r->pending == 0)
        query_free(r);
}

static void finish(struct net_resolve *r)
{
    if (r->pending == 0 || !r->is_over)
        net_loop_defer(r->loop, &r->answer);
}

static void on_timeout(void *arg, usec_t now)
{
    (void)now;
    struct net_resolve *r = arg;
    r->status = -ETIMEDOUT;
    finish(r);
}

static int status_of(int e)
{
    if (e == EVUTIL_EAI_NONAME || e == EVUTIL_EAI_NODATA)
        return -ENOENT;
    return -EAGAIN;
}

static void on_host(int e, struct evutil_addrinfo *list, void *arg)
{
    struct net_resolve *r = arg;
    net_loop_open(r->loop);
    for (struct evutil_addrinfo *i = list; i && r->count < NET_RESOLVE_COUNT_MAX; i = i->ai_next) {
        struct net_address *a = &r->found[r->count];
        memset(a, 0, sizeof *a);
        if (i->ai_addrlen > sizeof a->v6)
            continue;
        memcpy(&a->v6, i->ai_addr, i->ai_addrlen);
        r->count++;
    }
    if (list)
        evutil_freeaddrinfo(list);
    if (e)
        r->status = status_of(e);
    if (--r->pending == 0)
        finish(r);
}

static struct evdns_base *dns_of(struct net_loop *l)
{
    if (!l->dns)
        l->dns = evdns_base_new(l->base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
                                             EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    return l->dns;
}

void net_resolve_loop_deinit(struct net_loop *l)
{
    if (l->dns)
        evdns_base_free(l->dns, 0);
    l->dns = NULL;
}

static struct net_resolve *query_new(struct net_loop *l, usec_t timeout_usec, net_resolve_fn *fn,
                                     void *arg)
{
    struct net_resolve *r = mem_new(sizeof *r);
    r->loop = l;
    r->fn = fn;
    r->arg = arg;
    r->status = -ENOENT;
    net_defer_init(&r->answer, on_answer, r);
    net_timer_init(&r->timer, on_timeout, r);
    net_timer_set(l, &r->timer, usec_add(l->now, timeout_usec ? timeout_usec : TIMEOUT_USEC));
    return r;
}

static void ask_host(struct net_resolve *r, const char *host, uint16_t port)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC,
                                    .ai_socktype = SOCK_STREAM,
                                    .ai_protocol = IPPROTO_TCP,
                                    .ai_flags = EVUTIL_AI_NUMERICSERV};
    struct evdns_base *dns = dns_of(r->loop);
    r->pending++;
    if (dns)
        (void)evdns_getaddrinfo(dns, host, service, &hints, on_host, r);
    else
        on_host(EVUTIL_EAI_AGAIN, NULL, r);
}

struct net_resolve *net_resolve_host(struct net_loop *l, struct str host, uint16_t port,
                                     usec_t timeout_usec, net_resolve_fn *fn, void *arg)
{
    struct net_resolve *r = query_new(l, timeout_usec, fn, arg);
    char z[256];
    if (host.n == 0 || host.n >= sizeof z) {
        finish(r);
        return r;
    }
    str_copy(z, sizeof z, host);
    ask_host(r, z, port);
    return r;
}

/* SRV. */

struct srv {
    struct net_worker_job job;
    struct net_resolve *query;
    char name[NS_MAXDNAME];
    bool has_server;
    struct sockaddr_in server;
    int status;
    size_t count;
    struct {
        char host[NS_MAXDNAME];
        uint16_t port;
    } target[TARGETS_MAX];
};

/* What is no record, or too short for one, is passed over. */
static void srv_read(struct srv *s, const unsigned char *answer, int len)
{
    ns_msg m;
    ns_rr rr;
    if (ns_initparse(answer, len, &m) != 0)
        return;
    for (int i = 0; i < ns_msg_count(m, ns_s_an) && s->count < TARGETS_MAX; i++) {
        if (ns_parserr(&m, ns_s_an, i, &rr) != 0)
            return;
        if (ns_rr_type(rr) != ns_t_srv || ns_rr_rdlen(rr) < 7)
            continue;
        const unsigned char *data = ns_rr_rdata(rr); /* priority, weight, port, target */
        char *host = s->target[s->count].host;
        if (ns_name_uncompress(ns_msg_base(m), ns_msg_end(m), data + 6, host, NS_MAXDNAME) < 0 ||
            host[0] == 0 || strcmp(host, ".") == 0)
            continue;
        s->target[s->count++].port = (uint16_t)(data[4] << 8 | data[5]);
    }
}

static void srv_work(struct net_worker_job *job)
{
    struct srv *s = container_of(job, struct srv, job);
    struct __res_state state;
    unsigned char answer[SRV_ANSWER_MAX];
    memset(&state, 0, sizeof state);
    if (res_ninit(&state) != 0)
        return;
    state.retrans = SRV_WAIT_SEC;
    state.retry = SRV_TRIES;
    if (s->has_server) {
        state.nscount = 1;
        state.nsaddr_list[0] = s->server;
    }
    int n = res_nquery(&state, s->name, ns_c_in, ns_t_srv, answer, sizeof answer);
    if (n > 0 && n <= (int)sizeof answer)
        srv_read(s, answer, n);
    if (s->count > 0 || state.res_h_errno == HOST_NOT_FOUND || state.res_h_errno == NO_DATA)
        s->status = -ENOENT;
    res_nclose(&state);
}

static void srv_done(struct net_worker_job *job)
{
    struct srv *s = container_of(job, struct srv, job);
    struct net_resolve *r = s->query;
    r->status = s->status;
    for (size_t i = 0; i < s->count && !r->is_over; i++)
        ask_host(r, s->target[i].host, s->target[i].port);
    if (--r->pending == 0)
        finish(r);
    mem_free(s);
}

struct net_resolve *net_resolve_srv(struct net_loop *l, struct net_worker *worker, struct str name,
                                    const struct net_address *server, net_resolve_fn *fn, void *arg)
{
    struct net_resolve *r = query_new(l, SRV_TIMEOUT_USEC, fn, arg);
    struct srv *s = mem_new(sizeof *s);
    s->query = r;
    s->status = -EAGAIN;
    s->has_server = server != NULL;
    if (server != NULL)
        s->server = server->v4;
    bool fits = name.n > 0 && name.n < sizeof s->name;
    if (fits)
        str_copy(s->name, sizeof s->name, name);
    if (!fits || net_worker_push(worker, l, &s->job, srv_work, srv_done) != 0) {
        r->status = fits ? -EAGAIN : -ENOENT;
        mem_free(s);
        finish(r);
        return r;
    }
    r->pending++;
    return r;
}

void net_resolve_cancel(struct net_resolve *r)
{
    r->is_over = true;
    net_timer_del(r->loop, &r->timer);
    if (r->pending == 0)
        net_loop_defer(r->loop, &r->answer);
}
