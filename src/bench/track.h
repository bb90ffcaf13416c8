/* One stream of numbered messages at a receiver: what came, came twice, came late.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/must.h"

struct bench_track {
    uint64_t next; /* one more than the highest number that came */
    uint64_t unique, duplicate, reordered;
    uint64_t from;  /* all below came, in order; what came from here on stands in `seen` */
    uint64_t *seen; /* a bit for each number from `from` on; made when the first is out of order */
    uint64_t seen_words;
    uint64_t excused;  /* refused and not come */
    uint64_t *refused; /* a bit for each number; made for the first that is */
    uint64_t refused_words;
};

void bench_track_deinit(struct bench_track *t);

/* The broker told the publisher that it did not take number `seq`: it need not come, and has no place if it does. */
void bench_track_refused(struct bench_track *t, uint64_t seq);

/* Number `seq` (from 0) has come; true when it is the first time. */
bool bench_track_put(struct bench_track *t, uint64_t seq);
