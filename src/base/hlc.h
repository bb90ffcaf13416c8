/* Hybrid logical clock: 48 bits of milliseconds since 1970, 16 bits of counter.  SPDX-License-Identifier: Apache-2.0
 *
 * Kulkarni et al., "Logical Physical Clocks".  The caller brings the wall clock. */
#pragma once

#include "base/usec.h"
#include "base/must.h"

#define HLC_SKEW_MAX (10 * USEC_SEC) /* matters: a peer further ahead than this cannot pull our clock along */

enum hlc_outcome {
    HLC_E_SKEW = 1, /* the other clock is too far ahead; ours did not move */
};

struct hlc {
    uint64_t last;
};

static inline uint64_t hlc_ms(uint64_t t)
{
    return t >> 16;
}

static inline uint64_t hlc_of_ms(uint64_t ms)
{
    return ms << 16;
}

/* The next local time, larger than every one before; a full counter borrows a millisecond from the future. */
uint64_t hlc_now(struct hlc *c, usec_t wall);

/* Takes in a time from elsewhere, so that hlc_now is later than it. */
must_use int hlc_update(struct hlc *c, usec_t wall, uint64_t other);
