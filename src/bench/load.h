/* A scenario being played.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "bench/client.h"
#include "bench/hist.h"
#include "bench/track.h"

enum bench_phase {
    BENCH_PHASE_CONNECT, /* clients connect and subscribe */
    BENCH_PHASE_RUN,     /* messages flow */
    BENCH_PHASE_DRAIN,   /* nothing new is published; what is under way arrives */
    BENCH_PHASE_DONE,
};

struct bench_result {
    usec_t connect_usec; /* from the first connect to the last client ready */
    usec_t run_usec;     /* from the first message to the end of the run, without the drain */
    usec_t drain_usec;   /* offline, retain: the reading part */
    usec_t first_usec;   /* retain: from SUBSCRIBE to the first message */
    uint64_t published, acked, received;
    uint64_t received_in_run; /* until publishing stopped */
    uint64_t refused; /* failover: what the broker said it did not take; it may still come */
    uint64_t lost, duplicate, reordered;
    uint64_t stray; /* came, but this run did not send them there: left over from another */
    uint64_t cpu_usec, cpu_self_usec; /* of --pid, of this process, during the run and drain */
    uint64_t connections_lost,
        sessions_lost; /* sessions_lost: persistent ones that the broker forgot */
    const char *error; /* a sentence: the run failed; NULL: it did not */
};

/* Failover: one publisher and its subscriber. */
struct bench_pair {
    usec_t broken_at; /* when the first connection of it was lost; 0: messages flow */
    struct bench_retry {
        struct net_timer timer;
        struct bench_load *load;
        struct bench_client *client;
    } retry[2]; /* publisher, subscriber */
};

struct bench_load {
    const struct bench_conf *conf;
    struct net_loop *loop;
    struct net_tls *tls;
    uint32_t run; /* stands in every payload */
    enum bench_phase phase;
    struct bench_client *publisher, *subscriber;
    struct bench_track *track;
    size_t track_count;
    struct bench_hist hist;
    struct bench_hist outage; /* failover: from a pair's lost connection to its next message */
    struct bench_pair *pair;  /* failover */
    struct bench_result result;
    uint32_t connect_next, ready_count; /* of all clients, publishers last */
    struct list dirty;                  /* publishers that may go on */
    struct net_defer pump;
    struct net_timer timer;
    usec_t ping_at;     /* then the next share of the clients says PINGREQ */
    uint32_t ping_next; /* whose turn it is */
    usec_t moved_at;    /* when the broker last said something of this run's messages */
    usec_t late_at;     /* when a closed loop last went on without what had not come */
    usec_t started, run_began, run_ends, phase_ends;
    uint64_t rate_given;          /* messages allowed so far by --rate */
    uint32_t rate_next;           /* publisher whose turn it is */
    uint64_t cpu_at, cpu_self_at; /* when the run began */
    uint8_t *payload;             /* scratch of conf->size bytes */
    uint32_t round; /* offline: 0 subscribe and leave, 1 fill, 2 drain; retain: 0 set, 1 read */
    usec_t round_began;
};

/* Plays it to its end on loop, calling progress about once a second; fills load->result. */
void bench_load_play(struct bench_load *l, const struct bench_conf *conf, struct net_loop *loop,
                     struct net_tls *tls, void (*progress)(const struct bench_load *l));

/* Ends the run before its time: what is under way is still waited for.  Before or after: nothing.
 */
void bench_load_end(struct bench_load *l);
void bench_load_deinit(struct bench_load *l);

/* Publisher p sends its message number seq (again). */
void bench_load_send(struct bench_load *l, struct bench_client *p, uint64_t seq, bool is_dup);
