/* Addresses of sockets, in 32 bytes.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <netinet/in.h>

#include "base/str.h"

#define NET_ADDRESS_TEXT 64 /* "[v6%scope]:port" or "unix:PID", with the NUL */

struct net_address {
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    uint32_t pid; /* AF_UNIX: the peer's process, or 0 */
};

/* "1.2.3.4:1883", "[::1]:1883".  No names: those go through net/resolve.h.  0 or -EINVAL. */
must_use int net_address_parse(struct str text, struct net_address *out);

/* The same text, and without the port. */
size_t net_address_format(const struct net_address *a, char out[NET_ADDRESS_TEXT]);
size_t net_address_format_host(const struct net_address *a, char out[NET_ADDRESS_TEXT]);

/* 0 for a unix socket. */
uint16_t net_address_port(const struct net_address *a);
void net_address_set_port(struct net_address *a, uint16_t port);
bool net_address_is_loopback(const struct net_address *a);
bool net_address_eq(const struct net_address *a, const struct net_address *b);

/* Splits "host:port", "[v6]:port" or ":port" (host empty) without resolving.  0 or -EINVAL. */
must_use int net_address_split(struct str text, struct str *out_host, uint16_t *out_port);

/* The other way: "host:port", or "[v6]:port" for a host with colons that has no brackets yet.  Never
 * more than n bytes with the NUL; what does not fit is cut off. */
void net_address_join(const char *host, uint16_t port, char *out, size_t n);

/* An address range: "10.0.0.0/8", "fd00::/8", "192.0.2.1", "unix". */
struct net_range {
    struct net_address base;
    unsigned bits;
};

must_use int net_range_parse(struct str text, struct net_range *out);
bool net_range_has(const struct net_range *r, const struct net_address *a);
