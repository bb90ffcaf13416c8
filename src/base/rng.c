/* Chance from a seed: xoshiro256** (Blackman, Vigna), seeded by splitmix64.  SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"

#include "base/hash.h"

void rng_init(struct rng *r, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        r->s[i] = hash_u64(seed);
    }
}

static uint64_t rotl(uint64_t x, unsigned k)
{
    return x << k | x >> (64 - k);
}

uint64_t rng_u64(struct rng *r)
{
    uint64_t *s = r->s, out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    must(n > 0);
    uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    for (;;) {
        uint64_t x = rng_u64(r);
        if (x < limit)
            return x % n;
    }
}

uint64_t rng_between(struct rng *r, uint64_t lo, uint64_t hi)
{
    must(lo <= hi);
    return hi - lo == UINT64_MAX ? rng_u64(r) : lo + rng_below(r, hi - lo + 1);
}

bool rng_chance(struct rng *r, uint32_t per_million)
{
    return rng_below(r, 1000000) < per_million;
}
