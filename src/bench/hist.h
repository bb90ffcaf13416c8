/* Latencies in buckets of about 1 %.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/usec.h"
#include "base/must.h"

#define BENCH_HIST_SUB 64 /* buckets for each doubling: 1.6 % wide at most */
#define BENCH_HIST_BUCKETS (BENCH_HIST_SUB * (40 - 5)) /* up to 2^40 us, twelve days */

struct bench_hist {
    uint64_t bucket[BENCH_HIST_BUCKETS];
    uint64_t count;
    usec_t max;
};

void bench_hist_put(struct bench_hist *h, usec_t v);

/* The value that `per_mille` of the values do not exceed (500: median, 999: p99.9); 0 when empty.
 */
usec_t bench_hist_quantile(const struct bench_hist *h, unsigned per_mille);
