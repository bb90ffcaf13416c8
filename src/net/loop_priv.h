/* The inside of a loop, for this room.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "net/loop.h"

struct evdns_base;
struct net_stream_out_block;

/* Mails of this turn for one other loop, newest first, as its inbound stack wants them. */
struct net_loop_lane {
    struct net_loop *to;
    struct net_mail *newest, *oldest;
};

/* What was unlinked in one turn, and where the other loops were at its end. */
struct net_reclaim_batch {
    struct net_reclaim *first;
    struct net_reclaim_batch *next;
    unsigned count;
    uint64_t seen[]; /* by loop index */
};

struct net_loop {
    struct event_base *base;
    const struct log *log;
    struct net_grace *grace;
    unsigned index;
    bool is_open; /* within a turn: the clocks are read */
    bool is_own_grace;
    bool has_mail; /* in some lane */
    usec_t now, wall;

    struct heap timers;
    struct event alarm; /* libevent's only timer of ours */
    usec_t alarm_at;
    struct list deferred;

    struct list flush;    /* streams with output (net_stream.flush) */
    struct list later;    /* streams that owe a callback (net_stream.later) */
    struct list homeless; /* streams without an owner (net_stream.flush) */
    struct list closing;  /* streams whose last bytes leave (net_stream_extra.closing) */
    struct net_stream_out_block *out_free;
    size_t out_free_count;
    struct buf swallow; /* where output of ended streams goes */
    uint8_t *read_buffer;
    size_t read_buffer_bytes;
    size_t stream_count;

    struct net_loop_lane *lane; /* by loop index */
    size_t lane_count;
    struct net_reclaim *reclaim; /* of this turn, newest first */
    struct net_reclaim_batch *grace_first, *grace_last;

    struct arena arena;
    struct rng rng;
    struct evdns_base *dns; /* made when first needed */
    pthread_t thread;
    struct event wake;
    int wake_fd;

    _Atomic(pthread_t) runner;
    _Atomic uint64_t turn_count;
    _Atomic usec_t turn_longest[2]; /* of the even and of the odd spans of time */
    _Atomic uint64_t turn_span;     /* number of the span in which a turn last ended */
    _Atomic usec_t turn_began;

    /* What other threads write, away from the rest. */
    _Alignas(64) _Atomic(struct net_mail *) inbound; /* newest first */
    _Atomic int is_asleep;
    _Atomic int is_stopping;
};

/* First thing in each callback of libevent: opens the turn if none is open. */
void net_loop_open(struct net_loop *l);

/* The streams' parts of a turn (stream.c). */
void net_loop_later(struct net_loop *l);
void net_loop_flush(struct net_loop *l);
void net_loop_homeless_free(struct net_loop *l);
void net_loop_out_free(struct net_loop *l);
