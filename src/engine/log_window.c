/* A segment seen through a window, so that reading the log back takes little memory and touches
 * only what was ever written.  SPDX-License-Identifier: Apache-2.0
 *
 * W1 what lies behind `end` reads as zeros and costs nothing: a file is allocated long before it is
 * full.  W2 a place that cannot be read is said to be so and is never taken for zeros.  It decides
 * nothing. */
#include <errno.h>

#include "base/err.h"
#include "engine/log_priv.h"

#define WINDOW_BYTES (1u << 20) /* does not matter: a multiple of FRAME_ALIGN */

int engine_window_open(struct engine_window *w, const struct engine_log *log,
                       const struct engine_segment *s)
{
    int64_t end = s->f != NULL ? log->conf.fs.ops->written(s->f) : 0;
    w->log = log;
    w->f = s->f;
    w->size = s->size;
    w->end = end > 0 ? (uint64_t)end : 0;
    w->base = w->bytes.n = 0;
    w->error = 0;
    return end < 0 ? err_trace((int)end) : 0;
}

void engine_window_deinit(struct engine_window *w)
{
    buf_deinit(&w->bytes);
}

const uint8_t *engine_window_at(struct engine_window *w, uint64_t at, size_t n, size_t *out_n)
{
    must(at + n <= w->size);
    if (at < w->base || at + n > w->base + w->bytes.n) {
        size_t want = n > WINDOW_BYTES ? n : WINDOW_BYTES;
        want = want < w->size - at ? want : (size_t)(w->size - at);
        uint64_t left = at < w->end ? w->end - at : 0;
        size_t real = left < want ? (size_t)left : want;
        w->bytes.n = 0;
        uint8_t *p = buf_reserve(&w->bytes, want + 1);
        int r = real > 0 ? engine_segment_read(w->log, w->f, p, real, at) : 0;
        if (r < 0) {
            w->error = r;
            return NULL;
        }
        memset(p + real, 0, want - real);
        w->base = at;
        w->bytes.n = want;
    }
    *out_n = (size_t)(w->base + w->bytes.n - at);
    return w->bytes.p + (at - w->base);
}

bool engine_window_frame(struct engine_window *w, uint64_t at, uint32_t seed,
                         struct engine_frame *out, const uint8_t **out_p)
{
    size_t n;
    if (at >= w->end || w->size - at < FRAME_HEAD)
        return false;
    const uint8_t *p = engine_window_at(w, at, FRAME_HEAD, &n);
    uint64_t len = p != NULL ? engine_frame_len(p) : 0;
    if (len == 0 || len > w->size - at)
        return false;
    *out_p = p = engine_window_at(w, at, (size_t)len, &n);
    return p != NULL && engine_frame_decode(p, n, seed, out) == 0;
}

bool engine_window_scan(struct engine_window *w, uint64_t *at, uint32_t seed,
                        struct engine_frame *out)
{
    uint64_t i = (*at + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
    while (i < w->end && w->size - i >= FRAME_HEAD) {
        size_t n;
        const uint8_t *p = engine_window_at(w, i, FRAME_HEAD, &n);
        if (p == NULL)
            return false;
        size_t k = engine_frame_find(p, n);
        i += k;
        if (k < n) {
            *at = i;
            if (engine_window_frame(w, i, seed, out, &p))
                return true;
            if (w->error < 0)
                return false;
            i += FRAME_ALIGN;
        }
    }
    return false;
}
