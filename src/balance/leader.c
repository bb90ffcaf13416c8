/* RangeLeaderBalancer: leaders spread evenly, away from nodes that drain.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1. A leadership moves only where the difference gets smaller, or the way to that shorter, so nothing
 *    swings.
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

static unsigned gain(const struct balance_sight *s, const struct range_descriptor *d,
                     const struct range_member *to)
{
    struct balance_tally mine = balance_tally_of(s, &d->leader);
    struct balance_tally theirs = balance_tally_of(s, &to->node);
    return balance_gain(mine.leads, mine.leads_before, theirs.leads, theirs.leads_before);
}

/* The same order on all nodes.  Any move is before none. */
static bool is_before(const struct balance_lead *a, const struct balance_lead *b)
{
    int order = b->d ? range_id_cmp(a->d->id, b->d->id) : -1;
    return order < 0 || (order == 0 && uuid_cmp(&a->to->node, &b->to->node) < 0);
}

/* Returns the gain. */
static unsigned single_find(struct balance_sight *s)
{
    unsigned best = 0;
    for (size_t i = 0; i < s->v->range_count; i++) {
        const struct range_descriptor *d = &s->v->range[i];
        struct balance_lead move = {d, d->is_joint ? NULL : heir(s, d), "it leads fewer ranges"};
        unsigned g = move.to ? gain(s, d, move.to) : 0;
        if (g > best || (g > 0 && g == best && is_before(&move, &s->lead))) {
            best = g;
            s->lead = move;
        }
    }
    return best;
}

/* ---- by way of others ------------------------------------------------------------------------ */

struct way {
    unsigned hops[BALANCE_NODE_MAX]; /* one more than moves until one has arrived; 0: no way */
    unsigned relieved;               /* who leads so many is to be relieved of one */
    struct balance_lead first;       /* the first move for one of those; its d NULL: none yet */
};

/* Looks at d as a step to who needs `hops` moves.  Returns whether its leader had no way before. */
static bool way_try(const struct balance_sight *s, struct way *w, unsigned hops,
                    const struct range_descriptor *d)
{
    size_t at = balance_index_of(s, &d->leader);
    bool is_new = false;
    if (d->is_joint || !balance_is_usable(s, &d->leader) || (w->hops[at] && w->hops[at] <= hops))
        return false;
    for (unsigned i = 0; i < d->member_count; i++) {
        const struct range_member *m = &d->member[i];
        if (!m->is_voter || !balance_is_ready(s, m) ||
            w->hops[balance_index_of(s, &m->node)] != hops)
            continue;
        is_new = is_new || w->hops[at] == 0;
        w->hops[at] = hops + 1;
        struct balance_lead move = {d, m, "it can give one to a node that leads fewer"};
        if (s->tally[at].leads >= w->relieved && is_before(&move, &w->first))
            w->first = move;
    }
    return is_new;
}

/* The shortest way, of fewer than `limit` moves, to a node that leads `least` from one that leads
 * two more; returns its moves, limit: there is none. */
static unsigned way_find(const struct balance_sight *s, unsigned least, unsigned limit,
                         struct balance_lead *out)
{
    struct way w = {.relieved = least + 2};
    bool is_wider = true;
    for (size_t i = 0; i < s->node_count; i++)
        w.hops[i] = s->tally[i].leads == least && balance_is_usable(s, &s->v->node[i].node);
    for (unsigned hops = 1; hops < limit && is_wider; hops++) {
        is_wider = false;
        for (size_t i = 0; i < s->v->range_count; i++)
            is_wider = way_try(s, &w, hops, &s->v->range[i]) || is_wider;
        if (w.first.d) {
            *out = w.first;
            return hops;
        }
    }
    return limit;
}

/* One node leads two more than another that votes in none of its ranges; a third one could take one
 * from the first and give one to the other.  The first move of the shortest such way leaves the
 * counts as they were, in other places, and the way that is left is shorter: it comes to an end. */
static void detour_find(struct balance_sight *s)
{
    unsigned most = 0, shortest = (unsigned)s->node_count;
    for (size_t i = 0; i < s->node_count; i++)
        if (balance_is_usable(s, &s->v->node[i].node) && s->tally[i].leads > most)
            most = s->tally[i].leads;
    for (unsigned least = 0; least + 2 <= most; least++)
        shortest = way_find(s, least, shortest, &s->lead);
}

void balance_lead_find(struct balance_sight *s)
{
    if (single_find(s) < 2)
        detour_find(s);
}

bool balance_leader(const struct balance_sight *s, const struct range_descriptor *d,
                    struct balance_step *out)
{
    bool is_leaving = !balance_is_usable(s, &s->v->self);
    const struct range_member *m = is_leaving ? heir(s, d) : s->lead.d == d ? s->lead.to : NULL;
    if (!m)
        return false;
    *out = (struct balance_step){.action = BALANCE_DO_TRANSFER,
                                 .kind = BALANCE_LEADER,
                                 .id = d->id,
                                 .version = d->version,
                                 .node = {m->node},
                                 .node_count = 1,
                                 .why = is_leaving ? "this node drains" : s->lead.why};
    return true;
}
