/* Where the brokers are.  SPDX-License-Identifier: Apache-2.0
 *
 * Names are looked up once, before the run: what is measured is the broker. */
#include "bench/host.h"

#include <stdio.h>
#include <sysexits.h>

#include "bench/conf.h"
#include "net/loop.h"
#include "net/resolve.h"

#define TURN_USEC (100 * USEC_MSEC)

struct search {
    struct bench_host *host;
    int status;
    bool is_over;
};

bool bench_host_parse(struct str text, struct bench_host *out)
{
    struct str name = text;
    *out = (struct bench_host){.port = 0};
    if (net_address_split(text, &name, &out->port) != 0) {
        if (text.n > 2 && text.p[0] == '[' && text.p[text.n - 1] == ']')
            name = str_view(text.p + 1, text.n - 2);
        else if (text.n > 0 && memchr(text.p, ':', text.n) != NULL)
            return false;
    } else if (out->port == 0) {
        return false;
    }
    if (name.n == 0 || name.n >= sizeof out->name)
        return false;
    str_copy(out->name, sizeof out->name, name);
    return true;
}

static void on_found(void *arg, int status, const struct net_address *address, size_t count)
{
    struct search *s = arg;
    s->is_over = true;
    s->status = status;
    if (status != 0)
        return;
    size_t i = 0;
    while (i < count && address[i].sa.sa_family != AF_INET)
        i++;
    s->host->address = address[i < count ? i : 0];
}

static uint16_t port_of(const struct bench_conf *c)
{
    if (c->ws_path != NULL)
        return c->is_tls ? 8443 : 8080;
    return c->is_tls ? 8883 : 1883;
}

int bench_host_find_all(struct bench_conf *conf, struct net_loop *l)
{
    for (unsigned i = 0; i < conf->host_count; i++) {
        struct bench_host *h = &conf->host[i];
        struct search s = {.host = h};
        if (h->port == 0)
            h->port = port_of(conf);
        (void)net_resolve_host(l, str_of(h->name), h->port, 0, on_found, &s);
        while (!s.is_over)
            net_loop_turn(l, TURN_USEC);
        if (s.status != 0) {
            fprintf(stderr, "bilrost-bench: there is no host %s: %s\n", h->name,
                    strerrordesc_np(-s.status));
            return EX_NOHOST;
        }
    }
    return 0;
}
