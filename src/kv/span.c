/* In which spaces the rows of a replica lie.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. The spans of a replica, in order and without gaps, are its bounds.  There is one, unless it
 * took in a neighbour whose rows lay in another space: no row moves when ranges merge or split.
 * Never reads a row. */
#include "kv/kv_priv.h"

void kv_parts_free(struct kv_parts *p)
{
    for (size_t i = 0; i < p->count; i++)
        buf_deinit(&p->more[i].from);
    p->more = mem_free(p->more);
    p->count = 0;
}

static void parts_add(struct kv_parts *p, uint64_t space, struct str from)
{
    uint64_t last = p->count > 0 ? p->more[p->count - 1].space : p->space;
    if (last == space)
        return;
    size_t cap = p->count;
    p->more = mem_grow(p->more, &cap, p->count + 1, sizeof *p->more);
    p->more[p->count] = (struct kv_part){.space = space};
    buf_put_str(&p->more[p->count++].from, from);
}

struct kv_parts kv_parts_dup(const struct kv_parts *p)
{
    struct kv_parts out = {.space = p->space};
    for (size_t i = 0; i < p->count; i++)
        parts_add(&out, p->more[i].space, buf_str(&p->more[i].from));
    return out;
}

uint64_t kv_parts_at(const struct kv_parts *p, struct str key)
{
    uint64_t space = p->space;
    for (size_t i = 0; i < p->count && str_cmp(buf_str(&p->more[i].from), key) <= 0; i++)
        space = p->more[i].space;
    return space;
}

struct kv_parts kv_parts_cut(struct kv_parts *p, struct str key)
{
    struct kv_parts right = {.space = kv_parts_at(p, key)};
    size_t keep = 0;
    while (keep < p->count && str_cmp(buf_str(&p->more[keep].from), key) < 0)
        keep++;
    for (size_t i = keep; i < p->count; i++)
        parts_add(&right, p->more[i].space, buf_str(&p->more[i].from));
    while (p->count > keep)
        buf_deinit(&p->more[--p->count].from);
    return right;
}

void kv_parts_join(struct kv_parts *p, struct str key, const struct kv_parts *right)
{
    parts_add(p, right->space, key);
    for (size_t i = 0; i < right->count; i++)
        parts_add(p, right->more[i].space, buf_str(&right->more[i].from));
}

void kv_parts_encode(const struct kv_parts *p, struct buf *out)
{
    for (size_t i = 0; i < p->count; i++) {
        buf_put_varint(out, p->more[i].space);
        buf_put_varint(out, p->more[i].from.n);
        buf_put_str(out, buf_str(&p->more[i].from));
    }
}

struct kv_parts kv_parts_decode(uint64_t space, struct str s)
{
    struct codec_cursor c = codec_cursor_of(s);
    struct kv_parts out = {.space = space};
    while (codec_cursor_left(&c) > 0) {
        uint64_t next = codec_cursor_varint(&c);
        struct str from = codec_cursor_bytes(&c, codec_cursor_varint(&c));
        if (c.bad)
            break;
        parts_add(&out, next, from);
    }
    return out;
}

/* ---- spans ----------------------------------------------------------------------------------- */

static void span_add(struct kv_spans *s, uint64_t space, struct str from, struct str to)
{
    size_t cap = s->count;
    s->at = mem_grow(s->at, &cap, s->count + 1, sizeof *s->at);
    struct kv_span *n = &s->at[s->count++];
    *n = (struct kv_span){.space = space};
    buf_put_str(&n->from, from);
    buf_put_str(&n->to, to);
}

struct kv_spans kv_spans_of(const struct kv_parts *p, struct str from, struct str to)
{
    struct kv_spans s = {0};
    uint64_t space = p->space;
    for (size_t i = 0; i < p->count; i++) {
        struct str next = buf_str(&p->more[i].from);
        if (to.n > 0 && str_cmp(to, next) <= 0)
            break;
        if (str_cmp(from, next) < 0) {
            span_add(&s, space, from, next);
            from = next;
        }
        space = p->more[i].space;
    }
    span_add(&s, space, from, to);
    return s;
}

struct kv_spans kv_spans_all(const struct kv_parts *p, const struct range_bounds *b)
{
    return kv_spans_of(p, b->start, b->is_open ? STR("") : b->end);
}

void kv_spans_drop(const struct kv_parts *p, const struct range_bounds *b, struct engine_batch *out)
{
    struct kv_spans s = kv_spans_all(p, b);
    for (size_t i = 0; i < s.count; i++)
        engine_batch_drop(out, s.at[i].space, buf_str(&s.at[i].from), buf_str(&s.at[i].to));
    kv_spans_free(&s);
}

void kv_spans_free(struct kv_spans *s)
{
    for (size_t i = 0; i < s->count; i++) {
        buf_deinit(&s->at[i].from);
        buf_deinit(&s->at[i].to);
    }
    s->at = mem_free(s->at);
    s->count = 0;
}

int kv_span_scan(const struct kv_store *s, struct engine_view *view, const struct kv_span *span,
                 struct engine_scan *scan)
{
    struct buf from = {0};
    buf_put_str(&from, buf_str(&span->from));
    scan->space = span->space;
    scan->from = buf_str(&from);
    scan->to = buf_str(&span->to);
    int result = engine_state_scan(s->state, view, scan);
    buf_deinit(&from);
    return result;
}
