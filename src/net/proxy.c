/* PROXY protocol.  SPDX-License-Identifier: Apache-2.0
 *
 * The header is looked at in the kernel's buffer (MSG_PEEK) and then taken exactly, so that TLS can
 * begin behind it; the low water mark of the socket is moved up as more is needed, so that looking
 * again and again costs nothing.
 *
 * Never: decides who may send one (listener.c). */
#include "net/proxy_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

#include "net/stream_priv.h"

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                      0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

#define V1_MAX 107

static bool host_of(struct str text, int family, struct net_address *out)
{
    char z[INET6_ADDRSTRLEN];
    if (text.n == 0 || text.n >= sizeof z)
        return false;
    str_copy(z, sizeof z, text);
    out->sa.sa_family = (sa_family_t)family;
    void *at = family == AF_INET ? (void *)&out->v4.sin_addr : (void *)&out->v6.sin6_addr;
    return inet_pton(family, z, at) == 1;
}

/* "PROXY TCP4 src dst sport dport" without the line end. */
static int v1_line(struct str line, struct net_address *out)
{
    struct str part[6];
    size_t count = 0;
    for (struct str p; str_next(&line, ' ', &p); count++) {
        if (count == countof(part))
            return NET_PROXY_E_BAD;
        part[count] = p;
    }
    if (count >= 2 && str_eq(part[1], STR("UNKNOWN")))
        return 0;
    if (count != 6)
        return NET_PROXY_E_BAD;
    int family = str_eq(part[1], STR("TCP4"))   ? AF_INET
                 : str_eq(part[1], STR("TCP6")) ? AF_INET6
                                                : 0;
    struct net_address src = {0}, dst = {0};
    uint64_t sport, dport;
    if (!family || !host_of(part[2], family, &src) || !host_of(part[3], family, &dst) ||
        !str_to_u64(part[4], &sport) || !str_to_u64(part[5], &dport) || sport > UINT16_MAX ||
        dport > UINT16_MAX)
        return NET_PROXY_E_BAD;
    net_address_set_port(&src, (uint16_t)sport);
    *out = src;
    return 0;
}

static int v1_decode(const uint8_t *p, size_t n, struct net_address *out, size_t *out_used)
{
    size_t look = n < V1_MAX ? n : V1_MAX;
    const uint8_t *nl = memchr(p, '\n', look);
    if (!nl)
        return n >= V1_MAX ? NET_PROXY_E_BAD : NET_PROXY_E_MORE;
    if (nl == p || nl[-1] != '\r')
        return NET_PROXY_E_BAD;
    *out_used = (size_t)(nl - p) + 1;
    return v1_line(str_view(p, *out_used - 2), out);
}

static int v2_decode(const uint8_t *p, size_t n, struct net_address *out, size_t *out_used)
{
    if (n < 16)
        return NET_PROXY_E_MORE;
    size_t len = (size_t)p[14] << 8 | p[15];
    if ((p[12] >> 4) != 2 || 16 + len > NET_PROXY_HEAD_MAX)
        return NET_PROXY_E_BAD;
    if (n < 16 + len)
        return NET_PROXY_E_MORE;
    *out_used = 16 + len;
    unsigned command = p[12] & 15u, family = p[13];
    if (command == 0)
        return NET_PROXY_E_LOCAL;
    if (command != 1)
        return NET_PROXY_E_BAD;
    struct net_address a = {0};
    if (family == 0x11 && len >= 12) {
        a.v4.sin_family = AF_INET;
        memcpy(&a.v4.sin_addr, p + 16, 4);
        memcpy(&a.v4.sin_port, p + 24, 2);
    } else if (family == 0x21 && len >= 36) {
        a.v6.sin6_family = AF_INET6;
        memcpy(&a.v6.sin6_addr, p + 16, 16);
        memcpy(&a.v6.sin6_port, p + 48, 2);
    } else if (family == 0x00 || (family >> 4) == 3) {
        return 0; /* unspecified, or a unix socket at the proxy: nothing to learn */
    } else {
        return NET_PROXY_E_BAD;
    }
    *out = a;
    return 0;
}

int net_proxy_decode(const uint8_t *p, size_t n, struct net_address *out, size_t *out_used)
{
    size_t cmp = n < sizeof signature ? n : sizeof signature;
    if (memcmp(p, signature, cmp) == 0)
        return cmp < sizeof signature ? NET_PROXY_E_MORE : v2_decode(p, n, out, out_used);
    cmp = n < 6 ? n : 6;
    if (memcmp(p, "PROXY ", cmp) == 0)
        return cmp < 6 ? NET_PROXY_E_MORE : v1_decode(p, n, out, out_used);
    return NET_PROXY_E_BAD;
}

void net_proxy_step(struct net_stream *s)
{
    uint8_t head[NET_PROXY_HEAD_MAX];
    ssize_t n = recv(s->fd, head, sizeof head, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        net_stream_end(s, NET_STREAM_END_PEER, n < 0 ? -errno : 0);
        return;
    }
    size_t used = 0;
    int r = net_proxy_decode(head, (size_t)n, &s->peer, &used);
    if (r == NET_PROXY_E_MORE) {
        int more = (int)n + 1; /* do not wake for what we have seen */
        (void)setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &more, sizeof more);
        return;
    }
    if (r) {
        net_stream_end(s, NET_STREAM_END_ERROR, r == NET_PROXY_E_LOCAL ? 0 : -EPROTO);
        return;
    }
    int one = 1;
    (void)setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    must(recv(s->fd, head, used, 0) == (ssize_t)used);
    net_stream_advance(s);
}
