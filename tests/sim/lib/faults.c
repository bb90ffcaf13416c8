/* The misbehaving network and clock.  SPDX-License-Identifier: Apache-2.0 */
#include "sim/lib/faults.h"

#include <string.h>

#define MILLION 1000000

void sim_net_heal(struct sim_net *n)
{
    memset(n->cut, 0, sizeof n->cut);
    n->loss_ppm = n->dup_ppm = n->slow_ppm = 0;
}

void sim_net_split(struct sim_net *n, struct rng *rng)
{
    uint64_t kind = rng_below(rng, 4), side = rng_u64(rng);
    size_t alone = rng_below(rng, n->count);
    memset(n->cut, 0, sizeof n->cut);
    for (size_t a = 0; a < n->count; a++) {
        for (size_t b = 0; b < n->count; b++) {
            bool apart = (side >> a & 1) != (side >> b & 1);
            if (a == b)
                continue;
            if (kind == 0) /* two sides */
                n->cut[a][b] = apart;
            else if (kind == 1) /* one alone */
                n->cut[a][b] = a == alone || b == alone;
            else if (kind == 2) /* one hears nobody */
                n->cut[a][b] = b == alone;
            else /* two sides and a bridge */
                n->cut[a][b] = apart && a != alone && b != alone;
        }
    }
}

unsigned sim_net_route(const struct sim_net *n, struct rng *rng, size_t from, size_t to,
                       usec_t out_delay[2])
{
    if (n->cut[from][to] || rng_chance(rng, n->loss_ppm))
        return 0;
    unsigned copies = rng_chance(rng, n->dup_ppm) ? 2 : 1;
    for (unsigned i = 0; i < copies; i++) {
        out_delay[i] = rng_between(rng, n->delay_min, n->delay_max);
        if (rng_chance(rng, n->slow_ppm))
            out_delay[i] = rng_below(rng, n->slow_max + 1);
    }
    return copies;
}

usec_t sim_clock_at(const struct sim_clock *c, usec_t now)
{
    return c->offset + now / MILLION * (usec_t)(MILLION + c->ppm) +
           now % MILLION * (usec_t)(MILLION + c->ppm) / MILLION;
}

usec_t sim_clock_until(const struct sim_clock *c, usec_t now, usec_t at)
{
    usec_t shown = sim_clock_at(c, now);
    if (at <= shown)
        return 0;
    if (at - shown > (usec_t)MILLION * MILLION)
        return at - shown; /* far away: nobody minds the drift */
    return (at - shown) * MILLION / (usec_t)(MILLION + c->ppm) + 1;
}
