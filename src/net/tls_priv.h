/* TLS of one connection, for the stream.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

#include "net/stream.h"
#include "net/tls.h"

struct net_tls_link;

/* On a connected, non-blocking descriptor that stays the caller's.  name: SNI and whom to expect
 * (client). */
struct net_tls_link *net_tls_link_new(struct net_tls *t, int fd, const char *name) must_use;
struct net_tls_link *net_tls_link_free(struct net_tls_link *k);

/* 0: done; -EAGAIN: wait for *out_events (NET_WATCH_READ or WRITE); -EPROTO. */
must_use int net_tls_link_handshake(struct net_tls_link *k, unsigned *out_events);

/* Bytes, 0 at the end, -EAGAIN, -errno.  Reads until cap is full or nothing is left. */
must_use ssize_t net_tls_link_read(struct net_tls_link *k, void *p, size_t cap);
must_use ssize_t net_tls_link_write(struct net_tls_link *k, const void *p, size_t n);

/* Tells the peer that no more comes. */
void net_tls_link_shutdown(struct net_tls_link *k);

/* Did the handshake fail because nobody whom we trust vouches for the other side's certificate? */
bool net_tls_link_is_distrusted(const struct net_tls_link *k);

/* Static text, or "" while nothing went wrong. */
const char *net_tls_link_error(const struct net_tls_link *k);
bool net_tls_link_identity(struct net_tls_link *k, struct net_stream_identity *out);
const char *net_tls_link_version(const struct net_tls_link *k);
struct str net_tls_link_name(const struct net_tls_link *k);

/* Has decrypted or buffered bytes that the kernel will not announce. */
bool net_tls_link_has_pending(const struct net_tls_link *k);

/* tls.c: a fresh SSL (OpenSSL's) with the certificates of now. */
void *net_tls_ssl_new(struct net_tls *t) must_use;
bool net_tls_is_server(const struct net_tls *t);
bool net_tls_checks_name(const struct net_tls *t);
