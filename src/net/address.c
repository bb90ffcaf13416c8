/* Socket addresses as text and as ranges.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: asks a name server. */
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

int net_address_split(struct str text, struct str *out_host, uint16_t *out_port)
{
    size_t colon = text.n;
    while (colon > 0 && text.p[colon - 1] != ':')
        colon--;
    if (colon == 0)
        return -EINVAL;
    struct str host = str_view(text.p, colon - 1);
    uint64_t port;
    if (!str_to_u64(str_view(text.p + colon, text.n - colon), &port) || port > UINT16_MAX)
        return -EINVAL;
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = str_view(host.p + 1, host.n - 2);
    else if (host.n && memchr(host.p, ':', host.n))
        return -EINVAL; /* a v6 address without brackets: which colon is the port's? */
    *out_host = host;
    *out_port = (uint16_t)port;
    return 0;
}

static int host_parse(struct str host, struct net_address *out)
{
    char z[INET6_ADDRSTRLEN + 1];
    memset(out, 0, sizeof *out);
    if (host.n >= sizeof z)
        return -EINVAL;
    str_copy(z, sizeof z, host);
    if (inet_pton(AF_INET, z, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        return 0;
    }
    if (inet_pton(AF_INET6, z, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        return 0;
    }
    return -EINVAL;
}

int net_address_parse(struct str text, struct net_address *out)
{
    struct str host;
    uint16_t port;
    if (net_address_split(text, &host, &port) || host_parse(host, out))
        return -EINVAL;
    net_address_set_port(out, port);
    return 0;
}

size_t net_address_format_host(const struct net_address *a, char out[NET_ADDRESS_TEXT])
{
    out[0] = 0;
    if (a->sa.sa_family == AF_INET)
        inet_ntop(AF_INET, &a->v4.sin_addr, out, NET_ADDRESS_TEXT);
    else if (a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
        inet_ntop(AF_INET, &a->v6.sin6_addr.s6_addr[12], out, NET_ADDRESS_TEXT);
    else if (a->sa.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &a->v6.sin6_addr, out, NET_ADDRESS_TEXT);
    else
        snprintf(out, NET_ADDRESS_TEXT, "unix");
    return strlen(out);
}

void net_address_join(const char *host, uint16_t port, char *out, size_t n)
{
    bool is_bare_v6 = strchr(host, ':') != NULL && host[0] != '[';
    (void)snprintf(out, n, is_bare_v6 ? "[%s]:%u" : "%s:%u", host, port);
}

size_t net_address_format(const struct net_address *a, char out[NET_ADDRESS_TEXT])
{
    char host[NET_ADDRESS_TEXT];
    (void)net_address_format_host(a, host);
    if (a->sa.sa_family == AF_UNIX || a->sa.sa_family == AF_UNSPEC)
        snprintf(out, NET_ADDRESS_TEXT, "unix:%u", a->pid);
    else
        net_address_join(host, net_address_port(a), out, NET_ADDRESS_TEXT);
    return strlen(out);
}

uint16_t net_address_port(const struct net_address *a)
{
    if (a->sa.sa_family == AF_INET)
        return ntohs(a->v4.sin_port);
    return a->sa.sa_family == AF_INET6 ? ntohs(a->v6.sin6_port) : 0;
}

void net_address_set_port(struct net_address *a, uint16_t port)
{
    if (a->sa.sa_family == AF_INET)
        a->v4.sin_port = htons(port);
    else if (a->sa.sa_family == AF_INET6)
        a->v6.sin6_port = htons(port);
}

/* The address as 16 bytes, IPv4 mapped into IPv6, so that a client that comes over a dual socket is
 * the same one. */
static void as_v6(const struct net_address *a, uint8_t out[16])
{
    memset(out, 0, 16);
    if (a->sa.sa_family == AF_INET) {
        out[10] = out[11] = 0xff;
        memcpy(out + 12, &a->v4.sin_addr, 4);
    } else if (a->sa.sa_family == AF_INET6) {
        memcpy(out, &a->v6.sin6_addr, 16);
    }
}

bool net_address_is_loopback(const struct net_address *a)
{
    uint8_t b[16];
    if (a->sa.sa_family == AF_UNIX)
        return true;
    if (a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr))
        return true;
    as_v6(a, b);
    return b[10] == 0xff && b[11] == 0xff && b[12] == 127;
}

bool net_address_eq(const struct net_address *a, const struct net_address *b)
{
    uint8_t x[16], y[16];
    if ((a->sa.sa_family == AF_UNIX) != (b->sa.sa_family == AF_UNIX))
        return false;
    as_v6(a, x);
    as_v6(b, y);
    return memcmp(x, y, 16) == 0 && net_address_port(a) == net_address_port(b);
}

int net_range_parse(struct str text, struct net_range *out)
{
    memset(out, 0, sizeof *out);
    if (str_eq(text, STR("unix"))) {
        out->base.sa.sa_family = AF_UNIX;
        return 0;
    }
    const char *slash = text.n ? memchr(text.p, '/', text.n) : NULL;
    struct str host = slash ? str_view(text.p, (size_t)(slash - text.p)) : text;
    if (host_parse(host, &out->base))
        return -EINVAL;
    unsigned max = out->base.sa.sa_family == AF_INET ? 32 : 128;
    uint64_t bits = max;
    if (slash && (!str_to_u64(str_view(slash + 1, text.n - host.n - 1), &bits) || bits > max))
        return -EINVAL;
    out->bits = (unsigned)bits + (max == 32 ? 96 : 0);
    return 0;
}

bool net_range_has(const struct net_range *r, const struct net_address *a)
{
    uint8_t x[16], y[16];
    if (r->base.sa.sa_family == AF_UNIX || a->sa.sa_family == AF_UNIX)
        return r->base.sa.sa_family == a->sa.sa_family;
    as_v6(&r->base, x);
    as_v6(a, y);
    unsigned whole = r->bits / 8, rest = r->bits % 8;
    if (memcmp(x, y, whole) != 0)
        return false;
    return rest == 0 || ((x[whole] ^ y[whole]) >> (8 - rest)) == 0;
}
