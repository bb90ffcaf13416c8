/* What one fdatasync takes on this machine.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/mem.h"
#include "bench/bench.h"
#include "engine/fs.h"

static inline int bench_double_cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static inline double bench_median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, bench_double_cmp);
    return n > 0 ? v[n / 2] : 0;
}

/* Microseconds of one write of n bytes and its fdatasync, over what was written before: as the Raft
 * log does it, without a change of the file's map. */
static inline double bench_fdatasync(const char *dir, size_t n)
{
    struct engine_fs fs = engine_fs_posix();
    struct engine_file *f;
    char path[4096], *p = mem_new(n);
    double took[200];
    snprintf(path, sizeof path, "%s/probe", dir);
    if (fs.ops->open(NULL, path, ENGINE_FS_EMPTY, &f) < 0 || fs.ops->allocate(f, 64 << 20) < 0)
        abort();
    for (size_t i = 0; i < countof(took); i++) {
        struct iovec v = {p, n};
        if (fs.ops->pwritev(f, &v, 1, i * n) < 0)
            abort();
    }
    if (fs.ops->fdatasync(f) < 0)
        abort();
    for (size_t i = 0; i < countof(took); i++) {
        struct iovec v = {p, n};
        double t = bench_now();
        if (fs.ops->pwritev(f, &v, 1, i * n) < 0 || fs.ops->fdatasync(f) < 0)
            abort();
        took[i] = bench_now() - t;
    }
    fs.ops->close(f);
    if (fs.ops->unlink(NULL, path) < 0)
        abort();
    mem_free(p);
    return bench_median(took, countof(took)) * 1e6;
}
