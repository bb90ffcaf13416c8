/* Two ends of one connection through a listener.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "net/listener.h"
#include "net/stream.h"
#include "unit/net/net.h"

struct end { /* one side of a connection */
    struct net_stream *s;
    struct buf got;
    size_t take_max; /* read() uses up at most this a call; 0: all */
    bool is_echo, is_open, is_closed, is_drained, hold;
    enum net_stream_end why;
    char error[128];
    unsigned reads;
};

extern const struct net_stream_ops pair_ops;
extern struct end pair_server, pair_client;
extern struct net_loop *pair_loop;
extern struct net_listener *pair_listener;

/* conf.address NULL: a free port of loopback. */
void pair_listen(struct net_listener_conf conf);
void pair_accepted(void *arg, struct net_loop *here, struct net_stream *s);
void pair_dial(struct net_stream_conf conf);
/* Ends both, frees all. */
void pair_finish(void);
