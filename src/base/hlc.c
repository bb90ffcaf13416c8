/* Hybrid logical clock.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariant: last only grows, also when the wall clock jumps back. */
#include "base/hlc.h"

uint64_t hlc_now(struct hlc *c, usec_t wall)
{
    uint64_t phys = hlc_of_ms(wall / USEC_MSEC);
    c->last = phys > c->last ? phys : c->last + 1;
    return c->last;
}

int hlc_update(struct hlc *c, usec_t wall, uint64_t other)
{
    if (hlc_ms(other) > (wall + HLC_SKEW_MAX) / USEC_MSEC)
        return HLC_E_SKEW;
    if (other > c->last)
        c->last = other;
    return 0;
}
