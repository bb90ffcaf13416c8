/* The tail of the log as it was written, kept for readers.  SPDX-License-Identifier: Apache-2.0
 *
 * A chunk is the body of one written batch, where it lies in which segment.  Chunks are ordered,
 * the oldest go first when the limit is passed.  A reader that copies from one holds a reference;
 * all else happens under index_mutex. */
#include "base/mem.h"
#include "engine/log_priv.h"

void engine_chunk_unref(struct engine_chunk *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
        return;
    buf_deinit(&c->body);
    mem_free(c);
}

static void pop(struct engine_log *log)
{
    struct engine_chunk *c = log->chunk[log->chunk_head++];
    log->chunk_count--;
    log->cache_bytes -= c->body.cap;
    engine_chunk_unref(c);
}

void engine_cache_push(struct engine_log *log, uint32_t segment, uint32_t at, struct buf *body)
{
    struct engine_chunk *c = mem_new(sizeof *c);
    *c = (struct engine_chunk){.segment = segment, .at = at, .body = *body, .refs = 1};
    *body = (struct buf){0};
    if (log->chunk_head > log->chunk_cap / 2) {
        memmove(log->chunk, log->chunk + log->chunk_head,
                log->chunk_count * sizeof(struct engine_chunk *));
        log->chunk_head = 0;
    }
    log->chunk = mem_grow(log->chunk, &log->chunk_cap, log->chunk_head + log->chunk_count + 1,
                          sizeof(struct engine_chunk *));
    log->chunk[log->chunk_head + log->chunk_count++] = c;
    log->cache_bytes += c->body.cap;
    while (log->cache_bytes > log->conf.cache_bytes)
        pop(log);
}

struct engine_chunk *engine_cache_find(const struct engine_log *log, uint32_t segment, uint32_t at)
{
    size_t lo = log->chunk_head, hi = log->chunk_head + log->chunk_count;
    while (lo < hi) { /* the first chunk that begins after (segment, at) */
        size_t mid = lo + (hi - lo) / 2;
        const struct engine_chunk *c = log->chunk[mid];
        if (c->segment < segment || (c->segment == segment && c->at <= at))
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == log->chunk_head)
        return NULL;
    struct engine_chunk *c = log->chunk[lo - 1];
    return c->segment == segment && at - c->at < c->body.n ? c : NULL;
}

void engine_cache_deinit(struct engine_log *log)
{
    while (log->chunk_count > 0)
        pop(log);
    log->chunk = mem_free(log->chunk);
    log->chunk_head = log->chunk_cap = 0;
}
