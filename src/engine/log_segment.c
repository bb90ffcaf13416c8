/* The files of the log: made, reused, freed.  SPDX-License-Identifier: Apache-2.0
 *
 * A file becomes a segment under another name: its head is written and synced first, then it is
 * renamed, then the directory is synced.  So a segment that is seen after a crash has a sound head,
 * and its being there proves that everything before it was synced.
 *
 * L4 numbers are consecutive.  L6 only the oldest is freed, when nothing in it lives and nobody
 * reads it, and after what replaced its content is synced. */
#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/log_priv.h"

void engine_segment_path(const struct engine_log *log, uint64_t number, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%s/%016llx.rlog", log->conf.dir, (unsigned long long)number);
}

void engine_segment_spare_path(const struct engine_log *log, unsigned n, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%s/spare-%u", log->conf.dir, n);
}

int engine_segment_read(const struct engine_log *log, struct engine_file *f, void *p, size_t n,
                        uint64_t at)
{
    int64_t r = log->conf.fs.ops->pread(f, p, n, at);
    if (r < 0)
        return err_trace((int)r);
    return (size_t)r == n ? 0 : -EIO;
}

static struct engine_segment *current(const struct engine_log *log)
{
    return log->segment_count > 0 ? &log->segment[log->segment_count - 1] : NULL;
}

int engine_segment_sync(struct engine_log *log)
{
    struct engine_segment *s = current(log);
    if (s == NULL || log->synced == log->frame_number)
        return 0;
    int r = log->conf.fs.ops->fdatasync(s->f);
    if (r < 0)
        return err_trace(r);
    log->synced = log->frame_number;
    pthread_mutex_lock(&log->index_mutex);
    log->stats.syncs++;
    pthread_mutex_unlock(&log->index_mutex);
    return 0;
}

void engine_segment_push(struct engine_log *log, const struct engine_segment *s)
{
    pthread_mutex_lock(&log->index_mutex);
    log->segment =
        mem_grow(log->segment, &log->segment_cap, log->segment_count + 1, sizeof *log->segment);
    log->segment[log->segment_count++] = *s;
    pthread_mutex_unlock(&log->index_mutex);
}

/* A file of size bytes with real space behind it at path; nothing stays behind on failure. */
static int make_file(struct engine_log *log, const char *path, uint64_t size,
                     struct engine_file **out)
{
    const struct engine_fs_ops *ops = log->conf.fs.ops;
    int r = ops->open(log->conf.fs.arg, path, ENGINE_FS_EMPTY, out);
    if (r < 0)
        return r == -EDQUOT ? -ENOSPC : err_trace(r);
    r = ops->allocate(*out, size);
    if (r == 0)
        return 0;
    ops->close(*out);
    int gone = ops->unlink(log->conf.fs.arg, path);
    if (r == -EDQUOT || r == -ENOSPC)
        return gone < 0 ? err_trace(gone) : -ENOSPC;
    return err_trace(r);
}

static int take_file(struct engine_log *log, uint64_t size, char path[PATH_BYTES],
                     struct engine_file **out)
{
    if (size == log->conf.segment_bytes && log->spares != 0) {
        unsigned n = (unsigned)__builtin_ctz(log->spares);
        engine_segment_spare_path(log, n, path);
        int r = log->conf.fs.ops->open(log->conf.fs.arg, path, ENGINE_FS_WRITE, out);
        if (r == 0)
            log->spares &= ~(1u << n);
        return err_trace(r);
    }
    engine_segment_spare_path(log, SPARE_MAX, path); /* a name that is never kept as a spare */
    return make_file(log, path, size, out);
}

static int write_head(struct engine_log *log, struct engine_file *f, struct engine_segment *s)
{
    uint8_t b[SEGMENT_HEAD];
    struct engine_segment_head h = {SEGMENT_FORMAT, log->conf.node, s->number, s->first_frame,
                                    rng_u64(&log->rng)};
    engine_segment_head_encode(&h, b);
    s->seed = engine_segment_seed(&h);
    struct iovec v = {b, sizeof b};
    int r = log->conf.fs.ops->pwritev(f, &v, 1, 0);
    return r < 0 ? err_trace(r) : err_trace(log->conf.fs.ops->fdatasync(f));
}

int engine_segment_next(struct engine_log *log, uint64_t need)
{
    const struct engine_fs_ops *ops = log->conf.fs.ops;
    const struct engine_segment *last = current(log);
    uint64_t size = need + SEGMENT_HEAD;
    size = size > log->conf.segment_bytes ? size : log->conf.segment_bytes;
    must(size <= UINT32_MAX);
    int r = engine_segment_sync(log);
    if (r < 0)
        return err_trace(r);
    char path[PATH_BYTES], name[PATH_BYTES];
    struct engine_segment s = {.number = last != NULL ? last->number + 1 : 1,
                               .first_frame = log->frame_number + 1,
                               .size = size,
                               .used = SEGMENT_HEAD};
    r = take_file(log, size, path, &s.f);
    if (r < 0)
        return err_trace(r);
    r = write_head(log, s.f, &s);
    engine_segment_path(log, s.number, name);
    if (r == 0)
        r = ops->rename(log->conf.fs.arg, path, name);
    if (r == 0)
        r = ops->dirsync(log->conf.fs.arg, log->conf.dir);
    if (r < 0) {
        ops->close(s.f);
        return err_trace(r == -ENOSPC ? -EIO
                                      : r); /* the space was there: this is another trouble */
    }
    engine_segment_push(log, &s);
    return 0;
}

int engine_segment_prepare(struct engine_log *log)
{
    if (log->spares != 0)
        return 0;
    char path[PATH_BYTES];
    struct engine_file *f;
    engine_segment_spare_path(log, 0, path);
    int r = make_file(log, path, log->conf.segment_bytes, &f);
    if (r < 0)
        return err_trace(r);
    r = log->conf.fs.ops->fdatasync(f);
    log->conf.fs.ops->close(f);
    if (r == 0)
        log->spares |= 1;
    return err_trace(r);
}

/* Gives the file of a freed segment back, as a spare when one is wanted. */
static int recycle(struct engine_log *log, const struct engine_segment *s)
{
    const struct engine_fs_ops *ops = log->conf.fs.ops;
    char path[PATH_BYTES], spare[PATH_BYTES];
    engine_segment_path(log, s->number, path);
    uint32_t wanted = (1u << log->conf.segment_spare_max) - 1;
    int r;
    if (s->size == log->conf.segment_bytes && (~log->spares & wanted) != 0) {
        unsigned n = (unsigned)__builtin_ctz(~log->spares & wanted);
        engine_segment_spare_path(log, n, spare);
        r = ops->rename(log->conf.fs.arg, path, spare);
        if (r == 0)
            log->spares |= 1u << n;
    } else {
        r = ops->unlink(log->conf.fs.arg, path);
    }
    return r < 0 ? err_trace(r) : err_trace(ops->dirsync(log->conf.fs.arg, log->conf.dir));
}

int engine_segment_free_dead(struct engine_log *log)
{
    int freed = 0;
    while (log->segment_count > 1 && log->segment[0].live == 0) {
        int r = engine_segment_sync(log);
        if (r < 0)
            return err_trace(r);
        pthread_mutex_lock(&log->index_mutex);
        struct engine_segment s = log->segment[0];
        bool is_free = s.pins == 0;
        if (is_free)
            memmove(log->segment, log->segment + 1, --log->segment_count * sizeof s);
        pthread_mutex_unlock(&log->index_mutex);
        if (!is_free)
            break;
        freed++;
        if (s.f == NULL)
            continue; /* its file was missing from the start */
        log->conf.fs.ops->close(s.f);
        r = recycle(log, &s);
        if (r < 0)
            return err_trace(r);
    }
    return freed;
}

void engine_segment_deinit(struct engine_log *log)
{
    for (size_t i = 0; i < log->segment_count; i++)
        if (log->segment[i].f != NULL)
            log->conf.fs.ops->close(log->segment[i].f);
    log->segment = mem_free(log->segment);
    log->segment_count = log->segment_cap = 0;
}
