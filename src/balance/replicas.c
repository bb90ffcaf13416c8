/* ReplicaCntBalancer: who votes, who learns, and where.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A new voter was a learner that keeps up; voters stay odd, but while a leader whose node is to
 *    be emptied looks for its successor.
 * 2. A dead voter is dropped only when its grace is over and either a live one takes its place or
 *    three remain; a removed one as soon as the others suffice.
 * 3. Voters move for evenness only where it helps by two, one range of the store at a time. */
#include "balance/balance_priv.h"

#define VOTERS_SAFE 3 /* below it nobody goes only because nodes are dead */

/* A usable node that is no member, with the fewest votes, then the least to carry, then by id. */
static const struct balance_node *newcomer(const struct balance_plan *p)
{
    const struct balance_sight *s = p->s;
    size_t best = s->node_count;
    for (size_t i = 0; i < s->node_count; i++) {
        const struct uuid *u = &s->v->node[i].node;
        if (!balance_is_usable(s, u) || balance_plan_has(p, u))
            continue;
        const struct balance_tally *t = &s->tally[i], *b = &s->tally[best];
        if (best == s->node_count || t->votes < b->votes ||
            (t->votes == b->votes &&
             (t->replicas < b->replicas ||
              (t->replicas == b->replicas && uuid_cmp(u, &s->v->node[best].node) < 0))))
            best = i;
    }
    return best < s->node_count ? &s->v->node[best] : NULL;
}

/* Voters that will not come back or are not wanted any more go; the leader's own has to wait until
 * somebody else leads.  Returns how many went because they are dead. */
static unsigned drop_lost(struct balance_plan *p)
{
    unsigned dead = 0;
    for (unsigned i = p->voters; i-- > 0;) {
        struct uuid u = p->voter[i];
        bool is_removed = balance_is_removed(p->s, &u), is_lost = balance_is_lost(p->s, &u);
        if (uuid_eq(&u, &p->d->leader) || (!is_removed && !is_lost))
            continue;
        balance_plan_drop(p, &u);
        dead += !is_removed;
    }
    for (unsigned i = p->learners; i-- > 0;) {
        struct uuid u = p->learner[i];
        if (balance_is_removed(p->s, &u) || balance_is_lost(p->s, &u))
            balance_plan_drop(p, &u);
    }
    return dead;
}

/* How many voters there should be: as many as the rule says and the nodes allow. */
static unsigned wanted(const struct balance_plan *p, unsigned dead)
{
    const struct balance_sight *s = p->s;
    unsigned pool = 0, rule = s->v->rule.voter_count;
    for (unsigned i = 0; i < p->voters; i++)
        pool += !balance_is_removed(s, &p->voter[i]);
    for (size_t i = 0; i < s->node_count; i++)
        pool += balance_is_usable(s, &s->v->node[i].node) &&
                !balance_plan_votes(p, &s->v->node[i].node);
    unsigned want = balance_voters(rule, pool);
    unsigned least = balance_voters(rule < VOTERS_SAFE ? rule : VOTERS_SAFE, pool + dead);
    return want > least ? want : least;
}

/* The learner to vote next: ready, with the fewest votes elsewhere. */
static const struct uuid *promotable(const struct balance_plan *p)
{
    const struct uuid *best = NULL;
    for (unsigned i = 0; i < p->learners; i++) {
        const struct uuid *u = &p->learner[i];
        if (!balance_is_ready(p->s, balance_member_of(p->d, u)))
            continue;
        unsigned votes = balance_tally_of(p->s, u).votes;
        unsigned least = best ? balance_tally_of(p->s, best).votes : 0;
        if (!best || votes < least || (votes == least && uuid_cmp(u, best) < 0))
            best = u;
    }
    return best;
}

static void promote(struct balance_plan *p, unsigned want)
{
    while (p->voters < want) {
        const struct uuid *found = promotable(p);
        if (!found)
            return;
        struct uuid u = *found;
        balance_plan_drop(p, &u);
        p->voter[p->voters++] = u;
    }
}

static bool is_worse(const struct balance_sight *s, const struct uuid *a, const struct uuid *b)
{
    bool live_a = balance_is_live(s, a), live_b = balance_is_live(s, b);
    unsigned votes_a = balance_tally_of(s, a).votes, votes_b = balance_tally_of(s, b).votes;
    if (live_a != live_b)
        return !live_a;
    return votes_a != votes_b ? votes_a > votes_b : uuid_cmp(a, b) > 0;
}

static void demote(struct balance_plan *p, unsigned want)
{
    while (p->voters > want) {
        const struct uuid *worst = NULL;
        for (unsigned i = 0; i < p->voters; i++)
            if (!uuid_eq(&p->voter[i], &p->d->leader) &&
                (!worst || is_worse(p->s, &p->voter[i], worst)))
                worst = &p->voter[i];
        if (!worst)
            return;
        balance_plan_drop(p, worst);
    }
}

/* ---- evenness -------------------------------------------------------------------------------- */

static void swap_look(struct balance_sight *s, const struct range_descriptor *d)
{
    for (unsigned i = 0; i < d->member_count; i++) {
        const struct range_member *m = &d->member[i];
        if (!m->is_voter || uuid_eq(&m->node, &d->leader) || !balance_is_usable(s, &m->node))
            continue;
        struct balance_tally t = balance_tally_of(s, &m->node);
        for (size_t k = 0; k < s->node_count; k++) {
            const struct uuid *to = &s->v->node[k].node;
            const struct range_member *o = balance_member_of(d, to);
            unsigned gain =
                balance_gain(t.votes, t.votes_before, s->tally[k].votes, s->tally[k].votes_before);
            if (!balance_is_usable(s, to) || (o && o->is_voter) || gain == 0)
                continue;
            int order = s->swap.d ? range_id_cmp(d->id, s->swap.d->id) : -1;
            int side = uuid_cmp(to, &s->swap.to);
            if (gain < s->swap.gain ||
                (gain == s->swap.gain && (order > 0 || (order == 0 && side >= 0))))
                continue;
            s->swap.d = d;
            s->swap.from = m->node;
            s->swap.to = *to;
            s->swap.gain = gain;
        }
    }
}

static bool is_steady(const struct balance_sight *s, const struct range_descriptor *d)
{
    unsigned voters = 0;
    for (unsigned i = 0; i < d->member_count; i++) {
        const struct range_member *m = &d->member[i];
        voters += m->is_voter;
        if (m->is_voter && (!m->is_current || !balance_is_live(s, &m->node)))
            return false;
    }
    return !d->is_joint && voters % 2 == 1;
}

void balance_swap_find(struct balance_sight *s)
{
    for (size_t i = 0; i < s->v->range_count; i++)
        if (!is_steady(s, &s->v->range[i]))
            return; /* first what is broken */
    for (size_t i = 0; i < s->v->range_count; i++)
        swap_look(s, &s->v->range[i]);
}

static bool swap_do(const struct balance_sight *s, struct balance_step *out)
{
    struct balance_plan p;
    struct uuid to = s->swap.to;
    balance_plan_init(&p, s, s->swap.d);
    if (!balance_plan_has(&p, &to)) {
        p.learner[p.learners++] = to;
        return balance_plan_step(&p, BALANCE_REPLICAS, "its node votes less: it learns first", out);
    }
    if (!balance_is_ready(s, balance_member_of(s->swap.d, &to)))
        return false;
    balance_plan_drop(&p, &to);
    balance_plan_drop(&p, &s->swap.from);
    p.voter[p.voters++] = to;
    if (s->v->rule.learner_count != 0)
        p.learner[p.learners++] = s->swap.from;
    return balance_plan_step(&p, BALANCE_REPLICAS, "votes are spread evenly", out);
}

/* ---- one range ------------------------------------------------------------------------------- */

/* Learners up to so many, new ones only while few others are catching up. */
static void learners_add(struct balance_plan *p, unsigned want)
{
    unsigned move_max = p->s->v->rule.move_max, moving = p->s->moving;
    while (p->learners < want && p->voters + p->learners < RANGE_MEMBER_MAX &&
           moving++ < move_max) {
        const struct balance_node *n = newcomer(p);
        if (!n)
            return;
        p->learner[p->learners++] = n->node;
    }
}

/* A leader whose node is to be emptied needs somebody to hand over to: when all others are drained
 * as well, one of them makes room. */
static void make_room_for_heir(struct balance_plan *p)
{
    const struct uuid *worst = NULL;
    if (!balance_is_removed(p->s, &p->d->leader))
        return;
    for (unsigned i = 0; i < p->voters; i++) {
        const struct uuid *u = &p->voter[i];
        if (balance_is_usable(p->s, u))
            return;
        if (!uuid_eq(u, &p->d->leader) && (!worst || is_worse(p->s, u, worst)))
            worst = u;
    }
    if (worst)
        balance_plan_drop(p, worst);
}

/* Those that cannot be promoted, because their node is emptied of clients or away for a moment. */
static unsigned idle_learners(const struct balance_plan *p)
{
    unsigned n = 0;
    for (unsigned i = 0; i < p->learners; i++)
        n += !balance_is_usable(p->s, &p->learner[i]);
    return n;
}

/* Surplus learners go: the last of those that were not asked for by name. */
static void learners_trim(struct balance_plan *p, unsigned want, const struct uuid *guest)
{
    for (unsigned i = p->learners; i-- > 0 && p->learners > want;)
        if (!guest || !uuid_eq(&p->learner[i], guest))
            balance_plan_drop(p, &p->learner[i]);
}

/* Demoted voters of a store where everybody learns learn on. */
static void learners_keep(struct balance_plan *p)
{
    for (unsigned i = 0; i < p->d->member_count; i++) {
        const struct uuid *u = &p->d->member[i].node;
        if (!balance_plan_has(p, u) && balance_is_usable(p->s, u) &&
            p->voters + p->learners < RANGE_MEMBER_MAX)
            p->learner[p->learners++] = *u;
    }
}

bool balance_replicas(const struct balance_sight *s, const struct range_descriptor *d,
                      struct balance_step *out)
{
    struct balance_plan p, now;
    int rule = s->v->rule.learner_count;
    unsigned learners = rule < 0 ? RANGE_MEMBER_MAX : (unsigned)rule;
    balance_plan_init(&now, s, d);
    p = now;
    unsigned dead = drop_lost(&p), want = wanted(&p, dead);
    if (want == 1 && balance_is_removed(s, &d->leader))
        want = 2; /* itself, and who shall lead then */
    make_room_for_heir(&p);
    unsigned had = p.voters;
    promote(&p, want);
    if (p.voters < want) {
        unsigned need = want - had; /* those that could vote already wait as learners too */
        p = now; /* not yet: first learners, and the lost stay until they are replaced */
        for (unsigned i = p.learners; i-- > 0;)
            if (balance_is_lost(s, &p.learner[i]) || balance_is_removed(s, &p.learner[i]))
                balance_plan_drop(&p, &p.learner[i]);
        need += idle_learners(&p);
        learners_add(&p, need > learners ? need : learners);
        return balance_plan_step(&p, BALANCE_REPLICAS, "more voters are wanted: they learn first",
                                 out);
    }
    if (p.voters == want + 1 && balance_is_removed(s, &d->leader))
        return false; /* it hands over and goes, and all others are wanted, also those awaited back */
    demote(&p, want);
    if (rule < 0)
        learners_keep(&p);
    learners_add(&p, learners);
    learners_trim(&p, learners, s->swap.d == d ? &s->swap.to : NULL);
    if (balance_plan_step(
            &p, BALANCE_REPLICAS,
            dead ? "members that will not come back are replaced" : "members as wanted", out))
        return true;
    return s->swap.d == d && swap_do(s, out);
}
