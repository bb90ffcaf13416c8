/* Clocks.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: sleeps, sets a clock. */
#include "net/clock.h"

#include <time.h>

#include "base/must.h"

static usec_t usec_of(clockid_t id)
{
    struct timespec t;
    must(clock_gettime(id, &t) == 0);
    return (usec_t)t.tv_sec * USEC_SEC + (usec_t)t.tv_nsec / 1000;
}

usec_t net_clock_now(void)
{
    return usec_of(CLOCK_MONOTONIC);
}

usec_t net_clock_wall(void)
{
    return usec_of(CLOCK_REALTIME);
}

usec_t net_clock_cpu(void)
{
    return usec_of(CLOCK_PROCESS_CPUTIME_ID);
}
