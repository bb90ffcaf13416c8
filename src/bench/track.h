/* One stream of numbered messages at a receiver: what came, came twice, came late.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/must.h"

#define BENCH_TRACK_WINDOW                                                                         \
    65536 /* numbers; how far behind the newest a late one is still told from a duplicate */

struct bench_track {
    uint64_t next; /* all below are accounted for, or lie in the window */
    uint64_t unique, duplicate, reordered;
    uint64_t
        *seen; /* bits of the window, made when the first number is out of order; NULL until then */
};

void bench_track_deinit(struct bench_track *t);

/* Number `seq` (from 0) has come. */
void bench_track_put(struct bench_track *t, uint64_t seq);
