/* What it takes to cut a machine in two in memory.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"
#include "bench/bench.h"
#include "range/machine.h"

/* Near `wish`; the right half is freed. */
static inline void bench_split(const struct range_machine_ops *ops, void *m, struct str wish)
{
    struct buf key = {0};
    char line[80];
    ops->split_key(m, wish, &key);
    struct range_bounds left = {.start = STR(""), .end = buf_str(&key)},
                        right = {.start = buf_str(&key), .end = STR(""), .is_open = true};
    double t = bench_cpu();
    void *half = ops->split(m, &left, &right);
    t = bench_cpu() - t;
    must(half != NULL);
    snprintf(line, sizeof line, "%s: the machine is cut in two", ops->name);
    bench_line(line, t * 1e3, "ms");
    ops->free(half);
    buf_deinit(&key);
}
