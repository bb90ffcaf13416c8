/* A UDP socket.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "net/address.h"
#include "net/loop.h"

#define NET_DGRAM_MAX 65507

struct net_dgram;

struct net_dgram_conf {
    struct net_address bind;
    /* One packet; p is valid during the call, which must not free the socket. */
    void (*received)(void *arg, const struct net_address *from, const uint8_t *p, size_t n);
    void *arg;
    size_t socket_buffer_bytes; /* 0: the system's */
};

/* 0 or -errno. */
must_use int net_dgram_new(struct net_loop *l, const struct net_dgram_conf *conf,
                           struct net_dgram **out_dgram);
struct net_dgram *net_dgram_free(struct net_dgram *d);

/* At once; 0, or -errno.  A full socket buffer loses the packet and is -EAGAIN: datagrams may be
 * lost anyway. */
must_use int net_dgram_send(struct net_dgram *d, const struct net_address *to, const void *p,
                            size_t n);

const struct net_address *net_dgram_address(const struct net_dgram *d);

struct net_dgram_stats {
    uint64_t received_count, received_bytes, sent_count, sent_bytes, send_failed_count;
};
struct net_dgram_stats net_dgram_stats(const struct net_dgram *d);
