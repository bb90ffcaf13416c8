/* PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt).  SPDX-License-Identifier:
 * Apache-2.0 */
#pragma once

#include "net/address.h"

struct net_stream;

enum net_proxy_outcome {
    NET_PROXY_E_MORE = 1,  /* so far it could be one */
    NET_PROXY_E_BAD = 2,   /* it is none */
    NET_PROXY_E_LOCAL = 3, /* the proxy speaks for itself: a health check */
};

#define NET_PROXY_HEAD_MAX                                                                         \
    1024 /* version 1 has at most 107; version 2 with its extras fits in practice */

/* Reads the header at the front of n bytes.  0: *out_used bytes are the header and *out is the
 * client (unchanged when the proxy does not know it: v1 UNKNOWN, v2 UNSPEC). */
must_use int net_proxy_decode(const uint8_t *p, size_t n, struct net_address *out,
                              size_t *out_used);

/* Stage PROXY of an accepted stream: reads exactly the header. */
void net_proxy_step(struct net_stream *s);
