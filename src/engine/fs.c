/* What both bodies of the file seam share.  SPDX-License-Identifier: Apache-2.0 */
#include "engine/fs.h"

#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"

#define PATH_BYTES 4096 /* matters little: longer ones are refused */

int engine_fs_slurp(struct engine_fs fs, const char *path, size_t max, struct buf *out)
{
    struct engine_file *f;
    int r = fs.ops->open(fs.arg, path, ENGINE_FS_READ, &f);
    if (r < 0)
        return err_trace(r);
    int64_t n = fs.ops->size(f);
    if (n > (int64_t)max)
        n = -EFBIG;
    if (n > 0) {
        n = fs.ops->pread(f, buf_reserve(out, (size_t)n), (size_t)n, 0);
        if (n > 0)
            out->n += (size_t)n;
    }
    fs.ops->close(f);
    return n < 0 ? err_trace((int)n) : 0;
}

int engine_fs_replace(struct engine_fs fs, const char *dir, const char *name, struct str content)
{
    char path[PATH_BYTES], temp[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path ||
        snprintf(temp, sizeof temp, "%s/%s.new", dir, name) >= (int)sizeof temp)
        return -ENAMETOOLONG;
    struct engine_file *f;
    int r = fs.ops->open(fs.arg, temp, ENGINE_FS_EMPTY, &f);
    if (r < 0)
        return err_trace(r);
    struct iovec v = {.iov_base = (void *)(uintptr_t)content.p, .iov_len = content.n};
    r = fs.ops->pwritev(f, &v, 1, 0);
    if (r == 0)
        r = fs.ops->fdatasync(f);
    fs.ops->close(f);
    if (r == 0)
        r = fs.ops->rename(fs.arg, temp, path);
    if (r == 0)
        r = fs.ops->dirsync(fs.arg, dir);
    return err_trace(r);
}
