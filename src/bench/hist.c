/* Latencies in buckets.  SPDX-License-Identifier: Apache-2.0
 *
 * Values below BENCH_HIST_SUB have a bucket each; above, every doubling has BENCH_HIST_SUB buckets.
 */
#include "bench/hist.h"

static unsigned bucket_of(usec_t v)
{
    if (v < BENCH_HIST_SUB)
        return (unsigned)v;
    unsigned log = 63u - (unsigned)__builtin_clzll(v); /* >= 6 */
    unsigned b = (log - 5) * BENCH_HIST_SUB + (unsigned)(v >> (log - 6)) - BENCH_HIST_SUB;
    return b < BENCH_HIST_BUCKETS ? b : BENCH_HIST_BUCKETS - 1;
}

/* The largest value of a bucket. */
static usec_t bucket_top(unsigned b)
{
    if (b < BENCH_HIST_SUB)
        return b;
    unsigned log = b / BENCH_HIST_SUB + 5;
    usec_t sub = b % BENCH_HIST_SUB + BENCH_HIST_SUB;
    return ((sub + 1) << (log - 6)) - 1;
}

void bench_hist_put(struct bench_hist *h, usec_t v)
{
    h->bucket[bucket_of(v)]++;
    h->count++;
    if (v > h->max)
        h->max = v;
}

usec_t bench_hist_quantile(const struct bench_hist *h, unsigned per_mille)
{
    uint64_t rank = (h->count * per_mille + 999) / 1000, seen = 0;
    for (unsigned b = 0; b < BENCH_HIST_BUCKETS; b++) {
        seen += h->bucket[b];
        if (seen >= rank && seen > 0) {
            usec_t top = bucket_top(b);
            return top < h->max ? top : h->max;
        }
    }
    return 0;
}
