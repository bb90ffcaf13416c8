/* Bounds of ranges.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A key belongs to [start, end) in bytewise order; an open range has no end.
 * Never allocates except in range_bounds_dup. */
#include "range/bounds.h"

#include "base/mem.h"

int range_id_cmp(struct range_id a, struct range_id b)
{
    if (a.epoch != b.epoch)
        return a.epoch < b.epoch ? -1 : 1;
    return a.id < b.id ? -1 : a.id > b.id;
}

struct range_bounds range_bounds_all(void)
{
    return (struct range_bounds){STR(""), STR(""), true};
}

bool range_bounds_has(const struct range_bounds *b, struct str key)
{
    return str_cmp(b->start, key) <= 0 && (b->is_open || str_cmp(key, b->end) < 0);
}

bool range_bounds_eq(const struct range_bounds *a, const struct range_bounds *b)
{
    return a->is_open == b->is_open && str_eq(a->start, b->start) &&
           (a->is_open || str_eq(a->end, b->end));
}

bool range_bounds_overlap(const struct range_bounds *a, const struct range_bounds *b)
{
    return (a->is_open || str_cmp(b->start, a->end) < 0) &&
           (b->is_open || str_cmp(a->start, b->end) < 0);
}

bool range_bounds_is_valid(const struct range_bounds *b)
{
    return b->is_open || str_cmp(b->start, b->end) < 0;
}

bool range_bounds_can_split(const struct range_bounds *b, struct str key)
{
    return str_cmp(b->start, key) < 0 && range_bounds_has(b, key);
}

void range_bounds_encode(struct buf *out, uint32_t tag_start, const struct range_bounds *b)
{
    codec_record_bytes(out, tag_start, b->start);
    if (!b->is_open)
        codec_record_bytes(out, tag_start + 1, b->end);
}

struct range_bounds range_bounds_dup(const struct range_bounds *b)
{
    return (struct range_bounds){str_dup(b->start), b->is_open ? STR("") : str_dup(b->end),
                                 b->is_open};
}

void range_bounds_free(struct range_bounds *b)
{
    mem_free((void *)(uintptr_t)b->start.p);
    if (!b->is_open)
        mem_free((void *)(uintptr_t)b->end.p);
    *b = range_bounds_all();
    b->start = (struct str){NULL, 0};
}
