/* RangeSplitBalancer and RangeMergeBalancer: neither too large nor too many.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1. Neither happens while a member is behind or its node dead.
 * 2. What was merged is far from being split: half the size, the load and the fan-out of that.
 * 3. A filter with many receivers is split off until it cannot be any further: then has_crowd is
 *    false and nothing is asked. */
#include "balance/balance_priv.h"

static bool is_calm(const struct balance_sight *s, const struct range_descriptor *d)
{
    for (unsigned i = 0; i < d->member_count; i++)
        if (!d->member[i].is_current || !balance_is_live(s, &d->member[i].node))
            return false;
    return !d->is_joint;
}

bool balance_split(const struct balance_sight *s, const struct range_descriptor *d,
                   struct balance_step *out)
{
    const struct balance_rule *r = &s->v->rule;
    bool is_large = r->split_bytes > 0 && d->bytes > r->split_bytes;
    bool is_busy = r->split_rate > 0 && d->rate > r->split_rate;
    bool is_crowded = r->split_fanout > 0 && d->fanout > r->split_fanout && d->has_crowd;
    if ((!is_large && !is_busy && !is_crowded) || !is_calm(s, d))
        return false;
    *out = (struct balance_step){.action = BALANCE_DO_SPLIT,
                                 .kind = BALANCE_SPLIT,
                                 .id = d->id,
                                 .version = d->version,
                                 .is_beside_crowd = !is_large && !is_busy,
                                 .why = is_large  ? "it has grown too large"
                                        : is_busy ? "it has too much to do"
                                                  : "one of its filters has very many receivers"};
    return true;
}

static bool is_same_members(const struct range_descriptor *a, const struct range_descriptor *b)
{
    for (unsigned i = 0; i < a->member_count; i++) {
        const struct range_member *m = balance_member_of(b, &a->member[i].node);
        if (!m || m->is_voter != a->member[i].is_voter)
            return false;
    }
    return a->member_count == b->member_count;
}

static bool is_cold(const struct balance_rule *r, const struct range_descriptor *a,
                    const struct range_descriptor *b)
{
    uint64_t bytes = a->bytes + b->bytes, rate = (uint64_t)a->rate + b->rate;
    if (r->split_bytes > 0 && bytes > r->split_bytes / 2)
        return false;
    if (r->split_rate > 0 && rate > r->split_rate / 2)
        return false;
    if (r->split_fanout > 0 && (a->fanout > r->split_fanout / 2 || b->fanout > r->split_fanout / 2))
        return false;
    return bytes <= r->merge_bytes && rate <= r->merge_rate;
}

/* Only neighbours that are led by one node and have the same members: leaders and votes are spread
 * by others, and bringing two together for this would set them in motion again. */
bool balance_merge(const struct balance_sight *s, const struct range_descriptor *d,
                   struct balance_step *out)
{
    const struct balance_rule *r = &s->v->rule;
    if (r->merge_bytes == 0 || d->bounds.is_open || !is_calm(s, d))
        return false;
    for (size_t i = 0; i < s->v->range_count; i++) {
        const struct range_descriptor *o = &s->v->range[i];
        if (o->id.epoch != d->id.epoch || o->bounds.start.n == 0 ||
            !str_eq(o->bounds.start, d->bounds.end) || !uuid_eq(&o->leader, &d->leader) ||
            !is_calm(s, o) || !is_same_members(d, o) || !is_cold(r, d, o))
            continue;
        *out = (struct balance_step){.action = BALANCE_DO_MERGE,
                                     .kind = BALANCE_MERGE,
                                     .id = d->id,
                                     .version = d->version,
                                     .neighbour = o->id,
                                     .why = "it and its neighbour are small and little used"};
        return true;
    }
    return false;
}
