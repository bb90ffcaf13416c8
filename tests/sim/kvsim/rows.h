/* Whose rows lie where on one node.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. The spans of a replica are its bounds, without gaps.
 * 2. No two open replicas of a store have a key of one space in common: what one of them deletes or
 *    gives away would be the other's. */
#pragma once

#include "kv/kv_priv.h"

static bool span_ends_before(const struct kv_span *a, const struct kv_span *b)
{
    return a->to.n > 0 && str_cmp(buf_str(&a->to), buf_str(&b->from)) <= 0;
}

static const char *spans_fault(const struct kv_spans *s, const struct range_bounds *b)
{
    struct str end = b->is_open ? STR("") : b->end;
    if (!str_eq(buf_str(&s->at[0].from), b->start) ||
        !str_eq(buf_str(&s->at[s->count - 1].to), end))
        return "the rows of a replica are not those of its bounds";
    for (size_t i = 1; i < s->count; i++)
        if (!str_eq(buf_str(&s->at[i - 1].to), buf_str(&s->at[i].from)))
            return "there is a gap in the rows of a replica";
    return NULL;
}

static const char *spans_shared(const struct kv_spans *a, const struct kv_spans *b)
{
    for (size_t i = 0; i < a->count; i++)
        for (size_t k = 0; k < b->count; k++)
            if (a->at[i].space == b->at[k].space && !span_ends_before(&a->at[i], &b->at[k]) &&
                !span_ends_before(&b->at[k], &a->at[i]))
                return "two replicas have the same rows";
    return NULL;
}

/* What is wrong with the rows of this node's replicas; NULL: nothing. */
static const char *rows_fault(const struct kv_loop *l)
{
    const char *bad = NULL;
    list_each(&l->replicas, x)
    {
        struct kv_replica *r = container_of(x, struct kv_replica, link);
        if (bad || r->is_closed || !r->has_range)
            continue;
        struct kv_spans s = kv_spans_all(&r->parts, &r->range.bounds);
        bad = spans_fault(&s, &r->range.bounds);
        for (struct list *y = x->next; !bad && y != &l->replicas; y = y->next) {
            struct kv_replica *o = container_of(y, struct kv_replica, link);
            if (o->is_closed || !o->has_range || o->home->store != r->home->store)
                continue;
            struct kv_spans t = kv_spans_all(&o->parts, &o->range.bounds);
            bad = spans_shared(&s, &t);
            kv_spans_free(&t);
        }
        kv_spans_free(&s);
    }
    return bad;
}
