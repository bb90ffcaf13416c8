/* A network and a clock that misbehave by the seed.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/rng.h"
#include "base/usec.h"

#define SIM_NODE_MAX 16

struct sim_net {
    size_t count;                         /* nodes 0 .. count - 1 */
    bool cut[SIM_NODE_MAX][SIM_NODE_MAX]; /* [from][to]: nothing passes */
    usec_t delay_min, delay_max;          /* usual way */
    uint32_t loss_ppm, dup_ppm, slow_ppm; /* slow: up to slow_max instead */
    usec_t slow_max;
};

/* All lines good and clean; the usual delay stays. */
void sim_net_heal(struct sim_net *n);

/* One random partition: halves, one node alone, one way only, or a bridge (two sides that share
 * one node). */
void sim_net_split(struct sim_net *n, struct rng *rng);

/* How many copies of a message arrive (0, 1 or 2), and after how long each. */
unsigned sim_net_route(const struct sim_net *n, struct rng *rng, size_t from, size_t to,
                       usec_t out_delay[2]);

/* A node's own clock: what it reads at the true time now. */
struct sim_clock {
    usec_t offset;
    int32_t ppm; /* how much faster than true time */
};
usec_t sim_clock_at(const struct sim_clock *c, usec_t now);

/* How much true time passes until the clock shows at (0 when it is past). */
usec_t sim_clock_until(const struct sim_clock *c, usec_t now, usec_t at);
