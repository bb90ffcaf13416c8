/* How many hours a simulator has played, and how fast.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>
#include <time.h>

#include "base/usec.h"

struct tally {
    usec_t played; /* of virtual time, in all worlds */
    usec_t began;
};

static inline usec_t tally_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (usec_t)t.tv_sec * USEC_SEC + (usec_t)t.tv_nsec / 1000;
}

static inline void tally_begin(struct tally *t)
{
    *t = (struct tally){.began = tally_clock()};
}

/* A line that scripts/run-sim adds up. */
static inline void tally_tell(const struct tally *t)
{
    double hours = (double)t->played / (3600.0 * USEC_SEC);
    double minutes = (double)(tally_clock() - t->began + 1) / (60.0 * USEC_SEC);
    printf("simulated %.3f hours in %.3f minutes, %.1f hours a minute\n", hours, minutes,
           hours / minutes);
}
