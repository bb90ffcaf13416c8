/* Names to addresses, without blocking the loop.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "net/address.h"
#include "net/loop.h"
#include "net/worker.h"

#define NET_RESOLVE_COUNT_MAX 64

struct net_resolve; /* one query */

/* status: 0 and count >= 1; or -ENOENT (no such name), -EAGAIN (the servers fail), -ETIMEDOUT,
 * -ECANCELED.  The array is valid during the call; the query is freed after it.  Never called from
 * within net_resolve_host. */
typedef void net_resolve_fn(void *arg, int status, const struct net_address *address, size_t count);

/* A and AAAA of host, through /etc/hosts and the system's resolver; the port is set in each
 * address.  A numeric host is answered too.  At most timeout_usec (0: 5 s). */
struct net_resolve *net_resolve_host(struct net_loop *l, struct str host, uint16_t port,
                                     usec_t timeout_usec, net_resolve_fn *fn, void *arg);

/* The addresses of the targets of name's SRV records (RFC 2782), each with the port of its record;
 * of at most 16 records, in no order.  The records are asked for on a thread of worker, which waits
 * some seconds at the most.  server: an IPv4 name server, NULL: the system's.  At most 10 s. */
struct net_resolve *net_resolve_srv(struct net_loop *l, struct net_worker *worker, struct str name,
                                    const struct net_address *server, net_resolve_fn *fn,
                                    void *arg);

/* No call any more. */
void net_resolve_cancel(struct net_resolve *r);
