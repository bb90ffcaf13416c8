/* A place where clients come in, spread over the loops.  SPDX-License-Identifier: Apache-2.0
 *
 * One loop accepts, and each connection goes to the loop with the fewest of them, for life.  (Not
 * SO_REUSEPORT: a second process on a busy port must fail, and a handful of busy clients must not
 * end on one loop by bad luck.) */
#pragma once

#include "net/stream.h"

enum net_listener_kind {
    NET_LISTENER_TCP,
    NET_LISTENER_UNIX,
    NET_LISTENER_FD, /* a listening socket that was handed over (systemd) */
};

struct net_listener;

struct net_listener_conf {
    enum net_listener_kind kind;
    const char *address; /* TCP: "host:port", host an address, empty or "*" for all (both families);
                            UNIX: the path */
    int fd;              /* FD: taken also on failure */
    bool is_waiting; /* accepts from net_listener_begin on: who comes before waits in the backlog */
    unsigned unix_mode;      /* UNIX: permission of the socket; 0: 0660 */
    const char *unix_group;  /* UNIX: may be NULL */
    struct net_tls *tls;     /* NULL: plain; a ref is taken */
    const char *ws_path;     /* NULL: no WebSocket; "/path" */
    const char *ws_protocol; /* subprotocol the client must offer; comma separated: any of them */
    int backlog;             /* 0: 4096 */
    size_t connection_count_max; /* of this listener; 0: no limit.  Beyond it accepted and closed at
                                    once, counted */
    unsigned connect_per_sec_max;       /* 0: no limit.  Beyond it they wait in the backlog */
    const struct net_range *proxy_from; /* PROXY protocol v1/v2 is required from these addresses and
                                           refused from others */
    size_t proxy_from_count;            /* 0: no PROXY protocol */
    struct net_stream_limits limits;    /* copied */
    struct net_loop *const *loop;       /* where the connections live; copied */
    size_t loop_count;
    /* On the connection's own loop, when it is ready for its first byte (after PROXY, TLS and
     * WebSocket handshakes).  It must call net_stream_set, or the stream is closed. */
    void (*accepted)(void *arg, struct net_loop *here, struct net_stream *s);
    void *arg;
    const struct log *log;
};

#define NET_LISTENER_ERROR_MAX 256

/* Listens; connections are accepted from the next turn of accept_loop.  0, or -errno with one plain
 * sentence in out_error
 * (-EADDRINUSE, -EACCES, -EINVAL ...). */
must_use int net_listener_new(struct net_loop *accept_loop, const struct net_listener_conf *conf,
                              char out_error[NET_LISTENER_ERROR_MAX],
                              struct net_listener **out_listener);

/* One that is_waiting accepts from now on; else nothing.  On accept_loop's thread. */
void net_listener_begin(struct net_listener *n);

/* Stops accepting (drain); connections live on.  On accept_loop's thread. */
void net_listener_stop(struct net_listener *n);

/* Its connections are gone or no longer count.  On accept_loop's thread.  NULL is fine; returns
 * NULL. */
struct net_listener *net_listener_free(struct net_listener *n);

/* Where it listens really (port 0 in the configuration: the one that was chosen). */
const struct net_address *net_listener_address(const struct net_listener *n);

/* Changes of a live listener, for connections that come later.  On accept_loop's thread. */
void net_listener_set_rate(struct net_listener *n, unsigned connect_per_sec_max);
void net_listener_set_count(struct net_listener *n, size_t connection_count_max);

struct net_listener_stats {
    uint64_t accepted_count;
    uint64_t refused_full_count;     /* connection_count_max */
    uint64_t refused_proxy_count;    /* bad, missing or unwanted PROXY header */
    uint64_t failed_handshake_count; /* TLS, WebSocket, too slow */
    uint64_t accept_error_count;     /* no descriptors left and the like */
    uint64_t connection_count;       /* now */
};
/* Any thread. */
struct net_listener_stats net_listener_stats(struct net_listener *n);
