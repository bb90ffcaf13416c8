/* The balancers.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A configuration that is asked for always has its leader as a voter, an odd number of voters
 *    unless it only removes, and a majority of its voters on live nodes.
 * 2. A new voter was a learner that keeps up.
 * 3. A dead member is dropped only when its grace is over and either a live one takes its place or
 *    enough remain; a node that has left counts as dead at once.
 * 4. Nothing is asked while a change is under way.
 * Never remembers anything: the same view gives the same answer. */
#include "balance/balance.h"

#define LAG_MAX 1000 /* entries a learner may be behind to be made a voter */
#define UNREACHABLE_USEC (15 * USEC_SEC)

struct plan { /* members of one range as they are to be */
    const struct balance_view *v;
    const struct range_descriptor *d;
    struct uuid voter[RANGE_MEMBER_MAX], learner[RANGE_MEMBER_MAX];
    unsigned voters, learners;
};

const char *balance_name(enum balance_kind k)
{
    static const char *const name[BALANCE_KIND_COUNT] = {
        [BALANCE_UNREACHABLE] = "UnreachableReplicaRemovalBalancer",
        [BALANCE_REPLICAS] = "ReplicaCntBalancer",
        [BALANCE_LEADER] = "RangeLeaderBalancer",
        [BALANCE_SPLIT] = "RangeSplitBalancer",
    };
    return name[k];
}

unsigned balance_voters(unsigned wanted, unsigned n)
{
    unsigned k = wanted < n ? wanted : n;
    return k == 0 ? 1 : k % 2 ? k : k - 1;
}

static const struct balance_node *node_of(const struct balance_view *v, const struct uuid *u)
{
    for (size_t i = 0; i < v->node_count; i++)
        if (uuid_eq(&v->node[i].node, u))
            return &v->node[i];
    return NULL;
}

static bool is_live(const struct balance_view *v, const struct uuid *u)
{
    const struct balance_node *n = node_of(v, u);
    return n && n->is_live;
}

/* Alive, or dead for so short a time that it is expected back. */
static bool is_kept(const struct balance_view *v, const struct uuid *u)
{
    const struct balance_node *n = node_of(v, u);
    if (!n)
        return true; /* not heard of since our own start: give it its time */
    return n->is_live || (!n->is_left && n->dead_usec < v->rule.dead_usec);
}

static bool is_in(const struct uuid *set, unsigned n, const struct uuid *u)
{
    for (unsigned i = 0; i < n; i++)
        if (uuid_eq(&set[i], u))
            return true;
    return false;
}

static unsigned load_of(const struct balance_view *v, const struct uuid *u)
{
    unsigned n = 0;
    for (size_t i = 0; i < v->range_count; i++)
        for (unsigned k = 0; k < v->range[i].member_count; k++)
            n += uuid_eq(&v->range[i].member[k].node, u);
    return n;
}

static unsigned leads_of(const struct balance_view *v, const struct uuid *u)
{
    unsigned n = 0;
    for (size_t i = 0; i < v->range_count; i++)
        n += uuid_eq(&v->range[i].leader, u);
    return n;
}

/* The members as they are. */
static void plan_init(struct plan *p, const struct balance_view *v, const struct range_descriptor *d)
{
    *p = (struct plan){.v = v, .d = d};
    for (unsigned i = 0; i < d->member_count; i++)
        if (d->member[i].is_voter)
            p->voter[p->voters++] = d->member[i].node;
        else
            p->learner[p->learners++] = d->member[i].node;
}

static void drop(struct uuid *set, unsigned *n, unsigned i)
{
    set[i] = set[--*n];
}

static bool has_live_majority(const struct plan *p)
{
    unsigned live = 0;
    for (unsigned i = 0; i < p->voters; i++)
        live += is_live(p->v, &p->voter[i]);
    return live > p->voters / 2;
}

/* The step that makes the plan true; false: it is true already, or must not be done. */
static bool plan_step(const struct plan *p, enum balance_kind kind, const char *why,
                      struct balance_step *out)
{
    const struct range_descriptor *d = p->d;
    bool is_same = p->voters + p->learners == d->member_count;
    for (unsigned i = 0; i < d->member_count && is_same; i++)
        is_same = d->member[i].is_voter ? is_in(p->voter, p->voters, &d->member[i].node)
                                        : is_in(p->learner, p->learners, &d->member[i].node);
    if (is_same || p->voters == 0 || !is_in(p->voter, p->voters, &d->leader) || !has_live_majority(p))
        return false;
    *out = (struct balance_step){.action = BALANCE_DO_CONFIG,
                                 .kind = kind,
                                 .id = d->id,
                                 .version = d->version,
                                 .voter_count = p->voters,
                                 .node_count = p->voters + p->learners,
                                 .why = why};
    memcpy(out->node, p->voter, p->voters * sizeof *out->node);
    memcpy(out->node + p->voters, p->learner, p->learners * sizeof *out->node);
    return true;
}

/* ---- UnreachableReplicaRemovalBalancer ------------------------------------------------------- */

static bool unreachable(const struct balance_view *v, const struct range_descriptor *d,
                        struct balance_step *out)
{
    usec_t limit = v->rule.unreachable_usec ? v->rule.unreachable_usec : UNREACHABLE_USEC;
    for (unsigned i = 0; i < d->member_count; i++) {
        const struct range_member *m = &d->member[i];
        if (m->is_current || uuid_eq(&m->node, &d->leader) || !is_live(v, &m->node) ||
            m->silent_ms * USEC_MSEC < limit)
            continue;
        struct plan p;
        plan_init(&p, v, d);
        for (unsigned k = 0; k < p.voters; k++)
            if (uuid_eq(&p.voter[k], &m->node))
                drop(p.voter, &p.voters, k--);
        for (unsigned k = 0; k < p.learners; k++)
            if (uuid_eq(&p.learner[k], &m->node))
                drop(p.learner, &p.learners, k--);
        if (plan_step(&p, BALANCE_UNREACHABLE, "its node is alive and the replica does not answer", out))
            return true;
    }
    return false;
}

/* ---- ReplicaCntBalancer ---------------------------------------------------------------------- */

/* A live node that is no member, with the least to carry; ties by id. */
static const struct balance_node *newcomer(const struct plan *p)
{
    const struct balance_node *best = NULL;
    unsigned best_load = 0;
    for (size_t i = 0; i < p->v->node_count; i++) {
        const struct balance_node *n = &p->v->node[i];
        if (!n->is_live || n->is_draining || is_in(p->voter, p->voters, &n->node) ||
            is_in(p->learner, p->learners, &n->node))
            continue;
        unsigned load = load_of(p->v, &n->node);
        if (!best || load < best_load || (load == best_load && uuid_cmp(&n->node, &best->node) < 0)) {
            best = n;
            best_load = load;
        }
    }
    return best;
}

static const struct range_member *member_of(const struct range_descriptor *d, const struct uuid *u)
{
    for (unsigned i = 0; i < d->member_count; i++)
        if (uuid_eq(&d->member[i].node, u))
            return &d->member[i];
    return NULL;
}

static bool is_promotable(const struct plan *p, const struct uuid *u)
{
    const struct range_member *m = member_of(p->d, u);
    const struct balance_node *n = node_of(p->v, u);
    return m && m->is_current && m->lag <= LAG_MAX && n && n->is_live && !n->is_draining;
}

static unsigned learners_wanted(const struct balance_view *v, unsigned voters)
{
    unsigned live = 0;
    for (size_t i = 0; i < v->node_count; i++)
        live += v->node[i].is_live && !v->node[i].is_draining;
    unsigned rest = live > voters ? live - voters : 0;
    return v->rule.learner_count < 0 || (unsigned)v->rule.learner_count > rest
               ? rest
               : (unsigned)v->rule.learner_count;
}

/* Drops members that will not come back; returns how many voters that were. */
static unsigned drop_lost(struct plan *p)
{
    unsigned lost = 0;
    for (unsigned i = 0; i < p->voters; i++)
        if (!is_kept(p->v, &p->voter[i])) {
            drop(p->voter, &p->voters, i--);
            lost++;
        }
    for (unsigned i = 0; i < p->learners; i++)
        if (!is_kept(p->v, &p->learner[i]))
            drop(p->learner, &p->learners, i--);
    return lost;
}

/* Voters on nodes that drain make room when somebody else could do it. */
static void drop_draining(struct plan *p, unsigned usable)
{
    for (unsigned i = 0; i < p->voters; i++) {
        const struct balance_node *n = node_of(p->v, &p->voter[i]);
        if (n && n->is_left && !uuid_eq(&n->node, &p->d->leader) && p->voters > 1 && usable > 0)
            drop(p->voter, &p->voters, i--);
    }
}

static void promote(struct plan *p, unsigned want)
{
    unsigned ready = 0, need = want - p->voters;
    for (unsigned i = 0; i < p->learners; i++)
        ready += is_promotable(p, &p->learner[i]);
    if (ready < need)
        return; /* all at once, so that the number of voters stays odd */
    for (unsigned i = 0; i < p->learners && need > 0; i++)
        if (is_promotable(p, &p->learner[i])) {
            p->voter[p->voters++] = p->learner[i];
            drop(p->learner, &p->learners, i--);
            need--;
        }
}

static void demote(struct plan *p, unsigned want)
{
    while (p->voters > want) {
        unsigned worst = p->voters;
        for (unsigned i = 0; i < p->voters; i++) {
            if (uuid_eq(&p->voter[i], &p->d->leader))
                continue;
            if (worst == p->voters ||
                load_of(p->v, &p->voter[i]) > load_of(p->v, &p->voter[worst]) ||
                (!is_live(p->v, &p->voter[i]) && is_live(p->v, &p->voter[worst])))
                worst = i;
        }
        if (worst == p->voters)
            return;
        drop(p->voter, &p->voters, worst);
    }
}

static bool replicas(const struct balance_view *v, const struct range_descriptor *d,
                     struct balance_step *out)
{
    struct plan p, now;
    unsigned usable = 0;
    plan_init(&now, v, d);
    p = now;
    unsigned lost = drop_lost(&p);
    drop_draining(&p, 1);
    for (size_t i = 0; i < v->node_count; i++) /* who could vote: the live ones, and voters expected back */
        usable += (v->node[i].is_live && !v->node[i].is_draining) ||
                  is_in(p.voter, p.voters, &v->node[i].node);
    for (unsigned i = 0; i < p.voters; i++)
        usable += node_of(v, &p.voter[i]) == NULL;
    unsigned want = balance_voters(v->rule.voter_count, usable);
    unsigned learners = learners_wanted(v, want), need = want > p.voters ? want - p.voters : 0;

    if (need > 0)
        promote(&p, want);
    if (p.voters < want) { /* not yet: first learners, and the lost stay until they are replaced */
        p = now;
        while (p.learners < need + (learners > need ? learners - need : 0) &&
               p.voters + p.learners < RANGE_MEMBER_MAX) {
            const struct balance_node *n = newcomer(&p);
            if (!n)
                break;
            p.learner[p.learners++] = n->node;
        }
        return plan_step(&p, BALANCE_REPLICAS, "more voters are wanted: they learn first", out);
    }
    demote(&p, want);
    while (p.learners < learners && p.voters + p.learners < RANGE_MEMBER_MAX) {
        const struct balance_node *n = newcomer(&p);
        if (!n)
            break;
        p.learner[p.learners++] = n->node;
    }
    while (p.learners > learners)
        p.learners--;
    return plan_step(&p, BALANCE_REPLICAS,
                     lost ? "members that will not come back are replaced" : "members as wanted", out);
}

/* ---- RangeLeaderBalancer --------------------------------------------------------------------- */

static const struct range_member *heir(const struct balance_view *v, const struct range_descriptor *d)
{
    const struct range_member *best = NULL;
    for (unsigned i = 0; i < d->member_count; i++) {
        const struct range_member *m = &d->member[i];
        const struct balance_node *n = node_of(v, &m->node);
        if (!m->is_voter || !m->is_current || uuid_eq(&m->node, &d->leader) || !n || !n->is_live ||
            n->is_draining || m->lag > LAG_MAX)
            continue;
        if (!best || leads_of(v, &m->node) < leads_of(v, &best->node))
            best = m;
    }
    return best;
}

static bool leader(const struct balance_view *v, const struct range_descriptor *d,
                   struct balance_step *out)
{
    const struct balance_node *self = node_of(v, &v->self);
    const struct range_member *m = heir(v, d);
    unsigned live = 0;
    for (size_t i = 0; i < v->node_count; i++)
        live += v->node[i].is_live && !v->node[i].is_draining;
    if (!m || live == 0)
        return false;
    bool is_draining = self && self->is_draining;
    unsigned mine = leads_of(v, &v->self), theirs = leads_of(v, &m->node);
    unsigned at_most = (unsigned)((v->range_count + live - 1) / live);
    /* two apart: moving one back would not be better, so nothing swings */
    if (!is_draining && (mine <= at_most || theirs + 2 > mine))
        return false;
    *out = (struct balance_step){.action = BALANCE_DO_TRANSFER,
                                 .kind = BALANCE_LEADER,
                                 .id = d->id,
                                 .version = d->version,
                                 .node = {m->node},
                                 .node_count = 1,
                                 .why = is_draining ? "this node drains" : "it leads fewer ranges"};
    return true;
}

/* ---- RangeSplitBalancer ---------------------------------------------------------------------- */

static bool split(const struct balance_view *v, const struct range_descriptor *d,
                  struct balance_step *out)
{
    if (v->rule.split_bytes == 0 || d->bytes <= v->rule.split_bytes)
        return false;
    for (unsigned i = 0; i < d->member_count; i++)
        if (!d->member[i].is_current || !is_live(v, &d->member[i].node))
            return false; /* not while somebody is behind */
    *out = (struct balance_step){.action = BALANCE_DO_SPLIT,
                                 .kind = BALANCE_SPLIT,
                                 .id = d->id,
                                 .version = d->version,
                                 .why = "it has grown too large"};
    return true;
}

void balance_next(const struct balance_view *v, struct balance_step *out)
{
    static bool (*const ask[BALANCE_KIND_COUNT])(const struct balance_view *,
                                                 const struct range_descriptor *,
                                                 struct balance_step *) = {
        [BALANCE_UNREACHABLE] = unreachable,
        [BALANCE_REPLICAS] = replicas,
        [BALANCE_LEADER] = leader,
        [BALANCE_SPLIT] = split,
    };
    *out = (struct balance_step){.action = BALANCE_DO_NOTHING};
    for (int k = 0; k < BALANCE_KIND_COUNT; k++)
        for (size_t i = 0; i < v->range_count && !v->rule.is_off[k]; i++) {
            const struct range_descriptor *d = &v->range[i];
            if (d->is_joint || d->role != RANGE_ROLE_LEADER || !uuid_eq(&d->leader, &v->self))
                continue;
            if (ask[k](v, d, out))
                return;
        }
}
