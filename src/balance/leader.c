/* RangeLeaderBalancer: leaders spread evenly, away from nodes that drain.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1. A leadership moves only where the difference gets smaller, so nothing swings.
 * 2. Of all moves that help, every node with the same view knows the best one, and its leader makes
 *    it; a node that drains does not wait for that. */
#include "balance/balance_priv.h"

static bool leads_less(const struct balance_tally *a, const struct balance_tally *b)
{
    return a->leads != b->leads ? a->leads < b->leads : a->leads_before < b->leads_before;
}

/* The voter that leads the least and could lead at once. */
static const struct range_member *heir(const struct balance_sight *s,
                                       const struct range_descriptor *d)
{
    const struct range_member *best = NULL;
    struct balance_tally least = {0};
    for (unsigned i = 0; i < d->member_count; i++) {
        const struct range_member *m = &d->member[i];
        struct balance_tally t = balance_tally_of(s, &m->node);
        if (!m->is_voter || uuid_eq(&m->node, &d->leader) || !balance_is_ready(s, m))
            continue;
        if (!best || leads_less(&t, &least) ||
            (!leads_less(&least, &t) && uuid_cmp(&m->node, &best->node) < 0)) {
            best = m;
            least = t;
        }
    }
    return best;
}

static unsigned gain(const struct balance_sight *s, const struct range_descriptor *d)
{
    const struct range_member *m = d->is_joint ? NULL : heir(s, d);
    if (!m)
        return 0;
    struct balance_tally mine = balance_tally_of(s, &d->leader);
    struct balance_tally theirs = balance_tally_of(s, &m->node);
    return balance_gain(mine.leads, mine.leads_before, theirs.leads, theirs.leads_before);
}

void balance_lead_find(struct balance_sight *s)
{
    unsigned best = 0;
    for (size_t i = 0; i < s->v->range_count; i++) {
        const struct range_descriptor *d = &s->v->range[i];
        unsigned g = gain(s, d);
        if (g > best || (g > 0 && g == best && range_id_cmp(d->id, s->lead->id) < 0)) {
            best = g;
            s->lead = d;
        }
    }
}

bool balance_leader(const struct balance_sight *s, const struct range_descriptor *d,
                    struct balance_step *out)
{
    bool is_leaving = !balance_is_usable(s, &s->v->self);
    const struct range_member *m = heir(s, d);
    if (!m || (!is_leaving && s->lead != d))
        return false;
    *out = (struct balance_step){.action = BALANCE_DO_TRANSFER,
                                 .kind = BALANCE_LEADER,
                                 .id = d->id,
                                 .version = d->version,
                                 .node = {m->node},
                                 .node_count = 1,
                                 .why = is_leaving ? "this node drains" : "it leads fewer ranges"};
    return true;
}
