/* A network of gossip machines: packets that get lost, streams, cuts, crashes, stalls, crooked
 * clocks. SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "gossip/gossip.h"
#include "sim/lib/world.h"

#define NET_NODES_MAX 400

struct net_node {
    struct gossip *g; /* NULL: not running */
    struct world_event timer;
    struct uuid uuid;
    struct gossip_addr addr;
    uint64_t epoch;
    uint16_t version_min, version_max; /* 0: 1 */
    int64_t skew;                      /* its wall clock against the true one, usec */
    uint32_t loss_million;             /* of packets from and to it */
    usec_t stalled_until;              /* SIGSTOP: nothing is read, no timer fires */
    unsigned group;                    /* only nodes of one group reach each other */
    bool is_mute, is_deaf;             /* one-way loss */
    unsigned life;                     /* counts starts: what was sent to an earlier life is lost */
    uint64_t streams;
    unsigned alive_seen, dead_seen, left_seen, isolated_seen, duplicate_seen, gone_seen;
};

struct net_stream_end {
    unsigned node;
    uint64_t id; /* as that machine calls it */
};

/* The most that one node has believed of another: it must never take a step back. */
struct net_belief {
    uint64_t epoch;
    uint32_t inc;
    unsigned state, life;
};

struct gossip_net {
    struct net_belief belief[NET_NODES_MAX][NET_NODES_MAX];
    struct world *w;
    struct net_node node[NET_NODES_MAX];
    unsigned count;
    uint32_t loss_million;
    bool is_one_host;     /* set before gossip_net_init: one address with many ports */
    unsigned check_every; /* steps between two gossip_check of everything */
    uint64_t steps, packets, false_deaths;
    bool cut[2]; /* scenario's own: see cut_a, cut_b */
    unsigned cut_a, cut_b;
    bool udp_blocked; /* streams only, to and from cut_a */
    struct {
        struct net_stream_end a, b;
        unsigned life_a, life_b;
        bool is_open; /* the other end has heard of it */
    } * stream;
    size_t stream_count, stream_cap;
    struct gossip_out out;
    /* called with each effect, before it is carried out; may be NULL */
    void (*watch)(struct gossip_net *n, unsigned node, const struct gossip_effect *e);
    /* scenario's view of who should be considered alive: for counting false deaths */
    bool is_merging;   /* the scenario's own */
    bool expect_quiet; /* any DEAD of a running node is a failure */
};

void gossip_net_init(struct gossip_net *n, struct world *w, unsigned count);
void gossip_net_deinit(struct gossip_net *n);

/* Starts node i (again: in a higher epoch); its seeds are the nodes seed_from .. seed_from +
 * seed_count - 1. */
void gossip_net_start(struct gossip_net *n, unsigned i, unsigned seed_from, unsigned seed_count);
void gossip_net_kill(struct gossip_net *n, unsigned i);

/* Gives node i an event; now and wall are filled in. */
void gossip_net_step(struct gossip_net *n, unsigned i, struct gossip_event *ev);
void gossip_net_put(struct gossip_net *n, unsigned i, uint8_t space, const char *key,
                    struct str value);
void gossip_net_del(struct gossip_net *n, unsigned i, uint8_t space, const char *key);

/* Node a's view of node b. */
enum gossip_state gossip_net_view(const struct gossip_net *n, unsigned a, unsigned b,
                                  bool *out_known);

/* Every running node of the group sees exactly the running nodes of it as live. */
bool gossip_net_agrees(const struct gossip_net *n);

/* All running nodes have the same table hash. */
bool gossip_net_same_table(const struct gossip_net *n);
