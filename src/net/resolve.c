/* Name lookups through libevent's resolver.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A query is answered once, from the loop's top level, or cancelled; then it is freed.
 * 2. `pending` counts the lookups of libevent that still hold the query; a cancelled query lives
 * until it is 0.
 *
 * Never: calls back before the asking function has returned. */
#include "net/resolve_priv.h"

#include <errno.h>
#include <event2/dns.h>
#include <event2/util.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "net/loop_priv.h"

#define TIMEOUT_USEC (5 * USEC_SEC)
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

void net_resolve_cancel(struct net_resolve *r)
{
    r->is_over = true;
    net_timer_del(r->loop, &r->timer);
    if (r->pending == 0)
        net_loop_defer(r->loop, &r->answer);
}
