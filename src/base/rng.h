/* Chance comes from a seed, so that every run can be run again (xoshiro256**).  Not for secrets.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/must.h"

struct rng {
    uint64_t s[4];
};

void rng_init(struct rng *r, uint64_t seed);

uint64_t rng_u64(struct rng *r);

/* Uniform in [0, n); n > 0. */
uint64_t rng_below(struct rng *r, uint64_t n);

/* Uniform in [lo, hi]; lo <= hi. */
uint64_t rng_between(struct rng *r, uint64_t lo, uint64_t hi);

/* True with probability per_million / 1,000,000. */
bool rng_chance(struct rng *r, uint32_t per_million);
