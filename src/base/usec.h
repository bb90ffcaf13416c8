/* Time is a number of microseconds and comes as an argument.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

typedef uint64_t usec_t;

#define USEC_MSEC ((usec_t)1000)
#define USEC_SEC ((usec_t)1000000)
#define USEC_NEVER UINT64_MAX /* a deadline that never comes */

/* a + b, but never wraps: NEVER stays NEVER. */
static inline usec_t usec_add(usec_t a, usec_t b)
{
    return a > USEC_NEVER - b ? USEC_NEVER : a + b;
}

/* How long from now until deadline; 0 when it has passed. */
static inline usec_t usec_until(usec_t now, usec_t deadline)
{
    return deadline > now ? deadline - now : 0;
}

static inline usec_t usec_min(usec_t a, usec_t b)
{
    return a < b ? a : b;
}
